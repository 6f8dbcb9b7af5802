//! `history`, `gaps` and `fleet`: what was, what is missing, and everybody at once.

use ingest_status::{Standing, Timestamp};
use market_ingest::gaps::{GapRecord, GapState};
use market_ingest::history::PauseRecord;
use serde_json::{Value, json};

use crate::answer::{Answer, Exit, Failure};
use crate::paint::{self, Table, cell};
use crate::remote::{self, Remote};
use crate::shape;

/// Past and standing pauses, newest first.
pub(crate) async fn history(remote: &Remote, limit: u32) -> Result<Answer, Failure> {
    let pauses = remote.history(limit).await?;
    let mut text = String::new();
    if pauses.is_empty() {
        text.push_str("no pause is recorded\n");
    } else {
        past(&pauses, jiff::Timestamp::now().into()).write(&mut text, 0);
    }
    Ok(Answer {
        exit: Exit::Effective,
        text,
        json: json!({ "pauses": pauses.iter().map(record).collect::<Vec<_>>() }),
    })
}

fn past(pauses: &[PauseRecord], now: Timestamp) -> Table {
    let mut table =
        Table::new(&["PAUSED AT", "LASTED", "SCOPE", "SOURCE", "BY", "EFFECTIVE AFTER", "DRAINED", "REASON"]);
    for pause in pauses {
        let lasted = match (pause.resumed_at, pause.duration_s) {
            (None, _) => {
                (paint::HELD, format!("stands, {}", paint::span(now.seconds_since(pause.paused_at))))
            }
            (Some(_), Some(seconds)) => cell(paint::span(seconds)),
            (Some(resumed), None) => cell(paint::span(resumed.seconds_since(pause.paused_at))),
        };
        let effective = pause.effective_at.map_or_else(
            || (paint::BAD, if pause.resumed_at.is_none() { "not yet" } else { "never" }.to_owned()),
            |at| cell(format!("{:.2} s", at.seconds_since(pause.paused_at).max(0.0))),
        );
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        table.row([
            cell(paint::whole_seconds(pause.paused_at)),
            lasted,
            cell(pause.scope.clone()),
            cell(pause.source.clone()),
            cell(or_dash(&pause.actor)),
            effective,
            cell(pause.messages_drained.to_string()),
            cell(or_dash(&pause.reason)),
        ]);
    }
    table
}

fn record(pause: &PauseRecord) -> Value {
    let mut record = json!(pause);
    record["id"] = json!(pause.id);
    record
}

/// What was not received, newest first.
pub(crate) async fn gaps(remote: &Remote, limit: u32) -> Result<Answer, Failure> {
    let gaps = remote.gaps(limit).await?;
    let mut text = String::new();
    if gaps.is_empty() {
        text.push_str("no gap is recorded\n");
    } else {
        missed(&gaps).write(&mut text, 0);
    }
    let named = |gap: &GapRecord| {
        let mut named = json!(gap);
        named["id"] = json!(gap.id);
        named
    };
    Ok(Answer {
        exit: Exit::Effective,
        text,
        json: json!({ "gaps": gaps.iter().map(named).collect::<Vec<_>>() }),
    })
}

fn missed(gaps: &[GapRecord]) -> Table {
    let mut table =
        Table::new(&["FROM", "LASTED", "JOB", "CHANNELS", "SYMBOLS", "CAUSE", "STATE", "ROWS", "REASON"]);
    for gap in gaps {
        let lasted = match gap.to {
            None => (paint::HELD, "lasts".to_owned()),
            Some(to) => cell(paint::span(to.seconds_since(gap.from).max(0.0))),
        };
        let colour = match gap.state {
            GapState::Open | GapState::Filling => paint::HELD,
            GapState::Filled => paint::GOOD,
            GapState::Partial | GapState::Unfillable => paint::BAD,
        };
        table.row([
            cell(paint::whole_seconds(gap.from)),
            lasted,
            cell(gap.job.clone()),
            cell(gap.channels.join(",")),
            cell(some(&gap.symbols)),
            cell(gap.cause.clone()),
            (colour, progress(gap)),
            cell(gap.rows.to_string()),
            cell(gap.reason.clone().unwrap_or_else(|| "-".to_owned())),
        ]);
    }
    table
}

/// The state, and of a gap that is being filled how far that is.
fn progress(gap: &GapRecord) -> String {
    const BAR: usize = 10;
    let state = gap.state.as_str();
    let Some(share) = gap.filled_share() else { return state.to_owned() };
    let done = (share * BAR as f64) as usize;
    format!("{state} {}{} {:.0} %", "█".repeat(done), "░".repeat(BAR.saturating_sub(done)), share * 100.0)
}

/// The first few of many.
fn some(symbols: &[String]) -> String {
    const SHOWN_MAX: usize = 4;
    let shown = symbols.iter().take(SHOWN_MAX).map(String::as_str).collect::<Vec<_>>().join(",");
    match symbols.len().saturating_sub(SHOWN_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Every tenant's heartbeat with its verdict.
pub(crate) async fn fleet(remote: &Remote) -> Result<Answer, Failure> {
    let fleet = remote.fleet().await?;
    let mut table = Table::new(&["TENANT", "VERDICT", "AGE", "INSTANCE", "JOBS", "SENTENCE"]);
    let mut tenants = Vec::new();
    let mut well = !fleet.is_empty();
    for observed in &fleet {
        let verdict = remote::verdict(observed);
        well &= matches!(verdict.standing, Standing::Live | Standing::Paused);
        let beat = observed.heartbeat.as_ref().and_then(|beat| beat.as_ref().ok());
        let jobs = beat.map(|beat| beat.jobs.keys().map(String::as_str).collect::<Vec<_>>().join(" "));
        table.row([
            cell(observed.tenant.clone().unwrap_or_else(|| "(none)".to_owned())),
            (paint::of(verdict.standing), verdict.standing.as_str().to_owned()),
            cell(verdict.age_s.map_or_else(|| "-".to_owned(), paint::span)),
            cell(beat.map_or_else(|| "-".to_owned(), |beat| beat.instance_id.clone())),
            cell(jobs.unwrap_or_else(|| "-".to_owned())),
            cell(verdict.sentence.clone()),
        ]);
        tenants.push(json!({
            "tenant": observed.tenant,
            "verdict": shape::verdict(&verdict),
            "heartbeat": beat,
        }));
    }
    let mut text = String::new();
    if fleet.is_empty() {
        text.push_str("there is no heartbeat in this store\n");
    } else {
        table.write(&mut text, 0);
    }
    let exit = if well { Exit::Effective } else { Exit::NoProducer };
    Ok(Answer { exit, text, json: json!({ "tenants": tenants }) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_that_is_being_filled_shows_how_far_it_is() {
        let gap = |state: &str, symbols: &[&str], cursor: serde_json::Value| -> GapRecord {
            let times = ("2026-11-25T14:30:00.000000Z", "2026-11-25T14:31:00.000000Z");
            serde_json::from_value(json!({
                "job": "sip", "symbols": symbols, "channels": ["trades", "quotes"], "from": times.0, "to": times.1,
                "cause": "pause", "state": state, "rows": 7, "reason": null, "opened_at": times.1, "cursor": cursor,
            }))
            .expect("a gap")
        };
        let four = ["A", "B", "C", "D"];
        for (gap, expected) in [
            (gap("open", &four, json!(null)), "open"),
            (gap("filling", &four, json!({"channel": 0, "after": null})), "filling ░░░░░░░░░░ 0 %"),
            (gap("filling", &four, json!({"channel": 0, "after": "B"})), "filling ██░░░░░░░░ 25 %"),
            (gap("filling", &four, json!({"channel": 1, "after": "C"})), "filling ████████░░ 88 %"),
            (gap("filling", &["*"], json!({"channel": 1, "after": "C"})), "filling █████░░░░░ 50 %"),
            (gap("filled", &four, json!({"channel": 1, "after": "C"})), "filled"),
        ] {
            assert_eq!(progress(&gap), expected);
        }
    }

    #[test]
    fn a_standing_pause_and_one_that_was_never_effective_are_told() {
        let at = |s: i64| Timestamp::from_microseconds(s * 1_000_000).expect("in range");
        let done = PauseRecord {
            id: "1".to_owned(),
            scope: "all".to_owned(),
            source: "control:all-ann".to_owned(),
            reason: Some("works".to_owned()),
            actor: Some("ann".to_owned()),
            paused_at: at(0),
            effective_at: Some(at(1)),
            resumed_at: Some(at(90)),
            duration_s: Some(90.0),
            messages_drained: 7,
            gap_ids: Vec::new(),
        };
        let standing = PauseRecord {
            effective_at: None,
            resumed_at: None,
            duration_s: None,
            paused_at: at(100),
            ..done.clone()
        };
        let mut text = String::new();
        past(&[standing, done.clone()], at(103)).write(&mut text, 0);
        let text = anstream::adapter::strip_str(&text).to_string();
        assert!(text.contains("stands, 3.0 s") && text.contains("not yet"), "{text}");
        assert!(text.contains("1 min 30 s") && text.contains("1.00 s") && text.contains("ann"), "{text}");
        assert_eq!(record(&done)["id"], "1");
    }
}
