//! What a flag's text says: the environment value or the flag file.
//!
//! The first line that is neither blank nor a `#` comment is the word; later lines may carry
//! `reason:`, `by:` and `until:`. A UTF-8 byte order mark, CRLF, letter case and outer space do not
//! matter, and no more than [`READ_LIMIT_BYTES`] are looked at. Any bytes are accepted: parsing
//! has no error, only texts that say nothing ([`Flag::Blank`]) or nothing known ([`Flag::Unknown`]).
//!
//! Invariant: a word cut short by a write in progress never means its opposite, because no word of
//! one list begins with, or begins, a word of the other.

use std::fmt;

use jiff::Timestamp;

/// How much of a flag is looked at, in bytes; what follows is ignored.
pub const READ_LIMIT_BYTES: usize = 4096;

/// The words that ask for ingestion to stop, in lower case.
pub const OFF_WORDS: [&str; 11] = [
    "0", "false", "off", "no", "n", "f", "pause", "paused", "halt", "halted", "disabled",
];

/// The words that ask for ingestion to run, in lower case.
pub const ON_WORDS: [&str; 10] = [
    "1", "true", "on", "yes", "y", "t", "resume", "resumed", "running", "enabled",
];

/// How much of a text that was not understood is quoted, in characters.
const QUOTE_LIMIT_CHARS: usize = 40;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// What a flag's text says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Flag {
    /// Nothing: no text, or only blank lines and comments.
    Blank,
    /// One of [`ON_WORDS`].
    On(Notes),
    /// One of [`OFF_WORDS`].
    Off(Notes),
    /// A word of neither list, cut at 40 characters.
    Unknown(String),
}

/// What the lines below the word add to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Notes {
    /// `reason:`, free text.
    pub reason: Option<String>,
    /// `by:`, who asks.
    pub actor: Option<String>,
    /// `until:`, when a hold ends by itself.
    pub until: Option<Timestamp>,
    /// The first line that was not understood; it changes nothing else.
    pub bad: Option<BadNote>,
}

/// A line below the word that was not understood; quoted texts are cut at 40 characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BadNote {
    /// Neither `reason:`, `by:` nor `until:`; the line.
    Key(String),
    /// An `until:` that is no RFC 3339 time; its value. The hold then has no end.
    Until(String),
}

impl fmt::Display for BadNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(line) => write!(f, "line {line:?} is none of reason:, by:, until:"),
            Self::Until(value) => {
                write!(f, "until: {value:?} is no RFC 3339 time, so it has no end")
            }
        }
    }
}

/// Reads a flag's text, of which at most [`READ_LIMIT_BYTES`] are looked at.
///
/// A line that the limit cuts is not trusted: as the word it is unknown, as a note it is left out.
#[must_use]
pub fn parse(text: &[u8]) -> Flag {
    let seen = &text[..text.len().min(READ_LIMIT_BYTES)];
    let cut = seen.len() < text.len();
    let seen = seen.strip_prefix(BYTE_ORDER_MARK).unwrap_or(seen);
    let seen = String::from_utf8_lossy(seen);

    let whole_len = if cut {
        seen.rfind(['\n', '\r']).map_or(0, |end| end + 1)
    } else {
        seen.len()
    };
    let (whole, rest) = seen.split_at(whole_len);
    let mut lines = whole.split(['\n', '\r']).filter_map(telling);

    let Some(word) = lines.next() else {
        return telling(rest).map_or(Flag::Blank, |word| Flag::Unknown(quote(word)));
    };
    let lower = word.to_ascii_lowercase();
    if OFF_WORDS.contains(&lower.as_str()) {
        Flag::Off(notes(lines))
    } else if ON_WORDS.contains(&lower.as_str()) {
        Flag::On(notes(lines))
    } else {
        Flag::Unknown(quote(word))
    }
}

/// The line without outer space, unless it is blank or a comment.
fn telling(line: &str) -> Option<&str> {
    let line = line.trim();
    (!line.is_empty() && !line.starts_with('#')).then_some(line)
}

fn notes<'a>(lines: impl Iterator<Item = &'a str>) -> Notes {
    let mut notes = Notes::default();
    for line in lines {
        let (key, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.trim();
        let text = (!value.is_empty()).then(|| value.to_owned());
        match key.trim_end().to_ascii_lowercase().as_str() {
            "reason" => notes.reason = text,
            "by" => notes.actor = text,
            "until" if value.is_empty() => notes.until = None,
            "until" => match value.parse() {
                Ok(until) => notes.until = Some(until),
                Err(_) => {
                    notes.until = None;
                    notes.bad.get_or_insert(BadNote::Until(quote(value)));
                }
            },
            _ => {
                notes.bad.get_or_insert(BadNote::Key(quote(line)));
            }
        }
    }
    notes
}

fn quote(text: &str) -> String {
    text.chars().take(QUOTE_LIMIT_CHARS).collect()
}
