//! Faults in the data: elements altered, repeated, added.
//!
//! Edits are made in the JSON text, so that all that is not touched stays byte for byte as it was.

use crate::catalogue::Series;
use crate::channel::Channel;
use crate::connection::Weather;
use crate::endpoint::Product;
use crate::fault::FaultKind;

/// A frame of which only the first half is ever sent.
pub(crate) const DOOMED: &[u8] =
    br#"[{"T":"q","S":"SPY","bx":"V","bp":650.01,"bs":100,"ax":"V","ap":650.02,"as":100,"c":["R"],"z":"B","t":"2026-01-05T14:30:00Z"}]"#;

/// Something to send in place of, or after, an element.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) json: Vec<u8>,
    pub(crate) letter: String,
    pub(crate) channel: Channel,
    pub(crate) crypto: bool,
    /// The bytes are a whole payload, sent as they are.
    pub(crate) broken_frame: bool,
}

impl Piece {
    /// An element that the market does not hold.
    pub(crate) fn extra(letter: &str, channel: Channel, json: String) -> Piece {
        Piece {
            json: json.into_bytes(),
            letter: letter.to_owned(),
            channel,
            crypto: false,
            broken_frame: false,
        }
    }
}

/// Counts elements, so that every n-th is touched.
#[derive(Debug, Default)]
pub(crate) struct Mangler {
    elements: u64,
    quotes: u64,
    trades: u64,
    big_ids: u64,
}

impl Mangler {
    /// What to send for an element of `series` under the faults of `weather`.
    pub(crate) fn mangle(&mut self, json: &[u8], series: &Series, weather: &Weather) -> Vec<Piece> {
        self.elements += 1;
        self.quotes += u64::from(series.channel == Channel::Quotes);
        self.trades += u64::from(series.channel == Channel::Trades);
        let mut text = String::from_utf8_lossy(json).into_owned();
        let mut after = Vec::new();
        for fault in &weather.data {
            if self.strikes(fault, series) && weather.spend(fault) {
                self.apply(fault, series, &mut text, &mut after);
            }
        }
        let own = Piece {
            crypto: matches!(series.product, Product::Crypto | Product::Perps),
            ..Piece::extra(series.channel.letter(), series.channel, text)
        };
        std::iter::once(own).chain(after).collect()
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "faults that are not about data")]
    fn strikes(&self, fault: &FaultKind, series: &Series) -> bool {
        let quote = series.channel == Channel::Quotes;
        let trade = series.channel == Channel::Trades;
        let nth = |n: u64, every: u64| n.is_multiple_of(every.max(1));
        match fault {
            FaultKind::OutOfOrder { every, .. }
            | FaultKind::UnknownType { every }
            | FaultKind::UnknownFields { every }
            | FaultKind::CorruptElement { every }
            | FaultKind::CorruptFrame { every } => nth(self.elements, *every),
            FaultKind::DuplicateQuotes { every } => quote && nth(self.quotes, *every),
            FaultKind::LatePrints { every, .. } | FaultKind::BigIds { every } => {
                trade && nth(self.trades, *every)
            }
            FaultKind::Rename { from, .. } => series.symbols.iter().any(|s| s == from),
            _ => false,
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "faults that are not about data")]
    fn apply(&mut self, fault: &FaultKind, series: &Series, text: &mut String, after: &mut Vec<Piece>) {
        match fault {
            FaultKind::OutOfOrder { back_ms, .. } => set_back(text, *back_ms),
            FaultKind::LatePrints { back_ms, .. } => {
                set_back(text, *back_ms);
                *text = text.replacen("\"c\":[", "\"c\":[\"Z\",", 1);
            }
            FaultKind::DuplicateQuotes { .. } => {
                after.push(Piece {
                    crypto: matches!(series.product, Product::Crypto | Product::Perps),
                    ..Piece::extra(series.channel.letter(), series.channel, text.clone())
                });
            }
            FaultKind::UnknownFields { .. } => {
                if let Some(end) = text.rfind('}') {
                    text.insert_str(end, ",\"zz\":{\"deep\":[1,null,\"x\"]},\"q9\":true");
                }
            }
            FaultKind::BigIds { .. } => {
                self.big_ids += 1;
                let beyond = if self.big_ids % 2 == 1 { 1 << 53 } else { 1 << 63 };
                set_id(text, beyond + self.big_ids);
            }
            FaultKind::Rename { from, to } => {
                *text = text.replacen(&format!("\"{from}\""), &format!("\"{to}\""), 1);
            }
            FaultKind::UnknownType { .. } => {
                let json = r#"{"T":"zz","S":"SPY","what":[1,2,{"p":3}],"t":"2026-01-05T14:30:00Z"}"#;
                after.push(Piece::extra("zz", Channel::Trades, json.to_owned()));
            }
            FaultKind::CorruptElement { .. } => {
                let json = r#"{"T":"q","S":["no","symbol"],"bx":7,"bp":"cheap","bs":-1,"ap":{},"as":null,"t":"yesterday"}"#;
                after.push(Piece::extra("q", Channel::Quotes, json.to_owned()));
            }
            FaultKind::CorruptFrame { .. } => after.push(Piece {
                broken_frame: true,
                ..Piece::extra("q", Channel::Quotes, "[{\"T\":\"q\",\"S\":\"SP".to_owned())
            }),
            _ => {}
        }
    }
}

/// A news element whose content is `bytes` long.
pub(crate) fn huge_news(bytes: usize) -> String {
    let content = "All work and no play. ".repeat(bytes.div_ceil(22));
    format!(
        r#"{{"T":"n","id":99000001,"headline":"A very long story","summary":"","author":"Simulated Desk","created_at":"2026-01-05T14:30:00Z","updated_at":"2026-01-05T14:30:00Z","url":"http://localhost/news/99000001","content":"{}","symbols":["SPY"],"source":"simulator"}}"#,
        &content[..bytes]
    )
}

/// Moves the element's own timestamp into the past.
fn set_back(text: &mut String, back_ms: i64) {
    let Some(start) = text.find("\"t\":\"").map(|i| i + 5) else {
        return;
    };
    let Some(end) = text[start..].find('"').map(|i| i + start) else {
        return;
    };
    let Ok(at) = text[start..end].parse::<jiff::Timestamp>() else {
        return;
    };
    if let Ok(earlier) = at.checked_sub(jiff::SignedDuration::from_millis(back_ms)) {
        text.replace_range(start..end, &earlier.to_string());
    }
}

/// Gives a trade another id.
fn set_id(text: &mut String, id: u64) {
    let Some(start) = text.find("\"i\":").map(|i| i + 4) else {
        return;
    };
    let digits = text[start..].bytes().take_while(u8::is_ascii_digit).count();
    text.replace_range(start..start + digits, &id.to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_touch_only_what_they_should() {
        let mut text = r#"{"T":"t","S":"A","i":7,"p":1,"t":"2026-01-05T14:30:00.1Z"}"#.to_owned();
        set_back(&mut text, 230);
        set_id(&mut text, u64::MAX);
        assert_eq!(text, r#"{"T":"t","S":"A","i":18446744073709551615,"p":1,"t":"2026-01-05T14:29:59.87Z"}"#);
    }

    #[test]
    fn huge_news_is_as_long_as_asked_and_parses() {
        let news: serde_json::Value = serde_json::from_str(&huge_news(100_001)).unwrap_or_default();
        assert_eq!(news["content"].as_str().map(str::len), Some(100_001));
    }
}
