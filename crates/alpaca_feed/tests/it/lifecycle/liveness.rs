//! A quiet market is not a dead connection, and a dead connection is not a quiet market.

use alpaca_feed::lifecycle::Failure;

use super::*;

#[test]
fn quiet_market_is_not_a_dead_connection() {
    let mut rig = Rig::live();
    for _ in 0..360 {
        assert_eq!(rig.pass_to_deadline(), LIMITS.probe_after);
        rig.expect(&[ping(1)]);
        rig.pass(secs(0.25));
        rig.link(1);
    }
    assert!(rig.machine.is_live());
    assert_eq!(rig.notices(), []);
}

#[test]
fn a_silent_link_is_probed_once_and_then_given_up() {
    let mut rig = Rig::live();
    rig.pass(LIMITS.probe_after);
    rig.expect(&[ping(1)]);
    assert_eq!(rig.pass_to_deadline(), LIMITS.pong_limit);
    rig.expect(&[close(1)]);
    let cause = Failure::LinkSilent;
    assert_eq!(rig.notices(), [Notice::Disconnected { conn: ConnId(1), cause }]);
    rig.pass(LIMITS.close_limit);
    rig.expect(&[abort(1)]);
    rig.redial(2);
}

#[test]
fn any_sign_of_life_pays_the_pong_debt() {
    let signs: [fn(&mut Rig); 3] = [
        |rig| rig.link(1),
        |rig| assert_eq!(rig.data(1), Delivery::Deliver),
        |rig| rig.says(1, acknowledged(SPY)),
    ];
    for sign in signs {
        let mut rig = Rig::live();
        rig.pass(LIMITS.probe_after);
        rig.expect(&[ping(1)]);
        rig.pass(LIMITS.pong_limit - secs(0.001));
        sign(&mut rig);
        assert_eq!(rig.pass_to_deadline(), LIMITS.probe_after);
        rig.expect(&[ping(1)]);
        assert!(rig.machine.is_live());
    }
}

#[test]
fn data_makes_pings_needless() {
    let mut rig = Rig::live();
    for _ in 0..100 {
        rig.pass(LIMITS.probe_after - secs(0.001));
        assert_eq!(rig.data(1), Delivery::Deliver);
    }
    rig.expect(&[]);
    assert_eq!(rig.machine.poll_timeout(), Some(rig.now + LIMITS.probe_after));
}

#[test]
fn pong_debt_dies_with_its_connection() {
    let mut rig = Rig::live();
    rig.pass(LIMITS.probe_after);
    rig.expect(&[ping(1)]);
    rig.closed(1);
    rig.redial(2);
    rig.lead(2, Stage::Live);
    // The old debt would have been due 25 s after the ping; the new link is only 10 s old and owes nothing.
    assert_eq!(rig.machine.poll_timeout(), Some(rig.now + LIMITS.probe_after));
    rig.pass(LIMITS.probe_after);
    rig.expect(&[ping(2)]);
    rig.pass(LIMITS.pong_limit - secs(0.001));
    assert!(rig.machine.is_live());
}

#[test]
fn sleep_of_the_process_is_not_silence_of_the_venue() {
    let mut rig = Rig::live();
    rig.now += secs(3_600.0);
    rig.machine.handle_timeout(rig.now);
    rig.expect(&[ping(1)]);
    assert!(rig.machine.is_live());
    assert_eq!(rig.machine.poll_timeout(), Some(rig.now + LIMITS.pong_limit));
    // Another deadline on the way does not shorten the venue's time to answer.
    rig.desire(&[(Channel::Trades, "SPY")]);
    assert_eq!(rig.pass_to_deadline(), LIMITS.stage_limit);
    rig.expect(&[unsubscribe(1, &[(Channel::Quotes, "SPY")])]);
    assert!(rig.machine.is_live());
    assert_eq!(rig.pass_to_deadline(), LIMITS.pong_limit - LIMITS.stage_limit);
    rig.expect(&[close(1)]);
}
