//! What a cursor over a frame can do, whatever the codec: the messages are decoded once, over this.
//!
//! A cursor stands before a value whenever [`Reader::item`] or [`Reader::key`] said that there is one; each read takes
//! exactly that value. After a fault the cursor stands in the value that caused it, or at its end, and is of no use until
//! rewound.

use std::borrow::Cow;

use super::key::Key;
use super::usual::Usual;
use crate::message::Codec;

/// Why an element, or the rest of a frame, cannot be read.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("the frame ends too early")]
    Truncated,
    #[error("the frame is broken here")]
    Structure,
    #[error("more bytes after the frame's end")]
    Trailing,
    #[error("nested too deeply")]
    Depth,
    #[error("an array is expected")]
    NotArray,
    #[error("an object is expected")]
    NotObject,
    #[error("a text is expected")]
    NotText,
    #[error("a number is expected")]
    NotNumber,
    #[error("true or false is expected")]
    NotBoolean,
    #[error("a time is expected")]
    NotTime,
    #[error("no such date or time")]
    BadTime,
    #[error("the time does not fit 64-bit nanoseconds")]
    TimeRange,
    #[error("the number is not finite or out of range")]
    NumberRange,
    #[error("a number that is not negative is expected")]
    Negative,
    #[error("a whole number is expected")]
    NotWhole,
    #[error("the text is not UTF-8")]
    NotUtf8,
    #[error("a control character or an unknown escape in a text")]
    BadText,
    #[error("a symbol of 1 to 64 bytes is expected")]
    BadSymbol,
    #[error("the symbol table is full")]
    SymbolsFull,
    #[error("required field \"{0}\" is missing")]
    Missing(Key),
}

/// A cursor over one frame.
pub(super) trait Reader<'a>: Clone {
    /// The codec it reads.
    const CODEC: Codec;

    /// What is tried first.
    type Usual: Usual;

    /// How far an open array or object was read.
    type Items;

    /// The whole frame.
    fn frame(&self) -> &'a [u8];
    /// Bytes of the frame before the cursor.
    fn position(&self) -> usize;
    /// Puts the cursor back to an earlier position.
    fn rewind(&mut self, position: usize);
    /// Checks that nothing is left.
    fn end(&mut self) -> Result<(), Fault>;

    /// Whether an object comes next.
    fn at_object(&mut self) -> bool;
    /// Whether a text comes next.
    fn at_text(&mut self) -> bool;
    /// Takes a null, if it comes next.
    fn null(&mut self) -> bool;

    /// Enters an array.
    fn array(&mut self) -> Result<Self::Items, Fault>;
    /// Steps to the array's next value; false, and the array is left, when there is none.
    fn item(&mut self, items: &mut Self::Items) -> Result<bool, Fault>;
    /// Enters an object.
    fn object(&mut self) -> Result<Self::Items, Fault>;
    /// Steps to the object's next value; `None`, and the object is left, when there is none.
    fn key(&mut self, items: &mut Self::Items) -> Result<Option<Key>, Fault>;

    /// A text with its escapes resolved, not yet checked to be UTF-8.
    fn bytes(&mut self) -> Result<Cow<'a, [u8]>, Fault>;
    /// A finite number.
    fn number(&mut self) -> Result<f64, Fault>;
    /// A whole number that is not negative; one written as a float must be exact, so at most 2^53.
    fn whole(&mut self) -> Result<u64, Fault>;
    /// True or false.
    fn boolean(&mut self) -> Result<bool, Fault>;
    /// A time in nanoseconds since 1970 UTC.
    fn time(&mut self) -> Result<i64, Fault>;
    /// Any value, unread. Looks at the structure only, so it gets past values that no other method reads.
    fn skip(&mut self) -> Result<(), Fault>;

    /// A text to keep.
    fn text(&mut self) -> Result<String, Fault> {
        String::from_utf8(self.bytes()?.into_owned()).map_err(|_| Fault::NotUtf8)
    }
}

/// Hands every field of an open object that is not null to `field`, which must take or skip its value.
#[inline(always)]
pub(super) fn each_field<'a, R: Reader<'a>>(
    reader: &mut R,
    mut items: R::Items,
    mut field: impl FnMut(&mut R, Key) -> Result<(), Fault>,
) -> Result<(), Fault> {
    while let Some(key) = reader.key(&mut items)? {
        if !reader.null() {
            field(reader, key)?;
        }
    }
    Ok(())
}

/// Hands the reader to `item` at every value of an array that is not null.
#[inline(always)]
pub(super) fn each_item<'a, R: Reader<'a>>(
    reader: &mut R,
    mut item: impl FnMut(&mut R) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut items = reader.array()?;
    while reader.item(&mut items)? {
        if !reader.null() {
            item(reader)?;
        }
    }
    Ok(())
}

/// The whole number that a float stands for, if it does so exactly.
pub(super) fn whole_of(number: f64) -> Result<u64, Fault> {
    const EXACT_MAX: f64 = (1_u64 << f64::MANTISSA_DIGITS) as f64;
    match number {
        _ if !number.is_finite() || number > EXACT_MAX => Err(Fault::NumberRange),
        _ if number < 0.0 => Err(Fault::Negative),
        _ if number.fract() != 0.0 => Err(Fault::NotWhole),
        _ => Ok(number as u64),
    }
}
