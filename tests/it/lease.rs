//! One producer at a time: who may write is decided by the store, a hand-over is quick and clean, and whoever has lost
//! the lease writes nothing more, whatever it slept through.

mod race;

use std::time::{Duration, Instant};

use e2e::place::Place;
use e2e::producer::Producer;
use e2e::venue::Venue;
use e2e::{http, sqlite, wait_for};
use serde_json::Value;

/// A step that depends on no lease's end.
const LIMIT: Duration = Duration::from_secs(15);
/// A process that was killed keeps its lease for 14 s; a successor asks once a second at least.
const TAKE_OVER_LIMIT: Duration = Duration::from_secs(15);
/// A planned hand-over leaves no longer hole.
const HOLE_MS: f64 = 2000.0;
/// How long anything may go on that is said to go on: longer than a lease.
const LONGER_THAN_A_LEASE: Duration = Duration::from_secs(17);

const BUSY: &[&str] = &["--synthetic", "--rate", "2000", "--symbols", "20"];

fn start(place: &Place, venue: &Venue) -> Producer {
    place.setup(venue).var("MONITORED_SYMBOLS", "*").var("RECONNECT_BACKOFF_BASE_S", "0.2").start()
}

fn holding(producer: &Producer) -> bool {
    producer.metric("market_ingest_lease_held") == Some(1.0)
}

fn epoch(producer: &Producer) -> i64 {
    producer.metric("market_ingest_lease_epoch").unwrap() as i64
}

fn messages(producer: &Producer) -> u64 {
    producer.status()["counters"]["messages"].as_u64().unwrap()
}

fn job(producer: &Producer) -> Value {
    producer.status()["jobs"]["iex"].take()
}

/// Waits until a newcomer says whose lease it waits for; it is alive and ready meanwhile, and has no socket.
fn wait_waiting(newcomer: &Producer, (holder, epoch): &(String, i64)) {
    let why = format!("waits for the lease of {holder} (epoch {epoch})");
    let job = newcomer.wait_job("iex", &why, LIMIT, |job| job["reason"] == *why);
    assert_eq!((&job["status"], &job["phase"]), (&"starting".into(), &"halted".into()));
    let [told] = newcomer.told("lease_waiting");
    assert_eq!((told.text("holder"), told.text("epoch")), (holder.clone(), epoch.to_string()));
    assert!(told.json["expires_at"].is_string());
    for path in ["/livez", "/readyz"] {
        assert_eq!(http::get(&newcomer.url(path)).unwrap().0, 200, "{path}");
    }
    assert!(!holding(newcomer));
    assert_eq!(newcomer.status()["epoch"], Value::Null);
}

/// Heartbeats as they follow each other in the store.
struct Witness<'a> {
    place: &'a Place,
    seen: Vec<Value>,
}

impl<'a> Witness<'a> {
    fn of(place: &'a Place) -> Self {
        Self { place, seen: Vec::new() }
    }

    fn look(&mut self) {
        let beat = self.place.heartbeat().expect("a heartbeat");
        if self.seen.last() != Some(&beat) {
            self.seen.push(beat);
        }
    }

    /// Looks until it holds.
    fn wait(&mut self, what: &str, limit: Duration, holds: impl Fn() -> bool) {
        wait_for(what, limit, || {
            let held = holds();
            // Afterwards, so that what held was seen.
            self.look();
            held.then_some(())
        });
    }

    /// Epochs never went back, each is one process's, and after the first of `epoch` nobody is called stopped or paused.
    fn assert_handed_over_once(&self, epoch: i64) {
        let at = |beat: &Value| beat["epoch"].as_i64().expect("every heartbeat carries its epoch");
        for pair in self.seen.windows(2) {
            assert!(at(&pair[0]) <= at(&pair[1]), "{} after {}", pair[1], pair[0]);
            if at(&pair[0]) == at(&pair[1]) {
                assert_eq!(pair[0]["instance_id"], pair[1]["instance_id"]);
            }
        }
        let after: Vec<_> = self.seen.iter().filter(|beat| at(beat) == epoch).collect();
        assert!(!after.is_empty(), "the successor beats");
        for beat in after {
            assert_eq!((&beat["status"], &beat["stopped_at"]), (&"running".into(), &Value::Null), "{beat}");
        }
    }
}

/// The most connections that were authenticated at the same time, by the venue's own log.
fn most_at_once(venue: &Venue) -> usize {
    let mut open = std::collections::HashSet::new();
    let mut most = 0;
    for event in venue.log() {
        let conn = event["conn"].as_u64().unwrap();
        match event["kind"].as_str().unwrap() {
            "auth_ok" => _ = open.insert(conn),
            "tcp_closed" => _ = open.remove(&conn),
            _ => {}
        }
        most = most.max(open.len());
    }
    most
}

/// From the end of the first connection to the subscription of the last, by the venue's own log.
fn hole_ms(venue: &Venue) -> f64 {
    let ms = |event: &Value| event["ms"].as_f64().unwrap();
    let end = venue.events("close_received").first().map(ms).expect("a close frame");
    let begin = venue.events("subscribe").last().map(ms).expect("a subscription");
    begin - end
}

fn planned(name: &str, place: &Place) {
    let venue = Venue::start(BUSY);
    let mut old = start(place, &venue);
    old.wait_live();
    assert_eq!((holding(&old), epoch(&old)), (true, 1));
    let [taken] = old.told("lease_taken");
    assert_eq!(taken.json["epoch"], 1);
    assert!(taken.json["waited_ms"].as_u64().unwrap() < 1000, "a free lease is taken at once");

    let new = start(place, &venue);
    wait_waiting(&new, &place.lease());
    assert_eq!(venue.events("tcp_open").len(), 1, "the newcomer does not dial");
    let mut witness = Witness::of(place);
    let before = messages(&old);
    witness.wait("the old one to go on", LIMIT, || messages(&old) > before);

    let asked = Instant::now();
    old.process.signal("TERM");
    witness.wait("the new one to be live", LIMIT, || job(&new)["phase"] == "live");
    println!("{name}: live {:.0} ms after SIGTERM", asked.elapsed().as_secs_f64() * 1e3);
    assert_eq!(old.process.wait_exit(Duration::from_secs(8)).code(), Some(0));
    let seq = || place.heartbeat().unwrap()["seq"].as_u64().unwrap();
    let first = seq();
    witness.wait("more heartbeats", LIMIT, || seq() >= first + 2);

    let hole = hole_ms(&venue);
    println!("{name}: {hole:.0} ms without data");
    assert!(hole <= HOLE_MS, "{hole} ms");
    assert_eq!(most_at_once(&venue), 1, "authenticated connections at the same time");
    assert_eq!((epoch(&new), place.lease().1), (2, 2));
    witness.assert_handed_over_once(2);
    assert!(witness.seen.iter().any(|beat| beat["epoch"] == 1), "the old one's are seen too");
    let [taken] = new.told("lease_taken");
    assert_eq!(taken.json["epoch"], 2);
}

#[test]
fn a_planned_hand_over_by_sqlite_is_quick_and_clean() {
    planned("SQLite", &Place::sqlite());
}

#[test]
fn a_planned_hand_over_by_postgres_is_quick_and_clean() {
    let Some(place) = Place::postgres() else { return };
    planned("PostgreSQL", &place);
}

#[test]
fn a_planned_hand_over_by_firestore_is_quick_and_clean() {
    let Some(place) = Place::firestore() else { return };
    planned("Firestore", &place);
}

fn after_a_kill(name: &str, place: &Place) {
    let venue = Venue::start(BUSY);
    let old = start(place, &venue);
    old.wait_live();
    let new = start(place, &venue);
    wait_waiting(&new, &place.lease());
    let mut witness = Witness::of(place);
    witness.look();
    old.process.signal("KILL");
    let killed = Instant::now();
    let taken = wait_for("the take-over", TAKE_OVER_LIMIT + LIMIT, || {
        witness.look();
        new.log("lease_taken").pop()
    });
    let took = taken.at.duration_since(killed);
    println!("{name}: taken over {:.1} s after the kill", took.as_secs_f64());
    assert!(took <= TAKE_OVER_LIMIT, "{took:?}");
    new.wait_live();
    witness.wait("its heartbeat", LIMIT, || place.heartbeat().unwrap()["epoch"] == 2);
    assert_eq!(most_at_once(&venue), 1);
    witness.assert_handed_over_once(2);
}

#[test]
fn a_killed_holder_in_sqlite_is_followed_within_fifteen_seconds() {
    after_a_kill("SQLite", &Place::sqlite());
}

#[test]
fn a_killed_holder_in_postgres_is_followed_within_fifteen_seconds() {
    let Some(place) = Place::postgres() else { return };
    after_a_kill("PostgreSQL", &place);
}

#[test]
fn a_killed_holder_in_firestore_is_followed_within_fifteen_seconds() {
    let Some(place) = Place::firestore() else { return };
    after_a_kill("Firestore", &place);
}

/// Each producer has a symbol of its own, so that the store tells whose quote was written.
fn after_a_long_stop(place: &Place) {
    let venue = Venue::start(&[
        "--synthetic",
        "--rate",
        "200",
        "--symbols",
        "2",
        "--ping-interval-s",
        "3",
        "--pong-limit-s",
        "2",
    ]);
    let feed = wait_for("two stocks with quotes", LIMIT, || {
        let feed = venue.state()["feed"].take();
        let quoted = feed["last_quotes"].as_object()?;
        let stocks: Vec<_> = quoted.keys().filter(|symbol| e2e::venue::is_stock(symbol)).cloned().collect();
        (stocks.len() >= 2).then_some(stocks)
    });
    let (of_old, of_new) = (&feed[0], &feed[1]);
    let with = |symbol: &str| {
        place.setup(&venue).var("MONITORED_SYMBOLS", symbol).var("RECONNECT_BACKOFF_BASE_S", "0.2").start()
    };
    let old = with(of_old);
    wait_for("the old one's quote", LIMIT, || place.quote(of_old));
    let new = with(of_new);
    wait_waiting(&new, &place.lease());

    old.process.signal("STOP");
    wait_for("the take-over", TAKE_OVER_LIMIT + LIMIT, || new.log("lease_taken").pop());
    new.wait_live();
    wait_for("the new one's quote", LIMIT, || place.quote(of_new));
    wait_for("its heartbeat", LIMIT, || (place.heartbeat()?["epoch"] == 2).then_some(()));
    let mut witness = Witness::of(place);
    let (quote, dials) = (place.quote(of_old), venue.events("tcp_open").len());

    old.process.signal("CONT");
    let by = place.lease();
    let why = format!("waits for the lease of {} (epoch {})", by.0, by.1);
    old.wait_job("iex", &why, LIMIT, |job| job["reason"] == *why && job["phase"] == "halted");
    assert_eq!(job(&old)["status"], "starting", "that is no pause");
    let seq = || place.heartbeat().unwrap()["seq"].as_u64().unwrap();
    let first = seq();
    witness.wait("five more heartbeats", LIMIT, || seq() >= first + 5);
    witness.assert_handed_over_once(2);
    assert!(witness.seen.iter().all(|beat| beat["epoch"] == 2), "not one of the old epoch");
    assert_eq!(place.quote(of_old), quote, "not one quote of the old epoch");
    assert_eq!(venue.events("tcp_open").len(), dials, "no dial");
    assert_eq!(most_at_once(&venue), 1);
    let [lost] = old.told("lease_lost");
    assert_eq!(lost.json["epoch"], 1);
    assert!(!holding(&old) && holding(&new));
}

#[test]
fn a_holder_that_slept_through_its_lease_in_sqlite_writes_nothing_more() {
    after_a_long_stop(&Place::sqlite());
}

#[test]
fn a_holder_that_slept_through_its_lease_in_postgres_writes_nothing_more() {
    let Some(place) = Place::postgres() else { return };
    after_a_long_stop(&place);
}

#[test]
fn a_holder_that_slept_through_its_lease_in_firestore_writes_nothing_more() {
    let Some(place) = Place::firestore() else { return };
    after_a_long_stop(&place);
}

#[test]
fn a_holder_that_slept_and_was_not_followed_goes_on_under_its_epoch() {
    let place = Place::sqlite();
    let venue = Venue::start(BUSY);
    let producer = start(&place, &venue);
    producer.wait_live();
    producer.process.signal("STOP");
    let stopped = Instant::now();
    wait_for("longer than a lease", LONGER_THAN_A_LEASE + LIMIT, || {
        (stopped.elapsed() > LONGER_THAN_A_LEASE).then_some(())
    });
    producer.process.signal("CONT");
    producer.wait_live();
    let before = messages(&producer);
    wait_for("messages", LIMIT, || (messages(&producer) > before).then_some(()));
    assert_eq!((epoch(&producer), place.lease().1), (1, 1));
    assert!(producer.log("lease_lost").is_empty());
    sqlite::wait_beats(&place.file(), 2);
    assert_eq!(place.heartbeat().unwrap()["epoch"], 1);
}

#[test]
fn a_store_that_is_away_stops_no_holder_and_starts_no_newcomer() {
    let Some(mut place) = Place::postgres() else { return };
    let venue = Venue::start(BUSY);
    let old = start(&place, &venue);
    old.wait_live();
    wait_for("a heartbeat", LIMIT, || place.heartbeat());
    let Place::Postgres(cluster) = &mut place else { unreachable!("as made") };
    cluster.kill();
    let away = Instant::now();

    let url = cluster.url(e2e::postgres::DATABASE);
    let new = e2e::producer::Setup::bare()
        .var("ALPACA_STREAM_URL", venue.url())
        .var("INGEST_STORE", url)
        .var("MONITORED_SYMBOLS", "*")
        .start();
    wait_for("the newcomer to say what it waits for", LIMIT, || {
        new.log("lease_unreachable").pop().filter(|told| told.json["holding"] == false)
    });
    wait_for("longer than a lease", LONGER_THAN_A_LEASE + LIMIT, || {
        assert!(holding(&old), "the holder goes on");
        assert!(!holding(&new));
        (away.elapsed() > LONGER_THAN_A_LEASE).then_some(())
    });
    let before = messages(&old);
    wait_for("messages without a store", LIMIT, || (messages(&old) > before).then_some(()));
    assert_eq!(venue.events("tcp_open").len(), 1, "one connection all the time");
    assert_eq!(job(&old)["connected"], true);

    cluster.restart();
    wait_for("one holder, and one only", LIMIT, || (holding(&old) != holding(&new)).then_some(()));
    wait_for("its heartbeat", LIMIT, || {
        let beat = place.heartbeat()?;
        (beat["epoch"] == place.lease().1 && beat["instance_id"] == place.lease().0).then_some(())
    });
    assert_eq!(most_at_once(&venue), 1);
}

#[test]
fn a_paused_producer_keeps_the_lease_and_its_successor_takes_over_the_pause() {
    let place = Place::sqlite();
    let venue = Venue::start(BUSY);
    let folder = tempfile::tempdir().unwrap();
    let flag = folder.path().join("flag");
    std::fs::write(&flag, "off\n").unwrap();
    let setup = || place.setup(&venue).var("INGEST_ENABLED_FILE", flag.display());
    let mut old = setup().start();
    old.wait_status("paused", LIMIT, |status| status["status"] == "paused");
    wait_for("its heartbeat", LIMIT, || (place.heartbeat()?["status"] == "paused").then_some(()));
    let new = setup().start();
    wait_for("the newcomer to wait", LIMIT, || new.log("lease_waiting").pop());
    sqlite::wait_beats(&place.file(), 3);
    assert_eq!(place.heartbeat().unwrap()["epoch"], 1, "the paused one tells the truth");
    assert!(old.stop().success());
    wait_for("the successor's heartbeat", LIMIT, || {
        let beat = place.heartbeat()?;
        (beat["epoch"] == 2 && beat["status"] == "paused" && beat["stopped_at"].is_null()).then_some(())
    });
    assert!(venue.events("tcp_open").is_empty());
}

#[test]
fn a_newcomer_that_is_stopped_while_it_waits_leaves_no_trace() {
    let place = Place::sqlite();
    let venue = Venue::start(BUSY);
    let old = start(&place, &venue);
    old.wait_live();
    let mut new = start(&place, &venue);
    wait_waiting(&new, &place.lease());
    let (lease, mut witness) = (place.lease(), Witness::of(&place));
    assert!(new.stop().success());
    let seq = || place.heartbeat().unwrap()["seq"].as_u64().unwrap();
    let first = seq();
    witness.wait("more heartbeats", LIMIT, || seq() >= first + 2);
    assert!(witness.seen.iter().all(|beat| beat["instance_id"] == *lease.0 && beat["stopped_at"].is_null()));
    assert_eq!(place.lease(), lease);
    assert!(holding(&old));
}
