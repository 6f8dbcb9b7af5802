//! `data_ingest_state`: the table of assets in an SQL store. Operators write `pause_fetch`, which is a hold on that
//! asset's channel; the service keeps `status` and the time of the newest event up to date, paused or not.
//!
//! A row is a symbol and a channel, `1m` standing for minute bars. A crypto pair quoted in USD is named by its base
//! alone, `BTC` for `BTC/USD`, and any other pair without its slash: the table's own convention.

mod table;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alpaca_feed::message::{Batch, Event, Kind};
use alpaca_feed::subscription::EVERY_SYMBOL;
use alpaca_feed::symbol::Symbols;
use ingest_switch::{CHANNELS, Doubt, JobPlan, Notes, Observation, Scope, Source};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use self::table::{Standing, Table};
use crate::filter::channel_index;
use crate::logging;
use crate::report::Report;
use crate::store::{AssetRow, AssetUpdate, Store};

/// Rows are kept up this often; a status that changed is among them.
const INTERVAL: Duration = Duration::from_secs(1);
/// Times alone are written at every so many-th turn.
const TIMES_EVERY: u64 = 5;
/// So many turns apart the table is read: somebody else may have written, inserted or deleted rows.
const COMPARE_EVERY: u64 = 60;

/// Time of the newest delivered event by channel and symbol, ns UTC; 0 before the first.
#[derive(Debug, Default)]
pub(crate) struct Newest {
    // Locked once a turn by a pump and once a second by the writer, never across an await.
    times: Mutex<[Vec<i64>; CHANNELS.len()]>,
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
            // An index of none: events of no channel.
            let Some(times) = times.get_mut(at) else { continue };
            if symbol.index() >= times.len() {
                times.resize(symbol.index() + 1, 0);
            }
            times[symbol.index()] = ts;
        }
    }

    /// By symbol, on the channel at that place of [`CHANNELS`].
    fn on_channel(&self, at: usize) -> Vec<i64> {
        self.times()[at].clone()
    }

    /// A panic elsewhere leaves the table whole: a call only ever sets numbers.
    fn times(&self) -> MutexGuard<'_, [Vec<i64>; CHANNELS.len()]> {
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

    fn symbol(&self, name: &Arc<str>) -> Arc<str> {
        self.symbols.get(&**name).map_or_else(|| Arc::clone(name), |symbol| symbol.as_str().into())
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

impl Assets {
    /// Writes what has changed until the process stops: a status within a second, times every few seconds, each in its turn
    /// where there are many.
    pub(crate) async fn run(self, mut stopping: watch::Receiver<bool>) {
        let (mut table, mut compare_at) = (Table::default(), 0);
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
            if !self.report.fence().may_write() {
                (table, compare_at) = (Table::default(), 0);
                continue;
            }
            if turn >= compare_at {
                // A store that cannot be read is told of when it cannot be written.
                compare_at = match self.store.asset_statuses().await {
                    Ok(stored) => {
                        table.compare(&self.plans, &self.names, stored);
                        turn + COMPARE_EVERY
                    }
                    Err(_) => turn + TIMES_EVERY,
                };
            }
            let times_too = turn % TIMES_EVERY == 0;
            let standing = Standing::new(&self.report);
            if !times_too && table.is_settled(&standing) {
                continue;
            }
            let times = std::array::from_fn(|at| self.newest.on_channel(at));
            table.list(&self.plans, &self.names, &self.symbols, &times);
            table.judge(&self.plans, standing);
            let due = table.due(&times, times_too);
            if due.is_empty() {
                continue;
            }
            let updates: Vec<AssetUpdate> = due.iter().map(|due| table.update(due)).collect();
            match self.store.write_assets(&updates).await {
                Ok(()) => {
                    table.written(&due);
                    if std::mem::take(&mut failing) {
                        tracing::info!("data_ingest_state is kept up again");
                    }
                }
                Err(error) => {
                    table.unsettle();
                    if !std::mem::replace(&mut failing, true) {
                        let error = logging::chain(&error);
                        tracing::warn!(error, "data_ingest_state cannot be kept up; its pauses still count");
                    }
                }
            }
        }
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
}
