//! A made-up market: seeded random walks over a universe with a hot head, in every message type.
//!
//! Of the elements 85 % are quotes, 13 % trades, about 2 % bars of the three kinds, and one in 300 is of a rarer
//! type; the rare ones take turns, so that each occurs within a few thousand elements. The same seed and
//! the same times make the same bytes.

use std::collections::VecDeque;
use std::fmt::Write as _;

use jiff::Timestamp;

use crate::catalogue::Catalogue;
use crate::channel::Channel;
use crate::config::Synthetic;
use crate::endpoint::Product;
use crate::reel::Reel;

const MINUTE_NS: i64 = 60_000_000_000;
const MS_NS: i64 = 1_000_000;
/// Where a market with a fixed number of elements begins: 2026-01-05, 14:29:58 UTC, so that bars come soon.
const SESSION_START_NS: i64 = 1_767_623_398 * 1_000_000_000;
/// Elements made at most per call in real time, so that a stalled host does not answer with a flood.
const CATCH_UP_S: f64 = 1.0;

const HEAD: [&str; 16] = [
    "SPY", "AAPL", "TSLA", "NVDA", "QQQ", "AMD", "MSFT", "AMZN", "META", "GOOGL", "NFLX", "INTC", "BAC", "F",
    "PLTR", "IWM",
];
const CRYPTO: [&str; 4] = ["BTC/USD", "ETH/USD", "SOL/USD", "DOGE/USD"];
const OPTIONS: [&str; 3] = ["SPY260116C00650000", "SPY260116P00640000", "AAPL260116C00250000"];
const PERPS: [&str; 2] = ["BTC-PERP", "ETH-PERP"];
/// The only symbol of the test stream.
const TEST_SYMBOL: &str = "FAKEPACA";

/// Makes elements, one after the other.
pub(crate) struct Generator {
    random: Random,
    stocks: Vec<Walk>,
    crypto: Vec<Walk>,
    options: Vec<Walk>,
    perps: Vec<Walk>,
    news: Vec<u32>,
    news_labels: Vec<String>,
    step_ns: f64,
    made: u64,
    rare_made: usize,
    /// When the next element is due; `None` before the first.
    next_ns: Option<f64>,
    minute: i64,
    due_bars: VecDeque<(Product, usize)>,
    json: String,
}

/// One symbol's state.
struct Walk {
    symbol: String,
    product: Product,
    tape: char,
    series: [u32; Channel::ALL.len()],
    /// The middle of the market, in hundredths.
    cents: i64,
    trade_id: u64,
    bar: Bar,
    books: u64,
}

#[derive(Clone, Copy, Default)]
struct Bar {
    open: i64,
    high: i64,
    low: i64,
    close: i64,
    volume: i64,
    turnover: i64,
    trades: i64,
}

impl Generator {
    /// A market as `settings` want it, its series added to `catalogue`.
    pub(crate) fn new(settings: &Synthetic, catalogue: &mut Catalogue) -> Generator {
        let mut generator = Generator::empty(settings.seed, settings.rate_per_s);
        for index in 0..settings.symbols.max(1) {
            generator.stocks.push(Walk::new(&stock_symbol(index), catalogue));
        }
        let walks = |symbols: &[&str], catalogue: &mut Catalogue| {
            symbols.iter().map(|s| Walk::new(s, catalogue)).collect()
        };
        generator.crypto = walks(&CRYPTO, catalogue);
        generator.options = walks(&OPTIONS, catalogue);
        generator.perps = walks(&PERPS, catalogue);
        for start in 0..8 {
            let about = &HEAD[start..start + 1 + start % 3];
            let label = about.join(",");
            generator.news.push(catalogue.intern(Channel::News, &label));
            generator.news_labels.push(label);
        }
        generator
    }

    /// The test stream's market: one symbol, all day and night.
    pub(crate) fn test_stream(catalogue: &mut Catalogue) -> Generator {
        let mut generator = Generator::empty(1, 2.0);
        generator.stocks.push(Walk::new(TEST_SYMBOL, catalogue));
        generator
    }

    fn empty(seed: u64, rate_per_s: f64) -> Generator {
        Generator {
            random: Random(seed),
            stocks: Vec::new(),
            crypto: Vec::new(),
            options: Vec::new(),
            perps: Vec::new(),
            news: Vec::new(),
            news_labels: Vec::new(),
            step_ns: 1e9 / rate_per_s.max(1e-3),
            made: 0,
            rare_made: 0,
            next_ns: None,
            minute: 0,
            due_bars: VecDeque::new(),
            json: String::new(),
        }
    }

    /// Exactly `count` elements from a fixed instant on.
    pub(crate) fn exactly(&mut self, count: usize) -> Reel {
        let mut reel = Reel::default();
        for index in 0..count {
            let at_ns = SESSION_START_NS + (index as f64 * self.step_ns) as i64;
            self.make(at_ns, &mut reel);
        }
        reel
    }

    /// The elements that have fallen due up to `now`; the first call starts the clock.
    pub(crate) fn until(&mut self, now: Timestamp) -> Reel {
        let now_ns = now.as_nanosecond() as f64;
        let mut next_ns = self.next_ns.unwrap_or(now_ns);
        next_ns = next_ns.max(now_ns - CATCH_UP_S * 1e9);
        let mut reel = Reel::default();
        while next_ns <= now_ns {
            self.make(next_ns as i64, &mut reel);
            next_ns += self.step_ns;
        }
        self.next_ns = Some(next_ns);
        reel
    }

    fn make(&mut self, at_ns: i64, reel: &mut Reel) {
        self.turn_minute(at_ns);
        self.made += 1;
        let series = if let Some((product, index)) = self.due_bars.pop_front() {
            self.bar(Channel::Bars, product, index, at_ns)
        } else {
            match self.random.below(300) {
                0 => self.rare(at_ns),
                1..=255 => self.quote_or_trade(Channel::Quotes, at_ns),
                256..=294 => self.quote_or_trade(Channel::Trades, at_ns),
                295..=297 => {
                    let index = self.random.hot(self.stocks.len());
                    self.bar(Channel::DailyBars, Product::Stocks, index, at_ns)
                }
                _ => {
                    let index = self.random.hot(self.stocks.len());
                    self.bar(Channel::UpdatedBars, Product::Stocks, index, at_ns)
                }
            }
        };
        // Elements of one millisecond are due together and so share a frame.
        reel.push(series, at_ns - at_ns.rem_euclid(MS_NS), self.json.as_bytes());
    }

    /// At the turn of a minute the bars of all symbols that traded fall due.
    fn turn_minute(&mut self, at_ns: i64) {
        let minute = at_ns.div_euclid(MINUTE_NS);
        if minute == self.minute {
            return;
        }
        let first = self.minute == 0;
        self.minute = minute;
        for (product, walks) in [(Product::Stocks, &self.stocks), (Product::Crypto, &self.crypto)] {
            let traded = walks.iter().enumerate().filter(|(_, w)| w.bar.trades > 0);
            if !first {
                self.due_bars.extend(traded.map(|(i, _)| (product, i)));
            }
        }
    }

    fn walks(&mut self, product: Product) -> &mut Vec<Walk> {
        match product {
            Product::Crypto => &mut self.crypto,
            Product::Options => &mut self.options,
            Product::Perps => &mut self.perps,
            Product::Stocks | Product::News | Product::Test => &mut self.stocks,
        }
    }

    fn quote_or_trade(&mut self, channel: Channel, at_ns: i64) -> u32 {
        let product = match self.random.below(100) {
            0..=7 if !self.crypto.is_empty() => Product::Crypto,
            8 if !self.options.is_empty() => Product::Options,
            9 if !self.perps.is_empty() => Product::Perps,
            _ => Product::Stocks,
        };
        let len = self.walks(product).len();
        let index = self.random.hot(len);
        let mut json = std::mem::take(&mut self.json);
        let mut random = self.random;
        let walk = &mut self.walks(product)[index];
        if channel == Channel::Quotes {
            walk.quote(&mut random, at_ns, &mut json);
        } else {
            walk.trade(&mut random, at_ns, &mut json);
        }
        let series = walk.series[channel as usize];
        self.random = random;
        self.json = json;
        series
    }

    fn bar(&mut self, channel: Channel, product: Product, index: usize, at_ns: i64) -> u32 {
        let mut json = std::mem::take(&mut self.json);
        let walk = &mut self.walks(product)[index];
        walk.bar(channel, at_ns, &mut json);
        let series = walk.series[channel as usize];
        self.json = json;
        series
    }

    fn rare(&mut self, at_ns: i64) -> u32 {
        self.rare_made += 1;
        let (channel, product) = match self.rare_made % 8 {
            0 if !self.news.is_empty() => return self.news_item(at_ns),
            1 => (Channel::Statuses, Product::Stocks),
            2 => (Channel::Lulds, Product::Stocks),
            3 => (Channel::Corrections, Product::Stocks),
            4 => (Channel::CancelErrors, Product::Stocks),
            5 => (Channel::Imbalances, Product::Stocks),
            6 if !self.crypto.is_empty() => (Channel::Orderbooks, Product::Crypto),
            7 if !self.perps.is_empty() => (Channel::Pricing, Product::Perps),
            _ => (Channel::Statuses, Product::Stocks),
        };
        let len = self.walks(product).len();
        let index = self.random.hot(len);
        let mut json = std::mem::take(&mut self.json);
        let walk = &mut self.walks(product)[index];
        walk.rare(channel, at_ns, &mut json);
        let series = walk.series[channel as usize];
        self.json = json;
        series
    }

    fn news_item(&mut self, at_ns: i64) -> u32 {
        let pick = self.random.below(self.news.len() as u64) as usize;
        let symbols = self.news_labels[pick].replace(',', "\",\"");
        let (id, at) = (24_000_000 + self.made, Time(at_ns));
        self.json.clear();
        // Writing to a String cannot fail.
        let _ = write!(
            self.json,
            r#"{{"T":"n","id":{id},"headline":"Shares Move In Item {id}","summary":"A summary of item {id}.","author":"Simulated Desk","created_at":"{at}","updated_at":"{at}","url":"http://localhost/news/{id}","content":"<p>Nothing happened, and it was reported.</p>","symbols":["{symbols}"],"source":"simulator"}}"#
        );
        self.news[pick]
    }
}

impl Walk {
    fn new(symbol: &str, catalogue: &mut Catalogue) -> Walk {
        let product = Product::of_symbol(symbol);
        let mut series = [0; Channel::ALL.len()];
        for channel in product.channels() {
            series[*channel as usize] = catalogue.intern(*channel, symbol);
        }
        let mut scatter = Random(symbol.bytes().fold(7, |h: u64, b| h.wrapping_mul(31) + u64::from(b)));
        Walk {
            symbol: symbol.to_owned(),
            product,
            tape: ['A', 'B', 'C'][scatter.below(3) as usize],
            series,
            cents: 500 + scatter.below(40_000) as i64,
            trade_id: 0,
            bar: Bar::default(),
            books: 0,
        }
    }

    fn start(&self, channel: Channel, json: &mut String) {
        json.clear();
        let _ = write!(json, r#"{{"T":"{}","S":"{}""#, channel.letter(), self.symbol);
    }

    fn quote(&mut self, random: &mut Random, at_ns: i64, json: &mut String) {
        self.cents = (self.cents + random.below(5) as i64 - 2).max(100);
        let half = 1 + random.below(3) as i64;
        let (bid, ask) = (Cents(self.cents - half), Cents(self.cents + half));
        let (bid_size, ask_size) = (1 + random.below(20), 1 + random.below(20));
        let at = Time(at_ns);
        self.start(Channel::Quotes, json);
        let _ = match self.product {
            Product::Crypto | Product::Perps => {
                let (bs, a_s) = (Cents(bid_size as i64 * 7), Cents(ask_size as i64 * 9));
                write!(json, r#","bp":{bid},"bs":{bs},"ap":{ask},"as":{a_s},"t":"{at}"}}"#)
            }
            Product::Options => write!(
                json,
                r#","bx":"C","bp":{bid},"bs":{bid_size},"ax":"Q","ap":{ask},"as":{ask_size},"c":"A","t":"{at}"}}"#
            ),
            Product::Stocks | Product::News | Product::Test => write!(
                json,
                r#","bx":"V","bp":{bid},"bs":{},"ax":"V","ap":{ask},"as":{},"c":["R"],"z":"{}","t":"{at}"}}"#,
                bid_size * 100,
                ask_size * 100,
                self.tape
            ),
        };
    }

    fn trade(&mut self, random: &mut Random, at_ns: i64, json: &mut String) {
        self.trade_id += 1;
        let cents = self.cents + random.below(3) as i64 - 1;
        let size = 1 + random.below(400) as i64;
        self.bar.add(cents, size);
        // Ids of the older tapes are large, those of Nasdaq's are small.
        let base = if self.tape == 'C' { 0 } else { 52_983_525_000_000 };
        let (id, price, at) = (base + self.trade_id, Cents(cents), Time(at_ns));
        self.start(Channel::Trades, json);
        let _ = match self.product {
            Product::Crypto | Product::Perps => {
                let side = if cents < self.cents { 'S' } else { 'B' };
                let size = Cents(size);
                write!(json, r#","p":{price},"s":{size},"t":"{at}","i":{id},"tks":"{side}"}}"#)
            }
            Product::Options => {
                write!(json, r#","x":"C","p":{price},"s":{size},"c":"a","t":"{at}"}}"#)
            }
            Product::Stocks | Product::News | Product::Test => {
                let regular = if self.tape == 'C' { '@' } else { ' ' };
                let odd = if size < 100 { r#","I""# } else { "" };
                write!(
                    json,
                    r#","i":{id},"x":"V","p":{price},"s":{size},"c":["{regular}"{odd}],"z":"{}","t":"{at}"}}"#,
                    self.tape
                )
            }
        };
    }

    fn bar(&mut self, channel: Channel, at_ns: i64, json: &mut String) {
        let mut bar = self.bar;
        if bar.trades == 0 {
            bar.add(self.cents, 100);
        }
        let length_ns = if channel == Channel::DailyBars {
            self.start(channel, json);
            24 * 60 * MINUTE_NS
        } else {
            self.start(channel, json);
            MINUTE_NS
        };
        // Minute bars speak of the minute that is over, daily bars of the day that is not.
        let start_ns =
            at_ns - at_ns.rem_euclid(length_ns) - if channel == Channel::DailyBars { 0 } else { MINUTE_NS };
        let crypto = self.product == Product::Crypto;
        let volume = if crypto { Cents(bar.volume) } else { Cents(bar.volume * 100) };
        let vwap = bar.turnover as f64 / bar.volume as f64 / 100.0;
        let _ = write!(
            json,
            r#","o":{},"h":{},"l":{},"c":{},"v":{volume},"t":"{}","n":{},"vw":{vwap:.6}}}"#,
            Cents(bar.open),
            Cents(bar.high),
            Cents(bar.low),
            Cents(bar.close),
            Time(start_ns),
            bar.trades,
        );
        if channel == Channel::Bars {
            self.bar = Bar::default();
        }
    }

    fn rare(&mut self, channel: Channel, at_ns: i64, json: &mut String) {
        self.start(channel, json);
        let (price, at, tape) = (Cents(self.cents), Time(at_ns), self.tape);
        let (low, high) = (Cents(self.cents * 9 / 10), Cents(self.cents * 11 / 10));
        let (id, next) = (self.trade_id.max(1), self.trade_id + 1);
        self.books += 1;
        let _ = match channel {
            Channel::Statuses if tape == 'C' => write!(
                json,
                r#","sc":"H","sm":"Trading Halt","rc":"T12","rm":"Trading Halted; For information requested by NASDAQ","t":"{at}","z":"{tape}"}}"#
            ),
            Channel::Statuses => {
                write!(json, r#","sc":"3","sm":"Trading Resume","rc":"D","rm":"","t":"{at}","z":"{tape}"}}"#)
            }
            Channel::Lulds => write!(json, r#","u":{high},"d":{low},"i":"B","t":"{at}","z":"{tape}"}}"#),
            Channel::Imbalances => write!(json, r#","p":{price},"z":"{tape}","t":"{at}"}}"#),
            Channel::CancelErrors => {
                write!(json, r#","i":{id},"x":"V","p":{price},"s":100,"a":"C","z":"{tape}","t":"{at}"}}"#)
            }
            Channel::Orderbooks => {
                // Updates remove and set a level; every fourth message is the whole book.
                if self.books % 4 == 1 {
                    write!(
                        json,
                        r#","b":[{{"p":{price},"s":1.5}},{{"p":{low},"s":12}}],"a":[{{"p":{high},"s":0.25}}],"t":"{at}","r":true}}"#
                    )
                } else {
                    write!(json, r#","b":[{{"p":{low},"s":0}}],"a":[{{"p":{high},"s":2.125}}],"t":"{at}"}}"#)
                }
            }
            Channel::Pricing => write!(
                json,
                r#","ip":{price},"mp":{price},"fr":0.0001,"oi":1234.5,"ft":"{}","x":"V","t":"{at}"}}"#,
                Time(at_ns - at_ns.rem_euclid(60 * MINUTE_NS) + 60 * MINUTE_NS)
            ),
            Channel::Trades
            | Channel::Quotes
            | Channel::Bars
            | Channel::UpdatedBars
            | Channel::DailyBars
            | Channel::News
            | Channel::Corrections => write!(
                json,
                r#","x":"V","oi":{id},"op":{low},"os":100,"oc":[" "],"ci":{next},"cp":{price},"cs":100,"cc":[" "],"z":"{tape}","t":"{at}"}}"#
            ),
        };
    }
}

impl Bar {
    fn add(&mut self, cents: i64, size: i64) {
        if self.trades == 0 {
            *self = Bar { open: cents, high: cents, low: cents, ..Bar::default() };
        }
        self.high = self.high.max(cents);
        self.low = self.low.min(cents);
        self.close = cents;
        self.volume += size;
        self.turnover += size * cents;
        self.trades += 1;
    }
}

/// Symbol number `index`: well-known ones first, then made-up ones of letters.
fn stock_symbol(index: usize) -> String {
    if let Some(known) = HEAD.get(index) {
        return (*known).to_owned();
    }
    let mut rest = index - HEAD.len();
    let mut letters = ['X', 'A', 'A', 'A'];
    for letter in letters[1..].iter_mut().rev() {
        *letter = char::from(b'A' + (rest % 26) as u8);
        rest /= 26;
    }
    let mut symbol: String = letters.iter().collect();
    if rest > 0 {
        let _ = write!(symbol, "{rest}");
    }
    symbol
}

/// Hundredths, written as Alpaca writes prices: no trailing zeros, whole ones as integers.
struct Cents(i64);

impl std::fmt::Display for Cents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, part) = (self.0 / 100, self.0 % 100);
        match part {
            0 => write!(f, "{whole}"),
            _ if part % 10 == 0 => write!(f, "{whole}.{}", part / 10),
            _ => write!(f, "{whole}.{part:02}"),
        }
    }
}

/// Unix nanoseconds, written as RFC 3339 with trailing zeros cut.
struct Time(i64);

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Any i64 of nanoseconds lies within the range of a timestamp.
        let at = Timestamp::from_nanosecond(self.0.into()).unwrap_or(Timestamp::UNIX_EPOCH);
        at.fmt(f)
    }
}

/// SplitMix64.
#[derive(Clone, Copy)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which must not be 0.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// An index below `len` that favours the small ones: a tenth of the symbols gets almost half of the traffic.
    fn hot(&mut self, len: usize) -> usize {
        let unit = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        ((len as f64 * unit * unit * unit) as usize).min(len.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::HashMap;

    fn reel(seed: u64, count: usize) -> (Catalogue, Reel) {
        let mut catalogue = Catalogue::default();
        let settings = Synthetic { seed, ..Synthetic::default() };
        let reel = Generator::new(&settings, &mut catalogue).exactly(count);
        (catalogue, reel)
    }

    #[test]
    fn every_type_occurs_in_the_stated_shares_and_parses() {
        let (catalogue, reel) = reel(1, 200_000);
        let mut counts: HashMap<Channel, usize> = HashMap::new();
        for index in 0..reel.len() {
            let series = catalogue.get(reel.series(index));
            let element: serde_json::Value = serde_json::from_slice(reel.json(index)).unwrap();
            assert_eq!(element["T"], series.channel.letter());
            if series.channel != Channel::News {
                assert_eq!(element["S"], series.symbols[0].as_str());
            }
            *counts.entry(series.channel).or_default() += 1;
        }
        for channel in Channel::ALL {
            assert!(counts[&channel] > 10, "{channel:?}");
        }
        let share = |channel| counts[&channel] as f64 / reel.len() as f64;
        assert!((share(Channel::Quotes) - 0.85).abs() < 0.02);
        assert!((share(Channel::Trades) - 0.13).abs() < 0.01);
        let bars = share(Channel::Bars) + share(Channel::UpdatedBars) + share(Channel::DailyBars);
        assert!((bars - 0.02).abs() < 0.01, "{bars}");
    }

    #[test]
    fn the_same_seed_makes_the_same_bytes_and_another_one_others() {
        let bytes = |seed| {
            let (_, reel) = reel(seed, 1_000);
            (0..reel.len()).flat_map(|i| reel.json(i).to_vec()).collect::<Vec<_>>()
        };
        assert_eq!(bytes(3), bytes(3));
        assert_ne!(bytes(3), bytes(4));
    }

    #[test]
    fn symbols_are_distinct() {
        let mut symbols: Vec<String> = (0..40_000).map(stock_symbol).collect();
        symbols.sort();
        symbols.dedup();
        assert_eq!(symbols.len(), 40_000);
    }

    #[test]
    fn the_test_stream_knows_one_symbol_and_has_bars_on_the_minute() {
        let mut catalogue = Catalogue::default();
        let mut generator = Generator::test_stream(&mut catalogue);
        let start: Timestamp = "2026-01-05T14:30:00Z".parse().unwrap();
        generator.until(start);
        let mut bars = 0;
        for second in 1..=180 {
            let reel = generator.until(start + jiff::SignedDuration::from_secs(second));
            for index in 0..reel.len() {
                let element: serde_json::Value = serde_json::from_slice(reel.json(index)).unwrap();
                assert_eq!(element["S"], "FAKEPACA");
                if element["T"] == "b" {
                    assert_eq!(second % 60, 0);
                    bars += 1;
                }
            }
        }
        assert_eq!(bars, 3);
    }
}
