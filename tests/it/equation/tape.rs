//! What a run is played, and so what its sinks must hold: recorded ticks and the bars of their minutes, or made-up ones
//! of the same kind where they are absent.
//!
//! A stock market is asleep for most hours of the test's own clock, and silence in it is no alarm; crypto never sleeps. So
//! there is a tape of the same ticks as pairs, for trouble that only the watchdog can find.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::data;
use flate2::read::GzDecoder;
use serde_json::{Value, json};

use super::Random;
use super::said::{Said, said};

const SYMBOLS: [&str; 4] = ["AIG", "BAC", "IBM", "SPY"];
/// A bar leaves when its minute is over.
const MINUTE_NS: i64 = 60_000_000_000;
/// 2013-10-09, 9:30 in New York.
const OPEN_NS: i64 = 1_381_325_400_000_000_000;

/// Files that the venue plays together.
pub(super) struct Tape {
    pub(super) files: Vec<PathBuf>,
    pub(super) symbols: Vec<String>,
    /// The job that it is played to.
    pub(super) job: &'static str,
    /// What each element says, sorted.
    pub(super) sent: Vec<Said>,
    /// From the first to the last of it, as recorded.
    pub(super) lasts: Duration,
}

impl Tape {
    /// Five minutes around an open, as stocks.
    pub(super) fn of_stocks(dir: &Path) -> Self {
        let symbols = SYMBOLS.map(str::to_owned).to_vec();
        match data::shared("equities_smoke.ndjson.gz") {
            Some(ticks) => Self::new("sip", symbols, vec![ticks.clone(), bars_of(&ticks, dir)]),
            None => Self::new("sip", symbols, made_up(dir)),
        }
    }

    /// The same as pairs, from the open on: before it ticks are so rare that no silence is an alarm.
    pub(super) fn of_pairs(stocks: &Self, dir: &Path) -> Self {
        let path = dir.join("pairs.ndjson");
        let mut pairs: Vec<(i64, String)> = Vec::new();
        for file in &stocks.files {
            each_line(file, |line| {
                let element: Value = serde_json::from_str(line).unwrap();
                let due = due(&element);
                if due >= OPEN_NS {
                    pairs.push((due, pair(&element)));
                }
            });
        }
        // Stable, and the ticks come first, as when the venue merges files.
        pairs.sort_by_key(|(due, _)| *due);
        let text: Vec<String> = pairs.into_iter().map(|(_, text)| text).collect();
        std::fs::write(&path, text.join("\n")).unwrap();
        Self::new("crypto-us", SYMBOLS.map(|symbol| format!("{symbol}/USD")).to_vec(), vec![path])
    }

    /// A whole recorded day; none where it is absent.
    pub(super) fn of_a_day(dir: &Path) -> Option<Self> {
        let ticks = data::shared("equities_ticks.ndjson.zst")?;
        let bars = bars_of(&ticks, dir);
        Some(Self::new("sip", SYMBOLS.map(str::to_owned).to_vec(), vec![ticks, bars]))
    }

    fn new(job: &'static str, symbols: Vec<String>, files: Vec<PathBuf>) -> Self {
        let mut sent = Vec::new();
        for file in &files {
            each_line(file, |line| sent.push(said(line).said));
        }
        sent.sort_unstable();
        // A bar's own time lies before its minute, the tape's first is that of a tick.
        let times = || sent.iter().filter(|said| said.kind != b'b').map(|said| said.ts);
        let lasts = times().max().zip(times().min()).map_or(0, |(last, first)| last - first);
        Self { files, symbols, job, sent, lasts: Duration::from_nanos(lasts.unsigned_abs()) }
    }
}

/// The lines of a file, whatever it is packed with.
pub(super) fn each_line(path: &Path, mut take: impl FnMut(&str)) {
    let file = std::fs::File::open(path).unwrap();
    let text: Box<dyn Read> = match path.extension().and_then(|ending| ending.to_str()) {
        Some("gz") => Box::new(GzDecoder::new(file)),
        Some("zst") => Box::new(zstd::Decoder::new(file).unwrap()),
        _ => Box::new(file),
    };
    let (mut text, mut line) = (BufReader::new(text), String::new());
    while text.read_line(&mut line).unwrap() > 0 {
        take(line.trim_end());
        line.clear();
    }
}

/// The recorded bars that were due while `ticks` ran, in a file of their own.
fn bars_of(ticks: &Path, dir: &Path) -> PathBuf {
    let bars = data::shared("equities_bars.ndjson.zst").expect("it comes with the ticks");
    let (mut first, mut last) = (None, 0);
    each_line(ticks, |line| {
        last = said(line).said.ts;
        first.get_or_insert(last);
    });
    let (mut text, first) = (String::new(), first.expect("ticks"));
    each_line(&bars, |line| {
        // The last minute of the ticks is over a moment after the last of them.
        if (first..=last + MINUTE_NS / 60).contains(&(said(line).said.ts + MINUTE_NS)) {
            text.push_str(line);
            text.push('\n');
        }
    });
    let path = dir.join(format!("{}.bars.ndjson", ticks.file_name().unwrap().to_str().unwrap()));
    std::fs::write(&path, text).unwrap();
    path
}

fn due(element: &Value) -> i64 {
    let at: jiff::Timestamp = element["t"].as_str().unwrap().parse().unwrap();
    let after = if element["T"] == "b" { MINUTE_NS } else { 0 };
    at.as_nanosecond() as i64 + after
}

/// An element of a stock as one of a pair has it.
fn pair(element: &Value) -> String {
    let fields: &[&str] = match element["T"].as_str().unwrap() {
        "t" => &["i", "p", "s", "t"],
        "q" => &["bp", "bs", "ap", "as", "t"],
        _ => &["o", "h", "l", "c", "v", "n", "vw", "t"],
    };
    let symbol = element["S"].as_str().unwrap();
    let mut text = format!(r#"{{"T":{},"S":"{symbol}/USD""#, element["T"]);
    for field in fields {
        text.push_str(&format!(r#","{field}":{}"#, element[field]));
    }
    if element["T"] == "t" {
        text.push_str(r#","tks":"B""#);
    }
    text + "}"
}

/// Five minutes with equal times, equal quotes, ids that repeat on another exchange, and the bars of the trades.
fn made_up(dir: &Path) -> Vec<PathBuf> {
    let mut random = Random(7);
    let (mut ticks, mut bars) = (String::new(), std::collections::BTreeMap::new());
    let start = jiff::Timestamp::from_second(1_381_325_340).unwrap();
    for step in 0..16_000_i64 {
        let millis = step * 300_000 / 16_000 / 20 * 20;
        let at = start + jiff::SignedDuration::from_millis(millis);
        let (symbol, price) = (SYMBOLS[random.below(4) as usize], 40.0 + random.below(3) as f64 / 100.0);
        let element = if random.below(3) == 0 {
            let exchange = ["N", "P"][random.below(2) as usize];
            let (count, high, low) = bars.entry((millis / 60_000, symbol)).or_insert((0_u64, price, price));
            (*count, *high, *low) = (*count + 1, high.max(price), low.min(price));
            json!({"T":"t","S":symbol,"i":step / 2,"x":exchange,"p":price,"s":100,"c":["@"],"z":"A","t":at.to_string()})
        } else {
            json!({"T":"q","S":symbol,"bx":"N","bp":price,"bs":100,"ax":"P","ap":price,"as":200,"c":["R"],"z":"A","t":at.to_string()})
        };
        ticks.push_str(&element.to_string());
        ticks.push('\n');
    }
    let bars: Vec<String> = bars
        .into_iter()
        .map(|((minute, symbol), (count, high, low))| {
            let at = (start + jiff::SignedDuration::from_mins(minute)).to_string();
            json!({"T":"b","S":symbol,"o":low,"h":high,"l":low,"c":high,"v":100 * count,"n":count,"vw":low,"t":at})
                .to_string()
        })
        .collect();
    let files = [("made-up.ndjson", ticks), ("made-up.bars.ndjson", bars.join("\n"))];
    files
        .into_iter()
        .map(|(name, text)| {
            std::fs::write(dir.join(name), text).unwrap();
            dir.join(name)
        })
        .collect()
}
