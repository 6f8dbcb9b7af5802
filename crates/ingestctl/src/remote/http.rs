//! The producer's own HTTP API as a client sees it.
//!
//! Invariants: the token goes to the address that was named and nowhere else (redirects are not followed), with writes
//! only, and is never shown; every call has a time limit.

use std::path::Path;
use std::time::Duration;

use ingest_status::Heartbeat;
use market_ingest::control::{PauseRequest, ResumeRequest};
use market_ingest::gaps::GapRecord;
use market_ingest::history::PauseRecord;
use market_ingest::store::Observed;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use ureq::http::{StatusCode, Uri};

use super::{NotResumed, Seen, Written};
use crate::answer::{Exit, Failure};

/// No call takes longer.
const CALL_LIMIT: Duration = Duration::from_secs(5);
/// No answer is longer, in bytes: a heartbeat of ten thousand held symbols is far below.
const ANSWER_LIMIT: u64 = 16 << 20;

/// A producer's address, and what it wants to see.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    agent: ureq::Agent,
    base: String,
    token: Option<SecretString>,
}

/// Status and body of an answer.
struct Reply {
    status: StatusCode,
    body: Value,
}

#[derive(Deserialize)]
struct WrittenBody {
    generation: i64,
    #[serde(default)]
    holds: Vec<String>,
}

#[derive(Deserialize)]
struct HistoryBody {
    pauses: Vec<PauseBody>,
}

#[derive(Deserialize)]
struct GapsBody {
    gaps: Vec<GapBody>,
}

#[derive(Deserialize)]
struct GapBody {
    id: String,
    #[serde(flatten)]
    record: GapRecord,
}

#[derive(Deserialize)]
struct PauseBody {
    id: String,
    #[serde(flatten)]
    record: PauseRecord,
}

impl Http {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// When the URL or the token's file cannot be used.
    pub(crate) fn new(url: &str, token_file: Option<&Path>) -> Result<Self, Failure> {
        let base = base(url)?;
        let token = match token_file {
            Some(path) => Some(read_token(path)?),
            None => std::env::var("INGEST_ADMIN_TOKEN").ok().and_then(|text| token(&text)),
        };
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(CALL_LIMIT))
            .build()
            .into();
        Ok(Self { agent, base, token })
    }

    /// The heartbeat as it would be written now, and whether the working loops turn.
    pub(crate) async fn observe(&self) -> Result<Seen, Failure> {
        let live = self.get("/livez").await?;
        let wedged = match live.status {
            StatusCode::OK => None,
            StatusCode::SERVICE_UNAVAILABLE => Some(live.detail()),
            _ => return Err(self.unexpected("/livez", &live)),
        };
        let path = "/api/v1/status";
        let status = self.get(path).await?;
        if status.status != StatusCode::OK {
            return Err(self.unexpected(path, &status));
        }
        let heartbeat = serde_json::from_value::<Heartbeat>(status.body).map_err(|e| e.to_string());
        // The producer composed it while answering, so by the clock that counts, its own, it is of this moment.
        let read_at = heartbeat.as_ref().map_or_else(|_| jiff::Timestamp::now().into(), |beat| beat.ts);
        Ok(Seen { observed: Observed { tenant: None, heartbeat: Some(heartbeat), read_at }, wedged })
    }

    pub(crate) async fn pause(&self, request: &PauseRequest) -> Result<Written, Failure> {
        let mut body = json!({ "scope": scopes(&request.scopes) });
        put(&mut body, "reason", request.reason.as_deref());
        put(&mut body, "actor", request.actor.as_deref());
        put(&mut body, "until", request.until.map(|until| until.to_string()).as_deref());
        let reply = self.post("/api/v1/pause", body).await?;
        self.written("/api/v1/pause", reply)
    }

    pub(crate) async fn resume(&self, request: &ResumeRequest) -> Result<Written, NotResumed> {
        let mut body = json!({});
        if !request.scopes.is_empty() {
            body["scope"] = scopes(&request.scopes);
        }
        if !request.holds.is_empty() {
            body["hold"] = json!(request.holds);
        }
        put(&mut body, "actor", request.actor.as_deref());
        let reply = self.post("/api/v1/resume", body).await.map_err(NotResumed::Failed)?;
        if reply.status == StatusCode::CONFLICT {
            return Err(NotResumed::Nothing(reply.detail(), Vec::new()));
        }
        self.written("/api/v1/resume", reply).map_err(NotResumed::Failed)
    }

    pub(crate) async fn history(&self, limit: u32) -> Result<Vec<PauseRecord>, Failure> {
        let body: HistoryBody = self.list("history", limit).await?;
        Ok(body.pauses.into_iter().map(|PauseBody { id, record }| PauseRecord { id, ..record }).collect())
    }

    pub(crate) async fn gaps(&self, limit: u32) -> Result<Vec<GapRecord>, Failure> {
        let body: GapsBody = self.list("gaps", limit).await?;
        Ok(body.gaps.into_iter().map(|GapBody { id, record }| GapRecord { id, ..record }).collect())
    }

    async fn list<T: DeserializeOwned>(&self, what: &str, limit: u32) -> Result<T, Failure> {
        let path = format!("/api/v1/{what}?limit={limit}");
        let reply = self.get(&path).await?;
        if reply.status != StatusCode::OK {
            return Err(self.unexpected(&path, &reply));
        }
        serde_json::from_value(reply.body)
            .map_err(|error| self.failed(&format!("its {what} cannot be understood: {error}")))
    }

    fn written(&self, path: &str, reply: Reply) -> Result<Written, Failure> {
        if !reply.status.is_success() {
            return Err(self.unexpected(path, &reply));
        }
        match serde_json::from_value::<WrittenBody>(reply.body) {
            Ok(WrittenBody { generation, holds }) => Ok(Written { generation, holds, news: true }),
            Err(error) => {
                Err(self.failed(&format!("it took the request, but its answer is not understood: {error}")))
            }
        }
    }

    async fn get(&self, path: &str) -> Result<Reply, Failure> {
        let (agent, url) = (self.agent.clone(), format!("{}{path}", self.base));
        let call = move || {
            let mut response = agent.get(&url).header("cache-control", "no-cache").call()?;
            reply(&mut response)
        };
        self.run(call, "").await
    }

    async fn post(&self, path: &str, body: Value) -> Result<Reply, Failure> {
        let (agent, url, token) = (self.agent.clone(), format!("{}{path}", self.base), self.token.clone());
        let call = move || {
            let mut request = agent.post(&url);
            if let Some(token) = token {
                request = request.header("authorization", format!("Bearer {}", token.expose_secret()));
            }
            let mut response = request.send_json(body)?;
            reply(&mut response)
        };
        self.run(call, "; whether the request was taken is not known, and asking again for the same is safe")
            .await
    }

    /// Runs a blocking call; `unless` is added to an error after which the request may have been taken.
    async fn run(
        &self,
        call: impl FnOnce() -> Result<Reply, ureq::Error> + Send + 'static,
        unless: &str,
    ) -> Result<Reply, Failure> {
        let outcome = match tokio::task::spawn_blocking(call).await {
            Ok(outcome) => outcome,
            Err(error) => return Err(self.failed(&error.to_string())),
        };
        outcome.map_err(|error| {
            let unless = if was_reached(&error) { unless } else { "; nothing was written" };
            let sentence = format!("no producer answers at {}: {error}{unless}", self.base);
            Failure { exit: Exit::NoProducer, sentence }
        })
    }

    /// An answer that says no.
    fn unexpected(&self, path: &str, reply: &Reply) -> Failure {
        let detail = reply.detail();
        match reply.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let hint = match self.token {
                    None => "no token was sent: set INGEST_ADMIN_TOKEN, or give --token-file PATH",
                    Some(_) => "a token was sent, and is not the one that the producer was given",
                };
                Failure::refused(format!("{detail} ({}; {hint})", reply.status))
            }
            status if status.is_redirection() => Failure::refused(format!(
                "{}{path} answers {status}, which leads elsewhere; give --url the final address",
                self.base
            )),
            StatusCode::NOT_FOUND if reply.body.get("detail").is_none() => Failure::refused(format!(
                "{}{path} is not there; is this the address of a producer, and is it of this version?",
                self.base
            )),
            status if status.is_client_error() => Failure::refused(detail),
            status => self.failed(&format!("{status}: {detail}")),
        }
    }

    fn failed(&self, why: &str) -> Failure {
        Failure {
            exit: Exit::NotAsked,
            sentence: format!("the producer at {} could not be asked: {why}", self.base),
        }
    }
}

impl Reply {
    /// What a problem says.
    fn detail(&self) -> String {
        let text = |name: &str| self.body.get(name).and_then(Value::as_str).map(str::to_owned);
        text("detail").or_else(|| text("title")).unwrap_or_else(|| self.status.to_string())
    }
}

fn reply(response: &mut ureq::http::Response<ureq::Body>) -> Result<Reply, ureq::Error> {
    let text = response.body_mut().with_config().limit(ANSWER_LIMIT).read_to_string()?;
    Ok(Reply { status: response.status(), body: serde_json::from_str(&text).unwrap_or(Value::Null) })
}

/// Whether the request may have arrived although there is no answer.
fn was_reached(error: &ureq::Error) -> bool {
    if let ureq::Error::Io(error) = error {
        return error.kind() != std::io::ErrorKind::ConnectionRefused;
    }
    !matches!(
        error,
        ureq::Error::HostNotFound
            | ureq::Error::ConnectionFailed
            | ureq::Error::Tls(_)
            | ureq::Error::Timeout(ureq::Timeout::Resolve | ureq::Timeout::Connect)
    )
}

fn scopes(scopes: &[ingest_switch::Scope]) -> Value {
    scopes.iter().map(ToString::to_string).collect()
}

fn put(body: &mut Value, name: &str, text: Option<&str>) {
    if let Some(text) = text {
        body[name] = text.into();
    }
}

/// `http://host:port` without anything behind it.
fn base(url: &str) -> Result<String, Failure> {
    // A password in it would be shown with every error.
    let accepted = "accepted: http://HOST:PORT or https://HOST, without a user and without a path";
    let shown = url.rsplit_once('@').map_or(url, |(_, rest)| rest);
    let refuse = || Failure::refused(format!("--url {shown:?} is no address of a producer; {accepted}"));
    let uri: Uri = url.trim().parse().map_err(|_| refuse())?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Err(refuse()) };
    let plain = matches!(uri.path(), "" | "/") && uri.query().is_none() && !authority.as_str().contains('@');
    if !matches!(scheme, "http" | "https") || authority.host().is_empty() || !plain {
        return Err(refuse());
    }
    Ok(format!("{scheme}://{authority}"))
}

fn read_token(path: &Path) -> Result<SecretString, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::refused(format!("--token-file {} cannot be read: {error}", path.display()))
    })?;
    token(&text).ok_or_else(|| {
        Failure::refused(format!("--token-file {} holds no token on its first line", path.display()))
    })
}

/// The first line, if it can be part of a header.
fn token(text: &str) -> Option<SecretString> {
    let line = text.lines().next()?.trim();
    let usable = !line.is_empty() && line.bytes().all(|b| b.is_ascii_graphic());
    usable.then(|| SecretString::from(line.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_nothing_else() {
        for (url, expected) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
            (" https://ingest.example.com ", "https://ingest.example.com"),
            ("http://[::1]:9", "http://[::1]:9"),
        ] {
            assert_eq!(base(url).as_deref(), Ok(expected));
        }
        for url in ["127.0.0.1:8080", "ftp://h", "http://", "http://h/api/v1", "http://h?x", "", "http://a b"]
        {
            assert!(
                base(url).is_err_and(|f| f.exit == Exit::Refused && f.sentence.contains("accepted")),
                "{url}"
            );
        }
    }

    #[test]
    fn a_password_in_the_address_is_refused_and_not_shown() {
        let failure = base("http://ann:hunter2@h:1").err();
        assert!(
            failure.is_some_and(|f| !f.sentence.contains("hunter2") && f.sentence.contains("without a user"))
        );
    }

    #[test]
    fn a_token_is_one_printable_line() {
        assert!(token("abc\nrest").is_some_and(|t| t.expose_secret() == "abc"));
        for text in ["", "\n", "a b", "ä"] {
            assert!(token(text).is_none(), "{text:?}");
        }
    }
}
