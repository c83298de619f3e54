//! The orders as values.

use std::fmt;

/// What happens on the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Tandem starts.
    Tandem,
    /// Tandem is asked to end.
    TandemEnds,
    /// Tandem is killed.
    TandemDies,
    /// kube-proxy starts.
    KubeProxy,
    /// kube-proxy is killed. It leaves its rules, as it does when it is asked to end.
    KubeProxyDies,
}

/// How soon one step follows the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Each step begins when what the one before has begun is done, and nothing changes meanwhile.
    Rest,
    /// Each step begins three seconds after the one before, and endpoints change all the time.
    Changes,
}

/// kube-proxy's mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `nftables`
    Nftables,
    /// `iptables`
    Iptables,
}

/// One order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// What happens, one step after the other.
    pub steps: &'static [Step],
    /// How soon.
    pub pace: Pace,
    /// kube-proxy's mode.
    pub mode: Mode,
}

use Step::{KubeProxy, KubeProxyDies, Tandem, TandemDies, TandemEnds};

const ORDERS: &[&[Step]] = &[
    // The usual order: Tandem is installed, and then kube-proxy is removed.
    &[KubeProxy, Tandem, KubeProxyDies],
    &[KubeProxy, KubeProxyDies, Tandem],
    // Back to kube-proxy.
    &[Tandem, KubeProxy, TandemEnds],
    &[Tandem, TandemEnds, KubeProxy],
    // A kube-proxy that comes back, and goes again.
    &[Tandem, KubeProxy, KubeProxyDies],
    &[Tandem, KubeProxy, KubeProxyDies, KubeProxy, KubeProxyDies],
    // Tandem is tried beside a kube-proxy.
    &[KubeProxy, Tandem, TandemEnds],
    &[KubeProxy, Tandem, TandemDies],
    &[Tandem, KubeProxy, TandemDies],
    // One of them restarts beside the other.
    &[KubeProxy, Tandem, KubeProxyDies, KubeProxy, TandemEnds],
    &[KubeProxy, Tandem, TandemEnds, Tandem, KubeProxyDies],
    &[KubeProxy, Tandem, TandemDies, Tandem, TandemEnds],
    // There and back again.
    &[
        KubeProxy,
        Tandem,
        KubeProxyDies,
        KubeProxy,
        TandemEnds,
        Tandem,
        KubeProxyDies,
    ],
];

/// Every order in both modes, at rest and in the middle of changes.
pub fn all() -> Vec<Order> {
    let mut orders = Vec::new();
    for mode in [Mode::Nftables, Mode::Iptables] {
        for pace in [Pace::Rest, Pace::Changes] {
            orders.extend(ORDERS.iter().map(|steps| Order { steps, pace, mode }));
        }
    }
    orders
}

/// The usual ways there and back, in the middle of changes.
pub fn short() -> Vec<Order> {
    let order = |steps, mode| Order {
        steps,
        pace: Pace::Changes,
        mode,
    };
    vec![
        order(ORDERS[0], Mode::Nftables),
        order(ORDERS[2], Mode::Nftables),
        order(ORDERS[4], Mode::Iptables),
        order(ORDERS[6], Mode::Iptables),
    ]
}

impl Order {
    /// Whether Tandem and kube-proxy run after this number of steps.
    pub fn running(&self, steps: usize) -> (bool, bool) {
        let taken = self.steps.iter().take(steps);
        taken.fold((false, false), |(tandem, kube_proxy), step| match step {
            Tandem => (true, kube_proxy),
            TandemEnds | TandemDies => (false, kube_proxy),
            KubeProxy => (tandem, true),
            KubeProxyDies => (tandem, false),
        })
    }

    /// Whether rules of the program that does not run at the end may answer what the other one has no rule for.
    pub fn may_leave_rules(&self) -> bool {
        match self.running(self.steps.len()) {
            (true, false) => self.mode == Mode::Iptables && self.steps.contains(&KubeProxy),
            (false, true) => self.steps.contains(&Tandem),
            _ => false,
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps: Vec<&str> = self
            .steps
            .iter()
            .map(|step| match step {
                Tandem => "+tandem",
                TandemEnds => "-tandem",
                TandemDies => "!tandem",
                KubeProxy => "+kube-proxy",
                KubeProxyDies => "-kube-proxy",
            })
            .collect();
        let mode = match self.mode {
            Mode::Nftables => "nftables",
            Mode::Iptables => "iptables",
        };
        let pace = match self.pace {
            Pace::Rest => "rest",
            Pace::Changes => "changes",
        };
        write!(f, "{mode} {pace} {}", steps.join(" "))
    }
}
