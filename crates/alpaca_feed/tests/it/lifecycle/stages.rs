//! From dial to Live: one thing at a time, each within its limit.

use alpaca_feed::lifecycle::Failure;

use super::*;

#[test]
fn the_way_to_live_is_dial_auth_subscribe() {
    let mut rig = Rig::halted(SPY);
    rig.wanted(true);
    rig.expect(&[dial(1)]);
    rig.expect_phase(Phase::Dialing);
    rig.pass(secs(0.3));
    rig.dialed(1);
    rig.expect(&[]);
    rig.expect_phase(Phase::Session(Stage::Welcome));
    rig.says(1, Control::Connected);
    rig.expect(&[auth(1)]);
    rig.expect_phase(Phase::Session(Stage::Auth));
    rig.pass(secs(0.2));
    rig.says(1, Control::Authenticated);
    rig.expect(&[subscribe(1, SPY)]);
    rig.expect_phase(Phase::Session(Stage::Subscribe));
    assert!(!rig.machine.is_live());
    rig.says(1, acknowledged(SPY));
    rig.expect(&[]);
    rig.expect_phase(Phase::Session(Stage::Live));
    assert!(rig.machine.is_live());
    assert_eq!(rig.machine.subscribed(), &set(SPY));
    assert_eq!(rig.notices(), [Notice::Live { conn: ConnId(1), took: secs(0.5), attempts: 0 }]);
}

#[test]
fn authenticated_unasked_is_taken_before_and_instead_of_the_greeting() {
    let mut rig = Rig::in_stage(Stage::Welcome);
    rig.says(1, Control::Authenticated);
    rig.expect(&[subscribe(1, SPY)]);
    rig.says(1, Control::Connected);
    rig.says(1, Control::Authenticated);
    rig.says(1, Control::OtherSuccess("welcome back".into()));
    rig.expect(&[]);
    rig.expect_phase(Phase::Session(Stage::Subscribe));
}

#[test]
fn a_second_greeting_does_not_send_the_credentials_twice() {
    let mut rig = Rig::in_stage(Stage::Auth);
    rig.says(1, Control::Connected);
    rig.expect(&[]);
}

#[test]
fn a_dial_that_takes_too_long_is_aborted() {
    let mut rig = Rig::halted(SPY);
    rig.wanted(true);
    rig.expect(&[dial(1)]);
    assert_eq!(rig.pass_to_deadline(), LIMITS.dial_limit);
    rig.expect(&[abort(1)]);
    assert_eq!(rig.machine.reason(), Some(&Failure::DialTimeout));
    assert!(rig.redial(2) <= LIMITS.backoff_base);
}

#[test]
fn every_stage_before_live_has_its_limit() {
    for stage in [Stage::Welcome, Stage::Auth, Stage::Subscribe] {
        let mut rig = Rig::in_stage(stage);
        // Signs of life are no answer.
        rig.pass(LIMITS.stage_limit / 2);
        rig.link(1);
        let _ = rig.data(1);
        assert_eq!(rig.pass_to_deadline(), LIMITS.stage_limit / 2, "{stage}");
        rig.expect(&[close(1)]);
        let cause = Failure::Stalled(stage);
        assert_eq!(rig.notices(), [Notice::Disconnected { conn: ConnId(1), cause }]);
        rig.closed(1);
        assert!(rig.redial(2) <= LIMITS.backoff_base);
    }
}

#[test]
fn each_stage_gets_a_limit_of_its_own() {
    let mut rig = Rig::in_stage(Stage::Welcome);
    rig.pass(secs(9.0));
    rig.says(1, Control::Connected);
    rig.expect(&[auth(1)]);
    rig.pass(secs(9.0));
    rig.says(1, Control::Authenticated);
    rig.expect(&[subscribe(1, SPY)]);
    rig.pass(secs(9.0));
    rig.says(1, acknowledged(SPY));
    assert!(rig.machine.is_live());
}

#[test]
fn data_before_the_acknowledgement_is_delivered() {
    let mut rig = Rig::in_stage(Stage::Subscribe);
    assert_eq!(rig.data(1), Delivery::Deliver);
    rig.expect_phase(Phase::Session(Stage::Subscribe));
}

#[test]
fn data_in_the_frame_that_ends_the_connection_is_delivered() {
    let mut rig = Rig::live();
    let mut batch = Batch { events: vec![bar()], control: vec![error(407)], ..Batch::default() };
    assert_eq!(rig.machine.handle_frame(rig.now, ConnId(1), &mut batch), Delivery::Deliver);
    assert_eq!((batch.events.len(), batch.control.len()), (1, 0));
    rig.expect(&[close(1)]);
    assert_eq!(rig.data(1), Delivery::Discard);
}

#[test]
fn a_failed_send_is_a_closed_connection() {
    let mut rig = Rig::in_stage(Stage::Welcome);
    rig.says(1, Control::Connected);
    rig.expect(&[auth(1)]);
    rig.machine.handle_closed(rig.now, ConnId(1), Closed::Lost("broken pipe".into()));
    rig.expect(&[]);
    assert_eq!(rig.machine.reason().map(ToString::to_string).as_deref(), Some("lost: broken pipe"));
    rig.redial(2);
}

#[test]
fn phases_have_words() {
    let sessions = [Stage::Welcome, Stage::Auth, Stage::Subscribe, Stage::Live].map(Phase::Session);
    let words: Vec<_> = [Phase::Halted, Phase::Waiting, Phase::Dialing]
        .into_iter()
        .chain(sessions)
        .chain([Phase::Closing, Phase::Stopped])
        .map(|phase| phase.to_string())
        .collect();
    let expected =
        ["halted", "waiting", "dialing", "welcome", "auth", "subscribe", "live", "closing", "stopped"];
    assert_eq!(words, expected);
}
