//! The service put together, run, and taken apart again in order.
//!
//! Every task owns its state and tells others through `watch`; a task that ends unasked is a fault
//! that ends the process. The stop is bounded at every step: sockets close and sinks drain first, then the last
//! heartbeat, then the lease is released: the venue's slot is free before the platform's grace is over, and a
//! successor neither dials beside an open socket nor is called stopped by who went before it.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alpaca_feed::lifecycle::Limits;
use alpaca_feed::subscription::EVERY_SYMBOL;
use alpaca_feed::symbol::Symbols;
use anyhow::{Context as _, bail};
use ingest_status::Timestamp;
use ingest_switch::{Hold, JobPlan, Source, watch as switch};
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::{Id, JoinError, JoinHandle, JoinSet};
use tokio::time::{Instant, timeout, timeout_at};

use crate::assets::{AssetNames, Assets, Newest};
use crate::backfill::{self, Backfill};
use crate::beat::{Beat, BeatCounts};
use crate::config::{BackfillConfig, Config, JobConfig, SinkConfig};
use crate::gaps::GapBook;
use crate::health::HealthFiles;
use crate::history::{Chronicle, Late};
use crate::http::{self, Access, Shown};
use crate::job::JobState;
use crate::lease::{Fence, Keeper, Tenure};
use crate::marks::Marks;
use crate::memory::{self, Memory};
use crate::pump::{Pump, Wiring};
use crate::report::{Identity, Report};
use crate::rest::Client;
use crate::seen::Seen;
use crate::sink::{
    BYTES_MAX, Courier, Destination, Encoder, Files, FullRate, JobId, Nats, Ndjson, Parquet, Pubsub, Quotes,
    Rotation, Sink,
};
use crate::sources::{ControlFollower, HoldSignals};
use crate::store::Store;

/// Sockets are closed and sinks drained within this time of a stop.
const PUMPS_STOP_LIMIT: Duration = Duration::from_secs(3);
/// The last heartbeat is tried until this long after a stop began; the platform's grace ends at 10 s.
const LAST_HEARTBEAT_LIMIT: Duration = Duration::from_millis(6000);
/// The gaps of a stop are written within this time.
const LAST_GAPS_LIMIT: Duration = Duration::from_millis(1000);
/// The lease is released within this time after that.
const RELEASE_LIMIT: Duration = Duration::from_millis(500);
/// The health files have had their time while all else stopped; this is what may be left of it.
const HEALTH_STOP_LIMIT: Duration = Duration::from_millis(500);
/// The store may be asked this long for the hold of an earlier run.
const RECALL_LIMIT: Duration = Duration::from_secs(2);
/// What the sources of holds have said and the switch has not yet taken up; then they wait.
const INPUTS_MAX: usize = 64;

/// A running service, as its starter sees it.
#[derive(Debug)]
pub struct Running {
    /// Where HTTP is served.
    pub http: SocketAddr,
    /// What the service is doing.
    pub report: Arc<Report>,
}

/// Names this process: unlike every other process, also of the same revision.
#[must_use]
pub fn new_instance_id(revision: Option<&str>) -> String {
    let random = RandomState::new().hash_one(std::process::id());
    format!("{}-{random:016x}", revision.unwrap_or("local"))
}

/// Runs until `stop` completes, then stops in order.
///
/// # Errors
/// When the store or the port cannot be opened, or a task ends unasked.
pub async fn run(
    config: Config,
    instance_id: String,
    signals: HoldSignals,
    stop: impl Future<Output = &'static str>,
    started: impl FnOnce(Running),
) -> anyhow::Result<()> {
    let started_at = jiff::Timestamp::now().into();
    tokio::pin!(stop);
    let boot = tokio::select! {
        biased;
        reason = &mut stop => {
            tracing::info!(reason, "stopped before it was up");
            return Ok(());
        }
        boot = Boot::new(&config) => boot?,
    };
    let Boot { client, listener, address, store, plans, names, control, inputs, decisions, watcher } = boot;

    let (stopping_tx, stopping) = watch::channel(false);
    let edges = Arc::new(Notify::new());
    let symbols = Symbols::new();
    let (keeper, fence, tenure) = Keeper::new(store.clone(), instance_id.clone(), Arc::clone(&edges));
    let (let_go, told) = oneshot::channel();
    let mut keeping = tokio::spawn(keeper.run(told));
    let mut tasks = Tasks::default();
    tasks.spawn_endless("switch", watcher.run());
    tasks.spawn_endless("signals", signals.follow(inputs.clone()));
    tasks.spawn_endless("control", control.follow(inputs));
    let book = GapBook::new();
    let (remembered, seen) = remember(&config, &store, &book, &symbols, &fence, &tenure, &mut tasks);
    let sinks = sinks(&config, &store, &symbols, &fence, &mut tasks)?;
    let newest = store.keeps_assets().then(Arc::<Newest>::default);

    let wiring = |state| Wiring {
        decisions: decisions.clone(),
        fence: fence.clone(),
        tenure: tenure.clone(),
        memory: remembered.clone(),
        book: Arc::clone(&book),
        stopping: stopping.clone(),
        state,
        edges: Arc::clone(&edges),
        sinks: sinks.clone(),
        newest: newest.clone(),
        symbols: Arc::clone(&symbols),
        client: (config.backfill != BackfillConfig::None).then(|| client.clone()),
    };
    let (mut pumps, jobs) = pumps(&config, started_at, wiring);
    let marks = Arc::new(Marks {
        // A dry run keeps nothing, so whoever comes next must ask for its time too.
        jobs: if config.dry_run { Vec::new() } else { config.jobs.clone() },
        states: jobs.clone(),
        sinks: sinks.iter().filter_map(Sink::full_rate).cloned().collect(),
        symbols: Arc::clone(&symbols),
        seen,
        pending: Mutex::default(),
        book: Arc::clone(&book),
        store: store.clone(),
        fence: fence.clone(),
        edges: Arc::clone(&edges),
    });
    mend(&config, &marks, &decisions, &client, &mut tasks);

    let identity = identity(&config, instance_id, started_at);
    let report = Arc::new(Report::new(identity, decisions, jobs, sinks, fence.clone(), Arc::clone(&book)));
    let late = Late::new(plans.len());
    let chronicle = Chronicle::new(store.clone(), Arc::clone(&report), plans.clone(), Arc::clone(&late));
    tasks.spawn_endless("history", chronicle.run(stopping.clone()));
    if let Some(newest) = newest {
        let (store, report) = (store.clone(), Arc::clone(&report));
        let assets = Assets { store, newest, symbols, names, plans, report };
        tasks.spawn_endless("data_ingest_state", assets.run(stopping.clone()));
    }
    let beats = Arc::new(BeatCounts::default());
    let beat = Beat::new(Arc::clone(&report), store.clone(), fence, remembered, Arc::clone(&beats));
    let mut beating = tokio::spawn(beat.run(edges, stopping.clone()));
    let mut health = health_files(&config, &report, &stopping);
    let shown = Shown {
        report: Arc::clone(&report),
        beats,
        store,
        plans: config.jobs.iter().map(JobConfig::plan).collect(),
        access: Arc::new(Access::new(config.admin_token.clone(), address.ip(), config.on_cloud_run)),
        late,
        stopping,
    };
    tasks.spawn("http", http::serve(listener, shown));
    tracing::info!(%address, "http_listening");
    started(Running { http: address, report });

    let fault = tokio::select! {
        reason = &mut stop => {
            tracing::info!(reason, "stopping");
            None
        }
        fault = pumps.ended() => Some(fault),
        fault = tasks.ended() => Some(fault),
        fault = health.ended() => Some(fault),
        ended = &mut beating => Some(describe("heartbeat", ended.map(|_| Ok(())))),
        ended = &mut keeping => Some(describe("lease", ended.map(|()| Ok(())))),
    };
    let lease = (let_go, keeping);
    leave(fault.as_deref(), &stopping_tx, &mut pumps, &marks, beating, lease, &mut health).await;
    tracing::info!("stopped");
    match fault {
        None => Ok(()),
        Some(fault) => bail!(fault),
    }
}

fn identity(config: &Config, instance_id: String, started_at: Timestamp) -> Identity {
    let (revision, interval) = (config.revision.clone(), config.heartbeat_interval);
    Identity { instance_id, revision, started_at, interval }
}

/// Every job is of the same account. The system's certificates are read: a file that hangs must not keep the process from
/// leaving.
async fn client(config: &Config) -> anyhow::Result<Client> {
    let credentials = config.jobs.first().context("there is no job")?.credentials.clone();
    tokio::task::spawn_blocking(move || Client::new(credentials)).await?
}

/// One pump a job, and what each shows.
fn pumps(
    config: &Config,
    started_at: Timestamp,
    wiring: impl Fn(watch::Sender<JobState>) -> Wiring,
) -> (Tasks, Vec<watch::Receiver<JobState>>) {
    let (mut pumps, mut jobs) = (Tasks::default(), Vec::new());
    for (id, job) in (0..).map(JobId).zip(&config.jobs) {
        let state = JobState::new(&job.name, started_at, Instant::now().into_std());
        let (state, shown) = watch::channel(state);
        jobs.push(shown);
        let pump = Pump::new(id, job.clone(), limits(config), config.mute_after, seed(job), wiring(state));
        pumps.spawn(&job.name, on_own_thread(job.name.clone(), pump.run()));
    }
    (pumps, jobs)
}

/// Reads what earlier producers left, under every lease, and keeps for later ones which symbols there are.
fn remember(
    config: &Config,
    store: &Store,
    book: &Arc<GapBook>,
    symbols: &Arc<Symbols>,
    fence: &Fence,
    tenure: &watch::Receiver<Tenure>,
    tasks: &mut Tasks,
) -> (watch::Receiver<Memory>, Arc<Seen>) {
    let of_every_symbol =
        |job: &JobConfig| job.subscriptions.iter().any(|(_, symbol)| symbol == EVERY_SYMBOL);
    let wanted = config.jobs.iter().any(of_every_symbol);
    let seen = Seen::new(Arc::clone(symbols), wanted);
    let (memory, remembered) = watch::channel(Memory::default());
    let (book, names) = (Arc::clone(book), Arc::clone(&seen));
    let recalling = memory::recall(store.clone(), book, names, fence.clone(), tenure.clone(), memory);
    tasks.spawn_endless("memory", recalling);
    if wanted {
        let keeping = Arc::clone(&seen).keep(store.clone(), fence.clone(), remembered.clone());
        tasks.spawn_endless("symbols", keeping);
    }
    (remembered, seen)
}

/// What keeps the account of gaps, and fills them; a dry run leaves that to whoever keeps records.
fn mend(
    config: &Config,
    marks: &Arc<Marks>,
    decisions: &watch::Receiver<switch::Decided>,
    client: &Client,
    tasks: &mut Tasks,
) {
    let fence = &marks.fence;
    tasks.spawn_endless("marks", Arc::clone(marks).run());
    tasks.spawn_endless("gaps", Arc::clone(&marks.book).keep(marks.store.clone(), fence.clone()));
    if config.dry_run {
        return;
    }
    for (id, job) in (0..).map(JobId).zip(&config.jobs) {
        let wiring = backfill::Wiring {
            book: Arc::clone(&marks.book),
            decisions: decisions.clone(),
            sinks: marks.sinks.clone(),
            symbols: Arc::clone(&marks.symbols),
            client: client.clone(),
            policy: config.backfill,
            after: config.backfill_after,
        };
        let backfill = Backfill::new(id, job.clone(), wiring);
        tasks.spawn_endless(&format!("backfill {}", job.name), backfill.run(fence.clone()));
    }
}

/// Stops in order: sockets and sinks, what was lost, the last heartbeat, the lease, the health files.
async fn leave(
    fault: Option<&str>,
    stopping: &watch::Sender<bool>,
    pumps: &mut Tasks,
    marks: &Marks,
    beating: JoinHandle<Beat>,
    (let_go, keeping): (oneshot::Sender<Instant>, JoinHandle<()>),
    health: &mut Tasks,
) {
    if let Some(fault) = fault {
        tracing::error!(fault, "a task ended unasked; the process stops");
    }
    let deadline = Instant::now() + LAST_HEARTBEAT_LIMIT;
    // The pumps hold receivers, so this cannot fail while any is left to tell.
    let _ = stopping.send(true);
    let closed = pumps.finish(PUMPS_STOP_LIMIT).await;
    marks.last(LAST_GAPS_LIMIT).await;
    // A fault is no clean stop: the heartbeat then goes stale, which is the truth.
    if fault.is_none() {
        match timeout(Duration::from_secs(1), beating).await {
            Ok(Ok(beat)) => beat.last(deadline).await,
            Ok(Err(_)) | Err(_) => tracing::warn!("task heartbeat is late; no last heartbeat"),
        }
    }
    // A socket that may still be open keeps the lease until it ends by itself. A keeper that has ended needs no word.
    let release_by = Instant::now() + RELEASE_LIMIT;
    if closed && let_go.send(release_by).is_ok() {
        let _ = timeout_at(release_by, keeping).await;
    }
    health.finish(HEALTH_STOP_LIMIT).await;
}

/// What may take its time before the service is up; dropping it gives everything up.
struct Boot {
    client: Client,
    listener: TcpListener,
    address: SocketAddr,
    store: Store,
    plans: Vec<JobPlan>,
    names: AssetNames,
    control: ControlFollower,
    inputs: mpsc::Sender<switch::Input>,
    decisions: watch::Receiver<switch::Decided>,
    watcher: switch::Watcher,
}

impl Boot {
    async fn new(config: &Config) -> anyhow::Result<Self> {
        if let Some(dir) = &config.health_dir {
            HealthFiles::forget_earlier_run(dir).await;
        }
        let listener = http::bind(SocketAddr::new(config.bind, config.port)).await?;
        let address = listener.local_addr().context("the HTTP port has no address")?;
        let client = client(config).await?;
        let store = Store::connect(&config.store, config.tenant.as_deref()).await?;
        let remembered = recall(config, &store).await;
        let plans: Vec<JobPlan> = config.jobs.iter().map(JobConfig::plan).collect();
        let names = AssetNames::new(&plans);
        // The first reading of every source is done before anything could dial.
        let (first, control) = ControlFollower::first(store.clone(), names.clone()).await;
        let (inputs, received) = mpsc::channel(INPUTS_MAX);
        let (decisions, watcher) = switch::start(switch::Config {
            env: config.switch.env.clone(),
            file: config.switch.file.clone(),
            poll: config.switch.poll,
            events: true,
            jobs: plans.clone(),
            schedule: config.switch.schedule.clone(),
            remembered,
            inputs: received,
            first,
        })
        .await;
        Ok(Self { client, listener, address, store, plans, names, control, inputs, decisions, watcher })
    }
}

/// The holds that the last heartbeat told of: those of sources that cannot be read at boot stand.
async fn recall(config: &Config, store: &Store) -> Vec<Hold> {
    let beat = match timeout(RECALL_LIMIT, store.read_heartbeat()).await {
        Ok(Ok(Some(beat))) => beat,
        Ok(Ok(None)) => return Vec::new(),
        Ok(Err(error)) => {
            let error = crate::logging::chain(&error);
            tracing::warn!(error, "the last heartbeat cannot be read; no earlier hold is known");
            return Vec::new();
        }
        Err(_) => {
            tracing::warn!("the last heartbeat was not read in time; no earlier hold is known");
            return Vec::new();
        }
    };
    let file = config.switch.file.as_deref().map(Source::file);
    let hold = |hold: ingest_status::HoldReport| {
        let spelled = file.clone().filter(|file| same_file(&hold.source, file.as_str()));
        Some(Hold {
            source: spelled.unwrap_or_else(|| Source::new(hold.source)),
            scope: hold.scope.parse().ok()?,
            reason: hold.reason,
            actor: hold.actor,
            since: hold.since.into(),
            until: hold.until.map(Into::into),
        })
    };
    beat.holds.into_iter().filter_map(hold).collect()
}

/// Two spellings of one path are one file: `./flag` and `flag`.
fn same_file(one: &str, other: &str) -> bool {
    let absolute = |source: &str| std::path::absolute(source.strip_prefix("file:")?).ok();
    match (absolute(one), absolute(other)) {
        (Some(one), Some(other)) => one.components().eq(other.components()),
        _ => one == other,
    }
}

fn sinks(
    config: &Config,
    store: &Store,
    symbols: &Arc<Symbols>,
    fence: &Fence,
    tasks: &mut Tasks,
) -> anyhow::Result<Vec<Sink>> {
    if config.dry_run {
        return Ok(vec![Sink::Null(Arc::default())]);
    }
    let jobs: Arc<[Arc<str>]> = config.jobs.iter().map(|job| Arc::from(&*job.name)).collect();
    let encoder = || Encoder::new(Arc::clone(symbols), Arc::clone(&jobs));
    let rotation = Rotation { age_max: config.file_age_max, ..Rotation::default() };
    let build = |sink: &SinkConfig| match sink {
        SinkConfig::Null => Ok(Sink::Null(Arc::default())),
        SinkConfig::Quotes => {
            let (quotes, writer) =
                Quotes::new(store.clone(), Arc::clone(symbols), config.pacing, fence.clone());
            tasks.spawn_endless("sink quotes", writer.run());
            Ok(Sink::Quotes(quotes))
        }
        SinkConfig::Ndjson(dir) => {
            let files = Files::new(dir.clone(), Ndjson::new(encoder()), rotation, fence.clone());
            Ok(full_rate("ndjson", files, fence, tasks))
        }
        SinkConfig::Parquet(dir) => {
            let files = Files::new(dir.clone(), Parquet::new(encoder())?, rotation, fence.clone());
            Ok(full_rate("parquet", files, fence, tasks))
        }
        SinkConfig::Pubsub(topic) => {
            let topic = Pubsub::new(topic.clone(), encoder(), fence.clone());
            Ok(full_rate("pubsub", topic, fence, tasks))
        }
        SinkConfig::Nats(stream) => {
            let stream = Nats::new(stream.clone(), Arc::clone(&jobs), encoder(), fence.clone());
            Ok(full_rate("nats", stream, fence, tasks))
        }
    };
    config.sinks.iter().map(build).collect()
}

fn full_rate(kind: &'static str, destination: impl Destination, fence: &Fence, tasks: &mut Tasks) -> Sink {
    let (front, outlet) = FullRate::new(kind, BYTES_MAX);
    tasks.spawn_endless(&format!("sink {kind}"), Courier::new(outlet, fence.clone(), destination).run());
    Sink::FullRate(front)
}

/// Apart from the other tasks, because it is waited for at the stop.
fn health_files(config: &Config, report: &Arc<Report>, stopping: &watch::Receiver<bool>) -> Tasks {
    let mut tasks = Tasks::default();
    if let Some(dir) = config.health_dir.clone() {
        let files = HealthFiles::new(dir, Arc::clone(report));
        tasks.spawn_endless("health files", files.run(stopping.clone()));
    }
    tasks
}

fn limits(config: &Config) -> Limits {
    Limits { backoff_base: config.backoff_base, backoff_max: config.backoff_max, ..Limits::default() }
}

/// Jitter must differ between processes and between jobs.
fn seed(job: &JobConfig) -> u64 {
    RandomState::new().hash_one(&job.name)
}

/// Tasks by name, so that one which ends or hangs can be named.
#[derive(Debug, Default)]
struct Tasks {
    set: JoinSet<anyhow::Result<()>>,
    names: HashMap<Id, String>,
}

impl Tasks {
    fn spawn(&mut self, name: &str, task: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        let id = self.set.spawn(task).id();
        self.names.insert(id, name.to_owned());
    }

    /// A task that has nothing to fail with.
    fn spawn_endless(&mut self, name: &str, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn(name, async move {
            task.await;
            Ok(())
        });
    }

    /// The first that ends, and how; never without tasks.
    async fn ended(&mut self) -> String {
        match self.set.join_next_with_id().await {
            None => std::future::pending().await,
            Some(Ok((id, outcome))) => describe(&self.names[&id], Ok(outcome)),
            Some(Err(error)) => describe(&self.names[&error.id()], Err(error)),
        }
    }

    /// Waits for all; names those that are late, and leaves them behind. Whether all have ended.
    async fn finish(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            match timeout_at(deadline, self.set.join_next_with_id()).await {
                Ok(None) => return true,
                Ok(Some(joined)) => {
                    let id = joined.map_or_else(|e| e.id(), |(id, _)| id);
                    self.names.remove(&id);
                }
                Err(_) => {
                    for name in self.names.values() {
                        tracing::warn!(task = name, "late at the stop; left behind");
                    }
                    return false;
                }
            }
        }
    }
}

/// Runs a pump on a thread of its own: it shares no queue with other tasks, so none of them can keep a frame waiting, and
/// the kernel wakes it without another thread's help. Dropped, it ends the work at its next wait.
async fn on_own_thread(
    name: String,
    work: impl Future<Output = anyhow::Result<()>> + Send + 'static,
) -> anyhow::Result<()> {
    let (mut ended, outcome) = oneshot::channel();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(format!("pump {name}")).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = ended.closed() => {}
                result = work => drop(ended.send(result)),
            }
        });
    })?;
    outcome.await.context("its thread died")?
}

fn describe(name: &str, outcome: Result<anyhow::Result<()>, JoinError>) -> String {
    match outcome {
        Ok(Ok(())) => format!("task {name} ended"),
        Ok(Err(error)) => format!("task {name} failed: {error:#}"),
        Err(error) => format!("task {name} died: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pump_that_dies_ends_its_task_and_a_task_that_is_dropped_its_pump() {
        let dead = on_own_thread("a".to_owned(), async { panic!("of this test") }).await;
        assert_eq!(dead.unwrap_err().to_string(), "its thread died");
        let failed = on_own_thread("a".to_owned(), async { bail!("no switch") }).await;
        assert_eq!(failed.unwrap_err().to_string(), "no switch");

        let (alive, ended) = oneshot::channel::<()>();
        let mut pumps = Tasks::default();
        pumps.spawn(
            "a",
            on_own_thread("a".to_owned(), async move {
                let _alive = alive;
                std::future::pending().await
            }),
        );
        tokio::task::yield_now().await;
        drop(pumps);
        assert!(ended.await.is_err(), "it was dropped with what it owned");
    }
}
