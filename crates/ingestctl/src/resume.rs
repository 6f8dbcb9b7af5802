//! `resume`: releases holds, and tells whether data flow again or who still holds them.

use std::collections::BTreeSet;

use ingest_status::{Heartbeat, HoldReport};
use ingest_switch::Scope;
use market_ingest::control::{ControlReading, ResumeRequest};
use serde_json::json;
use tokio::time::Instant;

use crate::answer::{Answer, Exit, Failure};
use crate::arguments::{Resume, actor};
use crate::effect::{Change, Mark, Verb, is_closed};
use crate::overlap::{Overlap, overlap};
use crate::pause::scopes;
use crate::remote::{NotResumed, Remote, Seen, Written};
use crate::verify::{self, Verified};
use crate::{paint, shape};

/// Runs it.
pub(crate) async fn run(remote: &Remote, resume: Resume) -> Result<Answer, Failure> {
    let before = remote.observe().await?;
    let named = if resume.scopes.is_empty() && !resume.holds.is_empty() {
        Vec::new()
    } else {
        scopes(&resume.scopes)
    };
    let request = ResumeRequest { scopes: named, holds: resume.holds, actor: actor(resume.actor) };
    let control = remote.control().await?;
    let covered = covered(&request, before.beat(), control.as_ref());
    let written = match remote.resume(&request).await {
        Ok(written) => written,
        Err(NotResumed::Failed(failure)) => return Err(failure),
        Err(NotResumed::Nothing(sentence, others)) => {
            return Err(Failure::refused(refusal(&sentence, &others, &request, before.beat())));
        }
    };
    let since = Instant::now();
    let closed_before = before.beat().into_iter().flat_map(|beat| &beat.jobs);
    let change = Change {
        verb: Verb::Resume,
        generation: written.generation,
        holds: written.holds.clone(),
        scopes: covered,
        before: before.beat().filter(|_| written.news).map(Mark::of),
        closed_before: closed_before
            .filter(|(_, job)| is_closed(job))
            .map(|(name, _)| name.clone())
            .collect(),
    };
    if !before.is_alive() {
        return Ok(unseen(&written, &before, Exit::NoProducer));
    }
    if resume.wait.is_zero() {
        return Ok(unseen(&written, &before, Exit::NotEffective));
    }
    let verified = verify::wait(remote, &change, before, since, resume.wait).await;
    Ok(answer(&written, &change, &verified))
}

/// What the released holds cover: what was named, and what the named holds cover.
fn covered(
    request: &ResumeRequest,
    beat: Option<&Heartbeat>,
    control: Option<&ControlReading>,
) -> Vec<Scope> {
    let mut covered = request.scopes.clone();
    for id in &request.holds {
        let read = control.and_then(|read| read.holds.get(id)?.as_ref().ok()).map(|hold| hold.scope.clone());
        let told = || {
            let hold = beat?.holds.iter().find(|hold| hold.source.strip_prefix("control:") == Some(id))?;
            hold.scope.parse().ok()
        };
        covered.extend(read.or_else(told));
    }
    covered
}

/// Why nothing was released, and what to do instead, as command lines where there are any.
fn refusal(sentence: &str, others: &[String], request: &ResumeRequest, beat: Option<&Heartbeat>) -> String {
    let mut text = format!("nothing was released: {sentence}");
    let standing = beat.map(|beat| beat.holds.as_slice()).unwrap_or_default();
    let touched = |hold: &&HoldReport| {
        let Ok(scope) = hold.scope.parse::<Scope>() else { return true };
        request.scopes.is_empty() || request.scopes.iter().any(|own| overlap(&scope, own) != Overlap::None)
    };
    let mut ids: BTreeSet<&str> = others.iter().map(String::as_str).collect();
    for hold in standing.iter().filter(touched) {
        match hold.source.split_once(':') {
            Some(("control", id)) => {
                ids.insert(id);
            }
            _ => {
                text.push_str(&format!("\n  {} holds {}: {}", hold.source, hold.scope, remedy(&hold.source)))
            }
        }
    }
    if !ids.is_empty() {
        let arguments = ids.iter().map(|id| format!(" --hold {}", paint::shell_word(id))).collect::<String>();
        text.push_str(&format!(
            "\nto release what others hold there, on purpose:\n  ingestctl resume{arguments}"
        ));
    } else if standing.is_empty() {
        text.push_str(
            "\nthe heartbeat shows no hold at all; what the producer does, tells: ingestctl status",
        );
    }
    text
}

/// Where a hold that is not in the control document is released.
fn remedy(source: &str) -> String {
    match source.split_once(':') {
        Some(("file", path)) => {
            format!("where the file is, ingestctl flag set on {}", paint::shell_word(path))
        }
        Some(("env", name)) => format!("start the producer without {name}, or with {name}=1"),
        Some(("signal", _)) => "send the producer's process SIGUSR2".to_owned(),
        Some(("schedule", _)) => "it ends by the clock, or with another INGEST_SCHEDULE".to_owned(),
        _ => "it is released where it was placed".to_owned(),
    }
}

/// The answer when nothing was waited for.
fn unseen(written: &Written, seen: &Seen, exit: Exit) -> Answer {
    let released = shape::released(&written.holds);
    let verdict = seen.verdict();
    let text = if exit == Exit::NoProducer {
        let head = paint::styled(paint::BAD, "no live producer");
        format!("{head}: {}\n{released} all the same\n", paint::line(&verdict.sentence))
    } else {
        format!(
            "{}: {released}; it was not waited for\n",
            paint::styled(paint::HELD, "accepted, not verified")
        )
    };
    let json = json!({
        "holds": written.holds,
        "generation": written.generation,
        "effective": false,
        "waited_s": null,
        "waiting_for": [],
        "still_held_by": [],
        "partly_held_by": [],
        "jobs": null,
        "verdict": shape::verdict(&verdict),
    });
    Answer { exit, text, json }
}

fn answer(written: &Written, change: &Change, verified: &Verified) -> Answer {
    let released = shape::released(&written.holds);
    let verdict = verified.seen.verdict();
    let took = verified.elapsed.as_secs_f64();
    let now = verified.seen.read_at();
    let effective = verified.missing.is_empty();
    let (whole, part) = match verified.seen.beat() {
        Some(beat) if effective => change.still_held(beat),
        _ => (Vec::new(), Vec::new()),
    };
    let exit = match (effective, verified.left()) {
        (true, _) if whole.is_empty() => Exit::Effective,
        (true, _) | (false, false) => Exit::NotEffective,
        (false, true) => Exit::NoProducer,
    };
    let mut text = match (effective, whole.is_empty()) {
        (true, true) => {
            format!(
                "{}: {released} and data flow, seen after {took:.2} s\n",
                paint::styled(paint::GOOD, "resumed")
            )
        }
        (true, false) => {
            let head = paint::styled(paint::HELD, "still held");
            format!(
                "{head}: {released}, seen after {took:.2} s, but others hold the same, so data do not flow\n"
            )
        }
        (false, _) if verified.left() => {
            let head = paint::styled(paint::BAD, "no live producer");
            format!("{head}: {}\n{released} all the same\n", paint::line(&verdict.sentence))
        }
        (false, _) => {
            let head = paint::styled(paint::BAD, "not effective");
            format!("{head}: {released}, but after {} data do not flow\n", paint::span(took))
        }
    };
    for missing in &verified.missing {
        text.push_str(&format!("  waiting for {}\n", paint::line(missing)));
    }
    if !whole.is_empty() {
        shape::holds(whole.iter().copied(), now).write(&mut text, 2);
        for hold in &whole {
            let how = match hold.source.strip_prefix("control:") {
                Some(id) => format!("ingestctl resume --hold {}", paint::shell_word(id)),
                None => remedy(&hold.source),
            };
            text.push_str(&format!("  to release {}: {}\n", paint::line(&hold.source), paint::line(&how)));
        }
    }
    if !part.is_empty() {
        text.push_str("note: some of it is held by others still\n");
        shape::holds(part.iter().copied(), now).write(&mut text, 2);
    }
    for (name, job) in verified.seen.beat().into_iter().flat_map(|beat| &beat.jobs) {
        text.push_str(&format!("  job {}: {}\n", paint::line(name), paint::line(&crate::effect::phase(job))));
    }
    let json = json!({
        "holds": written.holds,
        "generation": written.generation,
        "effective": effective,
        "waited_s": took,
        "waiting_for": verified.missing,
        "still_held_by": whole,
        "partly_held_by": part,
        "jobs": shape::closing(verified),
        "verdict": shape::verdict(&verdict),
    });
    Answer { exit, text, json }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn beat(holds: &[(&str, &str)]) -> Heartbeat {
        let holds: Vec<_> = holds
            .iter()
            .map(|(source, scope)| json!({ "source": source, "scope": scope, "since": "2026-01-01T00:00:00Z" }))
            .collect();
        serde_json::from_value(json!({
            "status": "running", "ts": "2026-01-01T00:00:10Z", "ingest_enabled": true, "ingest_enabled_source": null,
            "last_symbol": null, "holds": holds,
        }))
        .unwrap()
    }

    fn request(scopes: &[&str], holds: &[&str]) -> ResumeRequest {
        ResumeRequest {
            scopes: scopes.iter().map(|scope| scope.parse().unwrap()).collect(),
            holds: holds.iter().map(|id| (*id).to_owned()).collect(),
            actor: None,
        }
    }

    #[test]
    fn a_refusal_names_the_command_that_would_do_it() {
        let beat =
            beat(&[("control:all-ann", "all"), ("file:/flags/f", "all"), ("control:job-sip-bob", "job:sip")]);
        let text =
            refusal("all is held by others", &["all-ann".to_owned()], &request(&["all"], &[]), Some(&beat));
        assert!(text.contains("ingestctl resume --hold all-ann --hold job-sip-bob"), "{text}");
        assert!(text.contains("ingestctl flag set on /flags/f"), "{text}");
        let text = refusal("no control hold pauses job:iex", &[], &request(&["job:iex"], &[]), Some(&beat));
        assert!(text.contains("--hold all-ann") && !text.contains("job-sip-bob"), "{text}");
        let text = refusal("no control hold pauses all", &[], &request(&["all"], &[]), None);
        assert!(text.contains("shows no hold at all"), "{text}");
    }

    #[test]
    fn a_named_hold_brings_its_scope() {
        let beat = beat(&[("control:x", "job:iex"), ("control:y", "symbol:A*")]);
        assert_eq!(covered(&request(&["all"], &["x"]), Some(&beat), None), [Scope::ALL, Scope::job("iex")]);
        assert_eq!(covered(&request(&[], &["nonsense"]), Some(&beat), None), []);
    }

    #[test]
    fn every_source_has_its_remedy() {
        for (source, part) in [
            ("file:/a", "flag set on /a"),
            ("env:INGEST_ENABLED", "INGEST_ENABLED=1"),
            ("signal:SIGUSR1", "SIGUSR2"),
            ("schedule:daily", "clock"),
            ("what", "where it was placed"),
        ] {
            assert!(remedy(source).contains(part), "{source}");
        }
    }
}
