//! `market-ingest`: reads the environment, runs, stops in order, and says how it went by its exit code.

use std::io::IsTerminal;
use std::num::NonZeroU32;
use std::path::Path;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use market_ingest::config::{Config, VARIABLES, env_vars, listing, strangers};
use market_ingest::health::{self, Inspection};
use market_ingest::sources::HoldSignals;
use market_ingest::{logging, service};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

/// A bad configuration, as in sysexits.h.
const EX_USAGE: u8 = 64;
/// A read of a mounted file that hangs must not hold the exit.
const RUNTIME_SHUTDOWN_LIMIT: Duration = Duration::from_millis(500);

/// Streams market data from Alpaca, with a switch that halts and resumes it while it runs.
#[derive(Parser)]
#[command(name = "market-ingest", version, after_help = environment_help())]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the producer (the default).
    Run,
    /// Print every variable with its value; secrets are not shown.
    Config,
    /// Print what the health files in INGEST_HEALTH_DIR say; exit code 0 while the process vouches for them, else 1.
    Health,
    /// Hold (USR1) or release (USR2) ingestion of a running producer, for an image without a shell.
    Signal {
        /// The signal.
        #[arg(value_enum, ignore_case = true)]
        signal: SwitchSignal,
        /// The producer's process id; in its own container that is 1.
        #[arg(default_value = "1")]
        pid: NonZeroU32,
    },
    /// Run against a simulated venue on this machine: no keys, no cloud.
    #[cfg(feature = "demo")]
    Demo(market_ingest::demo::Options),
}

#[derive(Clone, Copy, ValueEnum)]
enum SwitchSignal {
    #[value(name = "USR1", alias = "SIGUSR1")]
    Usr1,
    #[value(name = "USR2", alias = "SIGUSR2")]
    Usr2,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are asked for and go to stdout with code 0.
            let code = if error.use_stderr() { EX_USAGE } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    // Two TLS providers in one process panic at the first wss://; this names the one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match cli.command.unwrap_or(Command::Run) {
        Command::Run => run(),
        Command::Config => print_config(),
        Command::Health => print_health(),
        Command::Signal { signal, pid } => send(signal, pid),
        #[cfg(feature = "demo")]
        Command::Demo(options) => finish(|signals, stop| market_ingest::demo::run(options, signals, stop)),
    }
}

fn run() -> ExitCode {
    let config = match Config::from_env(std::io::stdout().is_terminal()) {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("{problems}");
            return ExitCode::from(EX_USAGE);
        }
    };
    let instance_id = service::new_instance_id(config.revision.as_deref());
    let _log = logging::init(config.log_format, &instance_id);
    for variable in strangers(env_vars().map(|(name, _)| name)) {
        tracing::warn!(variable, "ignored: no variable of this version; `market-ingest --help` lists them");
    }
    let stop_after = config.stop_after;
    finish(|signals, signal| async move {
        let stop = async move {
            let after = async {
                match stop_after {
                    Some(after) => tokio::time::sleep(after).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                name = signal => name,
                () = after => "STOP_AFTER_SECONDS",
            }
        };
        service::run(config, instance_id, signals, stop, |_| {}).await
    })
}

fn print_config() -> ExitCode {
    print!("{}", listing(env_vars()));
    for variable in strangers(env_vars().map(|(name, _)| name)) {
        eprintln!("{variable}: ignored, no variable of this version");
    }
    match Config::from_env(true) {
        Ok(_) => ExitCode::SUCCESS,
        Err(problems) => {
            eprintln!("{problems}");
            ExitCode::from(EX_USAGE)
        }
    }
}

fn print_health() -> ExitCode {
    let Some(dir) = std::env::var_os("INGEST_HEALTH_DIR").filter(|dir| !dir.is_empty()) else {
        eprintln!("market-ingest: INGEST_HEALTH_DIR is not set, so there are no health files");
        return ExitCode::from(EX_USAGE);
    };
    let dir = Path::new(&dir);
    let fault = match health::inspect(dir, jiff::Timestamp::now()) {
        Ok(Inspection { text, fault }) => {
            print!("{text}");
            fault
        }
        Err(error) => Some(error.to_string()),
    };
    match fault {
        None => ExitCode::SUCCESS,
        Some(fault) => {
            eprintln!("market-ingest: {} vouches for nobody: {fault}", dir.join("liveness").display());
            ExitCode::FAILURE
        }
    }
}

fn send(signal: SwitchSignal, pid: NonZeroU32) -> ExitCode {
    let signal = match signal {
        SwitchSignal::Usr1 => Signal::USR1,
        SwitchSignal::Usr2 => Signal::USR2,
    };
    let sent = match i32::try_from(pid.get()).ok().and_then(Pid::from_raw) {
        None => Err(Errno::SRCH),
        Some(pid) => kill_process(pid, signal),
    };
    match sent {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("market-ingest: process {pid}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a future on a runtime of its own that cannot be kept from ending. The future is given the
/// signals to hold and to stop, which are caught from here on.
fn finish<F>(work: impl FnOnce(HoldSignals, StopSignal) -> F) -> ExitCode
where
    F: Future<Output = anyhow::Result<()>>,
{
    let caught = Runtime::new().and_then(|runtime| {
        let context = runtime.enter();
        let signals = (HoldSignals::catch()?, stop_signal()?);
        drop(context);
        Ok((runtime, signals))
    });
    let (runtime, (hold, stop)) = match caught {
        Ok(all) => all,
        Err(error) => {
            eprintln!("market-ingest: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async { work(hold, stop).await });
    runtime.shutdown_timeout(RUNTIME_SHUTDOWN_LIMIT);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("market-ingest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

type StopSignal = Pin<Box<dyn Future<Output = &'static str>>>;

/// Completes with the name of the signal that asks the process to leave. The handlers are installed
/// at once, not at the first poll: as process 1 of a container a signal without one is lost.
fn stop_signal() -> std::io::Result<StopSignal> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    Ok(Box::pin(async move {
        tokio::select! {
            _ = term.recv() => "SIGTERM",
            _ = int.recv() => "SIGINT",
        }
    }))
}

fn environment_help() -> String {
    let mut help = String::from("Environment:\n");
    for v in VARIABLES {
        help.push_str(&format!("  {:<27} {} [{}]\n", v.name, v.meaning, v.default));
    }
    help.push_str("\nExit codes: 0 clean stop, 64 configuration, 1 anything else.");
    help
}
