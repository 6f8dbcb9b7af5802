//! The pump's side of the gap ledger: tells it what is received and when the market's time moves, and hands what it
//! says to the book of gaps.
//!
//! What comes back ends its gap not with the first record, which may be a late print, but once some have come.

use std::collections::VecDeque;
use std::time::Duration;

use alpaca_feed::gap_ledger::{Cause, Gap, GapLedger};
use alpaca_feed::lifecycle::Failure;
use alpaca_feed::subscription::Subscriptions;
use tokio::time::Instant;

use super::Pump;
use crate::backfill;
use crate::sink::wall_ts;

/// So many records tell the time after a return…
const RECORDS_TELL: u32 = 16;
/// …or whatever has come this long after it…
const SOME_TELL_AFTER: Duration = Duration::from_secs(1);
/// …and if nothing has come by then, the clock on the wall does.
const WALL_TELLS_AFTER: Duration = Duration::from_secs(5);
/// The market's time is remembered so often…
const TIMES_APART: Duration = Duration::from_millis(250);
/// …and so many times of it, the older ones less densely.
const TIMES_MAX: usize = 4_096;

/// What a pump keeps for its account.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// None before the lease and the memory of it are there.
    ledger: Option<GapLedger>,
    /// Of the memory that the ledger was begun with.
    epoch: u64,
    /// What is received may have changed.
    pub(super) stale: bool,
    /// As the ledger was last told; at its beginning all of the job.
    received: Subscriptions,
    /// What a remedy subscribes anew, until the venue has answered.
    pub(super) remedied: Subscriptions,
    /// Since when something has come back and its gap lasts, and how many records came since.
    returned: Option<(Instant, u32)>,
    /// Symbols that were known at the last look, where some are held apart from all.
    known: usize,
    times: Times,
}

/// What the market's time was at moments gone by: not that of the wall, which a feed may be behind of on purpose.
#[derive(Debug, Default)]
struct Times(VecDeque<(Instant, i64)>);

impl Times {
    fn note(&mut self, now: Instant, clock: i64) {
        if self.0.back().is_some_and(|(last, _)| now < *last + TIMES_APART) {
            return;
        }
        if self.0.len() >= TIMES_MAX {
            let (mut at, half) = (0_usize, TIMES_MAX / 2);
            self.0.retain(|_| {
                at += 1;
                at > half || !at.is_multiple_of(2)
            });
        }
        self.0.push_back((now, clock));
    }

    /// At `moment` or a little before, never after.
    fn at(&self, moment: Instant) -> Option<i64> {
        let later = self.0.partition_point(|(at, _)| *at <= moment);
        self.0.get(later.saturating_sub(1)).map(|(_, clock)| *clock)
    }
}

impl Account {
    /// Whether nothing ever told the time.
    pub(super) fn is_timeless(&self) -> bool {
        self.ledger.as_ref().is_some_and(|ledger| ledger.clock().is_none())
    }

    /// A turn brought so many records that tell the time, of which this is the newest.
    pub(super) fn take_time(&mut self, newest: i64, records: u32) {
        if let Some(ledger) = &mut self.ledger {
            ledger.handle_time(newest);
            self.times.note(Instant::now(), ledger.clock().unwrap_or(newest));
        }
        if let Some((_, came)) = &mut self.returned {
            *came = came.saturating_add(records);
        }
    }

    /// The market's time.
    pub(super) fn clock(&self) -> Option<i64> {
        self.ledger.as_ref()?.clock()
    }

    /// The market's time at a moment gone by, or a little before it; none before anything came.
    pub(super) fn time_at(&self, moment: std::time::Instant) -> Option<i64> {
        self.times.at(Instant::from_std(moment))
    }
}

impl Pump {
    /// Whether what the last producer left is known under the present lease.
    pub(super) fn remembers(&self) -> bool {
        self.wiring.memory.borrow().epoch == self.wiring.fence.epoch()
    }

    /// Once a turn. What a process misses after it begins to leave is the next one's to know.
    pub(super) fn keep_account(&mut self) {
        if self.leaving || !self.leased {
            return;
        }
        self.begin_ledger();
        if self.filter.holds_anything() {
            // A symbol that is held apart from all may have been seen for the first time.
            let known = self.wiring.symbols.len();
            self.account.stale |= self.filter.holds_apart(self.account.known..known);
            self.account.known = known;
        }
        let Some(mut ledger) = self.account.ledger.take() else { return };
        if std::mem::take(&mut self.account.stale) {
            let (received, apart) = self.received();
            let mut failed = self.filter.desired(&self.account.received);
            if self.lifecycle.is_live() {
                // What was held a moment ago may go too: its hold was undone too late.
                failed = failed.intersection(&self.account.remedied);
            }
            tell_received(&mut ledger, &failed, &received, &apart, self.cause());
            self.account.received = received;
        }
        if !self.lifecycle.is_live() || self.lifecycle.is_settled() {
            self.account.remedied = Subscriptions::default();
        }
        self.end_what_returned(&mut ledger);
        while let Some(gap) = ledger.poll_change() {
            self.tell_gap(&gap);
            self.wiring.book.take(&self.job.name, &gap);
        }
        self.state.clock = ledger.clock();
        self.account.ledger = Some(ledger);
    }

    fn begin_ledger(&mut self) {
        let memory = self.wiring.memory.borrow();
        if memory.epoch == self.account.epoch || memory.epoch != self.wiring.fence.epoch() {
            return;
        }
        let job = &self.job;
        let earlier = self.wiring.book.earlier(&job.name);
        let received_to = memory.received_to.get(&job.name).copied();
        let prefix = format!("{}-{:06}", job.name, memory.epoch);
        let ledger = GapLedger::new(&prefix, &job.subscriptions, earlier, received_to);
        self.account = Account {
            ledger: Some(ledger),
            epoch: memory.epoch,
            stale: true,
            received: job.subscriptions.clone(),
            times: std::mem::take(&mut self.account.times),
            ..Account::default()
        };
    }

    /// What comes in by name or by `*`, and what of `*` is held apart.
    fn received(&mut self) -> (Subscriptions, Subscriptions) {
        let job = &self.job;
        let apart = self.filter.apart(&job.subscriptions, |symbol| backfill::is_carried(&job.name, symbol));
        if !self.state.wanted || !self.lifecycle.is_live() {
            return (Subscriptions::default(), apart);
        }
        (self.filter.desired(self.lifecycle.subscribed()), apart)
    }

    /// Why that goes missing which no hold takes away; on a live connection a remedy does.
    fn cause(&self) -> Cause {
        match self.lifecycle.reason() {
            _ if !self.state.wanted => Cause::Pause,
            _ if self.lifecycle.is_live() => Cause::Mute,
            Some(Failure::Mute) => Cause::Mute,
            _ => Cause::Disconnect,
        }
    }

    fn end_what_returned(&mut self, ledger: &mut GapLedger) {
        if !ledger.awaits_time() {
            self.account.returned = None;
            return;
        }
        let (since, came) = *self.account.returned.get_or_insert((Instant::now(), 0));
        let waited = since.elapsed();
        let told = came >= RECORDS_TELL || (came > 0 && waited >= SOME_TELL_AFTER);
        match ledger.clock() {
            Some(clock) if told => ledger.handle_returned(clock),
            _ if waited >= WALL_TELLS_AFTER => ledger.handle_returned(wall_ts()),
            _ => {}
        }
    }

    fn tell_gap(&self, gap: &Gap) {
        let (job, id, cause) = (&*self.job.name, &*gap.id, gap.cause.as_str());
        let (symbols, channels) = (gap.symbols.len(), gap.channels.len());
        match gap.to {
            None => tracing::info!(job, gap = id, cause, symbols, channels, "gap_opened"),
            Some(to) => {
                let lasted_s = to.saturating_sub(gap.from) as f64 / 1e9;
                tracing::info!(job, gap = id, cause, symbols, channels, lasted_s, "gap_over");
            }
        }
    }
}

/// What was received and is no longer goes missing for `cause` where it is of `failed`, else for a pause.
fn tell_received(
    ledger: &mut GapLedger,
    failed: &Subscriptions,
    received: &Subscriptions,
    apart: &Subscriptions,
    cause: Cause,
) {
    ledger.handle_received(&failed.union(received), apart, Cause::Pause);
    ledger.handle_received(received, apart, cause);
}

#[cfg(test)]
mod tests {
    use alpaca_feed::subscription::Channel;

    use super::*;

    #[test]
    fn what_is_held_is_a_pause_and_what_a_remedy_unsubscribes_at_the_same_time_is_not() {
        let set = |symbols: &[&str]| symbols.iter().map(|symbol| (Channel::Trades, *symbol)).collect();
        let [all, both, spy, nothing]: [Subscriptions; 4] =
            [set(&["IBM", "MSFT", "SPY"]), set(&["MSFT", "SPY"]), set(&["SPY"]), set(&[])];
        let mut ledger = GapLedger::new("p", &all, Vec::new(), None);
        let told = |ledger: &mut GapLedger, failed: &_, received: &_, cause| -> Vec<(String, Cause)> {
            tell_received(ledger, failed, received, &nothing, cause);
            let of = |gap: Gap| gap.symbols.into_iter().map(move |symbol| (symbol, gap.cause));
            std::iter::from_fn(|| ledger.poll_change()).flat_map(of).collect()
        };
        ledger.handle_time(1);
        assert_eq!(told(&mut ledger, &nothing, &all, Cause::Mute), []);
        // IBM is held and MSFT is subscribed anew within one turn.
        let lost = told(&mut ledger, &both, &spy, Cause::Mute);
        assert_eq!(lost, [("IBM".to_owned(), Cause::Pause), ("MSFT".to_owned(), Cause::Mute)]);
        // MSFT is held before it came back: its gap goes on. Then the connection is lost.
        assert_eq!(told(&mut ledger, &spy, &spy, Cause::Mute), []);
        let lost = told(&mut ledger, &spy, &nothing, Cause::Disconnect);
        assert_eq!(lost, [("SPY".to_owned(), Cause::Disconnect)]);
        // What comes back ends its gap, whatever its cause.
        assert_eq!(told(&mut ledger, &nothing, &all, Cause::Mute), []);
        assert!(ledger.awaits_time());
        ledger.handle_returned(2);
        assert_eq!(std::iter::from_fn(|| ledger.poll_change()).filter(|gap| gap.to == Some(2)).count(), 3);
    }

    #[test]
    fn a_moment_gone_by_has_the_time_that_the_market_had_at_it_or_a_little_before() {
        let (start, day) = (Instant::now(), 86_400);
        let moment = |second: u64| start + Duration::from_secs(second);
        // A feed that is fifteen minutes late, for a day.
        let clock = |second: u64| (second as i64 - 900) * 1_000_000_000;
        let mut times = Times::default();
        assert_eq!(times.at(start), None);
        (0..=day).for_each(|second| times.note(moment(second), clock(second)));
        assert!(times.0.len() <= TIMES_MAX);
        for (ago, early_max) in [(0, 0), (30, 0), (1_800, 0), (7_200, 600), (40_000, 50_000)] {
            let early = clock(day - ago) - times.at(moment(day - ago)).unwrap_or(i64::MIN);
            assert!((0..=early_max * 1_000_000_000).contains(&early), "{ago}: {early}");
        }
    }
}
