//! The back of every full-rate sink: hands chunks to a [`Destination`] in order, again after a failure, and answers
//! drains. What a destination has and has not made durable yet is kept, so that a failure loses nothing.
//!
//! Invariant: after a drain was answered nothing of its part that was accepted before is begun to be written. What was
//! in the middle of being written when the limit passed may still arrive; it is told as an overflow all the same, and
//! its key tells the two apart from two records.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::super::Part;
use super::super::chunk::Chunk;
use super::super::key::Keyer;
use super::{DrainRequest, HEALTH_BAD, HEALTH_GOOD, Outlet, Shared};
use crate::lease::Fence;
use crate::logging;

/// Time between a failure and the next attempt.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// Where a full-rate sink writes: a directory of files, a broker. What is given here by default is that of one whose
/// [`Self::write`] returns once everything is durable.
pub trait Destination: Send + 'static {
    /// A few records may wait this long for more.
    const LINGER: Duration;
    /// About how much is handed over in one call at most, by the memory it takes.
    const BATCH_BYTES: usize;

    /// Hands over the chunks, in order, under this epoch: to the operating system, or until the broker has them.
    ///
    /// On an error everything that is not finished is given again, so what of it lies outside may stay or go. Must
    /// leave the destination usable when dropped; the same chunks, or some of them, are then given again.
    fn write(
        &mut self,
        epoch: u64,
        chunks: &[Arc<Chunk>],
    ) -> impl Future<Output = anyhow::Result<Written>> + Send;

    /// Makes durable what was written. Errors and dropping as with [`Self::write`].
    fn finish(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send {
        std::future::ready(Ok(()))
    }

    /// When what was written should be finished at the latest; none asks for it at once.
    fn finish_at(&self) -> Option<Instant> {
        None
    }

    /// Throws away what was written and not finished: this process may not write any more.
    fn discard(&mut self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// What a destination says of chunks that it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Records that it will never take, such as one that is too large; told by itself.
    pub refused: u64,
}

/// Moves records from an [`Outlet`] to a [`Destination`]; run [`Courier::run`] as a task.
#[derive(Debug)]
pub struct Courier<D> {
    kind: &'static str,
    shared: Arc<Shared>,
    drains: mpsc::Receiver<DrainRequest>,
    fence: Fence,
    destination: D,
    /// To be given again, before anything new.
    again: VecDeque<Arc<Chunk>>,
    /// Written and not durable yet.
    unfinished: Vec<Arc<Chunk>>,
    unfinished_bytes: usize,
    /// How many of these records the destination will never take.
    unfinished_refused: u64,
    requests: Vec<DrainRequest>,
    /// A drain of a whole job was over before what it wrote was durable.
    finish_owed: bool,
    keyers: HashMap<u16, Keyer>,
    linger_until: Option<Instant>,
    retry_at: Option<Instant>,
    failing: bool,
}

impl<D: Destination> Courier<D> {
    /// A courier between these two.
    #[must_use]
    pub fn new(outlet: Outlet, fence: Fence, destination: D) -> Self {
        Self {
            kind: outlet.kind,
            shared: outlet.shared,
            drains: outlet.drains,
            fence,
            destination,
            again: VecDeque::new(),
            unfinished: Vec::new(),
            unfinished_bytes: 0,
            unfinished_refused: 0,
            requests: Vec::new(),
            finish_owed: false,
            keyers: HashMap::new(),
            linger_until: None,
            retry_at: None,
            failing: false,
        }
    }

    /// Hands over until every front is gone.
    pub async fn run(mut self) {
        loop {
            while let Ok(request) = self.drains.try_recv() {
                self.requests.push(request);
            }
            self.answer_requests();
            let now = Instant::now();
            self.retry_at = self.retry_at.filter(|at| now < *at);
            if self.retry_at.is_none() {
                if self.finish_is_due(now) {
                    self.finish().await;
                    continue;
                }
                let batch = self.next_batch(now);
                if !batch.is_empty() {
                    self.write(batch).await;
                    continue;
                }
                if self.finish_is_wanted() {
                    self.finish().await;
                    continue;
                }
            }
            if !self.idle().await {
                return;
            }
        }
    }

    fn next_batch(&mut self, now: Instant) -> Vec<Arc<Chunk>> {
        let mut bytes = 0;
        let mut batch = Vec::new();
        while bytes < D::BATCH_BYTES
            && let Some(chunk) = self.again.pop_front()
        {
            bytes += chunk.bytes;
            batch.push(chunk);
        }
        if !batch.is_empty() {
            return batch;
        }
        let taken = {
            let mut queue = self.shared.queue();
            if !queue.has_sealed() {
                if !queue.has_tails() {
                    self.linger_until = None;
                    return batch;
                }
                let until = *self.linger_until.get_or_insert(now + D::LINGER);
                if now < until {
                    return batch;
                }
                queue.seal_all();
            }
            self.linger_until = None;
            queue.take(D::BATCH_BYTES)
        };
        for chunk in taken {
            // Rows of a fetch came with their ordinals.
            let keyer = self.keyers.entry(chunk.job.0).or_default();
            batch.push(Arc::new(chunk.keyed(keyer)));
        }
        batch
    }

    async fn write(&mut self, batch: Vec<Arc<Chunk>>) {
        let epoch = self.fence.epoch();
        if !self.fence.may_write() {
            self.fenced(batch).await;
            return;
        }
        let writing = self.destination.write(epoch, &batch);
        match attend(&mut self.drains, &mut self.requests, writing).await {
            None => batch.into_iter().rev().for_each(|chunk| self.again.push_front(chunk)),
            Some(Ok(written)) => {
                self.unfinished_refused += written.refused;
                for request in &mut self.requests {
                    let before = batch.iter().filter(|chunk| chunk.id < request.upto);
                    request.drained.delivered += before.map(|c| c.covered(&request.part)).sum::<u64>();
                }
                self.unfinished_bytes += batch.iter().map(|chunk| chunk.bytes).sum::<usize>();
                self.unfinished.extend(batch);
                self.succeeded();
            }
            Some(Err(error)) => {
                self.failed(&error);
                batch.into_iter().rev().for_each(|chunk| self.again.push_front(chunk));
                self.give_unfinished_again();
            }
        }
    }

    /// Also while more and more comes: what is not durable takes up room.
    fn finish_is_due(&self, now: Instant) -> bool {
        !self.unfinished.is_empty()
            && (self.unfinished_bytes >= self.shared.queue().bytes_max() / 2
                || self.destination.finish_at().is_none_or(|at| at <= now))
    }

    /// Once everything that waited is written: for those who wait for it to be durable, or for room.
    fn finish_is_wanted(&self) -> bool {
        !self.unfinished.is_empty()
            && (self.finish_owed
                || self.shared.queue().take_starved()
                || self.requests.iter().any(|request| self.owes_durability(request)))
    }

    async fn finish(&mut self) {
        if !self.fence.may_write() {
            self.fenced(Vec::new()).await;
            return;
        }
        let finishing = self.destination.finish();
        match attend(&mut self.drains, &mut self.requests, finishing).await {
            None => {}
            Some(Ok(())) => {
                self.finish_owed = false;
                let durable = std::mem::take(&mut self.unfinished);
                self.unfinished_bytes = 0;
                let records = durable.iter().map(|chunk| chunk.len() as u64).sum::<u64>();
                let refused = std::mem::take(&mut self.unfinished_refused);
                self.shared.counts.dropped.fetch_add(refused, Ordering::Relaxed);
                self.shared.counts.written.fetch_add(records - refused, Ordering::Relaxed);
                {
                    let mut queue = self.shared.queue();
                    for chunk in durable {
                        queue.settle(&chunk);
                        queue.recycle(chunk);
                    }
                }
                self.shared.room.notify_waiters();
                self.succeeded();
            }
            Some(Err(error)) => {
                self.failed(&error);
                self.give_unfinished_again();
            }
        }
    }

    fn give_unfinished_again(&mut self) {
        (self.unfinished_bytes, self.unfinished_refused) = (0, 0);
        self.unfinished.drain(..).rev().for_each(|chunk| self.again.push_front(chunk));
    }

    /// This process may not write any more: what it has is somebody else's to fetch.
    async fn fenced(&mut self, batch: Vec<Arc<Chunk>>) {
        self.destination.discard().await;
        (self.unfinished_bytes, self.unfinished_refused) = (0, 0);
        let lost = self.shared.give_up(self.unfinished.drain(..).chain(batch));
        tracing::warn!(sink = self.kind, records = lost, "this process may not write; records were given up");
    }

    fn succeeded(&mut self) {
        if std::mem::take(&mut self.failing) {
            tracing::info!(sink = self.kind, "records are written again");
        }
        self.shared.health.store(HEALTH_GOOD, Ordering::Relaxed);
    }

    fn failed(&mut self, error: &anyhow::Error) {
        self.shared.counts.errors.fetch_add(1, Ordering::Relaxed);
        self.shared.health.store(HEALTH_BAD, Ordering::Relaxed);
        self.retry_at = Some(Instant::now() + RETRY_PAUSE);
        if !std::mem::replace(&mut self.failing, true) {
            let error = logging::chain(error.as_ref());
            tracing::warn!(
                sink = self.kind,
                error,
                "records cannot be written; they are kept while there is room"
            );
        }
    }

    /// Answers those who have what they asked for, and those whose time is over.
    fn answer_requests(&mut self) {
        // Resumed meanwhile: what is waiting is wanted again.
        self.requests.retain(|request| !request.answer.is_closed());
        let now = Instant::now();
        for mut request in std::mem::take(&mut self.requests) {
            if self.is_done(&request) {
                request.answer();
            } else if request.deadline <= now {
                request.drained.dropped = self.give_up(&request.part, request.upto);
                self.finish_owed |= request.part.symbols.is_none();
                request.answer();
            } else {
                self.requests.push(request);
            }
        }
    }

    fn is_done(&self, request: &DrainRequest) -> bool {
        let job = request.part.job;
        !self.again.iter().any(|chunk| chunk.job == job && chunk.id < request.upto)
            && !self.shared.queue().waits_before(job, request.upto)
            && !self.owes_durability(request)
    }

    fn owes_durability(&self, request: &DrainRequest) -> bool {
        let owed = |chunk: &Arc<Chunk>| chunk.job == request.part.job && chunk.id < request.upto;
        request.part.symbols.is_none() && self.unfinished.iter().any(owed)
    }

    /// Gives up what waits of a part.
    fn give_up(&mut self, part: &Part, upto: u64) -> u64 {
        let mut lost = 0;
        let mut take_out = |chunk: Chunk| {
            if chunk.job != part.job || chunk.id >= upto {
                return Some(chunk);
            }
            if part.symbols.is_none() {
                lost += self.shared.give_up([Arc::new(chunk)]);
                return None;
            }
            let mut chunk = chunk;
            let out = chunk.take_out(part);
            lost += self.shared.give_up_part(&mut chunk, &out);
            if chunk.is_empty() {
                self.shared.queue().settle(&chunk);
                return None;
            }
            Some(chunk)
        };
        let again = std::mem::take(&mut self.again).into_iter().map(Arc::unwrap_or_clone);
        self.again = again.filter_map(&mut take_out).map(Arc::new).collect();
        let waiting = self.shared.queue().take_before(part.job, upto);
        let left = waiting.into_iter().filter_map(take_out).collect();
        self.shared.queue().give_back(left);
        lost
    }

    /// Waits until there may be something to do; false when nobody is left to bring anything.
    async fn idle(&mut self) -> bool {
        let retrying = self.retry_at.is_some();
        let finish_at =
            if retrying || self.unfinished.is_empty() { None } else { self.destination.finish_at() };
        let lingers = self.linger_until.filter(|_| !retrying);
        let asked = earliest(&self.requests);
        let wake = [self.retry_at, finish_at, lingers, asked].into_iter().flatten().min();
        tokio::select! {
            biased;
            request = self.drains.recv() => match request {
                Some(request) => self.requests.push(request),
                None => return false,
            },
            () = until(wake) => {}
            () = self.shared.arrived.notified(), if !retrying => {}
        }
        true
    }
}

impl DrainRequest {
    /// The asker may have left; then nobody waits for the answer.
    fn answer(self) {
        let _ = self.answer.send(self.drained);
    }
}

/// Runs `work` while requests come in; none where a request's time is over first, and then `work` is dropped.
async fn attend<T>(
    drains: &mut mpsc::Receiver<DrainRequest>,
    requests: &mut Vec<DrainRequest>,
    work: impl Future<Output = T>,
) -> Option<T> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return Some(done),
            Some(request) = drains.recv() => requests.push(request),
            () = until(earliest(requests)) => return None,
        }
    }
}

/// The next time that somebody who still waits is to be answered at the latest.
fn earliest(requests: &[DrainRequest]) -> Option<Instant> {
    let waiting = requests.iter().filter(|request| !request.answer.is_closed());
    waiting.map(|request| request.deadline).min()
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
