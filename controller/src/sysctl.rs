//! Kernel settings from the configuration: those of connection tracking, and how reluctant the kernel is to kill this
//! process. A setting is written if it differs. If it cannot be written, Tandem warns, and nothing else depends on it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::config::{Conntrack, Settings};

/// kube-proxy's limit. More connections would cost more memory than expected on a machine with many processors.
const MOST: u64 = 1 << 20;
/// Connections per bucket of the hash table. kube-proxy uses the same number.
const PER_BUCKET: u64 = 4;

const HASHSIZE: &str = "sys/module/nf_conntrack/parameters/hashsize";
const NETFILTER: &str = "proc/sys/net/netfilter";

/// Writes all of them below this root. Logs what it wrote and what it could not write.
pub fn apply(root: &Path, settings: &Settings) {
    let cores = processors(root);
    for outcome in conntrack(root, &settings.conntrack, cores)
        .into_iter()
        .chain([oom_score_adj(root, settings.oom_score_adj)])
    {
        match outcome {
            Ok(None) => {}
            Ok(Some(line)) => tracing::info!("{line}"),
            Err(line) => tracing::warn!("{line}"),
        }
    }
}

/// What was written, if anything had to be written. An error says what could not be written.
type Written = Result<Option<String>, String>;

fn conntrack(root: &Path, wanted: &Conntrack, cores: u64) -> Vec<Written> {
    let mut outcomes = Vec::new();
    if let Some(max) = wanted.max {
        let value = (u64::from(max.per_core) * cores).min(MOST).max(u64::from(max.min));
        let outcome = set(root, &format!("{NETFILTER}/nf_conntrack_max"), value, |is| is == value);
        // The hash table is resized only if the new limit is in effect.
        let more = outcome.is_ok();
        outcomes.push(outcome);
        if more {
            let buckets = value / PER_BUCKET;
            outcomes.push(set(root, HASHSIZE, buckets, |is| is >= buckets));
        }
    }
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs());
    let values = [
        ("nf_conntrack_tcp_timeout_established", seconds(wanted.tcp_established)),
        ("nf_conntrack_tcp_timeout_close_wait", seconds(wanted.tcp_close_wait)),
        ("nf_conntrack_tcp_be_liberal", wanted.tcp_be_liberal.then_some(1)),
        ("nf_conntrack_udp_timeout", seconds(wanted.udp)),
        ("nf_conntrack_udp_timeout_stream", seconds(wanted.udp_stream)),
    ];
    for (name, value) in values {
        if let Some(value) = value {
            outcomes.push(set(root, &format!("{NETFILTER}/{name}"), value, |is| is == value));
        }
    }
    outcomes
}

fn oom_score_adj(root: &Path, value: i32) -> Written {
    set(root, "proc/self/oom_score_adj", value, |is: i32| is == value)
}

/// Writes a value, unless the present one is good enough.
fn set<T>(root: &Path, file: &str, value: T, good: impl FnOnce(T) -> bool) -> Written
where
    T: Copy + std::fmt::Display + std::str::FromStr,
{
    let path = root.join(file);
    let there = fs::read_to_string(&path).map(|text| text.trim().to_owned());
    if let Ok(there) = &there
        && there.parse().is_ok_and(good)
    {
        return Ok(None);
    }
    let was = there.unwrap_or_else(|error| error.to_string());
    // `fs::write` would create the file. These files exist or not, and are never created.
    let file = fs::OpenOptions::new().write(true).truncate(true).open(&path);
    match file.and_then(|mut file| std::io::Write::write_all(&mut file, value.to_string().as_bytes())) {
        Ok(()) => Ok(Some(format!("{}: {value} (was {was})", path.display()))),
        Err(error) => Err(format!(
            "{}: {value} cannot be written: {error}: it stays ({was})",
            path.display()
        )),
    }
}

/// The number of processors that are switched on.
fn processors(root: &Path) -> u64 {
    let online = fs::read_to_string(root.join("sys/devices/system/cpu/online"));
    let counted = online
        .ok()
        .and_then(|list| count(list.trim()))
        .filter(|count| *count > 0);
    counted.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |count| count.get() as u64))
}

/// The number of entries of a list like `0-3,5`.
fn count(list: &str) -> Option<u64> {
    list.split(',').try_fold(0, |sum, piece| {
        let (from, to) = piece.split_once('-').unwrap_or((piece, piece));
        let (from, to): (u64, u64) = (from.parse().ok()?, to.parse().ok()?);
        Some(sum + to.checked_sub(from)? + 1)
    })
}

#[cfg(test)]
mod tests;
