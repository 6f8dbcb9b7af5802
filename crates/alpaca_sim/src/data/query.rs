//! What a request to the data port asks for, read strictly: what is not understood is refused with a message.

use std::collections::HashMap;

use data_encoding::BASE64;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::config::Plan;
use crate::endpoint::Product;
use crate::history::{Kind, Place, Span};

/// Most rows in a page, and of news.
const LIMIT_MAX: usize = 10_000;
const NEWS_LIMIT_MAX: usize = 50;
/// How old `sip` rows must be on a plan without the `sip` stream.
const RECENT_NS: i64 = 15 * 60 * 1_000_000_000;
const DAY_NS: i64 = 24 * 60 * 60 * 1_000_000_000;

/// One path of the data port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) kind: Kind,
    pub(super) product: Product,
    /// The symbol in the path, where it has one.
    pub(super) single: Option<String>,
    /// The newest row of each symbol in place of a page.
    pub(super) latest: bool,
}

/// A request that was understood.
#[derive(Clone, Debug)]
pub(super) struct Query {
    pub(super) target: Target,
    /// Sorted and distinct; for news, none means all.
    pub(super) symbols: Vec<String>,
    pub(super) span: Span,
    /// The symbol at which the page before ended.
    pub(super) from_symbol: Option<String>,
    pub(super) limit: usize,
    pub(super) currency: Option<String>,
    pub(super) include_content: bool,
}

/// Why a request is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: Option<u32>,
    pub(super) message: String,
}

impl Refusal {
    fn bad(message: impl Into<String>) -> Refusal {
        Refusal { status: 400, code: None, message: message.into() }
    }
}

impl Kind {
    /// The word in paths and answers.
    pub(super) fn word(self) -> &'static str {
        match self {
            Kind::Trades => "trades",
            Kind::Quotes => "quotes",
            Kind::Bars => "bars",
            Kind::News => "news",
        }
    }
}

impl Target {
    /// What is served at `path`, if anything is.
    pub(super) fn at(path: &str) -> Option<Target> {
        let kind = |word| [Kind::Trades, Kind::Quotes, Kind::Bars].into_iter().find(|k| k.word() == word);
        let mut parts: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        // `…/trades/latest`, but for crypto `…/latest/trades`.
        let last = parts.iter().rposition(|part| *part == "latest");
        let latest = last.filter(|at| match parts[1] {
            "crypto" => *at == 3 && parts.len() == 5,
            _ => *at == parts.len() - 1 && parts.len() == 4,
        });
        if let Some(at) = latest {
            parts.remove(at);
        }
        let (product, kind, single) = match parts[..] {
            // The newest quotes there are.
            ["v1beta1", "options", "quotes"] if latest.is_some() => (Product::Options, Kind::Quotes, None),
            ["v2", "stocks", word] => (Product::Stocks, kind(word)?, None),
            ["v2", "stocks", symbol, word] => (Product::Stocks, kind(word)?, Some(symbol.to_owned())),
            ["v1beta3", "crypto", "us" | "us-1" | "us-2" | "eu-1" | "bs-1", word] => {
                (Product::Crypto, kind(word)?, None)
            }
            // There is no history of option quotes.
            ["v1beta1", "options", word @ ("trades" | "bars")] => (Product::Options, kind(word)?, None),
            ["v1beta1", "news"] => (Product::News, Kind::News, None),
            _ => return None,
        };
        Some(Target { kind, product, single, latest: latest.is_some() })
    }
}

impl Query {
    /// Reads the parameters of a request at `now_ns` by the venue's clock.
    pub(super) fn read(
        target: Target,
        parameters: &HashMap<String, String>,
        plan: &Plan,
        now_ns: i64,
    ) -> Result<Query, Refusal> {
        // A parameter without a value is as good as none.
        let given = |name: &str| parameters.get(name).map(String::as_str).filter(|v| !v.is_empty());
        let news = target.kind == Kind::News;
        let symbols = symbols(&target, given("symbols"))?;
        let delayed = recency(&target, given("feed"), plan)?;
        if target.latest {
            return Query::latest(target, symbols, delayed);
        }
        if target.kind == Kind::Bars {
            check_bars(given("timeframe"), given("adjustment"))?;
        }
        let descending = match given("sort") {
            Some("asc") => false,
            Some("desc") => true,
            None => news,
            Some(other) => {
                return Err(Refusal::bad(format!("invalid sort: {other:?} is neither asc nor desc")));
            }
        };
        let latest_ns = if delayed { now_ns.saturating_sub(RECENT_NS) } else { now_ns };
        let end_ns = match given("end") {
            Some(text) => instant_ns("end", text, DAY_NS - 1)?,
            None => latest_ns,
        };
        let start_ns = match given("start") {
            Some(text) => instant_ns("start", text, 0)?,
            None => latest_ns.min(now_ns - now_ns.rem_euclid(DAY_NS)),
        };
        if given("end").is_some() && end_ns < start_ns {
            return Err(Refusal::bad("end should not be before start"));
        }
        if end_ns > latest_ns && delayed {
            return Err(recent());
        }
        let mut span = Span { start_ns, end_ns, descending, after: None };
        let mut from_symbol = None;
        if let Some(token) = given("page_token") {
            let (symbol, after) = read_token(token, target.kind, descending)
                .filter(|(symbol, _)| news || symbols.contains(symbol))
                .ok_or_else(|| Refusal::bad(format!("invalid page_token: {token}")))?;
            from_symbol = Some(symbol);
            span.after = Some(after);
        }
        Ok(Query {
            limit: limit(given("limit"), news)?,
            currency: given("currency").map(str::to_owned),
            include_content: given("include_content") == Some("true"),
            target,
            symbols,
            span,
            from_symbol,
        })
    }
}

impl Query {
    /// The newest row of each symbol; not on a plan that has them late only.
    fn latest(target: Target, symbols: Vec<String>, delayed: bool) -> Result<Query, Refusal> {
        if delayed {
            return Err(recent());
        }
        let span = Span { start_ns: i64::MIN, end_ns: i64::MAX, descending: true, after: None };
        let (from_symbol, currency) = (None, None);
        Ok(Query { target, symbols, span, from_symbol, limit: 1, currency, include_content: false })
    }
}

fn recent() -> Refusal {
    let message = "subscription does not permit querying recent SIP data".to_owned();
    Refusal { status: 403, code: Some(42_210_000), message }
}

fn symbols(target: &Target, list: Option<&str>) -> Result<Vec<String>, Refusal> {
    let list = match (&target.single, list) {
        (Some(single), _) => single.as_str(),
        (None, Some(list)) => list,
        (None, None) if target.kind == Kind::News => return Ok(Vec::new()),
        (None, None) => return Err(Refusal::bad("symbols is required")),
    };
    let mut symbols: Vec<String> = list.split(',').map(|s| s.trim().to_owned()).collect();
    let bad = |s: &&String| {
        let of_it = target.kind == Kind::News || Product::of_symbol(s) == target.product;
        s.is_empty() || !of_it || !s.chars().all(|c| c.is_ascii_alphanumeric() || "./-_".contains(c))
    };
    if let Some(symbol) = symbols.iter().find(bad) {
        return Err(Refusal::bad(format!("invalid symbol: {symbol}")));
    }
    symbols.sort();
    symbols.dedup();
    Ok(symbols)
}

/// Checks the feed; true where the plan gives only what is fifteen minutes old.
fn recency(target: &Target, feed: Option<&str>, plan: &Plan) -> Result<bool, Refusal> {
    let known: &[&str] = match target.product {
        Product::Stocks => &["sip", "iex", "boats", "otc"],
        Product::Options => &["opra", "indicative"],
        Product::Crypto | Product::Perps | Product::News | Product::Test => return Ok(false),
    };
    match feed {
        // Streams without a history have a newest row.
        Some("delayed_sip" | "overnight") if target.latest => Ok(false),
        Some(feed) if !known.contains(&feed) => {
            Err(Refusal::bad(format!("invalid feed: {feed:?} is none of {}", known.join(", "))))
        }
        // Without one, the best feed that the plan allows is meant, and of that everything may be had.
        feed => Ok(feed == Some("sip") && plan.refused_feeds.iter().any(|f| f == "sip")),
    }
}

fn check_bars(timeframe: Option<&str>, adjustment: Option<&str>) -> Result<(), Refusal> {
    match timeframe {
        Some("1Min" | "1T") => {}
        Some(other) => {
            let message = format!("invalid timeframe: the simulated venue has 1Min only, not {other:?}");
            return Err(Refusal::bad(message));
        }
        None => return Err(Refusal::bad("timeframe is required")),
    }
    match adjustment {
        None | Some("raw" | "split" | "dividend" | "spin-off" | "all") => Ok(()),
        Some(other) => Err(Refusal::bad(format!("invalid adjustment: {other:?}"))),
    }
}

fn limit(text: Option<&str>, news: bool) -> Result<usize, Refusal> {
    let (default, max) = if news { (10, NEWS_LIMIT_MAX) } else { (1_000, LIMIT_MAX) };
    let limit = match text {
        Some(text) => text.parse().unwrap_or(0),
        None => default,
    };
    if (1..=max).contains(&limit) {
        return Ok(limit);
    }
    Err(Refusal::bad(format!("invalid limit: {:?} is not within 1..={max}", text.unwrap_or_default())))
}

/// Unix nanoseconds of an RFC 3339 time, or of a date (UTC) and `of_day_ns`: a date is the whole day.
fn instant_ns(name: &str, text: &str, of_day_ns: i64) -> Result<i64, Refusal> {
    let bad = || Refusal::bad(format!("invalid {name}: {text:?} is neither RFC 3339 nor YYYY-MM-DD"));
    if text.len() == 10 {
        let date: Date = text.parse().map_err(|_| bad())?;
        let at = date.to_zoned(TimeZone::UTC).map_err(|_| bad())?.timestamp();
        return Ok(clamped_ns(at).saturating_add(of_day_ns));
    }
    Ok(clamped_ns(text.parse().map_err(|_| bad())?))
}

fn clamped_ns(at: Timestamp) -> i64 {
    let limit = if at < Timestamp::UNIX_EPOCH { i64::MIN } else { i64::MAX };
    i64::try_from(at.as_nanosecond()).unwrap_or(limit)
}

/// The token of the page after the row at `place`, in Alpaca's own form. Where the next row `ties` (same time, exchange
/// and id), and for quotes, which have no id, the row's number on the tape follows.
pub(super) fn write_token(kind: Kind, symbol: &str, place: &Place, ties: bool) -> String {
    // Any i64 of nanoseconds lies within the range of a timestamp.
    let at = Timestamp::from_nanosecond(place.ts_ns.into()).unwrap_or(Timestamp::UNIX_EPOCH);
    let Place { exchange, id, seq, .. } = place;
    let mut text = match kind {
        Kind::Trades | Kind::News => format!("{symbol}|{at:.9}|{exchange}|{id:020}"),
        Kind::Quotes => format!("{symbol}|{at:.9}|{seq:020}"),
        Kind::Bars => format!("{symbol}|M|{at:.9}"),
    };
    if ties && kind != Kind::Quotes && kind != Kind::Bars {
        text.push_str(&format!("|{seq:020}"));
    }
    BASE64.encode(text.as_bytes())
}

/// The symbol and place that a token names; what it leaves open lies beyond all rows that it covers.
fn read_token(token: &str, kind: Kind, descending: bool) -> Option<(String, Place)> {
    let text = String::from_utf8(BASE64.decode(token.as_bytes()).ok()?).ok()?;
    let parts: Vec<&str> = text.split('|').collect();
    let (open_id, open_seq) = if descending { (0, 0) } else { (u128::MAX, u64::MAX) };
    let (symbol, at, exchange, id, seq) = match (kind, &parts[..]) {
        (Kind::Trades | Kind::News, [symbol, at, exchange, id]) => {
            (symbol, at, *exchange, id.parse().ok()?, open_seq)
        }
        (Kind::Trades | Kind::News, [symbol, at, exchange, id, seq]) => {
            (symbol, at, *exchange, id.parse().ok()?, seq.parse().ok()?)
        }
        (Kind::Quotes, [symbol, at, seq]) => (symbol, at, "", 0, seq.parse().ok()?),
        (Kind::Bars, [symbol, "M", at]) => (symbol, at, "", open_id, open_seq),
        _ => return None,
    };
    let ts_ns = clamped_ns(at.parse().ok()?);
    Some(((*symbol).to_owned(), Place { ts_ns, exchange: exchange.to_owned(), id, seq }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn tokens_have_the_form_of_alpaca_s_own_and_come_back() {
        let place =
            Place { ts_ns: 1_641_200_400_244_839_680, exchange: "P".to_owned(), id: (1 << 63) + 2, seq: 7 };
        let token = write_token(Kind::Trades, "AAPL", &place, false);
        let text = "AAPL|2022-01-03T09:00:00.244839680Z|P|09223372036854775810";
        assert_eq!(BASE64.decode(token.as_bytes()).unwrap(), text.as_bytes());
        let (symbol, after) = read_token(&token, Kind::Trades, false).unwrap();
        assert_eq!((symbol.as_str(), after.seq), ("AAPL", u64::MAX));
        assert!(after.ties(&place));
        let token = write_token(Kind::Trades, "AAPL", &place, true);
        assert_eq!(read_token(&token, Kind::Trades, false).unwrap().1, place);
        let quote = Place { exchange: String::new(), id: 0, ..place.clone() };
        let token = write_token(Kind::Quotes, "AAPL", &quote, true);
        assert_eq!(read_token(&token, Kind::Quotes, true).unwrap().1, quote);
        assert_eq!(read_token(&token, Kind::Trades, false), None);
        assert_eq!(read_token("AAPL", Kind::Trades, false), None);
    }

    #[test]
    fn paths_lead_to_what_is_served_and_to_nothing_else() {
        let at = |path| Target::at(path).map(|t| (t.product, t.kind, t.single));
        assert_eq!(at("/v2/stocks/trades"), Some((Product::Stocks, Kind::Trades, None)));
        assert_eq!(at("/v2/stocks/SPY/bars"), Some((Product::Stocks, Kind::Bars, Some("SPY".to_owned()))));
        assert_eq!(at("/v1beta3/crypto/us/quotes"), Some((Product::Crypto, Kind::Quotes, None)));
        assert_eq!(at("/v1beta1/options/bars"), Some((Product::Options, Kind::Bars, None)));
        assert_eq!(at("/v1beta1/news"), Some((Product::News, Kind::News, None)));
        for path in [
            "/v2/stocks/trades/latest",
            "/v2/stocks/bars/latest",
            "/v1beta3/crypto/us/latest/quotes",
            "/v1beta1/options/quotes/latest",
        ] {
            assert!(Target::at(path).is_some_and(|target| target.latest), "{path}");
        }
        for path in [
            "/",
            "/v2/stocks/auctions",
            "/v2/stocks/SPY/trades/latest",
            "/v1beta3/crypto/us/trades/latest",
            "/v1beta1/news/latest",
            "/v1beta1/options/quotes",
            "/v1beta3/crypto/eu/bars",
            "/v2/stocks/news",
        ] {
            assert_eq!(at(path), None, "{path}");
        }
    }

    #[test]
    fn times_are_read_to_the_nanosecond_and_a_date_is_the_whole_day() {
        let read = |text| instant_ns("start", text, 5).ok();
        assert_eq!(read("1970-01-01T00:00:01.000000002Z"), Some(1_000_000_002));
        assert_eq!(read("1970-01-01T01:00:01+01:00"), Some(1_000_000_000));
        assert_eq!(read("1970-01-02"), Some(DAY_NS + 5));
        for text in ["yesterday", "1970-13-01", "1970-01-01T00:00:00", "12"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
