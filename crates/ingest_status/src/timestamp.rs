//! A point in time as the documents carry it: UTC, microseconds, a native timestamp in Firestore.
//!
//! Invariant: what is written can be read back unchanged. Firestore keeps microseconds, so finer
//! digits are cut on construction rather than lost on the way.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The name by which the `firestore` crate's serializer recognises a native timestamp; every other
/// serializer sees a plain RFC 3339 string.
const FIRESTORE_TIMESTAMP: &str = "FirestoreTimestamp";

/// A UTC instant with microsecond precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(jiff::Timestamp);

impl Timestamp {
    /// Microseconds since the Unix epoch, or `None` outside the years -9999 to 9999.
    #[must_use]
    pub fn from_microseconds(us: i64) -> Option<Self> {
        jiff::Timestamp::from_microsecond(us).ok().map(Self)
    }

    /// The instant so many nanoseconds after the Unix epoch, cut to microseconds.
    #[must_use]
    pub fn from_nanoseconds(ns: i64) -> Self {
        // Every i64 of nanoseconds (years 1677 to 2262) is within jiff's range.
        Self(jiff::Timestamp::from_microsecond(ns.div_euclid(1000)).unwrap_or(jiff::Timestamp::MIN))
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub fn as_microseconds(self) -> i64 {
        self.0.as_microsecond()
    }

    /// Seconds from `earlier` to `self`; negative when `self` is the earlier one.
    #[must_use]
    pub fn seconds_since(self, earlier: Self) -> f64 {
        (self.as_microseconds() - earlier.as_microseconds()) as f64 / 1e6
    }
}

impl From<jiff::Timestamp> for Timestamp {
    fn from(ts: jiff::Timestamp) -> Self {
        // Cutting to whole microseconds keeps the value inside jiff's range.
        Self(jiff::Timestamp::from_microsecond(ts.as_microsecond()).unwrap_or(ts))
    }
}

impl From<Timestamp> for jiff::Timestamp {
    fn from(ts: Timestamp) -> Self {
        ts.0
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(FIRESTORE_TIMESTAMP, &self.0)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        jiff::Timestamp::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Timestamp {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "date-time", "description": "RFC 3339, UTC." })
    }
}
