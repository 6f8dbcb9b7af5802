//! Faults that fall on a session at a moment: errors, cuts, and a host that is gone.

use crate::channel::Channel;
use crate::connection::Connection;
use crate::control_message::Reply;
use crate::fault::FaultKind;
use crate::journal::{ClosedBy, EventKind};
use crate::mangle::{DOOMED, Piece, huge_news};

impl Connection {
    /// Lets the faults strike that are due after this many elements.
    #[expect(clippy::wildcard_enum_match_arm, reason = "only events are taken")]
    pub(super) fn strike(&mut self) -> Option<ClosedBy> {
        self.session.seat()?;
        let after = self.weather.next_event?;
        // The reply to auth, or the exact number of elements asked for, must be out before the blow falls.
        let exact = self.messages == 0 || (self.messages == after && self.at_cut());
        if self.closing.is_some() || after > self.messages || (exact && self.outbox.backlog() > 0) {
            return None;
        }
        let fault = self.weather.take_event(self.messages)?;
        self.note(EventKind::Fault { fault: fault.name() });
        match fault {
            FaultKind::Error { code, .. } => {
                self.note(EventKind::ErrorSent { code });
                self.say(&Reply::Error(code));
            }
            FaultKind::SlowClient { .. } => self.slow_client(),
            FaultKind::Cut { rst, .. } => return Some(self.cut("fault", rst)),
            FaultKind::CutMidFrame { .. } => {
                self.outbox.payload(DOOMED);
                self.outbox.halve();
                // Nothing else waits, so the socket takes these few bytes at once.
                let _ = self.write();
                return Some(self.cut("fault", true));
            }
            FaultKind::HalfOpen { hold_slot, .. } => {
                self.dead = true;
                self.holds_slot = hold_slot;
                if !hold_slot {
                    self.session.leave_seat();
                }
            }
            FaultKind::HugeNews { bytes } => {
                let news = huge_news(bytes);
                self.send_piece(&Piece::extra("n", Channel::News, news), 0);
                self.outbox.flush();
                self.count();
            }
            _ => {}
        }
        None
    }
}
