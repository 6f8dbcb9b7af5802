use std::io::Read;

use super::super::json::Encoder;
use super::super::ndjson::Ndjson;
use super::super::{Courier, FullRate, JobId, Part};
use alpaca_feed::decode::Decoder;
use alpaca_feed::message::{Batch, Codec};
use alpaca_feed::symbol::Symbols;

use super::*;

const JOB: JobId = JobId(0);

struct Desk {
    dir: tempfile::TempDir,
    symbols: Arc<Symbols>,
}

impl Desk {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), symbols: Symbols::new() }
    }

    fn sink(&self, rotation: Rotation) -> FullRate {
        let encoder = Encoder::new(Arc::clone(&self.symbols), [Arc::from("iex")].into());
        let (dir, fence) = (self.dir.path().join("made"), Fence::held(1));
        let files = Files::new(dir, Ndjson::new(encoder), rotation, fence.clone());
        let (front, outlet) = FullRate::new("ndjson", 1 << 20);
        tokio::spawn(Courier::new(outlet, fence, files).run());
        front
    }

    fn quotes(&self, count: usize) -> Batch {
        let mut batch = Batch::default();
        let one = r#"{"T":"q","S":"IBM","bp":1,"bs":1,"ap":2,"as":1,"t":"2026-07-01T14:00:00Z"}"#;
        let frame = format!("[{}]", vec![one; count].join(","));
        Decoder::new(Arc::clone(&self.symbols)).decode(Codec::Json, frame.as_bytes(), &mut batch);
        assert_eq!(batch.events.len(), count);
        batch
    }

    /// Names and lines of the files whose names end so.
    fn files(&self, ending: &str) -> Vec<(String, usize)> {
        let Ok(entries) = fs::read_dir(self.dir.path().join("made")) else { return Vec::new() };
        let mut files: Vec<_> = entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_str().unwrap().ends_with(ending))
            .map(|path| {
                let mut text = String::new();
                zstd::Decoder::new(File::open(&path).unwrap()).unwrap().read_to_string(&mut text).unwrap();
                (path.file_name().unwrap().to_str().unwrap().to_owned(), text.lines().count())
            })
            .collect();
        files.sort();
        files
    }
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting)
        .await
        .unwrap_or_else(|_| panic!("in vain: {what}"));
}

#[tokio::test]
async fn a_file_is_closed_when_its_time_is_over() {
    let desk = Desk::new();
    let sink = desk.sink(Rotation { age_max: Duration::from_millis(200), ..Rotation::default() });
    for round in 1..=2 {
        sink.accept(JOB, &desk.quotes(3));
        eventually("a part", || {
            fs::read_dir(desk.dir.path().join("made")).is_ok_and(|dir| dir.count() == round)
        })
        .await;
        eventually("a whole file", || desk.files(".ndjson.zst").len() == round).await;
    }
    assert!(desk.files(".ndjson.zst").iter().all(|(_, lines)| *lines == 3));
}

#[tokio::test]
async fn a_file_is_closed_when_it_is_large() {
    let desk = Desk::new();
    let sink = desk.sink(Rotation { bytes_max: 10_000, ..Rotation::default() });
    sink.accept(JOB, &desk.quotes(10));
    eventually("room taken", || sink.healthy() == Some(true)).await;
    assert!(desk.files(".ndjson.zst").is_empty());
    sink.accept(JOB, &desk.quotes(100));
    eventually("a whole file", || desk.files(".ndjson.zst").len() == 1).await;
    assert_eq!(desk.files(".ndjson.zst")[0].1, 110);
}

#[tokio::test]
async fn the_drain_of_a_job_leaves_whole_files_only() {
    let desk = Desk::new();
    let sink = desk.sink(Rotation::default());
    sink.accept(JOB, &desk.quotes(1000));
    let drained = sink.clone().drain(Part { job: JOB, symbols: None }).await;
    assert_eq!((drained.delivered, drained.dropped), (1000, 0));
    assert_eq!(desk.files("").len(), 1);
    assert_eq!(desk.files(".ndjson.zst")[0].1, 1000);
}

#[tokio::test]
async fn what_a_killed_process_left_is_torn_and_what_a_living_one_writes_is_left_alone() {
    let desk = Desk::new();
    let made = desk.dir.path().join("made");
    fs::create_dir(&made).unwrap();
    fs::write(made.join("records-1.ndjson.zst.part"), "").unwrap();
    fs::write(made.join("trades-1.parquet.part"), "").unwrap();
    let mut living = Naming::new(made.clone(), "ndjson.zst");
    let part = living.create("records").unwrap();
    let sink = desk.sink(Rotation::default());
    eventually("the sweep", || made.join("records-1.ndjson.zst.torn").exists()).await;
    sink.accept(JOB, &desk.quotes(1));
    sink.clone().drain(Part { job: JOB, symbols: None }).await;
    assert!(made.join("trades-1.parquet.part").exists(), "another sink's");
    assert!(part.part.exists());
    assert_eq!(desk.files(".ndjson.zst").len(), 1);
    part.complete().unwrap();
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_an_error_until_it_can() {
    let desk = Desk::new();
    let made = desk.dir.path().join("made");
    fs::write(&made, "a file").unwrap();
    let sink = desk.sink(Rotation::default());
    sink.accept(JOB, &desk.quotes(2));
    eventually("an error", || sink.healthy() == Some(false)).await;
    fs::remove_file(&made).unwrap();
    eventually("no error", || sink.healthy() == Some(true)).await;
    sink.clone().drain(Part { job: JOB, symbols: None }).await;
    assert_eq!(desk.files(".ndjson.zst")[0].1, 2);
    assert!(sink.take_overflows().is_empty());
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let desk = Desk::new();
    let dir = desk.dir.path().join("file").join("records");
    fs::write(desk.dir.path().join("file"), "").unwrap();
    let error = Naming::new(dir.clone(), "ndjson").create("quotes").unwrap_err();
    assert!(error.to_string().starts_with(&format!("{}: ", dir.display())), "{error}");
}
