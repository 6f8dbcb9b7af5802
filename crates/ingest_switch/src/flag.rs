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
pub const OFF_WORDS: [&str; 11] =
    ["0", "false", "off", "no", "n", "f", "pause", "paused", "halt", "halted", "disabled"];

/// The words that ask for ingestion to run, in lower case.
pub const ON_WORDS: [&str; 10] =
    ["1", "true", "on", "yes", "y", "t", "resume", "resumed", "running", "enabled"];

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

    let whole_len = if cut { seen.rfind(['\n', '\r']).map_or(0, |end| end + 1) } else { seen.len() };
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn off() -> Flag {
        Flag::Off(Notes::default())
    }

    fn on() -> Flag {
        Flag::On(Notes::default())
    }

    fn unknown(word: &str) -> Flag {
        Flag::Unknown(word.to_owned())
    }

    fn check(text: impl AsRef<[u8]>, expected: &Flag) {
        let text = text.as_ref();
        assert_eq!(parse(text), *expected, "{:?}", String::from_utf8_lossy(text));
    }

    #[test]
    fn the_words_are_those_of_the_contract() {
        let off = "0 false off no n f pause paused halt halted disabled";
        let on = "1 true on yes y t resume resumed running enabled";
        assert_eq!(OFF_WORDS.join(" "), off);
        assert_eq!(ON_WORDS.join(" "), on);
    }

    #[test]
    fn every_word_counts_whatever_its_case_space_line_ends_and_mark() {
        for (words, expected) in [(&OFF_WORDS[..], off()), (&ON_WORDS[..], on())] {
            for word in words {
                let mut capital = word.to_string();
                capital[..1].make_ascii_uppercase();
                for word in [word.to_string(), word.to_uppercase(), capital] {
                    check(&word, &expected);
                    check(format!("  \t{word} \u{a0} "), &expected);
                    check(format!("{word}\n"), &expected);
                    check(format!("{word}\r\n"), &expected);
                    check(format!("\u{feff}{word}\r\n"), &expected);
                    check(format!("\u{feff}# why\r\n\r\n  # more\n {word}\n"), &expected);
                }
            }
        }
    }

    #[test]
    fn nothing_but_blanks_and_comments_is_blank() {
        for text in ["", " ", "\n\n", "\r\n", "\u{feff}", "\u{feff}\r\n", "# off", "#off\n\t# on\n"] {
            check(text, &Flag::Blank);
        }
    }

    #[test]
    fn other_words_are_unknown_and_quoted_up_to_40_characters() {
        for word in ["maybe", "of", "offf", "on off", "off # now", "ein", "2", "-", "off;", "\"off\""] {
            check(word, &unknown(word));
        }
        check("ä".repeat(50), &unknown(&"ä".repeat(40)));
        check(b"\xff\xfeo\0f\0f\0", &unknown("\u{fffd}\u{fffd}o\0f\0f\0"));
    }

    #[test]
    fn a_word_half_written_never_means_its_opposite() {
        for on in ON_WORDS {
            for off in OFF_WORDS {
                assert!(!on.starts_with(off) && !off.starts_with(on), "{on} {off}");
            }
        }
    }

    #[test]
    fn further_lines_carry_reason_actor_and_end() {
        let text = "off\r\n# a comment\r\nReason: venue: maintenance \r\n\r\nBY:alice\r\nuntil : 2026-11-22T11:00:00+01:00\r\n";
        let notes = Notes {
            reason: Some("venue: maintenance".to_owned()),
            actor: Some("alice".to_owned()),
            until: Some("2026-11-22T10:00:00Z".parse().unwrap()),
            bad: None,
        };
        check(text, &Flag::Off(notes.clone()));
        check(text.replacen("off", "on", 1), &Flag::On(notes));
    }

    #[test]
    fn a_blank_note_is_an_unset_note() {
        check("off\nreason:\nby: \nuntil:", &off());
    }

    #[test]
    fn a_bad_line_is_named_and_the_hold_stands_without_end() {
        let bad = |bad| Flag::Off(Notes { bad: Some(bad), ..Notes::default() });
        for value in ["tomorrow", "2026-11-22", "2026-11-22T10:00:00", "2026-13-01T00:00:00Z", "10:00"] {
            check(format!("off\nuntil: {value}"), &bad(BadNote::Until(value.to_owned())));
        }
        for line in ["untill: 2026-11-22T10:00:00Z", "because", ": x", "on"] {
            check(format!("off\n{line}"), &bad(BadNote::Key(line.to_owned())));
        }
        let twice = "off\nuntil: 2026-11-22T10:00:00Z\nuntil: x";
        check(twice, &bad(BadNote::Until("x".to_owned())));
        check("off\nfoo\nuntil: x", &bad(BadNote::Key("foo".to_owned())));
    }

    #[test]
    fn no_more_than_the_limit_is_read_and_a_line_cut_by_it_is_not_trusted() {
        let pad = |tail: &str, cut: &str| {
            let comment = format!("#{}\n", " ".repeat(READ_LIMIT_BYTES - tail.len() - 2));
            format!("{comment}{tail}{cut}")
        };
        check(pad("off", ""), &off());
        check(pad("off\n", "garbage"), &off());
        check(pad("off", "line"), &unknown("off"));
        check(pad("", "off"), &Flag::Blank);
        check(pad("off\nuntil: 2026-11-22T10:00:00+05", ":30"), &off());
        check(vec![b'x'; 3 * READ_LIMIT_BYTES], &unknown(&"x".repeat(40)));
    }

    #[test]
    fn no_bytes_make_parsing_panic_or_quote_more_than_it_may() {
        let seeds: [&[u8]; 5] = [
            b"off\nreason: x\nby: y\nuntil: 2026-11-22T10:00:00Z\n",
            b"\xef\xbb\xbfon\r\n# c\r\nuntil: -009999-01-01T00:00:00Z",
            b"\xff\xfeo\0n\0",
            "\u{1f600}\u{2028}\u{85}: \u{a0}".as_bytes(),
            &[b'#'; READ_LIMIT_BYTES + 7],
        ];
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            usize::try_from(random % below as u64).unwrap()
        };
        let mut kinds = [0; 4];
        for round in 0..50_000 {
            let mut text = seeds[round % seeds.len()].to_vec();
            for _ in 0..next(6) {
                let at = next(text.len() + 1);
                let byte =
                    [b'\n', b'\r', b':', b'#', 0xef, 0x80, b'0', u8::try_from(next(256)).unwrap()][next(8)];
                match next(4) {
                    0 => text.insert(at, byte),
                    1 => text.truncate(at),
                    2 => text.extend_from_within(..at.min(64)),
                    _ => {
                        if let Some(old) = text.get_mut(at) {
                            *old = byte;
                        }
                    }
                }
            }
            let quoted = match parse(&text) {
                Flag::Blank => (0, None),
                Flag::On(notes) => (1, notes.bad),
                Flag::Off(notes) => (2, notes.bad),
                Flag::Unknown(word) => (3, Some(BadNote::Key(word))),
            };
            kinds[quoted.0] += 1;
            if let Some(BadNote::Key(quote) | BadNote::Until(quote)) = quoted.1 {
                assert!(!quote.is_empty() && quote.chars().count() <= 40, "{quote:?}");
            }
        }
        assert!(kinds.iter().all(|&count| count > 500), "every kind is reached: {kinds:?}");
    }
}
