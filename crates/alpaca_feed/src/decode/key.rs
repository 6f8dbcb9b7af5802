//! Wire names as one number each, so that a field is found by comparing integers instead of texts.

use std::fmt;

/// A name of at most 16 bytes, its first byte lowest; longer names are all [`Key::OTHER`].
#[derive(Copy, Clone, Eq, PartialEq)]
pub(super) struct Key(u128);

impl Key {
    /// A name that none of ours equals. It cannot be packed by accident: 0xff is never part of a text.
    pub(super) const OTHER: Self = Self(u128::MAX);

    /// The key of a name known at compile time.
    pub(super) const fn new(name: &str) -> Self {
        Self::pack(name.as_bytes())
    }

    /// The key of `name`; any bytes are taken.
    #[inline]
    pub(super) const fn pack(name: &[u8]) -> Self {
        match name {
            [a] => Self(*a as u128),
            // A last byte of zero would make two names one.
            [.., 0] => Self::OTHER,
            [a, b] => Self(*a as u128 | (*b as u128) << 8),
            _ if name.len() > 16 => Self::OTHER,
            _ => {
                let mut packed = 0;
                let mut at = name.len();
                while at > 0 {
                    at -= 1;
                    packed = packed << 8 | name[at] as u128;
                }
                Self(packed)
            }
        }
    }
}

impl fmt::Display for Key {
    /// The name again; of one that is not ours only what is left of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::OTHER {
            return f.write_str("…");
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
        let names: [&[u8]; 12] = [
            b"",
            b"t",
            b"T",
            b"bx",
            b"xb",
            b"b",
            b"msg",
            b"cancelErrors",
            b"cancelError",
            b"t\0x",
            b"sixteen bytes ok",
            b"a\0b",
        ];
        for (n, one) in names.iter().enumerate() {
            for (m, other) in names.iter().enumerate() {
                assert_eq!(Key::pack(one) == Key::pack(other), n == m, "{one:?} {other:?}");
            }
        }
        for name in [&b"t\0"[..], b"bx\0", b"seventeen bytes no"] {
            assert!(Key::pack(name) == Key::OTHER, "{name:?}");
        }
    }

    #[test]
    fn a_key_shows_its_name() {
        for name in ["", "t", "bx", "cancelErrors"] {
            assert_eq!(Key::new(name).to_string(), name);
        }
    }
}
