//! The log records by which an operator follows the switch.

use std::collections::HashMap;
use std::fmt::Write as _;

use tracing::{debug, info, warn};

use crate::hold::{Hold, Source};
use crate::hold_set::{Decision, Edge};
use crate::observation::Warning;

pub(super) fn warning(warning: &Warning) {
    warn!(target: "ingest_switch", source = warning.source.as_str(), "{warning}");
}

pub(super) fn initial(decision: &Decision) {
    let named = decision.holds.iter().find(|hold| Some(&hold.source) == decision.source.as_ref());
    let hold = named.or(decision.holds.first());
    info!(
        target: "ingest_switch",
        status = "initial",
        ingest_enabled = decision.enabled,
        ingest_enabled_source = decision.source.as_ref().map(Source::as_str),
        holds = list(&decision.holds),
        reason = hold.and_then(|hold| hold.reason.as_deref()),
        actor = hold.and_then(|hold| hold.actor.as_deref()),
        "ingest_switch"
    );
}

/// One decision follows another: by an edge, or else by holds that came and went.
pub(super) fn change(before: &Decision, now: &Decision, edge: Option<&Edge>) {
    if let Some(edge) = edge.filter(|_| before.enabled != now.enabled) {
        return crossed(edge, now);
    }
    let held: HashMap<_, _> = before.holds.iter().map(|hold| (&hold.source, hold)).collect();
    let holding: HashMap<_, _> = now.holds.iter().map(|hold| (&hold.source, hold)).collect();
    for hold in before.holds.iter().filter(|hold| !holding.contains_key(&hold.source)) {
        hold_changed("hold_released", hold);
    }
    for hold in &now.holds {
        // Also with other words: a file that is written in pieces says off first, and who and why a moment later.
        let same = held.get(&hold.source).is_some_and(|was| told_of(was) == told_of(hold));
        if !same {
            hold_changed("hold_placed", hold);
        }
    }
    debug!(
        target: "ingest_switch",
        holds = list(&now.holds),
        flag_fresh = now.flag_fresh,
        generation = now.generation,
        "holds changed"
    );
}

fn told_of(hold: &Hold) -> impl PartialEq + '_ {
    (hold.since, &hold.scope, &hold.reason, &hold.actor, hold.until)
}

fn hold_changed(what: &'static str, hold: &Hold) {
    info!(
        target: "ingest_switch",
        source = hold.source.as_str(),
        scope = %hold.scope,
        reason = hold.reason.as_deref(),
        actor = hold.actor.as_deref(),
        until = hold.until.map(tracing::field::display),
        "{what}"
    );
}

fn crossed(edge: &Edge, decision: &Decision) {
    let source = decision.source.as_ref().map(Source::as_str);
    match edge {
        Edge::Halted(hold) => warn!(
            target: "ingest_switch",
            status = "halted",
            ingest_enabled = decision.enabled,
            ingest_enabled_source = source,
            holds = list(&decision.holds),
            reason = hold.reason.as_deref(),
            actor = hold.actor.as_deref(),
            "ingest_switch"
        ),
        Edge::Resumed { released, reason, actor } => info!(
            target: "ingest_switch",
            status = "resumed",
            ingest_enabled = decision.enabled,
            ingest_enabled_source = source,
            holds = list(&decision.holds),
            released = %released,
            reason = reason.as_deref(),
            actor = actor.as_deref(),
            "ingest_switch"
        ),
    }
}

/// The holds in one line, `[…; …]`.
fn list(holds: &[Hold]) -> String {
    let mut line = String::from("[");
    for (at, hold) in holds.iter().enumerate() {
        let separator = if at == 0 { "" } else { "; " };
        // Writing to a string does not fail.
        let _ = write!(line, "{separator}{hold}");
    }
    line.push(']');
    line
}
