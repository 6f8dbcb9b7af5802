//! The symbols that were ever seen are kept in the store, whichever it is, because a gap of `*` is asked for by names; and
//! no mark is shown that lies behind a symbol which is not kept.

use std::time::Duration;

use e2e::place::Place;
use e2e::producer::{Producer, Setup};
use e2e::venue::{Venue, is_stock};
use e2e::{sqlite, wait_for};

const LIMIT: Duration = Duration::from_secs(20);
const MARKET: &[&str] = &["--synthetic", "--rate", "2000", "--symbols", "6"];
/// What no market here has.
const STRANGER: &str = "ZZZZ";

fn start(place: &Place, venue: &Venue) -> Producer {
    let setup = place.setup(venue).var("ALPACA_DATA_FEED", "sip").var("MONITORED_SYMBOLS", "*");
    setup.var("INGEST_SINKS", "null").start()
}

fn kept(place: &Place) -> Vec<String> {
    place.symbols().unwrap_or_default().lines().map(str::to_owned).collect()
}

fn received_to(place: &Place) -> Option<String> {
    place.heartbeat()?["jobs"]["sip"]["received_to"].as_str().map(str::to_owned)
}

fn a_successor_adds_to_what_was_kept(place: &Place) {
    let venue = Venue::start(MARKET);
    let mut producer = start(place, &venue);
    let all = wait_for("all symbols to be kept", LIMIT, || Some(kept(place)).filter(|all| all.len() >= 6));
    assert!(producer.stop().success());
    // As if the successor had never seen the first, and an earlier producer a stranger.
    place.keep_symbols(&format!("{}\n{STRANGER}\n", all[1..].join("\n")));
    let mut producer = start(place, &venue);
    let now =
        wait_for("a write of the successor", LIMIT, || Some(kept(place)).filter(|now| now.contains(&all[0])));
    assert!(now.contains(&STRANGER.to_owned()), "{now:?}");
    assert!(producer.stop().success());
}

#[test]
fn sqlite_keeps_every_symbol_that_was_ever_seen() {
    a_successor_adds_to_what_was_kept(&Place::sqlite());
}

#[test]
fn postgres_keeps_every_symbol_that_was_ever_seen() {
    let Some(place) = Place::postgres() else { return };
    a_successor_adds_to_what_was_kept(&place);
}

#[test]
fn firestore_keeps_every_symbol_that_was_ever_seen() {
    let Some(place) = Place::firestore() else { return };
    a_successor_adds_to_what_was_kept(&place);
}

#[test]
fn a_mark_waits_for_its_symbols_to_be_kept() {
    let (place, venue) = (Place::sqlite(), Venue::start(MARKET));
    let mut producer = start(&place, &venue);
    wait_for("symbols to be kept", LIMIT, || (kept(&place).len() >= 6).then_some(()));
    assert!(producer.stop().success());
    let before = wait_for("a mark", LIMIT, || received_to(&place));
    for (name, what) in [("no_more", "INSERT"), ("no_change", "UPDATE")] {
        sqlite::execute(
            &place.file(),
            &format!(
                "CREATE TRIGGER {name} BEFORE {what} ON market_ingest_symbols
                 BEGIN SELECT RAISE(ABORT, 'not now'); END"
            ),
        );
    }
    let producer = start(&place, &venue);
    wait_for("the trouble to be told", LIMIT, || {
        let told = "the symbols that were seen cannot be kept; tried again";
        producer.log(told).pop().map(drop)
    });
    let beats = || place.heartbeat().unwrap()["seq"].as_u64().unwrap();
    let began = beats();
    wait_for("some heartbeats", LIMIT, || (beats() > began + 3).then_some(()));
    assert_eq!(received_to(&place), Some(before.clone()), "the mark stays where it was");
    for name in ["no_more", "no_change"] {
        sqlite::execute(&place.file(), &format!("DROP TRIGGER {name}"));
    }
    wait_for("the mark to go on", LIMIT, || received_to(&place).filter(|now| *now > before));
}

#[test]
fn a_symbol_of_all_that_is_first_seen_while_it_is_held_is_fetched_once_it_is_released() {
    let venue = Venue::start(&[MARKET, &["--data", "127.0.0.1:0"]].concat());
    let traded =
        || venue.state()["feed"]["by_symbol"].as_object()?.keys().find(|name| is_stock(name)).cloned();
    let held = wait_for("a stock that trades", LIMIT, traded);
    let dir = tempfile::tempdir().unwrap();
    let (flag, store) = (dir.path().join("flag"), dir.path().join("store.db"));
    std::fs::write(&flag, "off\n").unwrap();
    let producer = Setup::new(&venue, dir.path())
        .with_records(&venue, dir.path())
        .var("ALPACA_DATA_FEED", "sip")
        .var("MONITORED_SYMBOLS", "*")
        .var("INGEST_ENABLED_FILE", flag.display())
        .start();
    let hold = format!("INSERT INTO market_ingest_hold (id, scope) VALUES ('h', 'symbol:{held}')");
    sqlite::execute(&store, &hold);
    producer.wait_status("both holds", LIMIT, |status| status["holds"].as_array().unwrap().len() == 2);
    std::fs::write(&flag, "on\n").unwrap();
    // It comes with all others, and is left out.
    let left_out = r#"market_ingest_held_back_total{job="sip"}"#;
    wait_for("the held one", LIMIT, || producer.metric(left_out).filter(|events| *events > 100.0));
    sqlite::execute(&store, "DELETE FROM market_ingest_hold");
    let query = format!(
        "SELECT cause, rows FROM market_ingest_gap WHERE state = 'filled' AND symbols = '[\"{held}\"]'"
    );
    let gap = wait_for("its records", LIMIT, || sqlite::rows(&store, &query).pop());
    assert_eq!(gap[0].as_deref(), Some("pause"));
    assert!(gap[1].as_deref().unwrap().parse::<u64>().unwrap() >= 100, "{gap:?}");
}
