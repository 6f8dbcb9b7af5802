//! The cursor over JSON text (RFC 8259).
//!
//! Strict where a slip would change a value, lenient where it cannot: unread values are only checked for balanced
//! brackets and quotes. Half a surrogate pair in an escape becomes U+FFFD, so that it costs a letter and not a message.

use std::borrow::Cow;

use super::key::Key;
use super::number;
use super::reader::{Fault, Reader};
use super::{time, usual};
use crate::message::Codec;

/// A position in a frame of JSON.
#[derive(Clone, Debug)]
pub(super) struct Json<'a> {
    frame: &'a [u8],
    at: usize,
}

/// Whether an open array or object still waits for its first value, before which there is no comma.
pub(super) struct Items {
    first: bool,
}

impl<'a> Json<'a> {
    pub(super) fn new(frame: &'a [u8]) -> Self {
        let mut json = Self { frame, at: 0 };
        json.space();
        json
    }

    #[inline(always)]
    fn peek(&self) -> Option<u8> {
        self.frame.get(self.at).copied()
    }

    #[inline(always)]
    fn rest(&self) -> &'a [u8] {
        self.frame.get(self.at..).unwrap_or_default()
    }

    #[inline(always)]
    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// Takes `byte`, or says which fault it is that it is not there.
    #[inline(always)]
    fn take(&mut self, byte: u8, otherwise: Fault) -> Result<(), Fault> {
        match self.peek() {
            Some(found) if found == byte => {
                self.at += 1;
                Ok(())
            }
            Some(_) => Err(otherwise),
            None => Err(Fault::Truncated),
        }
    }

    fn word(&mut self, word: &[u8]) -> bool {
        let found = self.rest().starts_with(word);
        if found {
            self.at += word.len();
        }
        found
    }

    /// Steps over a comma to the next value, or over `close` out of the array or object.
    #[inline(always)]
    fn step(&mut self, items: &mut Items, close: u8) -> Result<bool, Fault> {
        self.space();
        match self.peek() {
            Some(byte) if byte == close => {
                self.at += 1;
                return Ok(false);
            }
            Some(b',') if !items.first => {
                self.at += 1;
                self.space();
            }
            Some(_) if items.first => items.first = false,
            Some(_) => return Err(Fault::Structure),
            None => return Err(Fault::Truncated),
        }
        Ok(true)
    }

    /// A text; of the two ways on, an escape is the rare one.
    #[inline(always)]
    fn string(&mut self) -> Result<Cow<'a, [u8]>, Fault> {
        self.take(b'"', Fault::NotText)?;
        let start = self.at;
        loop {
            match self.peek() {
                Some(b'"') => {
                    let text = &self.frame[start..self.at];
                    self.at += 1;
                    return Ok(Cow::Borrowed(text));
                }
                Some(b'\\') => return self.unescape(start).map(Cow::Owned),
                Some(0..0x20) => return Err(Fault::BadText),
                Some(_) => self.at += 1,
                None => return Err(Fault::Truncated),
            }
        }
    }

    /// The rest of a text that began at `start` and has its first escape here.
    #[cold]
    fn unescape(&mut self, start: usize) -> Result<Vec<u8>, Fault> {
        let mut text = self.frame[start..self.at].to_vec();
        loop {
            let byte = self.peek().ok_or(Fault::Truncated)?;
            self.at += 1;
            match byte {
                b'"' => return Ok(text),
                0..0x20 => return Err(Fault::BadText),
                b'\\' => {}
                _ => {
                    text.push(byte);
                    continue;
                }
            }
            let escape = self.peek().ok_or(Fault::Truncated)?;
            self.at += 1;
            text.push(match escape {
                b'"' | b'\\' | b'/' => escape,
                b'b' => 0x08,
                b'f' => 0x0c,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'u' => {
                    let letter = self.escaped_letter()?;
                    text.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                    continue;
                }
                _ => return Err(Fault::BadText),
            });
        }
    }

    /// The letter of one `\u` escape, or of two that make a surrogate pair.
    fn escaped_letter(&mut self) -> Result<char, Fault> {
        let unit = self.four_hex_digits()?;
        if !(0xd800..0xdc00).contains(&unit) || !self.rest().starts_with(b"\\u") {
            return Ok(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        let here = self.at;
        self.at += 2;
        let second = self.four_hex_digits()?;
        if (0xdc00..0xe000).contains(&second) {
            let letter = 0x10000 + ((unit - 0xd800) << 10) + (second - 0xdc00);
            return Ok(char::from_u32(letter).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        self.at = here;
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn four_hex_digits(&mut self) -> Result<u32, Fault> {
        let digits = self.rest().first_chunk::<4>().ok_or(Fault::Truncated)?;
        let mut unit = 0;
        for digit in digits {
            unit = unit << 4 | char::from(*digit).to_digit(16).ok_or(Fault::BadText)?;
        }
        self.at += 4;
        Ok(unit)
    }

    /// Steps over a text whatever it holds.
    fn skip_string(&mut self) -> Result<(), Fault> {
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.at += 2,
                Some(_) => self.at += 1,
                None => return Err(Fault::Truncated),
            }
        }
    }

    /// Steps over a number, a word such as `true`, or whatever else stands between two separators.
    fn skip_word(&mut self) -> Result<(), Fault> {
        let is_word = |byte: &u8| !matches!(byte, b',' | b':' | b'"' | b'[' | b']' | b'{' | b'}' | 0..=b' ');
        match self.rest().iter().take_while(|byte| is_word(byte)).count() {
            0 if self.rest().is_empty() => Err(Fault::Truncated),
            0 => Err(Fault::Structure),
            len => {
                self.at += len;
                Ok(())
            }
        }
    }
}

impl<'a> Reader<'a> for Json<'a> {
    const CODEC: Codec = Codec::Json;
    type Items = Items;
    type Usual = usual::json::Json;

    fn frame(&self) -> &'a [u8] {
        self.frame
    }

    #[inline]
    fn position(&self) -> usize {
        self.at
    }

    fn rewind(&mut self, position: usize) {
        self.at = position;
    }

    fn end(&mut self) -> Result<(), Fault> {
        self.space();
        if self.peek().is_some() { Err(Fault::Trailing) } else { Ok(()) }
    }

    fn at_object(&mut self) -> bool {
        self.peek() == Some(b'{')
    }

    #[inline(always)]
    fn at_text(&mut self) -> bool {
        self.peek() == Some(b'"')
    }

    #[inline(always)]
    fn null(&mut self) -> bool {
        self.peek() == Some(b'n') && self.word(b"null")
    }

    #[inline]
    fn array(&mut self) -> Result<Items, Fault> {
        self.take(b'[', Fault::NotArray)?;
        Ok(Items { first: true })
    }

    #[inline]
    fn item(&mut self, items: &mut Items) -> Result<bool, Fault> {
        self.step(items, b']')
    }

    #[inline]
    fn object(&mut self) -> Result<Items, Fault> {
        self.take(b'{', Fault::NotObject)?;
        Ok(Items { first: true })
    }

    #[inline(always)]
    fn key(&mut self, items: &mut Items) -> Result<Option<Key>, Fault> {
        if !self.step(items, b'}')? {
            return Ok(None);
        }
        if !self.at_text() {
            return Err(Fault::Structure);
        }
        let key = Key::pack(&self.string()?);
        self.space();
        self.take(b':', Fault::Structure)?;
        self.space();
        Ok(Some(key))
    }

    #[inline(always)]
    fn bytes(&mut self) -> Result<Cow<'a, [u8]>, Fault> {
        self.string()
    }

    #[inline(always)]
    fn number(&mut self) -> Result<f64, Fault> {
        let (number, len) = number::number(self.rest())?;
        self.at += len;
        Ok(number)
    }

    #[inline]
    fn whole(&mut self) -> Result<u64, Fault> {
        let (whole, len) = number::whole(self.rest())?;
        self.at += len;
        Ok(whole)
    }

    fn boolean(&mut self) -> Result<bool, Fault> {
        if self.word(b"true") {
            Ok(true)
        } else if self.word(b"false") {
            Ok(false)
        } else {
            Err(Fault::NotBoolean)
        }
    }

    #[inline]
    fn time(&mut self) -> Result<i64, Fault> {
        if !self.at_text() {
            return Err(Fault::NotTime);
        }
        time::from_rfc3339(&self.string()?)
    }

    fn skip(&mut self) -> Result<(), Fault> {
        /// Deepest nesting that is followed: one bit of `squares` each.
        const DEPTH_MAX: u32 = u128::BITS;
        let (mut depth, mut squares) = (0, 0_u128);
        loop {
            self.space();
            match self.peek().ok_or(Fault::Truncated)? {
                b'"' => self.skip_string()?,
                open @ (b'[' | b'{') => {
                    if depth == DEPTH_MAX {
                        return Err(Fault::Depth);
                    }
                    depth += 1;
                    squares = squares << 1 | u128::from(open == b'[');
                    self.at += 1;
                }
                close @ (b']' | b'}') => {
                    if depth == 0 || (squares & 1 == 1) != (close == b']') {
                        return Err(Fault::Structure);
                    }
                    depth -= 1;
                    squares >>= 1;
                    self.at += 1;
                }
                b',' | b':' if depth > 0 => self.at += 1,
                _ => self.skip_word()?,
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str) -> Result<String, Fault> {
        Json::new(json.as_bytes()).text()
    }

    #[test]
    fn escapes_become_what_they_stand_for() {
        let check = |json: &str, expected: &str| assert_eq!(text(json).as_deref(), Ok(expected), "{json}");
        check(r#""plain""#, "plain");
        check(r#""""#, "");
        check(r#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{c}\n\r\t");
        check(r#""a\u0041\u00e9\u20AC\ud83d\ude00z""#, "aAé€😀z");
        check(r#""\ud83d""#, "\u{fffd}");
        check(r#""\ude00x""#, "\u{fffd}x");
        check(r#""\ud83d\u0041""#, "\u{fffd}A");
        check(r#""\ud83d\n""#, "\u{fffd}\n");
        check("\"€ \u{1f600}\"", "€ \u{1f600}");
    }

    #[test]
    fn broken_texts_are_refused() {
        let check = |json: &str, expected| assert_eq!(text(json), Err(expected), "{json}");
        check("\"open", Fault::Truncated);
        check("\"open\\", Fault::Truncated);
        check(r#""\u12"#, Fault::Truncated);
        check(r#""\u12x4""#, Fault::BadText);
        check(r#""\x""#, Fault::BadText);
        check("\"a\nb\"", Fault::BadText);
        check("\"\\n\u{1}\"", Fault::BadText);
        check("12", Fault::NotText);
        assert_eq!(Json::new(b"\"\xff\"").text(), Err(Fault::NotUtf8));
    }

    #[test]
    fn skip_takes_exactly_one_value() {
        for value in [
            "1",
            "-1.5e3",
            "NaN",
            "true",
            "null",
            r#""a\"b""#,
            r#""\\""#,
            "[]",
            "{}",
            "[[{}],[]]",
            r#"{"a":[1,{"b":"]}"}],"c":null}"#,
            "{ \"a\" : [ 1 , 2 ] }",
            r#"{"T":"t" nonsense: 1,,}"#,
        ] {
            let frame = format!("{value},next");
            let mut json = Json::new(frame.as_bytes());
            assert_eq!((json.skip(), json.position()), (Ok(()), value.len()), "{value}");
        }
    }

    #[test]
    fn skip_sees_broken_structure() {
        let check =
            |json: &str, expected| assert_eq!(Json::new(json.as_bytes()).skip(), Err(expected), "{json}");
        check("", Fault::Truncated);
        check("[", Fault::Truncated);
        check(r#"{"a":"b}"#, Fault::Truncated);
        check("[}", Fault::Structure);
        check("{]", Fault::Structure);
        check(",", Fault::Structure);
        check("]", Fault::Structure);
        check("[\u{1}]", Fault::Structure);
        check(&"[".repeat(1000), Fault::Depth);
        let deepest = format!("{}{}", "[".repeat(128), "]".repeat(128));
        assert_eq!(Json::new(deepest.as_bytes()).skip(), Ok(()));
    }
}
