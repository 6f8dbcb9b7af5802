//! Which scopes have anything in common, to name the holds that remain where somebody resumes, and the pauses that a
//! job has seen.

use ingest_switch::{JobPlan, Scope, Target};

/// Whether some message of these jobs may be covered by both. Of two patterns it is enough that one matches the other
/// as it is written.
pub(super) fn overlap(one: &Scope, other: &Scope, jobs: &[JobPlan]) -> bool {
    if let (Some(one), Some(other)) = (one.channel(), other.channel())
        && one != other
    {
        return false;
    }
    match (one.target(), other.target()) {
        (Target::All, _) | (_, Target::All) => true,
        (Target::Job(one), Target::Job(other)) => one == other,
        (Target::Symbol(a), Target::Symbol(b)) => matches(a, b) || matches(b, a),
        (Target::Job(job), Target::Symbol(pattern)) | (Target::Symbol(pattern), Target::Job(job)) => jobs
            .iter()
            .filter(|plan| plan.name.eq_ignore_ascii_case(job))
            .flat_map(|plan| &plan.pairs)
            .any(|(_, symbol)| symbol == "*" || matches(pattern, symbol)),
    }
}

/// By the same rule as the engine's.
fn matches(pattern: &str, symbol: &str) -> bool {
    Scope::symbol(pattern).covers("", symbol, "")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn scopes_overlap_exactly_when_something_may_be_covered_by_both() {
        let plan = |name: &str, symbol: &str| JobPlan {
            name: name.to_owned(),
            pairs: vec![("trades".to_owned(), symbol.to_owned())],
        };
        let jobs = [plan("iex", "AAPL"), plan("sip", "*")];
        for (one, other, expected) in [
            ("all", "job:iex", true),
            ("all", "symbol:A*/quotes", true),
            ("all/trades", "all/quotes", false),
            ("all/trades", "job:iex", true),
            ("job:iex", "job:iex/trades", true),
            ("job:iex", "job:sip", false),
            ("symbol:A*", "symbol:AAPL", true),
            ("symbol:A*", "symbol:B*", false),
            ("symbol:A*", "symbol:*", true),
            ("job:iex", "symbol:AAPL", true),
            ("job:iex", "symbol:MSFT", false),
            ("job:sip", "symbol:MSFT", true),
            ("job:news", "symbol:AAPL", false),
        ] {
            let (one, other): (Scope, Scope) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(overlap(&one, &other, &jobs), expected, "{one} and {other}");
            assert_eq!(overlap(&other, &one, &jobs), expected, "{other} and {one}");
        }
    }
}
