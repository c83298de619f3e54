//! The clock of the programs for packets.

use rustix::time::{ClockId, clock_gettime};

/// The seconds of the programs' clock.
pub fn now() -> u32 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    let nanoseconds = u64::try_from(now.tv_sec).unwrap_or_default() * 1_000_000_000;
    tandem_xdp_layout::seconds(nanoseconds + u64::try_from(now.tv_nsec).unwrap_or_default())
}
