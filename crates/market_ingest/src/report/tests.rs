#![allow(clippy::unwrap_used)]

use alpaca_feed::lifecycle::{Phase, Stage};
use ingest_switch::{Decision, Hold, Scope, Source};

use super::*;

const PHASES: [Phase; 9] = [
    Phase::Halted,
    Phase::Waiting,
    Phase::Dialing,
    Phase::Session(Stage::Welcome),
    Phase::Session(Stage::Auth),
    Phase::Session(Stage::Subscribe),
    Phase::Session(Stage::Live),
    Phase::Closing,
    Phase::Stopped,
];

fn at(second: i64) -> Timestamp {
    Timestamp::from_microseconds(second * 1_000_000).unwrap()
}

fn decided(enabled: bool) -> Decided {
    let source = Source::new("file:/flag");
    let hold = Hold {
        source: source.clone(),
        scope: Scope::ALL,
        reason: Some("maintenance".into()),
        actor: None,
        since: at(0).into(),
        until: None,
    };
    let decision = Decision {
        enabled,
        source: Some(source),
        holds: if enabled { Vec::new() } else { vec![hold] },
        flag_fresh: true,
        doubts: Vec::new(),
        generation: None,
        since: at(0).into(),
    };
    Decided { decision, at: Instant::now(), seq: 0 }
}

/// Keeps the senders alive beside the report that they feed.
struct Rig {
    decisions: watch::Sender<Decided>,
    jobs: Vec<watch::Sender<JobState>>,
    report: Report,
}

fn rig(enabled: bool, jobs: Vec<JobState>) -> Rig {
    let (decisions, receiver) = watch::channel(decided(enabled));
    let (jobs, shown): (Vec<_>, Vec<_>) = jobs.into_iter().map(watch::channel).unzip();
    let identity = Identity {
        instance_id: "i".into(),
        revision: None,
        started_at: at(0),
        interval: Duration::from_secs(15),
    };
    Rig {
        decisions,
        jobs,
        report: Report::new(identity, receiver, shown, Vec::new(), Fence::closed(), GapBook::new()),
    }
}

fn job(name: &str, wanted: bool, drained: bool, phase: Phase) -> JobState {
    JobState { wanted, drained, phase, ..JobState::new(name, at(0), Instant::now()) }
}

#[test]
fn paused_document_implies_held_and_closed_socket_and_drained_in_every_job() {
    let mut paused = 0;
    for enabled in [true, false] {
        for wanted in [true, false] {
            for drained in [true, false] {
                for phase in PHASES {
                    let at_rest = job("a", false, true, Phase::Halted);
                    let rig = rig(enabled, vec![at_rest, job("b", wanted, drained, phase)]);
                    let beat = rig.report.heartbeat(at(1));
                    let no_socket = matches!(phase, Phase::Halted | Phase::Stopped);
                    let true_pause = !enabled && !wanted && drained && no_socket;
                    assert_eq!(
                        beat.status == Status::Paused,
                        true_pause,
                        "enabled {enabled}, wanted {wanted}, drained {drained}, {phase}"
                    );
                    assert_eq!(rig.report.paused(), true_pause);
                    assert_eq!(beat.ingest_enabled, enabled, "what was asked is told apart");
                    paused += u32::from(true_pause);
                }
            }
        }
    }
    assert_eq!(paused, 2, "halted and stopped");
}

#[test]
fn a_pump_that_does_not_turn_is_named_unless_it_has_ended() {
    let stuck = Instant::now();
    let later = stuck + WEDGED_AFTER + Duration::from_millis(1);
    let state = JobState { tick: stuck, ..job("iex", true, true, Phase::Session(Stage::Live)) };
    let rig = rig(true, vec![state]);
    assert_eq!(rig.report.wedged(stuck + WEDGED_AFTER), None);
    assert_eq!(rig.report.wedged(later).as_deref(), Some("iex"));
    rig.jobs[0].send_modify(|job| job.phase = Phase::Stopped);
    assert_eq!(rig.report.wedged(later), None);
}

#[test]
fn times_of_transition_stay_until_something_changes() {
    let rig = rig(true, vec![job("iex", true, true, Phase::Session(Stage::Live))]);
    let since = |beat: &Heartbeat| beat.condition("Connected").unwrap().last_transition_time;
    let first = rig.report.heartbeat(at(10));
    let second = rig.report.heartbeat(at(20));
    assert_eq!((second.effective_since, since(&second)), (Some(at(10)), at(10)));
    assert_eq!(first.effective_since, second.effective_since);

    rig.decisions.send_replace(decided(false));
    rig.jobs[0].send_replace(job("iex", false, true, Phase::Halted));
    let third = rig.report.heartbeat(at(30));
    assert_eq!((third.effective_since, since(&third)), (Some(at(30)), at(30)));
}

#[test]
fn conditions_say_what_is_wrong_in_a_word_and_a_sentence() {
    for (mut state, reason, says) in [
        (job("iex", true, true, Phase::Session(Stage::Live)), "Live", ""),
        (job("iex", true, true, Phase::Waiting), "NotConnected", "iex is waiting: no route"),
        (job("iex", false, true, Phase::Halted), "Held", "iex is halted: no route"),
        (
            JobState { refused: true, ..job("iex", true, true, Phase::Waiting) },
            "Refused",
            "iex is waiting: no route",
        ),
    ] {
        state.reason = Some("no route".into());
        let rig = rig(true, vec![state]);
        let beat = rig.report.heartbeat(at(1));
        let condition = beat.condition("Ingesting").unwrap();
        assert_eq!((condition.reason.as_str(), condition.message.as_str()), (reason, says));
        assert_eq!(condition.status == ConditionStatus::True, reason == "Live");
    }
}

#[test]
fn data_is_fresh_by_one_job_that_flows_and_stale_by_one_that_does_not() {
    use Freshness::{Flowing, Halted, Lagging, MarketClosed, Mute, NotLive, Quiet};
    let with = |name: &str, wanted: bool, freshness| JobState {
        freshness,
        mute: vec!["trades".into()],
        ..job(name, wanted, true, Phase::Session(Stage::Live))
    };
    let (yes, no, unknown) = (ConditionStatus::True, ConditionStatus::False, ConditionStatus::Unknown);
    for (iex, news, status, reason) in [
        (Flowing, Quiet, yes, "Flowing"),
        (Flowing, Mute, no, "Mute"),
        (Lagging, NotLive, no, "Lagging"),
        (Flowing, NotLive, unknown, "NotConnected"),
        (MarketClosed, Flowing, yes, "Flowing"),
        (Quiet, Quiet, unknown, "LearningOrQuiet"),
        (Halted, Quiet, unknown, "Halted"),
        (MarketClosed, Quiet, unknown, "MarketClosed"),
    ] {
        let rig = rig(true, vec![with("iex", true, iex), with("news", true, news)]);
        let beat = rig.report.heartbeat(at(1));
        let condition = beat.condition("DataFresh").unwrap();
        assert_eq!((condition.status, condition.reason.as_str()), (status, reason), "{iex:?} {news:?}");
        if reason == "Mute" {
            assert_eq!(condition.message, "news is connected and mute: trades");
        }
    }
    // What is held is not missed.
    for (news, status, reason) in [(Flowing, yes, "Flowing"), (Mute, no, "Mute")] {
        let rig = rig(true, vec![with("iex", false, Mute), with("news", true, news)]);
        let beat = rig.report.heartbeat(at(1));
        let condition = beat.condition("DataFresh").unwrap();
        assert_eq!((condition.status, condition.reason.as_str()), (status, reason));
    }
    let rig = rig(false, vec![with("iex", false, Mute)]);
    assert_eq!(rig.report.heartbeat(at(1)).condition("DataFresh").unwrap().reason, "Held");
}
