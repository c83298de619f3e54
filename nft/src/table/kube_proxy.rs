//! What a kube-proxy has left in nftables, or keeps there while it runs. It only reads.

use tandem_core::family::Family;

use crate::family::numbers;
use crate::table::foreign::{self, KUBE_PROXY, KUBE_SERVICES};
use crate::table::listing;
use crate::wire::socket::{Buffers, ListError, NetlinkSocket};

/// Why it is not known what is there.
#[derive(Debug, thiserror::Error)]
#[error("looking for kube-proxy's rules in family {family}: {source}")]
pub struct KubeProxyError {
    family: &'static str,
    source: ListError,
}

/// The rules of a kube-proxy in one family, each by the kernel's number. What is made anew has another number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KubeProxyRules {
    /// The table `kube-proxy` of nftables mode.
    pub table: Option<u64>,
    /// The chain `KUBE-SERVICES` of iptables mode or ipvs mode, by its youngest rule. None if iptables keeps its chains
    /// outside of nftables (`iptables-legacy`).
    pub chain: Option<u64>,
    /// Whether iptables translates addresses outside of nftables.
    pub legacy: bool,
}

/// Looks for the table of nftables mode, and for the nat table of the old iptables. That costs two questions.
pub fn kube_proxy_rules<F: Family>() -> Result<KubeProxyRules, KubeProxyError> {
    let table = asked::<F, _>(|socket| listing::table_named(socket, F::FAMILY, KUBE_PROXY))?;
    Ok(KubeProxyRules {
        table: table.map(|table| table.handle),
        chain: None,
        legacy: foreign::legacy_nat(F::FAMILY),
    })
}

/// Looks for the chain of iptables mode. The kernel lists all rules of that chain, of which there is one for each
/// Service.
pub fn kube_services<F: Family>() -> Result<Option<u64>, KubeProxyError> {
    asked::<F, _>(|socket| foreign::youngest_rule(socket, F::FAMILY, "nat", KUBE_SERVICES))
}

fn asked<F: Family, T>(ask: impl FnOnce(&mut NetlinkSocket) -> Result<T, ListError>) -> Result<T, KubeProxyError> {
    let asked = NetlinkSocket::with(Buffers::SMALL).map_err(ListError::from);
    asked
        .and_then(|mut socket| ask(&mut socket))
        .map_err(|source| KubeProxyError {
            family: numbers(F::FAMILY).name,
            source,
        })
}
