//! What to ask the store for and when, and how long the answer lets us ingest: pure, it is told the time.
//!
//! Times are spans since the machine was started, asleep or not, so that a process which was stopped or a machine that
//! was suspended knows on waking that its lease is over.
//!
//! Invariants: without the store's word that the lease is ours we are never valid, and after a lapse not again before
//! its next word; validity is counted from when a question was asked, so it never outlasts what the store granted; a
//! store that is away keeps nobody from going on who asks in time.

use std::time::Duration;

use crate::store::{Lease, Renewal, Taking};

/// How long a lease lasts and how often it is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// From an answer of the store to the end of the lease. A successor of a process that was killed waits this long.
    pub(crate) ttl: Duration,
    /// From one question that renews to the next.
    pub(crate) renew_every: Duration,
    /// A store that does not answer is asked again after this time.
    pub(crate) retry_after: Duration,
    /// How often to ask for a lease that somebody else has.
    pub(crate) ask_every: Duration,
}

/// What to ask the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    Take,
    Renew { epoch: i64 },
}

/// What came of it.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Taking(Taking),
    Renewal(Renewal),
    /// No answer, or an error: why.
    Unreachable(String),
}

/// A change that is worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// The lease is ours, after such a wait.
    Taken { epoch: i64, waited: Duration },
    /// Somebody else has it: told once a holder and epoch.
    Waiting(Lease),
    /// It was ours; who took it.
    Lost { epoch: i64, by: Lease },
    /// The store does not answer: told once until it does.
    Unreachable(String),
    /// The store confirmed that a lease which had lapsed is still ours.
    Confirmed,
}

/// Where we stand with the lease.
#[derive(Debug)]
pub(crate) struct Tenancy {
    terms: Terms,
    state: State,
    due: Duration,
    /// What was told last of a wait or an outage, so that it is told once.
    told: Option<News>,
}

#[derive(Debug)]
enum State {
    Asking { since: Duration },
    Holding { epoch: i64, valid_until: Duration },
}

impl Tenancy {
    /// Asks from `now` on.
    pub(crate) fn new(terms: Terms, now: Duration) -> Self {
        Self { terms, state: State::Asking { since: now }, due: now, told: None }
    }

    /// When to ask next.
    pub(crate) fn due(&self) -> Duration {
        self.due
    }

    pub(crate) fn question(&self) -> Question {
        match self.state {
            State::Asking { .. } => Question::Take,
            State::Holding { epoch, .. } => Question::Renew { epoch },
        }
    }

    /// The epoch that is ours and until when; none without the lease.
    pub(crate) fn pass(&self) -> Option<(i64, Duration)> {
        match self.state {
            State::Asking { .. } => None,
            State::Holding { epoch, valid_until } => Some((epoch, valid_until)),
        }
    }

    /// Takes the answer at `now` to what was asked at `asked`.
    pub(crate) fn answered(&mut self, asked: Duration, now: Duration, answer: Answer) -> Option<News> {
        let news = match (answer, &mut self.state) {
            (Answer::Taking(Taking::Taken { epoch }), State::Asking { since }) => {
                let waited = now.saturating_sub(*since);
                self.state = State::Holding { epoch, valid_until: asked + self.terms.ttl };
                self.due = asked + self.terms.renew_every;
                Some(News::Taken { epoch, waited })
            }
            (Answer::Renewal(Renewal::Renewed), State::Holding { valid_until, .. }) => {
                let lapsed = now >= *valid_until;
                *valid_until = asked + self.terms.ttl;
                self.due = asked + self.terms.renew_every;
                self.told = None;
                (lapsed && now < *valid_until).then_some(News::Confirmed)
            }
            (Answer::Renewal(Renewal::Lost(by)), State::Holding { epoch, .. }) => {
                let epoch = *epoch;
                self.state = State::Asking { since: now };
                self.due = now;
                Some(News::Lost { epoch, by })
            }
            (Answer::Taking(Taking::Held(lease)), State::Asking { .. }) => {
                self.due = now + self.terms.ask_every;
                let told = matches!(&self.told, Some(News::Waiting(told))
                    if told.holder == lease.holder && told.epoch == lease.epoch);
                (!told).then_some(News::Waiting(lease))
            }
            (Answer::Unreachable(why), state) => {
                self.due = now + self.terms.retry_after;
                if let State::Holding { valid_until, .. } = state
                    && asked < *valid_until
                {
                    *valid_until = asked + self.terms.ttl;
                }
                let told = matches!(&self.told, Some(News::Unreachable(_)));
                (!told).then_some(News::Unreachable(why))
            }
            // An answer to another question than the state asks; the shell has one at a time.
            (Answer::Taking(_), State::Holding { .. }) | (Answer::Renewal(_), State::Asking { .. }) => None,
        };
        if let Some(news) = &news {
            self.told = Some(news.clone());
        }
        news
    }
}

#[cfg(test)]
mod tests;
