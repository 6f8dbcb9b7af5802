//! What the steady state allocates, counted by an allocator that counts: the whole service on one thread of this process,
//! the venue in another process.

use std::future::pending;
use std::time::Duration;

use e2e::venue::Venue;
use market_ingest::config::Config;
use market_ingest::service;
use market_ingest::sources::HoldSignals;
use tokio::sync::oneshot;

/// First everything grows to the size that it needs.
const WARM_UP: u64 = 200_000;
const COUNTED: u64 = 1_000_000;
/// For buffers of the socket, heartbeats and whatever else goes by time; one a frame would be 0.1.
const A_MESSAGE_MAX: f64 = 0.08;

#[test]
fn a_steady_stream_allocates_nothing_by_message_or_frame() {
    let venue = Venue::start(&["--synthetic", "--symbols", "100", "--rate", "1000000", "--per-frame", "10"]);
    for codec in ["msgpack", "json"] {
        for sinks in ["null", "quotes"] {
            let a_message = allocations_a_message(&venue, codec, sinks);
            println!("{codec}, {sinks}: {a_message:.4} allocations a message");
            assert!(a_message < A_MESSAGE_MAX, "{codec}, {sinks}: {a_message}");
        }
    }
}

fn allocations_a_message(venue: &Venue, codec: &str, sinks: &str) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", dir.path().join("store.db").display());
    let vars = [
        ("ALPACA_STREAM_URL", venue.url()),
        ("ALPACA_DATA_FEED", "sip"),
        ("MONITORED_SYMBOLS", "*"),
        ("ALPACA_CODEC", codec),
        ("APCA_API_KEY_ID", codec),
        ("APCA_API_SECRET_KEY", sinks),
        ("INGEST_SINKS", sinks),
        ("INGEST_STORE", &store),
        ("PORT", "0"),
    ];
    let config =
        Config::from_vars(vars.map(|(name, value)| (name.to_owned(), value.to_owned())), false).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (report_tx, mut report_rx) = oneshot::channel();
    let started = |running: service::Running| drop(report_tx.send(running.report));
    let signals = runtime.block_on(async { HoldSignals::catch() }).unwrap();
    let mut running = Box::pin(service::run(config, "counted".to_owned(), signals, pending(), started));
    let mut run_until = |reached: &mut dyn FnMut() -> bool| {
        runtime.block_on(async {
            let reached = async {
                while !reached() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            tokio::select! {
                ended = &mut running => panic!("the service ended: {ended:?}"),
                () = reached => {}
            }
        });
    };
    let mut report = None;
    run_until(&mut || {
        report = report_rx.try_recv().ok();
        report.is_some()
    });
    let report = report.unwrap();
    let received = || report.jobs().iter().map(|job| job.messages_total()).sum::<u64>();
    run_until(&mut || received() >= WARM_UP);
    let before = received();
    let counted = allocation_counter::measure(|| run_until(&mut || received() >= before + COUNTED));
    counted.count_total as f64 / (received() - before) as f64
}
