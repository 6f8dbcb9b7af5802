//! One page: its rows out of the history, in the form of the answer.
//!
//! Rows are those of the stream, byte for byte in every value, without `T`, `S` and `r`, and with `t` first.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::data::query::{Query, write_token};
use crate::history::{Found, Kind};
use crate::market::Market;

/// A page and how many rows it holds.
pub(super) struct Page {
    pub(super) body: Vec<u8>,
    pub(super) rows: usize,
}

/// Collects and writes the newest row of each symbol.
pub(super) fn latest(market: &Market, query: &Query, until_ns: i64) -> Page {
    let (mut body, mut rows) = (format!("{{\"{}\":{{", query.target.kind.word()).into_bytes(), 0);
    let Some(history) = market.history() else {
        return Page { body: b"{}".to_vec(), rows };
    };
    for symbol in &query.symbols {
        let mut found = Vec::new();
        history.find((query.target.kind, symbol), &query.span, until_ns, 1, |_| true, &mut found);
        let Some(newest) = found.first() else { continue };
        if rows > 0 {
            body.push(b',');
        }
        rows += 1;
        body.extend_from_slice(format!("{}:", quoted(symbol)).as_bytes());
        write_row(&mut body, &serde_json::from_slice(newest.json()).unwrap_or_default(), query);
    }
    body.extend_from_slice(b"}}");
    Page { body, rows }
}

/// Collects and writes the page that `query` asks for, of what was public until `until_ns`.
pub(super) fn page(market: &Market, query: &Query, until_ns: i64) -> Page {
    let mut found = Vec::new();
    let mut ends = Vec::new();
    let token = {
        let Some(history) = market.history() else {
            return Page { body: b"{}".to_vec(), rows: 0 };
        };
        let mut span = query.span.clone();
        // One row more than the page holds tells whether there is another page.
        let max = query.limit + 1;
        let about = |series| {
            let symbols = &market.catalogue.get(series).symbols;
            query.target.kind != Kind::News
                || query.symbols.is_empty()
                || symbols.iter().any(|s| query.symbols.binary_search(s).is_ok())
        };
        for symbol in tables(query) {
            if query.from_symbol.as_deref() != Some(symbol) {
                span.after = None;
            }
            history.find((query.target.kind, symbol), &span, until_ns, max, about, &mut found);
            ends.push((symbol, found.len().min(query.limit)));
            if found.len() == max {
                break;
            }
        }
        let last = found.get(query.limit - 1..).filter(|rest| rest.len() == 2);
        last.map(|rest| {
            let (place, next) = (history.place_of(&rest[0]), history.place_of(&rest[1]));
            let symbol = ends.iter().find(|(_, end)| *end >= query.limit).map_or("", |(s, _)| *s);
            write_token(query.target.kind, symbol, &place, place.ties(&next))
        })
    };
    found.truncate(query.limit);
    let rows = found.len();
    Page { body: write(query, &found, &ends, token.as_deref()), rows }
}

/// The symbols whose rows the page may hold; news is one table, under none.
fn tables(query: &Query) -> Vec<&str> {
    if query.target.kind == Kind::News {
        return vec![""];
    }
    let from = query.from_symbol.as_deref();
    query.symbols.iter().map(String::as_str).filter(|s| from.is_none_or(|f| *s >= f)).collect()
}

fn write(query: &Query, found: &[Found], ends: &[(&str, usize)], token: Option<&str>) -> Vec<u8> {
    let mut body = Vec::with_capacity(256 + found.iter().map(|f| f.json().len()).sum::<usize>());
    let word = query.target.kind.word();
    body.push(b'{');
    if let Some(symbol) = &query.target.single {
        push_member(&mut body, "symbol", &quoted(symbol));
        body.push(b',');
    }
    body.extend_from_slice(format!("\"{word}\":").as_bytes());
    let keyed = query.target.single.is_none() && query.target.kind != Kind::News;
    if keyed {
        body.push(b'{');
    }
    let (mut start, mut listed) = (0, false);
    for (symbol, end) in ends {
        let rows = &found[start..*end];
        start = *end;
        if keyed && rows.is_empty() {
            continue;
        }
        if std::mem::replace(&mut listed, true) {
            body.push(b',');
        }
        if keyed {
            body.extend_from_slice(format!("{}:", quoted(symbol)).as_bytes());
        }
        write_rows(&mut body, rows, query);
    }
    if keyed {
        body.push(b'}');
    } else if !listed {
        body.extend_from_slice(b"[]");
    }
    body.push(b',');
    push_member(&mut body, "next_page_token", &token.map_or("null".to_owned(), quoted));
    if let Some(currency) = &query.currency {
        body.push(b',');
        push_member(&mut body, "currency", &quoted(currency));
    }
    body.push(b'}');
    body
}

fn write_rows(body: &mut Vec<u8>, rows: &[Found], query: &Query) {
    body.push(b'[');
    for (index, row) in rows.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        // Whoever fills a reel has parsed its elements, so this cannot fail; an empty row would show it if it did.
        let fields = serde_json::from_slice(row.json()).unwrap_or_default();
        write_row(body, &fields, query);
    }
    body.push(b']');
}

fn write_row(body: &mut Vec<u8>, fields: &Fields<'_>, query: &Query) {
    let news = query.target.kind == Kind::News;
    body.push(b'{');
    let start = body.len();
    let at = fields.0.iter().filter(|(name, _)| *name == "\"t\"");
    let rest = fields.0.iter().filter(|(name, _)| !matches!(*name, "\"t\"" | "\"T\"" | "\"S\"" | "\"r\""));
    for (name, value) in at.chain(rest) {
        if body.len() > start {
            body.push(b',');
        }
        body.extend_from_slice(name.as_bytes());
        body.push(b':');
        let left_out = news && *name == "\"content\"" && !query.include_content;
        body.extend_from_slice(if left_out { b"\"\"" } else { value.as_bytes() });
    }
    if news {
        body.extend_from_slice(br#","images":[]"#);
    }
    body.push(b'}');
}

fn push_member(body: &mut Vec<u8>, name: &str, value: &str) {
    body.extend_from_slice(format!("\"{name}\":{value}").as_bytes());
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The members of an object as they stand in the text, quotes of the names included.
#[derive(Default)]
struct Fields<'a>(Vec<(&'a str, &'a str)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::with_capacity(16);
                while let Some((name, value)) = map.next_entry::<&RawValue, &RawValue>()? {
                    fields.push((name.get(), value.get()));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Members)
    }
}
