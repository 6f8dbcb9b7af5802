//! The service put together, run, and taken apart again in order.
//!
//! Every task owns its state and tells others through `watch`; a task that ends unasked is a fault
//! that ends the process. The stop is bounded at every step: sockets close and sinks drain first,
//! then the last heartbeat, so that the venue's slot is free before the platform's grace is over.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use alpaca_feed::lifecycle::Limits;
use alpaca_feed::symbol::Symbols;
use anyhow::{Context as _, bail};
use ingest_switch::{Hold, Scope, Source, watch as switch};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, timeout, timeout_at};

use crate::beat::{Beat, BeatCounts};
use crate::config::{Config, JobConfig, SinkConfig};
use crate::http::{self, Shown};
use crate::job::JobState;
use crate::pump::{Pump, Wiring};
use crate::report::{Identity, Report};
use crate::sink::{Quotes, Sink};
use crate::store::Store;

/// Sockets are closed and sinks drained within this time of a stop.
const PUMPS_STOP_LIMIT: Duration = Duration::from_secs(3);
/// The last heartbeat is tried until this long after a stop began; the platform's grace ends at 10 s.
const LAST_HEARTBEAT_LIMIT: Duration = Duration::from_millis(6500);
/// The store may be asked this long for the hold of an earlier run.
const RECALL_LIMIT: Duration = Duration::from_secs(2);

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
    let Boot { listener, address, store, decisions, watcher } = boot;

    let (stopping_tx, stopping) = watch::channel(false);
    let edges = Arc::new(Notify::new());
    let symbols = Symbols::new();
    let mut tasks = Tasks::default();
    tasks.spawn("switch", async move {
        watcher.run().await;
        Ok(())
    });
    let sinks = sinks(&config, &store, &symbols, &mut tasks);

    let mut pumps = Tasks::default();
    let mut jobs = Vec::new();
    for job in &config.jobs {
        let state = JobState::new(&job.name, started_at, Instant::now().into_std());
        let (state, shown) = watch::channel(state);
        jobs.push(shown);
        let wiring = Wiring {
            decisions: decisions.clone(),
            stopping: stopping.clone(),
            state,
            edges: Arc::clone(&edges),
            sinks: sinks.clone(),
            symbols: Arc::clone(&symbols),
        };
        pumps.spawn(&job.name, Pump::new(job.clone(), limits(&config), seed(job), wiring).run());
    }

    let identity = Identity {
        instance_id,
        revision: config.revision.clone(),
        started_at,
        interval: config.heartbeat_interval,
    };
    let report = Arc::new(Report::new(identity, decisions, jobs, sinks));
    let beats = Arc::new(BeatCounts::default());
    let beat = Beat::new(Arc::clone(&report), store, Arc::clone(&beats));
    let mut beating = tokio::spawn(beat.run(edges, stopping.clone()));
    let shown = Shown { report: Arc::clone(&report), beats };
    tasks.spawn("http", http::serve(listener, shown, stopping));
    tracing::info!(%address, "http_listening");
    started(Running { http: address, report });

    let fault = tokio::select! {
        reason = &mut stop => {
            tracing::info!(reason, "stopping");
            None
        }
        fault = pumps.ended() => Some(fault),
        fault = tasks.ended() => Some(fault),
        ended = &mut beating => Some(describe("heartbeat", ended.map(|_| Ok(())))),
    };
    if let Some(fault) = &fault {
        tracing::error!(fault, "a task ended unasked; the process stops");
    }
    let deadline = Instant::now() + LAST_HEARTBEAT_LIMIT;
    // The pumps hold receivers, so this cannot fail while any is left to tell.
    let _ = stopping_tx.send(true);
    pumps.finish(PUMPS_STOP_LIMIT).await;
    // A fault is no clean stop: the heartbeat then goes stale, which is the truth.
    if fault.is_none() {
        match timeout(Duration::from_secs(1), beating).await {
            Ok(Ok(beat)) => beat.last(deadline).await,
            Ok(Err(_)) | Err(_) => tracing::warn!("task heartbeat is late; no last heartbeat"),
        }
    }
    tracing::info!("stopped");
    match fault {
        None => Ok(()),
        Some(fault) => bail!(fault),
    }
}

/// What may take its time before the service is up; dropping it gives everything up.
struct Boot {
    listener: TcpListener,
    address: SocketAddr,
    store: Store,
    decisions: watch::Receiver<switch::Decided>,
    watcher: switch::Watcher,
}

impl Boot {
    async fn new(config: &Config) -> anyhow::Result<Self> {
        let listener = http::bind(SocketAddr::new(config.bind, config.port)).await?;
        let address = listener.local_addr().context("the HTTP port has no address")?;
        let store = Store::connect(config).await?;
        let remembered = recall(config, &store).await;
        // The first reading of the switch is done before anything could dial.
        let (decisions, watcher) = switch::start(switch::Config {
            env: config.switch.env.clone(),
            file: config.switch.file.clone(),
            poll: config.switch.poll,
            events: true,
            remembered,
        })
        .await;
        Ok(Self { listener, address, store, decisions, watcher })
    }
}

/// The hold of this same flag file that the last heartbeat told of: it stands when the file cannot
/// be read at boot.
async fn recall(config: &Config, store: &Store) -> Option<Hold> {
    let source = Source::file(config.switch.file.as_deref()?);
    let beat = match timeout(RECALL_LIMIT, store.read_heartbeat()).await {
        Ok(Ok(beat)) => beat?,
        Ok(Err(error)) => {
            let error = crate::logging::chain(&error);
            tracing::warn!(error, "the last heartbeat cannot be read; no earlier hold is known");
            return None;
        }
        Err(_) => {
            tracing::warn!("the last heartbeat was not read in time; no earlier hold is known");
            return None;
        }
    };
    let hold = beat.holds.into_iter().find(|hold| same_file(&hold.source, source.as_str()))?;
    Some(Hold {
        source,
        scope: Scope::All,
        reason: hold.reason,
        actor: hold.actor,
        since: hold.since.into(),
        until: hold.until.map(Into::into),
    })
}

/// Two spellings of one path are one file: `./flag` and `flag`.
fn same_file(one: &str, other: &str) -> bool {
    let absolute = |source: &str| std::path::absolute(source.strip_prefix("file:")?).ok();
    match (absolute(one), absolute(other)) {
        (Some(one), Some(other)) => one.components().eq(other.components()),
        _ => one == other,
    }
}

fn sinks(config: &Config, store: &Store, symbols: &Arc<Symbols>, tasks: &mut Tasks) -> Vec<Sink> {
    if config.dry_run {
        return vec![Sink::Null(Arc::default())];
    }
    let build = |sink: &SinkConfig| match sink {
        SinkConfig::Null => Sink::Null(Arc::default()),
        SinkConfig::Quotes => {
            let (quotes, writer) = Quotes::new(store.clone(), Arc::clone(symbols), config.pacing);
            tasks.spawn("sink quotes", async move {
                writer.run().await;
                Ok(())
            });
            Sink::Quotes(quotes)
        }
    };
    config.sinks.iter().map(build).collect()
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

    /// The first that ends, and how; never without tasks.
    async fn ended(&mut self) -> String {
        match self.set.join_next_with_id().await {
            None => std::future::pending().await,
            Some(Ok((id, outcome))) => describe(&self.names[&id], Ok(outcome)),
            Some(Err(error)) => describe(&self.names[&error.id()], Err(error)),
        }
    }

    /// Waits for all; names those that are late, and drops them.
    async fn finish(&mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        loop {
            match timeout_at(deadline, self.set.join_next_with_id()).await {
                Ok(None) => return,
                Ok(Some(joined)) => {
                    let id = joined.map_or_else(|e| e.id(), |(id, _)| id);
                    self.names.remove(&id);
                }
                Err(_) => {
                    for name in self.names.values() {
                        tracing::warn!(task = name, "late at the stop; left behind");
                    }
                    return;
                }
            }
        }
    }
}

fn describe(name: &str, outcome: Result<anyhow::Result<()>, JoinError>) -> String {
    match outcome {
        Ok(Ok(())) => format!("task {name} ended"),
        Ok(Err(error)) => format!("task {name} failed: {error:#}"),
        Err(error) => format!("task {name} died: {error}"),
    }
}
