//! Real input: a whole session of real ticks through the real binary, counted and compared.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::{Duration, Instant};

use e2e::producer::{Producer, Setup};
use e2e::venue::Venue;
use e2e::{data, sqlite, wait_for};
use serde_json::Value;

/// What an independent reading of the same data says.
struct Expected {
    /// By symbol, then by the producer's word for the type.
    counts: BTreeMap<String, BTreeMap<&'static str, u64>>,
    /// By symbol: the newest quote.
    quotes: BTreeMap<String, Value>,
}

impl Expected {
    /// Reads a tape line by line with serde.
    fn of_tape(tape: &Path) -> Self {
        let file = std::fs::File::open(tape).unwrap();
        let lines = BufReader::new(zstd::Decoder::new(file).unwrap()).lines();
        let mut expected = Self { counts: BTreeMap::new(), quotes: BTreeMap::new() };
        for line in lines {
            let element: Value = serde_json::from_str(&line.unwrap()).unwrap();
            let symbol = element["S"].as_str().unwrap().to_owned();
            let word = word_of(element["T"].as_str().unwrap());
            *expected.counts.entry(symbol.clone()).or_default().entry(word).or_default() += 1;
            if word == "quote" {
                expected.quotes.insert(symbol, element);
            }
        }
        expected
    }

    /// What the simulator says it made.
    fn of_venue(venue: &Venue) -> Self {
        let feed = &venue.state()["feed"];
        let mut counts: BTreeMap<String, BTreeMap<&'static str, u64>> = BTreeMap::new();
        for (symbol, by_type) in feed["by_symbol"].as_object().unwrap() {
            for (letter, count) in by_type.as_object().unwrap() {
                // Only what a stock stream carries can reach a stock job.
                if !symbol.contains('/') && ["t", "q", "b"].contains(&letter.as_str()) {
                    let count = count.as_u64().unwrap();
                    counts.entry(symbol.clone()).or_default().insert(word_of(letter), count);
                }
            }
        }
        let quotes = feed["last_quotes"].as_object().unwrap().clone().into_iter();
        Self { counts, quotes: quotes.filter(|(symbol, _)| !symbol.contains('/')).collect() }
    }

    fn total(&self, word: &str) -> u64 {
        self.counts.values().filter_map(|by_type| by_type.get(word)).sum()
    }
}

fn word_of(letter: &str) -> &'static str {
    match letter {
        "t" => "trade",
        "q" => "quote",
        "b" => "bar",
        other => panic!("unexpected type {other}"),
    }
}

#[test]
fn a_session_of_real_ticks_arrives_exactly_in_messagepack() {
    arrives_exactly("msgpack");
}

#[test]
fn a_session_of_real_ticks_arrives_exactly_in_json() {
    arrives_exactly("json");
}

fn arrives_exactly(codec: &str) {
    let (venue, expected) = match data::shared("equities_ticks.ndjson.zst") {
        Some(tape) => {
            let arguments = ["--tape", tape.to_str().unwrap(), "--speed", "max"];
            let expected = Expected::of_tape(&tape);
            let all: u64 = ["trade", "quote", "bar"].iter().map(|w| expected.total(w)).sum();
            assert_eq!(all, 1_743_751, "the tape is the one that was described");
            (Venue::start(&arguments), expected)
        }
        None => {
            let venue = Venue::start(&["--synthetic", "--messages", "300000", "--symbols", "4"]);
            let expected = Expected::of_venue(&venue);
            (venue, expected)
        }
    };

    // Everything at once: the totals, and the newest quote of every symbol in the store.
    let dir = tempfile::tempdir().unwrap();
    let producer = start(&venue, dir.path(), codec, "*");
    let took = Instant::now();
    wait_counts(&producer, |word| expected.total(word));
    println!("{codec}: everything counted after {:.1} s", took.elapsed().as_secs_f64());
    wait_quotes(&dir.path().join("store.db"), &expected.quotes);
    assert_eq!(producer.metric(r#"market_ingest_malformed_total{job="sip"}"#), Some(0.0));
    assert_eq!(producer.metric(r#"market_ingest_unknown_total{job="sip"}"#), Some(0.0));
    drop(producer);

    // Symbol by symbol: four at most, for the synthetic market has more.
    for (symbol, by_type) in expected.counts.iter().take(4) {
        let dir = tempfile::tempdir().unwrap();
        let producer = start(&venue, dir.path(), codec, symbol);
        wait_counts(&producer, |word| by_type.get(word).copied().unwrap_or(0));
    }
}

/// Each run is an account of its own, so that it finds the tape at its beginning.
fn start(venue: &Venue, dir: &Path, codec: &str, symbols: &str) -> Producer {
    let producer = Setup::new(venue, dir)
        .var("ALPACA_DATA_FEED", "sip")
        .var("MONITORED_SYMBOLS", symbols)
        .var("ALPACA_CODEC", codec)
        .var("APCA_API_KEY_ID", format!("{codec}-{symbols}"))
        .var("APCA_API_SECRET_KEY", "secret")
        .var("PER_SYMBOL_MIN_INTERVAL_MS", 100)
        .var("GLOBAL_WRITES_PER_SEC", 1000)
        .start();
    producer.wait_live();
    producer
}

/// Exactly: reached, and not passed once the venue says that the tape is over.
fn wait_counts(producer: &Producer, expected: impl Fn(&str) -> u64) {
    let count = |word: &str| {
        producer.metric(&format!(r#"market_ingest_messages_total{{job="sip",type="{word}"}}"#)).unwrap()
            as u64
    };
    let words = ["trade", "quote", "bar"];
    let wanted: u64 = words.iter().map(|w| expected(w)).sum();
    wait_for(&format!("{wanted} messages"), Duration::from_secs(120), || {
        let now: u64 = words.iter().map(|w| count(w)).sum();
        (now >= wanted).then_some(())
    });
    // Anything beyond what was expected would still be on its way.
    std::thread::sleep(Duration::from_millis(300));
    for word in words {
        assert_eq!(count(word), expected(word), "{word}");
    }
}

fn wait_quotes(store: &Path, expected: &BTreeMap<String, Value>) {
    let query = "SELECT symbol, ts, bid, ask, bid_size, ask_size FROM live_quotes ORDER BY symbol";
    let number = |v: &Value| v.as_f64().unwrap();
    let wanted: Vec<_> = expected
        .iter()
        .map(|(symbol, q)| {
            let ts: jiff::Timestamp = q["t"].as_str().unwrap().parse().unwrap();
            let ts = ts.as_microsecond();
            (symbol.clone(), ts, number(&q["bp"]), number(&q["ap"]), number(&q["bs"]), number(&q["as"]))
        })
        .collect();
    wait_for("the newest quote of every symbol in the store", Duration::from_secs(10), || {
        let stored: Vec<_> = sqlite::rows(store, query)
            .into_iter()
            .map(|row| {
                let text = |i: usize| row[i].clone().unwrap_or_else(|| "0".into());
                let number = |i: usize| text(i).parse::<f64>().unwrap();
                let ts: jiff::Timestamp = text(1).parse().unwrap();
                (text(0), ts.as_microsecond(), number(2), number(3), number(4), number(5))
            })
            .collect();
        (stored == wanted).then_some(())
    });
}
