//! `ndjson:DIR`: one JSON object a line, in zstd frames, each kind of record in files of its own: readers that infer a
//! schema want one type a field, and a quote's `c` is a list where a bar's is a price.

use std::io::{self, Write as _};
use std::sync::Arc;

use alpaca_feed::message::Kind;
use zstd::zstd_safe::CParameter;

use super::chunk::Chunk;
use super::files::{Format, Naming, PartFile};
use super::json::Encoder;

/// The least effort: more costs more time than it saves space.
const ZSTD_LEVEL: i32 = 1;
/// Lines resemble those just before them: a table that fits the nearest cache finds as much, and sooner.
const ZSTD_HASH_LOG: u32 = 12;
/// Text that is gathered before it is compressed.
const TEXT_BYTES: usize = 64 << 10;

/// The kinds of files.
const WORDS: [&str; 12] = [
    "trades",
    "quotes",
    "bars",
    "corrections",
    "cancels",
    "statuses",
    "lulds",
    "imbalances",
    "orderbooks",
    "pricing",
    "news",
    "unknown",
];

/// The open files, one a kind at most.
pub struct Ndjson {
    encoder: Encoder,
    open: [Option<Open>; WORDS.len()],
}

struct Open {
    text: Vec<u8>,
    file: zstd::Encoder<'static, PartFile>,
}

impl Ndjson {
    /// Writes records with this encoder.
    #[must_use]
    pub fn new(encoder: Encoder) -> Self {
        Self { encoder, open: Default::default() }
    }
}

impl Format for Ndjson {
    const EXTENSION: &'static str = "ndjson.zst";

    fn write(&mut self, naming: &mut Naming, epoch: u64, chunks: &[Arc<Chunk>]) -> io::Result<u64> {
        let mut bytes = 0;
        for record in chunks.iter().flat_map(|chunk| chunk.records()) {
            let slot = slot(record.event.kind());
            let open = match &mut self.open[slot] {
                Some(open) => open,
                closed => closed.insert(Open::new(naming, WORDS[slot])?),
            };
            self.encoder.write(&mut open.text, &record, epoch);
            open.text.push(b'\n');
            if open.text.len() >= TEXT_BYTES {
                bytes += open.compress()?;
            }
        }
        for open in self.open.iter_mut().flatten().filter(|open| !open.text.is_empty()) {
            bytes += open.compress()?;
            open.file.flush()?;
        }
        Ok(bytes)
    }

    fn finish(&mut self, _: &mut Naming) -> io::Result<()> {
        for open in self.open.iter_mut().filter_map(Option::take) {
            open.file.finish()?.complete()?;
        }
        Ok(())
    }

    fn discard(&mut self) {
        self.open = Default::default();
    }
}

impl Open {
    fn new(naming: &mut Naming, word: &str) -> io::Result<Self> {
        let mut file = zstd::Encoder::new(naming.create(word)?, ZSTD_LEVEL)?;
        file.set_parameter(CParameter::HashLog(ZSTD_HASH_LOG))?;
        Ok(Self { text: Vec::with_capacity(TEXT_BYTES + 1024), file })
    }

    fn compress(&mut self) -> io::Result<u64> {
        self.file.write_all(&self.text)?;
        let bytes = self.text.len() as u64;
        self.text.clear();
        Ok(bytes)
    }
}

fn slot(kind: Kind) -> usize {
    match kind {
        Kind::Trade => 0,
        Kind::Quote => 1,
        Kind::Bar | Kind::UpdatedBar | Kind::DailyBar => 2,
        Kind::Correction => 3,
        Kind::Cancel => 4,
        Kind::Status => 5,
        Kind::Luld => 6,
        Kind::Imbalance => 7,
        Kind::Orderbook => 8,
        Kind::Pricing => 9,
        Kind::News => 10,
        Kind::Unknown => 11,
    }
}
