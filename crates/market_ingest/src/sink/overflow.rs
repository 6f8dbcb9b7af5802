//! What a full-rate sink did not deliver and never will by itself: for the gap ledger, which has it fetched again.
//!
//! Bounded: what is not taken is merged, first within one uninterrupted loss, then over several.

use std::collections::BTreeSet;

use alpaca_feed::message::{Event, Kind};
use alpaca_feed::symbol::SymbolId;

use super::JobId;
use super::chunk::{clock, not_ahead};

/// Losses kept apart; beyond them those of one job are merged.
const OVERFLOWS_MAX: usize = 64;
/// Lanes named one by one; beyond them a loss is of the whole job.
const LANES_MAX: usize = 4096;

/// Records of one job that were lost between two market times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overflow {
    /// The job.
    pub job: JobId,
    /// What it is about.
    pub lanes: Lanes,
    /// Least market time, nanoseconds since 1970; of a bar the time at which it leaves the venue.
    pub from_ts: i64,
    /// Greatest market time, inclusive.
    pub to_ts: i64,
    /// How many records.
    pub records: u64,
}

/// What a loss is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lanes {
    /// These kinds of these symbols; no symbol for news.
    Some(BTreeSet<(Kind, Option<SymbolId>)>),
    /// Perhaps everything of the job.
    All,
}

/// Losses not taken yet.
#[derive(Debug, Default)]
pub(super) struct Overflows {
    list: Vec<Overflow>,
    /// The jobs whose newest loss goes on: nothing was accepted since.
    going_on: Vec<JobId>,
}

impl Overflows {
    /// Adds a loss; `clock` is the market time of the job before it, for events that have no time, and `now` that of the
    /// wall.
    pub(super) fn add(&mut self, job: JobId, events: &[Event], clock: Option<i64>, now: i64) {
        if events.is_empty() {
            return;
        }
        let loss = Overflow::of(job, events, clock, now);
        let goes_on = self.going_on.contains(&job);
        let full = self.list.len() >= OVERFLOWS_MAX;
        let last = self.list.iter_mut().rev().find(|overflow| overflow.job == job);
        match last {
            Some(last) if goes_on || full => last.merge(loss),
            Some(_) | None => self.list.push(loss),
        }
        if !goes_on {
            self.going_on.push(job);
        }
    }

    /// Something of this job was accepted: the next loss is another.
    pub(super) fn interrupt(&mut self, job: JobId) {
        self.going_on.retain(|other| *other != job);
    }

    pub(super) fn take(&mut self) -> Vec<Overflow> {
        std::mem::take(&mut self.list)
    }
}

impl Overflow {
    fn of(job: JobId, events: &[Event], clock: Option<i64>, now: i64) -> Self {
        let times = || events.iter().filter_map(|event| time(event, now));
        let lanes = events.iter().map(|event| (event.kind(), event.symbol())).collect();
        Self {
            job,
            lanes: Lanes::Some(lanes).bounded(),
            from_ts: times().min().or(clock).unwrap_or(0),
            to_ts: times().max().or(clock).unwrap_or(0),
            records: events.len() as u64,
        }
    }

    fn merge(&mut self, other: Self) {
        self.from_ts = self.from_ts.min(other.from_ts);
        self.to_ts = self.to_ts.max(other.to_ts);
        self.records += other.records;
        match (&mut self.lanes, other.lanes) {
            (Lanes::Some(lanes), Lanes::Some(more)) => lanes.extend(more),
            (lanes, Lanes::All) => *lanes = Lanes::All,
            (Lanes::All, Lanes::Some(_)) => {}
        }
        self.lanes = std::mem::replace(&mut self.lanes, Lanes::All).bounded();
    }
}

impl Lanes {
    fn bounded(self) -> Self {
        match self {
            Self::Some(lanes) if lanes.len() <= LANES_MAX => Self::Some(lanes),
            Self::Some(_) | Self::All => Self::All,
        }
    }
}

/// When an event was due; days begin long before they are sent, and what has no time has none.
fn time(event: &Event, now: i64) -> Option<i64> {
    let own = || Some(event.ts()).filter(|ts| *ts > 0 && event.kind() != Kind::DailyBar);
    clock(event, now).or_else(|| own().map(|ts| not_ahead(ts, now)))
}
