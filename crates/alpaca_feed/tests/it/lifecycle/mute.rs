//! Connected and mute, as the watchdog says: subscribed anew, or connected anew.

use super::*;
use Channel::{Quotes, Trades};
use alpaca_feed::lifecycle::Failure;

#[test]
fn a_resubscription_takes_away_and_adds_again_what_is_desired_and_acknowledged() {
    let mut rig = Rig::live();
    let trades = [(Trades, "SPY")];
    rig.machine
        .handle_resubscribe(rig.now, &set(&[(Trades, "SPY"), (Trades, "QQQ"), (Channel::Bars, "SPY")]));
    rig.expect(&[unsubscribe(1, &trades)]);
    rig.machine.handle_resubscribe(rig.now, &set(&trades));
    rig.expect(&[]);
    rig.says(1, acknowledged(&[(Quotes, "SPY")]));
    rig.expect(&[subscribe(1, &trades)]);
    rig.says(1, acknowledged(SPY));
    rig.expect(&[]);
    assert!(rig.machine.is_settled());
    assert_eq!(rig.notices(), [], "nothing was ever missing that was not asked for");
    assert_eq!(rig.machine.subscribed(), &set(SPY));
}

#[test]
fn a_resubscription_that_a_hold_or_a_change_crosses_leaves_exactly_what_is_desired() {
    // The channel is held while it is away: it stays away.
    let mut rig = Rig::live();
    rig.machine.handle_resubscribe(rig.now, &set(&[(Trades, "SPY")]));
    rig.expect(&[unsubscribe(1, &[(Trades, "SPY")])]);
    rig.desire(&[(Quotes, "SPY")]);
    rig.says(1, acknowledged(&[(Quotes, "SPY")]));
    rig.expect(&[]);
    assert!(rig.machine.is_settled());

    // Another is added meanwhile: both come.
    let mut rig = Rig::live();
    rig.machine.handle_resubscribe(rig.now, &set(&[(Trades, "SPY")]));
    rig.expect(&[unsubscribe(1, &[(Trades, "SPY")])]);
    rig.desire(&[(Trades, "SPY"), (Quotes, "SPY"), (Quotes, "QQQ")]);
    rig.says(1, acknowledged(&[(Quotes, "SPY")]));
    rig.expect(&[subscribe(1, &[(Trades, "SPY"), (Quotes, "QQQ")])]);

    // The whole job is held: nothing more is said.
    let mut rig = Rig::live();
    rig.machine.handle_resubscribe(rig.now, &set(SPY));
    rig.wanted(false);
    rig.expect(&[close(1)]);
}

#[test]
fn nothing_is_resubscribed_where_nothing_is_live_or_acknowledged() {
    for stage in [Stage::Welcome, Stage::Auth, Stage::Subscribe] {
        let mut rig = Rig::in_stage(stage);
        rig.machine.handle_resubscribe(rig.now, &set(SPY));
        rig.expect(&[]);
    }
    let mut rig = Rig::live();
    rig.machine.handle_resubscribe(rig.now, &set(&[(Channel::Bars, "SPY")]));
    rig.expect(&[]);
}

#[test]
fn a_mute_connection_is_closed_counted_and_dialed_anew_once() {
    let mut rig = Rig::live();
    rig.machine.handle_mute(rig.now);
    rig.expect(&[close(1)]);
    rig.machine.handle_mute(rig.now);
    rig.expect(&[]);
    assert_eq!(rig.notices(), [Notice::Disconnected { conn: ConnId(1), cause: Failure::Mute }]);
    assert!(Failure::Mute.to_string().starts_with("mute"));
    rig.closed(1);
    assert!(rig.redial(2) <= secs(1.0));
}

#[test]
fn mute_says_nothing_about_a_connection_that_is_not_live() {
    for stage in [Stage::Welcome, Stage::Auth, Stage::Subscribe] {
        let mut rig = Rig::in_stage(stage);
        rig.machine.handle_mute(rig.now);
        rig.expect(&[]);
        rig.expect_phase(Phase::Session(stage));
    }
    let mut rig = Rig::halted(SPY);
    rig.machine.handle_mute(rig.now);
    rig.expect_phase(Phase::Halted);
}
