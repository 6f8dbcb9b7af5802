//! What the lease does to a pump: without it there is no connection, whatever is wanted, and that is no pause.

use alpaca_feed::lifecycle::Phase;
use tokio::time::Instant;

use super::{Pause, Pump, now};
use crate::lease::Tenure;
use crate::sink::Part;

impl Pump {
    /// Looks whether the lease is ours: closes without it, dials with it.
    pub(super) fn mind_lease(&mut self) {
        let leased = self.wiring.fence.may_write() && self.remembers();
        if self.leaving || std::mem::replace(&mut self.leased, leased) == leased || !self.state.wanted {
            return;
        }
        self.account.stale = true;
        self.state.was_live = false;
        self.state.refused = false;
        self.lifecycle.handle_wanted(now(), leased);
        if !leased {
            self.begin_pause(Instant::now(), Part { job: self.id, symbols: None });
            self.pause = self.pause.take().map(|pause| Pause { unleased: true, ..pause });
        } else if self.pause.as_ref().is_some_and(|pause| pause.unleased) {
            self.begin_pause_of_part(Instant::now());
        }
    }

    /// Whether this pause is over the lease, and not that of an operator or of a stop.
    pub(super) fn is_unleased(&self, pause: &Pause) -> bool {
        pause.unleased && self.state.phase == Phase::Halted
    }

    /// Why there is no connection.
    pub(super) fn waits_for_lease(&self) -> String {
        match &*self.wiring.tenure.borrow() {
            Tenure::Waiting(why) => why.to_string(),
            Tenure::Held => "waits for the lease: it was not renewed in time".to_owned(),
        }
    }
}
