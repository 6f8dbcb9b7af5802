//! What is, for operators and dashboards: status, the chain of holds on a symbol, history, gaps.

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use axum::routing::get;
use ingest_status::{Heartbeat, HoldReport, Timestamp};
use ingest_switch::{CHANNELS, Coverage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::openapi::{Operation, Route};
use super::params::query;
use super::problem::Problem;
use super::{SHAPE, Shown};
use crate::gaps::GapRecord;
use crate::history::PauseRecord;
use crate::report::hold_report;

/// Pauses or gaps in one answer, unless asked for otherwise.
const NEWEST: u32 = 50;
/// Pauses or gaps in one answer, at most.
const NEWEST_MAX: u32 = 1000;
/// Characters of a symbol.
const SYMBOL_MAX: usize = 100;

/// Why a symbol is held or not, job by job and channel by channel.
#[derive(Debug, Serialize, JsonSchema)]
struct Why {
    /// Version of this shape.
    schema: u32,
    /// The symbol as it was asked for.
    symbol: String,
    /// False while a flag cannot be read or understood and its last decision stands.
    flag_fresh: bool,
    /// One sentence for each source that is not understood now.
    doubts: Vec<String>,
    /// One entry for each job and channel.
    channels: Vec<WhyChannel>,
}

/// One channel of one job.
#[derive(Debug, Serialize, JsonSchema)]
struct WhyChannel {
    /// The job.
    job: String,
    /// The channel.
    channel: String,
    /// Whether the job is configured to ingest the symbol on this channel at all.
    configured: bool,
    /// Whether any hold covers it: ingested exactly when configured and not held.
    held: bool,
    /// Every hold that covers it, oldest first.
    holds: Vec<CoveringHold>,
}

/// A hold, and how old it is.
#[derive(Debug, Serialize, JsonSchema)]
struct CoveringHold {
    #[serde(flatten)]
    hold: HoldReport,
    /// Seconds that it has stood.
    age_s: f64,
}

/// The newest pauses.
#[derive(Debug, Serialize, JsonSchema)]
struct History {
    /// Version of this shape.
    schema: u32,
    /// Newest first.
    pauses: Vec<Pause>,
}

/// One pause, written from its effect.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Pause {
    id: String,
    /// What was held.
    pub(super) scope: String,
    /// Who held, `kind:detail`.
    source: String,
    /// Why.
    reason: Option<String>,
    /// Who asked.
    actor: Option<String>,
    /// When the hold began.
    paused_at: Timestamp,
    /// When its effect was complete; null until then.
    effective_at: Option<Timestamp>,
    /// When it ended; null while it stands.
    resumed_at: Option<Timestamp>,
    /// Seconds from `paused_at` to `resumed_at`.
    duration_s: Option<f64>,
    /// Records received before the pause and delivered during it.
    messages_drained: u64,
    /// Gaps that it left.
    gap_ids: Vec<String>,
}

/// The newest gaps.
#[derive(Debug, Serialize, JsonSchema)]
struct Gaps {
    /// Version of this shape.
    schema: u32,
    /// Newest first.
    gaps: Vec<NamedGap>,
}

/// What was not received, and what became of it.
#[derive(Debug, Serialize, JsonSchema)]
struct NamedGap {
    id: String,
    #[serde(flatten)]
    record: GapRecord,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WhyQuery {
    symbol: Option<String>,
    job: Option<String>,
    channel: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewestQuery {
    limit: Option<u32>,
}

pub(super) fn routes() -> Vec<Route> {
    let symbol =
        json!({ "type": "string", "pattern": format!("^[!-~]{{1,{SYMBOL_MAX}}}$"), "examples": ["AAPL"] });
    let limit = json!({ "type": "integer", "minimum": 1, "maximum": NEWEST_MAX, "default": NEWEST });
    vec![
        Route::get(
            "/api/v1/status",
            get(status),
            Operation::new("status", "The heartbeat as it would be written now.")
                .answer::<Heartbeat>(200, "What is, and what was asked."),
        ),
        Route::get(
            "/api/v1/why",
            get(why),
            Operation::new("why", "Every hold that covers a symbol, by job and channel.")
                .query("symbol", true, "The symbol, in any letter case.", symbol)
                .query("job", false, "Only this job.", json!({ "type": "string" }))
                .query("channel", false, "Only this channel.", json!({ "type": "string", "enum": CHANNELS }))
                .answer::<Why>(200, "The whole chain.")
                .problem(404, "There is no such job."),
        ),
        Route::get(
            "/api/v1/history",
            get(history),
            Operation::new("history", "The newest pauses.")
                .query("limit", false, "How many at most.", limit.clone())
                .answer::<History>(200, "Newest first.")
                .problem(503, "The store does not answer."),
        ),
        Route::get(
            "/api/v1/gaps",
            get(gaps),
            Operation::new("gaps", "The newest intervals that were not received, and what became of them.")
                .query("limit", false, "How many at most.", limit)
                .answer::<Gaps>(200, "Newest first.")
                .problem(503, "The store does not answer."),
        ),
    ]
}

async fn status(State(shown): State<Shown>) -> Json<Heartbeat> {
    Json(shown.report.heartbeat(jiff::Timestamp::now().into()))
}

async fn why(State(shown): State<Shown>, uri: Uri) -> Result<Json<Why>, Problem> {
    let WhyQuery { symbol, job, channel } = query(&uri)?;
    let good = |symbol: &String| {
        (1..=SYMBOL_MAX).contains(&symbol.len()) && symbol.bytes().all(|c| c.is_ascii_graphic())
    };
    let Some(symbol) = symbol.filter(good) else {
        let detail = format!("symbol: 1 to {SYMBOL_MAX} printable ASCII characters, such as AAPL or BTC/USD");
        return Err(Problem::field("symbol", detail));
    };
    if let Some(word) = &channel
        && !CHANNELS.contains(&word.as_str())
    {
        return Err(Problem::field("channel", format!("channel: one of {}", CHANNELS.join(" "))));
    }
    let job = shown.known(job)?;

    let decision = shown.report.decision().decision;
    let coverage = Coverage::new(&decision.holds);
    let now: Timestamp = jiff::Timestamp::now().into();
    let mut channels = Vec::new();
    for plan in shown.plans.iter().filter(|plan| job.as_ref().is_none_or(|job| *job == plan.name)) {
        let mut words: Vec<&str> = plan.pairs.iter().map(|(channel, _)| channel.as_str()).collect();
        if let Some(asked) = &channel {
            words.retain(|word| word == asked);
        }
        words.dedup();
        for word in words {
            let holds: Vec<CoveringHold> = coverage
                .holds_on(&plan.name, &symbol, word)
                .map(|hold| CoveringHold {
                    hold: hold_report(hold),
                    age_s: now.seconds_since(hold.since.into()),
                })
                .collect();
            channels.push(WhyChannel {
                job: plan.name.clone(),
                channel: word.to_owned(),
                configured: plan
                    .pairs
                    .iter()
                    .any(|(on, named)| on == word && (named == "*" || named.eq_ignore_ascii_case(&symbol))),
                held: !holds.is_empty(),
                holds,
            });
        }
    }
    let (flag_fresh, doubts) = (decision.flag_fresh, decision.doubts);
    Ok(Json(Why { schema: SHAPE, symbol, flag_fresh, doubts, channels }))
}

async fn history(State(shown): State<Shown>, uri: Uri) -> Result<Json<History>, Problem> {
    let limit = limit(&uri)?;
    let pauses = shown.store.read_pauses(limit).await.map_err(|e| Problem::store("tell the history", &e))?;
    Ok(Json(History { schema: SHAPE, pauses: pauses.into_iter().map(Pause::from).collect() }))
}

async fn gaps(State(shown): State<Shown>, uri: Uri) -> Result<Json<Gaps>, Problem> {
    let limit = limit(&uri)?;
    let gaps = shown.store.read_gaps(limit).await.map_err(|e| Problem::store("tell the gaps", &e))?;
    let named = |record: GapRecord| NamedGap { id: record.id.clone(), record };
    Ok(Json(Gaps { schema: SHAPE, gaps: gaps.into_iter().map(named).collect() }))
}

fn limit(uri: &Uri) -> Result<u32, Problem> {
    let limit = query::<NewestQuery>(uri)?.limit.unwrap_or(NEWEST);
    if !(1..=NEWEST_MAX).contains(&limit) {
        return Err(Problem::field("limit", format!("limit: 1 to {NEWEST_MAX}")));
    }
    Ok(limit)
}

impl From<PauseRecord> for Pause {
    fn from(record: PauseRecord) -> Self {
        Self {
            id: record.id,
            scope: record.scope,
            source: record.source,
            reason: record.reason,
            actor: record.actor,
            paused_at: record.paused_at,
            effective_at: record.effective_at,
            resumed_at: record.resumed_at,
            duration_s: record.duration_s,
            messages_drained: record.messages_drained,
            gap_ids: record.gap_ids,
        }
    }
}
