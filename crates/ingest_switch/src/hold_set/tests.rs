//! Tables of single promises, then a search of everything several sources can do to each other.

#![allow(clippy::unwrap_used)]

mod groups;
mod scopes;

use std::collections::{HashSet, VecDeque};
use std::path::Path;

use super::*;
use crate::{Scope, flag};

/// `seconds` after an arbitrary instant.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn env() -> Source {
    Source::env("INGEST_ENABLED")
}

fn file() -> Source {
    Source::file(Path::new("/etc/ingest/enabled"))
}

fn says(text: &str) -> Observation {
    flag::parse(text.as_bytes()).into()
}

fn on() -> Observation {
    says("on")
}

fn off() -> Observation {
    says("off")
}

fn off_until(end: Timestamp) -> Observation {
    says(&format!("off\nuntil: {end}"))
}

fn missing() -> Observation {
    Observation::Doubt(Doubt::Missing)
}

fn all_doubts() -> [Observation; 5] {
    [
        Doubt::Blank,
        Doubt::Missing,
        Doubt::Unknown("maybe".to_owned()),
        Doubt::Unreadable("permission denied".to_owned()),
        Doubt::Hanging,
    ]
    .map(Observation::Doubt)
}

#[test]
fn with_nothing_set_ingestion_runs_and_nobody_said_so() {
    let decision = HoldSet::new(at(0), vec![]).decision();
    let expected = Decision {
        enabled: true,
        source: None,
        holds: vec![],
        flag_fresh: true,
        doubts: vec![],
        generation: None,
        since: at(0),
    };
    assert_eq!(decision, expected);
}

#[test]
fn a_flag_is_taken_up_in_every_combination_of_environment_and_file() {
    // What each may say, and what follows from it alone.
    let mut texts: Vec<(Observation, Option<bool>)> = vec![
        (Observation::NoOpinion, None),
        (says(""), None),
        (says("maybe"), None),
        (missing(), None),
        (Observation::Doubt(Doubt::Hanging), None),
        (Observation::Doubt(Doubt::Unreadable("is a directory".to_owned())), None),
    ];
    texts.extend(flag::ON_WORDS.iter().map(|word| (says(word), Some(true))));
    texts.extend(flag::OFF_WORDS.iter().map(|word| (says(word), Some(false))));

    for (env_says, env_means) in &texts {
        for (file_says, file_means) in &texts {
            let mut holds = HoldSet::new(at(0), vec![]);
            holds.observe(at(1), &env(), env_says.clone());
            holds.observe(at(2), &file(), file_says.clone());
            let decision = holds.decision();

            let expected = match (env_means, file_means) {
                (Some(false), _) => (false, Some(env())),
                (_, Some(false)) => (false, Some(file())),
                (Some(true), _) => (true, Some(env())),
                (None, Some(true)) => (true, Some(file())),
                (None, None) => (true, None),
            };
            assert_eq!((decision.enabled, decision.source), expected, "{env_says:?} {file_says:?}");
        }
    }
}

#[test]
fn every_word_crosses_the_edge_in_both_directions_once() {
    for off in flag::OFF_WORDS {
        for on in flag::ON_WORDS {
            let mut holds = HoldSet::new(at(0), vec![]);
            assert_eq!(holds.observe(at(1), &file(), says(on)).edge, None);
            let edge = holds.observe(at(2), &file(), says(off)).edge;
            assert!(matches!(edge, Some(Edge::Halted(_))), "{on} to {off}: {edge:?}");
            assert_eq!(holds.observe(at(3), &file(), says(off)).edge, None);
            let edge = holds.observe(at(4), &file(), says(on)).edge;
            assert!(matches!(edge, Some(Edge::Resumed { .. })), "{off} to {on}: {edge:?}");
            assert_eq!(holds.observe(at(5), &file(), says(on)).edge, None);
        }
    }
}

#[test]
fn a_file_that_says_on_does_not_undo_the_hold_of_the_environment() {
    let mut holds = HoldSet::new(at(0), vec![]);
    holds.observe(at(1), &env(), off());
    holds.observe(at(2), &file(), off());
    assert_eq!(holds.observe(at(3), &file(), on()).edge, None);
    let decision = holds.decision();
    assert!(!decision.enabled);
    assert_eq!(decision.source, Some(env()));
    assert_eq!(decision.since, at(1));
}

#[test]
fn an_environment_that_says_on_does_not_disarm_the_file() {
    let mut holds = HoldSet::new(at(0), vec![]);
    holds.observe(at(1), &env(), says("1"));
    assert!(holds.observe(at(2), &file(), off()).edge.is_some());
    assert_eq!(holds.decision().source, Some(file()));
}

#[test]
fn the_oldest_hold_names_the_source() {
    let mut holds = HoldSet::new(at(0), vec![]);
    holds.observe(at(1), &file(), off());
    holds.observe(at(2), &env(), off());
    let decision = holds.decision();
    assert_eq!(decision.source, Some(file()));
    let order: Vec<_> = decision.holds.iter().map(|hold| hold.source.clone()).collect();
    assert_eq!(order, [file(), env()]);
}

#[test]
fn a_rewritten_hold_keeps_its_beginning_and_takes_the_new_reason() {
    let mut holds = HoldSet::new(at(0), vec![]);
    holds.observe(at(1), &file(), says("off\nreason: a"));
    assert_eq!(holds.observe(at(2), &file(), says("off\nreason: b\nby: bo")).edge, None);
    let hold = &holds.decision().holds[0];
    assert_eq!((hold.since, hold.reason.as_deref(), hold.actor.as_deref()), (at(1), Some("b"), Some("bo")));
}

#[test]
fn edges_carry_the_operators_words() {
    let mut holds = HoldSet::new(at(0), vec![]);
    let edge = holds.observe(at(1), &file(), says("off\nreason: a\nby: al")).edge;
    let hold = holds.decision().holds[0].clone();
    assert_eq!(hold.reason.as_deref(), Some("a"));
    assert_eq!(edge, Some(Edge::Halted(hold.clone())));
    let edge = holds.observe(at(2), &file(), says("on\nreason: done\nby: bo")).edge;
    let (reason, actor) = (Some("done".to_owned()), Some("bo".to_owned()));
    assert_eq!(edge, Some(Edge::Resumed { released: hold, reason, actor }));
}

#[test]
fn a_file_lost_in_any_way_keeps_its_last_decision_and_warns_once() {
    for (last, enabled) in [(on(), true), (off(), false)] {
        for doubt in all_doubts() {
            let mut holds = HoldSet::new(at(0), vec![]);
            holds.observe(at(1), &file(), last.clone());
            let before = holds.decision();
            let outcome = holds.observe(at(2), &file(), doubt.clone());
            let warning = outcome.warning.unwrap();
            assert!(warning.last_decision_stands, "{doubt:?}");
            assert_eq!(outcome.edge, None);
            let decision = holds.decision();
            assert_eq!((decision.enabled, decision.flag_fresh), (enabled, false), "{doubt:?}");
            assert_eq!(Decision { flag_fresh: true, doubts: vec![], ..decision }, before);

            assert_eq!(holds.observe(at(3), &file(), doubt.clone()), Outcome::default());
            assert_eq!(holds.observe(at(4), &file(), last.clone()), Outcome::default());
            assert_eq!(holds.decision(), before, "fresh again");
            assert!(holds.observe(at(5), &file(), doubt).warning.is_some(), "lost anew");
        }
    }
}

#[test]
fn each_new_cause_warns_and_is_named() {
    let mut holds = HoldSet::new(at(0), vec![]);
    holds.observe(at(1), &file(), off());
    for (doubt, named) in all_doubts().into_iter().zip([
        "it is blank",
        "it does not exist",
        "\"maybe\" is not understood (on: 1 true on yes y t resume resumed running enabled; \
         off: 0 false off no n f pause paused halt halted disabled)",
        "it cannot be read: permission denied",
        "reading it does not end",
    ]) {
        let warning = holds.observe(at(2), &file(), doubt).warning.unwrap();
        let expected = format!("file:/etc/ingest/enabled: {named}; its last decision stands");
        assert_eq!(warning.to_string(), expected);
    }
}

#[test]
fn a_flag_not_written_yet_has_no_opinion_and_raises_no_alarm() {
    for doubt in [Doubt::Missing, Doubt::Blank] {
        let mut holds = HoldSet::new(at(0), vec![]);
        let outcome = holds.observe(at(1), &file(), Observation::Doubt(doubt));
        assert_eq!(outcome, Outcome::default());
        assert_eq!(holds.decision(), HoldSet::new(at(0), vec![]).decision());
    }
}

#[test]
fn a_flag_out_of_reach_at_boot_has_no_opinion_and_is_not_fresh() {
    for doubt in [Doubt::Hanging, Doubt::Unreadable("is a directory".to_owned())] {
        let mut holds = HoldSet::new(at(0), vec![]);
        let warning = holds.observe(at(1), &file(), Observation::Doubt(doubt)).warning.unwrap();
        assert!(warning.to_string().ends_with("; it has no say"), "{warning}");
        let decision = holds.decision();
        assert_eq!((decision.enabled, decision.source, decision.flag_fresh), (true, None, false));
    }
}

#[test]
fn an_unknown_word_at_boot_is_quoted_and_has_no_opinion() {
    let mut holds = HoldSet::new(at(0), vec![]);
    let warning = holds.observe(at(1), &env(), says("maybe")).warning.unwrap().to_string();
    assert!(warning.starts_with("env:INGEST_ENABLED: \"maybe\" is not understood"), "{warning}");
    let decision = holds.decision();
    assert_eq!((decision.enabled, decision.source, decision.flag_fresh), (true, None, true));
    assert!(holds.observe(at(2), &env(), says("perhaps")).warning.is_some(), "another word");
}

fn remembered(until: Option<Timestamp>) -> Hold {
    Hold {
        source: file(),
        scope: Scope::ALL,
        reason: Some("a".to_owned()),
        actor: None,
        since: at(-100),
        until,
    }
}

#[test]
fn a_remembered_hold_stands_until_the_file_is_understood() {
    for doubt in all_doubts() {
        let mut holds = HoldSet::new(at(0), vec![]);
        holds.remember(at(0), remembered(None));
        assert!(!holds.decision().flag_fresh, "before the file is looked at");
        let warning = holds.observe(at(1), &file(), doubt.clone()).warning.unwrap();
        assert!(warning.last_decision_stands, "{doubt:?}");
        let expected = Decision {
            enabled: false,
            source: Some(file()),
            holds: vec![remembered(None)],
            flag_fresh: false,
            doubts: vec![warning.to_string()],
            generation: None,
            since: at(-100),
        };
        assert_eq!(holds.decision(), expected, "{doubt:?}");
        let edge = holds.observe(at(2), &file(), on()).edge;
        assert!(matches!(edge, Some(Edge::Resumed { .. })), "{doubt:?}");
        assert!(holds.decision().flag_fresh);
    }
}

#[test]
fn a_hold_that_outlives_a_restart_keeps_its_beginning() {
    let mut holds = HoldSet::new(at(0), vec![]);
    holds.remember(at(0), remembered(None));
    assert_eq!(holds.observe(at(1), &file(), off()), Outcome::default());
    let decision = holds.decision();
    assert_eq!((decision.holds[0].since, decision.flag_fresh), (at(-100), true));
}

#[test]
fn a_remembered_hold_ends_at_its_time_and_is_not_taken_up_after_it() {
    let mut holds = HoldSet::new(at(0), vec![]);
    holds.remember(at(0), remembered(Some(at(5))));
    assert_eq!(holds.next_expiry(), Some(at(5)));
    assert!(holds.expire(at(5)).edge.is_some());

    let mut holds = HoldSet::new(at(0), vec![]);
    holds.remember(at(0), remembered(Some(at(0))));
    assert_eq!(holds, HoldSet::new(at(0), vec![]));
}

#[test]
fn a_hold_ends_by_itself_once_and_only_a_rewritten_file_begins_another() {
    let mut holds = HoldSet::new(at(0), vec![]);
    holds.observe(at(1), &file(), off_until(at(10)));
    assert_eq!(holds.next_expiry(), Some(at(10)));
    assert_eq!(holds.expire(at(9)), Outcome::default());
    let edge = holds.expire(at(10)).edge;
    assert!(matches!(edge, Some(Edge::Resumed { released, .. }) if released.until == Some(at(10))));
    assert_eq!(holds.next_expiry(), None);
    assert_eq!(holds.decision().source, None, "the file does not say on");

    for again in [10, 11, 5] {
        let outcome = holds.observe(at(again), &file(), off_until(at(10)));
        assert_eq!(outcome, Outcome::default(), "not even when the clock steps back");
    }
    holds.observe(at(12), &file(), missing());
    assert!(holds.decision().enabled);
    let edge = holds.observe(at(13), &file(), off_until(at(20))).edge;
    assert!(matches!(edge, Some(Edge::Halted(hold)) if hold.since == at(13)));
}

#[test]
fn a_look_at_any_source_ends_what_is_overdue() {
    let mut holds = HoldSet::new(at(0), vec![]);
    holds.observe(at(1), &file(), off_until(at(10)));
    let edge = holds.observe(at(11), &env(), on()).edge;
    assert!(matches!(edge, Some(Edge::Resumed { released, .. }) if released.source == file()));
}

#[test]
fn an_end_already_passed_holds_nothing_and_is_told_once() {
    let mut holds = HoldSet::new(at(0), vec![]);
    let outcome = holds.observe(at(11), &file(), off_until(at(10)));
    assert_eq!(outcome.edge, None);
    assert_eq!(outcome.warning.unwrap().cause, Cause::AlreadyOver(at(10)));
    assert_eq!(holds.observe(at(12), &file(), off_until(at(10))), Outcome::default());
    assert!(holds.decision().enabled);
}

#[test]
fn a_bad_note_is_told_once_and_its_hold_has_no_end() {
    let mut holds = HoldSet::new(at(0), vec![]);
    let outcome = holds.observe(at(1), &file(), says("off\nuntil: noon"));
    assert!(outcome.edge.is_some());
    let warning = outcome.warning.unwrap().to_string();
    let expected = "file:/etc/ingest/enabled: until: \"noon\" is no RFC 3339 time, so it has no end";
    assert_eq!(warning, expected);
    assert_eq!(holds.next_expiry(), None);
    assert_eq!(holds.observe(at(2), &file(), says("off\nuntil: noon")), Outcome::default());
}

#[test]
fn a_source_that_withdraws_leaves_nothing_behind() {
    let mut holds = HoldSet::new(at(0), vec![]);
    let signal = Source::new("signal:SIGUSR1");
    assert_eq!(signal.kind(), "signal");
    holds.observe(at(0), &signal, off());
    assert!(holds.observe(at(0), &signal, Observation::NoOpinion).edge.is_some());
    assert_eq!(holds, HoldSet::new(at(0), vec![]));
}

/// What a source asked for last, kept by the simplest means: the oracle of the search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Asked {
    Nothing,
    Run,
    Hold,
    HoldUntil(i64),
    /// A hold that ended, still written.
    Over(i64),
}

impl Asked {
    fn holds(self) -> bool {
        matches!(self, Self::Hold | Self::HoldUntil(_))
    }

    fn after(self, observation: &Observation, now: i64, end: i64) -> Self {
        match observation {
            Observation::NoOpinion => Self::Nothing,
            Observation::On(_) => Self::Run,
            Observation::Off { notes, .. } if notes.until.is_none() => Self::Hold,
            Observation::Off { .. } if self == Self::Over(end) || now >= end => Self::Over(end),
            Observation::Off { .. } => Self::HoldUntil(end),
            Observation::Doubt(_) => self,
        }
    }

    fn at(self, now: i64) -> Self {
        match self {
            Self::HoldUntil(end) if now >= end => Self::Over(end),
            Self::Nothing | Self::Run | Self::Hold | Self::HoldUntil(_) | Self::Over(_) => self,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Node {
    holds: HoldSet,
    asked: Vec<Asked>,
    now: i64,
}

impl Node {
    fn enabled(&self) -> bool {
        !self.asked.iter().any(|asked| asked.holds())
    }

    /// Everything that must be true after `outcome` led here from `before`.
    fn check(&self, before: &Self, outcome: &Outcome, sources: &[Source]) {
        let decision = self.holds.decision();
        assert_eq!(decision.enabled, self.enabled(), "runs exactly when no hold covers it");
        let holding: HashSet<_> = decision.holds.iter().map(|hold| &hold.source).collect();
        for (source, asked) in sources.iter().zip(&self.asked) {
            assert_eq!(holding.contains(source), asked.holds(), "{source} owns its hold alone");
        }
        assert_eq!(holding.len(), decision.holds.len(), "one hold a source");

        match (before.enabled(), self.enabled(), &outcome.edge) {
            (true, false, Some(Edge::Halted(hold))) => assert!(decision.holds.contains(hold)),
            (false, true, Some(Edge::Resumed { released, .. })) => {
                assert!(before.holds.decision().holds.contains(released));
            }
            (true, true, None) | (false, false, None) => {
                assert_eq!(decision.since, before.holds.decision().since);
            }
            (was, is, edge) => panic!("from {was} to {is} with edge {edge:?}"),
        }

        let expected = if decision.enabled {
            let says_on = |(source, _): &(&Source, &Asked)| (*source).clone();
            let mut on = sources.iter().zip(&self.asked).filter(|(_, asked)| **asked == Asked::Run);
            on.next().as_ref().map(says_on)
        } else {
            let oldest = decision.holds.iter().map(|hold| hold.since).min().unwrap();
            assert_eq!(decision.holds[0].since, oldest);
            Some(decision.holds[0].source.clone())
        };
        assert_eq!(decision.source, expected);
    }
}

/// Visits every state that `sources` (in order of their precedence while enabled) reach by
/// `observations` and the clock, and returns how many states and steps there are.
fn search(sources: &[Source], observations: &[Observation], end: i64) -> (usize, usize) {
    const CLOCK_END: i64 = 3;
    let start =
        Node { holds: HoldSet::new(at(0), vec![]), asked: vec![Asked::Nothing; sources.len()], now: 0 };
    let mut seen = HashSet::from([start.clone()]);
    let mut queue = VecDeque::from([start]);
    let mut steps = 0;
    while let Some(node) = queue.pop_front() {
        let mut nexts = Vec::new();
        for (which, source) in sources.iter().enumerate() {
            for observation in observations {
                let mut next = node.clone();
                let outcome = next.holds.observe(at(next.now), source, observation.clone());
                next.asked[which] = node.asked[which].after(observation, next.now, end);
                next.check(&node, &outcome, sources);

                let mut again = next.holds.clone();
                let repeated = again.observe(at(next.now), source, observation.clone());
                assert_eq!(repeated, Outcome::default(), "seen twice, told once: {observation:?}");
                assert!(again == next.holds, "seen twice changes nothing: {observation:?}");
                nexts.push(next);
            }
        }
        if node.now < CLOCK_END {
            let mut next = node.clone();
            next.now += 1;
            let outcome = next.holds.expire(at(next.now));
            for asked in &mut next.asked {
                *asked = asked.at(next.now);
            }
            next.check(&node, &outcome, sources);
            nexts.push(next);
        }
        steps += nexts.len();
        for next in nexts {
            if seen.insert(next.clone()) {
                queue.push_back(next);
            }
        }
    }
    (seen.len(), steps)
}

#[test]
fn whatever_two_sources_do_ingestion_runs_exactly_when_no_hold_covers_it() {
    let mut observations = vec![Observation::NoOpinion, on(), off(), off_until(at(2))];
    observations.extend([missing(), Observation::Doubt(Doubt::Hanging)]);
    let (states, steps) = search(&[env(), file()], &observations, 2);
    println!("two sources: {states} states, {steps} steps");
    assert!(states > 500, "the search reaches deep: {states}");
}

#[test]
fn whatever_three_sources_do_nobody_releases_the_hold_of_another() {
    let observations = [Observation::NoOpinion, on(), off(), off_until(at(2)), missing()];
    let sources = [env(), file(), Source::new("signal:SIGUSR1")];
    let (states, steps) = search(&sources, &observations, 2);
    println!("three sources: {states} states, {steps} steps");
    assert!(states > 5_000, "the search reaches deep: {states}");
}
