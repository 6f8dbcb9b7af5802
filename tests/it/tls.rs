//! The venue is spoken to by TLS, and nobody is believed without a certificate that is trusted.

use std::time::Duration;

use e2e::producer::Setup;
use e2e::tls::TlsFront;
use e2e::venue::Venue;
use e2e::wait_for;

const LIMIT: Duration = Duration::from_secs(15);

fn setup(venue: &Venue, front: &TlsFront, dir: &tempfile::TempDir) -> Setup {
    Setup::new(venue, dir.path())
        .var("ALPACA_STREAM_URL", front.url())
        .var("ALPACA_DATA_FEED", "sip")
        .var("MONITORED_SYMBOLS", "*")
        .var("INGEST_SINKS", "null")
}

#[test]
fn a_certificate_of_ones_own_authority_is_trusted_by_ssl_cert_file() {
    let dir = tempfile::tempdir().unwrap();
    let venue = Venue::start(&["--synthetic", "--messages", "20000", "--per-frame", "10"]);
    let front = TlsFront::start(&venue, dir.path());
    let producer = setup(&venue, &front, &dir).var("SSL_CERT_FILE", front.certificate().display()).start();
    producer.wait_live();
    wait_for("all messages through TLS", LIMIT, || {
        (producer.status()["counters"]["messages"].as_u64()? > 15_000).then_some(())
    });
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let venue = Venue::start(&["--synthetic", "--rate", "100"]);
    let front = TlsFront::start(&venue, dir.path());
    let producer = setup(&venue, &front, &dir).start();
    let told = wait_for("the reason", LIMIT, || producer.log("job_backing_off").into_iter().next());
    let reason = told.json["reason"].as_str().unwrap();
    assert!(reason.contains("certificate"), "{reason}");
    assert_eq!(producer.status()["jobs"]["sip"]["connected"], false);
}
