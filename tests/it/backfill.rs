//! What a gap's history costs to get: whatever the venue answers, gaps are filled, at its pace, from where they stopped;
//! and what cannot be had is told.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::producer::{Producer, Setup};
use e2e::venue::Venue;
use e2e::{sqlite, wait_for};
use serde_json::{Value, json};

use crate::equation::judge::{assert_equal, whole_files};
use crate::equation::tape::{Tape, each_line};

const LIMIT: Duration = Duration::from_secs(60);

/// A producer with files, on a tape that runs by its clock, and with a flag to pause it.
pub(super) struct Run {
    pub(super) dir: tempfile::TempDir,
    pub(super) venue: Venue,
    pub(super) producer: Producer,
    setup: Setup,
    job: &'static str,
}

/// A gap as the store has it.
#[derive(Clone, Debug)]
pub(super) struct Gap {
    pub(super) id: String,
    pub(super) cause: String,
    pub(super) state: String,
    pub(super) from: jiff::Timestamp,
    pub(super) to: Option<jiff::Timestamp>,
    pub(super) rows: u64,
    pub(super) reason: String,
    pub(super) channels: Vec<String>,
    /// Channel, and the last symbol that is done on it.
    pub(super) cursor: Option<(u64, Option<String>)>,
}

impl Run {
    /// Once the producer has told how far it is.
    pub(super) fn start(
        job: &'static str,
        tape: &Tape,
        venue: &[&str],
        vary: impl Fn(Setup) -> Setup,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tape = ["--tape", tape.files[0].to_str().unwrap(), "--data", "127.0.0.1:0"];
        let venue = Venue::start(&[&tape, venue].concat());
        std::fs::write(dir.path().join("flag"), "on\n").unwrap();
        let setup = Setup::new(&venue, dir.path())
            .var("ALPACA_DATA_FEED", job)
            .with_records(&venue, dir.path())
            .var("ALPACA_CHANNELS", "trades,quotes")
            .var("MONITORED_SYMBOLS", "AIG,BAC,IBM,SPY")
            .var("INGEST_ENABLED_FILE", dir.path().join("flag").display())
            .var("HEARTBEAT_INTERVAL_S", 1);
        let setup = vary(setup);
        let producer = setup.start();
        let run = Self { dir, venue, producer, setup, job };
        wait_for("a first mark", LIMIT, || {
            sqlite::heartbeat(&run.store())?["jobs"][job]["received_to"].as_str().map(drop)
        });
        run
    }

    pub(super) fn store(&self) -> PathBuf {
        self.dir.path().join("store.db")
    }

    pub(super) fn pause(&self) {
        std::fs::write(self.dir.path().join("flag"), "off\n").unwrap();
        self.producer.wait_status("paused", LIMIT, |status| status["status"] == "paused");
    }

    pub(super) fn resume(&self) {
        std::fs::write(self.dir.path().join("flag"), "on\n").unwrap();
        self.producer.wait_live();
    }

    /// Kills the producer; its successor need not wait for the lease, which is shown elsewhere.
    fn kill(&mut self) {
        self.producer.process.signal("KILL");
        self.producer.process.wait_exit(LIMIT);
        sqlite::execute(
            &self.store(),
            "UPDATE market_ingest_lease SET expires_at = '2000-01-01T00:00:00.000Z'",
        );
    }

    /// Until the venue's clock has gone past this part of the tape.
    pub(super) fn wait_position(&self, part: f64) {
        wait_for("the tape to go on", LIMIT, || {
            let feed = self.venue.state()["feed"].take();
            let (len, position) = (feed["len"].as_f64().unwrap(), feed["position"].as_f64().unwrap());
            (position >= len * part).then_some(())
        });
    }

    pub(super) fn gaps(&self) -> Vec<Gap> {
        let columns = "id, cause, state, from_ts, to_ts, rows, reason, channels, cursor";
        let rows = sqlite::rows(
            &self.store(),
            &format!("SELECT {columns} FROM market_ingest_gap ORDER BY from_ts, id"),
        );
        let gap = |row: Vec<Option<String>>| {
            let text = |at: usize| row[at].clone().unwrap_or_default();
            let cursor: Option<Value> = row[8].as_deref().map(|text| serde_json::from_str(text).unwrap());
            Gap {
                id: text(0),
                cause: text(1),
                state: text(2),
                from: text(3).parse().unwrap(),
                to: row[4].as_deref().map(|to| to.parse().unwrap()),
                rows: text(5).parse().unwrap(),
                reason: text(6),
                channels: serde_json::from_str(&text(7)).unwrap(),
                cursor: cursor.filter(|cursor| !cursor.is_null()).map(|cursor| {
                    (cursor["channel"].as_u64().unwrap(), cursor["after"].as_str().map(str::to_owned))
                }),
            }
        };
        rows.into_iter().map(gap).collect()
    }

    /// Until the tape has ended, the feed flows and no gap is left to fill.
    pub(super) fn wait_filled(&self, limit: Duration) -> Vec<Gap> {
        wait_for("the end of the tape", limit, || {
            (self.venue.state()["feed"]["finished"] == json!(true)).then_some(())
        });
        wait_for("every gap at its end", limit, || {
            let live = self.producer.status()["jobs"][self.job]["phase"] == "live";
            let gaps = self.gaps();
            let over = gaps.iter().all(|gap| gap.state != "open" && gap.state != "filling");
            (live && over && !gaps.is_empty()).then_some(gaps)
        })
    }

    /// Stops, and judges what is kept.
    pub(super) fn assert_kept(mut self, who: &str, tape: &Tape) {
        assert!(self.producer.stop().success(), "{who}");
        assert_equal(who, tape, &self.dir.path().join("records"), &self.store());
    }

    /// Calls of the history: status, rows, and when.
    fn calls(&self) -> Vec<(u64, u64, i64)> {
        let number = |event: &Value, field: &str| event[field].as_u64().unwrap();
        let call = |event: &Value| {
            (number(event, "status"), number(event, "rows"), event["ts_us"].as_i64().unwrap())
        };
        self.venue.events("data_request").iter().map(call).collect()
    }
}

/// A made-up tape below `dir`.
pub(super) fn written(dir: &Path, elements: impl Iterator<Item = Value>) -> Tape {
    let text: String = elements.map(|element| format!("{element}\n")).collect();
    let path = dir.join("tape.ndjson");
    std::fs::write(&path, &text).unwrap();
    Tape::of_file(path)
}

pub(super) fn quote(symbol: &str, at: jiff::Timestamp, size: i64) -> Value {
    json!({"T":"q","S":symbol,"bx":"N","bp":1.5,"bs":size,"ax":"P","ap":1.75,"as":200,"c":["R"],"z":"A","t":at.to_string()})
}

pub(super) fn trade(symbol: &str, at: jiff::Timestamp, id: i64) -> Value {
    json!({"T":"t","S":symbol,"i":id,"x":"N","p":1.5,"s":100,"c":["@"],"z":"A","t":at.to_string()})
}

#[test]
fn whatever_the_venue_answers_the_gap_is_filled_and_nothing_is_lost() {
    let keep = tempfile::tempdir().unwrap();
    let tape = Tape::of_ticks(keep.path());
    let faults = [
        json!({"fault": "data_error", "status": 429, "count": 3}),
        json!({"fault": "data_error", "status": 500, "count": 2}),
        json!({"fault": "data_error", "status": 503, "count": 1}),
        json!({"fault": "data_delay", "ms": 900}),
        json!({"fault": "data_error", "status": 404, "count": 1}),
        json!({"fault": "data_error", "status": 400, "count": 1}),
        json!({"fault": "data_cut", "count": 2}),
        json!({"fault": "data_stall", "count": 1}),
    ];
    std::thread::scope(|scope| {
        for fault in &faults {
            let tape = &tape;
            scope.spawn(move || {
                let run = Run::start("sip", tape, &["--speed", "30"], |setup| setup);
                run.pause();
                run.venue.fault(fault);
                run.wait_position(0.8);
                run.resume();
                let gaps = run.wait_filled(LIMIT * 2);
                assert!(gaps.iter().all(|gap| gap.state == "filled"), "{fault}: {gaps:#?}");
                assert!(
                    gaps.iter().any(|gap| gap.cause == "pause" && gap.rows > 5_000),
                    "{fault}: {gaps:#?}"
                );
                let struck = run.venue.events("fault").len() as u64;
                assert!(struck >= fault["count"].as_u64().unwrap_or(1), "{fault} struck {struck} times");
                let calls = run.calls();
                // The venue said: not before the next full second.
                for pair in calls.windows(2).filter(|pair| pair[0].0 == 429) {
                    assert!(pair[1].2 >= (pair[0].2 / 1_000_000 + 1) * 1_000_000, "{fault}: {pair:?}");
                }
                println!("{fault}: {} calls", calls.len());
                run.assert_kept(&fault.to_string(), tape);
            });
        }
    });
}

#[test]
fn what_the_plan_gives_late_is_waited_for_and_filled() {
    let keep = tempfile::tempdir().unwrap();
    let tape = Tape::of_ticks(keep.path());
    let run = Run::start("delayed_sip", &tape, &["--speed", "30", "--plan", "basic"], |setup| setup);
    run.pause();
    run.wait_position(0.6);
    run.resume();
    let told = wait_for("the wait to be told", LIMIT, || {
        run.gaps().into_iter().find(|gap| gap.cause == "pause" && !gap.reason.is_empty())
    });
    assert_eq!(told.reason, "the plan gives this data fifteen minutes late");
    assert_eq!(told.state, "filling");
    let gaps = run.wait_filled(LIMIT * 3);
    assert!(gaps.iter().all(|gap| gap.state == "filled" && gap.reason.is_empty()), "{gaps:#?}");
    let calls = run.calls();
    assert_eq!(calls[0].0, 403, "the venue refused what was too recent");
    assert_eq!(
        calls.iter().filter(|call| call.0 != 200).count(),
        1,
        "and was not asked again before its time"
    );
    run.assert_kept("fifteen minutes late", &tape);
}

#[test]
fn a_pause_interrupts_a_fetch_and_a_resume_goes_on_where_it_was() {
    const PAGE: u64 = 10_000;
    let dir = tempfile::tempdir().unwrap();
    let start = jiff::Timestamp::from_second(1_381_325_340).unwrap();
    let at = |step: i64| start + jiff::SignedDuration::from_millis(step * 4);
    let tape = written(dir.path(), (0..75_000).map(|step| quote("SPY", at(step), 1 + step % 900)));
    let run = Run::start("sip", &tape, &["--speed", "30"], |setup| setup.var("MONITORED_SYMBOLS", "SPY"));
    run.pause();
    run.wait_position(0.9);
    run.venue.fault(&json!({"fault": "data_delay", "ms": 700}));
    run.resume();
    let pages = || run.calls().iter().filter(|call| call.1 == PAGE).count();
    wait_for("two pages", LIMIT, || (pages() >= 2).then_some(()));
    run.pause();
    let paused_us = e2e::now_us();
    wait_for("the interrupted fetch to be told", LIMIT, || {
        run.gaps().iter().any(|gap| gap.reason == "held").then_some(())
    });
    // Two pages would come in this time.
    wait_for("some time", LIMIT, || (e2e::now_us() > paused_us + 1_500_000).then_some(()));
    let resumed_us = e2e::now_us();
    run.resume();
    let gaps = run.wait_filled(LIMIT * 2);
    assert!(gaps.iter().all(|gap| gap.state == "filled"), "{gaps:#?}");
    let calls = run.calls();
    // What was asked before the pause may be answered in it.
    let asked_meanwhile = |call: &&(u64, u64, i64)| call.2 > paused_us + 900_000 && call.2 < resumed_us;
    assert_eq!(
        calls.iter().filter(asked_meanwhile).count(),
        0,
        "nothing is asked while all is held: {calls:?}"
    );
    let (asked, kept): (u64, u64) =
        (calls.iter().map(|call| call.1).sum(), gaps.iter().map(|gap| gap.rows).sum());
    assert!(kept > 5 * PAGE, "{gaps:#?}");
    assert!(asked <= kept + PAGE, "one page at most was asked for twice: {asked} rows for {kept}");
    run.assert_kept("a pause within a fetch", &tape);
}

#[test]
fn a_process_killed_before_its_first_interval_leaves_a_gap_that_is_filled() {
    let keep = tempfile::tempdir().unwrap();
    let tape = Tape::of_ticks(keep.path());
    // Neither the next heartbeat nor the first complete file would come within this tape.
    let mut run = Run::start("sip", &tape, &["--speed", "30"], |setup| {
        setup.var("HEARTBEAT_INTERVAL_S", 60).var("INGEST_FILE_MAX_AGE_S", 60)
    });
    run.kill();
    assert_eq!(run.producer.log("job_live").len(), 1);
    run.wait_position(0.6);
    run.setup = run.setup.clone().var("INGEST_FILE_MAX_AGE_S", "0.5");
    run.producer = run.setup.start();
    let gaps = run.wait_filled(LIMIT);
    let (cause, state) = (&*gaps[0].cause, &*gaps[0].state);
    assert_eq!((cause, state), ("restart", "filled"), "{gaps:#?}");
    run.assert_kept("killed in its first seconds", &tape);
}

#[test]
fn a_successor_asks_for_every_symbol_that_was_ever_seen() {
    let dir = tempfile::tempdir().unwrap();
    let start = jiff::Timestamp::from_second(1_381_325_340).unwrap();
    // Each symbol trades twice in a second of the test, so that a process which has just begun knows few of them.
    let symbol = |step: i64| letters(step % 60);
    let at = |step: i64| start + jiff::SignedDuration::from_millis(step * 250);
    let tape = written(dir.path(), (0..2_400).map(|step| trade(&symbol(step), at(step), step)));
    let mut run = Run::start("sip", &tape, &["--speed", "30"], |setup| {
        setup.var("MONITORED_SYMBOLS", "*").var("ALPACA_CHANNELS", "trades")
    });
    run.wait_position(0.3);
    run.pause();
    run.wait_position(0.5);
    // Nothing is asked for yet when it ends: its successor has two gaps to fill, and has seen nothing.
    assert!(run.producer.stop().success());
    run.wait_position(0.6);
    std::fs::write(run.dir.path().join("flag"), "on\n").unwrap();
    run.producer = run.setup.start();
    let gaps = run.wait_filled(LIMIT);
    assert!(gaps.iter().all(|gap| gap.state == "filled"), "{gaps:#?}");
    run.assert_kept("a successor", &tape);
}

#[test]
fn a_history_that_lags_behind_is_waited_for() {
    let keep = tempfile::tempdir().unwrap();
    let tape = Tape::of_ticks(keep.path());
    // Four seconds by the wall's clock.
    let venue = ["--speed", "30", "--data-lag-s", "120"];
    let run = Run::start("sip", &tape, &venue, |setup| setup.var("INGEST_BACKFILL_AFTER_S", 5));
    run.pause();
    run.wait_position(0.5);
    run.resume();
    let gaps = run.wait_filled(LIMIT);
    assert!(gaps.iter().all(|gap| gap.state == "filled"), "{gaps:#?}");
    run.assert_kept("behind by four seconds", &tape);
}

#[test]
fn a_dry_run_leaves_everything_to_whoever_keeps_records() {
    let keep = tempfile::tempdir().unwrap();
    let tape = Tape::of_ticks(keep.path());
    let mut run = Run::start("sip", &tape, &["--speed", "30"], |setup| setup);
    let fault = json!({"fault": "data_error", "status": 503});
    run.venue.fault(&fault);
    run.pause();
    run.wait_position(0.3);
    run.resume();
    assert!(run.producer.stop().success());
    let dry = run.setup.clone().var("DRY_RUN", "true").start();
    // Longer than a gap waits before it is fetched.
    run.wait_position(0.8);
    assert!({ dry }.stop().success());
    run.venue.heal();
    run.producer = run.setup.start();
    let gaps = run.wait_filled(LIMIT);
    assert!(gaps.iter().all(|gap| gap.state == "filled"), "{gaps:#?}");
    run.assert_kept("after a dry run", &tape);
}

#[test]
fn a_symbol_that_the_venue_refuses_costs_the_others_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let start = jiff::Timestamp::from_second(1_381_325_340).unwrap();
    let at = |step: i64| start + jiff::SignedDuration::from_millis(step * 100);
    let element = |step: i64| trade(["AAPL", "BRK^B", "MSFT"][(step % 3) as usize], at(step), step);
    let tape = written(dir.path(), (0..3_000).map(element));
    let run = Run::start("sip", &tape, &["--speed", "30"], |setup| {
        setup.var("MONITORED_SYMBOLS", "AAPL,BRK^B,MSFT").var("ALPACA_CHANNELS", "trades")
    });
    run.pause();
    run.wait_position(0.6);
    run.resume();
    let gaps = run.wait_filled(LIMIT);
    let paused = gaps.iter().find(|gap| gap.cause == "pause").unwrap();
    assert_eq!(paused.state, "partial", "{gaps:#?}");
    assert!(paused.reason.contains("trades of BRK^B with 400"), "{paused:?}");
    let in_it = |step: &i64| step % 3 != 1 && paused.from < at(*step) && at(*step) < paused.to.unwrap();
    assert!(paused.rows >= (0..3_000).filter(in_it).count() as u64, "{paused:?}");
}

#[test]
fn what_cannot_be_had_is_told_with_its_reason() {
    let keep = tempfile::tempdir().unwrap();
    let tape = Tape::of_ticks(keep.path());
    // Of one gap, a part can be had and a part cannot.
    let run = Run::start("sip", &tape, &["--speed", "30"], |setup| {
        setup.var("ALPACA_CHANNELS", "trades,quotes,statuses")
    });
    run.pause();
    run.wait_position(0.5);
    run.resume();
    let gaps = run.wait_filled(LIMIT);
    let of_statuses: Vec<_> = gaps.iter().filter(|gap| gap.channels == ["statuses"]).collect();
    assert!(!of_statuses.is_empty(), "{gaps:#?}");
    for gap in &gaps {
        let had = !gap.channels.contains(&"statuses".to_owned());
        let (state, reason) =
            if had { ("filled", "") } else { ("unfillable", "Alpaca keeps no history of these channels") };
        assert_eq!((&*gap.state, &*gap.reason), (state, reason), "{gap:?}");
    }
    run.assert_kept("a part", &tape);

    for (variable, value, fault, reason) in [
        ("INGEST_BACKFILL", "none", None, "INGEST_BACKFILL is none"),
        ("INGEST_SINKS", "quotes", None, "no sink of INGEST_SINKS takes every record"),
        (
            "INGEST_BACKFILL",
            "full",
            Some(json!({"fault": "data_error", "status": 422})),
            "the venue refused 8 of its parts, the first trades of AIG with 422 Unprocessable Entity: injected by the simulated venue",
        ),
    ] {
        let run = Run::start("sip", &tape, &["--speed", "60"], |setup| setup.var(variable, value));
        if let Some(fault) = &fault {
            run.venue.fault(fault);
        }
        run.pause();
        run.wait_position(0.5);
        run.resume();
        let gaps = run.wait_filled(LIMIT);
        for gap in gaps {
            assert_eq!((&*gap.state, &*gap.reason, gap.rows), ("unfillable", reason, 0), "{gap:?}");
        }
    }
}

#[test]
fn two_days_come_back_at_the_venue_s_pace_and_the_cursor_never_jumps() {
    const SYMBOLS: i64 = 700;
    let dir = tempfile::tempdir().unwrap();
    let start = jiff::Timestamp::from_second(1_381_305_600).unwrap();
    let steps = 8 * SYMBOLS;
    let at = |step: i64| start + jiff::SignedDuration::from_millis(step * (3 * 86_400_000 / steps));
    let element = |step: i64| {
        let symbol = letters(step * 13 % SYMBOLS);
        if step / SYMBOLS % 2 == 0 {
            quote(&symbol, at(step), 1 + step % 90)
        } else {
            trade(&symbol, at(step), step)
        }
    };
    let tape = written(dir.path(), (0..steps).map(element));
    let names: Vec<String> = (0..SYMBOLS).map(letters).collect();
    let limits = ["--speed", "10000", "--data-calls-per-min", "8"];
    let run = Run::start("sip", &tape, &limits, |setup| setup.var("MONITORED_SYMBOLS", names.join(",")));
    run.pause();
    run.wait_position(0.95);
    run.resume();

    let elements: Vec<Value> = std::fs::read_to_string(&tape.files[0])
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut seen: BTreeMap<String, Vec<(u64, Option<String>)>> = BTreeMap::new();
    wait_for("the gaps to be filled", LIMIT * 3, || {
        let gaps = run.gaps();
        for gap in &gaps {
            let Some(cursor) = &gap.cursor else { continue };
            let cursors = seen.entry(gap.id.clone()).or_default();
            if cursors.last() == Some(cursor) {
                continue;
            }
            assert!(cursors.last() < Some(cursor), "{cursors:?} and then {cursor:?}");
            cursors.push(cursor.clone());
            assert_durable(&run, gap, cursor, &elements);
        }
        let over = gaps.iter().all(|gap| gap.state == "filled") && !gaps.is_empty();
        (over && run.venue.state()["feed"]["finished"] == json!(true)).then_some(())
    });
    let longest = run.gaps().into_iter().max_by_key(|gap| gap.rows).unwrap();
    let lasted = longest.to.unwrap().duration_since(longest.from);
    assert!(lasted.as_hours() >= 48, "{longest:?}");
    let cursors = &seen[&longest.id];
    println!("{lasted:#} came back in {} calls; cursors: {cursors:?}", run.calls().len());
    assert!(cursors.len() >= 4, "{cursors:?}");
    run.assert_kept("two days", &tape);
}

/// Everything of the gap that its cursor says is done is in files.
fn assert_durable(run: &Run, gap: &Gap, (channel, after): &(u64, Option<String>), elements: &[Value]) {
    let said = |record: &Value, time: &str, letter: &str, symbol: &str| {
        let ts = match record[time].as_str() {
            Some(text) => text.parse::<jiff::Timestamp>().unwrap().as_nanosecond() as i64,
            None => record[time].as_i64().unwrap(),
        };
        let text = |field: &str| record[field].as_str().unwrap().to_owned();
        (ts, text(letter), text(symbol))
    };
    let mut kept = BTreeSet::new();
    for path in whole_files(&run.dir.path().join("records")) {
        each_line(&path, |line| {
            kept.insert(said(&serde_json::from_str(line).unwrap(), "ts", "type", "symbol"));
        });
    }
    let (from, to) = (gap.from.as_nanosecond() as i64, gap.to.unwrap().as_nanosecond() as i64);
    for element in elements {
        let (ts, letter, symbol) = said(element, "t", "T", "S");
        let word = if letter == "q" { "quotes" } else { "trades" };
        let place = gap.channels.iter().position(|own| own == word).unwrap() as u64;
        let done =
            place < *channel || (place == *channel && after.as_ref().is_some_and(|after| symbol <= *after));
        if done && (from..=to).contains(&ts) {
            assert!(kept.contains(&(ts, letter, symbol)), "the cursor of {gap:?} is ahead of {element}");
        }
    }
}

/// A number in letters.
fn letters(number: i64) -> String {
    (0..3).rev().map(|place| (b'A' + (number / 26_i64.pow(place) % 26) as u8) as char).collect()
}
