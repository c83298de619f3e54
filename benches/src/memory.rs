//! The memory of a process, read from `/proc/PID/status`, and that of the kernel, read from `/proc/meminfo`.

use std::fs;

use anyhow::{Context as _, Result};

/// Memory of a process.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// The memory that it has now (`VmRSS`).
    pub now: f64,
    /// The most memory that it ever had (`VmHWM`).
    pub peak: f64,
}

impl Memory {
    /// The memory of this process, in MB (2^20 bytes).
    pub fn of(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/status");
        let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let field = |name: &str| field(&text, name).with_context(|| format!("{path} has no {name}"));
        Ok(Self {
            now: field("VmRSS:")?,
            peak: field("VmHWM:")?,
        })
    }
}

/// The memory, in MB, that the kernel cannot reclaim and holds for itself: the tables, and all else.
pub fn kernel() -> Result<f64> {
    let path = "/proc/meminfo";
    let text = fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    let field = |name: &str| field(&text, name).with_context(|| format!("{path} has no {name}"));
    // Elements of sets are small pieces (slab), a set's table of hashes is a large one (vmalloc).
    Ok(field("SUnreclaim:")? + field("VmallocUsed:")?)
}

fn field(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kilobytes_become_megabytes() {
        let status = "Name:\ttandem\nVmHWM:\t   65536 kB\nVmRSS:\t   32768 kB\n";
        assert!((field(status, "VmRSS:").unwrap() - 32.0).abs() < f64::EPSILON);
        assert!(field(status, "VmSwap:").is_none());
    }
}
