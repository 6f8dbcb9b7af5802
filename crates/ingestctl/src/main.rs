//! `ingestctl`, the operator's hand: pauses, resumes and watches a market-data producer.
//!
//! A command asks ([`remote`]), decides from what it sees ([`effect`] for a change, [`status`] and [`why`] for a look),
//! and comes to an [`answer`]: an exit code, a text, and the same as JSON. Invariant: what is said to be effective was
//! seen in a heartbeat of a live producer after the change was written.

mod answer;
mod arguments;
mod effect;
mod flag_file;
mod listing;
mod manual;
mod overlap;
mod paint;
mod pause;
mod remote;
mod resume;
mod shape;
mod status;
mod verify;
mod why;
mod words;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;

use answer::{Answer, Exit, Failure};
use arguments::{Arguments, Command, FlagCommand, Place};
use remote::Remote;

/// A blocking call that hangs must not hold the exit.
const RUNTIME_SHUTDOWN_LIMIT: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    let Arguments { place, json, command } = Arguments::parse();
    // Two TLS providers in one process panic at the first https://; this names the one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let name = name(&command);
    let outcome = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let outcome = runtime.block_on(run(&place, command, json));
            runtime.shutdown_timeout(RUNTIME_SHUTDOWN_LIMIT);
            outcome
        }
        Err(error) => Err(Failure { exit: Exit::NotAsked, sentence: format!("no runtime: {error}") }),
    };
    answer::finish(name, outcome, json)
}

async fn run(place: &Place, command: Command, json: bool) -> Result<Answer, Failure> {
    let remote = || Remote::connect(place);
    match command {
        Command::Status { watch: true } => status::watch(&remote().await?, json).await,
        Command::Status { watch: false } => status::run(&remote().await?).await,
        Command::Pause(pause) => pause::run(&remote().await?, pause).await,
        Command::Resume(resume) => resume::run(&remote().await?, resume).await,
        Command::Why(why) => why::run(&remote().await?, why).await,
        Command::History { limit } => listing::history(&remote().await?, limit).await,
        Command::Gaps { limit } => listing::gaps(&remote().await?, limit).await,
        Command::Jobs => status::jobs(&remote().await?).await,
        Command::Fleet => listing::fleet(&remote().await?).await,
        Command::Flag { command: FlagCommand::Set(set) } => flag_file::set(set),
        Command::Completions { shell } => manual::completions(shell),
        Command::Man { command } => manual::page(command.as_deref()),
    }
}

/// The command's word.
fn name(command: &Command) -> &'static str {
    match command {
        Command::Status { .. } => "status",
        Command::Pause(_) => "pause",
        Command::Resume(_) => "resume",
        Command::Why(_) => "why",
        Command::History { .. } => "history",
        Command::Gaps { .. } => "gaps",
        Command::Jobs => "jobs",
        Command::Fleet => "fleet",
        Command::Flag { .. } => "flag",
        Command::Completions { .. } => "completions",
        Command::Man { .. } => "man",
    }
}
