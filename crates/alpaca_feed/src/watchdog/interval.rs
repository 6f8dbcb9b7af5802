//! How long a channel is usually silent, and whether that has been watched for long enough to judge by it.
//!
//! The usual interval is a decaying maximum of the gaps seen: one long gap is remembered for about an hour of watched
//! time. A maximum, because gaps are bursty: on a day of real ticks the 99.9 % quantile of the gaps of a regular
//! session lies at a quarter of what comes every hour. The limit is [`FACTOR`] times that: within the regular session
//! of that day no gap reached 2.6 times what had been learned before, and outside it 3.7 times once a limit had been
//! watched for [`EVIDENCE_THIN`] times its own length. Without the latter, ratios above 10 occur: a thin market
//! falls silent for longer than ever before again and again.

use std::time::Duration;

use crate::calendar::Hours;

/// Gaps below it move no limit off a floor of a second or more, so they need not be known: nearly all are.
const GAP_MIN: Duration = Duration::from_millis(250);
/// From the learned interval to the limit.
pub(super) const FACTOR: u32 = 4;
/// Watched time in which a learned gap counts for half.
const HALF_LIFE: Duration = Duration::from_secs(3_600);
/// How many times its own limit a channel must have been watched before it is judged: in the regular session.
const EVIDENCE_BUSY: u32 = 2;
/// In extended hours, where gaps grow as the hours thin out.
const EVIDENCE_THIN: u32 = 8;

/// What was learned of one channel or symbol in one kind of hours.
#[derive(Copy, Clone, PartialEq, Default, Debug)]
pub(super) struct Interval {
    /// Time between messages seen, all together.
    watched: Duration,
    peak: Duration,
    /// `watched` when the peak was seen.
    peak_at: Duration,
}

impl Interval {
    /// Two messages came with this time between them.
    pub(super) fn learn(&mut self, gap: Duration) {
        self.watched += gap;
        if gap >= GAP_MIN && gap >= self.usual() {
            (self.peak, self.peak_at) = (gap, self.watched);
        }
    }

    /// A silence raised an alarm and ended. Were all of it taken for usual, the next mute feed would be found late; were
    /// nothing, a channel that has become quieter would raise alarms for ever. Half of the limit doubles it, at most.
    pub(super) fn learn_alarm(&mut self, silent: Duration, limit: Duration) {
        self.learn(silent.min(limit / 2));
    }

    /// The silence that is an alarm, `floor` at least; none while too little was watched to tell.
    pub(super) fn limit(&self, hours: Hours, floor: Duration) -> Option<Duration> {
        let limit = (self.usual() * FACTOR).max(floor);
        let evidence = match hours {
            Hours::Regular => EVIDENCE_BUSY,
            Hours::Early | Hours::Late => EVIDENCE_THIN,
            Hours::Closed => return None,
        };
        (self.watched >= limit * evidence).then_some(limit)
    }

    /// The learned interval as of now; zero where it is too short to matter.
    fn usual(&self) -> Duration {
        if self.peak.is_zero() {
            return Duration::ZERO;
        }
        let lives = (self.watched - self.peak_at).as_secs_f64() / HALF_LIFE.as_secs_f64();
        self.peak.mul_f64((-lives).exp2())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const FLOOR: Duration = Duration::from_secs(30);

    fn watched(gaps: &[(u32, u32)]) -> Interval {
        let mut interval = Interval::default();
        for (count, gap_s) in gaps {
            (0..*count).for_each(|_| interval.learn(SECOND * *gap_s));
        }
        interval
    }

    #[test]
    fn the_limit_is_four_times_the_longest_gap_and_never_below_thirty_seconds() {
        for (gaps, limit_s) in [
            (&[(60, 1)][..], 30),
            (&[(60, 7)], 30),
            (&[(1, 20), (200, 1)], 77),
            // After an hour half of the gap counts, after four hours a sixteenth.
            (&[(1, 40), (3_600, 1)], 80),
            (&[(1, 40), (14_400, 1)], 30),
        ] {
            let limit = watched(gaps).limit(Hours::Regular, FLOOR).unwrap();
            assert!(limit.abs_diff(SECOND * limit_s) <= SECOND, "{gaps:?}: {limit:?}");
        }
    }

    #[test]
    fn nothing_is_judged_before_it_was_watched_for_long_enough() {
        assert_eq!(watched(&[(59, 1)]).limit(Hours::Regular, FLOOR), None);
        assert_eq!(watched(&[(60, 1)]).limit(Hours::Regular, FLOOR), Some(FLOOR));
        assert_eq!(watched(&[(239, 1)]).limit(Hours::Early, FLOOR), None);
        assert_eq!(watched(&[(240, 1)]).limit(Hours::Late, FLOOR), Some(FLOOR));
        assert_eq!(watched(&[(10_000, 1)]).limit(Hours::Closed, FLOOR), None);
        assert_eq!(watched(&[(1, 300), (10, 1)]).limit(Hours::Early, FLOOR), None, "a long gap needs more");
    }

    #[test]
    fn an_alarm_at_most_doubles_the_limit() {
        let mut interval = watched(&[(100, 1)]);
        for limit_s in [60, 120, 240] {
            let limit = interval.limit(Hours::Regular, FLOOR).unwrap();
            interval.learn_alarm(SECOND * 3_600, limit);
            let evidence = watched(&[(100, 1)]).watched + SECOND * limit_s * 4;
            interval.watched = interval.watched.max(evidence);
            interval.peak_at = interval.watched;
            assert_eq!(interval.limit(Hours::Regular, FLOOR), Some(SECOND * limit_s));
        }
    }
}
