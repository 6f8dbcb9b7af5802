//! What the watchdog costs a message: quotes over 11,000 symbols of which few are hot, 1, 10 and 100 a turn, a turn
//! each microsecond and message. Read the inverse of the middle of the `item/s` column. The events stay in the cache, as
//! a turn's do, which were decoded just before.
#![allow(missing_docs)]

use std::time::{Duration, Instant};

use alpaca_feed::calendar::Market;
use alpaca_feed::message::{Code, Conditions, Event, Quote};
use alpaca_feed::subscription::{Channel, EVERY_SYMBOL};
use alpaca_feed::symbol::SymbolId;
use alpaca_feed::watchdog::Watchdog;
use divan::counter::ItemsCount;

const MESSAGES: usize = 1_000;
const ROUNDS: usize = 100;

fn main() {
    divan::main();
}

#[divan::bench(args = [1, 10, 100])]
fn handle_batch(bencher: divan::Bencher<'_, '_>, per_turn: usize) {
    let mut state = 1_u64;
    let mut below = |bound: u32| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % u64::from(bound)) as u32
    };
    // A product of two even choices is more often low than high.
    let events: Vec<Event> = (0..MESSAGES).map(|_| quote(below(105) * below(105))).collect();
    // The bench needs some instant to count from; which one is of no account.
    #[allow(clippy::disallowed_methods)]
    let mut now = Instant::now();
    let mut dog = Watchdog::new(Market::Always, Duration::from_secs(30));
    dog.handle_desired(now, &[(Channel::Quotes, EVERY_SYMBOL)].into_iter().collect());
    dog.handle_live(now);
    bencher.counter(ItemsCount::new(MESSAGES * ROUNDS)).bench_local(|| {
        for turn in (0..ROUNDS).flat_map(|_| events.chunks(per_turn)) {
            now += Duration::from_micros(per_turn as u64);
            dog.handle_batch(now, 0, turn);
            // As the pump does: a look when one is due.
            dog.handle_time(now, 0);
        }
        divan::black_box(&dog);
    });
}

fn quote(symbol: u32) -> Event {
    Event::Quote(Quote {
        ts: 0,
        received_ts: None,
        bid_price: 1.0,
        bid_size: 1.0,
        ask_price: 1.0,
        ask_size: 1.0,
        symbol: SymbolId(symbol),
        bid_exchange: Code::default(),
        ask_exchange: Code::default(),
        tape: Code::default(),
        conditions: Conditions::default(),
    })
}
