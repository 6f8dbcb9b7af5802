//! What the venue says, typed: market data as [`Event`]s, everything about the connection as [`Control`]s.
//!
//! Trades, quotes and bars, nearly all of the traffic, are flat `Copy` values without a heap. Rare kinds are boxed, so
//! that an [`Event`] is no bigger than a quote. Nothing that validly decodes is lost: a trade or quote whose texts do
//! not fit the flat shape comes as [`Wide`], a message of an unknown type as [`Unknown`] with its bytes.
//!
//! Units: prices and sizes are `f64` as the venue writes them (stock sizes are whole and exact up to 2^53; quote sizes
//! are shares on the stock streams since 2025-11-03, round lots before); times are `i64` nanoseconds since 1970 UTC,
//! `ts` by the market's clock and `received_ts` by Alpaca's, which only MessagePack carries and no document promises.
//! Times step back: the order of arrival is the only order.

mod compact;

pub use compact::{Code, Conditions};

use crate::subscription::Subscriptions;
use crate::symbol::SymbolId;

/// How the frames of a connection are written, in both directions.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub enum Codec {
    /// JSON; told by `Content-Type: application/json` at the upgrade. May come in text or binary frames.
    Json,
    /// MessagePack; told by `Content-Type: application/msgpack`. Comes in binary frames.
    MessagePack,
}

/// What one or more frames held; reused, so that a warm decoder allocates nothing for hot messages.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Batch {
    /// Market data in wire order.
    pub events: Vec<Event>,
    /// Messages about the connection in wire order.
    pub control: Vec<Control>,
    /// What could not be read.
    pub malformed: Malformed,
    /// How many of the events are [`Event::Unknown`].
    pub unknown: u64,
}

impl Batch {
    /// Empties it and keeps its capacity.
    pub fn clear(&mut self) {
        self.events.clear();
        self.control.clear();
        self.malformed = Malformed::default();
        self.unknown = 0;
    }
}

/// Elements that could not be read; a frame whose structure breaks counts once for all that follows the break.
#[derive(Clone, Eq, PartialEq, Default, Debug)]
pub struct Malformed {
    /// How many.
    pub count: u64,
    /// What was wrong with the first, where, and how it looked; at most 200 characters.
    pub sample: Option<String>,
}

/// One market-data message.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// `t`.
    Trade(Trade),
    /// `q`.
    Quote(Quote),
    /// `b`, `u` or `d`, told apart by [`Bar::span`].
    Bar(Bar),
    /// `t` with texts that do not fit a [`Trade`].
    WideTrade(Box<Wide<Trade>>),
    /// `q` with texts that do not fit a [`Quote`].
    WideQuote(Box<Wide<Quote>>),
    /// `c`.
    Correction(Box<Correction>),
    /// `x`.
    Cancel(Box<Cancel>),
    /// `s`.
    Status(Box<Status>),
    /// `l`.
    Luld(Box<Luld>),
    /// `i`.
    Imbalance(Box<Imbalance>),
    /// `o`.
    Orderbook(Box<Orderbook>),
    /// `p`.
    Pricing(Box<Pricing>),
    /// `n`.
    News(Box<News>),
    /// Any other `T`.
    Unknown(Box<Unknown>),
}

/// The kinds of [`Event`] by meaning, for counting and routing.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub enum Kind {
    /// A trade.
    Trade,
    /// A quote.
    Quote,
    /// A minute bar.
    Bar,
    /// A minute bar revised for late trades.
    UpdatedBar,
    /// The day so far.
    DailyBar,
    /// A trade replaced by another.
    Correction,
    /// A trade taken back.
    Cancel,
    /// A change of trading status.
    Status,
    /// Limit up, limit down bands.
    Luld,
    /// An order imbalance before an auction.
    Imbalance,
    /// Levels of an order book.
    Orderbook,
    /// Prices of a perpetual future.
    Pricing,
    /// A news article.
    News,
    /// A message of a type that is not known here.
    Unknown,
}

impl Event {
    /// What kind of message it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Trade(_) | Self::WideTrade(_) => Kind::Trade,
            Self::Quote(_) | Self::WideQuote(_) => Kind::Quote,
            Self::Bar(bar) => match bar.span {
                BarSpan::Minute => Kind::Bar,
                BarSpan::UpdatedMinute => Kind::UpdatedBar,
                BarSpan::Day => Kind::DailyBar,
            },
            Self::Correction(_) => Kind::Correction,
            Self::Cancel(_) => Kind::Cancel,
            Self::Status(_) => Kind::Status,
            Self::Luld(_) => Kind::Luld,
            Self::Imbalance(_) => Kind::Imbalance,
            Self::Orderbook(_) => Kind::Orderbook,
            Self::Pricing(_) => Kind::Pricing,
            Self::News(_) => Kind::News,
            Self::Unknown(_) => Kind::Unknown,
        }
    }

    /// The symbol; `None` for news, which lists several, and for an unknown message without a readable `S`.
    #[must_use]
    pub fn symbol(&self) -> Option<SymbolId> {
        match self {
            Self::Trade(trade) => Some(trade.symbol),
            Self::Quote(quote) => Some(quote.symbol),
            Self::Bar(bar) => Some(bar.symbol),
            Self::WideTrade(wide) => Some(wide.compact.symbol),
            Self::WideQuote(wide) => Some(wide.compact.symbol),
            Self::Correction(correction) => Some(correction.symbol),
            Self::Cancel(cancel) => Some(cancel.symbol),
            Self::Status(status) => Some(status.symbol),
            Self::Luld(luld) => Some(luld.symbol),
            Self::Imbalance(imbalance) => Some(imbalance.symbol),
            Self::Orderbook(orderbook) => Some(orderbook.symbol),
            Self::Pricing(pricing) => Some(pricing.symbol),
            Self::News(_) => None,
            Self::Unknown(unknown) => unknown.symbol,
        }
    }

    /// Nanoseconds since 1970 UTC by the market's clock: the start of a bar, the last change of an article, and 0 for
    /// an unknown message without a readable `t`.
    #[must_use]
    pub fn ts(&self) -> i64 {
        match self {
            Self::Trade(trade) => trade.ts,
            Self::Quote(quote) => quote.ts,
            Self::Bar(bar) => bar.ts,
            Self::WideTrade(wide) => wide.compact.ts,
            Self::WideQuote(wide) => wide.compact.ts,
            Self::Correction(correction) => correction.ts,
            Self::Cancel(cancel) => cancel.ts,
            Self::Status(status) => status.ts,
            Self::Luld(luld) => luld.ts,
            Self::Imbalance(imbalance) => imbalance.ts,
            Self::Orderbook(orderbook) => orderbook.ts,
            Self::Pricing(pricing) => pricing.ts,
            Self::News(news) => news.updated_ts,
            Self::Unknown(unknown) => unknown.ts.unwrap_or(0),
        }
    }

    /// The trade, also of the wide form.
    #[must_use]
    pub fn trade(&self) -> Option<&Trade> {
        if let Self::Trade(trade) = self {
            Some(trade)
        } else if let Self::WideTrade(wide) = self {
            Some(&wide.compact)
        } else {
            None
        }
    }

    /// The quote, also of the wide form.
    #[must_use]
    pub fn quote(&self) -> Option<&Quote> {
        if let Self::Quote(quote) = self {
            Some(quote)
        } else if let Self::WideQuote(wide) = self {
            Some(&wide.compact)
        } else {
            None
        }
    }
}

/// A trade (`t`) of any stream.
#[derive(Copy, Clone, PartialEq, Debug)]
pub struct Trade {
    /// Time of the trade.
    pub ts: i64,
    /// When Alpaca received it, if told.
    pub received_ts: Option<i64>,
    /// Unique only within symbol, exchange and day; options have none.
    pub id: Option<u64>,
    /// Price; always finite.
    pub price: f64,
    /// Size; 0 where the message had none.
    pub size: f64,
    /// Symbol.
    pub symbol: SymbolId,
    /// Exchange letter; an open set.
    pub exchange: Code,
    /// `A`, `B`, `C`, `N` or `O` on the stock streams; an open set.
    pub tape: Code,
    /// `B` or `S` on crypto, also `-`.
    pub taker_side: Code,
    /// Sale conditions.
    pub conditions: Conditions,
}

/// A quote (`q`) of any stream; a price of 0 means that the side is not active.
#[derive(Copy, Clone, PartialEq, Debug)]
pub struct Quote {
    /// Time of the quote.
    pub ts: i64,
    /// When Alpaca received it, if told.
    pub received_ts: Option<i64>,
    /// Bid price; always finite.
    pub bid_price: f64,
    /// Bid size; 0 where the message had none.
    pub bid_size: f64,
    /// Ask price; always finite.
    pub ask_price: f64,
    /// Ask size; 0 where the message had none.
    pub ask_size: f64,
    /// Symbol.
    pub symbol: SymbolId,
    /// Exchange of the bid.
    pub bid_exchange: Code,
    /// Exchange of the ask.
    pub ask_exchange: Code,
    /// Tape.
    pub tape: Code,
    /// One code for both sides, or two for bid and ask.
    pub conditions: Conditions,
}

/// What a [`Bar`] sums up.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub enum BarSpan {
    /// `b`: a minute.
    Minute,
    /// `u`: a minute, revised for late trades.
    UpdatedMinute,
    /// `d`: the day so far.
    Day,
}

/// A bar (`b`, `u`, `d`) of any stream.
#[derive(Copy, Clone, PartialEq, Debug)]
pub struct Bar {
    /// Start of the interval.
    pub ts: i64,
    /// When Alpaca received it, if told.
    pub received_ts: Option<i64>,
    /// First price.
    pub open: f64,
    /// Highest price.
    pub high: f64,
    /// Lowest price.
    pub low: f64,
    /// Last price.
    pub close: f64,
    /// Volume; 0 where the message had none.
    pub volume: f64,
    /// Volume-weighted average price, which may lie outside low to high; 0 where the message had none.
    pub vwap: f64,
    /// Number of trades; 0 where the message had none.
    pub trade_count: u64,
    /// Symbol.
    pub symbol: SymbolId,
    /// What it sums up.
    pub span: BarSpan,
}

/// A message with texts that do not fit its flat shape.
#[derive(Clone, PartialEq, Debug)]
pub struct Wide<T> {
    /// All that fits; fields of [`Self::overflow`] are empty here.
    pub compact: T,
    /// The fields that do not fit, in full.
    pub overflow: Vec<Overflow>,
}

/// A field that does not fit a flat message.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Overflow {
    /// The field's wire name.
    pub field: &'static str,
    /// Its texts: one, or all of a list.
    pub texts: Vec<String>,
}

/// A trade correction (`c`): `original` never counted, `corrected` does.
#[derive(Clone, PartialEq, Debug)]
pub struct Correction {
    /// Time of the correction.
    pub ts: i64,
    /// When Alpaca received it, if told.
    pub received_ts: Option<i64>,
    /// Symbol.
    pub symbol: SymbolId,
    /// Exchange letter.
    pub exchange: String,
    /// Tape.
    pub tape: String,
    /// What was reported.
    pub original: Print,
    /// What should have been.
    pub corrected: Print,
}

/// One side of a [`Correction`].
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Print {
    /// Trade id, if told.
    pub id: Option<u64>,
    /// Price.
    pub price: f64,
    /// Size; 0 where the message had none.
    pub size: f64,
    /// Sale conditions.
    pub conditions: Vec<String>,
}

/// A trade taken back (`x`).
#[derive(Clone, PartialEq, Debug)]
pub struct Cancel {
    /// Time of the cancellation.
    pub ts: i64,
    /// When Alpaca received it, if told.
    pub received_ts: Option<i64>,
    /// Symbol.
    pub symbol: SymbolId,
    /// Id of the trade, if told.
    pub id: Option<u64>,
    /// Exchange letter.
    pub exchange: String,
    /// Price of the trade.
    pub price: f64,
    /// Size of the trade; 0 where the message had none.
    pub size: f64,
    /// `C` cancelled or `E` error; an open set.
    pub action: String,
    /// Tape.
    pub tape: String,
}

/// A change of trading status (`s`); what the codes mean depends on the tape.
#[derive(Clone, PartialEq, Debug)]
pub struct Status {
    /// Time of the change.
    pub ts: i64,
    /// When Alpaca received it, if told.
    pub received_ts: Option<i64>,
    /// Symbol.
    pub symbol: SymbolId,
    /// Status code, such as `H`.
    pub status: String,
    /// The status in words.
    pub status_message: String,
    /// Reason code, such as `T12`.
    pub reason: String,
    /// The reason in words; may be empty.
    pub reason_message: String,
    /// Tape.
    pub tape: String,
}

/// Limit up, limit down bands (`l`).
#[derive(Clone, PartialEq, Debug)]
pub struct Luld {
    /// Time of the bands.
    pub ts: i64,
    /// When Alpaca received them, if told.
    pub received_ts: Option<i64>,
    /// Symbol.
    pub symbol: SymbolId,
    /// Upper band.
    pub up: f64,
    /// Lower band.
    pub down: f64,
    /// Indicator.
    pub indicator: String,
    /// Tape.
    pub tape: String,
}

/// An order imbalance (`i`); only the price is documented, the other fields are known from Alpaca's C# client.
#[derive(Clone, PartialEq, Debug)]
pub struct Imbalance {
    /// Time of the imbalance.
    pub ts: i64,
    /// When Alpaca received it, if told.
    pub received_ts: Option<i64>,
    /// Symbol.
    pub symbol: SymbolId,
    /// Reference price.
    pub price: f64,
    /// Shares paired (`ps`), if told.
    pub paired_shares: Option<f64>,
    /// Shares of the imbalance (`is`), if told.
    pub imbalance_shares: Option<f64>,
    /// Side; empty where the message had none.
    pub side: String,
    /// Type of the auction (`at`); empty where the message had none.
    pub auction_type: String,
    /// Tape.
    pub tape: String,
}

/// Levels of a crypto order book (`o`), to put into the book, or the whole book.
#[derive(Clone, PartialEq, Debug)]
pub struct Orderbook {
    /// Time of the change.
    pub ts: i64,
    /// Symbol.
    pub symbol: SymbolId,
    /// `r`: the levels are the whole book and replace what was known.
    pub reset: bool,
    /// Bids; a size of 0 removes the level.
    pub bids: Vec<Level>,
    /// Asks; a size of 0 removes the level.
    pub asks: Vec<Level>,
}

/// One level of an [`Orderbook`].
#[derive(Copy, Clone, PartialEq, Debug)]
pub struct Level {
    /// Price.
    pub price: f64,
    /// Size.
    pub size: f64,
}

/// Prices of a perpetual future (`p`).
#[derive(Clone, PartialEq, Debug)]
pub struct Pricing {
    /// Time of the prices.
    pub ts: i64,
    /// When Alpaca received them, if told.
    pub received_ts: Option<i64>,
    /// Symbol.
    pub symbol: SymbolId,
    /// Exchange.
    pub exchange: String,
    /// Index price (`ip`), if told.
    pub index_price: Option<f64>,
    /// Mark price (`mp`), if told.
    pub mark_price: Option<f64>,
    /// Funding rate (`fr`), if told.
    pub funding_rate: Option<f64>,
    /// Open interest (`oi`), if told.
    pub open_interest: Option<f64>,
    /// Time of the next funding (`ft`), if told.
    pub next_funding_ts: Option<i64>,
}

/// A news article (`n`).
#[derive(Clone, PartialEq, Debug)]
pub struct News {
    /// Time of the last change (`updated_at`, else `created_at`).
    pub updated_ts: i64,
    /// Time of the first publication (`created_at`, else `updated_at`).
    pub created_ts: i64,
    /// The article's number.
    pub id: u64,
    /// Headline.
    pub headline: String,
    /// Summary; may be empty.
    pub summary: String,
    /// Author.
    pub author: String,
    /// Address of the article.
    pub url: String,
    /// Text, possibly HTML; may be empty and may be megabytes.
    pub content: String,
    /// Symbols it is about.
    pub symbols: Vec<SymbolId>,
    /// Who wrote it.
    pub source: String,
}

/// A message of a type that is not known here, kept as it came.
#[derive(Clone, PartialEq, Debug)]
pub struct Unknown {
    /// Its `T`.
    pub tag: String,
    /// Its `S`, where it has a readable one.
    pub symbol: Option<SymbolId>,
    /// Its `t`, where it has a readable one.
    pub ts: Option<i64>,
    /// How `raw` is written.
    pub codec: Codec,
    /// The whole element.
    pub raw: Box<[u8]>,
}

/// A message about the connection; the venue sends each alone in its frame.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Control {
    /// The greeting.
    Connected,
    /// The credentials were taken.
    Authenticated,
    /// A success in other words, which these are.
    OtherSuccess(String),
    /// A refusal; act on the code, never on the text.
    Error {
        /// One of those in the protocol notes, or a new one.
        code: u16,
        /// For people.
        msg: String,
    },
    /// The full state of this connection's subscriptions, not a change of it.
    Subscription(Subscriptions),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_stays_the_size_of_a_quote() {
        assert!(size_of::<Event>() <= 96, "{}", size_of::<Event>());
    }

    #[test]
    fn a_cleared_batch_equals_a_new_one_and_keeps_its_capacity() {
        let mut batch = Batch::default();
        batch.control.push(Control::Connected);
        batch.malformed = Malformed { count: 2, sample: Some("x".into()) };
        batch.unknown = 1;
        batch.clear();
        assert_eq!(batch, Batch::default());
        assert!(batch.control.capacity() > 0);
    }
}
