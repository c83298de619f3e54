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

/// The kernel's number of the table of nftables mode. A table that is made anew has another one.
pub fn kube_proxy_table<F: Family>() -> Result<Option<u64>, KubeProxyError> {
    let table = asked::<F, _>(|socket| listing::table_named(socket, F::FAMILY, KUBE_PROXY))?;
    Ok(table.map(|table| table.handle))
}

/// Whether the old iptables translates addresses. nftables does not list its chains.
pub fn has_legacy_nat<F: Family>() -> bool {
    foreign::legacy_nat(F::FAMILY)
}

/// The kernel's number of the youngest rule of chain `KUBE-SERVICES`, of iptables mode or ipvs mode. None if there is no
/// such chain. The kernel lists all its rules, of which there is one for each Service.
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
