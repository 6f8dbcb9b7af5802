#![allow(clippy::unwrap_used)]

use super::*;

const TERMS: Terms = Terms {
    ttl: Duration::from_secs(14),
    renew_every: Duration::from_secs(9),
    retry_after: Duration::from_secs(1),
    ask_every: Duration::from_millis(500),
};

fn s(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn lease(holder: &str, epoch: i64) -> Lease {
    Lease { holder: holder.to_owned(), epoch, expires_at: jiff::Timestamp::UNIX_EPOCH.into() }
}

fn taken(epoch: i64) -> Answer {
    Answer::Taking(Taking::Taken { epoch })
}

fn held(holder: &str, epoch: i64) -> Answer {
    Answer::Taking(Taking::Held(lease(holder, epoch)))
}

fn renewed() -> Answer {
    Answer::Renewal(Renewal::Renewed)
}

fn away() -> Answer {
    Answer::Unreachable("refused".to_owned())
}

/// Holding epoch 3 since 100 s.
fn holding() -> Tenancy {
    let mut tenancy = Tenancy::new(TERMS, s(100.0));
    assert_eq!((tenancy.due(), tenancy.question(), tenancy.pass()), (s(100.0), Question::Take, None));
    let news = tenancy.answered(s(100.0), s(100.5), taken(3));
    assert_eq!(news, Some(News::Taken { epoch: 3, waited: s(0.5) }));
    tenancy
}

/// Asked and answered at these times: when it is due next, until when it is valid, and what is told.
type Row = (f64, f64, Answer, f64, Option<f64>, bool);

#[track_caller]
fn check(mut tenancy: Tenancy, rows: Vec<Row>) -> Tenancy {
    for (at, (asked, now, answer, due, valid_until, told)) in rows.into_iter().enumerate() {
        let news = tenancy.answered(s(asked), s(now), answer);
        assert_eq!(tenancy.due(), s(due), "due in row {at}");
        assert_eq!(tenancy.pass().map(|(_, until)| until), valid_until.map(s), "validity in row {at}");
        assert_eq!(news.is_some(), told, "row {at}: {news:?}");
    }
    tenancy
}

#[test]
fn validity_counts_from_the_question_and_renewal_is_asked_for_well_before_its_end() {
    let tenancy = holding();
    assert_eq!(tenancy.pass(), Some((3, s(114.0))));
    assert_eq!((tenancy.due(), tenancy.question()), (s(109.0), Question::Renew { epoch: 3 }));
    check(
        tenancy,
        vec![
            (109.0, 109.1, renewed(), 118.0, Some(123.0), false),
            (118.0, 120.9, renewed(), 127.0, Some(132.0), false),
        ],
    );
}

#[test]
fn who_holds_goes_on_while_the_store_is_away_and_it_is_told_once() {
    check(
        holding(),
        vec![
            (109.0, 112.0, away(), 113.0, Some(123.0), true),
            (113.0, 116.0, away(), 117.0, Some(127.0), false),
            (117.0, 117.1, away(), 118.1, Some(131.0), false),
            (118.1, 118.2, renewed(), 127.1, Some(132.1), false),
            // Another outage is told again.
            (127.1, 130.1, away(), 131.1, Some(141.1), true),
        ],
    );
}

#[test]
fn who_slept_past_the_end_is_not_valid_before_the_stores_word() {
    // Stopped at 105 s, awake at 130 s.
    let mut tenancy = check(
        holding(),
        vec![
            (130.0, 133.0, away(), 134.0, Some(114.0), true),
            (134.0, 134.1, away(), 135.1, Some(114.0), false),
        ],
    );
    assert_eq!(tenancy.question(), Question::Renew { epoch: 3 });
    assert_eq!(tenancy.answered(s(135.1), s(135.2), renewed()), Some(News::Confirmed));
    assert_eq!(tenancy.pass(), Some((3, s(149.1))));
}

#[test]
fn who_slept_during_a_question_is_not_valid_by_its_late_answer() {
    // Asked at 109 s, stopped, awake at 140 s: the answer has been there since, or the call's limit strikes.
    check(holding(), vec![(109.0, 140.0, away(), 141.0, Some(123.0), true)]);
    check(
        holding(),
        vec![
            (109.0, 140.0, renewed(), 118.0, Some(123.0), false),
            (140.0, 140.1, renewed(), 149.0, Some(154.0), true),
        ],
    );
}

#[test]
fn who_lost_it_is_invalid_at_once_and_asks_again() {
    let mut tenancy = holding();
    let by = lease("b", 4);
    let lost = Answer::Renewal(Renewal::Lost(by.clone()));
    assert_eq!(tenancy.answered(s(109.0), s(109.1), lost), Some(News::Lost { epoch: 3, by }));
    assert_eq!((tenancy.pass(), tenancy.question(), tenancy.due()), (None, Question::Take, s(109.1)));
    let waiting = tenancy.answered(s(109.1), s(109.2), held("b", 4));
    assert_eq!(waiting, Some(News::Waiting(lease("b", 4))));
    let news = tenancy.answered(s(120.0), s(120.1), taken(5));
    assert_eq!(news, Some(News::Taken { epoch: 5, waited: s(11.0) }));
}

#[test]
fn a_newcomer_waits_as_long_as_it_takes_and_tells_each_holder_once() {
    check(
        Tenancy::new(TERMS, s(0.0)),
        vec![
            (0.0, 0.1, held("a", 1), 0.6, None, true),
            (0.6, 0.7, held("a", 1), 1.2, None, false),
            (1.2, 1.3, away(), 2.3, None, true),
            (2.3, 2.4, away(), 3.4, None, false),
            (3.4, 3.5, held("a", 1), 4.0, None, true),
            (4.0, 4.1, held("b", 2), 4.6, None, true),
            (4.6, 4.7, taken(3), 13.6, Some(18.6), true),
        ],
    );
}

#[test]
fn a_newcomer_never_holds_without_the_stores_word() {
    let rows = (0..60).map(|at| f64::from(at) * 4.0);
    check(
        Tenancy::new(TERMS, s(0.0)),
        rows.map(|at| (at, at + 3.0, away(), at + 4.0, None, at == 0.0)).collect(),
    );
}
