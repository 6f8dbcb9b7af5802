//! Old data at full rate: event time that falls behind the clock.
//!
//! The lag itself says nothing: a replayed tape is years behind, `delayed_sip` a quarter of an hour. What counts is how
//! much it has grown above the least that was seen. Single late prints carry old times by nature, so each second is
//! judged by its newest event, and only several seconds in a row are a verdict.

use std::time::Duration;

/// Growth that is a verdict.
const GROWTH_LIMIT_NS: i64 = 10_000_000_000;
/// Growth below which it is over.
const GROWTH_OVER_NS: i64 = 5_000_000_000;
/// Consecutive looks with data that must agree.
const LOOKS: u8 = 5;
/// A step further than this is another tape, such as one that begins anew, and no lag.
const STEP_NS: i64 = 3_600_000_000_000;

/// The lag of a job's newest events.
#[derive(Clone, PartialEq, Default, Debug)]
pub(super) struct Lag {
    least_ns: Option<i64>,
    /// Of the newest event since the last look.
    sample_ns: Option<i64>,
    beyond: u8,
    lagging: bool,
}

/// What a look at the lag found.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Turn {
    Lagging(Duration),
    CaughtUp,
}

impl Lag {
    /// Events came whose newest was this much behind the clock.
    pub(super) fn sample(&mut self, lag_ns: i64) {
        self.sample_ns = Some(self.sample_ns.map_or(lag_ns, |least| least.min(lag_ns)));
    }

    /// Takes stock; call it about once a second.
    pub(super) fn look(&mut self) -> Option<Turn> {
        let lag_ns = self.sample_ns.take()?;
        let least_ns = self.least_ns.unwrap_or(lag_ns).min(lag_ns);
        let growth_ns = lag_ns.saturating_sub(least_ns);
        if growth_ns > STEP_NS {
            let was = self.lagging;
            *self = Self { least_ns: Some(lag_ns), ..Self::default() };
            return was.then_some(Turn::CaughtUp);
        }
        self.least_ns = Some(least_ns);
        self.beyond = if growth_ns > GROWTH_LIMIT_NS { self.beyond.saturating_add(1) } else { 0 };
        if !self.lagging && self.beyond >= LOOKS {
            self.lagging = true;
            return Some(Turn::Lagging(Duration::from_nanos(growth_ns.unsigned_abs())));
        }
        if self.lagging && growth_ns < GROWTH_OVER_NS {
            self.lagging = false;
            return Some(Turn::CaughtUp);
        }
        None
    }

    pub(super) fn is_lagging(&self) -> bool {
        self.lagging
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    /// The looks at which something was found, one a second, by these lags in seconds.
    fn looks(lags_s: impl IntoIterator<Item = i64>) -> Vec<(usize, bool)> {
        let mut lag = Lag::default();
        let turns = lags_s.into_iter().map(|lag_s| {
            lag.sample(lag_s * SECOND);
            lag.look()
        });
        turns.enumerate().filter_map(|(at, turn)| Some((at, turn? != Turn::CaughtUp))).collect()
    }

    #[test]
    fn growth_is_a_verdict_and_a_constant_lag_is_none_however_large() {
        let years = 400_000_000;
        assert_eq!(looks(std::iter::repeat_n(years, 1_000)), []);
        assert_eq!(looks((0..1_000).map(|n| years - 9 * n)), [], "a tape replayed at ten times its pace");
        assert_eq!(looks(0..100), [(15, true)], "no event time passes at all");
        assert_eq!(looks((0..100).map(|n| years + n / 2)), [(26, true)], "at half the pace");
        assert_eq!(looks((0..30).chain(0..9)), [(15, true), (30, false)], "over once it has caught up");
    }

    #[test]
    fn late_prints_between_fresh_events_are_no_lag_and_a_few_alone_are_none_either() {
        let mut lag = Lag::default();
        for _ in 0..100 {
            lag.sample(SECOND / 10);
            lag.sample(30 * SECOND);
            assert_eq!(lag.look(), None);
        }
        assert_eq!(looks([0, 30, 30, 30, 30, 0, 30, 30, 30, 30, 0]), []);
    }

    #[test]
    fn a_tape_that_begins_anew_is_no_lag() {
        let day = 57_600;
        assert_eq!(looks((0..50).map(|n| if n < 10 { 0 } else { day })), []);
    }
}
