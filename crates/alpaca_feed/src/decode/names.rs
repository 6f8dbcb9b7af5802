//! A decoder's own memory: which id each symbol has, so that the shared table is asked once per name, and the minute of
//! the last time that was read as text, so that only its seconds are read anew.
//!
//! Names of at most 24 bytes, which is all of them (an option contract has 21), are kept as one or three words in open
//! tables: finding one compares integers in one cache line and takes no lock.

use std::sync::Arc;

use super::reader::Fault;
use super::time::Minute;
use crate::symbol::{SymbolId, Symbols};

/// Longest name that is taken for a symbol, in bytes.
const NAME_LEN_MAX: usize = 64;

/// Ids by name, with the shared table behind it.
#[derive(Debug)]
pub(super) struct Names {
    symbols: Arc<Symbols>,
    /// Plain names of at most eight bytes.
    short: Table<u64>,
    /// The others, with their lengths: they may hold zeros.
    long: Table<([u64; 3], u32)>,
    pub(super) minute: Minute,
}

impl Names {
    pub(super) fn new(symbols: Arc<Symbols>) -> Self {
        Self { symbols, short: Table::new(), long: Table::new(), minute: Minute::default() }
    }

    /// The id of `name`.
    #[inline]
    pub(super) fn id(&mut self, name: &[u8]) -> Result<SymbolId, Fault> {
        let Some(words) = words(name) else { return self.intern(name) };
        let known = match words {
            ([short, 0, 0], _) if !name.ends_with(&[0]) => self.short.find(short),
            _ => None,
        };
        match known.or_else(|| self.long.find(words)) {
            Some(id) => Ok(id),
            None => self.learn(name, words),
        }
    }

    /// The id of a plain name of at most eight bytes that was seen before, by its bytes, the first lowest. A text in
    /// JSON whose bytes are those of a plain name has no escapes in it.
    #[inline(always)]
    pub(super) fn known(&self, name: u64) -> Option<SymbolId> {
        self.short.find(name)
    }

    #[cold]
    fn learn(&mut self, name: &[u8], words: ([u64; 3], u32)) -> Result<SymbolId, Fault> {
        let id = self.intern(name)?;
        let is_plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
        if name.len() <= 8 && name.iter().all(is_plain) {
            self.short.add(words.0[0], id);
        } else {
            self.long.add(words, id);
        }
        Ok(id)
    }

    #[cold]
    fn intern(&self, name: &[u8]) -> Result<SymbolId, Fault> {
        if name.is_empty() || name.len() > NAME_LEN_MAX {
            return Err(Fault::BadSymbol);
        }
        let name = str::from_utf8(name).map_err(|_| Fault::NotUtf8)?;
        self.symbols.intern(name).ok_or(Fault::SymbolsFull)
    }
}

/// What an open table has for a key.
trait Hash: Copy + Eq {
    /// No name has it.
    const FREE: Self;

    /// Good in its high 32 bits.
    fn hash(self) -> u64;
}

impl Hash for u64 {
    const FREE: Self = 0;

    #[inline(always)]
    fn hash(self) -> u64 {
        // An odd constant spreads names that differ in one letter; the high bits of a product depend on all lower ones.
        self.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

impl Hash for ([u64; 3], u32) {
    const FREE: Self = ([0; 3], 0);

    #[inline]
    fn hash(self) -> u64 {
        let [a, b, c] = self.0;
        (a ^ b.rotate_left(23) ^ c.rotate_left(41)).hash()
    }
}

/// An open table.
#[derive(Debug)]
struct Table<K> {
    /// A power of two, at most half of them taken.
    slots: Vec<(K, SymbolId)>,
    taken: usize,
}

impl<K: Hash> Table<K> {
    fn new() -> Self {
        Self { slots: vec![(K::FREE, SymbolId(0)); 1024], taken: 0 }
    }

    #[inline(always)]
    fn find(&self, key: K) -> Option<SymbolId> {
        let mask = self.slots.len() - 1;
        let mut at = (key.hash() >> 32) as usize;
        loop {
            let (found, id) = self.slots[at & mask];
            if found == K::FREE {
                return None;
            }
            if found == key {
                return Some(id);
            }
            at += 1;
        }
    }

    /// Adds a key that is not there.
    fn add(&mut self, key: K, id: SymbolId) {
        self.taken += 1;
        if self.taken * 2 > self.slots.len() {
            let larger = vec![(K::FREE, SymbolId(0)); self.slots.len() * 2];
            for (key, id) in std::mem::replace(&mut self.slots, larger) {
                if key != K::FREE {
                    self.put(key, id);
                }
            }
        }
        self.put(key, id);
    }

    fn put(&mut self, key: K, id: SymbolId) {
        let mask = self.slots.len() - 1;
        let mut at = (key.hash() >> 32) as usize & mask;
        while self.slots[at].0 != K::FREE {
            at = (at + 1) & mask;
        }
        self.slots[at] = (key, id);
    }
}

/// A name's bytes, lowest first, filled up with zeros, and its length; none for one that is empty or too long.
#[inline]
fn words(name: &[u8]) -> Option<([u64; 3], u32)> {
    let words = match name.len() {
        1..=8 => [word(name), 0, 0],
        9..=16 => [word(&name[..8]), word(&name[8..]), 0],
        17..=24 => [word(&name[..8]), word(&name[8..16]), word(&name[16..])],
        _ => return None,
    };
    Some((words, name.len() as u32))
}

/// At most eight bytes as a number, the first lowest.
#[inline]
fn word(bytes: &[u8]) -> u64 {
    match *bytes {
        [a] => u64::from(a),
        [a, b] => u64::from(u16::from_le_bytes([a, b])),
        [a, b, c] => u64::from(u32::from_le_bytes([a, b, c, 0])),
        _ => match (bytes.first_chunk(), bytes.last_chunk()) {
            // Two reads of four bytes cover four to eight; where they overlap they agree.
            (Some(first), Some(last)) => {
                let high = u64::from(u32::from_le_bytes(*last)) << (8 * (bytes.len() - 4));
                u64::from(u32::from_le_bytes(*first)) | high
            }
            _ => 0,
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_of_every_length_keep_apart() {
        let symbols = Symbols::new();
        let mut names = Names::new(Arc::clone(&symbols));
        let longest = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/-";
        for round in 0..2 {
            for len in 1..=longest.len() {
                for changed in 0..len {
                    let mut name = longest.as_bytes()[..len].to_vec();
                    name[changed] = b'.';
                    let id = names.id(&name).unwrap();
                    assert_eq!(symbols.name(id).as_bytes(), name, "round {round}");
                }
            }
        }
        assert_eq!(symbols.len(), 64 * 65 / 2);
    }

    #[test]
    fn thousands_of_names_are_found_again_after_the_table_grew() {
        let symbols = Symbols::new();
        let mut names = Names::new(Arc::clone(&symbols));
        let all: Vec<String> = (0..20_000).map(|n| format!("S{n}")).collect();
        let ids: Vec<_> = all.iter().map(|name| names.id(name.as_bytes()).unwrap()).collect();
        assert_eq!(symbols.len(), all.len());
        assert!(all.iter().zip(ids).all(|(name, id)| names.id(name.as_bytes()) == Ok(id)));
    }

    #[test]
    fn names_that_are_not_plain_are_kept_apart_from_those_that_are() {
        let symbols = Symbols::new();
        let mut names = Names::new(Arc::clone(&symbols));
        let odd: [&[u8]; 7] = [b"AB", b"AB\0", b"A\\B", b"A\"B", b"A B", b"\0", b"AB\0\0\0\0\0\0\0"];
        for _ in 0..2 {
            for name in odd {
                let id = names.id(name).unwrap();
                assert_eq!(symbols.name(id).as_bytes(), name);
            }
        }
        assert_eq!(symbols.len(), odd.len());
        let known = |name: &[u8]| names.known(word(name)).is_some();
        assert_eq!(odd[2..5].iter().map(|name| known(name)).collect::<Vec<_>>(), [false; 3]);
        assert!(known(b"AB") && !known(b"ABC") && names.known(0).is_none());
    }

    #[test]
    fn what_is_no_symbol_is_refused() {
        let mut names = Names::new(Symbols::new());
        assert_eq!(names.id(b""), Err(Fault::BadSymbol));
        assert_eq!(names.id(&[b'A'; 65]), Err(Fault::BadSymbol));
        assert_eq!(names.id(b"\xff"), Err(Fault::NotUtf8));
        assert!(names.id(&[b'A'; 64]).is_ok());
    }
}
