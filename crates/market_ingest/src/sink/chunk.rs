//! Records on their way through a full-rate sink: events of one job and origin, in order, with what only the service
//! knows of them.

use std::collections::HashSet;

use alpaca_feed::message::{BarSpan, Event};
use alpaca_feed::symbol::SymbolId;

use super::key::Keyer;
use super::{JobId, Part};

/// What a record costs in memory besides the heap of the rare kinds: the event and its ordinal.
const RECORD_BYTES: usize = size_of::<Event>() + size_of::<u32>();
/// What a chunk costs besides its records, roughly.
pub(super) const CHUNK_BYTES: usize = 256;
/// A time of the market that is further ahead of the wall's is wrong, nanoseconds; no more than a fetch overlaps.
const AHEAD_MAX: i64 = 1_000_000_000;

/// How a record came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// By the stream.
    Live,
    /// By REST, after a gap.
    Backfill,
}

impl Origin {
    /// The word that records carry.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Backfill => "backfill",
        }
    }
}

/// Some rows of one fetch, keyed; cheap enough to clone for each sink.
#[derive(Clone, Debug)]
pub struct Backfill {
    pub(super) job: JobId,
    pub(super) events: Vec<Event>,
    pub(super) ordinals: Vec<u32>,
}

impl Backfill {
    /// Rows of a fetch in the venue's order; `keyer` is new for each fetch and shared by all of its pages.
    #[must_use]
    pub fn new(job: JobId, events: Vec<Event>, keyer: &mut Keyer) -> Self {
        let ordinals = events.iter().map(|event| keyer.ordinal(event)).collect();
        Self { job, events, ordinals }
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

/// One record, as a destination writes it.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The message.
    pub event: &'a Event,
    /// Its job.
    pub job: JobId,
    /// How it came.
    pub origin: Origin,
    /// The number among all that its job received in this process; live only.
    pub seq: Option<u64>,
    /// See [`super::key`].
    pub ordinal: u32,
}

/// Records that travel together.
#[derive(Clone, Debug)]
pub struct Chunk {
    pub(super) id: u64,
    pub(super) job: JobId,
    pub(super) origin: Origin,
    pub(super) first_seq: u64,
    pub(super) events: Vec<Event>,
    /// Empty until keyed.
    pub(super) ordinals: Vec<u32>,
    /// Which of the events once counted are left, where some were taken out.
    pub(super) left: Option<Vec<u32>>,
    pub(super) bytes: usize,
}

impl Chunk {
    /// Records of the stream that were in no queue, for who measures a format by itself; the first has this number.
    #[must_use]
    pub fn live(job: JobId, first_seq: u64, events: Vec<Event>, keyer: &mut Keyer) -> Self {
        let bytes = CHUNK_BYTES + bytes_of(&events);
        let (id, origin, ordinals, left) = (first_seq, Origin::Live, Vec::new(), None);
        Self { id, job, origin, first_seq, events, ordinals, left, bytes }.keyed(keyer)
    }

    /// The records in order.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let numbered = self.events.iter().zip(&self.ordinals).enumerate();
        numbered.map(|(index, (event, ordinal))| Record {
            event,
            job: self.job,
            origin: self.origin,
            seq: self.seq(index),
            ordinal: *ordinal,
        })
    }

    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Names this chunk within its sink.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    fn seq(&self, index: usize) -> Option<u64> {
        let offset = self.left.as_ref().map_or(index as u64, |left| u64::from(left[index]));
        (self.origin == Origin::Live).then_some(self.first_seq + offset)
    }

    /// Gives the records their ordinals, if they have none yet.
    pub(super) fn keyed(mut self, keyer: &mut Keyer) -> Self {
        if self.ordinals.is_empty() {
            self.ordinals.extend(self.events.iter().map(|event| keyer.ordinal(event)));
        }
        self
    }

    /// How many records a part covers.
    pub(super) fn covered(&self, part: &Part) -> u64 {
        let covered = match &part.symbols {
            _ if part.job != self.job => 0,
            None => self.len(),
            Some(symbols) => self.events.iter().filter(|event| is_of(event, symbols)).count(),
        };
        covered as u64
    }

    /// Takes out what a part covers.
    pub(super) fn take_out(&mut self, part: &Part) -> Vec<Event> {
        if part.job != self.job {
            return Vec::new();
        }
        let Some(symbols) = &part.symbols else {
            self.ordinals.clear();
            return std::mem::take(&mut self.events);
        };
        let before = self.left.take();
        let mut left = Vec::new();
        let mut kept = Vec::new();
        let mut ordinals = Vec::new();
        let mut out = Vec::new();
        for (index, event) in std::mem::take(&mut self.events).into_iter().enumerate() {
            if is_of(&event, symbols) {
                out.push(event);
                continue;
            }
            left.push(before.as_ref().map_or(index as u32, |before| before[index]));
            ordinals.extend(self.ordinals.get(index));
            kept.push(event);
        }
        (self.events, self.ordinals, self.left) = (kept, ordinals, Some(left));
        out
    }
}

fn is_of(event: &Event, symbols: &HashSet<SymbolId>) -> bool {
    event.symbol().is_some_and(|symbol| symbols.contains(&symbol))
}

/// The memory that these records take, roughly.
pub(super) fn bytes_of(events: &[Event]) -> usize {
    events.len() * RECORD_BYTES + events.iter().map(heap_bytes).sum::<usize>()
}

/// What an event has on the heap, roughly; the hot kinds have nothing.
fn heap_bytes(event: &Event) -> usize {
    const BOX: usize = 256;
    match event {
        Event::Trade(_) | Event::Quote(_) | Event::Bar(_) => 0,
        Event::WideTrade(wide) => BOX + texts(wide.overflow.iter().flat_map(|overflow| &overflow.texts)),
        Event::WideQuote(wide) => BOX + texts(wide.overflow.iter().flat_map(|overflow| &overflow.texts)),
        Event::Orderbook(book) => BOX + (book.bids.len() + book.asks.len()) * 16,
        Event::News(news) => {
            let all = [&news.headline, &news.summary, &news.author, &news.url, &news.content, &news.source];
            BOX + texts(all) + news.symbols.len() * 4
        }
        Event::Unknown(unknown) => BOX + unknown.tag.len() + unknown.raw.len(),
        Event::Status(status) => {
            BOX + texts([&status.status, &status.status_message, &status.reason, &status.reason_message])
        }
        Event::Correction(correction) => {
            let prints = [&correction.original, &correction.corrected];
            2 * BOX + texts(prints.into_iter().flat_map(|print| &print.conditions))
        }
        Event::Cancel(_) | Event::Luld(_) | Event::Imbalance(_) | Event::Pricing(_) => BOX,
    }
}

fn texts<'a>(texts: impl IntoIterator<Item = &'a String>) -> usize {
    texts.into_iter().map(|text| size_of::<String>() + text.len()).sum()
}

/// The market's time by which an event shows how far the stream is: a minute bar leaves when its minute is over, a
/// revised one half a minute later; days and news say nothing about it. `now` is the wall's time, and what claims to be
/// of the future says no more than that.
#[inline]
pub(crate) fn clock(event: &Event, now: i64) -> Option<i64> {
    const SECOND: i64 = 1_000_000_000;
    if let Event::Quote(quote) = event {
        // Most are.
        return Some(not_ahead(quote.ts, now));
    }
    let time = match event {
        Event::Trade(_) | Event::Quote(_) | Event::WideTrade(_) | Event::WideQuote(_) => Some(event.ts()),
        Event::Bar(bar) => match bar.span {
            BarSpan::Minute => Some(bar.ts.saturating_add(60 * SECOND)),
            BarSpan::UpdatedMinute => Some(bar.ts.saturating_add(90 * SECOND)),
            BarSpan::Day => None,
        },
        Event::Correction(_)
        | Event::Cancel(_)
        | Event::Status(_)
        | Event::Luld(_)
        | Event::Imbalance(_)
        | Event::Orderbook(_)
        | Event::Pricing(_)
        | Event::News(_)
        | Event::Unknown(_) => None,
    };
    time.map(|time| not_ahead(time, now))
}

/// One record with a wrong time must not carry away the time from which a gap begins.
pub(super) fn not_ahead(time: i64, now: i64) -> i64 {
    if time > now.saturating_add(AHEAD_MAX) { now } else { time }
}

/// The clock on the wall, nanoseconds since 1970 UTC; it fits until 2262.
pub(crate) fn wall_ts() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}
