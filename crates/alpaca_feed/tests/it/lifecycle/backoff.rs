//! How long the machine stays away, and what it takes to be forgiven.

use alpaca_feed::lifecycle::{Failure, Pace};

use super::*;

/// Upper bounds of the first waits, in seconds.
const BOUNDS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0];

/// Waits before the dials of connections 2 to 10, of which each ended by `end`.
fn waits(seed: u64, end: impl Fn(&mut Rig, u64)) -> Vec<f64> {
    let mut rig = Rig::seeded(SPY, seed);
    rig.wanted(true);
    rig.expect(&[dial(1)]);
    let wait = |conn: u64| {
        end(&mut rig, conn);
        rig.redial(conn + 1).as_secs_f64()
    };
    (1..=9).map(wait).collect()
}

#[track_caller]
fn back_off_fully(end: impl Fn(&mut Rig, u64) + Copy) {
    let runs: Vec<Vec<f64>> = (0..200).map(|seed| waits(seed, end)).collect();
    for (nth, bound) in BOUNDS.into_iter().enumerate() {
        let (mut least, mut most) = (f64::MAX, 0.0_f64);
        for run in &runs {
            least = least.min(run[nth]);
            most = most.max(run[nth]);
        }
        assert!(most <= bound, "wait {nth}: {most} s");
        assert!(
            least < 0.1 * bound && most > 0.9 * bound,
            "wait {nth} is not jittered fully: {least} to {most} s"
        );
    }
}

#[test]
fn unreachable_venues_back_off() {
    back_off_fully(|rig, conn| rig.dial_fails(conn, DialFailure::Unreachable("no route".into())));
}

#[test]
fn a_connection_that_merely_opens_forgives_nothing() {
    back_off_fully(|rig, conn| {
        rig.lead(conn, Stage::Auth);
        rig.closed(conn);
    });
}

#[test]
fn orderly_disconnects_back_off_and_never_give_up() {
    back_off_fully(|rig, conn| {
        rig.lead(conn, Stage::Live);
        let how = Closed::Frame { code: 1000, reason: String::new() };
        rig.machine.handle_closed(rig.now, ConnId(conn), how);
    });
    let mut rig = Rig::live();
    for conn in 1..1_000 {
        rig.closed(conn);
        assert_eq!(rig.machine.attempts(), u32::try_from(conn).unwrap());
        assert!(rig.redial(conn + 1) <= LIMITS.backoff_max);
        rig.lead(conn + 1, Stage::Live);
    }
}

#[test]
fn data_on_a_live_connection_forgives() {
    let mut rig = Rig::live();
    for conn in 1..50 {
        assert_eq!(rig.data(conn), Delivery::Deliver);
        assert_eq!(rig.machine.attempts(), 0);
        rig.closed(conn);
        assert_eq!(rig.machine.attempts(), 1);
        assert!(rig.redial(conn + 1) <= LIMITS.backoff_base);
        rig.lead(conn + 1, Stage::Live);
    }
}

#[test]
fn data_before_live_forgives_nothing() {
    back_off_fully(|rig, conn| {
        rig.lead(conn, Stage::Subscribe);
        assert_eq!(rig.data(conn), Delivery::Deliver);
        rig.closed(conn);
    });
}

#[test]
fn a_sign_of_life_after_a_long_quiet_live_forgives() {
    let mut rig = Rig::live();
    rig.closed(1);
    rig.redial(2);
    rig.lead(2, Stage::Live);
    let mut quiet = secs(0.0);
    while quiet < LIMITS.proven_after {
        assert_eq!(rig.machine.attempts(), 1, "after {quiet:?}");
        quiet += rig.pass_to_deadline();
        rig.expect(&[ping(2)]);
        rig.link(2);
    }
    assert_eq!(rig.machine.attempts(), 0);
}

#[test]
fn seeds_differ_and_repeat() {
    let fail = |rig: &mut Rig, conn: u64| rig.dial_fails(conn, DialFailure::Unreachable(String::new()));
    assert_eq!(waits(1, fail), waits(1, fail));
    assert_ne!(waits(1, fail), waits(2, fail));
}

#[test]
fn backing_off_tells_attempt_delay_and_reason() {
    let mut rig = Rig::live();
    rig.closed(1);
    let reason = Failure::Closed(Closed::End);
    let told = rig.notices();
    let delay = rig.redial(2);
    let expected = [
        Notice::Disconnected { conn: ConnId(1), cause: reason.clone() },
        Notice::BackingOff { attempt: 1, delay, pace: Pace::Jittered, reason },
    ];
    assert_eq!(told, expected);
    rig.dial_fails(2, DialFailure::Unreachable("name not found".into()));
    let told = rig.notices();
    assert!(matches!(&told[..], [Notice::BackingOff { attempt: 2, .. }]), "{told:?}");
    assert_eq!(rig.machine.reason().map(ToString::to_string).as_deref(), Some("unreachable: name not found"));
}
