//! The venue's state is brought to the desired one by the smallest difference, and compared.

use super::*;
use Channel::{Bars, CancelErrors, Corrections, Quotes, Trades};

fn mismatch(missing: &[(Channel, &str)], extra: &[(Channel, &str)]) -> Notice {
    Notice::Mismatch { missing: set(missing), extra: set(extra) }
}

#[test]
fn nothing_desired_is_live_with_nothing_and_asks_for_nothing() {
    let mut rig = Rig::halted(&[]);
    rig.wanted(true);
    rig.expect(&[dial(1)]);
    rig.dialed(1);
    rig.says(1, Control::Connected);
    rig.expect(&[auth(1)]);
    rig.says(1, Control::Authenticated);
    rig.expect(&[]);
    assert!(rig.machine.is_live());
    assert_eq!(rig.notices().len(), 1, "live, and no mismatch");
    rig.desire(&[(Bars, "SPY")]);
    rig.expect(&[subscribe(1, &[(Bars, "SPY")])]);
    rig.says(1, acknowledged(&[(Bars, "SPY")]));
    rig.desire(&[]);
    rig.expect(&[unsubscribe(1, &[(Bars, "SPY")])]);
    rig.says(1, acknowledged(&[]));
    assert!(rig.machine.is_live() && rig.machine.subscribed().is_empty());
    assert_eq!(rig.notices(), []);
}

#[test]
fn channels_that_the_venue_manages_are_neither_asked_for_nor_missed() {
    let desired = [(Trades, "SPY"), (Corrections, "SPY")];
    let mut rig = Rig::halted(&desired);
    rig.wanted(true);
    rig.expect(&[dial(1)]);
    rig.dialed(1);
    rig.says(1, Control::Authenticated);
    rig.expect(&[subscribe(1, &[(Trades, "SPY")])]);
    rig.says(1, acknowledged(&[(Trades, "SPY"), (Corrections, "SPY"), (CancelErrors, "SPY")]));
    assert!(rig.machine.is_live());
    assert_eq!(rig.machine.subscribed(), &set(&[(Trades, "SPY")]));
    assert_eq!(rig.notices().len(), 1, "live, and no mismatch");
    rig.desire(&[(Trades, "SPY"), (CancelErrors, "SPY")]);
    rig.expect(&[]);
}

#[test]
fn a_changed_set_is_reached_by_the_smallest_difference_taking_away_first() {
    let mut rig = Rig::live();
    rig.desire(&[(Trades, "SPY"), (Quotes, "QQQ")]);
    rig.expect(&[unsubscribe(1, &[(Quotes, "SPY")])]);
    rig.says(1, acknowledged(&[(Trades, "SPY")]));
    rig.expect(&[subscribe(1, &[(Quotes, "QQQ")])]);
    assert_eq!(rig.notices(), [], "no mismatch on the way");
    rig.says(1, acknowledged(&[(Trades, "SPY"), (Quotes, "QQQ")]));
    rig.expect(&[]);
    assert_eq!(rig.notices(), []);
    assert!(rig.machine.is_live());
}

#[test]
fn the_same_set_again_asks_for_nothing() {
    let mut rig = Rig::live();
    rig.desire(SPY);
    rig.expect(&[]);
}

#[test]
fn a_change_while_a_request_is_in_flight_waits_for_its_answer() {
    let mut rig = Rig::in_stage(Stage::Subscribe);
    rig.desire(&[(Bars, "SPY")]);
    rig.desire(&[(Trades, "SPY"), (Bars, "SPY")]);
    rig.expect(&[]);
    rig.says(1, acknowledged(SPY));
    rig.expect(&[unsubscribe(1, &[(Quotes, "SPY")])]);
    rig.desire(SPY);
    rig.says(1, acknowledged(&[(Trades, "SPY")]));
    rig.expect(&[subscribe(1, &[(Quotes, "SPY")])]);
    rig.says(1, acknowledged(SPY));
    assert!(rig.machine.is_live());
}

#[test]
fn a_change_before_the_first_request_is_in_it() {
    for stage in [Stage::Welcome, Stage::Auth] {
        let mut rig = Rig::in_stage(stage);
        rig.desire(&[(Bars, "*")]);
        rig.expect(&[]);
        rig.says(1, Control::Authenticated);
        rig.expect(&[subscribe(1, &[(Bars, "*")])]);
    }
}

#[test]
fn a_change_without_a_connection_is_kept_for_the_next() {
    let mut rig = Rig::halted(SPY);
    rig.desire(&[(Bars, "IBM")]);
    rig.expect(&[]);
    rig.wanted(true);
    rig.expect(&[dial(1)]);
    rig.dialed(1);
    rig.says(1, Control::Authenticated);
    rig.expect(&[subscribe(1, &[(Bars, "IBM")])]);
}

#[test]
fn an_acknowledgement_that_differs_is_a_mismatch_and_stays_live() {
    let mut rig = Rig::in_stage(Stage::Subscribe);
    rig.says(1, acknowledged(&[(Trades, "SPY"), (Bars, "IBM")]));
    rig.expect(&[]);
    assert!(rig.machine.is_live());
    assert_eq!(rig.notices()[1..], [mismatch(&[(Quotes, "SPY")], &[(Bars, "IBM")])]);
    // An unasked full state counts like any other.
    rig.says(1, acknowledged(SPY));
    rig.expect(&[]);
    assert_eq!(rig.machine.subscribed(), &set(SPY));
    assert_eq!(rig.notices(), []);
}

#[test]
fn a_change_that_is_not_answered_does_not_cost_the_stream() {
    let mut rig = Rig::live();
    rig.desire(&[(Trades, "SPY")]);
    rig.expect(&[unsubscribe(1, &[(Quotes, "SPY")])]);
    rig.pass(LIMITS.stage_limit - secs(1.0));
    assert_eq!(rig.data(1), Delivery::Deliver);
    assert_eq!(rig.pass_to_deadline(), secs(1.0));
    rig.expect(&[]);
    assert!(rig.machine.is_live());
    assert_eq!(rig.notices(), [mismatch(&[], &[(Quotes, "SPY")])]);
    // The answer was only late.
    rig.says(1, acknowledged(&[(Trades, "SPY")]));
    rig.expect(&[]);
    assert_eq!(rig.notices(), []);
}

#[test]
fn nothing_survives_a_reconnect() {
    let mut rig = Rig::live();
    assert_eq!(rig.machine.subscribed(), &set(SPY));
    rig.closed(1);
    assert!(rig.machine.subscribed().is_empty());
    rig.redial(2);
    rig.dialed(2);
    assert!(rig.machine.subscribed().is_empty());
    rig.says(2, Control::Connected);
    rig.says(2, Control::Authenticated);
    rig.expect(&[auth(2), subscribe(2, SPY)]);
}
