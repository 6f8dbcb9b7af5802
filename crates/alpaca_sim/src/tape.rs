//! Tapes: files of recorded market data, read into a reel.
//!
//! A line is an element (`{"T":"q",…}`), a frame (`[{…},…]`) or a captured frame with its text in a string
//! (`{"raw":"[…]"}`). Control messages in captures are left out. The bytes of each element are sent as they stand
//! in the file. The order of lines is the order of sending: recorded timestamps do step back, and a tape must too.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::catalogue::Catalogue;
use crate::channel::Channel;
use crate::reel::Reel;

const BAR_NS: i64 = 60_000_000_000;
const UPDATED_BAR_NS: i64 = 90_000_000_000;

/// Reads `paths` into one reel, merged by the time at which each element is due.
///
/// Plain, `.gz` and `.zst` files are read. Errors name the file and the line.
pub(crate) fn load(paths: &[PathBuf], catalogue: &mut Catalogue) -> anyhow::Result<Reel> {
    let mut reels = Vec::new();
    for path in paths {
        let text = read(path).with_context(|| format!("cannot read tape {}", path.display()))?;
        let mut reel = Reel::default();
        for (number, line) in text.lines().enumerate() {
            add_line(line, catalogue, &mut reel)
                .with_context(|| format!("tape {}, line {}", path.display(), number + 1))?;
        }
        reels.push(reel);
    }
    let reel = match reels.len() {
        1 => reels.swap_remove(0),
        _ => merge(&reels),
    };
    if reel.len() == 0 {
        bail!("the tape holds no market data");
    }
    Ok(reel)
}

fn read(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let file = File::open(path)?;
    match path.extension().and_then(|e| e.to_str()) {
        Some("gz") => flate2::read::MultiGzDecoder::new(file).read_to_string(&mut text)?,
        Some("zst") => zstd::Decoder::new(file)?.read_to_string(&mut text)?,
        Some(_) | None => std::io::BufReader::new(file).read_to_string(&mut text)?,
    };
    Ok(text)
}

fn add_line(line: &str, catalogue: &mut Catalogue, reel: &mut Reel) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Captured {
        raw: String,
    }
    let line = line.trim();
    if line.is_empty() {
        return Ok(());
    }
    if line.starts_with('[') {
        let frame: Vec<&RawValue> = serde_json::from_str(line)?;
        return frame.into_iter().try_for_each(|element| add_element(element.get(), catalogue, reel));
    }
    if !line.starts_with("{\"T\"")
        && let Ok(captured) = serde_json::from_str::<Captured>(line)
    {
        let raw = captured.raw.trim();
        let bare = raw.starts_with('{');
        return if bare { add_element(raw, catalogue, reel) } else { add_line(raw, catalogue, reel) };
    }
    add_element(line, catalogue, reel)
}

fn add_element(json: &str, catalogue: &mut Catalogue, reel: &mut Reel) -> anyhow::Result<()> {
    let head: Head<'_> = serde_json::from_str(json)?;
    let Some(channel) = Channel::from_letter(&head.kind) else {
        if matches!(&*head.kind, "success" | "error" | "subscription") {
            return Ok(());
        }
        bail!("unknown message type {:?}", head.kind);
    };
    let label = match (&head.symbol, &head.symbols) {
        (Some(symbol), _) => Cow::Borrowed(&**symbol),
        (None, Some(symbols)) if !symbols.is_empty() => Cow::Owned(symbols.join(",")),
        (None, _) => bail!("no symbol"),
    };
    let at = head.at.or(head.created_at).context("no timestamp")?;
    let at: Timestamp = at.parse().with_context(|| format!("timestamp {at:?}"))?;
    let at_ns = i64::try_from(at.as_nanosecond()).context("timestamp out of range")?;
    let due_ns = at_ns
        + if channel == Channel::Bars {
            BAR_NS
        } else if channel == Channel::UpdatedBars {
            UPDATED_BAR_NS
        } else {
            0
        };
    reel.push(catalogue.intern(channel, &label), due_ns, json.as_bytes());
    Ok(())
}

/// What the venue has to know of an element; the rest is passed through unread.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "T", borrow)]
    kind: Cow<'a, str>,
    #[serde(rename = "S", borrow)]
    symbol: Option<Cow<'a, str>>,
    #[serde(rename = "t", borrow)]
    at: Option<Cow<'a, str>>,
    #[serde(borrow)]
    created_at: Option<Cow<'a, str>>,
    #[serde(default)]
    symbols: Option<Vec<String>>,
}

fn merge(reels: &[Reel]) -> Reel {
    let mut order: Vec<(i64, usize, usize)> = reels
        .iter()
        .enumerate()
        .flat_map(|(r, reel)| (0..reel.len()).map(move |i| (reel.due_ns(i), r, i)))
        .collect();
    order.sort_unstable();
    let mut merged = Reel::default();
    for (due_ns, r, i) in order {
        merged.push(reels[r].series(i), due_ns, reels[r].json(i));
    }
    merged
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;

    fn load_text(texts: &[&str]) -> anyhow::Result<(Catalogue, Reel)> {
        let dir = tempfile::tempdir()?;
        let mut paths = Vec::new();
        for (i, text) in texts.iter().enumerate() {
            let path = dir.path().join(format!("{i}.ndjson"));
            File::create(&path)?.write_all(text.as_bytes())?;
            paths.push(path);
        }
        let mut catalogue = Catalogue::default();
        let reel = load(&paths, &mut catalogue)?;
        Ok((catalogue, reel))
    }

    #[test]
    fn elements_frames_and_captured_frames_are_read_and_control_messages_left_out() {
        let (catalogue, reel) = load_text(&[concat!(
            r#"{"T":"q","S":"A","bp":1,"t":"2013-10-09T13:29:00.2Z"}"#,
            "\n",
            r#"[{"T":"success","msg":"connected"},{"T":"t","S":"B","t":"2013-10-09T13:29:00Z"}]"#,
            "\n\n",
            r#"{"seq":1,"recv":"x","raw":"[{\"T\":\"n\",\"symbols\":[\"A\",\"B\"],\"created_at\":\"2013-10-09T13:29:01Z\"}]"}"#,
        )])
        .unwrap();
        assert_eq!(reel.len(), 3);
        assert_eq!(reel.json(0), br#"{"T":"q","S":"A","bp":1,"t":"2013-10-09T13:29:00.2Z"}"#);
        assert_eq!(catalogue.get(reel.series(2)).symbols, ["A", "B"]);
        assert_eq!(reel.due_ns(0), reel.due_ns(1), "a step back is due at once");
    }

    #[test]
    fn tapes_are_merged_by_time_and_bars_follow_their_minute() {
        let (catalogue, reel) = load_text(&[
            r#"{"T":"b","S":"A","t":"2013-10-09T13:29:00Z"}"#,
            "{\"T\":\"q\",\"S\":\"A\",\"t\":\"2013-10-09T13:29:59Z\"}\n{\"T\":\"q\",\"S\":\"A\",\"t\":\"2013-10-09T13:30:01Z\"}",
        ])
        .unwrap();
        let kinds: Vec<_> = (0..3).map(|i| catalogue.get(reel.series(i)).channel).collect();
        assert_eq!(kinds, [Channel::Quotes, Channel::Bars, Channel::Quotes]);
    }

    #[test]
    fn a_bad_line_is_named() {
        let error = load_text(&["{\"T\":\"q\",\"S\":\"A\",\"t\":\"2013-10-09T13:29:00Z\"}\n{\"T\":\"q\"}"])
            .err()
            .unwrap();
        assert!(format!("{error:#}").contains("line 2"), "{error:#}");
        assert!(load_text(&[""]).is_err());
    }
}
