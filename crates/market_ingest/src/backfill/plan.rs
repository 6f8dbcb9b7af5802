//! What of a gap can be fetched now, what must wait because it is held, and what can never be had.
//!
//! Invariant: every pair of channel and symbol of a gap is in exactly one of the gaps that it is split into, with the
//! same bounds, but for what is older than the window.

use alpaca_feed::gap_ledger::products;
use alpaca_feed::subscription::{Channel, EVERY_SYMBOL, Subscriptions};
use alpaca_feed::symbol::Symbols;
use ingest_switch::JobCoverage;

use crate::config::{BackfillConfig, History, feed_channels};
use crate::filter::channel_bit;
use crate::gaps::{GapRecord, GapState};

/// What does not depend on the moment.
pub(super) struct Limits<'a> {
    /// What the venue keeps, or why nothing.
    pub(super) history: Result<&'a History, &'static str>,
    /// Whether there is a sink that takes every record.
    pub(super) sinks: bool,
    pub(super) policy: BackfillConfig,
}

/// A gap in parts.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Under the gap's own id.
    pub(super) fetch: Option<GapRecord>,
    /// Gaps of their own from now on: held, or in another shape.
    pub(super) later: Vec<GapRecord>,
    /// Not to be had, and why.
    pub(super) never: Vec<(GapRecord, String)>,
}

/// Splits a gap that is over. `known` are the symbols that `*` stands for; `new_id` names further parts.
pub(super) fn split(
    mut record: GapRecord,
    limits: &Limits<'_>,
    coverage: &JobCoverage,
    known: &[String],
    mut new_id: impl FnMut() -> String,
) -> Plan {
    let mut plan = Plan::default();
    let history = match (limits.history, limits.policy) {
        (Err(why), _) => return never(record, why),
        (_, BackfillConfig::None) => return never(record, "INGEST_BACKFILL is none"),
        (Ok(_), _) if !limits.sinks => {
            return never(record, "no sink of INGEST_SINKS takes every record");
        }
        (Ok(history), BackfillConfig::Full | BackfillConfig::Window(_)) => history,
    };
    let (kept, lost): (Vec<_>, Vec<_>) = record
        .channels
        .iter()
        .cloned()
        .partition(|channel| channel.parse().is_ok_and(|channel| history.keeps(channel)));
    if kept.is_empty() {
        return never(record, "Alpaca keeps no history of these channels");
    }
    if !lost.is_empty() {
        let part = GapRecord { id: new_id(), channels: lost, ..record.clone() };
        plan.never.push((part, "Alpaca keeps no history of these channels".to_owned()));
    }
    record.channels = kept;
    if let (BackfillConfig::Window(window), Some(to)) = (limits.policy, record.to) {
        let window_us = i64::try_from(window.as_micros()).unwrap_or(i64::MAX);
        let oldest =
            ingest_status::Timestamp::from_microseconds(to.as_microseconds().saturating_sub(window_us));
        if let Some(oldest) = oldest.filter(|oldest| *oldest > record.from) {
            let part = GapRecord { id: new_id(), to: Some(oldest), ..record.clone() };
            plan.never.push((part, "older than the window of INGEST_BACKFILL".to_owned()));
            record.from = oldest;
        }
    }
    if record.symbols.iter().any(|symbol| symbol == EVERY_SYMBOL) && known.is_empty() {
        let news = Channel::News.as_str();
        if record.channels.iter().any(|channel| channel != news) {
            plan.never.push((record, "it is of all symbols, and none is known by name".to_owned()));
            return plan;
        }
    }
    by_holds(record, coverage, known, &mut plan, new_id);
    plan
}

fn never(record: GapRecord, why: &str) -> Plan {
    Plan { never: vec![(record, why.to_owned())], ..Plan::default() }
}

fn by_holds(
    record: GapRecord,
    coverage: &JobCoverage,
    known: &[String],
    plan: &mut Plan,
    mut new_id: impl FnMut() -> String,
) {
    if coverage.is_nothing() {
        plan.fetch = Some(record);
        return;
    }
    let (mut free, mut held) = (Subscriptions::default(), Subscriptions::default());
    for channel in record.channels.iter().filter_map(|word| word.parse::<Channel>().ok()) {
        for symbol in &record.symbols {
            let into = if is_held(coverage, channel, symbol) { &mut held } else { &mut free };
            into.insert(channel, symbol.as_str());
        }
        // A symbol that is held apart from all keeps its part of the gap.
        if free.contains(channel, EVERY_SYMBOL) {
            for symbol in known.iter().filter(|symbol| is_held(coverage, channel, symbol)) {
                held.insert(channel, symbol.as_str());
            }
        }
    }
    let part =
        |(channels, symbols): &(std::collections::BTreeSet<Channel>, std::collections::BTreeSet<String>)| {
            GapRecord {
                channels: channels.iter().map(ToString::to_string).collect(),
                symbols: symbols.iter().cloned().collect(),
                ..record.clone()
            }
        };
    // A cursor is a place in the shape that it was made in.
    let part = |product| {
        let part = part(product);
        let same = (&part.channels, &part.symbols) == (&record.channels, &record.symbols);
        if same { part } else { GapRecord { cursor: None, ..part } }
    };
    let (free, held) = (products(&free), products(&held));
    let mut parts = free.iter().map(part).collect::<Vec<_>>().into_iter();
    plan.fetch = parts.next();
    let whole_is_held = plan.fetch.is_none();
    let held = held.iter().map(part).collect::<Vec<_>>();
    let waits = |part: GapRecord| GapRecord { state: GapState::Open, ..part };
    plan.later.extend(parts.chain(held).map(waits));
    // Where nothing is free the first part is the gap itself.
    for part in plan.later.iter_mut().skip(usize::from(whole_is_held)) {
        (part.id, part.rows) = (new_id(), 0);
    }
}

/// Whether any pair of it is free.
pub(super) fn is_partly_free(record: &GapRecord, coverage: &JobCoverage) -> bool {
    coverage.is_nothing()
        || record
            .channels
            .iter()
            .filter_map(|word| word.parse::<Channel>().ok())
            .any(|channel| record.symbols.iter().any(|symbol| !is_held(coverage, channel, symbol)))
}

/// Whether any of these symbols is held on any of these channels.
pub(super) fn any_held(coverage: &JobCoverage, channels: &[Channel], symbols: &[String]) -> bool {
    if coverage.is_nothing() {
        return false;
    }
    let every = EVERY_SYMBOL.to_owned();
    let symbols = if symbols.is_empty() { std::slice::from_ref(&every) } else { symbols };
    channels.iter().any(|channel| symbols.iter().any(|symbol| is_held(coverage, *channel, symbol)))
}

fn is_held(coverage: &JobCoverage, channel: Channel, symbol: &str) -> bool {
    coverage.held_channels(symbol) & channel_bit(channel.as_str()) != 0
}

/// The symbols of a gap by name, sorted: what `*` stands for is every symbol of the job's kind that was ever seen and
/// is not held on its own; none at all for all news.
pub(super) fn names(record: &GapRecord, coverage: &JobCoverage, known: &[String]) -> Vec<String> {
    let mut names: Vec<String> = record.symbols.iter().filter(|s| *s != EVERY_SYMBOL).cloned().collect();
    if names.len() < record.symbols.len() {
        let of_news = |channel: &String| channel == Channel::News.as_str();
        if record.channels.iter().all(of_news) {
            return Vec::new();
        }
        let channels: Vec<Channel> = record.channels.iter().filter_map(|word| word.parse().ok()).collect();
        let free = |symbol: &&String| !any_held(coverage, &channels, std::slice::from_ref(*symbol));
        names.extend(known.iter().filter(free).cloned());
    }
    names.sort_unstable();
    names.dedup();
    names
}

/// Every symbol that was seen and that the feed of `job` can carry.
pub(crate) fn known(job: &str, symbols: &Symbols) -> Vec<String> {
    let all = (0..u32::try_from(symbols.len()).unwrap_or(u32::MAX)).map(alpaca_feed::symbol::SymbolId);
    all.map(|id| symbols.name(id)).filter(|name| is_carried(job, name)).map(|name| name.to_string()).collect()
}

/// Whether the feed of `job` can carry this symbol.
pub(crate) fn is_carried(job: &str, symbol: &str) -> bool {
    feed_channels(job, symbol).is_some_and(|channels| !channels.is_empty())
}

#[cfg(test)]
mod tests;
