use std::sync::Arc;

use alpaca_feed::decode::Decoder;
use alpaca_feed::message::{Batch, Codec};
use alpaca_feed::symbol::Symbols;

use super::*;

struct Desk {
    symbols: Arc<Symbols>,
    writer: KeyWriter,
}

impl Desk {
    fn new() -> Self {
        Self { symbols: Symbols::new(), writer: KeyWriter::default() }
    }

    fn event(&self, json: &str) -> Event {
        let mut batch = Batch::default();
        Decoder::new(Arc::clone(&self.symbols)).decode(
            Codec::Json,
            format!("[{json}]").as_bytes(),
            &mut batch,
        );
        assert_eq!(batch.events.len(), 1, "{json}: {:?}", batch.malformed);
        batch.events.remove(0)
    }

    fn key(&mut self, event: &Event, ordinal: u32) -> String {
        let symbol = event.symbol().map(|symbol| self.symbols.name(symbol));
        let mut out = Vec::new();
        self.writer.write(&mut out, event, symbol.as_deref().unwrap_or_default(), ordinal);
        String::from_utf8(out).unwrap()
    }
}

const QUOTE: &str = r#"{"T":"q","S":"IBM","bx":"P","bp":179.21,"bs":100,"ax":"P","ap":179.5,"as":100,"c":["R"],"z":"A","t":"2013-10-09T13:29:00.2Z"}"#;

/// Keys lie in files and brokers for ever: a row that must be changed here is a break.
#[test]
fn the_key_of_each_kind_is_what_it_always_was() {
    let trade = r#"{"T":"t","S":"BAC","i":482,"x":"P","p":13.72,"s":800,"c":[" ","T"],"z":"A","t":"2013-10-09T13:29:02.623Z"}"#;
    let rows = [
        (trade, "t|BAC|P|482|2013-10-09"),
        (
            r#"{"T":"t","S":"BTC/USD","i":18446744073709551615,"p":1.5,"s":0.1,"tks":"B","t":"2026-11-25T04:59:59.999999999Z"}"#,
            "t|BTC/USD||18446744073709551615|2026-11-24",
        ),
        (
            r#"{"T":"t","S":"BTC/USD","i":7,"p":1.5,"s":0.1,"tks":"B","t":"2026-11-25T05:00:00Z"}"#,
            "t|BTC/USD||7|2026-11-25",
        ),
        // Summer time: the day begins at 04:00 UTC.
        (
            r#"{"T":"t","S":"A","i":7,"x":"LONG EXCHANGE","p":1,"s":1,"t":"2026-07-01T03:59:59Z"}"#,
            "t|A|LONG EXCHANGE|7|2026-06-30",
        ),
        (QUOTE, "q|IBM|1381325340200000000|6d37ea8ab533c9ae|0"),
        (
            r#"{"T":"t","S":"AAPL241220C00300000","p":1,"s":1,"x":"C","c":"I","t":"2026-07-01T03:59:59Z"}"#,
            "t|AAPL241220C00300000|1782878399000000000|18662e1bfaa01b9d|0",
        ),
        (
            r#"{"T":"b","S":"SPY","o":1,"h":2,"l":1,"c":2,"v":3,"n":4,"vw":1.5,"t":"2026-07-01T14:00:00Z"}"#,
            "b|SPY|1782914400000000000",
        ),
        (
            r#"{"T":"u","S":"SPY","o":1,"h":2,"l":1,"c":2,"v":3,"n":4,"vw":1.5,"t":"2026-07-01T14:00:00Z"}"#,
            "u|SPY|1782914400000000000|5d3d25d67ec747ee",
        ),
        (
            r#"{"T":"d","S":"SPY","o":1,"h":2,"l":1,"c":2,"v":3,"n":4,"vw":1.5,"t":"2026-07-01T04:00:00Z"}"#,
            "d|SPY|1782878400000000000|7b77f4351385e2d1",
        ),
        (
            r#"{"T":"n","id":24918784,"headline":"h","summary":"","author":"a","created_at":"2026-07-01T04:00:00Z","updated_at":"2026-07-01T04:00:01Z","url":"","content":"","symbols":["SPY"],"source":"s"}"#,
            "n|24918784|1782878401000000000",
        ),
        (
            r#"{"T":"s","S":"SPY","sc":"H","sm":"Halted","rc":"T12","rm":"","z":"C","t":"2026-07-01T14:00:00Z"}"#,
            "s|SPY|1782914400000000000|f5d4eedecba537bf|0",
        ),
    ];
    let mut desk = Desk::new();
    let keys = rows.map(|(json, _)| {
        let event = desk.event(json);
        desk.key(&event, 0)
    });
    assert_eq!(keys, rows.map(|(_, expected)| expected));
}

#[test]
fn equal_quotes_are_counted_and_different_ones_are_not_equal() {
    let desk = Desk::new();
    let quote = desk.event(QUOTE);
    let mut keyer = Keyer::default();
    assert_eq!([(); 3].map(|()| keyer.ordinal(&quote)), [0, 1, 2]);
    for (from, to) in [
        ("\"IBM\"", "\"AIG\""),
        ("179.21", "179.22"),
        ("\"bs\":100", "\"bs\":200"),
        ("\"as\":100", "\"as\":200"),
        ("\"bx\":\"P\"", "\"bx\":\"Q\""),
        ("\"ax\":\"P\"", "\"ax\":\"Q\""),
        ("[\"R\"]", "[\"O\"]"),
        ("[\"R\"]", "[\"R\",\"R\"]"),
        ("[\"R\"]", "[\"RR\"]"),
        ("\"z\":\"A\"", "\"z\":\"B\""),
        ("00.2Z", "00.200000001Z"),
    ] {
        assert_eq!(keyer.ordinal(&desk.event(&QUOTE.replace(from, to))), 0, "{to}");
    }
    assert_eq!(keyer.ordinal(&quote), 3);
    assert_eq!(Keyer::default().ordinal(&quote), 0, "another reading counts for itself");
}

/// A broker that leaves out what it has under the same id must not leave out the rest of the day.
#[test]
fn each_version_of_a_revised_or_daily_bar_is_a_message_of_its_own() {
    let mut desk = Desk::new();
    let bar = |letter: &str, volume: u32| {
        format!(
            r#"{{"T":"{letter}","S":"SPY","o":1,"h":2,"l":1,"c":2,"v":{volume},"n":4,"vw":1.5,"t":"2026-07-01T04:00:00Z"}}"#
        )
    };
    for (letter, apart) in [("b", false), ("u", true), ("d", true)] {
        let [first, again, newer] = [3, 3, 4].map(|volume| {
            let event = desk.event(&bar(letter, volume));
            desk.key(&event, 0)
        });
        assert_eq!(first, again);
        assert_eq!(first != newer, apart, "{letter}: {first} {newer}");
    }
}

#[test]
fn a_receipt_time_and_the_way_it_came_do_not_change_a_key() {
    let mut desk = Desk::new();
    let plain = desk.event(QUOTE);
    let Event::Quote(mut received) = plain else { panic!("a quote") };
    received.received_ts = Some(1);
    let (one, other) = (desk.key(&Event::Quote(received), 0), desk.key(&plain, 0));
    assert_eq!(one, other);
    // REST names the fields in another order and has neither T nor S.
    let rest = r#"{"t":"2013-10-09T13:29:00.200Z","ax":"P","ap":179.50,"as":100.0,"bx":"P","bp":179.21,"bs":100,"c":["R"],"z":"A","T":"q","S":"IBM"}"#;
    let rest = desk.event(rest);
    assert_eq!(desk.key(&rest, 0), other);
}

#[test]
fn readings_united_by_key_give_the_greatest_count_of_each() {
    let mut desk = Desk::new();
    let events: Vec<_> = [QUOTE, &QUOTE.replace("179.21", "179.3")].map(|json| desk.event(json)).into();
    // Live saw the second once and lost one of the first; the fetch has the truth.
    let readings: [&[usize]; 3] = [&[0, 1], &[0, 0, 1, 0], &[1]];
    let mut union = std::collections::BTreeSet::new();
    for reading in readings {
        let mut keyer = Keyer::default();
        for index in reading {
            let ordinal = keyer.ordinal(&events[*index]);
            union.insert(desk.key(&events[*index], ordinal));
        }
    }
    assert_eq!(union.len(), 4, "three of the first and one of the second: {union:?}");
}

#[test]
fn equals_are_remembered_over_many_others_and_the_memory_stays_small() {
    let desk = Desk::new();
    let Event::Quote(first) = desk.event(QUOTE) else { panic!("a quote") };
    let mut keyer = Keyer::default();
    keyer.ordinal(&Event::Quote(first));
    let mut other = first;
    for n in 1..EQUALS_KEPT as i64 {
        other.ts = first.ts + n;
        assert_eq!(keyer.ordinal(&Event::Quote(other)), 0);
    }
    assert_eq!(keyer.ordinal(&Event::Quote(first)), 1);
    for n in 0..4 * EQUALS_KEPT as i64 {
        other.ts = first.ts - n - 1;
        keyer.ordinal(&Event::Quote(other));
    }
    assert!(keyer.young.len() + keyer.old.len() <= 2 * EQUALS_KEPT);
}

#[test]
fn the_time_in_a_key_is_the_number_of_nanoseconds_whenever_it_was() {
    let mut writer = KeyWriter::default();
    const SECOND: i64 = 1_000_000_000;
    for ts in [
        0,
        5,
        SECOND - 1,
        -1,
        -SECOND,
        i64::MIN,
        SECOND * SECOND - 1,
        SECOND * SECOND,
        i64::MAX,
        i64::MAX - 7,
        5,
    ] {
        let mut out = Vec::new();
        writer.time(&mut out, ts);
        assert_eq!(String::from_utf8(out).unwrap(), ts.to_string());
    }
}

/// Hashes of codes as of any text: they are folded in by another way only because it is quicker.
#[test]
fn codes_and_conditions_are_hashed_as_the_texts_that_they_are() {
    for text in ["", "V", "é", "ab", "ab\u{7f}", "LONG"] {
        let (code, mut quick, mut plain) = (Code::new(text).unwrap(), Content(7), Content(7));
        quick.codes([code, Code::default(), code]);
        [text, "", text].into_iter().for_each(|text| plain.text(text));
        assert_eq!(quick.0, plain.0, "{text:?}");
    }
    for len in 0..=Conditions::LEN_MAX {
        let mut conditions = Conditions::default();
        (0..len).for_each(|at| assert!(conditions.push(&" @FTIXZ\u{1}"[at..=at])));
        let (mut quick, mut plain) = (Content(7), Content(7));
        quick.conditions(conditions);
        plain.text(conditions.as_str());
        assert_eq!((quick.0, conditions.len()), (plain.0, len));
    }
}
