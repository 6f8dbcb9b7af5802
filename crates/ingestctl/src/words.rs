//! What an operator types: scopes, spans of time, points in time, free text.
//!
//! Invariant: what is refused says what was found and what is accepted, because it is read in a hurry.

use std::time::Duration;

use ingest_status::Timestamp;
use ingest_switch::{CHANNELS, Scope};
use jiff::{Span, SpanRelativeTo};

/// Longest reason, in characters.
const REASON_LIMIT: usize = 500;
/// Longest name of an actor, in characters.
const ACTOR_LIMIT: usize = 200;
/// Nobody means to wait longer at a prompt.
const WAIT_LIMIT: Duration = Duration::from_secs(3600);
/// A pause that shall last longer has no end by design, and says so by having none.
const SPAN_LIMIT: Duration = Duration::from_secs(366 * 24 * 3600);

/// One scope of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ScopeWord {
    /// What it means.
    pub(crate) scope: Scope,
    /// The bare word that was taken for a symbol pattern; none where the kind was written.
    pub(crate) bare: Option<String>,
}

/// Reads `all`, `job:NAME`, `symbol:PATTERN`, or a bare symbol pattern; each perhaps with `/CHANNEL`.
pub(crate) fn scope(text: &str) -> Result<ScopeWord, String> {
    let text = text.trim();
    let (head, channel) = text.split_once('/').unwrap_or((text, ""));
    if head.eq_ignore_ascii_case("all") && head != "all" {
        let rest = if channel.is_empty() { String::new() } else { format!("/{channel}") };
        return Err(format!(
            "{text:?} can be read in two ways; write \"all{rest}\" for everything, or \"symbol:ALL{rest}\" for \
             the symbol"
        ));
    }
    if text.contains(',') {
        return Err(format!("{text:?} is a list; name each scope by itself: {}", text.replace(',', " ")));
    }
    if let Some(plural) = nearly_a_channel(text) {
        let whole = text.rsplit_once('/').map_or(text, |(whole, _)| whole);
        return Err(format!("{text:?} names no channel; did you mean \"{whole}/{plural}\"?"));
    }
    let kind = text.split_once(':').map(|(kind, _)| kind.trim().to_ascii_lowercase());
    let bare = head != "all" && kind.is_none();
    let written = if bare { format!("symbol:{text}") } else { text.to_owned() };
    match written.parse::<Scope>() {
        Ok(scope) => Ok(ScopeWord { scope, bare: bare.then(|| text.to_owned()) }),
        Err(_) => Err(format!(
            "{:?} is no scope; accepted: all, job:NAME, a symbol or pattern such as AAPL, BTC/USD or 'A*' (also \
             symbol:PATTERN), each perhaps with /CHANNEL, one of {}",
            text.chars().take(80).collect::<String>(),
            CHANNELS.join(" ")
        )),
    }
}

/// A channel that lost its `s`: as part of a symbol it would quietly match nothing.
fn nearly_a_channel(text: &str) -> Option<&'static str> {
    let (_, word) = text.rsplit_once('/')?;
    CHANNELS.into_iter().find(|c| c.strip_suffix('s').is_some_and(|one| one.eq_ignore_ascii_case(word)))
}

/// Reads how long a pause shall last, such as `30m`, `1h30m` or `2d` (days of 24 hours).
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    const ACCEPTED: &str = "a number with its unit, such as 45s, 30m, 1h30m, 2d";
    if text.trim().parse::<f64>().is_ok() {
        return Err(format!("{text:?} has no unit; accepted: {ACCEPTED}"));
    }
    let duration = read_span(text).ok_or_else(|| format!("{text:?} is no span; accepted: {ACCEPTED}"))?;
    if duration.is_zero() || duration > SPAN_LIMIT {
        return Err(format!("{text:?} is out of range; accepted: more than nothing, at most 366 days"));
    }
    Ok(duration)
}

/// Reads how long to wait for an effect: as [`span`], or seconds without a unit; `0` is not to wait.
pub(crate) fn wait(text: &str) -> Result<Duration, String> {
    const ACCEPTED: &str = "seconds, or a number with its unit: 0 (do not wait), 10, 2.5s, 1m; at most 1h";
    let seconds = text.trim().parse::<f64>().ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
    match seconds.or_else(|| read_span(text)) {
        Some(wait) if wait <= WAIT_LIMIT => Ok(wait),
        _ => Err(format!("{text:?} cannot be waited; accepted: {ACCEPTED}")),
    }
}

fn read_span(text: &str) -> Option<Duration> {
    let span: Span = text.trim().parse().ok()?;
    if span.get_years() != 0 || span.get_months() != 0 {
        return None;
    }
    span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?.try_into().ok()
}

/// Reads a point in time with its offset from UTC.
pub(crate) fn time(text: &str) -> Result<Timestamp, String> {
    text.trim().parse::<jiff::Timestamp>().map(Timestamp::from).map_err(|_| {
        format!(
            "{text:?} is no point in time; accepted: RFC 3339 with the offset from UTC, such as \
             2026-03-01T14:30:00Z or 2026-03-01T09:30:00-05:00 (for a span from now, use --for 30m)"
        )
    })
}

/// Reads a reason.
pub(crate) fn reason(text: &str) -> Result<String, String> {
    printable("a reason", text, REASON_LIMIT)
}

/// Reads an actor's name.
pub(crate) fn actor(text: &str) -> Result<String, String> {
    printable("a name", text, ACTOR_LIMIT)
}

fn printable(what: &str, text: &str, limit: usize) -> Result<String, String> {
    let text = text.trim();
    let count = text.chars().count();
    if text.is_empty() || count > limit || text.chars().any(char::is_control) {
        return Err(format!(
            "{what} has 1 to {limit} characters on one line; found {count}{}",
            if text.chars().any(char::is_control) {
                " with a line break or another control character"
            } else {
                ""
            }
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn reads_as(text: &str, written: &str, bare: bool) {
        let word = scope(text).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((word.scope.to_string().as_str(), word.bare.is_some()), (written, bare), "{text}");
    }

    #[test]
    fn a_bare_word_is_a_symbol_pattern() {
        reads_as("AAPL", "symbol:AAPL", true);
        reads_as("btc/usd", "symbol:BTC/USD", true);
        reads_as("A*", "symbol:A*", true);
        reads_as("AAPL/quotes", "symbol:AAPL/quotes", true);
        reads_as("BTC/USD/Trades", "symbol:BTC/USD/trades", true);
        reads_as("*", "symbol:*", true);
    }

    #[test]
    fn a_written_kind_is_taken_as_it_is() {
        reads_as("all", "all", false);
        reads_as("all/quotes", "all/quotes", false);
        reads_as("Job:IEX", "job:iex", false);
        reads_as("symbol:ALL", "symbol:ALL", false);
        reads_as("symbol:aapl/bars", "symbol:AAPL/bars", false);
    }

    #[track_caller]
    fn refuses(text: &str, told: &str) {
        let error = scope(text).unwrap_err();
        assert!(error.contains(told), "{text}: {error}");
    }

    #[test]
    fn what_could_pause_the_wrong_thing_is_refused_and_told() {
        refuses("ALL", "\"symbol:ALL\" for the symbol");
        refuses("All/quotes", "\"all/quotes\" for everything");
        refuses("AAPL/quote", "did you mean \"AAPL/quotes\"?");
        refuses("BTC/USD/trade", "did you mean \"BTC/USD/trades\"?");
        refuses("", "accepted: all, job:NAME");
        refuses("job:", "accepted: all, job:NAME");
        refuses("jobs:iex", "accepted: all, job:NAME");
        refuses("A B", "accepted: all, job:NAME");
    }

    #[test]
    fn spans_are_read_as_people_write_them() {
        for (text, seconds) in [
            ("45s", 45),
            ("30m", 1800),
            ("1h30m", 5400),
            ("1h 30m", 5400),
            ("2d", 172_800),
            ("1w", 604_800),
            ("90 minutes", 5400),
            ("PT1H", 3600),
        ] {
            assert_eq!(span(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for (text, told) in [
            ("30", "no unit"),
            ("soon", "no span"),
            ("1mo", "no span"),
            ("-5m", "no span"),
            ("0s", "out of range"),
            ("400d", "out of range"),
            ("", "no span"),
        ] {
            let error = span(text).unwrap_err();
            assert!(error.contains(told) && error.contains("accepted"), "{text}: {error}");
        }
    }

    #[test]
    fn waiting_takes_plain_seconds_and_nothing_too() {
        for (text, ms) in
            [("0", 0), ("10", 10_000), ("2.5", 2500), ("10s", 10_000), ("1m", 60_000), ("0s", 0)]
        {
            assert_eq!(wait(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["-1", "NaN", "inf", "2h", "ever", ""] {
            assert!(wait(text).unwrap_err().contains("accepted"), "{text}");
        }
    }

    #[test]
    fn a_time_needs_its_offset() {
        let noon: Timestamp = "2026-03-01T12:00:00Z".parse::<jiff::Timestamp>().expect("a time").into();
        assert_eq!(time("2026-03-01T07:00:00-05:00"), Ok(noon));
        assert_eq!(time("2026-03-01 12:00Z"), Ok(noon));
        for text in ["2026-03-01T12:00:00", "tomorrow", "12:00", ""] {
            assert!(time(text).unwrap_err().contains("--for 30m"), "{text}");
        }
    }

    #[test]
    fn texts_are_one_printable_line() {
        assert_eq!(reason(" halt: vendor outage "), Ok("halt: vendor outage".to_owned()));
        for text in ["", "  ", "two\nlines", "\u{1b}[2J", &"x".repeat(501)] {
            assert!(reason(text).unwrap_err().contains("1 to 500"), "{text:?}");
        }
        assert!(actor(&"x".repeat(201)).is_err());
    }
}
