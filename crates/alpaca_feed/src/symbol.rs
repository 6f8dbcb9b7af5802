//! Symbol names interned once, so that everything behind the decoder carries four bytes instead of a string.
//!
//! Invariants: a name keeps its id for the life of the table; ids are dense from 0 in order of first sight; the table
//! never holds more than [`SYMBOLS_MAX`] names, so a venue that invents symbols cannot eat the memory.

use std::collections::BTreeMap;
use std::ops::Index;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// Most names a table takes: about 400 times the listed US stocks, and more than all listed option contracts.
pub const SYMBOLS_MAX: usize = 1 << 22;

/// The number a [`Symbols`] table gave to a name; meaningless for any other table.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Ord, PartialOrd, Debug)]
pub struct SymbolId(pub u32);

impl SymbolId {
    /// The id as an index into per-symbol state.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// An append-only table of names, shared by decoders and sinks.
///
/// A decoder asks once per new name and remembers the answer itself, so the lock is not on the path of a message.
#[derive(Debug, Default)]
pub struct Symbols {
    table: RwLock<Table>,
}

#[derive(Debug, Default)]
struct Table {
    names: Vec<Arc<str>>,
    ids: BTreeMap<Arc<str>, SymbolId>,
}

impl Symbols {
    /// An empty table.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The id of `name`, given now if it is new; `None` for a new name once the table holds [`SYMBOLS_MAX`].
    pub fn intern(&self, name: &str) -> Option<SymbolId> {
        if let Some(id) = self.find(name) {
            return Some(id);
        }
        // A push or an insert that panics leaves the table usable, so a poisoned lock is no reason to stop.
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = table.ids.get(name) {
            return Some(*id);
        }
        if table.names.len() >= SYMBOLS_MAX {
            return None;
        }
        let id = SymbolId(u32::try_from(table.names.len()).ok()?);
        let name: Arc<str> = name.into();
        table.names.push(Arc::clone(&name));
        table.ids.insert(name, id);
        Some(id)
    }

    /// The id of `name` if it was interned before.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<SymbolId> {
        self.read().table.ids.get(name).copied()
    }

    /// The name of `id`.
    ///
    /// # Panics
    /// If this table never gave `id` out, as indexing a slice does.
    #[must_use]
    pub fn name(&self, id: SymbolId) -> Arc<str> {
        Arc::clone(&self.read().table.names[id.index()])
    }

    /// The names for reading many at once, such as for one batch; new names wait while it is held, so drop it soon.
    #[must_use]
    pub fn read(&self) -> SymbolNames<'_> {
        SymbolNames { table: self.table.read().unwrap_or_else(PoisonError::into_inner) }
    }

    /// How many names the table holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.read().table.names.len()
    }

    /// Whether no name was interned yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A read lock on a [`Symbols`] table, indexed by [`SymbolId`].
#[derive(Debug)]
pub struct SymbolNames<'a> {
    table: RwLockReadGuard<'a, Table>,
}

impl Index<SymbolId> for SymbolNames<'_> {
    type Output = str;

    /// # Panics
    /// If the table never gave `id` out.
    fn index(&self, id: SymbolId) -> &str {
        &self.table.names[id.index()]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_keeps_its_id_and_an_id_its_name() {
        let symbols = Symbols::new();
        let spy = symbols.intern("SPY").unwrap();
        let btc = symbols.intern("BTC/USD").unwrap();
        assert_eq!((spy, btc), (SymbolId(0), SymbolId(1)));
        assert_eq!(symbols.intern("SPY"), Some(spy));
        assert_eq!((symbols.find("BTC/USD"), symbols.find("btc/usd")), (Some(btc), None));
        assert_eq!(&*symbols.name(btc), "BTC/USD");
        assert_eq!(&symbols.read()[spy], "SPY");
        assert_eq!(symbols.len(), 2);
    }

    #[test]
    fn threads_agree_on_every_id() {
        let symbols = Symbols::new();
        let ids = |_| (0..500).map(|n| symbols.intern(&format!("S{n}")).unwrap()).collect::<Vec<_>>();
        let all: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|n| scope.spawn(move || ids(n))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(all.iter().all(|ids| ids == &all[0]));
        assert_eq!(symbols.len(), 500);
    }

    #[test]
    fn a_full_table_refuses_new_names_and_still_knows_the_old() {
        let symbols = Symbols::new();
        let name: Arc<str> = "FILLER".into();
        symbols.table.write().unwrap().names = vec![name; SYMBOLS_MAX - 1];
        let last = symbols.intern("LAST");
        assert_eq!(last.map(SymbolId::index), Some(SYMBOLS_MAX - 1));
        assert_eq!(symbols.intern("ONE TOO MANY"), None);
        assert_eq!(symbols.intern("LAST"), last);
    }
}
