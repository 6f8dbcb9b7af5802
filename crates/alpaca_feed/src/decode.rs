//! Frames to messages, in both codecs, one element at a time.
//!
//! A frame is an array of objects, each with its type under `T`. The decoder is tolerant about form: keys come in any
//! order and unknown ones are skipped, null means missing, a number may be written as any kind of number, a lone object
//! is a frame of one. It is strict about values: one that is required and missing, or of the wrong kind or out of
//! range, makes its element malformed, never a guess. Of a key that comes twice the last value counts, though each must
//! be right; of `T` the first.
//!
//! Invariants: an element is appended whole or not at all; a malformed one is counted once and costs its neighbours
//! nothing; a frame whose structure breaks keeps what came before the break and counts one for all the rest. Nothing
//! panics, recurses or allocates by a length that the frame claims. Hot messages of known symbols allocate nothing.

mod control;
mod head;
mod hot;
mod json;
mod key;
mod msgpack;
mod names;
mod number;
mod rare;
mod reader;
mod time;
mod usual;

use std::sync::Arc;

use crate::message::{BarSpan, Batch, Codec, Malformed};
use crate::symbol::Symbols;
use json::Json;
use key::Key;
use msgpack::MessagePack;
use names::Names;
use reader::{Fault, Reader};

/// Longest sample of what could not be read, in characters.
const SAMPLE_CHARS_MAX: usize = 200;

/// Turns frames into messages; keeps what it learnt about symbols, so use one per connection or longer.
#[derive(Debug)]
pub struct Decoder {
    names: Names,
}

impl Decoder {
    /// A decoder that interns into `symbols`.
    #[must_use]
    pub fn new(symbols: Arc<Symbols>) -> Self {
        Self { names: Names::new(symbols) }
    }

    /// Appends the messages of `frame` to `batch` in wire order; never panics.
    ///
    /// The codec is that of the connection: JSON is taken from text and binary frames alike.
    pub fn decode(&mut self, codec: Codec, frame: &[u8], batch: &mut Batch) {
        match codec {
            Codec::Json => read_frame(Json::new(frame), &mut self.names, batch),
            Codec::MessagePack => read_frame(MessagePack::new(frame), &mut self.names, batch),
        }
    }
}

fn read_frame<'a, R: Reader<'a>>(mut reader: R, names: &mut Names, batch: &mut Batch) {
    let mut start = reader.position();
    let mut read_elements = || {
        if reader.at_object() {
            element_or_skip(&mut reader, names, batch)?;
        } else {
            let mut items = reader.array()?;
            while reader.item(&mut items)? {
                start = reader.position();
                element_or_skip(&mut reader, names, batch)?;
                start = reader.position();
            }
        }
        reader.end()
    };
    if let Err(fault) = read_elements() {
        report(&reader, start, fault, &mut batch.malformed);
    }
}

/// Reads one element; an `Err` means that not even its end can be found.
#[inline]
fn element_or_skip<'a, R: Reader<'a>>(
    reader: &mut R,
    names: &mut Names,
    batch: &mut Batch,
) -> Result<(), Fault> {
    let start = reader.position();
    let Err(fault) = element(reader, names, batch) else { return Ok(()) };
    let failed = reader.clone();
    reader.rewind(start);
    // The first fault tells more than that the frame broke somewhere behind it.
    reader.skip().map_err(|_| fault)?;
    report(&failed, start, fault, &mut batch.malformed);
    Ok(())
}

#[inline]
fn element<'a, R: Reader<'a>>(reader: &mut R, names: &mut Names, batch: &mut Batch) -> Result<(), Fault> {
    let start = reader.position();
    let frame = reader.frame();
    let mut rest = frame.get(start..).unwrap_or_default();
    if let Some(event) = usual::element::<R::Usual>(&mut rest, names) {
        batch.events.push(event);
        reader.rewind(frame.len() - rest.len());
        return Ok(());
    }
    let mut items = reader.object()?;
    let tag = if reader.key(&mut items)? == Some(key::TAG) {
        Key::pack(&reader.bytes()?)
    } else {
        reader.rewind(start);
        let tag = find_tag(&mut reader.clone())?;
        items = reader.object()?;
        tag
    };
    let event = match tag {
        key::Q => hot::quote(reader, items, names)?,
        key::T => hot::trade(reader, items, names)?,
        key::B => hot::bar(reader, items, names, BarSpan::Minute)?,
        key::U => hot::bar(reader, items, names, BarSpan::UpdatedMinute)?,
        key::D => hot::bar(reader, items, names, BarSpan::Day)?,
        key::C => rare::correction(reader, items, names)?,
        key::X => rare::cancel(reader, items, names)?,
        key::S => rare::status(reader, items, names)?,
        key::L => rare::luld(reader, items, names)?,
        key::I => rare::imbalance(reader, items, names)?,
        key::O => rare::orderbook(reader, items, names)?,
        key::P => rare::pricing(reader, items, names)?,
        key::N => rare::news(reader, items, names)?,
        key::SUCCESS | key::ERROR | key::SUBSCRIPTION => {
            batch.control.push(match tag {
                key::SUCCESS => control::success(reader, items)?,
                key::ERROR => control::error(reader, items)?,
                _ => control::subscription(reader, items)?,
            });
            return Ok(());
        }
        _ => {
            let unknown = rare::unknown(reader, start, names)?;
            batch.unknown += 1;
            unknown
        }
    };
    batch.events.push(event);
    Ok(())
}

/// The type of an element that does not begin with it.
#[cold]
fn find_tag<'a, R: Reader<'a>>(reader: &mut R) -> Result<Key, Fault> {
    let mut items = reader.object()?;
    while let Some(key) = reader.key(&mut items)? {
        if key == key::TAG {
            return Ok(Key::pack(&reader.bytes()?));
        }
        reader.skip()?;
    }
    Err(Fault::Missing(key::TAG))
}

/// Counts a fault of the element, or rest of the frame, that begins at `start`; the first one leaves a sample.
#[cold]
fn report<'a, R: Reader<'a>>(failed: &R, start: usize, fault: Fault, malformed: &mut Malformed) {
    malformed.count += 1;
    if malformed.sample.is_some() {
        return;
    }
    let (at, frame) = (failed.position(), failed.frame());
    let field = match field_at(failed, start) {
        Some(key) if !matches!(fault, Fault::Missing(_)) => format!("field \"{key}\": "),
        _ => String::new(),
    };
    // More bytes than the sample has room for are not worth converting: a frame may have megabytes.
    let shown = &frame[start.min(frame.len())..frame.len().min(start.saturating_add(SAMPLE_CHARS_MAX))];
    let shown = match R::CODEC {
        Codec::Json => String::from_utf8_lossy(shown).into_owned(),
        Codec::MessagePack => shown.escape_ascii().to_string(),
    };
    let sample = format!("{field}{fault}, at byte {at} of {}: {shown}", frame.len());
    malformed.sample = Some(sample.chars().take(SAMPLE_CHARS_MAX).collect());
}

/// The field, of the element that begins at `start`, in which a failed reader stands.
fn field_at<'a, R: Reader<'a>>(failed: &R, start: usize) -> Option<Key> {
    let mut reader = failed.clone();
    reader.rewind(start);
    let mut items = reader.object().ok()?;
    loop {
        let key = reader.key(&mut items).ok()??;
        if reader.skip().is_err() || reader.position() >= failed.position() {
            return Some(key);
        }
    }
}
