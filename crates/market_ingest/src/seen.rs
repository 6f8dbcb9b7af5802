//! Every symbol that was ever seen, kept in the store: a gap of `*` is asked for by names, also by a process that has
//! just begun and has seen nothing yet.
//!
//! Invariant: [`Seen::covers`] is true only of symbols that are in the store, so that a mark which waits for it never
//! lies behind a symbol that a successor would not ask for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alpaca_feed::symbol::{SymbolId, Symbols};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::lease::Fence;
use crate::logging;
use crate::memory::Memory;
use crate::store::{Store, StoreError};

/// Time between two looks, and so between two writes.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What a document of Firestore surely holds, bytes; symbols beyond are forgotten with their process.
const BYTES_MAX: usize = 900_000;

/// The table of symbols, and how many of it are in the store.
#[derive(Debug)]
pub(crate) struct Seen {
    symbols: Arc<Symbols>,
    /// None where no job has `*`: nothing is kept, and nothing waits.
    kept: Option<AtomicUsize>,
}

impl Seen {
    pub(crate) fn new(symbols: Arc<Symbols>, wanted: bool) -> Arc<Self> {
        Arc::new(Self { symbols, kept: wanted.then(AtomicUsize::default) })
    }

    /// Whether the first so many symbols of the table are in the store.
    pub(crate) fn covers(&self, symbols: usize) -> bool {
        self.kept.as_ref().is_none_or(|kept| symbols <= kept.load(Ordering::Relaxed))
    }

    /// Adds what was kept to the table.
    pub(crate) async fn recall(&self, store: &Store) -> Result<(), StoreError> {
        if self.kept.is_some()
            && let Some(kept) = store.read_symbols().await?
        {
            intern(&kept, &self.symbols);
        }
        Ok(())
    }

    /// Keeps what is new, under every lease that the memory is of, until it is dropped.
    pub(crate) async fn keep(self: Arc<Self>, store: Store, fence: Fence, memory: watch::Receiver<Memory>) {
        let mut failing = false;
        loop {
            sleep(LOOK_EVERY).await;
            // What was kept earlier is in the table once the memory is read: it must not be overwritten by less.
            if memory.borrow().epoch != fence.epoch() {
                continue;
            }
            match self.write(&store, &fence).await {
                Ok(()) => failing = false,
                Err(error) if !std::mem::replace(&mut failing, true) => {
                    let error = logging::chain(&error);
                    tracing::warn!(error, "the symbols that were seen cannot be kept; tried again");
                }
                Err(_) => {}
            }
        }
    }

    /// Keeps what is new.
    pub(crate) async fn write(&self, store: &Store, fence: &Fence) -> Result<(), StoreError> {
        let count = self.symbols.len();
        let Some(kept) = self.kept.as_ref().filter(|_| fence.may_write() && !self.covers(count)) else {
            return Ok(());
        };
        store.write_symbols(&lines(&self.symbols, count)).await?;
        kept.store(count, Ordering::Relaxed);
        Ok(())
    }
}

fn intern(kept: &str, symbols: &Symbols) {
    for name in kept.lines().filter(|name| !name.is_empty()) {
        // A table that is full knows more than it can ask for.
        let _ = symbols.intern(name);
    }
}

/// The first so many names, each on a line; one that has line ends of its own cannot be kept.
fn lines(symbols: &Symbols, count: usize) -> String {
    let mut text = String::new();
    let names = symbols.read();
    for id in 0..u32::try_from(count).unwrap_or(u32::MAX) {
        let name = &names[SymbolId(id)];
        if text.len() + name.len() < BYTES_MAX && !name.contains(['\n', '\r']) {
            text.push_str(name);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back() {
        let symbols = Symbols::new();
        for name in ["SPY", "BTC/USD", "BRK.B", "two\nlines"] {
            assert!(symbols.intern(name).is_some());
        }
        let text = lines(&symbols, symbols.len());
        assert_eq!(text, "SPY\nBTC/USD\nBRK.B\n");
        let successor = Symbols::new();
        assert!(successor.intern("AAPL").is_some());
        intern(&text, &successor);
        assert_eq!(successor.len(), 4);
        assert!(successor.find("BRK.B").is_some());
    }

    #[test]
    fn where_nothing_is_kept_nothing_waits() {
        let seen = |wanted| Seen::new(Symbols::new(), wanted);
        assert!(seen(false).covers(7));
        assert!(!seen(true).covers(7) && seen(true).covers(0));
    }
}
