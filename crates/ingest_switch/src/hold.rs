//! Who holds what: the source of a decision, its scope, and the standing request itself.

use std::fmt;
use std::path::Path;

use jiff::Timestamp;

use crate::scope::Scope;

/// Where an operator's decision came from, written `kind:detail`, such as `env:INGEST_ENABLED` or
/// `file:/etc/ingest/enabled`.
///
/// The string is what heartbeats, logs and dashboards show, and what identifies a source: two equal
/// strings are one source with at most one hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source(String);

impl Source {
    /// A source as written in a heartbeat: `kind:detail`.
    pub fn new(written: impl Into<String>) -> Self {
        Self(written.into())
    }

    /// The variable `name` of the process environment.
    #[must_use]
    pub fn env(name: &str) -> Self {
        Self(format!("env:{name}"))
    }

    /// The flag file at `path`, named as it was configured.
    #[must_use]
    pub fn file(path: &Path) -> Self {
        Self(format!("file:{}", path.display()))
    }

    /// The signal `name` to this process, such as `SIGUSR1`.
    #[must_use]
    pub fn signal(name: &str) -> Self {
        Self(format!("signal:{name}"))
    }

    /// The hold `id` of the control document.
    #[must_use]
    pub fn control(id: &str) -> Self {
        Self(format!("control:{id}"))
    }

    /// The schedule written `expression`; see [`Schedule`](crate::schedule::Schedule).
    #[must_use]
    pub fn schedule(expression: &str) -> Self {
        Self(format!("schedule:{expression}"))
    }

    /// The part before the first colon: `env`, `file`, `signal`, `control`, `schedule`.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.0.split_once(':').map_or(&self.0, |(kind, _)| kind)
    }

    /// The whole, `kind:detail`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A standing request by one source not to ingest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hold {
    /// Who holds.
    pub source: Source,
    /// What is held.
    pub scope: Scope,
    /// Why, in the operator's words.
    pub reason: Option<String>,
    /// Who asked.
    pub actor: Option<String>,
    /// When it began, as its source says, or else when it was first seen; the latter stays while the source
    /// rewrites reason, actor or until.
    pub since: Timestamp,
    /// When it ends by itself; the hold covers instants before this one only.
    pub until: Option<Timestamp>,
}

impl Hold {
    /// Whether the hold has ended by itself at `now`.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// One line for logs: source, scope, and what else is known.
impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} since {}", self.source, self.scope, self.since)?;
        if let Some(until) = self.until {
            write!(f, " until {until}")?;
        }
        if let Some(actor) = &self.actor {
            write!(f, " by {actor:?}")?;
        }
        if let Some(reason) = &self.reason {
            write!(f, " reason {reason:?}")?;
        }
        Ok(())
    }
}
