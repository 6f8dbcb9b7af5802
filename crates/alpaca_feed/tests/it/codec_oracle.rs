//! What an element must decode to, worked out from `serde_json::Value` and one table of fields, sharing no code with
//! the decoder; and decoded events in the same notation.

use alpaca_feed::message::{BarSpan, Batch, Code, Codec, Conditions, Event, Overflow, Print};
use alpaca_feed::symbol::{SymbolId, SymbolNames, Symbols};
use serde_json::{Map, Value, json};

/// What a field may hold, and whether it must be there.
#[derive(Copy, Clone)]
enum Shape {
    /// A symbol; required.
    Symbol,
    /// A text; empty where missing.
    Text,
    /// A text; required.
    SureText,
    /// A list of texts, or one text for a list of one.
    Codes,
    /// A list of texts.
    Texts,
    /// A list of symbols.
    Symbols,
    /// A number; required.
    Price,
    /// A number; 0 where missing.
    Size,
    /// A number, if any.
    MaybeNumber,
    /// A whole number; 0 where missing.
    Count,
    /// A whole number; required.
    SureId,
    /// A whole number, if any.
    MaybeId,
    /// A time; required.
    Time,
    /// A time, if any.
    MaybeTime,
    /// A time, if any; in another shape it counts as missing.
    AtBestTime,
    /// True or false; false where missing.
    Flag,
    /// Levels of an order book.
    Levels,
}
use Shape::{
    AtBestTime, Codes, Count, Flag, Levels, MaybeId, MaybeNumber, MaybeTime, Price, Size, SureId, SureText,
    Text, Texts, Time,
};

/// The fields that all types but news have.
const HEAD: [(&str, Shape); 3] = [("S", Shape::Symbol), ("t", Time), ("r", AtBestTime)];

fn fields(tag: &str) -> Option<&'static [(&'static str, Shape)]> {
    Some(match tag {
        "t" => &[
            ("i", MaybeId),
            ("x", Text),
            ("p", Price),
            ("s", Size),
            ("c", Codes),
            ("z", Text),
            ("tks", Text),
        ],
        "q" => &[
            ("bx", Text),
            ("bp", Price),
            ("bs", Size),
            ("ax", Text),
            ("ap", Price),
            ("as", Size),
            ("c", Codes),
            ("z", Text),
        ],
        "b" | "u" | "d" => {
            &[("o", Price), ("h", Price), ("l", Price), ("c", Price), ("v", Size), ("n", Count), ("vw", Size)]
        }
        "c" => &[
            ("x", Text),
            ("oi", MaybeId),
            ("op", Price),
            ("os", Size),
            ("oc", Texts),
            ("ci", MaybeId),
            ("cp", Price),
            ("cs", Size),
            ("cc", Texts),
            ("z", Text),
        ],
        "x" => &[("i", MaybeId), ("x", Text), ("p", Price), ("s", Size), ("a", Text), ("z", Text)],
        "s" => &[("sc", SureText), ("sm", Text), ("rc", Text), ("rm", Text), ("z", Text)],
        "l" => &[("u", Price), ("d", Price), ("i", Text), ("z", Text)],
        "i" => &[
            ("p", Price),
            ("ps", MaybeNumber),
            ("is", MaybeNumber),
            ("side", Text),
            ("at", Text),
            ("z", Text),
        ],
        "o" => &[("r", Flag), ("b", Levels), ("a", Levels)],
        "p" => &[
            ("x", Text),
            ("ip", MaybeNumber),
            ("mp", MaybeNumber),
            ("fr", MaybeNumber),
            ("oi", MaybeNumber),
            ("ft", MaybeTime),
        ],
        "n" => &[
            ("id", SureId),
            ("headline", Text),
            ("summary", Text),
            ("author", Text),
            ("created_at", MaybeTime),
            ("updated_at", MaybeTime),
            ("url", Text),
            ("content", Text),
            ("symbols", Shape::Symbols),
            ("source", Text),
        ],
        _ => return None,
    })
}

/// What an element of a known data type must decode to; `None` where it must be refused.
pub(crate) fn expected(element: &Value) -> Option<Value> {
    let tag = element.get("T")?.as_str()?;
    let mut all = Map::from_iter([("T".into(), tag.into())]);
    let head = HEAD.iter().filter(|(field, _)| tag != "n" && (tag, *field) != ("o", "r"));
    for (field, shape) in head.chain(fields(tag)?) {
        let value = element.get(field).filter(|value| !value.is_null());
        all.insert((*field).into(), normal(value, *shape)?);
    }
    if tag == "n" {
        let (created, updated) = (all["created_at"].clone(), all["updated_at"].clone());
        let either = |first: Value, second| if first.is_null() { second } else { first };
        all.insert("created_at".into(), either(created.clone(), updated.clone()));
        all.insert("updated_at".into(), either(updated, created));
        if all["updated_at"].is_null() {
            return None;
        }
    }
    Some(Value::Object(all))
}

fn normal(value: Option<&Value>, shape: Shape) -> Option<Value> {
    let Some(value) = value else {
        return match shape {
            Shape::Symbol | SureText | Price | SureId | Time => None,
            Text => Some(json!("")),
            Codes | Texts | Shape::Symbols | Levels => Some(json!([])),
            Size => Some(json!(0.0)),
            Count => Some(json!(0)),
            Flag => Some(json!(false)),
            MaybeNumber | MaybeId | MaybeTime | AtBestTime => Some(Value::Null),
        };
    };
    let list = |shape| {
        let present = value.as_array()?.iter().filter(|value| !value.is_null());
        present.map(|value| normal(Some(value), shape)).collect::<Option<Vec<_>>>().map(Value::from)
    };
    match shape {
        Shape::Symbol => value.as_str().filter(|name| (1..=64).contains(&name.len())).map(Value::from),
        Text | SureText => value.as_str().map(Value::from),
        Codes if value.is_string() => Some(json!(value.as_str().filter(|code| !code.is_empty()).as_slice())),
        Codes | Texts => list(Text),
        Shape::Symbols => list(Shape::Symbol),
        Price | Size | MaybeNumber => value.as_f64().map(|number| json!(number + 0.0)),
        Count | SureId | MaybeId => whole(value).map(Value::from),
        Time | MaybeTime => nanos(value).map(Value::from),
        AtBestTime => Some(nanos(value).map_or(Value::Null, Value::from)),
        Flag => value.as_bool().map(Value::from),
        Levels => {
            let level =
                |level: &Value| Some(json!([normal(level.get("p"), Price)?, normal(level.get("s"), Price)?]));
            value.as_array()?.iter().filter(|value| !value.is_null()).map(level).collect::<Option<_>>()
        }
    }
}

fn whole(value: &Value) -> Option<u64> {
    let exact = |float: &f64| float.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(float);
    let float = value.as_f64().filter(|_| value.is_f64());
    value.as_u64().or_else(|| float.filter(exact).map(|float| float as u64))
}

fn nanos(value: &Value) -> Option<i64> {
    let text = value.as_str()?;
    let shape: String =
        text.chars().map(|c| if c.is_ascii_digit() { '9' } else { c.to_ascii_uppercase() }).collect();
    let zone = shape.strip_prefix("9999-99-99")?.strip_prefix(['T', ' '])?.strip_prefix("99:99:99")?;
    let zone = match zone.strip_prefix(".9") {
        Some(digits) => digits.trim_start_matches('9'),
        None => zone,
    };
    if !matches!(zone, "Z" | "+99:99" | "-99:99") || text.get(17..19)? == "60" {
        return None;
    }
    let (time, zone) = text.split_at(text.len() - zone.len());
    // The judge takes nine digits at most.
    let kept = &time[..time.len().min("9999-99-99T99:99:99.999999999".len())];
    let time: jiff::Timestamp = format!("{kept}{zone}").parse().ok()?;
    time.as_nanosecond().try_into().ok()
}

/// A decoded event in the notation of [`expected`]; not for unknown ones.
pub(crate) fn shown(event: &Event, names: &SymbolNames<'_>) -> Value {
    let overflow: &[Overflow] = if let Event::WideTrade(wide) = event {
        &wide.overflow
    } else if let Event::WideQuote(wide) = event {
        &wide.overflow
    } else {
        &[]
    };
    let full = |field: &str| {
        overflow.iter().find(|overflow| overflow.field == field).map(|overflow| &overflow.texts)
    };
    let code =
        |field: &str, code: Code| full(field).map_or_else(|| json!(code.as_str()), |texts| json!(texts[0]));
    let codes = |codes: Conditions| {
        full("c").map_or_else(|| json!(codes.iter().collect::<Vec<_>>()), |texts| json!(texts))
    };
    let prefixed = |at: &str, print: &Print| {
        let Print { id, price, size, conditions } = print;
        [("i", json!(id)), ("p", json!(price)), ("s", json!(size)), ("c", json!(conditions))]
            .map(|(field, value)| (format!("{at}{field}"), value))
    };
    let mut value = match event {
        Event::Trade(_) | Event::WideTrade(_) => {
            let trade = event.trade().unwrap();
            json!({"T": "t", "i": trade.id, "x": code("x", trade.exchange), "p": trade.price, "s": trade.size,
                "c": codes(trade.conditions), "z": code("z", trade.tape), "tks": code("tks", trade.taker_side),
                "r": trade.received_ts})
        }
        Event::Quote(_) | Event::WideQuote(_) => {
            let quote = event.quote().unwrap();
            json!({"T": "q", "bx": code("bx", quote.bid_exchange), "bp": quote.bid_price, "bs": quote.bid_size,
                "ax": code("ax", quote.ask_exchange), "ap": quote.ask_price, "as": quote.ask_size,
                "c": codes(quote.conditions), "z": code("z", quote.tape), "r": quote.received_ts})
        }
        Event::Bar(bar) => {
            let tag = match bar.span {
                BarSpan::Minute => "b",
                BarSpan::UpdatedMinute => "u",
                BarSpan::Day => "d",
            };
            json!({"T": tag, "o": bar.open, "h": bar.high, "l": bar.low, "c": bar.close, "v": bar.volume,
                "n": bar.trade_count, "vw": bar.vwap, "r": bar.received_ts})
        }
        Event::Correction(correction) => {
            let mut value = json!({"T": "c", "x": correction.exchange, "z": correction.tape,
                "r": correction.received_ts});
            let prints = [("o", &correction.original), ("c", &correction.corrected)];
            value
                .as_object_mut()
                .unwrap()
                .extend(prints.into_iter().flat_map(|(at, print)| prefixed(at, print)));
            value
        }
        Event::Cancel(cancel) => json!({"T": "x", "i": cancel.id, "x": cancel.exchange, "p": cancel.price,
            "s": cancel.size, "a": cancel.action, "z": cancel.tape, "r": cancel.received_ts}),
        Event::Status(status) => json!({"T": "s", "sc": status.status, "sm": status.status_message,
            "rc": status.reason, "rm": status.reason_message, "z": status.tape, "r": status.received_ts}),
        Event::Luld(luld) => {
            json!({"T": "l", "u": luld.up, "d": luld.down, "i": luld.indicator, "z": luld.tape,
            "r": luld.received_ts})
        }
        Event::Imbalance(imbalance) => json!({"T": "i", "p": imbalance.price, "ps": imbalance.paired_shares,
            "is": imbalance.imbalance_shares, "side": imbalance.side, "at": imbalance.auction_type,
            "z": imbalance.tape, "r": imbalance.received_ts}),
        Event::Orderbook(book) => {
            let levels = |levels: &[alpaca_feed::message::Level]| {
                levels.iter().map(|level| json!([level.price, level.size])).collect::<Value>()
            };
            json!({"T": "o", "r": book.reset, "b": levels(&book.bids), "a": levels(&book.asks)})
        }
        Event::Pricing(pricing) => json!({"T": "p", "x": pricing.exchange, "ip": pricing.index_price,
            "mp": pricing.mark_price, "fr": pricing.funding_rate, "oi": pricing.open_interest,
            "ft": pricing.next_funding_ts, "r": pricing.received_ts}),
        Event::News(news) => {
            let symbols: Vec<&str> = news.symbols.iter().map(|id| &names[*id]).collect();
            return json!({"T": "n", "id": news.id, "headline": news.headline, "summary": news.summary,
                "author": news.author, "created_at": news.created_ts, "updated_at": news.updated_ts, "url": news.url,
                "content": news.content, "symbols": symbols, "source": news.source});
        }
        Event::Unknown(unknown) => panic!("no notation for {unknown:?}"),
    };
    let name = |id: SymbolId| names[id].to_owned();
    value["S"] = json!(event.symbol().map(name));
    value["t"] = json!(event.ts());
    positive_zeros(value)
}

/// Writes -0.0 as 0.0, as [`expected`] does: the notation compares texts.
fn positive_zeros(value: Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => json!(number.as_f64().unwrap() + 0.0),
        Value::Array(values) => values.into_iter().map(positive_zeros).collect(),
        Value::Object(pairs) => pairs.into_iter().map(|(key, value)| (key, positive_zeros(value))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

/// Decodes one frame alone.
pub(crate) fn decode(codec: Codec, frame: &[u8]) -> (Batch, std::sync::Arc<Symbols>) {
    let symbols = Symbols::new();
    let mut batch = Batch::default();
    alpaca_feed::decode::Decoder::new(symbols.clone()).decode(codec, frame, &mut batch);
    (batch, symbols)
}
