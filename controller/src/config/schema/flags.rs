//! The flags of `tandem run`: those of kube-proxy 1.36 with the same meaning, those that kube-proxy once had, and
//! Tandem's own. The command line is made from this table.

use super::FieldKind::{self, Boolean, Duration, Integer, Number, Switches, Text, Texts, Unsigned};
use Sets::{Always, Dropped, Itself, KubeProxy, Nothing, Own, Tandem};

/// One flag.
#[derive(Debug)]
pub struct Flag {
    /// Its name, without dashes.
    pub name: &'static str,
    /// The kind of its value.
    pub kind: FieldKind,
    /// What it does.
    pub sets: Sets,
    /// What it means.
    pub about: &'static str,
}

/// What a flag does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sets {
    /// Sets this field of the `KubeProxyConfiguration`. With --config it is ignored, as in kube-proxy.
    KubeProxy(&'static str),
    /// Sets this field of the `KubeProxyConfiguration`, and wins over the file.
    Always(&'static str),
    /// Sets this field of the `TandemConfiguration`, and wins over the file. kube-proxy has no such flag.
    Tandem(&'static str),
    /// Does what its description says.
    Itself,
    /// Does what its description says. kube-proxy has no such flag.
    Own,
    /// Does nothing, for this reason.
    Nothing(&'static str),
    /// Does nothing any more: this release of Kubernetes dropped it.
    Dropped(&'static str),
}

impl Flag {
    /// Whether kube-proxy 1.36 has it.
    pub fn of_kube_proxy(&self) -> bool {
        // kube-proxy has the nftables bit only as a field of the file.
        !matches!(self.sets, Tandem(_) | Own | Dropped(_)) && self.name != "nftables-masquerade-bit"
    }
}

const CADVISOR: &str = "kube-proxy does not use it either: it is cAdvisor's, which is linked into it";

macro_rules! flags {
    ($($name:literal, $kind:expr, $sets:expr, $about:literal;)*) => {
        /// All of them.
        pub static FLAGS: &[Flag] = &[$(Flag { name: $name, kind: $kind, sets: $sets, about: $about },)*];
    };
}

flags! {
    "config", Text, Itself, "A KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1), YAML or JSON.";
    "tandem-config", Text, Own,
        "A TandemConfiguration (tandem.config/v1alpha1), YAML or JSON; by default tandem.conf beside the --config file, if \
         it exists.";
    "source", Text, Own,
        "Where objects come from: `kubernetes` (the default), or `directory:PATH` for a folder of YAML or JSON manifests \
         (Service, EndpointSlice, Node, ServiceCIDR), watched for changes. If no manifest can be read at the start, or if a \
         folder without one takes its place, nothing changes: a mount may be missing. An empty FILE.yaml says that there \
         are no objects.";
    "socket", Text, Tandem("socket"), "Where `tandem services` and `tandem status` find this agent.";
    "log", Text, Tandem("log.level"),
        "What to log: error, warn, info, debug or trace, also per module (`info,tandem::engine=debug`). The variable \
         TANDEM_LOG does the same.";
    "log-format", Text, Tandem("log.format"), "How to write the log: `text` or `json`.";
    "write-config-to", Text, Itself,
        "Writes the KubeProxyConfiguration that file, flags and defaults make to this file, and ends.";
    "cleanup", Boolean, Itself,
        "Removes what Tandem left on this node, and ends. In kube-proxy, it removes kube-proxy's rules; Tandem removes only \
         its own.";
    "stand-by", Boolean, Own,
        "Whether, if another Tandem runs on this node, this one reads everything, leaves the kernel alone, and takes over \
         as soon as the other one has ended. Without it, the second one ends with an error.";
    "stay", Boolean, Own,
        "With --cleanup: whether the program stays afterwards, and is ready (tandem ready), until it is told to end.";
    "init-only", Boolean, Itself,
        "Does what needs all of root's rights (kernel settings), and ends; CAP_NET_ADMIN is then enough to run.";
    "hostname-override", Text, Always("hostnameOverride"),
        "The name of this node's object, if it is not the host name. Wins over the file.";
    "master", Text, Itself, "The API server's address; wins over the kubeconfig's.";
    "v", Unsigned, Always("logging.verbosity"), "How much to log, as a klog verbosity. Wins over the file.";
    "logging-format", Text, Always("logging.format"),
        "How to write the log: text or json. Wins over the file; kube-proxy knows only text.";
    "log-flush-frequency", Duration, Always("logging.flushFrequency"), "How long a line of the log may wait before it is written.";
    "vmodule", Text, Nothing("it names files of kube-proxy's source; --log does the same for Tandem's"),
        "Verbosity by source file.";
    "log-text-split-stream", Boolean, Always("logging.options.text.splitStream"),
        "Whether errors go to another stream.";
    "log-text-info-buffer-size", Text, Always("logging.options.text.infoBufferSize"), "How many bytes may wait.";
    "log-json-split-stream", Boolean, Always("logging.options.json.splitStream"),
        "Whether errors go to another stream.";
    "log-json-info-buffer-size", Text, Always("logging.options.json.infoBufferSize"), "How many bytes may wait.";
    "feature-gates", Switches, KubeProxy("featureGates"), "Feature gates: A=true,B=false.";
    "kubeconfig", Text, KubeProxy("clientConnection.kubeconfig"),
        "How to reach the API server; without it, the service account of the pod it runs in.";
    "kube-api-content-type", Text, KubeProxy("clientConnection.contentType"), "The encoding in which objects are asked for.";
    "kube-api-burst", Integer, KubeProxy("clientConnection.burst"), "How many requests may exceed --kube-api-qps at once.";
    "kube-api-qps", Number, KubeProxy("clientConnection.qps"), "Requests a second.";
    "bind-address", Text, KubeProxy("bindAddress"), "Its family decides the defaults of --healthz-bind-address and --metrics-bind-address.";
    "healthz-bind-address", Text, KubeProxy("healthzBindAddress"),
        "Where /healthz and /livez are served: address, or address and port. An empty value turns it off.";
    "metrics-bind-address", Text, KubeProxy("metricsBindAddress"),
        "Where a plain /healthz and /proxyMode are served (/metrics is not yet: 404): address, or address and port. An \
         empty value turns it off.";
    "healthz-port", Integer, Itself,
        "Deprecated. The port of --healthz-bind-address, if that has none; 0 turns it off. Ignored with --config.";
    "metrics-port", Integer, Itself,
        "Deprecated. The port of --metrics-bind-address, if that has none; 0 turns it off. Ignored with --config.";
    "bind-address-hard-fail", Boolean, KubeProxy("bindAddressHardFail"), "End if one of these two addresses cannot be used.";
    "profiling", Boolean, KubeProxy("enableProfiling"), "Whether /debug/pprof is served.";
    "show-hidden-metrics-for-version", Text, KubeProxy("showHiddenMetricsForVersion"), "Shows hidden metrics.";
    "proxy-mode", Text, KubeProxy("mode"), "nftables. With iptables or ipvs, Tandem programs nftables too.";
    "iptables-masquerade-bit", Integer, KubeProxy("iptables.masqueradeBit"),
        "Which bit of the packet mark asks for masquerading, 0 to 31, if the mode is not nftables.";
    "nftables-masquerade-bit", Integer, KubeProxy("nftables.masqueradeBit"),
        "Which bit of the packet mark asks for masquerading, 0 to 31. kube-proxy has this only as a field of the file.";
    "masquerade-all", Boolean, KubeProxy("nftables.masqueradeAll"),
        "Masquerade everything that is sent to ClusterIPs.";
    "iptables-localhost-nodeports", Boolean, KubeProxy("iptables.localhostNodePorts"),
        "Whether nodePorts answer on 127.0.0.0/8 in iptables mode.";
    "iptables-sync-period", Duration, KubeProxy("iptables.syncPeriod"), "The longest time between two syncs.";
    "iptables-min-sync-period", Duration, KubeProxy("iptables.minSyncPeriod"), "The shortest time between two syncs.";
    "ipvs-sync-period", Duration, KubeProxy("ipvs.syncPeriod"), "The longest time between two syncs.";
    "ipvs-min-sync-period", Duration, KubeProxy("ipvs.minSyncPeriod"), "The shortest time between two syncs.";
    "ipvs-scheduler", Text, KubeProxy("ipvs.scheduler"), "How endpoints are picked in ipvs mode.";
    "ipvs-exclude-cidrs", Texts, KubeProxy("ipvs.excludeCIDRs"), "Addresses that ipvs mode leaves alone.";
    "ipvs-strict-arp", Boolean, KubeProxy("ipvs.strictARP"), "Whether ARP requests for ClusterIPs get no answer.";
    "ipvs-tcp-timeout", Duration, KubeProxy("ipvs.tcpTimeout"), "Timeout of idle TCP connections in ipvs mode.";
    "ipvs-tcpfin-timeout", Duration, KubeProxy("ipvs.tcpFinTimeout"), "Timeout after a FIN in ipvs mode.";
    "ipvs-udp-timeout", Duration, KubeProxy("ipvs.udpTimeout"), "Timeout of UDP flows in ipvs mode.";
    "detect-local-mode", Text, KubeProxy("detectLocalMode"),
        "How pods are distinguished from other sources: ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix.";
    "pod-bridge-interface", Text, KubeProxy("detectLocal.bridgeInterface"), "BridgeInterface: the pods' bridge.";
    "pod-interface-name-prefix", Text, KubeProxy("detectLocal.interfaceNamePrefix"),
        "InterfaceNamePrefix: how the names of the pods' interfaces begin.";
    "cluster-cidr", Text, KubeProxy("clusterCIDR"),
        "The pods' ranges, one or more per family, separated by commas. What other sources send to ClusterIPs is masqueraded.";
    "nodeport-addresses", Texts, KubeProxy("nodePortAddresses"),
        "Which of the node's addresses take nodePort traffic: CIDRs separated by commas, or `primary` (the default).";
    "oom-score-adj", Integer, KubeProxy("oomScoreAdj"),
        "The kernel's OOM score adjustment, -1000 to 1000: at a low value, it kills other processes first.";
    "conntrack-max-per-core", Integer, KubeProxy("conntrack.maxPerCore"),
        "Tracked connections per processor. 0 leaves it as it is.";
    "conntrack-min", Integer, KubeProxy("conntrack.min"), "The least number of tracked connections.";
    "conntrack-tcp-timeout-established", Duration, KubeProxy("conntrack.tcpEstablishedTimeout"),
        "Timeout of idle established TCP connections. 0 leaves it as it is.";
    "conntrack-tcp-timeout-close-wait", Duration, KubeProxy("conntrack.tcpCloseWaitTimeout"),
        "Timeout of TCP connections in CLOSE_WAIT. 0 leaves it as it is.";
    "conntrack-tcp-be-liberal", Boolean, KubeProxy("conntrack.tcpBeLiberal"), "Sets nf_conntrack_tcp_be_liberal.";
    "conntrack-udp-timeout", Duration, KubeProxy("conntrack.udpTimeout"),
        "Timeout of unanswered UDP flows. 0 leaves it as it is.";
    "conntrack-udp-timeout-stream", Duration, KubeProxy("conntrack.udpStreamTimeout"),
        "Timeout of answered UDP flows. 0 leaves it as it is.";
    "config-sync-period", Duration, KubeProxy("configSyncPeriod"), "How often everything is read again.";
    "allow-dynamic-housekeeping", Boolean, Nothing(CADVISOR), "";
    "application-metrics-count-limit", Integer, Nothing(CADVISOR), "";
    "boot-id-file", Text, Nothing(CADVISOR), "";
    "container-hints", Text, Nothing(CADVISOR), "";
    "containerd", Text, Nothing(CADVISOR), "";
    "containerd-env-metadata-whitelist", Text, Nothing(CADVISOR), "";
    "containerd-namespace", Text, Nothing(CADVISOR), "";
    "crio-client-timeout", Duration, Nothing(CADVISOR), "";
    "disable-root-cgroup-stats", Boolean, Nothing(CADVISOR), "";
    "docker-only", Boolean, Nothing(CADVISOR), "";
    "enable-load-reader", Boolean, Nothing(CADVISOR), "";
    "event-storage-age-limit", Text, Nothing(CADVISOR), "";
    "event-storage-event-limit", Text, Nothing(CADVISOR), "";
    "global-housekeeping-interval", Duration, Nothing(CADVISOR), "";
    "housekeeping-interval", Duration, Nothing(CADVISOR), "";
    "log-cadvisor-usage", Boolean, Nothing(CADVISOR), "";
    "machine-id-file", Text, Nothing(CADVISOR), "";
    "max-housekeeping-interval", Duration, Nothing(CADVISOR), "";
    "referenced-reset-interval", Unsigned, Nothing(CADVISOR), "";
    "storage-driver-buffer-duration", Duration, Nothing(CADVISOR), "";
    "storage-driver-db", Text, Nothing(CADVISOR), "";
    "storage-driver-host", Text, Nothing(CADVISOR), "";
    "storage-driver-password", Text, Nothing(CADVISOR), "";
    "storage-driver-secure", Boolean, Nothing(CADVISOR), "";
    "storage-driver-table", Text, Nothing(CADVISOR), "";
    "storage-driver-user", Text, Nothing(CADVISOR), "";
    "update-machine-info-interval", Duration, Nothing(CADVISOR), "";
    "conntrack-max", Integer, Dropped("1.15"),
        "Tracked connections; --conntrack-max-per-core and --conntrack-min take its place.";
    "resource-container", Text, Dropped("1.16"), "The cgroup that kube-proxy moved itself into.";
    "cleanup-ipvs", Boolean, Dropped("1.21"), "Whether --cleanup removes what ipvs mode left.";
    "udp-timeout", Duration, Dropped("1.26"), "Timeout of UDP flows in userspace mode.";
    "add-dir-header", Boolean, Dropped("1.26"), "Whether lines of the log name the folder of the source.";
    "alsologtostderr", Boolean, Dropped("1.26"), "Whether the log goes to standard error as well as to files.";
    "log-backtrace-at", Text, Dropped("1.26"), "Where in the source a stack is logged.";
    "log-dir", Text, Dropped("1.26"), "The folder for files of the log; the log goes to standard error.";
    "log-file", Text, Dropped("1.26"), "The file of the log; the log goes to standard error.";
    "log-file-max-size", Unsigned, Dropped("1.26"), "The largest size of that file.";
    "logtostderr", Boolean, Dropped("1.26"), "Whether the log goes to standard error; it always does.";
    "one-output", Boolean, Dropped("1.26"), "Whether a line goes to one of several files only.";
    "skip-headers", Boolean, Dropped("1.26"), "Whether lines of the log begin without time and place.";
    "skip-log-headers", Boolean, Dropped("1.26"), "Whether files of the log begin without a header.";
    "stderrthreshold", Text, Dropped("1.26"), "The least severity that goes to standard error as well.";
    "proxy-port-range", Text, Dropped("1.31"), "Ports of the userspace proxy.";
}
