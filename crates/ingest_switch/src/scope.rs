//! What a hold covers: everything, one job, or symbols by pattern; each perhaps on one channel only.
//!
//! Written `all`, `job:NAME` or `symbol:PATTERN`, optionally followed by `/CHANNEL`. A crypto symbol has a
//! `/` of its own, so what follows the last `/` is a channel only if it is one of [`CHANNELS`]:
//! `symbol:BTC/USD` is a symbol, `symbol:BTC/USD/quotes` its quotes. Letter case does not matter anywhere.

use std::fmt;
use std::str::FromStr;

/// The channels that a scope may name, as the venue writes them. Corrections and cancellations go with
/// `trades`.
pub const CHANNELS: [&str; 11] = [
    "trades",
    "quotes",
    "bars",
    "updatedBars",
    "dailyBars",
    "statuses",
    "lulds",
    "imbalances",
    "orderbooks",
    "pricing",
    "news",
];

/// What a hold covers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope {
    target: Target,
    channel: Option<&'static str>,
}

/// Whose data a hold covers, on whichever channel.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// Everything this process ingests.
    All,
    /// One feed connection, by its name in lower case.
    Job(String),
    /// The symbols that match a pattern in upper case: `*` stands for any run of characters, `?` for one.
    Symbol(String),
}

impl Scope {
    /// Everything this process ingests.
    pub const ALL: Self = Self { target: Target::All, channel: None };

    /// One feed connection.
    #[must_use]
    pub fn job(name: &str) -> Self {
        Self { target: Target::Job(name.to_lowercase()), channel: None }
    }

    /// The symbols that match `pattern`.
    #[must_use]
    pub fn symbol(pattern: &str) -> Self {
        Self { target: Target::Symbol(pattern.to_uppercase()), channel: None }
    }

    /// The same on one channel only; `None` if `word` is none of [`CHANNELS`].
    #[must_use]
    pub fn on_channel(self, word: &str) -> Option<Self> {
        Some(Self { channel: Some(channel(word)?), ..self })
    }

    /// Whose data.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The one channel, one of [`CHANNELS`]; none means every channel.
    #[must_use]
    pub fn channel(&self) -> Option<&'static str> {
        self.channel
    }

    /// Whether this is [`Self::ALL`].
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::ALL
    }

    /// Whether it covers `symbol` of `job` on `channel`.
    ///
    /// The symbol `*` stands for every symbol and is covered only by a pattern that is nothing but `*`.
    #[must_use]
    pub fn covers(&self, job: &str, symbol: &str, channel: &str) -> bool {
        if self.channel.is_some_and(|own| !own.eq_ignore_ascii_case(channel)) {
            return false;
        }
        match &self.target {
            Target::All => true,
            Target::Job(name) => name.eq_ignore_ascii_case(job),
            Target::Symbol(pattern) => matches(pattern.as_bytes(), symbol.as_bytes()),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Target::All => f.write_str("all")?,
            Target::Job(name) => write!(f, "job:{name}")?,
            Target::Symbol(pattern) => write!(f, "symbol:{pattern}")?,
        }
        match self.channel {
            None => Ok(()),
            Some(channel) => write!(f, "/{channel}"),
        }
    }
}

/// A text that is no scope, and what is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownScope(String);

impl fmt::Display for UnknownScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no scope; accepted: all, job:NAME, symbol:PATTERN (with * and ?), each perhaps with \
             /CHANNEL, one of {}",
            self.0,
            CHANNELS.join(" ")
        )
    }
}

impl std::error::Error for UnknownScope {}

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        let unknown = || UnknownScope(text.chars().take(80).collect());
        let text = text.trim();
        let (whole, channel) = match text.rsplit_once('/') {
            Some((whole, word)) => match channel(word) {
                Some(channel) => (whole, Some(channel)),
                None => (text, None),
            },
            None => (text, None),
        };
        let (kind, name) = whole.split_once(':').unwrap_or((whole, ""));
        let printable = !name.is_empty() && name.len() <= 100 && name.chars().all(|c| c.is_ascii_graphic());
        let target = match kind.trim().to_ascii_lowercase().as_str() {
            "all" if whole.len() == kind.len() => Target::All,
            "job" if printable && !name.contains('/') => Target::Job(name.to_ascii_lowercase()),
            "symbol" if printable && !name.ends_with('/') => Target::Symbol(name.to_ascii_uppercase()),
            _ => return Err(unknown()),
        };
        Ok(Self { target, channel })
    }
}

fn channel(word: &str) -> Option<&'static str> {
    CHANNELS.into_iter().find(|channel| channel.eq_ignore_ascii_case(word.trim()))
}

/// Glob matching without backtracking over more than the last `*`, so that no pattern is slow.
pub(crate) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            // The symbol `*` means every symbol, which one character of a pattern cannot cover.
            Some(b'?') if text != b"*" => (p, t) = (p + 1, t + 1),
            Some(c) if c.eq_ignore_ascii_case(&text[t]) => (p, t) = (p + 1, t + 1),
            _ => match &mut star {
                Some((at, taken)) => {
                    *taken += 1;
                    (p, t) = (*at + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[track_caller]
    fn check(text: &str, written: &str) {
        assert_eq!(text.parse::<Scope>().unwrap().to_string(), written);
        assert_eq!(written.parse::<Scope>().unwrap().to_string(), written, "reads back");
    }

    #[test]
    fn scopes_are_read_whatever_their_case_and_written_one_way() {
        check(" ALL ", "all");
        check("all/Quotes", "all/quotes");
        check("Job:IEX", "job:iex");
        check("job:crypto-us/updatedbars", "job:crypto-us/updatedBars");
        check("symbol:btc*", "symbol:BTC*");
        check("symbol:btc/usd", "symbol:BTC/USD");
        check("symbol:BTC/USD/trades", "symbol:BTC/USD/trades");
        check("symbol:*", "symbol:*");
    }

    #[test]
    fn what_is_no_scope_is_quoted_with_what_is_accepted() {
        for text in
            ["", "everything", "all:", "job:", "job:a b", "job:iex/USD", "symbol:", "symbol:A/", "all/AAPL"]
        {
            let error = text.parse::<Scope>().unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("{text:?} is no scope")) && error.contains("job:NAME"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_scope_covers_what_it_names_and_nothing_else() {
        let covers =
            |scope: &str, job, symbol, channel| scope.parse::<Scope>().unwrap().covers(job, symbol, channel);
        assert!(covers("all", "iex", "AAPL", "trades") && covers("all", "iex", "*", "bars"));
        assert!(
            covers("all/trades", "iex", "AAPL", "trades") && !covers("all/trades", "iex", "AAPL", "quotes")
        );
        assert!(covers("job:iex", "iex", "*", "bars") && !covers("job:iex", "sip", "AAPL", "bars"));
        assert!(covers("symbol:a*l", "iex", "AAPL", "bars") && !covers("symbol:a*l", "iex", "AAPLE", "bars"));
        assert!(covers("symbol:A?PL", "iex", "aapl", "bars") && !covers("symbol:AAPL", "iex", "AAP", "bars"));
        assert!(covers("symbol:BTC/*", "crypto-us", "BTC/USD", "quotes"));
        assert!(!covers("symbol:A*", "iex", "*", "bars") && !covers("symbol:?", "iex", "*", "bars"));
        assert!(covers("symbol:*", "iex", "*", "bars") && covers("symbol:**", "iex", "*", "bars"));
    }
}
