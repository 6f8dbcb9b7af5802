//! The program: its first line, its control port, its exit.

#![allow(clippy::unwrap_used)]

use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::client::LIMIT;

struct Program {
    child: Child,
    listening: String,
    control: String,
    /// Absent unless it is asked for.
    data: Option<String>,
}

impl Program {
    async fn start(arguments: &[&str]) -> Program {
        let mut child = Command::new(env!("CARGO_BIN_EXE_alpaca-sim"))
            .args(arguments)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        tokio::time::timeout(LIMIT, stdout.read_line(&mut line)).await.unwrap().unwrap();
        let urls: Value = serde_json::from_str(&line).unwrap();
        let address =
            |key: &str, scheme: &str| urls[key].as_str().map(|u| u.strip_prefix(scheme).unwrap().to_owned());
        Program {
            child,
            listening: address("listening", "ws://").unwrap(),
            control: address("control", "http://").unwrap(),
            data: address("data", "http://"),
        }
    }

    /// A connection that has authenticated by header.
    async fn sign_in(&self) -> TcpStream {
        let mut client = TcpStream::connect(&self.listening).await.unwrap();
        let request = "GET /v2/iex HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAPCA-API-KEY-ID: k\r\n\
                       APCA-API-SECRET-KEY: s\r\n\r\n";
        client.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        while !bytes.windows(13).any(|w| w == b"authenticated") {
            assert!(client.read_buf(&mut bytes).await.unwrap() > 0);
        }
        client
    }

    /// Asks the control port.
    async fn http(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        Program::ask(&self.control, method, path, body).await
    }

    async fn ask(address: &str, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or(Value::from(body)))
    }

    async fn terminate(mut self, signal: &str) -> ExitStatus {
        let id = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().await.unwrap().success());
        tokio::time::timeout(LIMIT, self.child.wait()).await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn the_control_port_shows_and_interferes() {
    let program =
        Program::start(&["--synthetic", "--messages", "1000", "--fault", "mute:path=/v2/sip"]).await;
    assert!(program.data.is_none());
    let mut client = program.sign_in().await;
    let (status, state) = program.http("GET", "/state", "").await;
    assert_eq!(status, 200);
    assert_eq!(state["connections"][0]["path"], "/v2/iex");
    assert_eq!(state["connections"][0]["authenticated"], true);
    assert_eq!(state["connections"][0]["account"], "k");
    assert_eq!(state["feed"]["messages"], 1000);
    assert_eq!(state["faults"], json!([{"fault": "mute", "path": "/v2/sip"}]));
    let (_, log) = program.http("GET", "/log?since=1", "").await;
    let kinds: Vec<_> = log.as_array().unwrap().iter().map(|e| e["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["upgrade", "auth_ok"]);
    let (status, answer) = program.http("POST", "/fault", r#"{"fault":"refuse_upgrade","status":429}"#).await;
    assert_eq!((status, answer["faults"].as_array().unwrap().len()), (200, 2));
    let (status, answer) = program.http("POST", "/fault", r#"{"fault":"earthquake"}"#).await;
    assert_eq!(status, 400);
    assert!(answer.as_str().unwrap().contains("earthquake"), "{answer}");
    assert_eq!(program.http("DELETE", "/fault", "").await.1, json!({"faults": []}));
    assert_eq!(program.http("POST", "/cut", "").await.0, 204);
    let mut rest = Vec::new();
    tokio::time::timeout(LIMIT, client.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(program.terminate("-TERM").await.success());
}

#[tokio::test]
async fn the_data_port_is_named_in_the_first_line_and_its_calls_are_in_the_log() {
    let arguments =
        ["--synthetic", "--messages", "1000", "--data", "127.0.0.1:0", "--data-calls-per-min", "1"];
    let program = Program::start(&arguments).await;
    let data = program.data.clone().unwrap();
    let path = "/v2/stocks/quotes?symbols=SPY&start=2026-01-05&end=2026-01-05&limit=3";
    let (status, page) = Program::ask(&data, "GET", path, "").await;
    assert_eq!((status, page["quotes"]["SPY"].as_array().unwrap().len()), (200, 3));
    assert_eq!(Program::ask(&data, "GET", path, "").await.0, 429);
    let (status, _) = program.http("POST", "/fault", r#"{"fault":"data_error","status":503}"#).await;
    assert_eq!(status, 200);
    assert_eq!(Program::ask(&data, "GET", path, "").await.0, 503);
    let (_, log) = program.http("GET", "/log", "").await;
    let is_call = |e: &&Value| e["kind"] == "data_request";
    let calls: Vec<_> = log.as_array().unwrap().iter().filter(is_call).collect();
    let told: Vec<_> = calls.iter().map(|e| (e["status"].as_u64(), e["rows"].as_u64())).collect();
    assert_eq!(told, [(Some(200), Some(3)), (Some(429), Some(0)), (Some(503), Some(0))]);
    assert!(calls.iter().all(|e| e["path"] == "/v2/stocks/quotes" && e["symbols"] == "SPY"));
    assert!(program.terminate("-TERM").await.success());
}

/// Processor time of a process so far, in clock ticks of 10 ms.
#[cfg(target_os = "linux")]
fn ticks(id: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_half_open_connection_costs_no_processor_time() {
    let arguments = ["--rate", "10", "--ping-interval-s", "0.1", "--fault", "half_open"];
    let program = Program::start(&arguments).await;
    let _client = program.sign_in().await;
    let struck =
        async { while !program.http("GET", "/log", "").await.1.to_string().contains("half_open") {} };
    tokio::time::timeout(LIMIT, struck).await.unwrap();
    // All deadlines of the connection pass within this time, and none may be waited for again and again.
    let (id, before) = (program.child.id().unwrap(), ticks(program.child.id().unwrap()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(ticks(id) - before < 50, "half a second of work in a second");
    assert!(program.terminate("-TERM").await.success());
}

#[tokio::test]
async fn signals_end_it_at_once_with_exit_code_0() {
    for signal in ["-TERM", "-INT"] {
        let program = Program::start(&["--rate", "5000"]).await;
        let start = Instant::now();
        assert!(program.terminate(signal).await.success());
        assert!(start.elapsed() < Duration::from_secs(2));
    }
}

#[tokio::test]
async fn wrong_arguments_are_refused_and_the_help_names_every_fault() {
    let run = |arguments: &'static [&'static str]| async move {
        Command::new(env!("CARGO_BIN_EXE_alpaca-sim")).args(arguments).output().await.unwrap()
    };
    for wrong in [
        &["--speed", "0"][..],
        &["--speed", "fast"],
        &["--fault", "earthquake"],
        &["--fault", "cut:after=x"],
        &["--key", "k"],
        &["--data", "nowhere"],
        &["--data-calls-per-min", "0"],
        &["--speed", "2"],
        &["--tape", "x.ndjson", "--seed", "2"],
        &["--tape", "/nowhere/x.ndjson"],
    ] {
        assert!(!run(wrong).await.status.success(), "{wrong:?}");
    }
    let help = String::from_utf8(run(&["--help"]).await.stdout).unwrap();
    for fault in [
        "stall",
        "refuse_upgrade",
        "refuse_auth",
        "refuse_subscribe",
        "error",
        "slow_client",
        "cut",
        "cut_mid_frame",
        "half_open",
        "mute",
        "ignore_pings",
        "trickle",
        "out_of_order",
        "duplicate_quotes",
        "late_prints",
        "unknown_type",
        "unknown_fields",
        "corrupt_element",
        "corrupt_frame",
        "big_ids",
        "huge_news",
        "rename",
        "data_error",
        "data_delay",
        "data_cut",
        "data_stall",
    ] {
        assert!(help.contains(&format!("  {fault}")), "{fault} is not in the help");
    }
}
