//! The listener on the control document: how fast it tells, and that it outlives the store.

use std::io::Write;
use std::sync::{Arc, Mutex, Once};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use e2e::firestore::Firestore;
use e2e::free_port;
use market_ingest::control::ControlReading;
use market_ingest::store::Store;
use serde_json::json;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::{CONTROL, attach, edit, place};

/// Follows the control document in the background, for as long as the runtime lives.
fn follow(store: &Store) -> Arc<Notify> {
    let changed = Arc::new(Notify::new());
    let (store, told) = (store.clone(), Arc::clone(&changed));
    tokio::spawn(async move { store.follow_control(&told).await });
    changed
}

/// Reads whenever something is told, and only then, until the reading is the wanted one.
async fn told(changed: &Notify, store: &Store, wanted: impl Fn(Option<&ControlReading>) -> bool) {
    let heard = async {
        loop {
            changed.notified().await;
            if wanted(store.read_control().await.unwrap().as_ref()) {
                break;
            }
        }
    };
    timeout(Duration::from_secs(10), heard).await.expect("the change is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_listener_tells_of_every_change_within_a_second() {
    let Some(firestore) = Firestore::start() else { return };
    let store = attach(firestore.host(), Some("t1")).await;
    let path = format!("tenants/t1/{CONTROL}");
    let changed = follow(&store);
    told(&changed, &store, |read| read.is_none()).await;
    // An emulator takes seconds for the first call of each kind.
    firestore.put(&path, &json!({"generation": {"integerValue": "0"}, "holds": {"mapValue": {}}}));
    told(&changed, &store, |read| read.is_some()).await;
    let mut latencies_ms = Vec::new();
    for generation in 1..=20 {
        let fields =
            json!({"generation": {"integerValue": generation.to_string()}, "holds": {"mapValue": {}}});
        let started = Instant::now();
        firestore.put(&path, &fields);
        told(&changed, &store, |read| read.is_some_and(|read| read.generation == Some(generation))).await;
        latencies_ms.push(started.elapsed().as_millis());
    }
    latencies_ms.sort_unstable();
    println!("change to read, of 20, ms: median {} slowest {}", latencies_ms[10], latencies_ms[19]);
    assert!(latencies_ms[19] <= 1000, "{latencies_ms:?}");
}

/// Every line that this process has logged since the first call of [`capture`], with the thread it came from.
static LOGGED: Mutex<Vec<(ThreadId, String)>> = Mutex::new(Vec::new());

/// One writing is one line.
struct Line;

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let line = String::from_utf8_lossy(bytes).into_owned();
        LOGGED.lock().unwrap().push((std::thread::current().id(), line));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What this thread logs from now on about following the document. For the whole process, because a subscriber of
/// one thread misses what another thread has logged without one before.
fn capture() -> impl Fn() -> Vec<String> {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing_subscriber::fmt().with_ansi(false).with_writer(|| Line).init());
    let before = LOGGED.lock().unwrap().len();
    move || {
        let logged = LOGGED.lock().unwrap();
        let own = logged[before..].iter().filter(|(thread, _)| *thread == std::thread::current().id());
        own.filter(|(_, line)| line.contains("followed")).map(|(_, line)| line.clone()).collect()
    }
}

// One thread, because the log is told apart by threads.
#[tokio::test]
async fn the_listener_survives_the_stores_death_and_says_so_once() {
    let Some(mut firestore) = Firestore::start() else { return };
    let lines = capture();
    let store = attach(firestore.host(), None).await;
    let changed = follow(&store);
    timeout(Duration::from_secs(10), changed.notified()).await.expect("it is followed");
    assert_eq!(lines(), Vec::<String>::new());

    for round in 1..=2_usize {
        firestore.process.signal("KILL");
        firestore.process.wait_exit(Duration::from_secs(5));
        let port = firestore.port();
        let broken = async {
            while lines().len() < round * 2 - 1 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(5), broken).await.expect("the break is told");
        let gone = Instant::now();
        // Something arrives only from a listener that is there again.
        let (mut back, returned) = spawn_blocking(move || {
            let firestore = Firestore::start_on(port);
            let returned = Instant::now();
            (firestore, returned)
        })
        .await
        .unwrap();
        timeout(Duration::from_secs(10), changed.notified()).await.expect("it is followed again");
        println!("away {:?}, followed {:?} after its return", returned - gone, returned.elapsed());
        // Its first call of a kind takes an emulator a second or two.
        assert!(returned.elapsed() < Duration::from_secs(5), "{:?}", returned.elapsed());
        edit(&store, &[place("a", "all")]).await;
        told(&changed, &store, |read| read.is_some_and(|read| read.holds.contains_key("a"))).await;
        std::mem::swap(&mut firestore, &mut back);
    }
    let lines = lines();
    let levels: Vec<_> = lines.iter().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(levels, ["WARN", "INFO", "WARN", "INFO"], "{lines:?}");
}

#[tokio::test]
async fn a_store_that_is_not_there_yet_is_followed_when_it_comes() {
    let Some(firestore) = Firestore::start() else { return };
    drop(firestore);
    let port = free_port();
    let store = attach(format!("127.0.0.1:{port}"), None).await;
    let changed = follow(&store);
    let _firestore = spawn_blocking(move || Firestore::start_on(port)).await.unwrap();
    timeout(Duration::from_secs(10), changed.notified()).await.expect("it is followed");
}
