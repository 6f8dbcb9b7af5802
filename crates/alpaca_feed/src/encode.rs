//! What the client says to the venue, in both codecs.
//!
//! The action is always the first key. Requests name only channels that a client may ask for and that have symbols:
//! the venue answers an empty list with 400.

use crate::message::Codec;
use crate::subscription::Subscriptions;

/// A request; the venue wants one per frame. Has no `Debug`, since it holds the credentials.
#[derive(Copy, Clone)]
pub enum Request<'a> {
    /// Shows the credentials.
    Auth {
        /// Key id.
        key: &'a str,
        /// Secret.
        secret: &'a str,
    },
    /// Adds pairs. Do not send it where no pair is requestable: the venue takes it for a syntax error.
    Subscribe(&'a Subscriptions),
    /// Takes pairs away; as for [`Self::Subscribe`].
    Unsubscribe(&'a Subscriptions),
}

/// Appends `request` to `out`.
pub fn encode(codec: Codec, request: &Request<'_>, out: &mut Vec<u8>) {
    match codec {
        Codec::Json => write(&mut Json { out, fresh: true }, request),
        Codec::MessagePack => write(&mut MessagePack { out }, request),
    }
}

/// What both codecs can write; containers are told their size first, as MessagePack needs it.
trait Writer {
    fn open_object(&mut self, pairs: usize);
    fn close_object(&mut self);
    fn open_array(&mut self, values: usize);
    fn close_array(&mut self);
    fn key(&mut self, key: &str);
    fn text(&mut self, text: &str);
}

fn write(writer: &mut impl Writer, request: &Request<'_>) {
    match request {
        Request::Auth { key, secret } => {
            writer.open_object(3);
            for (name, value) in [("action", "auth"), ("key", key), ("secret", secret)] {
                writer.key(name);
                writer.text(value);
            }
            writer.close_object();
        }
        Request::Subscribe(pairs) => write_pairs(writer, "subscribe", pairs),
        Request::Unsubscribe(pairs) => write_pairs(writer, "unsubscribe", pairs),
    }
}

fn write_pairs(writer: &mut impl Writer, action: &str, pairs: &Subscriptions) {
    let requestable = || pairs.channels().filter(|(channel, _)| channel.is_requestable());
    writer.open_object(1 + requestable().count());
    writer.key("action");
    writer.text(action);
    for (channel, symbols) in requestable() {
        writer.key(channel.as_str());
        writer.open_array(symbols.len());
        for symbol in symbols {
            writer.text(symbol);
        }
        writer.close_array();
    }
    writer.close_object();
}

struct Json<'a> {
    out: &'a mut Vec<u8>,
    /// Nothing yet in the current container, or right after a key: no comma is due.
    fresh: bool,
}

impl Json<'_> {
    fn comma(&mut self) {
        if !std::mem::replace(&mut self.fresh, false) {
            self.out.push(b',');
        }
    }

    fn open(&mut self, bracket: u8) {
        self.comma();
        self.out.push(bracket);
        self.fresh = true;
    }

    fn close(&mut self, bracket: u8) {
        self.out.push(bracket);
        self.fresh = false;
    }
}

impl Writer for Json<'_> {
    fn open_object(&mut self, _: usize) {
        self.open(b'{');
    }

    fn close_object(&mut self) {
        self.close(b'}');
    }

    fn open_array(&mut self, _: usize) {
        self.open(b'[');
    }

    fn close_array(&mut self) {
        self.close(b']');
    }

    fn key(&mut self, key: &str) {
        self.text(key);
        self.out.push(b':');
        self.fresh = true;
    }

    fn text(&mut self, text: &str) {
        self.comma();
        self.out.push(b'"');
        for byte in text.bytes() {
            match byte {
                b'"' | b'\\' => self.out.extend([b'\\', byte]),
                0..0x20 => self.out.extend(format!("\\u{byte:04x}").bytes()),
                _ => self.out.push(byte),
            }
        }
        self.out.push(b'"');
    }
}

struct MessagePack<'a> {
    out: &'a mut Vec<u8>,
}

impl MessagePack<'_> {
    /// The shortest of the markers for `len`: `fix` up to `fix_max`, then those with 8 (texts only), 16 and 32 bits.
    fn marker(&mut self, len: usize, (fix, fix_max): (u8, u8), wider: (Option<u8>, u8, u8)) {
        match (u8::try_from(len), u16::try_from(len), wider) {
            (Ok(len), ..) if len <= fix_max => self.out.push(fix | len),
            (Ok(len), _, (Some(marker), ..)) => self.out.extend([marker, len]),
            (_, Ok(len), (_, marker, _)) => {
                self.out.push(marker);
                self.out.extend(len.to_be_bytes());
            }
            (.., (_, _, marker)) => {
                self.out.push(marker);
                // Longer than 32 bits tell no request is: its symbols would not fit in memory.
                self.out.extend(u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
            }
        }
    }
}

impl Writer for MessagePack<'_> {
    fn open_object(&mut self, pairs: usize) {
        self.marker(pairs, (0x80, 15), (None, 0xde, 0xdf));
    }

    fn close_object(&mut self) {}

    fn open_array(&mut self, values: usize) {
        self.marker(values, (0x90, 15), (None, 0xdc, 0xdd));
    }

    fn close_array(&mut self) {}

    fn key(&mut self, key: &str) {
        self.text(key);
    }

    fn text(&mut self, text: &str) {
        self.marker(text.len(), (0xa0, 31), (Some(0xd9), 0xda, 0xdb));
        self.out.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscription::Channel;

    fn check(request: Request<'_>, json: &str, message_pack: &[u8]) {
        let (mut text, mut binary) = (Vec::new(), Vec::new());
        encode(Codec::Json, &request, &mut text);
        encode(Codec::MessagePack, &request, &mut binary);
        assert_eq!(String::from_utf8_lossy(&text), json);
        assert_eq!(binary.escape_ascii().to_string(), message_pack.escape_ascii().to_string());
    }

    #[test]
    fn credentials_are_written_whatever_they_hold() {
        check(
            Request::Auth { key: "k", secret: "a\"b\\c\n€" },
            r#"{"action":"auth","key":"k","secret":"a\"b\\c\u000a€"}"#,
            b"\x83\xa6action\xa4auth\xa3key\xa1k\xa6secret\xa9a\"b\\c\n\xe2\x82\xac",
        );
    }

    #[test]
    fn requests_list_channels_and_symbols_in_order_and_only_those_a_client_may_ask_for() {
        let pairs: Subscriptions = [
            (Channel::Bars, "*"),
            (Channel::CancelErrors, "SPY"),
            (Channel::Corrections, "SPY"),
            (Channel::Trades, "SPY"),
            (Channel::Trades, "BTC/USD"),
        ]
        .into_iter()
        .collect();
        check(
            Request::Subscribe(&pairs),
            r#"{"action":"subscribe","trades":["BTC/USD","SPY"],"bars":["*"]}"#,
            b"\x83\xa6action\xa9subscribe\xa6trades\x92\xa7BTC/USD\xa3SPY\xa4bars\x91\xa1*",
        );
        check(
            Request::Unsubscribe(&Subscriptions::default()),
            r#"{"action":"unsubscribe"}"#,
            b"\x81\xa6action\xabunsubscribe",
        );
    }
}
