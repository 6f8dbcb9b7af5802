//! What a pump shows of itself: its state, that a pause is complete, and that a decision is effective.
//!
//! Invariant: nothing is shown as paused or effective before it is.

use std::time::Duration;

use alpaca_feed::lifecycle::Phase;
use tokio::time::Instant;

use super::{Drained, Pump, now_utc};

/// Counters are shown this often; changes in kind at once.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(100);

impl Pump {
    /// Shows the present state: at once when it changed in kind, else now and then. The heartbeat is
    /// woken only by what it should say at once.
    pub(super) fn publish(&mut self) {
        let phase_before = std::mem::replace(&mut self.state.phase, self.lifecycle.phase());
        let reason = match (&self.held_because, self.lifecycle.reason()) {
            (None, _) if !self.leased => Some(self.waits_for_lease()),
            (None, Some(failure)) => Some(failure.to_string()),
            (None, None) if self.lifecycle.is_settled() && !self.awaited.is_empty() => {
                let first =
                    self.awaited.iter().next().map(|(channel, symbol)| format!("{channel} of {symbol}"));
                let (count, first) = (self.awaited.len(), first.unwrap_or_default());
                Some(format!("the venue does not grant {count} of what was resumed, such as {first}"))
            }
            (because, _) => because.clone(),
        };
        let reason_before = std::mem::replace(&mut self.state.reason, reason);
        self.tell_pause();
        self.tell_effect();
        let now = Instant::now();
        let aspect = self.state.aspect();
        let changed = aspect != self.shown;
        let same = !changed && self.state.phase == phase_before && self.state.reason == reason_before;
        if same && now < self.shown_at + PUBLISH_INTERVAL {
            return;
        }
        if aspect.status != self.shown.status {
            self.state.since = now_utc();
        }
        self.shown = aspect;
        self.shown_at = now;
        self.state.subscribed = self.lifecycle.subscribed().len() as u64;
        self.state.last_symbol = self.last_symbol.map(|symbol| self.wiring.symbols.name(symbol));
        self.state.tick = now.into_std();
        self.wiring.state.send_replace(self.state.clone());
        if changed {
            self.wiring.edges.notify_one();
        }
    }

    /// Logs a pause or stop once, when its effect is complete.
    fn tell_pause(&mut self) {
        let resting = matches!(self.state.phase, Phase::Halted | Phase::Stopped);
        let Some(pause) = self.pause.take_if(|pause| self.state.drained && (resting || !pause.whole)) else {
            return;
        };
        let job = &*self.state.name;
        let effect = pause.decided_at.elapsed();
        let effect_ms = milliseconds(effect);
        let Drained { delivered, dropped } = pause.drained;
        self.state.messages_drained = delivered;
        if !pause.whole {
            let paused_symbols = self.state.paused_symbols.len();
            tracing::info!(job, paused_symbols, effect_ms, delivered, dropped, "job_partly_held");
            return;
        }
        if self.is_unleased(&pause) {
            tracing::warn!(job, effect_ms, delivered, dropped, "job_without_lease");
            return;
        }
        self.state.pause_effect_s = Some(effect.as_secs_f64());
        let last_record =
            self.last_record_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(pause.decided_at));
        let stopping = self.state.phase == Phase::Stopped;
        if !stopping {
            self.state.pauses += 1;
            self.state.paused_at = Some(now_utc());
        }
        let last_record_ms = milliseconds(last_record);
        tracing::info!(job, stopping, effect_ms, last_record_ms, delivered, dropped, "job_at_rest");
    }

    /// Shows the last decision as effective once it is: what it holds is at rest, what it resumed is live.
    fn tell_effect(&mut self) {
        if !self.awaited.is_empty() && self.lifecycle.is_settled() {
            self.awaited = self.awaited.difference(self.lifecycle.subscribed());
        }
        // What this process does is the effect only while it is the one that ingests.
        let Some(decided) = self.decided.as_ref().filter(|_| self.leased || self.leaving) else { return };
        let at_rest = if self.state.wanted {
            // A link that was lost after the effect does not undo it; requests in flight are part of it.
            self.state.drained && (!self.lifecycle.is_live() || self.lifecycle.is_settled())
        } else {
            self.state.paused()
        };
        if at_rest {
            if self.state.at_rest_seq.replace(decided.seq) != Some(decided.seq) {
                self.state.at_rest_at = Some(now_utc());
            }
            self.state.at_rest_generation = decided.decision.generation;
        }
        let effective = at_rest && self.awaited.is_empty();
        if !effective || self.state.effective_seq == Some(decided.seq) {
            return;
        }
        self.state.effective_seq = Some(decided.seq);
        self.state.effective_generation = decided.decision.generation;
        if self.state.wanted
            && let Some(paused_at) = self.state.paused_at.take()
        {
            self.state.resumes += 1;
            self.state.pause_durations.observe(now_utc().seconds_since(paused_at));
        }
    }
}

/// With three decimals: microseconds.
fn milliseconds(span: Duration) -> f64 {
    span.as_micros() as f64 / 1e3
}
