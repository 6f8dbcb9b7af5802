//! Venues without manners. The simulated venue stops at a close frame, as the real one does; these show who stops
//! listening.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

const HANDSHAKE: [&str; 3] = [
    r#"[{"T":"success","msg":"connected"}]"#,
    r#"[{"T":"success","msg":"authenticated"}]"#,
    r#"[{"T":"subscription","trades":["SPY"],"quotes":["SPY"],"bars":["SPY"]}]"#,
];
const QUOTE: &str = r#"[{"T":"q","S":"SPY","bp":1,"bs":1,"ap":2,"as":1,"t":"2026-10-06T14:30:00Z"}]"#;

/// Close, with 1012 (service restart) and no reason.
const GOODBYE: [u8; 4] = [0x88, 2, 0x03, 0xf4];

/// Starts one that never reads, and floods its one client until the socket itself is gone.
///
/// # Panics
/// When no loopback port can be had.
#[must_use]
pub fn start() -> SocketAddr {
    serve(flood)
}

/// Starts one that says goodbye to its one client once that is subscribed, and then holds on to the socket.
///
/// # Panics
/// When no loopback port can be had.
#[must_use]
pub fn start_lingering() -> SocketAddr {
    serve(linger)
}

/// Starts one that sends its one client this many bytes of pings and reads none of the answers, then a quote.
///
/// # Panics
/// When no loopback port can be had.
#[must_use]
pub fn start_pinging<const BYTES: usize>() -> SocketAddr {
    serve(ping::<BYTES>)
}

fn serve(one: fn(TcpStream) -> std::io::Result<()>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        // Its end is the client's doing, and is what the test looks at from the other side.
        let _ = listener.accept().and_then(|(stream, _)| one(stream));
    });
    address
}

fn flood(mut stream: TcpStream) -> std::io::Result<()> {
    greet(&mut stream)?;
    let quotes = frame(QUOTE).repeat(20);
    loop {
        stream.write_all(&quotes)?;
    }
}

fn linger(mut stream: TcpStream) -> std::io::Result<()> {
    greet(&mut stream)?;
    stream.write_all(&GOODBYE)?;
    stream.read_to_end(&mut Vec::new()).map(drop)
}

fn ping<const BYTES: usize>(mut stream: TcpStream) -> std::io::Result<()> {
    greet(&mut stream)?;
    let mut ping = [b'p'; 127];
    (ping[0], ping[1]) = (0x89, 125);
    let pings = ping.repeat(1 << 12);
    for _ in 0..BYTES / pings.len() {
        stream.write_all(&pings)?;
    }
    stream.write_all(&frame(QUOTE))?;
    // Not before the client goes.
    while stream.write_all(&frame("[]")).is_ok() {
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    Ok(())
}

/// Upgrades, and answers whatever is asked before it is.
fn greet(stream: &mut TcpStream) -> std::io::Result<()> {
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
    HANDSHAKE.iter().try_for_each(|text| stream.write_all(&frame(text)))
}

/// A whole text frame, unmasked, shorter than 126 bytes.
fn frame(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).ok().filter(|length| *length < 126).expect("a short text");
    [&[0x81, length], text.as_bytes()].concat()
}
