//! How long records are on their way: a histogram of the time from a record's own time to its delivery to the sinks.
//!
//! Buckets are eight to a doubling, so that a quantile is at most an eighth too long; metrics show whole doublings. The
//! pump alone writes, a few stores a turn; readers may see a turn half.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Buckets to a doubling, as a power of two.
const FINE_BITS: u32 = 3;
const FINE: usize = 1 << FINE_BITS;
/// Doublings that are told apart: from 8 ns to more than an hour.
const DOUBLINGS: usize = 40;
const BUCKETS: usize = DOUBLINGS * FINE;
/// Metrics begin with what is at most this long, as a power of two in nanoseconds: 8 µs.
const SHOWN_FROM: u32 = 13;

/// The histogram. Cheap to clone: clones share it.
#[derive(Clone, Debug)]
pub struct Lags(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    buckets: [AtomicU64; BUCKETS],
    /// The bits of a float: whole nanoseconds of a delayed feed would not fit for a minute.
    sum_s: AtomicU64,
    max_ns: AtomicU64,
}

/// Quantiles in seconds; null before the first record.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, schemars::JsonSchema)]
pub struct Quantiles {
    /// Half of the records took no longer.
    pub p50_s: Option<f64>,
    /// 99 of 100 records took no longer.
    pub p99_s: Option<f64>,
    /// 999 of 1,000 records took no longer.
    pub p999_s: Option<f64>,
    /// The longest.
    pub max_s: Option<f64>,
}

impl Default for Lags {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self(Arc::new(Counts { buckets: std::array::from_fn(|_| zero()), sum_s: zero(), max_ns: zero() }))
    }
}

impl Lags {
    /// Counts so many records that took so many nanoseconds; a clock that is ahead of ours took none.
    pub fn record(&self, ns: i64, records: u64) {
        let ns = u64::try_from(ns).unwrap_or(0);
        self.0.buckets[bucket(ns)].fetch_add(records, Relaxed);
        let sum_s = f64::from_bits(self.0.sum_s.load(Relaxed)) + seconds(ns) * records as f64;
        self.0.sum_s.store(sum_s.to_bits(), Relaxed);
        self.0.max_ns.fetch_max(ns, Relaxed);
    }

    /// The whole since the start of the process.
    #[must_use]
    pub fn quantiles(&self) -> Quantiles {
        let counts = self.0.buckets.each_ref().map(|count| count.load(Relaxed));
        let total: u64 = counts.iter().sum();
        if total == 0 {
            return Quantiles::default();
        }
        let max_s = seconds(self.0.max_ns.load(Relaxed));
        let at = |share: f64| {
            let wanted = (total as f64 * share).ceil() as u64;
            let mut below = 0;
            let reached = counts.iter().position(|count| {
                below += count;
                below >= wanted
            });
            // The last bucket has no end.
            reached
                .map(|bucket| if bucket + 1 == BUCKETS { max_s } else { seconds(upper(bucket)).min(max_s) })
        };
        Quantiles { p50_s: at(0.5), p99_s: at(0.99), p999_s: at(0.999), max_s: Some(max_s) }
    }

    /// Sum in seconds, count, and how many took no longer than each limit, alone: as metrics want them.
    pub(crate) fn by_doubling(&self) -> (f64, u64, Vec<(f64, u64)>) {
        let mut shown = Vec::new();
        let mut since = 0;
        for (bucket, count) in self.0.buckets.iter().enumerate() {
            since += count.load(Relaxed);
            let limit = upper(bucket);
            let last = bucket + 1 == BUCKETS;
            if last || (limit.is_power_of_two() && limit >= 1 << SHOWN_FROM) {
                shown.push((if last { f64::MAX } else { seconds(limit) }, since));
                since = 0;
            }
        }
        (f64::from_bits(self.0.sum_s.load(Relaxed)), shown.iter().map(|(_, count)| count).sum(), shown)
    }
}

/// The bucket of a time: whole numbers first, then eight to a doubling, and the last takes all that is longer.
fn bucket(ns: u64) -> usize {
    if ns < FINE as u64 {
        return ns as usize;
    }
    let doubling = ns.ilog2() - FINE_BITS;
    let within = (ns >> doubling) as usize - FINE;
    ((doubling as usize + 1) * FINE + within).min(BUCKETS - 1)
}

/// The first time that is too long for the bucket.
fn upper(bucket: usize) -> u64 {
    if bucket < FINE {
        return bucket as u64 + 1;
    }
    let (doubling, within) = (bucket / FINE - 1, bucket % FINE);
    ((FINE + within + 1) as u64) << doubling
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_falls_below_the_end_of_its_bucket_and_not_below_the_one_before() {
        let mut times: Vec<u64> = (0..5_000).collect();
        times.extend((12..41).flat_map(|power| [(1 << power) - 1, 1 << power, (1 << power) + 1, 3 << power]));
        for ns in times {
            let own = bucket(ns);
            assert!(ns < upper(own), "{ns}");
            assert!(own == 0 || ns >= upper(own - 1), "{ns}");
            assert!(ns < 8 || upper(own) - ns <= ns.div_ceil(8), "{ns}: a bucket is an eighth wide at most");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_right_within_an_eighth_and_count_records() {
        let lags = Lags::default();
        assert_eq!(lags.quantiles(), Quantiles::default());
        for us in 1..=1000 {
            lags.record(us * 1_000, 10);
        }
        lags.record(-5, 1);
        let Quantiles { p50_s: Some(p50), p99_s: Some(p99), p999_s: Some(p999), max_s: Some(max) } =
            lags.quantiles()
        else {
            panic!("{:?}", lags.quantiles())
        };
        assert!((500e-6..=565e-6).contains(&p50), "{p50}");
        assert!((990e-6..=1e-3).contains(&p99) && p99 <= p999, "{p99} {p999}");
        assert_eq!(max, 1e-3);
    }

    #[test]
    fn a_day_of_a_delayed_feed_is_told_as_long_as_it_was() {
        let (lags, quarter_of_an_hour) = (Lags::default(), 900_000_000_000);
        for _ in 0..86_400 {
            lags.record(quarter_of_an_hour, 1_000_000);
        }
        assert_eq!(lags.by_doubling().0, 86_400e6 * 900.0);
        lags.record(100 * quarter_of_an_hour, 1_000_000_000_000);
        assert_eq!(lags.quantiles().p99_s, Some(90_000.0), "beyond the last bucket");
    }

    #[test]
    fn metrics_show_every_record_once_and_limits_that_grow() {
        let lags = Lags::default();
        for ns in [0, 9_000, 1_000_000, 20_000_000_000, i64::MAX] {
            lags.record(ns, 2);
        }
        let (_, count, shown) = lags.by_doubling();
        assert_eq!(count, 10);
        assert!(shown.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!((shown[0].1, shown[1].1), (2, 2), "below 8.2 µs and below 16.4 µs: {shown:?}");
        assert_eq!(shown.last().map(|(limit, count)| (*limit, *count)), Some((f64::MAX, 2)));
    }
}
