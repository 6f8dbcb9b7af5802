//! The watchdog by its notices and commands: when it barks, when it does not, and what it asks for.

mod rules;
mod tapes;

use std::time::{Duration, Instant};

use alpaca_feed::calendar::Market;
use alpaca_feed::message::{Bar, BarSpan, Code, Conditions, Event, Quote, Status, Trade};
use alpaca_feed::subscription::{Channel, Subscriptions};
use alpaca_feed::symbol::SymbolId;
use alpaca_feed::watchdog::{Command, Notice, Watchdog};

const SECOND: Duration = Duration::from_secs(1);

/// A watchdog, its two clocks, and what it said.
struct Rig {
    dog: Watchdog,
    start: Instant,
    start_ts: i64,
    now: Instant,
    notices: Vec<Notice>,
    commands: Vec<Command>,
}

impl Rig {
    /// Live at `start`, with these pairs desired.
    fn live(market: Market, start: &str, pairs: &[(Channel, &str)]) -> Self {
        let start: jiff::Timestamp = start.parse().unwrap();
        // The tests need some instant to count from; which one is of no account.
        #[allow(clippy::disallowed_methods)]
        let now = Instant::now();
        let start_ts = i64::try_from(start.as_nanosecond()).unwrap();
        let mut rig = Self {
            dog: Watchdog::new(market, SECOND * 30),
            start: now,
            start_ts,
            now,
            notices: Vec::new(),
            commands: Vec::new(),
        };
        rig.dog.handle_desired(now, &pairs.iter().copied().collect::<Subscriptions>());
        rig.dog.handle_time(now, start_ts);
        rig.dog.handle_live(now);
        rig.take();
        rig
    }

    fn wall_ts(&self) -> i64 {
        self.start_ts + i64::try_from((self.now - self.start).as_nanos()).unwrap()
    }

    /// Lets time pass, looking whenever the watchdog wants to.
    fn pass_until(&mut self, until: Instant) {
        while let Some(deadline) = Some(self.dog.poll_timeout().unwrap_or(self.now)).filter(|at| *at <= until)
        {
            self.now = self.now.max(deadline);
            self.dog.handle_time(self.now, self.wall_ts());
            self.take();
        }
        self.now = until;
    }

    fn pass(&mut self, span: Duration) {
        self.pass_until(self.now + span);
    }

    fn bring(&mut self, events: &[Event]) {
        self.dog.handle_batch(self.now, self.wall_ts(), events);
        self.take();
    }

    /// Once a second for so long, quotes of these symbols with the time of now.
    fn flow(&mut self, seconds: u32, symbols: &[u32]) {
        for _ in 0..seconds {
            self.pass(SECOND);
            let ts = self.wall_ts();
            let events: Vec<_> = symbols.iter().map(|symbol| quote(*symbol, ts)).collect();
            self.bring(&events);
        }
    }

    fn take(&mut self) {
        self.notices.extend(std::iter::from_fn(|| self.dog.poll_notice()));
        self.commands.extend(std::iter::from_fn(|| self.dog.poll_command()));
    }

    fn notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    fn commands(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.commands)
    }
}

fn quote(symbol: u32, ts: i64) -> Event {
    Event::Quote(Quote {
        ts,
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

fn trade(symbol: u32, ts: i64) -> Event {
    Event::Trade(Trade {
        ts,
        received_ts: None,
        id: None,
        price: 1.0,
        size: 1.0,
        symbol: SymbolId(symbol),
        exchange: Code::default(),
        tape: Code::default(),
        taker_side: Code::default(),
        conditions: Conditions::default(),
    })
}

fn bar(symbol: u32, ts: i64) -> Event {
    let (symbol, span) = (SymbolId(symbol), BarSpan::Minute);
    let (open, high, low, close, vwap, volume) = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0);
    Event::Bar(Bar {
        ts,
        received_ts: None,
        open,
        high,
        low,
        close,
        volume,
        vwap,
        trade_count: 1,
        symbol,
        span,
    })
}

fn status(symbol: u32, code: &str, ts: i64) -> Event {
    Event::Status(Box::new(Status {
        ts,
        received_ts: None,
        symbol: SymbolId(symbol),
        status: code.into(),
        status_message: String::new(),
        reason: String::new(),
        reason_message: String::new(),
        tape: String::new(),
    }))
}
