//! Whether the sinks hold the tape, and whether the gaps tile.

use std::collections::btree_map::Entry as Slot;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use e2e::sqlite;

use super::said::{Said, said};
use super::tape::{Tape, each_line};

/// All that has a final name is the tape, once each after de-duplication by key. Says how many records came live, how
/// many only by a fetch.
pub(crate) fn assert_equal(who: &str, tape: &Tape, dir: &Path, store: &Path) -> (u64, u64) {
    let mut by_key: HashMap<u64, (Said, bool)> = HashMap::with_capacity(tape.sent.len());
    for path in whole_files(dir) {
        each_line(&path, |text| {
            let line = said(text);
            match by_key.entry(line.key) {
                Entry::Vacant(slot) => drop(slot.insert((line.said, line.live))),
                Entry::Occupied(mut other) => {
                    assert_eq!(other.get().0, line.said, "{who}: one key, two records: {text}");
                    other.get_mut().1 |= line.live;
                }
            }
        });
    }
    let live = by_key.values().filter(|(_, live)| *live).count() as u64;
    let mut found: Vec<Said> = by_key.into_values().map(|(said, _)| said).collect();
    found.sort_unstable();
    if tape.sent == found {
        return (live, found.len() as u64 - live);
    }
    tell_holes(who, tape, &found, store);
    panic!("{who}: {} were sent, {} are kept", tape.sent.len(), found.len());
}

/// Those under their final names.
pub(crate) fn whole_files(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.to_str().unwrap().ends_with(".ndjson.zst"))
}

/// Where the hole is says what made it.
fn tell_holes(who: &str, tape: &Tape, found: &[Said], store: &Path) {
    let mut lost: BTreeMap<(String, char), (u64, i64, i64)> = BTreeMap::new();
    let mut left = found.iter().peekable();
    for sent in &tape.sent {
        while left.next_if(|found| *found < sent).is_some() {}
        if left.next_if_eq(&sent).is_none() {
            let lane = (String::from_utf8_lossy(&sent.symbol).into_owned(), char::from(sent.kind));
            match lost.entry(lane) {
                Slot::Vacant(slot) => drop(slot.insert((1, sent.ts, sent.ts))),
                Slot::Occupied(mut hole) => {
                    let (count, from, to) = *hole.get();
                    *hole.get_mut() = (count + 1, from.min(sent.ts), to.max(sent.ts));
                }
            }
        }
    }
    let time = |ns: i64| jiff::Timestamp::from_nanosecond(i128::from(ns)).unwrap();
    for ((symbol, kind), (count, from, to)) in &lost {
        eprintln!("{who}: {count} lost of {symbol} {kind}, {} to {}", time(*from), time(*to));
    }
    let gaps = sqlite::rows(
        store,
        "SELECT id, symbols, channels, from_ts, to_ts, cause, rows FROM market_ingest_gap ORDER BY from_ts",
    );
    for gap in gaps {
        eprintln!("{}", gap.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>().join(" "));
    }
}

/// Every gap of the tape is filled, and no two of a lane overlap, but for what a sink lost and what a mute part of a feed
/// did.
pub(crate) fn assert_tiles(seed: u64, tape: &Tape, store: &Path) -> u64 {
    let ticks = tape.sent.iter().filter(|said| said.kind != b'b');
    let end_us = ticks.map(|said| said.ts / 1000).max().expect("ticks");
    let rows =
        sqlite::rows(store, "SELECT id, symbols, channels, from_ts, to_ts, state FROM market_ingest_gap");
    let mut lanes: BTreeMap<(String, String), BTreeSet<(jiff::Timestamp, jiff::Timestamp)>> = BTreeMap::new();
    for row in &rows {
        let [id, symbols, channels, from, to, state] = row.as_slice() else { panic!("six columns") };
        let (id, state) = (id.as_deref().unwrap(), state.as_deref().unwrap());
        let time = |text: &Option<String>| -> jiff::Timestamp { text.as_deref().unwrap().parse().unwrap() };
        // The silence after the tape's end is an alarm too; its gap is told by the stop, and so is that of its remedy.
        let of_the_end = state == "open" && (id.contains("-mute-") || time(from).as_microsecond() >= end_us);
        assert!(state == "filled" || of_the_end, "seed {seed}: {id} is {state}: {row:?}");
        if of_the_end || id.contains("-overflow-") || id.contains("-mute-") {
            continue;
        }
        let list = |text: &Option<String>| -> Vec<String> {
            serde_json::from_str(text.as_deref().unwrap()).unwrap()
        };
        for symbol in list(symbols) {
            for channel in list(channels) {
                lanes.entry((symbol.clone(), channel)).or_default().insert((time(from), time(to)));
            }
        }
    }
    for (lane, gaps) in lanes {
        let gaps: Vec<_> = gaps.into_iter().collect();
        for pair in gaps.windows(2) {
            assert!(pair[0].1 <= pair[1].0, "seed {seed}: {lane:?} {pair:?}");
        }
    }
    rows.len() as u64
}
