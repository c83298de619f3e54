//! What shows that a kube-proxy runs on this node, or ran: its rules.

use std::time::{Duration, Instant};

use tandem_core::family::{Family, V4, V6};
use tandem_nft::{KubeProxyError, has_legacy_nat, kube_proxy_table, kube_services};

/// How often the rules of iptables mode are looked at, at most.
const CHAINS_EVERY: Duration = Duration::from_secs(1);
/// The kernel lists these rules all, and there may be ten thousand. So this many times what the last look took passes
/// before the next one.
const CHAINS_PAUSE: u32 = 100;

/// The rules of a kube-proxy: IPv4, then IPv6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Signs(pub(super) [Rules; 2]);

/// Those of one family, by the kernel's numbers. What is made anew has another number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rules {
    /// The table of nftables mode.
    pub(super) table: Option<u64>,
    /// The youngest rule of chain `KUBE-SERVICES`, of iptables mode or ipvs mode.
    pub(super) chain: Option<u64>,
    /// Whether the old iptables translates addresses. Its chains are not seen.
    pub(super) legacy: bool,
}

impl Rules {
    fn with<F: Family>(chain: Option<u64>) -> Result<Self, KubeProxyError> {
        Ok(Self {
            table: kube_proxy_table::<F>()?,
            chain,
            legacy: has_legacy_nat::<F>(),
        })
    }
}

impl Signs {
    /// Whether there is a table of nftables mode, in each family.
    pub(super) fn tables(&self) -> [bool; 2] {
        self.0.map(|rules| rules.table.is_some())
    }

    /// Whether there is a table of nftables mode.
    pub(super) fn has_tables(&self) -> bool {
        self.tables() != [false; 2]
    }

    /// Whether there is a chain of iptables mode or ipvs mode.
    pub(super) fn has_chains(&self) -> bool {
        self.0.iter().any(|rules| rules.chain.is_some())
    }

    /// Whether there is anything that a kube-proxy may keep up to date.
    pub(super) fn might_be_kept(&self) -> bool {
        self.has_tables() || self.has_chains() || self.0.iter().any(|rules| rules.legacy)
    }

    /// Whether there is anything that is not among these.
    pub(super) fn appeared_since(&self, known: &Self) -> bool {
        let news = |now: Option<u64>, known: Option<u64>| now.is_some() && now != known;
        let mut both = self.0.iter().zip(&known.0);
        both.any(|(now, known)| news(now.table, known.table) || news(now.chain, known.chain))
    }

    /// Forgets everything that is not there any more, or is another one now.
    pub(super) fn keep_only(&mut self, there: &Self) {
        for (known, there) in self.0.iter_mut().zip(&there.0) {
            known.table = known.table.filter(|_| known.table == there.table);
            known.chain = known.chain.filter(|_| known.chain == there.chain);
        }
    }
}

/// Looks for signs.
#[derive(Debug, Default)]
pub(super) struct Look {
    chains: [Option<u64>; 2],
    /// When the rules of iptables mode are looked at next.
    due: Option<Instant>,
}

impl Look {
    /// Has the next look be a whole one.
    pub(super) fn again(&mut self) {
        self.due = None;
    }

    /// The signs that are there.
    pub(super) fn now(&mut self) -> Result<Signs, KubeProxyError> {
        let now = Instant::now();
        if self.due.is_none_or(|due| now >= due) {
            self.chains = [kube_services::<V4>()?, kube_services::<V6>()?];
            self.due = Some(Instant::now() + CHAINS_EVERY.max(now.elapsed() * CHAINS_PAUSE));
        }
        let [v4, v6] = self.chains;
        Ok(Signs([Rules::with::<V4>(v4)?, Rules::with::<V6>(v6)?]))
    }
}
