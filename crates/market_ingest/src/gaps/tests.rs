#![allow(clippy::unwrap_used)]

use super::*;

fn gap(id: &str, symbol: &str, from: i64, to: Option<i64>, cause: Cause) -> Gap {
    Gap {
        id: id.to_owned(),
        channels: [Channel::Trades].into(),
        symbols: [symbol.to_owned()].into(),
        from: from * 1_000_000_000,
        to: to.map(|to| to * 1_000_000_000),
        cause,
    }
}

#[test]
fn a_record_gives_back_the_gap_that_it_was_made_of() {
    let told = gap("a", "SPY", 5, Some(9), Cause::Disconnect);
    let record = GapRecord::new("iex", &told, Timestamp::from_nanoseconds(0));
    assert_eq!(record.gap(), Some(told));
    assert_eq!(GapRecord { cause: "weather".to_owned(), ..record.clone() }.gap(), None);
    assert_eq!(GapRecord { channels: Vec::new(), ..record }.gap(), None);
}

#[test]
fn a_gap_waits_once_it_is_over_and_until_it_is_at_its_end() {
    let book = GapBook::new();
    book.take("iex", &gap("a", "SPY", 5, None, Cause::Pause));
    assert!(book.waiting().is_empty());
    assert_eq!((book.earlier("iex").len(), book.earlier("sip").len()), (1, 0));
    book.take("iex", &gap("a", "SPY", 5, Some(9), Cause::Pause));
    book.take("iex", &gap("b", "SPY", 1, Some(2), Cause::Disconnect));
    let order: Vec<_> = book.waiting().into_iter().map(|record| record.id).collect();
    assert_eq!(order, ["b", "a"], "oldest market time first");
    let outlook = book.outlook("iex");
    assert_eq!((outlook.lasting, outlook.waiting, outlook.waiting_s), (0, 2, 5.0));
    for state in [GapState::Filled, GapState::Partial, GapState::Unfillable] {
        book.put(GapRecord { state, ..book.get("a").unwrap() });
        assert_eq!(book.waiting().len(), 1, "{state:?}");
    }
}

#[test]
fn losses_of_one_stalled_sink_are_one_gap_and_their_number_is_bounded() {
    let book = GapBook::new();
    for (n, at) in (0..500).enumerate() {
        let symbol = if n % 2 == 0 { "SPY" } else { "IBM" };
        book.take("iex", &gap(&format!("{n}"), symbol, at, Some(at + 1), Cause::Overflow));
    }
    let [record] = &book.waiting()[..] else { panic!("{:?}", book.waiting().len()) };
    assert_eq!(record.symbols, ["IBM", "SPY"]);
    assert_eq!(record.to.unwrap().seconds_since(record.from), 500.0);
    // One that is being filled is not touched any more.
    book.put(GapRecord { state: GapState::Filling, ..record.clone() });
    book.take("iex", &gap("x", "SPY", 501, Some(502), Cause::Overflow));
    assert_eq!(book.waiting().len(), 2);
    // Far apart they are gaps of their own, up to a number.
    for n in 0..3 * WAITING_MAX as i64 {
        book.take("iex", &gap(&format!("far {n}"), "SPY", 1000 * n, Some(1000 * n + 1), Cause::Overflow));
    }
    assert_eq!(book.waiting().len(), WAITING_MAX);
}

#[test]
fn what_is_told_to_the_store_is_the_newest_and_an_end_that_is_told_leaves_the_book() {
    let book = GapBook::new();
    book.take("iex", &gap("a", "SPY", 5, None, Cause::Pause));
    book.take("iex", &gap("a", "SPY", 5, Some(9), Cause::Pause));
    let first = book.pages().next_unwritten().unwrap();
    assert!(first.to.is_some() && !book.is_written(), "on its way it is not there yet");
    let filled = GapRecord { state: GapState::Filled, ..first.clone() };
    book.put(filled.clone());
    // Written as it was before: the end is still to be told.
    book.pages().written(&first);
    assert_eq!(book.get("a"), Some(filled.clone()));
    assert_eq!(book.pages().next_unwritten(), Some(filled.clone()));
    assert!(!book.is_written());
    book.pages().written(&filled);
    assert!(book.is_written());
    assert_eq!((book.get("a"), book.ended(GapState::Filled)), (None, 1));
}
