//! Events of the flag file's directory.
//!
//! The directory is watched, never the file: a watch on the file is lost with the first rename or
//! symlink swap. While the directory does not exist its nearest existing ancestor is watched
//! instead, and every look at the file moves the watch to where it belongs by then.
//!
//! Not watched, and left to the poll: links further up the path, and the file that a link in the
//! directory leads to (but swapping that link is seen, and so is Kubernetes' `..data`).

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, io};

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// How often arming starts over while the directory appears and disappears under it.
const ARM_ATTEMPTS_MAX: usize = 5;

/// Wakes a task when the flag file may have changed.
#[derive(Debug)]
pub(super) struct DirectoryEvents {
    watcher: RecommendedWatcher,
    dir: PathBuf,
    armed: Option<Armed>,
    /// Set by the event thread when what is armed was removed or renamed.
    lost: Arc<AtomicBool>,
}

/// A watched directory, known by inode: a path may come to mean another directory.
#[derive(Debug, PartialEq, Eq)]
struct Armed {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl DirectoryEvents {
    /// Prepares to watch for the absolute path `file`; nothing is watched before [`arm`](Self::arm).
    pub(super) fn new(file: &Path, woken: Arc<Notify>) -> notify::Result<Self> {
        let dir = file.parent().unwrap_or(file).to_owned();
        let lost = Arc::new(AtomicBool::new(false));
        let on_event = {
            let (file, dir, lost) = (file.to_owned(), dir.clone(), Arc::clone(&lost));
            move |event: notify::Result<Event>| {
                let seen = event.as_ref().map_or(Seen::LOST, |event| Seen::of(event, &file, &dir));
                if seen.lost {
                    lost.store(true, Ordering::Release);
                }
                if seen.concerns_flag {
                    woken.notify_one();
                }
            }
        };
        Ok(Self { watcher: notify::recommended_watcher(on_event)?, dir, armed: None, lost })
    }

    /// Watches the directory, or its nearest ancestor that exists. Blocks on the file system.
    ///
    /// To be called before the file is read, so that no change falls between the two.
    pub(super) fn arm(&mut self) -> notify::Result<()> {
        for _ in 0..ARM_ATTEMPTS_MAX {
            let lost = self.lost.swap(false, Ordering::AcqRel);
            let wanted = nearest_existing(&self.dir)?;
            if !lost && self.armed.as_ref() == Some(&wanted) {
                return Ok(());
            }
            if let Some(old) = self.armed.take() {
                // It fails where the directory took its watch along, which is as well.
                let _ = self.watcher.unwatch(&old.path);
            }
            match self.watcher.watch(&wanted.path, RecursiveMode::NonRecursive) {
                Ok(()) => self.armed = Some(wanted),
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Whether the directory vanished between being found and being watched.
fn is_gone(error: &notify::Error) -> bool {
    match &error.kind {
        notify::ErrorKind::PathNotFound => true,
        notify::ErrorKind::Io(error) => error.kind() == io::ErrorKind::NotFound,
        notify::ErrorKind::Generic(_)
        | notify::ErrorKind::WatchNotFound
        | notify::ErrorKind::InvalidConfig(_)
        | notify::ErrorKind::MaxFilesWatch => false,
    }
}

fn nearest_existing(dir: &Path) -> io::Result<Armed> {
    let mut last = io::ErrorKind::NotFound.into();
    for path in dir.ancestors() {
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => return Ok(Armed::new(path, &found)),
            Ok(_) => {}
            Err(error) => last = error,
        }
    }
    Err(last)
}

impl Armed {
    fn new(path: &Path, found: &Metadata) -> Self {
        Self { path: path.to_owned(), device: found.dev(), inode: found.ino() }
    }
}

/// What an event means here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    concerns_flag: bool,
    lost: bool,
}

impl Seen {
    const NOTHING: Self = Self { concerns_flag: false, lost: false };
    const LOST: Self = Self { concerns_flag: true, lost: true };

    fn of(event: &Event, file: &Path, dir: &Path) -> Self {
        if event.need_rescan() {
            return Self::LOST;
        }
        // Our own reads open and close the file, too.
        let written = AccessKind::Close(AccessMode::Write);
        if matches!(event.kind, EventKind::Access(access) if access != written) {
            return Self::NOTHING;
        }
        let on_the_way = |path: &PathBuf| dir.starts_with(path);
        // Kubernetes swaps a mounted ConfigMap by renaming `..data`, a link beside the file.
        let beside = |path: &PathBuf| {
            let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".."));
            path == file || (hidden && path.parent() == Some(dir))
        };
        let gone = matches!(event.kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)));
        let way = event.paths.iter().any(on_the_way);
        Self { concerns_flag: way || event.paths.iter().any(beside), lost: way && gone }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use notify::event::{CreateKind, DataChange, RemoveKind, RenameMode};

    #[test]
    fn only_events_of_the_flag_wake_the_watcher() {
        let changed = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let renamed = EventKind::Modify(ModifyKind::Name(RenameMode::To));
        let removed = EventKind::Remove(RemoveKind::Folder);
        let opened = EventKind::Access(AccessKind::Open(AccessMode::Any));
        let closed = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let wakes = Seen { concerns_flag: true, lost: false };
        for (kind, path, expected) in [
            (changed, "/etc/ingest/enabled", wakes),
            (closed, "/etc/ingest/enabled", wakes),
            (renamed, "/etc/ingest/enabled", wakes),
            (opened, "/etc/ingest/enabled", Seen::NOTHING),
            (renamed, "/etc/ingest/..data", wakes),
            (changed, "/etc/ingest/market.db-wal", Seen::NOTHING),
            (changed, "/etc/ingest/enabled.swp", Seen::NOTHING),
            (renamed, "/etc/..data", Seen::NOTHING),
            (removed, "/etc/ingest", Seen::LOST),
            (EventKind::Create(CreateKind::Folder), "/etc/ingest", wakes),
            (EventKind::Create(CreateKind::Folder), "/etc/other", Seen::NOTHING),
        ] {
            let event = Event::new(kind).add_path(path.into());
            let seen = Seen::of(&event, Path::new("/etc/ingest/enabled"), Path::new("/etc/ingest"));
            assert_eq!(seen, expected, "{kind:?} {path}");
        }
    }

    #[test]
    fn a_directory_that_is_not_there_is_awaited_from_its_nearest_ancestor() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b/c");
        assert_eq!(nearest_existing(&deep).unwrap().path, root.path());
        fs::create_dir_all(root.path().join("a/b")).unwrap();
        assert_eq!(nearest_existing(&deep).unwrap().path, root.path().join("a/b"));
        fs::create_dir(&deep).unwrap();
        assert_eq!(nearest_existing(&deep).unwrap().path, deep);
    }
}
