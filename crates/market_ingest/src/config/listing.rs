//! The variables as people read them: `--help`, `market-ingest config` and the documentation's test.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// One environment variable.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What holds when it is unset, in words.
    pub default: &'static str,
    /// One line.
    pub meaning: &'static str,
    /// Whether its value must never be shown.
    pub secret: bool,
}

const fn plain(name: &'static str, default: &'static str, meaning: &'static str) -> Variable {
    Variable { name, default, meaning, secret: false }
}

const fn secret(name: &'static str, default: &'static str, meaning: &'static str) -> Variable {
    Variable { name, default, meaning, secret: true }
}

/// Every variable that this version reads.
pub const VARIABLES: &[Variable] = &[
    plain("INGEST_ENABLED", "no opinion", "the switch: off holds ingestion for the life of the process"),
    plain(
        "INGEST_ENABLED_FILE",
        "none",
        "the switch: a file whose first line says on or off, followed while running",
    ),
    plain("INGEST_ENABLED_POLL_S", "5", "seconds between two polls of that file; fractions, at least 0.05"),
    plain(
        "INGEST_SCHEDULE",
        "always",
        "when to ingest, such as Mon-Fri 04:00-20:00 America/New_York; several joined by ;",
    ),
    plain("TENANT_ID", "none", "documents live below tenants/{TENANT_ID}/; unset: at the root"),
    plain(
        "INGEST_STORE",
        "firestore where configured, else sqlite:market-ingest.db",
        "firestore, sqlite:PATH or postgres://…",
    ),
    plain(
        "FIRESTORE_PROJECT_ID",
        "GOOGLE_CLOUD_PROJECT",
        "project of the Firestore database, and of a Pub/Sub topic that names none",
    ),
    plain("GOOGLE_CLOUD_PROJECT", "none", "project, when FIRESTORE_PROJECT_ID is unset"),
    plain("FIRESTORE_EMULATOR_HOST", "none", "host:port of an emulator; needs no credentials"),
    plain("HEARTBEAT_INTERVAL_S", "15", "seconds between two heartbeats, at least 1"),
    secret("APCA_API_KEY_ID", "none", "Alpaca's key; not needed for a venue on a loopback host"),
    secret("APCA_API_SECRET_KEY", "none", "Alpaca's secret; not needed for a venue on a loopback host"),
    plain("ALPACA_DATA_FEED", "iex", "comma list of feeds, one connection each"),
    plain(
        "MONITORED_SYMBOLS",
        "ALPACA_SYMBOLS",
        "comma list of symbols, or *; one with / goes to crypto feeds",
    ),
    plain("ALPACA_SYMBOLS", "SPY", "symbols, when MONITORED_SYMBOLS is unset"),
    plain("ALPACA_CHANNELS", "trades,quotes,bars", "comma list of channels"),
    plain("ALPACA_CODEC", "msgpack", "msgpack or json"),
    plain("ALPACA_STREAM_URL", "wss://stream.data.alpaca.markets", "host of the streams"),
    plain("ALPACA_DATA_URL", "https://data.alpaca.markets", "host of the historical data"),
    plain(
        "INGEST_BACKFILL",
        "full",
        "what to fetch after a gap: none, full, or no further back than a window such as 2h",
    ),
    plain(
        "INGEST_SINKS",
        "quotes",
        "comma list: quotes (newest quote per symbol into the store), ndjson:DIR, parquet:DIR, pubsub:TOPIC and \
         nats:URL/STREAM (every record), null",
    ),
    plain("PUBSUB_EMULATOR_HOST", "none", "host:port of an emulator of Pub/Sub; needs no credentials"),
    plain("INGEST_FILE_MAX_AGE_S", "60", "a file of ndjson or parquet is complete after that many seconds"),
    plain(
        "PER_SYMBOL_MIN_INTERVAL_MS",
        "1000",
        "least milliseconds between two writes of one symbol's quote",
    ),
    plain("GLOBAL_WRITES_PER_SEC", "20", "sustained quote writes per second over all symbols"),
    plain("GLOBAL_BURST", "40", "quote writes that may come at once after a quiet time"),
    plain("FLUSH_INTERVAL_MS", "200", "milliseconds between two looks at which quotes are due"),
    plain("RECONNECT_BACKOFF_BASE_S", "1", "upper bound of the first back-off, in seconds"),
    plain("RECONNECT_BACKOFF_MAX_S", "60", "upper bound of every back-off, in seconds"),
    plain(
        "INGEST_BACKFILL_AFTER_S",
        "10",
        "a gap is fetched so long after its end, in seconds: history lags behind",
    ),
    plain("INGEST_MUTE_AFTER_S", "30", "least silence of a channel that can be an alarm, in seconds"),
    plain("PORT", "8080", "HTTP port; 0 lets the system choose"),
    plain("INGEST_BIND", "127.0.0.1, or 0.0.0.0 on Cloud Run and Kubernetes", "HTTP address"),
    secret(
        "INGEST_ADMIN_TOKEN",
        "writes on a loopback address only",
        "bearer token that HTTP writes must show",
    ),
    plain("INGEST_HEALTH_DIR", "none", "directory for the files liveness and readiness"),
    plain("DRY_RUN", "false", "decode and count, write no market data"),
    plain("STOP_AFTER_SECONDS", "never", "clean exit after that many seconds"),
    plain("RUST_LOG", "info", "log filter"),
    plain("LOG_FORMAT", "text on a terminal, else json", "json or text"),
];

/// Every variable with its value and where that comes from; secrets are named, never shown.
pub fn listing(vars: impl IntoIterator<Item = (String, String)>) -> String {
    let vars: BTreeMap<String, String> = vars.into_iter().collect();
    let mut out = String::new();
    for v in VARIABLES {
        let value = vars.get(v.name).map(|t| t.trim()).filter(|t| !t.is_empty());
        let shown = match value {
            Some(_) if v.secret => "(set, not shown)".to_owned(),
            Some(text) => without_password(text),
            None => format!("(unset: {})", v.default),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{:<27} {:<40} {}", v.name, shown, v.meaning);
    }
    out
}

/// What stands before an `@`, and from a `?` or a `password=` on, may be a login, and is not shown.
pub(super) fn without_password(text: &str) -> String {
    let login_end = text.rfind('@').unwrap_or(0);
    let (login, rest) = text.split_at(login_end);
    let rest = if login.contains('?') { "" } else { rest };
    let secret = rest.find('?').map(|at| at + 1).or_else(|| rest.to_ascii_lowercase().find("password="));
    let rest = secret.map_or_else(|| rest.to_owned(), |at| format!("{}***", &rest[..at]));
    match login.split_once(':') {
        _ if login_end == 0 => without_odd_port(&rest),
        Some((kind, _)) if login.contains("://") => format!("{kind}:***{rest}"),
        _ => format!("***{rest}"),
    }
}

/// What stands for a port and is no number may be a password whose host was forgotten.
fn without_odd_port(text: &str) -> String {
    let mut shown = String::new();
    for (at, piece) in text.split("://").enumerate() {
        let end = piece.find(['/', ',', ' ']).unwrap_or(piece.len());
        let (authority, path) = piece.split_at(end);
        match authority.rsplit_once(':') {
            _ if at == 0 => shown.push_str(piece),
            Some((host, port)) if !port.bytes().all(|byte| byte.is_ascii_digit() || byte == b']') => {
                shown.push_str(&format!("://{host}:***{path}"));
            }
            _ => shown.push_str(&format!("://{piece}")),
        }
    }
    shown
}

/// Names that begin as this program's own do and are none of them: a typing error in the name of a switch must not pass
/// in silence.
pub fn strangers(names: impl IntoIterator<Item = String>) -> impl Iterator<Item = String> {
    let is_known = |name: &str| VARIABLES.iter().any(|variable| variable.name == name);
    names.into_iter().filter(move |name| name.starts_with("INGEST_") && !is_known(name))
}

/// The words of a comma list, without blanks.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|w| !w.is_empty())
}
