//! The HTTP interface as operators, attackers and an independent client meet it: a real producer over real sockets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use e2e::producer::{Producer, Setup};
use e2e::venue::Venue;
use e2e::{clients, http, sqlite, wait_for};
use serde_json::{Value, json};

const BUSY: &[&str] = &["--synthetic", "--rate", "2000", "--symbols", "50"];
const TOKEN: &str = "canary-admin-token";

struct Rig {
    venue: Venue,
    producer: Producer,
    dir: tempfile::TempDir,
}

/// A live producer with these further variables.
fn rig(vars: &[(&str, &str)]) -> Rig {
    let venue = Venue::start(BUSY);
    let dir = tempfile::tempdir().unwrap();
    let setup =
        vars.iter().fold(Setup::new(&venue, dir.path()), |setup, (name, value)| setup.var(name, value));
    let producer = setup.start();
    producer.wait_live();
    Rig { venue, producer, dir }
}

impl Rig {
    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.post_as(&[], path, body)
    }

    fn post_as(&self, headers: &[(&str, &str)], path: &str, body: &Value) -> (u16, Value) {
        let (status, body) = http::post_with(&self.producer.url(path), headers, body);
        (status, serde_json::from_str(&body).unwrap_or_else(|_| panic!("{status} {body}")))
    }

    fn get(&self, path: &str) -> Value {
        http::get_json(&self.producer.url(path)).unwrap()
    }

    fn store(&self) -> std::path::PathBuf {
        self.dir.path().join("store.db")
    }

    /// Sends bytes as they are and reads the answer to its end.
    fn raw(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // A connection that is reset after its answer has answered.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.producer.url("").strip_prefix("http://").unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }
}

/// The holds of the control table and its generation.
fn control(store: &Path) -> (usize, i64) {
    let holds = sqlite::rows(store, "SELECT id FROM market_ingest_hold").len();
    let rows = sqlite::rows(store, "SELECT generation FROM market_ingest_control");
    let generation = rows.first().and_then(|row| row[0].clone()).map_or(0, |text| text.parse().unwrap());
    (holds, generation)
}

#[test]
fn a_pause_and_a_resume_answer_when_they_are_effective_and_are_told_as_history() {
    let rig = rig(&[]);
    let begun = Instant::now();
    let why = json!({ "reason": "venue test", "actor": "ann" });
    let (status, paused) = rig.post("/api/v1/pause?wait", &why);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!((status, &paused["effective"], &paused["holds"]), (200, &json!(true), &json!(["all-ann"])));
    let open = rig.venue.events("tcp_open").len() - rig.venue.events("tcp_closed").len();
    assert_eq!(open, 0, "no socket at the venue is left");
    let now = rig.producer.status();
    assert_eq!((&now["status"], &now["holds"][0]["source"]), (&json!("paused"), &json!("control:all-ann")));

    let why = rig.get("/api/v1/why?symbol=AAPL");
    let entries = why["channels"].as_array().unwrap();
    assert!(
        !entries.is_empty() && entries.iter().all(|entry| entry["holds"][0]["reason"] == "venue test"),
        "{why}"
    );
    let job = rig.get("/api/v1/jobs/iex");
    assert_eq!((&job["status"], job["paused_at"].is_string()), (&json!("paused"), true));
    assert!(job["metrics"]["messages"]["quote"].as_u64().unwrap() > 0);
    assert!(job["last_processed"]["symbol"].is_string() && job["lag_while_paused_s"].is_number(), "{job}");

    wait_for("a record of the pause", Duration::from_secs(5), || {
        let pauses = rig.get("/api/v1/history");
        pauses["pauses"].as_array().unwrap().first().filter(|pause| pause["resumed_at"].is_null()).cloned()
    });
    let begun = Instant::now();
    let (status, resumed) = rig.post("/api/v1/resume?wait", &json!({ "actor": "ann" }));
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!((status, &resumed["effective"], &resumed["still_held_by"]), (200, &json!(true), &json!([])));
    assert_eq!(rig.producer.status()["jobs"]["iex"]["connected"], true);
    assert_eq!(rig.post("/api/v1/resume", &json!({ "actor": "ann" })).0, 409);

    let pause = wait_for("the pause's end in the history", Duration::from_secs(5), || {
        let pauses = rig.get("/api/v1/history?limit=10");
        pauses["pauses"].as_array().unwrap().first().filter(|pause| pause["resumed_at"].is_string()).cloned()
    });
    assert_eq!(
        (&pause["actor"], &pause["reason"], &pause["scope"]),
        (&json!("ann"), &json!("venue test"), &json!("all"))
    );
    assert!(pause["duration_s"].as_f64().unwrap() > 0.0);
    assert_eq!(rig.get("/api/v1/jobs/iex")["pause_history"][0]["id"], pause["id"]);
}

#[test]
fn a_resume_that_others_still_hold_says_so_and_the_flag_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let flag = dir.path().join("flag");
    std::fs::write(&flag, "on\n").unwrap();
    let source = format!("file:{}", flag.display());
    let rig = rig(&[("INGEST_ENABLED_FILE", &flag.display().to_string())]);
    assert_eq!(rig.post("/api/v1/pause?wait=5", &json!({})).0, 200);
    std::fs::write(&flag, "off\nreason: weekend\n").unwrap();
    rig.producer
        .wait_status("both holds", Duration::from_secs(5), |s| s["holds"].as_array().unwrap().len() == 2);
    let (status, body) = rig.post("/api/v1/resume?wait=5", &json!({}));
    assert_eq!((status, &body["still_held_by"][0]["source"]), (200, &json!(source)), "{body}");
    assert_eq!(rig.producer.status()["status"], "paused");
    let (status, body) = rig.post("/api/v1/resume", &json!({}));
    let detail = body["detail"].as_str().unwrap();
    assert!(status == 409 && detail.contains(&source) && detail.contains("weekend"), "{detail}");
}

#[test]
fn a_resume_that_the_venue_refuses_answers_504_and_says_what_it_waits_for() {
    let rig = rig(&[]);
    assert_eq!(rig.post("/api/v1/jobs/iex/pause?wait=5", &json!({})).0, 200);
    rig.venue.fault(&json!({ "fault": "refuse_upgrade", "status": 503 }));
    let (status, body) = rig.post("/api/v1/jobs/iex/resume?wait=0.5", &json!({}));
    let detail = body["detail"].as_str().unwrap();
    assert_eq!((status, &body["generation"]), (504, &json!(2)));
    assert!(detail.contains("iex is "), "{detail}");
    rig.venue.heal();
}

#[test]
fn opposite_writes_at_once_leave_one_of_the_two_outcomes_and_an_exact_generation() {
    let rig = rig(&[]);
    let mut expected = 0;
    for round in 0..25 {
        let write = |verb: &'static str| {
            let url = rig.producer.url(&format!("/api/v1/{verb}"));
            std::thread::spawn(move || http::post_with(&url, &[], &json!({ "actor": "ann" })).0)
        };
        let (pause, resume) = (write("pause"), write("resume"));
        let (paused, resumed) = (pause.join().unwrap(), resume.join().unwrap());
        assert_eq!(paused, 202);
        assert!([202, 409].contains(&resumed), "{resumed}");
        expected += 1 + i64::from(resumed == 202);
        let held = usize::from(resumed == 409);
        assert_eq!(control(&rig.store()), (held, expected), "round {round}: {paused} {resumed}");
        if held == 1 {
            assert_eq!(rig.post("/api/v1/resume", &json!({ "actor": "ann" })).0, 202);
            expected += 1;
        }
    }
    rig.producer.wait_status("the last word", Duration::from_secs(10), |status| {
        status["effective_generation"] == expected && status["status"] == "running"
    });
}

#[test]
fn many_pauses_at_once_are_one_hold_and_one_change() {
    let rig = rig(&[]);
    let writes: Vec<_> = (0..8)
        .map(|_| {
            let url = rig.producer.url("/api/v1/pause?wait=5");
            std::thread::spawn(move || {
                http::post_with(&url, &[], &json!({ "reason": "same", "actor": "ann" }))
            })
        })
        .collect();
    for write in writes {
        let (status, body) = write.join().unwrap();
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &body["effective"]), (200, &json!(true)), "{body}");
    }
    let (holds, generation) = control(&rig.store());
    // Each that came before another's hold was seen may have renewed its beginning, but never added a hold.
    assert_eq!((holds, generation), (1, 1));
}

#[test]
fn with_a_token_only_its_holder_writes_and_no_log_line_shows_it() {
    let mut rig = rig(&[("INGEST_ADMIN_TOKEN", TOKEN), ("INGEST_BIND", "0.0.0.0"), ("RUST_LOG", "trace")]);
    for path in ["pause", "resume", "jobs/iex/pause", "jobs/iex/resume"] {
        let path = format!("/api/v1/{path}");
        assert_eq!(rig.post(&path, &json!({})).0, 401, "{path}");
        assert_eq!(
            rig.post_as(&[("Authorization", "Bearer wrong-token")], &path, &json!({})).0,
            403,
            "{path}"
        );
    }
    let challenge = rig.raw("POST /api/v1/pause HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(challenge.to_ascii_lowercase().contains("www-authenticate: bearer"), "{challenge}");
    assert_eq!(control(&rig.store()), (0, 0), "nothing was written");
    let bearer = format!("Bearer {TOKEN}");
    let (status, body) = rig.post_as(&[("Authorization", &bearer)], "/api/v1/pause?wait=5", &json!({}));
    assert_eq!(status, 200, "{body}");
    rig.producer.stop();
    let all: String = rig.producer.process.stdout().iter().map(|line| line.text.clone()).collect();
    assert!(all.contains("control_request"));
    assert!(!all.contains(TOKEN) && !all.contains("wrong-token"));
}

#[test]
fn an_open_address_without_a_token_takes_no_writes() {
    let rig = rig(&[("INGEST_BIND", "0.0.0.0")]);
    let (status, body) = rig.post("/api/v1/pause", &json!({}));
    let detail = body["detail"].as_str().unwrap();
    assert!(status == 403 && detail.contains("INGEST_ADMIN_TOKEN"), "{status} {detail}");
    assert_eq!(rig.producer.status()["status"], "running", "reads are answered");
}

#[test]
fn a_page_of_another_origin_cannot_write_by_way_of_a_browser_on_this_machine() {
    let rig = rig(&[]);
    let address = rig.producer.url("");
    let address = address.strip_prefix("http://").unwrap();
    let post = |host: &str, origin: &str| {
        rig.raw(&format!(
            "POST /api/v1/pause HTTP/1.1\r\nHost: {host}\r\n{origin}Content-Length: 0\r\nConnection: close\r\n\r\n"
        ))
    };
    for (host, origin) in [
        ("evil.example", ""),
        ("evil.example", "Origin: http://evil.example\r\n"),
        (address, "Origin: https://evil.example\r\n"),
        (address, "Origin: null\r\n"),
        (address, "Origin: http://127.0.0.1:1\r\n"),
    ] {
        let answer = post(host, origin);
        assert!(answer.starts_with("HTTP/1.1 403"), "{host} {origin}: {answer}");
    }
    // What a form of a foreign page can send without asking first.
    let form = rig.raw(&format!(
        "POST /api/v1/pause HTTP/1.1\r\nHost: {address}\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\
         Connection: close\r\n\r\n{{}}"
    ));
    assert!(form.starts_with("HTTP/1.1 415"), "{form}");
    assert_eq!(control(&rig.store()), (0, 0));
    let own = post(address, &format!("Origin: http://{address}\r\n"));
    assert!(own.starts_with("HTTP/1.1 202"), "{own}");
}

#[test]
fn on_cloud_run_the_platforms_word_is_the_actor_and_cannot_be_spoofed() {
    let rig = rig(&[("K_SERVICE", "market-ingest"), ("INGEST_ADMIN_TOKEN", TOKEN)]);
    // {"alg":"none"} and {"email":"ann@example.com","email_verified":true}, as Cloud Run hands them on.
    let token = "Bearer eyJhbGciOiJub25lIn0.\
                 eyJlbWFpbCI6ImFubkBleGFtcGxlLmNvbSIsImVtYWlsX3ZlcmlmaWVkIjp0cnVlfQ.SIGNATURE_REMOVED_BY_GOOGLE";
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("Authorization", bearer.as_str()), ("X-Serverless-Authorization", token)];
    let (status, body) = rig.post_as(&headers, "/api/v1/pause", &json!({ "actor": "bob@example.com" }));
    assert!(status == 403 && body["detail"].as_str().unwrap().contains("ann@example.com"), "{status} {body}");
    assert_eq!(control(&rig.store()), (0, 0));
    assert_eq!(rig.post_as(&headers, "/api/v1/pause?wait=5", &json!({})).0, 200);
    assert_eq!(rig.producer.status()["holds"][0]["actor"], "ann@example.com");
}

#[test]
fn a_body_that_is_too_long_is_refused_and_one_that_trickles_is_given_up() {
    let rig = rig(&[]);
    for length in [17_000, 300_000] {
        let (status, body) = rig.post("/api/v1/pause", &json!({ "reason": "x".repeat(length) }));
        assert_eq!(status, 413, "{body}");
    }
    let chunk = "x".repeat(0x5000);
    let chunked = rig.raw(&format!(
        "POST /api/v1/pause HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n5000\r\n{chunk}\r\n0\r\n\r\n"
    ));
    assert!(chunked.starts_with("HTTP/1.1 413"), "{}", &chunked[..chunked.len().min(200)]);

    let begun = Instant::now();
    let mut slow = rig.connect();
    slow.write_all(
        b"POST /api/v1/pause HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
    )
    .unwrap();
    assert_eq!(rig.producer.status()["status"], "running", "others are answered meanwhile");
    let mut answer = String::new();
    BufReader::new(&slow).read_line(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer:?}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(control(&rig.store()), (0, 0));
}

#[test]
fn a_store_that_is_away_answers_503_in_time() {
    let rig = rig(&[]);
    let lock = sqlite::Lock::hold(&rig.store());
    let begun = Instant::now();
    let (status, body) = rig.post("/api/v1/pause?wait=1", &json!({}));
    assert_eq!(status, 503, "{body}");
    assert!(begun.elapsed() < Duration::from_millis(5500), "{:?}", begun.elapsed());
    assert!(!body["detail"].as_str().unwrap().contains("store.db"), "{body}");
    drop(lock);
    assert_eq!(rig.post("/api/v1/pause?wait=5", &json!({})).0, 200);
}

/// An event stream, line by line.
struct Events(BufReader<TcpStream>);

impl Events {
    fn open(rig: &Rig) -> Self {
        let mut stream = rig.connect();
        stream.write_all(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        Self(BufReader::new(stream))
    }

    /// The next line; none at the end.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        (self.0.read_line(&mut line).ok()? > 0).then(|| line.trim_end().to_owned())
    }

    /// The next heartbeat that the stream tells of; none at its end.
    fn beat(&mut self) -> Option<Value> {
        loop {
            if let Some(data) = self.line()?.strip_prefix("data: ") {
                return Some(serde_json::from_str(data).unwrap());
            }
        }
    }
}

#[test]
fn events_tell_a_pause_as_it_becomes_true_and_end_with_the_process() {
    let mut rig = rig(&[]);
    let mut events = Events::open(&rig);
    assert_eq!(events.beat().unwrap()["status"], "running");
    assert_eq!(rig.post("/api/v1/pause?wait=5", &json!({ "reason": "test" })).0, 200);
    let told = Instant::now();
    while events.beat().unwrap()["status"] != "paused" {}
    assert!(told.elapsed() < Duration::from_secs(1), "{:?}", told.elapsed());
    let begun = Instant::now();
    assert!(rig.producer.stop().success());
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "an open stream does not hold the stop: {:?}",
        begun.elapsed()
    );
    while events.line().is_some() {}
}

#[test]
fn a_stream_outlives_what_an_idle_connection_may_last() {
    let rig = rig(&[]);
    let begun = Instant::now();
    let mut idle = rig.connect();
    let mut events = Events::open(&rig);
    events.beat().unwrap();
    let mut still_here = 0;
    while begun.elapsed() < Duration::from_secs(16) {
        still_here += u32::from(events.line().unwrap() == ": still here");
    }
    assert!(still_here >= 2, "{still_here}");
    assert_eq!(idle.read(&mut [0]).unwrap_or(0), 0, "the idle connection was ended");
    assert_eq!(rig.post("/api/v1/pause", &json!({})).0, 202);
    while events.beat().unwrap()["holds"].as_array().unwrap().is_empty() {}
}

#[test]
fn streams_beyond_the_limit_are_refused_and_others_are_served_all_the_same() {
    let rig = rig(&[]);
    let mut streams: Vec<Events> = (0..16).map(|_| Events::open(&rig)).collect();
    for stream in &mut streams {
        assert_eq!(stream.line().unwrap(), "HTTP/1.1 200 OK");
    }
    assert!(Events::open(&rig).line().unwrap().starts_with("HTTP/1.1 503"));
    assert_eq!(rig.producer.status()["status"], "running");
    drop(streams);
    wait_for("a place again", Duration::from_secs(10), || {
        (Events::open(&rig).line()? == "HTTP/1.1 200 OK").then_some(())
    });
}

#[test]
fn the_description_and_the_program_agree_in_the_eyes_of_an_independent_client() {
    let mut rig = rig(&[("INGEST_ADMIN_TOKEN", TOKEN)]);
    let description = rig.producer.url("/api/v1/openapi.json");
    println!("{}", clients::schemathesis(&description, TOKEN, rig.dir.path()));
    let (status, _) = http::get(&rig.producer.url("/livez")).unwrap();
    assert_eq!(status, 200, "the jobs turn after all that");
    assert!(rig.producer.stop().success());
}
