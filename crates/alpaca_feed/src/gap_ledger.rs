//! What of one job was not received, and when: every gap with its bounds and its cause.
//!
//! Nothing that a venue sent meanwhile is ever sent again, so whatever interrupts the feed (a pause, a lost
//! connection, a crash) leaves a gap, and only a gap that is known can be repaired. Bounds are times of the market,
//! nanoseconds since 1970 UTC: what to ask a REST API for. A gap begins at the newest time that was received before
//! it and ends at the first that was received after it, so its bounds belong to both sides; the order of times within
//! a feed is not exact, so whoever fills a gap asks for some overlap.
//!
//! The smallest thing that can be missing is a *lane*: a channel of a symbol, where `*` is a symbol like any other. A
//! symbol that is held apart from `*` has a lane of its own until it is received with all others again; while its own
//! gap lasts, the gaps of `*` are not about it.
//!
//! Invariants, searched at random below: a lane is either received, or missing in exactly one gap that lasts; the gaps
//! of a lane never overlap and are in order, so that they and what lies between them tile the lane's time; a gap holds
//! all pairs of its channels and symbols.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::str::FromStr;

use crate::subscription::{Channel, Subscriptions};

/// Why something was not received.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub enum Cause {
    /// An operator held it.
    Pause,
    /// The connection was lost, or refused.
    Disconnect,
    /// The connection stood and brought nothing.
    Mute,
    /// It was received, and a sink could not take it.
    Overflow,
    /// The process was not there.
    Restart,
}

impl Cause {
    const ALL: [Self; 5] = [Self::Pause, Self::Disconnect, Self::Mute, Self::Overflow, Self::Restart];

    /// The cause in one word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Disconnect => "disconnect",
            Self::Mute => "mute",
            Self::Overflow => "overflow",
            Self::Restart => "restart",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no cause.
#[derive(Clone, Eq, PartialEq, Debug, thiserror::Error)]
#[error("unknown cause {0:?}")]
pub struct UnknownCause(pub String);

impl FromStr for Cause {
    type Err = UnknownCause;

    fn from_str(word: &str) -> Result<Self, UnknownCause> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == word).ok_or_else(|| UnknownCause(word.into()))
    }
}

/// Some symbols on some channels, every pair of them, that were not received from one time to another.
#[derive(Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct Gap {
    /// Names it for good; sorts by the process that opened it, then by order of opening.
    pub id: String,
    /// Channels, never empty.
    pub channels: BTreeSet<Channel>,
    /// Symbols, never empty; `*` may be among them.
    pub symbols: BTreeSet<String>,
    /// Newest time of the market that was received before it.
    pub from: i64,
    /// First time of the market that was received after it; none while it lasts.
    pub to: Option<i64>,
    /// What began it.
    pub cause: Cause,
}

impl Gap {
    fn lanes(&self) -> impl Iterator<Item = Lane> {
        self.channels
            .iter()
            .flat_map(|channel| self.symbols.iter().map(move |symbol| (*channel, symbol.clone())))
    }
}

type Lane = (Channel, String);

#[derive(Clone, Eq, PartialEq, Debug)]
enum State {
    /// Received; its last gap ended at `since`.
    Received { since: i64 },
    /// Not received, and neither is anything else so far, so that no time is known to begin the gap at.
    Unborn(Cause),
    /// In the gap of that id.
    Missing(String),
    /// Received again, in the gap of that id until something tells the time.
    Returning(String),
}

/// The machine of one job; see the module's text.
#[derive(Clone, Debug)]
pub struct GapLedger {
    id_prefix: String,
    opened: u32,
    universe: BTreeSet<Lane>,
    /// The universe, and the lanes that are apart from a `*` of it.
    lanes: BTreeMap<Lane, State>,
    open: BTreeMap<String, Gap>,
    /// Newest time of the market that was received; none before the first.
    clock: Option<i64>,
    /// Some lane is returning.
    awaits_time: bool,
    changes: VecDeque<Gap>,
}

impl GapLedger {
    /// A ledger of a job that receives nothing yet.
    ///
    /// `id_prefix` must be new in every process. `earlier` are gaps that earlier processes told, those that lasted among
    /// them, and `received_to` is the time up to which they had received, and kept, everything else; none if there was
    /// no earlier process, and then nothing is missing before the first that comes. What was received
    /// after that and not kept is between the earlier gaps.
    #[must_use]
    pub fn new(
        id_prefix: &str,
        universe: &Subscriptions,
        earlier: Vec<Gap>,
        received_to: Option<i64>,
    ) -> Self {
        let mut ledger = Self {
            id_prefix: id_prefix.to_owned(),
            opened: 0,
            universe: pairs(universe).collect(),
            lanes: BTreeMap::new(),
            open: BTreeMap::new(),
            clock: received_to,
            awaits_time: false,
            changes: VecDeque::new(),
        };
        let mut known: BTreeMap<Lane, Vec<(i64, Option<i64>)>> = BTreeMap::new();
        for gap in earlier.into_iter().filter(|gap| gap.to.is_none() || gap.cause != Cause::Overflow) {
            for lane in gap.lanes() {
                known.entry(lane).or_default().push((gap.from, gap.to));
            }
            if gap.to.is_none() {
                ledger.lanes.extend(gap.lanes().map(|lane| (lane, State::Missing(gap.id.clone()))));
                ledger.open.insert(gap.id.clone(), gap);
            }
        }
        match received_to {
            Some(mark) => ledger.open_restart_gaps(universe, mark, &mut known),
            None => {
                let fresh = pairs(universe).filter(|lane| !known.contains_key(lane));
                let received = State::Received { since: i64::MIN };
                ledger.lanes.extend(fresh.map(|lane| (lane, received.clone())));
            }
        }
        ledger
    }

    /// What is received from here on: `received`, literally or by its `*`, but for the pairs in `apart`. What goes
    /// missing now does so for `cause`; what comes back is in its gap until something tells the time.
    pub fn handle_received(&mut self, received: &Subscriptions, apart: &Subscriptions, cause: Cause) {
        let apart: BTreeSet<Lane> = pairs(apart).collect();
        let unknown = apart.iter().filter(|lane| !self.lanes.contains_key(*lane));
        let since = State::Received { since: i64::MIN };
        self.lanes.extend(unknown.map(|lane| (lane.clone(), since.clone())).collect::<Vec<_>>());
        let mut lost = Vec::new();
        for (lane, state) in &mut self.lanes {
            let is_received = received.contains(lane.0, &lane.1) && !apart.contains(lane);
            match (&*state, is_received) {
                (State::Received { since }, false) => match self.clock {
                    Some(clock) => lost.push((lane.clone(), clock.max(*since))),
                    None => *state = State::Unborn(cause),
                },
                (State::Unborn(_), true) => *state = State::Received { since: i64::MIN },
                (State::Missing(id), true) => *state = State::Returning(id.clone()),
                (State::Returning(id), false) => *state = State::Missing(id.clone()),
                (State::Received { .. } | State::Returning(_), true)
                | (State::Unborn(_) | State::Missing(_), false) => {}
            }
        }
        self.open_gaps(lost.into_iter(), cause);
        self.awaits_time = self.lanes.values().any(|state| matches!(state, State::Returning(_)));
    }

    /// What lies after the mark and between the gaps that are known was received, and not kept.
    fn open_restart_gaps(
        &mut self,
        universe: &Subscriptions,
        mark: i64,
        known: &mut BTreeMap<Lane, Vec<(i64, Option<i64>)>>,
    ) {
        let mut over: BTreeMap<(i64, i64), Subscriptions> = BTreeMap::new();
        let mut lasting = Vec::new();
        for lane in pairs(universe) {
            let mut gaps = known.remove(&lane).unwrap_or_default();
            gaps.sort_unstable();
            let mut kept_to = Some(mark);
            for (from, to) in gaps {
                let Some(begin) = kept_to else { break };
                if from > begin {
                    over.entry((begin, from)).or_default().insert(lane.0, lane.1.as_str());
                }
                kept_to = to.map(|to| to.max(begin));
            }
            lasting.extend(kept_to.map(|from| (lane, from)));
        }
        for ((from, to), lost) in over {
            for (channels, symbols) in products(&lost) {
                let (id, to, cause) = (self.next_id(), Some(to), Cause::Restart);
                self.changes.push_back(Gap { id, channels, symbols, from, to, cause });
            }
        }
        self.open_gaps(lasting.into_iter(), Cause::Restart);
    }

    /// Something was received, and `newest` is the newest time of the market in it.
    pub fn handle_time(&mut self, newest: i64) {
        if self.clock.is_none() {
            let mut unborn: BTreeMap<Cause, Vec<(Lane, i64)>> = BTreeMap::new();
            for (lane, state) in &self.lanes {
                match state {
                    State::Unborn(cause) => unborn.entry(*cause).or_default().push((lane.clone(), newest)),
                    State::Received { .. } | State::Missing(_) | State::Returning(_) => {}
                }
            }
            for (cause, lanes) in unborn {
                self.open_gaps(lanes.into_iter(), cause);
            }
        }
        self.clock = self.clock.max(Some(newest));
    }

    /// Whether something has come back and its gap lasts, for want of a time to end it at.
    #[must_use]
    pub fn awaits_time(&self) -> bool {
        self.awaits_time
    }

    /// The gaps of what came back end at `to`: the time of the market once enough has come to tell it, or that of the
    /// clock on the wall where nothing comes.
    pub fn handle_returned(&mut self, to: i64) {
        self.awaits_time = false;
        let mut returning: BTreeMap<String, Vec<Lane>> = BTreeMap::new();
        for (lane, state) in &self.lanes {
            if let State::Returning(id) = state {
                returning.entry(id.clone()).or_default().push(lane.clone());
            }
        }
        for (id, lanes) in returning {
            let Some(gap) = self.open.remove(&id) else { continue };
            let to = to.max(gap.from);
            for lane in &lanes {
                // What comes next begins at the clock or later, so that only the time after it must be remembered.
                if self.universe.contains(lane) || self.clock < Some(to) {
                    self.lanes.insert(lane.clone(), State::Received { since: to });
                } else {
                    self.lanes.remove(lane);
                }
            }
            let rest: Vec<Lane> = gap.lanes().filter(|lane| !lanes.contains(lane)).collect();
            self.split(gap, lanes, rest, to);
        }
    }

    /// Newest time of the market that was received; none before the first.
    #[must_use]
    pub fn clock(&self) -> Option<i64> {
        self.clock
    }

    /// The gaps that last, by id.
    pub fn open(&self) -> impl Iterator<Item = &Gap> {
        self.open.values()
    }

    /// The next gap that was opened, changed or ended, oldest change first. A gap that ends for some of its lanes only
    /// gives these to a new one.
    pub fn poll_change(&mut self) -> Option<Gap> {
        self.changes.pop_front()
    }

    fn open_gaps(&mut self, lost: impl Iterator<Item = (Lane, i64)>, cause: Cause) {
        let mut by_beginning: BTreeMap<i64, Vec<Lane>> = BTreeMap::new();
        for (lane, from) in lost {
            by_beginning.entry(from).or_default().push(lane);
        }
        for (from, lanes) in by_beginning {
            for (channels, symbols) in products(&lanes.into_iter().collect()) {
                let gap = Gap { id: self.next_id(), channels, symbols, from, to: None, cause };
                self.lanes.extend(gap.lanes().map(|lane| (lane, State::Missing(gap.id.clone()))));
                self.changes.push_back(gap.clone());
                self.open.insert(gap.id.clone(), gap);
            }
        }
    }

    /// Ends a gap for `ended`; what still lasts keeps the id, since its beginning was told under it.
    fn split(&mut self, gap: Gap, ended: Vec<Lane>, rest: Vec<Lane>, to: i64) {
        let mut own_id = Some(gap.id.clone());
        for (channels, symbols) in products(&rest.into_iter().collect()) {
            let id = own_id.take().unwrap_or_else(|| self.next_id());
            let lasting = Gap { id, channels, symbols, to: None, ..gap.clone() };
            self.lanes.extend(lasting.lanes().map(|lane| (lane, State::Missing(lasting.id.clone()))));
            self.changes.push_back(lasting.clone());
            self.open.insert(lasting.id.clone(), lasting);
        }
        for (channels, symbols) in products(&ended.into_iter().collect()) {
            let id = own_id.take().unwrap_or_else(|| self.next_id());
            self.changes.push_back(Gap { id, channels, symbols, to: Some(to), ..gap.clone() });
        }
    }

    fn next_id(&mut self) -> String {
        self.opened += 1;
        format!("{}-{:06}", self.id_prefix, self.opened)
    }
}

fn pairs(set: &Subscriptions) -> impl Iterator<Item = Lane> {
    set.iter().map(|(channel, symbol)| (channel, symbol.to_owned()))
}

/// The pairs as products, each pair in one of them: channels with the same symbols come together.
#[must_use]
pub fn products(pairs: &Subscriptions) -> Vec<(BTreeSet<Channel>, BTreeSet<String>)> {
    let mut products: BTreeMap<BTreeSet<String>, BTreeSet<Channel>> = BTreeMap::new();
    for (channel, symbols) in pairs.channels() {
        products.entry(symbols.clone()).or_default().insert(channel);
    }
    products.into_iter().map(|(symbols, channels)| (channels, symbols)).collect()
}

#[cfg(test)]
mod tests;
