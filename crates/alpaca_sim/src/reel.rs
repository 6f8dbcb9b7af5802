//! A run of market data, encoded ahead of time.
//!
//! Elements lie one after the other in one buffer per codec, so sending one is a copy of bytes. The MessagePack
//! form is made when the first client wants it.

use std::sync::OnceLock;

use crate::catalogue::Catalogue;
use crate::endpoint::{Codec, Product};
use crate::msgpack;

/// Elements in the order of their sending. Invariant: `series`, `due_ns` and each encoding have equal lengths,
/// and `due_ns` never decreases.
#[derive(Debug, Default)]
pub(crate) struct Reel {
    series: Vec<u32>,
    due_ns: Vec<i64>,
    json: Encoded,
    msgpack: OnceLock<Encoded>,
}

/// The elements of a reel in one codec.
#[derive(Debug, Default)]
pub(crate) struct Encoded {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Encoded {
    /// The bytes of element `index`.
    pub(crate) fn element(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).map_or(0, |i| self.ends[i]);
        &self.bytes[start..self.ends[index]]
    }
}

impl Reel {
    /// Appends an element; `json` must be one JSON object, `due_ns` (Unix nanoseconds) is raised to the last one's if it is earlier.
    pub(crate) fn push(&mut self, series: u32, due_ns: i64, json: &[u8]) {
        let last = self.due_ns.last().copied().unwrap_or(i64::MIN);
        self.series.push(series);
        self.due_ns.push(due_ns.max(last));
        self.json.bytes.extend_from_slice(json);
        self.json.ends.push(self.json.bytes.len());
    }

    pub(crate) fn len(&self) -> usize {
        self.series.len()
    }

    /// The series of element `index`.
    pub(crate) fn series(&self, index: usize) -> u32 {
        self.series[index]
    }

    /// When element `index` is to be sent, in Unix nanoseconds of the market's own clock.
    pub(crate) fn due_ns(&self, index: usize) -> i64 {
        self.due_ns[index]
    }

    /// The first element that is due after `due_ns`, from `start` on.
    pub(crate) fn first_after(&self, start: usize, due_ns: i64) -> usize {
        start + self.due_ns[start..].partition_point(|d| *d <= due_ns)
    }

    /// The JSON text of element `index`.
    pub(crate) fn json(&self, index: usize) -> &[u8] {
        self.json.element(index)
    }

    /// Bytes of all JSON texts together.
    pub(crate) fn json_len(&self) -> usize {
        self.json.bytes.len()
    }

    /// The elements in `codec`; the first call for MessagePack encodes them all, about half a microsecond each.
    pub(crate) fn encoded(&self, codec: Codec, catalogue: &Catalogue, received_at: bool) -> &Encoded {
        match codec {
            Codec::Json => &self.json,
            Codec::Msgpack => self.msgpack.get_or_init(|| self.to_msgpack(catalogue, received_at)),
        }
    }

    fn to_msgpack(&self, catalogue: &Catalogue, received_at: bool) -> Encoded {
        let mut encoded = Encoded {
            bytes: Vec::with_capacity(self.json.bytes.len() * 2 / 3),
            ends: Vec::with_capacity(self.len()),
        };
        for index in 0..self.len() {
            encode_msgpack(
                self.json(index),
                self.series[index],
                catalogue,
                received_at.then(|| receive_delay_ns(index)),
                &mut encoded.bytes,
            );
            encoded.ends.push(encoded.bytes.len());
        }
        encoded
    }
}

/// Appends one element of `series` as MessagePack.
fn encode_msgpack(
    json: &[u8],
    series: u32,
    catalogue: &Catalogue,
    received_after_ns: Option<i64>,
    out: &mut Vec<u8>,
) {
    let series = catalogue.get(series);
    let fields = msgpack::Fields {
        channel: series.channel,
        crypto: matches!(series.product, Product::Crypto | Product::Perps),
    };
    let start = out.len();
    let letter = series.channel.letter();
    let written = msgpack::transcode(json, letter, fields, received_after_ns, out);
    if written.is_err() {
        // Whoever fills a reel has parsed its elements, so this is unreachable; nil keeps the array's count right.
        debug_assert!(false, "an element of a reel is not JSON");
        out.truncate(start);
        out.push(0xc0);
    }
}

/// A plausible, repeatable delay between an event and its receipt by the venue: 0.4 to 6 ms.
fn receive_delay_ns(index: usize) -> i64 {
    let scrambled = (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    400_000 + (scrambled % 5_600_000) as i64
}
