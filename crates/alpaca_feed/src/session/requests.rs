//! Brings the venue's subscriptions to the desired set by the smallest difference, one request at a time.
//!
//! An acknowledgement is the full state, so only the last one counts. A refused request says nothing about which of
//! its channels was wrong (400, 405, 410 and 413 name none): it is split by channel, and a channel refused by itself is
//! left out until another set is desired. Nothing else is ever repeated, so a venue that differs cannot make it loop.

use std::collections::VecDeque;
use std::time::Instant;

use crate::lifecycle::Outgoing;
use crate::subscription::Subscriptions;

/// The subscriptions of one connection.
#[derive(Clone, Eq, PartialEq, Hash, Debug)]
pub(crate) struct Requests {
    acknowledged: Subscriptions,
    in_flight: Option<InFlight>,
    queued: VecDeque<Outgoing>,
    refused: Subscriptions,
    /// Whether the difference must be taken anew before the next request.
    stale: bool,
}

#[derive(Clone, Eq, PartialEq, Hash, Debug)]
struct InFlight {
    request: Outgoing,
    answer_by: Instant,
}

impl Requests {
    pub(crate) fn new() -> Self {
        Self {
            acknowledged: Subscriptions::default(),
            in_flight: None,
            queued: VecDeque::new(),
            refused: Subscriptions::default(),
            stale: true,
        }
    }

    /// The last full state the venue told, without the channels it manages itself.
    pub(crate) fn acknowledged(&self) -> &Subscriptions {
        &self.acknowledged
    }

    /// Until when the request in flight should be answered; `None` if there is none.
    pub(crate) fn answer_by(&self) -> Option<Instant> {
        self.in_flight.as_ref().map(|in_flight| in_flight.answer_by)
    }

    /// The request to send now; `None` while one is in flight or when nothing is left to ask.
    pub(crate) fn next(&mut self, desired: &Subscriptions, answer_by: Instant) -> Option<Outgoing> {
        if self.in_flight.is_some() {
            return None;
        }
        if self.stale {
            self.plan(desired);
        }
        let request = self.queued.pop_front()?;
        self.in_flight = Some(InFlight { request: request.clone(), answer_by });
        Some(request)
    }

    /// The venue told its full state, and with it answered the request in flight.
    pub(crate) fn acknowledge(&mut self, state: &Subscriptions) {
        self.acknowledged = state.iter().filter(|(channel, _)| channel.is_requestable()).collect();
        self.in_flight = None;
    }

    /// The venue refused the request in flight; false if there is none.
    pub(crate) fn refuse(&mut self) -> bool {
        let Some(InFlight { request, .. }) = self.in_flight.take() else {
            return false;
        };
        if self.stale {
            return true;
        }
        match request {
            Outgoing::Subscribe(set) if set.channels().count() > 1 => self.split(&set, Outgoing::Subscribe),
            Outgoing::Unsubscribe(set) if set.channels().count() > 1 => {
                self.split(&set, Outgoing::Unsubscribe)
            }
            Outgoing::Subscribe(set) => self.refused = self.refused.union(&set),
            Outgoing::Unsubscribe(_) | Outgoing::Auth | Outgoing::Ping => {}
        }
        true
    }

    /// No answer came: asks for nothing more until another set is desired.
    pub(crate) fn give_up(&mut self) {
        self.in_flight = None;
        self.queued.clear();
    }

    /// Another set is desired: what was refused may be asked again.
    pub(crate) fn replan(&mut self) {
        self.stale = true;
        self.queued.clear();
        self.refused = Subscriptions::default();
    }

    /// Takes what is acknowledged of `pairs` away and adds it again; false if there is nothing of it. Another set that is
    /// desired meanwhile finds the difference anew, so nothing stays away.
    pub(crate) fn renew(&mut self, pairs: &Subscriptions) -> bool {
        let pairs = self.acknowledged.intersection(pairs);
        if pairs.is_empty() {
            return false;
        }
        self.queued.push_back(Outgoing::Unsubscribe(pairs.clone()));
        self.queued.push_back(Outgoing::Subscribe(pairs));
        true
    }

    /// The request in flight will not be answered, because the connection must authenticate first.
    pub(crate) fn replan_unanswered(&mut self) {
        self.stale = true;
        self.queued.clear();
        self.in_flight = None;
    }

    /// What is desired and not there, and what is there and not desired; `None` if both are empty.
    pub(crate) fn mismatch(&self, desired: &Subscriptions) -> Option<(Subscriptions, Subscriptions)> {
        let missing = desired.difference(&self.acknowledged);
        let extra = self.acknowledged.difference(desired);
        (!missing.is_empty() || !extra.is_empty()).then_some((missing, extra))
    }

    /// Takes away before adding, so that the plan's symbol limit is never passed on the way.
    fn plan(&mut self, desired: &Subscriptions) {
        self.stale = false;
        let extra = self.acknowledged.difference(desired);
        let missing = desired.difference(&self.acknowledged).difference(&self.refused);
        self.queued.clear();
        if !extra.is_empty() {
            self.queued.push_back(Outgoing::Unsubscribe(extra));
        }
        if !missing.is_empty() {
            self.queued.push_back(Outgoing::Subscribe(missing));
        }
    }

    /// Queues one request per channel, in order, before all others.
    fn split(&mut self, set: &Subscriptions, request: fn(Subscriptions) -> Outgoing) {
        let parts =
            set.channels().map(|(channel, symbols)| symbols.iter().map(|symbol| (channel, symbol)).collect());
        let parts: Vec<Subscriptions> = parts.collect();
        for part in parts.into_iter().rev() {
            self.queued.push_front(request(part));
        }
    }
}

#[cfg(test)]
impl Requests {
    /// For the search: moves all instants.
    pub(crate) fn rebase(&mut self, rebase: impl Fn(Instant) -> Instant) {
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.answer_by = rebase(in_flight.answer_by);
        }
    }
}
