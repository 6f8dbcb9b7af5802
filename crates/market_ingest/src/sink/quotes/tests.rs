use super::*;

/// The prices of the document for these two sides, 0 being a side without a quote.
fn check(bid_price: f64, ask_price: f64, expected: [Option<f64>; 3]) {
    let latest = Latest {
        ts: 1_234_567_890,
        bid_price,
        ask_price,
        bid_size: 3.0,
        ask_size: 4.0,
        last_trade_price: Some(10.25),
    };
    let document = document("BTC/USD".into(), &latest);
    assert_eq!([document.bid, document.ask, document.price], expected);
    assert_eq!((document.bid_size, document.ask_size), (3.0, 4.0));
    assert_eq!(document.last_trade_price, Some(10.25));
    assert_eq!(document.ts.as_microseconds(), 1_234_567);
    assert_eq!((document.id().as_str(), document.source), ("BTC-USD", "alpaca"));
}

#[test]
fn the_price_is_the_midpoint_of_two_sides_and_null_without_both() {
    check(10.0, 10.5, [Some(10.0), Some(10.5), Some(10.25)]);
    check(0.0, 10.5, [None, Some(10.5), None]);
    check(10.0, 0.0, [Some(10.0), None, None]);
    check(0.0, 0.0, [None, None, None]);
}
