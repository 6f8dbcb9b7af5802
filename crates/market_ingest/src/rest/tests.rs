#![allow(clippy::unwrap_used)]

use alpaca_feed::symbol::Symbols;
use secrecy::SecretString;

use super::*;

fn read(body: &str) -> Result<(Vec<Event>, u64, Option<String>), RestError> {
    let secret = || SecretString::from("x".to_owned());
    let credentials = Credentials { key: secret(), secret: secret() };
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Rest::new(Client::new(credentials).unwrap(), Decoder::new(Symbols::new())).read(body.as_bytes())
}

#[test]
fn rows_are_read_as_the_stream_would_have_sent_them() {
    let (events, malformed, next) = read(
        r#"{"trades":{"AAPL":[{"t":"2026-01-02T03:04:05.000000006Z","x":"V","p":12.5,"s":100,"c":["@"],"i":7,"z":"C"}],
            "B\"RK":[{"t":"2026-01-02T03:04:05Z","x":"N","p":1,"s":2,"i":18446744073709551615}]},"next_page_token":"abc"}"#,
    )
    .unwrap();
    assert_eq!((events.len(), malformed, next.as_deref()), (2, 0, Some("abc")));
    let trade = events[0].trade().unwrap();
    assert_eq!((trade.id, trade.price, trade.size, trade.ts % 1_000_000_000), (Some(7), 12.5, 100.0, 6));
    assert_eq!(events[1].trade().unwrap().id, Some(u64::MAX));
}

#[test]
fn a_page_without_rows_is_an_end() {
    for body in [
        r#"{"quotes":{},"next_page_token":null}"#,
        r#"{"quotes":null}"#,
        r#"{"bars":{"SPY":null},"currency":"USD","next_page_token":null}"#,
        r#"{"news":[]}"#,
    ] {
        let (events, malformed, next) = read(body).unwrap();
        assert_eq!((events.len(), malformed, next), (0, 0, None), "{body}");
    }
}

#[test]
fn a_row_that_is_damaged_costs_its_neighbours_nothing() {
    let (events, malformed, _) = read(
        r#"{"trades":{"A":[{"t":"2026-01-02T03:04:05Z","p":1,"s":1,"i":1},{"t":5,"p":"x"},7,
            {"t":"2026-01-02T03:04:06Z","p":1,"s":1,"i":2}]}}"#,
    )
    .unwrap();
    assert_eq!((events.len(), malformed), (2, 2));
}

#[test]
fn a_trade_that_was_taken_back_is_left_out() {
    let row = |i: u32, u: &str| format!(r#"{{"t":"2026-01-02T03:04:05Z","p":1,"s":1,"i":{i}{u}}}"#);
    let rows = [
        row(1, r#","u":"canceled""#),
        row(2, r#", "u": "incorrect""#),
        row(3, r#","u":"corrected""#),
        row(4, ""),
    ];
    let (events, ..) = read(&format!(r#"{{"trades":{{"A":[{}]}}}}"#, rows.join(","))).unwrap();
    assert_eq!(events.iter().filter_map(|e| e.trade()?.id).collect::<Vec<_>>(), [3, 4]);
}

#[test]
fn what_is_no_page_is_named() {
    for body in ["", "[]", "<html>", r#"{"trades":[1]}"#, r#"{"trades":{"A":5}}"#] {
        let error = read(body).unwrap_err();
        assert!(matches!(error, RestError::Unreadable(_)), "{body}: {error}");
    }
}

#[test]
fn refusals_are_told_apart_by_what_helps() {
    let status = |status: u16| StatusCode::from_u16(status).unwrap();
    let at = |code: u16, body: &str| refusal(status(code), LIMITED_PAUSE, body.as_bytes());
    let recent = r#"{"code":42210000,"message":"subscription does not permit querying recent SIP data"}"#;
    assert!(matches!(at(403, recent), RestError::TooRecent));
    assert!(matches!(at(403, "{}"), RestError::Refused { .. }));
    assert!(matches!(at(429, ""), RestError::Limited(LIMITED_PAUSE)));
    assert!(matches!(at(500, ""), RestError::Failing(_)) && matches!(at(504, "x"), RestError::Failing(_)));
    let error = at(400, r#"{"message":"invalid feed"}"#);
    assert!(error.to_string().contains("400") && error.to_string().contains("invalid feed"), "{error}");
}

#[test]
fn the_venues_headers_say_how_long_to_wait() {
    let headers = |remaining: &str, reset: i64| {
        let mut headers = HeaderMap::new();
        headers.insert("X-RateLimit-Remaining", remaining.parse().unwrap());
        headers.insert("X-RateLimit-Reset", reset.to_string().parse().unwrap());
        headers
    };
    let now = jiff::Timestamp::now().as_second();
    assert_eq!(pause(&headers("1", now + 30)), None);
    assert_eq!(pause(&HeaderMap::new()), None);
    let wait = pause(&headers("0", now + 30)).unwrap();
    assert!((29..=31).contains(&wait.as_secs()), "{wait:?}");
    assert_eq!(pause(&headers("0", now - 5)), Some(Duration::from_secs(1)));
    assert_eq!(pause(&headers("0", now + 100_000)), Some(Duration::from_secs(66)), "a clock that is off");
}
