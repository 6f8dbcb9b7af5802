//! Keeps the newest quote per symbol and says which are due to be written.
//!
//! Pure: time is passed in. Bounded by the number of symbols. Invariants: a symbol waits at most
//! once; what waits is always its newest; symbols take turns, so a hot one cannot starve the rest;
//! no more than `burst + rate × time` are ever due.

use std::collections::VecDeque;

use alpaca_feed::message::{Batch, Event};
use alpaca_feed::symbol::SymbolId;
use tokio::time::Instant;

use crate::config::Pacing;
use crate::sink::JobId;

/// The newest state of one symbol; prices of 0 mean a side without a quote. `ts` in ns UTC.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Latest {
    pub(super) ts: i64,
    pub(super) bid_price: f64,
    pub(super) ask_price: f64,
    pub(super) bid_size: f64,
    pub(super) ask_size: f64,
    pub(super) last_trade_price: Option<f64>,
}

#[derive(Debug)]
pub(super) struct Conflator {
    pacing: Pacing,
    /// Indexed by symbol id: ids are dense.
    entries: Vec<Entry>,
    /// Symbols that wait to be written, in the order in which they began to.
    waiting: VecDeque<SymbolId>,
    tokens: f64,
    refilled_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    quote: Option<Latest>,
    /// Whose quote that is.
    job: JobId,
    last_trade_price: Option<f64>,
    waits: bool,
    written_at: Option<Instant>,
}

impl Conflator {
    pub(super) fn new(pacing: Pacing) -> Self {
        Self {
            pacing,
            entries: Vec::new(),
            waiting: VecDeque::new(),
            tokens: pacing.burst,
            refilled_at: None,
        }
    }

    /// Takes up events in order of receipt.
    pub(super) fn accept(&mut self, job: JobId, batch: &Batch) {
        for event in &batch.events {
            self.accept_one(job, event);
        }
    }

    fn accept_one(&mut self, job: JobId, event: &Event) {
        if let Some(quote) = event.quote() {
            let entry = self.entry(quote.symbol);
            entry.job = job;
            entry.quote = Some(Latest {
                ts: quote.ts,
                bid_price: quote.bid_price,
                ask_price: quote.ask_price,
                bid_size: quote.bid_size,
                ask_size: quote.ask_size,
                last_trade_price: None,
            });
            self.wait(quote.symbol);
        } else if let Some(trade) = event.trade() {
            let entry = self.entry(trade.symbol);
            entry.last_trade_price = Some(trade.price);
            // A symbol without a quote has nothing to write yet.
            if entry.quote.is_some() {
                self.wait(trade.symbol);
            }
        }
    }

    /// At most `limit` symbols that pacing allows now, oldest wait first.
    pub(super) fn take_due(&mut self, now: Instant, limit: usize) -> Vec<(SymbolId, Latest)> {
        self.refill(now);
        let mut due = Vec::new();
        for _ in 0..self.waiting.len() {
            if self.tokens < 1.0 || due.len() >= limit {
                break;
            }
            let Some(symbol) = self.waiting.pop_front() else { break };
            let interval = self.pacing.per_symbol_interval;
            let entry = self.entry(symbol);
            if entry.written_at.is_some_and(|at| now < at + interval) {
                self.waiting.push_back(symbol);
                continue;
            }
            entry.waits = false;
            entry.written_at = Some(now);
            if let Some(latest) = entry.latest() {
                due.push((symbol, latest));
                self.tokens -= 1.0;
            }
        }
        due
    }

    /// At most `limit` of the waiting symbols that `which` names, regardless of pacing.
    pub(super) fn take_waiting(
        &mut self,
        limit: usize,
        which: impl Fn(JobId, SymbolId) -> bool,
    ) -> Vec<(SymbolId, Latest)> {
        let (mut taken, mut kept) = (Vec::new(), VecDeque::new());
        for symbol in std::mem::take(&mut self.waiting) {
            let entry = self.entry(symbol);
            if taken.len() < limit && which(entry.job, symbol) {
                entry.waits = false;
                taken.extend(entry.latest().map(|latest| (symbol, latest)));
            } else {
                kept.push_back(symbol);
            }
        }
        self.waiting = kept;
        taken
    }

    /// These could not be written: their symbols wait again, with what is newest by now.
    pub(super) fn give_back(&mut self, taken: &[(SymbolId, Latest)]) {
        for (symbol, _) in taken {
            self.entry(*symbol).written_at = None;
            self.wait(*symbol);
        }
    }

    /// Gives up the waiting symbols that `which` names; says how many they were.
    pub(super) fn discard(&mut self, which: impl Fn(JobId, SymbolId) -> bool) -> u64 {
        self.take_waiting(usize::MAX, which).len() as u64
    }

    /// Whose quote the symbol's newest is.
    pub(super) fn job(&mut self, symbol: SymbolId) -> JobId {
        self.entry(symbol).job
    }

    fn wait(&mut self, symbol: SymbolId) {
        let entry = self.entry(symbol);
        if !std::mem::replace(&mut entry.waits, true) {
            self.waiting.push_back(symbol);
        }
    }

    fn entry(&mut self, symbol: SymbolId) -> &mut Entry {
        let at = symbol.0 as usize;
        if at >= self.entries.len() {
            self.entries.resize(at + 1, Entry::default());
        }
        &mut self.entries[at]
    }

    fn refill(&mut self, now: Instant) {
        let since = self.refilled_at.replace(now).unwrap_or(now);
        let earned = now.saturating_duration_since(since).as_secs_f64() * self.pacing.writes_per_s;
        self.tokens = (self.tokens + earned).min(self.pacing.burst);
    }
}

impl Entry {
    fn latest(&self) -> Option<Latest> {
        self.quote.map(|quote| Latest { last_trade_price: self.last_trade_price, ..quote })
    }
}

#[cfg(test)]
mod tests;
