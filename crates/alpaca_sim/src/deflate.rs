//! permessage-deflate (RFC 7692): the negotiation and the two directions of it.
//!
//! Windows are always the full 15 bits, so an offer that insists on a smaller one for the server is declined.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

/// The four bytes that end a flushed deflate block and are left off on the wire.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// What was agreed with one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Agreement {
    /// The value of the `Sec-WebSocket-Extensions` header to answer with.
    pub(crate) response: String,
    pub(crate) reset_after_message: bool,
}

/// Picks the first acceptable offer out of a `Sec-WebSocket-Extensions` header.
pub(crate) fn negotiate(offers: &str) -> Option<Agreement> {
    offers.split(',').find_map(accept)
}

fn accept(offer: &str) -> Option<Agreement> {
    let mut parts = offer.split(';').map(str::trim);
    if parts.next() != Some("permessage-deflate") {
        return None;
    }
    let mut agreement = Agreement { response: "permessage-deflate".to_owned(), reset_after_message: false };
    for parameter in parts {
        let (name, value) = match parameter.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim().trim_matches('"'))),
            None => (parameter, None),
        };
        match (name, value) {
            ("server_no_context_takeover", None) => {
                agreement.reset_after_message = true;
                agreement.response.push_str("; server_no_context_takeover");
            }
            ("client_no_context_takeover", None) => {
                agreement.response.push_str("; client_no_context_takeover");
            }
            // A hint of what the client can do: no answer is needed, 15 bits are the default.
            ("client_max_window_bits", _) | ("server_max_window_bits", Some("15")) => {}
            _ => return None,
        }
    }
    Some(agreement)
}

/// Compresses the venue's messages.
pub(crate) struct Deflater {
    stream: Compress,
    reset_after_message: bool,
}

impl Deflater {
    pub(crate) fn new(agreement: &Agreement) -> Deflater {
        Deflater {
            stream: Compress::new(Compression::fast(), false),
            reset_after_message: agreement.reset_after_message,
        }
    }

    /// The payload of a compressed frame, or `None` if the compressor fails.
    pub(crate) fn deflate(&mut self, parts: &[&[u8]]) -> Option<Vec<u8>> {
        let input = parts.concat();
        let mut out = Vec::with_capacity(input.len() / 2 + 64);
        let start = self.stream.total_in();
        loop {
            let used = (self.stream.total_in() - start) as usize;
            self.stream.compress_vec(&input[used..], &mut out, FlushCompress::Sync).ok()?;
            let done = (self.stream.total_in() - start) as usize == input.len();
            if done && out.len() < out.capacity() {
                break;
            }
            out.reserve(out.capacity().max(1024));
        }
        if self.reset_after_message {
            self.stream.reset();
        }
        if out.ends_with(&TAIL) {
            out.truncate(out.len() - TAIL.len());
        }
        Some(out)
    }
}

/// Decompresses a client's messages.
pub(crate) struct Inflater {
    stream: Decompress,
}

impl Inflater {
    pub(crate) fn new() -> Inflater {
        Inflater { stream: Decompress::new(false) }
    }

    /// The message in the joined payload of compressed frames; `None` if it is not deflate or longer than `limit`.
    pub(crate) fn inflate(&mut self, payload: &[u8], limit: usize) -> Option<Vec<u8>> {
        let input = [payload, &TAIL].concat();
        let mut out = Vec::with_capacity(payload.len() * 4 + 64);
        let start = self.stream.total_in();
        loop {
            let used = (self.stream.total_in() - start) as usize;
            let produced = out.len();
            self.stream.decompress_vec(&input[used..], &mut out, FlushDecompress::Sync).ok()?;
            if out.len() > limit {
                return None;
            }
            let now_used = (self.stream.total_in() - start) as usize;
            let room = out.len() < out.capacity();
            if now_used == input.len() && room {
                return Some(out);
            }
            // The decompressor may stop at any block; only a call that changes nothing means that the stream has ended.
            if room && now_used == used && out.len() == produced {
                return None;
            }
            if !room {
                out.reserve(out.capacity());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_of_the_official_clients_are_accepted() {
        let response = |offer| negotiate(offer).map(|a| a.response);
        assert_eq!(
            response("permessage-deflate; client_max_window_bits").as_deref(),
            Some("permessage-deflate")
        );
        assert_eq!(
            response("permessage-deflate; server_no_context_takeover; client_no_context_takeover").as_deref(),
            Some("permessage-deflate; server_no_context_takeover; client_no_context_takeover")
        );
        assert_eq!(
            response("permessage-deflate; server_max_window_bits=10, permessage-deflate").as_deref(),
            Some("permessage-deflate"),
            "the first offer cannot be met, the second can"
        );
        assert_eq!(response("x-webkit-deflate-frame"), None);
        assert_eq!(response("permessage-deflate; surprise"), None);
    }

    #[test]
    fn messages_survive_with_and_without_context_takeover() {
        let large: Vec<u8> = (0..300_000_u32).flat_map(|i| i.wrapping_mul(i).to_le_bytes()).collect();
        for reset_after_message in [false, true] {
            let mut deflater = Deflater::new(&Agreement { response: String::new(), reset_after_message });
            let mut inflater = Inflater::new();
            for message in [&b"hello hello hello"[..], b"", &large, b"hello hello hello"] {
                let packed = deflater.deflate(&[message]).unwrap_or_default();
                assert_eq!(inflater.inflate(&packed, 1 << 24).as_deref(), Some(message));
            }
        }
    }

    #[test]
    fn a_message_compressed_fragment_by_fragment_is_one_message() {
        // So repetitive that the output outgrows every buffer while input is left.
        let fragments: Vec<Vec<u8>> = (0..4)
            .map(|i: u32| (0..20_000_u32).flat_map(|j| (i + j / 100).to_le_bytes()).collect())
            .collect();
        let mut deflater = Compress::new(Compression::fast(), false);
        let mut packed = Vec::with_capacity(1 << 20);
        for fragment in &fragments {
            // Unlike whole messages, the fragments of one keep the tail of their last block.
            deflater
                .compress_vec(fragment, &mut packed, FlushCompress::Sync)
                .unwrap_or(flate2::Status::BufError);
        }
        let message = packed.strip_suffix(&TAIL).unwrap_or_default();
        assert_eq!(Inflater::new().inflate(message, 1 << 20), Some(fragments.concat()));
    }

    #[test]
    fn garbage_and_bombs_are_refused() {
        assert_eq!(Inflater::new().inflate(&[0xff; 40], 1 << 20), None);
        let zeros = vec![0; 1 << 20];
        let agreement = negotiate("permessage-deflate");
        let packed = agreement.and_then(|a| Deflater::new(&a).deflate(&[&zeros]));
        assert_eq!(Inflater::new().inflate(&packed.unwrap_or_default(), 1 << 10), None);
    }
}
