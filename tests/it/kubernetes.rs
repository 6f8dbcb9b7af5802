//! The agent on Kubernetes: the control script against a played cluster and against a real producer, and what the
//! manifests promise beyond their schema.

use std::time::Duration;

use e2e::binary;
use e2e::kubernetes::Cluster;
use e2e::producer::Setup;
use e2e::venue::Venue;
use serde_json::{Value, json};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const FORBIDDEN: &str = r#"Error from server (Forbidden): pods "agent-1" is forbidden"#;

#[test]
fn pause_and_resume_say_what_the_operations_guide_says() {
    let cluster = Cluster::with_agent("running\n");
    let paused = cluster.run(&["pause"]);
    assert_eq!(paused.code, 0, "{}", paused.err);
    assert_eq!(
        paused.out,
        "Pausing agent...\n\
         ConfigMap updated to 'pause'\n\
         SIGUSR1 signal sent to pod\n\
         Waiting for agent to pause..\n\
         ✓ Agent successfully paused\n"
    );
    let resumed = cluster.run(&["resume"]);
    assert_eq!(resumed.code, 0, "{}", resumed.err);
    assert_eq!(
        resumed.out,
        "Resuming agent...\n\
         ConfigMap updated to 'resume'\n\
         SIGUSR2 signal sent to pod\n\
         Waiting for agent to resume..\n\
         ✓ Agent successfully resumed\n"
    );
    assert_eq!(cluster.configmap(), "resume\nby: kim\n");
    assert_eq!(cluster.now()["pods"]["agent-1"]["signal"], false, "both holds are released");
}

#[test]
fn success_is_claimed_only_when_the_pod_shows_it() {
    // The signal is not allowed, and the volume follows the ConfigMap at the third look.
    let cluster = Cluster::new(&json!({
        "configmap": "running", "fails": {"exec-signal": FORBIDDEN},
        "pods": {"agent-1": {"file": "running", "lag": 2}},
    }));
    let run = cluster.run(&["pause"]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(
        run.out.contains("SIGUSR1 signal not sent to pod agent-1: Error from server (Forbidden)"),
        "{}",
        run.out
    );
    assert!(
        run.out.ends_with("Waiting for agent to pause....\n✓ Agent successfully paused\n"),
        "{}",
        run.out
    );
}

#[test]
fn what_has_no_effect_in_time_is_a_failure() {
    let cluster = Cluster::new(
        &json!({"configmap": "running", "pods": {"agent-1": {"file": "running", "deaf": true}}}),
    );
    let run = cluster.run_with(&["pause"], &[("TIMEOUT", "1")]);
    assert_eq!(run.code, 3);
    assert!(run.err.contains("Agent did not pause within 1 s: pod agent-1 is running"), "{}", run.err);
    assert!(!run.out.contains('✓'), "{}", run.out);

    // The volume does not follow: its hold is ours, so nobody else is blamed.
    let cluster =
        Cluster::new(&json!({"configmap": "pause", "pods": {"agent-1": {"file": "pause", "lag": 99}}}));
    let run = cluster.run_with(&["resume"], &[("TIMEOUT", "1")]);
    assert_eq!(run.code, 3);
    assert!(run.err.contains("Agent did not resume within 1 s"), "{}", run.err);
    assert!(run.err.contains("file:/tmp/control/state holds all"), "{}", run.err);
}

#[test]
fn resume_names_whoever_else_holds_and_does_not_wait_for_them() {
    let others = "control:all-lee\tall\t2026-11-22T22:00:00Z\t-\tlee\tbad prints";
    let cluster = Cluster::new(&json!({
        "configmap": "pause", "pods": {"agent-1": {"file": "pause", "signal": true, "others": [others]}},
    }));
    let run = cluster.run_with(&["resume"], &[("TIMEOUT", "50")]);
    assert_eq!(run.code, 3);
    assert!(
        run.out.contains("control:all-lee holds all since 2026-11-22T22:00:00Z, by lee (bad prints)"),
        "{}",
        run.out
    );
    assert!(run.err.contains("still held by somebody else"), "{}", run.err);
    assert!(run.took < Duration::from_secs(30), "{:?}", run.took);
    assert_eq!(cluster.configmap(), "resume\nby: kim\n", "its own holds are released");
}

#[test]
fn a_hold_on_a_part_does_not_keep_a_resume_from_its_success() {
    let others = "control:symbol-btc\tsymbol:BTC/USD\t2026-11-22T22:00:00Z\t-\tlee\t-";
    let cluster = Cluster::new(
        &json!({"configmap": "pause", "pods": {"agent-1": {"file": "pause", "others": [others]}}}),
    );
    assert_eq!(cluster.run(&["resume"]).code, 0);
}

#[test]
fn nobody_resumes_somebody_elses_pause_by_accident() {
    let cluster = Cluster::with_agent("running");
    assert_eq!(cluster.run_with(&["pause", "--reason", "bad prints"], &[("BY", "lee")]).code, 0);
    let asked = cluster.calls().len();
    let run = cluster.run(&["resume"]);
    assert_eq!(run.code, 3);
    assert!(run.err.contains("made by lee (bad prints), not by kim"), "{}", run.err);
    assert!(run.err.contains("resume --anyone"), "{}", run.err);
    assert_eq!(cluster.configmap(), "pause\nby: lee\nreason: bad prints\n");
    assert_eq!(cluster.calls().len(), asked + 1, "it looked, and no more");

    assert_eq!(cluster.run(&["resume", "--anyone"]).code, 0);
    assert_eq!(cluster.configmap(), "resume\nby: kim\n");
}

#[test]
fn a_pause_without_a_name_is_anybodys() {
    let cluster = Cluster::with_agent("pause");
    assert_eq!(cluster.run(&["resume"]).code, 0);
}

#[test]
fn nobodys_pause_is_cut_short_by_anothers() {
    let job = [("BY", "cronjob/pause-agent-maintenance")];
    for standing in ["pause\nby: lee\nreason: incident\n", "pause\nuntil: 2999-01-01T00:00:00Z\n"] {
        let cluster = Cluster::with_agent(standing);
        let run = cluster.run_with(&["pause", "--for", "2h"], &job);
        assert_eq!(run.code, 0, "{}", run.err);
        assert!(run.out.contains("ConfigMap left as it is: paused by "), "{}", run.out);
        assert_eq!(cluster.configmap(), standing);
    }
    // One that ends sooner makes way, and so does one's own.
    for (standing, by) in
        [("pause\nby: lee\nuntil: 2020-01-01T00:00:00Z\n", "kim"), ("pause\nby: kim\n", "kim")]
    {
        let cluster = Cluster::with_agent(standing);
        let run = cluster.run_with(&["pause", "--for", "2h"], &[("BY", by)]);
        assert_eq!(run.code, 0, "{}", run.err);
        assert!(cluster.configmap().starts_with("pause\nby: kim\nuntil: 20"), "{}", cluster.configmap());
    }
}

#[test]
fn a_timed_pause_carries_its_end_and_sends_no_signal() {
    let cluster = Cluster::with_agent("running");
    let before = jiff::Timestamp::now();
    let run = cluster.run(&["pause", "--for", "30m", "--reason", "upgrade"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let said = cluster.configmap();
    let until = said.lines().find_map(|line| line.strip_prefix("until: ")).unwrap();
    let lasts = until.parse::<jiff::Timestamp>().unwrap().duration_since(before).as_secs();
    assert!((1795..=1830).contains(&lasts), "{said}");
    assert!(run.out.contains(&format!("✓ Agent successfully paused until {until}")), "{}", run.out);
    assert!(!cluster.calls().iter().any(|call| call.contains("signal")), "a signal has no end");

    for wrong in ["", "0m", "2", "2w", "1h30m", "-5m"] {
        let run = cluster.run(&["pause", "--for", wrong]);
        assert!(run.code == 2 && run.err.contains("30m"), "{wrong}: {}", run.err);
    }
}

#[test]
fn every_call_goes_to_the_namespace_and_the_context_that_were_named() {
    let cluster = Cluster::with_agent("running");
    let vars = [("NAMESPACE", "staging"), ("CONTEXT", "east"), ("CALL_TIMEOUT", "7")];
    for command in ["pause", "status", "resume", "restart"] {
        assert_eq!(cluster.run_with(&[command], &vars).code, 0, "{command}");
    }
    let calls = cluster.calls();
    assert!(calls.len() > 15, "{calls:?}");
    for call in calls {
        assert!(call.starts_with("--context east --namespace staging --request-timeout "), "{call}");
    }
}

#[test]
fn any_words_reach_the_configmap_as_they_are_on_one_line() {
    let cluster = Cluster::with_agent("running");
    let reason = "„Kurse“ 100% \"off\" \\ $HOME `id`\nuntil: 2000-01-01T00:00:00Z";
    assert_eq!(cluster.run(&["pause", "--reason", reason]).code, 0);
    let flat = reason.replace('\n', " ");
    assert_eq!(cluster.configmap(), format!("pause\nby: kim\nreason: {flat}\n"));
    let annotations = &cluster.now()["pods"]["agent-1"]["annotations"];
    assert_eq!((&annotations["paused-by"], &annotations["paused-reason"]), (&json!("kim"), &json!(reason)));
}

#[test]
fn without_a_running_pod_the_next_one_is_told_and_the_exit_code_says_so() {
    for pods in [json!({}), json!({"agent-1": {"terminating": true}})] {
        let cluster = Cluster::new(&json!({"configmap": null, "pods": pods}));
        let run = cluster.run(&["pause"]);
        assert_eq!(run.code, 4);
        assert!(run.err.contains("No running agent"), "{}", run.err);
        assert_eq!(cluster.configmap(), "pause\nby: kim\n");
        assert_eq!(cluster.run(&["status"]).code, 4);
    }
}

#[test]
fn of_several_pods_every_one_must_show_it() {
    let mut pods = json!({"agent-1": {"file": "running"}, "agent-2": {"file": "running"}});
    let cluster = Cluster::new(&json!({"configmap": "running", "pods": pods}));
    let run = cluster.run(&["pause"]);
    assert_eq!((run.code, run.out.matches("SIGUSR1 signal sent to pod\n").count()), (0, 2), "{}", run.err);

    pods["agent-2"]["deaf"] = json!(true);
    let cluster = Cluster::new(&json!({"configmap": "running", "pods": pods}));
    let run = cluster.run_with(&["pause"], &[("TIMEOUT", "1")]);
    assert!(run.code == 3 && run.err.contains("pod agent-2 is running"), "{}", run.err);
}

#[test]
fn a_call_that_hangs_is_given_up() {
    let vars = [("CALL_TIMEOUT", "3"), ("TIMEOUT", "1")];
    for (verb, code) in [("get", 2), ("patch", 2), ("exec-health", 3), ("exec-signal", 0)] {
        let cluster = Cluster::new(&json!({
            "configmap": "running", "hangs": [verb], "pods": {"agent-1": {"file": "running"}},
        }));
        let run = cluster.run_with(&["pause"], &vars);
        assert_eq!(run.code, code, "{verb}: {}", run.err);
        assert!(run.took < Duration::from_secs(25), "{verb}: {:?}", run.took);
    }
}

#[test]
fn a_cluster_that_refuses_is_told_of_and_nothing_is_claimed() {
    let cluster = Cluster::new(&json!({"pods": {"agent-1": {}}}));
    let run = cluster.run(&["pause"]);
    assert_eq!(run.code, 2);
    assert!(run.err.contains("NotFound") && run.err.contains("kubectl create -f"), "{}", run.err);

    let cluster = Cluster::new(&json!({
        "configmap": "running", "fails": {"patch": FORBIDDEN}, "pods": {"agent-1": {}},
    }));
    let run = cluster.run(&["pause"]);
    assert!(run.code == 2 && run.err.contains("Forbidden"), "{}", run.err);
    assert!(!cluster.calls().iter().any(|call| call.contains("exec")), "no half of a pause");
}

#[test]
fn an_agent_that_nobody_vouches_for_is_unhealthy_whatever_its_files_say() {
    let cluster =
        Cluster::new(&json!({"configmap": "pause", "pods": {"agent-1": {"file": "pause", "stale": true}}}));
    let run = cluster.run(&["status"]);
    assert_eq!(run.code, 4);
    assert!(run.out.contains("Current state: UNHEALTHY\n"), "{}", run.out);
    assert!(run.out.contains("vouches for nobody: it is 60 s old"), "{}", run.out);
    let run = cluster.run_with(&["pause"], &[("TIMEOUT", "1")]);
    assert!(run.code == 3 && run.err.contains("pod agent-1 is unhealthy"), "{}", run.err);
}

#[test]
fn status_shows_state_health_files_configmap_holds_and_log_without_colours() {
    let cluster = Cluster::with_agent("# Friday\nPause\nreason: upgrade\nby: lee\n");
    let run = cluster.run(&["status"]);
    assert_eq!(run.code, 0, "{}", run.err);
    for expected in [
        "ConfigMap state: pause\n  by: lee\n  reason: upgrade\n",
        "Current state: PAUSED\n",
        "Health files:\n  paused\n",
        "  documents=7\n",
        "  readiness=absent\n",
        "Holds:\n  file:/tmp/control/state holds all since 2026-11-22T23:00:00Z, by lee (upgrade)\n",
        "Recent logs:\n  {\"message\":\"ingest_switch\"}\n",
    ] {
        assert!(run.out.contains(expected), "{expected} in {}", run.out);
    }
    assert!(!run.out.contains('\x1b'), "no terminal, no colours");
    let running = Cluster::with_agent("running").run(&["status"]);
    assert!(running.out.contains("Current state: RUNNING\n") && running.out.contains("Holds:\n  none\n"));
}

#[test]
fn a_restart_loses_nobodys_pause() {
    let held = |configmap: &str| {
        let cluster = Cluster::new(&json!({
            "configmap": configmap, "pods": {"agent-1": {"file": configmap, "signal": true}},
        }));
        let run = cluster.run(&["restart"]);
        (run.code, run.out + &run.err)
    };
    let (code, told) = held("running");
    assert!(code == 2 && told.contains("held by a signal only"), "{told}");
    let (code, told) = held("pause");
    assert!(code == 0 && told.contains("✓ Agent restarted, paused"), "{told}");
}

#[test]
fn help_and_wrong_words() {
    let cluster = Cluster::with_agent("running");
    for words in [&["help"][..], &["--help"]] {
        let run = cluster.run(words);
        assert_eq!(run.code, 0);
        for verb in ["pause", "resume", "status", "restart", "help", "NAMESPACE", "Exit code"] {
            assert!(run.out.contains(verb), "{verb} in {}", run.out);
        }
    }
    for words in [&[][..], &["stop"], &["pause", "--wait"], &["pause", "--reason"], &["resume", "all"]] {
        let run = cluster.run(words);
        assert!(run.code == 2 && run.err.contains('✗'), "{words:?}: {}", run.err);
    }
    assert_eq!(cluster.run_with(&["status"], &[("TIMEOUT", "soon")]).code, 2);
    assert!(cluster.calls().is_empty(), "none of these asks the cluster");
}

#[test]
fn make_has_the_three_words() {
    let cluster = Cluster::with_agent("running");
    for (target, expected) in [
        ("k8s-pause", "✓ Agent successfully paused\n"),
        ("k8s-control-status", "Current state: PAUSED\n"),
        ("k8s-resume", "✓ Agent successfully resumed\n"),
    ] {
        let run = cluster.make(target);
        assert!(run.code == 0 && run.out.contains(expected), "{target}: {} {}", run.out, run.err);
    }
}

#[test]
fn the_script_pauses_and_resumes_a_real_producer() {
    let venue = Venue::start(&["--synthetic"]);
    let dir = tempfile::tempdir().unwrap();
    let control = dir.path().join("control");
    let health = dir.path().join("health");
    std::fs::create_dir(&control).unwrap();
    let mut producer = Setup::new(&venue, dir.path())
        .var("INGEST_ENABLED_FILE", control.join("state").display())
        .var("INGEST_HEALTH_DIR", health.display())
        .start();
    producer.wait_live();
    let cluster = Cluster::new(&json!({"configmap": null, "pods": {"agent-1": {
        "program": binary::path("market-ingest"), "pid": producer.process.id(),
        "control": control, "health_dir": health,
    }}}));
    let within = [("TIMEOUT", "30")];

    let run = cluster.run_with(&["pause", "--reason", "upgrade"], &within);
    assert_eq!(run.code, 0, "{} {}", run.out, run.err);
    let status = producer.status();
    assert_eq!(status["status"], "paused", "what the script claims is so");
    assert!(venue.state()["connections"].as_array().unwrap().is_empty(), "no socket");
    let sources = |status: &Value| {
        let holds = status["holds"].as_array().unwrap();
        holds.iter().map(|hold| hold["source"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert!(sources(&status).contains(&"signal:SIGUSR1".to_owned()), "{status}");
    let both = |status: &Value| sources(status).len() == 2;
    let status = producer.wait_status("the ConfigMap's hold", Duration::from_secs(10), both);
    let file = status["holds"].as_array().unwrap().iter().find(|hold| hold["actor"] == "kim").unwrap();
    assert_eq!(file["reason"], "upgrade");

    let run = cluster.run_with(&["resume"], &within);
    assert_eq!(run.code, 0, "{} {}", run.out, run.err);
    producer.wait_live();
    assert!(sources(&producer.status()).is_empty(), "both holds are released");

    // A hold of its own keeps it paused, and is named.
    assert!(producer.stop().success());
    let held = Setup::new(&venue, dir.path())
        .var("INGEST_ENABLED", "off")
        .var("INGEST_HEALTH_DIR", health.display())
        .start();
    held.wait_status("paused", Duration::from_secs(10), |s| s["status"] == "paused");
    let cluster = Cluster::new(&json!({"configmap": null, "pods": {"agent-1": {
        "program": binary::path("market-ingest"), "pid": held.process.id(),
        "control": control, "health_dir": health,
    }}}));
    let run = cluster.run_with(&["resume"], &within);
    assert_eq!(run.code, 3, "{} {}", run.out, run.err);
    assert!(run.out.contains("env:INGEST_ENABLED holds all since"), "{}", run.out);
}

/// The objects of a manifest as text.
fn objects(file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(format!("{ROOT}/infra/kubernetes/{file}")).unwrap();
    text.split("\n---\n").map(str::to_owned).collect()
}

/// What stands behind `key:` on a line of its own at this depth.
fn value<'a>(object: &'a str, depth: usize, key: &str) -> Option<&'a str> {
    let start = format!("{:depth$}{key}:", "");
    object
        .lines()
        .find_map(|line| line.strip_prefix(start.as_str()))
        .map(|value| value.trim().trim_matches('"'))
}

#[test]
fn applying_the_manifests_neither_pauses_nor_resumes() {
    let kinds = ["cronjobs.yaml", "configmap.yaml", "rbac.yaml", "deployment.yaml"].map(|file| {
        objects(file).iter().map(|object| value(object, 0, "kind").unwrap().to_owned()).collect::<Vec<_>>()
    });
    assert_eq!(kinds[0], ["CronJob"; 3], "no Job, which would run at once");
    assert_eq!(kinds[1], ["ConfigMap"]);
    assert_eq!(kinds[2], ["ServiceAccount", "Role", "RoleBinding"], "RBAC is applied alone");
    assert_eq!(kinds[3], ["ServiceAccount", "Deployment", "Service"]);
    for cronjob in objects("cronjobs.yaml") {
        assert_eq!(value(&cronjob, 2, "suspend"), Some("true"), "{cronjob}");
    }
    assert_eq!(
        value(&objects("configmap.yaml")[0], 0, "data"),
        None,
        "no decision that an apply would repeat"
    );
}

#[test]
fn the_cron_jobs_have_the_names_of_the_guide_and_no_two_schedules_contradict_each_other() {
    let jobs = objects("cronjobs.yaml");
    let names: Vec<_> = jobs.iter().map(|job| value(job, 2, "name").unwrap()).collect();
    assert_eq!(names, ["pause-pulling-agent", "resume-pulling-agent", "pause-agent-maintenance"]);
    for job in &jobs {
        let words = value(job, 14, "command").unwrap();
        let scheduled = value(job, 2, "schedule").unwrap() != "0 0 31 2 *";
        let ends_by_itself = words.contains(" pause, --for, ");
        assert!(!scheduled || ends_by_itself, "a resume on a schedule undoes somebody's pause: {words}");
    }
}

#[test]
fn the_switch_is_mounted_as_a_directory() {
    let deployment = &objects("deployment.yaml")[1];
    assert!(!deployment.contains("subPath"), "a file mounted by subPath never changes");
    assert!(
        deployment.contains("value: /tmp/control/state") && deployment.contains("mountPath: /tmp/control\n")
    );
    assert!(deployment.contains("mountPath: /tmp/health\n") && deployment.contains("value: /tmp/health\n"));
}
