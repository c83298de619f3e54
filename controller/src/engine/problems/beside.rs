//! What is said about a kube-proxy beside Tandem, and about what one left.

use std::fmt;

use crate::event::{KubeProxy, Neighbour};

/// What removes the rules of iptables mode and of ipvs mode.
const CLEANUP: &str = "run `kube-proxy --cleanup` once on this node";

/// Whether there is anything to say.
pub(super) fn is_problem(kube_proxy: &KubeProxy) -> bool {
    kube_proxy.neighbour != Neighbour::None || kube_proxy.tables || kube_proxy.chains
}

pub(super) fn describe(kube_proxy: &KubeProxy, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let address = kube_proxy
        .address
        .map(|address| address.to_string())
        .unwrap_or_default();
    let rules = match (kube_proxy.tables, kube_proxy.chains) {
        (true, true) => "tables kube-proxy and chains KUBE-SERVICES are there",
        (true, false) => "tables kube-proxy are there",
        (false, true) => "chains KUBE-SERVICES are there",
        (false, false) => "iptables translates addresses",
    };
    match kube_proxy.neighbour {
        Neighbour::Runs => write!(
            f,
            "one runs on this node too: it has {address} (healthzBindAddress), and {rules}. Its rules come first, and Tandem's \
             decide about nothing that it has a rule for. Once it has ended, Tandem's decide. Remove its DaemonSet, or keep it off this node",
        ),
        Neighbour::Appeared => write!(
            f,
            "{rules}, and were not before: for some seconds, Tandem leaves {address} (healthzBindAddress) to a kube-proxy, to see \
             whether one runs",
        ),
        Neighbour::Reappears => write!(
            f,
            "{rules}, were removed, and came again: a program makes them that does not have the health check address of \
             Tandem's settings. Tandem's rules come first. End that program; if it is a kube-proxy, give both the same healthzBindAddress",
        ),
        Neighbour::AddressTaken => write!(
            f,
            "another program has {address} (healthzBindAddress), and no rules of a kube-proxy are there: health checks of this \
             node reach that program. Tandem tries again until the address is free",
        ),
        Neighbour::None if kube_proxy.tables => write!(
            f,
            "{rules}, and stay, as removeKubeProxyRules is false or they could not be removed. Tandem's rules come first. If no \
             kube-proxy runs here, {CLEANUP}",
        ),
        Neighbour::None => write!(
            f,
            "{rules}: iptables or ipvs mode left them. Tandem's rules come first, but these translate what Tandem has no \
             rule for. If no kube-proxy runs here, {CLEANUP}",
        ),
    }
}
