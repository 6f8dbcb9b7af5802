//! Every code of the protocol notes, and what each makes the machine do.

use std::ops::RangeInclusive;

use alpaca_feed::disposition::Disposition;
use alpaca_feed::lifecycle::{Failure, Pace};

use super::*;
use Channel::{Bars, News, Quotes, Trades};

const SLOW: RangeInclusive<f64> = 60.0..=75.0;
const SLOT: RangeInclusive<f64> = 1.0..=3.0;
const FIRST: RangeInclusive<f64> = 0.0..=1.0;

/// `code` ends connection 1, which is in `stage`; the next dial comes after `wait` seconds.
#[track_caller]
fn ends(stage: Stage, code: u16, wait: &RangeInclusive<f64>) -> Rig {
    let mut rig = Rig::in_stage(stage);
    rig.says(1, error(code));
    rig.expect(&[close(1)]);
    let msg = format!("text of {code}");
    let disposition = Disposition::of_code(code);
    let cause = Failure::Rejected { code, msg: msg.clone() };
    let told = [
        Notice::Rejected { conn: ConnId(1), code, msg, disposition },
        Notice::Disconnected { conn: ConnId(1), cause: cause.clone() },
    ];
    assert_eq!(rig.notices(), told);
    rig.closed(1);
    rig.expect_phase(Phase::Waiting);
    assert_eq!(rig.machine.reason(), Some(&cause));
    let waited = rig.redial(2).as_secs_f64();
    assert!(wait.contains(&waited), "{code} in {stage}: {waited} s");
    rig
}

#[test]
fn every_code_has_its_disposition() {
    use Disposition as D;
    let table = [
        (400, D::OurFault, Pace::Refused),
        (401, D::Reauthenticate, Pace::Jittered),
        (402, D::Refused, Pace::Refused),
        (403, D::AlreadyAuthenticated, Pace::Jittered),
        (404, D::AuthTimeout, Pace::Jittered),
        (405, D::KeepPartial, Pace::Refused),
        (406, D::SlotTaken, Pace::SlotTaken),
        (407, D::SlowClient, Pace::Jittered),
        (408, D::Refused, Pace::Refused),
        (409, D::Refused, Pace::Refused),
        (410, D::DropChannel, Pace::Refused),
        (411, D::Refused, Pace::Refused),
        (412, D::Refused, Pace::Refused),
        (413, D::DropChannel, Pace::Refused),
        (429, D::SlowDown, Pace::RateLimited),
        (500, D::ServerError, Pace::Jittered),
    ];
    for code in 0..=u16::MAX {
        let row = table.iter().find(|row| row.0 == code);
        let (disposition, pace) = row.map_or((D::Unlisted, Pace::Jittered), |row| (row.1, row.2));
        assert_eq!(
            (Disposition::of_code(code), Disposition::of_code(code).pace()),
            (disposition, pace),
            "{code}"
        );
    }
}

#[test]
fn every_http_status_has_its_wait() {
    let table = [
        (429, Pace::RateLimited, 30.0..=60.0),
        (400, Pace::Refused, SLOW),
        (401, Pace::Refused, SLOW),
        (403, Pace::Refused, SLOW),
        (404, Pace::Refused, SLOW),
        (200, Pace::Refused, SLOW),
        (302, Pace::Refused, SLOW),
        (408, Pace::Jittered, FIRST),
        (425, Pace::Jittered, FIRST),
        (500, Pace::Jittered, FIRST),
        (503, Pace::Jittered, FIRST),
        (599, Pace::Jittered, FIRST),
    ];
    for (status, pace, wait) in table {
        for seed in 0..50 {
            let mut rig = Rig::seeded(SPY, seed);
            rig.wanted(true);
            rig.expect(&[dial(1)]);
            rig.dial_fails(1, DialFailure::Http(status));
            rig.expect(&[]);
            let notices = rig.notices();
            let reason = Failure::Dial(DialFailure::Http(status));
            assert_eq!(rig.machine.refusal().is_some(), pace == Pace::Refused);
            let waited = rig.redial(2);
            assert_eq!(notices, [Notice::BackingOff { attempt: 1, delay: waited, pace, reason }]);
            assert!(wait.contains(&waited.as_secs_f64()), "{status}: {waited:?}");
        }
    }
}

#[test]
fn a_refusal_is_checked_again_slowly_and_stands_until_live() {
    for code in [402, 408, 409, 411, 412] {
        for stage in [Stage::Welcome, Stage::Auth, Stage::Subscribe, Stage::Live] {
            let mut rig = ends(stage, code, &SLOW);
            assert!(rig.machine.refusal().is_some());
            rig.lead(2, Stage::Subscribe);
            assert!(rig.machine.refusal().is_some());
            rig.says(2, acknowledged(SPY));
            assert_eq!((rig.machine.refusal(), rig.machine.reason()), (None, None));
        }
    }
}

#[test]
fn a_refusal_is_checked_for_ever() {
    let mut rig = Rig::in_stage(Stage::Auth);
    for conn in 1..200 {
        rig.says(conn, error(402));
        rig.expect(&[close(conn)]);
        rig.closed(conn);
        let waited = rig.redial(conn + 1).as_secs_f64();
        assert!(SLOW.contains(&waited), "{waited}");
        rig.lead(conn + 1, Stage::Auth);
    }
}

#[test]
fn our_fault_during_authentication_is_not_repeated_quickly() {
    for stage in [Stage::Welcome, Stage::Auth] {
        for code in [400, 405, 410, 413] {
            ends(stage, code, &SLOW);
        }
    }
}

#[test]
fn trouble_on_their_side_or_a_new_code_redials() {
    for stage in [Stage::Welcome, Stage::Auth, Stage::Subscribe, Stage::Live] {
        for code in [404, 407, 500, 0, 414, 499, 999] {
            ends(stage, code, &FIRST);
        }
        ends(stage, 429, &(30.0..=60.0));
    }
}

#[test]
fn not_authenticated_authenticates_once_more_and_then_redials() {
    let mut rig = Rig::in_stage(Stage::Subscribe);
    rig.says(1, error(401));
    rig.expect(&[auth(1)]);
    rig.expect_phase(Phase::Session(Stage::Auth));
    rig.says(1, Control::Authenticated);
    rig.expect(&[subscribe(1, SPY)]);
    rig.says(1, error(401));
    rig.expect(&[close(1)]);
    rig.closed(1);
    rig.redial(2);

    // On a live connection only what is still missing is asked for again.
    let mut rig = Rig::live();
    rig.desire(&[(Trades, "SPY"), (Quotes, "SPY"), (Bars, "SPY")]);
    rig.expect(&[subscribe(1, &[(Bars, "SPY")])]);
    rig.says(1, error(401));
    rig.expect(&[auth(1)]);
    assert_eq!(rig.data(1), Delivery::Deliver);
    rig.says(1, error(403));
    rig.expect(&[subscribe(1, &[(Bars, "SPY")])]);
    rig.says(1, acknowledged(&[(Trades, "SPY"), (Quotes, "SPY"), (Bars, "SPY")]));
    assert!(rig.machine.is_live());
}

#[test]
fn already_authenticated_is_authenticated() {
    let mut rig = Rig::in_stage(Stage::Auth);
    rig.says(1, error(403));
    rig.expect(&[subscribe(1, SPY)]);
    rig.says(1, acknowledged(SPY));
    assert!(rig.machine.is_live());
    rig.notices();
    // On a live connection it is no news, and nothing starts anew.
    let since = rig.machine.poll_timeout();
    rig.pass(secs(1.0));
    rig.says(1, Control::Authenticated);
    assert_eq!(rig.notices(), []);
    rig.says(1, error(403));
    rig.expect(&[]);
    assert!(rig.machine.is_live());
    assert_eq!(rig.notices().len(), 1, "the refusal itself");
    assert_eq!(rig.machine.poll_timeout(), since.map(|since| since + secs(1.0)));
}

#[test]
fn a_refused_request_is_split_by_channel_and_the_refused_channel_left_out() {
    for code in [400, 405, 410, 413] {
        let mut rig = Rig::halted(&[(Trades, "SPY"), (Bars, "SPY"), (News, "SPY")]);
        rig.wanted(true);
        rig.expect(&[dial(1)]);
        rig.lead(1, Stage::Subscribe);
        rig.says(1, error(code));
        rig.expect(&[subscribe(1, &[(Trades, "SPY")])]);
        rig.says(1, acknowledged(&[(Trades, "SPY")]));
        rig.expect(&[subscribe(1, &[(Bars, "SPY")])]);
        rig.says(1, acknowledged(&[(Trades, "SPY"), (Bars, "SPY")]));
        rig.expect(&[subscribe(1, &[(News, "SPY")])]);
        rig.notices();
        rig.says(1, error(code));
        rig.expect(&[]);
        assert!(rig.machine.is_live());
        let missing = set(&[(News, "SPY")]);
        let mismatch = Notice::Mismatch { missing, extra: Subscriptions::default() };
        assert_eq!(rig.notices().last(), Some(&mismatch));
        // Nothing repeats it, until another set is desired.
        rig.says(1, acknowledged(&[(Trades, "SPY"), (Bars, "SPY")]));
        rig.expect(&[]);
        rig.desire(&[(Bars, "SPY"), (News, "SPY")]);
        rig.expect(&[unsubscribe(1, &[(Trades, "SPY")])]);
        rig.says(1, acknowledged(&[(Bars, "SPY")]));
        rig.expect(&[subscribe(1, &[(News, "SPY")])]);
    }
}

#[test]
fn all_refused_is_live_with_nothing() {
    let mut rig = Rig::in_stage(Stage::Subscribe);
    rig.says(1, error(405));
    rig.expect(&[subscribe(1, &[(Trades, "SPY")])]);
    rig.says(1, error(405));
    rig.expect(&[subscribe(1, &[(Quotes, "SPY")])]);
    rig.says(1, error(405));
    rig.expect(&[]);
    assert!(rig.machine.is_live() && rig.machine.subscribed().is_empty());
}

#[test]
fn a_refused_change_leaves_the_rest_as_it_is() {
    let mut rig = Rig::live();
    rig.desire(&[(Trades, "SPY"), (Quotes, "SPY"), (Bars, "SPY")]);
    rig.expect(&[subscribe(1, &[(Bars, "SPY")])]);
    rig.says(1, error(405));
    rig.desire(&[]);
    rig.expect(&[unsubscribe(1, SPY)]);
    rig.says(1, error(400));
    rig.expect(&[unsubscribe(1, &[(Trades, "SPY")])]);
    rig.says(1, error(400));
    rig.expect(&[unsubscribe(1, &[(Quotes, "SPY")])]);
    rig.says(1, error(400));
    rig.expect(&[]);
    assert!(rig.machine.is_live());
    assert_eq!(rig.machine.subscribed(), &set(SPY));
}

#[test]
fn a_request_refused_after_the_set_changed_is_planned_anew() {
    let mut rig = Rig::in_stage(Stage::Subscribe);
    rig.desire(&[(Trades, "SPY")]);
    rig.says(1, error(405));
    rig.expect(&[subscribe(1, &[(Trades, "SPY")])]);
}

#[test]
fn a_refusal_of_nothing_we_asked_is_only_told() {
    for code in [400, 405, 410, 413] {
        let mut rig = Rig::live();
        rig.says(1, error(code));
        rig.expect(&[]);
        assert!(rig.machine.is_live());
        assert_eq!(rig.notices().len(), 1, "{code}");
    }
}

#[test]
fn a_taken_slot_is_asked_for_on_the_same_socket_ever_more_slowly() {
    let mut rig = Rig::in_stage(Stage::Auth);
    rig.says(1, error(406));
    rig.expect(&[]);
    for pause in [0.5, 1.0, 1.5, 2.0, 2.5] {
        assert_eq!(rig.pass_to_deadline(), secs(pause));
        rig.expect(&[auth(1)]);
        rig.pass(secs(0.1));
        rig.says(1, error(406));
    }
    rig.expect_phase(Phase::Session(Stage::Auth));
    // About 10 s after the first refusal the venue drops us, perhaps with a word on it.
    rig.says(1, error(404));
    rig.expect(&[close(1)]);
    rig.closed(1);
    assert_eq!(rig.machine.reason(), Some(&Failure::SlotTaken { refusals: 6 }));
    assert_eq!(rig.machine.refusal(), None);
    assert!(SLOT.contains(&rig.redial(2).as_secs_f64()));
}

#[test]
fn a_slot_that_falls_free_is_taken_on_the_same_socket() {
    let mut rig = Rig::in_stage(Stage::Auth);
    rig.says(1, error(406));
    rig.pass_to_deadline();
    rig.expect(&[auth(1)]);
    rig.says(1, Control::Authenticated);
    rig.expect(&[subscribe(1, SPY)]);
    rig.says(1, acknowledged(SPY));
    assert!(rig.machine.is_live());
    // The refusals are over: a later end is an ordinary one.
    rig.closed(1);
    assert_eq!(rig.machine.reason(), Some(&Failure::Closed(Closed::End)));
    rig.redial(2);
}

#[test]
fn a_taken_slot_never_gives_up_and_never_backs_off_far() {
    let mut rig = Rig::in_stage(Stage::Auth);
    for conn in 1..100 {
        rig.says(conn, error(406));
        rig.pass(secs(0.4));
        rig.closed(conn);
        rig.expect(&[]);
        let waited = rig.redial(conn + 1).as_secs_f64();
        assert!(SLOT.contains(&waited), "{waited}");
        rig.lead(conn + 1, Stage::Auth);
    }
    assert_eq!(rig.machine.attempts(), 99);
    // Refusals of the slot do not make the back-off of other failures longer.
    rig.closed(100);
    assert!(FIRST.contains(&rig.redial(101).as_secs_f64()));
}

/// Notices that a person must look.
fn contested(rig: &mut Rig) -> Vec<Duration> {
    let since = |notice| if let Notice::SlotContested { since } = notice { Some(since) } else { None };
    rig.notices().into_iter().filter_map(since).collect()
}

#[test]
fn a_slot_that_stays_taken_for_two_minutes_is_told_once_and_asked_for_all_the_same() {
    let mut rig = Rig::in_stage(Stage::Auth);
    let (since, mut told) = (rig.now, Vec::new());
    for conn in 1.. {
        rig.says(conn, error(406));
        told.extend(contested(&mut rig).into_iter().map(|span| (rig.now - since, span)));
        if rig.now - since > secs(300.0) {
            break;
        }
        rig.pass(secs(0.4));
        rig.closed(conn);
        rig.redial(conn + 1);
        rig.lead(conn + 1, Stage::Auth);
    }
    let [(at, span)] = told[..] else { panic!("{told:?}") };
    assert_eq!(at, span);
    assert!((120.0..125.0).contains(&at.as_secs_f64()), "{at:?}");
    rig.pass_to_deadline();
    assert_eq!(rig.machine.poll_command().map(|command| command.conn()), rig.machine.connection());
}

#[test]
fn a_slot_that_was_ours_or_not_wanted_meanwhile_begins_a_new_wait() {
    for pause in [false, true] {
        let mut rig = Rig::in_stage(Stage::Auth);
        rig.says(1, error(406));
        if pause {
            rig.wanted(false);
            rig.expect(&[close(1)]);
            rig.closed(1);
            rig.pass(secs(120.0));
            rig.wanted(true);
        } else {
            rig.pass_to_deadline();
            rig.expect(&[auth(1)]);
            rig.says(1, Control::Authenticated);
            rig.expect(&[subscribe(1, SPY)]);
            rig.says(1, acknowledged(SPY));
            rig.now += secs(120.0);
            rig.closed(1);
            rig.pass_to_deadline();
        }
        rig.expect(&[dial(2)]);
        rig.lead(2, Stage::Auth);
        rig.says(2, error(406));
        assert_eq!(contested(&mut rig), []);
    }
}

#[test]
fn a_venue_that_neither_frees_the_slot_nor_drops_us_is_left() {
    let mut rig = Rig::in_stage(Stage::Auth);
    rig.says(1, error(406));
    let since = rig.now;
    for _ in 0..20 {
        if rig.machine.phase() != Phase::Session(Stage::Auth) {
            break;
        }
        rig.pass_to_deadline();
        if rig.machine.poll_command() == Some(auth(1)) {
            rig.says(1, error(406));
        }
    }
    assert_eq!(rig.now - since, LIMITS.slot_limit);
    rig.expect_phase(Phase::Closing);
    rig.closed(1);
    assert!(SLOT.contains(&rig.redial(2).as_secs_f64()));
}

#[test]
fn a_taken_slot_is_understood_in_every_stage() {
    for stage in [Stage::Welcome, Stage::Subscribe, Stage::Live] {
        let mut rig = Rig::in_stage(stage);
        rig.says(1, error(406));
        rig.expect(&[]);
        rig.expect_phase(Phase::Session(Stage::Auth));
        assert_eq!(rig.pass_to_deadline(), secs(0.5));
        rig.expect(&[auth(1)]);
    }
}

#[test]
fn pause_while_the_slot_is_taken_closes_at_once() {
    let mut rig = Rig::in_stage(Stage::Auth);
    rig.says(1, error(406));
    rig.pass_to_deadline();
    rig.wanted(false);
    rig.expect(&[close(1)]);
}

#[test]
fn bad_credentials_behind_a_taken_slot_are_a_refusal() {
    let mut rig = Rig::in_stage(Stage::Auth);
    rig.says(1, error(406));
    rig.says(1, error(402));
    rig.expect(&[close(1)]);
    rig.closed(1);
    assert!(rig.machine.refusal().is_some());
    assert!(SLOW.contains(&rig.redial(2).as_secs_f64()));
}
