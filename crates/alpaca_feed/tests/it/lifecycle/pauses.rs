//! The switch, in every phase: what a pause, a resume and a shutdown do, and that they do it at once.

use super::*;

const STAGES: [Stage; 4] = [Stage::Welcome, Stage::Auth, Stage::Subscribe, Stage::Live];

#[test]
fn it_is_born_halted_and_asks_for_nothing() {
    let mut rig = Rig::halted(SPY);
    rig.expect(&[]);
    rig.expect_phase(Phase::Halted);
    assert_eq!((rig.machine.poll_timeout(), rig.machine.connection()), (None, None));
    rig.wanted(false);
    rig.machine.handle_timeout(rig.now + secs(1e6));
    rig.expect(&[]);
    rig.expect_phase(Phase::Halted);
}

#[test]
fn the_first_decision_dials_at_once() {
    let mut rig = Rig::halted(SPY);
    rig.wanted(true);
    rig.expect(&[dial(1)]);
    rig.expect_phase(Phase::Dialing);
    rig.wanted(true);
    rig.expect(&[]);
}

#[test]
fn pause_during_dial_aborts_it() {
    let mut rig = Rig::halted(SPY);
    rig.wanted(true);
    rig.expect(&[dial(1)]);
    rig.wanted(false);
    rig.expect(&[abort(1)]);
    rig.expect_phase(Phase::Halted);
    rig.dialed(1);
    rig.expect(&[]);
    rig.expect_phase(Phase::Halted);
}

#[test]
fn a_dial_that_nobody_took_is_called_off_without_a_trace() {
    let mut rig = Rig::halted(SPY);
    rig.wanted(true);
    rig.wanted(false);
    rig.expect(&[]);
    rig.expect_phase(Phase::Halted);
    rig.wanted(true);
    rig.expect(&[dial(2)]);
}

#[test]
fn pause_in_every_stage_closes_the_socket_and_then_rests() {
    for stage in STAGES {
        let mut rig = Rig::in_stage(stage);
        rig.wanted(false);
        rig.expect(&[close(1)]);
        rig.expect_phase(Phase::Closing);
        assert_eq!(rig.data(1), Delivery::Discard, "{stage}");
        rig.says(1, Control::Connected);
        rig.closed(1);
        rig.expect(&[]);
        rig.expect_phase(Phase::Halted);
        assert_eq!(rig.notices(), [], "a pause is not a failure");
        assert_eq!(rig.machine.attempts(), 0);
    }
}

#[test]
fn pause_withdraws_what_was_not_yet_sent() {
    let mut rig = Rig::in_stage(Stage::Welcome);
    rig.says(1, Control::Connected);
    rig.says(1, Control::Authenticated);
    rig.wanted(false);
    rig.expect(&[close(1)]);

    let mut rig = Rig::live();
    rig.desire(&[(Channel::Bars, "SPY")]);
    rig.pass(secs(10.0));
    rig.shutdown();
    rig.expect(&[close(1)]);
}

#[test]
fn pause_during_a_long_back_off_rests_at_once() {
    let mut rig = Rig::halted(SPY);
    rig.wanted(true);
    rig.expect(&[dial(1)]);
    rig.dial_fails(1, DialFailure::Http(403));
    rig.expect_phase(Phase::Waiting);
    rig.wanted(false);
    rig.expect(&[]);
    rig.expect_phase(Phase::Halted);
    assert_eq!(rig.machine.poll_timeout(), None);
}

#[test]
fn a_close_that_hangs_is_aborted_within_the_close_limit() {
    for stage in STAGES {
        let mut rig = Rig::in_stage(stage);
        rig.wanted(false);
        rig.expect(&[close(1)]);
        // Not even a venue that goes on talking prolongs it.
        rig.pass(LIMITS.close_limit / 2);
        let _ = rig.data(1);
        rig.link(1);
        assert_eq!(rig.pass_to_deadline(), LIMITS.close_limit / 2);
        rig.expect(&[abort(1)]);
        rig.expect_phase(Phase::Halted);
    }
}

#[test]
fn an_abort_replaces_a_close_that_nobody_took() {
    let mut rig = Rig::live();
    rig.wanted(false);
    rig.pass(LIMITS.close_limit);
    rig.expect(&[abort(1)]);
}

#[test]
fn off_on_off_never_opens_two_connections() {
    let mut rig = Rig::live();
    rig.wanted(false);
    rig.expect(&[close(1)]);
    for wanted in [true, false, true] {
        rig.wanted(wanted);
        rig.expect(&[]);
        rig.expect_phase(Phase::Closing);
    }
    rig.closed(1);
    rig.expect(&[dial(2)]);

    // The same while dialing: the abort always comes before the next dial.
    for conn in 2..5 {
        rig.wanted(false);
        rig.wanted(true);
        rig.expect(&[abort(conn), dial(conn + 1)]);
    }
    rig.wanted(false);
    rig.expect(&[abort(5)]);
}

#[test]
fn resume_while_closing_dials_as_soon_as_the_socket_is_gone() {
    let mut rig = Rig::live();
    rig.wanted(false);
    rig.wanted(true);
    rig.expect(&[close(1)]);
    rig.expect_phase(Phase::Closing);
    rig.closed(1);
    rig.expect(&[dial(2)]);

    let mut rig = Rig::live();
    rig.wanted(false);
    rig.wanted(true);
    rig.pass(LIMITS.close_limit);
    rig.expect(&[abort(1), dial(2)]);
}

#[test]
fn off_on_off_ends_halted() {
    let mut rig = Rig::live();
    rig.wanted(false);
    rig.wanted(true);
    rig.wanted(false);
    rig.expect(&[close(1)]);
    rig.closed(1);
    rig.expect(&[]);
    rig.expect_phase(Phase::Halted);
}

#[test]
fn resume_forgets_failures_and_dials_at_once() {
    let mut rig = Rig::halted(SPY);
    rig.wanted(true);
    for conn in 1..9 {
        rig.expect(&[dial(conn)]);
        rig.dial_fails(conn, DialFailure::Http(429));
        rig.pass_to_deadline();
    }
    rig.expect(&[dial(9)]);
    assert_eq!(rig.machine.attempts(), 8);
    assert!(rig.machine.reason().is_some());
    rig.wanted(false);
    rig.wanted(true);
    rig.expect(&[abort(9), dial(10)]);
    assert_eq!((rig.machine.attempts(), rig.machine.reason()), (0, None));
}

#[test]
fn a_failure_just_before_a_pause_does_not_delay_the_resume() {
    let mut rig = Rig::in_stage(Stage::Auth);
    rig.says(1, error(402));
    rig.expect(&[close(1)]);
    rig.wanted(false);
    rig.wanted(true);
    rig.closed(1);
    rig.expect(&[dial(2)]);
}

#[test]
fn a_flapping_switch_dials_once_a_second_and_its_last_word_wins() {
    let limits = Limits { redial_min: secs(1.0), ..LIMITS };
    let mut rig = Rig::halted(SPY);
    rig.machine = Lifecycle::new(limits, set(SPY), 7);
    let (mut dials, start) = (Vec::new(), rig.now);
    for flip in 0..1_000 {
        rig.now = start + Duration::from_millis(flip);
        rig.machine.handle_timeout(rig.now);
        let wanted = flip % 2 == 1;
        rig.wanted(wanted);
        assert!(wanted || rig.machine.phase() == Phase::Halted, "a pause is never put off");
        dials.extend(
            std::iter::from_fn(|| rig.machine.poll_command()).filter(|c| matches!(c, Command::Dial(_))),
        );
    }
    assert_eq!((dials.len(), rig.machine.phase()), (1, Phase::Waiting));
    rig.pass_to_deadline();
    assert!(rig.now <= start + secs(1.01), "a resume waits for a second at most");
    rig.expect(&[dial(2)]);
}

#[test]
fn shutdown_closes_the_socket_first_and_nothing_follows() {
    for stage in STAGES {
        let mut rig = Rig::in_stage(stage);
        rig.shutdown();
        rig.expect(&[close(1)]);
        rig.wanted(true);
        rig.shutdown();
        rig.expect(&[]);
        rig.closed(1);
        rig.expect_phase(Phase::Stopped);
        rig.wanted(true);
        rig.desire(&[]);
        rig.expect(&[]);
        assert_eq!(rig.machine.poll_timeout(), None);
    }
}

#[test]
fn shutdown_without_an_open_socket_stops_at_once() {
    let mut halted = Rig::halted(SPY);
    halted.shutdown();
    halted.expect_phase(Phase::Stopped);

    let mut dialing = Rig::halted(SPY);
    dialing.wanted(true);
    dialing.expect(&[dial(1)]);
    dialing.shutdown();
    dialing.expect(&[abort(1)]);
    dialing.expect_phase(Phase::Stopped);

    let mut waiting = Rig::halted(SPY);
    waiting.wanted(true);
    waiting.expect(&[dial(1)]);
    waiting.dial_fails(1, DialFailure::Http(429));
    waiting.shutdown();
    waiting.expect_phase(Phase::Stopped);
}

#[test]
fn shutdown_while_closing_stops_when_the_socket_is_gone() {
    let mut rig = Rig::live();
    rig.wanted(false);
    rig.expect(&[close(1)]);
    rig.shutdown();
    rig.expect(&[]);
    rig.expect_phase(Phase::Closing);
    rig.pass(LIMITS.close_limit);
    rig.expect(&[abort(1)]);
    rig.expect_phase(Phase::Stopped);
}

#[test]
fn news_of_a_former_connection_changes_nothing() {
    let mut rig = Rig::live();
    rig.closed(1);
    rig.redial(2);
    rig.lead(2, Stage::Live);
    let before = rig.machine.clone();
    assert_eq!(rig.data(1), Delivery::Discard);
    rig.says(1, error(402));
    rig.link(1);
    rig.dialed(1);
    rig.dial_fails(1, DialFailure::Http(429));
    rig.closed(1);
    assert_eq!(rig.machine, before);
    assert_eq!(rig.data(2), Delivery::Deliver);
}
