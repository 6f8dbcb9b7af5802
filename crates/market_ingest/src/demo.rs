//! `market-ingest demo`: the real service against a simulated venue in the same process, with an
//! SQLite store and a flag file in a directory of its own. No keys, no cloud.
//!
//! Only the venue is simulated; everything else is what runs in production.

use std::io::{IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use alpaca_sim::{Config as VenueConfig, Feed, Pace, Synthetic, Venue};
use anyhow::Context as _;
use ingest_status::{JobStatus, Observed, Thresholds, judge};
use tokio::sync::oneshot;

use crate::config::Config;
use crate::job::JobState;
use crate::logging;
use crate::report::Report;
use crate::service::{self, Running};
use crate::sources::HoldSignals;

/// How often the status line is drawn on a terminal.
const REDRAW: Duration = Duration::from_millis(200);
/// How often a line is printed where there is no terminal.
const REPRINT: Duration = Duration::from_secs(5);

/// What the demonstration may be asked for.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// Replay this tape (.ndjson, .gz or .zst) instead of a made-up market
    #[arg(long, value_name = "FILE")]
    tape: Option<PathBuf>,
    /// How many times faster than it happened a tape is replayed
    #[arg(long, default_value_t = 1.0, value_name = "X")]
    speed: f64,
    /// Messages a second of the made-up market
    #[arg(long, default_value_t = 1000.0, value_name = "N")]
    rate: f64,
    /// Keep store, flag file and log here; default: a directory that is removed at the end
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// HTTP port; 0 takes a free one
    #[arg(long, default_value_t = 0, value_name = "PORT")]
    port: u16,
}

/// Runs until `stop` completes.
///
/// # Errors
/// When the directory, the tape or a port cannot be used.
pub async fn run(
    options: Options,
    signals: HoldSignals,
    stop: impl Future<Output = &'static str>,
) -> anyhow::Result<()> {
    let temporary = match &options.dir {
        Some(dir) => {
            std::fs::create_dir_all(dir).with_context(|| format!("--dir {}", dir.display()))?;
            None
        }
        None => Some(tempfile::Builder::new().prefix("market-ingest-demo-").tempdir()?),
    };
    let dir = match (&options.dir, &temporary) {
        (Some(dir), _) => std::path::absolute(dir)?,
        (None, Some(temporary)) => temporary.path().to_owned(),
        (None, None) => anyhow::bail!("no directory"),
    };
    let flag = dir.join("ingest_enabled");
    if !flag.exists() {
        std::fs::write(&flag, "on\n").with_context(|| format!("{}", flag.display()))?;
    }
    let venue = Venue::start(venue_config(&options)?).await.context("the simulated venue")?;
    let config = service_config(&options, &dir, &flag, &venue)?;
    let instance_id = service::new_instance_id(None);
    let _log = logging::init_to_file(&dir.join("log.jsonl"), &instance_id)?;

    let (running_tx, running) = oneshot::channel();
    let started = |running: Running| {
        print_guide(&running, &dir, &flag);
        // The receiver lives as long as this function.
        let _ = running_tx.send(running.report);
    };
    let show = async {
        match running.await {
            Ok(report) => show(&report).await,
            Err(_) => std::future::pending().await,
        }
    };
    let outcome = tokio::select! {
        outcome = service::run(config, instance_id, signals, stop, started) => outcome,
        () = show => Ok(()),
    };
    clear_line();
    venue.stop().await;
    println!("stopped");
    outcome
}

fn venue_config(options: &Options) -> anyhow::Result<VenueConfig> {
    let feed = match &options.tape {
        Some(tape) => {
            anyhow::ensure!(tape.exists(), "--tape {}: there is no such file", tape.display());
            Feed::Tape { paths: vec![tape.clone()], pace: Pace::Speed(options.speed), looped: true }
        }
        None => Feed::Synthetic(Synthetic { rate_per_s: options.rate, ..Synthetic::default() }),
    };
    // What a pause misses is fetched afterwards, as from the venue itself.
    let data = Some(std::net::SocketAddr::from(([127, 0, 0, 1], 0)));
    Ok(VenueConfig { feed, data, ..VenueConfig::default() })
}

fn service_config(options: &Options, dir: &Path, flag: &Path, venue: &Venue) -> anyhow::Result<Config> {
    let vars = [
        ("ALPACA_STREAM_URL", format!("ws://{}", venue.addr())),
        ("ALPACA_DATA_URL", venue.data_url().unwrap_or_default()),
        ("ALPACA_DATA_FEED", "sip".to_owned()),
        ("MONITORED_SYMBOLS", "*".to_owned()),
        ("INGEST_STORE", format!("sqlite:{}", dir.join("store.db").display())),
        ("INGEST_SINKS", format!("quotes,ndjson:{}", dir.join("records").display())),
        ("INGEST_FILE_MAX_AGE_S", "10".to_owned()),
        ("INGEST_ENABLED_FILE", flag.display().to_string()),
        ("HEARTBEAT_INTERVAL_S", "5".to_owned()),
        ("PORT", options.port.to_string()),
    ];
    Ok(Config::from_vars(vars.map(|(name, value)| (name.to_owned(), value)), true)?)
}

fn print_guide(running: &Running, dir: &Path, flag: &Path) {
    let (http, dir, flag) = (running.http, dir.display(), flag.display());
    println!(
        "market-ingest demo: a simulated market, an SQLite store, no keys, no cloud

  dashboard http://{http}
  status    http://{http}/api/v1/status
  metrics   http://{http}/metrics
  store     {dir}/store.db
  records   {dir}/records
  log       {dir}/log.jsonl

  pause it from another terminal   echo off > {flag}
  resume it                        echo on > {flag}
  stop it                          Ctrl-C
"
    );
}

/// Shows what the service does, for as long as it is polled.
async fn show(report: &Arc<Report>) {
    let terminal = std::io::stdout().is_terminal();
    let mut last = (Instant::now(), 0);
    let mut told = String::new();
    let mut printed_at: Option<Instant> = None;
    loop {
        let now = jiff::Timestamp::now();
        let jobs = report.jobs();
        let beat = report.heartbeat(now.into());
        let verdict = judge(Observed::Document(&beat), now.into(), Thresholds::Interval);
        let messages: u64 = jobs.iter().map(JobState::messages_total).sum();
        let rate = (messages - last.1) as f64 / last.0.elapsed().as_secs_f64().max(1e-3);
        last = (Instant::now(), messages);

        // Also before the lease: the venue is in this process, so that nothing has come yet is no news.
        let starting =
            jobs.iter().any(|job| job.status() == JobStatus::Starting) || messages == 0 && !report.paused();
        let (word, because) = match (starting, verdict.tradeable) {
            (true, _) => ("starting", ""),
            (false, true) => (verdict.standing.as_str(), ""),
            (false, false) => (verdict.standing.as_str(), verdict.sentence.as_str()),
        };
        let state = format!("{word} {because}");
        if state != told {
            clear_line();
            let effect = match jobs.iter().find_map(|job| job.pause_effect_s) {
                Some(s) if report.paused() => format!(" (complete after {:.1} ms)", s * 1e3),
                _ => String::new(),
            };
            println!("{}  {word}{effect}  {because}", now.strftime("%H:%M:%SZ"));
            told = state;
        }
        let symbol = beat.last_symbol.as_deref().unwrap_or("-");
        let line = format!("{word:<8} {messages:>12} messages {rate:>9.0}/s  last {symbol}");
        if terminal {
            print!("\r\x1b[2K{line}");
            // A closed terminal is no reason to stop the service.
            let _ = std::io::stdout().flush();
        } else if printed_at.is_none_or(|at| at.elapsed() >= REPRINT) {
            println!("{line}");
            printed_at = Some(Instant::now());
        }
        tokio::time::sleep(REDRAW).await;
    }
}

fn clear_line() {
    if std::io::stdout().is_terminal() {
        print!("\r\x1b[2K");
    }
}
