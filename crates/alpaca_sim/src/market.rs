//! Where elements come from: a prepared reel that each client takes at its own pace, or a clock that runs for all.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use crate::catalogue::Catalogue;
use crate::channel::Channel;
use crate::endpoint::{Codec, Product};
use crate::history::{History, KEPT_BYTES};
use crate::reel::Reel;
use crate::subscription::Subscriptions;
use crate::synthetic::Generator;

/// Batches of a running clock that a connection may leave untaken.
const BATCHES_KEPT: usize = 1_024;
/// How often a synthetic market in real time makes its elements.
const TICK: Duration = Duration::from_millis(2);

/// Elements that fall due together.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) reel: Arc<Reel>,
    pub(crate) range: Range<usize>,
}

/// One market with its totals.
pub(crate) struct Market {
    pub(crate) catalogue: Catalogue,
    pub(crate) received_at: bool,
    source: Source,
    /// Elements handed to clients, per series.
    sent: Vec<AtomicU64>,
    made: Mutex<Made>,
    /// Elements that the clock has gone past.
    position: AtomicU64,
    subscribed: watch::Sender<bool>,
    /// When the clock of a tape began.
    started: OnceLock<Instant>,
    finished: AtomicBool,
    /// Kept for the data port only.
    history: Option<RwLock<History>>,
}

enum Source {
    AsTaken { reel: Arc<Reel>, looped: bool },
    Clock { reel: Arc<Reel>, speed: f64, looped: bool, batches: broadcast::Sender<Batch> },
    Live { generator: Box<Mutex<Generator>>, batches: broadcast::Sender<Batch> },
}

/// What the market holds, or has made so far: counts per series, and the newest quote per series.
#[derive(Debug, Default)]
pub(crate) struct Made {
    pub(crate) counts: Vec<u64>,
    pub(crate) last_quotes: HashMap<u32, Vec<u8>>,
}

impl Made {
    fn add(&mut self, reel: &Reel, catalogue: &Catalogue) {
        self.counts.resize(catalogue.all().len(), 0);
        let mut last: HashMap<u32, usize> = HashMap::new();
        for index in 0..reel.len() {
            let series = reel.series(index);
            self.counts[series as usize] += 1;
            if catalogue.get(series).channel == Channel::Quotes {
                last.insert(series, index);
            }
        }
        for (series, index) in last {
            self.last_quotes.insert(series, reel.json(index).to_vec());
        }
    }
}

/// A connection's way to the elements.
pub(crate) enum Tap {
    /// Taken from the reel as fast as the client takes them.
    Reel { reel: Arc<Reel>, looped: bool },
    /// Handed out as they fall due.
    Clock(broadcast::Receiver<Batch>),
}

impl Market {
    /// A tape that every subscriber takes at its own pace.
    pub(crate) fn as_taken(catalogue: Catalogue, reel: Reel, looped: bool, received_at: bool) -> Market {
        let reel = Arc::new(reel);
        let source = Source::AsTaken { reel: Arc::clone(&reel), looped };
        Market::of_reel(catalogue, source, &reel, received_at)
    }

    /// A tape that runs by its own clock, `speed` times as fast.
    pub(crate) fn by_clock(
        catalogue: Catalogue,
        reel: Reel,
        speed: f64,
        looped: bool,
        received_at: bool,
    ) -> Market {
        let reel = Arc::new(reel);
        let source = Source::Clock {
            reel: Arc::clone(&reel),
            speed,
            looped,
            batches: broadcast::Sender::new(BATCHES_KEPT),
        };
        Market::of_reel(catalogue, source, &reel, received_at)
    }

    fn of_reel(catalogue: Catalogue, source: Source, reel: &Reel, received_at: bool) -> Market {
        let mut made = Made::default();
        made.add(reel, &catalogue);
        Market::new(catalogue, source, made, received_at)
    }

    /// A synthetic market in real time.
    pub(crate) fn live(catalogue: Catalogue, generator: Generator, received_at: bool) -> Market {
        let source = Source::Live {
            generator: Box::new(Mutex::new(generator)),
            batches: broadcast::Sender::new(BATCHES_KEPT),
        };
        Market::new(catalogue, source, Made::default(), received_at)
    }

    fn new(catalogue: Catalogue, source: Source, made: Made, received_at: bool) -> Market {
        let sent = catalogue.all().iter().map(|_| AtomicU64::new(0)).collect();
        Market {
            catalogue,
            received_at,
            source,
            sent,
            made: Mutex::new(made),
            position: AtomicU64::new(0),
            subscribed: watch::Sender::new(false),
            started: OnceLock::new(),
            finished: AtomicBool::new(false),
            history: None,
        }
    }

    /// Keeps what was sent for the data port: a reel whole, a market without end up to a bound.
    pub(crate) fn with_history(mut self) -> Market {
        let mut history = History::new(&self.catalogue, KEPT_BYTES);
        if let Source::AsTaken { reel, .. } | Source::Clock { reel, .. } = &self.source {
            history.add(reel);
        }
        self.history = Some(RwLock::new(history));
        self
    }

    /// What was kept. Hold it briefly: a market in real time waits to add to it.
    pub(crate) fn history(&self) -> Option<RwLockReadGuard<'_, History>> {
        self.history.as_ref().map(|h| h.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The market's clock in Unix nanoseconds: a tape's own where it runs by one, else the wall clock.
    pub(crate) fn now_ns(&self) -> i64 {
        match &self.source {
            Source::Clock { reel, speed, .. } => {
                let gone_ns = self.started.get().map_or(0.0, |s| s.elapsed().as_secs_f64() * speed * 1e9);
                reel.due_ns(0).saturating_add(gone_ns as i64)
            }
            Source::AsTaken { .. } | Source::Live { .. } => {
                i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
            }
        }
    }

    /// Until when elements must have been due to be public, if that takes `lag` of the market's time.
    pub(crate) fn public_until_ns(&self, lag: Duration) -> i64 {
        let lag_ns = i64::try_from(lag.as_nanos()).unwrap_or(i64::MAX);
        match &self.source {
            Source::AsTaken { .. } => i64::MAX,
            Source::Clock { .. } if self.started.get().is_none() => i64::MIN,
            Source::Clock { .. } | Source::Live { .. } => self.now_ns().saturating_sub(lag_ns),
        }
    }

    /// Encodes what can be encoded ahead; the first call for MessagePack takes a second for a million elements.
    pub(crate) fn prepare(&self, codec: Codec) {
        if let Source::AsTaken { reel, .. } | Source::Clock { reel, .. } = &self.source {
            reel.encoded(codec, &self.catalogue, self.received_at);
        }
    }

    /// A connection's way in. Elements that fall due before this call are missed.
    pub(crate) fn tap(&self) -> Tap {
        match &self.source {
            Source::AsTaken { reel, looped } => Tap::Reel { reel: Arc::clone(reel), looped: *looped },
            Source::Clock { batches, .. } | Source::Live { batches, .. } => Tap::Clock(batches.subscribe()),
        }
    }

    /// Tells the clock that somebody has subscribed: a tape begins then.
    pub(crate) fn note_subscriber(&self) {
        self.subscribed.send_if_modified(|s| !std::mem::replace(s, true));
    }

    /// For every series whether a session of `product` with these subscriptions gets it.
    pub(crate) fn wanted(&self, subscriptions: &Subscriptions, product: Product) -> Vec<bool> {
        self.catalogue
            .all()
            .iter()
            .map(|s| {
                serves(product, s.product) && s.symbols.iter().any(|y| subscriptions.wants(s.channel, y))
            })
            .collect()
    }

    /// Whether streams of `product` carry this series.
    pub(crate) fn serves(&self, series: u32, product: Product) -> bool {
        serves(product, self.catalogue.get(series).product)
    }

    /// Counts an element as sent.
    pub(crate) fn count_sent(&self, series: u32) {
        self.sent[series as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Elements sent so far, per series.
    pub(crate) fn sent(&self) -> Vec<u64> {
        self.sent.iter().map(|n| n.load(Ordering::Relaxed)).collect()
    }

    /// What the market holds or has made.
    pub(crate) fn made(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of elements of the reel; `None` for a market without end.
    pub(crate) fn len(&self) -> Option<u64> {
        match &self.source {
            Source::AsTaken { reel, .. } | Source::Clock { reel, .. } => Some(reel.len() as u64),
            Source::Live { .. } => None,
        }
    }

    /// Elements that the clock has gone past; 0 for a reel that clients take.
    pub(crate) fn position(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }

    /// Notes that a client has got all of the reel, or the clock has come to its end.
    pub(crate) fn note_finished(&self) {
        self.finished.store(true, Ordering::Relaxed);
    }

    /// Whether the end was reached by anyone.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Relaxed)
    }

    /// Runs the clock, for ever; a market whose clients take at their own pace has none.
    pub(crate) async fn run(&self) {
        match &self.source {
            Source::AsTaken { .. } => {}
            Source::Clock { reel, speed, looped, batches } => {
                let mut subscribed = self.subscribed.subscribe();
                if subscribed.wait_for(|s| *s).await.is_err() {
                    return;
                }
                loop {
                    self.play(reel, *speed, batches).await;
                    if !*looped {
                        break;
                    }
                }
                self.note_finished();
            }
            Source::Live { generator, batches } => self.improvise(generator, batches).await,
        }
    }

    async fn play(&self, reel: &Arc<Reel>, speed: f64, batches: &broadcast::Sender<Batch>) {
        let origin = Instant::now();
        // A loop begins again, but what was public stays so.
        self.started.get_or_init(|| origin);
        let first_ns = reel.due_ns(0);
        let mut next = 0;
        while next < reel.len() {
            let tape_ns = reel.due_ns(next).saturating_sub(first_ns).max(0) as u64;
            let wait = Duration::from_nanos(tape_ns).as_secs_f64() / speed;
            tokio::time::sleep_until(origin + Duration::from_secs_f64(wait)).await;
            let gone_ns = origin.elapsed().as_secs_f64() * speed * 1e9;
            let now_ns = first_ns.saturating_add(gone_ns as i64);
            // The clock may have been read a hair before the element it was set for.
            let end = reel.first_after(next, now_ns).max(next + 1);
            let range = next..end;
            next = end;
            self.position.fetch_add(range.len() as u64, Ordering::Relaxed);
            let reel = Arc::clone(reel);
            // No receiver means nobody is connected: the market goes on without them.
            let _ = batches.send(Batch { reel, range });
        }
    }

    async fn improvise(&self, generator: &Mutex<Generator>, batches: &broadcast::Sender<Batch>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            let now = jiff::Timestamp::now();
            let reel = generator.lock().unwrap_or_else(PoisonError::into_inner).until(now);
            if reel.len() == 0 {
                continue;
            }
            self.made().add(&reel, &self.catalogue);
            let range = 0..reel.len();
            self.position.fetch_add(range.len() as u64, Ordering::Relaxed);
            let reel = Arc::new(reel);
            if let Some(history) = &self.history {
                history.write().unwrap_or_else(PoisonError::into_inner).add(&reel);
            }
            let _ = batches.send(Batch { reel, range });
        }
    }
}

/// Whether streams of `product` carry elements of `own`; the test stream has a market of its own, of stocks.
fn serves(product: Product, own: Product) -> bool {
    own == product || (product == Product::Test && own == Product::Stocks)
}
