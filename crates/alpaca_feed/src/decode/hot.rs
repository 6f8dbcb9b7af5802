//! Trades, quotes and bars: nearly all of the traffic, decoded without a heap.

use super::head::Head;
use super::key;
use super::names::Names;
use super::reader::{Fault, Reader, each_field, each_item};
use crate::message::{Bar, BarSpan, Code, Conditions, Event, Overflow, Quote, Trade, Wide};

/// A trade, after its `T`.
#[inline(always)]
pub(super) fn trade<'a, R: Reader<'a>>(
    reader: &mut R,
    items: R::Items,
    names: &mut Names,
) -> Result<Event, Fault> {
    let mut head = Head::default();
    let mut texts = Texts::default();
    let (mut id, mut price, mut size) = (None, None, 0.0);
    let (mut exchange, mut tape, mut taker_side) = (Code::default(), Code::default(), Code::default());
    let mut conditions = Conditions::default();
    each_field(reader, items, |reader, key| {
        match key {
            key::I => id = Some(reader.whole()?),
            key::X => exchange = texts.code(reader, "x")?,
            key::P => price = Some(reader.number()?),
            key::S => size = reader.number()?,
            key::C => conditions = texts.conditions(reader)?,
            key::Z => tape = texts.code(reader, "z")?,
            key::TKS => taker_side = texts.code(reader, "tks")?,
            _ => head.field(reader, key, names)?,
        }
        Ok(())
    })?;
    let trade = Trade {
        symbol: head.symbol()?,
        ts: head.ts()?,
        received_ts: head.received_ts,
        id,
        price: price.ok_or(Fault::Missing(key::P))?,
        size,
        exchange,
        tape,
        taker_side,
        conditions,
    };
    Ok(match texts.overflow {
        overflow if overflow.is_empty() => Event::Trade(trade),
        overflow => Event::WideTrade(Box::new(Wide { compact: trade, overflow })),
    })
}

/// A quote, after its `T`.
#[inline(always)]
pub(super) fn quote<'a, R: Reader<'a>>(
    reader: &mut R,
    items: R::Items,
    names: &mut Names,
) -> Result<Event, Fault> {
    let mut head = Head::default();
    let mut texts = Texts::default();
    let (mut bid_price, mut bid_size, mut ask_price, mut ask_size) = (None, 0.0, None, 0.0);
    let (mut bid_exchange, mut ask_exchange, mut tape) = (Code::default(), Code::default(), Code::default());
    let mut conditions = Conditions::default();
    each_field(reader, items, |reader, key| {
        match key {
            key::BX => bid_exchange = texts.code(reader, "bx")?,
            key::BP => bid_price = Some(reader.number()?),
            key::BS => bid_size = reader.number()?,
            key::AX => ask_exchange = texts.code(reader, "ax")?,
            key::AP => ask_price = Some(reader.number()?),
            key::AS => ask_size = reader.number()?,
            key::C => conditions = texts.conditions(reader)?,
            key::Z => tape = texts.code(reader, "z")?,
            _ => head.field(reader, key, names)?,
        }
        Ok(())
    })?;
    let quote = Quote {
        symbol: head.symbol()?,
        ts: head.ts()?,
        received_ts: head.received_ts,
        bid_price: bid_price.ok_or(Fault::Missing(key::BP))?,
        bid_size,
        ask_price: ask_price.ok_or(Fault::Missing(key::AP))?,
        ask_size,
        bid_exchange,
        ask_exchange,
        tape,
        conditions,
    };
    Ok(match texts.overflow {
        overflow if overflow.is_empty() => Event::Quote(quote),
        overflow => Event::WideQuote(Box::new(Wide { compact: quote, overflow })),
    })
}

/// A bar, after its `T`, which told the span.
#[inline(always)]
pub(super) fn bar<'a, R: Reader<'a>>(
    reader: &mut R,
    items: R::Items,
    names: &mut Names,
    span: BarSpan,
) -> Result<Event, Fault> {
    let mut head = Head::default();
    let (mut open, mut high, mut low, mut close) = (None, None, None, None);
    let (mut volume, mut vwap, mut trade_count) = (0.0, 0.0, 0);
    each_field(reader, items, |reader, key| {
        match key {
            key::O => open = Some(reader.number()?),
            key::H => high = Some(reader.number()?),
            key::L => low = Some(reader.number()?),
            key::C => close = Some(reader.number()?),
            key::V => volume = reader.number()?,
            key::VW => vwap = reader.number()?,
            key::N => trade_count = reader.whole()?,
            _ => head.field(reader, key, names)?,
        }
        Ok(())
    })?;
    Ok(Event::Bar(Bar {
        symbol: head.symbol()?,
        ts: head.ts()?,
        received_ts: head.received_ts,
        open: open.ok_or(Fault::Missing(key::O))?,
        high: high.ok_or(Fault::Missing(key::H))?,
        low: low.ok_or(Fault::Missing(key::L))?,
        close: close.ok_or(Fault::Missing(key::C))?,
        volume,
        vwap,
        trade_count,
        span,
    }))
}

/// The texts of one message that did not fit; each field has its last value only, as everywhere.
#[derive(Default)]
struct Texts {
    overflow: Vec<Overflow>,
}

impl Texts {
    #[inline(always)]
    fn code<'a, R: Reader<'a>>(&mut self, reader: &mut R, field: &'static str) -> Result<Code, Fault> {
        self.forget(field);
        let bytes = reader.bytes()?;
        if let [letter] = *bytes
            && let Some(code) = Code::from_ascii(letter)
        {
            return Ok(code);
        }
        let text = str::from_utf8(&bytes).map_err(|_| Fault::NotUtf8)?;
        Ok(Code::new(text).unwrap_or_else(|| {
            self.overflow.push(Overflow { field, texts: vec![text.into()] });
            Code::default()
        }))
    }

    /// A list of codes, or the one text that options have instead, which may be empty.
    #[inline]
    fn conditions<'a, R: Reader<'a>>(&mut self, reader: &mut R) -> Result<Conditions, Fault> {
        self.forget("c");
        let mut conditions = Conditions::default();
        let mut texts = Vec::new();
        let is_text = reader.at_text();
        let mut take = |reader: &mut R| {
            let bytes = reader.bytes()?;
            if let [letter] = *bytes
                && texts.is_empty()
                && conditions.push_letter(letter)
            {
                return Ok(());
            }
            let code = str::from_utf8(&bytes).map_err(|_| Fault::NotUtf8)?;
            if is_text && code.is_empty() {
                return Ok(());
            }
            if texts.is_empty() {
                texts.extend(conditions.iter().map(String::from));
            }
            texts.push(code.into());
            Ok(())
        };
        if is_text {
            take(reader)?;
        } else {
            each_item(reader, take)?;
        }
        if texts.is_empty() {
            return Ok(conditions);
        }
        self.overflow.push(Overflow { field: "c", texts });
        Ok(Conditions::default())
    }

    /// Drops what an earlier field of the same name left.
    #[inline]
    fn forget(&mut self, field: &str) {
        if !self.overflow.is_empty() {
            self.overflow.retain(|overflow| overflow.field != field);
        }
    }
}
