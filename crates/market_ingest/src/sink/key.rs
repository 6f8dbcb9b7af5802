//! The idempotency key of a record: the same for the same message of the venue, whether it came live or by REST, in
//! this process or another, from this build or the next.
//!
//! A trade with an id is known by symbol, exchange, id and day. Quotes have no id and do repeat, so they are told
//! apart by what they say and by an ordinal among equals, counted from 0 in each contiguous reading of the stream. The
//! union of several readings by key is then the maximum of each one's count, which is the truth where one of them is
//! complete. Neither the receipt time nor the origin enters a key: REST has no receipt time.
//!
//! A bar of a minute is known by its start. A revised or a daily one comes again and again with the same start, and by
//! the stream only, so it is known by what it says besides.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};
use std::mem;

use alpaca_feed::message::{BarSpan, Code, Conditions, Event, Level, Overflow, Print, Quote, Trade};
use jiff::tz::TimeZone;

use super::digits::{hexadecimal, nine, put_cut, whole};
use super::names::Name;

/// An equal of the last so many records that need ordinals is recognised; equals share their time, so they come close
/// together.
const EQUALS_KEPT: usize = 1 << 16;

/// Counts equal records in one contiguous reading of one job: a live stream, or one fetch.
#[derive(Clone, Debug, Default)]
pub struct Keyer {
    // Two generations: when the younger is full it becomes the elder, and what only the elder knew is forgotten.
    young: Seen,
    old: Seen,
}

type Seen = HashMap<u64, u32, BuildHasherDefault<Mixed>>;

/// Passes on a number that is a hash already.
#[derive(Debug, Default)]
struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl Keyer {
    /// How many equals of this event came before it in this reading; 0 for what is unique by itself.
    pub fn ordinal(&mut self, event: &Event) -> u32 {
        if !needs_ordinal(event) {
            return 0;
        }
        let mut identity = Content(content_hash(event));
        identity.word(event.symbol().map_or(u64::MAX, |symbol| u64::from(symbol.0)));
        identity.time(event.ts());
        if self.young.len() >= EQUALS_KEPT {
            // The elder's table is used again: no allocation once both are grown.
            mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        match self.young.entry(identity.0) {
            Entry::Occupied(mut count) => {
                *count.get_mut() += 1;
                *count.get()
            }
            Entry::Vacant(count) => *count.insert(self.old.get(&identity.0).map_or(0, |last| last + 1)),
        }
    }
}

fn needs_ordinal(event: &Event) -> bool {
    match event {
        Event::Trade(trade) => trade.id.is_none(),
        Event::WideTrade(wide) => wide.compact.id.is_none(),
        Event::Bar(_) | Event::News(_) => false,
        Event::Quote(_)
        | Event::WideQuote(_)
        | Event::Correction(_)
        | Event::Cancel(_)
        | Event::Status(_)
        | Event::Luld(_)
        | Event::Imbalance(_)
        | Event::Orderbook(_)
        | Event::Pricing(_)
        | Event::Unknown(_) => true,
    }
}

/// The venue's letter for the type of a message.
#[must_use]
pub fn letter(event: &Event) -> &str {
    match event {
        Event::Trade(_) | Event::WideTrade(_) => "t",
        Event::Quote(_) | Event::WideQuote(_) => "q",
        Event::Bar(bar) => match bar.span {
            BarSpan::Minute => "b",
            BarSpan::UpdatedMinute => "u",
            BarSpan::Day => "d",
        },
        Event::Correction(_) => "c",
        Event::Cancel(_) => "x",
        Event::Status(_) => "s",
        Event::Luld(_) => "l",
        Event::Imbalance(_) => "i",
        Event::Orderbook(_) => "o",
        Event::Pricing(_) => "p",
        Event::News(_) => "n",
        Event::Unknown(unknown) => &unknown.tag,
    }
}

/// Writes keys; remembers the day it last wrote.
pub struct KeyWriter {
    zone: TimeZone,
    /// Nanoseconds since 1970 at which the remembered day begins and ends.
    day: (i64, i64),
    day_text: String,
    /// The second that was written last, as ten digits.
    second: i64,
    second_text: [u8; 10],
}

impl Default for KeyWriter {
    fn default() -> Self {
        // Without a time zone database days are New York's standard days: still the same everywhere it is absent.
        let zone =
            TimeZone::get("America/New_York").unwrap_or_else(|_| TimeZone::fixed(jiff::tz::offset(-5)));
        Self { zone, day: (0, 0), day_text: String::new(), second: i64::MIN, second_text: [b'0'; 10] }
    }
}

impl KeyWriter {
    /// Appends the key of `event`, whose symbol has this name (empty where it has none).
    pub fn write(&mut self, out: &mut Vec<u8>, event: &Event, symbol: &str, ordinal: u32) {
        self.write_of(out, event, &Name::new(symbol), ordinal);
    }

    /// As [`Self::write`], of a name that is known.
    #[inline]
    pub(super) fn write_of(&mut self, out: &mut Vec<u8>, event: &Event, symbol: &Name, ordinal: u32) {
        if let Some((trade, id)) = event.trade().and_then(|trade| Some((trade, trade.id?))) {
            self.begin(out, "t", symbol);
            out.extend_from_slice(exchange(event, trade).as_bytes());
            out.push(b'|');
            whole(out, id);
            out.push(b'|');
            out.extend_from_slice(self.day(trade.ts).as_bytes());
            return;
        }
        match event {
            Event::Bar(bar) => {
                self.begin(out, letter(event), symbol);
                self.time(out, bar.ts);
                match bar.span {
                    // By REST it comes again and may say more: one key all the same.
                    BarSpan::Minute => {}
                    // Of one time there are many, each newer than the last, and none is the same message.
                    BarSpan::UpdatedMinute | BarSpan::Day => {
                        hash(out, event);
                    }
                }
            }
            Event::News(news) => {
                out.extend_from_slice(b"n|");
                whole(out, news.id);
                out.push(b'|');
                self.time(out, news.updated_ts);
            }
            Event::Trade(_)
            | Event::Quote(_)
            | Event::WideTrade(_)
            | Event::WideQuote(_)
            | Event::Correction(_)
            | Event::Cancel(_)
            | Event::Status(_)
            | Event::Luld(_)
            | Event::Imbalance(_)
            | Event::Orderbook(_)
            | Event::Pricing(_)
            | Event::Unknown(_) => {
                self.begin(out, letter(event), symbol);
                self.time(out, event.ts());
                hash(out, event);
                out.push(b'|');
                whole(out, ordinal.into());
            }
        }
    }

    fn begin(&self, out: &mut Vec<u8>, letter: &str, symbol: &Name) {
        match letter.as_bytes() {
            [letter] => out.extend_from_slice(&[*letter, b'|']),
            letters => out.extend_from_slice(&[letters, b"|"].concat()),
        }
        symbol.put(out);
        out.push(b'|');
    }

    /// Nanoseconds since 1970. From 2001 to 2286 seconds have ten digits.
    #[inline]
    fn time(&mut self, out: &mut Vec<u8>, ts: i64) {
        const SECOND: i64 = 1_000_000_000;
        let (second, part) = (ts.div_euclid(SECOND), ts.rem_euclid(SECOND));
        if second != self.second {
            if second < SECOND {
                out.extend_from_slice(ts.to_string().as_bytes());
                return;
            }
            for (digit, byte) in self.second_text.iter_mut().zip(second.to_string().bytes()) {
                *digit = byte;
            }
            self.second = second;
        }
        let mut text = [0; 19];
        text[..10].copy_from_slice(&self.second_text);
        text[10..].copy_from_slice(&nine(part as u32));
        put_cut(out, &text, text.len());
    }

    /// The calendar day of New York, `2026-11-25`.
    fn day(&mut self, ts: i64) -> &str {
        if ts < self.day.0 || ts >= self.day.1 {
            self.take_day(ts);
        }
        &self.day_text
    }

    #[cold]
    fn take_day(&mut self, ts: i64) {
        let nanoseconds = |at: jiff::Zoned| i64::try_from(at.timestamp().as_nanosecond()).ok();
        let Some(local) =
            jiff::Timestamp::from_nanosecond(ts.into()).ok().map(|at| at.to_zoned(self.zone.clone()))
        else {
            return;
        };
        let start = local.start_of_day().ok().and_then(nanoseconds);
        let end =
            local.tomorrow().ok().and_then(|tomorrow| tomorrow.start_of_day().ok()).and_then(nanoseconds);
        self.day_text = local.date().to_string();
        // Near the ends of time nothing is remembered.
        self.day = start.zip(end).unwrap_or((0, 0));
    }
}

/// The exchange in full, also where it does not fit the flat trade.
fn exchange<'a>(event: &'a Event, trade: &'a Trade) -> &'a str {
    if let Event::WideTrade(wide) = event
        && let Some(overflow) = wide.overflow.iter().find(|overflow| overflow.field == "x")
    {
        return overflow.texts.first().map_or("", String::as_str);
    }
    trade.exchange.as_str()
}

fn hash(out: &mut Vec<u8>, event: &Event) {
    let mut text = [b'|'; 17];
    text[1..].copy_from_slice(&hexadecimal(content_hash(event)));
    put_cut(out, &text, text.len());
}

/// A hash of all that the message says but symbol, time and receipt time; part of the contract, so it never changes.
#[must_use]
pub fn content_hash(event: &Event) -> u64 {
    let mut content = Content(0x2545_f491_4f6c_dd1d);
    content.text(letter(event));
    match event {
        Event::Trade(trade) => content.trade(trade),
        Event::WideTrade(wide) => {
            content.trade(&wide.compact);
            content.overflow(&wide.overflow);
        }
        Event::Quote(quote) => content.quote(quote),
        Event::WideQuote(wide) => {
            content.quote(&wide.compact);
            content.overflow(&wide.overflow);
        }
        Event::Bar(bar) => {
            content.numbers(&[bar.open, bar.high, bar.low, bar.close, bar.volume, bar.vwap]);
            content.word(bar.trade_count);
        }
        Event::Correction(correction) => {
            content.texts([&correction.exchange, &correction.tape]);
            content.print(&correction.original);
            content.print(&correction.corrected);
        }
        Event::Cancel(cancel) => {
            content.optional(cancel.id);
            content.numbers(&[cancel.price, cancel.size]);
            content.texts([&cancel.exchange, &cancel.action, &cancel.tape]);
        }
        Event::Status(status) => {
            content.texts([&status.status, &status.status_message, &status.reason]);
            content.texts([&status.reason_message, &status.tape]);
        }
        Event::Luld(luld) => {
            content.numbers(&[luld.up, luld.down]);
            content.texts([&luld.indicator, &luld.tape]);
        }
        Event::Imbalance(imbalance) => {
            content.numbers(&[imbalance.price]);
            content.optional(imbalance.paired_shares.map(bits));
            content.optional(imbalance.imbalance_shares.map(bits));
            content.texts([&imbalance.side, &imbalance.auction_type, &imbalance.tape]);
        }
        Event::Orderbook(book) => {
            content.word(u64::from(book.reset));
            content.levels(&book.bids);
            content.levels(&book.asks);
        }
        Event::Pricing(pricing) => {
            content.text(&pricing.exchange);
            for price in
                [pricing.index_price, pricing.mark_price, pricing.funding_rate, pricing.open_interest]
            {
                content.optional(price.map(bits));
            }
            content.optional(pricing.next_funding_ts.map(i64::cast_unsigned));
        }
        Event::News(news) => content.word(news.id),
        Event::Unknown(unknown) => content.bytes(&unknown.raw),
    }
    content.0
}

/// Minus zero is zero.
fn bits(number: f64) -> u64 {
    (number + 0.0).to_bits()
}

/// At most eight bytes, the first lowest.
#[inline]
fn short(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// A hash in the making: each word is folded in by one wide multiplication.
struct Content(u64);

impl Content {
    #[inline]
    fn word(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product as u64) ^ ((product >> 64) as u64).wrapping_add(0xa076_1d64_78bd_642f);
    }

    fn time(&mut self, ts: i64) {
        self.word(ts.cast_unsigned());
    }

    #[inline]
    fn numbers(&mut self, numbers: &[f64]) {
        for number in numbers {
            self.word(bits(*number));
        }
    }

    fn optional(&mut self, word: Option<u64>) {
        self.word(u64::from(word.is_some()));
        self.word(word.unwrap_or(0));
    }

    #[inline]
    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn texts<const COUNT: usize>(&mut self, texts: [&String; COUNT]) {
        for text in texts {
            self.text(text);
        }
    }

    /// A short text is one word with its length at the top; a longer one begins with its length, which no short one
    /// can be taken for.
    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        if bytes.len() < 8 {
            self.word(short(bytes) | (bytes.len() as u64) << 56);
            return;
        }
        self.word(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            self.word(short(chunk));
        }
    }

    /// As [`Self::bytes`] of each.
    #[inline]
    fn codes(&mut self, codes: [Code; 3]) {
        for code in codes {
            let len = u64::from((u32::BITS - code.bits().leading_zeros()).div_ceil(u8::BITS));
            self.word(u64::from(code.bits()) | len << 56);
        }
    }

    /// As [`Self::bytes`] of all.
    #[inline]
    fn conditions(&mut self, conditions: Conditions) {
        let len = conditions.len() as u64;
        if len < 8 {
            self.word(conditions.bits() | len << 56);
        } else {
            self.word(len);
            self.word(conditions.bits());
        }
    }

    #[inline]
    fn trade(&mut self, trade: &Trade) {
        self.optional(trade.id);
        self.numbers(&[trade.price, trade.size]);
        self.codes([trade.exchange, trade.tape, trade.taker_side]);
        self.conditions(trade.conditions);
    }

    #[inline]
    fn quote(&mut self, quote: &Quote) {
        self.numbers(&[quote.bid_price, quote.bid_size, quote.ask_price, quote.ask_size]);
        self.codes([quote.bid_exchange, quote.ask_exchange, quote.tape]);
        self.conditions(quote.conditions);
    }

    fn overflow(&mut self, overflow: &[Overflow]) {
        for Overflow { field, texts } in overflow {
            self.text(field);
            texts.iter().for_each(|text| self.text(text));
        }
    }

    fn print(&mut self, print: &Print) {
        self.optional(print.id);
        self.numbers(&[print.price, print.size]);
        self.word(print.conditions.len() as u64);
        print.conditions.iter().for_each(|condition| self.text(condition));
    }

    fn levels(&mut self, levels: &[Level]) {
        self.word(levels.len() as u64);
        for level in levels {
            self.numbers(&[level.price, level.size]);
        }
    }
}

#[cfg(test)]
mod tests;
