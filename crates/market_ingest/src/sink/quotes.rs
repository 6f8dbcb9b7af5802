//! `quotes`: the newest quote of every symbol into the store, paced.
//!
//! Pumps put events into the shared [`Conflator`] once a turn; the writer task takes what is due.
//! Nothing is written without the lease. A failed write loses nothing: its symbols are due again, with whatever is newest by then.
//! A write under way when a drain's time is over is abandoned, so that nothing lands after "paused".

mod conflator;

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alpaca_feed::message::Batch;
use alpaca_feed::symbol::{SymbolId, Symbols};
use futures_util::future::select_all;
use ingest_status::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};

use crate::config::Pacing;
use crate::lease::Fence;
use crate::logging;
use crate::store::{QuoteDocument, Store, StoreError};

use super::{Counts, DRAIN_LIMIT, Drained, JobId, Part};
use conflator::{Conflator, Latest};

/// Firestore takes at most this many writes in one request.
const WRITE_MAX: usize = 500;

/// The front: shared by all pumps.
#[derive(Clone, Debug)]
pub struct Quotes {
    shared: Arc<Shared>,
    drains: mpsc::Sender<DrainRequest>,
}

/// The back: one task that owns the store's connection for quotes.
#[derive(Debug)]
pub struct QuotesWriter {
    shared: Arc<Shared>,
    drains: mpsc::Receiver<DrainRequest>,
    store: Store,
    symbols: Arc<Symbols>,
    flush_interval: Duration,
    fence: Fence,
    failing: bool,
}

#[derive(Debug)]
struct Shared {
    // Locked once a turn by a pump and once a flush by the writer, never across an await.
    conflator: Mutex<Conflator>,
    counts: Counts,
    health: AtomicU8,
}

const HEALTH_UNKNOWN: u8 = 0;
const HEALTH_GOOD: u8 = 1;
const HEALTH_BAD: u8 = 2;

#[derive(Debug)]
struct DrainRequest {
    part: Part,
    deadline: Instant,
    drained: Drained,
    answer: oneshot::Sender<Drained>,
}

impl Quotes {
    /// The front and its back; run [`QuotesWriter::run`] as a task.
    #[must_use]
    pub fn new(store: Store, symbols: Arc<Symbols>, pacing: Pacing, fence: Fence) -> (Self, QuotesWriter) {
        let (drains, requests) = mpsc::channel(16);
        let shared = Arc::new(Shared {
            conflator: Mutex::new(Conflator::new(pacing)),
            counts: Counts::default(),
            health: AtomicU8::new(HEALTH_UNKNOWN),
        });
        let writer = QuotesWriter {
            shared: Arc::clone(&shared),
            drains: requests,
            store,
            symbols,
            flush_interval: pacing.flush_interval,
            fence,
            failing: false,
        };
        (Self { shared, drains }, writer)
    }

    pub(super) fn accept(&self, job: JobId, batch: &Batch) {
        self.shared.conflator().accept(job, batch);
    }

    pub(super) async fn drain(self, part: Part) -> Drained {
        let (answer, done) = oneshot::channel();
        let deadline = Instant::now() + DRAIN_LIMIT;
        let request = DrainRequest { part, deadline, drained: Drained::default(), answer };
        if self.drains.send(request).await.is_err() {
            return Drained::default();
        }
        done.await.unwrap_or_default()
    }

    pub(super) fn counts(&self) -> &Counts {
        &self.shared.counts
    }

    pub(super) fn healthy(&self) -> Option<bool> {
        match self.shared.health.load(Ordering::Relaxed) {
            HEALTH_UNKNOWN => None,
            health => Some(health == HEALTH_GOOD),
        }
    }
}

impl Shared {
    /// A panic elsewhere leaves the conflator whole: each call either replaces an entry or does not.
    fn conflator(&self) -> MutexGuard<'_, Conflator> {
        self.conflator.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DrainRequest {
    fn covers(&self, shared: &Shared, symbol: SymbolId) -> bool {
        self.part.covers(shared.conflator().job(symbol), symbol)
    }

    /// The asker may have left; then nobody waits for the answer.
    fn answer(self) {
        let _ = self.answer.send(self.drained);
    }
}

/// Completes when one of the askers has left; never while there is none.
async fn any_closed(requests: &mut [DrainRequest]) {
    let closed = requests.iter_mut().map(|request| Box::pin(request.answer.closed()));
    if closed.len() == 0 {
        return std::future::pending().await;
    }
    select_all(closed).await;
}

impl QuotesWriter {
    /// Writes what is due until every front is gone.
    pub async fn run(mut self) {
        let mut flush = tokio::time::interval(self.flush_interval);
        flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                request = self.drains.recv() => match request {
                    Some(request) => self.drain(request).await,
                    None => return,
                },
                _ = flush.tick() => self.flush().await,
            }
        }
    }

    async fn flush(&mut self) {
        let epoch = self.fence.pass();
        if epoch.is_none() {
            return;
        }
        let due = self.shared.conflator().take_due(Instant::now(), WRITE_MAX);
        if due.is_empty() {
            return;
        }
        let documents = self.documents(&due);
        let store = self.store.clone();
        let written = tokio::select! {
            biased;
            request = self.drains.recv() => {
                self.shared.conflator().give_back(&due);
                if let Some(request) = request {
                    self.drain(request).await;
                }
                return;
            }
            written = store.write_quotes(&documents, epoch) => written,
        };
        self.settle(&due, &documents, written);
    }

    /// Writes what is waiting of the requested parts, regardless of pacing, each until its deadline; then gives up
    /// the rest of it. Requests that come meanwhile join, so that no job waits for another's drain.
    async fn drain(&mut self, first: DrainRequest) {
        let mut requests = vec![first];
        loop {
            while let Ok(more) = self.drains.try_recv() {
                requests.push(more);
            }
            // Resumed meanwhile: what is waiting is wanted again.
            requests.retain(|request| !request.answer.is_closed());
            let over = Instant::now();
            for late in requests.extract_if(.., |request| request.deadline <= over) {
                self.give_up(late);
            }
            let covered = |job, symbol| requests.iter().any(|request| request.part.covers(job, symbol));
            let waiting = self.shared.conflator().take_waiting(WRITE_MAX, covered);
            let Some(deadline) = requests.iter().map(|request| request.deadline).min() else { return };
            let epoch = self.fence.pass();
            if epoch.is_none() {
                // A successor writes by now: what was waiting is of the past.
                self.shared.conflator().give_back(&waiting);
                requests.into_iter().for_each(|request| self.give_up(request));
                return;
            }
            if waiting.is_empty() {
                requests.into_iter().for_each(DrainRequest::answer);
                return;
            }

            let documents = self.documents(&waiting);
            let store = self.store.clone();
            let written = tokio::select! {
                biased;
                () = any_closed(&mut requests) => None,
                Some(more) = self.drains.recv() => {
                    requests.push(more);
                    None
                }
                written = tokio::time::timeout_at(deadline, store.write_quotes(&documents, epoch)) => written.ok(),
            };
            let Some(written) = written else {
                self.shared.conflator().give_back(&waiting);
                continue;
            };
            let failed = written.is_err();
            if !failed {
                for request in &mut requests {
                    let own =
                        waiting.iter().filter(|(symbol, _)| request.covers(&self.shared, *symbol)).count();
                    request.drained.delivered += own as u64;
                }
            }
            self.settle(&waiting, &documents, written);
            if failed {
                // The store answers with an error at once; do not spin until the deadline.
                let pause = tokio::time::sleep(Duration::from_millis(100));
                tokio::select! { () = any_closed(&mut requests) => {}, () = pause => {} }
            }
        }
    }

    fn give_up(&self, mut request: DrainRequest) {
        let part = &request.part;
        let dropped = self.shared.conflator().discard(|job, symbol| part.covers(job, symbol));
        self.shared.counts.dropped.fetch_add(dropped, Ordering::Relaxed);
        request.drained.dropped = dropped;
        request.answer();
    }

    fn settle(
        &mut self,
        taken: &[(SymbolId, Latest)],
        documents: &[QuoteDocument],
        written: Result<Vec<Result<(), String>>, StoreError>,
    ) {
        let counts = &self.shared.counts;
        match written {
            Ok(outcomes) => {
                for (document, outcome) in documents.iter().zip(&outcomes) {
                    if let Err(why) = outcome {
                        counts.dropped.fetch_add(1, Ordering::Relaxed);
                        tracing::warn!(symbol = %document.symbol, why, "quote refused by the store");
                    }
                }
                let good = outcomes.iter().filter(|o| o.is_ok()).count() as u64;
                counts.written.fetch_add(good, Ordering::Relaxed);
                if std::mem::take(&mut self.failing) {
                    tracing::info!("quotes are written again");
                }
                self.shared.health.store(HEALTH_GOOD, Ordering::Relaxed);
            }
            Err(error) => {
                counts.errors.fetch_add(1, Ordering::Relaxed);
                self.shared.conflator().give_back(taken);
                if !std::mem::replace(&mut self.failing, true) {
                    let error = logging::chain(&error);
                    tracing::warn!(error, "quotes cannot be written; newest values are kept");
                }
                self.shared.health.store(HEALTH_BAD, Ordering::Relaxed);
            }
        }
    }

    fn documents(&self, due: &[(SymbolId, Latest)]) -> Vec<QuoteDocument> {
        due.iter().map(|(symbol, latest)| document(self.symbols.name(*symbol), latest)).collect()
    }
}

/// Price 0 means that a side is not quoted.
fn document(symbol: Arc<str>, latest: &Latest) -> QuoteDocument {
    let side = |price: f64| (price > 0.0).then_some(price);
    let (bid, ask) = (side(latest.bid_price), side(latest.ask_price));
    QuoteDocument {
        symbol,
        source: "alpaca",
        ts: Timestamp::from_nanoseconds(latest.ts),
        bid,
        ask,
        bid_size: latest.bid_size,
        ask_size: latest.ask_size,
        price: bid.zip(ask).map(|(bid, ask)| f64::midpoint(bid, ask)),
        last_trade_price: latest.last_trade_price,
    }
}

#[cfg(test)]
mod tests;
