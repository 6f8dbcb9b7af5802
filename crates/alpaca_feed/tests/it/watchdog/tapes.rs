//! Real ticks as the clock: a whole day without a false alarm, and a mute feed found in time wherever it begins.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::*;
use crate::codec_data::recorded;

/// When something came, in nanoseconds of that day, with the channel and the symbol.
type Tick = (i64, Channel, u32);

const NAMES: [&str; 4] = ["AIG", "BAC", "IBM", "SPY"];
const DAY: &str = "2013-10-09T08:00:00Z";

/// The ticks of a recorded file, or a market as thin and as busy at the same times where it is absent.
fn ticks() -> Vec<Tick> {
    let Some(lines) = recorded("equities_ticks.ndjson.zst") else {
        return made_up();
    };
    let mut seconds = Seconds::default();
    lines
        .map(|line| {
            let channel = if line.contains(r#""T":"q""#) { Channel::Quotes } else { Channel::Trades };
            (seconds.ts(text(&line, r#""t":""#)), channel, symbol(text(&line, r#""S":""#)))
        })
        .collect()
}

/// The text between `key` and the next quotation mark.
fn text<'a>(line: &'a str, key: &str) -> &'a str {
    let begin = line.rfind(key).unwrap() + key.len();
    line[begin..].split('"').next().unwrap()
}

fn symbol(name: &str) -> u32 {
    u32::try_from(NAMES.iter().position(|own| *own == name).unwrap()).unwrap()
}

/// Parses times, of which most share their minute.
#[derive(Default)]
struct Seconds {
    minute: RefCell<(String, i64)>,
}

impl Seconds {
    fn ts(&mut self, text: &str) -> i64 {
        let (minute, rest) = text.split_at(17);
        let (known, at) = &mut *self.minute.borrow_mut();
        if known != minute {
            let start: jiff::Timestamp = format!("{minute}00Z").parse().unwrap();
            (*known, *at) = (minute.to_owned(), i64::try_from(start.as_nanosecond()).unwrap());
        }
        *at + (rest.trim_end_matches('Z').parse::<f64>().unwrap() * 1e9).round() as i64
    }
}

/// Gaps spread over decades, ten times as long before and after the regular session.
fn made_up() -> Vec<Tick> {
    let start: jiff::Timestamp = DAY.parse().unwrap();
    let start = i64::try_from(start.as_nanosecond()).unwrap();
    let (mut ticks, mut random) = (Vec::new(), 7_u64);
    for (number, channel) in [(0, Channel::Quotes), (1, Channel::Quotes), (3, Channel::Trades)] {
        let mut at_s = 0.0;
        while at_s < 57_600.0 {
            ticks.push((start + (at_s * 1e9) as i64, channel, number));
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let even = (random >> 11) as f64 / (1_u64 << 53) as f64;
            let busy = (19_800.0..43_200.0).contains(&at_s);
            at_s += -even.max(1e-9).ln() * if busy { 0.5 } else { 20.0 };
        }
    }
    ticks.sort_unstable();
    ticks
}

/// A rig that is live from the beginning of the day, with what these ticks bring.
fn rig_of(ticks: &[Tick]) -> Rig {
    let mut pairs: Vec<_> =
        ticks.iter().map(|(_, channel, number)| (*channel, NAMES[*number as usize])).collect();
    pairs.sort_unstable();
    pairs.dedup();
    Rig::live(Market::UsStocks, DAY, &pairs)
}

impl Rig {
    /// Takes all that came before `until_ts`, at its own time.
    fn replay(&mut self, ticks: &[Tick]) {
        for (ts, channel, number) in ticks {
            let ahead = u64::try_from(ts - self.start_ts).unwrap();
            self.pass_until(self.start + Duration::from_nanos(ahead));
            let of = match channel.as_str() {
                "quotes" => quote,
                "bars" => bar,
                _ => trade,
            };
            let event = of(*number, *ts);
            self.bring(&[event]);
        }
    }
}

#[test]
fn a_day_of_real_ticks_with_its_quiet_pre_market_raises_no_alarm_all_together_or_one_by_one() {
    let all = ticks();
    let of = |keep: &dyn Fn(&Tick) -> bool| all.iter().copied().filter(|tick| keep(tick)).collect::<Vec<_>>();
    let mut cases = vec![("all".to_owned(), all.clone())];
    for (number, name) in NAMES.into_iter().enumerate() {
        let number = number as u32;
        cases.push((name.into(), of(&|tick| tick.2 == number)));
        for channel in [Channel::Trades, Channel::Quotes] {
            cases.push((format!("{name} {channel}"), of(&|tick| tick.2 == number && tick.1 == channel)));
        }
    }
    for (what, ticks) in cases.into_iter().filter(|(_, ticks)| !ticks.is_empty()) {
        let mut rig = rig_of(&ticks);
        rig.replay(&ticks);
        // Into the night.
        rig.pass(SECOND * 7_200);
        assert_eq!((rig.notices(), rig.commands()), (vec![], vec![]), "{what}");
    }
}

#[test]
fn a_week_of_real_bars_with_its_nights_raises_no_alarm() {
    let Some(lines) = recorded("equities_bars.ndjson.zst") else { return };
    let mut seconds = Seconds::default();
    // A bar comes when its minute is over.
    let all: Vec<Tick> = lines
        .map(|line| {
            let ts = seconds.ts(text(&line, r#""t":""#)) + 60_000_000_000;
            (ts, Channel::Bars, symbol(text(&line, r#""S":""#)))
        })
        .collect();
    for number in [None, Some(0), Some(1), Some(2), Some(3)] {
        let ticks: Vec<_> =
            all.iter().copied().filter(|tick| number.is_none_or(|own| own == tick.2)).collect();
        let mut rig = Rig::live(Market::UsStocks, "2013-10-07T08:00:00Z", &[(Channel::Bars, "A")]);
        rig.replay(&ticks);
        assert_eq!(rig.notices(), [], "{number:?}");
    }
}

#[test]
fn a_mute_feed_is_found_within_its_limit_at_five_hundred_positions() {
    let all = ticks();
    let (first, last) = (all[0].0, all[all.len() - 1].0);
    let mut random = 1_u64;
    // Evenly over the day, so that the thin hours count as much as the busy ones.
    let mut positions: Vec<i64> = (0..500)
        .map(|_| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            first + ((random >> 11) as f64 / (1_u64 << 53) as f64 * (last - first) as f64) as i64
        })
        .collect();
    positions.sort_unstable();

    let (mut rig, mut at) = (rig_of(&all), 0);
    let mut found: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    let mut unjudged = 0;
    for position in positions {
        let end = at + all[at..].partition_point(|tick| tick.0 < position);
        rig.replay(&all[at..end]);
        at = end;
        rig.pass_until(rig.start + Duration::from_nanos(u64::try_from(position - rig.start_ts).unwrap()));
        let mut mute = Rig { dog: rig.dog.clone(), notices: Vec::new(), commands: Vec::new(), ..rig };
        let limits = [Channel::Trades, Channel::Quotes].map(|channel| (channel, mute.dog.limit(channel)));
        let hours = Market::UsStocks.spell(jiff::Timestamp::from_nanosecond(position.into()).unwrap());
        let left_ns = hours.until.unwrap().as_nanosecond() - i128::from(position);
        for (channel, limit) in limits {
            let Some(limit) = limit.filter(|limit| (limit.as_nanos() as i128) < left_ns) else {
                unjudged += 1;
                continue;
            };
            let began = mute.now;
            mute.pass_until(began.max(mute.now) + limit);
            let silent = mute.notices.iter().any(|notice| {
                matches!(notice, Notice::Silent { subject, .. } if *subject == alpaca_feed::watchdog::Subject::Channel(channel))
            });
            assert!(silent, "{channel} mute since {position} was not found within {limit:?}");
            found.entry(channel.as_str()).or_default().push(limit);
            mute = Rig { dog: rig.dog.clone(), notices: Vec::new(), commands: Vec::new(), ..rig };
        }
    }
    for (channel, limits) in &mut found {
        limits.sort_unstable();
        let of = |part: usize| limits[(limits.len() - 1) * part / 100];
        println!(
            "{channel}: {} found, limit median {:?}, p90 {:?}, most {:?}",
            limits.len(),
            of(50),
            of(90),
            of(100)
        );
    }
    println!("{unjudged} of 1000 in hours of which too little was known, or that ended first");
    assert!(found.values().map(Vec::len).sum::<usize>() >= 500, "most of the day can be judged");
}
