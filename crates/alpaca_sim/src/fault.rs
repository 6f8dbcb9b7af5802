//! Faults: what the venue can be told to do wrong.
//!
//! One definition serves the command line (`name:key=value,…`), the control port (JSON) and the library.

use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::watch;

use crate::channel::Channel;

/// A fault with its bounds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fault {
    /// What goes wrong.
    #[serde(flatten)]
    pub kind: FaultKind,
    /// How often it strikes before it is spent; `None` takes the kind's own default (see [`FaultKind`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// After how many seconds it ends by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub for_s: Option<f64>,
    /// The only path it touches, such as `/v2/iex`; `None` touches all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// What can go wrong. Those that strike once unless `count` says otherwise are marked *once*; the others
/// strike until they are cleared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case", deny_unknown_fields)]
pub enum FaultKind {
    /// The exchange stops for good at a stage of the handshake; the connection stays open.
    Stall {
        /// Where.
        at: Stage,
    },
    /// The upgrade is answered with this HTTP status (429, 404, 503 …) in place of 101.
    RefuseUpgrade {
        /// The HTTP status.
        status: u16,
    },
    /// Auth is answered with this error (402, 406, 409, 500 …), whatever the credentials.
    RefuseAuth {
        /// The error code.
        code: u16,
    },
    /// Subscribe is answered with this error (405, 410, 500 …); the state stays as it was.
    RefuseSubscribe {
        /// The error code.
        code: u16,
    },
    /// *Once.* An error out of the blue (500 …) in the middle of a session, which goes on.
    Error {
        /// The error code.
        code: u16,
        /// After this many elements on the connection.
        #[serde(default)]
        after: u64,
    },
    /// *Once.* Error 407, then the connection is cut.
    SlowClient {
        /// After this many elements on the connection.
        #[serde(default)]
        after: u64,
    },
    /// *Once.* The connection is cut without a word.
    Cut {
        /// After this many elements on the connection.
        #[serde(default)]
        after: u64,
        /// Whether by RST in place of FIN.
        #[serde(default)]
        rst: bool,
    },
    /// *Once.* Half of a data frame, then RST.
    CutMidFrame {
        /// After this many elements on the connection.
        #[serde(default)]
        after: u64,
    },
    /// No data, though pings go on and messages are answered; what falls due meanwhile is lost, unless the feed is taken
    /// at the client's pace. With a symbol or a channel, only what is of both is lost, at any pace.
    Mute {
        /// The only symbol that is mute.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        symbol: Option<String>,
        /// The only channel that is mute, such as `trades`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        channel: Option<String>,
    },
    /// *Once.* The venue's host is gone: nothing is read, written or closed any more on that connection.
    HalfOpen {
        /// After this many elements on the connection.
        #[serde(default)]
        after: u64,
        /// Whether the slot stays taken until the peer is reaped (ping interval and pong limit).
        #[serde(default)]
        hold_slot: bool,
    },
    /// Pings of clients are not answered.
    IgnorePings {},
    /// Bytes leave in driblets.
    Trickle {
        /// Bytes a second.
        bytes_per_s: u32,
    },
    /// Timestamps step back on some elements.
    OutOfOrder {
        /// One element in so many.
        #[serde(default = "ten")]
        every: u64,
        /// By how much, in milliseconds.
        #[serde(default = "two_hundred_and_thirty")]
        back_ms: i64,
    },
    /// Some quotes come twice; the second copy is extra.
    DuplicateQuotes {
        /// One quote in so many.
        #[serde(default = "ten")]
        every: u64,
    },
    /// Some trades are reported late, marked with condition `Z`.
    LatePrints {
        /// One trade in so many.
        #[serde(default = "ten")]
        every: u64,
        /// How late, in milliseconds.
        #[serde(default = "thirty_thousand")]
        back_ms: i64,
    },
    /// Extra elements of a type that does not exist.
    UnknownType {
        /// One after so many elements.
        #[serde(default = "ten")]
        every: u64,
    },
    /// Some elements carry fields that do not exist.
    UnknownFields {
        /// One element in so many.
        #[serde(default = "ten")]
        every: u64,
    },
    /// Extra elements with values of the wrong type; the frame around them is well formed.
    CorruptElement {
        /// One after so many elements.
        #[serde(default = "ten")]
        every: u64,
    },
    /// Extra frames that end in the middle of an element.
    CorruptFrame {
        /// One after so many elements.
        #[serde(default = "ten")]
        every: u64,
    },
    /// Some trades have ids beyond 2^53, alternately beyond 2^63.
    BigIds {
        /// One trade in so many.
        #[serde(default = "ten")]
        every: u64,
    },
    /// *Once.* A news element in one huge frame.
    HugeNews {
        /// Length of its content in bytes.
        #[serde(default = "five_million")]
        bytes: usize,
    },
    /// A call of the data port is answered with this HTTP status (429, 500, 503 …).
    DataError {
        /// The HTTP status.
        status: u16,
    },
    /// A call of the data port is answered later.
    DataDelay {
        /// By how much, in milliseconds.
        ms: u64,
    },
    /// *Once.* A page of the data port ends half way, and the connection with it.
    DataCut {},
    /// A call of the data port is taken and never answered.
    DataStall {},
    /// A symbol trades under another name from now on.
    Rename {
        /// The old symbol.
        from: String,
        /// The new symbol.
        to: String,
    },
}

/// A stage of the handshake at which a connection can stall.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Connections are not accepted; the kernel completes TCP, nobody answers.
    Accept,
    /// The upgrade request is read and never answered.
    Upgrade,
    /// No greeting after the upgrade.
    Greeting,
    /// Auth is never answered.
    Auth,
    /// Subscribe is never answered.
    Ack,
}

fn ten() -> u64 {
    10
}
fn two_hundred_and_thirty() -> i64 {
    230
}
fn thirty_thousand() -> i64 {
    30_000
}
fn five_million() -> usize {
    5_000_000
}

impl FaultKind {
    /// The word for this fault on the command line and in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            FaultKind::Stall { .. } => "stall",
            FaultKind::RefuseUpgrade { .. } => "refuse_upgrade",
            FaultKind::RefuseAuth { .. } => "refuse_auth",
            FaultKind::RefuseSubscribe { .. } => "refuse_subscribe",
            FaultKind::Error { .. } => "error",
            FaultKind::SlowClient { .. } => "slow_client",
            FaultKind::Cut { .. } => "cut",
            FaultKind::CutMidFrame { .. } => "cut_mid_frame",
            FaultKind::Mute { .. } => "mute",
            FaultKind::HalfOpen { .. } => "half_open",
            FaultKind::IgnorePings {} => "ignore_pings",
            FaultKind::Trickle { .. } => "trickle",
            FaultKind::OutOfOrder { .. } => "out_of_order",
            FaultKind::DuplicateQuotes { .. } => "duplicate_quotes",
            FaultKind::LatePrints { .. } => "late_prints",
            FaultKind::UnknownType { .. } => "unknown_type",
            FaultKind::UnknownFields { .. } => "unknown_fields",
            FaultKind::CorruptElement { .. } => "corrupt_element",
            FaultKind::CorruptFrame { .. } => "corrupt_frame",
            FaultKind::BigIds { .. } => "big_ids",
            FaultKind::HugeNews { .. } => "huge_news",
            FaultKind::DataError { .. } => "data_error",
            FaultKind::DataDelay { .. } => "data_delay",
            FaultKind::DataCut {} => "data_cut",
            FaultKind::DataStall {} => "data_stall",
            FaultKind::Rename { .. } => "rename",
        }
    }

    /// True for faults that strike at a moment of a session, after some number of elements.
    pub(crate) fn is_event(&self) -> bool {
        self.after().is_some()
    }

    /// After how many elements an event strikes; `None` for faults that are no events.
    pub(crate) fn after(&self) -> Option<u64> {
        if let FaultKind::Error { after, .. }
        | FaultKind::SlowClient { after }
        | FaultKind::Cut { after, .. }
        | FaultKind::CutMidFrame { after }
        | FaultKind::HalfOpen { after, .. } = self
        {
            return Some(*after);
        }
        matches!(self, FaultKind::HugeNews { .. }).then_some(0)
    }

    /// True for events after which the connection carries no more data.
    pub(crate) fn ends_data(&self) -> bool {
        matches!(
            self,
            FaultKind::SlowClient { .. }
                | FaultKind::Cut { .. }
                | FaultKind::CutMidFrame { .. }
                | FaultKind::HalfOpen { .. }
        )
    }

    /// True for a feed that is mute altogether.
    pub(crate) fn is_mute(&self) -> bool {
        matches!(self, FaultKind::Mute { symbol: None, channel: None })
    }

    /// True for faults that change, add, relabel or swallow elements.
    pub(crate) fn is_data(&self) -> bool {
        matches!(
            self,
            FaultKind::Mute { symbol: Some(_), .. }
                | FaultKind::Mute { channel: Some(_), .. }
                | FaultKind::OutOfOrder { .. }
                | FaultKind::DuplicateQuotes { .. }
                | FaultKind::LatePrints { .. }
                | FaultKind::UnknownType { .. }
                | FaultKind::UnknownFields { .. }
                | FaultKind::CorruptElement { .. }
                | FaultKind::CorruptFrame { .. }
                | FaultKind::BigIds { .. }
                | FaultKind::Rename { .. }
        )
    }
}

impl From<FaultKind> for Fault {
    fn from(kind: FaultKind) -> Fault {
        Fault { kind, count: None, for_s: None, path: None }
    }
}

impl TryFrom<Value> for Fault {
    type Error = anyhow::Error;

    /// Reads `{"fault": NAME, …, "count": N, "for_s": S, "path": P}`.
    fn try_from(value: Value) -> anyhow::Result<Fault> {
        let Value::Object(mut map) = value else {
            bail!("a fault is a JSON object");
        };
        let count = bound(&mut map, "count")?;
        let for_s: Option<f64> = bound(&mut map, "for_s")?;
        let path = bound(&mut map, "path")?;
        if for_s.is_some_and(|s| Duration::try_from_secs_f64(s).is_err()) {
            bail!("for_s is not a duration in seconds");
        }
        let kind: FaultKind = serde_json::from_value(Value::Object(map))?;
        if let FaultKind::Mute { channel: Some(channel), .. } = &kind
            && Channel::from_name(channel).is_none()
        {
            bail!("there is no channel {channel:?}");
        }
        Ok(Fault { kind, count, for_s, path })
    }
}

fn bound<T: serde::de::DeserializeOwned>(
    map: &mut Map<String, Value>,
    key: &str,
) -> anyhow::Result<Option<T>> {
    map.remove(key).map(|v| serde_json::from_value(v).with_context(|| key.to_owned())).transpose()
}

impl FromStr for Fault {
    type Err = anyhow::Error;

    /// Reads `NAME` or `NAME:KEY=VALUE,…`.
    fn from_str(text: &str) -> anyhow::Result<Fault> {
        let (name, arguments) = text.split_once(':').unwrap_or((text, ""));
        let mut map = Map::new();
        map.insert("fault".to_owned(), Value::from(name.replace('-', "_")));
        for argument in arguments.split(',').filter(|a| !a.is_empty()) {
            let (key, value) =
                argument.split_once('=').with_context(|| format!("{argument:?} is not KEY=VALUE"))?;
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
            map.insert(key.to_owned(), value);
        }
        Fault::try_from(Value::Object(map)).with_context(|| format!("fault {text:?}"))
    }
}

/// The faults in force. Whoever reaches a place where one may strike asks here.
#[derive(Debug)]
pub(crate) struct FaultBoard {
    active: Mutex<Vec<Active>>,
    changed: watch::Sender<u64>,
}

#[derive(Clone, Debug)]
struct Active {
    id: u64,
    fault: Fault,
    left: Option<u64>,
}

impl Active {
    fn covers(&self, path: Option<&str>) -> bool {
        match (&self.fault.path, path) {
            (Some(own), Some(path)) => own == path,
            (Some(_), None) => false,
            (None, _) => true,
        }
    }
}

impl FaultBoard {
    pub(crate) fn new() -> Arc<FaultBoard> {
        Arc::new(FaultBoard { active: Mutex::new(Vec::new()), changed: watch::Sender::new(0) })
    }

    /// Puts a fault in force. Must run inside the runtime, which ends a fault with `for_s`.
    pub(crate) fn inject(self: &Arc<FaultBoard>, fault: Fault) {
        let once = fault.kind.is_event() || matches!(fault.kind, FaultKind::DataCut {});
        let default = once.then_some(1);
        let left = fault.count.or(default);
        let for_s = fault.for_s;
        let id = self.bump();
        self.active().push(Active { id, fault, left });
        self.bump();
        let duration = for_s.and_then(|s| Duration::try_from_secs_f64(s).ok());
        if let Some(duration) = duration {
            let board = Arc::clone(self);
            tokio::spawn(async move {
                tokio::time::sleep(duration).await;
                board.active().retain(|a| a.id != id);
                board.bump();
            });
        }
    }

    /// Ends all faults.
    pub(crate) fn clear(&self) {
        self.active().clear();
        self.bump();
    }

    /// The faults in force, with the strikes they have left.
    pub(crate) fn list(&self) -> Vec<Fault> {
        let with_rest = |a: &Active| Fault { count: a.left, ..a.fault.clone() };
        self.active().iter().map(with_rest).collect()
    }

    /// Fires at each change of the faults in force.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The first fault that `pick` likes, left in force.
    pub(crate) fn find(&self, path: Option<&str>, pick: impl Fn(&FaultKind) -> bool) -> Option<FaultKind> {
        self.active().iter().find(|a| a.covers(path) && pick(&a.fault.kind)).map(|a| a.fault.kind.clone())
    }

    /// All faults that `pick` likes, left in force.
    pub(crate) fn find_all(&self, path: &str, pick: impl Fn(&FaultKind) -> bool) -> Vec<FaultKind> {
        self.active()
            .iter()
            .filter(|a| a.covers(Some(path)) && pick(&a.fault.kind))
            .map(|a| a.fault.kind.clone())
            .collect()
    }

    /// Lets the first fault that `pick` likes strike once.
    pub(crate) fn take(&self, path: Option<&str>, pick: impl Fn(&FaultKind) -> bool) -> Option<FaultKind> {
        let mut active = self.active();
        let index = active.iter().position(|a| a.covers(path) && pick(&a.fault.kind))?;
        let kind = active[index].fault.kind.clone();
        if let Some(left) = &mut active[index].left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                active.remove(index);
                drop(active);
                self.bump();
            }
        }
        Some(kind)
    }

    fn bump(&self) -> u64 {
        let mut now = 0;
        self.changed.send_modify(|n| {
            *n += 1;
            now = *n;
        });
        now
    }

    fn active(&self) -> MutexGuard<'_, Vec<Active>> {
        // A panic elsewhere leaves the list whole: every change of it is a single step.
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn flags_and_json_mean_the_same() {
        for (flag, json) in [
            ("mute", r#"{"fault":"mute"}"#),
            ("mute:channel=trades,symbol=SPY", r#"{"fault":"mute","channel":"trades","symbol":"SPY"}"#),
            ("half-open:after=5,hold_slot=true", r#"{"fault":"half_open","after":5,"hold_slot":true}"#),
            ("refuse_upgrade:status=429,count=3", r#"{"fault":"refuse_upgrade","status":429,"count":3}"#),
            ("stall:at=ack,path=/v2/iex", r#"{"fault":"stall","at":"ack","path":"/v2/iex"}"#),
            ("rename:from=FB,to=META,for_s=0.5", r#"{"fault":"rename","from":"FB","to":"META","for_s":0.5}"#),
        ] {
            let by_flag: Fault = flag.parse().unwrap();
            let value: Value = serde_json::from_str(json).unwrap();
            assert_eq!(by_flag, Fault::try_from(value.clone()).unwrap(), "{flag}");
            assert_eq!(by_flag.kind.name(), value["fault"]);
        }
    }

    #[test]
    fn unknown_names_keys_and_values_are_refused() {
        for flag in [
            "nonsense",
            "mute:volume=3",
            "mute:channel=nonsense",
            "refuse_upgrade",
            "refuse_upgrade:status=many",
            "stall:at=nowhere",
            "mute:for_s=-1",
            "cut:after",
        ] {
            assert!(flag.parse::<Fault>().is_err(), "{flag}");
        }
    }

    #[test]
    fn a_counted_fault_is_spent_and_paths_are_kept_apart() {
        let board = FaultBoard::new();
        board.inject("refuse_upgrade:status=429,count=2,path=/v2/iex".parse().unwrap());
        let strike = |path| board.take(Some(path), |_| true).is_some();
        assert!(!strike("/v2/sip"));
        assert!(strike("/v2/iex"));
        assert_eq!(board.list()[0].count, Some(1));
        assert!(strike("/v2/iex"));
        assert!(!strike("/v2/iex"));
    }
}
