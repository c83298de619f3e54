//! Fields that a file may have and that nobody reads: those that kube-proxy once had, release by release, and those
//! that tools put into every object. A file with such fields starts Tandem, as it starts kube-proxy.

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
    /// This release of Kubernetes dropped it.
    Dropped(&'static str),
    /// It is for tools, and kube-proxy does not read it either.
    Foreign,
}

impl Unused {
    /// The reason as a sentence without its full stop.
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

/// The unused fields of a `KubeProxyConfiguration`.
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
        about: "it was the largest number of tracked connections; conntrack.maxPerCore and conntrack.min take its place",
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

/// The unused fields of a `TandemConfiguration`.
pub(super) static TANDEM: &[Unused] = &[METADATA];
