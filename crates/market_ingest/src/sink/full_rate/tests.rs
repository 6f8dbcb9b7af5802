use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use alpaca_feed::message::{Bar, BarSpan, Kind, Quote};
use alpaca_feed::symbol::SymbolId;

use super::super::chunk::Origin;
use super::super::key::Keyer;
use super::super::overflow::Lanes;
use super::*;
use crate::lease::Fence;

const SECOND: i64 = 1_000_000_000;
const JOB: JobId = JobId(0);

/// What a destination has done, and what it is told to do.
#[derive(Debug, Default)]
struct Outside {
    /// Market times of what was written and finished, with the origin, the sequence and the ordinal.
    durable: Vec<(i64, Origin, Option<u64>, u32)>,
    fails: bool,
    hangs: bool,
    /// Finishes only when asked to by a drain or by want of room.
    holds: bool,
    finished: u32,
    /// Takes none of what it is given next.
    refuses: bool,
}

#[derive(Debug)]
struct Fake {
    outside: Arc<Mutex<Outside>>,
    written: Vec<(i64, Origin, Option<u64>, u32)>,
}

impl Destination for Fake {
    const LINGER: Duration = Duration::from_millis(5);
    const BATCH_BYTES: usize = 1 << 20;

    async fn write(&mut self, _: u64, chunks: &[Arc<Chunk>]) -> anyhow::Result<Written> {
        while self.outside.lock().unwrap().hangs {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if self.outside.lock().unwrap().fails {
            self.written.clear();
            anyhow::bail!("no");
        }
        if std::mem::take(&mut self.outside.lock().unwrap().refuses) {
            return Ok(Written { refused: chunks.iter().map(|chunk| chunk.len() as u64).sum() });
        }
        let records = chunks.iter().flat_map(|chunk| chunk.records());
        self.written.extend(records.map(|r| (r.event.ts(), r.origin, r.seq, r.ordinal)));
        Ok(Written::default())
    }

    async fn finish(&mut self) -> anyhow::Result<()> {
        let mut outside = self.outside.lock().unwrap();
        if outside.fails {
            self.written.clear();
            anyhow::bail!("no");
        }
        outside.durable.append(&mut self.written);
        outside.finished += 1;
        Ok(())
    }

    fn finish_at(&self) -> Option<Instant> {
        self.outside.lock().unwrap().holds.then(|| Instant::now() + Duration::from_secs(3600))
    }

    async fn discard(&mut self) {
        self.written.clear();
    }
}

fn sink(bytes_max: usize, outside: Outside) -> (FullRate, Arc<Mutex<Outside>>, Fence) {
    let (front, outlet) = FullRate::new("fake", bytes_max);
    let outside = Arc::new(Mutex::new(outside));
    let fence = Fence::held(1);
    let fake = Fake { outside: Arc::clone(&outside), written: Vec::new() };
    tokio::spawn(Courier::new(outlet, fence.clone(), fake).run());
    (front, outside, fence)
}

fn quote(symbol: u32, ts: i64) -> Event {
    Event::Quote(Quote {
        ts,
        received_ts: None,
        bid_price: 1.0,
        bid_size: 1.0,
        ask_price: 2.0,
        ask_size: 1.0,
        symbol: SymbolId(symbol),
        bid_exchange: Default::default(),
        ask_exchange: Default::default(),
        tape: Default::default(),
        conditions: Default::default(),
    })
}

fn bar(ts: i64, span: BarSpan) -> Event {
    let (received_ts, symbol) = (None, SymbolId(0));
    let [open, high, low, close, volume, vwap] = [1.0; 6];
    Event::Bar(Bar { ts, received_ts, open, high, low, close, volume, vwap, trade_count: 1, symbol, span })
}

fn batch(events: impl IntoIterator<Item = Event>) -> Batch {
    Batch { events: events.into_iter().collect(), ..Batch::default() }
}

fn quotes(times: impl IntoIterator<Item = i64>) -> Batch {
    batch(times.into_iter().map(|ts| quote(0, ts)))
}

fn whole() -> Part {
    Part { job: JOB, symbols: None }
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting)
        .await
        .unwrap_or_else(|_| panic!("in vain: {what}"));
}

#[tokio::test(start_paused = true)]
async fn what_is_accepted_is_written_in_order_once_with_sequence_and_ordinal() {
    let (sink, outside, _) = sink(1 << 20, Outside::default());
    sink.accept(JOB, &quotes([1, 2]));
    sink.accept(JOB, &quotes([2, 3]));
    eventually("four", || sink.counts().written.load(Ordering::Relaxed) == 4).await;
    let live = |ts, seq, ordinal| (ts, Origin::Live, Some(seq), ordinal);
    assert_eq!(outside.lock().unwrap().durable, [live(1, 0, 0), live(2, 1, 0), live(2, 2, 1), live(3, 3, 0)]);
    assert_eq!((sink.bytes(), sink.healthy(), sink.durable_to(JOB)), (0, Some(true), Some(3)));
}

#[tokio::test(start_paused = true)]
async fn what_a_destination_will_never_take_is_dropped_and_not_written_and_holds_nothing_up() {
    let (sink, outside, _) = sink(1 << 20, Outside { refuses: true, ..Outside::default() });
    sink.accept(JOB, &quotes([1, 2]));
    eventually("two dropped", || sink.counts().dropped.load(Ordering::Relaxed) == 2).await;
    sink.accept(JOB, &quotes([3]));
    eventually("one written", || sink.counts().written.load(Ordering::Relaxed) == 1).await;
    assert_eq!(outside.lock().unwrap().durable.len(), 1);
    assert_eq!((sink.counts().dropped.load(Ordering::Relaxed), sink.bytes()), (2, 0));
    assert_eq!((sink.durable_to(JOB), sink.take_overflows().len()), (Some(3), 0));
}

#[tokio::test(start_paused = true)]
async fn the_durable_clock_is_that_before_the_oldest_chunk_that_is_not_durable() {
    let (sink, outside, _) = sink(1 << 20, Outside { holds: true, ..Outside::default() });
    assert_eq!(sink.durable_to(JOB), None);
    sink.accept(JOB, &quotes([10 * SECOND]));
    assert_eq!(sink.durable_to(JOB), Some(10 * SECOND), "before the first record, nothing was there to keep");
    sink.clone().drain(whole()).await;
    assert_eq!(sink.durable_to(JOB), Some(10 * SECOND));
    sink.accept(JOB, &quotes([20 * SECOND, 15 * SECOND]));
    sink.accept(JobId(1), &quotes([99 * SECOND]));
    assert_eq!(sink.durable_to(JOB), Some(10 * SECOND));
    // Written is not durable.
    let part = Part { job: JOB, symbols: Some(Arc::new(HashSet::from([SymbolId(0)]))) };
    assert_eq!(sink.clone().drain(part).await, Drained { delivered: 2, dropped: 0 });
    assert_eq!((sink.durable_to(JOB), outside.lock().unwrap().finished), (Some(10 * SECOND), 1));
    sink.clone().drain(whole()).await;
    assert_eq!(sink.durable_to(JOB), Some(20 * SECOND));
    // A bar tells the time at which it leaves the venue; a day tells none.
    let bars = [bar(60 * SECOND, BarSpan::Minute), bar(500 * SECOND, BarSpan::Day)];
    sink.accept(JOB, &batch(bars));
    sink.clone().drain(whole()).await;
    assert_eq!(sink.durable_to(JOB), Some(120 * SECOND));
    sink.accept(JOB, &batch([bar(60 * SECOND, BarSpan::UpdatedMinute)]));
    sink.clone().drain(whole()).await;
    assert_eq!(sink.durable_to(JOB), Some(150 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_record_of_the_future_does_not_carry_the_clock_away() {
    let (sink, ..) = sink(1 << 20, Outside { holds: true, ..Outside::default() });
    let now = wall_ts();
    sink.accept(JOB, &quotes([now - 5 * SECOND, now + 86_400 * SECOND, now - 4 * SECOND]));
    sink.clone().drain(whole()).await;
    let kept = sink.durable_to(JOB).unwrap();
    assert!((now..now + 60 * SECOND).contains(&kept), "{}", kept - now);
    let few = 4 << 10;
    let (sink, _) = FullRate::new("fake", few);
    sink.accept(JOB, &quotes([now, now + 86_400 * SECOND].repeat(few)));
    let [lost] = sink.take_overflows().try_into().unwrap();
    assert!(lost.to_ts < now + 60 * SECOND, "a gap does not reach into the future: {}", lost.to_ts - now);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_is_refused_whole_counted_and_told_with_its_bounds() {
    let (sink, outside, _) = sink(64 << 10, Outside { hangs: true, ..Outside::default() });
    sink.accept(JOB, &quotes([SECOND]));
    let mut ts = 2 * SECOND;
    while sink.counts().dropped.load(Ordering::Relaxed) < 300 {
        sink.accept(JOB, &batch((0..100).map(|n| quote(n % 2, ts + i64::from(n)))));
        tokio::task::yield_now().await;
        ts += SECOND;
    }
    assert!(sink.bytes() <= 64 << 10, "{} bytes", sink.bytes());
    assert!(!sink.has_room());
    let [overflow] = sink.take_overflows().try_into().unwrap();
    let lanes = [0, 1].map(|symbol| (Kind::Quote, Some(SymbolId(symbol))));
    assert_eq!(overflow.lanes, Lanes::Some(BTreeSet::from(lanes)));
    assert_eq!((overflow.job, overflow.records), (JOB, 300));
    assert_eq!((overflow.from_ts, overflow.to_ts), (ts - 3 * SECOND, ts - SECOND + 99));
    assert!(sink.take_overflows().is_empty());

    // After room was made, the next loss is another one; what was accepted all arrives, and the sequence shows the hole.
    let stuck = sink.clone().drain(whole()).await;
    assert_eq!(stuck.delivered, 0);
    outside.lock().unwrap().hangs = false;
    sink.accept(JOB, &quotes([ts]));
    eventually("the last one", || outside.lock().unwrap().durable.len() == 1).await;
    let [given_up] = sink.take_overflows().try_into().unwrap();
    assert_eq!((given_up.from_ts, given_up.records), (SECOND, stuck.dropped));
    let all = stuck.dropped + 300;
    assert_eq!(outside.lock().unwrap().durable, [(ts, Origin::Live, Some(all), 0)]);
    assert_eq!(sink.durable_to(JOB), Some(ts));
}

#[tokio::test(start_paused = true)]
async fn losses_that_nobody_takes_stay_few() {
    let (sink, outside, _) = sink(4 << 10, Outside::default());
    for round in 0..1000 {
        sink.accept(JOB, &quotes([round * SECOND; 100]));
        sink.accept(JobId(1), &quotes([round * SECOND]));
        sink.accept(JOB, &quotes([round * SECOND]));
        eventually("room", || sink.bytes() == 0).await;
    }
    let overflows = sink.take_overflows();
    assert!(overflows.len() <= 64, "{}", overflows.len());
    assert_eq!(overflows.iter().map(|overflow| overflow.records).sum::<u64>(), 100_000);
    assert_eq!((overflows[0].from_ts, overflows.last().unwrap().to_ts), (0, 999 * SECOND));
    assert_eq!(outside.lock().unwrap().durable.len(), 2000);
}

#[tokio::test(start_paused = true)]
async fn a_failure_loses_nothing_and_repeats_nothing_under_another_key() {
    let (sink, outside, _) = sink(1 << 20, Outside { holds: true, ..Outside::default() });
    sink.accept(JOB, &quotes([1, 1, 2]));
    eventually("written", || sink.healthy() == Some(true)).await;
    outside.lock().unwrap().fails = true;
    sink.accept(JOB, &quotes([1, 3]));
    eventually("a failure", || sink.healthy() == Some(false)).await;
    outside.lock().unwrap().fails = false;
    assert_eq!(sink.clone().drain(whole()).await, Drained { delivered: 5, dropped: 0 });
    let live = |ts, seq, ordinal| (ts, Origin::Live, Some(seq), ordinal);
    let all = [live(1, 0, 0), live(1, 1, 1), live(2, 2, 0), live(1, 3, 2), live(3, 4, 0)];
    assert_eq!(outside.lock().unwrap().durable, all);
    assert!(sink.take_overflows().is_empty() && sink.counts().errors.load(Ordering::Relaxed) > 0);
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_is_late_gives_up_its_part_and_keeps_the_rest() {
    let (sink, outside, _) = sink(1 << 20, Outside { hangs: true, ..Outside::default() });
    sink.accept(JOB, &batch([quote(0, 1), quote(1, 2), quote(0, 3)]));
    sink.accept(JobId(1), &quotes([4]));
    let part = Part { job: JOB, symbols: Some(Arc::new(HashSet::from([SymbolId(0)]))) };
    let began = Instant::now();
    assert_eq!(sink.clone().drain(part).await, Drained { delivered: 0, dropped: 2 });
    assert!(began.elapsed() >= DRAIN_LIMIT && began.elapsed() < DRAIN_LIMIT + Duration::from_millis(100));
    outside.lock().unwrap().hangs = false;
    eventually("the rest", || outside.lock().unwrap().durable.len() == 2).await;
    let mut durable = outside.lock().unwrap().durable.clone();
    durable.sort_by_key(|record| record.0);
    assert_eq!(durable, [(2, Origin::Live, Some(1), 0), (4, Origin::Live, Some(0), 0)]);
    let [overflow] = sink.take_overflows().try_into().unwrap();
    assert_eq!((overflow.from_ts, overflow.to_ts, overflow.records), (1, 3, 2));
    assert_eq!(sink.bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_is_withdrawn_gives_up_nothing() {
    let (sink, outside, _) = sink(1 << 20, Outside { fails: true, ..Outside::default() });
    sink.accept(JOB, &quotes([1]));
    let withdrawn = tokio::time::timeout(DRAIN_LIMIT / 2, sink.clone().drain(whole())).await;
    assert!(withdrawn.is_err());
    tokio::time::sleep(2 * DRAIN_LIMIT).await;
    outside.lock().unwrap().fails = false;
    eventually("the record", || outside.lock().unwrap().durable.len() == 1).await;
    assert_eq!(sink.counts().dropped.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_waits_for_room_and_leaves_half_of_it_to_live_data() {
    let (sink, outside, _) = sink(64 << 10, Outside { holds: true, ..Outside::default() });
    let mut keyer = Keyer::default();
    let mut rows =
        |from: i64| Backfill::new(JOB, (from..from + 100).map(|ts| quote(0, ts)).collect(), &mut keyer);
    let mut tickets = Vec::new();
    for page in 0..20 {
        tickets.push(sink.accept_backfill(rows(page * 100), || true).await.unwrap());
        assert!(sink.bytes() <= 32 << 10, "{} bytes", sink.bytes());
        sink.accept(JOB, &quotes([page]));
    }
    assert!(outside.lock().unwrap().finished > 0, "room was made because a fetch waited for it");
    assert_eq!(sink.counts().dropped.load(Ordering::Relaxed), 0);
    assert!(sink.outcome(tickets[0]) == Outcome::Durable && sink.outcome(tickets[19]) == Outcome::Waiting);
    sink.clone().drain(whole()).await;
    assert!(sink.outcome(tickets[19]) == Outcome::Durable);
    let durable = &outside.lock().unwrap().durable;
    let fetched: Vec<_> = durable.iter().filter(|record| record.1 == Origin::Backfill).collect();
    assert_eq!((fetched.len(), durable.len()), (2000, 2020));
    assert!(fetched.iter().all(|record| record.2.is_none() && record.3 == 0));
}

#[tokio::test(start_paused = true)]
async fn behind_a_shut_fence_nothing_is_written_and_everything_is_told() {
    let (sink, outside, fence) = sink(1 << 20, Outside { holds: true, ..Outside::default() });
    sink.accept(JOB, &quotes([1]));
    eventually("written", || sink.healthy() == Some(true)).await;
    fence.close();
    sink.accept(JOB, &quotes([2]));
    eventually("both given up", || sink.counts().dropped.load(Ordering::Relaxed) == 2).await;
    let [overflow] = sink.take_overflows().try_into().unwrap();
    assert_eq!((overflow.from_ts, overflow.to_ts, overflow.records), (1, 2, 2));
    fence.reopen(2);
    sink.accept(JOB, &quotes([3]));
    sink.clone().drain(whole()).await;
    assert_eq!(outside.lock().unwrap().durable, [(3, Origin::Live, Some(2), 0)]);
}

#[tokio::test(start_paused = true)]
async fn what_is_written_is_made_durable_also_while_more_and_more_comes() {
    let (sink, outside, _) = sink(64 << 10, Outside { holds: true, ..Outside::default() });
    for ts in 0..100 {
        // Closed chunks wait at every moment, and no drain asks for anything.
        sink.accept(JOB, &quotes([ts; 50]));
        sink.shared.queue().seal(JOB);
        eventually("room", || sink.bytes() < 48 << 10).await;
    }
    assert_eq!(sink.counts().dropped.load(Ordering::Relaxed), 0);
    assert!(outside.lock().unwrap().finished >= 5);
}

#[tokio::test(start_paused = true)]
async fn what_a_late_drain_had_written_becomes_durable_soon_after() {
    let (sink, outside, _) = sink(1 << 20, Outside { holds: true, ..Outside::default() });
    sink.accept(JOB, &quotes([1]));
    eventually("written", || sink.healthy() == Some(true)).await;
    outside.lock().unwrap().hangs = true;
    sink.accept(JOB, &quotes([2]));
    assert_eq!(sink.clone().drain(whole()).await, Drained { delivered: 0, dropped: 1 });
    outside.lock().unwrap().hangs = false;
    eventually("durable", || sink.bytes() == 0).await;
    assert_eq!(outside.lock().unwrap().durable.len(), 1);
}
