//! What the market has sent, indexed for the data port: rows per kind and symbol, in the order of a page.
//!
//! A row is sixteen bytes that point at an element of a reel, so that a page costs its own rows and a few binary
//! searches, however long the tape. Invariants: a table is sorted by [`Place`]; `seq` numbers the elements in the
//! order of sending; a market without end gives up its oldest reels beyond a bound in bytes.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Number;

use crate::catalogue::Catalogue;
use crate::channel::Channel;
use crate::reel::Reel;

/// Bytes that a market without end keeps for the data port.
pub(crate) const KEPT_BYTES: usize = 256 << 20;
/// What an element and a reel cost beside the JSON text: rows, ends, due times, MessagePack ends.
const ELEMENT_BYTES: usize = 64;
const REEL_BYTES: usize = 256;

/// What the data port has history of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Trades,
    Quotes,
    /// Minute bars, `u` in place of `b` where there is one.
    Bars,
    News,
}

impl Kind {
    fn of(channel: Channel) -> Option<Kind> {
        match channel {
            Channel::Trades => Some(Kind::Trades),
            Channel::Quotes => Some(Kind::Quotes),
            Channel::Bars | Channel::UpdatedBars => Some(Kind::Bars),
            Channel::News => Some(Kind::News),
            Channel::DailyBars
            | Channel::Statuses
            | Channel::Lulds
            | Channel::Imbalances
            | Channel::Orderbooks
            | Channel::Pricing
            | Channel::Corrections
            | Channel::CancelErrors => None,
        }
    }
}

/// Where a row stands among those of its table: by time, then exchange and id (trades), then the order of sending.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) ts_ns: i64,
    pub(crate) exchange: String,
    /// The id plus 2^63, as page tokens have it; of bars, 1 for an updated one.
    pub(crate) id: u128,
    pub(crate) seq: u64,
}

impl Place {
    /// Whether a row differs from another one only in the order of sending.
    pub(crate) fn ties(&self, other: &Place) -> bool {
        (self.ts_ns, &self.exchange, self.id) == (other.ts_ns, &other.exchange, other.id)
    }
}

#[derive(Clone, Copy, Debug)]
struct Row {
    ts_ns: i64,
    seq: u64,
}

/// Which rows are asked for. Both ends belong to it.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) start_ns: i64,
    pub(crate) end_ns: i64,
    pub(crate) descending: bool,
    /// The row after which to go on, in the direction asked for.
    pub(crate) after: Option<Place>,
}

/// A row that was found.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    row: Row,
    reel: Arc<Reel>,
    index: usize,
}

impl Found {
    /// The element as the stream sends it in JSON.
    pub(crate) fn json(&self) -> &[u8] {
        self.reel.json(self.index)
    }
}

/// The index.
pub(crate) struct History {
    reels: Reels,
    tables: Vec<VecDeque<Row>>,
    /// The table of each series, by its number.
    of_series: Vec<Option<usize>>,
    /// News is one table, under no symbol.
    by_name: HashMap<(Kind, String), usize>,
    updated: Vec<bool>,
    bound_bytes: usize,
}

impl History {
    /// An empty history of all series of `catalogue` that the data port serves.
    pub(crate) fn new(catalogue: &Catalogue, bound_bytes: usize) -> History {
        let mut by_name = HashMap::new();
        let of_series = catalogue.all().iter().map(|series| {
            let kind = Kind::of(series.channel)?;
            let symbol = if kind == Kind::News { String::new() } else { series.label() };
            let next = by_name.len();
            Some(*by_name.entry((kind, symbol)).or_insert(next))
        });
        let of_series = of_series.collect();
        let mut tables = Vec::new();
        tables.resize_with(by_name.len(), VecDeque::new);
        let updated = catalogue.all().iter().map(|s| s.channel == Channel::UpdatedBars).collect();
        History { reels: Reels::default(), tables, of_series, by_name, updated, bound_bytes }
    }

    /// Appends what the market sends next, and gives up the oldest reels beyond the bound.
    pub(crate) fn add(&mut self, reel: &Arc<Reel>) {
        if reel.len() == 0 {
            return;
        }
        let first = self.reels.push(Arc::clone(reel));
        for index in 0..reel.len() {
            let Some(table) = self.of_series[reel.series(index) as usize] else { continue };
            let Some(ts_ns) = ts_ns(reel.json(index)) else { continue };
            let row = Row { ts_ns, seq: first + index as u64 };
            // Nearly every row is the newest of its table, so this is nearly always the end.
            let at = match self.tables[table].back() {
                Some(last) if last.ts_ns >= ts_ns => self.rank(table, row),
                Some(_) | None => self.tables[table].len(),
            };
            self.tables[table].insert(at, row);
        }
        while self.reels.bytes > self.bound_bytes && self.reels.held.len() > 1 {
            self.give_up_oldest();
        }
    }

    fn give_up_oldest(&mut self) {
        let Some((first, reel)) = self.reels.held.front().cloned() else { return };
        for index in 0..reel.len() {
            let Some(table) = self.of_series[reel.series(index) as usize] else { continue };
            let Some(ts_ns) = ts_ns(reel.json(index)) else { continue };
            let at = self.rank(table, Row { ts_ns, seq: first + index as u64 });
            self.tables[table].remove(at);
        }
        self.reels.held.pop_front();
        self.reels.bytes -= bytes_of(&reel);
    }

    /// Where `row` stands in its table, or belongs.
    fn rank(&self, table: usize, row: Row) -> usize {
        let place = self.place(row);
        self.tables[table].partition_point(|r| self.is_before(*r, &place))
    }

    fn is_before(&self, row: Row, place: &Place) -> bool {
        row.ts_ns < place.ts_ns || (row.ts_ns == place.ts_ns && self.place(row) < *place)
    }

    fn place(&self, row: Row) -> Place {
        let mut place = Place { ts_ns: row.ts_ns, exchange: String::new(), id: 0, seq: row.seq };
        let (reel, index) = self.reels.locate(row.seq);
        if self.updated[reel.series(index) as usize] {
            place.id = 1;
        } else if let Ok(identity) = serde_json::from_slice::<Identity<'_>>(reel.json(index)) {
            place.exchange = identity.exchange.map(Cow::into_owned).unwrap_or_default();
            place.id = identity.id.map_or(0, |id| page_id(&id));
        }
        place
    }

    fn found(&self, row: Row) -> Found {
        let (reel, index) = self.reels.locate(row.seq);
        Found { row, reel: Arc::clone(reel), index }
    }

    /// The place of a row that was just found.
    pub(crate) fn place_of(&self, found: &Found) -> Place {
        self.place(found.row)
    }

    /// Appends to `found` the rows of `kind` about `symbol` in `span` that were due until `due_ns`, until `found`
    /// holds `max`. For news, `wanted` chooses by series.
    pub(crate) fn find(
        &self,
        (kind, symbol): (Kind, &str),
        span: &Span,
        due_ns: i64,
        max: usize,
        wanted: impl Fn(u32) -> bool,
        found: &mut Vec<Found>,
    ) {
        let Some(table) = self.by_name.get(&(kind, symbol.to_owned())) else {
            return;
        };
        let rows = &self.tables[*table];
        let published_seq = self.reels.end_of(due_ns);
        // Nothing is due before its own time, so later rows need not be looked at.
        let end_ns = span.end_ns.min(due_ns);
        let mut from = rows.partition_point(|r| r.ts_ns < span.start_ns);
        let mut to = rows.partition_point(|r| r.ts_ns <= end_ns);
        match &span.after {
            Some(after) if span.descending => {
                to = to.min(rows.partition_point(|r| self.is_before(*r, after)));
            }
            Some(after) => {
                let gone = |r: &Row| self.is_before(*r, after) || self.place(*r) == *after;
                from = from.max(rows.partition_point(gone));
            }
            None => {}
        }
        let here = found.len();
        for step in 0..to.saturating_sub(from) {
            let row = rows[if span.descending { to - 1 - step } else { from + step }];
            if row.seq >= published_seq || !wanted(self.reels.series(row.seq)) {
                continue;
            }
            if kind == Kind::Bars
                && let Some(last) = found[here..].last_mut()
                && last.row.ts_ns == row.ts_ns
            {
                // The last version of a bar is the final one: back in time it comes first.
                if !span.descending {
                    *last = self.found(row);
                }
                continue;
            }
            if found.len() >= max {
                return;
            }
            found.push(self.found(row));
        }
    }
}

/// The reels that are kept, each with the number of its first element.
#[derive(Default)]
struct Reels {
    held: VecDeque<(u64, Arc<Reel>)>,
    next_seq: u64,
    bytes: usize,
}

impl Reels {
    fn push(&mut self, reel: Arc<Reel>) -> u64 {
        let first = self.next_seq;
        self.next_seq += reel.len() as u64;
        self.bytes += bytes_of(&reel);
        self.held.push_back((first, reel));
        first
    }

    /// The number after the last element that was due until `due_ns`.
    fn end_of(&self, due_ns: i64) -> u64 {
        let begun = self.held.partition_point(|(_, reel)| reel.due_ns(0) <= due_ns);
        let last = begun.checked_sub(1).map(|i| &self.held[i]);
        last.map_or(0, |(first, reel)| first + reel.first_after(0, due_ns) as u64)
    }

    /// The element with number `seq`, which must be held.
    fn locate(&self, seq: u64) -> (&Arc<Reel>, usize) {
        let at = self.held.partition_point(|(first, _)| *first <= seq) - 1;
        let (first, reel) = &self.held[at];
        (reel, (seq - first) as usize)
    }

    fn series(&self, seq: u64) -> u32 {
        let (reel, index) = self.locate(seq);
        reel.series(index)
    }
}

/// A reel's share of the bound; its MessagePack form, once made, is never longer than the JSON.
fn bytes_of(reel: &Reel) -> usize {
    REEL_BYTES + reel.len() * ELEMENT_BYTES + 2 * reel.json_len()
}

/// The time of an element in Unix nanoseconds; of a news item, when it was created.
fn ts_ns(json: &[u8]) -> Option<i64> {
    #[derive(Deserialize)]
    struct When<'a> {
        #[serde(rename = "t", borrow)]
        at: Option<Cow<'a, str>>,
        #[serde(borrow)]
        created_at: Option<Cow<'a, str>>,
    }
    let when: When<'_> = serde_json::from_slice(json).ok()?;
    let at: Timestamp = when.at.or(when.created_at)?.parse().ok()?;
    i64::try_from(at.as_nanosecond()).ok()
}

/// What tells trades of one instant apart.
#[derive(Deserialize)]
struct Identity<'a> {
    #[serde(rename = "x", borrow)]
    exchange: Option<Cow<'a, str>>,
    #[serde(rename = "i", alias = "id")]
    id: Option<Number>,
}

/// An id as page tokens have it: 2^63 above its value, so that negative ones sort first.
fn page_id(id: &Number) -> u128 {
    const OFFSET: u128 = 1 << 63;
    match (id.as_u64(), id.as_i64()) {
        (Some(id), _) => OFFSET + u128::from(id),
        (None, Some(negative)) => OFFSET - u128::from(negative.unsigned_abs()),
        (None, None) => OFFSET,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ALL: Span = Span { start_ns: i64::MIN, end_ns: i64::MAX, descending: false, after: None };

    fn reel(catalogue: &mut Catalogue, trades: &[(i64, u64)]) -> Arc<Reel> {
        let series = catalogue.intern(Channel::Trades, "SPY");
        let mut reel = Reel::default();
        for (s, id) in trades {
            let at = Timestamp::from_second(*s).unwrap();
            let json = format!(r#"{{"T":"t","S":"SPY","i":{id},"x":"V","p":1,"t":"{at}"}}"#);
            reel.push(series, s * 1_000_000_000, json.as_bytes());
        }
        Arc::new(reel)
    }

    fn ids(history: &History, span: &Span, due_ns: i64) -> Vec<u64> {
        let mut found = Vec::new();
        history.find((Kind::Trades, "SPY"), span, due_ns, 1_000, |_| true, &mut found);
        found.iter().map(|f| (history.place_of(f).id - (1 << 63)) as u64).collect()
    }

    #[test]
    fn rows_are_in_the_order_of_time_exchange_and_id_and_public_once_due() {
        let mut catalogue = Catalogue::default();
        let trades = reel(&mut catalogue, &[(5, 3), (5, 1), (6, 9), (4, 7), (6, 2)]);
        let mut history = History::new(&catalogue, usize::MAX);
        history.add(&trades);
        assert_eq!(ids(&history, &ALL, i64::MAX), [7, 1, 3, 2, 9]);
        assert_eq!(ids(&history, &ALL, 5_000_000_000), [1, 3], "the late print is due after what it follows");
        assert!(ids(&history, &ALL, i64::MIN).is_empty());
        let back = Span { descending: true, ..ALL };
        assert_eq!(ids(&history, &back, i64::MAX), [9, 2, 3, 1, 7]);
    }

    #[test]
    fn beyond_the_bound_the_oldest_reels_are_given_up_exactly() {
        let mut catalogue = Catalogue::default();
        let reels: Vec<_> = (0..20)
            .map(|i| {
                // Every third one reports late, into the time of its forerunners.
                let s = if i % 3 == 0 { 1 } else { 100 + i };
                reel(&mut catalogue, &[(s, i as u64), (s, 100 + i as u64)])
            })
            .collect();
        let mut history = History::new(&catalogue, 5 * bytes_of(&reels[19]));
        for (i, reel) in reels.iter().enumerate() {
            history.add(reel);
            let mut kept = ids(&history, &ALL, i64::MAX);
            kept.sort_unstable();
            assert!(kept.len() <= 10, "{kept:?}");
            assert!(kept.contains(&(i as u64)), "the newest stays");
            let oldest = kept[0];
            let expected = (oldest..=i as u64).flat_map(|id| [id, 100 + id]).collect::<Vec<_>>();
            assert_eq!(kept.len(), expected.len());
            assert!(expected.iter().all(|id| kept.contains(id)), "{kept:?}");
        }
        assert!(ids(&history, &ALL, i64::MAX).len() >= 8, "the bound is used");
    }
}
