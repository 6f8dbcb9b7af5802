//! What a command comes to: an exit code, a text, and the same as JSON.

use std::io::Write as _;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::paint;

/// Version of the shape of what `--json` prints.
const SCHEMA: u32 = 1;

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done, and seen to be effective.
    Effective,
    /// The store could not be asked.
    NotAsked,
    /// Refused, or not understood.
    Refused,
    /// Accepted, but not seen to be effective in time.
    NotEffective,
    /// No live producer.
    NoProducer,
}

impl Exit {
    /// The process's exit code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Effective => 0,
            Self::NotAsked => 1,
            Self::Refused => 2,
            Self::NotEffective => 3,
            Self::NoProducer => 4,
        }
    }
}

/// What a command found or did.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// How it ended.
    pub(crate) exit: Exit,
    /// For people, with colours, with a line's end.
    pub(crate) text: String,
    /// For programs: an object; null where everything was told already.
    pub(crate) json: Value,
}

impl Answer {
    /// An answer that was told already.
    pub(crate) fn told(exit: Exit) -> Self {
        Self { exit, text: String::new(), json: Value::Null }
    }
}

/// Why a command did nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// How it ended.
    pub(crate) exit: Exit,
    /// What was found, what is accepted, what to do.
    pub(crate) sentence: String,
}

impl Failure {
    /// What was asked cannot be.
    pub(crate) fn refused(sentence: impl Into<String>) -> Self {
        Self { exit: Exit::Refused, sentence: sentence.into() }
    }
}

/// Prints either, and turns it into the process's exit code. A reader that went away is no error.
pub(crate) fn finish(command: &str, outcome: Result<Answer, Failure>, as_json: bool) -> ExitCode {
    let exit = match outcome {
        Ok(answer) => {
            // A pipe that was closed at the other end takes nothing any more; the exit code still tells.
            let _ = print(command, &answer, as_json);
            answer.exit
        }
        Err(failure) if as_json => {
            let told = envelope(command, failure.exit, json!({ "error": failure.sentence }));
            let _ = writeln!(anstream::stdout(), "{told}");
            failure.exit
        }
        Err(failure) => {
            let _ = writeln!(anstream::stderr(), "ingestctl: {}", paint::plain(&failure.sentence));
            failure.exit
        }
    };
    ExitCode::from(exit.code())
}

/// Prints what a command found or did.
pub(crate) fn print(command: &str, answer: &Answer, as_json: bool) -> std::io::Result<()> {
    if answer.json.is_null() {
        return Ok(());
    }
    let mut out = anstream::stdout();
    if as_json {
        writeln!(out, "{}", envelope(command, answer.exit, answer.json.clone()))?;
    } else {
        out.write_all(answer.text.as_bytes())?;
    }
    out.flush()
}

fn envelope(command: &str, exit: Exit, answer: Value) -> Value {
    let mut whole = json!({ "schema": SCHEMA, "command": command, "exit": exit.code() });
    if let (Some(whole), Value::Object(answer)) = (whole.as_object_mut(), answer) {
        whole.extend(answer);
    }
    whole
}
