//! Configuration: the process environment, read once, checked whole, every problem told at once.
//!
//! Blank means unset, everywhere. A bad value is a [`Problem`] that names the variable, what was
//! found and what is accepted; nothing is opened before all of them are known. Secrets live in
//! `SecretString`s and are never printed.

mod feed;
mod listing;
mod problem;
mod raw;
mod sinks;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use feed::{Credentials, History, JobConfig, feed_channels};
pub use listing::{VARIABLES, Variable, listing, strangers};
pub use problem::{Problem, Problems};
pub use sinks::{NatsLogin, NatsStream, PubsubTopic, SinkConfig};

use ingest_switch::Schedule;
use secrecy::SecretString;

use crate::store::is_document_id;
use raw::Raw;

/// Everything the service needs to know, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The sources of the switch.
    pub switch: SwitchConfig,
    /// Documents live below `tenants/{tenant}/`; at the root without one.
    pub tenant: Option<String>,
    /// Where heartbeat and quotes go.
    pub store: StoreConfig,
    /// Time between two heartbeats; a change of state is written at once besides.
    pub heartbeat_interval: Duration,
    /// One feed connection each, with distinct names.
    pub jobs: Vec<JobConfig>,
    /// Where market data goes.
    pub sinks: Vec<SinkConfig>,
    /// Pacing of the `quotes` sink.
    pub pacing: Pacing,
    /// A file of `ndjson` or `parquet` is complete so long after its first record.
    pub file_age_max: Duration,
    /// What to fetch after a gap.
    pub backfill: BackfillConfig,
    /// Upper bound of the first back-off.
    pub backoff_base: Duration,
    /// Upper bound of every back-off.
    pub backoff_max: Duration,
    /// No silence of a channel below it is an alarm.
    pub mute_after: Duration,
    /// A gap is fetched so long after its end.
    pub backfill_after: Duration,
    /// Address of the HTTP server.
    pub bind: IpAddr,
    /// Port of the HTTP server; 0 lets the system choose.
    pub port: u16,
    /// What a client must show to write over HTTP; without it only a loopback address takes writes.
    pub admin_token: Option<SecretString>,
    /// Whether the platform authenticates callers before us (Cloud Run) and says who they are.
    pub on_cloud_run: bool,
    /// Where the health files go.
    pub health_dir: Option<PathBuf>,
    /// Decode and count, write no market data; obeys the switch all the same.
    pub dry_run: bool,
    /// Clean exit after that long.
    pub stop_after: Option<Duration>,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Cloud Run's name of the running revision.
    pub revision: Option<String>,
}

/// Sources of the switch that the environment names.
#[derive(Clone, Debug)]
pub struct SwitchConfig {
    /// The raw value of `INGEST_ENABLED`.
    pub env: Option<String>,
    /// The flag file.
    pub file: Option<PathBuf>,
    /// Time between two polls of the flag file.
    pub poll: Duration,
    /// When to ingest; always without one.
    pub schedule: Option<Schedule>,
}

/// Which store, and where.
#[derive(Clone, Debug)]
pub enum StoreConfig {
    /// Google Cloud Firestore, or its emulator.
    Firestore {
        /// Project that holds the database.
        project: String,
        /// `host:port` of an emulator; no credentials are needed then.
        emulator_host: Option<String>,
    },
    /// A PostgreSQL database, by a URL that may hold a password.
    Postgres(SecretString),
    /// An SQLite file, created when absent.
    Sqlite(PathBuf),
}

/// What of a gap to fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackfillConfig {
    /// Nothing.
    None,
    /// All of it.
    Full,
    /// What is no older than this when the gap is over.
    Window(Duration),
}

/// How fast the `quotes` sink writes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pacing {
    /// Least time between two writes of one symbol.
    pub per_symbol_interval: Duration,
    /// Sustained writes per second over all symbols.
    pub writes_per_s: f64,
    /// Writes that may come at once after a quiet time.
    pub burst: f64,
    /// Time between two looks at what is due.
    pub flush_interval: Duration,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line, with Cloud Logging's fields.
    Json,
    /// For people.
    Text,
}

impl Config {
    /// Reads a set of environment variables.
    ///
    /// # Errors
    /// All problems at once, when any value is not usable.
    pub fn from_vars(
        vars: impl IntoIterator<Item = (String, String)>,
        on_terminal: bool,
    ) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let raw = Raw::read(vars, &mut problems);
        let config = raw.check(on_terminal, &mut problems);
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(problems),
        }
    }

    /// Reads the process environment; values that are not UTF-8 are read with replacement characters.
    ///
    /// # Errors
    /// All problems at once, when any value is not usable.
    pub fn from_env(on_terminal: bool) -> Result<Self, Problems> {
        Self::from_vars(env_vars(), on_terminal)
    }
}

/// Reads only what says where the store is, for programs beside the service: the store and the tenant.
///
/// # Errors
/// All problems of these variables at once.
pub fn store_from_vars(
    vars: impl IntoIterator<Item = (String, String)>,
) -> Result<(StoreConfig, Option<String>), Problems> {
    let mut problems = Problems::default();
    let raw = Raw::read(vars, &mut problems);
    match (raw.store(&mut problems), raw.tenant(&mut problems)) {
        (Some(store), Some(tenant)) if problems.is_empty() => Ok((store, tenant)),
        _ => Err(problems),
    }
}

/// The process environment as text.
pub fn env_vars() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
}

impl Raw {
    /// Checks every value, going on after a problem so that all are found.
    fn check(&self, on_terminal: bool, problems: &mut Problems) -> Option<Config> {
        let poll = problems.seconds("INGEST_ENABLED_POLL_S", &self.ingest_enabled_poll_s, 5.0, 0.05);
        let interval = problems.seconds("HEARTBEAT_INTERVAL_S", &self.heartbeat_interval_s, 15.0, 1.0);
        let base = problems.seconds("RECONNECT_BACKOFF_BASE_S", &self.reconnect_backoff_base_s, 1.0, 0.01);
        let max = problems.seconds("RECONNECT_BACKOFF_MAX_S", &self.reconnect_backoff_max_s, 60.0, 0.01);
        if let (Some(base), Some(max)) = (base, max)
            && max < base
        {
            problems.add(
                "RECONNECT_BACKOFF_MAX_S",
                &max.as_secs_f64().to_string(),
                "at least RECONNECT_BACKOFF_BASE_S",
            );
        }
        let backfill_after =
            problems.seconds("INGEST_BACKFILL_AFTER_S", &self.ingest_backfill_after_s, 10.0, 0.0);
        let mute_after = problems.seconds("INGEST_MUTE_AFTER_S", &self.ingest_mute_after_s, 30.0, 1.0);
        let stop_after = match &self.stop_after_seconds {
            None => Some(None),
            some => problems.seconds("STOP_AFTER_SECONDS", some, 0.0, 0.001).map(Some),
        };
        let schedule = self.schedule(problems);
        let jobs = feed::jobs(self, problems);
        let store = self.store(problems);
        let tenant = self.tenant(problems);
        let sinks = sinks::sinks(self, problems);
        let pacing = self.pacing(problems);
        let backfill = self.backfill(problems);
        let file_age_max = problems.seconds("INGEST_FILE_MAX_AGE_S", &self.ingest_file_max_age_s, 60.0, 0.1);
        let bind = self.bind(problems);
        let port = problems.whole("PORT", &self.port, 8080);
        let dry_run = problems.boolean("DRY_RUN", &self.dry_run, false);
        let log_format = self.log_format(on_terminal, problems);
        Some(Config {
            switch: SwitchConfig {
                env: self.ingest_enabled.clone(),
                file: self.ingest_enabled_file.as_ref().map(PathBuf::from),
                poll: poll?,
                schedule: schedule?,
            },
            tenant: tenant?,
            store: store?,
            heartbeat_interval: interval?,
            jobs: jobs?,
            sinks: sinks?,
            pacing: pacing?,
            file_age_max: file_age_max?,
            backfill: backfill?,
            backoff_base: base?,
            backoff_max: max?,
            backfill_after: backfill_after?,
            mute_after: mute_after?,
            bind: bind?,
            port: port?,
            admin_token: self.ingest_admin_token.clone().map(SecretString::from),
            on_cloud_run: self.k_service.is_some(),
            health_dir: self.ingest_health_dir.as_ref().map(PathBuf::from),
            dry_run: dry_run?,
            stop_after: stop_after?,
            log_format: log_format?,
            revision: self.k_revision.clone(),
        })
    }

    fn backfill(&self, problems: &mut Problems) -> Option<BackfillConfig> {
        let text = match self.ingest_backfill.as_deref() {
            None => return Some(BackfillConfig::Full),
            Some(text) => text,
        };
        match text.to_ascii_lowercase().as_str() {
            "none" => return Some(BackfillConfig::None),
            "full" => return Some(BackfillConfig::Full),
            _ => {}
        }
        let window = text.parse::<jiff::SignedDuration>().ok().and_then(|span| Duration::try_from(span).ok());
        let window = window.filter(|window| !window.is_zero()).map(BackfillConfig::Window);
        if window.is_none() {
            problems.add("INGEST_BACKFILL", text, "none, full, or a window such as 90m or 2h");
        }
        window
    }

    fn on_platform(&self) -> bool {
        self.k_service.is_some() || self.kubernetes_service_host.is_some()
    }

    fn store(&self, problems: &mut Problems) -> Option<StoreConfig> {
        const ACCEPTED: &str = "firestore, sqlite:PATH or postgres://USER:PASSWORD@HOST/DATABASE";
        let emulator_host = self.firestore_emulator_host.clone();
        let default =
            if self.firestore_project_id.is_some() || emulator_host.is_some() || self.k_service.is_some() {
                "firestore"
            } else {
                "sqlite:market-ingest.db"
            };
        let text = self.ingest_store.as_deref().unwrap_or(default);
        if let Some(path) = text.strip_prefix("sqlite:") {
            if path.trim().is_empty() {
                problems.add("INGEST_STORE", text, ACCEPTED);
                return None;
            }
            return Some(StoreConfig::Sqlite(PathBuf::from(path)));
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            if has_unknown_secret(text) || text.parse::<sqlx::postgres::PgConnectOptions>().is_err() {
                problems.add_redacted("INGEST_STORE", ACCEPTED);
                return None;
            }
            return Some(StoreConfig::Postgres(SecretString::from(text.to_owned())));
        }
        if text != "firestore" {
            // However a database is named, a password may follow, so only the first word is shown.
            let shown = text.split([':', '=', '?', '@', ' ']).next().unwrap_or_default();
            problems.add("INGEST_STORE", shown, ACCEPTED);
            return None;
        }
        let Some(project) = self.project() else {
            problems.add(
                "FIRESTORE_PROJECT_ID",
                "nothing",
                "a project id, here or in GOOGLE_CLOUD_PROJECT, when the store is firestore",
            );
            return None;
        };
        Some(StoreConfig::Firestore { project: project.to_owned(), emulator_host })
    }

    fn project(&self) -> Option<&str> {
        self.firestore_project_id.as_deref().or(self.google_cloud_project.as_deref())
    }

    fn schedule(&self, problems: &mut Problems) -> Option<Option<Schedule>> {
        let Some(text) = &self.ingest_schedule else { return Some(None) };
        match text.parse() {
            Ok(schedule) => Some(Some(schedule)),
            Err(error) => {
                let accepted = format!("windows such as Mon-Fri 04:00-20:00 America/New_York ({error})");
                problems.add("INGEST_SCHEDULE", text, &accepted);
                None
            }
        }
    }

    fn tenant(&self, problems: &mut Problems) -> Option<Option<String>> {
        let Some(tenant) = &self.tenant_id else { return Some(None) };
        if !is_document_id(tenant) {
            problems.add(
                "TENANT_ID",
                tenant,
                "a document id: no '/', not '.', '..' or '__…__', at most 1500 bytes",
            );
            return None;
        }
        Some(Some(tenant.clone()))
    }

    fn pacing(&self, problems: &mut Problems) -> Option<Pacing> {
        let per_symbol =
            problems.number("PER_SYMBOL_MIN_INTERVAL_MS", &self.per_symbol_min_interval_ms, 1000.0, 0.0);
        let rate = problems.number("GLOBAL_WRITES_PER_SEC", &self.global_writes_per_sec, 20.0, 0.001);
        let burst = problems.number("GLOBAL_BURST", &self.global_burst, 40.0, 1.0);
        let flush = problems.number("FLUSH_INTERVAL_MS", &self.flush_interval_ms, 200.0, 1.0);
        Some(Pacing {
            per_symbol_interval: Duration::from_secs_f64(per_symbol? / 1000.0),
            writes_per_s: rate?,
            burst: burst?,
            flush_interval: Duration::from_secs_f64(flush? / 1000.0),
        })
    }

    fn bind(&self, problems: &mut Problems) -> Option<IpAddr> {
        let default = if self.on_platform() { "0.0.0.0" } else { "127.0.0.1" };
        let text = self.ingest_bind.as_deref().unwrap_or(default);
        let parsed = text.parse().ok();
        if parsed.is_none() {
            problems.add("INGEST_BIND", text, "an IP address, such as 127.0.0.1 or 0.0.0.0");
        }
        parsed
    }

    fn log_format(&self, on_terminal: bool, problems: &mut Problems) -> Option<LogFormat> {
        match self.log_format.as_deref() {
            Some("json") => Some(LogFormat::Json),
            Some("text") => Some(LogFormat::Text),
            Some(other) => {
                problems.add("LOG_FORMAT", other, "json or text");
                None
            }
            None if on_terminal && !self.on_platform() => Some(LogFormat::Text),
            None => Some(LogFormat::Json),
        }
    }
}

/// Whether a database URL has a parameter that holds a secret and that the client does not know: it would log it.
fn has_unknown_secret(url: &str) -> bool {
    let names = url.split(['?', '&']).skip(1).filter_map(|pair| Some(pair.split_once('=')?.0));
    let is_secret = |name: &str| {
        let name = name.to_ascii_lowercase();
        ["pass", "pwd", "secret", "token", "scram"].iter().any(|part| name.contains(part))
    };
    names.filter(|name| !matches!(*name, "password" | "passfile")).any(is_secret)
}

#[cfg(test)]
mod tests;
