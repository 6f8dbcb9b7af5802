//! The verbs over HTTP: they edit the control document, and wait for the effect if asked to.
//!
//! The answer tells what is, not what was asked: `effective` is true only when every job shows the effect. Asking
//! twice for the same changes nothing and answers the same.

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::connect_info::ConnectInfo;
use axum::extract::{Request, State};
use axum::http::{Extensions, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use ingest_status::HoldReport;
use ingest_switch::{Hold, Scope, Source, Target};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::body::{self, HoldIds, PauseBody, ResumeBody, Scopes, Words};
use super::bounded::{Extended, Lease};
use super::openapi::{Operation, Route};
use super::params::{JobName, query};
use super::problem::Problem;
use super::reach::overlap;
use super::{SHAPE, Shown};
use crate::control::{
    self, ControlReading, Edit, Edited, NothingToResume, PauseRequest, ResumeRequest, hold_id,
};
use crate::history::{PAUSE_LIMIT, RESUME_LIMIT};
use crate::report::hold_report;

/// Nobody waits longer for an effect, seconds.
const WAIT_S_MAX: f64 = 60.0;
/// How often the effect is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What a write came to.
#[derive(Debug, Serialize, JsonSchema)]
struct Written {
    /// Version of this shape.
    schema: u32,
    /// Generation of the control document that carries it.
    generation: i64,
    /// Whether every job shows the effect.
    effective: bool,
    /// Ids of the holds that stand for a pause, or that a resume released.
    holds: Vec<String>,
    /// After a resume: holds that go on holding some of the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    still_held_by: Option<Vec<HoldReport>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WriteQuery {
    wait: Option<String>,
}

/// What was asked, as far as the answer depends on it.
enum Verb {
    Pause,
    Resume {
        /// What the released holds covered.
        covered: Vec<Scope>,
    },
}

/// Why nothing was released.
enum Refused {
    Nothing(NothingToResume),
    /// A hold that was named by its id on the path of a job that it is not about.
    OfAnother(String, Scope),
}

pub(super) fn routes() -> Vec<Route> {
    let describe = |id, summary| {
        Operation::new(id, summary)
            .query("wait", false, WAIT_IS, wait_schema())
            .answer::<Written>(202, "Written to the control document; not waited for.")
            .answer::<Written>(200, "Effective, after `wait`.")
            .problem(400, "A parameter or the body is wrong: which field, and what is accepted.")
            .problem(401, "No token.")
            .problem(403, "A wrong token, a foreign page, or somebody else's name as the actor.")
            .problem(404, "There is no such job.")
            .problem(408, "The body did not arrive in time.")
            .problem(413, "The body is too long.")
            .problem(415, "The body is not application/json.")
            .problem(503, "The store does not take it, or the producer is leaving.")
            .problem(504, "Written, but not effective within `wait`.")
    };
    let pauses = |id, summary| describe(id, summary).body::<PauseBody>();
    let resumes = |id, summary| {
        let operation = describe(id, summary).body::<ResumeBody>();
        operation.problem(409, "No control hold of the caller's pauses that.")
    };
    vec![
        Route::post("/api/v1/pause", post(pause), pauses("pause", "Hold all, jobs or symbols.")),
        Route::post(
            "/api/v1/resume",
            post(resume),
            resumes("resume", "Release one's own holds, or any by its id."),
        ),
        Route::post("/api/v1/jobs/{name}/pause", post(pause_job), pauses("pauseJob", "Hold one job.").job()),
        Route::post(
            "/api/v1/jobs/{name}/resume",
            post(resume_job),
            resumes("resumeJob", "Release one's own hold on one job, or any by its id.").job(),
        ),
    ]
}

const WAIT_IS: &str = "Seconds to wait for the effect, more than 0 and at most 60; without a value 2 for a pause and 3 \
                       for a resume.";

fn wait_schema() -> serde_json::Value {
    serde_json::json!({ "type": "number", "exclusiveMinimum": 0, "maximum": WAIT_S_MAX })
}

async fn pause(State(shown): State<Shown>, request: Request) -> Result<Response, Problem> {
    pause_what(shown, None, request).await
}

async fn pause_job(
    State(shown): State<Shown>,
    JobName(job): JobName,
    request: Request,
) -> Result<Response, Problem> {
    pause_what(shown, Some(job), request).await
}

async fn resume(State(shown): State<Shown>, request: Request) -> Result<Response, Problem> {
    resume_what(shown, None, request).await
}

async fn resume_job(
    State(shown): State<Shown>,
    JobName(job): JobName,
    request: Request,
) -> Result<Response, Problem> {
    resume_what(shown, Some(job), request).await
}

async fn pause_what(shown: Shown, job: Option<String>, request: Request) -> Result<Response, Problem> {
    let caller = shown.access.admit(request.uri(), request.headers())?;
    let wait = wait(request.uri(), PAUSE_LIMIT)?;
    let _longer = longer(request.extensions(), wait);
    let job = shown.known(job)?;
    let body: PauseBody = body::read(request).await?;
    let now = jiff::Timestamp::now().into();
    if body.until.is_some_and(|until| until <= now) {
        return Err(Problem::field("until", format!("until: it is {now}, and a hold ends in the future")));
    }
    let scopes = scopes(&shown, job.as_deref(), body.scope)?;
    let request = PauseRequest {
        scopes: scopes.unwrap_or_else(|| vec![job.as_deref().map_or(Scope::ALL, Scope::job)]),
        reason: body.reason.and_then(Words::text),
        actor: caller.actor(body.actor.and_then(Words::text))?,
        until: body.until,
    };
    let mut holds: Vec<String> =
        request.scopes.iter().map(|scope| hold_id(scope, request.actor.as_deref())).collect();
    holds.sort();
    holds.dedup();

    let decide = |read: &ControlReading| Ok::<_, Infallible>(control::pause(read, &request, now));
    let edited = shown.store.edit_control(decide).await;
    let Ok(edited) = edited.map_err(|error| Problem::store("take the pause", &error))?;
    log("pause", &request.scopes, request.actor.as_deref(), request.reason.as_deref(), &edited);
    shown.answer(Verb::Pause, edited.generation, holds, wait).await
}

async fn resume_what(shown: Shown, job: Option<String>, request: Request) -> Result<Response, Problem> {
    let caller = shown.access.admit(request.uri(), request.headers())?;
    let wait = wait(request.uri(), RESUME_LIMIT)?;
    let _longer = longer(request.extensions(), wait);
    let job = shown.known(job)?;
    let body: ResumeBody = body::read(request).await?;
    let named = body.hold.map(|HoldIds(ids)| ids).unwrap_or_default();
    let scopes = match scopes(&shown, job.as_deref(), body.scope)? {
        Some(scopes) => scopes,
        None if !named.is_empty() => Vec::new(),
        None => vec![job.as_deref().map_or(Scope::ALL, Scope::job)],
    };
    let reason = body.reason.and_then(Words::text);
    let actor = caller.actor(body.actor.and_then(Words::text))?;
    let request = ResumeRequest { scopes, holds: named, actor };

    let covered = Mutex::new(Vec::new());
    let decide = |read: &ControlReading| {
        let edits = control::resume(read, &request).map_err(Refused::Nothing)?;
        let named = request.holds.iter().filter_map(|id| Some((id, read.holds.get(id)?.as_ref().ok()?)));
        let mut scopes = request.scopes.clone();
        for (id, hold) in named {
            if let Some(job) = &job
                && *hold.scope.target() != Target::Job(job.clone())
            {
                return Err(Refused::OfAnother(id.clone(), hold.scope.clone()));
            }
            scopes.push(hold.scope.clone());
        }
        *covered.lock().unwrap_or_else(PoisonError::into_inner) = scopes;
        Ok(edits)
    };
    let edited = shown.store.edit_control(decide).await;
    let edited = edited.map_err(|error| Problem::store("take the resume", &error))?;
    let edited = edited.map_err(|refused| shown.refusal(&refused, job.as_deref()))?;
    let covered = covered.into_inner().unwrap_or_else(PoisonError::into_inner);
    log("resume", &covered, request.actor.as_deref(), reason.as_deref(), &edited);
    let released = edited.edits.iter().map(|edit| match edit {
        Edit::Place { id, .. } | Edit::Release { id } => id.clone(),
    });
    shown.answer(Verb::Resume { covered }, edited.generation, released.collect(), wait).await
}

/// The scopes that a body names; on a job's own path they can only be that job.
fn scopes(shown: &Shown, job: Option<&str>, named: Option<Scopes>) -> Result<Option<Vec<Scope>>, Problem> {
    let Some(Scopes(named)) = named else { return Ok(None) };
    for scope in &named {
        match (scope.target(), job) {
            (Target::Job(name), Some(job)) if name == job && scope.channel().is_none() => {}
            (_, Some(job)) => {
                let detail = format!("scope: the path says job:{job}, the body {scope}");
                return Err(Problem::field("scope", detail));
            }
            (Target::Job(name), None) => drop(shown.known(Some(name.clone()))?),
            (Target::All | Target::Symbol(_), None) => {}
        }
    }
    Ok(Some(named))
}

/// How long the caller wants to wait; none if not at all.
fn wait(uri: &Uri, unsaid: Duration) -> Result<Option<Duration>, Problem> {
    let Some(text) = query::<WriteQuery>(uri)?.wait else { return Ok(None) };
    if text.is_empty() {
        return Ok(Some(unsaid));
    }
    let seconds = text.parse().ok().filter(|s| *s > 0.0 && *s <= WAIT_S_MAX);
    match seconds.and_then(|s| Duration::try_from_secs_f64(s).ok()) {
        Some(limit) => Ok(Some(limit)),
        None => {
            let text: String = text.chars().take(40).collect();
            let detail = format!("wait={text:?}: seconds, more than 0 and at most {WAIT_S_MAX}");
            Err(Problem::field("wait", detail))
        }
    }
}

/// Lets the connection last as long as its answer may take.
fn longer(extensions: &Extensions, wait: Option<Duration>) -> Extended {
    match (extensions.get::<ConnectInfo<Lease>>(), wait) {
        (Some(ConnectInfo(lease)), Some(wait)) => lease.extend(wait),
        _ => Extended::nothing(),
    }
}

/// Who asked for what, with what effect on the document.
fn log(verb: &str, scopes: &[Scope], actor: Option<&str>, reason: Option<&str>, edited: &Edited) {
    let scopes = scopes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let (generation, edits) = (edited.generation, edited.edits.len());
    tracing::info!(verb, scopes, actor, reason, generation, edits, "control_request over HTTP");
}

impl Shown {
    /// The job of that name as the configuration writes it.
    pub(super) fn known(&self, job: Option<String>) -> Result<Option<String>, Problem> {
        let Some(job) = job else { return Ok(None) };
        match self.plans.iter().find(|plan| plan.name.eq_ignore_ascii_case(&job)) {
            Some(plan) => Ok(Some(plan.name.clone())),
            None => {
                let known: Vec<_> = self.plans.iter().map(|plan| plan.name.as_str()).collect();
                let job: String = job.chars().take(40).collect();
                let detail = format!("there is no job {job:?}; there is {}", known.join(" "));
                Err(Problem::new(StatusCode::NOT_FOUND, detail))
            }
        }
    }

    /// Why a resume changes nothing, with who else holds the same.
    fn refusal(&self, refused: &Refused, job: Option<&str>) -> Problem {
        let (mut detail, scope) = match refused {
            Refused::Nothing(nothing) => (
                nothing.to_string(),
                match nothing {
                    NothingToResume::NotHeld(scope) | NothingToResume::HeldByOthers(scope, _) => Some(scope),
                    NothingToResume::NoSuchHold(_) => None,
                },
            ),
            Refused::OfAnother(id, scope) => {
                let job = job.unwrap_or_default();
                return Problem::field("hold", format!("hold: {id} covers {scope}, the path says job:{job}"));
            }
        };
        let others = scope.map(|scope| self.holds_beside(std::slice::from_ref(scope), &[]));
        for hold in others.iter().flatten().filter(|hold| !hold.source.starts_with("control:")) {
            detail.push_str(&format!("; {} holds {} since {}", hold.source, hold.scope, hold.since));
            if let Some(reason) = &hold.reason {
                detail.push_str(&format!(" ({reason})"));
            }
            detail.push_str(", release it there");
        }
        Problem::new(StatusCode::CONFLICT, detail)
    }

    /// The holds that stand on any of these scopes, but for released control holds.
    fn holds_beside(&self, scopes: &[Scope], released: &[String]) -> Vec<HoldReport> {
        let gone = |hold: &Hold| {
            let source = hold.source.as_str();
            source.strip_prefix("control:").is_some_and(|id| released.iter().any(|gone| gone == id))
        };
        let touches = |hold: &Hold| scopes.iter().any(|scope| overlap(scope, &hold.scope, &self.plans));
        let holds = self.report.decision().decision.holds;
        holds.iter().filter(|hold| touches(hold) && !gone(hold)).map(hold_report).collect()
    }

    async fn answer(
        &self,
        verb: Verb,
        generation: i64,
        holds: Vec<String>,
        wait: Option<Duration>,
    ) -> Result<Response, Problem> {
        if let Some(limit) = wait {
            self.wait_for_effect(&verb, generation, &holds, limit).await?;
        }
        let still_held_by = match &verb {
            Verb::Pause => None,
            Verb::Resume { covered } => Some(self.holds_beside(covered, &holds)),
        };
        let effective = self.shows(&verb, generation, &holds);
        let written = Written { schema: SHAPE, generation, effective, holds, still_held_by };
        let status = if wait.is_some() { StatusCode::OK } else { StatusCode::ACCEPTED };
        Ok((status, Json(written)).into_response())
    }

    /// Whether every job shows the effect of that generation, and the holds are as it left them: a document that was
    /// made anew counts from the beginning, so that the number alone would not do.
    fn shows(&self, verb: &Verb, generation: i64, ids: &[String]) -> bool {
        let holds = self.report.decision().decision.holds;
        let stands = |id: &String| holds.iter().any(|hold| hold.source == Source::control(id));
        match verb {
            // A resume that the venue does not grant is no reason to doubt a pause.
            Verb::Pause => {
                let shown = self.report.at_rest_generation().max(self.report.effective_generation());
                ids.iter().all(stands) && shown >= Some(generation)
            }
            Verb::Resume { .. } => {
                !ids.iter().any(stands) && self.report.effective_generation() >= Some(generation)
            }
        }
    }

    async fn wait_for_effect(
        &self,
        verb: &Verb,
        generation: i64,
        ids: &[String],
        limit: Duration,
    ) -> Result<(), Problem> {
        let mut stopping = self.stopping.clone();
        let effect = async {
            while !self.shows(verb, generation, ids) {
                sleep(LOOK_EVERY).await;
            }
        };
        tokio::select! {
            biased;
            () = effect => return Ok(()),
            _ = stopping.wait_for(|stop| *stop) => {
                let detail = "written, but the producer is leaving";
                return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).generation(generation));
            }
            () = sleep(limit) => {}
        }
        let mut detail = format!("generation {generation} is written, but not effective after {limit:?}:");
        if self.report.decision().decision.generation < Some(generation) {
            detail.push_str(" the producer has not read it yet;");
        }
        for job in self.report.jobs().iter().filter(|job| job.effective_generation < Some(generation)) {
            detail.push_str(&format!(" {} is {},", job.name, job.phase));
        }
        detail.pop();
        Err(Problem::new(StatusCode::GATEWAY_TIMEOUT, detail).generation(generation))
    }
}
