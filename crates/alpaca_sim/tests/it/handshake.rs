//! Upgrade, authentication, the one-connection rule, keepalive and closing.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use alpaca_sim::{Account, ClosedBy, Config, EventKind, Plan, Profile, Timings, Venue};
use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::client::{Client, Codec, Got, LIMIT, auth, live, quick};

fn with_account() -> Config {
    let account = Account { key: "key".into(), secret: "secret".into() };
    Config { account: Some(account), ..live(100.0) }
}

#[tokio::test]
async fn an_auth_that_does_not_wait_for_the_greeting_is_taken() {
    let venue = Venue::start(with_account()).await.unwrap();
    for codec in [Codec::Json, Codec::Msgpack] {
        let mut client = Client::open(&venue, "/v2/iex", codec).await;
        client.say(auth("key", "secret")).await;
        client.expect(json!({"T": "success", "msg": "connected"})).await;
        client.expect(json!({"T": "success", "msg": "authenticated"})).await;
        drop(client);
        let gone = |k: &EventKind| matches!(k, EventKind::TcpClosed { .. });
        assert!(venue.wait_for(LIMIT, |log| gone(&log.last().unwrap().kind)).await);
    }
    venue.stop().await;
}

#[tokio::test]
async fn headers_authenticate_unprompted_and_a_second_auth_is_403() {
    let venue = Venue::start(with_account()).await.unwrap();
    let keys = [("APCA-API-KEY-ID", "key"), ("APCA-API-SECRET-KEY", "secret")];
    let bearer = [("Authorization", "Bearer secret")];
    let basic = [("Authorization", "Basic a2V5OnNlY3JldA==")];
    for (path, headers) in [("/v2/iex", &keys[..]), ("/v2/sip", &bearer), ("/v1beta1/news", &basic)] {
        let mut client = Client::open_with(&venue, path, Codec::Json, headers).await.unwrap();
        client.expect(json!({"T": "success", "msg": "connected"})).await;
        client.expect(json!({"T": "success", "msg": "authenticated"})).await;
        client.say(auth("key", "secret")).await;
        client.expect_error(403).await;
    }
    let wrong = [("APCA-API-KEY-ID", "key"), ("APCA-API-SECRET-KEY", "wrong")];
    let mut client = Client::open_with(&venue, "/v1beta1/boats", Codec::Json, &wrong).await.unwrap();
    client.expect(json!({"T": "success", "msg": "connected"})).await;
    client.expect_error(402).await;
    venue.stop().await;
}

#[tokio::test]
async fn refused_credentials_leave_the_socket_open() {
    let config = Config {
        timings: Timings { auth_limit: Duration::from_millis(200), ..Timings::default() },
        ..with_account()
    };
    let venue = Venue::start(config).await.unwrap();
    let mut client = Client::open(&venue, "/v2/iex", Codec::Msgpack).await;
    client.expect(json!({"T": "success", "msg": "connected"})).await;
    for wrong in [auth("key", "no"), auth("no", "secret"), auth("", ""), json!({"action": "auth"})] {
        client.say(wrong).await;
        client.expect(json!({"T": "error", "code": 402, "msg": "auth failed"})).await;
    }
    assert!(client.is_silent_for(Duration::from_millis(400)).await, "the auth deadline has no say any more");
    client.say(auth("key", "secret")).await;
    client.expect(json!({"T": "success", "msg": "authenticated"})).await;
    venue.stop().await;
}

#[tokio::test]
async fn unknown_paths_are_404_and_unknown_feeds_409() {
    let venue = Venue::start(live(100.0)).await.unwrap();
    for path in ["/", "/v3/iex", "/v1beta3/crypto/eu"] {
        match Client::open_with(&venue, path, Codec::Json, &[]).await {
            Err(Error::Http(response)) => assert_eq!(response.status(), 404, "{path}"),
            other => panic!("{path}: {:?}", other.err()),
        }
    }
    let mut client = Client::open(&venue, "/v2/nonsense", Codec::Json).await;
    client.expect(json!({"T": "success", "msg": "connected"})).await;
    client.say(auth("key", "secret")).await;
    client.expect_error(409).await;
    venue.stop().await;
}

#[tokio::test]
async fn a_plan_without_the_feed_is_409_and_the_socket_stays_open() {
    let venue = Venue::start(Config { plan: Plan::basic(), ..live(100.0) }).await.unwrap();
    let mut client = Client::open(&venue, "/v2/sip", Codec::Json).await;
    client.expect(json!({"T": "success", "msg": "connected"})).await;
    client.say(auth("key", "secret")).await;
    client.expect(json!({"T": "error", "code": 409, "msg": "insufficient subscription"})).await;
    assert!(client.is_silent_for(Duration::from_millis(300)).await);
    venue.stop().await;
}

#[tokio::test]
async fn options_speak_msgpack_unless_asked_and_then_refuse_json() {
    let venue = Venue::start(live(100.0)).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::connect_async(venue.url("/v1beta1/opra")).await.unwrap();
    let greeting = futures_util::StreamExt::next(&mut socket).await.unwrap().unwrap();
    assert!(matches!(greeting, Message::Binary(_)), "no Content-Type means MessagePack");
    socket.send(Message::text(auth("key", "secret").to_string())).await.unwrap();
    let answer = futures_util::StreamExt::next(&mut socket).await.unwrap().unwrap();
    assert!(answer.into_data().windows(14).any(|w| w == b"invalid syntax"), "JSON is no MessagePack");
    let mut client = Client::open(&venue, "/v1beta1/indicative", Codec::Json).await;
    client.expect(json!({"T": "success", "msg": "connected"})).await;
    client.say(auth("key", "secret")).await;
    client.expect_error(412).await;
    venue.stop().await;
}

#[tokio::test]
async fn json_in_binary_frames_is_understood() {
    let venue = Venue::start(live(100.0)).await.unwrap();
    let mut client = Client::open(&venue, "/v2/iex", Codec::Json).await;
    client.expect(json!({"T": "success", "msg": "connected"})).await;
    let message = auth("key", "secret").to_string().into_bytes();
    client.socket.send(Message::binary(message)).await.unwrap();
    client.expect(json!({"T": "success", "msg": "authenticated"})).await;
    venue.stop().await;
}

#[tokio::test]
async fn who_does_not_authenticate_gets_404_and_is_dropped() {
    let venue = Venue::start(Config { timings: quick(), ..live(100.0) }).await.unwrap();
    let start = Instant::now();
    let mut client = Client::open(&venue, "/v2/iex", Codec::Json).await;
    client.expect(json!({"T": "success", "msg": "connected"})).await;
    client.expect(json!({"T": "error", "code": 404, "msg": "auth timeout"})).await;
    let (rest, closed) = client.until_end().await;
    assert!(rest.is_empty() && !closed);
    assert!(start.elapsed() >= quick().auth_limit);
    venue.stop().await;
}

#[tokio::test]
async fn the_newcomer_gets_406_and_is_dropped_later_while_the_incumbent_goes_on() {
    let venue = Venue::start(Config { timings: quick(), ..live(1_000.0) }).await.unwrap();
    let all = json!({"action": "subscribe", "quotes": ["*"]});
    let mut incumbent = Client::subscribe(&venue, "/v2/iex", Codec::Json, all).await;
    let mut newcomer = Client::open(&venue, "/v2/iex", Codec::Json).await;
    newcomer.expect(json!({"T": "success", "msg": "connected"})).await;
    newcomer.say(auth("key", "secret")).await;
    newcomer.expect(json!({"T": "error", "code": 406, "msg": "connection limit exceeded"})).await;
    let refused = Instant::now();
    newcomer.say(auth("key", "secret")).await;
    newcomer.expect_error(406).await;
    let (rest, closed) = newcomer.until_end().await;
    assert!(rest.is_empty() && !closed, "no 404 and no Close before the drop");
    assert!(refused.elapsed() >= Duration::from_millis(400), "held for a while");
    assert!(!incumbent.elements(10).await.is_empty());
    let mut other_path = Client::sign_in(&venue, "/v2/sip", Codec::Json, "key").await;
    assert!(other_path.is_silent_for(Duration::from_millis(50)).await, "the limit is per path");
    venue.stop().await;
}

#[tokio::test]
async fn a_refused_newcomer_gets_in_on_the_same_socket_once_the_slot_is_free() {
    let venue = Venue::start(live(100.0)).await.unwrap();
    let incumbent = Client::sign_in(&venue, "/v2/iex", Codec::Json, "key").await;
    let mut newcomer = Client::open(&venue, "/v2/iex", Codec::Json).await;
    newcomer.expect(json!({"T": "success", "msg": "connected"})).await;
    newcomer.say(auth("key", "secret")).await;
    newcomer.expect_error(406).await;
    drop(incumbent);
    assert!(
        venue.wait_for(LIMIT, |log| log.iter().any(|e| matches!(e.kind, EventKind::TcpClosed { .. }))).await
    );
    // The record precedes the slot by an instant.
    let free = async {
        loop {
            newcomer.say(auth("key", "secret")).await;
            let reply = newcomer.control().await;
            if reply == json!({"T": "success", "msg": "authenticated"}) {
                return;
            }
            assert_eq!(reply["code"], 406);
        }
    };
    tokio::time::timeout(LIMIT, free).await.unwrap();
    venue.stop().await;
}

#[tokio::test]
async fn a_close_is_never_answered_and_frees_the_slot_at_once() {
    let venue = Venue::start(live(1_000.0)).await.unwrap();
    for round in 1..=5 {
        let all = json!({"action": "subscribe", "quotes": ["*"]});
        let mut client = Client::subscribe(&venue, "/v2/iex", Codec::Json, all).await;
        client.elements(5).await;
        client.socket.send(Message::Close(None)).await.unwrap();
        let (_, closed) = client.until_end().await;
        assert!(!closed, "a Close frame came");
        let ours = |k: &EventKind| *k == EventKind::TcpClosed { how: ClosedBy::Ours };
        let done = |log: &[alpaca_sim::Event]| log.iter().filter(|e| ours(&e.kind)).count() == round;
        assert!(venue.wait_for(LIMIT, done).await);
    }
    let closes = venue.log().into_iter().filter(|e| matches!(e.kind, EventKind::CloseReceived { .. }));
    assert_eq!(closes.count(), 5);
    venue.stop().await;
}

#[tokio::test]
async fn the_documented_profile_answers_a_close() {
    let config = Config { profile: Profile::Documented, ..live(100.0) };
    let venue = Venue::start(config).await.unwrap();
    let mut client = Client::sign_in(&venue, "/v2/iex", Codec::Json, "key").await;
    client.socket.send(Message::Close(None)).await.unwrap();
    let (_, closed) = client.until_end().await;
    assert!(closed);
    venue.stop().await;
}

#[tokio::test]
async fn the_venue_pings_and_drops_who_does_not_pong() {
    let venue = Venue::start(Config { timings: quick(), ..live(100.0) }).await.unwrap();
    let mut client = Client::sign_in(&venue, "/v2/iex", Codec::Json, "key").await;
    for _ in 0..3 {
        assert_eq!(client.next().await, Got::Ping);
    }
    let pongs = |log: &[alpaca_sim::Event]| log.iter().filter(|e| e.kind == EventKind::Pong).count();
    assert!(pongs(&venue.log()) >= 2);
    // A client that is not read answers nothing.
    assert!(
        venue.wait_for(LIMIT, |log| log.iter().any(|e| e.kind == EventKind::PongMissed)).await,
        "the venue waits for pongs"
    );
    let cut = |log: &[alpaca_sim::Event]| matches!(log.last().unwrap().kind, EventKind::TcpClosed { .. });
    assert!(venue.wait_for(LIMIT, cut).await);
    venue.stop().await;
}

#[tokio::test]
async fn pings_of_clients_are_answered_with_their_payload() {
    let venue = Venue::start(live(100.0)).await.unwrap();
    let mut client = Client::sign_in(&venue, "/v2/iex", Codec::Json, "key").await;
    client.socket.send(Message::Ping("abc".into())).await.unwrap();
    assert_eq!(client.next().await, Got::Pong(b"abc".to_vec()));
    venue.stop().await;
}

#[tokio::test]
async fn the_log_tells_a_connection_from_its_first_packet_to_its_last() {
    let venue = Venue::start(live(100.0)).await.unwrap();
    let quotes = json!({"action": "subscribe", "quotes": ["SPY"]});
    let mut client = Client::subscribe(&venue, "/v2/iex", Codec::Msgpack, quotes).await;
    client.say(json!({"action": "unsubscribe", "quotes": ["SPY"]})).await;
    client.expect(json!({"T": "subscription"})).await;
    client.say(json!({"action": "subscribe"})).await;
    client.expect_error(400).await;
    assert_eq!(venue.state().connections.len(), 1);
    drop(client);
    let over = |log: &[alpaca_sim::Event]| matches!(log.last().unwrap().kind, EventKind::TcpClosed { .. });
    assert!(venue.wait_for(LIMIT, over).await);
    let log: Vec<Value> = venue.log().iter().map(|e| serde_json::to_value(e).unwrap()).collect();
    let kinds: Vec<_> = log.iter().map(|e| e["kind"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        ["tcp_open", "upgrade", "auth_ok", "subscribe", "unsubscribe", "error_sent", "tcp_closed"]
    );
    assert!(log.iter().all(|e| e["conn"] == 1));
    assert_eq!(log[3]["state"], json!({"quotes": ["SPY"]}));
    assert_eq!(log[1]["path"], "/v2/iex");
    let seqs: Vec<_> = log.iter().map(|e| e["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6, 7]);
    assert!(log.windows(2).all(|w| w[0]["ms"].as_f64() <= w[1]["ms"].as_f64()));
    assert!(venue.state().connections.is_empty());
    venue.stop().await;
}

#[tokio::test]
async fn a_stopped_venue_has_closed_its_ports_and_connections() {
    for fault in [None, Some("stall:at=accept")] {
        let venue = Venue::start(live(1_000.0)).await.unwrap();
        let (addr, quotes) = (venue.addr(), json!({"action": "subscribe", "quotes": ["*"]}));
        let mut client = Client::subscribe(&venue, "/v2/iex", Codec::Json, quotes).await;
        if let Some(fault) = fault {
            venue.inject(fault.parse::<alpaca_sim::Fault>().unwrap());
        }
        tokio::time::timeout(LIMIT, venue.stop()).await.unwrap();
        client.until_end().await;
        assert!(tokio::net::TcpStream::connect(addr).await.is_err(), "the port is still open");
    }
}
