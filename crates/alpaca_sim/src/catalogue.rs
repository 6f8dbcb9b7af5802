//! The series of a market: every (channel, symbol) pair it can send, numbered.
//!
//! Elements carry the number of their series, so that filtering by subscription and counting are one array access
//! each. A news item is about several symbols at once; each combination is a series of its own.

use std::collections::HashMap;

use crate::channel::Channel;
use crate::endpoint::Product;

/// One kind of message about one symbol (or, for news, about one set of symbols).
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) channel: Channel,
    pub(crate) product: Product,
    pub(crate) symbols: Vec<String>,
}

impl Series {
    /// The symbol, or the symbols of a news item joined by commas.
    pub(crate) fn label(&self) -> String {
        self.symbols.join(",")
    }
}

/// All series of one market; append-only, so a number never changes its meaning.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    series: Vec<Series>,
    by_label: HashMap<String, [Option<u32>; Channel::ALL.len()]>,
}

impl Catalogue {
    /// The number of the series of `channel` about `label` (symbols joined by commas), made if it is new.
    pub(crate) fn intern(&mut self, channel: Channel, label: &str) -> u32 {
        if let Some(known) = self.by_label.get(label).and_then(|c| c[channel as usize]) {
            return known;
        }
        let number = u32::try_from(self.series.len()).unwrap_or(u32::MAX);
        let symbols: Vec<String> = label.split(',').map(str::to_owned).collect();
        let news = channel == Channel::News;
        let product = if news { Product::News } else { Product::of_symbol(&symbols[0]) };
        self.series.push(Series { channel, product, symbols });
        self.by_label.entry(label.to_owned()).or_default()[channel as usize] = Some(number);
        number
    }

    /// The series with this number.
    pub(crate) fn get(&self, number: u32) -> &Series {
        &self.series[number as usize]
    }

    /// All series, in the order of their numbers.
    pub(crate) fn all(&self) -> &[Series] {
        &self.series
    }
}
