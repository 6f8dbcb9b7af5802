//! Rows by symbol: the per-asset table, which operators and the service share, and quotes.

use std::time::Instant;

use market_ingest::store::{AssetUpdate, QuoteDocument};

use super::bench::Bench;
use super::{assert_now, at};

fn assets(bench: &Bench) {
    let store = bench.store();
    let update = |symbol: &str, status: &'static str, last: Option<i64>| AssetUpdate {
        canonical_symbol: symbol.to_owned(),
        timeframe: "1m".to_owned(),
        status,
        last_event_ts: last.map(at),
    };
    assert_eq!(bench.run(store.read_assets()).unwrap(), [], "now there are tables");
    bench
        .sql("INSERT INTO data_ingest_state(canonical_symbol,timeframe,pause_fetch) VALUES('BTC','1m',true)");
    bench.sql("UPDATE data_ingest_state SET notes = 'by hand', updated_at = '2020-01-01 00:00:00+00'");
    let rows = bench.run(store.read_assets()).unwrap();
    assert_eq!(rows.len(), 1);
    assert!(rows[0].pause_fetch, "in advance");
    assert_eq!(rows[0].updated_at.unwrap().to_string(), "2020-01-01T00:00:00Z");

    bench
        .run(store.write_assets(&[update("BTC", "paused", Some(0)), update("AAPL", "running", None)]))
        .unwrap();
    let rows = bench.run(store.read_assets()).unwrap();
    let [btc] = &rows[..] else { panic!("AAPL is not paused: {rows:?}") };
    assert_eq!(
        (btc.canonical_symbol.as_str(), btc.timeframe.as_str(), btc.pause_fetch, btc.notes.as_deref()),
        ("BTC", "1m", true, Some("by hand")),
        "what operators wrote is left alone"
    );
    assert_now(btc.updated_at.unwrap());

    let shown = |symbol: &str| {
        let query = "SELECT status, last_bar_ts_utc, updated_at FROM data_ingest_state";
        bench.sql(&format!("{query} WHERE canonical_symbol = '{symbol}'")).remove(0)
    };
    let before = shown("BTC");
    assert_eq!(before[0].as_deref(), Some("paused"));
    assert_eq!(shown("AAPL")[..2], [Some("running".to_owned()), None]);
    bench.run(store.write_assets(&[update("BTC", "paused", Some(60))])).unwrap();
    let after = shown("BTC");
    assert_ne!(after[1], before[1], "a newer bar shows");
    assert_eq!(after[2], before[2], "and does not pass for a change");
    bench.run(store.write_assets(&[update("BTC", "paused", None)])).unwrap();
    assert_eq!(shown("BTC"), after, "no news, no change");

    let old = "UPDATE data_ingest_state SET updated_at = '2020-01-01 00:00:00+00'";
    bench.sql(old);
    bench.sql("UPDATE data_ingest_state SET notes = 'still' WHERE canonical_symbol = 'BTC'");
    assert_now(bench.run(store.read_assets()).unwrap()[0].updated_at.unwrap());
    bench.sql(old);
    bench.sql("UPDATE data_ingest_state SET pause_fetch = true");
    let rows = bench.run(store.read_assets()).unwrap();
    let symbols: Vec<_> = rows.iter().map(|row| row.canonical_symbol.as_str()).collect();
    assert_eq!(symbols, ["AAPL", "BTC"]);
    assert_now(rows[0].updated_at.unwrap());
    assert_eq!(rows[1].updated_at.unwrap().to_string(), "2020-01-01T00:00:00Z", "it was paused before");

    bench.sql("UPDATE data_ingest_state SET pause_fetch = false");
    let many: Vec<_> = (0..1000).map(|n| update(&format!("S{n}"), "running", Some(n))).collect();
    let start = Instant::now();
    bench.run(store.write_assets(&many)).unwrap();
    eprintln!("1000 assets took {:?}", start.elapsed());
    assert_eq!(bench.run(store.read_assets()).unwrap(), []);
    let count = bench.sql("SELECT CAST(count(*) AS TEXT) FROM data_ingest_state");
    assert_eq!(count, [[Some("1002".to_owned())]]);
    let twice = [update("BTC", "running", Some(1)), update("BTC", "paused", None)];
    bench.run(store.write_assets(&twice)).unwrap();
    assert_eq!(shown("BTC")[0].as_deref(), Some("paused"), "of two in one call the later stands");
}

#[test]
fn sqlite_rows_of_assets_are_kept_up_and_operators_columns_left_alone() {
    let bench = Bench::sqlite();
    assets(&bench);
    // `sqlite::rows` panics on an error; a word in quotes is one, as it would never pause anything.
    let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        bench.sql("UPDATE data_ingest_state SET pause_fetch = 'yes' WHERE canonical_symbol = 'BTC'")
    }));
    assert!(refused.is_err(), "what is neither true nor false is refused, not ignored");
}

#[test]
fn postgres_rows_of_assets_are_kept_up_and_operators_columns_left_alone() {
    let Some(bench) = Bench::postgres() else { return };
    assets(&bench);
}

fn quotes(bench: &Bench) {
    let store = bench.store();
    let quote = |symbol: &str, bid: f64| QuoteDocument {
        symbol: symbol.into(),
        source: "alpaca",
        ts: at(0),
        bid: Some(bid),
        ask: None,
        bid_size: 1.5,
        ask_size: 0.0,
        price: None,
        last_trade_price: Some(0.1),
    };
    let written = bench.run(store.write_quotes(&[quote("BTC/USD", 1.0), quote("AAPL", 2.0)], None)).unwrap();
    assert_eq!(written, [Ok(()), Ok(())]);
    // Two symbols, one id: the later one stands, and the batch is not lost.
    let written =
        bench.run(store.write_quotes(&[quote("BTC/USD", 3.0), quote("BTC-USD", 4.0)], None)).unwrap();
    assert_eq!(written, [Ok(()), Ok(())]);
    let rows = bench.sql(
        "SELECT id, symbol, CAST(CAST(bid AS INTEGER) AS TEXT), ask, price FROM live_quotes ORDER BY id",
    );
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        rows,
        [
            [text("AAPL"), text("AAPL"), text("2"), None, None],
            [text("BTC-USD"), text("BTC-USD"), text("4"), None, None],
        ]
    );
}

#[test]
fn sqlite_quotes_are_kept_newest_per_symbol() {
    quotes(&Bench::sqlite());
}

#[test]
fn postgres_quotes_are_kept_newest_per_symbol() {
    let Some(bench) = Bench::postgres() else { return };
    quotes(&bench);
}

/// The statements of the guide to pausing an asset; for `NOW()` SQLite says `datetime('now')`.
#[test]
fn sqlite_statements_of_the_per_asset_guide_work_but_for_the_name_of_the_clock() {
    let bench = Bench::sqlite();
    let store = bench.store();
    bench.sql(
        "INSERT INTO data_ingest_state(canonical_symbol, timeframe) VALUES ('AUDNZD', '1m'), ('AUDNZD', 'quotes'),
             ('BTC', '1m')",
    );
    let switch = |flag: &str, word: &str| {
        bench.sql(&format!(
            "UPDATE data_ingest_state
             SET pause_fetch = {flag},
                 notes = 'Data fetching {word} by user on ' || datetime('now'),
                 updated_at = datetime('now')
             WHERE canonical_symbol = 'AUDNZD'"
        ))
    };
    switch("true", "PAUSED");
    let rows = bench.run(store.read_assets()).unwrap();
    let timeframes: Vec<_> = rows.iter().map(|row| row.timeframe.as_str()).collect();
    assert_eq!(timeframes, ["1m", "quotes"], "all timeframes");
    assert!(rows[0].notes.as_ref().unwrap().starts_with("Data fetching PAUSED by user on 2"));
    assert_now(rows[0].updated_at.unwrap());
    let count = "SELECT CAST(COUNT(DISTINCT canonical_symbol) AS TEXT) as paused_assets
                 FROM data_ingest_state WHERE pause_fetch = true";
    assert_eq!(bench.sql(count), [[Some("1".to_owned())]]);
    let monitoring =
        "SELECT canonical_symbol, timeframe, status, pause_fetch, notes, updated_at, last_bar_ts_utc
                      FROM data_ingest_state WHERE pause_fetch = true ORDER BY updated_at DESC";
    assert_eq!(bench.sql(monitoring).len(), 2);
    let plan = bench.sql(&format!("EXPLAIN QUERY PLAN {count}"));
    assert!(format!("{plan:?}").contains("idx_data_ingest_state_pause_fetch"), "{plan:?}");
    switch("false", "RESUMED");
    assert_eq!(bench.run(store.read_assets()).unwrap(), []);
    bench.sql(
        "CREATE INDEX IF NOT EXISTS idx_data_ingest_state_pause_fetch
         ON data_ingest_state(pause_fetch)
         WHERE pause_fetch = true",
    );
}
