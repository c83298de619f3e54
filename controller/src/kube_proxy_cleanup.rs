//! Removes what kube-proxy's nftables mode left on the node, once everything is programmed. kube-proxy's rules hook in
//! at the same places as Tandem's. While they exist, packets meet them too, and go to endpoints that are long gone.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tandem_core::family::{Family, V4, V6};
use tandem_nft::{has_kube_services, remove_kube_proxys};
use tokio::sync::watch;

use crate::engine::{FamilyStatus, Snapshot};

/// Removes kube-proxy's table of each family as soon as Tandem has programmed that family, then ends.
pub(crate) async fn run(published: Arc<ArcSwap<Snapshot>>, mut news: watch::Receiver<()>) {
    warn_of_iptables();
    let (mut v4, mut v6) = (false, false);
    while !(v4 && v6) {
        let snapshot = published.load_full();
        if snapshot.complete {
            v4 = v4 || (is_programmed(&snapshot.v4) && remove::<V4>());
            v6 = v6 || (is_programmed(&snapshot.v6) && remove::<V6>());
        }
        if !(v4 && v6) && news.changed().await.is_err() {
            return;
        }
    }
}

fn is_programmed(family: &FamilyStatus) -> bool {
    family.ownership.is_some() && family.last_error.is_none()
}

/// Tries once. It has logged the result, so true ends the attempts.
fn remove<F: Family>() -> bool {
    match remove_kube_proxys::<F>() {
        Ok(true) => tracing::info!(family = %F::FAMILY, "removed the table that kube-proxy left"),
        Ok(false) => {}
        Err(error) => {
            tracing::warn!(family = %F::FAMILY, "{error}; packets meet kube-proxy's rules as well as tandem's");
        }
    }
    true
}

fn warn_of_iptables() {
    if has_kube_services::<V4>() || has_kube_services::<V6>() {
        tracing::warn!(
            "chain KUBE-SERVICES is there: kube-proxy's iptables or ipvs mode left rules that packets meet as well as \
             tandem's; run `kube-proxy --cleanup` once on this node"
        );
    }
}
