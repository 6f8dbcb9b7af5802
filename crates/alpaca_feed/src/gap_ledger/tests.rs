#![allow(clippy::unwrap_used)]

use super::*;

fn set(pairs: &[(Channel, &str)]) -> Subscriptions {
    pairs.iter().copied().collect()
}

fn nothing() -> Subscriptions {
    Subscriptions::default()
}

fn two() -> Subscriptions {
    set(&[(Channel::Trades, "IBM"), (Channel::Trades, "SPY")])
}

/// Something came, enough of it to end what came back.
fn came(ledger: &mut GapLedger, at: i64) {
    ledger.handle_time(at);
    if ledger.awaits_time() {
        ledger.handle_returned(at);
    }
}

/// A change in short: symbols, from, to, cause.
fn told(ledger: &mut GapLedger) -> Vec<(String, i64, Option<i64>, Cause)> {
    let mut all = Vec::new();
    while let Some(gap) = ledger.poll_change() {
        let symbols: Vec<&str> = gap.symbols.iter().map(String::as_str).collect();
        all.push((symbols.join(","), gap.from, gap.to, gap.cause));
    }
    all
}

fn flowing(universe: &Subscriptions, at: i64) -> GapLedger {
    let mut ledger = GapLedger::new("p", universe, Vec::new(), None);
    ledger.handle_received(universe, &nothing(), Cause::Disconnect);
    came(&mut ledger, at);
    assert_eq!(told(&mut ledger), [], "nothing is missing before the first that came");
    ledger
}

#[test]
fn what_was_not_received_when_the_first_time_is_told_is_one_gap() {
    let mut ledger = GapLedger::new("p", &two(), Vec::new(), None);
    ledger.handle_received(&nothing(), &nothing(), Cause::Disconnect);
    ledger.handle_time(10);
    assert_eq!(told(&mut ledger), [("IBM,SPY".to_owned(), 10, None, Cause::Disconnect)]);
}

#[test]
fn a_lost_connection_leaves_a_gap_from_the_last_that_came_to_the_next() {
    let mut ledger = flowing(&two(), 10);
    came(&mut ledger, 15);
    ledger.handle_received(&nothing(), &nothing(), Cause::Disconnect);
    assert_eq!(told(&mut ledger), [("IBM,SPY".to_owned(), 15, None, Cause::Disconnect)]);
    // Held meanwhile: still one gap, whose cause is what began it.
    ledger.handle_received(&nothing(), &nothing(), Cause::Pause);
    ledger.handle_received(&two(), &nothing(), Cause::Pause);
    assert!(ledger.awaits_time() && told(&mut ledger).is_empty());
    came(&mut ledger, 31);
    assert_eq!(told(&mut ledger), [("IBM,SPY".to_owned(), 15, Some(31), Cause::Disconnect)]);
    assert!(!ledger.awaits_time());
}

#[test]
fn a_connection_lost_again_before_anything_came_goes_on_with_its_gap() {
    let mut ledger = flowing(&two(), 10);
    ledger.handle_received(&nothing(), &nothing(), Cause::Pause);
    ledger.handle_received(&two(), &nothing(), Cause::Pause);
    ledger.handle_received(&nothing(), &nothing(), Cause::Disconnect);
    ledger.handle_received(&two(), &nothing(), Cause::Disconnect);
    came(&mut ledger, 40);
    let all = told(&mut ledger);
    assert_eq!(all.last(), Some(&("IBM,SPY".to_owned(), 10, Some(40), Cause::Pause)));
    assert_eq!(all.len(), 2, "opened once, ended once: {all:?}");
}

#[test]
fn a_part_that_comes_back_ends_its_part_of_the_gap() {
    let mut ledger = flowing(&two(), 10);
    ledger.handle_received(&nothing(), &nothing(), Cause::Pause);
    let spy = set(&[(Channel::Trades, "SPY")]);
    ledger.handle_received(&spy, &nothing(), Cause::Pause);
    came(&mut ledger, 20);
    ledger.handle_received(&two(), &nothing(), Cause::Pause);
    came(&mut ledger, 30);
    assert_eq!(
        told(&mut ledger),
        [
            ("IBM,SPY".to_owned(), 10, None, Cause::Pause),
            ("IBM".to_owned(), 10, None, Cause::Pause),
            ("SPY".to_owned(), 10, Some(20), Cause::Pause),
            ("IBM".to_owned(), 10, Some(30), Cause::Pause),
        ]
    );
}

#[test]
fn a_symbol_held_apart_from_all_has_its_own_gap_and_rejoins_all() {
    let all = set(&[(Channel::Trades, "*"), (Channel::Bars, "SPY")]);
    let mut ledger = flowing(&all, 10);
    let ibm = set(&[(Channel::Trades, "IBM")]);
    ledger.handle_received(&all, &ibm, Cause::Pause);
    came(&mut ledger, 12);
    ledger.handle_received(&nothing(), &ibm, Cause::Disconnect);
    ledger.handle_received(&all, &ibm, Cause::Disconnect);
    came(&mut ledger, 20);
    ledger.handle_received(&all, &nothing(), Cause::Pause);
    came(&mut ledger, 30);
    let all_told = told(&mut ledger);
    assert_eq!(all_told[0], ("IBM".to_owned(), 10, None, Cause::Pause));
    assert_eq!(all_told.last(), Some(&("IBM".to_owned(), 10, Some(30), Cause::Pause)));
    for symbols in ["*", "SPY"] {
        assert!(all_told.contains(&(symbols.to_owned(), 12, Some(20), Cause::Disconnect)), "{all_told:?}");
    }
    assert_eq!(ledger.lanes.len(), 2, "the lane apart is gone");
    assert_eq!(ledger.open().count(), 0);
}

#[test]
fn a_process_that_was_away_leaves_a_gap_and_takes_up_those_that_lasted() {
    let mut first = flowing(&two(), 10);
    let spy = set(&[(Channel::Trades, "SPY")]);
    first.handle_received(&spy, &nothing(), Cause::Pause);
    let lasted: Vec<Gap> = first.open().cloned().collect();
    came(&mut first, 20);

    let mut second = GapLedger::new("q", &two(), lasted, first.clock());
    assert_eq!(told(&mut second), [("SPY".to_owned(), 20, None, Cause::Restart)]);
    second.handle_received(&two(), &nothing(), Cause::Disconnect);
    came(&mut second, 50);
    assert_eq!(
        told(&mut second),
        [("IBM".to_owned(), 10, Some(50), Cause::Pause), ("SPY".to_owned(), 20, Some(50), Cause::Restart),]
    );
}

#[test]
fn what_was_received_between_gaps_and_not_kept_is_missing_there() {
    let mut first = flowing(&two(), 10);
    came(&mut first, 15);
    let spy = set(&[(Channel::Trades, "SPY")]);
    first.handle_received(&spy, &nothing(), Cause::Pause);
    first.handle_received(&two(), &nothing(), Cause::Pause);
    came(&mut first, 30);
    came(&mut first, 40);
    first.handle_received(&spy, &nothing(), Cause::Pause);
    let mut earlier = Vec::new();
    while let Some(gap) = first.poll_change() {
        earlier.retain(|told: &Gap| told.id != gap.id);
        earlier.push(gap);
    }
    // IBM: missing 15 to 30 and from 40 on. All that came after 12 was lost with the process.
    let mut second = GapLedger::new("q", &two(), earlier, Some(12));
    let mut all = told(&mut second);
    all.sort();
    let restart = |symbol: &str, from, to| (symbol.to_owned(), from, to, Cause::Restart);
    assert_eq!(all, [restart("IBM", 12, Some(15)), restart("IBM", 30, Some(40)), restart("SPY", 12, None)]);
}

#[test]
fn what_is_held_from_the_start_is_missing_from_the_first_that_comes() {
    let mut ledger = GapLedger::new("p", &two(), Vec::new(), None);
    let spy = set(&[(Channel::Trades, "SPY")]);
    ledger.handle_received(&spy, &nothing(), Cause::Pause);
    assert_eq!(told(&mut ledger), []);
    came(&mut ledger, 11);
    assert_eq!(told(&mut ledger), [("IBM".to_owned(), 11, None, Cause::Pause)]);
}

#[test]
fn a_feed_that_stays_quiet_ends_its_gap_by_the_wall_clock() {
    let mut ledger = flowing(&two(), 10);
    ledger.handle_received(&nothing(), &nothing(), Cause::Disconnect);
    ledger.handle_received(&two(), &nothing(), Cause::Disconnect);
    ledger.handle_returned(99);
    assert_eq!(told(&mut ledger).last().unwrap().2, Some(99));
    // The market's time may be behind: the next gap does not reach back into this one.
    ledger.handle_received(&nothing(), &nothing(), Cause::Disconnect);
    assert_eq!(told(&mut ledger), [("IBM,SPY".to_owned(), 99, None, Cause::Disconnect)]);
}

/// The lanes by a second account that knows nothing of gaps: received or not, and since when.
#[derive(Default)]
struct Oracle {
    clock: Option<i64>,
    lanes: BTreeMap<Lane, (bool, Option<i64>)>,
    over: BTreeMap<Lane, Vec<(i64, i64)>>,
}

impl Oracle {
    fn received(&mut self, lanes: &BTreeSet<Lane>) {
        for (lane, (received, missing_since)) in &mut self.lanes {
            *received = lanes.contains(lane);
            if !*received && missing_since.is_none() {
                *missing_since = self.clock;
            }
        }
    }

    fn time(&mut self, at: i64) {
        let first_ever = self.clock.is_none();
        for (lane, (received, missing_since)) in &mut self.lanes {
            if *received && let Some(since) = missing_since.take() {
                self.over.entry(lane.clone()).or_default().push((since, at));
            }
            if !*received && first_ever {
                *missing_since = Some(at);
            }
        }
        self.clock = Some(at);
    }
}

#[test]
fn received_missing_and_filled_tile_the_time_of_every_lane_whatever_happens() {
    let symbols = ["A", "B", "C"];
    let channels = [Channel::Trades, Channel::Quotes];
    let universe: Subscriptions = channels.iter().flat_map(|c| symbols.map(|s| (*c, s))).collect();
    for seed in 1..=2_000_u64 {
        let mut random = seed;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        let mut oracle = Oracle::default();
        oracle.lanes.extend(pairs(&universe).map(|lane| (lane, (true, None))));
        let mut ledger = GapLedger::new("0", &universe, Vec::new(), None);
        let mut gaps: BTreeMap<String, Gap> = BTreeMap::new();
        let mut time = 0;
        for step in 0..60 {
            match next(5) {
                0 | 1 => {
                    time += 1 + next(5) as i64;
                    oracle.time(time);
                    came(&mut ledger, time);
                }
                2 if step > 30 && oracle.clock.is_some() && next(4) == 0 => {
                    // The process dies; what it had told is known to the next, and so is its clock.
                    while let Some(gap) = ledger.poll_change() {
                        gaps.insert(gap.id.clone(), gap);
                    }
                    let lasted = gaps.values().filter(|gap| gap.to.is_none()).cloned().collect();
                    ledger = GapLedger::new(&step.to_string(), &universe, lasted, oracle.clock);
                    oracle.received(&BTreeSet::new());
                }
                _ => {
                    let received: Subscriptions =
                        universe.iter().filter(|_| next(3) > 0).collect::<Subscriptions>();
                    oracle.received(&pairs(&received).collect());
                    let cause = Cause::ALL[next(5) as usize];
                    ledger.handle_received(&received, &nothing(), cause);
                }
            }
            while let Some(gap) = ledger.poll_change() {
                assert!(!gap.channels.is_empty() && !gap.symbols.is_empty(), "seed {seed}: {gap:?}");
                gaps.insert(gap.id.clone(), gap);
            }
            let lasting: Vec<_> = gaps.values().filter(|gap| gap.to.is_none()).collect();
            let open: Vec<_> = ledger.open().collect();
            assert_eq!(lasting, open, "seed {seed}, step {step}: what was told is what is");
        }
        for lane in pairs(&universe) {
            let mut own: Vec<_> =
                gaps.values().filter(|gap| gap.lanes().any(|of_gap| of_gap == lane)).collect();
            own.sort_by_key(|gap| (gap.from, gap.to.unwrap_or(i64::MAX)));
            let over: Vec<_> = own.iter().filter_map(|gap| Some((gap.from, gap.to?))).collect();
            assert_eq!(over, oracle.over.remove(&lane).unwrap_or_default(), "seed {seed}: {lane:?}");
            let lasting: Vec<_> = own.iter().filter(|gap| gap.to.is_none()).map(|gap| gap.from).collect();
            let (_, missing_since) = oracle.lanes[&lane];
            assert_eq!(lasting, Vec::from_iter(missing_since), "seed {seed}: {lane:?}");
            assert!(over.windows(2).all(|pair| pair[0].1 <= pair[1].0), "seed {seed}: {lane:?} {over:?}");
        }
    }
}
