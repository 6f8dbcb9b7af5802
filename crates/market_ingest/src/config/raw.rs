//! The environment as `envy` reads it: every variable optional, blank made none, nothing checked yet.

use serde::{Deserialize, Deserializer};

use super::Problems;

/// One field a variable; `envy` matches names regardless of case.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Raw {
    #[serde(deserialize_with = "filled")]
    pub(super) ingest_enabled: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub(super) ingest_enabled_file: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub(super) ingest_enabled_poll_s: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub(super) ingest_schedule: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub(super) tenant_id: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub(super) ingest_store: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub(super) firestore_project_id: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub(super) google_cloud_project: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub(super) firestore_emulator_host: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub(super) heartbeat_interval_s: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub(super) apca_api_key_id: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub(super) apca_api_secret_key: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub(super) alpaca_data_feed: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub(super) monitored_symbols: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub(super) alpaca_symbols: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub(super) alpaca_channels: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub(super) alpaca_codec: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub(super) alpaca_stream_url: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub(super) alpaca_data_url: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub(super) ingest_sinks: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub(super) pubsub_emulator_host: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub(super) per_symbol_min_interval_ms: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub(super) global_writes_per_sec: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub(super) global_burst: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub(super) flush_interval_ms: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub(super) reconnect_backoff_base_s: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub(super) reconnect_backoff_max_s: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub(super) ingest_backfill_after_s: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub(super) ingest_mute_after_s: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub(super) ingest_backfill: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub(super) ingest_file_max_age_s: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub(super) ingest_health_dir: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub(super) port: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub(super) ingest_bind: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub(super) ingest_admin_token: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub(super) dry_run: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub(super) stop_after_seconds: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub(super) log_format: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub(super) k_service: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub(super) k_revision: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub(super) kubernetes_service_host: Option<String>,
}

impl Raw {
    /// Takes what it knows of a set of variables; the rest is somebody else's.
    pub(super) fn read(vars: impl IntoIterator<Item = (String, String)>, problems: &mut Problems) -> Self {
        // Names are upper case; `path` and `Path` are different variables and none of ours.
        let vars = vars.into_iter().filter(|(name, _)| !name.bytes().any(|b| b.is_ascii_lowercase()));
        envy::from_iter(vars).unwrap_or_else(|error| {
            problems.add("environment", &error.to_string(), "text");
            Self::default()
        })
    }
}

/// Outer space does not count, and blank is unset.
fn filled<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.map(|t| t.trim().to_owned()).filter(|t| !t.is_empty()))
}
