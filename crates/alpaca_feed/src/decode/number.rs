//! Decimal numbers in JSON text to `f64`, correctly rounded.
//!
//! Market data has short numbers: a whole mantissa below 2^53 and a power of ten up to 10^22 are both exact, so one
//! division rounds once and rightly. Everything else goes through the standard library.

use super::reader::{Fault, whole_of};

/// Powers of ten that a double holds exactly.
pub(super) const TENS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// The finite number at the start of `text`, and how many bytes it takes.
#[inline(always)]
pub(super) fn number(text: &[u8]) -> Result<(f64, usize), Fault> {
    let negative = usize::from(text.first() == Some(&b'-'));
    let (mantissa, whole_end) = digits(text, negative, 0);
    if whole_end == negative {
        return Err(Fault::NotNumber);
    }
    let (mantissa, end, decimals) = if text.get(whole_end) == Some(&b'.') {
        let (mantissa, end) = digits(text, whole_end + 1, mantissa);
        (mantissa, end, end - whole_end - 1)
    } else {
        (mantissa, whole_end, 0)
    };
    let is_short = end - negative <= 19 && mantissa < 1 << f64::MANTISSA_DIGITS;
    let has_decimals = decimals > 0 || end == whole_end;
    if !is_short || !has_decimals || matches!(text.get(end), Some(b'e' | b'E')) {
        return long(text);
    }
    let size = mantissa as f64 / TENS[decimals];
    Ok((if negative == 1 { -size } else { size }, end))
}

/// The whole number at the start of `text`, and how many bytes it takes; see [`whole_of`] for floats.
pub(super) fn whole(text: &[u8]) -> Result<(u64, usize), Fault> {
    let (value, end) = digits(text, 0, 0);
    if end == 0 || end > 19 || matches!(text.get(end), Some(b'.' | b'e' | b'E')) {
        let end = long_end(text)?;
        let token = str::from_utf8(&text[..end]).map_err(|_| Fault::NotNumber)?;
        if token.bytes().all(|byte| byte.is_ascii_digit()) {
            return token.parse().map(|value| (value, end)).map_err(|_| Fault::NumberRange);
        }
        return Ok((whole_of(token.parse().map_err(|_| Fault::NotNumber)?)?, end));
    }
    Ok((value, end))
}

/// Adds the digits from `start` to `value`; beyond 19 of them the value is meaningless.
#[inline]
fn digits(text: &[u8], start: usize, mut value: u64) -> (u64, usize) {
    let mut end = start;
    while let Some(digit) = text.get(end).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit <= 9) {
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        end += 1;
    }
    (value, end)
}

#[cold]
fn long(text: &[u8]) -> Result<(f64, usize), Fault> {
    let end = long_end(text)?;
    let token = str::from_utf8(&text[..end]).map_err(|_| Fault::NotNumber)?;
    let number: f64 = token.parse().map_err(|_| Fault::NotNumber)?;
    if number.is_finite() { Ok((number, end)) } else { Err(Fault::NumberRange) }
}

/// Where a number with any of sign, decimals and exponent ends, each with at least one digit.
fn long_end(text: &[u8]) -> Result<usize, Fault> {
    let run = |start: usize| match digits(text, start, 0).1 {
        end if end > start => Ok(end),
        _ => Err(Fault::NotNumber),
    };
    let mut end = run(usize::from(text.first() == Some(&b'-')))?;
    if text.get(end) == Some(&b'.') {
        end = run(end + 1)?;
    }
    if matches!(text.get(end), Some(b'e' | b'E')) {
        end = run(end + 1 + usize::from(matches!(text.get(end + 1), Some(b'+' | b'-'))))?;
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(text: &str, expected: Result<(f64, usize), Fault>) {
        assert_eq!(number(text.as_bytes()), expected, "{text}");
    }

    #[test]
    fn numbers_end_where_their_grammar_does() {
        check("0", Ok((0.0, 1)));
        check("-0.5,", Ok((-0.5, 4)));
        check("172,\"bs\"", Ok((172.0, 3)));
        check("1.25}", Ok((1.25, 4)));
        check("1e3]", Ok((1000.0, 3)));
        check("1.5E-2 ", Ok((0.015, 6)));
        check("2e+2", Ok((200.0, 4)));
        for text in ["", "-", ".5", "1.", "1.e3", "1e", "1e+", "NaN", "Infinity", "-Infinity", "\"1\"", "+1"]
        {
            check(text, Err(Fault::NotNumber));
        }
        check("1e400", Err(Fault::NumberRange));
        check("-1e400", Err(Fault::NumberRange));
        check("1e-400", Ok((0.0, 6)));
    }

    #[test]
    fn every_number_is_rounded_as_the_standard_library_does() {
        let mut state = 7_u64;
        for round in 0..200_000_u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let value = state >> (round % 60);
            let text = match round % 4 {
                0 => format!("{value}"),
                1 => format!("{}.{:0width$}", value % 100_000, value, width = (round % 24) as usize),
                2 => format!("-0.{value:020}"),
                _ => format!("{value}.{value}e{}", (round % 80) as i64 - 40),
            };
            let expected: f64 = text.parse().unwrap();
            let (read, end) = number(text.as_bytes()).unwrap();
            assert_eq!((read.to_bits(), end), (expected.to_bits(), text.len()), "{text}");
        }
    }

    #[test]
    fn whole_numbers_are_exact_to_64_bits_and_never_rounded() {
        let check = |text: &str, expected| assert_eq!(whole(text.as_bytes()), expected, "{text}");
        check("0", Ok((0, 1)));
        check("52983525033527,", Ok((52_983_525_033_527, 14)));
        check("9007199254740993", Ok((9_007_199_254_740_993, 16)));
        check("9223372036854775809", Ok((9_223_372_036_854_775_809, 19)));
        check("18446744073709551615", Ok((u64::MAX, 20)));
        check("18446744073709551616", Err(Fault::NumberRange));
        check("99999999999999999999999", Err(Fault::NumberRange));
        check("5.0", Ok((5, 3)));
        check("1e3", Ok((1000, 3)));
        check("9007199254740992.0", Ok((1 << 53, 18)));
        check("9007199254740994.0", Err(Fault::NumberRange));
        check("1e400", Err(Fault::NumberRange));
        check("1.5", Err(Fault::NotWhole));
        check("-0", Ok((0, 2)));
        check("-1", Err(Fault::Negative));
        check("-1.0", Err(Fault::Negative));
        check("-9223372036854775809", Err(Fault::Negative));
        check("\"5\"", Err(Fault::NotNumber));
        check("-", Err(Fault::NotNumber));
    }
}
