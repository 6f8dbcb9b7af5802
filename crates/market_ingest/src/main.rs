//! `market-ingest`: reads the environment, runs, stops in order, and says how it went by its exit code.

use std::io::IsTerminal;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use market_ingest::config::{Config, VARIABLES, env_vars, listing};
use market_ingest::{logging, service};
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
    /// Run against a simulated venue on this machine: no keys, no cloud.
    #[cfg(feature = "demo")]
    Demo(market_ingest::demo::Options),
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
        #[cfg(feature = "demo")]
        Command::Demo(options) => finish(|stop| market_ingest::demo::run(options, stop)),
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
    let stop_after = config.stop_after;
    finish(|signal| async move {
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
        service::run(config, instance_id, stop, |_| {}).await
    })
}

fn print_config() -> ExitCode {
    print!("{}", listing(env_vars()));
    match Config::from_env(true) {
        Ok(_) => ExitCode::SUCCESS,
        Err(problems) => {
            eprintln!("{problems}");
            ExitCode::from(EX_USAGE)
        }
    }
}

/// Runs a future on a runtime of its own that cannot be kept from ending. The future is given the
/// stop signals, which are caught from here on.
fn finish<F: Future<Output = anyhow::Result<()>>>(work: impl FnOnce(StopSignal) -> F) -> ExitCode {
    let (runtime, stop) = match Runtime::new().and_then(|r| stop_signal(&r).map(|stop| (r, stop))) {
        Ok(both) => both,
        Err(error) => {
            eprintln!("market-ingest: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async { work(stop).await });
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
fn stop_signal(runtime: &Runtime) -> std::io::Result<StopSignal> {
    let _context = runtime.enter();
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
