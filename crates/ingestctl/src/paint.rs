//! How things look: colours, ages, tables.
//!
//! Colours are always put in; the printing stream takes them out where there is no terminal or `NO_COLOR` is set.
//! Invariant: text that came from elsewhere goes through [`plain`], so that nobody's reason can steer a terminal.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use ingest_status::{Standing, Timestamp};

/// Good.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default().bold();
/// Held on purpose.
pub(crate) const HELD: Style = AnsiColor::Yellow.on_default().bold();
/// Bad.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
/// Headings and side remarks.
pub(crate) const DIM: Style = Style::new().dimmed();

/// The style of a verdict's word.
pub(crate) fn of(standing: Standing) -> Style {
    match standing {
        Standing::Live => GOOD,
        Standing::Paused | Standing::Late => HELD,
        Standing::Stale | Standing::Missing | Standing::Stopped => BAD,
    }
}

/// A word in a style.
pub(crate) fn styled(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// The text without anything that a terminal would obey.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// On one line, and [`plain`].
pub(crate) fn line(text: &str) -> String {
    plain(&text.replace(['\n', '\r', '\t'], " "))
}

/// One word of a command line, quoted where a shell would read more into it.
pub(crate) fn shell_word(text: &str) -> String {
    let harmless =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ':' | '=' | '@');
    if !text.is_empty() && text.chars().all(harmless) {
        return text.to_owned();
    }
    format!("'{}'", line(text).replace('\'', "'\\''"))
}

/// A span in its two greatest units; never negative.
pub(crate) fn span(seconds: f64) -> String {
    if seconds < 59.95 {
        return format!("{:.1} s", seconds.max(0.0));
    }
    // A span of this length is shown in whole seconds, and a float of seconds holds those exactly.
    let whole = seconds.round() as u64;
    let (d, h, m, s) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60, whole % 60);
    match (d, h, m) {
        (0, 0, _) => format!("{m} min {s:02} s"),
        (0, _, _) => format!("{h} h {m:02} min"),
        _ => format!("{d} d {h} h"),
    }
}

/// A point in time, in whole seconds of UTC, and how long ago or ahead it is.
pub(crate) fn time(at: Timestamp, now: Timestamp) -> String {
    let age_s = now.seconds_since(at);
    let distance =
        if age_s < -0.05 { format!("in {}", span(-age_s)) } else { format!("{} ago", span(age_s)) };
    format!("{} ({distance})", whole_seconds(at))
}

/// A point in time, in whole seconds of UTC.
pub(crate) fn whole_seconds(at: Timestamp) -> String {
    Timestamp::from_microseconds(at.as_microseconds().div_euclid(1_000_000) * 1_000_000)
        .unwrap_or(at)
        .to_string()
}

/// Rows of cells, aligned.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<(Style, String)>>,
}

impl Table {
    /// A table with this heading.
    pub(crate) fn new(heading: &[&str]) -> Self {
        Self { rows: vec![heading.iter().map(|word| (DIM, (*word).to_owned())).collect()] }
    }

    /// Adds a row; a cell is made one `line`.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = (Style, String)>) {
        self.rows.push(cells.into_iter().map(|(style, text)| (style, line(&text))).collect());
    }

    /// Writes it, every line indented by that many spaces.
    pub(crate) fn write(&self, out: &mut String, indent: usize) {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |i: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(i));
            cells.map(|(_, text)| text.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut text = " ".repeat(indent);
            for (i, (style, cell)) in row.iter().enumerate() {
                let pad = if i + 1 == row.len() { 0 } else { widths[i] - cell.chars().count() + 2 };
                let _ = write!(text, "{style}{cell}{style:#}{}", " ".repeat(pad));
            }
            out.push_str(text.trim_end());
            out.push('\n');
        }
    }
}

/// A cell without a style.
pub(crate) fn cell(text: impl Into<String>) -> (Style, String) {
    (Style::new(), text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short_and_true() {
        for (seconds, text) in [
            (-3.0, "0.0 s"),
            (0.04, "0.0 s"),
            (59.94, "59.9 s"),
            (59.96, "1 min 00 s"),
            (754.0, "12 min 34 s"),
            (3599.6, "1 h 00 min"),
            (90_000.0, "1 d 1 h"),
        ] {
            assert_eq!(span(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn times_tell_their_distance_both_ways() {
        let at = |s: i64| Timestamp::from_microseconds(s * 1_000_000 + 250_000).expect("in range");
        assert_eq!(time(at(0), at(90)), "1970-01-01T00:00:00Z (1 min 30 s ago)");
        assert_eq!(time(at(90), at(0)), "1970-01-01T00:01:30Z (in 1 min 30 s)");
    }

    #[test]
    fn nobodys_text_steers_the_terminal() {
        assert_eq!(line("a\u{1b}[2Jb\nc\u{7}"), "a\u{fffd}[2Jb c\u{fffd}");
        assert_eq!(plain("two\nlines"), "two\nlines");
    }

    #[test]
    fn a_command_line_can_be_pasted() {
        for (text, word) in [("all-ann", "all-ann"), ("A*", "'A*'"), ("$(x) 'y", "'$(x) '\\''y'"), ("", "''")]
        {
            assert_eq!(shell_word(text), word);
        }
    }

    #[test]
    fn columns_stand_below_each_other() {
        let mut table = Table::new(&["JOB", "STATUS"]);
        table.row([cell("iex"), (GOOD, "running".to_owned())]);
        table.row([cell("crypto-us"), cell("paused")]);
        let mut text = String::new();
        table.write(&mut text, 2);
        let text = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(text, "  JOB        STATUS\n  iex        running\n  crypto-us  paused\n");
    }
}
