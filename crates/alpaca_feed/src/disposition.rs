//! What to do about each refusal: the venue's error codes and the HTTP statuses of a failed upgrade, in one table.
//!
//! The codes are those of Alpaca's stream documentation and of its SDKs; only the code decides, because texts are
//! rewritten without notice. What a disposition means on a connection is up to the session; how long to stay away
//! afterwards is [`Disposition::pace`].

use crate::backoff::Pace;

/// The class of a refusal.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub enum Disposition {
    /// 400: we sent what the venue cannot read; the same frame is never sent again.
    OurFault,
    /// 401: authenticate once more on this connection, then redial.
    Reauthenticate,
    /// 402, 408, 409, 411, 412 and most HTTP 4xx: credentials, plan or configuration; check again slowly and say so loudly.
    Refused,
    /// 403: as good as authenticated.
    AlreadyAuthenticated,
    /// 404: we were slow, or sat on a taken slot; redial.
    AuthTimeout,
    /// 405: the plan's symbol limit; keep what is subscribed.
    KeepPartial,
    /// 406: another connection holds the slot; ask again on this socket until the venue drops it, never give up.
    SlotTaken,
    /// 407: we read too slowly and have lost data; redial.
    SlowClient,
    /// 410, 413: this stream has no such channel, or not in this form; go on without it.
    DropChannel,
    /// 429, mostly as an HTTP status: too many connections; stay away for long.
    SlowDown,
    /// 500, HTTP 5xx: trouble on their side; redial.
    ServerError,
    /// Any code that is not in the table; redial.
    Unlisted,
}

impl Disposition {
    /// The disposition of an error message's `code`.
    #[must_use]
    pub const fn of_code(code: u16) -> Self {
        match code {
            400 => Self::OurFault,
            401 => Self::Reauthenticate,
            402 | 408 | 409 | 411 | 412 => Self::Refused,
            403 => Self::AlreadyAuthenticated,
            404 => Self::AuthTimeout,
            405 => Self::KeepPartial,
            406 => Self::SlotTaken,
            407 => Self::SlowClient,
            410 | 413 => Self::DropChannel,
            429 => Self::SlowDown,
            500 => Self::ServerError,
            _ => Self::Unlisted,
        }
    }

    /// The disposition of an HTTP status that came in place of 101; a redirect or a page is somebody else's server
    /// and as slow to change as a wrong path.
    #[must_use]
    pub const fn of_http(status: u16) -> Self {
        match status {
            429 => Self::SlowDown,
            408 | 425 | 500..=599 => Self::ServerError,
            _ => Self::Refused,
        }
    }

    /// How long to stay away once a connection ended for this reason.
    #[must_use]
    pub const fn pace(self) -> Pace {
        match self {
            Self::OurFault | Self::Refused | Self::KeepPartial | Self::DropChannel => Pace::Refused,
            Self::SlotTaken => Pace::SlotTaken,
            Self::SlowDown => Pace::RateLimited,
            Self::Reauthenticate
            | Self::AlreadyAuthenticated
            | Self::AuthTimeout
            | Self::SlowClient
            | Self::ServerError
            | Self::Unlisted => Pace::Jittered,
        }
    }
}
