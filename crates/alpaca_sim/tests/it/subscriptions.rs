//! Subscribing: acknowledgements, refusals, and what flows afterwards.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::time::Duration;

use alpaca_sim::{Config, Event, EventKind, Plan, Profile, Venue};
use serde_json::json;

use crate::client::{Client, Codec, Got, live, taken};

#[tokio::test]
async fn acks_hold_the_whole_state_sorted_and_without_empties() {
    let venue = Venue::start(live(100.0)).await.unwrap();
    for codec in [Codec::Json, Codec::Msgpack] {
        let mut client = Client::sign_in(&venue, "/v2/iex", codec, &format!("{codec:?}")).await;
        for (message, ack) in [
            (
                json!({"action": "subscribe", "quotes": ["SPY", "AAPL"]}),
                json!({"T": "subscription", "quotes": ["AAPL", "SPY"]}),
            ),
            (
                json!({"action": "subscribe", "trades": ["NOSUCH"], "bars": ["*"], "news": null, "orderbooks": []}),
                json!({"T": "subscription", "trades": ["NOSUCH"], "quotes": ["AAPL", "SPY"], "bars": ["*"],
                       "corrections": ["NOSUCH"], "cancelErrors": ["NOSUCH"]}),
            ),
            (
                json!({"action": "unsubscribe", "trades": ["NOSUCH"], "quotes": ["AAPL", "NEVER"]}),
                json!({"T": "subscription", "quotes": ["SPY"], "bars": ["*"]}),
            ),
            (
                json!({"action": "unsubscribe", "quotes": ["SPY"], "bars": ["*"]}),
                json!({"T": "subscription"}),
            ),
        ] {
            client.say(message).await;
            client.expect(ack).await;
        }
    }
    venue.stop().await;
}

#[tokio::test]
async fn the_documented_profile_lists_empties_and_says_410() {
    let config = Config { profile: Profile::Documented, ..live(100.0) };
    let venue = Venue::start(config).await.unwrap();
    let mut client = Client::sign_in(&venue, "/v1beta3/crypto/us", Codec::Json, "key").await;
    client.say(json!({"action": "subscribe", "orderbooks": ["NO/USD"]})).await;
    client
        .expect(json!({"T": "subscription", "trades": [], "quotes": [], "bars": [], "updatedBars": [],
                       "dailyBars": [], "orderbooks": ["NO/USD"]}))
        .await;
    client.say(json!({"action": "subscribe", "news": ["*"]})).await;
    client.expect_error(410).await;
    venue.stop().await;
}

#[tokio::test]
async fn what_cannot_be_understood_is_400_and_changes_nothing() {
    let venue = Venue::start(live(100.0)).await.unwrap();
    let mut client = Client::open(&venue, "/v2/iex", Codec::Json).await;
    client.expect(json!({"T": "success", "msg": "connected"})).await;
    client.say(json!({"action": "subscribe", "quotes": ["NOSUCH"]})).await;
    client.expect_error(401).await;
    client.say(json!({"action": "auth", "key": "key", "secret": "secret"})).await;
    client.expect(json!({"T": "success", "msg": "authenticated"})).await;
    client.say(json!({"action": "subscribe", "quotes": ["NOSUCH"]})).await;
    client.expect(json!({"T": "subscription", "quotes": ["NOSUCH"]})).await;
    for wrong in [
        json!({"action": "subscribe"}),
        json!({"action": "subscribe", "bars": []}),
        json!({"action": "subscribe", "ticks": ["SPY"]}),
        json!({"action": "subscribe", "news": ["*"]}),
        json!({"action": "subscribe", "quotes": ["B AD"]}),
        json!({"action": "dance"}),
        json!("hello"),
    ] {
        client.say(wrong).await;
        client.expect(json!({"T": "error", "code": 400, "msg": "invalid syntax"})).await;
    }
    assert_eq!(venue.state().connections[0].subscriptions, json!({"quotes": ["NOSUCH"]}));
    venue.stop().await;
}

#[tokio::test]
async fn the_thirty_first_symbol_is_405_and_bars_are_free() {
    let venue = Venue::start(Config { plan: Plan::basic(), ..live(100.0) }).await.unwrap();
    let mut client = Client::sign_in(&venue, "/v2/iex", Codec::Json, "key").await;
    let symbols: Vec<String> = (0..31).map(|i| format!("N{i:02}")).collect();
    client.say(json!({"action": "subscribe", "bars": symbols, "quotes": symbols[..30]})).await;
    assert_eq!(client.control().await["quotes"].as_array().unwrap().len(), 30);
    client.say(json!({"action": "subscribe", "trades": ["ONEMORE"]})).await;
    client.expect(json!({"T": "error", "code": 405, "msg": "symbol limit exceeded"})).await;
    client.say(json!({"action": "subscribe", "trades": ["N00"]})).await;
    assert_eq!(client.control().await["trades"], json!(["N00"]));
    venue.stop().await;
}

#[tokio::test]
async fn only_what_is_subscribed_flows() {
    let venue = Venue::start(taken(20_000)).await.unwrap();
    let made = venue.state().feed.totals;
    let request = json!({"action": "subscribe", "trades": ["SPY"], "quotes": ["AAPL"]});
    let mut client = Client::subscribe(&venue, "/v2/sip", Codec::Json, request).await;
    let count = |symbol: &str, kind: &str| made.by_symbol[symbol].get(kind).copied().unwrap_or(0);
    let expected = ["t", "c", "x"].map(|k| count("SPY", k)).iter().sum::<u64>() + count("AAPL", "q");
    let elements = client.elements(expected as usize).await;
    let pairs: BTreeSet<(&str, &str)> =
        elements.iter().map(|e| (e["T"].as_str().unwrap(), e["S"].as_str().unwrap())).collect();
    assert!(pairs.contains(&("t", "SPY")) && pairs.contains(&("q", "AAPL")), "{pairs:?}");
    let trades_only = |(kind, symbol): &(&str, &str)| match *symbol {
        "SPY" => matches!(*kind, "t" | "c" | "x"),
        "AAPL" => *kind == "q",
        _ => false,
    };
    assert!(pairs.iter().all(trades_only), "{pairs:?}");
    assert_eq!(elements.len() as u64, expected);
    venue.stop().await;
}

#[tokio::test]
async fn each_product_has_its_own_stream_and_all_types_occur() {
    let venue = Venue::start(taken(40_000)).await.unwrap();
    let made = venue.state().feed.totals;
    let stock = json!({"action": "subscribe", "trades": ["*"], "quotes": ["*"], "bars": ["*"], "updatedBars": ["*"],
                       "dailyBars": ["*"], "statuses": ["*"], "lulds": ["*"], "imbalances": ["*"]});
    let crypto =
        json!({"action": "subscribe", "trades": ["*"], "quotes": ["*"], "bars": ["*"], "orderbooks": ["*"]});
    let perps = json!({"action": "subscribe", "trades": ["*"], "quotes": ["*"], "pricing": ["*"]});
    let options = json!({"action": "subscribe", "trades": ["*"], "quotes": ["SPY260116C00650000"]});
    let news = json!({"action": "subscribe", "news": ["*"]});
    let mut received = 0;
    let mut types = BTreeSet::new();
    for (path, request) in [
        ("/v2/sip", stock),
        ("/v1beta3/crypto/us", crypto),
        ("/v1beta1/crypto-perps/global", perps),
        ("/v1beta1/opra", options),
        ("/v1beta1/news", news),
    ] {
        let mut client = Client::subscribe(&venue, path, Codec::Msgpack, request).await;
        let mut here = 0;
        while let Some(Got::Frame(elements)) = client.next_within(Duration::from_millis(500)).await {
            here += elements.len() as u64;
            types.extend(elements.iter().map(|e| e["T"].as_str().unwrap().to_owned()));
        }
        assert!(here > 0, "{path} got nothing");
        let finished = |e: &Event| e.path.as_deref() == Some(path) && e.kind == EventKind::TapeFinished;
        assert!(venue.log().iter().any(finished), "{path}");
        received += here;
    }
    assert_eq!(types.len(), 13, "{types:?}");
    // Not asked for: option quotes of the other contracts.
    let unasked: u64 = ["SPY260116P00640000", "AAPL260116C00250000"]
        .iter()
        .map(|s| made.by_symbol.get(*s).and_then(|k| k.get("q")).copied().unwrap_or(0))
        .sum();
    assert_eq!(received, made.messages - unasked);
    assert_eq!(venue.state().sent.messages, received);
    venue.stop().await;
}

#[tokio::test]
async fn the_test_stream_ticks_whatever_the_feed() {
    let venue = Venue::start(taken(10)).await.unwrap();
    let request =
        json!({"action": "subscribe", "trades": ["FAKEPACA"], "quotes": ["FAKEPACA"], "bars": ["FAKEPACA"]});
    let mut client = Client::subscribe(&venue, "/v2/test", Codec::Msgpack, request).await;
    let elements = client.elements(3).await;
    assert!(elements.iter().all(|e| e["S"] == "FAKEPACA"), "{elements:?}");
    venue.stop().await;
}
