//! The pump's side of the watchdog: tells it what the connection does, does what it asks, tells what it says.
//!
//! Events are handed to it once a turn, where they are counted anyway; all else happens when it wants to look, about
//! once a second. The lifecycle does not know it: it is told that its connection is mute as it is told anything else.

use std::sync::Arc;
use std::time::Duration;

use alpaca_feed::gap_ledger::Cause;
use alpaca_feed::lifecycle::ConnId;
use alpaca_feed::subscription::{EVERY_SYMBOL, Subscriptions};
use alpaca_feed::watchdog::{Command, Notice, Subject, Trouble};

use super::{Pump, now};
use crate::sink::wall_ts;

/// Subjects named in a report at most; more are counted.
const NAMED_MAX: usize = 16;

/// What the watchdog was last told of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Held,
    Gone,
    Live(ConnId),
}

impl Pump {
    /// Once a turn, after the lifecycle's commands were executed.
    pub(super) fn watch(&mut self) {
        let now = now();
        let standing = match self.lifecycle.connection() {
            _ if !self.state.wanted || self.leaving => Told::Held,
            Some(conn) if self.lifecycle.is_live() => Told::Live(conn),
            _ => Told::Gone,
        };
        if std::mem::replace(&mut self.watch_told, standing) != standing {
            match standing {
                Told::Held => self.watchdog.handle_held(now),
                Told::Gone => self.watchdog.handle_gone(now),
                Told::Live(_) => self.watchdog.handle_live(now),
            }
        }
        if self.watchdog.poll_timeout().is_some_and(|deadline| now < deadline) {
            return;
        }
        self.watchdog.handle_time(now, wall_ts());
        while let Some(notice) = self.watchdog.poll_notice() {
            self.take_watch_notice(&notice);
        }
        while let Some(command) = self.watchdog.poll_command() {
            self.execute_remedy(command);
        }
        self.execute_commands();
        self.check_suspects();
        self.state.freshness = self.watchdog.freshness(now);
        self.state.mute = self.named(&self.watchdog.mute());
        let suspects: Vec<_> = self.watchdog.suspects().into_iter().map(Subject::Symbol).collect();
        self.state.suspects = self.named(&suspects);
        self.state.heard = self.watchdog.heard().collect();
        let limit = |(channel, _): &(_, _)| Some((*channel, self.watchdog.limit(*channel)?));
        self.state.silence_limits = self.state.heard.iter().filter_map(limit).collect();
        // After the gaps of what was in doubt before are in the book.
        self.state.doubt_from = self.watchdog.doubts_since(now).map(|since| self.market_time(since));
    }

    fn execute_remedy(&mut self, command: Command) {
        let job = &*self.state.name;
        match command {
            Command::Resubscribe(subjects) => {
                tracing::info!(job, remedy = "resubscribe", "feed_remedy");
                let pairs = self.pairs_of(&subjects, self.lifecycle.desired());
                self.lifecycle.handle_resubscribe(now(), &pairs);
                self.account.remedied = pairs;
            }
            Command::Reconnect(trouble) => {
                tracing::info!(job, remedy = "reconnect", "feed_remedy");
                match trouble {
                    Trouble::Mute => self.lifecycle.handle_mute(now()),
                    Trouble::Lagging => self.lifecycle.handle_lagging(now()),
                }
            }
            Command::Backfill { subject, since, until } => {
                let (channel, symbol) = self.words_of(subject);
                let gap_s = seconds(until.saturating_duration_since(since));
                tracing::info!(job, channel, symbol, gap_s, "feed_gap");
                let from = self.market_time(since);
                // The first that comes back may be a late print, so time passed by the clock counts besides.
                let lasted = until.saturating_duration_since(since);
                let lasted = i64::try_from(lasted.as_nanos()).unwrap_or(i64::MAX);
                let to = self.account.clock().unwrap_or(from).max(from.saturating_add(lasted));
                // Also of what is held by now: it fell silent before.
                let all = &self.job.subscriptions;
                let missed = match subject {
                    Subject::Channel(_) => self.pairs_of(&[subject], all),
                    Subject::Symbol(_) => {
                        let named = symbol.iter().map(String::as_str);
                        let pairs = self.pairs_of(&[subject], all);
                        let channels: Vec<_> = pairs.channels().map(|(channel, _)| channel).collect();
                        channels.into_iter().flat_map(|c| named.clone().map(move |s| (c, s))).collect()
                    }
                };
                self.wiring.book.miss(&self.job.name, &missed, from, to, Cause::Mute);
            }
        }
    }

    /// The market's time at a moment gone by; where nothing came so far, that of the wall.
    fn market_time(&self, moment: std::time::Instant) -> i64 {
        let wall = || {
            let ago = now().saturating_duration_since(moment).as_nanos();
            wall_ts().saturating_sub(i64::try_from(ago).unwrap_or(i64::MAX))
        };
        self.account.time_at(moment).unwrap_or_else(wall)
    }

    /// What of `all` is of these subjects; a symbol that is not there by name came by `*`.
    pub(super) fn pairs_of(&self, subjects: &[Subject], all: &Subscriptions) -> Subscriptions {
        let symbols: Vec<Arc<str>> = subjects
            .iter()
            .filter_map(|subject| match subject {
                Subject::Symbol(symbol) => Some(self.wiring.symbols.name(*symbol)),
                Subject::Channel(_) => None,
            })
            .collect();
        let asked = |symbol: &str| symbols.iter().any(|own| **own == *symbol || symbol == EVERY_SYMBOL);
        all.iter()
            .filter(|(channel, symbol)| subjects.contains(&Subject::Channel(*channel)) || asked(symbol))
            .collect()
    }

    fn take_watch_notice(&mut self, notice: &Notice) {
        match *notice {
            Notice::Silent { subject, silent, limit } => {
                // One spell of silence counts once, however many channels fall into it one after the other.
                if self.state.mute.is_empty() {
                    self.state.mutes += 1;
                }
                self.state.mute = self.named(&self.watchdog.mute());
                let (channel, symbol) = self.words_of(subject);
                let (silent_s, limit_s) = (seconds(silent), seconds(limit));
                tracing::warn!(job = &*self.state.name, channel, symbol, silent_s, limit_s, "feed_mute");
            }
            Notice::Flowing { subject, silent } => {
                let (channel, symbol) = self.words_of(subject);
                let silent_s = seconds(silent);
                tracing::info!(job = &*self.state.name, channel, symbol, silent_s, "feed_flowing");
            }
            Notice::Suspect { symbol, silent, limit } => {
                let (_, symbol) = self.words_of(Subject::Symbol(symbol));
                let (silent_s, limit_s) = (seconds(silent), seconds(limit));
                tracing::info!(job = &*self.state.name, symbol, silent_s, limit_s, "symbol_suspect");
            }
            Notice::Lagging(lag) => {
                tracing::warn!(job = &*self.state.name, behind_s = seconds(lag), "feed_lagging");
            }
            Notice::CaughtUp => tracing::info!(job = &*self.state.name, "feed_caught_up"),
        }
    }

    /// The channel and the symbol, of which one is there.
    fn words_of(&self, subject: Subject) -> (Option<&'static str>, Option<String>) {
        match subject {
            Subject::Channel(channel) => (Some(channel.as_str()), None),
            Subject::Symbol(symbol) => (None, Some(self.wiring.symbols.name(symbol).to_string())),
        }
    }

    fn named(&self, subjects: &[Subject]) -> Vec<String> {
        let word = |subject: &Subject| {
            let (channel, symbol) = self.words_of(*subject);
            channel.map(str::to_owned).or(symbol).unwrap_or_default()
        };
        let mut names: Vec<String> = subjects.iter().take(NAMED_MAX).map(word).collect();
        if subjects.len() > NAMED_MAX {
            names.push(format!("and {} more", subjects.len() - NAMED_MAX));
        }
        names
    }
}

/// With three decimals.
fn seconds(span: Duration) -> f64 {
    span.as_millis() as f64 / 1e3
}
