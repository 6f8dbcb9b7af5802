//! What of one job is held now: what to subscribe to, and which of the events that still come to leave out.
//!
//! A hold is a scope with patterns, a message is a symbol's number: the answer is looked up once per symbol and
//! kept, so that a message costs one array access however many holds there are. Events of a held symbol come
//! between a hold and the venue's answer, and always where the job subscribes to `*`.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use alpaca_feed::message::{Batch, Event, Kind};
use alpaca_feed::subscription::{Channel, EVERY_SYMBOL, Subscriptions};
use alpaca_feed::symbol::{SymbolId, Symbols};
use ingest_switch::{CHANNELS, JobCoverage};

/// Not yet looked up; no channel has this bit.
const UNASKED: u16 = 1 << 15;

/// Symbols named in a report at most; more are counted.
const NAMED_MAX: usize = 1_000;

pub(crate) struct Filter {
    coverage: JobCoverage,
    symbols: Arc<Symbols>,
    /// By symbol: a bit for each held channel of [`CHANNELS`], or [`UNASKED`].
    held: Vec<u16>,
}

impl Filter {
    pub(crate) fn new(coverage: JobCoverage, symbols: Arc<Symbols>) -> Self {
        Self { coverage, symbols, held: Vec::new() }
    }

    /// What of `base` is not held.
    pub(crate) fn desired(&self, base: &Subscriptions) -> Subscriptions {
        let free =
            |channel: &str, symbol: &str| self.coverage.held_channels(symbol) & channel_bit(channel) == 0;
        base.iter().filter(|(channel, symbol)| free(channel.as_str(), symbol)).collect()
    }

    /// Takes held events out of the batch; says how many.
    pub(crate) fn apply(&mut self, batch: &mut Batch) -> u64 {
        if self.coverage.is_nothing() || batch.events.is_empty() {
            return 0;
        }
        let before = batch.events.len();
        let mut events = std::mem::take(&mut batch.events);
        events.retain(|event| !self.is_held(event));
        batch.events = events;
        (before - batch.events.len()) as u64
    }

    /// The known symbols whose quotes or trades are held; empty where nothing is.
    pub(crate) fn held_symbols(&mut self) -> HashSet<SymbolId> {
        if self.coverage.is_nothing() {
            return HashSet::new();
        }
        let channels = channel_bit("trades") | channel_bit("quotes");
        let known = u32::try_from(self.symbols.len()).unwrap_or(u32::MAX);
        (0..known).map(SymbolId).filter(|symbol| self.held(*symbol) & channels != 0).collect()
    }

    /// The known symbols that are held apart from a `*` of `base` and that its feed carries.
    pub(crate) fn apart(&mut self, base: &Subscriptions, carries: impl Fn(&str) -> bool) -> Subscriptions {
        let all = self.coverage.held_channels(EVERY_SYMBOL);
        let starred: Vec<Channel> = base
            .iter()
            .filter(|(channel, symbol)| *symbol == EVERY_SYMBOL && channel_bit(channel.as_str()) & all == 0)
            .map(|(channel, _)| channel)
            .collect();
        let mut apart = Subscriptions::default();
        if self.coverage.is_nothing() || starred.is_empty() {
            return apart;
        }
        let known = u32::try_from(self.symbols.len()).unwrap_or(u32::MAX);
        for symbol in (0..known).map(SymbolId) {
            let held = self.held(symbol) & !all;
            if held == 0 {
                continue;
            }
            let name = self.symbols.name(symbol);
            if carries(&name) {
                for channel in starred.iter().filter(|channel| held & channel_bit(channel.as_str()) != 0) {
                    apart.insert(*channel, &*name);
                }
            }
        }
        apart
    }

    /// Whether one of these symbols is held where not all are.
    pub(crate) fn holds_apart(&mut self, mut symbols: Range<usize>) -> bool {
        let all = self.coverage.held_channels(EVERY_SYMBOL);
        symbols.any(|symbol| self.held(SymbolId(symbol as u32)) & !all != 0)
    }

    /// Whether anything at all is held.
    pub(crate) fn holds_anything(&self) -> bool {
        !self.coverage.is_nothing()
    }

    /// What of `base` is held, for people: a symbol, or symbol and channel where the rest of it runs.
    pub(crate) fn paused_symbols(&self, base: &Subscriptions) -> Vec<String> {
        if self.coverage.is_nothing() {
            return Vec::new();
        }
        let mut names = Vec::new();
        let mut symbols: Vec<&str> = base.iter().map(|(_, symbol)| symbol).collect();
        symbols.sort_unstable();
        symbols.dedup();
        for symbol in symbols.into_iter().filter(|symbol| *symbol != EVERY_SYMBOL) {
            let held = self.coverage.held_channels(symbol);
            let own: Vec<&str> =
                base.iter().filter(|(_, own)| *own == symbol).map(|(channel, _)| channel.as_str()).collect();
            if own.iter().all(|channel| held & channel_bit(channel) != 0) {
                names.push(symbol.to_owned());
            } else {
                let parts = own.iter().filter(|channel| held & channel_bit(channel) != 0);
                names.extend(parts.map(|channel| format!("{symbol}/{channel}")));
            }
        }
        if names.len() > NAMED_MAX {
            let more = names.len() - NAMED_MAX;
            names.truncate(NAMED_MAX);
            names.push(format!("and {more} more"));
        }
        names
    }

    fn is_held(&mut self, event: &Event) -> bool {
        if let Event::News(news) = event {
            // An article is held only if everything it is about is.
            if news.symbols.is_empty() {
                return self.coverage.held_channels(EVERY_SYMBOL) & channel_bit("news") != 0;
            }
            return news.symbols.iter().all(|symbol| self.held(*symbol) & channel_bit("news") != 0);
        }
        event.symbol().is_some_and(|symbol| self.held(symbol) & event_bit(event.kind()) != 0)
    }

    fn held(&mut self, symbol: SymbolId) -> u16 {
        let at = symbol.index();
        if at >= self.held.len() {
            self.held.resize(at + 1, UNASKED);
        }
        if self.held[at] == UNASKED {
            self.held[at] = self.coverage.held_channels(&self.symbols.name(symbol));
        }
        self.held[at]
    }
}

/// The place in [`CHANNELS`] of the channel that an event came by. Corrections and cancellations come with trades; a
/// type that is not known is nobody's, and its place is behind them all.
pub(crate) const fn channel_index(kind: Kind) -> usize {
    match kind {
        Kind::Trade | Kind::Correction | Kind::Cancel => 0,
        Kind::Quote => 1,
        Kind::Bar => 2,
        Kind::UpdatedBar => 3,
        Kind::DailyBar => 4,
        Kind::Status => 5,
        Kind::Luld => 6,
        Kind::Imbalance => 7,
        Kind::Orderbook => 8,
        Kind::Pricing => 9,
        Kind::News => 10,
        Kind::Unknown => CHANNELS.len(),
    }
}

/// The bit of that channel, or one that no channel has.
fn event_bit(kind: Kind) -> u16 {
    1 << channel_index(kind)
}

/// The channel by which events of a kind come.
pub(crate) fn channel_of(kind: Kind) -> Option<&'static str> {
    CHANNELS.get(channel_index(kind)).copied()
}

/// The bit that stands for a channel of [`CHANNELS`].
pub(crate) fn channel_bit(channel: &str) -> u16 {
    CHANNELS.iter().position(|own| *own == channel).map_or(0, |at| 1 << at)
}

#[cfg(test)]
mod tests;
