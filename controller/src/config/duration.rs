//! Durations as Go writes them: `1h2m3.5s`.

use std::time::Duration;

/// Writes a duration as Go does: `24h0m0s`, `1m30s`, `250ms`.
pub(super) fn format(time: Duration) -> String {
    if time.is_zero() {
        return "0s".to_owned();
    }
    let (whole, nanos) = (time.as_secs(), time.subsec_nanos());
    let decimal = |unit: u32, name: &str| {
        let digits = unit.ilog10() as usize;
        let fraction = format!("{:0digits$}", nanos % unit);
        let fraction = fraction.trim_end_matches('0');
        let dot = if digits == 0 || fraction.is_empty() { "" } else { "." };
        let fraction = if digits == 0 { "" } else { fraction };
        (nanos / unit, format!("{dot}{fraction}{name}"))
    };
    if whole == 0 {
        let (unit, name) = match nanos {
            1_000_000.. => (1_000_000, "ms"),
            1_000.. => (1_000, "µs"),
            _ => (1, "ns"),
        };
        let (count, rest) = decimal(unit, name);
        return format!("{count}{rest}");
    }
    let (_, seconds) = decimal(1_000_000_000, "s");
    let (hours, minutes, whole) = (whole / 3_600, whole / 60 % 60, whole % 60);
    match (hours, minutes) {
        (0, 0) => format!("{whole}{seconds}"),
        (0, _) => format!("{minutes}m{whole}{seconds}"),
        _ => format!("{hours}h{minutes}m{whole}{seconds}"),
    }
}

/// Reads a duration. A negative one has no meaning in the configuration, so it is refused.
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

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for text in [
            "0s", "30s", "1m30s", "24h0m0s", "1h30m0s", "250ms", "1.5s", "1m0.25s", "1.5µs", "7ns",
        ] {
            assert_eq!(parse(text).map(format).as_deref(), Some(text));
        }
    }
}
