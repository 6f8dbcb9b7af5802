//! Holds on parts: a search of everything several sources can do to each other, and single promises.

use super::*;
use crate::coverage::Coverage;
use crate::flag::Notes;
use crate::scope::CHANNELS;

/// What a source asks in the search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Asked {
    Nothing,
    Run,
    Hold(&'static str),
    HoldUntilEnd(&'static str),
    /// A hold that ended, still written.
    Over(&'static str),
}

/// When the holds with an end end, in the search.
const END: i64 = 1;

impl Asked {
    fn holding(self) -> Option<Scope> {
        match self {
            Self::Hold(scope) | Self::HoldUntilEnd(scope) => Some(scope.parse().unwrap()),
            Self::Nothing | Self::Run | Self::Over(_) => None,
        }
    }

    fn observation(self) -> Observation {
        match self {
            Self::Nothing => Observation::NoOpinion,
            Self::Run => on(),
            Self::Hold(scope) => off_on(scope),
            Self::HoldUntilEnd(scope) | Self::Over(scope) => {
                let notes = Notes { until: Some(at(END)), ..Notes::default() };
                Observation::Off { scope: scope.parse().unwrap(), notes, since: None }
            }
        }
    }

    fn at(self, now: i64) -> Self {
        match self {
            Self::HoldUntilEnd(scope) if now >= END => Self::Over(scope),
            Self::Nothing | Self::Run | Self::Hold(_) | Self::HoldUntilEnd(_) | Self::Over(_) => self,
        }
    }
}

pub(super) fn off_on(scope: &str) -> Observation {
    Observation::Off { scope: scope.parse().unwrap(), notes: Notes::default(), since: None }
}

pub(super) fn plans() -> Vec<JobPlan> {
    let plan = |name: &str, pairs: &[(&str, &str)]| JobPlan {
        name: name.to_owned(),
        pairs: pairs.iter().map(|(channel, symbol)| ((*channel).to_owned(), (*symbol).to_owned())).collect(),
    };
    vec![plan("a", &[("trades", "X"), ("quotes", "X"), ("quotes", "Y")]), plan("b", &[("quotes", "X")])]
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Node {
    holds: HoldSet,
    asked: Vec<Asked>,
    now: i64,
}

impl Node {
    fn holding(&self) -> Vec<Scope> {
        self.asked.iter().filter_map(|asked| asked.holding()).collect()
    }

    /// What every channel of every symbol of every job must do, asked of the scopes one by one.
    fn enabled(&self) -> bool {
        let holding = self.holding();
        let held = |job: &str, symbol: &str, channel: &str| {
            holding.iter().any(|scope| scope.covers(job, symbol, channel))
        };
        plans().iter().any(|job| job.pairs.iter().any(|(channel, symbol)| !held(&job.name, symbol, channel)))
    }

    /// Everything that must be true of this state.
    fn check(&self, sources: &[Source]) {
        let (decision, holding) = (self.holds.decision(), self.holding());
        assert_eq!(decision.enabled, self.enabled(), "disabled exactly when nothing of any job runs");
        let coverage = Coverage::new(&decision.holds);
        for job in ["a", "b", "c"] {
            let of_job = coverage.job(job);
            for symbol in ["X", "Y", "*"] {
                let bits = of_job.held_channels(symbol);
                for channel in ["trades", "quotes", "bars"] {
                    let held = holding.iter().any(|scope| scope.covers(job, symbol, channel));
                    let bit = CHANNELS.iter().position(|own| *own == channel).unwrap();
                    assert_eq!(coverage.is_held(job, symbol, channel), held, "{job} {symbol} {channel}");
                    assert_eq!(bits & (1 << bit) != 0, held, "{job} {symbol} {channel}");
                }
            }
        }
        let holders: HashSet<_> = decision.holds.iter().map(|hold| &hold.source).collect();
        for (source, asked) in sources.iter().zip(&self.asked) {
            assert_eq!(holders.contains(source), asked.holding().is_some(), "{source} owns its hold alone");
        }
        assert_eq!(holders.len(), decision.holds.len(), "one hold a source");
        if !decision.enabled {
            let named = decision.holds.iter().find(|hold| Some(&hold.source) == decision.source.as_ref());
            assert!(named.is_some_and(|hold| touches_a_job(&hold.scope)), "one that holds is named");
        }
    }

    /// Everything that must be true of `edge`, which led here from `before`.
    fn check_edge(&self, before: &Self, edge: Option<&Edge>) {
        match (before.holds.enabled(), self.holds.enabled(), edge) {
            (true, false, Some(Edge::Halted(hold))) => {
                assert!(self.holds.decision().holds.contains(hold));
            }
            (false, true, Some(Edge::Resumed { released, .. })) => {
                assert!(before.holds.decision().holds.contains(released));
            }
            (true, true, None) | (false, false, None) => {}
            (was, is, edge) => panic!("from {was} to {is} with edge {edge:?}"),
        }
    }
}

fn touches_a_job(scope: &Scope) -> bool {
    plans()
        .iter()
        .any(|job| job.pairs.iter().any(|(channel, symbol)| scope.covers(&job.name, symbol, channel)))
}

/// Visits every state that `sources` reach by asking each of `asks` and, with `doubts`, by being lost, in
/// every order, and by the clock up to `clock_end`; returns how many states and steps there are.
fn search(sources: &[Source], asks: &[Asked], doubts: bool, clock_end: i64) -> (usize, usize) {
    let asked = vec![Asked::Nothing; sources.len()];
    let start = Node { holds: HoldSet::new(at(0), plans()), asked, now: 0 };
    let mut seen = HashSet::from([start.clone()]);
    let mut queue = VecDeque::from([start]);
    let mut steps = 0;
    while let Some(node) = queue.pop_front() {
        let mut nexts = Vec::new();
        for (which, source) in sources.iter().enumerate() {
            for ask in asks {
                let mut next = node.clone();
                let outcome = next.holds.observe(at(node.now), source, ask.observation());
                next.asked[which] = ask.at(node.now);
                next.check_edge(&node, outcome.edge.as_ref());
                let again = next.holds.observe(at(node.now), source, ask.observation());
                assert_eq!(again, Outcome::default(), "seen twice, told once: {ask:?}");
                nexts.push(next);
            }
            if doubts {
                let mut next = node.clone();
                assert_eq!(next.holds.observe(at(node.now), source, missing()).edge, None);
                nexts.push(next);
            }
        }
        if node.now < clock_end {
            let mut next = node.clone();
            next.now += 1;
            let outcome = next.holds.expire(at(next.now));
            next.asked.iter_mut().for_each(|asked| *asked = asked.at(next.now));
            next.check_edge(&node, outcome.edge.as_ref());
            nexts.push(next);
        }
        steps += nexts.len();
        for next in nexts {
            if seen.insert(next.clone()) {
                next.check(sources);
                queue.push_back(next);
            }
        }
    }
    (seen.len(), steps)
}

fn four_sources() -> [Source; 4] {
    [env(), file(), Source::signal("SIGUSR1"), Source::control("7")]
}

#[test]
fn whatever_four_sources_hold_in_part_what_no_hold_covers_runs_and_nothing_else() {
    let scopes = ["all", "job:a", "job:b/quotes", "symbol:X", "symbol:*"].map(Asked::Hold);
    let (states, steps) = search(&four_sources(), &[&[Asked::Nothing][..], &scopes].concat(), false, 0);
    println!("four sources in parts: {states} states, {steps} steps");
    assert!(states >= 1_296, "the search reaches every combination: {states}");
}

#[test]
fn whatever_three_sources_hold_in_part_for_a_time_ends_on_time() {
    let asks = [
        Asked::Run,
        Asked::Hold("all"),
        Asked::Hold("job:a"),
        Asked::HoldUntilEnd("all"),
        Asked::HoldUntilEnd("job:b/quotes"),
    ];
    let (states, steps) = search(&four_sources()[1..], &asks, true, END);
    println!("three sources in parts and time: {states} states, {steps} steps");
    assert!(states > 2_000, "the search reaches deep: {states}");
}

#[test]
fn holds_that_cover_every_job_together_halt_and_either_release_resumes() {
    let mut holds = HoldSet::new(at(0), plans());
    let (one, other) = (Source::control("1"), Source::control("2"));
    assert_eq!(holds.observe(at(1), &one, off_on("job:b")).edge, None);
    let edge = holds.observe(at(2), &other, off_on("job:a")).edge;
    assert!(matches!(edge, Some(Edge::Halted(hold)) if hold.source == other));
    let decision = holds.decision();
    assert_eq!((decision.enabled, decision.source, decision.since), (false, Some(one.clone()), at(2)));
    let edge = holds.observe(at(3), &one, Observation::NoOpinion).edge;
    assert!(matches!(edge, Some(Edge::Resumed { released, .. }) if released.source == one));
    assert_eq!(holds.decision().source, None);
}

#[test]
fn a_hold_narrowed_to_a_part_resumes_the_rest() {
    let mut holds = HoldSet::new(at(0), plans());
    holds.observe(at(1), &Source::control("1"), off_on("all"));
    let edge = holds.observe(at(2), &Source::control("1"), off_on("job:a")).edge;
    assert!(matches!(edge, Some(Edge::Resumed { released, .. }) if released.scope.is_all()));
    let hold = &holds.decision().holds[0];
    assert_eq!((hold.scope.to_string(), hold.since), ("job:a".to_owned(), at(1)));
}

#[test]
fn without_jobs_only_a_hold_on_everything_halts() {
    let mut holds = HoldSet::new(at(0), vec![]);
    for scope in ["job:a", "symbol:*", "all/trades"] {
        assert_eq!(holds.observe(at(1), &Source::control(scope), off_on(scope)).edge, None, "{scope}");
    }
    assert!(holds.observe(at(2), &env(), off()).edge.is_some());
    assert_eq!(holds.decision().source, Some(env()));
}

#[test]
fn a_signal_holds_though_the_file_says_running() {
    let mut holds = HoldSet::new(at(0), vec![]);
    let signal = Source::signal("SIGUSR1");
    assert_eq!(signal.as_str(), "signal:SIGUSR1");
    holds.observe(at(0), &file(), says("running"));
    assert!(holds.observe(at(1), &signal, off()).edge.is_some());
    for poll in 2..10 {
        assert_eq!(holds.observe(at(poll), &file(), says("running")), Outcome::default());
    }
    assert_eq!(holds.decision().source, Some(signal.clone()));
    assert!(holds.observe(at(10), &signal, Observation::NoOpinion).edge.is_some());
}

#[test]
fn a_file_can_pause_again_after_a_signal_released_and_the_file_resumed() {
    let mut holds = HoldSet::new(at(0), vec![]);
    let signal = Source::signal("SIGUSR1");
    for round in [0, 10] {
        assert!(holds.observe(at(round), &file(), says("pause")).edge.is_some());
        assert_eq!(holds.observe(at(round + 1), &signal, off()).edge, None);
        // The release of the signal's hold is not one of the file's.
        assert_eq!(holds.observe(at(round + 2), &signal, Observation::NoOpinion).edge, None);
        assert_eq!(holds.observe(at(round + 3), &file(), says("pause")), Outcome::default());
        assert!(!holds.decision().enabled);
        assert!(holds.observe(at(round + 4), &file(), says("running")).edge.is_some());
    }
}

#[test]
fn a_hold_began_when_its_source_says_but_not_in_the_time_to_come() {
    let began = |since| Observation::Off { scope: Scope::ALL, notes: Notes::default(), since };
    let mut holds = HoldSet::new(at(0), vec![]);
    let source = Source::control("1");
    let since = |holds: &HoldSet| holds.decision().holds[0].since;
    holds.observe(at(10), &source, began(Some(at(3))));
    assert_eq!(since(&holds), at(3));
    assert_eq!(holds.decision().since, at(10), "the effect is no older than its taking up");
    holds.observe(at(11), &source, began(Some(at(5))));
    assert_eq!(since(&holds), at(5), "rewritten");
    holds.observe(at(12), &source, began(None));
    assert_eq!(since(&holds), at(5), "not said");
    holds.observe(at(13), &source, began(Some(at(99))));
    assert_eq!(since(&holds), at(13));
    holds.observe(at(14), &source, began(Some(at(99))));
    assert_eq!(since(&holds), at(13), "it does not go on beginning");
}

#[test]
fn several_holds_of_an_earlier_run_stand_together_until_their_sources_are_read() {
    let mut holds = HoldSet::new(at(0), plans());
    for (source, scope, since) in [(file(), "job:b", -200), (Source::control("1"), "job:a", -100)] {
        let scope = scope.parse().unwrap();
        let hold = Hold { source, scope, reason: None, actor: None, since: at(since), until: None };
        holds.remember(at(0), hold);
    }
    let decision = holds.decision();
    assert_eq!((decision.enabled, decision.source, decision.since), (false, Some(file()), at(-100)));
    assert!(!decision.flag_fresh);
    assert!(holds.observe(at(1), &file(), on()).edge.is_some());
    assert_eq!(holds.decision().holds.len(), 1, "the other stands");
}
