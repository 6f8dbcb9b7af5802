//! A venue without manners: it never reads, and floods a client until the socket itself is gone. The
//! simulated venue stops at a close frame, as the real one does; this one shows who stops listening.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

const HANDSHAKE: [&str; 3] = [
    r#"[{"T":"success","msg":"connected"}]"#,
    r#"[{"T":"success","msg":"authenticated"}]"#,
    r#"[{"T":"subscription","trades":["SPY"],"quotes":["SPY"],"bars":["SPY"]}]"#,
];
const QUOTE: &str = r#"[{"T":"q","S":"SPY","bp":1,"bs":1,"ap":2,"as":1,"t":"2026-10-06T14:30:00Z"}]"#;

/// Starts it for one client; it ends with the client's socket.
///
/// # Panics
/// When no loopback port can be had.
#[must_use]
pub fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        // Its end is the client's doing, and is what the test looks at from the other side.
        let _ = listener.accept().and_then(|(stream, _)| flood(stream));
    });
    address
}

fn flood(mut stream: TcpStream) -> std::io::Result<()> {
    let mut key = String::new();
    for line in BufReader::new(stream.try_clone()?).lines() {
        let line = line?;
        if let Some((_, value)) =
            line.split_once(": ").filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"))
        {
            key = derive_accept_key(value.trim().as_bytes());
        }
        if line.is_empty() {
            break;
        }
    }
    write!(
        stream,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {key}\r\n\r\n"
    )?;
    for text in HANDSHAKE {
        stream.write_all(&frame(text))?;
    }
    let quotes = frame(QUOTE).repeat(20);
    loop {
        stream.write_all(&quotes)?;
    }
}

/// A whole text frame, unmasked, shorter than 126 bytes.
fn frame(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).ok().filter(|length| *length < 126).expect("a short text");
    [&[0x81, length], text.as_bytes()].concat()
}
