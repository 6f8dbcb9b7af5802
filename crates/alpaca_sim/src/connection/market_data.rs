//! What a client gets of the market: from a reel at its own pace, or from the clock as it comes.

use std::sync::Arc;

use crate::connection::Connection;
use crate::endpoint::Codec;
use crate::journal::EventKind;
use crate::mangle::Piece;
use crate::market::{Batch, Tap};
use crate::msgpack;
use crate::reel::Reel;

/// Bytes that a client who takes data at its own pace has waiting at most, and the level at which more is taken.
const AHEAD_BYTES: usize = 256 << 10;
const REFILL_BYTES: usize = 64 << 10;

impl Connection {
    /// Whether anything in the market may be for this client; a tape waits for one that wants nothing it holds.
    pub(super) fn is_listening(&self) -> bool {
        self.wants_any || (self.weather.has_rename() && !self.session.subscriptions().is_empty())
    }

    /// Takes elements from a reel until enough lies ahead of the client.
    pub(super) fn take_from_reel(&mut self) {
        let Tap::Reel { reel, looped } = &self.tap else {
            return;
        };
        if !self.is_listening() || self.weather.mute || self.outbox.backlog() >= REFILL_BYTES {
            return;
        }
        let (reel, looped) = (Arc::clone(reel), *looped);
        let Some(mut position) = self.session.seat().map(|s| s.position()) else {
            return;
        };
        let (len, market) = (reel.len() as u64, Arc::clone(&self.market));
        let encoded = reel.encoded(self.codec, &market.catalogue, market.received_at);
        // One lap at most, so that a loop without anything wanted ends.
        for _ in 0..len {
            if self.outbox.backlog() >= AHEAD_BYTES || self.at_cut() {
                break;
            }
            if position >= len && !looped {
                break;
            }
            let index = (position % len) as usize;
            self.offer(&reel, encoded.element(index), index);
            position += 1;
        }
        // More is on its way unless the reel or the data has come to an end.
        if (position >= len && !looped) || self.at_cut() {
            self.outbox.flush();
        }
        if let Some(seat) = self.session.seat() {
            seat.set_position(position);
        }
        self.count();
    }

    pub(super) fn note_finished(&mut self) {
        let (Some(seat), Tap::Reel { reel, looped }) = (self.session.seat(), &self.tap) else {
            return;
        };
        let over = !looped && seat.position() >= reel.len() as u64;
        if over && !self.tape_finished && self.outbox.backlog() == 0 {
            self.tape_finished = true;
            self.market.note_finished();
            self.note(EventKind::TapeFinished);
        }
    }

    /// Takes what the clock hands out; a client for whom too much waits is cut.
    pub(super) fn take_batch(&mut self, batch: &Batch) {
        if self.closing.is_some() || self.dead || !self.is_listening() || self.weather.mute {
            return;
        }
        self.outbox.note_lag();
        let market = Arc::clone(&self.market);
        let reel = &batch.reel;
        let encoded = reel.encoded(self.codec, &market.catalogue, market.received_at);
        for index in batch.range.clone() {
            if self.at_cut() {
                break;
            }
            self.offer(reel, encoded.element(index), index);
        }
        self.outbox.settle();
        self.count();
        if self.outbox.backlog() > self.shared.config.send_buffer_bytes {
            self.slow_client();
        }
    }

    /// Whether a fault ends the data here.
    pub(super) fn at_cut(&self) -> bool {
        self.weather.cut_at.is_some_and(|n| self.messages >= n)
    }

    fn offer(&mut self, reel: &Reel, element: &[u8], index: usize) {
        let (series, due_ns) = (reel.series(index), reel.due_ns(index));
        if self.weather.data.is_empty() {
            if self.wanted[series as usize] {
                self.outbox.push(element, due_ns);
                self.market.count_sent(series);
                self.messages += 1;
            }
            return;
        }
        self.offer_mangled(series, reel.json(index), due_ns);
    }

    fn offer_mangled(&mut self, series: u32, json: &[u8], due_ns: i64) {
        let market = Arc::clone(&self.market);
        let about = market.catalogue.get(series);
        let wanted = match self.weather.renamed(&about.symbols[0]) {
            Some(to) => {
                let product = self.session.endpoint.product;
                let fits = market.serves(series, product);
                fits && self.session.subscriptions().wants(about.channel, to)
            }
            None => self.wanted[series as usize],
        };
        if !wanted || self.weather.is_mute(about) {
            return;
        }
        market.count_sent(series);
        for piece in self.mangler.mangle(json, about, &self.weather) {
            self.send_piece(&piece, due_ns);
        }
    }

    pub(super) fn send_piece(&mut self, piece: &Piece, due_ns: i64) {
        if piece.broken_frame {
            self.outbox.payload(&piece.json);
            return;
        }
        self.messages += 1;
        match self.codec {
            Codec::Json => self.outbox.push(&piece.json, due_ns),
            Codec::Msgpack => {
                let mut packed = std::mem::take(&mut self.scratch);
                packed.clear();
                let fields = msgpack::Fields { channel: piece.channel, crypto: piece.crypto };
                if msgpack::transcode(&piece.json, &piece.letter, fields, None, &mut packed).is_ok() {
                    self.outbox.push(&packed, due_ns);
                }
                self.scratch = packed;
            }
        }
    }
}
