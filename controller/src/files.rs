//! Divides the files that the agent may have open. A connection is a file, and strangers can open connections. So each
//! purpose has a share, and none can take what the others need. The API server's connection is the most important one.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The share of each purpose. A quarter of all files is in no share: it is for everything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    /// Connections of all health checks, of `/healthz` and of the pages on the metrics address, together.
    pub(crate) probes: usize,
    /// Connections that are relayed from loopback addresses. Each takes two files.
    pub(crate) carried: usize,
    /// Listeners of one purpose: health checks of Services, or nodePorts on loopback addresses. Each of the latter may
    /// also hold one connection that waits to be relayed.
    pub(crate) listeners: usize,
    /// Connections of the local API. They are from the quarter for everything else: only root can open them.
    pub(crate) local: usize,
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
            local: least(files / 32, 64),
        }
    }
}

/// The shares of this process. The first call raises the soft limit, which is meant for programs that use `select`, to
/// the hard one.
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
        // None means that there is no limit.
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
                shares.probes > 0 && shares.carried > 0 && shares.listeners > 0 && shares.local > 0,
                "{files}: {shares:?}"
            );
        }
        let usual = Shares::of(1 << 20);
        assert_eq!((usual.probes, usual.carried), (2048, 4096));
    }
}
