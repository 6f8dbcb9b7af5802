//! A record as one JSON object: what `ndjson` writes a line of, what brokers carry, and the `json` column of `parquet`.
//!
//! The message's fields have Alpaca's names, but those whose names differ in case only (`T` and `t`, `S` and `s`), which
//! many readers cannot tell apart: `type`, `symbol`, `ts`, `received_ts`. Fields that the message did not have are
//! absent. Written by hand: this is the path of every record.

use std::sync::Arc;

use alpaca_feed::message::{
    Bar, Code, Codec, Conditions, Event, Level, Overflow, Print, Quote, Trade, Unknown,
};
use alpaca_feed::symbol::Symbols;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::JobId;
use super::chunk::{Origin, Record};
use super::digits::{self, nine, number, put_cut, whole};
use super::key::{KeyWriter, letter};
use super::names::{Name, Names};

/// Writes records; remembers what it wrote last.
pub struct Encoder {
    names: Names,
    jobs: Arc<[Arc<str>]>,
    keys: KeyWriter,
    text: Text,
    key: Vec<u8>,
    envelope: Vec<u8>,
    envelope_of: Option<(JobId, Origin, u64)>,
}

impl Encoder {
    /// For these symbols, and these jobs by number.
    #[must_use]
    pub fn new(symbols: Arc<Symbols>, jobs: Arc<[Arc<str>]>) -> Self {
        let names = Names::new(symbols);
        Self {
            names,
            jobs,
            keys: KeyWriter::default(),
            text: Text::default(),
            key: Vec::new(),
            envelope: Vec::new(),
            envelope_of: None,
        }
    }

    /// The record's key, valid until the next call.
    pub fn key(&mut self, record: &Record<'_>) -> &str {
        let mut key = std::mem::take(&mut self.key);
        key.clear();
        self.put_key(&mut key, record);
        self.key = key;
        str::from_utf8(&self.key).unwrap_or_default()
    }

    /// Appends the record's key.
    pub(super) fn put_key(&mut self, out: &mut Vec<u8>, record: &Record<'_>) {
        let symbol = self.names.get(record.event.symbol());
        self.keys.write_of(out, record.event, symbol, record.ordinal);
    }

    /// Appends the name of the record's symbol.
    pub(super) fn put_symbol(&mut self, out: &mut Vec<u8>, record: &Record<'_>) {
        self.names.get(record.event.symbol()).put(out);
    }

    /// The name of a record's job.
    #[must_use]
    pub fn job(&self, record: &Record<'_>) -> &str {
        self.jobs.get(usize::from(record.job.0)).map_or("", |name| name)
    }

    /// The name of a record's symbol; empty where it has none.
    pub fn symbol(&mut self, record: &Record<'_>) -> &str {
        str::from_utf8(self.names.get(record.event.symbol()).as_bytes()).unwrap_or_default()
    }

    /// Appends the record as one object, without a line end.
    pub fn write(&mut self, out: &mut Vec<u8>, record: &Record<'_>, epoch: u64) {
        let event = record.event;
        let symbol = self.names.get(event.symbol());
        let text = &mut self.text;
        match letter(event).as_bytes() {
            [letter @ b'a'..=b'z'] => {
                let mut begin = *b"{\"type\":\"q\"";
                begin[9] = *letter;
                put(out, &begin);
            }
            _ => {
                put(out, b"{\"type\":");
                string(out, letter(event));
            }
        }
        if event.symbol().is_some() {
            put(out, b",\"symbol\":\"");
            name_of(out, symbol);
            out.push(b'"');
        }
        put(out, b",\"ts\":");
        text.time(out, event.ts());
        match received_ts(event) {
            Some(ts) => {
                put(out, b",\"received_ts\":");
                text.time(out, ts);
            }
            None => put(out, b",\"received_ts\":null"),
        }
        self.message(out, event);
        self.envelope(out, record, epoch);
        if let Some(seq) = record.seq {
            put(out, b",\"seq\":");
            whole(out, seq);
        }
        put(out, b",\"key\":\"");
        let begin = out.len();
        let symbol = self.names.get(event.symbol());
        self.keys.write_of(out, event, symbol, record.ordinal);
        // Only symbols, exchanges and unknown types can hold what must not stand in a text.
        if !(symbol.plain && matches!(event, Event::Quote(_) | Event::Bar(_))) && needs_escape(&out[begin..])
        {
            let key = out.split_off(begin);
            escape(out, &key);
        }
        put(out, b"\"}");
    }

    /// What is the same in record after record.
    fn envelope(&mut self, out: &mut Vec<u8>, record: &Record<'_>, epoch: u64) {
        let of = (record.job, record.origin, epoch);
        if self.envelope_of != Some(of) {
            self.envelope.clear();
            put(&mut self.envelope, b",\"job\":");
            string(&mut self.envelope, self.jobs.get(usize::from(record.job.0)).map_or("", |name| name));
            put(&mut self.envelope, b",\"origin\":\"");
            self.envelope.extend_from_slice(record.origin.as_str().as_bytes());
            put(&mut self.envelope, b"\",\"epoch\":");
            whole(&mut self.envelope, epoch);
            self.envelope_of = Some(of);
        }
        out.extend_from_slice(&self.envelope);
    }

    /// The fields of the message, each with a comma before it.
    fn message(&mut self, out: &mut Vec<u8>, event: &Event) {
        let text = &mut self.text;
        match event {
            Event::Trade(trade) => text.trade(out, trade),
            Event::WideTrade(wide) => {
                text.trade(out, &wide.compact);
                overflow(out, &wide.overflow);
            }
            Event::Quote(quote) => text.quote(out, quote),
            Event::WideQuote(wide) => {
                text.quote(out, &wide.compact);
                overflow(out, &wide.overflow);
            }
            Event::Bar(bar) => text.bar(out, bar),
            Event::Correction(c) => {
                field(out, "x", &c.exchange);
                text.print(out, ["oi", "op", "os", "oc"], &c.original);
                text.print(out, ["ci", "cp", "cs", "cc"], &c.corrected);
                field(out, "z", &c.tape);
            }
            Event::Cancel(c) => {
                text.id(out, "i", c.id);
                field(out, "x", &c.exchange);
                text.numbers(out, [("p", c.price), ("s", c.size)]);
                field(out, "a", &c.action);
                field(out, "z", &c.tape);
            }
            Event::Status(s) => {
                field(out, "sc", &s.status);
                field(out, "sm", &s.status_message);
                field(out, "rc", &s.reason);
                field(out, "rm", &s.reason_message);
                field(out, "z", &s.tape);
            }
            Event::Luld(l) => {
                text.numbers(out, [("u", l.up), ("d", l.down)]);
                field(out, "i", &l.indicator);
                field(out, "z", &l.tape);
            }
            Event::Imbalance(i) => {
                text.numbers(out, [("p", i.price)]);
                text.optional(out, [("ps", i.paired_shares), ("is", i.imbalance_shares)]);
                filled(out, "side", &i.side);
                filled(out, "at", &i.auction_type);
                field(out, "z", &i.tape);
            }
            Event::Orderbook(book) => {
                text.levels(out, "b", &book.bids);
                text.levels(out, "a", &book.asks);
                if book.reset {
                    put(out, b",\"r\":true");
                }
            }
            Event::Pricing(p) => {
                field(out, "x", &p.exchange);
                text.optional(out, [("ip", p.index_price), ("mp", p.mark_price)]);
                text.optional(out, [("fr", p.funding_rate), ("oi", p.open_interest)]);
                if let Some(ts) = p.next_funding_ts {
                    name(out, "ft");
                    text.time(out, ts);
                }
            }
            Event::News(n) => {
                text.id(out, "id", Some(n.id));
                for (field_name, value) in
                    [("headline", &n.headline), ("summary", &n.summary), ("author", &n.author)]
                {
                    field(out, field_name, value);
                }
                name(out, "created_at");
                text.time(out, n.created_ts);
                name(out, "updated_at");
                text.time(out, n.updated_ts);
                field(out, "url", &n.url);
                field(out, "content", &n.content);
                name(out, "symbols");
                let names = &mut self.names;
                list(out, &n.symbols, |out, symbol| {
                    out.push(b'"');
                    name_of(out, names.get(Some(*symbol)));
                    out.push(b'"');
                });
                field(out, "source", &n.source);
            }
            Event::Unknown(unknown) => raw(out, unknown),
        }
    }
}

/// When Alpaca received it, if told.
#[must_use]
pub(super) fn received_ts(event: &Event) -> Option<i64> {
    match event {
        Event::Trade(trade) => trade.received_ts,
        Event::Quote(quote) => quote.received_ts,
        Event::Bar(bar) => bar.received_ts,
        Event::WideTrade(wide) => wide.compact.received_ts,
        Event::WideQuote(wide) => wide.compact.received_ts,
        Event::Correction(correction) => correction.received_ts,
        Event::Cancel(cancel) => cancel.received_ts,
        Event::Status(status) => status.received_ts,
        Event::Luld(luld) => luld.received_ts,
        Event::Imbalance(imbalance) => imbalance.received_ts,
        Event::Pricing(pricing) => pricing.received_ts,
        Event::Orderbook(_) | Event::News(_) | Event::Unknown(_) => None,
    }
}

/// Messages as text.
struct Text {
    /// The second that was written last, and its time with any nanosecond, in quotes.
    second: i64,
    time: [u8; 32],
}

impl Default for Text {
    fn default() -> Self {
        Self { second: 0, time: *b"\"1970-01-01T00:00:00.000000000Z\"" }
    }
}

impl Text {
    /// RFC 3339 in UTC with nine digits after the point, so that text sorts as time does.
    #[inline]
    fn time(&mut self, out: &mut Vec<u8>, ts: i64) {
        let (second, nanoseconds) = (ts.div_euclid(1_000_000_000), ts.rem_euclid(1_000_000_000));
        if second != self.second {
            self.take_second(second);
        }
        self.time[21..30].copy_from_slice(&nine(nanoseconds as u32));
        put(out, &self.time);
    }

    /// Years of nanoseconds in 64 bits have four digits.
    #[cold]
    fn take_second(&mut self, second: i64) {
        let at = jiff::Timestamp::from_second(second).unwrap_or_default();
        for (byte, new) in self.time.iter_mut().zip(at.strftime("\"%Y-%m-%dT%H:%M:%S.").to_string().bytes()) {
            *byte = new;
        }
        self.second = second;
    }

    #[inline]
    fn numbers<const COUNT: usize>(&mut self, out: &mut Vec<u8>, numbers: [(&str, f64); COUNT]) {
        for (field, number) in numbers {
            name(out, field);
            digits::number(out, number);
        }
    }

    fn optional<const COUNT: usize>(&mut self, out: &mut Vec<u8>, numbers: [(&str, Option<f64>); COUNT]) {
        for (field, number) in numbers {
            if let Some(number) = number {
                self.numbers(out, [(field, number)]);
            }
        }
    }

    fn id(&mut self, out: &mut Vec<u8>, field: &str, id: Option<u64>) {
        if let Some(id) = id {
            name(out, field);
            whole(out, id);
        }
    }

    fn trade(&mut self, out: &mut Vec<u8>, trade: &Trade) {
        if let Some(id) = trade.id {
            put(out, b",\"i\":");
            whole(out, id);
        }
        self.code(out, b",\"x\":\"", trade.exchange);
        put(out, b",\"p\":");
        number(out, trade.price);
        put(out, b",\"s\":");
        number(out, trade.size);
        conditions(out, &trade.conditions);
        self.code(out, b",\"z\":\"", trade.tape);
        self.code(out, b",\"tks\":\"", trade.taker_side);
    }

    fn quote(&mut self, out: &mut Vec<u8>, quote: &Quote) {
        self.code(out, b",\"bx\":\"", quote.bid_exchange);
        put(out, b",\"bp\":");
        number(out, quote.bid_price);
        put(out, b",\"bs\":");
        number(out, quote.bid_size);
        self.code(out, b",\"ax\":\"", quote.ask_exchange);
        put(out, b",\"ap\":");
        number(out, quote.ask_price);
        put(out, b",\"as\":");
        number(out, quote.ask_size);
        conditions(out, &quote.conditions);
        self.code(out, b",\"z\":\"", quote.tape);
    }

    /// The field whose name and opening quote these are, if the message has it.
    #[inline]
    fn code<const LEN: usize>(&mut self, out: &mut Vec<u8>, begin: &[u8; LEN], code: Code) {
        let Some(letter) = one_letter(code) else {
            long_code(out, begin, code);
            return;
        };
        let mut text = [b'"'; 10];
        text[..LEN].copy_from_slice(begin);
        text[LEN] = letter;
        put_cut(out, &text, LEN + 2);
    }

    fn bar(&mut self, out: &mut Vec<u8>, bar: &Bar) {
        self.numbers(out, [("o", bar.open), ("h", bar.high), ("l", bar.low), ("c", bar.close)]);
        self.numbers(out, [("v", bar.volume), ("vw", bar.vwap)]);
        name(out, "n");
        whole(out, bar.trade_count);
    }

    fn print(&mut self, out: &mut Vec<u8>, [id, price, size, conditions]: [&str; 4], print: &Print) {
        self.id(out, id, print.id);
        self.numbers(out, [(price, print.price), (size, print.size)]);
        name(out, conditions);
        list(out, &print.conditions, |out, condition| string(out, condition));
    }

    fn levels(&mut self, out: &mut Vec<u8>, field: &str, levels: &[Level]) {
        name(out, field);
        list(out, levels, |out, level| {
            put(out, b"{\"p\":");
            number(out, level.price);
            put(out, b",\"s\":");
            number(out, level.size);
            out.push(b'}');
        });
    }
}

#[inline]
fn name(out: &mut Vec<u8>, field: &str) {
    put(out, b",\"");
    out.extend_from_slice(field.as_bytes());
    put(out, b"\":");
}

fn field(out: &mut Vec<u8>, field: &str, text: &str) {
    name(out, field);
    string(out, text);
}

fn filled(out: &mut Vec<u8>, name: &str, text: &str) {
    if !text.is_empty() {
        field(out, name, text);
    }
}

/// The only letter of a code, if it has one that stands in JSON as it is.
#[inline]
fn one_letter(code: Code) -> Option<u8> {
    let letter = code.bits() as u8;
    (code.bits() == u32::from(letter) && letter.is_ascii_alphanumeric()).then_some(letter)
}

fn long_code(out: &mut Vec<u8>, begin: &[u8], code: Code) {
    if !code.is_empty() {
        out.extend_from_slice(&begin[..begin.len() - 1]);
        string(out, code.as_str());
    }
}

#[inline]
fn name_of(out: &mut Vec<u8>, name: &Name) {
    if name.plain { name.put(out) } else { escape(out, name.as_bytes()) }
}

fn conditions(out: &mut Vec<u8>, conditions: &Conditions) {
    if conditions.is_empty() {
        return;
    }
    if let [letter] = conditions.as_str().as_bytes()
        && letter.is_ascii_alphanumeric()
    {
        put(out, &[b',', b'"', b'c', b'"', b':', b'[', b'"', *letter, b'"', b']']);
        return;
    }
    put(out, b",\"c\":");
    let mut before = b'[';
    for letter in conditions.as_str().bytes() {
        out.push(before);
        match letter {
            b'"' | b'\\' | 0..0x20 => string(out, char::from(letter).encode_utf8(&mut [0; 4])),
            _ => put(out, &[b'"', letter, b'"']),
        }
        before = b',';
    }
    out.push(b']');
}

/// What does not fit a flat message: conditions are a list, everything else is one text.
fn overflow(out: &mut Vec<u8>, overflow: &[Overflow]) {
    for Overflow { field: wire_name, texts } in overflow {
        if *wire_name == "c" {
            name(out, wire_name);
            list(out, texts, |out, text| string(out, text));
        } else if let Some(text) = texts.first() {
            field(out, wire_name, text);
        }
    }
}

fn raw(out: &mut Vec<u8>, unknown: &Unknown) {
    match unknown.codec {
        Codec::Json => {
            field(out, "codec", "json");
            field(out, "raw", &String::from_utf8_lossy(&unknown.raw));
        }
        Codec::MessagePack => {
            field(out, "codec", "msgpack");
            field(out, "raw", &BASE64.encode(&unknown.raw));
        }
    }
}

fn list<T>(out: &mut Vec<u8>, items: &[T], mut item: impl FnMut(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (index, one) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        item(out, one);
    }
    out.push(b']');
}

#[inline]
fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    if needs_escape(text.as_bytes()) {
        escape(out, text.as_bytes());
    } else {
        out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
}

/// A text of a length that the compiler knows, which makes it a few stores.
#[inline(always)]
fn put<const LEN: usize>(out: &mut Vec<u8>, text: &[u8; LEN]) {
    out.extend_from_slice(text);
}

/// Looks at every byte, which is faster than leaving at the first.
#[inline]
fn needs_escape(text: &[u8]) -> bool {
    text.iter().fold(false, |found, byte| found | (*byte < 0x20) | (*byte == b'"') | (*byte == b'\\'))
}

#[cold]
fn escape(out: &mut Vec<u8>, text: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in text {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            0..0x20 => {
                put(out, b"\\u00");
                out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
            }
            _ => out.push(*byte),
        }
    }
}

#[cfg(test)]
mod tests;
