//! Every way in which a flag file comes to say something else, seen by events alone: the poll is too
//! rare to explain any of it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::rig::{Place, Rig, rename_over};

/// Edits on, off, on by `edit` and expects each to be followed, with one record an edge.
async fn follows(flag: &Path, edit: impl Fn(&str)) {
    let mut rig = Rig::watching(flag).await;
    assert!(rig.now().enabled);
    for _ in 0..3 {
        edit("off");
        rig.until_enabled(false).await;
        edit("on");
        rig.until_enabled(true).await;
    }
    let expected = ["initial", "halted", "resumed", "halted", "resumed", "halted", "resumed"];
    assert_eq!(rig.records().statuses(), expected);
    assert_eq!(rig.stop().await.warnings(), Vec::<String>::new());
}

#[tokio::test]
async fn an_edit_in_place_is_followed() {
    let (_place, flag) = Place::with_flag("on");
    follows(&flag, |text| fs::write(&flag, text).unwrap()).await;
}

#[tokio::test]
async fn a_rename_over_the_file_is_followed() {
    let (_place, flag) = Place::with_flag("on");
    follows(&flag, |text| rename_over(&flag, text)).await;
}

#[tokio::test]
async fn a_file_deleted_and_created_is_followed() {
    let (_place, flag) = Place::with_flag("on");
    follows(&flag, |text| {
        fs::remove_file(&flag).unwrap();
        fs::write(&flag, text).unwrap();
    })
    .await;
}

/// Writes `text` into a new directory and swaps `..data` to it, as the kubelet does.
fn swap_data(mount: &Path, text: &str) {
    let old = fs::read_link(mount.join("..data")).ok();
    let new = if old.as_deref() == Some(Path::new("..2026_a")) { "..2026_b" } else { "..2026_a" };
    fs::create_dir(mount.join(new)).unwrap();
    fs::write(mount.join(new).join("enabled"), text).unwrap();
    symlink(new, mount.join("..data_tmp")).unwrap();
    fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
    if let Some(old) = old {
        fs::remove_dir_all(mount.join(old)).unwrap();
    }
}

#[tokio::test]
async fn a_config_map_swap_is_followed() {
    let mount = Place::new();
    let flag = mount.path("enabled");
    swap_data(flag.parent().unwrap(), "on");
    symlink("..data/enabled", &flag).unwrap();
    follows(&flag, |text| swap_data(flag.parent().unwrap(), text)).await;
}

#[tokio::test]
async fn a_file_that_comes_later_is_followed() {
    let place = Place::new();
    let flag = place.path("enabled");
    let mut rig = Rig::watching(&flag).await;
    assert_eq!((rig.now().enabled, rig.now().source, rig.now().flag_fresh), (true, None, true));
    fs::write(&flag, "off").unwrap();
    rig.until_enabled(false).await;
    assert_eq!(rig.stop().await.warnings(), Vec::<String>::new());
}

#[tokio::test]
async fn a_directory_that_comes_later_is_followed() {
    let place = Place::new();
    let flag = place.path("a/b/c/enabled");
    let mut rig = Rig::watching(&flag).await;
    fs::create_dir_all(flag.parent().unwrap()).unwrap();
    fs::write(&flag, "off").unwrap();
    rig.until_enabled(false).await;
    fs::write(&flag, "on").unwrap();
    rig.until_enabled(true).await;
}

#[tokio::test]
async fn a_directory_moved_away_and_replaced_is_followed() {
    let place = Place::new();
    let (dir, flag) = (place.path("dir"), place.path("dir/enabled"));
    fs::create_dir(&dir).unwrap();
    fs::write(&flag, "on").unwrap();
    let mut rig = Rig::watching(&flag).await;
    for (round, enabled) in [false, true, false].into_iter().enumerate() {
        fs::rename(&dir, place.path(&format!("old-{round}"))).unwrap();
        fs::create_dir(&dir).unwrap();
        fs::write(&flag, if enabled { "on" } else { "off" }).unwrap();
        rig.until_enabled(enabled).await;
        fs::write(&flag, if enabled { "off" } else { "on" }).unwrap();
        rig.until_enabled(!enabled).await;
        fs::write(&flag, if enabled { "on" } else { "off" }).unwrap();
        rig.until_enabled(enabled).await;
    }
}

#[tokio::test]
async fn a_directory_deleted_and_created_is_followed() {
    let place = Place::new();
    let (dir, flag) = (place.path("dir"), place.path("dir/enabled"));
    fs::create_dir(&dir).unwrap();
    fs::write(&flag, "off").unwrap();
    let mut rig = Rig::watching(&flag).await;
    for enabled in [true, false, true] {
        fs::remove_dir_all(&dir).unwrap();
        let kept = rig.until_stale().await.decision;
        assert_eq!(kept.enabled, !enabled, "the last decision stands");
        fs::create_dir(&dir).unwrap();
        fs::write(&flag, if enabled { "on" } else { "off" }).unwrap();
        rig.until_enabled(enabled).await;
    }
}

#[tokio::test]
async fn a_directory_replaced_faster_than_it_is_looked_at_is_followed() {
    let place = Place::new();
    let (dir, flag) = (place.path("dir"), place.path("dir/enabled"));
    fs::create_dir(&dir).unwrap();
    fs::write(&flag, "on").unwrap();
    let mut rig = Rig::watching(&flag).await;
    for round in 0..20 {
        let enabled = round % 2 == 1;
        // Nothing is awaited between, and the new directory may get the inode of the old.
        fs::remove_dir_all(&dir).unwrap();
        fs::create_dir(&dir).unwrap();
        fs::write(&flag, if enabled { "on" } else { "off" }).unwrap();
        rig.until_enabled(enabled).await;
        fs::write(&flag, if enabled { "off" } else { "on" }).unwrap();
        rig.until_enabled(!enabled).await;
    }
}

#[tokio::test]
async fn a_relative_path_is_watched_and_named_as_configured() {
    let dir = tempfile::tempdir_in(".").unwrap();
    let flag = Path::new(dir.path().file_name().unwrap()).join("enabled");
    let mut rig = Rig::watching(&flag).await;
    fs::write(&flag, "off").unwrap();
    let decision = rig.until_enabled(false).await.decision;
    let source = decision.source.unwrap();
    assert_eq!(source.as_str(), format!("file:{}", flag.display()));
}

#[tokio::test]
async fn traffic_beside_the_file_is_not_looked_at() {
    let (place, flag) = Place::with_flag("on");
    let mut rig = Rig::watching(&flag).await;
    for round in 0..500 {
        fs::write(place.path("market.db-wal"), format!("{round}")).unwrap();
    }
    fs::write(&flag, "off").unwrap();
    rig.until_enabled(false).await;
    assert_eq!(rig.seq(), 1, "one decision followed the first");
}
