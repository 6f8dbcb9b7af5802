//! When a market is open, so that silence can be told from sleep.
//!
//! US stocks trade from 04:00 to 20:00 New York time on trading days, of which 09:30 to 16:00 is the regular session;
//! half days end at 13:00 and 17:00. Days follow the exchanges' rules of today (Juneteenth since 2022) and a table of
//! the closures that no rule gives. A closure that is not in it costs one false alarm, never a missed one.
//! Clocks change by the law of 2007.

use jiff::civil::{Date, Time, Weekday, date, time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

/// The clocks of New York, without a database of zones: what the law says, and nothing of before it.
const NEW_YORK: &str = "EST5EDT,M3.2.0,M11.1.0";

const OPENS: Time = time(4, 0, 0, 0);
const BELL: Time = time(9, 30, 0, 0);

/// Days on which the exchanges stayed closed for a reason of that day.
const CLOSED_ONCE: [Date; 4] = [date(2012, 10, 29), date(2012, 10, 30), date(2018, 12, 5), date(2025, 1, 9)];

/// Days without a session in a row at most, and more.
const HORIZON_DAYS: usize = 14;

/// Whose hours a feed keeps.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub enum Market {
    /// US stocks with their extended hours.
    UsStocks,
    /// US options: the regular session only.
    UsOptions,
    /// Never closed, such as crypto.
    Always,
    /// Whenever something happens, such as news: nothing may be expected of it.
    Never,
}

/// How busy a market is expected to be.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub enum Hours {
    /// Nothing is expected.
    Closed,
    /// Before the regular session: thin, and busier by the hour.
    Early,
    /// The regular session, and all of a market that never closes.
    Regular,
    /// After the regular session: thin, and quieter by the hour.
    Late,
}

/// The hours at some instant, and until when they last.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub struct Spell {
    /// Which.
    pub hours: Hours,
    /// The first instant of other hours; none if they never change.
    pub until: Option<Timestamp>,
}

impl Market {
    /// The hours at `at`.
    #[must_use]
    pub fn spell(self, at: Timestamp) -> Spell {
        match self {
            Self::Always => Spell { hours: Hours::Regular, until: None },
            Self::Never => Spell { hours: Hours::Closed, until: None },
            Self::UsStocks => spell(at, &|day| stock_hours(day).to_vec()),
            Self::UsOptions => spell(at, &|day| {
                let [_, bell, close, _] = stock_hours(day);
                vec![bell, (close.0, Hours::Closed)]
            }),
        }
    }
}

/// The spell of `at` in a market whose trading days change hours at these times.
fn spell(at: Timestamp, hours_of: &dyn Fn(Date) -> Vec<(Time, Hours)>) -> Spell {
    // The text is ours and tested; were it wrong, UTC would be four or five hours off.
    let zone = TimeZone::posix(NEW_YORK).unwrap_or(TimeZone::UTC);
    let local = at.to_zoned(zone.clone()).datetime();
    let mut hours = Hours::Closed;
    let days = std::iter::successors(Some(local.date()), |day| day.tomorrow().ok());
    for day in days.take(HORIZON_DAYS).filter(|day| is_trading_day(*day)) {
        for (from, then) in hours_of(day) {
            let edge = day.to_datetime(from);
            if edge > local {
                let until = zone.to_ambiguous_zoned(edge).compatible().ok().map(|edge| edge.timestamp());
                return Spell { hours, until };
            }
            hours = then;
        }
    }
    Spell { hours, until: None }
}

/// The edges of a trading day, in order.
fn stock_hours(day: Date) -> [(Time, Hours); 4] {
    let (close, end) = if is_half_day(day) { (13, 17) } else { (16, 20) };
    [
        (OPENS, Hours::Early),
        (BELL, Hours::Regular),
        (time(close, 0, 0, 0), Hours::Late),
        (time(end, 0, 0, 0), Hours::Closed),
    ]
}

/// Whether US stocks trade on this day.
#[must_use]
pub fn is_trading_day(day: Date) -> bool {
    !is_weekend(day) && !is_holiday(day) && !CLOSED_ONCE.contains(&day)
}

/// Whether the regular session of this trading day ends at 13:00: the eve of Independence Day and of Christmas, where
/// they are working days before a holiday, and the day after Thanksgiving.
#[must_use]
pub fn is_half_day(day: Date) -> bool {
    match (day.month(), day.day()) {
        (7, 3) => !is_weekend(date(day.year(), 7, 4)),
        (11, _) => day.yesterday().is_ok_and(|eve| is_nth(eve, 4, Weekday::Thursday)),
        (12, 24) => true,
        _ => false,
    }
}

fn is_weekend(day: Date) -> bool {
    matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday)
}

fn is_holiday(day: Date) -> bool {
    use Weekday::{Monday, Thursday};
    let year = day.year();
    match day.month() {
        // A New Year on Saturday is not kept on Friday: that is the last day of the books.
        1 => is_nth(day, 3, Monday) || day.day() == 1 || (day.day() == 2 && day.weekday() == Monday),
        2 => is_nth(day, 3, Monday),
        3 | 4 => easter(year).checked_sub(2.days()).is_ok_and(|friday| friday == day),
        5 => is_nth(day, -1, Monday),
        6 => year >= 2022 && is_kept(day, date(year, 6, 19)),
        7 => is_kept(day, date(year, 7, 4)),
        9 => is_nth(day, 1, Monday),
        11 => is_nth(day, 4, Thursday),
        12 => is_kept(day, date(year, 12, 25)),
        _ => false,
    }
}

fn is_nth(day: Date, nth: i8, weekday: Weekday) -> bool {
    day.nth_weekday_of_month(nth, weekday).is_ok_and(|found| found == day)
}

/// Whether a holiday is kept on `day`: on Friday if it falls on Saturday, on Monday if on Sunday.
fn is_kept(day: Date, holiday: Date) -> bool {
    let kept = match holiday.weekday() {
        Weekday::Saturday => holiday.yesterday(),
        Weekday::Sunday => holiday.tomorrow(),
        Weekday::Monday | Weekday::Tuesday | Weekday::Wednesday | Weekday::Thursday | Weekday::Friday => {
            Ok(holiday)
        }
    };
    kept.is_ok_and(|kept| kept == day)
}

/// Easter Sunday of the Gregorian calendar, by the anonymous algorithm of 1876.
fn easter(year: i16) -> Date {
    let golden = year % 19;
    let (century, rest) = (year / 100, year % 100);
    let moon = (century - (century + 8) / 25 + 1) / 3;
    let epact = (19 * golden + century - century / 4 - moon + 15) % 30;
    let weekday = (32 + 2 * (century % 4) + 2 * (rest / 4) - epact - rest % 4) % 7;
    let late = (golden + 11 * epact + 22 * weekday) / 451;
    let days = epact + weekday - 7 * late + 114;
    let (month, day) = (days / 31, days % 31 + 1);
    // March or April, and 1 to 31, by construction.
    date(year, i8::try_from(month).unwrap_or(4), i8::try_from(day).unwrap_or(1))
}

#[cfg(test)]
mod tests;
