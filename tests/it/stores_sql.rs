//! The SQL stores: control document, history and fleet, written by us and by anybody's SQL.

mod assets;
mod bench;
mod postgres;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bench::{Bench, Database};
use e2e::postgres::Postgres;
use ingest_status::{Heartbeat, Timestamp};
use market_ingest::config::StoreConfig;
use market_ingest::control::{ControlHold, ControlReading, Edit, PauseRequest, pause};
use market_ingest::history::PauseRecord;
use market_ingest::store::{Observed, Store};
use tokio::runtime::Runtime;

fn at(second: i64) -> Timestamp {
    Timestamp::from_microseconds(1_790_000_000_123_456 + second * 1_000_000).unwrap()
}

fn hold(scope: &str) -> ControlHold {
    ControlHold {
        scope: scope.parse().unwrap(),
        reason: Some("O'Brien \"said\" so — ¿qué?".to_owned()),
        actor: Some("ann".to_owned()),
        since: Some(at(0)),
        until: Some(at(60)),
    }
}

fn place(id: &str, hold: ControlHold) -> Edit {
    Edit::Place { id: id.to_owned(), hold }
}

fn release(id: &str) -> Edit {
    Edit::Release { id: id.to_owned() }
}

fn beat(seq: u64) -> Heartbeat {
    let text = format!(
        r#"{{"status":"paused","ts":"{}","ingest_enabled":false,"ingest_enabled_source":"control:x",
             "last_symbol":"BTC/USD","seq":{seq},"interval_s":15.0}}"#,
        at(0)
    );
    serde_json::from_str(&text).unwrap()
}

/// Whatever the store's clock says must be about now: all run on this machine.
#[track_caller]
fn assert_now(time: Timestamp) {
    let off = (time.as_microseconds() - e2e::now_us()).abs();
    assert!(off < 5_000_000, "{time} is {off} us away from now");
}

fn control_round_trip(bench: &Bench) {
    let store = bench.store();
    assert_eq!(bench.run(store.read_control()).unwrap(), None, "nobody ever wrote one");
    assert_eq!(bench.edit(&store, vec![]), 0);
    assert_eq!(bench.run(store.read_control()).unwrap(), None, "no edits write nothing");

    assert_eq!(bench.edit(&store, vec![place("a", hold("symbol:BTC*/quotes")), place("b", hold("all"))]), 2);
    let bare = ControlHold { reason: None, actor: None, until: None, ..hold("job:iex") };
    assert_eq!(bench.edit(&store, vec![place("b", bare.clone()), release("a")]), 4);
    let read = bench.control(&store);
    assert_eq!(read.generation, Some(4));
    assert_eq!(read.garbled, None);
    assert_eq!(read.holds, BTreeMap::from([("b".to_owned(), Ok(bare))]));

    assert_eq!(bench.edit(&store, vec![place("c", hold("symbol:BTC*/quotes"))]), 5);
    let read = bench.control(&store);
    assert_eq!(
        read.holds["c"],
        Ok(hold("symbol:BTC*/quotes")),
        "to the microsecond, whatever is in the text"
    );

    let refused = bench.run(store.edit_control(|read| Err::<Vec<Edit>, _>(read.holds.len()))).unwrap();
    assert_eq!(refused.unwrap_err(), 2, "a refusal saw what stands");
    assert_eq!(bench.control(&store).generation, Some(5), "and wrote nothing");

    let other = bench.tenant(Some("acme"));
    assert_eq!(bench.run(other.read_control()).unwrap(), None);
    assert_eq!(bench.edit(&other, vec![place("b", hold("all"))]), 1);
    assert_eq!(bench.control(&store).generation, Some(5), "tenants do not see each other");
    assert_eq!(bench.edit(&store, vec![release("b"), release("c")]), 7);
    let read = bench.control(&store);
    assert_eq!((read.generation, read.holds.len()), (Some(7), 0), "the count outlives the holds");
}

#[test]
fn sqlite_control_document_reads_back_and_counts_every_edit() {
    control_round_trip(&Bench::sqlite());
}

#[test]
fn postgres_control_document_reads_back_and_counts_every_edit() {
    let Some(bench) = Bench::postgres() else { return };
    control_round_trip(&bench);
}

fn plain_sql_edits(bench: &Bench) {
    let store = bench.store();
    assert_eq!(bench.run(store.read_control()).unwrap(), None, "but there are tables");
    bench.sql("INSERT INTO market_ingest_hold (id, scope) VALUES ('by-hand', 'symbol:BTC')");
    let read = bench.control(&store);
    assert_eq!(read.generation, Some(1));
    let placed = read.holds["by-hand"].clone().unwrap();
    assert_now(placed.since.unwrap());
    assert_eq!((placed.scope.to_string().as_str(), placed.until), ("symbol:BTC", None));

    bench.sql(
        "INSERT INTO market_ingest_hold (id, scope, since) VALUES ('x', 'job:iex', NULL), ('y', 'all', NULL)",
    );
    let read = bench.control(&store);
    assert_eq!(read.generation, Some(3), "one for each row");
    assert_eq!(read.holds["x"].clone().unwrap().since, None);

    bench.sql("UPDATE market_ingest_hold SET reason = 'why not' WHERE id IN ('x', 'y')");
    bench.sql("UPDATE market_ingest_hold SET reason = 'nobody' WHERE id = 'z'");
    assert_eq!(bench.control(&store).generation, Some(5));
    bench.sql("UPDATE market_ingest_hold SET tenant = 'acme' WHERE id = 'y'");
    assert_eq!(bench.control(&store).generation, Some(6), "taken away here");
    assert_eq!(bench.control(&bench.tenant(Some("acme"))).generation, Some(1), "and placed there");
    bench.sql("DELETE FROM market_ingest_hold WHERE tenant = ''");
    let read = bench.control(&store);
    assert_eq!((read.generation, read.holds.len()), (Some(8), 0));
}

#[test]
fn sqlite_plain_sql_on_a_hold_counts_as_an_edit() {
    let bench = Bench::sqlite();
    plain_sql_edits(&bench);
    let store = bench.store();
    for _ in 0..2 {
        bench.sql("INSERT OR REPLACE INTO market_ingest_hold (id, scope) VALUES ('r', 'all')");
    }
    assert_eq!(bench.control(&store).generation, Some(10), "OR REPLACE does not begin to count anew");
}

#[test]
fn postgres_plain_sql_on_a_hold_counts_as_an_edit() {
    let Some(bench) = Bench::postgres() else { return };
    plain_sql_edits(&bench);
}

fn garbage_beside_good(bench: &Bench, garbage: &[&str]) {
    let store = bench.store();
    bench.edit(&store, vec![place("good", hold("all"))]);
    for values in garbage {
        bench.sql(&format!("INSERT INTO market_ingest_hold (id, scope, since, until) VALUES {values}"));
    }
    let read = bench.control(&store);
    assert_eq!(read.generation, Some(1 + i64::try_from(garbage.len()).unwrap()));
    assert_eq!(read.holds.len(), 1 + garbage.len());
    assert_eq!(read.holds["good"], Ok(hold("all")));
    for (id, found) in read.holds.iter().filter(|(id, _)| *id != "good") {
        let sentence = found.as_ref().expect_err(id);
        assert!(sentence.contains("accepted") && sentence.len() < 400, "{sentence}");
    }
    bench.edit(&store, read.holds.keys().map(|id| release(id)).collect());
    assert_eq!(bench.control(&store).holds.len(), 0, "garbage can be released by its id");
}

#[test]
fn sqlite_garbage_in_a_hold_is_told_in_its_place() {
    let bench = Bench::sqlite();
    garbage_beside_good(
        &bench,
        &[
            "('scope', 'everything', NULL, NULL)",
            "('empty', '', NULL, NULL)",
            "('since', 'all', 'yesterday', NULL)",
            "('until', 'all', NULL, '2026-11-30')",
            "('number', 'all', NULL, 5)",
            "('encoding', CAST(x'ff00fe' AS TEXT), NULL, NULL)",
            "('long', printf('%.*c', 100000, 'x'), NULL, NULL)",
        ],
    );
    bench.sql("INSERT INTO market_ingest_hold (id, scope, until) VALUES ('soon', 'all', datetime('now', '+30 minutes'))");
    let read = bench.control(&bench.store());
    let until = read.holds["soon"].clone().unwrap().until.unwrap();
    let minutes = (until.as_microseconds() - e2e::now_us()) / 60_000_000;
    assert!((28..=30).contains(&minutes), "SQLite's own way to say in half an hour, not {minutes} min");
}

#[test]
fn postgres_garbage_in_a_hold_is_told_in_its_place() {
    let Some(bench) = Bench::postgres() else { return };
    garbage_beside_good(
        &bench,
        &[
            "('scope', 'everything', NULL, NULL)",
            "('empty', '', NULL, NULL)",
            "('since', 'all', '-infinity', NULL)",
            "('until', 'all', NULL, '294000-01-01')",
            "('before', 'all', '0044-03-15 BC', NULL)",
            "('long', repeat('x', 100000), NULL, NULL)",
        ],
    );
    bench.sql("INSERT INTO market_ingest_hold (id, scope, until) VALUES ('ever', 'all', 'infinity')");
    bench.sql(
        "INSERT INTO market_ingest_hold (id, scope, until) VALUES ('soon', 'all', now() + '30 minutes')",
    );
    let read = bench.control(&bench.store());
    assert_eq!(read.holds["ever"].clone().unwrap().until, None);
    let until = read.holds["soon"].clone().unwrap().until.unwrap();
    let minutes = (until.as_microseconds() - e2e::now_us()) / 60_000_000;
    assert!((28..=30).contains(&minutes), "not {minutes} min");
}

/// Three programs, each with its own connections, place twenty holds each: one by one, and all at once.
fn three_writers(bench: &Bench) {
    let edits = 20;
    let start = Instant::now();
    bench.run(async {
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..3 {
            let config = bench.config.clone();
            writers.spawn(async move {
                let store = Store::connect(&config, None).await.unwrap();
                let mut seen = Vec::new();
                for n in 0..edits {
                    let request = PauseRequest {
                        scopes: vec![format!("symbol:W{writer}N{n}").parse().unwrap()],
                        reason: None,
                        actor: Some(format!("writer-{writer}")),
                        until: None,
                    };
                    let decide = |read: &ControlReading| Ok::<_, ()>(pause(read, &request, at(0)));
                    let edited = store.edit_control(decide).await.unwrap().unwrap();
                    assert_eq!(edited.edits.len(), 1);
                    seen.push(edited.generation);
                }
                seen
            });
        }
        let mut seen = writers.join_all().await.concat();
        seen.sort_unstable();
        assert_eq!(seen, (1..=3 * edits).collect::<Vec<i64>>(), "every edit has a generation of its own");
    });
    let read = bench.control(&bench.store());
    assert_eq!(read.generation, Some(3 * edits));
    assert_eq!(read.holds.len(), 60, "no hold is lost");
    assert!(read.holds.values().all(Result::is_ok));
    eprintln!("3 x 20 edits took {:?}", start.elapsed());
}

#[test]
fn sqlite_three_operators_at_once_lose_nothing() {
    three_writers(&Bench::sqlite());
}

#[test]
fn postgres_three_operators_at_once_lose_nothing() {
    let Some(bench) = Bench::postgres() else { return };
    three_writers(&bench);
}

/// Programs that open the same new database at the same time.
fn opened_at_once(bench: &Bench) {
    bench.run(async {
        let mut programs = tokio::task::JoinSet::new();
        for _ in 0..6 {
            let config = bench.config.clone();
            programs.spawn(async move {
                let store = Store::connect(&config, None).await.unwrap();
                store.write_heartbeat(&beat(1)).await.unwrap();
                store.read_control().await.unwrap()
            });
        }
        assert_eq!(programs.join_all().await, vec![None; 6]);
    });
}

#[test]
fn sqlite_opened_by_many_at_once_is_migrated_once() {
    for _ in 0..10 {
        opened_at_once(&Bench::sqlite());
    }
}

#[test]
fn postgres_opened_by_many_at_once_is_migrated_once() {
    let Some(bench) = Bench::postgres() else { return };
    opened_at_once(&bench);
}

fn history_round_trip(bench: &Bench) {
    let store = bench.store();
    assert_eq!(bench.run(store.read_pauses(10)).unwrap(), []);
    let record = |n: i64| PauseRecord {
        id: format!("2026-{n}"),
        scope: "symbol:BTC*".to_owned(),
        source: "control:x".to_owned(),
        reason: Some("why".to_owned()),
        actor: None,
        paused_at: at(n),
        effective_at: None,
        resumed_at: None,
        duration_s: None,
        messages_drained: 0,
        gap_ids: Vec::new(),
    };
    for n in 1..=3 {
        bench.run(store.write_pause(&record(n))).unwrap();
    }
    let over = PauseRecord {
        effective_at: Some(at(4)),
        resumed_at: Some(at(9)),
        duration_s: Some(7.25),
        messages_drained: 12,
        gap_ids: vec!["g1".to_owned(), "g\"2".to_owned()],
        ..record(2)
    };
    bench.run(store.write_pause(&over)).unwrap();
    assert_eq!(bench.run(store.read_pauses(10)).unwrap(), [record(3), over.clone(), record(1)]);
    assert_eq!(bench.run(store.read_pauses(2)).unwrap(), [record(3), over]);
    assert_eq!(bench.run(bench.tenant(Some("acme")).read_pauses(10)).unwrap(), []);
}

#[test]
fn sqlite_history_reads_back_newest_first() {
    let bench = Bench::sqlite();
    history_round_trip(&bench);
    bench.sql("UPDATE market_ingest_history SET paused_at = 'once upon a time' WHERE id = '2026-3'");
    let ids = bench.run(bench.store().read_pauses(10)).unwrap().into_iter().map(|record| record.id);
    assert_eq!(ids.collect::<Vec<_>>(), ["2026-2", "2026-1"], "one broken row costs no other");
}

#[test]
fn postgres_history_reads_back_newest_first() {
    let Some(bench) = Bench::postgres() else { return };
    history_round_trip(&bench);
}

/// The tenants' heartbeats; `garble` makes that of the tenant `broken` one that cannot be understood.
fn fleet(bench: &Bench, garble: &str) {
    let store = bench.store();
    let nothing: Observed = bench.run(store.observe()).unwrap();
    assert!(nothing.heartbeat.is_none());
    assert_now(nothing.read_at);
    assert_eq!(bench.run(store.read_heartbeat()).unwrap(), None);
    assert!(bench.run(store.fleet()).unwrap().is_empty());

    for (tenant, seq) in [(None, 1), (Some("acme"), 2), (Some("broken"), 3)] {
        bench.run(bench.tenant(tenant).write_heartbeat(&beat(seq))).unwrap();
    }
    bench.run(store.write_heartbeat(&beat(9))).unwrap();
    bench.sql(garble);
    let found = bench.run(store.fleet()).unwrap();
    let tenants: Vec<_> = found.iter().map(|observed| observed.tenant.as_deref()).collect();
    assert_eq!(tenants, [None, Some("acme"), Some("broken")]);
    let seqs: Vec<_> =
        found.iter().map(|o| o.heartbeat.as_ref().unwrap().as_ref().ok().map(|beat| beat.seq)).collect();
    assert_eq!(seqs, [Some(9), Some(2), None], "one broken heartbeat costs no other");

    let own = bench.run(store.observe()).unwrap();
    let read = own.heartbeat.unwrap().unwrap();
    assert_now(own.read_at);
    assert_now(read.updated_at.unwrap());
    assert_eq!(read, Heartbeat { updated_at: read.updated_at, ..beat(9) });
    let broken = bench.tenant(Some("broken"));
    assert!(bench.run(broken.observe()).unwrap().heartbeat.unwrap().is_err());
    assert!(bench.run(broken.read_heartbeat()).is_err());
}

#[test]
fn sqlite_fleet_shows_every_tenant() {
    fleet(
        &Bench::sqlite(),
        "UPDATE market_ingest_heartbeat SET document = x'ff', updated_at = 'late' WHERE tenant = 'broken'",
    );
}

#[test]
fn postgres_fleet_shows_every_tenant() {
    let Some(bench) = Bench::postgres() else { return };
    fleet(&bench, "UPDATE market_ingest_heartbeat SET document = '{\"status\": 7}' WHERE tenant = 'broken'");
}

#[test]
fn sqlite_locked_by_somebody_else_still_tells_the_control_document() {
    let bench = Bench::sqlite();
    let store = bench.store();
    bench.edit(&store, vec![place("a", hold("all"))]);
    let Database::Sqlite { path, .. } = &bench.database else { unreachable!("as made above") };
    let lock = e2e::sqlite::Lock::hold(path);
    bench.run(async {
        let start = Instant::now();
        let beat = beat(1);
        let write = store.write_heartbeat(&beat);
        let read = store.read_control();
        let (write, (read, after)) = tokio::join!(write, async { (read.await, start.elapsed()) });
        assert!(write.is_err(), "locked");
        assert!(read.unwrap().is_some());
        assert!(after < Duration::from_secs(1), "reading waited {after:?} for the writer");
        assert!(start.elapsed() < Duration::from_secs(5));
    });
    drop(lock);
    bench.run(store.write_heartbeat(&beat(2))).unwrap();
}
