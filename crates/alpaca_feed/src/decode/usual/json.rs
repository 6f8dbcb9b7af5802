//! The usual spelling in JSON: no space, no escape, no exponent. Eight bytes are looked at together.

use super::{Opened, Usual, take, word};
use crate::decode::names::Names;
use crate::decode::number::TENS;
use crate::decode::time::Minute;
use crate::message::Conditions;
use crate::symbol::SymbolId;

/// See the module.
pub(in crate::decode) struct Json;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Longest whole number whose digits fit 64 bits, whatever they are.
const DIGITS_MAX: usize = 19;

impl Usual for Json {
    #[inline(always)]
    fn open(rest: &mut &[u8]) -> Option<Opened> {
        let (head, behind) = rest.split_first_chunk::<8>()?;
        let [b'{', b'"', b'T', b'"', b':', b'"', tag, b'"'] = *head else { return None };
        *rest = behind;
        Some(Opened { tag, fields: 0 })
    }

    #[inline(always)]
    fn name<const N: usize>(rest: &mut &[u8], name: [u8; N]) -> Option<()> {
        // `,"` before it and `":` behind it, all in one word.
        let expected = 0x222c | word(name) << 16 | 0x3a22 << (8 * N + 16);
        let found = peek(rest)? & (u64::MAX >> (32 - 8 * N));
        *rest = &rest[N + 4..];
        (found == expected).then_some(())
    }

    #[inline(always)]
    fn symbol(rest: &mut &[u8], names: &Names) -> Option<SymbolId> {
        take(rest, *b"\"")?;
        let word = peek(rest)?;
        let quotes = word ^ (ONES * u64::from(b'"'));
        let quotes = quotes.wrapping_sub(ONES) & !quotes & HIGHS;
        if quotes == 0 {
            return None;
        }
        let len = quotes.trailing_zeros() / 8;
        let id = names.known(word & ((1 << (8 * len)) - 1))?;
        *rest = &rest[len as usize + 1..];
        Some(id)
    }

    #[inline(always)]
    fn letter(rest: &mut &[u8]) -> Option<u8> {
        let (text, behind) = rest.split_first_chunk::<3>()?;
        let [b'"', letter, b'"'] = *text else { return None };
        *rest = behind;
        is_plain(letter).then_some(letter)
    }

    #[inline(always)]
    fn letters(rest: &mut &[u8]) -> Option<Conditions> {
        take(rest, *b"[")?;
        let mut conditions = Conditions::default();
        loop {
            let (text, behind) = rest.split_first_chunk::<4>()?;
            let [b'"', letter, b'"', separator @ (b',' | b']')] = *text else { return None };
            *rest = behind;
            if !is_plain(letter) || !conditions.push_letter(letter) {
                return None;
            }
            if separator == b']' {
                return Some(conditions);
            }
        }
    }

    #[inline(always)]
    fn number(rest: &mut &[u8]) -> Option<f64> {
        let (whole, len) = digits(rest)?;
        if len == 0 {
            return None;
        }
        if rest.first() != Some(&b'.') {
            return Some(whole as f64);
        }
        *rest = &rest[1..];
        let (fraction, len) = digits(rest)?;
        let mantissa = whole * POWERS[len] + fraction;
        // Two exact numbers: one division rounds once and rightly.
        (len > 0 && mantissa < 1 << f64::MANTISSA_DIGITS).then(|| mantissa as f64 / TENS[len])
    }

    #[inline(always)]
    fn whole(rest: &mut &[u8]) -> Option<u64> {
        let (mut value, mut len) = (0_u64, 0);
        loop {
            let (part, more) = digits(rest)?;
            value = value.wrapping_mul(POWERS[more]).wrapping_add(part);
            len += more;
            if more < 8 {
                return (1..=DIGITS_MAX).contains(&len).then_some(value);
            }
        }
    }

    #[inline(always)]
    fn time(rest: &mut &[u8], minute: &mut Minute) -> Option<i64> {
        take(rest, *b"\"")?;
        let (text, behind) = rest.split_first_chunk::<16>()?;
        let start = minute.start(text)?;
        let ([b':', tens, ones], behind) = behind.split_first_chunk::<3>()? else { return None };
        let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
        if tens > 5 || ones > 9 {
            return None;
        }
        let seconds = i64::from(tens * 10 + ones);
        *rest = behind;
        let nanos = if rest.first() == Some(&b'.') { fraction(rest)? } else { 0 };
        take(rest, *b"Z\"")?;
        Some(start + seconds * 1_000_000_000 + nanos)
    }

    #[inline(always)]
    fn close(rest: &mut &[u8], _: &Opened, _: u8) -> Option<Option<i64>> {
        take(rest, *b"}").map(|()| None)
    }
}

const POWERS: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

#[inline(always)]
fn peek(rest: &[u8]) -> Option<u64> {
    rest.first_chunk().copied().map(u64::from_le_bytes)
}

/// Whether it stands for itself in a text.
#[inline(always)]
fn is_plain(letter: u8) -> bool {
    matches!(letter, b' '..=b'~') && letter != b'"' && letter != b'\\'
}

/// The number of up to eight digits, and how many there are. A ninth is left for whoever expects something else.
#[inline(always)]
fn digits(rest: &mut &[u8]) -> Option<(u64, usize)> {
    let digits = peek(rest)? ^ (ONES * u64::from(b'0'));
    // The lowest byte above 9; carries can reach only bytes above it.
    let others = (digits.wrapping_add(ONES * 0x76) | digits) & HIGHS;
    let len = others.trailing_zeros() as usize / 8;
    if len == 0 {
        return Some((0, 0));
    }
    *rest = &rest[len..];
    // Zeros in front instead of whatever followed; then neighbours are joined to pairs, fours and all eight.
    let ones = digits << (64 - 8 * len);
    let pairs = ones.wrapping_mul(10).wrapping_add(ones >> 8);
    const PAIR: u64 = 0x0000_00ff_0000_00ff;
    let high = (pairs & PAIR).wrapping_mul(100 + (1_000_000 << 32));
    let low = (pairs >> 16 & PAIR).wrapping_mul(1 + (10_000 << 32));
    Some((high.wrapping_add(low) >> 32, len))
}

/// As [`digits`], also where the frame ends before eight bytes do.
#[inline(always)]
fn last_digits(rest: &mut &[u8]) -> Option<(u64, usize)> {
    if rest.len() >= 8 {
        return digits(rest);
    }
    let mut padded = [0; 8];
    padded[..rest.len()].copy_from_slice(rest);
    let found = digits(&mut &padded[..])?;
    *rest = &rest[found.1..];
    Some(found)
}

/// The nanoseconds of a point and up to nine digits.
#[inline(always)]
fn fraction(rest: &mut &[u8]) -> Option<i64> {
    *rest = &rest[1..];
    let (eight, len) = last_digits(rest)?;
    const SCALE: [i64; 9] = [0, 100_000_000, 10_000_000, 1_000_000, 100_000, 10_000, 1_000, 100, 10];
    let nanos = eight.cast_signed() * SCALE[len];
    match rest.split_first() {
        Some((digit @ b'0'..=b'9', behind)) if len == 8 => {
            *rest = behind;
            Some(nanos + i64::from(digit - b'0'))
        }
        _ => (len > 0).then_some(nanos),
    }
}
