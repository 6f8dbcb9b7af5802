//! A file system that is soon full.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system, in memory.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts it below `dir`, of so many megabytes. Needs the right to mount; says so where it is not given, which fails in CI.
    ///
    /// # Panics
    /// In CI, when it cannot be mounted.
    #[must_use]
    pub fn mount(dir: &Path, megabytes: u32) -> Option<Self> {
        let path = dir.join("disk");
        std::fs::create_dir(&path).expect("a directory");
        let size = format!("size={megabytes}m");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path).status();
        if mount.is_ok_and(|status| status.success()) {
            return Some(Self { path });
        }
        assert!(std::env::var_os("CI").is_none(), "a small file system cannot be mounted");
        eprintln!("LEFT OUT: a full disk (no right to mount a file system)");
        None
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves no room.
    ///
    /// # Panics
    /// When it was full before.
    pub fn fill(&self) {
        let ballast = File::create(self.path.join("ballast")).expect("room for a name");
        let mut writer = BufWriter::new(ballast);
        while writer.write_all(&[0; 4096]).is_ok() {}
    }

    /// Makes it larger than it was.
    ///
    /// # Panics
    /// When the system does not allow it.
    pub fn grow(&self, megabytes: u32) {
        let options = format!("remount,size={megabytes}m");
        let status = Command::new("mount").args(["-o", &options]).arg(&self.path).status();
        assert!(status.is_ok_and(|status| status.success()), "{options}");
    }

    /// Makes room again.
    ///
    /// # Panics
    /// When it was not filled.
    pub fn free(&self) {
        std::fs::remove_file(self.path.join("ballast")).expect("the ballast");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the producer that used it may end only after this.
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}
