//! `why`: the whole chain of holds on a symbol, by the function that the engine itself asks.

use ingest_status::Heartbeat;
use ingest_switch::{CHANNELS, Coverage, Hold, Source};
use market_ingest::config::feed_channels;
use serde_json::{Value, json};

use crate::answer::{Answer, Exit, Failure};
use crate::arguments::Why;
use crate::effect::phase;
use crate::remote::{Remote, Seen};
use crate::{paint, shape};

/// Channels of one job that have the same holds on them.
struct Strand<'a> {
    job: &'a str,
    channels: Vec<&'static str>,
    holds: Vec<&'a Hold>,
}

/// Runs it.
pub(crate) async fn run(remote: &Remote, why: Why) -> Result<Answer, Failure> {
    let seen = remote.observe().await?;
    let symbol = why.symbol.trim().to_uppercase();
    if symbol.is_empty() || symbol.len() > 100 || !symbol.chars().all(|c| c.is_ascii_graphic()) {
        return Err(Failure::refused(
            "a symbol is 1 to 100 printable ASCII characters, such as AAPL or BTC/USD",
        ));
    }
    let Some(beat) = seen.beat() else {
        let verdict = seen.verdict();
        let text = format!("{}so nothing is known of {symbol}\n", shape::verdict_line(&verdict));
        let json = json!({ "symbol": symbol, "verdict": shape::verdict(&verdict), "answers": [] });
        return Ok(Answer { exit: Exit::NoProducer, text, json });
    };
    if let Some(job) = &why.job
        && !beat.jobs.keys().any(|name| name.eq_ignore_ascii_case(job))
    {
        let known = beat.jobs.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        return Err(Failure::refused(format!("the producer has no job {job:?}; its jobs: {known}")));
    }
    Ok(answer(&seen, beat, &symbol, &why))
}

fn answer(seen: &Seen, beat: &Heartbeat, symbol: &str, why: &Why) -> Answer {
    let (holds, odd) = holds(beat);
    let coverage = Coverage::new(&holds);
    let strands = strands(beat, &coverage, symbol, why);
    let verdict = seen.verdict();
    let now = seen.read_at();
    let mut text = format!("{symbol}, by the heartbeat of {}\n", paint::time(beat.ts, now));
    if !seen.is_alive() {
        text.push_str(&shape::verdict_line(&verdict));
    }
    for strand in &strands {
        let what = format!("{} {}", strand.job, strand.channels.join(" "));
        let what = paint::line(&what);
        if strand.holds.is_empty() {
            let job = &beat.jobs[strand.job];
            let (style, word) = match (seen.is_alive(), job.connected) {
                (true, true) => (paint::GOOD, "runs"),
                (true, false) => (paint::HELD, "not held, but the job has no data"),
                (false, _) => (paint::BAD, "not held, but there is no live producer"),
            };
            let state = paint::line(&phase(job));
            text.push_str(&format!("{what}: {} (job {state})\n", paint::styled(style, word)));
            continue;
        }
        text.push_str(&format!("{what}: {}\n", paint::styled(paint::HELD, "held")));
        let reports = strand.holds.iter().filter_map(|hold| {
            beat.holds.iter().find(|r| r.source == hold.source.as_str() && r.scope == hold.scope.to_string())
        });
        shape::holds(reports, now).write(&mut text, 2);
    }
    if strands.is_empty() {
        text.push_str("no job of the producer can carry it on such a channel\n");
    }
    if !beat.flag_fresh {
        text.push_str("note: a flag cannot be read now; the last decision of each source stands\n");
    }
    for hold in &odd {
        text.push_str(&format!("note: a hold is not understood here and left out: {}\n", paint::line(hold)));
    }
    let answers: Vec<Value> = strands.iter().flat_map(|strand| per_channel(strand, beat, now)).collect();
    let json = json!({
        "symbol": symbol,
        "verdict": shape::verdict(&verdict),
        "heartbeat_ts": beat.ts.to_string(),
        "flag_fresh": beat.flag_fresh,
        "answers": answers,
        "not_understood": odd,
    });
    let exit = if seen.is_alive() { Exit::Effective } else { Exit::NoProducer };
    Answer { exit, text, json }
}

/// The engine's holds, from what the heartbeat tells of them; and those that are not understood.
fn holds(beat: &Heartbeat) -> (Vec<Hold>, Vec<String>) {
    let (mut holds, mut odd) = (Vec::new(), Vec::new());
    for report in &beat.holds {
        match report.scope.parse() {
            Ok(scope) => holds.push(Hold {
                source: Source::new(report.source.clone()),
                scope,
                reason: report.reason.clone(),
                actor: report.actor.clone(),
                since: report.since.into(),
                until: report.until.map(Into::into),
            }),
            Err(_) => odd.push(format!("{} on {:?}", report.source, report.scope)),
        }
    }
    (holds, odd)
}

/// Every job and channel that can carry the symbol, those with the same holds together.
fn strands<'a>(beat: &'a Heartbeat, coverage: &'a Coverage, symbol: &'a str, why: &Why) -> Vec<Strand<'a>> {
    let mut strands: Vec<Strand<'a>> = Vec::new();
    for job in beat.jobs.keys() {
        if why.job.as_ref().is_some_and(|asked| !asked.eq_ignore_ascii_case(job)) {
            continue;
        }
        let mut of_job: Vec<Strand<'a>> = Vec::new();
        // A job that this program does not know may carry anything.
        let channels = feed_channels(job, symbol).unwrap_or_else(|| CHANNELS.to_vec());
        for channel in
            channels.into_iter().filter(|channel| why.channel.is_none_or(|asked| asked == *channel))
        {
            let holds: Vec<&Hold> = coverage.holds_on(job, symbol, channel).collect();
            match of_job.iter_mut().find(|strand| strand.holds == holds) {
                Some(strand) => strand.channels.push(channel),
                None => of_job.push(Strand { job, channels: vec![channel], holds }),
            }
        }
        strands.append(&mut of_job);
    }
    strands
}

fn per_channel(strand: &Strand<'_>, beat: &Heartbeat, now: ingest_status::Timestamp) -> Vec<Value> {
    let holds: Vec<Value> = strand
        .holds
        .iter()
        .map(|hold| {
            let since: ingest_status::Timestamp = hold.since.into();
            json!({
                "source": hold.source.as_str(),
                "scope": hold.scope.to_string(),
                "reason": hold.reason,
                "actor": hold.actor,
                "since": since.to_string(),
                "age_s": now.seconds_since(since),
                "until": hold.until.map(|until| until.to_string()),
            })
        })
        .collect();
    let job = &beat.jobs[strand.job];
    let one = |channel: &&str| {
        json!({
            "job": strand.job,
            "channel": channel,
            "held": !holds.is_empty(),
            "holds": holds,
            "job_status": crate::effect::status_word(job.status),
            "job_phase": job.phase,
            "job_connected": job.connected,
        })
    };
    strand.channels.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use market_ingest::store::Observed;

    use super::*;

    fn seen() -> Seen {
        let job = |phase: &str| {
            json!({ "status": "running", "since": "2026-01-01T00:00:00Z", "phase": phase,
                    "connected": phase == "live", "subscribed": 3, "messages": 0 })
        };
        let hold = |source: &str, scope: &str| {
            json!({ "source": source, "scope": scope, "since": "2026-01-01T00:00:00Z", "actor": "ann",
                    "reason": "odd prices", "until": "2026-01-01T01:00:00Z" })
        };
        let beat: Heartbeat = serde_json::from_value(json!({
            "status": "running", "ts": "2026-01-01T00:00:10Z", "ingest_enabled": true, "ingest_enabled_source": null,
            "last_symbol": null, "flag_fresh": false,
            "holds": [hold("control:q", "symbol:A*/quotes"), hold("file:/f", "job:iex/quotes"), hold("x", "what")],
            "jobs": { "iex": job("live"), "crypto-us": job("waiting") },
        }))
        .unwrap();
        let read_at = beat.ts;
        Seen { observed: Observed { tenant: None, heartbeat: Some(Ok(beat)), read_at }, wedged: None }
    }

    fn ask(symbol: &str, job: Option<&str>, channel: Option<&'static str>) -> Answer {
        let seen = seen();
        let why = Why { symbol: symbol.to_owned(), job: job.map(str::to_owned), channel };
        answer(&seen, seen.beat().unwrap(), symbol, &why)
    }

    #[test]
    fn the_whole_chain_is_told() {
        let answer = ask("AAPL", None, None);
        let text = anstream::adapter::strip_str(&answer.text).to_string();
        let held = text.lines().find(|line| line.contains(": held")).unwrap();
        assert_eq!(held, "iex quotes: held");
        for part in
            ["control:q", "file:/f", "ann", "odd prices", "in 59 min 50 s", "10.0 s ago", "last decision"]
        {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
        assert!(text.contains("iex trades bars") && text.contains(": runs (job running, live)"), "{text}");
        assert!(!text.contains("crypto-us"), "a stock is on no crypto feed:\n{text}");
        assert!(text.contains("left out: x on \"what\""), "{text}");
    }

    #[test]
    fn a_job_without_a_connection_does_not_run() {
        let answer = ask("BTC/USD", None, Some("trades"));
        let text = anstream::adapter::strip_str(&answer.text).to_string();
        assert!(
            text.contains("crypto-us trades: not held, but the job has no data (job running, waiting)"),
            "{text}"
        );
        let [one] = answer.json["answers"].as_array().unwrap().as_slice() else { panic!("{}", answer.json) };
        assert_eq!((&one["held"], &one["job_connected"]), (&json!(false), &json!(false)));
    }

    #[test]
    fn one_entry_for_each_job_and_channel() {
        let answers = ask("AAPL", Some("IEX"), Some("quotes")).json["answers"].clone();
        let [one] = answers.as_array().unwrap().as_slice() else { panic!("{answers}") };
        assert_eq!(one["held"], json!(true));
        assert_eq!(one["holds"][0]["age_s"], json!(10.0));
        assert_eq!(one["holds"].as_array().unwrap().len(), 2);
    }
}
