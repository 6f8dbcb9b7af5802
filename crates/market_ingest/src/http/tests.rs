//! In process, over the router itself and a real SQLite store: no socket, and no pump; the tests say what the pumps
//! would show.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use alpaca_feed::lifecycle::Phase;
use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use axum::response::Response;
use futures_util::StreamExt as _;
use ingest_status::Timestamp;
use ingest_switch::watch::Decided;
use ingest_switch::{Decision, Hold, Scope, Source};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt as _;

use super::*;
use crate::config::StoreConfig;
use crate::job::JobState;
use crate::lease::Fence;
use crate::report::Identity;

const HERE: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// Keeps the senders alive beside the router that shows what they send.
struct Rig {
    router: Router,
    decisions: watch::Sender<Decided>,
    jobs: Vec<watch::Sender<JobState>>,
    stopping: watch::Sender<bool>,
    _dir: TempDir,
}

impl Rig {
    /// Two jobs, `iex` with AAPL and SPY and `crypto-us` with everything; no holds.
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = StoreConfig::Sqlite(dir.path().join("store.db"));
        let store = Store::connect(&store, None).await.unwrap();
        let plan = |name: &str, symbols: &[&str]| {
            let pairs = ["trades", "quotes"].into_iter().flat_map(|channel| {
                symbols.iter().map(move |symbol| (channel.to_owned(), (*symbol).to_owned()))
            });
            JobPlan { name: name.to_owned(), pairs: pairs.collect() }
        };
        let plans: Arc<[JobPlan]> = [plan("iex", &["AAPL", "SPY"]), plan("crypto-us", &["*"])].into();
        let now: Timestamp = jiff::Timestamp::now().into();
        let states = plans.iter().map(|plan| watch::channel(JobState::new(&plan.name, now, Instant::now())));
        let (jobs, shown_jobs) = states.unzip();
        let (decisions, decided) = watch::channel(decided(Vec::new()));
        let identity = Identity {
            instance_id: "i".into(),
            revision: None,
            started_at: now,
            interval: Duration::from_secs(15),
        };
        let (stopping, stopped) = watch::channel(false);
        let shown = Shown {
            report: Arc::new(Report::new(
                identity,
                decided,
                shown_jobs,
                Vec::new(),
                Fence::held(1),
                crate::gaps::GapBook::new(),
            )),
            beats: Arc::default(),
            store,
            access: Arc::new(Access::new(None, HERE, false)),
            late: Late::new(plans.len()),
            plans,
            stopping: stopped,
        };
        Self { router: router(shown), decisions, jobs, stopping, _dir: dir }
    }

    async fn send(&self, request: Request<Body>) -> Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        told(self.send(request("GET", path).body(Body::empty()).unwrap()).await).await
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let request = request("POST", path).header(header::CONTENT_TYPE, "application/json");
        told(self.send(request.body(Body::from(body.to_string())).unwrap()).await).await
    }

    /// The pumps show that generation from now on.
    fn effect(&self, generation: i64) {
        for job in &self.jobs {
            job.send_modify(|job| job.effective_generation = Some(generation));
        }
    }

    fn hold(&self, holds: Vec<Hold>) {
        self.decisions.send_replace(decided(holds));
    }
}

fn request(method: &str, path: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(path).header(header::HOST, "localhost:8080")
}

/// Status and JSON; errors are asserted to have the one form.
async fn told(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let kind = response.headers().get(header::CONTENT_TYPE).map(|kind| kind.to_str().unwrap().to_owned());
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    if status >= 400 {
        assert_eq!(kind.as_deref(), Some("application/problem+json"), "{status} {body}");
        assert_eq!(body["status"], status);
        assert!(body["title"].is_string() && body["detail"].is_string(), "{body}");
    }
    (status, body)
}

fn decided(holds: Vec<Hold>) -> Decided {
    let decision = Decision {
        enabled: holds.is_empty(),
        source: None,
        holds,
        flag_fresh: true,
        doubts: Vec::new(),
        generation: None,
        since: jiff::Timestamp::UNIX_EPOCH,
    };
    Decided { decision, at: Instant::now(), seq: 0 }
}

fn hold(source: &str, scope: &str, reason: &str) -> Hold {
    Hold {
        source: Source::new(source),
        scope: scope.parse::<Scope>().unwrap(),
        reason: Some(reason.to_owned()),
        actor: None,
        since: jiff::Timestamp::now() - jiff::SignedDuration::from_secs(60),
        until: None,
    }
}

#[tokio::test]
async fn what_is_described_is_served_and_nothing_else() {
    let rig = Rig::new().await;
    let (status, document) = rig.get("/api/v1/openapi.json").await;
    assert_eq!((status, &document["openapi"]), (200, &json!("3.1.0")));
    let paths = document["paths"].as_object().unwrap();
    let contract = "/ /livez /readyz /healthz /live /ready /health /metrics /api/v1/status /api/v1/events /api/v1/why \
                    /api/v1/history /api/v1/gaps /api/v1/jobs /api/v1/jobs/{name} /api/v1/pause /api/v1/resume \
                    /api/v1/jobs/{name}/pause /api/v1/jobs/{name}/resume /api/v1/openapi.json";
    let contract: BTreeSet<&str> = contract.split_whitespace().collect();
    assert_eq!(paths.keys().map(String::as_str).collect::<BTreeSet<_>>(), contract);
    for (path, operations) in paths {
        let described: BTreeSet<&str> = operations.as_object().unwrap().keys().map(String::as_str).collect();
        let url = path.replace("{name}", "iex");
        for method in ["get", "post", "put", "delete", "patch", "options", "trace"] {
            let response = rig.send(request(&method.to_uppercase(), &url).body(Body::empty()).unwrap()).await;
            let allow = response.headers().get(header::ALLOW).map(|allow| allow.to_str().unwrap().to_owned());
            if described.contains(method) {
                let status = response.status().as_u16();
                assert!(
                    operations[method]["responses"].get(status.to_string()).is_some(),
                    "{method} {path} {status}"
                );
                assert_ne!(status, 404, "{method} {path}");
            } else {
                assert_eq!(told(response).await.0, 405, "{method} {path}");
                let expected = if described.contains("get") { "GET,HEAD" } else { "POST" };
                assert_eq!(allow.as_deref(), Some(expected), "{method} {path}");
            }
        }
    }
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer} is described");
    }
}

#[tokio::test]
async fn every_error_has_one_form() {
    let rig = Rig::new().await;
    assert_eq!(rig.get("/nope").await.0, 404);
    assert_eq!(rig.get("/api/v1/jobs/%FF").await.0, 400);
    assert_eq!(rig.get("/api/v1/why").await.0, 400);
    assert_eq!(rig.get("/api/v1/why?symbol=A&nonsense=1").await.0, 400);
    assert_eq!(rig.get("/api/v1/why?symbol=A&channel=Quotes").await.0, 400);
    assert_eq!(rig.get("/api/v1/history?limit=0").await.0, 400);
    assert_eq!(rig.get("/api/v1/history?limit=x").await.0, 400);
    let post = |kind: Option<&str>, body: String| {
        let mut request = request("POST", "/api/v1/pause");
        if let Some(kind) = kind {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        let request = request.body(Body::from(body)).unwrap();
        async { told(rig.send(request).await).await }
    };
    assert_eq!(post(None, "{}".into()).await.0, 415);
    assert_eq!(post(Some("text/plain"), "{}".into()).await.0, 415);
    assert_eq!(post(Some("application/jsonx"), "{}".into()).await.0, 415);
    assert_eq!(post(Some("application/json"), "[]".into()).await.0, 400);
    let big = format!(r#"{{"reason": "{}"}}"#, "x".repeat(17_000));
    let (status, body) = post(Some("application/json"), big).await;
    assert!(status == 413 && body["detail"].as_str().unwrap().contains("16384"), "{status} {body}");
    let (status, body) = post(Some("application/json; charset=utf-8"), "{}".into()).await;
    assert_eq!((status, &body["generation"]), (202, &json!(1)), "nothing was written before");
    assert_eq!(post(None, String::new()).await.0, 202, "no body at all is fine");
}

#[tokio::test]
async fn asking_twice_for_the_same_changes_nothing_and_answers_the_same() {
    let rig = Rig::new().await;
    let body = json!({ "scope": ["job:IEX", "symbol:btc*"], "reason": "test", "actor": "ann" });
    let first = rig.post("/api/v1/pause", body.clone()).await;
    let holds =
        json!(["job:iex", "symbol:BTC*"].map(|s| crate::control::hold_id(&s.parse().unwrap(), Some("ann"))));
    assert_eq!(first, (202, json!({ "schema": 1, "generation": 2, "effective": false, "holds": holds })));
    assert_eq!(rig.post("/api/v1/pause", body.clone()).await, first);
    let stand = |id: &Value| hold(&format!("control:{}", id.as_str().unwrap()), "all", "test");
    rig.hold(holds.as_array().unwrap().iter().map(stand).collect());
    rig.effect(2);
    let (status, body) = rig.post("/api/v1/pause?wait", body).await;
    assert_eq!((status, &body["generation"], &body["effective"]), (200, &json!(2), &json!(true)));
}

#[tokio::test]
async fn nobodys_resume_releases_the_hold_of_another() {
    let rig = Rig::new().await;
    rig.post("/api/v1/pause", json!({ "actor": "ann", "reason": "maintenance" })).await;
    let (status, body) = rig.post("/api/v1/resume", json!({ "actor": "bob" })).await;
    let detail = body["detail"].as_str().unwrap();
    assert!(status == 409 && detail.contains("all-ann by \"ann\" (maintenance)"), "{status} {detail}");
    let (status, body) = rig.post("/api/v1/resume", json!({ "actor": "bob", "hold": "all-ann" })).await;
    assert_eq!((status, &body["holds"], &body["generation"]), (202, &json!(["all-ann"]), &json!(2)));
    let (status, body) = rig.post("/api/v1/resume", json!({ "hold": ["all-ann"] })).await;
    assert!(status == 409 && body["detail"].as_str().unwrap().contains("all-ann"), "{body}");
}

#[tokio::test]
async fn resuming_what_no_control_hold_pauses_names_who_holds_it() {
    let rig = Rig::new().await;
    rig.hold(vec![
        hold("file:/flags/ingest", "all", "weekend"),
        hold("signal:SIGUSR1", "job:crypto-us", "x"),
    ]);
    let (status, body) = rig.post("/api/v1/jobs/iex/resume", json!({})).await;
    let detail = body["detail"].as_str().unwrap();
    assert_eq!(status, 409);
    assert!(detail.contains("no control hold pauses job:iex"), "{detail}");
    assert!(
        detail.contains("file:/flags/ingest holds all since") && detail.contains("(weekend)"),
        "{detail}"
    );
    assert!(!detail.contains("SIGUSR1"), "it holds another job: {detail}");
}

#[tokio::test]
async fn a_resume_tells_who_goes_on_holding_the_same() {
    let rig = Rig::new().await;
    let (_, paused) = rig.post("/api/v1/pause", json!({ "scope": "job:iex" })).await;
    let id = format!("control:{}", paused["holds"][0].as_str().unwrap());
    rig.hold(vec![
        hold(&id, "job:iex", "own"),
        hold("file:/f", "symbol:AAPL", "theirs"),
        hold("file:/g", "job:crypto-us", "x"),
    ]);
    let (status, body) = rig.post("/api/v1/jobs/IEX/resume", json!({})).await;
    let remaining: Vec<_> =
        body["still_held_by"].as_array().unwrap().iter().map(|h| h["source"].clone()).collect();
    assert_eq!((status, remaining), (202, vec![json!("file:/f")]), "{body}");
}

#[tokio::test]
async fn a_job_is_named_by_the_path_and_by_nothing_else() {
    let rig = Rig::new().await;
    let own = crate::control::hold_id(&Scope::job("crypto-us"), None);
    let (status, body) = rig.post("/api/v1/jobs/Crypto-US/pause", json!({ "scope": "job:crypto-us" })).await;
    assert_eq!((status, &body["holds"]), (202, &json!([own])), "{body}");
    for scope in ["job:iex", "all", "symbol:A", "job:crypto-us/quotes"] {
        let (status, body) = rig.post("/api/v1/jobs/crypto-us/pause", json!({ "scope": scope })).await;
        assert_eq!((status, &body["field"]), (400, &json!("scope")), "{scope}");
    }
    rig.post("/api/v1/pause", json!({})).await;
    let (status, body) = rig.post("/api/v1/jobs/crypto-us/resume", json!({ "hold": "all" })).await;
    assert_eq!((status, &body["field"]), (400, &json!("hold")), "{body}");
    for (path, scope) in [
        ("/api/v1/jobs/nope/pause", Value::Null),
        ("/api/v1/jobs/nope/resume", Value::Null),
        ("/api/v1/pause", json!("job:nope")),
        ("/api/v1/resume", json!(["all", "job:nope/trades"])),
    ] {
        let (status, body) = rig.post(path, json!({ "scope": scope })).await;
        let detail = body["detail"].as_str().unwrap();
        assert!(
            status == 404 && detail.contains("iex crypto-us") && detail.contains("nope"),
            "{path}: {detail}"
        );
    }
    assert_eq!(rig.get("/api/v1/jobs/nope").await.0, 404);
    assert_eq!(rig.get("/api/v1/why?symbol=A&job=nope").await.0, 404);
}

#[tokio::test]
async fn a_hold_ends_in_the_future_or_not_at_all() {
    let rig = Rig::new().await;
    let (status, body) = rig.post("/api/v1/pause", json!({ "until": "2020-01-01T00:00:00Z" })).await;
    assert_eq!((status, &body["field"]), (400, &json!("until")));
    let (status, _) = rig.post("/api/v1/pause", json!({ "until": "2120-01-01T00:00:00+02:00" })).await;
    assert_eq!(status, 202);
}

#[tokio::test]
async fn a_write_that_is_not_effective_in_time_says_what_it_waits_for() {
    let rig = Rig::new().await;
    rig.jobs[0].send_modify(|job| job.phase = Phase::Closing);
    rig.jobs[1].send_modify(|job| job.effective_generation = Some(1));
    let (status, body) = rig.post("/api/v1/pause?wait=0.05", json!({})).await;
    let detail = body["detail"].as_str().unwrap();
    assert_eq!((status, &body["generation"]), (504, &json!(1)));
    assert!(detail.contains("iex is closing") && detail.contains("not read it yet"), "{detail}");
    assert!(!detail.contains("crypto-us"), "it shows the effect: {detail}");
    for wait in ["0", "-1", "60.1", "NaN", "inf", "soon", "1e3"] {
        let (status, body) = rig.post(&format!("/api/v1/pause?wait={wait}"), json!({})).await;
        assert_eq!((status, &body["field"]), (400, &json!("wait")), "{wait}");
    }
}

#[tokio::test]
async fn a_wait_ends_with_the_effect_and_with_the_process() {
    let rig = Rig::new().await;
    let begun = Instant::now();
    let waiting = rig.post("/api/v1/pause?wait=30", json!({}));
    let effect = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        rig.hold(vec![hold("control:all", "all", "own")]);
        rig.effect(1);
    };
    let ((status, body), ()) = tokio::join!(waiting, effect);
    assert_eq!((status, &body["effective"]), (200, &json!(true)));
    let waiting = rig.post("/api/v1/resume?wait=30", json!({}));
    let stop = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        rig.stopping.send_replace(true);
    };
    let ((status, body), ()) = tokio::join!(waiting, stop);
    assert_eq!((status, &body["generation"]), (503, &json!(2)));
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn why_names_every_hold_on_every_channel_as_the_engine_sees_it() {
    let rig = Rig::new().await;
    rig.hold(vec![
        hold("file:/f", "symbol:AAPL/quotes", "quotes are broken"),
        hold("control:job-iex", "job:iex", "iex is broken"),
        hold("control:msft", "symbol:MSFT", "elsewhere"),
    ]);
    let (status, why) = rig.get("/api/v1/why?symbol=aapl").await;
    assert_eq!((status, &why["flag_fresh"]), (200, &json!(true)));
    let entry = |job: &str, channel: &str| {
        let channels = why["channels"].as_array().unwrap();
        let entry = channels.iter().find(|c| c["job"] == job && c["channel"] == channel).unwrap();
        let sources: Vec<_> =
            entry["holds"].as_array().unwrap().iter().map(|h| h["source"].clone()).collect();
        (entry["configured"].as_bool().unwrap(), entry["held"].as_bool().unwrap(), json!(sources))
    };
    assert_eq!(why["channels"].as_array().unwrap().len(), 4);
    assert_eq!(entry("iex", "quotes"), (true, true, json!(["file:/f", "control:job-iex"])));
    assert_eq!(entry("iex", "trades"), (true, true, json!(["control:job-iex"])));
    assert_eq!(entry("crypto-us", "quotes"), (true, true, json!(["file:/f"])));
    assert_eq!(entry("crypto-us", "trades"), (true, false, json!([])));
    let hold = &why["channels"][0]["holds"][0];
    assert!((59.0..80.0).contains(&hold["age_s"].as_f64().unwrap()), "{hold}");

    let (_, why) = rig.get("/api/v1/why?symbol=MSFT&job=IEX&channel=trades").await;
    let only = &why["channels"];
    assert_eq!(only.as_array().unwrap().len(), 1);
    assert_eq!((&only[0]["configured"], &only[0]["held"]), (&json!(false), &json!(true)));
}

#[tokio::test]
async fn a_job_is_told_with_its_holds_its_counts_and_its_pauses() {
    let rig = Rig::new().await;
    rig.hold(vec![hold("file:/f", "all", "x"), hold("control:c", "job:crypto-us", "y")]);
    let ten_seconds_ago = jiff::Timestamp::now().as_nanosecond() as i64 - 10_000_000_000;
    rig.jobs[0].send_modify(|job| {
        job.last_event_ts = Some(ten_seconds_ago);
        job.last_symbol = Some("AAPL".into());
        job.messages[0] = 7;
    });
    let (status, job) = rig.get("/api/v1/jobs/iex").await;
    assert_eq!((status, &job["name"], &job["status"]), (200, &json!("iex"), &json!("paused")));
    assert_eq!(job["holds"].as_array().unwrap().len(), 1);
    assert_eq!((&job["metrics"]["messages"]["trade"], &job["pause_history"]), (&json!(7), &json!([])));
    assert_eq!(job["last_processed"]["symbol"], "AAPL");
    assert!((9.0..30.0).contains(&job["lag_while_paused_s"].as_f64().unwrap()), "{job}");
    let (_, jobs) = rig.get("/api/v1/jobs").await;
    let names: Vec<_> = jobs["jobs"].as_array().unwrap().iter().map(|job| job["name"].clone()).collect();
    assert_eq!(names, ["iex", "crypto-us"]);
    assert_eq!(rig.get("/api/v1/history").await, (200, json!({ "schema": 1, "pauses": [] })));
    assert_eq!(rig.get("/api/v1/gaps").await, (200, json!({ "schema": 1, "gaps": [] })));
}

/// The next event of a stream, as name and data.
async fn next_event(stream: &mut axum::body::BodyDataStream) -> Option<(String, Value)> {
    loop {
        let chunk = tokio::time::timeout(Duration::from_secs(10), stream.next()).await.unwrap()?;
        let text = String::from_utf8(chunk.unwrap().to_vec()).unwrap();
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        if let (Some(name), Some(data)) = (field("event: "), field("data: ")) {
            return Some((name, serde_json::from_str(&data).unwrap()));
        }
    }
}

#[tokio::test]
async fn events_tell_the_status_at_once_and_every_change_until_the_stop() {
    let rig = Rig::new().await;
    let response = rig.send(request("GET", "/api/v1/events").body(Body::empty()).unwrap()).await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    let mut stream = response.into_body().into_data_stream();
    let (name, beat) = next_event(&mut stream).await.unwrap();
    assert_eq!((name.as_str(), &beat["holds"]), ("status", &json!([])));

    for job in &rig.jobs {
        job.send_modify(|job| job.messages[0] += 1);
    }
    rig.hold(vec![hold("file:/f", "all", "x")]);
    let (_, beat) = next_event(&mut stream).await.unwrap();
    assert_eq!(beat["holds"][0]["source"], "file:/f", "counting alone is no event");

    rig.jobs[1].send_modify(|job| job.tick = Instant::now().checked_sub(Duration::from_secs(60)).unwrap());
    let (name, data) = next_event(&mut stream).await.unwrap();
    assert_eq!((name.as_str(), &data["job"]), ("wedged", &json!("crypto-us")));

    rig.stopping.send_replace(true);
    assert_eq!(next_event(&mut stream).await, None);
}

#[tokio::test]
async fn streams_are_few_and_their_places_are_given_back() {
    let rig = Rig::new().await;
    let open = || rig.send(request("GET", "/api/v1/events").body(Body::empty()).unwrap());
    let mut streams = Vec::new();
    for _ in 0..16 {
        let response = open().await;
        assert_eq!(response.status(), 200);
        streams.push(response);
    }
    assert_eq!(told(open().await).await.0, 503);
    streams.pop();
    assert_eq!(open().await.status(), 200);
}

#[tokio::test]
async fn the_dashboard_runs_nothing_but_what_is_in_it() {
    let rig = Rig::new().await;
    let response = rig.send(request("GET", "/").body(Body::empty()).unwrap()).await;
    let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let page = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let page = String::from_utf8(page.to_vec()).unwrap();
    assert_eq!((page.matches("<script>").count(), page.matches("<style>").count()), (1, 1));
    for foreign in ["http://", "https://", "//cdn", "src=", "@import", "innerHTML", " onclick", " style="] {
        assert!(!page.contains(foreign), "{foreign}");
    }
}
