//! What a job pays to ask, for each of its symbols, which channels are held, and what compiling the holds costs.

#![allow(missing_docs)]

use divan::Bencher;
use divan::counter::ItemsCount;
use ingest_switch::{Coverage, Hold, Scope, Source};
use jiff::Timestamp;

const SYMBOLS: usize = 10_000;

fn main() {
    divan::main();
}

/// `SYMBOLS` different symbols of up to five letters.
fn symbols() -> Vec<String> {
    let letter = |n: usize| char::from(b'A' + u8::try_from(n % 26).unwrap_or_default());
    let symbol = |n: usize| [n, n / 26, n / 676, n / 17_576 + n * 7].map(letter).iter().collect();
    (0..SYMBOLS).map(symbol).collect()
}

/// `rules` holds, of which `patterns` are patterns; every third is on one channel only.
fn holds(rules: usize, patterns: usize) -> Vec<Hold> {
    let names = symbols();
    let hold = |n: usize| {
        let name = &names[n * 9 % SYMBOLS];
        let scope = match n {
            _ if n >= patterns => Scope::symbol(name),
            _ if n.is_multiple_of(10) => Scope::symbol(&format!("*{}", &name[2..])),
            _ if n % 10 == 1 => Scope::symbol(&format!("{}?", &name[..3])),
            _ => Scope::symbol(&format!("{}*", &name[..2])),
        };
        let scope =
            if n.is_multiple_of(3) { scope.clone().on_channel("quotes").unwrap_or(scope) } else { scope };
        let source = Source::control(&n.to_string());
        Hold { source, scope, reason: None, actor: None, since: Timestamp::UNIX_EPOCH, until: None }
    };
    (0..rules).map(hold).collect()
}

/// One item is one symbol: the time an item is what `held_channels` costs on the average.
#[divan::bench(args = [(1_000, 0), (1_000, 50), (1_000, 100), (1_000, 300), (1_000, 1_000)])]
fn held_channels(bencher: Bencher, (rules, patterns): (usize, usize)) {
    let (job, symbols) = (Coverage::new(&holds(rules, patterns)).job("iex"), symbols());
    bencher
        .counter(ItemsCount::new(SYMBOLS))
        .bench(|| symbols.iter().fold(0, |held, symbol| held + u64::from(job.held_channels(symbol) != 0)));
}

#[divan::bench(args = [10, 1_000])]
fn compile(bencher: Bencher, rules: usize) {
    let holds = holds(rules, rules / 10);
    bencher.bench(|| Coverage::new(&holds));
}
