//! What one connection still has to write.
//!
//! Elements gather in an open group; a closed group is a frame. A client that keeps up gets one frame per instant; for
//! one that lags, groups stay open and grow. Control messages and pings go between frames.

use crate::control_message::Reply;
use crate::deflate::Deflater;
use crate::endpoint::Codec;
use crate::frame::{Opcode, frame_len, write_frame};
use crate::msgpack;

/// Written bytes are given back from this many on.
const COMPACT_BYTES: usize = 1 << 20;

/// Frames that wait for the socket, and the group that is being filled.
pub(crate) struct Outbox {
    codec: Codec,
    deflater: Option<Deflater>,
    max_per_frame: usize,
    exactly: bool,
    frames: Vec<u8>,
    written: usize,
    group: Vec<u8>,
    in_group: usize,
    group_due_ns: i64,
    lagging: bool,
    frames_made: u64,
}

impl Outbox {
    /// An empty outbox; `per_frame` fixes the size of groups, else they follow time and hold `max_per_frame` at most.
    pub(crate) fn new(
        codec: Codec,
        deflater: Option<Deflater>,
        max_per_frame: usize,
        per_frame: Option<usize>,
    ) -> Outbox {
        Outbox {
            codec,
            deflater,
            max_per_frame: per_frame.unwrap_or(max_per_frame).max(1),
            exactly: per_frame.is_some(),
            frames: Vec::new(),
            written: 0,
            group: Vec::new(),
            in_group: 0,
            group_due_ns: 0,
            lagging: false,
            frames_made: 0,
        }
    }

    /// Adds an element, encoded in this connection's codec, that was due at `due_ns`.
    pub(crate) fn push(&mut self, element: &[u8], due_ns: i64) {
        let instant_over = due_ns != self.group_due_ns && !self.lagging && !self.exactly;
        if self.in_group >= self.max_per_frame || (self.in_group > 0 && instant_over) {
            self.flush();
        }
        if self.codec == Codec::Json && self.in_group > 0 {
            self.group.push(b',');
        }
        self.group.extend_from_slice(element);
        self.in_group += 1;
        self.group_due_ns = due_ns;
    }

    /// Says whether earlier frames still wait, before a batch is pushed.
    pub(crate) fn note_lag(&mut self) {
        self.lagging = self.written < self.frames.len();
    }

    /// Closes the group after a batch, unless it may still grow because the client lags.
    pub(crate) fn settle(&mut self) {
        if !self.lagging {
            self.flush();
        }
    }

    /// Closes the open group.
    pub(crate) fn flush(&mut self) {
        if self.in_group == 0 {
            return;
        }
        let group = std::mem::take(&mut self.group);
        match self.codec {
            Codec::Json => self.message(&[b"[", &group, b"]"]),
            Codec::Msgpack => {
                let mut header = Vec::with_capacity(5);
                msgpack::write_array_len(&mut header, self.in_group);
                self.message(&[&header, &group]);
            }
        }
        self.group = group;
        self.group.clear();
        self.in_group = 0;
    }

    /// Adds a control message, alone in its frame, after all that came before it.
    pub(crate) fn reply(&mut self, reply: &Reply) {
        self.payload(&reply.encode(self.codec));
    }

    /// Adds a frame with this payload, whatever it is.
    pub(crate) fn payload(&mut self, payload: &[u8]) {
        self.flush();
        self.message(&[payload]);
    }

    /// Adds a ping, pong or close frame.
    pub(crate) fn control(&mut self, opcode: Opcode, payload: &[u8]) {
        self.flush();
        write_frame(&mut self.frames, opcode, false, &[payload]);
    }

    fn message(&mut self, parts: &[&[u8]]) {
        let opcode = match self.codec {
            Codec::Json => Opcode::Text,
            Codec::Msgpack => Opcode::Binary,
        };
        self.frames_made += 1;
        match self.deflater.as_mut().and_then(|d| d.deflate(parts)) {
            Some(packed) => write_frame(&mut self.frames, opcode, true, &[&packed]),
            None => write_frame(&mut self.frames, opcode, false, parts),
        }
    }

    /// The bytes that wait for the socket.
    pub(crate) fn unsent(&self) -> &[u8] {
        &self.frames[self.written..]
    }

    /// Notes that `len` bytes have gone to the socket; an emptied outbox closes the group that grew meanwhile.
    pub(crate) fn advance(&mut self, len: usize) {
        self.written += len;
        if self.written == self.frames.len() {
            self.frames.clear();
            self.written = 0;
            if self.lagging {
                self.lagging = false;
                self.flush();
            }
        } else if self.written >= COMPACT_BYTES {
            // A client that never quite catches up must not make this grow for ever.
            let boundary = self.current_frame();
            self.frames.drain(..boundary);
            self.written -= boundary;
        }
    }

    /// Where the frame begins that the socket has taken in part; `frames` itself always begins with a whole frame.
    fn current_frame(&self) -> usize {
        let mut start = 0;
        loop {
            let end = start + frame_len(&self.frames[start..]);
            if end > self.written || end >= self.frames.len() {
                return start;
            }
            start = end;
        }
    }

    /// Bytes not yet taken by the socket, in frames or in the open group.
    pub(crate) fn backlog(&self) -> usize {
        self.unsent().len() + self.group.len()
    }

    /// Forgets everything but the rest of a frame that the socket has taken in part.
    pub(crate) fn keep_current_frame(&mut self) {
        self.group.clear();
        self.in_group = 0;
        if self.written == 0 {
            self.frames.clear();
            return;
        }
        let start = self.current_frame();
        let end = if start == self.written { start } else { start + frame_len(&self.frames[start..]) };
        self.frames.truncate(end);
    }

    /// Forgets everything but half of the last frame, for a cut in its middle.
    pub(crate) fn halve(&mut self) {
        self.flush();
        let half = self.unsent().len().div_ceil(2);
        self.frames.truncate(self.written + half);
    }

    /// Frames with messages made so far.
    pub(crate) fn frames_made(&self) -> u64 {
        self.frames_made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(outbox: &Outbox) -> Vec<String> {
        let mut bytes = outbox.unsent();
        let mut texts = Vec::new();
        while let [_, len, rest @ ..] = bytes {
            let (text, rest) = rest.split_at(usize::from(*len));
            texts.push(String::from_utf8_lossy(text).into_owned());
            bytes = rest;
        }
        texts
    }

    #[test]
    fn one_frame_per_instant_while_the_client_keeps_up() {
        let mut outbox = Outbox::new(Codec::Json, None, 2, None);
        for (element, due_ns) in [("1", 1), ("2", 1), ("3", 1), ("4", 2)] {
            outbox.push(element.as_bytes(), due_ns);
        }
        outbox.settle();
        assert_eq!(texts(&outbox), ["[1,2]", "[3]", "[4]"]);
    }

    #[test]
    fn groups_grow_while_the_client_lags_and_close_when_it_has_caught_up() {
        let mut outbox = Outbox::new(Codec::Json, None, 100, None);
        outbox.push(b"1", 1);
        outbox.settle();
        outbox.note_lag();
        for due_ns in 2..6 {
            outbox.push(b"2", due_ns);
            outbox.settle();
        }
        assert_eq!(texts(&outbox), ["[1]"]);
        assert_eq!(outbox.backlog(), 5 + 7);
        outbox.advance(5);
        assert_eq!(texts(&outbox), ["[2,2,2,2]"]);
    }

    #[test]
    fn a_client_that_never_catches_up_holds_no_more_than_what_waits() {
        let mut outbox = Outbox::new(Codec::Json, None, 1, None);
        let element = [b'7'; 1_000];
        for due_ns in 0..20_000 {
            outbox.push(&element, due_ns);
            outbox.flush();
            if due_ns > 10 {
                outbox.advance(1_000);
            }
        }
        assert!(outbox.frames.len() < 3 * COMPACT_BYTES, "{}", outbox.frames.len());
        outbox.keep_current_frame();
        assert!(outbox.unsent().len() < 1_010);
        let rest = outbox.unsent().to_vec();
        outbox.reply(&Reply::Connected);
        let after = outbox.unsent().strip_prefix(&rest[..]).and_then(|frame| frame.get(2..));
        assert_eq!(after, Some(&br#"[{"T":"success","msg":"connected"}]"#[..]));
    }

    #[test]
    fn control_messages_come_alone_and_in_order() {
        let mut outbox = Outbox::new(Codec::Json, None, 100, None);
        outbox.push(b"1", 1);
        outbox.reply(&Reply::Subscription(Vec::new()));
        outbox.push(b"2", 1);
        outbox.settle();
        assert_eq!(texts(&outbox), ["[1]", r#"[{"T":"subscription"}]"#, "[2]"]);
    }
}
