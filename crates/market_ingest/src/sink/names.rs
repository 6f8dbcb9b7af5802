//! The names of symbols as every record carries them, remembered so that the shared table is asked once per name.

use std::sync::Arc;

use alpaca_feed::symbol::{SymbolId, Symbols};

use super::digits::put_cut;

/// Longer than any symbol of a stock, an option or a pair.
const SHORT_MAX: usize = 24;

/// A name that is cheap to append.
#[derive(Clone, Debug)]
pub(super) struct Name {
    /// Filled up with zeros.
    short: [u8; SHORT_MAX],
    len: usize,
    /// The whole text where it is not short.
    long: Option<Arc<str>>,
    /// Whether it stands in JSON as it is.
    pub(super) plain: bool,
}

impl Name {
    /// That of a record without a symbol.
    pub(super) const NONE: Self = Self { short: [0; SHORT_MAX], len: 0, long: None, plain: true };

    pub(super) fn new(text: &str) -> Self {
        let mut short = [0; SHORT_MAX];
        let len = text.len().min(SHORT_MAX);
        short[..len].copy_from_slice(&text.as_bytes()[..len]);
        let plain = !text.bytes().any(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
        Self { short, len, long: (text.len() > SHORT_MAX).then(|| text.into()), plain }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.long.as_ref().map_or(&self.short[..self.len], |long| long.as_bytes())
    }

    /// Appends it.
    #[inline]
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        match &self.long {
            None => put_cut(out, &self.short, self.len),
            Some(long) => out.extend_from_slice(long.as_bytes()),
        }
    }
}

/// The names of one table.
#[derive(Debug)]
pub(super) struct Names {
    symbols: Arc<Symbols>,
    known: Vec<Name>,
}

impl Names {
    /// Of this table.
    #[must_use]
    pub(super) fn new(symbols: Arc<Symbols>) -> Self {
        Self { symbols, known: Vec::new() }
    }

    /// The name of a symbol of the table; none is known by any other number.
    #[inline]
    pub(super) fn get(&mut self, id: Option<SymbolId>) -> &Name {
        let Some(id) = id else { return &Name::NONE };
        if id.index() >= self.known.len() {
            self.learn();
        }
        self.known.get(id.index()).unwrap_or(&Name::NONE)
    }

    #[cold]
    fn learn(&mut self) {
        let all = self.known.len()..self.symbols.len();
        let names = self.symbols.read();
        self.known.extend(all.map(|index| Name::new(&names[SymbolId(index as u32)])));
    }
}
