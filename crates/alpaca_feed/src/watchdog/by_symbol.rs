//! One symbol mute while the others flow.
//!
//! A message costs one store: the number of the present look into the symbol's place. All else happens once a second,
//! over at most [`SYMBOLS_MAX`] places, for the [`WATCHED_MAX`] symbols that were active in most of the last seconds.
//! A gap is so known to a second, which is little beside the thirty that an alarm takes. Only the regular session is
//! judged: outside it a silent symbol is the rule.
//!
//! Silence of one symbol is no proof, so it is only a suspicion until somebody has looked elsewhere.

use std::time::{Duration, Instant};

use super::interval::Interval;
use crate::calendar::Hours;
use crate::symbol::SymbolId;

/// Symbols beyond these numbers are not watched one by one; numbers go by first sight, so the active ones come first.
const SYMBOLS_MAX: usize = 1 << 14;
/// Symbols whose interval is learned.
pub(super) const WATCHED_MAX: usize = 256;
/// How often it is decided anew which.
const CHOICE_EVERY: Duration = Duration::from_secs(15);
/// The last message may have come so long before the look that found it; a look may be late.
const LAST_BEFORE: Duration = Duration::from_secs(2);
/// Seconds with a message, of the last 30 or so, that make a symbol worth watching.
const ACTIVE_MIN: u16 = 10;

#[derive(Clone, Debug)]
pub(super) struct BySymbol {
    /// By symbol: the look before which it was last seen.
    seen: Vec<u32>,
    /// By symbol: looks that found it, halved at every choice.
    active: Vec<u16>,
    look: u32,
    watched: Vec<Pulse>,
    choose_at: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Pulse {
    symbol: SymbolId,
    heard: Option<Instant>,
    interval: Interval,
    standing: Standing,
}

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Standing {
    Flowing,
    Suspect {
        limit: Duration,
    },
    /// Looked up elsewhere: nothing was missing. It is suspected again after twice the silence.
    Quiet {
        until: Duration,
    },
    Mute {
        since: Instant,
        limit: Duration,
        /// Until here the gap was handed over to be filled.
        told_until: Instant,
    },
}

/// What a look found out about a symbol.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Turn {
    Suspect {
        symbol: SymbolId,
        silent: Duration,
        limit: Duration,
    },
    /// It was found to be mute before.
    Flows {
        symbol: SymbolId,
        since: Instant,
        told_until: Instant,
    },
}

impl BySymbol {
    pub(super) fn new() -> Self {
        Self { seen: Vec::new(), active: Vec::new(), look: 1, watched: Vec::new(), choose_at: None }
    }

    /// A trade or quote of it came.
    #[inline]
    pub(super) fn see(&mut self, symbol: SymbolId) {
        if let Some(seen) = self.seen.get_mut(symbol.index()) {
            *seen = self.look;
        } else {
            self.grow(symbol.index());
        }
    }

    #[cold]
    fn grow(&mut self, at: usize) {
        if at < SYMBOLS_MAX {
            self.seen.resize(at + 1, 0);
            self.active.resize(at + 1, 0);
            self.seen[at] = self.look;
        }
    }

    /// No silence reaches across this: the connection, the hours or the holds have changed.
    pub(super) fn forget_silences(&mut self) {
        for pulse in &mut self.watched {
            pulse.heard = None;
            if !matches!(pulse.standing, Standing::Mute { .. }) {
                pulse.standing = Standing::Flowing;
            }
        }
    }

    /// Nothing is expected of any symbol any more.
    pub(super) fn forgive(&mut self) {
        self.forget_silences();
        self.watched.iter_mut().for_each(|pulse| pulse.standing = Standing::Flowing);
    }

    /// Takes stock of what was seen since the last look; call it about once a second. `judge` says whether the others
    /// flow and the hours are busy.
    pub(super) fn look(
        &mut self,
        now: Instant,
        judge: bool,
        floor: Duration,
        halted: impl Fn(SymbolId) -> bool,
        mut tell: impl FnMut(Turn),
    ) {
        let look = self.look;
        for pulse in &mut self.watched {
            let seen = self.seen.get(pulse.symbol.index()) == Some(&look);
            let floor = (judge && !halted(pulse.symbol)).then_some(floor);
            pulse.look(now, seen, floor, &mut tell);
        }
        for (active, seen) in self.active.iter_mut().zip(&self.seen) {
            *active = active.saturating_add(u16::from(*seen == look));
        }
        self.look = look.wrapping_add(1).max(1);
        if self.choose_at.is_none_or(|at| now >= at) {
            self.choose_at = Some(now + CHOICE_EVERY);
            self.choose(now);
        }
    }

    /// Watches the most active; whoever is silent just now stays, since silence is what is watched for.
    fn choose(&mut self, now: Instant) {
        let silent_since = |pulse: &Pulse| pulse.heard.is_some_and(|heard| now >= heard + CHOICE_EVERY / 3);
        let active = &self.active;
        self.watched.retain(|pulse| {
            let is_active = active.get(pulse.symbol.index()).is_some_and(|active| *active >= ACTIVE_MIN);
            is_active || silent_since(pulse) || pulse.standing != Standing::Flowing
        });
        let mut newcomers: Vec<(u16, usize)> =
            self.active.iter().copied().zip(0..).filter(|(active, _)| *active >= ACTIVE_MIN).collect();
        newcomers.sort_unstable_by(|a, b| b.cmp(a));
        for (_, at) in newcomers {
            if self.watched.len() >= WATCHED_MAX {
                break;
            }
            let Ok(number) = u32::try_from(at) else { break };
            if let Err(place) = self.watched.binary_search_by_key(&number, |pulse| pulse.symbol.0) {
                let (symbol, interval) = (SymbolId(number), Interval::default());
                self.watched
                    .insert(place, Pulse { symbol, heard: None, interval, standing: Standing::Flowing });
            }
        }
        self.active.iter_mut().for_each(|active| *active /= 2);
    }

    /// The symbols that are silent and may be mute.
    pub(super) fn suspects(&self) -> impl Iterator<Item = SymbolId> {
        let suspect = |pulse: &&Pulse| matches!(pulse.standing, Standing::Suspect { .. });
        self.watched.iter().filter(suspect).map(|pulse| pulse.symbol)
    }

    /// The symbols that are known to be mute.
    pub(super) fn mute(&self) -> impl Iterator<Item = SymbolId> {
        let mute = |pulse: &&Pulse| matches!(pulse.standing, Standing::Mute { .. });
        self.watched.iter().filter(mute).map(|pulse| pulse.symbol)
    }

    /// Of those that are mute, from when on their gaps are still to be told.
    pub(super) fn told_until(&self) -> impl Iterator<Item = Instant> {
        self.watched.iter().filter_map(|pulse| match pulse.standing {
            Standing::Mute { told_until, .. } => Some(told_until),
            Standing::Flowing | Standing::Suspect { .. } | Standing::Quiet { .. } => None,
        })
    }

    /// Of those that are mute, from when on their gaps are to be told, which are told until `now` by this.
    pub(super) fn hand_over(&mut self, now: Instant) -> impl Iterator<Item = (SymbolId, Instant)> {
        self.watched.iter_mut().filter_map(move |pulse| match &mut pulse.standing {
            Standing::Mute { told_until, .. } => Some((pulse.symbol, std::mem::replace(told_until, now))),
            Standing::Flowing | Standing::Suspect { .. } | Standing::Quiet { .. } => None,
        })
    }

    /// Settles a suspicion; `is_mute` is told since when nothing was heard. The answer is the limit that was passed and
    /// that time, if the symbol is mute. What came since the last look speaks for itself.
    pub(super) fn settle(
        &mut self,
        symbol: SymbolId,
        now: Instant,
        is_mute: impl Fn(Instant) -> bool,
    ) -> Option<(Instant, Duration)> {
        let pulse = self.watched.iter_mut().find(|pulse| pulse.symbol == symbol)?;
        let (Standing::Suspect { limit }, Some(since)) = (pulse.standing, pulse.heard) else {
            return None;
        };
        if self.seen.get(symbol.index()) == Some(&self.look) {
            return None;
        }
        let mute = is_mute(since);
        pulse.standing = if mute {
            let told_until = since.checked_sub(LAST_BEFORE).unwrap_or(since);
            Standing::Mute { since, limit, told_until }
        } else {
            Standing::Quiet { until: now.saturating_duration_since(since) * 2 }
        };
        mute.then_some((since, limit))
    }
}

impl Pulse {
    /// Without a `floor` it is not judged.
    fn look(&mut self, now: Instant, seen: bool, floor: Option<Duration>, tell: &mut impl FnMut(Turn)) {
        let (symbol, last) = (self.symbol, self.heard);
        if seen {
            self.heard = Some(now);
            let gap = last.map(|last| now.saturating_duration_since(last));
            match (std::mem::replace(&mut self.standing, Standing::Flowing), gap) {
                (Standing::Mute { since, limit, told_until }, _) => {
                    self.interval.learn_alarm(now.saturating_duration_since(since), limit);
                    tell(Turn::Flows { symbol, since, told_until });
                }
                // Nothing was missing: so long it is silent at times.
                (Standing::Flowing | Standing::Suspect { .. } | Standing::Quiet { .. }, Some(gap)) => {
                    self.interval.learn(gap);
                }
                (Standing::Flowing | Standing::Suspect { .. } | Standing::Quiet { .. }, None) => {}
            }
            return;
        }
        let (Some(last), Some(floor)) = (last, floor) else { return };
        let silent = now.saturating_duration_since(last);
        match self.standing {
            Standing::Flowing => {}
            Standing::Quiet { until } if silent >= until => {}
            Standing::Suspect { .. } | Standing::Quiet { .. } | Standing::Mute { .. } => return,
        }
        if let Some(limit) = self.interval.limit(Hours::Regular, floor).filter(|limit| silent >= *limit) {
            self.standing = Standing::Suspect { limit };
            tell(Turn::Suspect { symbol, silent, limit });
        }
    }
}
