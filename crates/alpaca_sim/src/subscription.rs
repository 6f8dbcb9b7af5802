//! What one session has subscribed to.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::channel::Channel;
use crate::config::{Plan, Profile};
use crate::endpoint::Product;

/// The symbols per channel that a subscribe or unsubscribe names; never empty.
pub(crate) type Selection = Vec<(Channel, Vec<String>)>;

/// The state of one session's subscriptions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subscriptions {
    channels: BTreeMap<Channel, BTreeSet<String>>,
}

impl Subscriptions {
    /// The state with `selection` added; trades of stocks bring corrections and cancels with them.
    pub(crate) fn with(&self, selection: &Selection, product: Product) -> Subscriptions {
        let mut next = self.clone();
        for (channel, symbols) in selection {
            for channel in followed(*channel, product) {
                let set = next.channels.entry(channel).or_default();
                set.extend(symbols.iter().cloned());
            }
        }
        next
    }

    /// The state with `selection` taken away; what was not held is no error.
    pub(crate) fn without(&self, selection: &Selection, product: Product) -> Subscriptions {
        let mut next = self.clone();
        for (channel, symbols) in selection {
            for channel in followed(*channel, product) {
                if let Some(set) = next.channels.get_mut(&channel) {
                    set.retain(|s| !symbols.contains(s));
                }
            }
        }
        next.channels.retain(|_, set| !set.is_empty());
        next
    }

    /// Whether elements of `channel` about `symbol` are wanted.
    pub(crate) fn wants(&self, channel: Channel, symbol: &str) -> bool {
        self.channels.get(&channel).is_some_and(|set| set.contains(symbol) || set.contains("*"))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// The error that `plan` has against this state, if any.
    pub(crate) fn refusal(&self, product: Product, plan: &Plan) -> Option<u16> {
        let of = |channel| self.channels.get(&channel).into_iter().flatten();
        let over = |symbols: &BTreeSet<&String>, limit: Option<usize>| {
            limit.is_some_and(|n| symbols.len() > n || symbols.iter().any(|s| *s == "*"))
        };
        if product == Product::Options {
            let quotes: BTreeSet<_> = of(Channel::Quotes).collect();
            return if quotes.iter().any(|s| *s == "*") {
                Some(413)
            } else {
                over(&quotes, plan.option_quote_limit).then_some(405)
            };
        }
        let priced: BTreeSet<_> = of(Channel::Trades).chain(of(Channel::Quotes)).collect();
        (product == Product::Stocks && over(&priced, plan.symbol_limit)).then_some(405)
    }

    /// The lists of an acknowledgement, sorted; empty channels are left out or listed as `profile` says.
    pub(crate) fn lists(&self, product: Product, profile: Profile) -> Vec<(&'static str, Value)> {
        let listed = |channel: &Channel| {
            self.channels.contains_key(channel)
                || (profile == Profile::Documented && product.channels().contains(channel))
        };
        Channel::ALL
            .into_iter()
            .filter(listed)
            .map(|channel| {
                let symbols: Vec<&String> = self.channels.get(&channel).into_iter().flatten().collect();
                (channel.name(), Value::from_iter(symbols.into_iter().cloned()))
            })
            .collect()
    }
}

/// The channel itself and those that the venue subscribes along with it.
fn followed(channel: Channel, product: Product) -> impl Iterator<Item = Channel> {
    let stock_trades = channel == Channel::Trades && matches!(product, Product::Stocks | Product::Test);
    let along = [Channel::Corrections, Channel::CancelErrors];
    std::iter::once(channel).chain(along.into_iter().filter(move |_| stock_trades))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn select(channel: Channel, symbols: &[&str]) -> Selection {
        vec![(channel, symbols.iter().map(|s| (*s).to_owned()).collect())]
    }

    #[test]
    fn acks_hold_the_whole_sorted_state_and_follow_the_profile() {
        let subs = Subscriptions::default()
            .with(&select(Channel::Trades, &["SPY", "AAPL"]), Product::Stocks)
            .with(&select(Channel::Bars, &["*"]), Product::Stocks);
        assert_eq!(
            subs.lists(Product::Stocks, Profile::Observed),
            [
                ("trades", json!(["AAPL", "SPY"])),
                ("bars", json!(["*"])),
                ("corrections", json!(["AAPL", "SPY"])),
                ("cancelErrors", json!(["AAPL", "SPY"])),
            ]
        );
        let documented = subs.lists(Product::Stocks, Profile::Documented);
        assert_eq!(documented.len(), 10);
        assert_eq!(documented[1], ("quotes", json!([])));
    }

    #[test]
    fn unsubscribing_takes_the_followers_along_and_forgives_the_unknown() {
        let subs = Subscriptions::default().with(&select(Channel::Trades, &["A"]), Product::Stocks);
        let same = subs.without(&select(Channel::Quotes, &["Z"]), Product::Stocks);
        assert_eq!(same, subs);
        let none = subs.without(&select(Channel::Trades, &["A"]), Product::Stocks);
        assert!(none.is_empty());
        assert!(none.lists(Product::Stocks, Profile::Observed).is_empty());
    }

    #[test]
    fn the_basic_plan_counts_symbols_of_trades_and_quotes_only() {
        let many: Vec<String> = (0..31).map(|i| format!("S{i}")).collect();
        let refusal = |channel, product, symbols: &[String]| {
            let selection = vec![(channel, symbols.to_vec())];
            Subscriptions::default().with(&selection, product).refusal(product, &Plan::basic())
        };
        let star = ["*".to_owned()];
        assert_eq!(refusal(Channel::Trades, Product::Stocks, &many), Some(405));
        assert_eq!(refusal(Channel::Quotes, Product::Stocks, &many[..30]), None);
        assert_eq!(refusal(Channel::Bars, Product::Stocks, &many), None);
        assert_eq!(refusal(Channel::Quotes, Product::Stocks, &star), Some(405));
        assert_eq!(refusal(Channel::Quotes, Product::Options, &star), Some(413));
        assert_eq!(refusal(Channel::Trades, Product::Options, &star), None);
    }
}
