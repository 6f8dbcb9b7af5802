//! Why a connection did not come about or did not last, in words that a heartbeat can show.

use super::Stage;
use crate::backoff::Pace;
use crate::disposition::Disposition;

/// Why no connection came about; given by the shell.
#[derive(Clone, Eq, PartialEq, Hash, Debug, thiserror::Error)]
pub enum DialFailure {
    /// The upgrade was answered by this HTTP status instead of 101.
    #[error("the upgrade was refused with HTTP {0}")]
    Http(u16),
    /// Name look-up, TCP, TLS or the upgrade failed otherwise.
    #[error("unreachable: {0}")]
    Unreachable(String),
}

/// How an open connection ended; given by the shell. A send that failed ends it too.
#[derive(Clone, Eq, PartialEq, Hash, Debug, thiserror::Error)]
pub enum Closed {
    /// By a close frame of the venue.
    #[error("closed by the venue with code {code} {reason:?}")]
    Frame {
        /// WebSocket status code; 1005 if the frame had none.
        code: u16,
        /// Its text, often empty.
        reason: String,
    },
    /// The stream ended without a close frame, which is how Alpaca always ends it.
    #[error("ended by the venue without a close frame")]
    End,
    /// A transport or protocol error.
    #[error("lost: {0}")]
    Lost(String),
}

/// Why an attempt or a connection failed; its text is one clause for people.
#[derive(Clone, Eq, PartialEq, Hash, Debug, thiserror::Error)]
pub enum Failure {
    /// The dial failed.
    #[error(transparent)]
    Dial(DialFailure),
    /// The dial took longer than its limit.
    #[error("the dial took too long")]
    DialTimeout,
    /// The venue did not answer within the limit of this stage.
    #[error("no answer in stage {0}")]
    Stalled(Stage),
    /// Not a sign of life, not even to our ping.
    #[error("the link went silent")]
    LinkSilent,
    /// Alive, and no data where some should come.
    #[error("mute: the link is alive and no data comes")]
    Mute,
    /// Alive, and what comes is old.
    #[error("lagging: what comes is old")]
    Lagging,
    /// The venue refused and the connection was given up.
    #[error("refused with code {code} {msg:?}")]
    Rejected {
        /// The venue's code.
        code: u16,
        /// The venue's text.
        msg: String,
    },
    /// Another connection of this account holds the slot.
    #[error("another connection holds the slot, {refusals} refusals (code 406)")]
    SlotTaken {
        /// How often this connection was told so.
        refusals: u32,
    },
    /// The open connection ended unasked.
    #[error(transparent)]
    Closed(Closed),
}

impl Failure {
    /// How long to stay away after it.
    #[must_use]
    pub fn pace(&self) -> Pace {
        match self {
            Self::Dial(DialFailure::Http(status)) => Disposition::of_http(*status).pace(),
            Self::Rejected { code, .. } => Disposition::of_code(*code).pace(),
            Self::SlotTaken { .. } => Pace::SlotTaken,
            Self::Dial(DialFailure::Unreachable(_))
            | Self::DialTimeout
            | Self::Stalled(_)
            | Self::LinkSilent
            | Self::Mute
            | Self::Lagging
            | Self::Closed(_) => Pace::Jittered,
        }
    }
}
