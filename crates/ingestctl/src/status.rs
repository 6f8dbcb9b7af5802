//! `status` and `jobs`: whether the producer lives, what holds it, what its jobs do; once, or until Ctrl-C.

use std::io::{IsTerminal as _, Write as _};

use ingest_status::{ConditionStatus, Heartbeat, Standing, Timestamp};
use market_ingest::control::ControlReading;
use serde_json::{Value, json};

use crate::answer::{self, Answer, Exit, Failure};
use crate::remote::{Remote, Seen};
use crate::{paint, shape};

/// Moves the cursor home and clears what is below.
const REDRAW: &str = "\u{1b}[H\u{1b}[J";

/// Looks once.
pub(crate) async fn run(remote: &Remote) -> Result<Answer, Failure> {
    let seen = remote.observe().await?;
    let control = remote.control().await?;
    Ok(answer(&seen, control.as_ref()))
}

/// Looks until Ctrl-C, or until nobody reads any more; the last look decides the exit code.
pub(crate) async fn watch(remote: &Remote, as_json: bool) -> Result<Answer, Failure> {
    let redraws = !as_json && std::io::stdout().is_terminal();
    let mut told: Option<Value> = None;
    let mut last: Result<Answer, Failure>;
    let stop = tokio::signal::ctrl_c();
    tokio::pin!(stop);
    loop {
        last = run(remote).await;
        let shown = match &last {
            Ok(answer) if redraws => {
                let frame = format!("{REDRAW}{}{} Ctrl-C ends\n", answer.text, now());
                // Straight to the terminal: it is one, so nothing is to be taken out.
                std::io::stdout().write_all(frame.as_bytes()).and_then(|()| std::io::stdout().flush())
            }
            Ok(answer) => {
                let news = what_matters(&answer.json);
                if told.as_ref() == Some(&news) {
                    Ok(())
                } else {
                    told = Some(news);
                    print_change(answer, as_json)
                }
            }
            Err(failure) => {
                let news = json!(failure.sentence);
                if told.as_ref() == Some(&news) {
                    Ok(())
                } else {
                    told = Some(news);
                    writeln!(anstream::stderr(), "ingestctl: {}", paint::plain(&failure.sentence))
                }
            }
        };
        if shown.is_err() {
            break;
        }
        tokio::select! {
            _ = &mut stop => break,
            () = tokio::time::sleep(remote.look_every()) => {}
        }
    }
    Ok(Answer::told(last.map_or_else(|failure| failure.exit, |answer| answer.exit)))
}

fn print_change(answer: &Answer, as_json: bool) -> std::io::Result<()> {
    if as_json {
        return answer::print("status", answer, true);
    }
    let first = answer.text.lines().next().unwrap_or_default();
    let mut line = format!("{} {first}", now());
    if let Some(summary) = answer.json.get("summary").and_then(Value::as_str) {
        line.push_str(&format!(" | {summary}"));
    }
    writeln!(anstream::stdout(), "{line}")
}

fn now() -> String {
    paint::whole_seconds(jiff::Timestamp::now().into())
}

/// The part of a status whose change is news: no ages, no counters.
fn what_matters(json: &Value) -> Value {
    json!([json["verdict"]["word"], json["summary"], json["holds"], json["control"]])
}

/// The jobs alone.
pub(crate) async fn jobs(remote: &Remote) -> Result<Answer, Failure> {
    let seen = remote.observe().await?;
    let verdict = seen.verdict();
    let mut text = String::new();
    if !seen.is_alive() {
        text.push_str(&shape::verdict_line(&verdict));
    }
    match seen.beat() {
        Some(beat) if !beat.jobs.is_empty() => shape::jobs(beat, seen.read_at()).write(&mut text, 0),
        _ => text.push_str("no jobs are known\n"),
    }
    let jobs = seen.beat().map(|beat| &beat.jobs);
    let exit = if seen.is_alive() { Exit::Effective } else { Exit::NoProducer };
    Ok(Answer { exit, text, json: json!({ "verdict": shape::verdict(&verdict), "jobs": jobs }) })
}

fn answer(seen: &Seen, control: Option<&ControlReading>) -> Answer {
    let verdict = seen.verdict();
    let now = seen.read_at();
    let mut text = shape::verdict_line(&verdict);
    if let Some(beat) = seen.beat() {
        whole(&mut text, beat, now);
    }
    let pending = pending(seen.beat(), control);
    for line in &pending {
        text.push_str(&format!("note: {}\n", paint::line(line)));
    }
    let exit = match verdict.standing {
        Standing::Live | Standing::Paused => Exit::Effective,
        Standing::Late | Standing::Stale | Standing::Missing | Standing::Stopped => Exit::NoProducer,
    };
    let json = json!({
        "verdict": shape::verdict(&verdict),
        "summary": seen.beat().map(summary),
        "read_at": now.to_string(),
        "heartbeat": seen.beat(),
        "holds": seen.beat().map(|beat| &beat.holds),
        "control": control.map(|read| json!({
            "generation": read.generation,
            "holds": read.holds.keys().collect::<Vec<_>>(),
            "not_understood": not_understood(read),
        })),
        "notes": pending,
    });
    Answer { exit, text, json }
}

fn whole(text: &mut String, beat: &Heartbeat, now: Timestamp) {
    let started =
        beat.started_at.map_or_else(String::new, |at| format!(", started {}", paint::time(at, now)));
    let epoch = beat.epoch.map_or_else(String::new, |epoch| format!(", holds the lease, epoch {epoch}"));
    let instance = format!("instance {}, version {}{started}{epoch}", beat.instance_id, beat.version);
    text.push_str(&format!("{}\n", paint::styled(paint::DIM, &paint::line(&instance))));
    if let Some(generation) = beat.observed_generation {
        let effective = beat.effective_generation.map_or_else(|| "none".to_owned(), |g| g.to_string());
        let told = format!("control document: generation {generation} taken up, {effective} effective");
        text.push_str(&format!("{}\n", paint::styled(paint::DIM, &told)));
    }
    if beat.holds.is_empty() {
        text.push_str("nothing is held\n");
    } else {
        text.push_str("holds\n");
        shape::holds(&beat.holds, now).write(text, 2);
    }
    if !beat.jobs.is_empty() {
        text.push_str("jobs\n");
        shape::jobs(beat, now).write(text, 2);
    }
    let odd: Vec<_> = beat.conditions.iter().filter(|c| c.status != ConditionStatus::True).collect();
    if !odd.is_empty() {
        text.push_str("conditions that are not true\n");
        let mut table = paint::Table::new(&["CONDITION", "STATUS", "SINCE", "REASON", "MESSAGE"]);
        for condition in odd {
            let (style, status) = match condition.status {
                ConditionStatus::False => (paint::HELD, "False"),
                ConditionStatus::True | ConditionStatus::Unknown => (paint::DIM, "Unknown"),
            };
            table.row([
                paint::cell(condition.kind.clone()),
                (style, status.to_owned()),
                paint::cell(paint::time(condition.last_transition_time, now)),
                paint::cell(condition.reason.clone()),
                paint::cell(condition.message.clone()),
            ]);
        }
        table.write(text, 2);
    }
}

/// What the control document asks and the heartbeat does not show yet.
fn pending(beat: Option<&Heartbeat>, control: Option<&ControlReading>) -> Vec<String> {
    let Some(read) = control else { return Vec::new() };
    let mut notes = Vec::new();
    let effective = beat.and_then(|beat| beat.effective_generation);
    if let Some(generation) = read.generation
        && effective.is_none_or(|effective| effective < generation)
    {
        let is = effective.map_or_else(|| "no generation".to_owned(), |g| format!("generation {g}"));
        notes.push(format!("the control document is at generation {generation}, of which {is} is effective"));
    }
    let shown = |id: &str| {
        beat.is_some_and(|beat| {
            beat.holds.iter().any(|hold| hold.source.strip_prefix("control:") == Some(id))
        })
    };
    let now = jiff::Timestamp::now().into();
    for (id, hold) in &read.holds {
        if let Ok(hold) = hold
            && hold.until.is_none_or(|until| until > now)
            && !shown(id)
        {
            notes.push(format!("the hold {id} on {} is asked for and not taken up", hold.scope));
        }
    }
    notes.extend(not_understood(read));
    notes
}

fn not_understood(read: &ControlReading) -> Vec<String> {
    let mut faults: Vec<String> =
        read.garbled.iter().map(|why| format!("the control document is not understood: {why}")).collect();
    for (id, hold) in &read.holds {
        if let Err(why) = hold {
            faults.push(format!("the hold {id} in the control document is not understood: {why}"));
        }
    }
    faults
}

/// The jobs in one line.
fn summary(beat: &Heartbeat) -> String {
    let job = |(name, job): (&String, &ingest_status::JobReport)| {
        format!("{} {}", paint::line(name), paint::line(&crate::effect::phase(job)))
    };
    let mut parts: Vec<String> = beat.jobs.iter().map(job).collect();
    parts.extend(
        beat.holds.iter().map(|hold| paint::line(&format!("held by {} on {}", hold.source, hold.scope))),
    );
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use market_ingest::control::ControlHold;
    use market_ingest::store::Observed;

    use super::*;

    fn seen(beat: Value) -> Seen {
        let beat: Heartbeat = serde_json::from_value(beat).unwrap();
        let read_at = beat.ts;
        Seen { observed: Observed { tenant: None, heartbeat: Some(Ok(beat)), read_at }, wedged: None }
    }

    fn running() -> Value {
        json!({
            "status": "running", "ts": "2026-01-01T00:00:10Z", "ingest_enabled": true, "ingest_enabled_source": null,
            "last_symbol": null, "observed_generation": 3, "effective_generation": 3,
            "holds": [{ "source": "control:x", "scope": "symbol:A*", "since": "2026-01-01T00:00:00Z",
                        "reason": "odd \u{1b}[31mprices", "actor": "ann" }],
            "jobs": { "iex": { "status": "running", "since": "2026-01-01T00:00:00Z", "phase": "live",
                               "connected": true, "subscribed": 3, "messages": 12, "paused_symbols": ["AAPL"] } },
            "conditions": [
                { "type": "FlagFresh", "status": "False", "reason": "LastDecisionStands", "message": "gone",
                  "lastTransitionTime": "2026-01-01T00:00:00Z" },
                { "type": "Connected", "status": "True", "reason": "Live", "message": "",
                  "lastTransitionTime": "2026-01-01T00:00:00Z" }],
        })
    }

    #[test]
    fn the_first_line_is_the_verdict_and_the_rest_is_what_matters() {
        let answer = answer(&seen(running()), None);
        let text = anstream::adapter::strip_str(&answer.text).to_string();
        assert!(text.starts_with("live, heard of 0.0 s ago\n"), "{text}");
        for part in
            ["control:x", "symbol:A*", "ann", "10.0 s ago", "FlagFresh", "AAPL", "generation 3 taken up"]
        {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
        assert!(!text.contains("Connected"), "{text}");
        assert!(!answer.text.contains("\u{1b}[31mprices"), "a reason steers the terminal");
        assert_eq!(answer.exit, Exit::Effective);
    }

    #[test]
    fn what_is_asked_and_not_shown_is_told() {
        let scope = "all".parse().unwrap();
        let hold = ControlHold { scope, reason: None, actor: None, since: None, until: None };
        let read = ControlReading {
            generation: Some(5),
            holds: [
                ("all-bob".to_owned(), Ok(hold)),
                ("bad".to_owned(), Err("\"evrything\" is no scope".to_owned())),
            ]
            .into(),
            garbled: None,
        };
        let notes = answer(&seen(running()), Some(&read)).json["notes"].to_string();
        for part in ["at generation 5, of which generation 3", "all-bob on all is asked for", "evrything"] {
            assert!(notes.contains(part), "{part} is missing in {notes}");
        }
    }

    #[test]
    fn live_and_paused_are_well_and_all_else_is_not() {
        let mut beat = running();
        for (field, value, exit) in [
            ("seq", json!(1), Exit::Effective),
            ("ingest_enabled", json!(false), Exit::NoProducer),
            ("status", json!("paused"), Exit::Effective),
            ("stopped_at", json!("2026-01-01T00:00:10Z"), Exit::NoProducer),
        ] {
            beat[field] = value;
            assert_eq!(answer(&seen(beat.clone()), None).exit, exit, "{field}");
        }
        let observed = Observed { tenant: None, heartbeat: None, read_at: seen(running()).read_at() };
        assert_eq!(answer(&Seen { observed, wedged: None }, None).exit, Exit::NoProducer);
        let wedged = Seen { wedged: Some("the job iex does not turn".to_owned()), ..seen(running()) };
        assert_eq!(answer(&wedged, None).exit, Exit::NoProducer);
    }
}
