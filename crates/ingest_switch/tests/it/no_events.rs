//! A system that grants no directory events.

use std::env;
use std::fs;
use std::process::Command;
use std::time::Duration;

use ingest_switch::watch::Config;

use crate::rig::{Place, Rig, config};

/// Set in the child process that runs under the limit.
const LIMITED: &str = "INGEST_SWITCH_TEST_LIMITED";

#[tokio::test]
async fn without_inotify_there_is_one_warning_and_the_poll_goes_on() {
    if env::var_os(LIMITED).is_some() {
        return polls_with_one_warning().await;
    }
    // The limits are the kernel's; a user namespace of its own leaves those of the machine alone.
    for limit in ["max_inotify_instances", "max_inotify_watches"] {
        let lower = format!("echo 0 > /proc/sys/user/{limit}");
        let unshared = |script: String| {
            let mut command = Command::new("unshare");
            command.args(["--user", "--map-root-user", "sh", "-c", &script]);
            command.arg(env::current_exe().unwrap()).env(LIMITED, "1");
            command.output()
        };
        if !unshared(lower.clone()).is_ok_and(|output| output.status.success()) {
            assert!(env::var_os("CI").is_none(), "this system lets no test lower {limit}");
            eprintln!("NOT SHOWN: this system lets no test lower {limit}; nothing was tested");
            continue;
        }
        let test = "no_events::without_inotify_there_is_one_warning_and_the_poll_goes_on";
        let output = unshared(format!("{lower} && exec \"$0\" --exact {test}")).unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && told.contains("1 passed"), "{limit}: {told}");
    }
}

async fn polls_with_one_warning() {
    let (_place, flag) = Place::with_flag("on");
    let mut rig = Rig::start(Config { poll: Duration::from_millis(20), ..config(&flag) }).await;
    for enabled in [false, true, false] {
        fs::write(&flag, if enabled { "on" } else { "off" }).unwrap();
        rig.until_enabled(enabled).await;
    }
    let expected = "no events of the flag file's directory; only the poll finds changes";
    assert_eq!(rig.stop().await.warnings(), [expected]);
}

#[tokio::test]
async fn a_directory_that_comes_later_is_found_by_the_poll_alone() {
    let place = Place::new();
    let flag = place.path("later/enabled");
    let poll = Duration::from_millis(20);
    let mut rig = Rig::start(Config { events: false, poll, ..config(&flag) }).await;
    fs::create_dir(flag.parent().unwrap()).unwrap();
    fs::write(&flag, "off").unwrap();
    rig.until_enabled(false).await;
}
