//! Channels by their wire names, and sets of (channel, symbol) such as a request asks for or an acknowledgement lists.
//!
//! Invariant: a [`Subscriptions`] keeps no channel without symbols, so two sets are equal exactly when they hold the
//! same pairs, however the venue wrote the empty ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

/// The symbol that stands for all symbols of a channel.
pub const EVERY_SYMBOL: &str = "*";

/// A kind of message that can be subscribed to.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub enum Channel {
    /// `trades`; subscribing adds the same symbols to `corrections` and `cancelErrors`.
    Trades,
    /// `quotes`.
    Quotes,
    /// `bars`: minute bars, just after the minute.
    Bars,
    /// `updatedBars`: minute bars revised for late trades.
    UpdatedBars,
    /// `dailyBars`: the day so far, every minute.
    DailyBars,
    /// `statuses`: halts and resumptions.
    Statuses,
    /// `lulds`: limit up, limit down bands.
    Lulds,
    /// `imbalances` of auctions.
    Imbalances,
    /// `corrections`, kept by the venue.
    Corrections,
    /// `cancelErrors`, kept by the venue.
    CancelErrors,
    /// `orderbooks` of crypto.
    Orderbooks,
    /// `pricing` of perpetual futures.
    Pricing,
    /// `news`.
    News,
}

impl Channel {
    /// Every channel, in the order in which requests list them.
    pub const ALL: [Self; 13] = [
        Self::Trades,
        Self::Quotes,
        Self::Bars,
        Self::UpdatedBars,
        Self::DailyBars,
        Self::Statuses,
        Self::Lulds,
        Self::Imbalances,
        Self::Corrections,
        Self::CancelErrors,
        Self::Orderbooks,
        Self::Pricing,
        Self::News,
    ];

    /// The channel's key in requests and acknowledgements.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trades => "trades",
            Self::Quotes => "quotes",
            Self::Bars => "bars",
            Self::UpdatedBars => "updatedBars",
            Self::DailyBars => "dailyBars",
            Self::Statuses => "statuses",
            Self::Lulds => "lulds",
            Self::Imbalances => "imbalances",
            Self::Corrections => "corrections",
            Self::CancelErrors => "cancelErrors",
            Self::Orderbooks => "orderbooks",
            Self::Pricing => "pricing",
            Self::News => "news",
        }
    }

    /// Whether a client may ask for it; the venue adds the other two by itself along with `trades`.
    #[must_use]
    pub const fn is_requestable(self) -> bool {
        !matches!(self, Self::Corrections | Self::CancelErrors)
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no channel.
#[derive(Clone, Eq, PartialEq, Debug, thiserror::Error)]
#[error("unknown channel {0:?}")]
pub struct UnknownChannel(pub String);

impl FromStr for Channel {
    type Err = UnknownChannel;

    /// Takes the exact wire name.
    fn from_str(word: &str) -> Result<Self, UnknownChannel> {
        Self::ALL
            .into_iter()
            .find(|channel| channel.as_str() == word)
            .ok_or_else(|| UnknownChannel(word.into()))
    }
}

/// A set of (channel, symbol) pairs, both sorted; the symbol may be [`EVERY_SYMBOL`].
#[derive(Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Default, Debug)]
pub struct Subscriptions {
    channels: BTreeMap<Channel, BTreeSet<String>>,
}

impl Subscriptions {
    /// Adds a pair; false if it was there.
    pub fn insert(&mut self, channel: Channel, symbol: impl Into<String>) -> bool {
        self.channels.entry(channel).or_default().insert(symbol.into())
    }

    /// Takes a whole channel out; false if it was not there.
    pub fn remove_channel(&mut self, channel: Channel) -> bool {
        self.channels.remove(&channel).is_some()
    }

    /// Whether messages of `symbol` on `channel` are covered, by name or by [`EVERY_SYMBOL`].
    #[must_use]
    pub fn contains(&self, channel: Channel, symbol: &str) -> bool {
        self.channels
            .get(&channel)
            .is_some_and(|symbols| symbols.contains(symbol) || symbols.contains(EVERY_SYMBOL))
    }

    /// The pairs that are here and in `other`, as literally as in [`Self::difference`].
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.difference(&self.difference(other))
    }

    /// The pairs that are here and not in `other`, literally: [`EVERY_SYMBOL`] is a symbol like any other, because
    /// the venue too keeps it beside the names and takes it away alone.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let absent = |channel: Channel, symbol: &str| {
            !other.channels.get(&channel).is_some_and(|symbols| symbols.contains(symbol))
        };
        self.iter().filter(|(channel, symbol)| absent(*channel, symbol)).collect()
    }

    /// The pairs of both.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.iter().chain(other.iter()).collect()
    }

    /// Whether there is no pair.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// How many pairs there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.channels.values().map(BTreeSet::len).sum()
    }

    /// All pairs, by channel, then by symbol.
    pub fn iter(&self) -> impl Iterator<Item = (Channel, &str)> {
        self.channels
            .iter()
            .flat_map(|(channel, symbols)| symbols.iter().map(|symbol| (*channel, symbol.as_str())))
    }

    /// The channels that have symbols, each with its sorted symbols.
    pub fn channels(&self) -> impl Iterator<Item = (Channel, &BTreeSet<String>)> {
        self.channels.iter().map(|(channel, symbols)| (*channel, symbols))
    }
}

impl<S: Into<String>> FromIterator<(Channel, S)> for Subscriptions {
    fn from_iter<I: IntoIterator<Item = (Channel, S)>>(pairs: I) -> Self {
        let mut set = Self::default();
        for (channel, symbol) in pairs {
            set.insert(channel, symbol);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[(Channel, &str)]) -> Subscriptions {
        pairs.iter().copied().collect()
    }

    #[test]
    fn every_channel_is_found_by_its_wire_name() {
        for channel in Channel::ALL {
            assert_eq!(channel.as_str().parse(), Ok(channel));
        }
        for word in ["", "Trades", "trade", "trades "] {
            assert_eq!(word.parse::<Channel>(), Err(UnknownChannel(word.into())));
        }
    }

    #[test]
    fn all_lists_the_channels_in_their_own_order() {
        assert!(Channel::ALL.is_sorted());
    }

    #[test]
    fn a_star_covers_every_symbol_of_its_channel_only() {
        let held = set(&[(Channel::Bars, "*"), (Channel::Quotes, "SPY")]);
        assert!(held.contains(Channel::Bars, "AAPL"));
        assert!(held.contains(Channel::Quotes, "SPY"));
        assert!(!held.contains(Channel::Quotes, "AAPL"));
        assert!(!held.contains(Channel::Trades, "SPY"));
    }

    #[test]
    fn difference_and_union_compare_pairs() {
        let a = set(&[(Channel::Trades, "SPY"), (Channel::Trades, "IBM"), (Channel::Bars, "*")]);
        let b = set(&[(Channel::Trades, "IBM"), (Channel::Bars, "SPY")]);
        assert_eq!(a.difference(&b), set(&[(Channel::Trades, "SPY"), (Channel::Bars, "*")]));
        assert_eq!(b.difference(&a), set(&[(Channel::Bars, "SPY")]));
        assert_eq!(a.difference(&a), Subscriptions::default());
        assert_eq!(a.intersection(&b), set(&[(Channel::Trades, "IBM")]));
        assert_eq!(a.union(&b).len(), 4);
        assert_eq!(a.union(&b).difference(&a), set(&[(Channel::Bars, "SPY")]));
    }

    #[test]
    fn pairs_come_sorted_whatever_their_order_of_arrival() {
        let mut held = set(&[(Channel::Quotes, "B"), (Channel::Trades, "Z"), (Channel::Quotes, "A")]);
        let pairs: Vec<_> = held.iter().collect();
        assert_eq!(pairs, [(Channel::Trades, "Z"), (Channel::Quotes, "A"), (Channel::Quotes, "B")]);
        assert!(!held.insert(Channel::Quotes, "A"));
        assert!(held.remove_channel(Channel::Quotes) && !held.remove_channel(Channel::Quotes));
        assert_eq!(held, set(&[(Channel::Trades, "Z")]));
    }
}
