//! The data port: the same elements as the streams, page by page, and every rule around them.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use alpaca_sim::{Account, Config, Event, EventKind, Fault, Feed, Pace, Plan, Synthetic, Venue};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{Client, Codec, Got, LIMIT, recorded_or_synthetic, same};

const KEYS: [(&str, &str); 2] = [("APCA-API-KEY-ID", "k"), ("APCA-API-SECRET-KEY", "s")];
const EVERYTHING: &str = "start=2000-01-01&end=2100-01-01";

/// One answer of the data port.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    fn message(&self) -> String {
        self.json()["message"].as_str().unwrap().to_owned()
    }

    fn number(&self, header: &str) -> i64 {
        self.headers[header].parse().unwrap()
    }
}

async fn get_as(venue: &Venue, path: &str, headers: &[(&str, &str)]) -> Answer {
    let addr: SocketAddr = venue.data_url().unwrap().strip_prefix("http://").unwrap().parse().unwrap();
    let ask = async {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let mut request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
        for (name, value) in headers {
            write!(request, "{name}: {value}\r\n").unwrap();
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes).await;
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").expect("no answer");
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .filter_map(|l| l.split_once(": "))
            .map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned()))
            .collect();
        Answer { status, headers, text: body.to_owned() }
    };
    tokio::time::timeout(LIMIT, ask).await.expect("no answer in time")
}

async fn get(venue: &Venue, path: &str) -> Answer {
    get_as(venue, path, &KEYS).await
}

/// The whole of a query, page by page: rows by symbol, and the number of pages.
async fn pages(venue: &Venue, path: &str, word: &str, limit: usize) -> (BTreeMap<String, Vec<Value>>, usize) {
    let mut rows: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let (mut token, mut count) = (String::new(), 0);
    loop {
        let answer = get(venue, &format!("{path}&limit={limit}{token}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let page = answer.json();
        let mut held = 0;
        for (symbol, list) in page[word].as_object().unwrap() {
            let list = list.as_array().unwrap();
            assert!(!list.is_empty());
            held += list.len();
            rows.entry(symbol.clone()).or_default().extend(list.iter().cloned());
        }
        assert_eq!(answer.text.matches(r#"{"t":"#).count(), held, "t is the first member of each row");
        count += 1;
        match page["next_page_token"].as_str() {
            Some(next) => {
                assert_eq!(held, limit, "a page with another behind it is full");
                token = format!("&page_token={}", next.replace('+', "%2B").replace('=', "%3D"));
            }
            None => return (rows, count),
        }
    }
}

/// All that the stream at `path` has of what the data port serves, in the order of sending.
pub(crate) async fn streamed(venue: &Venue, path: &str) -> Vec<Value> {
    let mut all = Vec::new();
    let channels = match path {
        "/v1beta1/news" => json!({"action": "subscribe", "news": ["*"]}),
        "/v1beta1/opra" => json!({"action": "subscribe", "trades": ["*"]}),
        _ => json!({"action": "subscribe", "trades": ["*"], "quotes": ["*"], "bars": ["*"],
                    "updatedBars": ["*"]}),
    };
    let codec = if path == "/v1beta1/opra" { Codec::Msgpack } else { Codec::Json };
    let mut client = Client::sign_in(venue, path, codec, "k").await;
    client.say(channels).await;
    let ack = client.control().await;
    assert_eq!(ack["T"], "subscription");
    loop {
        let is_end = |e: &Event| e.kind == EventKind::TapeFinished && e.path.as_deref() == Some(path);
        let finished = venue.log().iter().any(is_end);
        match client.next_within(Duration::from_millis(300)).await {
            Some(Got::Frame(elements)) => all.extend(elements),
            None if finished => return all,
            Some(Got::Ping) | None => {}
            end => panic!("the stream ended: {end:?}"),
        }
    }
}

/// What the data port must have of streamed elements of type `letter`, by symbol; of bars, the last of each minute.
pub(crate) fn rows_of(elements: &[Value], letter: &str) -> BTreeMap<String, Vec<Value>> {
    let mut rows: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let is_wanted = |e: &&Value| e["T"] == letter || (letter == "b" && e["T"] == "u");
    for element in elements.iter().filter(is_wanted) {
        let of_symbol = rows.entry(element["S"].as_str().unwrap().to_owned()).or_default();
        let same_minute = |row: &&mut Value| letter == "b" && row["t"] == element["t"];
        match of_symbol.iter_mut().find(same_minute) {
            Some(row) if row["T"] == "u" && element["T"] == "b" => {}
            Some(row) => *row = element.clone(),
            None => of_symbol.push(element.clone()),
        }
    }
    for list in rows.values_mut() {
        for row in list.iter_mut() {
            for field in ["T", "S", "r"] {
                row.as_object_mut().unwrap().remove(field);
            }
        }
        list.sort_by_key(|r| {
            let at: jiff::Timestamp = r["t"].as_str().unwrap().parse().unwrap();
            let id = r["i"].as_u64().unwrap_or(0);
            (at, r["x"].as_str().map(str::to_owned), id)
        });
    }
    rows
}

pub(crate) fn assert_same(got: &BTreeMap<String, Vec<Value>>, wanted: &BTreeMap<String, Vec<Value>>) {
    assert_eq!(got.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    for (symbol, rows) in wanted {
        assert_eq!(got[symbol].len(), rows.len(), "{symbol}");
        for (a, b) in got[symbol].iter().zip(rows) {
            assert!(same(a, b), "{symbol}: {a} is not {b}");
        }
    }
}

pub(crate) fn joined(rows: &BTreeMap<String, Vec<Value>>) -> String {
    rows.keys().map(String::as_str).collect::<Vec<_>>().join(",")
}

pub(crate) fn with_data(feed: Feed) -> Config {
    Config { feed, data: Some(SocketAddr::from(([127, 0, 0, 1], 0))), ..Config::default() }
}

fn synthetic(messages: usize) -> Config {
    let settings =
        Synthetic { symbols: 30, messages: Some(messages), rate_per_s: 40.0, ..Synthetic::default() };
    with_data(Feed::Synthetic(settings))
}

fn tape(lines: &str, pace: Pace) -> (tempfile::NamedTempFile, Config) {
    let mut file = tempfile::Builder::new().suffix(".ndjson").tempfile().unwrap();
    file.write_all(lines.as_bytes()).unwrap();
    let feed = Feed::Tape { paths: vec![file.path().to_owned()], pace, looped: false };
    (file, with_data(feed))
}

/// Trades of SPY with ids from 1 on, `gap` apart.
fn trades(count: u32, gap: Duration) -> String {
    let start: jiff::Timestamp = "2026-01-05T14:30:00Z".parse().unwrap();
    (0..count).fold(String::new(), |mut text, i| {
        let at = start + jiff::SignedDuration::try_from(gap * i).unwrap();
        let id = i + 1;
        writeln!(
            text,
            r#"{{"T":"t","S":"SPY","i":{id},"x":"V","p":650,"s":100,"c":[" "],"z":"B","t":"{at}"}}"#
        )
        .unwrap();
        text
    })
}

#[tokio::test]
async fn pages_of_any_size_give_what_the_stream_gives_once_and_in_order() {
    let venue = Venue::start(with_data(recorded_or_synthetic())).await.unwrap();
    let elements = streamed(&venue, "/v2/sip").await;
    for (word, letter) in [("trades", "t"), ("quotes", "q")] {
        let wanted = rows_of(&elements, letter);
        let total: usize = wanted.values().map(Vec::len).sum();
        let path = format!("/v2/stocks/{word}?symbols={}&{EVERYTHING}&feed=sip", joined(&wanted));
        for limit in [97, 1_000, 10_000] {
            let (got, count) = pages(&venue, &path, word, limit).await;
            assert_same(&got, &wanted);
            assert_eq!(count, total.div_ceil(limit));
        }
        let (mut got, _) = pages(&venue, &format!("{path}&sort=desc"), word, 997).await;
        got.values_mut().for_each(|rows| rows.reverse());
        assert_same(&got, &wanted);
    }
    venue.stop().await;
}

#[tokio::test]
async fn paging_is_exact_among_rows_that_nothing_tells_apart() {
    let mut lines = String::new();
    for second in 0..3 {
        for i in 0..30 {
            // Three exchanges, ids that repeat, descend, and reach beyond 2^63; the price tells the copies apart.
            let (x, id) =
                (["P", "D", "V"][i % 3], if i % 5 == 0 { u64::MAX - 7 } else { 9 - (i as u64 % 4) });
            writeln!(lines, r#"{{"T":"t","S":"A","i":{id},"x":"{x}","p":{i},"s":1,"c":[" "],"z":"A","t":"2026-01-05T14:30:0{second}Z"}}"#).unwrap();
            writeln!(lines, r#"{{"T":"q","S":"A","bx":"P","bp":1,"bs":{},"ax":"P","ap":2,"as":1,"c":["R"],"z":"A","t":"2026-01-05T14:30:0{second}Z"}}"#, i / 2).unwrap();
        }
    }
    let (_file, config) = tape(&lines, Pace::AsTaken);
    let venue = Venue::start(config).await.unwrap();
    let elements: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    for (word, letter) in [("trades", "t"), ("quotes", "q")] {
        let wanted = rows_of(&elements, letter);
        let path = format!("/v2/stocks/{word}?symbols=A&{EVERYTHING}");
        for limit in [1, 2, 3, 7, 29, 30, 89, 90, 91] {
            let (got, count) = pages(&venue, &path, word, limit).await;
            assert_same(&got, &wanted);
            assert_eq!(count, 90_usize.div_ceil(limit), "no empty page follows a full one");
            let (mut back, _) = pages(&venue, &format!("{path}&sort=desc"), word, limit).await;
            back.values_mut().for_each(|rows| rows.reverse());
            assert_same(&back, &wanted);
        }
    }
    venue.stop().await;
}

#[tokio::test]
async fn bars_are_final_and_one_a_minute() {
    let bar = |kind: &str, minute: u32, close: u32| {
        format!(
            r#"{{"T":"{kind}","S":"A","o":1,"h":9,"l":1,"c":{close},"v":10,"t":"2026-01-05T14:{minute}:00Z","n":3,"vw":2.5}}"#
        )
    };
    let lines =
        [bar("b", 30, 1), bar("b", 31, 2), bar("u", 30, 3), bar("d", 0, 8), bar("u", 30, 4), bar("b", 32, 5)];
    let (_file, config) = tape(&lines.join("\n").replace("14:0:00", "05:00:00"), Pace::AsTaken);
    let venue = Venue::start(config).await.unwrap();
    let path = format!("/v2/stocks/bars?symbols=A&timeframe=1Min&adjustment=raw&asof=-&{EVERYTHING}");
    for limit in [1, 2, 3, 10] {
        for (sort, wanted) in [("asc", [4, 2, 5]), ("desc", [5, 2, 4])] {
            let (rows, count) = pages(&venue, &format!("{path}&sort={sort}"), "bars", limit).await;
            let closes: Vec<u64> = rows["A"].iter().map(|r| r["c"].as_u64().unwrap()).collect();
            assert_eq!((closes.as_slice(), count), (&wanted[..], 3_usize.div_ceil(limit)), "{sort} {limit}");
        }
    }
    venue.stop().await;
}

#[tokio::test]
async fn crypto_options_and_news_have_their_own_paths() {
    let venue = Venue::start(synthetic(30_000)).await.unwrap();
    let crypto = streamed(&venue, "/v1beta3/crypto/us").await;
    for (word, letter) in [("trades", "t"), ("quotes", "q")] {
        let wanted = rows_of(&crypto, letter);
        let path = format!("/v1beta3/crypto/us/{word}?symbols={}&{EVERYTHING}", joined(&wanted));
        assert_same(&pages(&venue, &path, word, 333).await.0, &wanted);
    }
    let wanted = rows_of(&streamed(&venue, "/v1beta1/opra").await, "t");
    let path = format!("/v1beta1/options/trades?symbols={}&{EVERYTHING}", joined(&wanted));
    assert_same(&pages(&venue, &path, "trades", 7).await.0, &wanted);
    let news = streamed(&venue, "/v1beta1/news").await;
    let (mut got, mut token) = (Vec::new(), String::new());
    loop {
        let path =
            format!("/v1beta1/news?limit=3&symbols=AAPL,NVDA&include_content=true&{EVERYTHING}{token}");
        let page = get(&venue, &path).await.json();
        got.extend(page["news"].as_array().unwrap().clone());
        let Some(next) = page["next_page_token"].as_str() else { break };
        token = format!("&page_token={}", next.replace('+', "%2B").replace('=', "%3D"));
    }
    let about = |e: &&Value| e["symbols"].as_array().unwrap().iter().any(|s| s == "AAPL" || s == "NVDA");
    let wanted: Vec<u64> = news.iter().filter(about).map(|e| e["id"].as_u64().unwrap()).rev().collect();
    let ids: Vec<u64> = got.iter().map(|e| e["id"].as_u64().unwrap()).collect();
    assert!(!ids.is_empty() && ids == wanted, "newest first: {ids:?}, {wanted:?}");
    assert!(got.iter().all(|e| e["T"].is_null() && e["content"] != ""));
    let short = get(&venue, &format!("/v1beta1/news?{EVERYTHING}")).await.json();
    assert_eq!(short["news"].as_array().unwrap().len(), 10);
    assert_eq!(short["news"][0]["content"], "");
    assert_eq!(get(&venue, "/v1beta1/news?limit=51").await.status, 400);
    venue.stop().await;
}

#[tokio::test]
async fn the_newest_of_each_symbol_is_the_last_of_its_rows() {
    let venue = Venue::start(synthetic(20_000)).await.unwrap();
    let elements = streamed(&venue, "/v2/sip").await;
    for (word, letter) in [("trades", "t"), ("quotes", "q")] {
        let wanted = rows_of(&elements, letter);
        let asked = format!("symbols={},ZZZZ", joined(&wanted));
        let answer = get(&venue, &format!("/v2/stocks/{word}/latest?{asked}&feed=sip")).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let newest = answer.json()[word].as_object().unwrap().clone();
        assert_eq!(newest.len(), wanted.len(), "what never traded has no newest");
        for (symbol, rows) in &wanted {
            assert!(same(&newest[symbol], rows.last().unwrap()), "{symbol}: {}", newest[symbol]);
        }
    }
    let crypto = get(&venue, "/v1beta3/crypto/us/latest/quotes?symbols=BTC/USD,ETH/USD").await;
    assert_eq!(crypto.json()["quotes"].as_object().unwrap().len(), 2);
    assert_eq!(get(&venue, "/v1beta1/options/quotes/latest?symbols=SPY").await.status, 400);

    let venue = Venue::start(Config { plan: Plan::basic(), ..synthetic(1_000) }).await.unwrap();
    for (feed, status) in [("sip", 403), ("iex", 200), ("delayed_sip", 200), ("nasdaq", 400)] {
        let asked = format!("/v2/stocks/trades/latest?symbols=SPY&feed={feed}");
        assert_eq!(get(&venue, &asked).await.status, status, "{feed}");
    }
}

#[tokio::test]
async fn both_ends_belong_to_the_span_and_one_symbol_has_a_form_of_its_own() {
    let (_file, config) = tape(&trades(10, Duration::from_secs(1)), Pace::AsTaken);
    let venue = Venue::start(config).await.unwrap();
    let ids = |answer: &Answer| -> Vec<u64> {
        let page = answer.json();
        page["trades"].as_array().unwrap().iter().map(|r| r["i"].as_u64().unwrap()).collect()
    };
    let path = "/v2/stocks/SPY/trades?start=2026-01-05T14:30:02Z";
    let answer = get(&venue, &format!("{path}&end=2026-01-05T14:30:04.000000000Z&currency=USD")).await;
    assert_eq!(ids(&answer), [3, 4, 5]);
    let page = answer.json();
    assert_eq!((&page["symbol"], &page["currency"]), (&json!("SPY"), &json!("USD")));
    assert!(page["next_page_token"].is_null());
    assert_eq!(ids(&get(&venue, &format!("{path}&end=2026-01-05T14:30:03.999999999Z")).await), [3, 4]);
    assert_eq!(ids(&get(&venue, "/v2/stocks/SPY/trades?start=2026-01-05&end=2026-01-05").await).len(), 10);
    assert!(ids(&get(&venue, "/v2/stocks/SPY/trades").await).is_empty(), "without a start, today is meant");
    let none = get(&venue, &format!("/v2/stocks/trades?symbols=NONE&{EVERYTHING}")).await.json();
    assert_eq!(none, json!({"trades": {}, "next_page_token": null}));
    venue.stop().await;
}

#[tokio::test]
async fn wrong_parameters_are_refused_with_a_reason() {
    let (_file, config) = tape(&trades(10, Duration::from_secs(1)), Pace::AsTaken);
    let venue = Venue::start(config).await.unwrap();
    let trades = "/v2/stocks/trades?symbols=SPY";
    let page = get(&venue, &format!("{trades}&{EVERYTHING}&limit=1")).await.json();
    let token = page["next_page_token"].as_str().unwrap().replace('=', "%3D");
    for (path, word) in [
        ("/v2/stocks/trades".to_owned(), "symbols is required"),
        ("/v2/stocks/trades?symbols=*".to_owned(), "invalid symbol: *"),
        ("/v2/stocks/trades?symbols=SPY,,AAPL".to_owned(), "invalid symbol"),
        ("/v2/stocks/trades?symbols=BTC/USD".to_owned(), "invalid symbol: BTC/USD"),
        ("/v1beta3/crypto/us/trades?symbols=SPY".to_owned(), "invalid symbol: SPY"),
        (format!("{trades}&limit=0"), "invalid limit"),
        (format!("{trades}&limit=10001"), "invalid limit"),
        (format!("{trades}&limit=x"), "invalid limit"),
        (format!("{trades}&start=noon"), "invalid start"),
        (format!("{trades}&start=2026-01-06&end=2026-01-05"), "end should not be before start"),
        (format!("{trades}&feed=delayed_sip"), "invalid feed"),
        (format!("{trades}&sort=up"), "invalid sort"),
        (format!("{trades}&page_token=AAAA"), "invalid page_token"),
        (format!("/v2/stocks/trades?symbols=AAPL&page_token={token}"), "invalid page_token"),
        (format!("/v2/stocks/quotes?symbols=SPY&page_token={token}"), "invalid page_token"),
        ("/v2/stocks/bars?symbols=SPY".to_owned(), "timeframe is required"),
        ("/v2/stocks/bars?symbols=SPY&timeframe=5Min".to_owned(), "1Min only"),
        ("/v2/stocks/bars?symbols=SPY&timeframe=1Min&adjustment=x".to_owned(), "invalid adjustment"),
    ] {
        let answer = get(&venue, &path).await;
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.message().contains(word), "{path}: {}", answer.text);
        assert_eq!(answer.number("x-ratelimit-limit"), 10_000);
    }
    for path in ["/v2/stocks/auctions?symbols=SPY", "/v1beta1/options/quotes?symbols=SPY", "/v2/stocks"] {
        assert_eq!(get(&venue, path).await.status, 404, "{path}");
    }
    venue.stop().await;
}

#[tokio::test]
async fn a_tape_with_a_clock_is_public_once_it_was_due() {
    let (_file, config) = tape(&trades(400, Duration::from_millis(10)), Pace::Speed(1.0));
    let lag = Duration::from_secs(1);
    let venue = Venue::start(config.clone()).await.unwrap();
    let late = Venue::start(Config { data_lag: lag, ..config }).await.unwrap();
    let public = async |venue: &Venue| {
        let path = format!("/v2/stocks/SPY/trades?{EVERYTHING}");
        get(venue, &path).await.json()["trades"].as_array().unwrap().len()
    };
    assert_eq!((public(&venue).await, public(&late).await), (0, 0), "nothing before the clock has started");
    let start = Instant::now();
    let request = json!({"action": "subscribe", "trades": ["*"]});
    let mut client = Client::subscribe(&venue, "/v2/sip", Codec::Json, request.clone()).await;
    let _other = Client::subscribe(&late, "/v2/sip", Codec::Json, request).await;
    let mut got = 0;
    while got < 150 {
        got = client.frame().await.last().unwrap()["i"].as_u64().unwrap() as usize;
        let there = public(&venue).await;
        assert!(there >= got, "what was streamed is there: {there} of {got}");
        assert!(there as f64 <= start.elapsed().as_secs_f64() * 100.0 + 1.0, "what is not due is not there");
    }
    let there = public(&late).await;
    let due = (start.elapsed() - lag).as_secs_f64() * 100.0 + 1.0;
    assert!(there > 0 && there as f64 <= due, "{there} rows, where {due} may be public");
    venue.stop().await;
    late.stop().await;
}

#[tokio::test]
async fn a_market_without_end_can_be_looked_up_as_it_goes() {
    let settings = Synthetic { rate_per_s: 5_000.0, symbols: 3, ..Synthetic::default() };
    let venue = Venue::start(with_data(Feed::Synthetic(settings))).await.unwrap();
    let request = json!({"action": "subscribe", "trades": ["SPY"]});
    let mut client = Client::subscribe(&venue, "/v2/sip", Codec::Json, request).await;
    let elements = client.elements(200).await;
    let (first, last) = (&elements[0]["t"], &elements[elements.len() - 1]["t"]);
    let (first, last) = (first.as_str().unwrap(), last.as_str().unwrap());
    let path = format!("/v2/stocks/trades?symbols=SPY&start={first}&end={last}");
    assert_same(&pages(&venue, &path, "trades", 64).await.0, &rows_of(&elements, "t"));
    let today = get(&venue, "/v2/stocks/SPY/trades?sort=desc&limit=10").await.json();
    assert_eq!(today["trades"].as_array().unwrap().len(), 10, "the defaults are today until now");
    venue.stop().await;
}

#[tokio::test]
async fn the_free_plan_gets_sip_rows_after_a_quarter_of_an_hour_of_the_tape() {
    let (_file, config) = tape(&trades(2_400, Duration::from_secs(1)), Pace::Speed(600.0));
    let venue = Venue::start(Config { plan: Plan::basic(), ..config }).await.unwrap();
    let request = json!({"action": "subscribe", "trades": ["SPY"]});
    let _client = Client::subscribe(&venue, "/v2/iex", Codec::Json, request).await;
    let minute = "symbols=SPY&start=2026-01-05T14:30:00Z&end=2026-01-05T14:30:59Z";
    let sip = format!("/v2/stocks/trades?feed=sip&{minute}");
    let refused = get(&venue, &sip).await;
    assert_eq!(refused.status, 403);
    let body =
        json!({"code": 42_210_000, "message": "subscription does not permit querying recent SIP data"});
    assert_eq!(refused.json(), body);
    assert_eq!(get(&venue, &format!("/v2/stocks/trades?feed=iex&{minute}")).await.status, 200);
    let granted = async {
        while get(&venue, &sip).await.status == 403 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LIMIT, granted).await.unwrap();
    let rows = get(&venue, &sip).await.json();
    assert_eq!(rows["trades"]["SPY"].as_array().unwrap().len(), 60);
    venue.stop().await;
}

#[tokio::test]
async fn an_account_is_asked_for_its_keys_but_for_crypto() {
    let account = Account { key: "k".to_owned(), secret: "s".to_owned() };
    let venue = Venue::start(Config { account: Some(account), ..synthetic(1_000) }).await.unwrap();
    let path = format!("/v2/stocks/trades?symbols=SPY&{EVERYTHING}");
    assert_eq!(get(&venue, &path).await.status, 200);
    for headers in [&[][..], &KEYS[..1], &[KEYS[0], ("APCA-API-SECRET-KEY", "other")]] {
        let refused = get_as(&venue, &path, headers).await;
        assert_eq!(refused.status, 401);
        assert!(!refused.message().is_empty());
    }
    let crypto = format!("/v1beta3/crypto/us/trades?symbols=BTC/USD&{EVERYTHING}");
    assert_eq!(get_as(&venue, &crypto, &[]).await.status, 200);
    venue.stop().await;
}

#[tokio::test]
async fn calls_beyond_the_limit_get_429_and_the_headers_count_down() {
    let plan = Plan { data_calls_per_min: 60, ..Plan::default() };
    let venue = Venue::start(Config { plan, ..synthetic(1_000) }).await.unwrap();
    let path = format!("/v2/stocks/trades?symbols=SPY&{EVERYTHING}&limit=1");
    let first = get(&venue, &path).await;
    assert_eq!((first.number("x-ratelimit-limit"), first.number("x-ratelimit-remaining")), (60, 59));
    let refused = async {
        loop {
            let answer = get(&venue, &path).await;
            if answer.status != 200 {
                return answer;
            }
        }
    };
    let refused = tokio::time::timeout(LIMIT, refused).await.unwrap();
    assert_eq!((refused.status, refused.number("x-ratelimit-remaining")), (429, 0));
    let wait_s = refused.number("x-ratelimit-reset") - jiff::Timestamp::now().as_second();
    assert!((0..=2).contains(&wait_s), "a call comes back every second: {wait_s}");
    let again = async {
        while get(&venue, &path).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(3), again).await.expect("the bucket fills again");
    venue.stop().await;
}

#[tokio::test]
async fn faults_strike_calls_and_the_log_has_every_call() {
    let venue = Venue::start(synthetic(2_000)).await.unwrap();
    let inject = |text: &str| venue.inject(text.parse::<Fault>().unwrap());
    let path = format!("/v2/stocks/trades?symbols=AAPL,SPY&{EVERYTHING}&limit=5");
    inject("data_error:status=503,count=1,path=/v2/stocks/quotes");
    assert_eq!(get(&venue, &path).await.status, 200, "another path is not touched");
    venue.clear_faults();
    inject("data_error:status=500,count=2");
    let statuses = [get(&venue, &path).await.status, get(&venue, &path).await.status];
    assert_eq!(statuses, [500, 500]);
    inject("data_error:status=429,count=1");
    let limited = get(&venue, &path).await;
    assert_eq!((limited.status, limited.number("x-ratelimit-remaining")), (429, 0));
    inject("data_delay:ms=300,count=1");
    let start = Instant::now();
    assert_eq!(get(&venue, &path).await.status, 200);
    assert!(start.elapsed() >= Duration::from_millis(300));
    inject("data_cut");
    let half = get(&venue, &path).await;
    assert_eq!((half.status, half.text.len() as i64), (200, half.number("content-length") / 2));
    let whole = get(&venue, &path).await;
    assert_eq!(whole.text.len() as i64, whole.number("content-length"), "a cut strikes once");
    inject("data_stall:count=1");
    let stalled = tokio::time::timeout(Duration::from_millis(300), get(&venue, &path)).await;
    assert!(stalled.is_err(), "{stalled:?}");
    let calls: Vec<(u16, u64)> = venue
        .log()
        .iter()
        .filter_map(|event| {
            let EventKind::DataRequest { symbols, status, rows } = &event.kind else { return None };
            assert_eq!(symbols, "AAPL,SPY");
            assert_eq!(event.path.as_deref(), Some("/v2/stocks/trades"));
            Some((*status, *rows))
        })
        .collect();
    assert_eq!(calls, [(200, 5), (500, 0), (500, 0), (429, 0), (200, 5), (200, 5), (200, 5), (0, 0)]);
    let struck = |name| venue.log().iter().any(|e: &Event| e.kind == EventKind::Fault { fault: name });
    assert!(["data_error", "data_delay", "data_cut", "data_stall"].into_iter().all(struck));
    // A call that is never answered must not hold the stop.
    inject("data_stall");
    let url = venue.data_url().unwrap();
    let mut stalled = TcpStream::connect(url.strip_prefix("http://").unwrap()).await.unwrap();
    stalled.write_all(b"GET /v2/stocks/trades HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let taken = venue.wait_for(LIMIT, |log| log.iter().filter(|e| is_unanswered(e)).count() == 2).await;
    assert!(taken);
    let start = Instant::now();
    venue.stop().await;
    assert!(start.elapsed() < Duration::from_secs(2));
}

fn is_unanswered(event: &Event) -> bool {
    matches!(event.kind, EventKind::DataRequest { status: 0, .. })
}
