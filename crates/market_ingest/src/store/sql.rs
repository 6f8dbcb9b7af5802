//! What the two SQL stores share: reading rows that any other program may have written.
//!
//! Invariant: a row that cannot be understood is told in its place; it never costs its neighbours.

use ingest_status::{Heartbeat, Timestamp};
use jiff::civil;

use super::{Lease, Observed, StoreError};
use crate::control::{ControlHold, ControlReading};
use crate::gaps::{GapRecord, GapState};
use crate::history::PauseRecord;

/// A row of `market_ingest_hold` as text.
pub(super) struct HoldRow {
    pub(super) id: String,
    pub(super) scope: String,
    pub(super) reason: Option<String>,
    pub(super) actor: Option<String>,
    pub(super) since: Option<String>,
    pub(super) until: Option<String>,
}

/// The control document that generation and rows make up; none when there is neither.
pub(super) fn control(generation: Option<i64>, rows: Vec<HoldRow>) -> Option<ControlReading> {
    if generation.is_none() && rows.is_empty() {
        return None;
    }
    let holds = rows.into_iter().map(|row| (row.id.clone(), hold(row))).collect();
    Some(ControlReading { generation, holds, garbled: None })
}

fn hold(row: HoldRow) -> Result<ControlHold, String> {
    let scope = row.scope.parse().map_err(|error| format!("scope: {error}"))?;
    let since = row.since.as_deref().map(|text| named_time("since", text)).transpose()?;
    let until = row.until.as_deref().map(|text| named_time("until", text)).transpose()?;
    Ok(ControlHold { scope, reason: row.reason, actor: row.actor, since, until })
}

fn named_time(field: &str, text: &str) -> Result<Timestamp, String> {
    time(text).ok_or_else(|| {
        let found: String = text.chars().take(40).collect();
        format!("{field}: {found:?} is no time; accepted: RFC 3339, such as 2026-11-30T18:00:00Z")
    })
}

/// Who has the lease. A time that nobody understands would keep everybody waiting for ever.
pub(super) fn lease(holder: String, epoch: i64, expires_at: &str) -> Result<Lease, StoreError> {
    match time(expires_at) {
        Some(expires_at) => Ok(Lease { holder, epoch, expires_at }),
        None => Err(StoreError::Refused(format!("the lease's end {expires_at:?} is not understood"))),
    }
}

/// RFC 3339, or what databases write: a space for the `T`, and without an offset UTC.
pub(super) fn time(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(time.into());
    }
    // A day alone is not taken: nobody could tell whether its beginning or its end is meant.
    if !text.contains(':') {
        return None;
    }
    let local: civil::DateTime = text.parse().ok()?;
    Some(local.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().into())
}

/// A heartbeat's row, none where a tenant has no row, as read at `read_at` by the database's clock.
pub(super) fn observed(
    tenant: &str,
    row: Option<(String, String)>,
    read_at: &str,
) -> Result<Observed, StoreError> {
    let clock = || StoreError::Unparsable(format!("the database's clock says {read_at:?}"));
    Ok(Observed {
        tenant: (!tenant.is_empty()).then(|| tenant.to_owned()),
        heartbeat: row.map(|(document, updated_at)| {
            let mut beat: Heartbeat = serde_json::from_str(&document).map_err(|error| error.to_string())?;
            beat.updated_at = time(&updated_at);
            Ok(beat)
        }),
        read_at: time(read_at).ok_or_else(clock)?,
    })
}

/// A row of `market_ingest_history` as the databases give it.
#[derive(sqlx::FromRow)]
pub(super) struct PauseRow {
    id: String,
    scope: String,
    source: String,
    reason: Option<String>,
    actor: Option<String>,
    paused_at: String,
    effective_at: Option<String>,
    resumed_at: Option<String>,
    duration_s: Option<f64>,
    messages_drained: i64,
    gap_ids: String,
}

impl PauseRow {
    /// None when somebody else wrote what is no record of a pause.
    pub(super) fn record(self) -> Option<PauseRecord> {
        Some(PauseRecord {
            id: self.id,
            scope: self.scope,
            source: self.source,
            reason: self.reason,
            actor: self.actor,
            paused_at: time(&self.paused_at)?,
            effective_at: self.effective_at.as_deref().and_then(time),
            resumed_at: self.resumed_at.as_deref().and_then(time),
            duration_s: self.duration_s,
            messages_drained: self.messages_drained.try_into().ok()?,
            gap_ids: serde_json::from_str(&self.gap_ids).ok()?,
        })
    }
}

/// A row of `market_ingest_gap` as the databases give and take it.
#[derive(sqlx::FromRow)]
pub(super) struct GapRow {
    pub(super) id: String,
    pub(super) job: String,
    pub(super) symbols: String,
    pub(super) channels: String,
    pub(super) from_ts: String,
    pub(super) to_ts: Option<String>,
    pub(super) cause: String,
    pub(super) state: String,
    pub(super) rows: i64,
    pub(super) reason: Option<String>,
    pub(super) opened_at: String,
    pub(super) cursor: Option<String>,
}

impl GapRow {
    pub(super) fn new(record: &GapRecord) -> Result<Self, StoreError> {
        let json = |list: &[String]| {
            serde_json::to_string(list).map_err(|error| StoreError::Refused(error.to_string()))
        };
        let cursor = record.cursor.as_ref().map(serde_json::to_string).transpose();
        Ok(Self {
            id: record.id.clone(),
            job: record.job.clone(),
            symbols: json(&record.symbols)?,
            channels: json(&record.channels)?,
            from_ts: record.from.to_string(),
            to_ts: record.to.map(|time| time.to_string()),
            cause: record.cause.clone(),
            state: record.state.as_str().to_owned(),
            rows: i64::try_from(record.rows).unwrap_or(i64::MAX),
            reason: record.reason.clone(),
            opened_at: record.opened_at.to_string(),
            cursor: cursor.map_err(|error| StoreError::Refused(error.to_string()))?,
        })
    }

    /// None when somebody else wrote what is no gap.
    pub(super) fn record(self) -> Option<GapRecord> {
        Some(GapRecord {
            id: self.id,
            job: self.job,
            symbols: serde_json::from_str(&self.symbols).ok()?,
            channels: serde_json::from_str(&self.channels).ok()?,
            from: time(&self.from_ts)?,
            to: self.to_ts.as_deref().and_then(time),
            cause: self.cause,
            state: GapState::ALL.into_iter().find(|state| state.as_str() == self.state)?,
            rows: self.rows.try_into().ok()?,
            reason: self.reason,
            opened_at: time(&self.opened_at)?,
            cursor: self.cursor.and_then(|cursor| serde_json::from_str(&cursor).ok()),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[track_caller]
    fn check(text: &str, read: Option<&str>) {
        assert_eq!(time(text).map(|time| time.to_string()).as_deref(), read, "{text:?}");
    }

    #[test]
    fn times_are_read_as_people_and_databases_write_them() {
        check("2026-11-30T18:00:00Z", Some("2026-11-30T18:00:00Z"));
        check(" 2026-11-30T18:00:00.5+02:00 ", Some("2026-11-30T16:00:00.5Z"));
        check("2026-11-30 18:00:00+00", Some("2026-11-30T18:00:00Z"));
        check("2026-11-30 18:00:00.123456+00", Some("2026-11-30T18:00:00.123456Z"));
        check("2026-11-30 18:00:00", Some("2026-11-30T18:00:00Z"));
        check("2026-11-30 18:00:00.123", Some("2026-11-30T18:00:00.123Z"));
        for garbage in ["", "soon", "2026-11-30", "18:00", "infinity", "1764525600", "2026-13-30 18:00:00"] {
            check(garbage, None);
        }
    }

    #[test]
    fn a_garbled_hold_says_what_was_found_and_what_is_accepted() {
        let row = |id: &str, scope: &str, until: Option<&str>| HoldRow {
            id: id.to_owned(),
            scope: scope.to_owned(),
            reason: None,
            actor: None,
            since: None,
            until: until.map(str::to_owned),
        };
        let rows = vec![row("a", "all", None), row("b", "everything", None), row("c", "all", Some("soon"))];
        let read = control(Some(3), rows).unwrap();
        assert!(read.holds["a"].is_ok());
        let scope = read.holds["b"].as_ref().unwrap_err();
        assert!(scope.contains("everything") && scope.contains("symbol:PATTERN"), "{scope}");
        let until = read.holds["c"].as_ref().unwrap_err();
        assert!(until.contains("soon") && until.contains("RFC 3339"), "{until}");
        assert_eq!(control(None, Vec::new()), None);
    }
}
