//! Notices a feed that is connected and mute, and says what to try.
//!
//! The lifecycle knows when the *link* is silent: nothing at all, not even pings. This is about *data*, and a quiet
//! market is not a dead connection. Told the time and fed with what arrives, it learns how long each channel is usually
//! silent ([`interval`](self)), knows the market's [hours](crate::calendar) and halts, and raises an alarm when a
//! silence outlasts what was learned four times, and half a minute. Beside it: event time that falls behind the clock,
//! and single symbols that fall silent while others flow.
//!
//! Invariants:
//! - Silence counts only while the connection is live, the market open, and not all of a job's symbols are halted.
//! - An alarm is told once and lasts until data comes on what was silent, the market closes, or the job is held; a
//!   connection made anew does not end it. What it missed, from the last message on, is then told by
//!   [`Command::Backfill`], in pieces that tile; and with it what other channels missed that fell silent with it and
//!   may be silent for longer: a bar that a mute minute swallowed.
//! - Without enough learned there is no alarm; only a job of many symbols that never heard anything in a regular session
//!   has a fixed limit, so that the watch is not armed by the first message alone.
//! - Remedies come only while live, and not faster than [`remedy`](self) allows; a lag has one, once.

mod by_symbol;
mod interval;
mod lag;
mod output;
mod remedy;

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::calendar::{Hours, Market};
use crate::message::{Event, Kind, Status};
use crate::subscription::{Channel, EVERY_SYMBOL, Subscriptions};
use crate::symbol::SymbolId;
use by_symbol::BySymbol;
use interval::Interval;
use lag::Lag;
pub use output::{Command, Freshness, Notice, Subject, Trouble};
use remedy::{Remedies, Remedy};

/// The kinds of events that are expected to keep coming, and their channels. News is here to be shown, not judged.
const WATCHED: [(Kind, Channel); 7] = [
    (Kind::Trade, Channel::Trades),
    (Kind::Quote, Channel::Quotes),
    (Kind::Bar, Channel::Bars),
    (Kind::DailyBar, Channel::DailyBars),
    (Kind::Orderbook, Channel::Orderbooks),
    (Kind::Pricing, Channel::Pricing),
    (Kind::News, Channel::News),
];

/// The watchdog looks at least this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A job that never heard anything is mute after this time in a regular session, if it has at least so many symbols.
const UNHEARD_LIMIT: Duration = Duration::from_secs(300);
const UNHEARD_SYMBOLS_MIN: usize = 8;
/// What a spot check finds must be newer than the last message by this part of the least limit, for clocks and publication
/// differ: five seconds of thirty.
const SPOT_CHECK_SLACK: u32 = 6;
/// Event time that has been behind for so long will not catch up by itself.
const LAG_PERSISTS: Duration = Duration::from_secs(30);
/// Halted symbols that are remembered.
const HALTED_MAX: usize = 1 << 14;

/// The machine; see the module's text.
#[derive(Clone, Debug)]
pub struct Watchdog {
    market: Market,
    floor: Duration,
    hours: Hours,
    /// When other hours begin, ns UTC; before the first look, the beginning of time.
    hours_until_ts: i64,
    live: bool,
    /// Silence counts from here on; none while it does not count at all.
    counts_since: Option<Instant>,
    channels: [Watch; WATCHED.len()],
    /// Distinct symbols of the job; none with [`EVERY_SYMBOL`].
    symbol_count: Option<usize>,
    heard_ever: bool,
    halted: BTreeSet<SymbolId>,
    symbols: BySymbol,
    lag: Lag,
    /// When a lag is to be met with a new connection; none without one, and once that was tried.
    lag_remedy_at: Option<Instant>,
    remedies: Remedies,
    /// When to look next; none: at once.
    deadline: Option<Instant>,
    looked_at: Option<Instant>,
    commands: VecDeque<Command>,
    notices: VecDeque<Notice>,
}

/// One channel.
#[derive(Copy, Clone, Default, Debug)]
struct Watch {
    desired: bool,
    heard: Option<Instant>,
    early: Interval,
    regular: Interval,
    late: Interval,
    alarm: Option<Alarm>,
}

#[derive(Copy, Clone, Debug)]
struct Alarm {
    since: Instant,
    limit: Duration,
    /// Until here the gap was handed over to be filled; first the last message, whatever came between it and `since`.
    told_until: Instant,
    /// One bit a channel: fell silent with this one, and has no alarm of its own.
    company: u32,
}

impl Watchdog {
    /// A watchdog of a job whose feed keeps the hours of `market`; nothing is live yet. No silence below `floor` is an
    /// alarm; 30 s suit Alpaca.
    #[must_use]
    pub fn new(market: Market, floor: Duration) -> Self {
        Self {
            market,
            floor,
            hours: Hours::Closed,
            hours_until_ts: i64::MIN,
            live: false,
            counts_since: None,
            channels: Default::default(),
            symbol_count: Some(0),
            heard_ever: false,
            halted: BTreeSet::new(),
            symbols: BySymbol::new(),
            lag: Lag::default(),
            lag_remedy_at: None,
            remedies: Remedies::default(),
            deadline: None,
            looked_at: None,
            commands: VecDeque::new(),
            notices: VecDeque::new(),
        }
    }

    /// What should come from now on.
    pub fn handle_desired(&mut self, now: Instant, desired: &Subscriptions) {
        let names: BTreeSet<&str> = desired.iter().map(|(_, symbol)| symbol).collect();
        self.symbol_count = (!names.contains(EVERY_SYMBOL)).then_some(names.len());
        for (at, (_, channel)) in WATCHED.into_iter().enumerate() {
            let has = desired.channels().any(|(own, _)| own == channel);
            self.channels[at].desired = has;
            if !has {
                self.end_alarm(at, now);
            }
        }
        // Which of the symbols are still wanted is not known here: each is watched again once it was heard again.
        self.end_symbols(now);
        self.recount(now, true);
    }

    /// The connection is live: subscribed, and data may come.
    pub fn handle_live(&mut self, now: Instant) {
        self.live = true;
        self.recount(now, true);
    }

    /// There is no live connection, though there should be one.
    pub fn handle_gone(&mut self, now: Instant) {
        self.live = false;
        self.commands.retain(|command| matches!(command, Command::Backfill { .. }));
        self.recount(now, true);
    }

    /// The job is held, or stops: nothing is expected.
    pub fn handle_held(&mut self, now: Instant) {
        self.handle_gone(now);
        self.end_alarms(now);
    }

    /// What a turn brought, at least one event; `wall_ts` is the wall clock in nanoseconds since 1970 UTC.
    ///
    /// A message costs a store and two comparisons; all else is done once a turn, or once a second.
    pub fn handle_batch(&mut self, now: Instant, wall_ts: i64, events: &[Event]) {
        let (mut kinds, mut newest_ts) = (0_u32, i64::MIN);
        for event in events {
            // Most are quotes, and most others trades.
            if let Event::Quote(quote) = event {
                kinds |= 1 << Kind::Quote as u32;
                newest_ts = newest_ts.max(quote.ts);
                self.symbols.see(quote.symbol);
            } else if let Some(trade) = event.trade() {
                kinds |= 1 << Kind::Trade as u32;
                newest_ts = newest_ts.max(trade.ts);
                self.symbols.see(trade.symbol);
            } else {
                kinds |= 1 << event.kind() as u32;
                if let Event::Status(status) = event {
                    self.take_status(now, status);
                }
            }
        }
        if newest_ts != i64::MIN {
            // A time of the future would make all that follows look late.
            self.lag.sample(wall_ts.saturating_sub(newest_ts).max(0));
        }
        self.heard_ever |= kinds != 0;
        for (at, (kind, _)) in WATCHED.into_iter().enumerate() {
            if kinds & 1 << kind as u32 != 0 {
                self.hear(at, now);
            }
        }
    }

    /// Time has passed; harmless before [`Self::poll_timeout`].
    pub fn handle_time(&mut self, now: Instant, wall_ts: i64) {
        if self.deadline.is_some_and(|deadline| now < deadline) {
            return;
        }
        if wall_ts >= self.hours_until_ts {
            self.enter_hours(now, wall_ts);
        }
        if self.looked_at.is_none_or(|at| now >= at + LOOK_EVERY) {
            self.looked_at = Some(now);
            self.look(now);
        }
        self.judge(now);
        self.remedy(now);
        self.deadline = Some(self.next_deadline(now));
    }

    /// What a look elsewhere, such as at the venue's REST service, found out about a suspect: the time of its newest
    /// trade or quote, in nanoseconds since 1970 UTC. An answer about any other symbol changes nothing.
    pub fn handle_spot_check(&mut self, now: Instant, wall_ts: i64, symbol: SymbolId, newest_ts: i64) {
        let slack = self.floor / SPOT_CHECK_SLACK;
        let is_mute = |since: Instant| {
            let missed = now.saturating_duration_since(since).saturating_sub(slack);
            let missed_ns = i64::try_from(missed.as_nanos()).unwrap_or(i64::MAX);
            newest_ts > wall_ts.saturating_sub(missed_ns)
        };
        if let Some((since, limit)) = self.symbols.settle(symbol, now, is_mute) {
            let silent = now.saturating_duration_since(since);
            self.notices.push_back(Notice::Silent { subject: Subject::Symbol(symbol), silent, limit });
            self.deadline = None;
        }
    }

    /// What to do next; poll until `None` after every `handle_…`.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// What to tell next; poll until `None` after every `handle_…`.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// When to call [`Self::handle_time`], at the latest; `None`: at once. Data moves it later, so an early call finds
    /// nothing.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether the data is fresh as of `now`.
    #[must_use]
    pub fn freshness(&self, now: Instant) -> Freshness {
        let flows = |watch: &Watch| {
            let limit = watch.limit(self.hours, self.floor).unwrap_or(self.floor);
            watch.desired && watch.heard.is_some_and(|heard| now < heard + limit)
        };
        if self.is_mute() {
            Freshness::Mute
        } else if !self.live {
            Freshness::NotLive
        } else if self.lag.is_lagging() {
            Freshness::Lagging
        } else if self.channels.iter().any(flows) {
            Freshness::Flowing
        } else if self.market == Market::Never {
            Freshness::Quiet
        } else if self.hours == Hours::Closed {
            Freshness::MarketClosed
        } else if self.all_halted() {
            Freshness::Halted
        } else {
            Freshness::Quiet
        }
    }

    /// What an alarm stands for, in order.
    #[must_use]
    pub fn mute(&self) -> Vec<Subject> {
        let channels = self.channels.iter().zip(WATCHED).filter(|(watch, _)| watch.alarm.is_some());
        let channels = channels.map(|(_, (_, channel))| Subject::Channel(channel));
        channels.chain(self.symbols.mute().map(Subject::Symbol)).collect()
    }

    /// Symbols that may be mute while others flow, until a spot check says more.
    #[must_use]
    pub fn suspects(&self) -> Vec<SymbolId> {
        self.symbols.suspects().collect()
    }

    /// Since when something may be missing that was not told yet: a channel is silent for half of what would be an
    /// alarm, or there is one.
    #[must_use]
    pub fn doubts_since(&self, now: Instant) -> Option<Instant> {
        let channels = (0..WATCHED.len()).filter_map(|at| {
            let watch = &self.channels[at];
            let alarm = watch.alarm.map(|alarm| alarm.told_until);
            let long = |heard: &Instant| self.limit_at(at).is_some_and(|limit| now >= *heard + limit / 2);
            let counts = self.counts_since.is_some() && watch.desired;
            alarm.or(watch.heard.filter(|heard| counts && long(heard)))
        });
        channels.chain(self.symbols.told_until()).min()
    }

    /// When each channel that is desired and was ever heard was last heard.
    pub fn heard(&self) -> impl Iterator<Item = (Channel, Instant)> {
        let heard =
            |(watch, (_, channel)): (&Watch, _)| Some((channel, watch.heard.filter(|_| watch.desired)?));
        self.channels.iter().zip(WATCHED).filter_map(heard)
    }

    /// The silence of `channel` that would be an alarm now; none while there is too little to judge by.
    #[must_use]
    pub fn limit(&self, channel: Channel) -> Option<Duration> {
        let at = WATCHED.iter().position(|(_, own)| *own == channel)?;
        self.limit_at(at)
    }

    fn is_mute(&self) -> bool {
        self.channels.iter().any(|watch| watch.alarm.is_some()) || self.symbols.mute().next().is_some()
    }

    fn all_halted(&self) -> bool {
        self.symbol_count.is_some_and(|count| count > 0 && self.halted.len() >= count)
    }

    /// Begins to count silence, anew if asked, or stops counting it.
    fn recount(&mut self, now: Instant, anew: bool) {
        let counts = self.live && self.hours != Hours::Closed && !self.all_halted();
        self.counts_since = self.counts_since.filter(|_| counts && !anew).or(counts.then_some(now));
        if anew {
            self.symbols.forget_silences();
        }
        self.deadline = None;
    }

    fn enter_hours(&mut self, now: Instant, wall_ts: i64) {
        let Ok(at) = jiff::Timestamp::from_nanosecond(i128::from(wall_ts)) else { return };
        let spell = self.market.spell(at);
        let until_ns = spell.until.map(|until| until.as_nanosecond());
        self.hours_until_ts = until_ns.and_then(|ns| i64::try_from(ns).ok()).unwrap_or(i64::MAX);
        if spell.hours == self.hours {
            return;
        }
        self.hours = spell.hours;
        for watch in &mut self.channels {
            // The regular session is alike from day to day; extended hours begin where the others of the day before
            // did not end.
            match spell.hours {
                Hours::Early => watch.early = Interval::default(),
                Hours::Late => watch.late = Interval::default(),
                Hours::Regular | Hours::Closed => {}
            }
        }
        if spell.hours == Hours::Closed {
            self.end_alarms(now);
            self.halted.clear();
        }
        self.recount(now, true);
    }

    fn take_status(&mut self, now: Instant, status: &Status) {
        // The codes of both tapes; they do not overlap.
        match status.status.as_str() {
            "2" | "H" | "P" if self.halted.len() < HALTED_MAX => drop(self.halted.insert(status.symbol)),
            "3" | "Q" | "T" => drop(self.halted.remove(&status.symbol)),
            _ => return,
        }
        self.recount(now, false);
        if self.all_halted() {
            self.end_alarms(now);
        }
    }

    fn hear(&mut self, at: usize, now: Instant) {
        let watch = &mut self.channels[at];
        let last = watch.heard.replace(now);
        let interval = match self.hours {
            Hours::Closed => return,
            Hours::Early => &mut watch.early,
            Hours::Regular => &mut watch.regular,
            Hours::Late => &mut watch.late,
        };
        if let Some(alarm) = watch.alarm {
            interval.learn_alarm(now.saturating_duration_since(alarm.since), alarm.limit);
            let subject = Subject::Channel(WATCHED[at].1);
            let silent = now.saturating_duration_since(alarm.since);
            self.notices.push_back(Notice::Flowing { subject, silent });
            self.end_alarm(at, now);
        } else if let (Some(last), Some(counts_since)) = (last, self.counts_since)
            && last >= counts_since
        {
            interval.learn(now.saturating_duration_since(last));
        }
    }

    /// What is due once a second.
    fn look(&mut self, now: Instant) {
        match self.lag.look() {
            Some(lag::Turn::Lagging(lag)) => {
                self.lag_remedy_at = Some(now + LAG_PERSISTS);
                self.notices.push_back(Notice::Lagging(lag));
            }
            Some(lag::Turn::CaughtUp) => {
                self.lag_remedy_at = None;
                self.notices.push_back(Notice::CaughtUp);
            }
            None => {}
        }
        let flows = self
            .channels
            .iter()
            .any(|watch| watch.desired && watch.heard.is_some_and(|heard| now < heard + 2 * LOOK_EVERY));
        let judge = flows && self.hours == Hours::Regular && self.counts_since.is_some();
        let (halted, notices, commands) = (&self.halted, &mut self.notices, &mut self.commands);
        self.symbols.look(
            now,
            judge,
            self.floor,
            |symbol| halted.contains(&symbol),
            |turn| match turn {
                by_symbol::Turn::Suspect { symbol, silent, limit } => {
                    notices.push_back(Notice::Suspect { symbol, silent, limit });
                }
                by_symbol::Turn::Flows { symbol, since, told_until } => {
                    let (subject, silent) = (Subject::Symbol(symbol), now.saturating_duration_since(since));
                    notices.push_back(Notice::Flowing { subject, silent });
                    commands.push_back(Command::Backfill { subject, since: told_until, until: now });
                }
            },
        );
    }

    fn judge(&mut self, now: Instant) {
        for (at, (_, channel)) in WATCHED.into_iter().enumerate() {
            let (Some(since), Some(limit)) = (self.silent_since(at), self.limit_at(at)) else { continue };
            if now < since + limit {
                continue;
            }
            let silent = now.saturating_duration_since(since);
            let told_until = self.channels[at].heard.unwrap_or(since);
            let company = self.company(since + silent / 2);
            self.channels[at].alarm = Some(Alarm { since, limit, told_until, company });
            for alarm in self.channels.iter_mut().filter_map(|watch| watch.alarm.as_mut()) {
                alarm.company &= !(1 << at);
            }
            self.notices.push_back(Notice::Silent { subject: Subject::Channel(channel), silent, limit });
        }
    }

    /// The channels without an alarm that were not heard after `from`.
    fn company(&self, from: Instant) -> u32 {
        let silent = |watch: &Watch| {
            watch.desired && watch.alarm.is_none() && watch.heard.is_none_or(|heard| heard <= from)
        };
        let bits = self.channels.iter().enumerate().filter(|(_, watch)| silent(watch));
        bits.fold(0, |company, (at, _)| company | 1 << at)
    }

    /// Since when a silence counts on a channel that is expected to flow and has no alarm yet.
    fn silent_since(&self, at: usize) -> Option<Instant> {
        let watch = &self.channels[at];
        let counts_since = self.counts_since.filter(|_| watch.desired && watch.alarm.is_none())?;
        Some(watch.heard.map_or(counts_since, |heard| heard.max(counts_since)))
    }

    fn limit_at(&self, at: usize) -> Option<Duration> {
        let unheard = || {
            let broad = self.symbol_count.is_none_or(|count| count >= UNHEARD_SYMBOLS_MIN);
            let (kind, _) = WATCHED[at];
            let expected = broad && matches!(kind, Kind::Trade | Kind::Quote) && !self.heard_ever;
            (expected && self.hours == Hours::Regular).then_some(UNHEARD_LIMIT)
        };
        self.channels[at].limit(self.hours, self.floor).or_else(unheard)
    }

    fn remedy(&mut self, now: Instant) {
        if self.live && self.lag_remedy_at.is_some_and(|at| now >= at) && self.remedies.take_reconnection(now)
        {
            self.lag_remedy_at = None;
            self.commands.push_back(Command::Reconnect(Trouble::Lagging));
            return;
        }
        if !self.is_mute() {
            self.remedies.reset();
            return;
        }
        if self.counts_since.is_none() {
            return;
        }
        match self.remedies.take(now) {
            None => {}
            Some(Remedy::Resubscribe) => self.commands.push_back(Command::Resubscribe(self.mute())),
            Some(Remedy::Reconnect { after_vain }) => {
                if after_vain {
                    (0..WATCHED.len()).for_each(|at| self.hand_over_gap(at, now));
                    self.hand_over_symbols(now);
                }
                self.commands.push_back(Command::Reconnect(Trouble::Mute));
            }
        }
    }

    fn next_deadline(&self, now: Instant) -> Instant {
        let silences = (0..WATCHED.len()).filter_map(|at| Some(self.silent_since(at)? + self.limit_at(at)?));
        let look = self.looked_at.unwrap_or(now) + LOOK_EVERY;
        let remedy = self.remedies.due().filter(|_| self.is_mute() && self.counts_since.is_some());
        silences.chain(remedy).filter(|at| *at > now).fold(look, Instant::min)
    }

    /// What was missed so far is to be fetched elsewhere.
    fn hand_over_gap(&mut self, at: usize, now: Instant) {
        if let Some(alarm) = &mut self.channels[at].alarm {
            let since = std::mem::replace(&mut alarm.told_until, now);
            let missed = alarm.company | 1 << at;
            for (_, (_, channel)) in (0..).zip(WATCHED).filter(|(own, _)| missed & 1 << own != 0) {
                let subject = Subject::Channel(channel);
                self.commands.push_back(Command::Backfill { subject, since, until: now });
            }
        }
    }

    fn end_alarm(&mut self, at: usize, now: Instant) {
        self.hand_over_gap(at, now);
        self.channels[at].alarm = None;
        self.deadline = None;
    }

    fn hand_over_symbols(&mut self, now: Instant) {
        for (symbol, since) in self.symbols.hand_over(now) {
            let subject = Subject::Symbol(symbol);
            self.commands.push_back(Command::Backfill { subject, since, until: now });
        }
    }

    fn end_symbols(&mut self, now: Instant) {
        self.hand_over_symbols(now);
        self.symbols.forgive();
    }

    fn end_alarms(&mut self, now: Instant) {
        (0..WATCHED.len()).for_each(|at| self.end_alarm(at, now));
        self.end_symbols(now);
    }
}

impl Watch {
    /// The silence that is an alarm in these hours. The open is busier than what came before it, so until enough of it
    /// was watched, what was allowed then is allowed.
    fn limit(&self, hours: Hours, floor: Duration) -> Option<Duration> {
        let early = || self.early.limit(Hours::Early, floor);
        match hours {
            Hours::Closed => None,
            Hours::Early => early(),
            Hours::Regular => self.regular.limit(hours, floor).or_else(early),
            Hours::Late => self.late.limit(hours, floor),
        }
    }
}
