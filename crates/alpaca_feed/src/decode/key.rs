//! Wire names as one number each, so that a field is found by comparing integers instead of texts.
//!
//! Hot messages have names of one or two bytes; the longer ones are few, rare and looked up in a list.

use std::fmt;

/// Names of more than four bytes; those of channels are read as keys too.
const LONG: [&str; 22] = [
    "author",
    "content",
    "created_at",
    "error",
    "headline",
    "source",
    "subscription",
    "success",
    "summary",
    "symbols",
    "updated_at",
    "cancelErrors",
    "corrections",
    "dailyBars",
    "imbalances",
    "lulds",
    "orderbooks",
    "pricing",
    "quotes",
    "statuses",
    "trades",
    "updatedBars",
];

/// A name: itself where it has at most four bytes, the first lowest, else its place in [`LONG`].
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) struct Key(u32);

impl Key {
    /// A name that none of ours equals.
    pub(super) const OTHER: Self = Self(u32::MAX);

    /// Above every name of four bytes: no text has a byte of 0xff.
    const LONG_BASE: u32 = 0xff00_0000;

    /// The key of a name of ours, at compile time, where a long one that is not listed fails to compile.
    pub(super) const fn new(name: &str) -> Self {
        let key = Self::pack(name.as_bytes());
        assert!(key.0 != Self::OTHER.0, "the name is not in the list of long ones");
        key
    }

    /// The key of `name`; any bytes are taken.
    #[inline(always)]
    pub(super) const fn pack(name: &[u8]) -> Self {
        match *name {
            [a] => Self(u32::from_le_bytes([a, 0, 0, 0])),
            // A last byte of zero would make two names one, and one of 0xff could pass for a long name.
            [] | [.., 0 | 0xff] => Self::OTHER,
            [a, b] => Self(u32::from_le_bytes([a, b, 0, 0])),
            [a, b, c] => Self(u32::from_le_bytes([a, b, c, 0])),
            [a, b, c, d] => Self(u32::from_le_bytes([a, b, c, d])),
            _ => Self::long(name),
        }
    }

    const fn long(name: &[u8]) -> Self {
        let mut at = 0;
        while at < LONG.len() {
            if is_same(LONG[at].as_bytes(), name) {
                return Self(Self::LONG_BASE + at as u32);
            }
            at += 1;
        }
        Self::OTHER
    }
}

/// Whether two texts are one; `==` is not for compile time yet.
const fn is_same(one: &[u8], other: &[u8]) -> bool {
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::OTHER {
            return f.write_str("…");
        }
        if let Some(name) = self.0.checked_sub(Self::LONG_BASE).and_then(|at| LONG.get(at as usize)) {
            return f.write_str(name);
        }
        let bytes = self.0.to_le_bytes();
        let len = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        write!(f, "{}", bytes[..len].escape_ascii())
    }
}

pub(super) const TAG: Key = Key::new("T");
pub(super) const SYMBOL: Key = Key::new("S");
pub(super) const A: Key = Key::new("a");
pub(super) const AP: Key = Key::new("ap");
pub(super) const AS: Key = Key::new("as");
pub(super) const AT: Key = Key::new("at");
pub(super) const AUTHOR: Key = Key::new("author");
pub(super) const AX: Key = Key::new("ax");
pub(super) const B: Key = Key::new("b");
pub(super) const BP: Key = Key::new("bp");
pub(super) const BS: Key = Key::new("bs");
pub(super) const BX: Key = Key::new("bx");
pub(super) const C: Key = Key::new("c");
pub(super) const CC: Key = Key::new("cc");
pub(super) const CI: Key = Key::new("ci");
pub(super) const CODE: Key = Key::new("code");
pub(super) const CONTENT: Key = Key::new("content");
pub(super) const CP: Key = Key::new("cp");
pub(super) const CREATED_AT: Key = Key::new("created_at");
pub(super) const CS: Key = Key::new("cs");
pub(super) const D: Key = Key::new("d");
pub(super) const ERROR: Key = Key::new("error");
pub(super) const FR: Key = Key::new("fr");
pub(super) const FT: Key = Key::new("ft");
pub(super) const H: Key = Key::new("h");
pub(super) const HEADLINE: Key = Key::new("headline");
pub(super) const I: Key = Key::new("i");
pub(super) const ID: Key = Key::new("id");
pub(super) const IP: Key = Key::new("ip");
pub(super) const IS: Key = Key::new("is");
pub(super) const L: Key = Key::new("l");
pub(super) const MP: Key = Key::new("mp");
pub(super) const MSG: Key = Key::new("msg");
pub(super) const N: Key = Key::new("n");
pub(super) const O: Key = Key::new("o");
pub(super) const OC: Key = Key::new("oc");
pub(super) const OI: Key = Key::new("oi");
pub(super) const OP: Key = Key::new("op");
pub(super) const OS: Key = Key::new("os");
pub(super) const P: Key = Key::new("p");
pub(super) const PS: Key = Key::new("ps");
pub(super) const Q: Key = Key::new("q");
pub(super) const R: Key = Key::new("r");
pub(super) const RC: Key = Key::new("rc");
pub(super) const RM: Key = Key::new("rm");
pub(super) const S: Key = Key::new("s");
pub(super) const SC: Key = Key::new("sc");
pub(super) const SIDE: Key = Key::new("side");
pub(super) const SM: Key = Key::new("sm");
pub(super) const SOURCE: Key = Key::new("source");
pub(super) const SUBSCRIPTION: Key = Key::new("subscription");
pub(super) const SUCCESS: Key = Key::new("success");
pub(super) const SUMMARY: Key = Key::new("summary");
pub(super) const SYMBOLS: Key = Key::new("symbols");
pub(super) const T: Key = Key::new("t");
pub(super) const TKS: Key = Key::new("tks");
pub(super) const U: Key = Key::new("u");
pub(super) const UPDATED_AT: Key = Key::new("updated_at");
pub(super) const URL: Key = Key::new("url");
pub(super) const V: Key = Key::new("v");
pub(super) const VW: Key = Key::new("vw");
pub(super) const X: Key = Key::new("x");
pub(super) const Z: Key = Key::new("z");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_names_have_different_keys() {
        let short = ["t", "T", "bx", "xb", "b", "msg", "code", "bars", "t\0x", "a\0b"];
        let names: Vec<_> = short.iter().chain(&LONG).collect();
        for (n, one) in names.iter().enumerate() {
            for (m, other) in names.iter().enumerate() {
                assert_eq!(Key::new(one) == Key::new(other), n == m, "{one:?} {other:?}");
            }
            assert_eq!(Key::new(one).to_string().contains('\\'), one.contains('\0'));
        }
    }

    #[test]
    fn names_that_are_not_ours_are_never_taken_for_ours() {
        for name in [
            &b""[..],
            b"t\0",
            b"bx\0",
            b"\0\0\0\xff",
            b"\x01\0\0\xff",
            b"cancelError",
            b"cancelErrorsX",
            b"Quotes",
        ] {
            assert!(Key::pack(name) == Key::OTHER, "{name:?}");
        }
    }

    #[test]
    fn a_key_shows_its_name() {
        for name in ["t", "bx", "bars", "cancelErrors"] {
            assert_eq!(Key::new(name).to_string(), name);
        }
        assert_eq!(Key::OTHER.to_string(), "…");
    }
}
