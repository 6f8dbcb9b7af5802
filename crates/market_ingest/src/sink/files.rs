//! Files as a destination: written under a temporary name, and renamed when they are whole and on the disk.
//!
//! Invariants: what has a final name is complete and was synchronised before it got it; what a killed process left is
//! never under a final name and becomes `….torn` at the next start. Files are touched on blocking threads only, one
//! call at a time. After an error the open files are removed, for the courier gives all of it again.

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;

use crate::lease::Fence;

use super::chunk::Chunk;
use super::full_rate::{Destination, Written};

/// When a file is closed and another begun.
#[derive(Clone, Copy, Debug)]
pub struct Rotation {
    /// So many bytes before compression.
    pub bytes_max: u64,
    /// So long after its first record.
    pub age_max: Duration,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { bytes_max: 256 << 20, age_max: Duration::from_secs(60) }
    }
}

/// How records lie in files; blocking.
pub trait Format: Send + 'static {
    /// What its files' names end in, without the first point.
    const EXTENSION: &'static str;

    /// Hands the chunks to the operating system, or keeps them for the next block of the file; tells how many bytes it
    /// was before compression.
    ///
    /// # Errors
    /// Whatever the file system says; then [`Self::discard`] follows.
    fn write(&mut self, naming: &mut Naming, epoch: u64, chunks: &[Arc<Chunk>]) -> io::Result<u64>;

    /// Completes the open files and gives them their final names.
    ///
    /// # Errors
    /// As [`Self::write`].
    fn finish(&mut self, naming: &mut Naming) -> io::Result<()>;

    /// Removes the open files.
    fn discard(&mut self);
}

/// A directory of files of one format.
#[derive(Debug)]
pub struct Files<F> {
    rotation: Rotation,
    fence: Fence,
    /// Away while it is at work.
    desk: Option<Desk<F>>,
    busy: Option<Busy<F>>,
    /// What a call wrote whose caller had left.
    landed: HashSet<u64>,
    bytes: u64,
    opened: Option<Instant>,
}

type Busy<F> = JoinHandle<(Desk<F>, anyhow::Result<Done>)>;

#[derive(Debug)]
struct Desk<F> {
    format: F,
    naming: Naming,
}

#[derive(Debug)]
enum Done {
    Wrote { ids: Vec<u64>, bytes: u64 },
    Finished,
}

impl<F: Format> Files<F> {
    /// Files in `dir`, which is made when it is first needed. Must be called within a runtime.
    #[must_use]
    pub fn new(dir: PathBuf, format: F, rotation: Rotation, fence: Fence) -> Self {
        let naming = Naming::new(dir, F::EXTENSION);
        let busy = tokio::task::spawn_blocking(move || {
            sweep(&naming.dir, F::EXTENSION);
            (Desk { format, naming }, Ok(Done::Finished))
        });
        Self { rotation, fence, desk: None, busy: Some(busy), landed: HashSet::new(), bytes: 0, opened: None }
    }

    /// Waits for a call whose caller has left; its failure is the next one's.
    async fn settle(&mut self) -> anyhow::Result<()> {
        if let Done::Wrote { ids, .. } = self.joined().await? {
            self.landed = ids.into_iter().collect();
        }
        Ok(())
    }

    /// Cancel safe: the work goes on and is joined by the next call.
    async fn run(
        &mut self,
        work: impl FnOnce(&mut Desk<F>) -> anyhow::Result<Done> + Send + 'static,
    ) -> anyhow::Result<()> {
        let Some(mut desk) = self.desk.take() else { bail!("the writer is gone") };
        self.busy = Some(tokio::task::spawn_blocking(move || {
            let done = work(&mut desk);
            if done.is_err() {
                desk.format.discard();
            }
            (desk, done)
        }));
        self.joined().await.map(drop)
    }

    async fn joined(&mut self) -> anyhow::Result<Done> {
        let Some(busy) = &mut self.busy else { return Ok(Done::Finished) };
        let ended = busy.await;
        self.busy = None;
        let (desk, done) = match ended.map_err(JoinError::try_into_panic) {
            Ok(ended) => ended,
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            Err(Err(_)) => bail!("the process is leaving"),
        };
        self.desk = Some(desk);
        match &done {
            Ok(Done::Wrote { bytes, .. }) => {
                self.bytes += bytes;
                self.opened.get_or_insert_with(Instant::now);
            }
            Ok(Done::Finished) | Err(_) => {
                (self.bytes, self.opened) = (0, None);
                self.landed.clear();
            }
        }
        done
    }
}

impl<F: Format> Destination for Files<F> {
    const LINGER: Duration = Duration::from_millis(50);
    const BATCH_BYTES: usize = 4 << 20;

    async fn write(&mut self, epoch: u64, chunks: &[Arc<Chunk>]) -> anyhow::Result<Written> {
        self.settle().await?;
        let chunks: Vec<_> =
            chunks.iter().filter(|chunk| !self.landed.contains(&chunk.id())).cloned().collect();
        let fence = self.fence.clone();
        self.run(move |desk| {
            fence.require()?;
            let bytes = desk.format.write(&mut desk.naming, epoch, &chunks)?;
            Ok(Done::Wrote { ids: chunks.iter().map(|chunk| chunk.id()).collect(), bytes })
        })
        .await?;
        self.landed.clear();
        Ok(Written::default())
    }

    async fn finish(&mut self) -> anyhow::Result<()> {
        self.settle().await?;
        let fence = self.fence.clone();
        self.run(move |desk| {
            fence.require()?;
            desk.format.finish(&mut desk.naming)?;
            Ok(Done::Finished)
        })
        .await
    }

    fn finish_at(&self) -> Option<Instant> {
        let opened = self.opened?;
        if self.bytes >= self.rotation.bytes_max {
            Some(opened)
        } else {
            Some(opened + self.rotation.age_max)
        }
    }

    async fn discard(&mut self) {
        // What failed has been removed already.
        let _ = self.settle().await;
        let _ = self
            .run(|desk| {
                desk.format.discard();
                Ok(Done::Finished)
            })
            .await;
    }
}

/// Gives files their names: kind, time of opening, a word for this process, a number.
#[derive(Debug)]
pub struct Naming {
    dir: PathBuf,
    extension: &'static str,
    process: u32,
    count: u64,
}

impl Naming {
    /// Names in `dir`, with this ending.
    #[must_use]
    pub fn new(dir: PathBuf, extension: &'static str) -> Self {
        let process = RandomState::new().hash_one(std::process::id()) as u32;
        Self { dir, extension, process, count: 0 }
    }

    /// Creates the next file of this kind under its temporary name.
    ///
    /// # Errors
    /// When directory or file cannot be made.
    pub fn create(&mut self, kind: &str) -> io::Result<PartFile> {
        self.open(kind)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.dir.display())))
    }

    fn open(&mut self, kind: &str) -> io::Result<PartFile> {
        fs::create_dir_all(&self.dir)?;
        let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
        let name = format!("{kind}-{time}-{:08x}-{:06}.{}", self.process, self.count, self.extension);
        self.count += 1;
        let part = self.dir.join(format!("{name}{PART}"));
        let file = File::options().write(true).create_new(true).open(&part)?;
        // Tells a sweep that somebody lives here; where locks do not exist, a sweep costs one more attempt.
        let _ = file.try_lock();
        Ok(PartFile { file, part, path: self.dir.join(name), whole: false })
    }
}

const PART: &str = ".part";
const TORN: &str = ".torn";

/// A file under its temporary name; removed when dropped before it is whole.
#[derive(Debug)]
pub struct PartFile {
    file: File,
    part: PathBuf,
    path: PathBuf,
    whole: bool,
}

impl PartFile {
    /// Makes the file durable under its final name.
    ///
    /// # Errors
    /// When the disk or the directory says no; then nothing is left.
    pub fn complete(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.part, &self.path)?;
        self.whole = true;
        let dir = self.path.parent().unwrap_or(Path::new("."));
        File::open(dir)?.sync_all()
    }
}

impl Write for PartFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.whole {
            // What cannot be removed is swept at the next start.
            let _ = fs::remove_file(&self.part);
        }
    }
}

/// Renames what killed processes left behind.
fn sweep(dir: &Path, extension: &str) {
    let ending = format!(".{extension}{PART}");
    let Ok(entries) = fs::read_dir(dir) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let Some(stem) = name.strip_suffix(PART).filter(|_| name.ends_with(&ending)) else { continue };
        if File::open(&path).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock))) {
            continue;
        }
        let torn = path.with_file_name(format!("{stem}{TORN}"));
        match fs::rename(&path, &torn) {
            Ok(()) => {
                tracing::warn!(file = %torn.display(), "a file was left incomplete; it is kept as torn")
            }
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "an incomplete file cannot be renamed");
            }
        }
    }
}

#[cfg(test)]
mod tests;
