//! The operators' side of the Firestore store, on the real emulator: the control document in any state that it may
//! be found in, edits by several at once, its listener over the emulator's death, history and fleet.

mod listener;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use e2e::firestore::{Firestore, PROJECT, plain};
use e2e::now_us;
use ingest_status::{Heartbeat, Timestamp};
use market_ingest::config::StoreConfig;
use market_ingest::control::{ControlHold, ControlReading, Edit, PauseRequest, ResumeRequest, pause, resume};
use market_ingest::history::PauseRecord;
use market_ingest::store::Store;
use serde_json::{Value, json};

const CONTROL: &str = "ops/market_ingest_control";

async fn attach(host: String, tenant: Option<&str>) -> Store {
    let config = StoreConfig::Firestore { project: PROJECT.to_owned(), emulator_host: Some(host) };
    Store::attach(&config, tenant).await.unwrap()
}

fn at(us: i64) -> Timestamp {
    Timestamp::from_microseconds(us).unwrap()
}

fn hold(scope: &str) -> ControlHold {
    ControlHold {
        scope: scope.parse().unwrap(),
        reason: Some("test".to_owned()),
        actor: Some("ann".to_owned()),
        since: Some(at(1_700_000_000_123_456)),
        until: None,
    }
}

fn place(id: &str, scope: &str) -> Edit {
    Edit::Place { id: id.to_owned(), hold: hold(scope) }
}

fn release(id: &str) -> Edit {
    Edit::Release { id: id.to_owned() }
}

/// Makes these edits whatever is there; the generation after them.
async fn edit(store: &Store, edits: &[Edit]) -> i64 {
    let edited = store.edit_control(|_| Ok::<_, ()>(edits.to_vec())).await.unwrap().unwrap();
    assert_eq!(edited.edits, edits);
    edited.generation
}

async fn read(store: &Store) -> ControlReading {
    store.read_control().await.unwrap().unwrap()
}

fn fields(firestore: &Firestore, path: &str) -> Value {
    plain(&firestore.document(path).unwrap()["fields"])
}

#[tokio::test]
async fn a_hold_that_is_placed_is_read_back_and_released_at_the_root_and_for_a_tenant() {
    let Some(firestore) = Firestore::start() else { return };
    for (tenant, path) in [(None, CONTROL.to_owned()), (Some("t1"), format!("tenants/t1/{CONTROL}"))] {
        let store = attach(firestore.host(), tenant).await;
        assert_eq!(store.read_control().await.unwrap(), None);

        assert_eq!(edit(&store, &[place("a", "all"), place("job-iex-ann", "job:iex/quotes")]).await, 2);
        let found = read(&store).await;
        assert_eq!((found.generation, found.garbled), (Some(2), None));
        assert_eq!(found.holds["a"], Ok(hold("all")));
        assert_eq!(found.holds["job-iex-ann"], Ok(hold("job:iex/quotes")));
        // The times are the store's own kind, for whoever looks at them in the console.
        let raw =
            &firestore.document(&path).unwrap()["fields"]["holds"]["mapValue"]["fields"]["a"]["mapValue"];
        assert_eq!(raw["fields"]["since"]["timestampValue"], "2023-11-14T22:13:20.123456Z");
        assert_eq!(
            fields(&firestore, &path)["holds"]["a"],
            json!({"scope": "all", "reason": "test", "actor": "ann", "since": "2023-11-14T22:13:20.123456Z",
                   "until": null})
        );

        assert_eq!(edit(&store, &[release("a")]).await, 3);
        assert_eq!(edit(&store, &[release("job-iex-ann")]).await, 4);
        // An empty map is an answer; a missing one would be garbage.
        assert_eq!(read(&store).await, ControlReading { generation: Some(4), ..ControlReading::default() });
        firestore.delete(&path);
        assert_eq!(store.read_control().await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_request_that_changes_nothing_writes_nothing() {
    let Some(firestore) = Firestore::start() else { return };
    let store = attach(firestore.host(), None).await;
    let idle = store.edit_control(|_| Ok::<_, ()>(Vec::new())).await.unwrap().unwrap();
    assert_eq!(idle.generation, 0);
    let refused = store.edit_control(|_| Err::<Vec<Edit>, _>("no")).await.unwrap();
    assert_eq!(refused, Err("no"));
    assert!(firestore.document(CONTROL).is_none());

    edit(&store, &[place("a", "all")]).await;
    let before = firestore.document(CONTROL).unwrap();
    let idle = store.edit_control(|_| Ok::<_, ()>(Vec::new())).await.unwrap().unwrap();
    assert_eq!(idle.generation, 1);
    assert_eq!(firestore.document(CONTROL).unwrap(), before);
}

#[tokio::test]
async fn a_document_written_by_hand_is_read_in_parts_and_what_is_wrong_is_told_in_its_place() {
    let Some(firestore) = Firestore::start() else { return };
    let store = attach(firestore.host(), None).await;
    let entry = |fields: Value| json!({"mapValue": {"fields": fields}});
    firestore.put(
        CONTROL,
        &json!({
            "generation": {"doubleValue": 4.0},
            "holds": entry(json!({
                "by hand!": entry(json!({
                    "scope": {"stringValue": "symbol:btc/usd"},
                    "since": {"stringValue": "2023-11-14T22:13:20Z"},
                    "until": {"timestampValue": "2099-01-01T00:00:00Z"},
                })),
                "no map": {"stringValue": "all"},
                "no scope": entry(json!({"reason": {"stringValue": "?"}})),
                "bad scope": entry(json!({"scope": {"stringValue": "jobb:iex"}})),
                "bad until": entry(json!({"scope": {"stringValue": "all"}, "until": {"booleanValue": true}})),
                "place": {"geoPointValue": {"latitude": 1, "longitude": 2}},
                "bytes": {"bytesValue": "AAAA"},
            })),
        }),
    );
    let found = read(&store).await;
    assert_eq!((found.generation, found.garbled), (Some(4), None));
    let by_hand = found.holds["by hand!"].as_ref().unwrap();
    assert_eq!(by_hand.scope.to_string(), "symbol:BTC/USD");
    assert_eq!((by_hand.since, by_hand.reason.as_ref()), (Some(at(1_700_000_000_000_000)), None));
    assert_eq!(by_hand.until.unwrap().to_string(), "2099-01-01T00:00:00Z");
    for (id, told) in [
        ("no map", r#"it is the text "all""#),
        ("no scope", "scope is missing"),
        ("bad scope", r#""jobb:iex" is no scope"#),
        ("bad until", "until is true"),
        ("place", "it is a value of another type"),
        ("bytes", "it is a value of another type"),
    ] {
        let error = found.holds[id].as_ref().unwrap_err();
        assert!(error.contains(told) && error.contains("accepted: "), "{id}: {error}");
    }

    for (document, generation) in [
        (json!({"generation": {"stringValue": "12"}}), Some(12)),
        (json!({"generation": {"mapValue": {}}, "holds": {"nullValue": null}}), None),
        (json!({"holds": {"arrayValue": {}}}), None),
        (json!({}), None),
    ] {
        firestore.put(CONTROL, &document);
        let found = read(&store).await;
        assert_eq!(found.generation, generation, "{document}");
        assert!(found.holds.is_empty() && found.garbled.unwrap().starts_with("holds is "), "{document}");
    }
}

#[tokio::test]
async fn an_edit_leaves_what_operators_wrote_beside_it() {
    let Some(firestore) = Firestore::start() else { return };
    let store = attach(firestore.host(), None).await;
    let weird = r"a.b `c` \d/ü";
    let entry = json!({"mapValue": {"fields": {
        "scope": {"stringValue": "all"}, "until": {"stringValue": "2099-01-01T00:00:00Z"},
        "ticket": {"stringValue": "OPS-1"},
    }}});
    // As by hand: no generation, a field of their own, ids of any kind.
    let holds = json!({
        weird: entry, "mine": entry, "other": entry, "broken": {"stringValue": "?"}, "2nd": entry,
    });
    firestore.put(
        CONTROL,
        &json!({"note": {"stringValue": "call Ann"}, "holds": {"mapValue": {"fields": holds}}}),
    );

    assert_eq!(edit(&store, &[release(weird), place("mine", "job:iex"), place("2nd", "all")]).await, 3);
    assert_eq!(edit(&store, &[place("broken", "job:sip")]).await, 4);
    let now = fields(&firestore, CONTROL);
    assert_eq!((&now["note"], &now["generation"]), (&json!("call Ann"), &json!(4)));
    assert_eq!(
        now["holds"].as_object().unwrap().keys().collect::<Vec<_>>(),
        ["2nd", "broken", "mine", "other"]
    );
    assert_eq!(
        now["holds"]["other"],
        json!({"scope": "all", "until": "2099-01-01T00:00:00Z", "ticket": "OPS-1"})
    );
    assert_eq!(
        now["holds"]["mine"],
        json!({"scope": "job:iex", "reason": "test", "actor": "ann", "since": "2023-11-14T22:13:20.123456Z",
               "until": null, "ticket": "OPS-1"})
    );
    assert_eq!(read(&store).await.holds["broken"], Ok(hold("job:sip")));

    // Every id can be released, and the last one leaves an empty map.
    let all = |read: &ControlReading| Ok::<_, ()>(read.holds.keys().map(|id| release(id)).collect());
    assert_eq!(store.edit_control(all).await.unwrap().unwrap().generation, 8);
    assert_eq!(fields(&firestore, CONTROL), json!({"note": "call Ann", "generation": 8, "holds": {}}));

    // A pause is not refused because of garbage where the holds should be.
    firestore.put(CONTROL, &json!({"generation": {"stringValue": "x"}, "holds": {"stringValue": "pause"}}));
    assert_eq!(edit(&store, &[place("a", "all")]).await, 1);
    assert_eq!(read(&store).await.holds["a"], Ok(hold("all")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_was_outrun_is_decided_again() {
    fn create(firestore: &Firestore) {
        let scope = json!({"mapValue": {"fields": {"scope": {"stringValue": "all"}}}});
        let holds = json!({"mapValue": {"fields": {"theirs": scope}}});
        firestore.put(CONTROL, &json!({"generation": {"integerValue": "7"}, "holds": holds}));
    }
    fn change(firestore: &Firestore) {
        firestore.patch(CONTROL, "note", "changed");
    }
    fn delete(firestore: &Firestore) {
        firestore.delete(CONTROL);
    }
    let Some(firestore) = Firestore::start() else { return };
    let store = attach(firestore.host(), None).await;
    // What somebody does between our read and our write, and what then stands.
    type Meddle = fn(&Firestore);
    let rows = [
        (create as Meddle, 8, &["mine", "theirs"][..]),
        (change, 9, &["mine", "theirs"]),
        (delete, 1, &["mine"]),
    ];
    for (meddle, generation, ids) in rows {
        let calls = AtomicU32::new(0);
        let edited = store.edit_control(|_| {
            if calls.fetch_add(1, Ordering::Relaxed) == 0 {
                meddle(&firestore);
            }
            Ok::<_, ()>(vec![place("mine", "all")])
        });
        assert_eq!(edited.await.unwrap().unwrap().generation, generation);
        assert_eq!(calls.load(Ordering::Relaxed), 2);
        let found = read(&store).await;
        assert_eq!(found.generation, Some(generation));
        assert_eq!(found.holds.keys().collect::<Vec<_>>(), ids);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_operators_at_once_lose_no_hold_and_the_generation_counts_exactly() {
    let Some(firestore) = Firestore::start() else { return };
    let operators = ["ann", "bob", "cy"].map(|actor| {
        let host = firestore.host();
        tokio::spawn(async move {
            let store = attach(host, Some("t1")).await;
            let mut generations = Vec::new();
            let mut slowest = Duration::ZERO;
            for i in 0..20 {
                let started = Instant::now();
                let scope = format!("symbol:{actor}{i}").parse().unwrap();
                let actor = Some(actor.to_owned());
                let request = PauseRequest { scopes: vec![scope], reason: None, actor, until: None };
                let decide = |read: &ControlReading| Ok::<_, ()>(pause(read, &request, at(now_us())));
                generations.push(store.edit_control(decide).await.unwrap().unwrap().generation);
                slowest = slowest.max(started.elapsed());
            }
            // Every tenth is released again, while the others are at it.
            for i in [0, 10] {
                let scope = format!("symbol:{actor}{i}").parse().unwrap();
                let request =
                    ResumeRequest { scopes: vec![scope], holds: Vec::new(), actor: Some(actor.to_owned()) };
                let edited = store.edit_control(|read| resume(read, &request)).await.unwrap().unwrap();
                generations.push(edited.generation);
            }
            (generations, slowest)
        })
    });
    let mut generations = Vec::new();
    for operator in operators {
        let (own, slowest) = operator.await.unwrap();
        println!("slowest edit of one operator: {slowest:?}");
        generations.extend(own);
    }
    generations.sort_unstable();
    assert_eq!(generations, (1..=66).collect::<Vec<i64>>());
    let found = read(&attach(firestore.host(), Some("t1")).await).await;
    assert_eq!((found.generation, found.holds.len()), (Some(66), 54));
    assert!(found.holds.values().all(Result::is_ok));
}

fn record(id: &str, paused_at: i64) -> PauseRecord {
    PauseRecord {
        id: id.to_owned(),
        scope: "all".to_owned(),
        source: "control:a".to_owned(),
        reason: None,
        actor: Some("ann".to_owned()),
        paused_at: at(paused_at),
        effective_at: None,
        resumed_at: None,
        duration_s: None,
        messages_drained: 0,
        gap_ids: Vec::new(),
    }
}

#[tokio::test]
async fn pauses_are_told_newest_first_and_a_later_writing_replaces_the_record() {
    let Some(firestore) = Firestore::start() else { return };
    for (tenant, prefix) in [(None, ""), (Some("t1"), "tenants/t1/")] {
        let store = attach(firestore.host(), tenant).await;
        assert_eq!(store.read_pauses(10).await.unwrap(), []);
        let second = 1_000_000;
        // Written out of order, and with ids that would sort otherwise.
        let [old, new, middle] = [("c", 10), ("a", 30), ("b", 20)].map(|(id, s)| record(id, s * second));
        for record in [&old, &new, &middle] {
            store.write_pause(record).await.unwrap();
        }
        assert_eq!(store.read_pauses(10).await.unwrap(), [new.clone(), middle.clone(), old.clone()]);
        assert_eq!(store.read_pauses(2).await.unwrap(), [new.clone(), middle.clone()]);

        let path = format!("{prefix}ops/market_ingest/history/a");
        firestore.patch(&path, "leftover", "gone after the next writing");
        let ended = PauseRecord {
            effective_at: Some(at(31 * second)),
            resumed_at: Some(at(90 * second)),
            duration_s: Some(60.0),
            messages_drained: 12,
            gap_ids: vec!["g1".to_owned()],
            ..new
        };
        store.write_pause(&ended).await.unwrap();
        assert_eq!(store.read_pauses(1).await.unwrap(), [ended]);
        assert_eq!(
            fields(&firestore, &path),
            json!({"scope": "all", "source": "control:a", "reason": null, "actor": "ann",
                   "paused_at": "1970-01-01T00:00:30Z", "effective_at": "1970-01-01T00:00:31Z",
                   "resumed_at": "1970-01-01T00:01:30Z", "duration_s": 60.0, "messages_drained": 12,
                   "gap_ids": ["g1"]})
        );
        // A record that a hand has spoiled costs the others nothing.
        firestore.patch(&format!("{prefix}ops/market_ingest/history/b"), "messages_drained", "many");
        let ids: Vec<_> = store.read_pauses(10).await.unwrap().into_iter().map(|record| record.id).collect();
        assert_eq!(ids, ["a", "c"]);
    }
    let unnameable = attach(firestore.host(), None).await.write_pause(&record("a/b", 1)).await;
    assert!(unnameable.unwrap_err().to_string().contains("a/b"));
}

fn beat(seq: u64) -> Heartbeat {
    let beat = json!({"status": "paused", "ts": "2026-01-01T00:00:00Z", "ingest_enabled": false,
                      "ingest_enabled_source": "control:a", "last_symbol": null, "seq": seq});
    serde_json::from_value(beat).unwrap()
}

#[tokio::test]
async fn a_heartbeat_is_observed_by_the_stores_own_clock() {
    let Some(firestore) = Firestore::start() else { return };
    for tenant in [None, Some("t1")] {
        let store = attach(firestore.host(), tenant).await;
        let nothing = store.observe().await.unwrap();
        assert_eq!(nothing.tenant.as_deref(), tenant);
        assert!(nothing.heartbeat.is_none());

        store.write_heartbeat(&beat(7)).await.unwrap();
        let observed = store.observe().await.unwrap();
        let heartbeat = observed.heartbeat.unwrap().unwrap();
        assert_eq!((heartbeat.seq, observed.tenant.as_deref()), (7, tenant));
        let age_s = observed.read_at.seconds_since(heartbeat.updated_at.unwrap());
        assert!((0.0..5.0).contains(&age_s), "{age_s}");
        assert!(observed.read_at > nothing.read_at);
        assert_eq!(store.read_heartbeat().await.unwrap().unwrap().seq, 7);

        let path = tenant.map_or_else(String::new, |tenant| format!("tenants/{tenant}/"));
        firestore.patch(&format!("{path}ops/market_ingest"), "status", "asleep");
        let error = store.observe().await.unwrap().heartbeat.unwrap().unwrap_err();
        assert!(error.contains("asleep"), "{error}");
        assert!(store.read_heartbeat().await.unwrap_err().to_string().contains("cannot be understood"));
    }
}

#[tokio::test]
async fn the_fleet_is_every_tenant_with_a_heartbeat_and_the_root() {
    let Some(firestore) = Firestore::start() else { return };
    let root = attach(firestore.host(), None).await;
    assert!(root.fleet().await.unwrap().is_empty());

    for (tenant, seq) in [(Some("zoe"), 3), (None, 1), (Some("ann"), 2)] {
        attach(firestore.host(), tenant).await.write_heartbeat(&beat(seq)).await.unwrap();
    }
    // One with a document of its own, one whose heartbeat is garbage, two that are no producer's.
    let text = |text: &str| json!({"status": {"stringValue": text}});
    firestore.put("tenants/zoe", &text("a customer"));
    firestore.put("tenants/bad/ops/market_ingest", &text("asleep"));
    firestore.put("tenants/idle", &text("a customer"));
    firestore.put("tenants/quoted/live_quotes/SPY", &text("a quote"));
    firestore.put("tenants/planned/ops/market_ingest_control", &text("a hold"));

    // Whoever asks sees the same.
    for tenant in [None, Some("ann")] {
        let fleet = attach(firestore.host(), tenant).await.fleet().await.unwrap();
        let seen: Vec<_> = fleet
            .iter()
            .map(|one| {
                (one.tenant.as_deref(), one.heartbeat.as_ref().unwrap().as_ref().ok().map(|beat| beat.seq))
            })
            .collect();
        assert_eq!(
            seen,
            [(None, Some(1)), (Some("ann"), Some(2)), (Some("bad"), None), (Some("zoe"), Some(3))]
        );
        for one in fleet {
            if let Some(Ok(beat)) = one.heartbeat {
                assert!(one.read_at > beat.updated_at.unwrap());
            }
        }
    }

    // More than one page of tenants, and all within the limit of one call.
    for i in 0..620 {
        firestore.put(&format!("tenants/many{i:03}/ops/market_ingest"), &text("asleep"));
    }
    let started = Instant::now();
    let fleet = root.fleet().await.unwrap();
    println!("a fleet of {} in {:?}", fleet.len(), started.elapsed());
    assert_eq!(fleet.len(), 624);
    assert!(fleet.windows(2).all(|pair| pair[0].tenant < pair[1].tenant));
}
