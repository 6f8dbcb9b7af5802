//! The HTTP request that opens a websocket.

use std::time::Duration;

use data_encoding::BASE64;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Longest request head, in bytes.
const HEAD_LIMIT: usize = 16 << 10;
/// How long a client may take to send it.
const HEAD_TIME_LIMIT: Duration = Duration::from_secs(10);

/// A parsed request head.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) path: String,
    headers: Vec<(String, String)>,
    /// Bytes that came after the head.
    pub(crate) rest: Vec<u8>,
}

/// Credentials given in headers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) key: String,
    pub(crate) secret: String,
}

impl Request {
    /// Reads the head of a request; `None` when the client goes away, is too slow, or sends no HTTP.
    pub(crate) async fn read(stream: &mut TcpStream) -> Option<Request> {
        let read = async {
            let mut bytes = Vec::with_capacity(1024);
            loop {
                if let Some(end) = find_end(&bytes) {
                    let rest = bytes.split_off(end);
                    return parse(&bytes, rest);
                }
                if bytes.len() > HEAD_LIMIT || stream.read_buf(&mut bytes).await.ok()? == 0 {
                    return None;
                }
            }
        };
        tokio::time::timeout(HEAD_TIME_LIMIT, read).await.ok()?
    }

    /// The value of a header, if it is there; several of one name are joined by commas.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let values: Vec<&str> = self
            .headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
            .collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// The 101 answer, with the agreed extension; `None` when this asks for no websocket.
    pub(crate) fn accept(&self, extension: Option<&str>) -> Option<String> {
        let key = self.header("Sec-WebSocket-Key")?;
        let upgrade = self.header("Upgrade")?;
        if !upgrade.eq_ignore_ascii_case("websocket") {
            return None;
        }
        let extension = extension.map(|e| format!("Sec-WebSocket-Extensions: {e}\r\n")).unwrap_or_default();
        Some(format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n{extension}\r\n",
            derive_accept_key(key.as_bytes())
        ))
    }

    /// Credentials in the headers: key and secret, a bearer token (in both fields), or basic.
    pub(crate) fn credentials(&self) -> Option<Credentials> {
        if let (Some(key), Some(secret)) =
            (self.header("APCA-API-KEY-ID"), self.header("APCA-API-SECRET-KEY"))
        {
            return Some(Credentials { key, secret });
        }
        let authorization = self.header("Authorization")?;
        let (scheme, value) = authorization.split_once(' ')?;
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(Credentials { key: "oauth".to_owned(), secret: value.trim().to_owned() });
        }
        let decoded = BASE64.decode(value.trim().as_bytes()).ok()?;
        let (key, secret) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
        scheme
            .eq_ignore_ascii_case("basic")
            .then(|| Credentials { key: key.to_owned(), secret: secret.to_owned() })
    }
}

/// An HTTP answer that refuses the upgrade.
pub(crate) fn refusal(status: u16) -> String {
    let reason = match status {
        400 => "Bad Request",
        404 => "Not Found",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Refused",
    };
    format!("HTTP/1.1 {status} {reason}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

fn find_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|w| w == b"\r\n\r\n").map(|i| i + 4)
}

fn parse(head: &[u8], rest: Vec<u8>) -> Option<Request> {
    let text = std::str::from_utf8(head).ok()?;
    let mut lines = text.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, path, version) = (first.next()?, first.next()?, first.next()?);
    if method != "GET" || !version.starts_with("HTTP/1.") {
        return None;
    }
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    Some(Request { path: path.to_owned(), headers, rest })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn request(headers: &str) -> Request {
        let head = format!("GET /v2/iex HTTP/1.1\r\n{headers}\r\n\r\n");
        parse(head.as_bytes(), Vec::new()).unwrap()
    }

    #[test]
    fn the_key_of_the_rfc_gets_the_answer_of_the_rfc() {
        let asked = request("upgrade: WebSocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==");
        let answer = asked.accept(Some("permessage-deflate")).unwrap();
        assert!(answer.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        assert!(answer.ends_with("Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"));
        assert!(request("Host: x").accept(None).is_none());
    }

    #[test]
    fn credentials_come_in_three_forms() {
        let of = |headers| request(headers).credentials().map(|c| (c.key, c.secret));
        let pair = |k: &str, s: &str| Some((k.to_owned(), s.to_owned()));
        assert_eq!(of("apca-api-key-id: k\r\nAPCA-API-SECRET-KEY: s"), pair("k", "s"));
        assert_eq!(of("Authorization: Bearer tok"), pair("oauth", "tok"));
        assert_eq!(of("Authorization: Basic azpz"), pair("k", "s"));
        assert_eq!(of("Authorization: Basic ???"), None);
        assert_eq!(of("Host: x"), None);
    }
}
