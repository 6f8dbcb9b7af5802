//! A decoder's own memory of which id each symbol has, so that the shared table is asked once per name.
//!
//! Names of at most 24 bytes, which is all of them (an option contract has 21), are kept as three words in an open
//! table: finding one compares integers in one cache line and takes no lock.

use std::sync::Arc;

use super::reader::Fault;
use crate::symbol::{SymbolId, Symbols};

/// Longest name that is taken for a symbol, in bytes.
const NAME_LEN_MAX: usize = 64;

/// A name's bytes, lowest first, filled up with zeros, and its length.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
struct Packed {
    words: [u64; 3],
    len: u32,
}

#[derive(Copy, Clone, Debug)]
struct Slot {
    name: Packed,
    id: SymbolId,
}

const FREE: Slot = Slot { name: Packed { words: [0; 3], len: 0 }, id: SymbolId(0) };

/// Ids by name, with the shared table behind it.
#[derive(Debug)]
pub(super) struct Names {
    symbols: Arc<Symbols>,
    /// A power of two, at most half of them taken; a free one has a name of length 0.
    slots: Vec<Slot>,
    taken: usize,
}

impl Names {
    pub(super) fn new(symbols: Arc<Symbols>) -> Self {
        Self { symbols, slots: vec![FREE; 1024], taken: 0 }
    }

    /// The id of `name`.
    #[inline]
    pub(super) fn id(&mut self, name: &[u8]) -> Result<SymbolId, Fault> {
        let Some(packed) = Packed::new(name) else { return self.intern(name) };
        let mut at = self.home(packed);
        loop {
            let slot = self.slots[at];
            if slot.name == packed {
                return Ok(slot.id);
            }
            if slot.name.len == 0 {
                return self.learn(name, packed);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    #[cold]
    fn learn(&mut self, name: &[u8], packed: Packed) -> Result<SymbolId, Fault> {
        let id = self.intern(name)?;
        self.taken += 1;
        if self.taken * 2 > self.slots.len() {
            let larger = vec![FREE; self.slots.len() * 2];
            for slot in
                std::mem::replace(&mut self.slots, larger).into_iter().filter(|slot| slot.name.len > 0)
            {
                self.put(slot);
            }
        }
        self.put(Slot { name: packed, id });
        Ok(id)
    }

    fn put(&mut self, slot: Slot) {
        let mut at = self.home(slot.name);
        while self.slots[at].name.len > 0 {
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = slot;
    }

    #[cold]
    fn intern(&self, name: &[u8]) -> Result<SymbolId, Fault> {
        if name.is_empty() || name.len() > NAME_LEN_MAX {
            return Err(Fault::BadSymbol);
        }
        let name = str::from_utf8(name).map_err(|_| Fault::NotUtf8)?;
        self.symbols.intern(name).ok_or(Fault::SymbolsFull)
    }

    /// Where the search for a name begins.
    #[inline]
    fn home(&self, name: Packed) -> usize {
        let [a, b, c] = name.words;
        // Odd constants spread names that differ in one letter; the high bits of a product depend on all lower ones.
        let mixed = (a ^ b.rotate_left(23) ^ c.rotate_left(41)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32) as usize & (self.slots.len() - 1)
    }
}

impl Packed {
    #[inline]
    fn new(name: &[u8]) -> Option<Self> {
        let len = name.len();
        let words = match len {
            0 => return None,
            1..=8 => [word(name), 0, 0],
            9..=16 => [word(&name[..8]), word(&name[8..]), 0],
            17..=24 => [word(&name[..8]), word(&name[8..16]), word(&name[16..])],
            _ => return None,
        };
        Some(Self { words, len: len as u32 })
    }
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
    fn what_is_no_symbol_is_refused() {
        let mut names = Names::new(Symbols::new());
        assert_eq!(names.id(b""), Err(Fault::BadSymbol));
        assert_eq!(names.id(&[b'A'; 65]), Err(Fault::BadSymbol));
        assert_eq!(names.id(b"\xff"), Err(Fault::NotUtf8));
        assert!(names.id(&[b'A'; 64]).is_ok());
    }
}
