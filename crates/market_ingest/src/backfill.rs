//! Fetches what gaps left out and hands it to the full-rate sinks; one task a job, one gap at a time, oldest first.
//!
//! A gap is asked for with some overlap on both sides, because times within a feed are not in order; what was received
//! already comes again under the same key (see [`crate::sink::key`]). A gap is `filled` once everything that was fetched
//! for it is durable in every sink, so a crash at any moment costs nothing but a repetition.
//!
//! Invariants: no row of what is held is handed on, and a hold interrupts every wait here; a place once passed is never
//! passed over: the cursor moves only behind what is durable.

mod plan;

pub(crate) use plan::is_carried;

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use alpaca_feed::decode::Decoder;
use alpaca_feed::message::{Event, Kind};
use alpaca_feed::subscription::Channel;
use alpaca_feed::symbol::Symbols;
use ingest_status::Timestamp;
use ingest_switch::watch::Decided;
use ingest_switch::{Coverage, JobCoverage};
use reqwest::StatusCode;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::config::{BackfillConfig, JobConfig};
use crate::gaps::{Cursor, GapBook, GapRecord, GapState, nanoseconds};
use crate::lease::Fence;
use crate::logging;
use crate::rest::{Client, Page, Query, Rest, RestError};
use crate::sink::key::Keyer;
use crate::sink::{self, FullRate, JobId, Outcome, Ticket};

/// A gap is asked for this much beyond both of its bounds, nanoseconds.
const OVERLAP: i64 = 1_000_000_000;
/// A minute bar leaves when its minute is over, nanoseconds.
const MINUTE: i64 = 60_000_000_000;
/// A sink that is stalled is looked at again after this time.
const SINK_WAIT: Duration = Duration::from_secs(2);
/// Symbols in one request.
const SYMBOLS_MAX: usize = 100;
/// The plan that gives data late does so by this much, seconds, with some margin.
const LATE_BY: f64 = 15.0 * 60.0 + 30.0;
/// First and longest wait after a failure.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// A request that the venue does not understand is put again so often before it is taken apart.
const PUT_AGAIN: u32 = 2;
/// Symbols that the venue refuses one by one before the gap is given up.
const REFUSED_MAX: usize = 20;
/// A refusal that a person can lift is asked about again after this time.
const REFUSED_RETRY: Duration = Duration::from_secs(600);

/// What a backfill is connected to.
pub(crate) struct Wiring {
    pub(crate) book: Arc<GapBook>,
    pub(crate) decisions: watch::Receiver<Decided>,
    /// The sinks that take every record.
    pub(crate) sinks: Vec<FullRate>,
    pub(crate) symbols: Arc<Symbols>,
    /// All jobs are of one account, which has one limit of calls.
    pub(crate) client: Client,
    pub(crate) policy: BackfillConfig,
    /// The venue has this long to publish what it sent.
    pub(crate) after: Duration,
}

/// The task of one job.
pub(crate) struct Backfill {
    id: JobId,
    job: JobConfig,
    wiring: Wiring,
    rest: Rest,
    /// When a gap may be asked for again, and after how many failures; a gap that is not here may be at once.
    waits: HashMap<String, Wait>,
    /// A fetch that was interrupted, to be gone on with.
    fetch: Option<Fetch>,
}

#[derive(Clone, Copy)]
struct Wait {
    until: Instant,
    failures: u32,
}

/// One gap on its way.
struct Fetch {
    record: GapRecord,
    channels: Vec<Channel>,
    /// Sorted, and none for all news.
    symbols: Vec<String>,
    channel: usize,
    /// How many symbols are done on that channel.
    done: usize,
    token: Option<String>,
    /// Symbols in one request: fewer while one is looked for that the venue refuses.
    batch: usize,
    /// Channels and symbols that the venue refuses, and how.
    refused: Vec<String>,
    keyer: Keyer,
    /// What was handed over and is not known to be durable, with the cursor that stands behind it.
    underway: VecDeque<Underway>,
    /// Handed over, durable or not.
    rows: u64,
    pages: u64,
    malformed: u64,
    begun: Instant,
}

/// A page that was handed over: the cursor and the number of rows that stand behind it.
struct Underway {
    cursor: Cursor,
    rows: u64,
    tickets: Vec<(usize, Ticket)>,
}

/// A page that every sink has taken.
struct Handed {
    rows: u64,
    tickets: Vec<(usize, Ticket)>,
    keyer: Keyer,
}

/// Why a fetch ended before its end.
enum Ended {
    /// Some of it is held.
    Held,
    /// A sink gave some of it up.
    Lost,
    /// Asked again after a time, for a reason.
    Later(Duration, String),
    /// Never to be had.
    Never(String),
}

impl Backfill {
    pub(crate) fn new(id: JobId, job: JobConfig, wiring: Wiring) -> Self {
        let rest = Rest::new(wiring.client.clone(), Decoder::new(Arc::clone(&wiring.symbols)));
        Self { id, job, wiring, rest, waits: HashMap::new(), fetch: None }
    }

    /// Fills gaps, while the lease is ours, until it is dropped.
    pub(crate) async fn run(mut self, fence: Fence) {
        let mut changes = self.wiring.book.changes();
        let mut decisions = self.wiring.decisions.clone();
        loop {
            changes.mark_unchanged();
            let coverage = self.coverage(&decisions.borrow_and_update());
            match self.next(&coverage) {
                // A stalled sink would hold what was fetched, and what it loses meanwhile belongs to its gap.
                Ok(_) if !fence.may_write() || !self.wiring.sinks.iter().all(FullRate::has_room) => {
                    tokio::time::sleep(SINK_WAIT).await
                }
                Ok(record) => self.fill(record, &coverage).await,
                Err(wake) => {
                    tokio::select! {
                        // The book and the switch outlive this task.
                        _ = changes.changed() => {}
                        _ = decisions.changed() => {}
                        () = wait_until(wake) => {}
                    }
                }
            }
        }
    }

    fn coverage(&self, decided: &Decided) -> JobCoverage {
        Coverage::new(&decided.decision.holds).job(&self.job.name)
    }

    /// The next gap to work on, or when there may be one.
    fn next(&mut self, coverage: &JobCoverage) -> Result<GapRecord, Option<Instant>> {
        let now = Instant::now();
        let waiting = self.wiring.book.waiting();
        let mut wake: Option<Instant> = None;
        let own = waiting.into_iter().filter(|record| record.job == self.job.name);
        let own: Vec<_> = own.collect();
        self.waits.retain(|id, _| own.iter().any(|record| record.id == *id));
        for record in own {
            if !plan::is_partly_free(&record, coverage) {
                continue;
            }
            let settled = Wait { until: now + self.wiring.after, failures: 0 };
            let until = self.waits.entry(record.id.clone()).or_insert(settled).until;
            if until <= now {
                return Ok(record);
            }
            wake = Some(wake.map_or(until, |wake| wake.min(until)));
        }
        Err(wake)
    }

    async fn fill(&mut self, record: GapRecord, coverage: &JobCoverage) {
        let known = plan::known(&self.job.name, &self.wiring.symbols);
        let Some(record) = self.wiring.book.begin(&record.id) else { return };
        let Some(record) = self.prepare(record, coverage, &known) else { return };
        let id = record.id.clone();
        let names = plan::names(&record, coverage, &known);
        let mut fetch = match self.fetch.take_if(|fetch| fetch.is_of(&record, &names)) {
            Some(fetch) => fetch,
            None => Fetch::new(record, names),
        };
        match self.fetch_all(&mut fetch).await {
            Ok(()) => self.complete(fetch),
            Err(Ended::Held) => {
                fetch.record.reason = Some("held".to_owned());
                self.wiring.book.put(fetch.record.clone());
                self.fetch = Some(fetch);
            }
            Err(Ended::Lost) => {
                // It begins anew where the cursor stands.
                self.waits.insert(id, Wait { until: Instant::now() + RETRY.0, failures: 0 });
                fetch.record.reason = Some("a sink gave up rows before they were kept".to_owned());
                self.wiring.book.put(fetch.record);
            }
            Err(Ended::Later(pause, why)) => {
                let failures = self.waits.get(&id).map_or(0, |wait| wait.failures) + 1;
                self.waits.insert(id, Wait { until: Instant::now() + pause, failures });
                let job = &*self.job.name;
                let pause_s = pause.as_secs_f64();
                if failures == 1 {
                    tracing::warn!(job, gap = fetch.record.id, pause_s, why, "backfill_waits");
                }
                fetch.record.reason = Some(why);
                self.wiring.book.put(fetch.record.clone());
                self.fetch = Some(fetch);
            }
            Err(Ended::Never(why)) => {
                let rows = fetch.record.rows;
                let state = if rows > 0 { GapState::Partial } else { GapState::Unfillable };
                self.end(fetch.record, state, Some(why));
            }
        }
    }

    /// What of a gap can be fetched now; the rest becomes a gap of its own, or is at its end.
    fn prepare(&self, record: GapRecord, coverage: &JobCoverage, known: &[String]) -> Option<GapRecord> {
        let limits = plan::Limits {
            history: self.job.history.as_ref().map_err(|why| *why),
            sinks: !self.wiring.sinks.is_empty(),
            policy: self.wiring.policy,
        };
        let (id, mut part) = (record.id.clone(), jiff::Timestamp::now().as_microsecond());
        // A later split of the same gap must not find its names taken.
        let new_id = || {
            part += 1;
            format!("{id}.{part:x}")
        };
        let shape = (record.symbols.clone(), record.channels.clone(), record.from);
        let plan = plan::split(record, &limits, coverage, known, new_id);
        for (record, why) in plan.never {
            self.end(record, GapState::Unfillable, Some(why));
        }
        for part in plan.later {
            self.wiring.book.put(part);
        }
        let fetch = plan.fetch?;
        if shape != (fetch.symbols.clone(), fetch.channels.clone(), fetch.from) {
            self.wiring.book.put(fetch.clone());
        }
        Some(fetch)
    }

    fn end(&self, mut record: GapRecord, state: GapState, reason: Option<String>) {
        let job = &*self.job.name;
        (record.state, record.reason, record.cursor) = (state, reason, None);
        tracing::info!(
            job,
            gap = record.id,
            state = state.as_str(),
            rows = record.rows,
            reason = record.reason,
            "gap_ended"
        );
        self.wiring.book.put(record);
    }

    fn complete(&self, fetch: Fetch) {
        let job = &*self.job.name;
        let took_s = fetch.begun.elapsed().as_secs_f64();
        let Fetch { record, pages, malformed, refused, .. } = fetch;
        tracing::info!(job, gap = record.id, rows = record.rows, pages, took_s, "gap_filled");
        match (malformed, refused.first()) {
            (0, None) => self.end(record, GapState::Filled, None),
            (_, Some(first)) => {
                let why = format!("the venue refused {} of its parts, the first {first}", refused.len());
                let state = if record.rows > 0 { GapState::Partial } else { GapState::Unfillable };
                self.end(record, state, Some(why));
            }
            (_, None) => {
                let why = format!("{malformed} rows could not be read");
                self.end(record, GapState::Partial, Some(why));
            }
        }
    }

    /// Fetches from where the cursor stands to the end, and waits until all of it is durable.
    async fn fetch_all(&mut self, fetch: &mut Fetch) -> Result<(), Ended> {
        let mut decisions = self.wiring.decisions.clone();
        while fetch.channel < fetch.channels.len() {
            let query = fetch.query(&self.job)?;
            let page = tokio::select! {
                biased;
                () = held(&mut decisions, &self.job.name, fetch) => return Err(Ended::Held),
                page = self.rest.page(&query, fetch.token.as_deref()) => page,
            };
            let page = match page {
                Ok(page) => page,
                Err(error) if fetch.leave_out(&error) => {
                    self.settle(fetch)?;
                    continue;
                }
                Err(error) => return Err(self.failed(&error, fetch)),
            };
            self.wiring.book.fetched.pages.fetch_add(1, Ordering::Relaxed);
            self.waits.remove(&fetch.record.id);
            let handed = tokio::select! {
                biased;
                () = held(&mut decisions, &self.job.name, fetch) => return Err(Ended::Held),
                handed = self.deliver(fetch, &page) => handed.ok_or(Ended::Held)?,
            };
            fetch.pass(page, handed);
            self.settle(fetch)?;
        }
        loop {
            let progress: Vec<_> = self.wiring.sinks.iter().map(|sink| Box::pin(sink.progress())).collect();
            self.settle(fetch)?;
            if fetch.underway.is_empty() {
                return Ok(());
            }
            // What was handed over becomes durable whatever is held by then.
            let _ = tokio::time::timeout(SINK_WAIT, futures_util::future::select_all(progress)).await;
        }
    }

    /// Hands the rows of a page to every sink, all of them or none to each; none if they are held.
    async fn deliver(&self, fetch: &Fetch, page: &Page) -> Option<Handed> {
        // Given up half way, the page comes again: its keys must be the same then.
        let mut keyer = fetch.keyer.clone();
        let rows = sink::Backfill::new(self.id, fetch.wanted(&page.events), &mut keyer);
        if rows.is_empty() {
            return Some(Handed { rows: 0, tickets: Vec::new(), keyer });
        }
        let decisions = &self.wiring.decisions;
        let free = || !is_held(&decisions.borrow(), &self.job.name, fetch);
        let mut tickets = Vec::new();
        for (at, sink) in self.wiring.sinks.iter().enumerate() {
            tickets.push((at, sink.accept_backfill(rows.clone(), free).await?));
        }
        let rows = rows.len() as u64;
        self.wiring.book.fetched.rows.fetch_add(rows, Ordering::Relaxed);
        Some(Handed { rows, tickets, keyer })
    }

    /// Moves the cursor behind what is durable.
    fn settle(&self, fetch: &mut Fetch) -> Result<(), Ended> {
        let before = fetch.record.cursor.clone();
        while let Some(first) = fetch.underway.front() {
            let outcome = |(at, ticket): &(usize, Ticket)| self.wiring.sinks[*at].outcome(*ticket);
            if first.tickets.iter().map(outcome).any(|outcome| outcome == Outcome::Lost) {
                return Err(Ended::Lost);
            }
            if !first.tickets.iter().map(outcome).all(|outcome| outcome == Outcome::Durable) {
                break;
            }
            (fetch.record.cursor, fetch.record.rows) = (Some(first.cursor.clone()), first.rows);
            fetch.underway.pop_front();
        }
        if fetch.record.cursor != before && !fetch.underway.is_empty() {
            self.wiring.book.put(fetch.record.clone());
        }
        Ok(())
    }

    fn failed(&self, error: &RestError, fetch: &mut Fetch) -> Ended {
        self.wiring.book.fetched.errors.fetch_add(1, Ordering::Relaxed);
        let why = logging::chain(error);
        let failures = self.waits.get(&fetch.record.id).map_or(0, |wait| wait.failures);
        match error {
            RestError::Limited(pause) => Ended::Later(*pause, why),
            RestError::TooRecent => {
                let to = fetch.record.to.unwrap_or(fetch.record.from);
                let old_s = Timestamp::from(jiff::Timestamp::now()).seconds_since(to);
                let pause_s = (LATE_BY - old_s).clamp(RETRY.1.as_secs_f64(), LATE_BY);
                Ended::Later(Duration::from_secs_f64(pause_s), why)
            }
            RestError::Refused { status, .. } if matches!(status.as_u16(), 401 | 403) => {
                Ended::Later(REFUSED_RETRY, why)
            }
            RestError::Refused { status, .. } if is_about_words(*status) => {
                let nothing_to_take_apart = fetch.symbols.len() <= 1 && failures >= 2 * PUT_AGAIN;
                if nothing_to_take_apart || fetch.refused.len() >= REFUSED_MAX {
                    return Ended::Never(why);
                }
                if failures >= PUT_AGAIN {
                    fetch.take_apart();
                }
                Ended::Later(jittered(RETRY.0), why)
            }
            RestError::Failing(_)
            | RestError::Unreachable(_)
            | RestError::Unreadable(_)
            | RestError::Refused { .. } => {
                let longest = RETRY.0.saturating_mul(1 << failures.min(10)).min(RETRY.1);
                Ended::Later(jittered(longest), why)
            }
        }
    }
}

impl Fetch {
    fn new(record: GapRecord, symbols: Vec<String>) -> Self {
        let cursor = record.cursor.clone().unwrap_or_default();
        let channels = record.channels.iter().filter_map(|word| word.parse().ok()).collect();
        let done = cursor.after.as_ref().map_or(0, |after| symbols.partition_point(|own| own <= after));
        Self {
            channels,
            symbols,
            channel: cursor.channel,
            done,
            token: None,
            batch: SYMBOLS_MAX,
            refused: Vec::new(),
            keyer: Keyer::default(),
            underway: VecDeque::new(),
            rows: record.rows,
            pages: 0,
            malformed: 0,
            begun: Instant::now(),
            record,
        }
    }

    /// Whether this fetch is of that gap as it is now.
    fn is_of(&self, record: &GapRecord, names: &[String]) -> bool {
        let own = &self.record;
        (&own.id, &own.channels, own.from, own.to) == (&record.id, &record.channels, record.from, record.to)
            && self.symbols == names
    }

    fn query<'a>(&'a self, job: &'a JobConfig) -> Result<Query<'a>, Ended> {
        let channel = self.channels[self.channel];
        let end = self.symbols.len().min(self.done + self.batch);
        let (from, to) = self.bounds();
        let before = if channel == Channel::Bars { MINUTE } else { 0 };
        Ok(Query {
            history: job.history.as_ref().map_err(|why| Ended::Never((*why).to_owned()))?,
            channel,
            symbols: &self.symbols[self.done..end],
            from: from.saturating_sub(before),
            to,
        })
    }

    /// With the overlap.
    fn bounds(&self) -> (i64, i64) {
        let to = self.record.to.unwrap_or(self.record.from);
        (nanoseconds(self.record.from).saturating_sub(OVERLAP), nanoseconds(to).saturating_add(OVERLAP))
    }

    /// The rows that the stream would have sent meanwhile: no bar of a minute that was not over.
    fn wanted(&self, events: &[Event]) -> Vec<Event> {
        let (from, to) = self.bounds();
        let due = |event: &Event| {
            event.kind() != Kind::Bar || (from..=to).contains(&event.ts().saturating_add(MINUTE))
        };
        events.iter().filter(|event| due(event)).cloned().collect()
    }

    /// A page is handed over: on to the next page, symbols or channel.
    fn pass(&mut self, page: Page, handed: Handed) {
        self.pages += 1;
        self.malformed += page.malformed;
        self.rows += handed.rows;
        self.keyer = handed.keyer;
        self.token = page.next;
        if self.token.is_none() {
            self.advance(self.batch);
        }
        self.push(handed.tickets);
    }

    /// So many more symbols are done.
    fn advance(&mut self, symbols: usize) {
        (self.token, self.keyer) = (None, Keyer::default());
        self.done = self.symbols.len().min(self.done + symbols);
        if self.done == self.symbols.len() {
            (self.channel, self.done) = (self.channel + 1, 0);
        }
    }

    fn push(&mut self, tickets: Vec<(usize, Ticket)>) {
        let after = self.done.checked_sub(1).map(|last| self.symbols[last].clone());
        let cursor = Cursor { channel: self.channel, after };
        self.underway.push_back(Underway { cursor, rows: self.rows, tickets });
    }

    /// Asks for fewer symbols at a time, from the first of those that are asked for now.
    fn take_apart(&mut self) {
        let asked = self.batch.min(self.symbols.len() - self.done);
        (self.batch, self.token, self.keyer) = ((asked / 4).max(1), None, Keyer::default());
    }

    /// Whether the venue refuses a single symbol, which is then left out.
    fn leave_out(&mut self, error: &RestError) -> bool {
        let RestError::Refused { status, message } = error else { return false };
        let asked_alone = self.batch == 1 && self.symbols.len() > 1;
        if !asked_alone || !is_about_words(*status) || self.refused.len() >= REFUSED_MAX {
            return false;
        }
        let (channel, symbol) = (self.channels[self.channel], &self.symbols[self.done]);
        self.refused.push(format!("{channel} of {symbol} with {status}: {message}"));
        self.batch = SYMBOLS_MAX;
        self.advance(1);
        self.push(Vec::new());
        true
    }
}

/// Whether a refusal is of what was asked for, and not of who asked or where.
fn is_about_words(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY)
}

/// Whether a hold covers any of what is fetched: the gap is then split before it goes on.
fn is_held(decided: &Decided, job: &str, fetch: &Fetch) -> bool {
    let coverage = Coverage::new(&decided.decision.holds).job(job);
    plan::any_held(&coverage, &fetch.channels, &fetch.symbols)
}

/// Completes once a hold covers any of what is fetched. Cancel safe.
async fn held(decisions: &mut watch::Receiver<Decided>, job: &str, fetch: &Fetch) {
    loop {
        // The switch outlives this task.
        if decisions.changed().await.is_err() {
            return std::future::pending().await;
        }
        if is_held(&decisions.borrow_and_update(), job, fetch) {
            return;
        }
    }
}

async fn wait_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => sleep_until(wake).await,
        None => std::future::pending().await,
    }
}

/// Between half of it and all of it, so that failing clients do not come back together.
fn jittered(longest: Duration) -> Duration {
    let random = RandomState::new().hash_one(0) as f64 / u64::MAX as f64;
    longest.mul_f64(0.5 + random / 2.0)
}
