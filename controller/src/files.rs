//! How many files the agent may have open, and who may have how many of them. Connections are files, and strangers open them:
//! each purpose has a share, so that none can take what the others need (the API server's connection above all).

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What each purpose may have. A quarter of all is nobody's, for everything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    /// Connections of all health checks, `/healthz` and the pages beside the metrics together.
    pub(crate) probes: usize,
    /// Connections that are carried from loopback addresses, two files each.
    pub(crate) carried: usize,
    /// Listeners of one purpose: health checks of Services, and nodePorts on loopback addresses. One of the latter may hold a
    /// connection beside, that waits to be carried.
    pub(crate) listeners: usize,
}

impl Shares {
    const fn of(files: usize) -> Self {
        const fn least(this: usize, that: usize) -> usize {
            if this < that { this } else { that }
        }
        Self {
            probes: least(files / 4, 2048),
            carried: least(files / 8, 4096),
            listeners: files / 12,
        }
    }
}

/// The shares of this process. The first call raises the soft limit, which is made for `select`, to the hard one.
pub(crate) fn shares() -> Shares {
    static SHARES: OnceLock<Shares> = OnceLock::new();
    *SHARES.get_or_init(|| {
        let mut limit = getrlimit(Resource::Nofile);
        let all = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        match setrlimit(Resource::Nofile, all) {
            Ok(()) => limit = all,
            Err(error) => tracing::debug!(?limit, "the limit of open files stays: {error}"),
        }
        // None is no limit.
        let files = limit.current.and_then(|files| usize::try_from(files).ok());
        Shares::of(files.unwrap_or(usize::MAX))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_the_files_is_left_whatever_strangers_do() {
        for files in [64, 256, 1024, 4096, 65_536, 1 << 20, usize::MAX] {
            let shares = Shares::of(files);
            let taken = shares.probes + 2 * shares.carried + 3 * shares.listeners;
            assert!(taken <= files - files / 4, "{files}: {shares:?}");
            assert!(
                shares.probes > 0 && shares.carried > 0 && shares.listeners > 0,
                "{files}: {shares:?}"
            );
        }
        let usual = Shares::of(1 << 20);
        assert_eq!((usual.probes, usual.carried), (2048, 4096));
    }
}
