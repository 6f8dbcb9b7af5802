//! The wall clock, and what comes by inputs, on a clock that the test sets. No real file, no real time.

#![allow(clippy::unwrap_used)]

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use tokio::time::timeout;

use super::*;
use crate::coverage::Coverage;
use crate::flag::Notes;
use crate::scope::Scope;

thread_local! {
    /// The wall clock showed this at that instant; each test has its own thread.
    static SET: Cell<Option<(Instant, Timestamp)>> = const { Cell::new(None) };
}

fn clock() -> Timestamp {
    let (instant, shown) = SET.get().unwrap();
    shown + SignedDuration::try_from(instant.elapsed()).unwrap()
}

fn set_clock(to: &str) {
    SET.set(Some((Instant::now(), at(to))));
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn config(inputs: mpsc::Receiver<Input>) -> Config {
    Config {
        env: None,
        file: None,
        poll: Duration::from_secs(3600),
        events: false,
        jobs: Vec::new(),
        schedule: None,
        remembered: Vec::new(),
        inputs,
        first: Vec::new(),
    }
}

fn schedule(text: &str) -> Option<Schedule> {
    Some(text.parse().unwrap())
}

fn off(scope: &str, until: Option<&str>) -> Observation {
    let notes = Notes { until: until.map(at), ..Notes::default() };
    Observation::Off { scope: scope.parse().unwrap(), notes, since: None }
}

fn hold(source: &str) -> Hold {
    let source = Source::new(source);
    let since = at("2026-11-21T10:00:00Z");
    Hold { source, scope: Scope::ALL, reason: None, actor: None, since, until: None }
}

fn signal(off_now: bool) -> Input {
    Input::Source(Source::signal("SIGUSR1"), if off_now { off("all", None) } else { Observation::NoOpinion })
}

fn control(readings: Vec<(Source, Observation)>, generation: i64) -> Input {
    Input::Group { group: "control", readings, generation: Some(generation) }
}

fn unreadable() -> Input {
    Input::GroupDoubt { group: "control", doubt: Doubt::Hanging }
}

/// A running watcher on the test's clock.
struct Rig {
    decisions: watch::Receiver<Decided>,
    inputs: mpsc::Sender<Input>,
}

impl Rig {
    async fn start(change: impl FnOnce(Config) -> Config) -> Self {
        let (inputs, receiver) = mpsc::channel(1024);
        let (decisions, watcher) = start_by(clock, change(config(receiver))).await;
        tokio::spawn(watcher.run());
        Self { decisions, inputs }
    }

    fn now(&self) -> Decision {
        self.decisions.borrow().decision.clone()
    }

    /// Waits for a decision that `wanted` accepts, and returns when it was come to.
    async fn until(&mut self, limit: Duration, wanted: impl Fn(&Decision) -> bool) -> Decided {
        let found = timeout(limit, self.decisions.wait_for(|decided| wanted(&decided.decision))).await;
        let found = found.map(|decided| decided.unwrap().clone());
        found.unwrap_or_else(|_| panic!("still {:?} at {}", self.now(), clock()))
    }

    async fn until_enabled(&mut self, enabled: bool, limit: Duration) -> Decided {
        self.until(limit, |decision| decision.enabled == enabled).await
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn the_schedule_holds_outside_its_windows_and_each_edge_is_on_time() {
    set_clock("2026-11-22T10:00:00Z");
    let text = "Mon-Fri 04:00-20:00 America/New_York";
    let mut rig = Rig::start(|config| Config { schedule: schedule(text), ..config }).await;
    let decision = rig.now();
    assert!(!decision.enabled);
    assert_eq!(decision.source, Some(Source::new(format!("schedule:{text}"))));
    let reason = decision.holds[0].reason.as_deref();
    assert_eq!(reason, Some("outside the schedule until 2026-11-23T09:00:00Z"));

    for (enabled, due) in
        [(true, "2026-11-23T09:00:00Z"), (false, "2026-11-24T01:00:00Z"), (true, "2026-11-24T09:00:00Z")]
    {
        rig.until_enabled(enabled, SECOND * 86_400).await;
        let late = clock().duration_since(at(due));
        assert!(!late.is_negative() && late <= SignedDuration::from_millis(5), "{due}: {late:?}");
    }
    assert_eq!(rig.decisions.borrow().seq, 3, "one publication an edge");
}

#[tokio::test(start_paused = true)]
async fn a_jump_of_the_clock_over_an_edge_of_the_schedule_is_followed_within_a_second_in_both_directions() {
    set_clock("2026-11-23T08:00:00Z");
    let mut rig = Rig::start(|config| Config { schedule: schedule("Mon 09:00-17:00"), ..config }).await;
    for (to, enabled) in [
        ("2026-11-23T10:00:00Z", true),
        ("2026-11-23T18:00:00Z", false),
        ("2026-11-23T16:00:00Z", true),
        ("2026-11-23T08:59:00Z", false),
    ] {
        assert_eq!(rig.now().enabled, !enabled);
        set_clock(to);
        rig.until_enabled(enabled, SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_schedule_that_covers_the_week_holds_nothing() {
    set_clock("2026-11-22T10:00:00Z");
    let rig = Rig::start(|config| Config { schedule: schedule("daily 00:00-24:00"), ..config }).await;
    assert!(timeout(SECOND * 86_400 * 3, rig.decisions.clone().changed()).await.is_err());
    assert_eq!((rig.now().enabled, rig.now().source, rig.now().holds.len()), (true, None, 0));
}

#[tokio::test(start_paused = true)]
async fn a_hold_ends_on_time_also_after_a_jump_of_the_clock() {
    for jump in [None, Some("2026-11-22T11:00:00Z")] {
        set_clock("2026-11-22T10:00:00Z");
        let mut rig = Rig::start(|config| config).await;
        let source = Source::control("1");
        let held = Input::Source(source, off("all", Some("2026-11-22T10:30:00Z")));
        rig.inputs.send(held).await.unwrap();
        rig.until_enabled(false, SECOND).await;
        match jump {
            Some(to) => {
                set_clock(to);
                rig.until_enabled(true, SECOND).await;
            }
            None => {
                rig.until_enabled(true, SECOND * 3_600).await;
                let late = clock().duration_since(at("2026-11-22T10:30:00Z"));
                assert!(!late.is_negative() && late <= SignedDuration::from_millis(5), "{late:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_steps_back_neither_ends_a_hold_nor_begins_one_that_is_over() {
    set_clock("2026-11-22T10:00:00Z");
    let mut rig = Rig::start(|config| config).await;
    let held = |until| control(vec![(Source::control("1"), off("all", Some(until)))], 1);
    rig.inputs.send(held("2026-11-22T10:10:00Z")).await.unwrap();
    rig.until_enabled(false, SECOND).await;
    set_clock("2026-11-22T09:00:00Z");
    assert!(timeout(SECOND * 3_600, rig.decisions.changed()).await.is_err(), "an hour more");
    rig.until_enabled(true, SECOND * 3_600).await;
    set_clock("2026-11-22T09:00:00Z");
    rig.inputs.send(held("2026-11-22T10:10:00Z")).await.unwrap();
    assert!(
        timeout(SECOND * 3_600, rig.decisions.wait_for(|decided| !decided.decision.enabled)).await.is_err()
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_read_already_stands_in_the_first_decision() {
    set_clock("2026-11-22T10:00:00Z");
    let plan = |name: &str, symbol: &str| JobPlan {
        name: name.to_owned(),
        pairs: vec![("trades".to_owned(), symbol.to_owned())],
    };
    let first = vec![control(vec![(Source::control("1"), off("job:iex", None))], 12)];
    let jobs = vec![plan("iex", "AAPL"), plan("crypto-us", "BTC/USD")];
    let rig = Rig::start(|config| Config { first, jobs, ..config }).await;
    let decided = rig.decisions.borrow().clone();
    assert_eq!((decided.seq, decided.decision.generation), (0, Some(12)));
    assert!(decided.decision.enabled, "the other job runs");
    let coverage = Coverage::new(&decided.decision.holds);
    assert!(coverage.is_held("iex", "AAPL", "trades") && !coverage.is_held("crypto-us", "BTC/USD", "trades"));
}

#[tokio::test(start_paused = true)]
async fn holds_of_an_earlier_run_stand_while_their_group_cannot_be_read() {
    set_clock("2026-11-22T10:00:00Z");
    let remembered = ["control:1", "env:INGEST_ENABLED", "signal:SIGUSR1", "schedule:x", "file:/other"];
    let remembered: Vec<_> = remembered.into_iter().map(hold).collect();
    let first = vec![unreadable()];
    let mut rig = Rig::start(|config| Config { remembered, first, ..config }).await;
    let decision = rig.now();
    assert_eq!(decision.holds, [hold("control:1")], "the others live no longer than the process");
    assert_eq!((decision.enabled, decision.flag_fresh, decision.doubts.len()), (false, false, 1));
    rig.inputs.send(control(vec![], 1)).await.unwrap();
    let decision = rig.until_enabled(true, SECOND).await.decision;
    assert_eq!((decision.flag_fresh, decision.doubts.len()), (true, 0));
}

#[tokio::test(start_paused = true)]
async fn a_remembered_hold_keeps_its_beginning_whichever_group_lists_it() {
    set_clock("2026-11-22T10:00:00Z");
    let (listed, gone) = (Source::control("row"), Source::control("gone"));
    let remembered: Vec<_> = [&listed, &gone].map(|source| hold(source.as_str())).into();
    let rows = Input::Group { group: "rows", readings: vec![(listed, off("all", None))], generation: None };
    for first in [vec![control(vec![], 1), rows.clone()], vec![rows, control(vec![], 1), unreadable()]] {
        let doubt = first.contains(&unreadable());
        let remembered = remembered.clone();
        let rig = Rig::start(|config| Config { remembered, first, ..config }).await;
        let decision = rig.now();
        assert_eq!(decision.holds, [hold("control:row")], "what no group lists is released");
        assert_eq!((decision.since, decision.flag_fresh), (hold("control:row").since, !doubt));
    }
}

#[tokio::test(start_paused = true)]
async fn inputs_that_come_together_are_published_together_and_the_last_value_wins() {
    set_clock("2026-11-22T10:00:00Z");
    let mut rig = Rig::start(|config| config).await;
    let count = 300;
    for n in 0..count {
        let readings = vec![(Source::control(&n.to_string()), off("symbol:AAPL", None))];
        rig.inputs.try_send(control(readings, n)).unwrap();
    }
    let last = rig.until(SECOND, |decision| decision.generation == Some(count - 1)).await;
    assert_eq!(last.decision.holds.len(), 1);
    let turns = u64::try_from(count).unwrap().div_ceil(TURN_MAX as u64);
    assert!(last.seq <= turns, "{} publications for {turns} turns", last.seq);
}

#[tokio::test(start_paused = true)]
async fn a_pause_is_published_before_what_follows_it_in_the_same_turn() {
    set_clock("2026-11-22T10:00:00Z");
    let mut rig = Rig::start(|config| config).await;
    for input in [signal(true), signal(false), control(vec![], 1)] {
        rig.inputs.try_send(input).unwrap();
    }
    let decided = rig.until(SECOND, |decision| decision.generation == Some(1)).await;
    assert_eq!((decided.decision.enabled, decided.seq), (true, 2), "the pause was told though it was over");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_toggles_end_with_the_last_value() {
    for last_off in [true, false] {
        set_clock("2026-11-22T10:00:00Z");
        let mut rig = Rig::start(|config| config).await;
        for toggle in 0..1_000 {
            rig.inputs.try_send(signal((toggle % 2 == 0) == last_off)).unwrap();
        }
        rig.inputs.try_send(signal(last_off)).unwrap();
        rig.inputs.try_send(control(vec![], 1)).unwrap();
        let decided = rig.until(SECOND, |decision| decision.generation == Some(1)).await;
        assert_eq!(decided.decision.enabled, !last_off);
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_never_rests_delays_neither_the_end_of_a_hold_nor_the_schedule() {
    set_clock("2026-11-22T23:59:58Z");
    let mut rig = Rig::start(|config| Config { schedule: schedule("Sun 00:00-24:00"), ..config }).await;
    let held = off("all", Some("2026-11-22T23:59:59Z"));
    rig.inputs.try_send(Input::Source(Source::control("1"), held)).unwrap();
    rig.until_enabled(false, SECOND).await;
    let inputs = rig.inputs.clone();
    let busy = tokio::spawn(async move {
        for n in 0.. {
            let reading = vec![(Source::control("2"), off("symbol:X", None))];
            if inputs.send(control(reading, n)).await.is_err() {
                return;
            }
            if n % 100 == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    for (enabled, due) in [(true, "2026-11-22T23:59:59Z"), (false, "2026-11-23T00:00:00Z")] {
        rig.until_enabled(enabled, SECOND * 60).await;
        let late = clock().duration_since(at(due));
        assert!(!late.is_negative() && late <= SignedDuration::from_millis(20), "{due}: {late:?}");
    }
    busy.abort();
}

#[derive(Default)]
struct CountsWakes(AtomicUsize);

impl Wake for CountsWakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn closed_inputs_are_not_awaited_again() {
    set_clock("2026-11-22T10:00:00Z");
    let (inputs, receiver) = mpsc::channel(8);
    let (decisions, watcher) = start_by(clock, config(receiver)).await;
    inputs.try_send(signal(true)).unwrap();
    drop(inputs);
    let wakes = Arc::new(CountsWakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let mut run = std::pin::pin!(watcher.run());
    for _ in 0..3 {
        assert_eq!(run.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Pending);
    }
    assert!(!decisions.borrow().decision.enabled, "what was sent before counts");
    assert_eq!(wakes.0.load(Ordering::SeqCst), 0, "it rests");
    drop(decisions);
    assert_eq!(run.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Ready(()));
}
