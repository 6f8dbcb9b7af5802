//! Times as the wire writes them to nanoseconds since 1970 UTC; the calendar is the Gregorian one throughout.

use super::reader::Fault;

const NANOS: i64 = 1_000_000_000;

/// Nanoseconds of a time in seconds and nanoseconds; the latter must be below one second.
pub(super) fn from_parts(seconds: i64, nanos: u32) -> Result<i64, Fault> {
    if nanos >= 1_000_000_000 {
        return Err(Fault::BadTime);
    }
    // The first second of the range starts before it, so the product alone may not fit where the sum does.
    let total = i128::from(seconds) * i128::from(NANOS) + i128::from(nanos);
    i64::try_from(total).map_err(|_| Fault::TimeRange)
}

/// Nanoseconds of an RFC 3339 time such as `2026-10-06T14:30:00.123456789Z`.
///
/// Takes any number of fraction digits (those after the ninth are dropped), an offset such as `-05:00` for the `Z`,
/// small letters, and a space for the `T`. A second of 60 is refused.
#[inline]
pub(super) fn from_rfc3339(text: &[u8]) -> Result<i64, Fault> {
    let Some((head, tail)) = text.split_first_chunk::<19>() else { return Err(Fault::NotTime) };
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T' | b't' | b' ', h1, h2, b':', n1, n2, b':', s1, s2] =
        *head
    else {
        return Err(Fault::NotTime);
    };
    let year = pair(y1, y2)? * 100 + pair(y3, y4)?;
    let (month, day) = (pair(m1, m2)?, pair(d1, d2)?);
    let (hour, minute, second) = (pair(h1, h2)?, pair(n1, n2)?, pair(s1, s2)?);
    if !(1..=12).contains(&month) || day == 0 || day > days_in(year, month) {
        return Err(Fault::BadTime);
    }
    if hour > 23 || minute > 59 || second > 59 {
        return Err(Fault::BadTime);
    }
    let (nanos, zone) = fraction(tail)?;
    let seconds = days_since_1970(year, month, day) * 86_400 + i64::from(hour * 3600 + minute * 60 + second)
        - offset(zone)?;
    from_parts(seconds, nanos)
}

/// The minute that was read last, as text and in nanoseconds: nearly every time is in the same one as the time before.
#[derive(Debug, Default)]
pub(super) struct Minute {
    text: [u8; 16],
    ns: i64,
}

impl Minute {
    /// The start of a minute such as `2026-10-06T14:30`; none if it is not written so, or so near to an end of the range
    /// that a second of it may lie outside.
    #[inline(always)]
    pub(super) fn start(&mut self, text: &[u8; 16]) -> Option<i64> {
        if *text != self.text {
            self.read(text)?;
        }
        Some(self.ns)
    }

    #[cold]
    fn read(&mut self, text: &[u8; 16]) -> Option<()> {
        let mut whole = *b"....-..-..T..:..:00Z";
        whole[..16].copy_from_slice(text);
        let ns = from_rfc3339(&whole).ok()?;
        ns.checked_add(60 * NANOS)?;
        *self = Self { text: *text, ns };
        Some(())
    }
}

/// The number of two digits.
#[inline]
fn pair(tens: u8, ones: u8) -> Result<u32, Fault> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    if tens > 9 || ones > 9 {
        return Err(Fault::NotTime);
    }
    Ok(u32::from(tens * 10 + ones))
}

fn days_in(year: u32, month: u32) -> u32 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Counts in years that begin in March, so that the leap day is a year's last.
#[inline]
fn days_since_1970(year: u32, month: u32, day: u32) -> i64 {
    /// From 1 March of the year 0 to 1 January 1970.
    const TO_1970: i64 = 719_468;
    let (year, month) =
        if month > 2 { (i64::from(year), month - 3) } else { (i64::from(year) - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // Months from March come in fives of 31, 30, 31, 30 and 31 days, which this line meets exactly.
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + leap_days + i64::from(day_of_year) - TO_1970
}

/// The nanoseconds of an optional fraction, and what follows it.
#[inline]
fn fraction(tail: &[u8]) -> Result<(u32, &[u8]), Fault> {
    let [b'.', digits @ ..] = tail else { return Ok((0, tail)) };
    let len = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if len == 0 {
        return Err(Fault::NotTime);
    }
    let kept = len.min(9);
    let mut nanos = 0;
    for digit in &digits[..kept] {
        nanos = nanos * 10 + u32::from(digit - b'0');
    }
    const SCALE: [u32; 10] =
        [1_000_000_000, 100_000_000, 10_000_000, 1_000_000, 100_000, 10_000, 1_000, 100, 10, 1];
    Ok((nanos * SCALE[kept], &digits[len..]))
}

/// Seconds that a zone is ahead of UTC.
#[inline]
fn offset(zone: &[u8]) -> Result<i64, Fault> {
    let (sign, h1, h2, m1, m2) = match *zone {
        [b'Z' | b'z'] => return Ok(0),
        [b'+', h1, h2, b':', m1, m2] => (1, h1, h2, m1, m2),
        [b'-', h1, h2, b':', m1, m2] => (-1, h1, h2, m1, m2),
        _ => return Err(Fault::NotTime),
    };
    let (hours, minutes) = (pair(h1, h2)?, pair(m1, m2)?);
    if hours > 23 || minutes > 59 {
        return Err(Fault::BadTime);
    }
    Ok(sign * i64::from(hours * 3600 + minutes * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<i64, Fault>) {
        assert_eq!(from_rfc3339(text.as_bytes()), expected, "{text}");
    }

    #[test]
    fn every_number_of_fraction_digits_is_read_to_the_nanosecond() {
        let second = 1_760_034_191 * NANOS;
        check("2025-10-09T18:23:11Z", Ok(second));
        let digits = "123456789";
        for len in 1..=9 {
            let nanos: i64 = format!("{:0<9}", &digits[..len]).parse().unwrap_or_default();
            check(&format!("2025-10-09T18:23:11.{}Z", &digits[..len]), Ok(second + nanos));
        }
        check("2025-10-09T18:23:11.1234567899999Z", Ok(second + 123_456_789));
        check("2025-10-09T18:23:11.000000000Z", Ok(second));
    }

    #[test]
    fn offsets_and_other_spellings_mean_the_same_instant() {
        for text in [
            "2025-10-09T18:23:11Z",
            "2025-10-09t18:23:11z",
            "2025-10-09 18:23:11Z",
            "2025-10-09T18:23:11+00:00",
            "2025-10-09T18:23:11-00:00",
            "2025-10-09T14:23:11-04:00",
            "2025-10-10T00:08:11.000+05:45",
        ] {
            check(text, Ok(1_760_034_191 * NANOS));
        }
    }

    #[test]
    fn every_day_of_the_calendar_follows_the_one_before() {
        let mut days = -719_528; // 0000-01-01
        for year in 0..=9999 {
            for month in 1..=12 {
                for day in 1..=days_in(year, month) {
                    assert_eq!(days_since_1970(year, month, day), days, "{year}-{month}-{day}");
                    days += 1;
                }
            }
        }
        assert_eq!(days, 2_932_897); // 10000-01-01
    }

    #[test]
    fn the_ends_of_the_range_are_exact() {
        check("1677-09-21T00:12:43.145224192Z", Ok(i64::MIN));
        check("1677-09-21T00:12:43.145224191Z", Err(Fault::TimeRange));
        check("2262-04-11T23:47:16.854775807Z", Ok(i64::MAX));
        check("2262-04-11T23:47:16.854775808Z", Err(Fault::TimeRange));
        check("0000-01-01T00:00:00Z", Err(Fault::TimeRange));
        check("9999-12-31T23:59:59.999999999Z", Err(Fault::TimeRange));
        check("1969-12-31T23:59:59.999999999Z", Ok(-1));
        assert_eq!(from_parts(-9_223_372_037, 145_224_192), Ok(i64::MIN));
        assert_eq!(from_parts(i64::MAX, 0), Err(Fault::TimeRange));
        assert_eq!(from_parts(0, 1_000_000_000), Err(Fault::BadTime));
    }

    #[test]
    fn dates_and_times_that_do_not_exist_are_refused() {
        check("2024-02-29T00:00:00Z", Ok(1_709_164_800 * NANOS));
        check("2000-02-29T00:00:00Z", Ok(951_782_400 * NANOS));
        for text in [
            "2025-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2025-00-10T00:00:00Z",
            "2025-13-10T00:00:00Z",
            "2025-04-31T00:00:00Z",
            "2025-04-00T00:00:00Z",
            "2025-04-10T24:00:00Z",
            "2025-04-10T23:60:00Z",
            "2025-04-10T23:59:60Z",
            "2025-04-10T23:59:00+24:00",
            "2025-04-10T23:59:00-01:60",
        ] {
            check(text, Err(Fault::BadTime));
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "Z",
            "2025-10-09",
            "2025-10-09T18:23:11",
            "2025-10-09T18:23:11.Z",
            "2025-10-09T18:23:11.12",
            "2025-10-09T18:23:11.12x",
            "2025-10-09T18:23:11ZZ",
            "2025-10-09T18:23:11+0000",
            "2025-10-09T18:23:11+00",
            "2025/10/09T18:23:11Z",
            "2025-10-09_18:23:11Z",
            "2025-1-09T18:23:11Z0",
            "-025-10-09T18:23:11Z",
            "2025-10-09T1 :23:11Z",
            "1760034191",
        ] {
            check(text, Err(Fault::NotTime));
        }
    }
}
