//! What a record costs in the sinks, on a synthetic market: 85 % quotes, 13 % trades, 2 % bars over 11,000 symbols of
//! which few are hot, prices that walk in hundredths, times by the nanosecond.
//!
//! First a table by CPU time of this process, medians over rounds that take turns, with the bytes on disk; then the
//! parts by themselves. Figures of two machines, or of two runs far apart, do not compare; ratios in one run do.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use alpaca_feed::decode::Decoder;
use alpaca_feed::message::{Batch, Codec, Event};
use alpaca_feed::symbol::Symbols;
use divan::counter::ItemsCount;
use market_ingest::config::{Pacing, StoreConfig};
use market_ingest::lease::Fence;
use market_ingest::sink::key::{KeyWriter, Keyer};
use market_ingest::sink::{
    BYTES_MAX, Chunk, Encoder, Format, FullRate, JobId, Naming, Ndjson, Parquet, Quotes, Sink,
};
use market_ingest::store::Store;
use rustix::time::{ClockId, clock_gettime};

const RECORDS: usize = 32 * CHUNK;
const CHUNK: usize = 8192;
/// What a pump hands over in one turn.
const TURN: usize = 640;
const SYMBOLS: u64 = 11_000;
const ROUNDS: usize = 9;
const JOB: JobId = JobId(0);

fn main() {
    // `cargo test --benches` passes no such argument and wants no figures.
    if std::env::args().any(|argument| argument == "--bench") {
        table();
    }
    divan::main();
}

/// The market, decoded once.
struct Market {
    symbols: Arc<Symbols>,
    turns: Vec<Batch>,
    chunks: Vec<Arc<Chunk>>,
}

static MARKET: LazyLock<Market> = LazyLock::new(Market::new);

impl Market {
    fn new() -> Self {
        let symbols = Symbols::new();
        let events = events(&symbols);
        let turns = events.chunks(TURN).map(|events| Batch { events: events.to_vec(), ..Batch::default() });
        let mut keyer = Keyer::default();
        let chunks = events.chunks(CHUNK).enumerate().map(|(index, events)| {
            Arc::new(Chunk::live(JOB, (index * CHUNK) as u64, events.to_vec(), &mut keyer))
        });
        let (turns, chunks) = (turns.collect(), chunks.collect());
        Self { symbols, turns, chunks }
    }

    fn encoder(&self) -> Encoder {
        Encoder::new(Arc::clone(&self.symbols), ["sip"].map(Arc::from).into())
    }

    fn events(&self) -> impl Iterator<Item = &Event> {
        self.turns.iter().flat_map(|turn| &turn.events)
    }
}

type Step = (&'static str, Box<dyn FnMut() -> u64>);

/// Each step answers the bytes that it left on the disk.
fn steps() -> Vec<Step> {
    let market = &*MARKET;
    let quotes = quotes();
    vec![
        ("quotes: accept", Box::new(move || accept(&quotes))),
        ("full rate: accept", Box::new(|| accept_full_rate(market))),
        ("full rate: ordinals", Box::new(|| ordinals(market))),
        ("keys alone", Box::new(|| keys(market))),
        ("JSON with keys, in memory", Box::new(|| json(market))),
        ("ndjson: write and finish", Box::new(|| files(Ndjson::new(market.encoder())))),
        ("parquet: write and finish", Box::new(|| files(Parquet::new(market.encoder()).unwrap()))),
    ]
}

fn table() {
    let mut steps = steps();
    let mut costs = vec![Vec::new(); steps.len()];
    let mut sizes = vec![0; steps.len()];
    for _ in 0..ROUNDS {
        for (at, (_, step)) in steps.iter_mut().enumerate() {
            let before = cpu();
            sizes[at] = step();
            costs[at].push((cpu() - before).as_nanos() as f64 / RECORDS as f64);
        }
    }
    println!("| step | ns of CPU time a record, median (fastest) | bytes a record |\n|---|---|---|");
    for (((name, _), costs), bytes) in steps.iter().zip(&mut costs).zip(sizes) {
        costs.sort_by(f64::total_cmp);
        let (median, fastest, bytes) = (costs[ROUNDS / 2], costs[0], bytes as f64 / RECORDS as f64);
        println!("| {name} | {median:.1} ({fastest:.1}) | {bytes:.1} |");
    }
}

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The front of `quotes`, over a store that is never written: its writer does not run.
fn quotes() -> Sink {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = StoreConfig::Sqlite(dir.path().join("store.db"));
    let store = runtime.block_on(Store::connect(&store, None)).unwrap();
    let pacing = Pacing {
        per_symbol_interval: Duration::from_secs(1),
        writes_per_s: 500.0,
        burst: 500.0,
        flush_interval: Duration::from_millis(250),
    };
    let (front, _) = Quotes::new(store, Arc::clone(&MARKET.symbols), pacing, Fence::closed());
    std::mem::forget((runtime, dir));
    Sink::Quotes(front)
}

fn accept(sink: &Sink) -> u64 {
    MARKET.turns.iter().for_each(|turn| sink.accept(JOB, turn));
    0
}

fn accept_full_rate(market: &Market) -> u64 {
    let (front, _outlet) = FullRate::new("ndjson", BYTES_MAX);
    market.turns.iter().for_each(|turn| front.accept(JOB, turn));
    0
}

fn ordinals(market: &Market) -> u64 {
    let mut keyer = Keyer::default();
    divan::black_box(market.events().map(|event| u64::from(keyer.ordinal(event))).sum::<u64>());
    0
}

fn keys(market: &Market) -> u64 {
    let mut keys = KeyWriter::default();
    let names = market.symbols.read();
    let mut out = Vec::with_capacity(1 << 10);
    for event in market.events() {
        out.clear();
        keys.write(&mut out, event, event.symbol().map_or("", |symbol| &names[symbol]), 0);
        divan::black_box(&out);
    }
    0
}

fn json(market: &Market) -> u64 {
    let mut encoder = market.encoder();
    let mut out = Vec::with_capacity(72 << 10);
    for record in market.chunks.iter().flat_map(|chunk| chunk.records()) {
        encoder.write(&mut out, &record, 1);
        if out.len() > 64 << 10 {
            divan::black_box(&out);
            out.clear();
        }
    }
    0
}

/// As the courier does it: 4 MiB a call, then whole files; answers their size.
fn files<F: Format>(mut format: F) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let mut naming = Naming::new(dir.path().to_owned(), F::EXTENSION);
    for chunks in MARKET.chunks.chunks(5) {
        format.write(&mut naming, 1, chunks).unwrap();
    }
    format.finish(&mut naming).unwrap();
    dir.path().read_dir().unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

#[divan::bench(sample_count = 10)]
fn quotes_accept(bencher: divan::Bencher<'_, '_>) {
    let quotes = quotes();
    bencher.counter(ItemsCount::new(RECORDS)).bench_local(|| accept(&quotes));
}

#[divan::bench(sample_count = 10)]
fn ndjson(bencher: divan::Bencher<'_, '_>) {
    bencher.counter(ItemsCount::new(RECORDS)).bench_local(|| files(Ndjson::new(MARKET.encoder())));
}

#[divan::bench(sample_count = 10)]
fn parquet(bencher: divan::Bencher<'_, '_>) {
    bencher.counter(ItemsCount::new(RECORDS)).bench_local(|| files(Parquet::new(MARKET.encoder()).unwrap()));
}

fn events(symbols: &Arc<Symbols>) -> Vec<Event> {
    let mut random = Random(1);
    let mut walks: Vec<_> = (0..SYMBOLS).map(|_| 500 + random.below(40_000)).collect();
    let mut time_ns = 1_791_296_998_000_000_000_u64;
    let mut decoder = Decoder::new(Arc::clone(symbols));
    let (mut batch, mut frame) = (Batch::default(), String::new());
    for number in 0..RECORDS {
        // 50,000 a second.
        time_ns += random.below(40_000);
        let index = random.hot();
        walks[index as usize] = (walks[index as usize] + random.below(5)).max(102) - 2;
        frame.clear();
        frame.push('[');
        message(&mut frame, &mut random, index, walks[index as usize], number);
        let time = jiff::Timestamp::from_nanosecond(time_ns.into()).unwrap();
        let _ = write!(frame, r#","t":"{time}"}}]"#);
        decoder.decode(Codec::Json, frame.as_bytes(), &mut batch);
    }
    assert_eq!((batch.malformed.count, batch.events.len()), (0, RECORDS), "{:?}", batch.malformed);
    batch.events
}

/// A message of symbol `index` up to its time, `cents` the middle of its market.
fn message(out: &mut String, random: &mut Random, index: u64, cents: u64, number: usize) {
    let symbol = name(index);
    let price = |cents: u64| cents as f64 / 100.0;
    let tape = ["A", "B", "C"][(index * 7 % 3) as usize];
    let mut venue = || ["V", "P", "Q", "K", "Z", "N"][random.below(6) as usize];
    let (here, there) = (venue(), venue());
    let half = 1 + random.below(3);
    let (bid, ask, last) = (price(cents - half), price(cents + half), price(cents));
    let (bid_size, ask_size) = (100 * (1 + random.below(20)), 100 * (1 + random.below(20)));
    // Writing to a String cannot fail.
    let _ = match random.below(100) {
        0..85 => write!(
            out,
            r#"{{"T":"q","S":"{symbol}","bx":"{here}","bp":{bid},"bs":{bid_size},"ax":"{there}","ap":{ask},"as":{ask_size},"c":["R"],"z":"{tape}""#
        ),
        85..98 => {
            let (id, size) = (52_983_525_000_000 + number, 1 + random.below(400));
            let odd = if size < 100 { r#","I""# } else { "" };
            write!(
                out,
                r#"{{"T":"t","S":"{symbol}","i":{id},"x":"{here}","p":{last},"s":{size},"c":["@"{odd}],"z":"{tape}""#
            )
        }
        _ => {
            let (volume, count) = (random.below(100_000), random.below(900));
            write!(
                out,
                r#"{{"T":"b","S":"{symbol}","o":{last},"h":{ask},"l":{bid},"c":{last},"v":{volume},"n":{count},"vw":{last}1234"#,
            )
        }
    };
}

/// One to five letters, the first symbols the shortest.
fn name(mut index: u64) -> String {
    let mut name = String::new();
    loop {
        name.push(char::from(b'A' + (index % 26) as u8));
        index /= 26;
        if index == 0 {
            return name;
        }
        index -= 1;
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// A symbol; a tenth of them gets almost half of the traffic.
    fn hot(&mut self) -> u64 {
        let unit = self.below(1 << 53) as f64 / (1_u64 << 53) as f64;
        (SYMBOLS as f64 * unit * unit * unit) as u64
    }
}
