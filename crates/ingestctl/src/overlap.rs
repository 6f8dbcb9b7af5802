//! How what still holds relates to what was released.

use ingest_switch::{Scope, Target};

/// How one scope lies to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overlap {
    /// The first covers all of the second.
    Whole,
    /// They may have something in common.
    Part,
    /// They have nothing in common.
    None,
}

/// How `hold` lies to `released`.
///
/// [`Overlap::Whole`] is certain; where two patterns, or a job and a symbol, may meet, it is [`Overlap::Part`].
pub(crate) fn overlap(hold: &Scope, released: &Scope) -> Overlap {
    let whole_channel = match (hold.channel(), released.channel()) {
        (None, _) => true,
        (Some(own), Some(other)) if own == other => true,
        (Some(_), None) => false,
        (Some(_), Some(_)) => return Overlap::None,
    };
    let target = match (hold.target(), released.target()) {
        (Target::All, _) => Overlap::Whole,
        (Target::Symbol(pattern), _) if is_every(pattern) => Overlap::Whole,
        (_, Target::All) => Overlap::Part,
        (Target::Job(one), Target::Job(other)) if one == other => Overlap::Whole,
        (Target::Job(_), Target::Job(_)) => Overlap::None,
        (Target::Job(_), Target::Symbol(_)) | (Target::Symbol(_), Target::Job(_)) => Overlap::Part,
        (Target::Symbol(one), Target::Symbol(other)) => patterns(one, other),
    };
    if target == Overlap::Whole && !whole_channel { Overlap::Part } else { target }
}

fn patterns(hold: &str, released: &str) -> Overlap {
    let covers = |pattern: &str, symbol: &str| Scope::symbol(pattern).covers("", symbol, "");
    match (is_pattern(hold), is_pattern(released)) {
        _ if hold == released => Overlap::Whole,
        (_, false) if covers(hold, released) => Overlap::Whole,
        (_, false) => Overlap::None,
        (false, true) if covers(released, hold) => Overlap::Part,
        (false, true) => Overlap::None,
        (true, true) => Overlap::Part,
    }
}

fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?'])
}

fn is_every(pattern: &str) -> bool {
    pattern.bytes().all(|c| c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_still_holds_is_told_from_what_does_not_matter() {
        use Overlap::{None, Part, Whole};
        for (hold, released, expected) in [
            ("all", "all", Whole),
            ("all", "job:iex", Whole),
            ("all", "symbol:A*/quotes", Whole),
            ("all/quotes", "symbol:A*/quotes", Whole),
            ("all/quotes", "symbol:A*", Part),
            ("all/quotes", "all/trades", None),
            ("symbol:*", "job:iex", Whole),
            ("symbol:*", "all", Whole),
            ("job:iex", "all", Part),
            ("job:iex", "job:iex/bars", Whole),
            ("job:iex", "job:sip", None),
            ("job:iex", "symbol:AAPL", Part),
            ("symbol:AAPL", "all", Part),
            ("symbol:AAPL", "symbol:AAPL", Whole),
            ("symbol:A*", "symbol:AAPL", Whole),
            ("symbol:A*", "symbol:MSFT", None),
            ("symbol:AAPL", "symbol:A*", Part),
            ("symbol:MSFT", "symbol:A*", None),
            ("symbol:A?", "symbol:A*", Part),
        ] {
            let scope = |text: &str| text.parse::<Scope>().unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(overlap(&scope(hold), &scope(released)), expected, "{hold} on {released}");
        }
    }
}
