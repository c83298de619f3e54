//! Fields that a file may have and that nobody reads: those that kube-proxy once had, release by release, and what tools
//! put into every object. A file from then, or made by such a tool, starts Tandem as it starts kube-proxy.

/// A field that is not read, whatever is in it.
#[derive(Debug)]
pub struct Unused {
    /// Its path: `conntrack.max`.
    pub path: &'static str,
    /// Why it is not read.
    pub why: Why,
    /// What it meant, and what takes its place.
    pub about: &'static str,
}

/// Why a field is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// kube-proxy had it before this release of Kubernetes.
    Dropped(&'static str),
    /// It is for tools, and kube-proxy does not read it either.
    Foreign,
}

impl Unused {
    /// As a sentence without its end.
    pub fn reason(&self) -> String {
        match self.why {
            Why::Dropped(release) => format!("Kubernetes {release} dropped it, so it has no effect: {}", self.about),
            Why::Foreign => format!("it has no effect: {}", self.about),
        }
    }
}

const METADATA: Unused = Unused {
    path: "metadata",
    why: Why::Foreign,
    about: "kube-proxy does not read it either; it may stay for tools that want a name, such as Kustomize",
};

/// Those of a `KubeProxyConfiguration`.
pub(super) static KUBE_PROXY: &[Unused] = &[
    METADATA,
    Unused {
        path: "udpTimeoutMilliseconds",
        why: Why::Dropped("1.10"),
        about: "it became udpIdleTimeout, which is gone too",
    },
    Unused {
        path: "conntrack.max",
        why: Why::Dropped("1.15"),
        about: "it was the most connections that are tracked; conntrack.maxPerCore and conntrack.min take its place",
    },
    Unused {
        path: "resourceContainer",
        why: Why::Dropped("1.16"),
        about: "it was the cgroup that kube-proxy moved itself into; the container runtime does that",
    },
    Unused {
        path: "udpIdleTimeout",
        why: Why::Dropped("1.26"),
        about: "it was the timeout of UDP flows in userspace mode; conntrack.udpTimeout and conntrack.udpStreamTimeout are \
                those of today",
    },
];

/// Those of a `TandemConfiguration`.
pub(super) static TANDEM: &[Unused] = &[METADATA];
