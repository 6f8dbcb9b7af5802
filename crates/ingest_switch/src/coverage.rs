//! What is held, and by whom: the one answer for the engine, message by message, and for `why` and status.
//!
//! A symbol of a job is ingested on a channel exactly when no hold's scope covers it. [`Coverage`] is
//! compiled from the holds once and then asked often, so it keeps exact symbols apart from patterns.
//!
//! Invariant: whatever is compiled, the answer is that of [`Scope::covers`] asked of every hold in turn.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::hold::Hold;
use crate::scope::{CHANNELS, Scope, Target, matches};

/// The bit of every channel that is none of [`CHANNELS`]: only a hold on all channels covers it.
const UNLISTED: u16 = 1 << CHANNELS.len();

/// A bit for each of [`CHANNELS`].
const LISTED: u16 = UNLISTED - 1;

/// What a job would ingest if nothing were held.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct JobPlan {
    /// The job's name.
    pub name: String,
    /// Channel and symbol of everything it subscribes to; the symbol `*` stands for every symbol.
    pub pairs: Vec<(String, String)>,
}

impl JobPlan {
    /// Whether `scope` alone covers all of this job; a job without pairs is covered by `all` and by its
    /// own name, on all channels.
    fn is_covered_by(&self, scope: &Scope) -> bool {
        if self.pairs.is_empty() {
            return match scope.target() {
                Target::All => scope.channel().is_none(),
                Target::Job(name) => scope.channel().is_none() && name.eq_ignore_ascii_case(&self.name),
                Target::Symbol(_) => false,
            };
        }
        self.pairs.iter().all(|(channel, symbol)| scope.covers(&self.name, symbol, channel))
    }

    /// Whether `scope` covers any of this job.
    fn is_touched_by(&self, scope: &Scope) -> bool {
        self.pairs.iter().any(|(channel, symbol)| scope.covers(&self.name, symbol, channel))
    }
}

/// The holds, compiled for asking what they cover.
#[derive(Clone, Debug)]
pub struct Coverage {
    holds: Vec<Hold>,
    all: u16,
    jobs: HashMap<String, u16>,
    symbols: Arc<Symbols>,
}

/// What the holds on symbols cover, as bits of channels.
#[derive(Debug, Default)]
struct Symbols {
    /// Patterns that match every symbol, also the symbol `*`.
    every: u16,
    /// Patterns without wildcards, in upper case.
    exact: HashMap<String, u16>,
    /// All other patterns, by their first character in upper case; none stands for a wildcard.
    patterns: BTreeMap<Option<u8>, Vec<(String, u16)>>,
}

/// What the holds cover of one job, for the one that works it.
#[derive(Clone, Debug)]
pub struct JobCoverage {
    /// Held for every symbol.
    every: u16,
    symbols: Arc<Symbols>,
}

impl Coverage {
    /// Compiles `holds`, which are given oldest first.
    #[must_use]
    pub fn new(holds: &[Hold]) -> Self {
        let (mut all, mut jobs, mut symbols) = (0, HashMap::new(), Symbols::default());
        for hold in holds {
            let bits = hold.scope.channel().map_or(LISTED | UNLISTED, bit);
            match hold.scope.target() {
                Target::All => all |= bits,
                Target::Job(name) => *jobs.entry(name.to_ascii_lowercase()).or_default() |= bits,
                Target::Symbol(pattern) => symbols.add(pattern, bits),
            }
        }
        Self { holds: holds.to_vec(), all, jobs, symbols: Arc::new(symbols) }
    }

    /// The holds, oldest first.
    #[must_use]
    pub fn holds(&self) -> &[Hold] {
        &self.holds
    }

    /// Every hold that covers `symbol` of `job` on `channel`, oldest first.
    pub fn holds_on<'a>(
        &'a self,
        job: &'a str,
        symbol: &'a str,
        channel: &'a str,
    ) -> impl Iterator<Item = &'a Hold> {
        self.holds.iter().filter(move |hold| hold.scope.covers(job, symbol, channel))
    }

    /// Whether any hold covers `symbol` of `job` on `channel`.
    #[must_use]
    pub fn is_held(&self, job: &str, symbol: &str, channel: &str) -> bool {
        self.job(job).held(symbol) & bit(channel) != 0
    }

    /// Whether anything of `job` is not held; a job without pairs is held by `all` and by its own name
    /// only, on all channels.
    #[must_use]
    pub fn runs(&self, job: &JobPlan) -> bool {
        if job.pairs.is_empty() {
            return self.whole_jobs(&job.name) & UNLISTED == 0;
        }
        let coverage = self.job(&job.name);
        job.pairs.iter().any(|(channel, symbol)| coverage.held(symbol) & bit(channel) == 0)
    }

    /// What the pump of the job `name` asks.
    #[must_use]
    pub fn job(&self, name: &str) -> JobCoverage {
        let every = self.whole_jobs(name) | self.symbols.every;
        JobCoverage { every, symbols: Arc::clone(&self.symbols) }
    }

    /// The hold to name when nothing of any job runs; none while anything does.
    ///
    /// It is the oldest that covers every job alone. Where none does, each job is held by the oldest hold
    /// that covers it alone, or else by the oldest that covers some of it; of these the oldest.
    #[must_use]
    pub fn halted_by(&self, jobs: &[JobPlan]) -> Option<&Hold> {
        if jobs.iter().any(|job| self.runs(job)) {
            return None;
        }
        let alone = |hold: &&Hold| jobs.iter().all(|job| job.is_covered_by(&hold.scope));
        self.holds.iter().find(alone).or_else(|| {
            let oldest = jobs.iter().filter_map(|job| {
                let mut scopes = self.holds.iter().map(|hold| &hold.scope);
                let whole = scopes.clone().position(|scope| job.is_covered_by(scope));
                whole.or_else(|| scopes.position(|scope| job.is_touched_by(scope)))
            });
            oldest.min().map(|at| &self.holds[at])
        })
    }

    /// What is held of every symbol of the job `name` because of the job.
    fn whole_jobs(&self, name: &str) -> u16 {
        if self.jobs.is_empty() {
            return self.all;
        }
        self.all | self.jobs.get(&name.to_ascii_lowercase()).copied().unwrap_or_default()
    }
}

impl Symbols {
    fn add(&mut self, pattern: &str, bits: u16) {
        if !pattern.is_empty() && pattern.bytes().all(|c| c == b'*') {
            self.every |= bits;
        } else if pattern.contains(['*', '?']) {
            let first = first_of(pattern).filter(|first| !b"*?".contains(first));
            self.patterns.entry(first).or_default().push((pattern.to_owned(), bits));
        } else {
            *self.exact.entry(pattern.to_ascii_uppercase()).or_default() |= bits;
        }
    }
}

impl JobCoverage {
    /// Whether no hold can touch this job, whatever its symbols.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.every == 0 && self.symbols.exact.is_empty() && self.symbols.patterns.is_empty()
    }

    /// Which channels are held for `symbol`: bit i stands for `CHANNELS[i]`. The symbol `*` stands for every
    /// symbol, as in [`Scope::covers`].
    #[must_use]
    pub fn held_channels(&self, symbol: &str) -> u16 {
        self.held(symbol) & LISTED
    }

    fn held(&self, symbol: &str) -> u16 {
        let mut held = self.every;
        let begin_alike = [None, first_of(symbol)].map(|first| self.symbols.patterns.get(&first));
        for (pattern, bits) in begin_alike.into_iter().flatten().flatten() {
            if held & bits != *bits && matches(pattern.as_bytes(), symbol.as_bytes()) {
                held |= bits;
            }
        }
        if self.symbols.exact.is_empty() {
            return held;
        }
        let exact = if symbol.bytes().any(|c| c.is_ascii_lowercase()) {
            self.symbols.exact.get(&symbol.to_ascii_uppercase())
        } else {
            self.symbols.exact.get(symbol)
        };
        held | exact.copied().unwrap_or_default()
    }
}

fn first_of(text: &str) -> Option<u8> {
    text.bytes().next().map(|first| first.to_ascii_uppercase())
}

/// The bit of `channel`.
fn bit(channel: &str) -> u16 {
    CHANNELS.iter().position(|own| own.eq_ignore_ascii_case(channel)).map_or(UNLISTED, |at| 1 << at)
}

#[cfg(test)]
mod tests;
