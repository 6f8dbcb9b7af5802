//! When the flag file is looked at, and what a look showed.
//!
//! A look arms the directory events and reads the file, on a blocking thread and under a time limit.
//! It is due at once after an event, and every `poll` besides. One look is in flight at a time. One that
//! exceeds its limit is left behind, and later looks open the file only if it is another file by then,
//! told by inode: a file that hangs can be replaced, with events or without. A second that hangs is
//! waited for, so no more than two threads ever hang here.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use super::directory_events::DirectoryEvents;
use crate::flag::{self, READ_LIMIT_BYTES};
use crate::observation::{Doubt, Observation};

/// How long a look may take before the file counts as hanging.
const LOOK_LIMIT: Duration = Duration::from_secs(1);

/// The least time from the start of a look to the next: storms of events cost no more than this.
const LOOK_SPACING: Duration = Duration::from_millis(5);

/// How long a text in doubt is looked at again before it is believed, counted from the last change of
/// the directory: a file that is truncated and then written, or deleted and created, is in doubt for a
/// moment. A storm of changes prolongs this to [`LOOK_LIMIT`] at most.
const SETTLE_LIMIT: Duration = Duration::from_millis(20);

/// The longest poll interval; longer ones would overflow the clock.
const POLL_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The flag file and the looks at it.
#[derive(Debug)]
pub(super) struct FlagFile {
    path: PathBuf,
    poll: Duration,
    woken: Arc<Notify>,
    /// None while a look has them along, and where events are not wanted or cannot be had.
    events: Option<DirectoryEvents>,
    /// Why the directory cannot be watched, so as to warn once.
    unwatched: Option<String>,
    look: Option<Look>,
    /// A look that exceeded its limit.
    left_behind: Option<Look>,
    /// A later look has shown more than the one left behind can.
    superseded: bool,
    last_look: Instant,
    next_look: Instant,
    /// When the directory last reported a change.
    stirred_at: Instant,
    /// Since when the text is in doubt without having been reported so.
    doubtful_since: Option<Instant>,
    reported: Option<Observation>,
}

#[derive(Debug)]
struct Look {
    task: JoinHandle<Seen>,
    started: Instant,
    overdue: bool,
    /// The file it opens, known once it is about to.
    opened: Arc<OnceLock<FileId>>,
}

/// Which file a path means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

/// What a look brings back.
#[derive(Debug)]
struct Seen {
    /// None where the file is still the one that another look hangs on.
    observation: Option<Observation>,
    events: Option<DirectoryEvents>,
    unwatched: Option<String>,
}

enum Step {
    Looked(Result<Seen, JoinError>),
    Overdue,
    CameLate(Result<Seen, JoinError>),
    Stirred,
    LookNow,
}

impl FlagFile {
    /// The file at the absolute path `path`, not yet looked at.
    pub(super) fn new(path: PathBuf, poll: Duration, events: bool) -> Self {
        let woken = Arc::new(Notify::new());
        let (events, unwatched) = match events.then(|| DirectoryEvents::new(&path, woken.clone())) {
            None => (None, None),
            Some(Ok(events)) => (Some(events), None),
            Some(Err(error)) => (None, Some(error.to_string())),
        };
        if let Some(why) = &unwatched {
            warn_unwatched(&path, why);
        }
        let now = Instant::now();
        Self {
            path,
            poll: poll.clamp(LOOK_SPACING, POLL_MAX),
            woken,
            events,
            unwatched,
            look: None,
            left_behind: None,
            superseded: false,
            last_look: now,
            next_look: now,
            stirred_at: now,
            doubtful_since: None,
            reported: None,
        }
    }

    /// What the next look shows, or [`Doubt::Hanging`] once a look exceeds its limit.
    ///
    /// Cancel safe: a look in flight is kept for the next call.
    pub(super) async fn next(&mut self) -> Observation {
        loop {
            let limit = self.look.as_ref().filter(|look| !look.overdue);
            let limit = limit.map(|look| look.started + LOOK_LIMIT);
            let step = tokio::select! {
                biased;
                seen = ended(self.look.as_mut()) => Step::Looked(seen),
                seen = ended(self.left_behind.as_mut()) => Step::CameLate(seen),
                () = reached(limit) => Step::Overdue,
                () = self.woken.notified() => Step::Stirred,
                () = reached(Some(self.next_look)), if self.look.is_none() => Step::LookNow,
            };
            let observation = match step {
                Step::Looked(seen) => self.looked(seen),
                Step::CameLate(seen) => self.came_late(seen),
                Step::Overdue => {
                    self.leave_behind();
                    Some(Observation::Doubt(Doubt::Hanging))
                }
                Step::Stirred => {
                    self.stirred_at = Instant::now();
                    self.look_within(Duration::ZERO);
                    None
                }
                Step::LookNow => {
                    self.start_look();
                    None
                }
            };
            if let Some(observation) = observation {
                self.doubtful_since = None;
                if self.reported.is_none() && observation == Observation::Doubt(Doubt::Missing) {
                    info!(
                        target: "ingest_switch",
                        file = %self.path.display(),
                        "the flag file is not there; until it is, it has no opinion"
                    );
                }
                self.reported = Some(observation.clone());
                return observation;
            }
        }
    }

    fn start_look(&mut self) {
        let (path, events) = (self.path.clone(), self.events.take());
        let hanging = self.left_behind.as_ref().and_then(|look| look.opened.get().copied());
        let opened = Arc::new(OnceLock::new());
        let started = Instant::now();
        (self.last_look, self.next_look) = (started, started + self.poll);
        let task = {
            let opened = Arc::clone(&opened);
            spawn_blocking(move || look_at(&path, events, hanging, &opened))
        };
        self.look = Some(Look { task, started, overdue: false, opened });
    }

    /// Gives up waiting for the look in flight, and makes room for another if none was left before.
    fn leave_behind(&mut self) {
        if let Some(mut look) = self.look.take() {
            look.overdue = true;
            if self.left_behind.is_none() {
                self.left_behind = Some(look);
                self.superseded = false;
            } else {
                self.look = Some(look);
            }
        }
    }

    /// Takes up a look that was left behind, unless a later one has told more.
    fn came_late(&mut self, seen: Result<Seen, JoinError>) -> Option<Observation> {
        self.left_behind = None;
        let seen = self.unpack(seen);
        if self.superseded {
            // It had the directory events along: they may have to move.
            self.look_within(Duration::ZERO);
            return None;
        }
        seen
    }

    /// Takes up an ended look; none where the text is in doubt and may yet settle.
    fn looked(&mut self, seen: Result<Seen, JoinError>) -> Option<Observation> {
        let now = Instant::now();
        let started = self.look.take().map_or(now, |look| look.started);
        let observation = self.unpack(seen)?;
        self.superseded = true;
        let may_settle =
            matches!(observation, Observation::Doubt(Doubt::Blank | Doubt::Missing | Doubt::Unknown(_)));
        if may_settle && self.reported.as_ref() != Some(&observation) {
            // Counted from the start of the look, so that a slow file does not delay the first decision.
            let since = *self.doubtful_since.get_or_insert(started);
            let settled_at = since.max(self.stirred_at) + SETTLE_LIMIT;
            if now < settled_at.min(since + LOOK_LIMIT) {
                self.look_within(LOOK_SPACING);
                return None;
            }
        }
        Some(observation)
    }

    /// Takes back what a look had along, and what it saw.
    fn unpack(&mut self, seen: Result<Seen, JoinError>) -> Option<Observation> {
        let seen = match seen {
            Ok(seen) => seen,
            Err(error) => {
                debug!(target: "ingest_switch", %error, "a look at the flag file failed");
                return Some(Observation::Doubt(Doubt::Unreadable("the reader failed".to_owned())));
            }
        };
        self.events = self.events.take().or(seen.events);
        if self.events.is_some() && self.unwatched != seen.unwatched {
            if let Some(why) = &seen.unwatched {
                warn_unwatched(&self.path, why);
            }
            self.unwatched = seen.unwatched;
        }
        seen.observation
    }

    /// Brings the next look forward to `delay` from now, but not onto the heels of the last.
    fn look_within(&mut self, delay: Duration) {
        let earliest = self.last_look + LOOK_SPACING;
        self.next_look = self.next_look.min(earliest.max(Instant::now() + delay));
    }
}

/// Arms the events, then reads: a change after the read is then sure to be reported.
///
/// The file `hanging` is not opened again.
fn look_at(
    path: &Path,
    mut events: Option<DirectoryEvents>,
    hanging: Option<FileId>,
    opened: &OnceLock<FileId>,
) -> Seen {
    let armed = events.as_mut().map_or(Ok(()), DirectoryEvents::arm);
    let unwatched = armed.err().map(|error| error.to_string());
    let found = fs::metadata(path).ok();
    let found = found.map(|found| FileId { device: found.dev(), inode: found.ino() });
    if let Some(found) = found {
        if hanging == Some(found) {
            return Seen { observation: None, events, unwatched };
        }
        opened.get_or_init(|| found);
    }
    Seen { observation: Some(read(path)), events, unwatched }
}

fn read(path: &Path) -> Observation {
    // One byte more than is looked at tells that there is more.
    let limit_bytes = READ_LIMIT_BYTES + 1;
    let mut text = Vec::with_capacity(limit_bytes);
    match File::open(path).and_then(|file| file.take(limit_bytes as u64).read_to_end(&mut text)) {
        Ok(_) => flag::parse(&text).into(),
        Err(error) => Observation::Doubt(doubt(&error)),
    }
}

fn doubt(error: &io::Error) -> Doubt {
    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) {
        Doubt::Missing
    } else {
        Doubt::Unreadable(error.to_string())
    }
}

fn warn_unwatched(path: &Path, why: &str) {
    warn!(
        target: "ingest_switch",
        file = %path.display(),
        why,
        "no events of the flag file's directory; only the poll finds changes"
    );
}

async fn ended(look: Option<&mut Look>) -> Result<Seen, JoinError> {
    match look {
        Some(look) => (&mut look.task).await,
        None => std::future::pending().await,
    }
}

async fn reached(instant: Option<Instant>) {
    match instant {
        // The timer's grain is a millisecond, even for what is due at once.
        Some(instant) if instant <= Instant::now() => {}
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use tokio::time::advance;

    fn seen(text: &str) -> Result<Seen, JoinError> {
        let observation = Some(flag::parse(text.as_bytes()).into());
        Ok(Seen { observation, events: None, unwatched: None })
    }

    /// A file whose first look began just now.
    fn file() -> FlagFile {
        let path = PathBuf::from("/nonexistent/enabled");
        let mut file = FlagFile::new(path, Duration::from_secs(5), false);
        file.next_look = file.last_look + file.poll;
        file
    }

    #[tokio::test(start_paused = true)]
    async fn a_text_in_doubt_is_looked_at_again_before_it_is_believed() {
        for doubtful in ["", "of"] {
            let mut file = file();
            assert_eq!(file.looked(seen(doubtful)), None);
            assert_eq!(file.next_look, Instant::now() + LOOK_SPACING);
            advance(LOOK_SPACING).await;
            assert_eq!(file.looked(seen("off")), seen("off").unwrap().observation);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_text_that_stays_in_doubt_is_believed_after_the_settle_limit() {
        let mut file = file();
        assert_eq!(file.looked(seen("")), None);
        advance(SETTLE_LIMIT / 2).await;
        assert_eq!(file.looked(seen("")), None);
        advance(SETTLE_LIMIT / 2).await;
        assert_eq!(file.looked(seen("")), Some(Observation::Doubt(Doubt::Blank)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_of_changes_prolongs_the_doubt_up_to_the_look_limit() {
        let mut file = file();
        let start = Instant::now();
        while Instant::now() < start + LOOK_LIMIT {
            file.stirred_at = Instant::now();
            assert_eq!(file.looked(seen("")), None);
            advance(SETTLE_LIMIT / 2).await;
        }
        file.stirred_at = Instant::now();
        assert_eq!(file.looked(seen("")), Some(Observation::Doubt(Doubt::Blank)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_doubt_already_reported_is_not_looked_at_again() {
        let mut file = file();
        file.reported = Some(Observation::Doubt(Doubt::Blank));
        assert_eq!(file.looked(seen("")), Some(Observation::Doubt(Doubt::Blank)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_look_in_doubt_is_believed_at_once() {
        let mut file = file();
        let task = spawn_blocking(|| seen("").unwrap());
        let opened = Arc::default();
        file.look = Some(Look { task, started: Instant::now(), overdue: false, opened });
        advance(LOOK_LIMIT / 2).await;
        assert_eq!(file.looked(seen("")), Some(Observation::Doubt(Doubt::Blank)));
    }

    #[tokio::test(start_paused = true)]
    async fn without_events_a_look_begins_exactly_one_poll_after_the_last() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("enabled");
        fs::write(&path, "off").unwrap();
        let poll = Duration::from_secs(5);
        let mut file = FlagFile::new(path, poll, false);
        let start = Instant::now();
        for polls in 0..20 {
            assert_eq!(Some(file.next().await), seen("off").unwrap().observation);
            let late = file.last_look - (start + poll * polls);
            assert!(late <= Duration::from_millis(1) * (polls + 1), "the timer's grain: {late:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_looked_at_now_but_not_on_the_heels_of_the_last_look() {
        let mut file = file();
        let start = Instant::now();
        advance(Duration::from_millis(1)).await;
        file.look_within(Duration::ZERO);
        assert_eq!(file.next_look, start + LOOK_SPACING);
        advance(Duration::from_secs(1)).await;
        file.next_look = start + file.poll;
        file.look_within(Duration::ZERO);
        assert_eq!(file.next_look, start + Duration::from_millis(1001));
    }
}
