//! Log lines: for people on a terminal, or one JSON object a line with Cloud Logging's fields.
//!
//! The JSON form carries `severity`, `message` and `time` as Cloud Logging reads them, the event's
//! own fields beside them, and the instance under `logging.googleapis.com/labels`.

use std::fmt;
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::Path;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::LogFormat;

/// Libraries that print what they send and receive below INFO, credentials included: no filter gets more out of them.
/// That of NATS prints its password at TRACE, and its failures come back to the caller.
const SHOWS_PAYLOADS: [(&str, LevelFilter); 7] = [
    ("tungstenite", LevelFilter::INFO),
    ("tokio_tungstenite", LevelFilter::INFO),
    ("h2", LevelFilter::INFO),
    ("hyper", LevelFilter::INFO),
    ("hyper_util", LevelFilter::INFO),
    ("reqwest", LevelFilter::INFO),
    ("async_nats", LevelFilter::OFF),
];

/// Lines that may wait for a reader of the log; what comes beyond them is lost rather than waited for.
const LINES_MAX: usize = 16_384;

/// Keeps the log's writing thread alive; dropping it writes what waits, for a second at most.
#[must_use]
pub struct Output(#[allow(dead_code)] WorkerGuard);

/// Installs the process's log output: JSON on stdout, or text on stderr; a second call changes nothing.
///
/// `RUST_LOG` filters, `info` by default; a filter that cannot be parsed is told and replaced. Lines
/// are written by a thread of their own: a reader that is stuck costs lines, never the switch.
pub fn init(format: LogFormat, instance_id: &str) -> Output {
    match format {
        LogFormat::Json => install(std::io::stdout(), format, instance_id),
        LogFormat::Text => install(std::io::stderr(), format, instance_id),
    }
}

/// Installs a file, appended to, as the process's log output, in JSON.
///
/// # Errors
/// When the file cannot be opened.
pub fn init_to_file(path: &Path, instance_id: &str) -> std::io::Result<Output> {
    let file = File::options().create(true).append(true).open(path)?;
    Ok(install(file, LogFormat::Json, instance_id))
}

fn install(to: impl Write + Send + 'static, format: LogFormat, instance_id: &str) -> Output {
    let (writer, guard) =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES_MAX).finish(to);
    let (filter, problem) = filter();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let capped = filter_fn(|metadata| may_be_shown(metadata.target(), *metadata.level()));
    // Fails only when the process has an output already.
    let _ = match format {
        LogFormat::Json => {
            builder.event_format(CloudLogging::new(instance_id)).finish().with(capped).try_init()
        }
        LogFormat::Text => {
            let coloured = std::io::stderr().is_terminal();
            builder.with_target(false).with_ansi(coloured).finish().with(capped).try_init()
        }
    };
    if let Some(error) = problem {
        tracing::warn!(error, "RUST_LOG cannot be parsed; info is used");
    }
    Output(guard)
}

fn filter() -> (EnvFilter, Option<String>) {
    // The clients of Firestore and SQLite announce at INFO what is their own business, and the one below Firestore's
    // every failed call as an ERROR, which comes back to the caller and is told there.
    let quiet = "info,firestore=warn,gcloud_sdk=off,sqlx=warn";
    let wanted = std::env::var("RUST_LOG").ok().filter(|f| !f.trim().is_empty());
    match wanted.as_deref().map(EnvFilter::try_new) {
        None => (EnvFilter::new(quiet), None),
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new(quiet), Some(error.to_string())),
    }
}

/// Whatever was asked for.
fn may_be_shown(target: &str, level: Level) -> bool {
    let name = target.split("::").next().unwrap_or(target);
    SHOWS_PAYLOADS.iter().all(|(library, most)| name != *library || level <= *most)
}

struct CloudLogging {
    instance_id: String,
}

impl CloudLogging {
    fn new(instance_id: &str) -> Self {
        Self { instance_id: instance_id.to_owned() }
    }
}

impl<S, N> FormatEvent<S, N> for CloudLogging
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let meta = event.metadata();
        let mut line = Map::new();
        line.insert("severity".into(), severity(*meta.level()).into());
        line.insert("time".into(), jiff::Timestamp::now().to_string().into());
        line.insert("message".into(), Value::Null);
        event.record(&mut Fields(&mut line));
        line.insert("target".into(), meta.target().into());
        let labels = serde_json::json!({ "instance_id": self.instance_id });
        line.insert("logging.googleapis.com/labels".into(), labels);
        writeln!(writer, "{}", Value::Object(line))
    }
}

fn severity(level: Level) -> &'static str {
    match level {
        Level::TRACE | Level::DEBUG => "DEBUG",
        Level::INFO => "INFO",
        Level::WARN => "WARNING",
        Level::ERROR => "ERROR",
    }
}

struct Fields<'a>(&'a mut Map<String, Value>);

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: Value) {
        // Names that Cloud Logging reads itself must not be overwritten by an event's field.
        let name = match field.name() {
            "time" | "severity" | "target" => format!("{}_", field.name()),
            name => name.to_owned(),
        };
        self.0.insert(name, value);
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, chain(value).into());
    }
}

/// An error with its causes, on one line.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        // Some libraries repeat the cause in their own text.
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_filter_gets_payloads_out_of_a_library() {
        for (target, level, shown) in [
            ("tungstenite::protocol", Level::TRACE, false),
            ("tungstenite", Level::INFO, true),
            ("async_nats::connection", Level::TRACE, false),
            ("async_nats", Level::ERROR, false),
            ("hyper_util::client", Level::TRACE, false),
            ("market_ingest::pump", Level::TRACE, true),
        ] {
            assert_eq!(may_be_shown(target, level), shown, "{target} {level}");
        }
    }
}
