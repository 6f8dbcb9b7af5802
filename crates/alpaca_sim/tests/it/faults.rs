//! Every fault, seen by a client.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use alpaca_sim::{ClosedBy, Config, Event, EventKind, Fault, Timings, Venue};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::client::{Client, Codec, Got, LIMIT, auth, live, quick, same, taken};

const QUIET: Duration = Duration::from_millis(300);

async fn venue_with(config: Config, fault: &str) -> Venue {
    Venue::start(Config { faults: vec![fault.parse().unwrap()], ..config }).await.unwrap()
}

fn quotes() -> Value {
    json!({"action": "subscribe", "quotes": ["*"]})
}

fn trades() -> Value {
    json!({"action": "subscribe", "trades": ["*"]})
}

fn struck(venue: &Venue, fault: &str) -> bool {
    venue.log().iter().any(|e| matches!(&e.kind, EventKind::Fault { fault: f } if *f == fault))
}

fn closed(log: &[Event], how: ClosedBy) -> bool {
    log.iter().any(|e| e.kind == EventKind::TcpClosed { how })
}

#[tokio::test]
async fn stall_at_accept_answers_nobody_until_it_ends() {
    let venue = venue_with(live(100.0), "stall:at=accept").await;
    let mut stream = TcpStream::connect(venue.addr()).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"GET /v2/iex HTTP/1.1\r\n\r\n").await.unwrap();
    let mut bytes = Vec::new();
    let read = tokio::io::AsyncReadExt::read_buf(&mut stream, &mut bytes);
    assert!(tokio::time::timeout(QUIET, read).await.is_err());
    assert_eq!(venue.state().accepted, 0);
    venue.clear_faults();
    Client::sign_in(&venue, "/v2/iex", Codec::Json, "key").await;
    venue.stop().await;
}

#[tokio::test]
async fn stall_at_upgrade_reads_and_never_answers() {
    let venue = venue_with(live(100.0), "stall:at=upgrade,count=1").await;
    let url = venue.url("/v2/iex");
    let dial = tokio_tungstenite::connect_async(&url);
    assert!(tokio::time::timeout(QUIET, dial).await.is_err());
    assert!(venue.wait_for(LIMIT, |log| closed(log, ClosedBy::Fin)).await, "the client's end is seen");
    Client::sign_in(&venue, "/v2/iex", Codec::Json, "key").await;
    venue.stop().await;
}

#[tokio::test]
async fn stalls_after_the_upgrade_keep_silent_and_hear_the_close() {
    let timings = Timings { auth_limit: Duration::from_millis(50), ..Timings::default() };
    for stage in ["greeting", "auth", "ack"] {
        let config = Config { timings, ..live(1_000.0) };
        let venue = venue_with(config, &format!("stall:at={stage}")).await;
        let mut client = Client::open(&venue, "/v2/iex", Codec::Json).await;
        if stage != "greeting" {
            client.expect(json!({"T": "success", "msg": "connected"})).await;
            client.say(auth("key", "secret")).await;
        }
        if stage == "ack" {
            client.expect(json!({"T": "success", "msg": "authenticated"})).await;
            client.say(quotes()).await;
        }
        assert!(client.is_silent_for(QUIET).await, "{stage}");
        assert!(struck(&venue, "stall"));
        client.socket.send(Message::Close(None)).await.unwrap();
        assert!(venue.wait_for(LIMIT, |log| closed(log, ClosedBy::Ours)).await, "{stage}");
        venue.stop().await;
    }
}

#[tokio::test]
async fn upgrades_are_refused_as_often_as_asked() {
    let venue = venue_with(live(100.0), "refuse_upgrade:status=429,count=2").await;
    for _ in 0..2 {
        match Client::open_with(&venue, "/v2/iex", Codec::Json, &[]).await {
            Err(Error::Http(response)) => assert_eq!(response.status(), 429),
            other => panic!("{:?}", other.err()),
        }
    }
    Client::sign_in(&venue, "/v2/iex", Codec::Json, "key").await;
    let refusals = venue.log();
    let refused = |e: &&Event| e.kind == EventKind::UpgradeRefused { status: 429 };
    assert_eq!(refusals.iter().filter(refused).count(), 2);
    venue.stop().await;
}

#[tokio::test]
async fn auth_and_subscribe_are_refused_with_any_code() {
    let venue = Venue::start(Config { timings: quick(), ..live(100.0) }).await.unwrap();
    venue.inject("refuse_auth:code=500,count=1".parse::<Fault>().unwrap());
    venue.inject("refuse_subscribe:code=405,count=1".parse::<Fault>().unwrap());
    let mut client = Client::open(&venue, "/v2/iex", Codec::Msgpack).await;
    client.expect(json!({"T": "success", "msg": "connected"})).await;
    client.say(auth("key", "secret")).await;
    client.expect(json!({"T": "error", "code": 500, "msg": "internal error"})).await;
    client.say(auth("key", "secret")).await;
    client.expect(json!({"T": "success", "msg": "authenticated"})).await;
    client.say(quotes()).await;
    client.expect_error(405).await;
    assert!(client.is_silent_for(Duration::from_millis(100)).await);
    client.say(quotes()).await;
    client.expect(json!({"T": "subscription", "quotes": ["*"]})).await;
    // A 406 without a rival: dropped after the hold, as with one.
    venue.inject("refuse_auth:code=406".parse::<Fault>().unwrap());
    let mut client = Client::open(&venue, "/v2/sip", Codec::Json).await;
    client.expect(json!({"T": "success", "msg": "connected"})).await;
    client.say(auth("key", "secret")).await;
    client.expect_error(406).await;
    assert_eq!(client.until_end().await, (Vec::new(), false));
    venue.stop().await;
}

#[tokio::test]
async fn an_error_out_of_the_blue_comes_in_the_middle_of_the_data() {
    for config in [live(2_000.0), taken(100_000)] {
        let venue = venue_with(config, "error:code=500,after=50").await;
        let mut client = Client::subscribe(&venue, "/v2/iex", Codec::Json, quotes()).await;
        let mut before = 0;
        loop {
            let elements = client.frame().await;
            if elements[0]["T"] == "error" {
                assert_eq!(elements[0]["code"], 500);
                break;
            }
            before += elements.len();
        }
        assert!(before >= 50, "{before}");
        assert!(!client.elements(20).await.is_empty(), "the session goes on");
        venue.stop().await;
    }
}

#[tokio::test]
async fn cuts_come_after_exactly_so_many_elements_with_or_without_407() {
    for (fault, last_words) in [("cut:after=100", false), ("slow_client:after=100", true)] {
        for config in [taken(5_000), live(5_000.0)] {
            let venue = venue_with(config, fault).await;
            let mut client = Client::subscribe(&venue, "/v2/iex", Codec::Json, quotes()).await;
            let (mut elements, close_frame) = client.until_end().await;
            assert!(!close_frame);
            if last_words {
                assert_eq!(elements.pop().unwrap()["code"], 407);
            }
            assert_eq!(elements.len(), 100, "{fault}");
            assert!(venue.wait_for(LIMIT, |log| closed(log, ClosedBy::Ours)).await);
            let mut next = Client::subscribe(&venue, "/v2/iex", Codec::Json, quotes()).await;
            assert_eq!(next.elements(500).await.len().min(500), 500, "{fault} strikes once");
            venue.stop().await;
        }
    }
}

#[tokio::test]
async fn a_cut_in_mid_frame_leaves_half_a_frame_and_resets() {
    let venue = venue_with(taken(5_000), "cut_mid_frame:after=20").await;
    let mut client = Client::subscribe(&venue, "/v2/iex", Codec::Json, quotes()).await;
    let mut elements = 0;
    let error = loop {
        match client.socket.next().await.unwrap() {
            Ok(Message::Text(text)) => {
                elements += serde_json::from_str::<Vec<Value>>(&text).unwrap().len();
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert_eq!(elements, 20);
    assert!(matches!(error, Error::Io(_) | Error::Protocol(_)), "{error:?}");
    venue.stop().await;
}

#[tokio::test]
async fn mute_stops_the_data_and_not_the_pings() {
    let config = Config { timings: Timings { auth_limit: LIMIT, ..quick() }, ..live(1_000.0) };
    let venue = Venue::start(config).await.unwrap();
    let mut client = Client::subscribe(&venue, "/v2/iex", Codec::Json, quotes()).await;
    client.elements(10).await;
    venue.inject("mute:for_s=1".parse::<Fault>().unwrap());
    let start = Instant::now();
    let mut pings_in_a_row = 0;
    while pings_in_a_row < 3 {
        pings_in_a_row = if client.next().await == Got::Ping { pings_in_a_row + 1 } else { 0 };
        assert!(start.elapsed() < LIMIT);
    }
    client.say(trades()).await;
    assert_eq!(client.control().await["T"], "subscription", "messages are answered");
    client.elements(10).await;
    assert!(start.elapsed() >= Duration::from_millis(900), "it ended by itself");
    venue.stop().await;
}

#[tokio::test]
async fn a_symbol_or_a_channel_can_be_mute_alone() {
    for (fault, is_mute) in [
        ("mute:channel=trades", (|e: &Value| e["T"] == "t") as fn(&Value) -> bool),
        ("mute:symbol=SPY", |e| e["S"] == "SPY"),
        ("mute:symbol=SPY,channel=quotes", |e| e["S"] == "SPY" && e["T"] == "q"),
    ] {
        let venue = Venue::start(live(1_000.0)).await.unwrap();
        let both = json!({"action": "subscribe", "trades": ["*"], "quotes": ["*"]});
        let mut client = Client::subscribe(&venue, "/v2/iex", Codec::Json, both).await;
        venue.inject(fault.parse::<Fault>().unwrap());
        let start = Instant::now();
        // What was on its way comes first.
        let mut clean = 0;
        while clean < 1_000 {
            clean = if client.elements(1).await.iter().any(is_mute) { 0 } else { clean + 1 };
            assert!(start.elapsed() < LIMIT, "{fault}");
        }
        venue.clear_faults();
        while !client.elements(1).await.iter().any(is_mute) {
            assert!(start.elapsed() < LIMIT, "{fault} is healed");
        }
        venue.stop().await;
    }
}

#[tokio::test]
async fn mute_keeps_a_tape_as_taken_waiting() {
    let venue = venue_with(taken(3_000), "mute").await;
    let mut client = Client::subscribe(&venue, "/v2/iex", Codec::Json, quotes()).await;
    assert!(client.is_silent_for(QUIET).await);
    venue.clear_faults();
    let state = venue.state();
    let stock = |s: &str| !s.contains(['/', '-', ',']) && s.len() < 10;
    let held: u64 = state
        .feed
        .totals
        .by_symbol
        .iter()
        .filter(|(s, _)| stock(s))
        .filter_map(|(_, kinds)| kinds.get("q"))
        .sum();
    assert_eq!(client.elements(held as usize).await.len() as u64, held);
    venue.stop().await;
}

#[tokio::test]
async fn a_half_open_connection_says_nothing_ever_again() {
    for hold_slot in [false, true] {
        let config = Config { timings: Timings { auth_limit: LIMIT, ..quick() }, ..live(1_000.0) };
        let venue = venue_with(config, &format!("half_open:after=30,hold_slot={hold_slot}")).await;
        let mut client = Client::subscribe(&venue, "/v2/iex", Codec::Json, quotes()).await;
        assert_eq!(client.elements(30).await.len(), 30);
        client.socket.send(Message::Ping("x".into())).await.unwrap();
        assert!(
            client.next_within(Duration::from_millis(600)).await.is_none(),
            "neither data nor pings, nor the end"
        );
        client.socket.send(Message::Close(None)).await.unwrap();
        assert!(client.next_within(QUIET).await.is_none());
        drop(client);
        assert!(venue.wait_for(LIMIT, |log| closed(log, ClosedBy::Fin)).await);
        let mut next = Client::open(&venue, "/v2/iex", Codec::Json).await;
        next.expect(json!({"T": "success", "msg": "connected"})).await;
        next.say(auth("key", "secret")).await;
        let reply = next.control().await;
        let refused = reply["code"] == 406;
        assert_eq!(refused, hold_slot, "{reply}");
        venue.stop().await;
    }
}

#[tokio::test]
async fn a_held_slot_is_free_once_the_dead_peer_is_reaped() {
    let timings = Timings { auth_limit: LIMIT, refused_hold: LIMIT, ..quick() };
    let venue = venue_with(Config { timings, ..live(1_000.0) }, "half_open:hold_slot=true").await;
    let client = Client::sign_in(&venue, "/v2/iex", Codec::Json, "key").await;
    assert!(venue.wait_for(LIMIT, |log| log.iter().any(|e| matches!(e.kind, EventKind::Fault { .. }))).await);
    drop(client);
    let mut next = Client::open(&venue, "/v2/iex", Codec::Json).await;
    next.expect(json!({"T": "success", "msg": "connected"})).await;
    let start = Instant::now();
    loop {
        next.say(auth("key", "secret")).await;
        let reply = next.control().await;
        if reply["msg"] == "authenticated" {
            break;
        }
        assert_eq!(reply["code"], 406);
        assert!(start.elapsed() < LIMIT);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    venue.stop().await;
}

#[tokio::test]
async fn ignored_pings_get_no_pong() {
    let venue = venue_with(live(100.0), "ignore_pings").await;
    let mut client = Client::sign_in(&venue, "/v2/iex", Codec::Json, "key").await;
    client.socket.send(Message::Ping("x".into())).await.unwrap();
    assert!(client.next_within(QUIET).await.is_none());
    venue.stop().await;
}

#[tokio::test]
async fn a_trickle_is_slow_and_whole() {
    let venue = venue_with(live(100.0), "trickle:bytes_per_s=200").await;
    let start = Instant::now();
    let mut client = Client::open(&venue, "/v2/iex", Codec::Json).await;
    client.expect(json!({"T": "success", "msg": "connected"})).await;
    client.say(auth("key", "secret")).await;
    client.expect(json!({"T": "success", "msg": "authenticated"})).await;
    // 38 and 42 bytes, 4 every 20 ms.
    assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
    venue.stop().await;
}

/// All stock quotes and trades of a market under a fault, and of the same market without it.
async fn with_and_without(fault: &str, codec: Codec) -> (Vec<Value>, Vec<Value>) {
    let config = taken(3_000);
    let both = json!({"action": "subscribe", "quotes": ["*"], "trades": ["*"]});
    let mut results = Vec::new();
    for fault in [Some(fault), None] {
        let faults = fault.map(|f| f.parse().unwrap()).into_iter().collect();
        let venue = Venue::start(Config { faults, ..config.clone() }).await.unwrap();
        let mut client = Client::subscribe(&venue, "/v2/iex", codec, both.clone()).await;
        let mut elements = Vec::new();
        while let Some(Got::Frame(frame)) = client.next_within(QUIET).await {
            elements.extend(frame);
        }
        for element in &mut elements {
            element.as_object_mut().unwrap().remove("r");
        }
        results.push(elements);
        venue.stop().await;
    }
    let clean = results.pop().unwrap();
    (results.pop().unwrap(), clean)
}

fn of_type<'a>(elements: &'a [Value], kind: &str) -> Vec<&'a Value> {
    elements.iter().filter(|e| e["T"] == kind).collect()
}

#[tokio::test]
async fn timestamps_step_back_by_what_was_asked() {
    let (faulty, clean) = with_and_without("out_of_order:every=5,back_ms=230", Codec::Msgpack).await;
    assert_eq!(faulty.len(), clean.len());
    let at = |e: &Value| e["t"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    for (index, (a, b)) in faulty.iter().zip(&clean).enumerate() {
        let back = at(a).duration_until(at(b)).as_millis();
        assert_eq!(back, if (index + 1) % 5 == 0 { 230 } else { 0 }, "element {index}");
    }
}

#[tokio::test]
async fn quotes_come_twice() {
    let (faulty, clean) = with_and_without("duplicate_quotes:every=4", Codec::Json).await;
    let (got, held) = (of_type(&faulty, "q"), of_type(&clean, "q"));
    assert_eq!(got.len(), held.len() + held.len() / 4);
    assert_eq!(got[3], got[4]);
    assert_eq!(of_type(&faulty, "t"), of_type(&clean, "t"));
}

#[tokio::test]
async fn late_prints_are_old_and_marked() {
    let (faulty, clean) = with_and_without("late_prints:every=3,back_ms=30000,count=5", Codec::Json).await;
    let (got, held) = (of_type(&faulty, "t"), of_type(&clean, "t"));
    assert_eq!(got.len(), held.len());
    let late: Vec<_> = got.iter().zip(&held).filter(|(a, b)| a != b).map(|(a, _)| a).collect();
    assert_eq!(late.len(), 5, "the count is kept");
    assert!(late.iter().all(|t| t["c"][0] == "Z"));
}

#[tokio::test]
async fn unknown_types_and_corrupt_elements_come_besides_and_cost_nothing() {
    for codec in [Codec::Json, Codec::Msgpack] {
        for (fault, is_extra) in [
            ("unknown_type:every=7", (|e| e["T"] == "zz") as fn(&Value) -> bool),
            ("corrupt_element:every=7", |e| e["S"].is_array()),
        ] {
            let (faulty, clean) = with_and_without(fault, codec).await;
            let (extra, rest): (Vec<_>, Vec<_>) = faulty.into_iter().partition(is_extra);
            assert_eq!(extra.len(), clean.len() / 7, "{fault}");
            assert_eq!(rest, clean, "{fault}");
        }
    }
}

#[tokio::test]
async fn unknown_fields_come_along() {
    let (faulty, clean) = with_and_without("unknown_fields:every=2", Codec::Msgpack).await;
    assert_eq!(faulty.len(), clean.len());
    assert_eq!(faulty.iter().filter(|e| e["q9"] == true).count(), clean.len() / 2);
    assert!(same(&faulty[1]["zz"], &json!({"deep": [1, null, "x"]})));
}

#[tokio::test]
async fn ids_go_beyond_53_and_63_bits() {
    let (faulty, clean) = with_and_without("big_ids:every=2", Codec::Msgpack).await;
    let ids: Vec<u64> = of_type(&faulty, "t").iter().map(|t| t["i"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), of_type(&clean, "t").len());
    assert!(ids.iter().any(|i| *i > 1 << 53 && *i < 1 << 63));
    assert!(ids.iter().any(|i| *i > 1 << 63));
}

#[tokio::test]
async fn corrupt_frames_come_between_whole_ones() {
    let venue = venue_with(taken(500), "corrupt_frame:every=50,count=2").await;
    let mut client = Client::subscribe(&venue, "/v2/iex", Codec::Json, quotes()).await;
    let (mut whole, mut broken) = (0, 0);
    while let Ok(Some(Ok(Message::Text(text)))) = tokio::time::timeout(QUIET, client.socket.next()).await {
        match serde_json::from_str::<Vec<Value>>(&text) {
            Ok(elements) => whole += elements.len() as u64,
            Err(_) => broken += 1,
        }
    }
    assert_eq!(broken, 2);
    assert_eq!(whole, venue.state().sent.messages);
    venue.stop().await;
}

#[tokio::test]
async fn huge_news_comes_in_one_frame() {
    let venue = Venue::start(live(100.0)).await.unwrap();
    let request = json!({"action": "subscribe", "news": ["*"]});
    let mut client = Client::subscribe(&venue, "/v1beta1/news", Codec::Msgpack, request).await;
    venue.inject("huge_news:bytes=5000000".parse::<Fault>().unwrap());
    let huge = async {
        loop {
            let elements = client.frame().await;
            if let Some(news) = elements.iter().find(|e| e["id"] == 99_000_001) {
                return news["content"].as_str().unwrap().len();
            }
        }
    };
    assert_eq!(tokio::time::timeout(LIMIT, huge).await.unwrap(), 5_000_000);
    venue.stop().await;
}

#[tokio::test]
async fn a_renamed_symbol_needs_a_new_subscription() {
    let venue = venue_with(taken(5_000), "rename:from=SPY,to=SPYX").await;
    let old = json!({"action": "subscribe", "quotes": ["SPY", "AAPL"]});
    let mut client = Client::subscribe(&venue, "/v2/iex", Codec::Json, old).await;
    let held = |s: &str| venue.state().feed.totals.by_symbol[s]["q"];
    let elements = client.elements(held("AAPL") as usize).await;
    assert!(elements.iter().all(|e| e["S"] == "AAPL"));
    let new = json!({"action": "subscribe", "quotes": ["SPYX"]});
    let mut client = Client::subscribe(&venue, "/v2/sip", Codec::Msgpack, new).await;
    let elements = client.elements(held("SPY") as usize).await;
    assert!(elements.iter().all(|e| e["S"] == "SPYX"));
    venue.stop().await;
}

#[tokio::test]
async fn a_cut_on_request_drops_all_connections() {
    let venue = Venue::start(live(1_000.0)).await.unwrap();
    for rst in [false, true] {
        let mut clients = Vec::new();
        for path in ["/v2/iex", "/v2/sip"] {
            clients.push(Client::subscribe(&venue, path, Codec::Json, quotes()).await);
        }
        venue.cut(rst);
        for mut client in clients {
            let (_, close_frame) = client.until_end().await;
            assert!(!close_frame);
        }
        let gone = async {
            while !venue.state().connections.is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, gone).await.unwrap();
    }
    venue.stop().await;
}
