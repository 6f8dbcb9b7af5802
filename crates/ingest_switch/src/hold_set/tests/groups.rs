//! Sources that are read at once: a search over small groups, and single promises.

use super::scopes::{off_on, plans};
use super::*;

fn one() -> Source {
    Source::control("1")
}

fn two() -> Source {
    Source::control("2")
}

fn garbled(found: &str) -> Observation {
    Observation::Doubt(Doubt::garbled(found))
}

fn unreadable() -> Doubt {
    Doubt::Unreadable("the store does not answer".to_owned())
}

/// What the group shows of one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Shown {
    Gone,
    Hold(&'static str),
    Garbled,
}

impl Shown {
    fn reading(self, source: Source) -> Option<(Source, Observation)> {
        match self {
            Self::Gone => None,
            Self::Hold(scope) => Some((source, off_on(scope))),
            Self::Garbled => Some((source, garbled("{"))),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Read([Shown; 2], i64),
    Unreadable,
    File(bool),
}

/// The oracle: the scopes that stand for the two sources and the file, and what is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Known {
    group: [Option<&'static str>; 2],
    garbled: [bool; 2],
    unreadable: bool,
    file_off: bool,
    generation: Option<i64>,
}

impl Known {
    fn enabled(&self) -> bool {
        let mut scopes: Vec<_> = self.group.iter().flatten().copied().collect();
        scopes.extend(self.file_off.then_some("all"));
        !(scopes.contains(&"all") || scopes.contains(&"job:a") && scopes.contains(&"job:b"))
    }

    fn after(&self, step: Step) -> Self {
        let mut known = self.clone();
        match step {
            Step::Read(shown, generation) => {
                (known.unreadable, known.generation) = (false, Some(generation));
                for (at, shown) in shown.into_iter().enumerate() {
                    match shown {
                        Shown::Gone => known.group[at] = None,
                        Shown::Hold(scope) => known.group[at] = Some(scope),
                        Shown::Garbled => {}
                    }
                    known.garbled[at] = shown == Shown::Garbled;
                }
            }
            Step::Unreadable => known.unreadable = true,
            Step::File(on) => known.file_off = !on,
        }
        known
    }
}

fn steps() -> Vec<Step> {
    let shown = [Shown::Gone, Shown::Hold("all"), Shown::Hold("job:a"), Shown::Hold("job:b"), Shown::Garbled];
    let mut steps = vec![Step::Unreadable, Step::File(true), Step::File(false)];
    for first in shown {
        // The generation tells one reading from another, no more.
        steps.extend(shown.into_iter().map(|second| Step::Read([first, second], 7)));
    }
    steps
}

fn take(holds: &mut HoldSet, step: Step) -> GroupOutcome {
    match step {
        Step::Read([first, second], generation) => {
            let readings = [first.reading(one()), second.reading(two())].into_iter().flatten().collect();
            holds.observe_group(at(1), "control", readings, Some(generation))
        }
        Step::Unreadable => holds.doubt_group(at(1), "control", unreadable()),
        Step::File(run) => {
            let Outcome { edge, warning } = holds.observe(at(1), &file(), if run { on() } else { off() });
            GroupOutcome { edge, warnings: warning.into_iter().collect() }
        }
    }
}

#[test]
fn whatever_a_group_shows_each_of_its_sources_and_the_file_owns_its_hold_alone() {
    let known =
        Known { group: [None; 2], garbled: [false; 2], unreadable: false, file_off: false, generation: None };
    let start = (HoldSet::new(at(0), plans()), known);
    let mut seen = HashSet::from([start.clone()]);
    let mut queue = VecDeque::from([start]);
    let mut count = 0;
    while let Some((holds, known)) = queue.pop_front() {
        for step in steps() {
            count += 1;
            let (mut next, after) = (holds.clone(), known.after(step));
            let outcome = take(&mut next, step);
            let decision = next.decision();
            assert_eq!(decision.enabled, after.enabled(), "{known:?} {step:?}");
            let crossed = match outcome.edge {
                Some(Edge::Halted(_)) => Some((true, false)),
                Some(Edge::Resumed { .. }) => Some((false, true)),
                None => None,
            };
            let expected = (known.enabled(), after.enabled());
            assert_eq!(crossed, (expected.0 != expected.1).then_some(expected), "{known:?} {step:?}");

            let expected = [after.group[0].map(|s| (one(), s)), after.group[1].map(|s| (two(), s))];
            let mut expected: Vec<_> = expected.into_iter().flatten().collect();
            expected.extend(after.file_off.then(|| (file(), "all")));
            let mut standing: Vec<_> =
                decision.holds.iter().map(|hold| (hold.source.clone(), hold.scope.to_string())).collect();
            standing.sort();
            assert_eq!(standing, expected.into_iter().map(|(s, on)| (s, on.to_owned())).collect::<Vec<_>>());

            let doubts = after.garbled.iter().filter(|garbled| **garbled).count();
            assert_eq!(decision.doubts.len(), doubts + usize::from(after.unreadable), "{known:?} {step:?}");
            assert_eq!(decision.flag_fresh, decision.doubts.is_empty());
            assert_eq!(decision.generation, after.generation);
            assert_eq!(take(&mut next, step), GroupOutcome::default(), "seen twice, told once: {step:?}");
            if seen.insert((next.clone(), after.clone())) {
                queue.push_back((next, after));
            }
        }
    }
    println!("a group and a file: {} states, {count} steps", seen.len());
    assert!(seen.len() > 100, "{}", seen.len());
}

#[test]
fn a_group_that_moves_a_hold_from_one_source_to_another_crosses_no_edge() {
    let mut holds = HoldSet::new(at(0), vec![]);
    assert!(holds.observe_group(at(1), "control", vec![(one(), off())], Some(1)).edge.is_some());
    let outcome = holds.observe_group(at(2), "control", vec![(two(), off())], Some(2));
    assert_eq!(outcome, GroupOutcome::default());
    let decision = holds.decision();
    assert_eq!((decision.source, decision.since, decision.generation), (Some(two()), at(1), Some(2)));
}

#[test]
fn groups_and_single_sources_do_not_withdraw_each_others_holds() {
    let mut holds = HoldSet::new(at(0), plans());
    holds.observe(at(1), &Source::signal("SIGUSR1"), off());
    holds.observe_group(at(2), "control", vec![(one(), off_on("job:a"))], Some(1));
    holds.observe_group(at(3), "table", vec![(Source::control("row"), off_on("symbol:X"))], None);
    holds.observe_group(at(4), "control", vec![], Some(2));
    let left: Vec<_> = holds.decision().holds.into_iter().map(|hold| hold.source.to_string()).collect();
    assert_eq!(left, ["signal:SIGUSR1", "control:row"]);
    assert_eq!(holds.decision().generation, Some(2), "the table has none");
    holds.observe_group(at(5), "table", vec![], None);
    assert_eq!(holds.decision().holds.len(), 1);
}

#[test]
fn garbage_in_one_hold_of_a_group_leaves_that_one_standing_and_takes_up_the_others() {
    let mut holds = HoldSet::new(at(0), plans());
    holds.observe_group(at(1), "control", vec![(one(), off_on("job:a"))], Some(1));
    let readings = vec![(one(), garbled("scope: everything")), (two(), off_on("job:b"))];
    let outcome = holds.observe_group(at(2), "control", readings.clone(), Some(2));
    assert!(matches!(outcome.edge, Some(Edge::Halted(hold)) if hold.source == two()));
    let told = "control:1: \"scope: everything\" is not understood; its last decision stands";
    assert_eq!(outcome.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(), [told]);
    let decision = holds.decision();
    assert_eq!((decision.flag_fresh, decision.doubts), (false, vec![told.to_owned()]));

    assert_eq!(holds.observe_group(at(3), "control", readings, Some(2)), GroupOutcome::default());
    let outcome = holds.observe_group(at(4), "control", vec![(two(), off_on("job:b"))], Some(3));
    assert!(matches!(outcome.edge, Some(Edge::Resumed { released, .. }) if released.source == one()));
    assert!(holds.decision().flag_fresh && holds.decision().doubts.is_empty());
}

#[test]
fn a_hold_that_was_garbage_from_the_start_holds_nothing_but_is_named() {
    let mut holds = HoldSet::new(at(0), vec![]);
    let readings = vec![(one(), garbled(&"ä".repeat(200)))];
    let outcome = holds.observe_group(at(1), "control", readings, Some(1));
    let told = format!("control:1: \"{}\" is not understood; it has no say", "ä".repeat(80));
    assert_eq!(outcome.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(), [told]);
    let decision = holds.decision();
    assert_eq!((decision.enabled, decision.flag_fresh, decision.doubts.len()), (true, false, 1));
}

#[test]
fn a_group_that_cannot_be_read_stands_and_warns_once_for_each_cause() {
    let mut holds = HoldSet::new(at(0), vec![]);
    holds.observe_group(at(1), "control", vec![(one(), off())], Some(4));
    for (cause, told) in [
        (unreadable(), "control: it cannot be read: the store does not answer; its last decision stands"),
        (Doubt::garbled("[]"), "control: \"[]\" is not understood; its last decision stands"),
        (unreadable(), "control: it cannot be read: the store does not answer; its last decision stands"),
    ] {
        let outcome = holds.doubt_group(at(2), "control", cause.clone());
        assert_eq!(outcome.edge, None);
        assert_eq!(outcome.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(), [told]);
        assert_eq!(holds.doubt_group(at(3), "control", cause), GroupOutcome::default());
        let decision = holds.decision();
        assert_eq!((decision.enabled, decision.flag_fresh, decision.generation), (false, false, Some(4)));
        assert_eq!(decision.doubts, [told]);
    }
    assert_eq!(holds.observe_group(at(4), "control", vec![(one(), off())], Some(4)), GroupOutcome::default());
    assert!(holds.decision().flag_fresh);
    let again = holds.doubt_group(at(5), "control", unreadable());
    assert_eq!(again.warnings.len(), 1, "lost anew");
}

#[test]
fn a_group_never_read_has_no_say() {
    let mut holds = HoldSet::new(at(0), vec![]);
    for (cause, warned) in [(unreadable(), 1), (unreadable(), 0), (Doubt::Hanging, 1)] {
        let warnings = holds.doubt_group(at(1), "control", cause).warnings;
        assert_eq!(warnings.len(), warned);
        assert!(warnings.iter().all(|warning| warning.to_string().ends_with("; it has no say")));
    }
    let decision = holds.decision();
    assert_eq!((decision.enabled, decision.flag_fresh, decision.generation), (true, false, None));
}

#[test]
fn a_remembered_hold_of_a_group_stands_until_the_group_is_read() {
    let remembered = |source| Hold { source, ..super::remembered(None) };
    for (readings, enabled) in [(vec![], true), (vec![(one(), off())], false)] {
        let mut holds = HoldSet::new(at(0), vec![]);
        holds.remember(at(0), remembered(one()));
        let warnings = holds.doubt_group(at(1), "control", unreadable()).warnings;
        assert!(warnings[0].last_decision_stands);
        holds.observe_group(at(2), "table", vec![], None);
        assert!(!holds.decision().enabled, "another group does not release it");
        holds.observe_group(at(3), "control", readings, Some(1));
        let decision = holds.decision();
        assert_eq!((decision.enabled, decision.flag_fresh), (enabled, true));
        assert_eq!(decision.since, if enabled { at(3) } else { at(-100) });
    }
}

#[test]
fn a_hold_of_a_group_ends_at_its_time_and_stays_over_while_it_is_still_listed() {
    let mut holds = HoldSet::new(at(0), vec![]);
    let readings = || vec![(one(), off_until(at(5)))];
    assert!(holds.observe_group(at(1), "control", readings(), Some(1)).edge.is_some());
    let outcome = holds.observe_group(at(6), "control", readings(), Some(1));
    assert!(matches!(outcome.edge, Some(Edge::Resumed { released, .. }) if released.source == one()));
    for poll in 7..9 {
        assert_eq!(holds.observe_group(at(poll), "control", readings(), Some(1)), GroupOutcome::default());
    }
    let rewritten = vec![(one(), off_until(at(20)))];
    assert!(holds.observe_group(at(9), "control", rewritten, Some(2)).edge.is_some());
    assert!(
        holds.doubt_group(at(20), "control", unreadable()).edge.is_some(),
        "also while it cannot be read"
    );
}
