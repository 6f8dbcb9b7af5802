//! What only PostgreSQL can do: tell of changes, be away and come back, be shared by roles with few rights.

use super::*;

use e2e::postgres::{DATABASE, PASSWORD};
use market_ingest::store::StoreError;
use tokio::sync::Notify;
use tokio::time::timeout;

/// The longest that any call may take, with some room for a busy machine.
const CALL_LIMIT: Duration = Duration::from_secs(6);

/// Follows in the background; what it tells, and the task.
fn follow(bench: &Bench, store: &Store) -> Arc<Notify> {
    let changed = Arc::new(Notify::new());
    let (store, told) = (store.clone(), Arc::clone(&changed));
    drop(bench.runtime.spawn(async move { store.follow_control(&told).await }));
    changed
}

#[track_caller]
fn assert_told(bench: &Bench, changed: &Notify, what: &str, limit: Duration) {
    let start = Instant::now();
    let told = bench.run(async { timeout(limit, changed.notified()).await });
    assert!(told.is_ok(), "not told of {what} within {limit:?}");
    eprintln!("told of {what} after {:?}", start.elapsed());
}

#[test]
fn a_change_by_psql_is_told_within_a_second() {
    let Some(bench) = Bench::postgres() else { return };
    let second = Duration::from_secs(1);
    let store = bench.tenant(Some("acme"));
    let changed = follow(&bench, &store);
    assert_told(&bench, &changed, "the beginning", CALL_LIMIT);
    // Creates the tables.
    assert!(bench.run(store.read_assets()).unwrap().is_empty());
    for (statement, what) in [
        ("INSERT INTO market_ingest_hold (tenant, id, scope) VALUES ('acme', 'h', 'all')", "a hold"),
        ("UPDATE market_ingest_hold SET until = now() WHERE id = 'h'", "its end"),
        ("DELETE FROM market_ingest_hold", "its release"),
        (
            "INSERT INTO data_ingest_state (canonical_symbol, timeframe, pause_fetch) VALUES ('BTC', '1m', true)",
            "BTC",
        ),
        ("UPDATE data_ingest_state SET pause_fetch = false", "BTC's release"),
        ("UPDATE data_ingest_state SET pause_fetch = true", "BTC again"),
        ("DELETE FROM data_ingest_state", "BTC's end"),
    ] {
        bench.sql(statement);
        assert_told(&bench, &changed, what, second);
    }
}

#[test]
fn only_a_changed_pause_is_told() {
    let Some(bench) = Bench::postgres() else { return };
    bench.run(bench.store().read_assets()).unwrap();
    let Database::Postgres { cluster, name } = &bench.database else { unreachable!("as made above") };
    let script =
        |lines: &str| cluster.psql(name, &format!("LISTEN market_ingest_control;\n{lines}\nSELECT 1;"));
    let told = |printed: &str| printed.matches("Asynchronous notification").count();
    let quiet = script(
        "INSERT INTO data_ingest_state (canonical_symbol, timeframe) VALUES ('BTC', '1m');
         UPDATE data_ingest_state SET status = 'running', last_bar_ts_utc = now();
         UPDATE data_ingest_state SET notes = 'x', pause_fetch = false;
         UPDATE market_ingest_hold SET reason = 'nobody';",
    );
    assert_eq!(told(&quiet), 0, "{quiet}");
    let loud = script(
        "UPDATE data_ingest_state SET pause_fetch = true;
         UPDATE data_ingest_state SET notes = 'y', pause_fetch = true;
         UPDATE data_ingest_state SET timeframe = 'quotes';",
    );
    assert_eq!(told(&loud), 2, "{loud}");
}

/// Everything that the service asks of its store, as it would: all at once.
async fn every_call(store: &Store) -> Vec<Result<(), StoreError>> {
    let beat = beat(1);
    let decide = |_: &ControlReading| Ok::<_, ()>(vec![place("a", hold("all"))]);
    let (a, b, c, d, e, f, g) = tokio::join!(
        store.write_heartbeat(&beat),
        async { store.read_control().await.map(drop) },
        async { store.edit_control(decide).await.map(drop) },
        async { store.read_pauses(5).await.map(drop) },
        async { store.observe().await.map(drop) },
        async { store.fleet().await.map(drop) },
        async { store.read_assets().await.map(drop) },
    );
    vec![a, b, c, d, e, f, g]
}

#[track_caller]
fn assert_all_fail_in_time(bench: &Bench, store: &Store) {
    let start = Instant::now();
    for answer in bench.run(every_call(store)) {
        let error = answer.expect_err("the server is away");
        let text = format!("{} {error:?}", market_ingest::logging::chain(&error));
        assert!(!text.contains(PASSWORD), "{text}");
    }
    assert!(start.elapsed() < CALL_LIMIT, "calls took {:?}", start.elapsed());
}

/// At most one call may still fail for a connection that was open before.
#[track_caller]
fn assert_all_work(bench: &Bench, store: &Store) {
    let _ = bench.run(store.read_control());
    for answer in bench.run(every_call(store)) {
        answer.unwrap();
    }
}

#[test]
fn a_server_that_dies_and_comes_back_is_used_again() {
    let Some(mut cluster) = Postgres::start() else { return };
    let config = StoreConfig::Postgres(cluster.url(DATABASE).into());
    let bench = |cluster| Bench {
        runtime: Runtime::new().unwrap(),
        config,
        database: Database::Postgres { cluster: Arc::new(cluster), name: DATABASE.to_owned() },
    };

    // Away at the start.
    cluster.kill();
    let mut bench = bench(cluster);
    let store = bench.store();
    assert_all_fail_in_time(&bench, &store);
    let changed = follow(&bench, &store);

    restart(&mut bench);
    assert_told(&bench, &changed, "the server's first start", Duration::from_secs(10));
    assert_all_work(&bench, &store);
    assert_told(&bench, &changed, "an edit", Duration::from_secs(1));

    // Killed in the middle.
    kill(&mut bench);
    assert_all_fail_in_time(&bench, &store);
    restart(&mut bench);
    assert_told(&bench, &changed, "the server's return", Duration::from_secs(10));
    assert_all_work(&bench, &store);
    bench.sql("INSERT INTO market_ingest_hold (id, scope) VALUES ('by-hand', 'all')");
    assert_told(&bench, &changed, "a hold after its return", Duration::from_secs(1));
    assert_eq!(bench.control(&store).holds.len(), 2, "what was committed survived");
}

fn cluster(bench: &mut Bench) -> &mut Postgres {
    let Database::Postgres { cluster, .. } = &mut bench.database else { unreachable!("PostgreSQL only") };
    Arc::get_mut(cluster).expect("nobody shares it")
}

fn kill(bench: &mut Bench) {
    cluster(bench).kill();
}

fn restart(bench: &mut Bench) {
    cluster(bench).restart();
}

#[test]
fn a_server_that_freezes_costs_its_calls_and_no_later_ones() {
    let Some(frozen) = Postgres::start() else { return };
    let bench = Bench {
        runtime: Runtime::new().unwrap(),
        config: StoreConfig::Postgres(frozen.url(DATABASE).into()),
        database: Database::Postgres { cluster: Arc::new(frozen), name: DATABASE.to_owned() },
    };
    let store = bench.store();
    assert_all_work(&bench, &store);
    let Database::Postgres { cluster, .. } = &bench.database else { unreachable!("as made above") };
    cluster.signal("STOP");
    assert_all_fail_in_time(&bench, &store);
    assert_all_fail_in_time(&bench, &store);
    cluster.signal("CONT");
    // Nothing to get over: what was given up holds neither places nor, for long, locks.
    let start = Instant::now();
    while bench.run(every_call(&store)).iter().any(Result::is_err) {
        assert!(start.elapsed() < Duration::from_secs(15), "the store does not come back");
    }
}

#[test]
fn a_wrong_password_is_an_error_that_does_not_tell_it() {
    let Some(bench) = Bench::postgres() else { return };
    let Database::Postgres { cluster, name } = &bench.database else { unreachable!("as made above") };
    let wrong = "correct-horse";
    let connect = |url: String| bench.run(Store::connect(&StoreConfig::Postgres(url.into()), None));
    let store = connect(cluster.url(name).replace(PASSWORD, wrong)).unwrap();
    let error = bench.run(store.read_control()).unwrap_err();
    let text = format!("{} {error:?} {store:?}", market_ingest::logging::chain(&error));
    assert!(text.contains("password authentication failed"), "{text}");
    assert!(!text.contains(wrong), "{text}");

    for url in ["postgres://u:correct-horse@h:port/d", "postgres://u:correct-horse@h/d?sslmode=correct"] {
        let error = connect(url.to_owned()).expect_err("no URL");
        let text = format!("{} {error:?}", market_ingest::logging::chain(&error));
        assert!(!text.contains(wrong), "{text}");
    }
}

#[test]
fn the_connection_is_as_private_as_its_url_says() {
    let Some(bench) = Bench::postgres() else { return };
    let Database::Postgres { cluster, name } = &bench.database else { unreachable!("as made above") };
    let open = |options: &str| {
        let url = format!("{}?{options}", cluster.url(name));
        bench.run(Store::connect(&StoreConfig::Postgres(url.into()), None)).unwrap()
    };
    let verified = format!("sslmode=verify-full&sslrootcert={}", cluster.certificate().display());
    for (options, private) in [("", "t"), ("sslmode=disable", "f"), (&verified, "t")] {
        let store = open(options);
        bench.run(store.read_control()).unwrap_or_else(|error| panic!("{options}: {error:?}"));
        let query = "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                     WHERE datname = current_database() AND application_name = 'market-ingest'";
        // The connection of the round before may take a moment to go.
        e2e::wait_for(options, Duration::from_secs(5), || {
            (bench.sql(query) == [[Some(private.to_owned())]]).then_some(())
        });
    }
    let store = open("sslmode=verify-full");
    let error = bench.run(store.read_control()).expect_err("nobody known vouches for it");
    assert!(market_ingest::logging::chain(&error).contains("UnknownIssuer"), "{error:?}");
}

#[test]
fn an_operator_needs_no_right_to_create_tables() {
    let Some(bench) = Bench::postgres() else { return };
    bench.run(bench.store().write_heartbeat(&beat(1))).unwrap();
    let Database::Postgres { cluster, name } = &bench.database else { unreachable!("as made above") };
    let role = format!("operator_of_{name}");
    cluster.psql_as(
        "postgres",
        name,
        &format!(
            "CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}';
             GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role};
             GRANT INSERT, UPDATE ON market_ingest_control TO {role};
             GRANT INSERT, UPDATE, DELETE ON market_ingest_hold TO {role};"
        ),
    );
    let config = StoreConfig::Postgres(cluster.url_as(&role, name).into());
    let store = bench.run(Store::attach(&config, None)).unwrap();
    assert_eq!(bench.edit(&store, vec![place("a", hold("all"))]), 1);
    assert!(bench.run(store.observe()).unwrap().heartbeat.is_some());
    assert!(bench.run(store.write_heartbeat(&beat(2))).is_err(), "it may not pass for the producer");
}

#[test]
fn what_text_cannot_hold_does_not_silence_the_heartbeat() {
    let Some(bench) = Bench::postgres() else { return };
    let store = bench.store();
    let nul = Heartbeat {
        ingest_enabled_source: Some("file:\0".to_owned()),
        last_symbol: Some("\0".to_owned()),
        instance_id: "a\0b\\u0000".to_owned(),
        ..beat(1)
    };
    bench.run(store.write_heartbeat(&nul)).unwrap();
    let read = bench.run(store.read_heartbeat()).unwrap().unwrap();
    assert!(read.instance_id.starts_with("a\u{fffd}b"), "{:?}", read.instance_id);
    let reason = ControlHold { reason: Some("a\0b".to_owned()), ..hold("all") };
    bench.edit(&store, vec![place("a", reason)]);
    assert_eq!(bench.control(&store).holds["a"].clone().unwrap().reason.as_deref(), Some("a\u{fffd}b"));
}

/// The statements of the guide to pausing an asset, as they stand there.
#[test]
fn the_statements_of_the_per_asset_guide_work_as_written() {
    let Some(bench) = Bench::postgres() else { return };
    let store = bench.store();
    bench.run(store.read_assets()).unwrap();
    let Database::Postgres { cluster, name } = &bench.database else { unreachable!("as made above") };
    let psql = |script: &str| cluster.psql(name, script);
    psql(
        "INSERT INTO data_ingest_state(canonical_symbol, timeframe) VALUES ('AUDNZD', '1m'), ('AUDNZD', 'quotes'),
             ('BTC', '1m');",
    );
    let paused = || -> Vec<(String, String)> {
        let rows = bench.run(store.read_assets()).unwrap();
        rows.into_iter().map(|row| (row.canonical_symbol, row.timeframe)).collect()
    };
    assert_eq!(paused(), []);

    psql(
        "UPDATE data_ingest_state 
SET pause_fetch = true,
    notes = 'Data fetching PAUSED by user on ' || NOW()::text,
    updated_at = NOW()
WHERE canonical_symbol = 'AUDNZD';",
    );
    let audnzd = |timeframe: &str| ("AUDNZD".to_owned(), timeframe.to_owned());
    assert_eq!(paused(), [audnzd("1m"), audnzd("quotes")], "all timeframes");

    let status = psql(
        "SELECT canonical_symbol, timeframe, status, pause_fetch, notes, updated_at
FROM data_ingest_state
WHERE pause_fetch = true
ORDER BY canonical_symbol, timeframe;",
    );
    assert!(status.contains("Data fetching PAUSED by user on 2") && status.contains("(2 rows)"), "{status}");
    let monitoring = psql(
        "SELECT 
  canonical_symbol,
  timeframe,
  status,
  pause_fetch,
  notes,
  updated_at,
  last_bar_ts_utc
FROM data_ingest_state
WHERE pause_fetch = true
ORDER BY updated_at DESC;",
    );
    assert!(monitoring.contains("last_bar_ts_utc") && monitoring.contains("(2 rows)"), "{monitoring}");
    let count = psql(
        "SELECT COUNT(DISTINCT canonical_symbol) as paused_assets
FROM data_ingest_state
WHERE pause_fetch = true;",
    );
    assert!(count.contains("paused_assets") && count.contains(" 1\n"), "{count}");

    psql(
        "UPDATE data_ingest_state 
SET pause_fetch = false,
    notes = 'Data fetching RESUMED by user on ' || NOW()::text,
    updated_at = NOW()
WHERE canonical_symbol = 'AUDNZD';",
    );
    assert_eq!(paused(), []);
    assert!(psql("SELECT notes FROM data_ingest_state;").contains("RESUMED by user on 2"));

    psql(
        "ALTER TABLE data_ingest_state 
ADD COLUMN IF NOT EXISTS pause_fetch BOOLEAN NOT NULL DEFAULT false;

CREATE INDEX IF NOT EXISTS idx_data_ingest_state_pause_fetch 
ON data_ingest_state(pause_fetch) 
WHERE pause_fetch = true;",
    );
    let described = psql("\\d data_ingest_state");
    assert!(described.contains("pause_fetch      | boolean"), "{described}");
    assert!(
        described
            .contains("\"idx_data_ingest_state_pause_fetch\" btree (pause_fetch) WHERE pause_fetch = true")
    );
}

/// A database that had the table from elsewhere, as its guide's migration found it.
#[test]
fn a_table_of_before_it_could_pause_is_taken_over() {
    let Some(bench) = Bench::postgres() else { return };
    bench.sql(
        "CREATE TABLE data_ingest_state (canonical_symbol text, timeframe text, status text, notes text,
             updated_at timestamptz, last_bar_ts_utc timestamptz, PRIMARY KEY (canonical_symbol, timeframe))",
    );
    bench.sql("INSERT INTO data_ingest_state VALUES ('BTC', '1m', 'active', 'theirs')");
    let store = bench.store();
    assert_eq!(bench.run(store.read_assets()).unwrap(), []);
    bench.sql("UPDATE data_ingest_state SET pause_fetch = true WHERE canonical_symbol = 'BTC'");
    let rows = bench.run(store.read_assets()).unwrap();
    assert_eq!(rows[0].notes.as_deref(), Some("theirs"));
}
