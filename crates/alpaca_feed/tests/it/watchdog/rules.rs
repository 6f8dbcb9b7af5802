//! Alarms, hours, halts, lag, single symbols and remedies, each by a made-up feed.

use super::*;
use Channel::{Bars, News, Quotes, Statuses, Trades};
use alpaca_feed::watchdog::{Freshness, Subject, Trouble};

/// A Wednesday in the middle of the session.
const NOON: &str = "2026-10-07T16:00:00Z";
const A: &[(Channel, &str)] = &[(Quotes, "A")];
const QUOTES: Subject = Subject::Channel(Quotes);

fn is_silent(notices: &[Notice]) -> bool {
    notices.iter().any(|notice| matches!(notice, Notice::Silent { .. }))
}

#[test]
fn a_mute_channel_is_told_once_and_until_data_comes() {
    let mut rig = Rig::live(Market::UsStocks, NOON, A);
    rig.flow(100, &[0]);
    assert_eq!(rig.dog.freshness(rig.now), Freshness::Flowing);
    rig.pass(SECOND * 29);
    assert_eq!(rig.notices(), []);
    rig.pass(SECOND * 600);
    let limit = SECOND * 30;
    assert_eq!(rig.notices(), [Notice::Silent { subject: QUOTES, silent: limit, limit }]);
    assert_eq!((rig.dog.freshness(rig.now), rig.dog.mute()), (Freshness::Mute, vec![QUOTES]));
    rig.flow(1, &[0]);
    assert_eq!(rig.notices(), [Notice::Flowing { subject: QUOTES, silent: SECOND * 630 }]);
    assert_eq!(rig.dog.freshness(rig.now), Freshness::Flowing);
}

#[test]
fn one_channel_is_mute_while_another_flows() {
    let mut rig = Rig::live(Market::UsStocks, NOON, &[(Quotes, "A"), (Trades, "A"), (Bars, "A")]);
    for _ in 0..100 {
        rig.flow(1, &[0]);
        rig.bring(&[trade(0, rig.wall_ts())]);
    }
    rig.flow(40, &[0]);
    let limit = SECOND * 30;
    let subject = Subject::Channel(Trades);
    assert_eq!(rig.notices(), [Notice::Silent { subject, silent: limit, limit }]);
    assert_eq!(rig.dog.mute(), [subject], "bars never came, and one symbol may have none");
}

#[test]
fn nothing_is_expected_of_what_is_closed_held_unwatched_or_unknown() {
    for (market, start, pair) in [
        // Saturday; Thanksgiving; news at any time.
        (Market::UsStocks, "2026-10-10T16:00:00Z", (Quotes, "A")),
        (Market::UsStocks, "2026-11-26T16:00:00Z", (Quotes, "A")),
        (Market::Never, NOON, (News, "*")),
        // Two minutes of evidence do in the session, not before it.
        (Market::UsStocks, "2026-10-07T10:00:00Z", (Quotes, "A")),
    ] {
        let mut rig = Rig::live(market, start, &[pair]);
        rig.flow(120, &[0]);
        rig.pass(SECOND * 3_600);
        assert_eq!((rig.notices(), rig.commands()), (vec![], vec![]), "{market:?} {start}");
        assert_ne!(rig.dog.freshness(rig.now), Freshness::Mute);
    }
    let mut rig = Rig::live(Market::Always, NOON, A);
    rig.flow(120, &[0]);
    rig.dog.handle_held(rig.now);
    rig.pass(SECOND * 3_600);
    assert_eq!((rig.notices(), rig.dog.freshness(rig.now)), (vec![], Freshness::NotLive));
    // What was learned is kept; the silence of the hold is none.
    rig.dog.handle_live(rig.now);
    rig.pass(SECOND * 29);
    assert_eq!(rig.notices(), []);
    rig.pass(SECOND * 2);
    assert!(is_silent(&rig.notices()));
}

#[test]
fn the_open_is_judged_by_what_came_before_it_and_the_close_ends_every_alarm() {
    let mut rig = Rig::live(Market::UsStocks, "2026-10-07T13:20:00Z", A);
    rig.flow(599, &[0]);
    // Mute from the open on: nothing of the session itself is known.
    rig.pass(SECOND * 30);
    assert_eq!(rig.notices(), []);
    rig.pass(SECOND * 3);
    assert!(is_silent(&rig.notices()));

    let mut rig = Rig::live(Market::UsStocks, "2026-10-07T23:50:00Z", A);
    rig.flow(500, &[0]);
    rig.pass(SECOND * 50);
    assert!(is_silent(&rig.notices()));
    rig.commands();
    rig.pass(SECOND * 100);
    assert_eq!(rig.dog.freshness(rig.now), Freshness::MarketClosed);
    let [Command::Backfill { subject: QUOTES, since, until }] = rig.commands()[..] else {
        panic!("the gap ends with the market")
    };
    assert_eq!(until - since, SECOND * 100);
}

#[test]
fn a_job_of_many_symbols_that_never_hears_anything_in_the_session_is_mute() {
    let names: Vec<String> = (0..8).map(|n| format!("S{n}")).collect();
    let many: Vec<_> = names.iter().map(|name| (Quotes, name.as_str())).collect();
    for (pairs, mute) in [(&many[..], true), (&[(Quotes, "*")], true), (&many[..7], false)] {
        let mut rig = Rig::live(Market::UsStocks, NOON, pairs);
        rig.pass(SECOND * 299);
        assert_eq!(rig.notices(), []);
        assert_eq!(rig.dog.freshness(rig.now), Freshness::Quiet);
        rig.pass(SECOND * 2);
        assert_eq!(is_silent(&rig.notices()), mute, "{pairs:?}");
    }
}

#[test]
fn a_job_whose_symbols_are_all_halted_is_silent_with_reason() {
    for (halt, resume) in [("H", "T"), ("2", "3"), ("P", "Q")] {
        let mut rig = Rig::live(Market::UsStocks, NOON, &[(Quotes, "A"), (Quotes, "B"), (Statuses, "A")]);
        rig.flow(100, &[0, 1]);
        let ts = rig.wall_ts();
        rig.bring(&[status(0, halt, ts), status(1, halt, ts)]);
        rig.pass(SECOND * 900);
        assert_eq!((rig.notices(), rig.dog.freshness(rig.now)), (vec![], Freshness::Halted));
        rig.bring(&[status(1, resume, ts)]);
        rig.pass(SECOND * 31);
        assert!(is_silent(&rig.notices()), "silence counts from the resumption on");
        rig.bring(&[status(1, halt, ts)]);
        assert_eq!(rig.dog.freshness(rig.now), Freshness::Halted);
    }
}

#[test]
fn event_time_that_falls_behind_is_told_and_an_old_tape_is_not() {
    let year = 31_536_000_000_000_000;
    let mut rig = Rig::live(Market::Always, NOON, A);
    let start_ts = rig.wall_ts();
    for at in 0..300 {
        rig.pass(SECOND);
        // Of half the pace for a minute, and of old at once.
        let slow = (at as i64 - 100).clamp(0, 60) * 500_000_000;
        let ts = start_ts - year + at as i64 * 1_000_000_000 - slow;
        rig.bring(&[quote(0, ts)]);
        if at < 100 {
            assert_eq!(rig.notices(), []);
        }
    }
    let notices = rig.notices();
    assert!(matches!(notices[..], [Notice::Lagging(lag)] if lag > SECOND * 10), "{notices:?}");
    assert_eq!(rig.dog.freshness(rig.now), Freshness::Lagging);
    assert_eq!(rig.commands(), [Command::Reconnect(Trouble::Lagging)], "once, however long it lasts");
    for _ in 0..10 {
        rig.pass(SECOND);
        let ts = rig.wall_ts() - year;
        rig.bring(&[quote(0, ts)]);
    }
    assert_eq!((rig.notices(), rig.dog.freshness(rig.now)), (vec![Notice::CaughtUp], Freshness::Flowing));
    assert_eq!(rig.commands(), []);
}

#[test]
fn a_lag_that_passes_by_itself_costs_no_connection_and_a_time_of_the_future_is_no_lag() {
    let mut rig = Rig::live(Market::Always, NOON, A);
    let second = 1_000_000_000;
    for at in 0..120 {
        rig.pass(SECOND);
        // Behind for twenty seconds, which is told; and once half an hour ahead.
        let ts = match at {
            30..50 => rig.wall_ts() - 15 * second,
            80 => rig.wall_ts() + 1_800 * second,
            _ => rig.wall_ts(),
        };
        rig.bring(&[quote(0, ts)]);
    }
    let notices = rig.notices();
    assert!(matches!(notices[..], [Notice::Lagging(_), Notice::CaughtUp]), "{notices:?}");
    assert_eq!(rig.commands(), []);
}

/// Two symbols flow for two minutes, then only the second.
fn one_silent() -> Rig {
    let mut rig = Rig::live(Market::Always, NOON, &[(Quotes, "A"), (Quotes, "B")]);
    rig.flow(120, &[0, 1]);
    rig.flow(29, &[1]);
    assert_eq!(rig.notices(), []);
    rig.flow(4, &[1]);
    let notices = rig.notices();
    assert!(
        matches!(notices[..], [Notice::Suspect { symbol: SymbolId(0), .. }]),
        "one suspicion, told once: {notices:?}"
    );
    assert_eq!(rig.dog.suspects(), [SymbolId(0)]);
    assert_eq!(rig.dog.freshness(rig.now), Freshness::Flowing, "a suspicion is no verdict");
    rig
}

#[test]
fn a_silent_symbol_is_mute_when_a_spot_check_finds_newer_data() {
    let mut rig = one_silent();
    let ts = rig.wall_ts();
    rig.dog.handle_spot_check(rig.now, ts, SymbolId(1), ts);
    assert_eq!(rig.dog.mute(), [], "nobody asked about that one");
    rig.bring(&[quote(0, ts)]);
    rig.dog.handle_spot_check(rig.now, ts, SymbolId(0), ts);
    assert_eq!(rig.dog.mute(), [], "it came while somebody asked");

    let mut rig = one_silent();
    let ts = rig.wall_ts();
    rig.dog.handle_spot_check(rig.now, ts, SymbolId(0), ts - 1_000_000_000);
    assert_eq!(rig.dog.mute(), [Subject::Symbol(SymbolId(0))]);
    assert_eq!(rig.dog.suspects(), []);
    rig.flow(1, &[1]);
    assert!(is_silent(&rig.notices()));
    assert_eq!(rig.commands(), [Command::Resubscribe(vec![Subject::Symbol(SymbolId(0))])]);
    rig.flow(3, &[0, 1]);
    let notices = rig.notices();
    assert!(
        matches!(notices[..], [Notice::Flowing { subject: Subject::Symbol(SymbolId(0)), .. }]),
        "{notices:?}"
    );
    assert!(matches!(rig.commands()[..], [Command::Backfill { subject: Subject::Symbol(SymbolId(0)), .. }]));
    assert_eq!(rig.dog.mute(), []);
}

#[test]
fn a_silent_symbol_is_quiet_when_a_spot_check_finds_nothing_newer() {
    let mut rig = one_silent();
    let ts = rig.wall_ts();
    rig.dog.handle_spot_check(rig.now, ts, SymbolId(0), ts - 33_000_000_000);
    rig.flow(30, &[1]);
    assert_eq!((rig.notices(), rig.dog.suspects(), rig.commands()), (vec![], vec![], vec![]));
    // It may have fallen mute in the quiet, so it is asked about again, ever more rarely.
    let mut asked = 0;
    for _ in 0..3_600 {
        rig.flow(1, &[1]);
        if !rig.dog.suspects().is_empty() {
            asked += 1;
            let ts = rig.wall_ts();
            rig.dog.handle_spot_check(rig.now, ts, SymbolId(0), ts - 3_700_000_000_000);
        }
    }
    assert_eq!((asked, rig.commands()), (6, vec![]));
}

#[test]
fn a_halted_symbol_and_a_whole_feed_that_is_silent_make_no_suspects() {
    let mut rig = Rig::live(Market::UsStocks, NOON, &[(Quotes, "A"), (Quotes, "B")]);
    rig.flow(120, &[0, 1]);
    let ts = rig.wall_ts();
    rig.bring(&[status(0, "H", ts)]);
    rig.flow(100, &[1]);
    assert_eq!(rig.notices(), []);
    rig.pass(SECOND * 100);
    let notices = rig.notices();
    assert!(matches!(notices[..], [Notice::Silent { subject: QUOTES, .. }]), "{notices:?}");
}

/// What was asked for while mute, with the second of the silence in which it was.
fn remedies(rig: &mut Rig, seconds: u32) -> Vec<(u32, Command)> {
    let mut asked = Vec::new();
    for second in 1..=seconds {
        rig.pass(SECOND);
        for command in rig.commands() {
            // As the pump does: the connection is made anew within the second.
            if matches!(command, Command::Reconnect(_)) {
                rig.dog.handle_gone(rig.now);
                rig.dog.handle_live(rig.now);
            }
            asked.push((second, command));
        }
    }
    asked
}

#[test]
fn remedies_come_in_order_ever_more_slowly_and_the_gaps_they_leave_tile() {
    let mut rig = Rig::live(Market::Always, NOON, A);
    rig.flow(100, &[0]);
    let last = rig.now;
    let asked = remedies(&mut rig, 2_000);
    let order: Vec<_> = asked
        .iter()
        .map(|(second, command)| match command {
            Command::Resubscribe(subjects) => {
                assert_eq!(subjects[..], [QUOTES]);
                (*second, "resubscribe")
            }
            Command::Reconnect(Trouble::Mute) => (*second, "reconnect"),
            Command::Reconnect(Trouble::Lagging) => panic!("nothing lags"),
            Command::Backfill { .. } => (*second, "backfill"),
        })
        .collect();
    let mut expected = vec![(30, "resubscribe"), (45, "reconnect")];
    for second in [105, 225, 465, 945, 1_905] {
        expected.extend([(second, "backfill"), (second, "reconnect")]);
    }
    assert_eq!(order, expected);

    rig.flow(1, &[0]);
    let mut gaps: Vec<_> = asked.into_iter().map(|(_, command)| command).chain(rig.commands()).collect();
    gaps.retain(|command| matches!(command, Command::Backfill { .. }));
    let mut until = last;
    for gap in gaps {
        let Command::Backfill { subject: QUOTES, since, until: end } = gap else { panic!("{gap:?}") };
        assert_eq!(since, until);
        until = end;
    }
    assert_eq!(until, rig.now, "from the last message to the next");
}

#[test]
fn nothing_is_tried_while_there_is_no_connection_or_the_job_is_held() {
    for held in [false, true] {
        let mut rig = Rig::live(Market::Always, NOON, A);
        rig.flow(100, &[0]);
        rig.pass(SECOND * 35);
        assert_eq!(rig.commands().len(), 1);
        if held {
            rig.dog.handle_held(rig.now)
        } else {
            rig.dog.handle_gone(rig.now)
        }
        rig.pass(SECOND * 600);
        let asked = rig.commands();
        let only_gaps = asked.iter().all(|command| matches!(command, Command::Backfill { .. }));
        assert!(only_gaps && asked.len() == usize::from(held), "{asked:?}");
        // Without a connection the alarm stands; a hold ends it.
        assert_eq!(rig.dog.mute().is_empty(), held);
    }
}

#[test]
fn what_falls_silent_with_a_channel_is_missed_with_it() {
    let mut rig = Rig::live(Market::Always, NOON, &[(Quotes, "A"), (Trades, "A"), (Bars, "A")]);
    for _ in 0..10 {
        rig.flow(60, &[0]);
        let ts = rig.wall_ts();
        rig.bring(&[bar(0, ts)]);
    }
    rig.flow(30, &[0]);
    let last = rig.now;
    // A bar is due in it, and no bar's silence is unusual before its fourth minute.
    rig.pass(SECOND * 45);
    rig.commands();
    rig.flow(1, &[0]);
    let (since, until) = (last, rig.now);
    let missed = [Quotes, Trades, Bars].map(|channel| (channel, since, until));
    let told = rig.commands().into_iter().map(|command| {
        let Command::Backfill { subject: Subject::Channel(channel), since, until } = command else {
            panic!("{command:?}")
        };
        (channel, since, until)
    });
    let mut told: Vec<_> = told.collect();
    told.sort_by_key(|(channel, ..)| missed.iter().position(|(own, ..)| own == channel));
    assert_eq!(told, missed);
}

#[test]
fn a_gap_begins_at_the_last_message_whatever_came_between() {
    for interrupt in [
        (|rig: &mut Rig| rig.dog.handle_desired(rig.now, &A.iter().copied().collect())) as fn(&mut Rig),
        |rig| {
            rig.dog.handle_gone(rig.now);
            rig.dog.handle_live(rig.now);
        },
    ] {
        let mut rig = Rig::live(Market::Always, NOON, A);
        rig.flow(100, &[0]);
        let last = rig.now;
        rig.pass(SECOND * 20);
        interrupt(&mut rig);
        rig.pass(SECOND * 29);
        assert_eq!(rig.notices(), [], "silence counts anew");
        rig.pass(SECOND * 2);
        assert!(is_silent(&rig.notices()));
        rig.commands();
        rig.flow(1, &[0]);
        assert_eq!(rig.commands(), [Command::Backfill { subject: QUOTES, since: last, until: rig.now }]);
    }
}

#[test]
fn half_of_an_alarm_is_a_doubt_from_the_last_message_until_its_gap_is_told() {
    let mut rig = Rig::live(Market::Always, NOON, A);
    rig.flow(100, &[0]);
    let last = rig.now;
    rig.pass(SECOND * 14);
    assert_eq!(rig.dog.doubts_since(rig.now), None);
    rig.pass(SECOND);
    assert_eq!(rig.dog.doubts_since(rig.now), Some(last));
    rig.pass(SECOND * 40);
    assert_eq!(rig.dog.doubts_since(rig.now), Some(last));
    rig.flow(1, &[0]);
    assert_eq!(rig.dog.doubts_since(rig.now), None);
}
