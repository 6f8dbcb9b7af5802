#![allow(clippy::unwrap_used)]

use alpaca_feed::decode::Decoder;
use alpaca_feed::message::Codec;
use alpaca_feed::subscription::Channel;
use ingest_switch::{Coverage, Hold, Source};

use super::*;

fn filter(scopes: &[&str], symbols: &Arc<Symbols>) -> Filter {
    let hold = |scope: &&str| Hold {
        source: Source::control(scope),
        scope: scope.parse().unwrap(),
        reason: None,
        actor: None,
        since: "2026-10-06T14:30:00Z".parse().unwrap(),
        until: None,
    };
    let holds: Vec<Hold> = scopes.iter().map(hold).collect();
    Filter::new(Coverage::new(&holds).job("iex"), Arc::clone(symbols))
}

/// Type and symbol of what is left of a frame with one message of every kind for AAPL, and a quote for MSFT.
#[track_caller]
fn check(scopes: &[&str], expected: &str) {
    let symbols = Symbols::new();
    let t = r#""t":"2026-10-06T14:30:00Z""#;
    let bar = r#""S":"AAPL","o":1,"h":1,"l":1,"c":1,"v":1,"n":1,"vw":1"#;
    let frame = format!(
        r#"[{{"T":"t","S":"AAPL","i":1,"p":1,"s":1,{t}}},{{"T":"q","S":"AAPL","bp":1,"bs":1,"ap":2,"as":1,{t}}},
        {{"T":"b",{bar},{t}}},{{"T":"u",{bar},{t}}},{{"T":"d",{bar},{t}}},
        {{"T":"s","S":"AAPL","sc":"H","sm":"x","rc":"y","rm":"z","z":"C",{t}}},{{"T":"l","S":"AAPL","u":2,"d":1,"i":"B","z":"C",{t}}},
        {{"T":"x","S":"AAPL","i":1,"x":"V","p":1,"s":1,"a":"C","z":"C",{t}}},
        {{"T":"n","id":1,"headline":"h","symbols":["AAPL","MSFT"],"created_at":"2026-10-06T14:30:00Z"}},
        {{"T":"q","S":"MSFT","bp":1,"bs":1,"ap":2,"as":1,{t}}}]"#
    );
    let mut batch = Batch::default();
    Decoder::new(Arc::clone(&symbols)).decode(Codec::Json, frame.as_bytes(), &mut batch);
    assert_eq!((batch.events.len(), &batch.malformed.sample), (10, &None));
    let held = filter(scopes, &symbols).apply(&mut batch);
    let left: Vec<String> = batch.events.iter().map(|event| format!("{:?}", event.kind())).collect();
    assert_eq!((left.join(" ").as_str(), held as usize), (expected, 10 - left.len()), "{scopes:?}");
}

const EVERYTHING: &str = "Trade Quote Bar UpdatedBar DailyBar Status Luld Cancel News Quote";

#[test]
fn an_event_passes_exactly_when_no_hold_covers_its_symbol_on_its_channel() {
    check(&[], EVERYTHING);
    check(&["job:sip", "symbol:TSLA", "symbol:AAP"], EVERYTHING);
    check(&["symbol:aapl"], "News Quote");
    check(&["symbol:AAPL", "symbol:MS*/news"], "Quote");
    check(&["symbol:AAPL/trades"], "Quote Bar UpdatedBar DailyBar Status Luld News Quote");
    check(&["all/quotes"], "Trade Bar UpdatedBar DailyBar Status Luld Cancel News");
    check(&["job:iex/bars"], "Trade Quote UpdatedBar DailyBar Status Luld Cancel News Quote");
    check(&["symbol:*/updatedBars", "symbol:A*/dailyBars"], "Trade Quote Bar Status Luld Cancel News Quote");
    check(&["all/lulds", "symbol:?APL/statuses"], "Trade Quote Bar UpdatedBar DailyBar Cancel News Quote");
    check(&["job:iex"], "");
}

#[test]
fn the_bits_are_those_of_the_switchs_channels() {
    use Kind::{Bar, DailyBar, Imbalance, Luld, News, Orderbook, Pricing, Quote, Status, Trade, UpdatedBar};
    let kinds = [Trade, Quote, Bar, UpdatedBar, DailyBar, Status, Luld, Imbalance, Orderbook, Pricing, News];
    for (kind, channel) in kinds.into_iter().zip(CHANNELS) {
        assert_eq!(event_bit(kind), channel_bit(channel), "{channel}");
    }
    for channel in Channel::ALL.into_iter().filter(|channel| channel.is_requestable()) {
        assert_ne!(channel_bit(channel.as_str()), 0, "a scope can name {channel}");
    }
}

#[test]
fn desired_leaves_out_what_is_held_and_keeps_a_star_that_is_held_in_part() {
    let symbols = Symbols::new();
    let base: Subscriptions =
        [(Channel::Trades, "AAPL"), (Channel::Quotes, "AAPL"), (Channel::Quotes, "*")].into_iter().collect();
    let desired = |scopes: &[&str]| {
        let desired = filter(scopes, &symbols).desired(&base);
        desired.iter().map(|(channel, symbol)| format!("{channel} {symbol}")).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(desired(&[]), "trades AAPL, quotes *, quotes AAPL");
    assert_eq!(desired(&["symbol:A*"]), "quotes *");
    assert_eq!(desired(&["symbol:*/quotes"]), "trades AAPL");
    assert_eq!(desired(&["all/quotes", "symbol:AAPL"]), "");
}

#[test]
fn what_is_paused_is_told_by_symbol_or_by_symbol_and_channel() {
    let symbols = Symbols::new();
    let base: Subscriptions = ["AAPL", "BTC/USD", "MSFT", "*"]
        .into_iter()
        .flat_map(|symbol| [(Channel::Trades, symbol), (Channel::Quotes, symbol)])
        .collect();
    let paused = filter(&["symbol:BTC*", "symbol:AAPL/trades"], &symbols).paused_symbols(&base);
    assert_eq!(paused, ["AAPL/trades", "BTC/USD"]);
    assert!(filter(&[], &symbols).paused_symbols(&base).is_empty());
}

#[test]
fn a_thousand_rules_over_ten_thousand_symbols_cost_less_than_a_microsecond_a_message() {
    const SYMBOLS: usize = 10_000;
    let symbols = Symbols::new();
    let quote = |i| {
        let t = "2026-10-06T14:30:00Z";
        format!(r#"{{"T":"q","S":"S{i}","bp":1,"bs":1,"ap":2,"as":1,"t":"{t}"}}"#)
    };
    let frame = format!("[{}]", (0..SYMBOLS).map(quote).collect::<Vec<_>>().join(","));
    let mut batch = Batch::default();
    Decoder::new(Arc::clone(&symbols)).decode(Codec::Json, frame.as_bytes(), &mut batch);
    let rules: Vec<String> = (0..1_000)
        .map(|i| if i % 20 == 0 { format!("symbol:T{i}*") } else { format!("symbol:S{}/trades", i * 7) })
        .collect();
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    let mut filter = filter(&rules, &symbols);

    let cost = |filter: &mut Filter, batch: &mut Batch| {
        let start = std::time::Instant::now();
        assert_eq!(filter.apply(batch), 0, "quotes of held trades pass");
        start.elapsed().as_nanos() as f64 / SYMBOLS as f64
    };
    let first = cost(&mut filter, &mut batch);
    let mut again: Vec<f64> = (0..101).map(|_| cost(&mut filter, &mut batch)).collect();
    again.sort_by(f64::total_cmp);
    println!("first sight of each symbol {first:.0} ns a message, then {:.1} ns (median)", again[50]);
    assert!(again[50] < 1_000.0, "{again:?}");
}

#[test]
fn a_symbol_is_held_apart_where_all_are_not() {
    let symbols = Symbols::new();
    for name in ["AAPL", "MSFT", "TSLA"] {
        symbols.intern(name).unwrap();
    }
    let base: Subscriptions = [(Channel::Trades, "*"), (Channel::Quotes, "*")].into_iter().collect();
    let known = ["AAPL", "MSFT", "TSLA"].map(str::to_owned);
    for (scopes, apart) in [
        (&["symbol:MSFT"][..], [false, true, false]),
        (&["all/quotes"], [false; 3]),
        (&["all/quotes", "symbol:T*"], [false, false, true]),
        (&["symbol:AAPL/trades", "all/trades"], [false; 3]),
        (&["job:iex"], [false; 3]),
        (&[], [false; 3]),
    ] {
        let mut filter = filter(scopes, &symbols);
        for (at, apart) in apart.into_iter().enumerate() {
            assert_eq!(filter.holds_apart(at..at + 1), apart, "{scopes:?}: {}", known[at]);
            let found = filter.apart(&base, |symbol| symbol == known[at]);
            assert_eq!(!found.is_empty(), apart, "{scopes:?}: {}", known[at]);
        }
        assert_eq!(filter.holds_apart(0..3), apart.contains(&true), "{scopes:?}");
        assert!(!filter.holds_apart(3..3));
    }
}
