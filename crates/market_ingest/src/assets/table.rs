//! The rows as they should be, beside what of them is written.
//!
//! A market has tens of thousands of rows, so a look costs a comparison of numbers a row; names are read and statuses
//! judged only of rows that are new, or of all when a decision has come or has been followed.
//!
//! Invariants: a name has one row on a channel; a row counts as written only once the store has said so; a status is what
//! every job has followed, so while a decision is on its way the last status stands.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use alpaca_feed::subscription::EVERY_SYMBOL;
use alpaca_feed::symbol::{SymbolId, Symbols};
use ingest_status::Timestamp;
use ingest_switch::watch::Decided;
use ingest_switch::{CHANNELS, Coverage, JobPlan};

use super::{AssetNames, channel, timeframe};
use crate::backfill;
use crate::report::Report;
use crate::store::{AssetStatus, AssetUpdate};

/// Rows written at once whose status has changed.
const STATUSES_MAX: usize = 5_000;
/// Rows written at once that are new or have another time; the others follow, each in its turn: whoever writes tens of
/// thousands takes the core from a pump.
const TIMES_MAX: usize = 1_000;

/// Times of the newest events, by channel and symbol.
pub(super) type Times = [Vec<i64>; CHANNELS.len()];

/// All rows of this producer.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: Vec<Row>,
    /// The row of a name on a channel.
    named: HashMap<(Arc<str>, usize), usize>,
    /// By channel and symbol: whether it was looked at for a row.
    seen: [Vec<bool>; CHANNELS.len()],
    /// The row from which on times are written next.
    next: usize,
    /// What the statuses were judged by.
    judged: Option<Standing>,
    /// Every status is written as it was judged.
    settled: bool,
}

#[derive(Debug)]
struct Row {
    /// In the table.
    name: Arc<str>,
    /// The venue's name. Of two symbols of one name the first that was seen has the row.
    symbol: Arc<str>,
    /// None before it is seen.
    id: Option<SymbolId>,
    /// The place of its channel.
    at: usize,
    /// Empty before the first judgement.
    status: &'static str,
    written: Option<Written>,
}

/// What a row holds: its status, empty where that is no word of ours, and the time that this process wrote, 0 for none.
type Written = (&'static str, i64);

/// A row to write, with the time of its newest event, 0 before the first.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Due {
    row: usize,
    ts: i64,
}

/// A decision, and how far each job has followed it.
#[derive(Debug)]
pub(super) struct Standing {
    decided: Decided,
    jobs: Vec<(Arc<str>, Option<u64>)>,
}

impl Standing {
    pub(super) fn new(report: &Report) -> Self {
        // What is comes before what was asked, so that a hold is told only when its effect is complete.
        let jobs = report.jobs().into_iter().map(|job| (job.name, job.at_rest_seq)).collect();
        Self { decided: report.decision(), jobs }
    }

    fn is_followed_by(&self, job: &str) -> bool {
        self.jobs.iter().any(|(name, seq)| **name == *job && *seq == Some(self.decided.seq))
    }
}

impl PartialEq for Standing {
    fn eq(&self, other: &Self) -> bool {
        self.decided.seq == other.decided.seq && self.jobs == other.jobs
    }
}

/// What a job subscribes to.
struct Job<'a> {
    name: &'a str,
    pairs: HashSet<(&'a str, &'a str)>,
}

impl<'a> Job<'a> {
    fn new(plan: &'a JobPlan) -> Self {
        let pairs = plan.pairs.iter().map(|(channel, symbol)| (channel.as_str(), symbol.as_str()));
        Self { name: &plan.name, pairs: pairs.collect() }
    }

    /// By name, or by `*` if its feed can carry it.
    fn subscribes(&self, at: usize, symbol: &str) -> bool {
        self.pairs.contains(&(CHANNELS[at], symbol))
            || self.pairs.contains(&(CHANNELS[at], EVERY_SYMBOL)) && backfill::is_carried(self.name, symbol)
    }
}

impl Table {
    /// Whether the status of every row is written as it stands now.
    pub(super) fn is_settled(&self, standing: &Standing) -> bool {
        self.settled && self.judged.as_ref() == Some(standing)
    }

    /// The last rows that were due could not be written.
    pub(super) fn unsettle(&mut self) {
        self.settled = false;
    }

    /// Takes up what the store has: rows of an earlier process or of an operator, and what became of our own.
    pub(super) fn compare(&mut self, plans: &[JobPlan], names: &AssetNames, stored: Vec<AssetStatus>) {
        let jobs: Vec<Job> = plans.iter().map(Job::new).collect();
        let mut written: Vec<Option<Written>> = vec![None; self.rows.len()];
        for (name, timeframe, status) in stored {
            let Some(at) = CHANNELS.iter().position(|own| *own == channel(&timeframe)) else { continue };
            let name: Arc<str> = name.into();
            let symbol = names.symbol(&name);
            let row = match self.named.get(&(Arc::clone(&name), at)) {
                Some(row) => *row,
                None if jobs.iter().any(|job| job.subscribes(at, &symbol)) => {
                    written.push(None);
                    self.push(name, symbol, None, at)
                }
                None => continue,
            };
            let status = ["running", "paused"].into_iter().find(|word| status.as_deref() == Some(word));
            let ts = self.rows[row].written.map_or(0, |(_, ts)| ts);
            written[row] = Some((status.unwrap_or_default(), ts));
        }
        for (row, written) in self.rows.iter_mut().zip(written) {
            row.written = written;
        }
        self.settled = false;
    }

    /// Adds rows: everything subscribed by name, and everything that has come by `*`.
    pub(super) fn list(&mut self, plans: &[JobPlan], names: &AssetNames, symbols: &Symbols, times: &Times) {
        for (channel, symbol) in plans.iter().flat_map(|plan| &plan.pairs) {
            let Some(at) = CHANNELS.iter().position(|own| own == channel) else { continue };
            if symbol != EVERY_SYMBOL {
                if self.judged.is_none() {
                    self.add(names, symbol.as_str().into(), None, at);
                }
                continue;
            }
            self.seen[at].resize(times[at].len(), false);
            for (index, ts) in times[at].iter().enumerate() {
                if *ts != 0 && !self.seen[at][index] {
                    self.seen[at][index] = true;
                    let Ok(id) = u32::try_from(index).map(SymbolId) else { continue };
                    self.add(names, symbols.name(id), Some(id), at);
                }
            }
        }
        for row in self.rows.iter_mut().filter(|row| row.id.is_none()) {
            row.id = symbols.find(&row.symbol);
        }
    }

    fn add(&mut self, names: &AssetNames, symbol: Arc<str>, id: Option<SymbolId>, at: usize) {
        let name = names.of(&symbol);
        if !self.named.contains_key(&(Arc::clone(&name), at)) {
            self.push(name, symbol, id, at);
        }
    }

    fn push(&mut self, name: Arc<str>, symbol: Arc<str>, id: Option<SymbolId>, at: usize) -> usize {
        self.named.insert((Arc::clone(&name), at), self.rows.len());
        self.rows.push(Row { name, symbol, id, at, status: "", written: None });
        self.rows.len() - 1
    }

    /// A row of several jobs is paused when it is in all of them.
    pub(super) fn judge(&mut self, plans: &[JobPlan], standing: Standing) {
        if plans.iter().any(|plan| !standing.is_followed_by(&plan.name)) {
            return;
        }
        let as_before = self.judged.as_ref() == Some(&standing);
        let coverage = Coverage::new(&standing.decided.decision.holds);
        let jobs: Vec<_> = plans.iter().map(|plan| (Job::new(plan), coverage.job(&plan.name))).collect();
        for row in self.rows.iter_mut().filter(|row| !as_before || row.status.is_empty()) {
            let runs = jobs.iter().any(|(job, holds)| {
                holds.held_channels(&row.symbol) & 1 << row.at == 0 && job.subscribes(row.at, &row.symbol)
            });
            row.status = if runs { "running" } else { "paused" };
        }
        self.judged = Some(standing);
    }

    /// The rows to write now: first those that differ in their status, then new ones, then, if asked, those that differ
    /// in their time alone, each in its turn.
    pub(super) fn due(&mut self, times: &Times, times_too: bool) -> Vec<Due> {
        let (mut statuses, mut new, mut later) = (Vec::new(), Vec::new(), Vec::new());
        let in_turn = (self.next..self.rows.len()).chain(0..self.next);
        for (at, row) in in_turn.map(|at| (at, &self.rows[at])).filter(|(_, row)| !row.status.is_empty()) {
            let ts = row.id.and_then(|id| times[row.at].get(id.index())).copied().unwrap_or(0);
            let due = Due { row: at, ts };
            match row.written {
                None => new.push(due),
                Some((status, _)) if status != row.status => statuses.push(due),
                Some((_, written)) if written != ts => later.push(due),
                Some(_) => {}
            }
        }
        self.settled = statuses.len() <= STATUSES_MAX && new.len() <= TIMES_MAX;
        statuses.truncate(STATUSES_MAX);
        let room = TIMES_MAX.saturating_sub(new.len());
        statuses.extend(new.into_iter().take(TIMES_MAX));
        if times_too {
            self.next = later.get(room).map_or(0, |due| due.row);
            statuses.extend(later.into_iter().take(room));
        }
        statuses
    }

    pub(super) fn update(&self, due: &Due) -> AssetUpdate {
        let row = &self.rows[due.row];
        AssetUpdate {
            canonical_symbol: row.name.to_string(),
            timeframe: timeframe(CHANNELS[row.at]).to_owned(),
            status: row.status,
            last_event_ts: (due.ts != 0).then(|| Timestamp::from_nanoseconds(due.ts)),
        }
    }

    /// The store has them.
    pub(super) fn written(&mut self, due: &[Due]) {
        for due in due {
            let row = &mut self.rows[due.row];
            row.written = Some((row.status, due.ts));
        }
    }
}

#[cfg(test)]
mod tests {
    use ingest_switch::{Decision, Hold, Source};

    use super::*;

    fn row(name: &str, status: &'static str, written: Option<(&'static str, i64)>, index: u32) -> Row {
        Row { name: name.into(), symbol: name.into(), id: Some(SymbolId(index)), at: 0, status, written }
    }

    fn plan(name: &str, pairs: &[(&str, &str)]) -> JobPlan {
        let pairs = pairs.iter().map(|(channel, symbol)| ((*channel).to_owned(), (*symbol).to_owned()));
        JobPlan { name: name.to_owned(), pairs: pairs.collect() }
    }

    #[test]
    fn statuses_go_first_and_every_time_has_its_turn() {
        let mut times = Times::default();
        times[0] = vec![2, 2, 2, 1, 1];
        for (next, in_turn) in [(0, ["A", "C"]), (1, ["C", "A"]), (3, ["A", "C"])] {
            let rows = vec![
                row("A", "running", Some(("running", 1)), 0),
                row("B", "paused", Some(("running", 2)), 1),
                row("C", "running", Some(("running", 1)), 2),
                row("D", "running", Some(("running", 1)), 3),
                row("E", "running", None, 4),
            ];
            let mut table = Table { rows, next, ..Table::default() };
            let names = |table: &Table, due: &[Due]| -> Vec<String> {
                due.iter().map(|due| table.update(due).canonical_symbol).collect()
            };
            let due = table.due(&times, false);
            assert_eq!(names(&table, &due), ["B", "E"]);
            let due = table.due(&times, true);
            assert_eq!(names(&table, &due), ["B", "E", in_turn[0], in_turn[1]]);
            // What the store did not take is due again, and then no more.
            assert_eq!(table.due(&times, true).len(), 4);
            table.written(&due);
            assert_eq!(table.due(&times, true), []);
        }
    }

    #[test]
    fn more_times_than_can_be_written_at_once_are_written_one_after_another() {
        let count = 2 * TIMES_MAX + 1;
        let mut times = Times::default();
        times[0] = vec![2; count];
        let rows =
            (0..count as u32).map(|index| row(&index.to_string(), "running", Some(("running", 1)), index));
        let mut table = Table { rows: rows.collect(), ..Table::default() };
        let mut had = HashSet::new();
        for looks in 1..=3 {
            let due = table.due(&times, true);
            table.written(&due);
            had.extend(due.iter().map(|due| due.row));
            // Those that were written have another time before the next look.
            due.iter().for_each(|due| times[0][due.row] += 1);
            assert_eq!(had.len(), (looks * TIMES_MAX).min(count));
        }
    }

    /// A decision that holds one scope or none, and what each job has followed.
    fn standing(seq: u64, holds: Option<&str>, jobs: &[(&str, u64)]) -> Standing {
        let since = jiff::Timestamp::UNIX_EPOCH;
        let hold = |scope: &str| Hold {
            source: Source::new("test".to_owned()),
            scope: scope.parse().unwrap(),
            since,
            reason: None,
            actor: None,
            until: None,
        };
        let decision = Decision {
            enabled: true,
            source: None,
            holds: holds.map(hold).into_iter().collect(),
            flag_fresh: true,
            doubts: Vec::new(),
            generation: None,
            since,
        };
        let decided = Decided { decision, at: std::time::Instant::now(), seq };
        Standing { decided, jobs: jobs.iter().map(|(name, seq)| ((*name).into(), Some(*seq))).collect() }
    }

    #[test]
    fn while_a_decision_is_on_its_way_the_last_status_stands() {
        let plans = [plan("sip", &[("trades", "*")]), plan("crypto-us", &[("trades", "*")])];
        let rows = vec![row("IBM", "", None, 0), row("BTC/USD", "", None, 1)];
        let mut table = Table { rows, ..Table::default() };
        let mut statuses = |standing: Standing| {
            table.judge(&plans, standing);
            let _ = table.due(&Times::default(), false);
            table.rows.iter().map(|row| row.status).collect::<Vec<_>>()
        };
        let one = Some("job:crypto-us");
        assert_eq!(statuses(standing(1, one, &[("sip", 1), ("crypto-us", 0)])), ["", ""]);
        // A job for every symbol is one for what its feed carries.
        assert_eq!(statuses(standing(1, one, &[("sip", 1), ("crypto-us", 1)])), ["running", "paused"]);
        assert_eq!(statuses(standing(2, None, &[("sip", 2), ("crypto-us", 1)])), ["running", "paused"]);
        let followed = || standing(2, None, &[("sip", 2), ("crypto-us", 2)]);
        assert_eq!(statuses(followed()), ["running", "running"]);
        assert!(table.is_settled(&followed()));
        assert!(!table.is_settled(&standing(3, None, &[("sip", 3), ("crypto-us", 2)])));
    }

    #[test]
    fn a_name_has_one_row_on_a_channel_whoever_asks_for_it() {
        let plans = [
            plan("sip", &[("trades", "IBM"), ("bars", "IBM"), ("trades", "*")]),
            plan("iex", &[("trades", "IBM")]),
        ];
        let (names, symbols) = (AssetNames::new(&plans), Symbols::new());
        let mut table = Table::default();
        table.list(&plans, &names, &symbols, &Times::default());
        assert_eq!(table.rows.len(), 2);
        let ids = ["SPY", "IBM"].map(|name| symbols.intern(name).unwrap());
        let mut times = Times::default();
        times[0] = vec![5, 7];
        table.list(&plans, &names, &symbols, &times);
        table.list(&plans, &names, &symbols, &times);
        let rows: Vec<_> = table.rows.iter().map(|row| (&*row.symbol, row.at, row.id)).collect();
        let [spy, ibm] = ids.map(Some);
        assert_eq!(rows, [("IBM", 0, ibm), ("IBM", 2, ibm), ("SPY", 0, spy)]);
        table.rows.iter_mut().for_each(|row| row.status = "running");
        let due: Vec<_> = table.due(&times, true).iter().map(|due| table.update(due).last_event_ts).collect();
        assert_eq!(due, [Some(Timestamp::from_nanoseconds(7)), None, Some(Timestamp::from_nanoseconds(5))]);

        // Of what the store has, a row is ours if a job asks for it; what it has not, or otherwise, is due.
        let stored =
            [("IBM", "trades", Some("running")), ("IBM", "1m", Some("paused")), ("MSFT", "trades", None)];
        let stored = stored.into_iter().chain([("MSFT", "quotes", None), ("IBM", "1h", Some("running"))]);
        let owned = |(name, timeframe, status): (&str, &str, Option<&str>)| {
            (name.to_owned(), timeframe.to_owned(), status.map(str::to_owned))
        };
        table.compare(&plans, &names, stored.map(owned).collect());
        let written: Vec<_> = table
            .rows
            .iter()
            .map(|row| (&*row.name, row.at, row.written.map(|(status, _)| status)))
            .collect();
        let expected = [
            ("IBM", 0, Some("running")),
            ("IBM", 2, Some("paused")),
            ("SPY", 0, None),
            ("MSFT", 0, Some("")),
        ];
        assert_eq!(written, expected);
    }
}
