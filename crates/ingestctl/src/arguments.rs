//! The command line's shape. Values are checked here; what they mean is decided by the commands.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ingest_status::Timestamp;

use crate::words::{self, ScopeWord};

/// Explains the exit codes and the environment below every help and in the man page.
const AFTER_HELP: &str = "\
Exit codes:
  0  done, and seen to be effective; for status and fleet: live or paused
  1  the store could not be asked
  2  refused, or not understood
  3  accepted, but not seen to be effective in time (always with --wait 0)
  4  no live producer; a hold is written all the same, and said so

Environment:
  INGEST_STORE, TENANT_ID, FIRESTORE_PROJECT_ID, GOOGLE_CLOUD_PROJECT, FIRESTORE_EMULATOR_HOST
                      the store, exactly as for the producer
  INGEST_ADMIN_TOKEN  bearer token for --url
  USER, LOGNAME       the actor, unless --actor is given
  NO_COLOR            no colours";

/// Pauses, resumes and watches a market-data producer, and verifies the effect.
///
/// It reads and writes the producer's store, found by the producer's own variables, or asks the producer itself with
/// --url. A hold stands until its owner releases it or its end comes; data flow exactly where no hold covers them.
#[derive(Debug, Parser)]
#[command(name = "ingestctl", version, after_help = AFTER_HELP, after_long_help = AFTER_HELP)]
pub(crate) struct Arguments {
    /// Where to ask.
    #[command(flatten)]
    pub(crate) place: Place,
    /// Print one JSON object (with "schema": 1) instead of text.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where to ask.
#[derive(Args, Debug)]
pub(crate) struct Place {
    /// Ask this producer over HTTP instead of the store, such as http://127.0.0.1:8080.
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// File with the bearer token for --url; without it INGEST_ADMIN_TOKEN.
    #[arg(long, global = true, value_name = "PATH", requires = "url")]
    pub(crate) token_file: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show whether the producer lives, what holds it, and its jobs.
    Status {
        /// Go on until Ctrl-C: redraw on a terminal, else print what changes.
        #[arg(long)]
        watch: bool,
    },
    /// Hold everything, a job or symbols, and wait until it is true.
    Pause(Pause),
    /// Release your own holds, or others' by their id, and wait until it is true.
    Resume(Resume),
    /// Tell what holds a symbol: who, why, since when, until when.
    Why(Why),
    /// Show past and standing pauses, newest first.
    History {
        /// How many at most.
        #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Show what was not received, and what became of it, newest first.
    Gaps {
        /// How many at most.
        #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Show the jobs of the producer.
    Jobs,
    /// Show the heartbeat of every tenant in the store.
    Fleet,
    /// Write a local flag file, as INGEST_ENABLED_FILE names one.
    Flag {
        /// What to do with it.
        #[command(subcommand)]
        command: FlagCommand,
    },
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Print the man page, or that of one command.
    Man {
        /// Which command.
        command: Option<String>,
    },
}

/// Holds something.
#[derive(Args, Debug)]
pub(crate) struct Pause {
    /// What: all (the default), job:NAME, a symbol or pattern; each perhaps with /CHANNEL.
    #[arg(value_name = "SCOPE", value_parser = words::scope)]
    pub(crate) scopes: Vec<ScopeWord>,
    /// Why; everybody who looks will read it.
    #[arg(long, value_name = "TEXT", value_parser = words::reason)]
    pub(crate) reason: String,
    /// When it ends.
    #[command(flatten)]
    pub(crate) end: End,
    /// How long to wait for the effect; 0 does not wait.
    #[arg(long, value_name = "SPAN", default_value = "10s", value_parser = words::wait)]
    pub(crate) wait: Duration,
    /// Who asks, if not the user of this shell.
    #[arg(long, value_name = "NAME", value_parser = words::actor)]
    pub(crate) actor: Option<String>,
}

/// Releases something.
#[derive(Args, Debug)]
pub(crate) struct Resume {
    /// Which of your own holds, by what they cover; all without --hold when nothing is named.
    #[arg(value_name = "SCOPE", value_parser = words::scope)]
    pub(crate) scopes: Vec<ScopeWord>,
    /// A hold by its id, whoever placed it; `ingestctl status` shows the ids.
    #[arg(long = "hold", value_name = "ID", value_parser = hold_id)]
    pub(crate) holds: Vec<String>,
    /// How long to wait for the effect; 0 does not wait.
    #[arg(long, value_name = "SPAN", default_value = "10s", value_parser = words::wait)]
    pub(crate) wait: Duration,
    /// Who asks, if not the user of this shell.
    #[arg(long, value_name = "NAME", value_parser = words::actor)]
    pub(crate) actor: Option<String>,
}

/// When a hold ends by itself.
#[derive(Args, Clone, Copy, Debug)]
#[group(multiple = false)]
pub(crate) struct End {
    /// End by itself after this span, such as 30m, 1h30m, 2d.
    #[arg(long = "for", value_name = "SPAN", value_parser = words::span)]
    pub(crate) span: Option<Duration>,
    /// End by itself at this time, such as 2026-03-01T14:30:00Z.
    #[arg(long, value_name = "TIME", value_parser = words::time)]
    pub(crate) until: Option<Timestamp>,
}

/// Asks what holds a symbol.
#[derive(Args, Debug)]
pub(crate) struct Why {
    /// The symbol, such as AAPL or BTC/USD.
    pub(crate) symbol: String,
    /// In this job only.
    #[arg(long, value_name = "NAME")]
    pub(crate) job: Option<String>,
    /// On this channel only.
    #[arg(long, value_name = "WORD", value_parser = channel)]
    pub(crate) channel: Option<&'static str>,
}

/// What to do with a flag file.
#[derive(Debug, Subcommand)]
pub(crate) enum FlagCommand {
    /// Put a word and its notes into the file, whole or not at all.
    Set(FlagSet),
}

/// Writes a flag file.
#[derive(Args, Debug)]
pub(crate) struct FlagSet {
    /// What the flag shall say.
    pub(crate) word: FlagWord,
    /// The file.
    pub(crate) path: PathBuf,
    /// Why.
    #[arg(long, value_name = "TEXT", value_parser = words::reason)]
    pub(crate) reason: Option<String>,
    /// When it ends.
    #[command(flatten)]
    pub(crate) end: End,
    /// Who asks, if not the user of this shell.
    #[arg(long, value_name = "NAME", value_parser = words::actor)]
    pub(crate) by: Option<String>,
}

/// The two words of a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FlagWord {
    /// Ingest.
    On,
    /// Do not.
    Off,
}

impl End {
    /// The end as a point in time, if there is one.
    ///
    /// # Errors
    /// When it is over at `now`.
    pub(crate) fn at(self, now: Timestamp) -> Result<Option<Timestamp>, String> {
        let until = match self.span {
            Some(span) => {
                let us =
                    i64::try_from(span.as_micros()).ok().and_then(|us| now.as_microseconds().checked_add(us));
                Some(us.and_then(Timestamp::from_microseconds).ok_or("--for reaches beyond the calendar")?)
            }
            None => self.until,
        };
        match until {
            Some(until) if until <= now => Err(format!(
                "--until {until} is over already (it is {now} here); name a time to come, or leave it out for a hold \
                 without an end"
            )),
            until => Ok(until),
        }
    }
}

/// The name of whoever sits at this shell.
pub(crate) fn actor(given: Option<String>) -> Option<String> {
    let from = |name: &str| std::env::var(name).ok().and_then(|text| words::actor(&text).ok());
    given.or_else(|| from("USER")).or_else(|| from("LOGNAME"))
}

fn hold_id(text: &str) -> Result<String, String> {
    // As status prints it, with its source's kind.
    let id = text.trim().trim_start_matches("control:");
    match text.split_once(':') {
        Some((kind, _)) if kind != "control" => Err(format!(
            "{text:?} is no hold of the control document, so it cannot be released from here: a hold is released where \
             it was placed (file: the flag file, env: the environment, signal: SIGUSR2, schedule: INGEST_SCHEDULE)"
        )),
        _ if id.is_empty() => Err("an id is not blank; `ingestctl status` shows the ids".to_owned()),
        _ => Ok(id.to_owned()),
    }
}

fn channel(text: &str) -> Result<&'static str, String> {
    let known = ingest_switch::CHANNELS.into_iter().find(|c| c.eq_ignore_ascii_case(text.trim()));
    known.ok_or_else(|| format!("{text:?} is no channel; accepted: {}", ingest_switch::CHANNELS.join(" ")))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_microseconds(second * 1_000_000).expect("in range")
    }

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn an_end_is_a_point_in_time_to_come() {
        let span = Some(Duration::from_secs(60));
        assert_eq!(End { span, until: None }.at(at(100)), Ok(Some(at(160))));
        assert_eq!(End { span: None, until: Some(at(101)) }.at(at(100)), Ok(Some(at(101))));
        assert_eq!(End { span: None, until: None }.at(at(100)), Ok(None));
        assert!(
            End { span: None, until: Some(at(100)) }.at(at(100)).is_err_and(|e| e.contains("over already"))
        );
    }

    #[test]
    fn a_hold_is_named_by_its_id_or_its_source() {
        assert_eq!(hold_id("all-ann").as_deref(), Ok("all-ann"));
        assert_eq!(hold_id("control:all-ann").as_deref(), Ok("all-ann"));
        assert!(hold_id("file:/flags/ingest").is_err_and(|e| e.contains("released where it was placed")));
        assert!(hold_id(" ").is_err());
    }

    #[test]
    fn pause_needs_a_reason_and_at_most_one_end() {
        let read = |line: &str| Arguments::try_parse_from(line.split(' ')).is_ok();
        assert!(read("ingestctl pause --reason x"));
        assert!(read("ingestctl pause AAPL job:iex --reason x --for 30m --wait 0 --json"));
        assert!(read("ingestctl --json --url http://h:1 --token-file t resume --hold a --hold b"));
        for line in [
            "ingestctl pause",
            "ingestctl pause --reason x --for 30m --until 2126-01-01T00:00:00Z",
            "ingestctl pause jobs:x --reason x",
            "ingestctl status --token-file t",
            "ingestctl history --limit 0",
            "ingestctl flag set maybe /x",
            "ingestctl why AAPL --channel quote",
            "ingestctl",
        ] {
            assert!(!read(line), "{line}");
        }
    }
}
