//! The market-data messages of which there are few, in boxes.

use super::head::Head;
use super::key;
use super::names::Names;
use super::reader::{Fault, Reader, each_field, each_item};
use crate::message::{
    Cancel, Correction, Event, Imbalance, Level, Luld, News, Orderbook, Pricing, Print, Status, Unknown,
};

/// A trade correction, after its `T`.
pub(super) fn correction<'a, R: Reader<'a>>(
    reader: &mut R,
    items: R::Items,
    names: &mut Names,
) -> Result<Event, Fault> {
    let mut head = Head::default();
    let (mut exchange, mut tape) = (String::new(), String::new());
    let (mut original, mut corrected) = (Print::default(), Print::default());
    let (mut original_price, mut corrected_price) = (None, None);
    each_field(reader, items, |reader, key| {
        match key {
            key::X => exchange = reader.text()?,
            key::Z => tape = reader.text()?,
            key::OI => original.id = Some(reader.whole()?),
            key::OP => original_price = Some(reader.number()?),
            key::OS => original.size = reader.number()?,
            key::OC => original.conditions = texts(reader)?,
            key::CI => corrected.id = Some(reader.whole()?),
            key::CP => corrected_price = Some(reader.number()?),
            key::CS => corrected.size = reader.number()?,
            key::CC => corrected.conditions = texts(reader)?,
            _ => head.field(reader, key, names)?,
        }
        Ok(())
    })?;
    original.price = original_price.ok_or(Fault::Missing(key::OP))?;
    corrected.price = corrected_price.ok_or(Fault::Missing(key::CP))?;
    Ok(Event::Correction(Box::new(Correction {
        symbol: head.symbol()?,
        ts: head.ts()?,
        received_ts: head.received_ts,
        exchange,
        tape,
        original,
        corrected,
    })))
}

/// A cancelled trade, after its `T`.
pub(super) fn cancel<'a, R: Reader<'a>>(
    reader: &mut R,
    items: R::Items,
    names: &mut Names,
) -> Result<Event, Fault> {
    let mut head = Head::default();
    let (mut id, mut price, mut size) = (None, None, 0.0);
    let (mut exchange, mut action, mut tape) = (String::new(), String::new(), String::new());
    each_field(reader, items, |reader, key| {
        match key {
            key::I => id = Some(reader.whole()?),
            key::X => exchange = reader.text()?,
            key::P => price = Some(reader.number()?),
            key::S => size = reader.number()?,
            key::A => action = reader.text()?,
            key::Z => tape = reader.text()?,
            _ => head.field(reader, key, names)?,
        }
        Ok(())
    })?;
    Ok(Event::Cancel(Box::new(Cancel {
        symbol: head.symbol()?,
        ts: head.ts()?,
        received_ts: head.received_ts,
        id,
        exchange,
        price: price.ok_or(Fault::Missing(key::P))?,
        size,
        action,
        tape,
    })))
}

/// A trading status, after its `T`.
pub(super) fn status<'a, R: Reader<'a>>(
    reader: &mut R,
    items: R::Items,
    names: &mut Names,
) -> Result<Event, Fault> {
    let mut head = Head::default();
    let (mut status, mut status_message) = (None, String::new());
    let (mut reason, mut reason_message, mut tape) = (String::new(), String::new(), String::new());
    each_field(reader, items, |reader, key| {
        match key {
            key::SC => status = Some(reader.text()?),
            key::SM => status_message = reader.text()?,
            key::RC => reason = reader.text()?,
            key::RM => reason_message = reader.text()?,
            key::Z => tape = reader.text()?,
            _ => head.field(reader, key, names)?,
        }
        Ok(())
    })?;
    Ok(Event::Status(Box::new(Status {
        symbol: head.symbol()?,
        ts: head.ts()?,
        received_ts: head.received_ts,
        status: status.ok_or(Fault::Missing(key::SC))?,
        status_message,
        reason,
        reason_message,
        tape,
    })))
}

/// Limit bands, after their `T`.
pub(super) fn luld<'a, R: Reader<'a>>(
    reader: &mut R,
    items: R::Items,
    names: &mut Names,
) -> Result<Event, Fault> {
    let mut head = Head::default();
    let (mut up, mut down) = (None, None);
    let (mut indicator, mut tape) = (String::new(), String::new());
    each_field(reader, items, |reader, key| {
        match key {
            key::U => up = Some(reader.number()?),
            key::D => down = Some(reader.number()?),
            key::I => indicator = reader.text()?,
            key::Z => tape = reader.text()?,
            _ => head.field(reader, key, names)?,
        }
        Ok(())
    })?;
    Ok(Event::Luld(Box::new(Luld {
        symbol: head.symbol()?,
        ts: head.ts()?,
        received_ts: head.received_ts,
        up: up.ok_or(Fault::Missing(key::U))?,
        down: down.ok_or(Fault::Missing(key::D))?,
        indicator,
        tape,
    })))
}

/// An imbalance, after its `T`.
pub(super) fn imbalance<'a, R: Reader<'a>>(
    reader: &mut R,
    items: R::Items,
    names: &mut Names,
) -> Result<Event, Fault> {
    let mut head = Head::default();
    let (mut price, mut paired_shares, mut imbalance_shares) = (None, None, None);
    let (mut side, mut auction_type, mut tape) = (String::new(), String::new(), String::new());
    each_field(reader, items, |reader, key| {
        match key {
            key::P => price = Some(reader.number()?),
            key::PS => paired_shares = Some(reader.number()?),
            key::IS => imbalance_shares = Some(reader.number()?),
            key::SIDE => side = reader.text()?,
            key::AT => auction_type = reader.text()?,
            key::Z => tape = reader.text()?,
            _ => head.field(reader, key, names)?,
        }
        Ok(())
    })?;
    Ok(Event::Imbalance(Box::new(Imbalance {
        symbol: head.symbol()?,
        ts: head.ts()?,
        received_ts: head.received_ts,
        price: price.ok_or(Fault::Missing(key::P))?,
        paired_shares,
        imbalance_shares,
        side,
        auction_type,
        tape,
    })))
}

/// Levels of an order book, after their `T`.
pub(super) fn orderbook<'a, R: Reader<'a>>(
    reader: &mut R,
    items: R::Items,
    names: &mut Names,
) -> Result<Event, Fault> {
    let mut head = Head::default();
    let (mut bids, mut asks, mut reset) = (Vec::new(), Vec::new(), false);
    each_field(reader, items, |reader, key| {
        match key {
            key::B => bids = levels(reader)?,
            key::A => asks = levels(reader)?,
            key::R => reset = reader.boolean()?,
            _ => head.field(reader, key, names)?,
        }
        Ok(())
    })?;
    Ok(Event::Orderbook(Box::new(Orderbook { symbol: head.symbol()?, ts: head.ts()?, reset, bids, asks })))
}

fn levels<'a, R: Reader<'a>>(reader: &mut R) -> Result<Vec<Level>, Fault> {
    let mut levels = Vec::new();
    each_item(reader, |reader| {
        let items = reader.object()?;
        let (mut price, mut size) = (None, None);
        each_field(reader, items, |reader, key| {
            match key {
                key::P => price = Some(reader.number()?),
                key::S => size = Some(reader.number()?),
                _ => reader.skip()?,
            }
            Ok(())
        })?;
        // A size of 0 removes a level, so a missing one must not pass for it.
        let (price, size) = (price.ok_or(Fault::Missing(key::P))?, size.ok_or(Fault::Missing(key::S))?);
        levels.push(Level { price, size });
        Ok(())
    })?;
    Ok(levels)
}

/// Prices of a perpetual future, after their `T`.
pub(super) fn pricing<'a, R: Reader<'a>>(
    reader: &mut R,
    items: R::Items,
    names: &mut Names,
) -> Result<Event, Fault> {
    let mut head = Head::default();
    let mut exchange = String::new();
    let (mut index_price, mut mark_price, mut funding_rate) = (None, None, None);
    let (mut open_interest, mut next_funding_ts) = (None, None);
    each_field(reader, items, |reader, key| {
        match key {
            key::X => exchange = reader.text()?,
            key::IP => index_price = Some(reader.number()?),
            key::MP => mark_price = Some(reader.number()?),
            key::FR => funding_rate = Some(reader.number()?),
            key::OI => open_interest = Some(reader.number()?),
            key::FT => next_funding_ts = Some(reader.time()?),
            _ => head.field(reader, key, names)?,
        }
        Ok(())
    })?;
    Ok(Event::Pricing(Box::new(Pricing {
        symbol: head.symbol()?,
        ts: head.ts()?,
        received_ts: head.received_ts,
        exchange,
        index_price,
        mark_price,
        funding_rate,
        open_interest,
        next_funding_ts,
    })))
}

/// An article, after its `T`.
pub(super) fn news<'a, R: Reader<'a>>(
    reader: &mut R,
    items: R::Items,
    names: &mut Names,
) -> Result<Event, Fault> {
    let (mut id, mut created_ts, mut updated_ts) = (None, None, None);
    let (mut headline, mut summary, mut author) = (String::new(), String::new(), String::new());
    let (mut url, mut content, mut source) = (String::new(), String::new(), String::new());
    let mut symbols = Vec::new();
    each_field(reader, items, |reader, key| {
        match key {
            key::ID => id = Some(reader.whole()?),
            key::HEADLINE => headline = reader.text()?,
            key::SUMMARY => summary = reader.text()?,
            key::AUTHOR => author = reader.text()?,
            key::CREATED_AT => created_ts = Some(reader.time()?),
            key::UPDATED_AT => updated_ts = Some(reader.time()?),
            key::URL => url = reader.text()?,
            key::CONTENT => content = reader.text()?,
            key::SOURCE => source = reader.text()?,
            key::SYMBOLS => {
                symbols.clear();
                each_item(reader, |reader| {
                    symbols.push(names.id(&reader.bytes()?)?);
                    Ok(())
                })?;
            }
            _ => reader.skip()?,
        }
        Ok(())
    })?;
    let updated_ts = updated_ts.or(created_ts).ok_or(Fault::Missing(key::UPDATED_AT))?;
    Ok(Event::News(Box::new(News {
        updated_ts,
        created_ts: created_ts.unwrap_or(updated_ts),
        id: id.ok_or(Fault::Missing(key::ID))?,
        headline,
        summary,
        author,
        url,
        content,
        symbols,
        source,
    })))
}

/// A message of an unknown type that begins at `start`; symbol and time are read only where they have the usual shape.
pub(super) fn unknown<'a, R: Reader<'a>>(
    reader: &mut R,
    start: usize,
    names: &mut Names,
) -> Result<Event, Fault> {
    let (mut tag, mut symbol, mut ts) = (String::new(), None, None);
    reader.rewind(start);
    let items = reader.object()?;
    each_field(reader, items, |reader, key| {
        let value = reader.position();
        let read = match key {
            key::TAG => reader.text().map(|text| tag = text),
            key::SYMBOL => reader.bytes().and_then(|name| names.id(&name)).map(|id| symbol = Some(id)),
            key::T => reader.time().map(|time| ts = Some(time)),
            _ => return reader.skip(),
        };
        if read.is_err() {
            reader.rewind(value);
            reader.skip()?;
        }
        Ok(())
    })?;
    let raw = reader.frame()[start..reader.position()].into();
    Ok(Event::Unknown(Box::new(Unknown { tag, symbol, ts, codec: R::CODEC, raw })))
}

fn texts<'a, R: Reader<'a>>(reader: &mut R) -> Result<Vec<String>, Fault> {
    let mut texts = Vec::new();
    each_item(reader, |reader| {
        texts.push(reader.text()?);
        Ok(())
    })?;
    Ok(texts)
}
