//! The document on pausing single assets, statement by statement: `data_ingest_state`, edited by plain SQL.
//!
//! Two jobs run, stocks and crypto, so that what must not be touched is there to be looked at. SQLite writes
//! `datetime('now')` where PostgreSQL writes `NOW()`; otherwise the statements are those of the document.

use std::time::Duration;

use e2e::child::Process;
use e2e::postgres::{DATABASE, Postgres};
use e2e::producer::{Producer, Setup};
use e2e::venue::{Venue, pairs};
use e2e::{binary, now_us, sqlite, wait_for};
use serde_json::{Value, json};

const BUSY: &[&str] = &["--synthetic", "--rate", "2000", "--symbols", "20"];
const STOCKS: &str = "/v2/iex";
const CRYPTO: &str = "/v1beta3/crypto/us";
const SECOND: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(10);

const PAUSE_BTC: &str = "UPDATE data_ingest_state
    SET pause_fetch = true,
        notes = 'Data fetching PAUSED by user on ' || datetime('now'),
        updated_at = datetime('now')
    WHERE canonical_symbol = 'BTC';";
const RESUME_BTC: &str = "UPDATE data_ingest_state
    SET pause_fetch = false,
        notes = 'Data fetching RESUMED by user on ' || datetime('now'),
        updated_at = datetime('now')
    WHERE canonical_symbol = 'BTC';";

/// A producer of two jobs with its store and its venue.
struct Bench {
    producer: Producer,
    venue: Venue,
    dir: tempfile::TempDir,
}

impl Bench {
    /// Both jobs live, and a row for every channel of every asset.
    fn start() -> Self {
        let bench = Self::with("AAPL,SPY,TSLA,BTC/USD,ETH/USD");
        wait_for("a row for every channel of every asset", LIMIT, || {
            (bench.rows("SELECT * FROM data_ingest_state").len() == 15).then_some(())
        });
        bench
    }

    fn with(symbols: &str) -> Self {
        let venue = Venue::start(BUSY);
        let dir = tempfile::tempdir().unwrap();
        let producer = setup(&venue, &dir, symbols).start();
        producer.wait_live();
        Self { producer, venue, dir }
    }

    fn sql(&self, statement: &str) -> u64 {
        sqlite::execute(&self.dir.path().join("store.db"), statement)
    }

    /// Null as an empty text.
    fn rows(&self, query: &str) -> Vec<Vec<String>> {
        let rows = sqlite::rows(&self.dir.path().join("store.db"), query);
        rows.into_iter().map(|row| row.into_iter().map(Option::unwrap_or_default).collect()).collect()
    }

    fn cell(&self, query: &str) -> String {
        self.rows(query).first().map_or_else(String::new, |row| row[0].clone())
    }

    /// The only request of this kind on a path after a position of the venue's log.
    fn request(&self, kind: &str, path: &str, mark: u64) -> Value {
        let found = || self.venue.since(mark, path).into_iter().filter(|event| event["kind"] == kind);
        wait_for(kind, LIMIT, || found().next());
        let all: Vec<_> = found().collect();
        assert_eq!(all.len(), 1, "one request does it: {all:?}");
        all[0].clone()
    }

    /// Pauses by this statement and waits until the effect is told.
    fn hold(&self, statement: &str, job: &str, paused: Value) {
        self.sql(statement);
        self.wait_paused(job, paused);
    }

    fn wait_paused(&self, job: &str, paused: Value) {
        self.producer
            .wait_job(job, &format!("{job} without {paused}"), LIMIT, |job| job["paused_symbols"] == paused);
    }

    /// Time of the newest quote that was delivered of a symbol.
    fn newest_quote(&self, id: &str) -> String {
        self.cell(&format!("SELECT ts FROM live_quotes WHERE id = '{id}'"))
    }

    /// While others were quoted three times over, this symbol was not.
    #[track_caller]
    fn assert_not_delivered(&self, id: &str, while_delivered: &str) {
        let before = self.newest_quote(id);
        for _ in 0..3 {
            let other = self.newest_quote(while_delivered);
            wait_for("a quote of another symbol", LIMIT, || {
                (self.newest_quote(while_delivered) != other).then_some(())
            });
        }
        assert_eq!(self.newest_quote(id), before, "{id} is held");
    }
}

fn setup(venue: &Venue, dir: &tempfile::TempDir, symbols: &str) -> Setup {
    Setup::new(venue, dir.path())
        .var("ALPACA_DATA_FEED", "iex,crypto-us")
        .var("MONITORED_SYMBOLS", symbols)
        .var("PER_SYMBOL_MIN_INTERVAL_MS", 100)
        .var("GLOBAL_WRITES_PER_SEC", 500)
        .var("HEARTBEAT_INTERVAL_S", 1)
}

#[test]
fn an_update_by_plain_sql_is_a_hold_within_a_second() {
    let bench = Bench::start();
    let mark = bench.venue.mark();
    let asked_us = now_us();
    assert_eq!(bench.sql(PAUSE_BTC), 3, "the statement names no timeframe: all rows of the asset");
    let request = bench.request("unsubscribe", CRYPTO, mark);
    let took_us = request["ts_us"].as_i64().unwrap() - asked_us;
    println!("unsubscribed {:.0} ms after the statement", took_us as f64 / 1e3);
    assert!(took_us <= 1_000_000, "{took_us} us");
    assert_eq!(pairs(&request), ["bars BTC/USD", "quotes BTC/USD", "trades BTC/USD"]);

    bench.wait_paused("crypto-us", json!(["BTC/USD"]));
    bench.assert_not_delivered("BTC-USD", "ETH-USD");
    assert_eq!(bench.venue.since(mark, STOCKS), Vec::<Value>::new(), "nobody else is asked anything");
    assert_eq!(bench.venue.since(mark, CRYPTO).len(), 1, "the connection stays");
    let status = bench.producer.status();
    assert_eq!(
        (&status["status"], &status["jobs"]["crypto-us"]["status"]),
        (&json!("running"), &json!("running"))
    );
}

#[test]
fn setting_the_flag_back_resumes_within_a_second_on_the_same_connection() {
    let bench = Bench::start();
    bench.hold(PAUSE_BTC, "crypto-us", json!(["BTC/USD"]));
    let before = bench.newest_quote("BTC-USD");
    let mark = bench.venue.mark();
    let asked_us = now_us();
    assert_eq!(bench.sql(RESUME_BTC), 3);
    let request = bench.request("subscribe", CRYPTO, mark);
    let took_us = request["ts_us"].as_i64().unwrap() - asked_us;
    println!("subscribed {:.0} ms after the statement", took_us as f64 / 1e3);
    assert!(took_us <= 1_000_000, "{took_us} us");
    assert_eq!(pairs(&request), ["bars BTC/USD", "quotes BTC/USD", "trades BTC/USD"]);
    wait_for("its first quote again: nothing warms up", Duration::from_secs(3), || {
        (bench.newest_quote("BTC-USD") != before).then_some(())
    });
    assert_eq!(bench.venue.since(mark, CRYPTO).len(), 1, "no reconnect");
    assert_eq!(bench.producer.status()["holds"], json!([]));
    wait_for("the rows to say so", LIMIT, || {
        let rows = bench.rows("SELECT status FROM data_ingest_state WHERE canonical_symbol = 'BTC'");
        rows.iter().all(|row| row[0] == "running").then_some(())
    });
}

#[test]
fn several_assets_are_paused_and_resumed_together() {
    let bench = Bench::start();
    let of = |flag: bool| {
        format!(
            "UPDATE data_ingest_state SET pause_fetch = {flag} WHERE canonical_symbol IN ('AAPL', 'BTC', 'SPY')"
        )
    };
    let mark = bench.venue.mark();
    assert_eq!(bench.sql(&of(true)), 9);
    bench.wait_paused("crypto-us", json!(["BTC/USD"]));
    bench.wait_paused("iex", json!(["AAPL", "SPY"]));
    let request = bench.request("unsubscribe", STOCKS, mark);
    assert_eq!(pairs(&request).len(), 6, "one request for both: {request}");
    bench.assert_not_delivered("SPY", "TSLA");
    bench.sql(&of(false));
    bench.wait_paused("crypto-us", json!([]));
    bench.wait_paused("iex", json!([]));
    assert_eq!(pairs(&bench.request("subscribe", STOCKS, mark)).len(), 6);
}

#[test]
fn one_timeframe_can_be_paused_alone() {
    let bench = Bench::start();
    let mark = bench.venue.mark();
    let quotes = "UPDATE data_ingest_state SET pause_fetch = true
                  WHERE canonical_symbol = 'AAPL' AND timeframe = 'quotes'";
    bench.hold(quotes, "iex", json!(["AAPL/quotes"]));
    assert_eq!(pairs(&bench.request("unsubscribe", STOCKS, mark)), ["quotes AAPL"]);
    let status = |timeframe: &str| {
        bench.cell(&format!(
            "SELECT status FROM data_ingest_state
             WHERE canonical_symbol = 'AAPL' AND timeframe = '{timeframe}'"
        ))
    };
    wait_for("the row to say so", LIMIT, || (status("quotes") == "paused").then_some(()));
    assert_eq!((status("trades").as_str(), status("1m").as_str()), ("running", "running"));
}

#[test]
fn a_timeframe_that_is_no_channel_pauses_all_of_the_asset() {
    let bench = Bench::start();
    let mark = bench.venue.mark();
    bench.hold(
        "INSERT INTO data_ingest_state (canonical_symbol, timeframe, pause_fetch) VALUES ('SPY', '5m', true)",
        "iex",
        json!(["SPY"]),
    );
    assert_eq!(pairs(&bench.request("unsubscribe", STOCKS, mark)), ["bars SPY", "quotes SPY", "trades SPY"]);
}

#[test]
fn rows_of_paused_assets_are_kept_up() {
    let bench = Bench::start();
    let row = || {
        let row = bench.rows(
            "SELECT status, last_bar_ts_utc, notes, updated_at FROM data_ingest_state
             WHERE canonical_symbol = 'BTC' AND timeframe = 'quotes'",
        );
        row[0].clone()
    };
    wait_for("the time of a quote", Duration::from_secs(20), || (!row()[1].is_empty()).then_some(()));
    assert_eq!(row()[0], "running");
    bench.sql(PAUSE_BTC);
    wait_for("the row to say paused", LIMIT, || (row()[0] == "paused").then_some(()));
    let paused = row();
    assert!(!paused[1].is_empty(), "what was known of it stays");
    assert!(paused[2].starts_with("Data fetching PAUSED by user on 20"), "the operator's words: {paused:?}");

    // The newest time arrives, though it is written more rarely than the state.
    let newest = bench.newest_quote("BTC-USD");
    wait_for("the time of the last quote before the pause", LIMIT, || {
        (newest.starts_with(&row()[1].replace(' ', "T"))).then_some(())
    });
    let jobs = bench.producer.status()["jobs"]["crypto-us"].clone();
    assert_eq!((&jobs["status"], &jobs["connected"]), (&json!("running"), &json!(true)));

    // Another asset's row moves on meanwhile, and so does the paused one's when its job pauses and resumes.
    let eth = "SELECT last_bar_ts_utc FROM data_ingest_state
               WHERE canonical_symbol = 'ETH' AND timeframe = 'quotes'";
    let before = bench.cell(eth);
    wait_for("another row moving on", LIMIT, || (bench.cell(eth) != before).then_some(()));
    bench.sql(RESUME_BTC);
    wait_for("the row to say running", LIMIT, || (row()[0] == "running").then_some(()));
    wait_for("newer times", LIMIT, || (row()[1] > paused[1]).then_some(()));
    assert!(row()[2].starts_with("Data fetching RESUMED"), "{:?}", row());
}

#[test]
fn a_row_that_is_deleted_releases_its_hold_and_a_row_of_nobody_holds_nothing() {
    let bench = Bench::start();
    bench.hold(PAUSE_BTC, "crypto-us", json!(["BTC/USD"]));
    assert_eq!(bench.sql("DELETE FROM data_ingest_state WHERE canonical_symbol = 'BTC'"), 3);
    bench.wait_paused("crypto-us", json!([]));
    bench.sql(
        "INSERT INTO data_ingest_state (canonical_symbol, timeframe, pause_fetch)
         VALUES ('XAGUSD', '1m', true), ('AUDNZD', '1m', true)",
    );
    let status = bench.producer.wait_status("both holds listed", LIMIT, |status| {
        status["holds"].as_array().is_some_and(|holds| holds.len() == 2)
    });
    assert_eq!(status["status"], "running");
    for job in ["iex", "crypto-us"] {
        assert_eq!(status["jobs"][job]["paused_symbols"], json!([]), "{job} has neither asset");
    }
}

#[test]
fn an_asset_without_a_row_can_be_paused_in_advance() {
    let mut bench = Bench::with("AAPL,BTC/USD");
    bench.sql(
        "INSERT INTO data_ingest_state (canonical_symbol, timeframe, pause_fetch, notes)
         VALUES ('NFLX', 'trades', true, 'not yet'), ('NFLX', 'quotes', true, 'not yet'),
                ('NFLX', '1m', true, 'not yet')",
    );
    assert!(bench.producer.stop().success());
    let mark = bench.venue.mark();
    bench.producer = setup(&bench.venue, &bench.dir, "AAPL,NFLX,BTC/USD").start();
    bench.producer.wait_live();
    bench.wait_paused("iex", json!(["NFLX"]));
    let request = bench.request("subscribe", STOCKS, mark);
    assert_eq!(pairs(&request), ["bars AAPL", "quotes AAPL", "trades AAPL"], "never asked for");
    bench.sql("UPDATE data_ingest_state SET pause_fetch = false WHERE canonical_symbol = 'NFLX'");
    bench.wait_paused("iex", json!([]));
    wait_for("its first quote", LIMIT, || (!bench.newest_quote("NFLX").is_empty()).then_some(()));
}

#[test]
fn a_pause_survives_a_restart() {
    let mut bench = Bench::start();
    bench.hold(PAUSE_BTC, "crypto-us", json!(["BTC/USD"]));
    assert!(bench.producer.stop().success());
    let mark = bench.venue.mark();
    bench.producer = setup(&bench.venue, &bench.dir, "AAPL,SPY,TSLA,BTC/USD,ETH/USD").start();
    bench.wait_paused("crypto-us", json!(["BTC/USD"]));
    bench.producer.wait_live();
    let asked = bench.request("subscribe", CRYPTO, mark);
    assert_eq!(pairs(&asked), ["bars ETH/USD", "quotes ETH/USD", "trades ETH/USD"]);
}

#[test]
fn rows_of_an_earlier_run_say_paused_when_the_next_begins_paused() {
    let venue = Venue::start(BUSY);
    let dir = tempfile::tempdir().unwrap();
    let flag = dir.path().join("flag");
    std::fs::write(&flag, "on\n").unwrap();
    let setup =
        || setup(&venue, &dir, "*").var("ALPACA_DATA_FEED", "iex").var("INGEST_ENABLED_FILE", flag.display());
    let mut producer = setup().start();
    let statuses = || -> Vec<String> {
        let query = "SELECT DISTINCT status FROM data_ingest_state";
        let rows = sqlite::rows(&dir.path().join("store.db"), query);
        rows.into_iter().map(|row| row[0].clone().unwrap_or_default()).collect()
    };
    wait_for("rows", LIMIT, || (statuses() == ["running"]).then_some(()));
    assert!(producer.stop().success());
    std::fs::write(&flag, "off\n").unwrap();
    let _producer = setup().start();
    wait_for("paused rows", LIMIT, || (statuses() == ["paused"]).then_some(()));
}

#[test]
fn symbols_match_whatever_their_case() {
    let bench = Bench::start();
    bench.sql(
        "INSERT INTO data_ingest_state (canonical_symbol, timeframe, pause_fetch)
         VALUES ('aapl', 'any', true), ('Btc', 'any', true)",
    );
    bench.wait_paused("iex", json!(["AAPL"]));
    bench.wait_paused("crypto-us", json!(["BTC/USD"]));
}

#[test]
fn an_asset_of_a_job_for_every_symbol_is_not_delivered() {
    let venue = Venue::start(BUSY);
    let dir = tempfile::tempdir().unwrap();
    let producer = setup(&venue, &dir, "*").var("ALPACA_DATA_FEED", "iex").start();
    producer.wait_live();
    let bench = Bench { producer, venue, dir };
    let mark = bench.venue.mark();
    bench.sql(
        "INSERT INTO data_ingest_state (canonical_symbol, timeframe, pause_fetch) VALUES ('AAPL', 'any', true)",
    );
    bench
        .producer
        .wait_status("the hold", LIMIT, |status| status["holds"][0]["scope"] == json!("symbol:AAPL"));
    let held_back = r#"market_ingest_held_back_total{job="iex"}"#;
    wait_for("skipped and counted", LIMIT, || (bench.producer.metric(held_back)? > 0.0).then_some(()));
    bench.assert_not_delivered("AAPL", "SPY");
    assert_eq!(bench.venue.since(mark, STOCKS), Vec::<Value>::new(), "the star stays subscribed");
    bench.sql("DELETE FROM data_ingest_state WHERE canonical_symbol = 'AAPL' AND timeframe = 'any'");
    let before = bench.newest_quote("AAPL");
    wait_for("its quotes again", LIMIT, || (bench.newest_quote("AAPL") != before).then_some(()));
}

#[test]
fn a_flag_that_cannot_be_read_neither_fails_the_run_nor_changes_what_is_held() {
    let bench = Bench::start();
    bench.hold(PAUSE_BTC, "crypto-us", json!(["BTC/USD"]));
    let mark = bench.venue.mark();
    bench.sql("ALTER TABLE data_ingest_state RENAME TO elsewhere");
    let status =
        bench.producer.wait_status("flag_fresh false", LIMIT, |status| status["flag_fresh"] == json!(false));
    assert_eq!(status["jobs"]["crypto-us"]["paused_symbols"], json!(["BTC/USD"]), "the last reading stands");
    bench.assert_not_delivered("BTC-USD", "ETH-USD");
    let told = |text: &str| {
        let records = bench.producer.records();
        let of =
            |r: &&e2e::producer::Record| r.json["severity"] == "WARNING" && r.json.to_string().contains(text);
        records.iter().filter(of).count()
    };
    wait_for("a warning that rows cannot be kept up", LIMIT, || {
        (told("data_ingest_state cannot be kept up") == 1).then_some(())
    });
    assert_eq!(told("cannot be read"), 1, "one warning, not one a poll");
    bench.sql("ALTER TABLE elsewhere RENAME TO data_ingest_state");
    bench.producer.wait_status("fresh again", LIMIT, |status| status["flag_fresh"] == json!(true));
    assert_eq!(bench.venue.since(mark, CRYPTO), Vec::<Value>::new(), "the feed noticed nothing");
    bench.sql(RESUME_BTC);
    bench.wait_paused("crypto-us", json!([]));
}

#[test]
fn a_pause_is_logged_once_and_kept_in_the_history_with_the_operators_words() {
    let bench = Bench::start();
    let source = "control:data_ingest_state/BTC/1m";
    let told = |what: &str| {
        let records = bench.producer.log(what);
        records.into_iter().filter(|record| record.text("source") == source).collect::<Vec<_>>()
    };
    bench.hold(PAUSE_BTC, "crypto-us", json!(["BTC/USD"]));
    let [placed] = &told("hold_placed")[..] else { panic!("one record: {:?}", told("hold_placed")) };
    assert_eq!(placed.text("scope"), "symbol:BTC/USD/bars");
    assert!(placed.text("reason").starts_with("Data fetching PAUSED by user"), "{placed:?}");
    let record = || {
        bench.rows(&format!(
            "SELECT scope, reason, resumed_at, duration_s FROM market_ingest_history WHERE source = '{source}'"
        ))
    };
    let open = wait_for("its record", LIMIT, || record().into_iter().next());
    assert_eq!((open[0].as_str(), open[2].as_str()), ("symbol:BTC/USD/bars", ""));
    // Several polls a second.
    sqlite::wait_beats(&bench.dir.path().join("store.db"), 2);
    bench.sql(RESUME_BTC);
    bench.wait_paused("crypto-us", json!([]));
    let closed = wait_for("its record closed", LIMIT, || {
        record().into_iter().next().filter(|record| !record[2].is_empty())
    });
    assert!(closed[1].starts_with("Data fetching PAUSED"), "the pause's words, not the resume's: {closed:?}");
    assert!(closed[3].parse::<f64>().unwrap() > 0.0, "{closed:?}");
    assert_eq!(record().len(), 1);
    assert_eq!((told("hold_placed").len(), told("hold_released").len()), (1, 1));
}

#[test]
fn the_questions_of_the_document_are_answered() {
    let bench = Bench::start();
    let check = "SELECT canonical_symbol, timeframe, status, pause_fetch, notes, updated_at
                 FROM data_ingest_state
                 WHERE pause_fetch = true
                 ORDER BY canonical_symbol, timeframe;";
    let view_all = "SELECT
                      canonical_symbol,
                      timeframe,
                      status,
                      pause_fetch,
                      notes,
                      updated_at,
                      last_bar_ts_utc
                    FROM data_ingest_state
                    WHERE pause_fetch = true
                    ORDER BY updated_at DESC;";
    let count = "SELECT COUNT(DISTINCT canonical_symbol) as paused_assets
                 FROM data_ingest_state
                 WHERE pause_fetch = true;";
    assert_eq!((bench.rows(check).len(), bench.rows(view_all).len()), (0, 0));
    bench.hold(PAUSE_BTC, "crypto-us", json!(["BTC/USD"]));
    bench.hold(
        "UPDATE data_ingest_state SET pause_fetch = true WHERE canonical_symbol = 'AAPL'",
        "iex",
        json!(["AAPL"]),
    );
    wait_for("both told as paused", LIMIT, || {
        let rows = bench.rows(check).into_iter().map(|row| row[..4].join(" "));
        let expected = ["AAPL 1m", "AAPL quotes", "AAPL trades", "BTC 1m", "BTC quotes", "BTC trades"];
        rows.eq(expected.map(|row| format!("{row} paused 1"))).then_some(())
    });
    assert_eq!(bench.rows(view_all).len(), 6);
    assert_eq!(bench.cell(count), "2");
}

#[test]
fn the_column_is_false_by_default_and_has_its_partial_index() {
    let bench = Bench::start();
    let column = bench.rows(
        "SELECT type, \"notnull\", dflt_value FROM pragma_table_info('data_ingest_state')
         WHERE name = 'pause_fetch'",
    );
    assert_eq!(column, [["BOOLEAN", "1", "false"]]);
    let index = bench.cell("SELECT sql FROM sqlite_master WHERE name = 'idx_data_ingest_state_pause_fetch'");
    let words: Vec<_> = index.split_whitespace().collect();
    assert!(index.contains("data_ingest_state") && words.ends_with(&["WHERE", "pause_fetch", "=", "true"]));
    bench.sql(
        "CREATE INDEX IF NOT EXISTS idx_data_ingest_state_pause_fetch
         ON data_ingest_state(pause_fetch)
         WHERE pause_fetch = true;",
    );
    let plan = bench
        .rows("EXPLAIN QUERY PLAN SELECT canonical_symbol FROM data_ingest_state WHERE pause_fetch = true");
    assert!(plan[0].concat().contains("idx_data_ingest_state_pause_fetch"), "{plan:?}");
}

#[test]
fn what_was_stored_of_a_paused_asset_stays() {
    let bench = Bench::start();
    wait_for("a quote", LIMIT, || (!bench.newest_quote("BTC-USD").is_empty()).then_some(()));
    bench.hold(PAUSE_BTC, "crypto-us", json!(["BTC/USD"]));
    let quote = bench.rows("SELECT symbol, ts FROM live_quotes WHERE id = 'BTC-USD'");
    bench.assert_not_delivered("BTC-USD", "ETH-USD");
    assert_eq!(bench.rows("SELECT symbol, ts FROM live_quotes WHERE id = 'BTC-USD'"), quote);
    let rows =
        bench.rows("SELECT timeframe FROM data_ingest_state WHERE canonical_symbol = 'BTC' ORDER BY 1");
    assert_eq!(rows, [["1m"], ["quotes"], ["trades"]]);
    let told = bench.producer.wait_status("heartbeats go on", LIMIT, |status| status["status"] == "running");
    assert!(told["holds"].as_array().is_some_and(|holds| holds.len() == 3), "{told}");
    let waited = std::time::Instant::now();
    bench.sql(RESUME_BTC);
    bench.wait_paused("crypto-us", json!([]));
    assert!(waited.elapsed() < 3 * SECOND, "{:?}", waited.elapsed());
}

#[test]
fn the_statements_as_written_pause_and_resume_on_postgresql_within_a_second() {
    let Some(postgres) = Postgres::start() else { return };
    let venue = Venue::start(BUSY);
    let dir = tempfile::tempdir().unwrap();
    let producer =
        setup(&venue, &dir, "AAPL,BTC/USD,ETH/USD").var("INGEST_STORE", postgres.url(DATABASE)).start();
    producer.wait_live();
    let count = "SELECT count(*) FROM data_ingest_state WHERE canonical_symbol = 'BTC'";
    wait_for("the asset's rows", LIMIT, || {
        (postgres.rows(DATABASE, count)[0][0].as_deref() == Some("3")).then_some(())
    });
    for (flag, word, kind, paused) in
        [("true", "PAUSED", "unsubscribe", json!(["BTC/USD"])), ("false", "RESUMED", "subscribe", json!([]))]
    {
        let mark = venue.mark();
        let asked_us = now_us();
        let done = postgres.psql(
            DATABASE,
            &format!(
                "UPDATE data_ingest_state
                 SET pause_fetch = {flag},
                     notes = 'Data fetching {word} by user on ' || NOW()::text,
                     updated_at = NOW()
                 WHERE canonical_symbol = 'BTC';"
            ),
        );
        let request = wait_for(kind, LIMIT, || {
            venue.since(mark, CRYPTO).into_iter().find(|event| event["kind"] == kind)
        });
        let took_us = request["ts_us"].as_i64().unwrap() - asked_us;
        println!("{kind} {:.0} ms after psql was started", took_us as f64 / 1e3);
        assert!(took_us <= 1_000_000, "{took_us} us: {done}");
        assert_eq!(pairs(&request), ["bars BTC/USD", "quotes BTC/USD", "trades BTC/USD"]);
        producer.wait_job("crypto-us", word, LIMIT, |job| job["paused_symbols"] == paused);
        assert_eq!(venue.since(mark, CRYPTO).len(), 1, "on the same connection");
    }
}

#[test]
fn the_operators_program_does_what_the_script_did_and_fails_when_it_did_not() {
    let bench = Bench::start();
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(binary::path("ingestctl"));
        command.args(arguments).env_clear().env("USER", "kim");
        command.env("INGEST_STORE", format!("sqlite:{}", bench.dir.path().join("store.db").display()));
        let mut process = Process::spawn(&mut command);
        let code = process.wait_exit(Duration::from_secs(30)).code().unwrap();
        let out: Vec<_> = process.stdout().into_iter().map(|line| line.text).collect();
        (code, format!("{}\n{}", out.join("\n"), process.stderr()))
    };
    let (code, said) = run(&["pause", "AAPL", "BTC/USD", "--reason", "data issues"]);
    assert_eq!(code, 0, "{said}");
    // It says so when it is so: nothing has to be waited for.
    let status = bench.producer.status();
    assert_eq!(status["jobs"]["iex"]["paused_symbols"], json!(["AAPL"]));
    assert_eq!(status["jobs"]["crypto-us"]["paused_symbols"], json!(["BTC/USD"]));
    let (code, said) = run(&["resume", "AAPL", "BTC/USD"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(bench.producer.status()["holds"], json!([]));
    let (code, said) = run(&["resume", "AAPL"]);
    assert_eq!(code, 2, "nothing to resume: {said}");
}
