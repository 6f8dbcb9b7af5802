#![allow(clippy::unwrap_used)]

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_microseconds(1_760_000_000_000_000 + second * 1_000_000).unwrap()
}

fn scope(text: &str) -> Scope {
    text.parse().unwrap()
}

fn asked(scopes: &[&str], actor: Option<&str>) -> PauseRequest {
    PauseRequest {
        scopes: scopes.iter().map(|text| scope(text)).collect(),
        reason: Some("test".to_owned()),
        actor: actor.map(str::to_owned),
        until: None,
    }
}

fn released(scopes: &[&str], holds: &[&str], actor: Option<&str>) -> ResumeRequest {
    ResumeRequest {
        scopes: scopes.iter().map(|text| scope(text)).collect(),
        holds: holds.iter().map(|id| (*id).to_owned()).collect(),
        actor: actor.map(str::to_owned),
    }
}

fn apply(read: &mut ControlReading, edits: Vec<Edit>) {
    for edit in edits {
        match edit {
            Edit::Place { id, hold } => drop(read.holds.insert(id, Ok(hold))),
            Edit::Release { id } => drop(read.holds.remove(&id)),
        }
    }
}

#[test]
fn asking_twice_for_the_same_changes_nothing() {
    let mut read = ControlReading::default();
    let edits = pause(&read, &asked(&["all", "symbol:BTC*", "all"], Some("ann")), at(0));
    assert_eq!(edits.len(), 2);
    apply(&mut read, edits);
    assert_eq!(pause(&read, &asked(&["all"], Some("ann")), at(9)), []);
}

#[test]
fn a_rewritten_hold_keeps_its_beginning_and_one_that_is_over_begins_again() {
    let mut read = ControlReading::default();
    let mut request = asked(&["all"], None);
    request.until = Some(at(10));
    let edits = pause(&read, &request, at(0));
    apply(&mut read, edits);
    request.until = Some(at(20));
    let [Edit::Place { hold, .. }] = &pause(&read, &request, at(5))[..] else { panic!() };
    assert_eq!((hold.since, hold.until), (Some(at(0)), Some(at(20))));
    let [Edit::Place { hold, .. }] = &pause(&read, &request, at(15))[..] else { panic!() };
    assert_eq!(hold.since, Some(at(15)), "the first one ended at 10");
}

#[test]
fn nobodys_resume_releases_the_hold_of_another() {
    let mut read = ControlReading::default();
    for actor in [Some("ann"), Some("bob"), None] {
        let edits = pause(&read, &asked(&["all"], actor), at(0));
        apply(&mut read, edits);
    }
    assert_eq!(read.holds.len(), 3);
    let edits = resume(&read, &released(&["all"], &[], Some("bob"))).unwrap();
    assert_eq!(edits, [Edit::Release { id: "all-bob".to_owned() }]);
    apply(&mut read, edits);
    let refusal = resume(&read, &released(&["all"], &[], Some("bob"))).unwrap_err();
    let text = refusal.to_string();
    assert!(text.contains("all-ann by \"ann\" (test)") && text.contains("name its id"), "{text}");
    let edits = resume(&read, &released(&[], &["all-ann"], Some("bob"))).unwrap();
    assert_eq!(edits, [Edit::Release { id: "all-ann".to_owned() }]);
}

#[test]
fn resuming_what_nobody_holds_is_an_error_that_releases_nothing() {
    let mut read = ControlReading::default();
    let edits = pause(&read, &asked(&["job:iex"], None), at(0));
    apply(&mut read, edits);
    let error = resume(&read, &released(&["job:iex", "job:sip"], &[], None)).unwrap_err();
    assert_eq!(error, NothingToResume::NotHeld(scope("job:sip")));
    let error = resume(&read, &released(&[], &["nonsense"], None)).unwrap_err();
    assert_eq!(error.to_string(), "there is no control hold \"nonsense\"");
}

#[test]
fn ids_are_plain_and_no_two_requests_share_one() {
    assert_eq!(hold_id(&scope("all"), None), "all");
    assert_eq!(hold_id(&scope("job:iex"), Some("ann")), "job-iex-ann");
    let texts = [
        "all",
        "all/bars",
        "job:a",
        "job:a-b",
        "symbol:A*",
        "symbol:A?",
        "symbol:A/B",
        "symbol:A-B",
        "symbol:B/bars",
    ];
    let actors =
        [None, Some("ann"), Some("Ann"), Some("a n"), Some("a-n"), Some("ann@example.com"), Some("ännchen")];
    let mut ids: Vec<String> =
        texts.iter().flat_map(|text| actors.map(|actor| hold_id(&scope(text), actor))).collect();
    assert!(ids.iter().all(|id| id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')), "{ids:?}");
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count);
}
