//! Short texts inside the hot messages, without a heap: letters of venues and lists of one-letter conditions.
//!
//! Both are views of at most eight bytes. What does not fit is not cut: the decoder then emits the message as
//! [`Wide`](super::Wide), which keeps the full text beside it.

use std::fmt;

/// A text of at most four bytes, such as an exchange letter or a tape; empty where the message had none.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Default)]
pub struct Code([u8; 4]);

impl Code {
    /// The code of `text`, or `None` where it is longer than four bytes or holds a NUL.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let mut bytes = [0; 4];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        (!text.contains('\0')).then_some(Self(bytes))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let len = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        // Both constructors took whole, valid texts.
        str::from_utf8(&self.0[..len]).unwrap_or_default()
    }

    /// The bytes as one number, the first lowest, zeros above.
    #[must_use]
    #[inline]
    pub fn bits(self) -> u32 {
        u32::from_le_bytes(self.0)
    }

    /// Whether the message had none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }

    /// The code of one ASCII letter; `None` for other bytes and NUL.
    pub(crate) fn from_ascii(letter: u8) -> Option<Self> {
        (letter != 0 && letter.is_ascii()).then_some(Self([letter, 0, 0, 0]))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Up to eight condition codes of one ASCII character each, in the order of the wire; a space is a code too.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Default)]
pub struct Conditions([u8; 8]);

impl Conditions {
    /// Most codes it takes; the SIPs send at most four.
    pub const LEN_MAX: usize = 8;

    /// Adds a code after the others; false, and nothing added, where it does not fit.
    #[must_use]
    pub fn push(&mut self, code: &str) -> bool {
        match *code.as_bytes() {
            [letter] => self.push_letter(letter),
            _ => false,
        }
    }

    /// As [`Self::push`] for a code of one byte; false for NUL and for bytes beyond ASCII.
    #[inline]
    pub(crate) fn push_letter(&mut self, letter: u8) -> bool {
        let len = self.len();
        let fits = letter != 0 && letter.is_ascii() && len < Self::LEN_MAX;
        if fits {
            self.0[len] = letter;
        }
        fits
    }

    /// How many codes there are.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        // No code is zero, so the codes end where the zeros above them begin.
        (u64::BITS - u64::from_le_bytes(self.0).leading_zeros()).div_ceil(u8::BITS) as usize
    }

    /// The codes as one number, the first lowest, zeros above.
    #[must_use]
    #[inline]
    pub fn bits(self) -> u64 {
        u64::from_le_bytes(self.0)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0[0] == 0
    }

    /// The codes joined without a separator: `" FTI"` for `[" ","F","T","I"]`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only ASCII gets in.
        str::from_utf8(&self.0[..self.len()]).unwrap_or_default()
    }

    /// The codes one by one.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.as_str().split_inclusive(|_: char| true)
    }
}

impl fmt::Debug for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_code_gives_back_what_it_took() {
        for text in ["", "V", "N ", "ERSX", "é", " "] {
            let code = Code::new(text).unwrap();
            assert_eq!((code.as_str(), code.is_empty()), (text, text.is_empty()));
        }
        for text in ["CBSE1", "a\0", "\0", "ééé"] {
            assert_eq!(Code::new(text), None, "{text:?}");
        }
        assert_eq!(Code::from_ascii(b'V'), Code::new("V"));
        assert_eq!((Code::from_ascii(0), Code::from_ascii(0xe9)), (None, None));
    }

    #[test]
    fn conditions_keep_order_and_spaces_and_refuse_what_does_not_fit() {
        let mut conditions = Conditions::default();
        for code in [" ", "F", "T", "I", "@", "4", "7"] {
            assert!(conditions.push(code));
        }
        for code in ["", "AB", "é", "\0"] {
            assert!(!conditions.push(code), "{code:?}");
        }
        assert!(conditions.push("9") && !conditions.push("X"));
        assert_eq!(conditions.as_str(), " FTI@479");
        assert_eq!(conditions.iter().collect::<Vec<_>>(), [" ", "F", "T", "I", "@", "4", "7", "9"]);
        assert!(Conditions::default().is_empty() && Conditions::default().iter().next().is_none());
    }
}
