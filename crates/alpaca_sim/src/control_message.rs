//! Control messages: what clients ask and what the venue answers.

use serde_json::Value;

use crate::channel::Channel;
use crate::endpoint::{Codec, Product};
use crate::msgpack;
use crate::subscription::Selection;

/// A client's message, understood.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Request {
    Auth {
        key: String,
        secret: String,
    },
    Subscribe(Selection),
    Unsubscribe(Selection),
    /// Unparsable, an unknown action or channel, nothing selected, a symbol in invalid format.
    Invalid,
    /// A channel that exists, but on another stream.
    OtherStream,
}

/// Reads the payload in whichever codec the connection speaks, without regard to the opcode it came in.
pub(crate) fn parse(payload: &[u8], codec: Codec) -> Option<Value> {
    match codec {
        Codec::Json => serde_json::from_slice(payload).ok(),
        Codec::Msgpack => msgpack::read_value(payload),
    }
}

impl Request {
    /// What `message` asks for on a stream of `product`.
    pub(crate) fn of(message: &Value, product: Product) -> Request {
        let text = |key: &str| message[key].as_str().unwrap_or_default().to_owned();
        match message["action"].as_str() {
            Some("auth") => Request::Auth { key: text("key"), secret: text("secret") },
            Some("subscribe") => select(message, product, Request::Subscribe),
            Some("unsubscribe") => select(message, product, Request::Unsubscribe),
            _ => Request::Invalid,
        }
    }
}

fn select(message: &Value, product: Product, request: fn(Selection) -> Request) -> Request {
    let mut selection = Selection::new();
    let mut other_stream = false;
    for (name, list) in message.as_object().into_iter().flatten() {
        // Null, missing and empty all mean "nothing here", on any stream.
        let empty = list.is_null() || list.as_array().is_some_and(Vec::is_empty);
        if name == "action" || empty {
            continue;
        }
        let Some(channel) = Channel::from_name(name) else {
            return Request::Invalid;
        };
        let Some(symbols) = symbols(list) else {
            return Request::Invalid;
        };
        if !product.channels().contains(&channel) {
            other_stream = true;
        } else if !channel.is_managed() {
            selection.push((channel, symbols));
        }
    }
    if other_stream {
        Request::OtherStream
    } else if selection.is_empty() {
        Request::Invalid
    } else {
        request(selection)
    }
}

fn symbols(list: &Value) -> Option<Vec<String>> {
    let valid = |s: &&str| {
        let printable = s.bytes().all(|b| b.is_ascii_graphic() && b != b',' && b != b'"');
        !s.is_empty() && s.len() <= 32 && printable
    };
    list.as_array()?.iter().map(|v| v.as_str().filter(valid).map(str::to_owned)).collect()
}

/// A control message of the venue; it always travels alone in an array of one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    Connected,
    Authenticated,
    Error(u16),
    /// The acknowledgement: the whole state of the session's subscriptions.
    Subscription(Vec<(&'static str, Value)>),
}

impl Reply {
    /// The payload of the frame.
    pub(crate) fn encode(&self, codec: Codec) -> Vec<u8> {
        let success = |msg: &str| vec![("T", Value::from("success")), ("msg", Value::from(msg))];
        let fields = match self {
            Reply::Connected => success("connected"),
            Reply::Authenticated => success("authenticated"),
            Reply::Error(code) => vec![
                ("T", Value::from("error")),
                ("code", Value::from(*code)),
                ("msg", Value::from(error_text(*code))),
            ],
            Reply::Subscription(lists) => {
                let mut fields = vec![("T", Value::from("subscription"))];
                fields.extend(lists.iter().cloned());
                fields
            }
        };
        match codec {
            Codec::Json => {
                let members: Vec<String> =
                    fields.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
                format!("[{{{}}}]", members.join(",")).into_bytes()
            }
            Codec::Msgpack => {
                let mut out = Vec::new();
                msgpack::write_array_len(&mut out, 1);
                msgpack::write_fields(&mut out, &fields);
                out
            }
        }
    }
}

/// The text that goes with an error code; an unknown code gets one of its own.
pub(crate) fn error_text(code: u16) -> &'static str {
    match code {
        400 => "invalid syntax",
        401 => "not authenticated",
        402 => "auth failed",
        403 => "already authenticated",
        404 => "auth timeout",
        405 => "symbol limit exceeded",
        406 => "connection limit exceeded",
        407 => "slow client",
        408 => "v2 not enabled",
        409 => "insufficient subscription",
        410 => "invalid subscribe action for this feed",
        411 => "insufficient scope",
        412 => "option messages are only available in MsgPack format",
        413 => "star subscription is not allowed for option quotes",
        500 => "internal error",
        _ => "unknown error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn requests_are_understood_or_refused() {
        let trades = |symbols: &[&str]| {
            let symbols = symbols.iter().map(|s| (*s).to_owned()).collect();
            Request::Subscribe(vec![(Channel::Trades, symbols)])
        };
        for (message, expected) in [
            (json!({"action": "subscribe", "trades": ["B", "A"]}), trades(&["B", "A"])),
            (
                json!({"action": "subscribe", "trades": ["A"], "quotes": null, "bars": [], "news": null, "orderbooks": []}),
                trades(&["A"]),
            ),
            (json!({"action": "subscribe", "trades": ["A"], "corrections": ["A"]}), trades(&["A"])),
            (json!({"action": "subscribe", "news": ["A"]}), Request::OtherStream),
            (json!({"action": "subscribe", "bars": []}), Request::Invalid),
            (json!({"action": "subscribe"}), Request::Invalid),
            (json!({"action": "subscribe", "ticks": ["A"]}), Request::Invalid),
            (json!({"action": "subscribe", "trades": "A"}), Request::Invalid),
            (json!({"action": "subscribe", "trades": [7]}), Request::Invalid),
            (json!({"action": "subscribe", "trades": ["A B"]}), Request::Invalid),
            (json!({"action": "dance"}), Request::Invalid),
            (json!([]), Request::Invalid),
            (json!(7), Request::Invalid),
            (json!({"action": "auth", "key": "k"}), Request::Auth { key: "k".into(), secret: String::new() }),
        ] {
            assert_eq!(Request::of(&message, Product::Stocks), expected, "{message}");
        }
    }

    #[test]
    fn replies_are_arrays_of_one_with_t_first() {
        let json = |reply: Reply| String::from_utf8(reply.encode(Codec::Json)).unwrap_or_default();
        assert_eq!(json(Reply::Connected), r#"[{"T":"success","msg":"connected"}]"#);
        assert_eq!(
            json(Reply::Error(406)),
            r#"[{"T":"error","code":406,"msg":"connection limit exceeded"}]"#
        );
        assert_eq!(json(Reply::Subscription(vec![])), r#"[{"T":"subscription"}]"#);
        let packed = Reply::Subscription(vec![("trades", json!(["A"]))]).encode(Codec::Msgpack);
        assert_eq!(packed, b"\x91\x82\xa1T\xacsubscription\xa6trades\x91\xa1A");
    }
}
