//! WebSocket frames (RFC 6455), the server's side of them.
//!
//! Written by hand so that the venue can do what a library will not: leave a Close unanswered, stop in the middle
//! of a frame, and send a prepared buffer without touching its elements. Clients' frames must be masked, may be
//! fragmented with control frames in between, and may be compressed.

use crate::deflate::Inflater;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV: u8 = 0x70;

/// The opcodes in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Opcode {
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

/// Appends an unmasked, final frame.
pub(crate) fn write_frame(out: &mut Vec<u8>, opcode: Opcode, compressed: bool, payload: &[&[u8]]) {
    let len: usize = payload.iter().map(|p| p.len()).sum();
    out.push(FIN | opcode as u8 | if compressed { RSV1 } else { 0 });
    if len < 126 {
        out.push(len as u8);
    } else if let Ok(short) = u16::try_from(len) {
        out.push(126);
        out.extend_from_slice(&short.to_be_bytes());
    } else {
        out.push(127);
        out.extend_from_slice(&(len as u64).to_be_bytes());
    }
    for part in payload {
        out.extend_from_slice(part);
    }
}

/// The length of the frame that begins `bytes`, written by [`write_frame`].
pub(crate) fn frame_len(bytes: &[u8]) -> usize {
    match *bytes {
        [_, 126, a, b, ..] => 4 + usize::from(u16::from_be_bytes([a, b])),
        [_, 127, a, b, c, d, e, f, g, h, ..] => 10 + u64::from_be_bytes([a, b, c, d, e, f, g, h]) as usize,
        [_, len, ..] => 2 + usize::from(len),
        _ => bytes.len(),
    }
}

/// What a client sent, fragments joined and compression undone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    Message(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    /// The code and reason are those of the frame; `None` when it carried none.
    Close(Option<(u16, String)>),
}

/// Why a client's bytes are not WebSocket frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameError {
    Unmasked,
    ReservedBits,
    BadOpcode,
    BadControlFrame,
    BadContinuation,
    TooLong,
    BadCompression,
}

/// Longest message taken from a client, in bytes; real ones are a few kilobytes.
const MESSAGE_LIMIT: usize = 16 << 20;

/// Splits the bytes of a client into messages.
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    inflater: Option<Inflater>,
    partial: Option<Partial>,
}

struct Partial {
    compressed: bool,
    payload: Vec<u8>,
}

impl Inbox {
    /// An inbox that begins with the bytes that followed the upgrade request.
    pub(crate) fn new(first: Vec<u8>, inflater: Option<Inflater>) -> Inbox {
        Inbox { bytes: first, inflater, partial: None }
    }

    /// The buffer to append received bytes to.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The next message, or `None` until more bytes have come.
    pub(crate) fn next(&mut self) -> Result<Option<Incoming>, FrameError> {
        loop {
            let Some(frame) = self.take_frame()? else {
                return Ok(None);
            };
            let control = frame.opcode >= 8;
            if control {
                if !frame.fin || frame.payload.len() > 125 || frame.compressed {
                    return Err(FrameError::BadControlFrame);
                }
                return control_frame(frame.opcode, frame.payload).map(Some);
            }
            if let Some(message) = self.join(frame)? {
                return Ok(Some(Incoming::Message(message)));
            }
        }
    }

    fn join(&mut self, frame: Frame) -> Result<Option<Vec<u8>>, FrameError> {
        let mut partial = match (frame.opcode, self.partial.take()) {
            (0, Some(mut partial)) => {
                partial.payload.extend_from_slice(&frame.payload);
                partial
            }
            (1 | 2, None) => Partial { compressed: frame.compressed, payload: frame.payload },
            (0..=2, _) => return Err(FrameError::BadContinuation),
            _ => return Err(FrameError::BadOpcode),
        };
        if partial.payload.len() > MESSAGE_LIMIT {
            return Err(FrameError::TooLong);
        }
        if !frame.fin {
            self.partial = Some(partial);
            return Ok(None);
        }
        if partial.compressed {
            let inflater = self.inflater.as_mut().ok_or(FrameError::ReservedBits)?;
            partial.payload =
                inflater.inflate(&partial.payload, MESSAGE_LIMIT).ok_or(FrameError::BadCompression)?;
        }
        Ok(Some(partial.payload))
    }

    fn take_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let [head, second, rest @ ..] = self.bytes.as_slice() else {
            return Ok(None);
        };
        if second & 0x80 == 0 {
            return Err(FrameError::Unmasked);
        }
        let compressed = head & RSV1 != 0;
        if head & RSV & !RSV1 != 0 || (compressed && self.inflater.is_none()) {
            return Err(FrameError::ReservedBits);
        }
        let (len, at) = match second & 0x7f {
            126 => match rest.first_chunk() {
                Some(len) => (u64::from(u16::from_be_bytes(*len)), 4),
                None => return Ok(None),
            },
            127 => match rest.first_chunk() {
                Some(len) => (u64::from_be_bytes(*len), 10),
                None => return Ok(None),
            },
            short => (u64::from(short), 2),
        };
        let len = usize::try_from(len).map_err(|_| FrameError::TooLong)?;
        if len > MESSAGE_LIMIT {
            return Err(FrameError::TooLong);
        }
        let Some(body) = self.bytes.get(at..at + 4 + len) else {
            return Ok(None);
        };
        let (mask, masked) = body.split_at(4);
        let payload = masked.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        let frame = Frame { fin: head & FIN != 0, compressed, opcode: head & 0x0f, payload };
        self.bytes.drain(..at + 4 + len);
        Ok(Some(frame))
    }
}

struct Frame {
    fin: bool,
    compressed: bool,
    opcode: u8,
    payload: Vec<u8>,
}

fn control_frame(opcode: u8, payload: Vec<u8>) -> Result<Incoming, FrameError> {
    match opcode {
        8 => Ok(Incoming::Close(payload.split_first_chunk().map(|(code, reason)| {
            let reason = String::from_utf8_lossy(reason).into_owned();
            (u16::from_be_bytes(*code), reason)
        }))),
        9 => Ok(Incoming::Ping(payload)),
        10 => Ok(Incoming::Pong),
        _ => Err(FrameError::BadOpcode),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![first, 0x80 | payload.len() as u8, 1, 2, 3, 4];
        out.extend(payload.iter().zip([1, 2, 3, 4].iter().cycle()).map(|(b, k)| b ^ k));
        out
    }

    #[test]
    fn fragments_join_around_control_frames_byte_by_byte() {
        let bytes =
            [masked(0x02, b"ab"), masked(0x89, b"hi"), masked(0x00, b"cd"), masked(0x80, b"")].concat();
        let mut inbox = Inbox::new(Vec::new(), None);
        let mut got = Vec::new();
        for byte in bytes {
            inbox.buffer().push(byte);
            while let Ok(Some(incoming)) = inbox.next() {
                got.push(incoming);
            }
        }
        assert_eq!(got, [Incoming::Ping(b"hi".to_vec()), Incoming::Message(b"abcd".to_vec())]);
    }

    #[test]
    fn what_no_client_may_send_is_refused() {
        for (bytes, error) in [
            (vec![0x81, 0x01, b'a'], FrameError::Unmasked),
            (masked(0xc1, b"a"), FrameError::ReservedBits),
            (masked(0xa1, b"a"), FrameError::ReservedBits),
            (masked(0x83, b"a"), FrameError::BadOpcode),
            (masked(0x80, b"a"), FrameError::BadContinuation),
            (masked(0x09, b"a"), FrameError::BadControlFrame),
            (vec![0x82, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0], FrameError::TooLong),
        ] {
            let mut inbox = Inbox::new(bytes, None);
            assert_eq!(inbox.next(), Err(error));
        }
    }

    #[test]
    fn a_close_gives_its_code_and_reason() {
        let mut inbox = Inbox::new(masked(0x88, b"\x03\xe8bye"), None);
        let close = Incoming::Close(Some((1000, "bye".to_owned())));
        assert_eq!(inbox.next(), Ok(Some(close)));
    }

    #[test]
    fn lengths_take_their_three_forms() {
        for (len, header) in [(125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let mut out = Vec::new();
            write_frame(&mut out, Opcode::Binary, false, &[&vec![0; len]]);
            assert_eq!(out.len(), header + len);
            assert_eq!(frame_len(&out), out.len());
        }
    }
}
