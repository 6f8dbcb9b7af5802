//! The venue as a whole: its listeners, its tasks, and the hand of the test on it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::catalogue::Catalogue;
use crate::config::{Config, Feed, Pace};
use crate::connection;
use crate::control;
use crate::data;
use crate::endpoint::Product;
use crate::fault::{Fault, FaultBoard, FaultKind, Stage};
use crate::journal::{Event, Journal};
use crate::market::Market;
use crate::session::struck;
use crate::slots::Slots;
use crate::state::{ConnectionRecord, FeedState, PathPosition, State, Totals};
use crate::synthetic::Generator;
use crate::tape;

/// A running venue. Dropping it ends it at once; [`Venue::stop`] also waits for the end.
pub struct Venue {
    addr: SocketAddr,
    control_addr: Option<SocketAddr>,
    data_addr: Option<SocketAddr>,
    shared: Arc<Shared>,
    /// The listener's task and, within it, those of the clients.
    accepting: JoinSet<()>,
    tasks: JoinSet<()>,
    /// The data port's task, and what ends it when it is dropped.
    data: JoinSet<()>,
    data_stop: watch::Sender<()>,
}

/// How long calls of the data port may take to their end when the venue stops.
const DATA_STOP_LIMIT: Duration = Duration::from_secs(1);

/// What the tasks of a venue share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) journal: Journal,
    pub(crate) faults: Arc<FaultBoard>,
    pub(crate) slots: Arc<Slots>,
    pub(crate) market: Arc<Market>,
    pub(crate) test_market: Arc<Market>,
    pub(crate) cuts: watch::Sender<CutOrder>,
    stopping: Notify,
    connections: Mutex<BTreeMap<u64, Arc<ConnectionRecord>>>,
    accepted: AtomicU64,
}

/// The last order to cut all connections.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CutOrder {
    pub(crate) rst: bool,
}

impl Venue {
    /// Reads the feed, binds the ports and starts to serve; when this returns, clients can connect.
    ///
    /// Errors when a tape cannot be read, or a port cannot be bound.
    pub async fn start(config: Config) -> anyhow::Result<Venue> {
        let feed = config.feed.clone();
        let received_at = config.received_at;
        let keep = config.data.is_some();
        // A whole session takes seconds to read.
        let build = move || -> anyhow::Result<Market> {
            let market = market(&feed, received_at)?;
            Ok(if keep { market.with_history() } else { market })
        };
        let market = tokio::task::spawn_blocking(build).await??;
        let mut catalogue = Catalogue::default();
        let generator = Generator::test_stream(&mut catalogue);
        let test_market = Market::live(catalogue, generator, received_at);
        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("cannot listen on {}", config.listen))?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            journal: Journal::new(),
            faults: FaultBoard::new(),
            slots: Slots::new(config.plan.connections_per_endpoint),
            market: Arc::new(market),
            test_market: Arc::new(test_market),
            cuts: watch::Sender::new(CutOrder::default()),
            stopping: Notify::new(),
            connections: Mutex::default(),
            accepted: AtomicU64::new(0),
            config,
        });
        for fault in &shared.config.faults {
            shared.faults.inject(fault.clone());
        }
        let mut tasks = JoinSet::new();
        let control_addr = match shared.config.control {
            Some(wanted) => Some(control::spawn(&shared, wanted, &mut tasks).await?),
            None => None,
        };
        let (data_stop, stopped) = watch::channel(());
        let mut data = JoinSet::new();
        let data_addr = match shared.config.data {
            Some(wanted) => Some(data::spawn(&shared, wanted, stopped, &mut data).await?),
            None => None,
        };
        for market in [&shared.market, &shared.test_market] {
            let market = Arc::clone(market);
            tasks.spawn(async move { market.run().await });
        }
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(Arc::clone(&shared), listener));
        Ok(Venue { addr, control_addr, data_addr, shared, accepting, tasks, data, data_stop })
    }

    /// Where clients connect.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The URL of a stream, such as `ws://127.0.0.1:4711/v2/iex` for `/v2/iex`.
    pub fn url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.addr)
    }

    /// Where the control port listens, if there is one.
    pub fn control_addr(&self) -> Option<SocketAddr> {
        self.control_addr
    }

    /// The base URL of the data port, such as `http://127.0.0.1:4712`, if there is one.
    pub fn data_url(&self) -> Option<String> {
        self.data_addr.map(|addr| format!("http://{addr}"))
    }

    /// Puts a fault in force.
    pub fn inject(&self, fault: impl Into<Fault>) {
        self.shared.faults.inject(fault.into());
    }

    /// Ends all faults; what they have done stays done.
    pub fn clear_faults(&self) {
        self.shared.faults.clear();
    }

    /// Drops all connections, by RST or by FIN.
    pub fn cut(&self, rst: bool) {
        self.shared.cut(rst);
    }

    /// The state at this moment.
    pub fn state(&self) -> State {
        self.shared.state()
    }

    /// The log from its beginning.
    pub fn log(&self) -> Vec<Event> {
        self.shared.journal.since(0)
    }

    /// Waits until the log satisfies `predicate`; false when it has not within `limit`. Cancel-safe.
    pub async fn wait_for(&self, limit: Duration, predicate: impl Fn(&[Event]) -> bool) -> bool {
        let mut changes = self.shared.journal.watch();
        let satisfied = async {
            loop {
                changes.mark_unchanged();
                if predicate(&self.log()) {
                    return;
                }
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::time::timeout(limit, satisfied).await.is_ok()
    }

    /// Closes the ports, ends all connections and waits until every task is gone.
    pub async fn stop(mut self) {
        self.shared.stopping.notify_one();
        drop(self.data_stop);
        // A client that does not take its answer must not hold the stop.
        let _ = tokio::time::timeout(DATA_STOP_LIMIT, self.data.join_next()).await;
        self.data.shutdown().await;
        while self.accepting.join_next().await.is_some() {}
        self.tasks.shutdown().await;
    }
}

impl Shared {
    /// Drops all connections.
    pub(crate) fn cut(&self, rst: bool) {
        self.cuts.send_replace(CutOrder { rst });
    }

    /// The market behind the streams of `product`.
    pub(crate) fn market_of(&self, product: Product) -> &Arc<Market> {
        if product == Product::Test { &self.test_market } else { &self.market }
    }

    /// Lists a connection in the state.
    pub(crate) fn enrol(&self, record: &Arc<ConnectionRecord>) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.insert(record.id, Arc::clone(record));
    }

    /// Takes a connection out of the state.
    pub(crate) fn forget(&self, record: &ConnectionRecord) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.remove(&record.id);
    }

    /// The state at this moment.
    pub(crate) fn state(&self) -> State {
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = connections.values().map(|c| c.state()).collect();
        let positions = self.slots.positions().into_iter();
        let positions = positions.map(|(account, path, position)| PathPosition { account, path, position });
        State {
            uptime_ms: self.journal.now_ms(),
            accepted: self.accepted.load(Ordering::Relaxed),
            connections,
            sent: Totals::of(&self.market.sent(), &self.market.catalogue),
            feed: FeedState::of(&self.market, positions.collect()),
            faults: self.faults.list(),
        }
    }
}

/// Builds the market of a feed.
fn market(feed: &Feed, received_at: bool) -> anyhow::Result<Market> {
    let mut catalogue = Catalogue::default();
    Ok(match feed {
        Feed::Tape { paths, pace, looped } => {
            let reel = tape::load(paths, &mut catalogue)?;
            match pace {
                Pace::AsTaken => Market::as_taken(catalogue, reel, *looped, received_at),
                Pace::Speed(speed) => {
                    anyhow::ensure!(speed.is_finite() && *speed > 0.0, "speed must be above 0");
                    Market::by_clock(catalogue, reel, *speed, *looped, received_at)
                }
            }
        }
        Feed::Synthetic(settings) => {
            let mut generator = Generator::new(settings, &mut catalogue);
            match settings.messages {
                Some(count) => {
                    let reel = generator.exactly(count);
                    Market::as_taken(catalogue, reel, false, received_at)
                }
                None => Market::live(catalogue, generator, received_at),
            }
        }
    })
}

/// Accepts clients until the venue stops, then ends those that are there.
async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    let mut clients = JoinSet::new();
    let mut faults = shared.faults.watch();
    let mut stalled = false;
    loop {
        faults.mark_unchanged();
        let stall = shared.faults.find(None, |k| matches!(k, FaultKind::Stall { at: Stage::Accept }));
        if let Some(fault) = stall.as_ref().filter(|_| !stalled) {
            shared.journal.record(0, None, struck(fault));
        }
        stalled = stall.is_some();
        tokio::select! {
            // A stall that begins now must win over a client that comes now.
            biased;
            () = shared.stopping.notified() => break,
            _ = faults.changed() => {}
            accepted = listener.accept(), if !stalled => match accepted {
                Ok((stream, peer)) => admit(&shared, &mut clients, stream, peer),
                // Out of file descriptors, or a client that left at once: the next may fare better.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = clients.join_next() => {}
        }
    }
    drop(listener);
    clients.shutdown().await;
}

fn admit(shared: &Arc<Shared>, clients: &mut JoinSet<()>, stream: TcpStream, peer: SocketAddr) {
    let id = shared.accepted.fetch_add(1, Ordering::Relaxed) + 1;
    clients.spawn(connection::serve(Arc::clone(shared), stream, peer.to_string(), id));
}
