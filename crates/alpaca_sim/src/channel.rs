//! The channels of the streams and the message type that each carries.
//!
//! One channel carries exactly one type, so one enum names both: the plural in a subscription (`trades`)
//! and the letter in the `T` field of an element (`t`).

/// A channel that can be subscribed to, with the message type that it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Channel {
    Trades,
    Quotes,
    Bars,
    UpdatedBars,
    DailyBars,
    Statuses,
    Lulds,
    Imbalances,
    Orderbooks,
    Pricing,
    News,
    Corrections,
    CancelErrors,
}

impl Channel {
    /// Every channel, in the order in which acknowledgements list them.
    pub(crate) const ALL: [Channel; 13] = [
        Channel::Trades,
        Channel::Quotes,
        Channel::Bars,
        Channel::UpdatedBars,
        Channel::DailyBars,
        Channel::Statuses,
        Channel::Lulds,
        Channel::Imbalances,
        Channel::Orderbooks,
        Channel::Pricing,
        Channel::News,
        Channel::Corrections,
        Channel::CancelErrors,
    ];

    /// The name in subscribe messages and acknowledgements.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Channel::Trades => "trades",
            Channel::Quotes => "quotes",
            Channel::Bars => "bars",
            Channel::UpdatedBars => "updatedBars",
            Channel::DailyBars => "dailyBars",
            Channel::Statuses => "statuses",
            Channel::Lulds => "lulds",
            Channel::Imbalances => "imbalances",
            Channel::Orderbooks => "orderbooks",
            Channel::Pricing => "pricing",
            Channel::News => "news",
            Channel::Corrections => "corrections",
            Channel::CancelErrors => "cancelErrors",
        }
    }

    /// The value of `T` in the elements of this channel.
    pub(crate) fn letter(self) -> &'static str {
        match self {
            Channel::Trades => "t",
            Channel::Quotes => "q",
            Channel::Bars => "b",
            Channel::UpdatedBars => "u",
            Channel::DailyBars => "d",
            Channel::Statuses => "s",
            Channel::Lulds => "l",
            Channel::Imbalances => "i",
            Channel::Orderbooks => "o",
            Channel::Pricing => "p",
            Channel::News => "n",
            Channel::Corrections => "c",
            Channel::CancelErrors => "x",
        }
    }

    /// The channel of this name, if there is one.
    pub(crate) fn from_name(name: &str) -> Option<Channel> {
        Channel::ALL.into_iter().find(|c| c.name() == name)
    }

    /// The channel whose elements carry this `T`, if there is one.
    pub(crate) fn from_letter(letter: &str) -> Option<Channel> {
        Channel::ALL.into_iter().find(|c| c.letter() == letter)
    }

    /// True for the two channels that follow `trades` by themselves and are never asked for.
    pub(crate) fn is_managed(self) -> bool {
        matches!(self, Channel::Corrections | Channel::CancelErrors)
    }
}
