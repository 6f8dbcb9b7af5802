//! Tables of single promises, then random holds against the scopes asked one by one.

#![allow(clippy::unwrap_used)]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use jiff::Timestamp;

use super::*;
use crate::hold::Source;

/// Holds on these scopes, oldest first, named by their place.
fn holds(scopes: &[&str]) -> Vec<Hold> {
    let hold = |(at, scope): (usize, &&str)| Hold {
        source: Source::control(&at.to_string()),
        scope: scope.parse().unwrap(),
        reason: None,
        actor: None,
        since: Timestamp::from_second(1_800_000_000 + i64::try_from(at).unwrap()).unwrap(),
        until: None,
    };
    scopes.iter().enumerate().map(hold).collect()
}

fn plan(name: &str, symbols: &[&str], channels: &[&str]) -> JobPlan {
    let pair = |channel: &str, symbol: &str| (channel.to_owned(), symbol.to_owned());
    let pairs = channels.iter().flat_map(|channel| symbols.iter().map(move |symbol| pair(channel, symbol)));
    JobPlan { name: name.to_owned(), pairs: pairs.collect() }
}

/// The names of the channels in `bits`.
fn channels(bits: u16) -> Vec<&'static str> {
    (0..CHANNELS.len()).filter(|at| bits & (1 << at) != 0).map(|at| CHANNELS[at]).collect()
}

#[test]
fn without_holds_nothing_is_held_and_every_job_takes_the_fast_path() {
    let coverage = Coverage::new(&[]);
    let job = coverage.job("iex");
    assert!(job.is_nothing() && job.held_channels("AAPL") == 0 && job.held_channels("*") == 0);
    assert!(coverage.runs(&plan("iex", &["AAPL"], &["trades"])) && coverage.runs(&plan("news", &[], &[])));
    assert_eq!(coverage.halted_by(&[plan("iex", &["AAPL"], &["trades"])]), None);
}

#[test]
fn a_job_learns_which_channels_of_a_symbol_are_held() {
    let scopes = ["symbol:AAPL/quotes", "job:iex/bars", "symbol:A*/trades", "symbol:btc/usd", "job:sip"];
    let coverage = Coverage::new(&holds(&scopes));
    let held = |job: &str, symbol| channels(coverage.job(job).held_channels(symbol));
    assert_eq!(held("iex", "AAPL"), ["trades", "quotes", "bars"]);
    assert_eq!(held("IEX", "aapl"), ["trades", "quotes", "bars"], "letter case does not matter");
    assert_eq!(held("iex", "AMD"), ["trades", "bars"]);
    assert_eq!(held("iex", "*"), ["bars"], "A* is not every symbol");
    assert_eq!(held("crypto-us", "BTC/USD"), CHANNELS);
    assert_eq!(held("crypto-us", "ETH/USD"), [""; 0]);
    assert_eq!(held("sip", "*"), CHANNELS);
}

#[test]
fn the_fast_path_is_taken_exactly_where_no_hold_can_touch_the_job() {
    for (scope, nothing) in [
        ("job:sip", true),
        ("job:sip/quotes", true),
        ("job:iex/quotes", false),
        ("all/news", false),
        ("symbol:AAPL", false),
        ("symbol:*", false),
        ("symbol:?X/bars", false),
    ] {
        assert_eq!(Coverage::new(&holds(&[scope])).job("iex").is_nothing(), nothing, "{scope}");
    }
}

#[test]
fn a_job_runs_while_any_of_it_is_not_held() {
    let iex = plan("iex", &["AAPL", "MSFT"], &["trades", "quotes"]);
    for (scopes, runs) in [
        (&["symbol:AAPL"][..], true),
        (&["symbol:AAPL", "symbol:MSFT"], false),
        (&["all/trades"], true),
        (&["all/trades", "job:iex/quotes"], false),
        (&["all/trades", "symbol:*/quotes"], false),
        (&["all/trades", "symbol:AAPL/quotes", "symbol:?SF*"], false),
        (&["symbol:AAPL", "symbol:MSFT/quotes"], true),
        (&["job:sip"], true),
        (&["all"], false),
    ] {
        assert_eq!(Coverage::new(&holds(scopes)).runs(&iex), runs, "{scopes:?}");
    }
}

#[test]
fn a_job_without_pairs_is_held_by_all_and_by_its_name_only() {
    let news = plan("news", &[], &[]);
    for (scope, runs) in [
        ("all", false),
        ("job:News", false),
        ("job:iex", true),
        ("all/news", true),
        ("job:news/news", true),
        ("symbol:*", true),
    ] {
        assert_eq!(Coverage::new(&holds(&[scope])).runs(&news), runs, "{scope}");
    }
}

#[test]
fn the_hold_to_name_is_the_oldest_that_explains_the_halt() {
    let jobs = [plan("iex", &["AAPL"], &["trades", "bars"]), plan("sip", &["AAPL", "MSFT"], &["trades"])];
    for (scopes, named) in [
        (&["all"][..], Some(0)),
        (&["job:iex"], None),
        (&["symbol:ZZZ", "job:iex", "symbol:AAPL", "all"], Some(3)),
        (&["symbol:*", "all"], Some(0)),
        (&["symbol:ZZZ", "symbol:AAPL", "job:sip", "job:iex"], Some(1)),
        (&["symbol:MSFT", "job:iex/bars", "job:sip", "all/trades"], Some(1)),
        (&["symbol:ZZZ", "symbol:MSFT", "symbol:AAPL"], Some(1)),
    ] {
        let coverage = Coverage::new(&holds(scopes));
        let expected = named.map(|at: usize| Source::control(&at.to_string()));
        assert_eq!(coverage.halted_by(&jobs).map(|hold| hold.source.clone()), expected, "{scopes:?}");
    }
}

/// A small generator, so that a failure can be repeated from its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 16) % below as u64).unwrap()
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    fn symbol(&mut self) -> String {
        match self.below(8) {
            0 => "*".to_owned(),
            1 => {
                self.pick(&["BTC/USD", "BTC/USDT", "ETH/USD", "eth/usd", "BTC", "BRK.B", "brk.b"]).to_owned()
            }
            2 => self.pick(&["", "?", "A*", "**", "É", "é", "AÉ"]).to_owned(),
            _ => (0..=self.below(4)).map(|_| self.pick(&["A", "B", "C", "b"])).collect(),
        }
    }

    fn channel(&mut self) -> &'static str {
        match self.below(6) {
            0 => self.pick(&["corrections", "TRADES", "dailybars", ""]),
            1 => CHANNELS[self.below(CHANNELS.len())],
            _ => self.pick(&["trades", "quotes", "bars"]),
        }
    }

    fn job(&mut self) -> &'static str {
        self.pick(&["iex", "IEX", "sip", "crypto-us", "news"])
    }

    fn scope(&mut self) -> Scope {
        let whole = match self.below(10) {
            0 => Scope::ALL,
            1 | 2 => Scope::job(self.job()),
            3..=5 => Scope::symbol(&self.symbol()),
            _ => {
                let letters = ["*", "?", "A", "B", "b", "C", "/USD", "BTC", "*"];
                let pattern: String = (0..=self.below(4)).map(|_| self.pick(&letters)).collect();
                Scope::symbol(&pattern)
            }
        };
        if self.below(2) == 0 {
            return whole;
        }
        let of = if self.below(2) == 0 { 3 } else { CHANNELS.len() };
        whole.on_channel(CHANNELS[self.below(of)]).unwrap()
    }

    fn holds(&mut self) -> Vec<Hold> {
        let source = |random: &mut Self| match random.below(4) {
            0 => Source::env("INGEST_ENABLED"),
            1 => Source::signal("SIGUSR1"),
            2 => Source::new("file:/flag"),
            _ => Source::control(&random.below(1000).to_string()),
        };
        let mut holds = holds(&vec!["all"; self.below(9)]);
        for hold in &mut holds {
            (hold.source, hold.scope) = (source(self), self.scope());
        }
        holds
    }
}

/// One random set of holds and questions; returns whether what was asked is held, and whether the job runs.
fn agrees(random: &mut Random) -> (bool, bool) {
    let holds = random.holds();
    let coverage = Coverage::new(&holds);
    assert_eq!(coverage.holds(), holds);
    let (job, symbol, channel) = (random.job(), random.symbol(), random.channel());
    let asked = format!("{job} {symbol} {channel} of {holds:#?}");

    let covers = |job: &str, symbol: &str, channel: &str| {
        let covering = holds.iter().filter(|hold| hold.scope.covers(job, symbol, channel));
        covering.collect::<Vec<_>>()
    };
    let named: Vec<_> = coverage.holds_on(job, &symbol, channel).collect();
    assert_eq!(named, covers(job, &symbol, channel), "{asked}");
    assert_eq!(coverage.is_held(job, &symbol, channel), !named.is_empty(), "{asked}");
    let of_job = coverage.job(job);
    let bits = of_job.held_channels(&symbol);
    for (at, channel) in CHANNELS.iter().enumerate() {
        assert_eq!(bits & (1 << at) != 0, !covers(job, &symbol, channel).is_empty(), "{channel}: {asked}");
    }
    assert!(!of_job.is_nothing() || named.is_empty(), "{asked}");

    let pairs = (0..=random.below(3)).map(|_| (random.channel().to_owned(), random.symbol())).collect();
    let plan = JobPlan { name: job.to_owned(), pairs };
    let runs = plan.pairs.iter().any(|(channel, symbol)| covers(job, symbol, channel).is_empty());
    assert_eq!(coverage.runs(&plan), runs, "{plan:?} {asked}");
    let halting = coverage.halted_by(std::slice::from_ref(&plan));
    assert_eq!(halting.is_some(), !runs, "{plan:?} {asked}");
    (!named.is_empty(), runs)
}

#[test]
fn the_engine_and_the_scopes_agree_on_100_000_random_cases() {
    const CASES: u64 = 100_000;
    let (mut held, mut halted) = (0, 0);
    for case in 0..CASES {
        let seed = (case + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        match catch_unwind(AssertUnwindSafe(|| agrees(&mut Random(seed)))) {
            Ok((is_held, runs)) => {
                held += u64::from(is_held);
                halted += u64::from(!runs);
            }
            Err(failure) => {
                eprintln!("the failing seed is {seed:#x}");
                resume_unwind(failure);
            }
        }
    }
    println!("{held} of {CASES} were held, {halted} jobs were halted");
    assert!(held > CASES / 10 && held < CASES * 9 / 10 && halted > CASES / 20, "both ways: {held} {halted}");
}
