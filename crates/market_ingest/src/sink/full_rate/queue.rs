//! What a full-rate sink keeps: chunks that wait for the courier, and which of those it has are not durable yet. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use alpaca_feed::message::Event;

use super::super::JobId;
use super::super::chunk::{Backfill, CHUNK_BYTES, Chunk, Origin, bytes_of, clock};
use super::super::overflow::{Overflow, Overflows};
use super::Outcome;

/// A chunk with so many records is closed.
const CHUNK_RECORDS: usize = 8192;
/// Fetched chunks that were given up and are remembered.
const LOST_MAX: usize = 4096;
/// Emptied buffers kept for the next chunks.
const SPARE_MAX: usize = 16;

#[derive(Debug)]
pub(super) struct Queue {
    bytes_max: usize,
    /// Of everything that is not durable.
    bytes: usize,
    next_id: u64,
    jobs: Vec<Job>,
    sealed: VecDeque<Chunk>,
    /// Everything that is not durable, by id.
    open: BTreeMap<u64, Open>,
    overflows: Overflows,
    /// Rows of fetches that were given up, newest ids.
    lost: BTreeSet<u64>,
    /// A fetch waits for room.
    starved: bool,
    spare: Vec<Vec<Event>>,
}

#[derive(Debug, Default)]
struct Job {
    seq: u64,
    /// Market time seen so far.
    clock: Option<i64>,
    /// Takes more events until it is taken itself.
    tail: Option<Chunk>,
}

#[derive(Debug)]
struct Open {
    job: JobId,
    origin: Origin,
    /// Market time of the job before it.
    clock: Option<i64>,
}

/// What became of a turn's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accepted {
    /// In a new chunk, or closing one: the courier should know.
    Begun,
    /// In a chunk that waits already.
    Added,
    /// No room.
    Refused,
}

impl Queue {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            bytes: 0,
            next_id: 0,
            jobs: Vec::new(),
            sealed: VecDeque::new(),
            open: BTreeMap::new(),
            overflows: Overflows::default(),
            lost: BTreeSet::new(),
            starved: false,
            spare: Vec::new(),
        }
    }

    /// `now` is the clock on the wall, nanoseconds since 1970.
    pub(super) fn accept(&mut self, id: JobId, events: &[Event], now: i64) -> Accepted {
        let bytes = bytes_of(events);
        let fits = self.bytes + bytes + CHUNK_BYTES <= self.bytes_max;
        let index = self.index(id);
        let job = &mut self.jobs[index];
        let times = || events.iter().filter_map(|event| clock(event, now));
        // What was there before the first record is not missed.
        let (seq, clock_before) = (job.seq, job.clock.or_else(|| times().min()));
        job.seq += events.len() as u64;
        // Also of what is refused: its time is told as an overflow.
        job.clock = job.clock.max(times().max());
        if !fits {
            self.overflows.add(id, events, clock_before, now);
            return Accepted::Refused;
        }
        self.overflows.interrupt(id);
        self.bytes += bytes;
        if let Some(tail) = job.tail.take_if(|tail| tail.first_seq + tail.events.len() as u64 != seq) {
            self.sealed.push_back(tail);
        }
        let begun = job.tail.is_none();
        let tail = job.tail.get_or_insert_with(|| {
            let chunk = Chunk {
                id: self.next_id,
                job: id,
                origin: Origin::Live,
                first_seq: seq,
                events: self.spare.pop().unwrap_or_default(),
                ordinals: Vec::new(),
                left: None,
                bytes: CHUNK_BYTES,
            };
            self.next_id += 1;
            self.bytes += CHUNK_BYTES;
            self.open.insert(chunk.id, Open { job: id, origin: Origin::Live, clock: clock_before });
            chunk
        });
        tail.events.extend_from_slice(events);
        tail.bytes += bytes;
        if tail.events.len() >= CHUNK_RECORDS {
            self.sealed.extend(job.tail.take());
            return Accepted::Begun;
        }
        if begun { Accepted::Begun } else { Accepted::Added }
    }

    /// Takes the rows and gives their id, or leaves them where half of the bound is in use.
    pub(super) fn accept_backfill(&mut self, rows: &mut Option<Backfill>) -> Option<u64> {
        let bytes = rows.as_ref().map_or(0, |rows| bytes_of(&rows.events)) + CHUNK_BYTES;
        // Rows that are too many for any bound go alone rather than never.
        if self.bytes + bytes > self.bytes_max / 2 && !self.open.is_empty() {
            self.starved = true;
            return None;
        }
        let Backfill { job, events, ordinals } = rows.take()?;
        let id = self.next_id;
        self.next_id += 1;
        self.bytes += bytes;
        let origin = Origin::Backfill;
        self.open.insert(id, Open { job, origin, clock: None });
        self.sealed.push_back(Chunk { id, job, origin, first_seq: 0, events, ordinals, left: None, bytes });
        Some(id)
    }

    /// Closes the job's tail; everything accepted so far has a lower id than the answer.
    pub(super) fn seal(&mut self, job: JobId) -> u64 {
        let index = self.index(job);
        self.sealed.extend(self.jobs[index].tail.take());
        self.next_id
    }

    /// Closed chunks, up to about `bytes` of them.
    pub(super) fn take(&mut self, bytes: usize) -> Vec<Chunk> {
        let mut taken = Vec::new();
        let mut sum = 0;
        while sum < bytes
            && let Some(chunk) = self.sealed.pop_front()
        {
            sum += chunk.bytes;
            taken.push(chunk);
        }
        taken
    }

    /// Closes all tails.
    pub(super) fn seal_all(&mut self) {
        self.sealed.extend(self.jobs.iter_mut().filter_map(|job| job.tail.take()));
    }

    pub(super) fn has_sealed(&self) -> bool {
        !self.sealed.is_empty()
    }

    pub(super) fn has_tails(&self) -> bool {
        self.jobs.iter().any(|job| job.tail.is_some())
    }

    /// Whether something of this job with a lower id waits for the courier.
    pub(super) fn waits_before(&self, job: JobId, upto: u64) -> bool {
        self.sealed.iter().any(|chunk| chunk.job == job && chunk.id < upto)
    }

    /// Takes the waiting chunks of this job with a lower id out of the line.
    pub(super) fn take_before(&mut self, job: JobId, upto: u64) -> Vec<Chunk> {
        let (taken, left) = std::mem::take(&mut self.sealed)
            .into_iter()
            .partition::<VecDeque<_>, _>(|chunk| chunk.job == job && chunk.id < upto);
        self.sealed = left;
        taken.into()
    }

    /// Puts chunks back to the head of the line.
    pub(super) fn give_back(&mut self, chunks: Vec<Chunk>) {
        chunks.into_iter().rev().for_each(|chunk| self.sealed.push_front(chunk));
    }

    /// This chunk is durable or given up.
    pub(super) fn settle(&mut self, chunk: &Chunk) {
        if self.open.remove(&chunk.id).is_some() {
            self.bytes -= chunk.bytes;
        }
    }

    /// These records were taken out of the chunk.
    pub(super) fn shrink(&mut self, chunk: &mut Chunk, out: &[Event]) {
        let bytes = bytes_of(out).min(chunk.bytes);
        chunk.bytes -= bytes;
        self.bytes -= bytes;
    }

    /// `now` as for [`Self::accept`].
    pub(super) fn lose(&mut self, chunk: &Chunk, events: &[Event], now: i64) {
        let index = self.index(chunk.job);
        self.overflows.add(chunk.job, events, self.jobs[index].clock, now);
        if chunk.origin == Origin::Backfill {
            self.lost.insert(chunk.id);
            if self.lost.len() > LOST_MAX {
                self.lost.pop_first();
            }
        }
    }

    /// Keeps the buffer of a chunk that nobody needs any more.
    pub(super) fn recycle(&mut self, chunk: Arc<Chunk>) {
        if let Some(mut chunk) = Arc::into_inner(chunk)
            && self.spare.len() < SPARE_MAX
            && chunk.events.capacity() <= 2 * CHUNK_RECORDS
        {
            chunk.events.clear();
            self.spare.push(chunk.events);
        }
    }

    pub(super) fn outcome(&self, id: u64) -> Outcome {
        if self.lost.contains(&id) {
            Outcome::Lost
        } else if self.open.contains_key(&id) {
            Outcome::Waiting
        } else {
            Outcome::Durable
        }
    }

    pub(super) fn durable_to(&self, job: JobId) -> Option<i64> {
        let oldest = self.open.values().find(|open| open.job == job && open.origin == Origin::Live);
        match oldest {
            Some(open) => open.clock,
            None => self.jobs.get(usize::from(job.0))?.clock,
        }
    }

    pub(super) fn take_overflows(&mut self) -> Vec<Overflow> {
        self.overflows.take()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    pub(super) fn take_starved(&mut self) -> bool {
        std::mem::take(&mut self.starved)
    }

    fn index(&mut self, job: JobId) -> usize {
        let index = usize::from(job.0);
        if self.jobs.len() <= index {
            self.jobs.resize_with(index + 1, Job::default);
        }
        index
    }
}
