//! `flag set`: writes a local flag file whole or not at all.
//!
//! A reader must never see half of it, so it is written beside its place and renamed over it. That is only right where
//! the directory entry is the file: a link, a mounted ConfigMap or a file mounted by itself would be replaced by
//! something that nobody else sees, so these are refused with where to write instead. Mode and owner stay.

use std::fs::{self, Metadata, Permissions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use ingest_status::Timestamp;
use serde_json::json;

use crate::answer::{Answer, Exit, Failure};
use crate::arguments::{FlagSet, FlagWord, actor};
use crate::paint;

/// Everybody may read a new flag; it holds no secret, and the producer may be another user.
const NEW_MODE: u32 = 0o644;
/// What a ConfigMap's or Secret's directory holds its present version by.
const VERSION_LINK: &str = "..data";

/// Runs it.
pub(crate) fn set(set: FlagSet) -> Result<Answer, Failure> {
    let now = jiff::Timestamp::now().into();
    let until = set.end.at(now).map_err(Failure::refused)?;
    if set.word == FlagWord::On && (set.end.span.is_some() || set.end.until.is_some()) {
        return Err(Failure::refused("an end is for a pause: `flag set on` takes neither --for nor --until"));
    }
    let actor = actor(set.by);
    let text = text(set.word, set.reason.as_deref(), actor.as_deref(), until);
    write(&set.path, &text).map_err(Failure::refused)?;
    let word = text.lines().next().unwrap_or_default().to_owned();
    let path = set.path.display().to_string();
    let told = format!(
        "{} says {word}: a producer that watches it takes it up at once, at the latest at its next poll \
         (INGEST_ENABLED_POLL_S); whether it did, tells: ingestctl status\n",
        paint::line(&path)
    );
    let json = json!({
        "path": path,
        "flag": word,
        "reason": set.reason,
        "actor": actor,
        "until": until.map(|until| until.to_string()),
    });
    Ok(Answer { exit: Exit::Effective, text: told, json })
}

fn text(word: FlagWord, reason: Option<&str>, actor: Option<&str>, until: Option<Timestamp>) -> String {
    let mut text = match word {
        FlagWord::On => "on\n".to_owned(),
        FlagWord::Off => "off\n".to_owned(),
    };
    let until = until.map(|until| until.to_string());
    for (key, value) in [("reason", reason), ("by", actor), ("until", until.as_deref())] {
        if let Some(value) = value {
            text.push_str(&format!("{key}: {value}\n"));
        }
    }
    text
}

/// Puts `text` in the place of `path`; an error says what is there and what to do.
fn write(path: &Path, text: &str) -> Result<(), String> {
    let directory = directory(path)?;
    let before = existing(path, &directory)?;
    let shown = path.display();
    let said = |what: &str, error: &std::io::Error| {
        let advice = if matches!(error.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied) {
            ". A file in a mounted volume is changed at its origin (the ConfigMap, the secret, the bucket)"
        } else if error.kind() == ErrorKind::ResourceBusy {
            ". It is mounted by itself, so it cannot be replaced from here; write its origin, or mount its directory"
        } else {
            ""
        };
        format!("{what}: {error}{advice}; nothing was changed")
    };

    let mut beside = tempfile::Builder::new()
        .prefix(".ingestctl-")
        .tempfile_in(&directory)
        .map_err(|error| said(&format!("{} takes no file", directory.display()), &error))?;
    let mode = before.as_ref().map_or(NEW_MODE, |before| before.mode() & 0o7777);
    let file = beside.as_file_mut();
    file.write_all(text.as_bytes())
        .and_then(|()| file.set_permissions(Permissions::from_mode(mode)))
        .and_then(|()| file.sync_all())
        .map_err(|error| said(&format!("{shown} cannot be written"), &error))?;
    if let Some(before) = &before {
        let own = file.metadata().map_err(|error| said(&format!("{shown} cannot be written"), &error))?;
        if (own.uid(), own.gid()) != (before.uid(), before.gid()) {
            std::os::unix::fs::chown(beside.path(), Some(before.uid()), Some(before.gid()))
                .map_err(|error| said(&format!("the owner of {shown} cannot be kept"), &error))?;
            // A change of owner may take bits of the mode away.
            fs::set_permissions(beside.path(), Permissions::from_mode(mode))
                .map_err(|error| said(&format!("the mode of {shown} cannot be kept"), &error))?;
        }
    }
    beside.persist(path).map_err(|error| said(&format!("{shown} cannot be replaced"), &error.error))?;
    // The new entry shall outlast a loss of power; where a directory cannot be synced, it stands all the same.
    let _ = fs::File::open(&directory).and_then(|directory| directory.sync_all());
    Ok(())
}

fn directory(path: &Path) -> Result<PathBuf, String> {
    if path.file_name().is_none() {
        return Err(format!("{} names no file", path.display()));
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = parent.unwrap_or_else(|| Path::new(".")).to_owned();
    match fs::metadata(&directory) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(format!("{} is no directory", directory.display())),
        Err(error) => return Err(format!("{}: {error}; create the directory first", directory.display())),
    }
    if fs::symlink_metadata(directory.join(VERSION_LINK)).is_ok() {
        return Err(config_map(path));
    }
    Ok(directory)
}

/// What is at `path`, if it may be replaced.
fn existing(path: &Path, directory: &Path) -> Result<Option<Metadata>, String> {
    let shown = path.display();
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{shown}: {error}")),
    };
    if found.is_symlink() {
        let target = fs::read_link(path).unwrap_or_default();
        if target.components().any(|part| part.as_os_str() == VERSION_LINK) {
            return Err(config_map(path));
        }
        return Err(format!(
            "{shown} is a link to {}, and replacing it would cut the link; name the file itself",
            target.display()
        ));
    }
    if !found.is_file() {
        return Err(format!("{shown} is no plain file, and only a plain file is replaced"));
    }
    let of_directory =
        fs::metadata(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    if found.dev() != of_directory.dev() {
        return Err(format!(
            "{shown} is mounted by itself, so it cannot be replaced from here; write its origin, or mount its \
             directory instead"
        ));
    }
    Ok(Some(found))
}

fn config_map(path: &Path) -> String {
    format!(
        "{} lies in a mounted ConfigMap or Secret, which takes no changes from here (the next update would undo them); \
         edit its origin, for example `kubectl edit configmap NAME`, or pause with `ingestctl pause`",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::symlink;

    use ingest_switch::{Flag, flag};

    use super::*;

    const OFF: &str = "off\nreason: works\nby: ann\n";

    #[test]
    fn the_flag_says_what_was_asked_when_it_is_read_back() {
        let until = Timestamp::from_microseconds(1_800_000_000_000_000).unwrap();
        let text = text(FlagWord::Off, Some("a: b # c"), Some("ann"), Some(until));
        let Flag::Off(notes) = flag::parse(text.as_bytes()) else { panic!("{text}") };
        assert_eq!((notes.reason.as_deref(), notes.actor.as_deref()), (Some("a: b # c"), Some("ann")));
        assert_eq!((notes.until.map(Timestamp::from), notes.bad), (Some(until), None));
        assert_eq!(super::text(FlagWord::On, None, None, None), "on\n");
    }

    #[test]
    fn it_is_replaced_whole_with_its_mode_and_nothing_is_left_beside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("flag");
        write(&path, OFF).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, NEW_MODE);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        write(&path, "on\n").unwrap();
        let now = fs::metadata(&path).unwrap();
        assert_eq!((now.mode() & 0o777, fs::read_to_string(&path).unwrap().as_str()), (0o640, "on\n"));
        assert_ne!(now.ino(), inode, "replaced, not rewritten in place");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_replaced_rightly_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("real"), "on\n").unwrap();
        symlink("real", at("link")).unwrap();
        fs::create_dir(at("dir")).unwrap();
        fs::create_dir(at("map")).unwrap();
        symlink("..2026", at("map").join(VERSION_LINK)).unwrap();
        symlink("..data/flag", at("projected")).unwrap();
        for (path, told) in [
            (at("link"), "is a link to real"),
            (at("projected"), "kubectl edit configmap"),
            (at("dir"), "no plain file"),
            (at("map").join("flag"), "kubectl edit configmap"),
            (at("nowhere").join("flag"), "create the directory first"),
            (at("real").join("flag"), "is no directory"),
            (PathBuf::from("/"), "names no file"),
            (PathBuf::from("/proc/ingestctl-flag"), "nothing was changed"),
        ] {
            let refusal = write(&path, OFF).unwrap_err();
            assert!(refusal.contains(told), "{}: {refusal}", path.display());
        }
        assert_eq!(fs::read_to_string(at("real")).unwrap(), "on\n");
    }
}
