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
        Neighbour::Runs if !kube_proxy.is_there() => write!(
            f,
            "one may run on this node: another program has {address} (healthzBindAddress), and iptables-legacy translates \
             addresses. So Tandem's rules are asked only after those",
        ),
        Neighbour::Runs => write!(
            f,
            "one runs on this node too: it has {address} (healthzBindAddress), and {rules}. Its rules come first. Tandem's rules \
             are asked only where it has none. Once it has ended, Tandem's come first. Remove its DaemonSet, or keep it off \
             this node",
        ),
        Neighbour::Appeared => write!(
            f,
            "rules have appeared. For some seconds, Tandem leaves {address} (healthzBindAddress) to a kube-proxy, to see \
             whether one runs",
        ),
        Neighbour::Reappears => write!(
            f,
            "{rules}, and came again after Tandem was alone: a program makes them that does not ask for the health check \
             address of Tandem's settings. Tandem's rules come first. End that program. If it is a kube-proxy, give both the \
             same healthzBindAddress",
        ),
        Neighbour::AddressUnusable => write!(
            f,
            "nobody can listen at {address} (healthzBindAddress): health checks of this node get no answer, and whether a \
             kube-proxy runs is seen only by its tables. The log has the reason",
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
