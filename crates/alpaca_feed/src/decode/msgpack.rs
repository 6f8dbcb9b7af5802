//! The cursor over MessagePack (its specification, 2013 edition with the timestamp extension of 2017).
//!
//! Takes every width of a kind: numbers as any integer or float, texts as `str` or `bin`, times as extension -1 of 4, 8
//! or 12 bytes or as text. Lengths are believed only as far as the frame reaches; nothing is allocated for them.

use std::borrow::Cow;

use super::key::Key;
use super::reader::{Fault, Reader, whole_of};
use super::{time, usual};
use crate::message::Codec;

/// The extension type of times.
const EXT_TIME: u8 = 0xff;

/// A position in a frame of MessagePack.
#[derive(Clone, Debug)]
pub(super) struct MessagePack<'a> {
    frame: &'a [u8],
    at: usize,
}

/// How many values, or pairs, of an open array or object are left.
pub(super) struct Items {
    left: u32,
}

/// A number as it is written.
enum Number {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
}

impl<'a> MessagePack<'a> {
    pub(super) fn new(frame: &'a [u8]) -> Self {
        Self { frame, at: 0 }
    }

    #[inline(always)]
    fn peek(&self) -> Option<u8> {
        self.frame.get(self.at).copied()
    }

    /// The `N` bytes after the marker, which are taken with it.
    #[inline(always)]
    fn after_marker<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let rest = self.frame.get(self.at + 1..).unwrap_or_default();
        let bytes = rest.first_chunk::<N>().ok_or(Fault::Truncated)?;
        self.at += 1 + N;
        Ok(*bytes)
    }

    #[inline(always)]
    fn marker_only<T>(&mut self, value: T) -> Result<T, Fault> {
        self.at += 1;
        Ok(value)
    }

    #[inline(always)]
    fn u8(&mut self) -> Result<u8, Fault> {
        self.after_marker().map(u8::from_be_bytes)
    }

    #[inline(always)]
    fn u16(&mut self) -> Result<u16, Fault> {
        self.after_marker().map(u16::from_be_bytes)
    }

    #[inline(always)]
    fn u32(&mut self) -> Result<u32, Fault> {
        self.after_marker().map(u32::from_be_bytes)
    }

    #[inline(always)]
    fn u64(&mut self) -> Result<u64, Fault> {
        self.after_marker().map(u64::from_be_bytes)
    }

    /// The next `len` bytes.
    #[inline(always)]
    fn run(&mut self, len: usize) -> Result<&'a [u8], Fault> {
        let end = self.at.checked_add(len).ok_or(Fault::Truncated)?;
        let bytes = self.frame.get(self.at..end).ok_or(Fault::Truncated)?;
        self.at = end;
        Ok(bytes)
    }

    #[inline(always)]
    fn string(&mut self) -> Result<&'a [u8], Fault> {
        let len = match self.peek().ok_or(Fault::Truncated)? {
            marker @ 0xa0..=0xbf => self.marker_only(usize::from(marker & 0x1f))?,
            0xd9 | 0xc4 => usize::from(self.u8()?),
            0xda | 0xc5 => usize::from(self.u16()?),
            0xdb | 0xc6 => self.u32()? as usize,
            _ => return Err(Fault::NotText),
        };
        self.run(len)
    }

    #[inline(always)]
    fn any_number(&mut self) -> Result<Number, Fault> {
        Ok(match self.peek().ok_or(Fault::Truncated)? {
            0xcb => Number::Float(f64::from_bits(self.u64()?)),
            marker @ 0x00..=0x7f => self.marker_only(Number::Unsigned(u64::from(marker)))?,
            0xcc => Number::Unsigned(u64::from(self.u8()?)),
            0xcd => Number::Unsigned(u64::from(self.u16()?)),
            0xce => Number::Unsigned(u64::from(self.u32()?)),
            0xcf => Number::Unsigned(self.u64()?),
            0xca => Number::Float(f64::from(f32::from_bits(self.u32()?))),
            marker @ 0xe0..=0xff => self.marker_only(Number::Signed(i64::from(marker.cast_signed())))?,
            0xd0 => Number::Signed(i64::from(self.u8()?.cast_signed())),
            0xd1 => Number::Signed(i64::from(self.u16()?.cast_signed())),
            0xd2 => Number::Signed(i64::from(self.u32()?.cast_signed())),
            0xd3 => Number::Signed(self.u64()?.cast_signed()),
            _ => return Err(Fault::NotNumber),
        })
    }
}

/// The parts of an extension time: 4, 8 or 12 bytes.
fn ext_time(bytes: &[u8]) -> Result<i64, Fault> {
    if let Ok(seconds) = bytes.try_into() {
        return time::from_parts(i64::from(u32::from_be_bytes(seconds)), 0);
    }
    if let Ok(both) = bytes.try_into().map(u64::from_be_bytes) {
        // 30 bits of nanoseconds above 34 bits of seconds: neither cast cuts anything.
        return time::from_parts((both & ((1 << 34) - 1)) as i64, (both >> 34) as u32);
    }
    if let Some((nanos, seconds)) = bytes.split_first_chunk()
        && let Ok(seconds) = seconds.try_into()
    {
        return time::from_parts(i64::from_be_bytes(seconds), u32::from_be_bytes(*nanos));
    }
    Err(Fault::NotTime)
}

impl<'a> Reader<'a> for MessagePack<'a> {
    const CODEC: Codec = Codec::MessagePack;
    type Items = Items;
    type Usual = usual::msgpack::MessagePack;

    fn frame(&self) -> &'a [u8] {
        self.frame
    }

    #[inline]
    fn position(&self) -> usize {
        self.at
    }

    fn rewind(&mut self, position: usize) {
        self.at = position;
    }

    fn end(&mut self) -> Result<(), Fault> {
        if self.peek().is_some() { Err(Fault::Trailing) } else { Ok(()) }
    }

    fn at_object(&mut self) -> bool {
        matches!(self.peek(), Some(0x80..=0x8f | 0xde | 0xdf))
    }

    #[inline(always)]
    fn at_text(&mut self) -> bool {
        matches!(self.peek(), Some(0xa0..=0xbf | 0xd9..=0xdb | 0xc4..=0xc6))
    }

    #[inline(always)]
    fn null(&mut self) -> bool {
        let found = self.peek() == Some(0xc0);
        self.at += usize::from(found);
        found
    }

    #[inline]
    fn array(&mut self) -> Result<Items, Fault> {
        let left = match self.peek().ok_or(Fault::Truncated)? {
            marker @ 0x90..=0x9f => self.marker_only(u32::from(marker & 0x0f))?,
            0xdc => u32::from(self.u16()?),
            0xdd => self.u32()?,
            _ => return Err(Fault::NotArray),
        };
        Ok(Items { left })
    }

    #[inline]
    fn item(&mut self, items: &mut Items) -> Result<bool, Fault> {
        let more = items.left > 0;
        items.left -= u32::from(more);
        Ok(more)
    }

    #[inline]
    fn object(&mut self) -> Result<Items, Fault> {
        let left = match self.peek().ok_or(Fault::Truncated)? {
            marker @ 0x80..=0x8f => self.marker_only(u32::from(marker & 0x0f))?,
            0xde => u32::from(self.u16()?),
            0xdf => self.u32()?,
            _ => return Err(Fault::NotObject),
        };
        Ok(Items { left })
    }

    #[inline(always)]
    fn key(&mut self, items: &mut Items) -> Result<Option<Key>, Fault> {
        if items.left == 0 {
            return Ok(None);
        }
        items.left -= 1;
        if self.at_text() {
            return Ok(Some(Key::pack(self.string()?)));
        }
        self.skip()?;
        Ok(Some(Key::OTHER))
    }

    #[inline(always)]
    fn bytes(&mut self) -> Result<Cow<'a, [u8]>, Fault> {
        self.string().map(Cow::Borrowed)
    }

    #[inline(always)]
    fn number(&mut self) -> Result<f64, Fault> {
        match self.any_number()? {
            Number::Float(number) if !number.is_finite() => Err(Fault::NumberRange),
            Number::Float(number) => Ok(number),
            Number::Unsigned(number) => Ok(number as f64),
            Number::Signed(number) => Ok(number as f64),
        }
    }

    #[inline]
    fn whole(&mut self) -> Result<u64, Fault> {
        match self.any_number()? {
            Number::Unsigned(number) => Ok(number),
            Number::Signed(number) => u64::try_from(number).map_err(|_| Fault::Negative),
            Number::Float(number) => whole_of(number),
        }
    }

    fn boolean(&mut self) -> Result<bool, Fault> {
        match self.peek().ok_or(Fault::Truncated)? {
            marker @ (0xc2 | 0xc3) => self.marker_only(marker == 0xc3),
            _ => Err(Fault::NotBoolean),
        }
    }

    #[inline(always)]
    fn time(&mut self) -> Result<i64, Fault> {
        if self.at_text() {
            return time::from_rfc3339(self.string()?);
        }
        let len = match self.peek().ok_or(Fault::Truncated)? {
            0xd7 => self.marker_only(8)?,
            0xd6 => self.marker_only(4)?,
            0xc7 => usize::from(self.u8()?),
            0xc8 => usize::from(self.u16()?),
            0xc9 => self.u32()? as usize,
            _ => return Err(Fault::NotTime),
        };
        match self.run(1)? {
            [EXT_TIME] => ext_time(self.run(len)?),
            _ => Err(Fault::NotTime),
        }
    }

    fn skip(&mut self) -> Result<(), Fault> {
        // Counting the values still to come instead of recursing: no depth can exhaust the stack.
        let mut values = 1_u64;
        while values > 0 {
            values -= 1;
            let len = match self.peek().ok_or(Fault::Truncated)? {
                0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => self.marker_only(0)?,
                0x80..=0x8f | 0xde | 0xdf => {
                    values = values.saturating_add(2 * u64::from(self.object()?.left));
                    continue;
                }
                0x90..=0x9f | 0xdc | 0xdd => {
                    values = values.saturating_add(u64::from(self.array()?.left));
                    continue;
                }
                0xa0..=0xbf | 0xd9..=0xdb | 0xc4..=0xc6 => {
                    self.string()?;
                    continue;
                }
                0xc7 => usize::from(self.u8()?) + 1,
                0xc8 => usize::from(self.u16()?) + 1,
                0xc9 => self.u32()? as usize + 1,
                0xcc | 0xd0 => self.marker_only(1)?,
                0xcd | 0xd1 => self.marker_only(2)?,
                0xca | 0xce | 0xd2 => self.marker_only(4)?,
                0xcb | 0xcf | 0xd3 => self.marker_only(8)?,
                marker @ 0xd4..=0xd8 => self.marker_only((1 << (marker - 0xd4)) + 1)?,
                0xc1 => return Err(Fault::Structure),
            };
            self.run(len)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(bytes: &[u8]) -> Result<f64, Fault> {
        MessagePack::new(bytes).number()
    }

    fn whole(bytes: &[u8]) -> Result<u64, Fault> {
        MessagePack::new(bytes).whole()
    }

    #[test]
    fn every_width_of_a_number_is_read() {
        let cases: [(&[u8], f64, Result<u64, Fault>); 16] = [
            (&[0x00], 0.0, Ok(0)),
            (&[0x7f], 127.0, Ok(127)),
            (&[0xcc, 0xff], 255.0, Ok(255)),
            (&[0xcd, 1, 0], 256.0, Ok(256)),
            (&[0xce, 0, 1, 0, 0], 65_536.0, Ok(65_536)),
            (&[0xcf, 0, 0, 0, 1, 0, 0, 0, 0], 4_294_967_296.0, Ok(1 << 32)),
            (&[0xcf, 0x80, 0, 0, 0, 0, 0, 0, 1], 9_223_372_036_854_775_808.0, Ok((1 << 63) + 1)),
            (&[0xff], -1.0, Err(Fault::Negative)),
            (&[0xe0], -32.0, Err(Fault::Negative)),
            (&[0xd0, 0x80], -128.0, Err(Fault::Negative)),
            (&[0xd1, 0x7f, 0xff], 32_767.0, Ok(32_767)),
            (&[0xd2, 0xff, 0xff, 0xff, 0xfe], -2.0, Err(Fault::Negative)),
            (&[0xd3, 0, 0, 0, 0, 0, 0, 1, 0], 256.0, Ok(256)),
            (&[0xca, 0x3f, 0xc0, 0, 0], 1.5, Err(Fault::NotWhole)),
            (&[0xcb, 0x40, 0x14, 0, 0, 0, 0, 0, 0], 5.0, Ok(5)),
            (&[0xcb, 0xc0, 0x14, 0, 0, 0, 0, 0, 0], -5.0, Err(Fault::Negative)),
        ];
        for (bytes, float, integer) in cases {
            assert_eq!((number(bytes), whole(bytes)), (Ok(float), integer), "{bytes:x?}");
            for len in 0..bytes.len() {
                assert_eq!(number(&bytes[..len]), Err(Fault::Truncated), "{bytes:x?} cut at {len}");
            }
        }
    }

    #[test]
    fn numbers_that_are_none_are_refused() {
        for float in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut bytes = vec![0xcb];
            bytes.extend(float.to_be_bytes());
            assert_eq!((number(&bytes), whole(&bytes)), (Err(Fault::NumberRange), Err(Fault::NumberRange)));
        }
        assert_eq!(number(&[0xa1, b'1']), Err(Fault::NotNumber));
        assert_eq!(number(&[0xc0]), Err(Fault::NotNumber));
        assert_eq!(whole(&[0xcb, 0x43, 0xe0, 0, 0, 0, 0, 0, 0]), Err(Fault::NumberRange));
    }

    #[test]
    fn times_are_read_in_every_form() {
        let check = |bytes: &[u8], expected| {
            assert_eq!(MessagePack::new(bytes).time(), expected, "{bytes:x?}");
        };
        let ts64: [u8; 8] = ((123_456_789_u64 << 34) | 1_760_034_191).to_be_bytes();
        let with = |head: &[u8], tail: &[u8]| [head, tail].concat();
        check(&with(&[0xd6, 0xff], &1_760_034_191_u32.to_be_bytes()), Ok(1_760_034_191_000_000_000));
        check(&with(&[0xd7, 0xff], &ts64), Ok(1_760_034_191_123_456_789));
        check(&with(&[0xc7, 8, 0xff], &ts64), Ok(1_760_034_191_123_456_789));
        check(&with(&[0xc8, 0, 8, 0xff], &ts64), Ok(1_760_034_191_123_456_789));
        let ts96 = with(&1_u32.to_be_bytes(), &(-1_i64).to_be_bytes());
        check(&with(&[0xc7, 12, 0xff], &ts96), Ok(-999_999_999));
        check(&with(&[0xc9, 0, 0, 0, 12, 0xff], &ts96), Ok(-999_999_999));
        check(&with(&[0xb4], b"2025-10-09T18:23:11Z"), Ok(1_760_034_191_000_000_000));
        check(&with(&[0xd9, 24], b"2025-10-09T18:23:11.123Z"), Ok(1_760_034_191_123_000_000));
        check(&with(&[0xd7, 0xff], &[0xff; 8]), Err(Fault::BadTime));
        check(&with(&[0xc7, 12, 0xff], &with(&[0; 4], &i64::MAX.to_be_bytes())), Err(Fault::TimeRange));
        check(&with(&[0xd7, 0x01], &ts64), Err(Fault::NotTime));
        check(&with(&[0xc7, 5, 0xff], &[0; 5]), Err(Fault::NotTime));
        check(&[0xce, 0, 0, 0, 1], Err(Fault::NotTime));
        check(&[0xd7, 0xff, 0, 0], Err(Fault::Truncated));
    }

    #[test]
    fn texts_are_read_in_every_form() {
        let check = |head: &[u8]| {
            let bytes = [head, b"SPY"].concat();
            assert_eq!(MessagePack::new(&bytes).text().as_deref(), Ok("SPY"), "{head:x?}");
            assert_eq!(
                MessagePack::new(&bytes[..bytes.len() - 1]).text(),
                Err(Fault::Truncated),
                "{head:x?}"
            );
        };
        check(&[0xa3]);
        check(&[0xd9, 3]);
        check(&[0xda, 0, 3]);
        check(&[0xdb, 0, 0, 0, 3]);
        check(&[0xc4, 3]);
        check(&[0xc5, 0, 3]);
        check(&[0xc6, 0, 0, 0, 3]);
        assert_eq!(MessagePack::new(&[0xa1, 0xff]).text(), Err(Fault::NotUtf8));
        assert_eq!(MessagePack::new(&[0x01]).text(), Err(Fault::NotText));
    }

    #[test]
    fn skip_takes_exactly_one_value_of_every_kind() {
        let mut values: Vec<Vec<u8>> = vec![vec![0x05], vec![0xe1], vec![0xc0], vec![0xc2], vec![0xc3]];
        values.extend(
            [(0xcc, 1), (0xcd, 2), (0xce, 4), (0xcf, 8)].map(|(marker, len)| with_zeros(&[marker], len)),
        );
        values.extend(
            [(0xd0, 1), (0xd1, 2), (0xd2, 4), (0xd3, 8)].map(|(marker, len)| with_zeros(&[marker], len)),
        );
        values.extend([(0xca, 4), (0xcb, 8)].map(|(marker, len)| with_zeros(&[marker], len)));
        values.extend((0..5).map(|n| with_zeros(&[0xd4 + n], (1 << n) + 1)));
        values.extend([
            with_zeros(&[0xc7, 2], 3),
            with_zeros(&[0xc8, 0, 2], 3),
            with_zeros(&[0xc9, 0, 0, 0, 2], 3),
        ]);
        values.extend([with_zeros(&[0xa2], 2), with_zeros(&[0xd9, 2], 2), with_zeros(&[0xc5, 0, 2], 2)]);
        values.extend([
            with_zeros(&[0x92], 2),
            with_zeros(&[0xdc, 0, 2], 2),
            with_zeros(&[0xdd, 0, 0, 0, 2], 2),
        ]);
        values.extend([
            with_zeros(&[0x82], 4),
            with_zeros(&[0xde, 0, 2], 4),
            with_zeros(&[0xdf, 0, 0, 0, 2], 4),
        ]);
        values.push(vec![0x91, 0x81, 0xa1, b'k', 0x92, 0xc0, 0x90]);
        for value in values {
            let frame = [&value[..], &[0xc1]].concat();
            let mut reader = MessagePack::new(&frame);
            assert_eq!((reader.skip(), reader.position()), (Ok(()), value.len()), "{value:x?}");
            for len in 0..value.len() {
                assert_eq!(
                    MessagePack::new(&value[..len]).skip(),
                    Err(Fault::Truncated),
                    "{value:x?} cut at {len}"
                );
            }
        }
        assert_eq!(MessagePack::new(&[0xc1]).skip(), Err(Fault::Structure));
        assert_eq!(MessagePack::new(&[0x91; 100_000]).skip(), Err(Fault::Truncated));
        assert_eq!(MessagePack::new(&[0xdf, 0xff, 0xff, 0xff, 0xff]).skip(), Err(Fault::Truncated));
    }

    fn with_zeros(head: &[u8], zeros: usize) -> Vec<u8> {
        [head, &vec![0; zeros]].concat()
    }
}
