//! Subjects of NATS: tokens between points, of which `*` stands for one and a last `>` for all that follow.

use std::fmt::Write as _;

/// Appends a word as one token. What has a meaning in subjects is written `%XX`, as is `%` itself; `-` stands for none.
pub(super) fn token(subject: &mut String, word: &str) {
    if word.is_empty() {
        subject.push('-');
    }
    for c in word.chars() {
        if matches!(c, '.' | '*' | '>' | '%') || c.is_whitespace() || c.is_control() {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                // Writing to a String cannot fail.
                let _ = write!(subject, "%{byte:02X}");
            }
        } else {
            subject.push(c);
        }
    }
}

/// Whether a stream that takes `theirs` takes everything that matches `ours`, which has no `>`.
pub(super) fn covers(theirs: &str, ours: &str) -> bool {
    let mut ours = ours.split('.');
    for token in theirs.split('.') {
        match (token, ours.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (token, Some(our)) if token == our => {}
            _ => return false,
        }
    }
    ours.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_symbol_is_one_token_and_no_two_are_the_same() {
        let written = |word| {
            let mut subject = String::new();
            token(&mut subject, word);
            subject
        };
        let cases = [
            ("AAPL", "AAPL"),
            ("BRK.A", "BRK%2EA"),
            ("BTC/USD", "BTC/USD"),
            ("crypto-us", "crypto-us"),
            ("a b*>%\n", "a%20b%2A%3E%25%0A"),
            ("BRK%2EA", "BRK%252EA"),
            ("\u{a0}é", "%C2%A0é"),
            ("", "-"),
        ];
        for (word, subject) in cases {
            assert_eq!(written(word), subject);
        }
    }

    #[test]
    fn a_stream_is_known_to_take_our_subjects_or_not() {
        let ours = "S.iex.*.*";
        for theirs in [">", "S.>", "S.iex.>", "S.*.*.*", "*.iex.*.>", "S.iex.*.*"] {
            assert!(covers(theirs, ours), "{theirs}");
        }
        for theirs in ["S", "S.*", "S.iex", "S.iex.*", "S.iex.*.*.>", "S.sip.>", "S.iex.t.*", "T.>", ""] {
            assert!(!covers(theirs, ours), "{theirs}");
        }
    }
}
