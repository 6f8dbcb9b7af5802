//! `data_ingest_state`: the table of assets in an SQL store. Operators write `pause_fetch`, which is a hold on that
//! asset's channel; the service keeps `status` and the time of the newest event up to date, paused or not.
//!
//! A row is a symbol and a channel, `1m` standing for minute bars. A crypto pair quoted in USD is named by its base
//! alone, `BTC` for `BTC/USD`, and any other pair without its slash: the table's own convention.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alpaca_feed::message::{Batch, Event, Kind};
use alpaca_feed::subscription::EVERY_SYMBOL;
use alpaca_feed::symbol::{SymbolId, Symbols};
use ingest_status::Timestamp;
use ingest_switch::{CHANNELS, Coverage, Doubt, JobPlan, Notes, Observation, Scope, Source};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::filter::channel_index;
use crate::logging;
use crate::report::Report;
use crate::store::{AssetRow, AssetUpdate, Store};

/// Rows are kept up this often; a status that changed is among them.
const INTERVAL: Duration = Duration::from_secs(1);
/// Times alone are written at every so many-th turn.
const TIMES_EVERY: u64 = 5;
/// Every row is written anew at every so many-th turn: somebody else may have written it.
const ALL_EVERY: u64 = 60;
/// Rows written at once whose status has changed.
const STATUSES_MAX: usize = 5_000;
/// Rows written at once that are new or have another time; the others follow, each in its turn. With every symbol of the
/// market there are tens of thousands, and whoever writes them takes the core from a pump.
const TIMES_MAX: usize = 1_000;

/// Time of the newest delivered event by symbol and channel, ns UTC; 0 before the first.
#[derive(Debug, Default)]
pub(crate) struct Newest {
    // Locked once a turn by a pump and once a second by the writer, never across an await.
    times: Mutex<Vec<[i64; CHANNELS.len()]>>,
}

impl Newest {
    pub(crate) fn accept(&self, batch: &Batch) {
        let mut times = self.times();
        for event in &batch.events {
            // Most are quotes, and most others trades.
            let (symbol, at, ts) = if let Event::Quote(quote) = event {
                (quote.symbol, const { channel_index(Kind::Quote) }, quote.ts)
            } else if let Event::Trade(trade) = event {
                (trade.symbol, const { channel_index(Kind::Trade) }, trade.ts)
            } else if let Some(symbol) = event.symbol() {
                (symbol, channel_index(event.kind()), event.ts())
            } else {
                continue;
            };
            if symbol.index() >= times.len() {
                times.resize(symbol.index() + 1, [0; CHANNELS.len()]);
            }
            if let Some(time) = times[symbol.index()].get_mut(at) {
                *time = ts;
            }
        }
    }

    /// A panic elsewhere leaves the table whole: a call only ever sets numbers.
    fn times(&self) -> MutexGuard<'_, Vec<[i64; CHANNELS.len()]>> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Symbols by their names in the table, and the other way round.
#[derive(Clone, Debug)]
pub(crate) struct AssetNames {
    symbols: BTreeMap<String, String>,
    names: BTreeMap<String, Arc<str>>,
}

impl AssetNames {
    /// Names every symbol that the jobs subscribe to by name; one that comes with `*` is named as the venue does.
    pub(crate) fn new(plans: &[JobPlan]) -> Self {
        let named: HashSet<&str> =
            plans.iter().flat_map(|plan| &plan.pairs).map(|(_, symbol)| symbol.as_str()).collect();
        let name = |symbol: &str| match symbol.split_once('/') {
            Some((base, "USD")) if !named.contains(base) => base.to_owned(),
            Some((base, quote)) => format!("{base}{quote}"),
            None => symbol.to_owned(),
        };
        let symbols = named.iter().filter(|symbol| **symbol != EVERY_SYMBOL);
        let names: BTreeMap<String, Arc<str>> =
            symbols.map(|symbol| ((*symbol).to_owned(), name(symbol).into())).collect();
        Self {
            symbols: names.iter().map(|(symbol, name)| (name.to_string(), symbol.clone())).collect(),
            names,
        }
    }

    fn of(&self, symbol: &Arc<str>) -> Arc<str> {
        Arc::clone(self.names.get(&**symbol).unwrap_or(symbol))
    }

    /// The hold that a row asks for, if it does. A row whose timeframe is no channel holds the asset on all of them.
    pub(crate) fn hold(&self, row: &AssetRow) -> Option<(Source, Observation)> {
        if !row.pause_fetch {
            return None;
        }
        let name = &row.canonical_symbol;
        let source = Source::control(&format!("data_ingest_state/{name}/{}", row.timeframe));
        // A row is one asset: who may pause one may not pause all.
        if name.trim().is_empty() || name.contains(['*', '?']) {
            let doubt =
                Doubt::garbled(&format!("data_ingest_state: canonical_symbol {name:?} names no asset"));
            return Some((source, Observation::Doubt(doubt)));
        }
        let symbol = Scope::symbol(self.symbols.get(&name.to_uppercase()).unwrap_or(name));
        let scope = symbol.clone().on_channel(channel(&row.timeframe)).unwrap_or(symbol);
        let notes = Notes { reason: row.notes.clone(), ..Notes::default() };
        // Not `updated_at`: our own writing of the status moves it.
        Some((source, Observation::Off { scope, notes, since: None }))
    }
}

/// Minute bars are called `1m` in the table.
fn channel(timeframe: &str) -> &str {
    if timeframe == "1m" { "bars" } else { timeframe }
}

fn timeframe(channel: &'static str) -> &'static str {
    if channel == "bars" { "1m" } else { channel }
}

/// Keeps the rows up.
#[derive(Debug)]
pub(crate) struct Assets {
    pub(crate) store: Store,
    pub(crate) newest: Arc<Newest>,
    pub(crate) symbols: Arc<Symbols>,
    pub(crate) names: AssetNames,
    pub(crate) plans: Vec<JobPlan>,
    pub(crate) report: Arc<Report>,
}

/// A row's name and timeframe.
type Key = (Arc<str>, &'static str);

/// What a row should hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    status: &'static str,
    last_event_ts: Option<i64>,
}

/// What statuses were written of: the decision, and how far each job has followed it.
type Standing = (u64, Vec<Option<u64>>);

/// What the table holds, as far as this process wrote it.
#[derive(Debug, Default)]
struct Kept {
    written: BTreeMap<Key, Row>,
    /// The row from which on times are written next.
    from: Option<Key>,
    /// None while some status is not written.
    settled: Option<Standing>,
}

impl Assets {
    /// Writes what has changed until the process stops: a status within a second, times every few seconds.
    pub(crate) async fn run(self, mut stopping: watch::Receiver<bool>) {
        let assets = Arc::new(self);
        let mut kept = Kept::default();
        let mut failing = false;
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for turn in 0_u64.. {
            tokio::select! {
                biased;
                _ = stopping.wait_for(|stop| *stop) => return,
                _ = ticks.tick() => {}
            }
            // The rows are the holder's.
            if !assets.report.fence().may_write() {
                kept = Kept::default();
                continue;
            }
            if turn % ALL_EVERY == 0 {
                // A time that no row has.
                kept.written.values_mut().for_each(|row| row.last_event_ts = Some(i64::MIN));
            }
            let times_too = turn % TIMES_EVERY == 0;
            if !times_too && kept.settled.as_ref() == Some(&assets.standing()) {
                continue;
            }
            // With all symbols it takes milliseconds, in which a pump on this thread would stand still.
            let at_work = Arc::clone(&assets);
            let looked = tokio::task::spawn_blocking(move || {
                let due = at_work.due(&mut kept, times_too);
                (kept, due)
            });
            let Ok((back, due)) = looked.await else { return };
            kept = back;
            if due.is_empty() {
                continue;
            }
            let updates: Vec<AssetUpdate> = due.iter().map(|(key, row)| update(key, row)).collect();
            match assets.store.write_assets(&updates).await {
                Ok(()) => {
                    kept.written.extend(due);
                    if std::mem::take(&mut failing) {
                        tracing::info!("data_ingest_state is kept up again");
                    }
                }
                Err(error) => {
                    kept.settled = None;
                    if !std::mem::replace(&mut failing, true) {
                        let error = logging::chain(&error);
                        tracing::warn!(error, "data_ingest_state cannot be kept up; its pauses still count");
                    }
                }
            }
        }
    }

    /// The rows to write now.
    fn due(&self, kept: &mut Kept, times_too: bool) -> Vec<(Key, Row)> {
        let standing = self.standing();
        let rows = self.rows();
        let Changed { statuses, new, times } = Changed::new(&rows, &kept.written, kept.from.as_ref());
        kept.settled = (statuses.len() <= STATUSES_MAX && new.len() <= TIMES_MAX).then_some(standing);
        let mut due: Vec<&Key> = statuses.into_iter().take(STATUSES_MAX).collect();
        due.extend(new.iter().take(TIMES_MAX));
        if times_too {
            let room = TIMES_MAX.saturating_sub(new.len());
            kept.from = times.get(room).map(|key| (*key).clone());
            due.extend(times.into_iter().take(room));
        }
        due.into_iter().map(|key| (key.clone(), rows[key])).collect()
    }

    fn standing(&self) -> Standing {
        let at_rest = self.report.jobs().iter().map(|job| job.at_rest_seq).collect();
        (self.report.decision().seq, at_rest)
    }

    /// What the rows should hold now: everything subscribed by name, and everything that came by `*`.
    fn rows(&self) -> BTreeMap<Key, Row> {
        // What is comes before what was asked, so that a hold is told only when its effect is complete.
        let jobs = self.report.jobs();
        let decided = self.report.decision();
        let coverage = Coverage::new(&decided.decision.holds);
        let times = self.newest.times().clone();
        let mut rows = BTreeMap::new();
        for plan in &self.plans {
            let at_rest =
                jobs.iter().any(|job| *job.name == *plan.name && job.at_rest_seq == Some(decided.seq));
            let mut add = |symbol: &Arc<str>, at: usize, ts: Option<i64>| {
                let held = at_rest && coverage.is_held(&plan.name, symbol, CHANNELS[at]);
                let row = rows
                    .entry((self.names.of(symbol), timeframe(CHANNELS[at])))
                    .or_insert(Row { status: "paused", last_event_ts: None });
                // Another job may ingest the same asset: it is paused when all are.
                if !held {
                    row.status = "running";
                }
                row.last_event_ts = ts;
            };
            let seen = |symbol: SymbolId, at: usize| {
                times.get(symbol.index()).map(|times| times[at]).filter(|ts| *ts != 0)
            };
            for (channel, symbol) in &plan.pairs {
                let Some(at) = CHANNELS.iter().position(|own| own == channel) else { continue };
                if symbol != EVERY_SYMBOL {
                    let ts = self.symbols.find(symbol).and_then(|id| seen(id, at));
                    add(&symbol.as_str().into(), at, ts);
                    continue;
                }
                let count = u32::try_from(times.len()).unwrap_or(u32::MAX);
                for (id, ts) in (0..count).map(SymbolId).filter_map(|id| Some((id, seen(id, at)?))) {
                    add(&self.symbols.name(id), at, Some(ts));
                }
            }
        }
        rows
    }
}

/// Rows that differ from what was written.
struct Changed<'a> {
    /// In their status.
    statuses: Vec<&'a Key>,
    /// In that they were not.
    new: Vec<&'a Key>,
    /// In their time alone; whose turn it is comes first.
    times: Vec<&'a Key>,
}

impl<'a> Changed<'a> {
    fn new(rows: &'a BTreeMap<Key, Row>, written: &BTreeMap<Key, Row>, from: Option<&Key>) -> Self {
        let mut changed = Self { statuses: Vec::new(), new: Vec::new(), times: Vec::new() };
        for (key, row) in rows {
            match written.get(key) {
                None => changed.new.push(key),
                Some(old) if old.status != row.status => changed.statuses.push(key),
                Some(old) if old != row => changed.times.push(key),
                Some(_) => {}
            }
        }
        let first = from.map_or(0, |from| changed.times.partition_point(|key| *key < from));
        changed.times.rotate_left(first);
        changed
    }
}

fn update((name, timeframe): &Key, row: &Row) -> AssetUpdate {
    AssetUpdate {
        canonical_symbol: name.to_string(),
        timeframe: (*timeframe).to_owned(),
        status: row.status,
        last_event_ts: row.last_event_ts.map(Timestamp::from_nanoseconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(symbols: &[&str]) -> JobPlan {
        let pairs = symbols.iter().map(|symbol| ("trades".to_owned(), (*symbol).to_owned())).collect();
        JobPlan { name: "a".to_owned(), pairs }
    }

    #[track_caller]
    fn check(monitored: &[&str], name: &str, timeframe: &str, scope: &str) {
        let row = AssetRow {
            canonical_symbol: name.to_owned(),
            timeframe: timeframe.to_owned(),
            pause_fetch: true,
            notes: None,
            updated_at: None,
        };
        let held = AssetNames::new(&[plan(monitored)]).hold(&row);
        let Some((source, Observation::Off { scope: found, .. })) = held else { panic!("{held:?}") };
        assert_eq!(found.to_string(), scope);
        assert_eq!(source.as_str(), format!("control:data_ingest_state/{name}/{timeframe}"));
    }

    #[test]
    fn a_row_is_a_hold_on_its_asset_and_channel() {
        check(&["AAPL"], "AAPL", "1m", "symbol:AAPL/bars");
        check(&["AAPL"], "aapl", "trades", "symbol:AAPL/trades");
        check(&["BTC/USD"], "BTC", "quotes", "symbol:BTC/USD/quotes");
        check(&["BTC/USD", "BTC"], "BTC", "1m", "symbol:BTC/bars");
        check(&["BTC/USD", "BTC"], "BTCUSD", "1m", "symbol:BTC/USD/bars");
        check(&["ETH/BTC"], "ethbtc", "1m", "symbol:ETH/BTC/bars");
        check(&["*"], "XAGUSD", "1m", "symbol:XAGUSD/bars");
        check(&["AAPL"], "AAPL", "1h", "symbol:AAPL");
        let row = |name: &str, pause_fetch| AssetRow {
            canonical_symbol: name.to_owned(),
            timeframe: "1m".to_owned(),
            pause_fetch,
            notes: None,
            updated_at: None,
        };
        assert_eq!(AssetNames::new(&[]).hold(&row("AAPL", false)), None);
        for name in ["*", "A*", "AAP?", ""] {
            let held = AssetNames::new(&[]).hold(&row(name, true));
            assert!(matches!(held, Some((_, Observation::Doubt(_)))), "{name:?}: {held:?}");
        }
    }

    #[test]
    fn statuses_go_first_and_every_time_has_its_turn() {
        let key = |name: &str| -> Key { (name.into(), "trades") };
        let row = |status, ts| Row { status, last_event_ts: Some(ts) };
        let rows: BTreeMap<Key, Row> = [
            (key("A"), row("running", 2)),
            (key("B"), row("paused", 2)),
            (key("C"), row("running", 2)),
            (key("D"), row("running", 1)),
            (key("E"), row("running", 1)),
        ]
        .into();
        let written: BTreeMap<Key, Row> = [
            (key("A"), row("running", 1)),
            (key("B"), row("running", 2)),
            (key("C"), row("running", 1)),
            (key("D"), row("running", 1)),
        ]
        .into();
        let names = |keys: Vec<&Key>| keys.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>();
        for (from, in_turn) in
            [(None, ["A", "C"]), (Some(key("B")), ["C", "A"]), (Some(key("X")), ["A", "C"])]
        {
            let changed = Changed::new(&rows, &written, from.as_ref());
            assert_eq!(names(changed.statuses), ["B"]);
            assert_eq!(names(changed.new), ["E"]);
            assert_eq!(names(changed.times), in_turn);
        }
    }
}
