//! One symbol that falls silent while others flow: the venue's REST service tells whether it is mute or quiet.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;
use crate::equation::judge::whole_files;
use crate::equation::tape::each_line;

/// Symbols that are active enough to be watched one by one are chosen every fifteen seconds, and then learned.
const WATCHED_AFTER: Duration = Duration::from_secs(33);
const SYMBOL: &str = "BTC/USD";

fn setup(venue: &Venue, dir: &tempfile::TempDir) -> Setup {
    kept(venue, dir).var("INGEST_MUTE_AFTER_S", MUTE_AFTER.as_secs())
}

/// Calls for the newest of the symbol.
fn spot_checks(venue: &Venue) -> usize {
    let asks = |event: &Value| event["path"].as_str().unwrap().contains("/latest/") && event["status"] == 200;
    venue.events("data_request").iter().filter(|event| asks(event)).count()
}

fn of_symbol(producer: &Producer, message: &str) -> Option<Value> {
    let mut records = producer.log(message).into_iter().map(|record| record.json);
    records.rfind(|record| record["symbol"] == SYMBOL)
}

#[test]
fn a_mute_symbol_is_found_subscribed_anew_and_its_hole_is_filled() {
    let venue = Venue::start(&["--synthetic", "--rate", "10000", "--symbols", "4", "--data", "127.0.0.1:0"]);
    let dir = tempfile::tempdir().unwrap();
    let mut producer = setup(&venue, &dir).start();
    producer.wait_live();
    let live = Instant::now();
    wait_for("symbols to be watched", LIMIT * 4, || (live.elapsed() > WATCHED_AFTER).then_some(()));
    assert_eq!(spot_checks(&venue), 0, "nothing is asked while all flow");

    let (mark, began) = (venue.mark(), Instant::now());
    venue.fault(&json!({"fault": "mute", "symbol": SYMBOL}));
    let told = wait_for("the alarm", LIMIT * 2, || of_symbol(&producer, "feed_mute"));
    println!("found {:.2} s after it fell mute: {told}", began.elapsed().as_secs_f64());
    let (silent_s, limit_s) = (told["silent_s"].as_f64().unwrap(), told["limit_s"].as_f64().unwrap());
    // A look comes once a second, and the question takes its time.
    assert!(silent_s >= limit_s && silent_s < limit_s + 3.0, "{told}");
    for kind in ["unsubscribe", "subscribe"] {
        let request = venue_saw(&venue, mark, kind, LIMIT);
        assert_eq!(pairs(&request), ["quotes BTC/USD", "trades BTC/USD"], "{request}");
    }
    venue.heal();
    wait_for("the symbol again", LIMIT, || of_symbol(&producer, "feed_flowing"));
    assert_eq!(venue.events("tcp_open").len(), 1, "mended without another connection");
    let gap = wait_for("the hole to be filled", LIMIT, || {
        let query = "SELECT symbols, rows FROM market_ingest_gap WHERE cause = 'mute' AND state = 'filled' ORDER BY rows";
        // The spell itself, and the moment of the remedy.
        sqlite::rows(&dir.path().join("store.db"), query).into_iter().nth(1)
    });
    assert_eq!(gap[0].as_deref(), Some(r#"["BTC/USD"]"#));
    assert!(gap[1].as_deref().unwrap().parse::<u64>().unwrap() > 0, "{gap:?}");
    let history = format!("{}/v1beta3/crypto/us", venue.data_url());
    assert!(producer.stop().success());

    // All that the venue sent of it from the first record to the last is there.
    let mut kept: BTreeSet<(String, i64)> = BTreeSet::new();
    for path in whole_files(&dir.path().join("records")) {
        each_line(&path, |line| {
            let record: Value = serde_json::from_str(line).unwrap();
            if record["symbol"] == SYMBOL {
                let at: jiff::Timestamp = record["ts"].as_str().unwrap().parse().unwrap();
                kept.insert((record["type"].as_str().unwrap().to_owned(), at.as_nanosecond() as i64));
            }
        });
    }
    let times = || kept.iter().map(|(_, ts)| *ts);
    let time = |ns: i64| jiff::Timestamp::from_nanosecond(i128::from(ns)).unwrap();
    let (from, to) = (time(times().min().unwrap()), time(times().max().unwrap()));
    let mut there = 0;
    for (word, letter) in [("trades", "t"), ("quotes", "q")] {
        let mut token = String::new();
        loop {
            let asked = format!("{history}/{word}?symbols={SYMBOL}&start={from}&end={to}&limit=10000{token}");
            let page = http::get_json(&asked).unwrap();
            for row in page[word][SYMBOL].as_array().into_iter().flatten() {
                let at: jiff::Timestamp = row["t"].as_str().unwrap().parse().unwrap();
                assert!(kept.contains(&(letter.to_owned(), at.as_nanosecond() as i64)), "{word} of {at}");
                there += 1;
            }
            let Some(next) = page["next_page_token"].as_str() else { break };
            token = format!("&page_token={}", next.replace('+', "%2B").replace('=', "%3D"));
        }
    }
    println!("{there} records of the symbol, {} of them fetched for the hole", gap[1].as_deref().unwrap());
}

#[test]
fn a_symbol_that_is_merely_quiet_is_asked_about_and_left_alone() {
    // From now on, by the wall's clock: the second symbol ends after forty seconds, the first goes on.
    let dir = tempfile::tempdir().unwrap();
    let start = jiff::Timestamp::now();
    let trade = |step: i64, symbol: &str| {
        let at = start + jiff::SignedDuration::from_millis(step * 20);
        format!(
            "{}\n",
            json!({"T": "t", "S": symbol, "i": step, "p": 1.5, "s": 0.25, "tks": "B", "t": at.to_string()})
        )
    };
    let mut text = String::new();
    for step in 0..90 * 50 {
        text += &trade(step, "ETH/USD");
        if step < 40 * 50 {
            text += &trade(step, SYMBOL);
        }
    }
    let tape = dir.path().join("tape.ndjson");
    std::fs::write(&tape, text).unwrap();
    let venue = Venue::start(&["--tape", tape.to_str().unwrap(), "--data", "127.0.0.1:0"]);
    let producer = setup(&venue, &dir).var("ALPACA_CHANNELS", "trades").start();
    producer.wait_live();
    wait_for("the suspicion", LIMIT * 5, || of_symbol(&producer, "symbol_suspect"));
    // It may fall mute while it is quiet, so it is asked about again after twice the silence.
    wait_for("two questions", LIMIT * 2, || (spot_checks(&venue) == 2).then_some(()));
    let answered = Instant::now();
    wait_for("the answer to be taken", LIMIT, || (answered.elapsed() > 2 * SLACK).then_some(()));
    assert_eq!((producer.log("feed_mute").len(), producer.log("feed_remedy").len()), (0, 0));
    assert_eq!(data_fresh(&producer), ("True".into(), "Flowing".into()));
    let gaps = sqlite::rows(&dir.path().join("store.db"), "SELECT id FROM market_ingest_gap");
    assert!(gaps.is_empty(), "{gaps:?}");
}
