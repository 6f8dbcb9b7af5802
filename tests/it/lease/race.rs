//! The lease itself, in every store: one winner, exact epochs, and no write under an epoch that is over.

use std::time::Duration;

use e2e::firestore::{Firestore, PROJECT};
use e2e::postgres::{DATABASE, Postgres};
use e2e::wait_for;
use ingest_status::{Heartbeat, Timestamp};
use market_ingest::config::StoreConfig;
use market_ingest::store::{QuoteDocument, Renewal, Store, StoreError, Taking};
use serde_json::json;
use tokio::runtime::Runtime;

const TTL: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(400);
const LIMIT: Duration = Duration::from_secs(10);

/// All of these at once, each by a connection of its own.
fn race(runtime: &Runtime, stores: &[(String, Store)]) -> Vec<(String, Taking)> {
    let tries: Vec<_> = stores
        .iter()
        .cloned()
        .map(|(name, store)| {
            runtime.spawn(async move {
                let taking = store.take_lease(&name, TTL).await.unwrap();
                (name, taking)
            })
        })
        .collect();
    tries.into_iter().map(|task| runtime.block_on(task).unwrap()).collect()
}

/// The one that has it, with its epoch; all others were told so.
fn winner(outcomes: Vec<(String, Taking)>) -> (String, i64) {
    let mut winners = Vec::new();
    let mut told = Vec::new();
    for (name, taking) in outcomes {
        match taking {
            Taking::Taken { epoch } => winners.push((name, epoch)),
            Taking::Held(lease) => told.push((lease.holder, lease.epoch)),
        }
    }
    assert_eq!(winners.len(), 1, "{winners:?}");
    let winner = winners.remove(0);
    assert!(told.iter().all(|told| *told == winner), "{told:?}, won by {winner:?}");
    winner
}

fn beat(epoch: i64) -> Heartbeat {
    serde_json::from_value(json!({"status": "running", "ts": "2026-01-01T00:00:00Z", "ingest_enabled": true,
                                  "ingest_enabled_source": null, "last_symbol": null, "epoch": epoch}))
    .unwrap()
}

fn quote() -> QuoteDocument {
    QuoteDocument {
        symbol: "AAPL".into(),
        source: "alpaca",
        ts: Timestamp::from_nanoseconds(0),
        bid: Some(1.0),
        ask: None,
        bid_size: 1.0,
        ask_size: 0.0,
        price: None,
        last_trade_price: None,
    }
}

fn one_winner(config: &StoreConfig) {
    let runtime = Runtime::new().unwrap();
    let connect = || runtime.block_on(Store::connect(config, Some("acme"))).unwrap();
    let mut stores: Vec<_> = (0..8).map(|n| (format!("p{n}"), connect())).collect();
    let run = |store: &Store, holder: &str, ttl| runtime.block_on(store.take_lease(holder, ttl)).unwrap();
    let renew =
        |store: &Store, holder: &str, epoch| runtime.block_on(store.renew_lease(holder, epoch, TTL)).unwrap();

    let mut last = None;
    for epoch in 1..=4 {
        let (name, won) = winner(race(&runtime, &stores));
        assert_eq!(won, epoch, "one more each time the holder changes");
        let at = stores.iter().position(|(other, _)| *other == name).unwrap();
        let (name, store) = stores.remove(at);
        assert_eq!(run(&store, &name, TTL), Taking::Taken { epoch }, "its own again, and no new epoch");
        assert_eq!(renew(&store, &name, epoch), Renewal::Renewed);
        assert!(matches!(renew(&store, &name, epoch + 1), Renewal::Lost(lease) if lease.epoch == epoch));
        // Somebody else's release releases nothing.
        runtime.block_on(stores[0].1.release_lease(&stores[0].0)).unwrap();
        assert!(matches!(run(&stores[0].1, &stores[0].0, TTL), Taking::Held(lease) if lease.holder == name));
        runtime.block_on(store.release_lease(&name)).unwrap();
        last = Some((name, store));
    }

    // What was released is ours again as long as nobody has taken it.
    let (old, old_store) = last.unwrap();
    assert_eq!(run(&old_store, &old, SHORT), Taking::Taken { epoch: 4 });
    // It ends by itself.
    let (new, new_store) = &stores[0];
    assert!(matches!(run(new_store, new, TTL), Taking::Held(lease) if lease.holder == old));
    let epoch = wait_for("the end of the lease", LIMIT, || match run(new_store, new, TTL) {
        Taking::Taken { epoch } => Some(epoch),
        Taking::Held(lease) => {
            assert_eq!((lease.holder, lease.epoch), (old.clone(), 4));
            None
        }
    });
    assert_eq!(epoch, 5);
    let Renewal::Lost(by) = renew(&old_store, &old, 4) else { panic!("it is somebody else's") };
    assert_eq!((&by.holder, by.epoch), (new, 5));

    // Nothing is written over a later epoch.
    runtime.block_on(new_store.write_heartbeat(&beat(5))).unwrap();
    let late = runtime.block_on(old_store.write_heartbeat(&beat(4)));
    assert!(matches!(late, Err(StoreError::Fenced { epoch: 4 })), "{late:?}");
    runtime.block_on(new_store.write_heartbeat(&beat(5))).unwrap();
    assert_eq!(runtime.block_on(new_store.read_heartbeat()).unwrap().unwrap().epoch, Some(5));

    // Firestore's batches of independent writes cannot be fenced so.
    if !matches!(config, StoreConfig::Firestore { .. }) {
        let quotes = |epoch| runtime.block_on(old_store.write_quotes(&[quote()], epoch));
        assert!(matches!(quotes(Some(4)), Err(StoreError::Fenced { epoch: 4 })));
        assert_eq!(quotes(Some(5)).unwrap(), [Ok(())]);
    }

    // Tenants have leases of their own.
    let root = runtime.block_on(Store::connect(config, None)).unwrap();
    assert_eq!(run(&root, "p0", TTL), Taking::Taken { epoch: 1 });
}

#[test]
fn of_eight_that_ask_sqlite_one_wins_and_epochs_are_exact() {
    let folder = tempfile::tempdir().unwrap();
    one_winner(&StoreConfig::Sqlite(folder.path().join("store.db")));
}

#[test]
fn of_eight_that_ask_postgres_one_wins_and_epochs_are_exact() {
    let Some(cluster) = Postgres::start() else { return };
    one_winner(&StoreConfig::Postgres(cluster.url(DATABASE).into()));
}

#[test]
fn of_eight_that_ask_firestore_one_wins_and_epochs_are_exact() {
    let Some(firestore) = Firestore::start() else { return };
    one_winner(&StoreConfig::Firestore {
        project: PROJECT.to_owned(),
        emulator_host: Some(firestore.host()),
    });
}
