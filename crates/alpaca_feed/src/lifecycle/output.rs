//! What the machine wants done and what it has to tell, in queues that the shell empties.
//!
//! Invariant: a queued command that no longer applies is withdrawn, so what the shell polls is always still right: no
//! send on a connection that is closing or gone, no dial that was called off.

use std::collections::VecDeque;
use std::time::Duration;

use super::{ConnId, Failure};
use crate::backoff::Pace;
use crate::disposition::Disposition;
use crate::subscription::Subscriptions;

/// What the shell must do next, in order.
#[derive(Clone, Eq, PartialEq, Hash, Debug)]
pub enum Command {
    /// Begin to connect; answer with `handle_dialed` or `handle_dial_failed`.
    Dial(ConnId),
    /// Say this on the open connection; if that fails, answer with `handle_closed`.
    Send(ConnId, Outgoing),
    /// Send a close frame and wait for the end; answer with `handle_closed`.
    Close(ConnId),
    /// Drop it as it stands, dialing or open; it counts as gone at once and needs no answer.
    Abort(ConnId),
}

impl Command {
    /// The connection it is about.
    #[must_use]
    pub fn conn(&self) -> ConnId {
        match self {
            Self::Dial(conn) | Self::Send(conn, _) | Self::Close(conn) | Self::Abort(conn) => *conn,
        }
    }
}

/// What to say to the venue; the shell adds the credentials.
#[derive(Clone, Eq, PartialEq, Hash, Debug)]
pub enum Outgoing {
    /// Authenticate.
    Auth,
    /// Add these pairs; never empty.
    Subscribe(Subscriptions),
    /// Take these pairs away; never empty.
    Unsubscribe(Subscriptions),
    /// A WebSocket ping.
    Ping,
}

/// What happened, for logs, metrics and conditions.
#[derive(Clone, Eq, PartialEq, Hash, Debug)]
pub enum Notice {
    /// Authenticated and subscribed; data flows.
    Live {
        /// The connection.
        conn: ConnId,
        /// Since its dial began.
        took: Duration,
        /// Failures since health was last proven.
        attempts: u32,
    },
    /// The venue sent an error.
    Rejected {
        /// The connection.
        conn: ConnId,
        /// The venue's code.
        code: u16,
        /// The venue's text.
        msg: String,
        /// What is done about it.
        disposition: Disposition,
    },
    /// All requests are answered, or overdue, and the venue's state is not what is desired.
    Mismatch {
        /// Desired and not subscribed.
        missing: Subscriptions,
        /// Subscribed and not desired.
        extra: Subscriptions,
    },
    /// An open connection failed; not told when we end it because it is not wanted.
    Disconnected {
        /// The connection.
        conn: ConnId,
        /// Why.
        cause: Failure,
    },
    /// Another connection has held the slot for longer than an overlap of two revisions explains: a person must look.
    /// Told once until the slot is ours or the job is paused; it is asked for all the same.
    SlotContested {
        /// From the first refusal to this one.
        since: Duration,
    },
    /// No connection for now; the next dial comes after `delay`.
    BackingOff {
        /// Failures since health was last proven.
        attempt: u32,
        /// From now.
        delay: Duration,
        /// The class of the delay; [`Pace::Refused`] wants a person.
        pace: Pace,
        /// The failure that caused it.
        reason: Failure,
    },
}

/// The two queues.
#[derive(Clone, Eq, PartialEq, Hash, Default, Debug)]
pub(crate) struct Outbox {
    commands: VecDeque<Command>,
    notices: VecDeque<Notice>,
}

impl Outbox {
    pub(crate) fn dial(&mut self, conn: ConnId) {
        self.commands.push_back(Command::Dial(conn));
    }

    pub(crate) fn send(&mut self, conn: ConnId, outgoing: Outgoing) {
        self.commands.push_back(Command::Send(conn, outgoing));
    }

    /// Closes `conn` in place of whatever else was still to be done on it.
    pub(crate) fn close(&mut self, conn: ConnId) {
        self.withdraw(conn);
        self.commands.push_back(Command::Close(conn));
    }

    /// Aborts `conn` in place of whatever else was still to be done on it; calls off a dial that nobody has seen.
    pub(crate) fn abort(&mut self, conn: ConnId) {
        let dial_unseen = self.commands.contains(&Command::Dial(conn));
        self.withdraw(conn);
        if !dial_unseen {
            self.commands.push_back(Command::Abort(conn));
        }
    }

    /// Takes back every command for `conn`.
    pub(crate) fn withdraw(&mut self, conn: ConnId) {
        self.commands.retain(|command| command.conn() != conn);
    }

    pub(crate) fn tell(&mut self, notice: Notice) {
        self.notices.push_back(notice);
    }

    pub(crate) fn next_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    pub(crate) fn next_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    pub(crate) fn commands(&self) -> impl Iterator<Item = &Command> {
        self.commands.iter()
    }
}

#[cfg(test)]
impl Outbox {
    /// For the search: gives every connection another name.
    pub(crate) fn rename(&mut self, rename: impl Fn(ConnId) -> ConnId) {
        for command in &mut self.commands {
            match command {
                Command::Dial(conn)
                | Command::Send(conn, _)
                | Command::Close(conn)
                | Command::Abort(conn) => {
                    *conn = rename(*conn);
                }
            }
        }
    }
}
