//! Prometheus metrics, made anew at each scrape from what the pumps show: there is no second set of
//! books. Low cardinality: labels are job, type, code and sink, never a symbol.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::beat::BeatCounts;
use crate::gaps::GapState;
use crate::history::Late;
use crate::job::{JobState, KINDS};
use crate::lag::Lags;
use crate::report::Report;

/// Content type of [`text`].
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Seconds = Gauge<f64, AtomicU64>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Job {
    job: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct JobType {
    job: String,
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct JobCode {
    job: String,
    code: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct JobChannel {
    job: String,
    channel: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct JobGap {
    job: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Sink {
    sink: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
    revision: String,
}

/// All metrics in OpenMetrics text.
pub(crate) fn text(report: &Report, beats: &BeatCounts, late: &Late) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    pauses(&mut registry, &report.jobs(), late);
    let r = registry.sub_registry_with_prefix("market_ingest");
    process(r, report, beats);
    jobs(r, &report.jobs());
    freshness(r, &report.jobs());
    sinks(r, report);
    let mut out = String::new();
    encode(&mut out, &registry)?;
    Ok(out)
}

fn process(r: &mut Registry, report: &Report, beats: &BeatCounts) {
    let build = Build {
        version: env!("CARGO_PKG_VERSION"),
        revision: report.identity().revision.clone().unwrap_or_default(),
    };
    let info = Family::<Build, Gauge>::default();
    info.get_or_create(&build).set(1);
    r.register("build_info", "Version and revision, always 1", info);

    let decision = report.decision().decision;
    gauge(r, "ingest_enabled", "1 when no hold covers everything: what was asked", decision.enabled.into());
    gauge(r, "paused", "1 when held, without a socket, and drained: what is", report.paused().into());
    gauge(
        r,
        "flag_fresh",
        "0 while a flag cannot be read and its last decision stands",
        decision.flag_fresh.into(),
    );
    let fence = report.fence();
    gauge(r, "lease_held", "1 while this process is the one that ingests", fence.may_write().into());
    let epoch = i64::try_from(fence.epoch()).unwrap_or(i64::MAX);
    gauge(
        r,
        "lease_epoch",
        "Epoch of the lease that this process has or had last; 0 before the first",
        epoch,
    );
    gaps(r, report);
    gauge(r, "holds", "Holds that stand", decision.holds.len() as i64);
    let heartbeat_s = beats.written_at_us.load(Relaxed) as f64 / 1e6;
    seconds(r, "heartbeat_timestamp_seconds", "When the store last took a heartbeat", heartbeat_s);
    counter(r, "heartbeat_failures", "Heartbeats that the store did not take", beats.failures.load(Relaxed));
    let effect = report.jobs().iter().filter_map(|job| job.pause_effect_s).fold(0.0, f64::max);
    seconds(r, "pause_effect_seconds", "From the last pause's decision to its complete effect", effect);
    let now = jiff::Timestamp::now().as_microsecond() as f64 / 1e6;
    let oldest = report.jobs().iter().map(|job| job.tick.elapsed().as_secs_f64()).fold(0.0, f64::max);
    seconds(r, "loop_last_tick_timestamp_seconds", "When the slowest working loop last turned", now - oldest);
}

fn jobs(r: &mut Registry, jobs: &[JobState]) {
    let by_job = |job: &JobState| Job { job: job.name.to_string() };

    let connected = Family::<Job, Gauge>::default();
    let lag = Family::<Job, Seconds>::default();
    let newest = Family::<Job, Seconds>::default();
    let messages = Family::<JobType, Counter>::default();
    let rejections = Family::<JobCode, Counter>::default();
    for job in jobs {
        connected.get_or_create(&by_job(job)).set(job.connected().into());
        if let (Some(lag_s), Some(ts)) = (job.lag_s, job.last_event_ts) {
            lag.get_or_create(&by_job(job)).set(lag_s);
            newest.get_or_create(&by_job(job)).set(ts as f64 / 1e9);
        }
        for (kind, word) in KINDS {
            let labels = JobType { job: job.name.to_string(), r#type: word };
            messages.get_or_create(&labels).inc_by(job.messages[kind as usize]);
        }
        for (code, count) in &job.rejections {
            let labels = JobCode { job: job.name.to_string(), code: u32::from(*code) };
            rejections.get_or_create(&labels).inc_by(*count);
        }
    }
    r.register("connected", "1 when authenticated and subscribed", connected);
    r.register("lag_seconds", "From the newest event's own time to its receipt", lag);
    let lags = LagsOfJobs(jobs.iter().map(|job| (by_job(job), job.lags.clone())).collect());
    r.register("record_lag_seconds", "From a record's own time to its delivery to the sinks", lags);
    r.register("last_event_timestamp_seconds", "The newest event's own time", newest);
    r.register("messages", "Events received", messages);
    r.register("rejections", "Errors of the venue by code", rejections);

    let mut per_job = |name: &str, help: &str, value: fn(&JobState) -> u64| {
        let family = Family::<Job, Counter>::default();
        for job in jobs {
            family.get_or_create(&by_job(job)).inc_by(value(job));
        }
        r.register(name, help, family);
    };
    per_job("held_back", "Events that came although a hold covers them, and were left out", |j| j.held_back);
    per_job("malformed", "Elements that could not be decoded", |j| j.malformed);
    per_job("unknown", "Messages of a type that is not known", |j| {
        j.messages[alpaca_feed::message::Kind::Unknown as usize]
    });
    per_job("frames", "Frames received", |j| j.frames);
    per_job("received_bytes", "Payload bytes received", |j| j.bytes);
    per_job("dials", "Connections tried", |j| j.dials);
    per_job("disconnects", "Connections that ended unasked", |j| j.disconnects);
}

/// What the watchdogs say.
fn freshness(r: &mut Registry, jobs: &[JobState]) {
    let fresh = Family::<Job, Gauge>::default();
    let silence = Family::<JobChannel, Seconds>::default();
    let limits = Family::<JobChannel, Seconds>::default();
    let mutes = Family::<Job, Counter>::default();
    for job in jobs {
        let by_job = Job { job: job.name.to_string() };
        mutes.get_or_create(&by_job).inc_by(job.mutes);
        if let Some(is_fresh) = job.is_fresh() {
            fresh.get_or_create(&by_job).set(is_fresh.into());
        }
        for (channel, heard) in job.heard.iter().filter(|_| job.connected()) {
            let labels = JobChannel { job: job.name.to_string(), channel: channel.as_str() };
            silence.get_or_create(&labels).set(heard.elapsed().as_secs_f64());
        }
        for (channel, limit) in job.silence_limits.iter().filter(|_| job.connected()) {
            let labels = JobChannel { job: job.name.to_string(), channel: channel.as_str() };
            limits.get_or_create(&labels).set(limit.as_secs_f64());
        }
    }
    r.register(
        "data_fresh",
        "1 while data flows, 0 while it is mute or lags, absent where that is unknown",
        fresh,
    );
    r.register("data_silence_seconds", "Since the last event of a channel, while connected", silence);
    r.register(
        "data_silence_limit_seconds",
        "The silence of a channel that would be an alarm, absent while too little is known to judge it",
        limits,
    );
    r.register("mute", "Spells of silence on a live connection that were an alarm", mutes);
}

/// Pauses and resumes by job, under names that job servers share.
fn pauses(r: &mut Registry, jobs: &[JobState], late: &Late) {
    let by_job = |job: &JobState| Job { job: job.name.to_string() };
    let (paused, resumed, errors) = (
        Family::<Job, Counter>::default(),
        Family::<Job, Counter>::default(),
        Family::<Job, Counter>::default(),
    );
    let lag = Family::<Job, Seconds>::default();
    let now_s = jiff::Timestamp::now().as_microsecond() as f64 / 1e6;
    for (at, job) in jobs.iter().enumerate() {
        paused.get_or_create(&by_job(job)).inc_by(job.pauses);
        resumed.get_or_create(&by_job(job)).inc_by(job.resumes);
        errors.get_or_create(&by_job(job)).inc_by(late.count(at));
        if let Some(ts) = job.last_event_ts.filter(|_| job.paused()) {
            lag.get_or_create(&by_job(job)).set(now_s - ts as f64 / 1e9);
        }
    }
    r.register("jobs_paused", "Pauses whose effect was complete", paused);
    r.register("jobs_resumed", "Resumes whose effect was complete", resumed);
    r.register("job_pause_resume_errors", "Pauses and resumes that were not complete in time", errors);
    r.register("job_lag_while_paused", "Seconds since the newest event's own time, while paused", lag);
    let durations = Durations(jobs.iter().map(|job| (by_job(job), job.pause_durations.clone())).collect());
    r.register("job_pause_duration_seconds", "How long pauses lasted that are over", durations);
}

/// The jobs' histograms of lags.
#[derive(Debug)]
struct LagsOfJobs(Vec<(Job, Lags)>);

impl EncodeMetric for LagsOfJobs {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (job, lags) in &self.0 {
            let (sum_s, count, buckets) = lags.by_doubling();
            encoder.encode_family(job)?.encode_histogram::<NoLabelSet>(sum_s, count, &buckets, None)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// Histograms that the jobs keep themselves.
#[derive(Debug)]
struct Durations(Vec<(Job, Histogram)>);

impl EncodeMetric for Durations {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (job, histogram) in &self.0 {
            histogram.encode(encoder.encode_family(job)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

fn sinks(r: &mut Registry, report: &Report) {
    let mut per_sink = |name: &str, help: &str, value: fn(&crate::sink::Counts) -> &AtomicU64| {
        let family = Family::<Sink, Counter>::default();
        for sink in report.sinks() {
            let count = value(sink.counts()).load(Relaxed);
            family.get_or_create(&Sink { sink: sink.name() }).inc_by(count);
        }
        r.register(name, help, family);
    };
    per_sink("sink_writes", "Records written", |c| &c.written);
    per_sink("sink_errors", "Attempts to write that failed and are repeated", |c| &c.errors);
    per_sink("sink_dropped", "Records that will never be written", |c| &c.dropped);
}

fn gauge(r: &mut Registry, name: &str, help: &str, value: i64) {
    let gauge: Gauge = Gauge::default();
    gauge.set(value);
    r.register(name, help, gauge);
}

fn seconds(r: &mut Registry, name: &str, help: &str, value: f64) {
    let gauge = Seconds::default();
    gauge.set(value);
    r.register(name, help, gauge);
}

fn counter(r: &mut Registry, name: &str, help: &str, value: u64) {
    let counter: Counter = Counter::default();
    counter.inc_by(value);
    r.register(name, help, counter);
}

/// What is missing, and what is fetched of it.
fn gaps(r: &mut Registry, report: &Report) {
    let book = report.book();
    let (family, seconds) = (Family::<JobGap, Gauge>::default(), Family::<Job, Seconds>::default());
    for job in report.jobs() {
        let outlook = book.outlook(&job.name);
        let name = job.name.to_string();
        let set = |state, count: usize| {
            family.get_or_create(&JobGap { job: name.clone(), state }).set(count as i64);
        };
        set("lasting", outlook.lasting);
        set("waiting", outlook.waiting);
        seconds.get_or_create(&Job { job: name }).set(outlook.waiting_s);
    }
    r.register("gaps", "Gaps that last, and gaps that wait to be filled", family);
    r.register("gaps_waiting_seconds", "Market seconds of the gaps that wait to be filled", seconds);
    for state in GapState::ALL.into_iter().filter(|state| state.is_final()) {
        let name = format!("gaps_{}", state.as_str());
        counter(r, &name, "Gaps that came to this end", book.ended(state));
    }
    counter(
        r,
        "backfill_rows",
        "Rows that were fetched and handed to the sinks",
        book.fetched.rows.load(Relaxed),
    );
    counter(r, "backfill_pages", "Pages that were fetched", book.fetched.pages.load(Relaxed));
    let errors = book.fetched.errors.load(Relaxed);
    counter(r, "backfill_errors", "Requests for history that failed or were refused", errors);
}
