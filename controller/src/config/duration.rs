//! Durations as Go writes them: `1h2m3.5s`.

use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error};

/// A `metav1.Duration`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GoDuration(pub(super) Duration);

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(text: D) -> Result<Self, D::Error> {
        let text = String::deserialize(text)?;
        parse(&text)
            .map(Self)
            .ok_or_else(|| D::Error::custom(format!("{text:?} is not a duration like 30s, 1m30s or 1h")))
    }
}

/// Reads a duration. Negative ones mean nothing anywhere in the configuration.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (value, after) = rest.split_at(number);
        let unit = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let factor = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += value.parse::<f64>().ok()? * factor;
        rest = after;
    }
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, seconds) in [
            ("0", 0.0),
            ("0s", 0.0),
            ("30s", 30.0),
            ("1m30s", 90.0),
            ("24h0m0s", 86_400.0),
            ("1.5h", 5_400.0),
            ("250ms", 0.25),
            ("1h15m30.918273645s", 4_530.918_273_645),
            (".5s", 0.5),
        ] {
            assert_eq!(parse(text), Some(Duration::from_secs_f64(seconds)), "{text}");
        }
        for text in [
            "",
            "s",
            "30",
            "30 s",
            "-1s",
            "1d",
            "1s1",
            ".s",
            "1..s",
            "99999999999999999999999h",
            "é",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
