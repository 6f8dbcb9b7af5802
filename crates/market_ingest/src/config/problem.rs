//! Problems with the configuration, collected so that all are told at once.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::listing;

/// One variable whose value cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The variable.
    pub variable: &'static str,
    /// What was found, cut at 80 characters; none for a secret.
    pub found: Option<String>,
    /// What is accepted.
    pub accepted: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.found {
            Some(found) => {
                write!(f, "{}: found {found:?}; accepted: {}", self.variable, self.accepted)
            }
            None => write!(f, "{}: found a value; accepted: {}", self.variable, self.accepted),
        }
    }
}

/// All problems of one reading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// The problems, in the order in which they were found.
    #[must_use]
    pub fn as_slice(&self) -> &[Problem] {
        &self.0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, variable: &'static str, found: &str, accepted: &str) {
        let found = Some(listing::without_password(found).chars().take(80).collect());
        self.0.push(Problem { variable, found, accepted: accepted.to_owned() });
    }

    pub(super) fn add_redacted(&mut self, variable: &'static str, accepted: &str) {
        self.0.push(Problem { variable, found: None, accepted: accepted.to_owned() });
    }

    /// A finite number of at least `least`; the default when unset.
    pub(super) fn number(
        &mut self,
        variable: &'static str,
        value: &Option<String>,
        default: f64,
        least: f64,
    ) -> Option<f64> {
        /// Durations and rates beyond this are typing errors, and some would overflow a clock.
        const MOST: f64 = 1e9;
        let Some(text) = value else { return Some(default) };
        match f64::from_str(text) {
            Ok(number) if (least..=MOST).contains(&number) => Some(number),
            _ => {
                self.add(variable, text, &format!("a number from {least} to {MOST:e}"));
                None
            }
        }
    }

    /// Seconds, with fractions.
    pub(super) fn seconds(
        &mut self,
        variable: &'static str,
        value: &Option<String>,
        default: f64,
        least: f64,
    ) -> Option<Duration> {
        self.number(variable, value, default, least).map(Duration::from_secs_f64)
    }

    /// A whole number that fits the type.
    pub(super) fn whole(
        &mut self,
        variable: &'static str,
        value: &Option<String>,
        default: u16,
    ) -> Option<u16> {
        let Some(text) = value else { return Some(default) };
        let parsed = text.parse().ok();
        if parsed.is_none() {
            self.add(variable, text, "a whole number from 0 to 65535");
        }
        parsed
    }

    pub(super) fn boolean(
        &mut self,
        variable: &'static str,
        value: &Option<String>,
        default: bool,
    ) -> Option<bool> {
        let Some(text) = value else { return Some(default) };
        match text.to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" | "y" | "t" => Some(true),
            "0" | "false" | "no" | "off" | "n" | "f" => Some(false),
            _ => {
                self.add(variable, text, "true or false (also 1 0 yes no on off)");
                None
            }
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(f, "{count} problem{} in the environment:", if count == 1 { "" } else { "s" })?;
        for problem in &self.0 {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
