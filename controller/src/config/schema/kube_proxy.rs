//! `KubeProxyConfiguration` as Kubernetes 1.36 has it.

use super::Change::{Live, Restart};
use super::Default::{Empty, Nothing, Unset};
use super::Fate::{Honoured, Ignored, Section};
use super::FieldKind::{
    Boolean, Duration, DurationOrNanoseconds, Integer, Number, Quantity, Sections, Switches, Text, Texts, Unsigned,
};
use super::{FieldKind, Schema, fields, unused};

pub(crate) static SCHEMA: Schema = Schema {
    kind: "KubeProxyConfiguration",
    version: "kubeproxy.config.k8s.io/v1alpha1",
    about: "What kube-proxy reads with --config. Tandem reads the same file, so that moving to it and moving back are \
            one change of the image.",
    fields: FIELDS,
    unused: unused::KUBE_PROXY,
};

const NO_SYNC: &str =
    "Tandem has no sync period: each change is programmed at once, and what fails is tried again by itself";
const REQUESTS: &str = "Tandem asks for each of four kinds of object once, as the beginning of a watch. \
     A watch lasts 7 to 10 minutes, and Tandem waits longer after each request that failed";
const IPVS: &str = "it is about ipvs mode only, and Tandem programs nftables";
const WINDOWS: &str = "it is about Windows only";
const LOG_BUFFER: &str = "Tandem writes each line to standard error at once";
const VMODULE: &str =
    "it names files of kube-proxy's source; log.level of TandemConfiguration does the same for Tandem's";
const OBJECT: FieldKind = FieldKind::Section;

fields! {
    "apiVersion", Text, Nothing, Honoured(Restart), "kubeproxy.config.k8s.io/v1alpha1, and nothing else.";
    "kind", Text, Nothing, Honoured(Restart), "KubeProxyConfiguration, and nothing else.";
    "featureGates", Switches, Nothing,
        Ignored("no gate of kube-proxy changes anything that Tandem does; a name that kube-proxy 1.36 does not know \
                 is warned of"),
        "Feature gates by name.";
    "clientConnection", OBJECT, Nothing, Section, "How the API server is reached.";
    "clientConnection.kubeconfig", Text, Nothing, Honoured(Restart),
        "Path of a kubeconfig. Without it, and without --master, the service account of the pod is used. Tandem reads the file again when its content, or that of a file that it names, changes.";
    "clientConnection.acceptContentTypes", Text, Nothing, Honoured(Restart),
        "The encodings in which Tandem asks for objects: media types, separated by commas. Tandem reads \
         application/vnd.kubernetes.protobuf and application/json, and warns of others. If it is not set, contentType \
         counts.";
    "clientConnection.contentType", Text, Empty("application/vnd.kubernetes.protobuf"), Honoured(Restart),
        "The encoding in which Tandem asks for objects, if acceptContentTypes is not set. For protobuf, Tandem takes JSON \
         from servers that have no protobuf for a kind. What Tandem itself writes, its Events, is always JSON.";
    "clientConnection.qps", Number, Empty("5"),
        Ignored(REQUESTS),
        "Requests a second.";
    "clientConnection.burst", Integer, Empty("10"),
        Ignored(REQUESTS),
        "How many requests may exceed qps at once; 0 or more.";
    "logging", OBJECT, Nothing, Section, "What is logged, and how. TandemConfiguration's log wins over it.";
    "logging.format", Text, Empty("text"), Honoured(Restart), "text, or json for one JSON object a line.";
    "logging.flushFrequency", DurationOrNanoseconds, Empty("5s"), Ignored(LOG_BUFFER), "How long a line may wait before it is written.";
    "logging.verbosity", Unsigned, Nothing, Honoured(Live),
        "0 to 3 log at level info, 4 to 7 at debug, 8 and more at trace. At most 2147483647.";
    "logging.vmodule", Sections, Nothing, Ignored(VMODULE),
        "Verbosity by source file.";
    "logging.vmodule.filePattern", Text, Nothing, Ignored(VMODULE),
        "Name or pattern of source files, not empty, without = and commas.";
    "logging.vmodule.verbosity", Unsigned, Nothing, Ignored(VMODULE), "Verbosity in these files. At most 2147483647.";
    "logging.options", OBJECT, Nothing, Section, "Options of the two formats.";
    "logging.options.text", OBJECT, Nothing, Section, "Options of the text format.";
    "logging.options.text.splitStream", Boolean, Nothing, Ignored(LOG_BUFFER), "Whether errors go to another stream.";
    "logging.options.text.infoBufferSize", Quantity, Nothing, Ignored(LOG_BUFFER), "How many bytes may wait.";
    "logging.options.json", OBJECT, Nothing, Section, "Options of the JSON format.";
    "logging.options.json.splitStream", Boolean, Nothing, Ignored(LOG_BUFFER), "Whether errors go to another stream.";
    "logging.options.json.infoBufferSize", Quantity, Nothing, Ignored(LOG_BUFFER), "How many bytes may wait.";
    "hostnameOverride", Text, Nothing, Honoured(Restart),
        "The name of this node's object. If it is not set, the host's name. --hostname-override wins over it.";
    "bindAddress", Text, Empty("0.0.0.0"), Honoured(Restart),
        "Its family decides the defaults of healthzBindAddress and metricsBindAddress. The node's own addresses are always \
         those of its Node object: an address given here does not replace them, and Tandem warns about it.";
    "healthzBindAddress", Text, Empty("0.0.0.0:10256"), Honoured(Restart),
        "Address, or address and port, of /healthz and /livez; [::]:10256 by default if bindAddress is IPv6. \
         0.0.0.0 and :: both mean all addresses of both families. --healthz-port=0 or an empty \
         --healthz-bind-address turns it off.";
    "metricsBindAddress", Text, Empty("127.0.0.1:10249"), Honoured(Restart),
        "Address, or address and port, of a plain /healthz and of /proxyMode; /metrics is not served there yet (404). \
         [::1]:10249 by default if bindAddress is IPv6. --metrics-port=0 or an empty --metrics-bind-address \
         turns it off.";
    "bindAddressHardFail", Boolean, Nothing, Honoured(Restart),
        "Whether Tandem ends if one of these two addresses cannot be used, instead of trying again.";
    "enableProfiling", Boolean, Nothing,
        Ignored("Tandem has no Go runtime to profile, so /debug/pprof is not served"),
        "Whether /debug/pprof is served.";
    "showHiddenMetricsForVersion", Text, Nothing, Ignored("Tandem hides no metrics"),
        "Shows metrics that this version hid.";
    "mode", Text, Nothing, Honoured(Live),
        "nftables. With iptables, ipvs, userspace or nothing, Tandem programs nftables too: the mode then only decides which \
         section's masqueradeBit and masqueradeAll count. kernelspace, which is for Windows, is refused.";
    "iptables", OBJECT, Nothing, Section, "What counts if the mode is not nftables.";
    "iptables.masqueradeBit", Integer, Unset("14"), Honoured(Live),
        "As nftables.masqueradeBit. It counts if the mode is iptables or ipvs, or if there is no mode and \
         nftables.masqueradeBit is not set.";
    "iptables.masqueradeAll", Boolean, Nothing, Honoured(Live),
        "As nftables.masqueradeAll, if the mode is not nftables.";
    "iptables.localhostNodePorts", Boolean, Unset("true"),
        Ignored("nodePorts answer on loopback addresses only with nodePortLoopback of TandemConfiguration, for both \
                 families"),
        "Whether nodePorts answer on 127.0.0.0/8 in iptables mode.";
    "iptables.syncPeriod", Duration, Empty("30s"), Ignored(NO_SYNC),
        "The longest time between two syncs. If this is the section of the mode, a value below minSyncPeriod is refused, as \
         by kube-proxy.";
    "iptables.minSyncPeriod", Duration, Empty("1s"), Ignored(NO_SYNC), "The shortest time between two syncs.";
    "ipvs", OBJECT, Nothing, Section, "What counts in ipvs mode.";
    "ipvs.syncPeriod", Duration, Empty("30s"), Ignored(NO_SYNC),
        "The longest time between two syncs. If this is the section of the mode, a value below minSyncPeriod is refused, as \
         by kube-proxy.";
    "ipvs.minSyncPeriod", Duration, Nothing, Ignored(NO_SYNC), "The shortest time between two syncs.";
    "ipvs.scheduler", Text, Nothing, Ignored("endpoints are picked at random, as nftables mode does"),
        "How endpoints are picked.";
    "ipvs.excludeCIDRs", Texts, Nothing, Ignored(IPVS), "Addresses that ipvs mode leaves alone.";
    "ipvs.strictARP", Boolean, Nothing, Ignored(IPVS),
        "Whether ARP requests for ClusterIPs get no answer; Tandem gives no interface ClusterIPs.";
    "ipvs.tcpTimeout", Duration, Nothing, Ignored(IPVS), "Timeout of idle TCP connections.";
    "ipvs.tcpFinTimeout", Duration, Nothing, Ignored(IPVS), "Timeout of TCP connections after a FIN.";
    "ipvs.udpTimeout", Duration, Nothing, Ignored(IPVS), "Timeout of UDP flows.";
    "nftables", OBJECT, Nothing, Section, "What counts in nftables mode.";
    "nftables.masqueradeBit", Integer, Unset("14"), Honoured(Live),
        "Which bit of the packet mark asks for masquerading, 0 to 31.";
    "nftables.masqueradeAll", Boolean, Nothing, Honoured(Live),
        "Whether everything that is sent to ClusterIPs is masqueraded.";
    "nftables.syncPeriod", Duration, Empty("30s"), Ignored(NO_SYNC),
        "The longest time between two syncs. If this is the section of the mode, a value below minSyncPeriod is refused, as \
         by kube-proxy.";
    "nftables.minSyncPeriod", Duration, Empty("1s"), Ignored(NO_SYNC), "The shortest time between two syncs.";
    "winkernel", OBJECT, Nothing, Section, "What counts on Windows.";
    "winkernel.networkName", Text, Nothing, Ignored(WINDOWS), "The HNS network.";
    "winkernel.sourceVip", Text, Nothing, Ignored(WINDOWS), "Source address of translated connections.";
    "winkernel.enableDSR", Boolean, Nothing, Ignored(WINDOWS), "Direct server return.";
    "winkernel.rootHnsEndpointName", Text, Nothing, Ignored(WINDOWS), "The HNS endpoint of the root namespace.";
    "winkernel.forwardHealthCheckVip", Boolean, Nothing, Ignored(WINDOWS),
        "Whether health checks of Service addresses are forwarded.";
    "detectLocalMode", Text, Empty("ClusterCIDR"), Honoured(Live),
        "How pods are distinguished from other sources: ClusterCIDR, NodeCIDR (the Node object's podCIDRs), BridgeInterface \
         or InterfaceNamePrefix. What others send to ClusterIPs is masqueraded.";
    "detectLocal", OBJECT, Nothing, Section, "Settings for some values of detectLocalMode.";
    "detectLocal.bridgeInterface", Text, Nothing, Honoured(Live),
        "For BridgeInterface: packets that come in through this interface are pods'.";
    "detectLocal.interfaceNamePrefix", Text, Nothing, Honoured(Live),
        "For InterfaceNamePrefix: packets that come in through an interface whose name begins like this are pods'.";
    "clusterCIDR", Text, Nothing, Honoured(Live),
        "For ClusterCIDR: the pods' ranges, separated by commas. Tandem takes any number in any family; kube-proxy \
         refuses more than one per family.";
    "nodePortAddresses", Texts, Nothing, Honoured(Live),
        "Which of the node's addresses take nodePort traffic: CIDRs, or primary (the Node object's first address of \
         each family), which is also the default. A family without a CIDR takes all addresses, as in \
         kube-proxy. Loopback addresses are left out unless TandemConfiguration's nodePortLoopback says otherwise.";
    "oomScoreAdj", Integer, Unset("-999"), Honoured(Live),
        "The kernel's OOM score adjustment for Tandem, -1000 to 1000: at a low value, it kills other processes first.";
    "conntrack", OBJECT, Nothing, Section,
        "Kernel settings of connection tracking. If one cannot be written, Tandem warns and goes on; kube-proxy ends.";
    "conntrack.maxPerCore", Integer, Unset("32768"), Honoured(Live),
        "Connections per processor: nf_conntrack_max becomes this times the processors, at most 1048576, at least \
         min. 0 leaves it as it is.";
    "conntrack.min", Integer, Unset("131072"), Honoured(Live),
        "The least value that nf_conntrack_max becomes. It has no effect if maxPerCore is 0.";
    "conntrack.tcpEstablishedTimeout", Duration, Unset("24h0m0s"), Honoured(Live),
        "nf_conntrack_tcp_timeout_established. 0 leaves it as it is.";
    "conntrack.tcpCloseWaitTimeout", Duration, Unset("1h0m0s"), Honoured(Live),
        "nf_conntrack_tcp_timeout_close_wait. 0 leaves it as it is.";
    "conntrack.tcpBeLiberal", Boolean, Nothing, Honoured(Live),
        "Sets nf_conntrack_tcp_be_liberal to 1. False leaves it as it is.";
    "conntrack.udpTimeout", Duration, Nothing, Honoured(Live), "nf_conntrack_udp_timeout. 0 leaves it as it is.";
    "conntrack.udpStreamTimeout", Duration, Nothing, Honoured(Live),
        "nf_conntrack_udp_timeout_stream. 0 leaves it as it is.";
    "configSyncPeriod", Duration, Empty("15m0s"),
        Ignored("Tandem watches, and lists everything again once a day, and after a watch was lost"),
        "How often everything is read again.";
    "portRange", Text, Nothing, Ignored("kube-proxy does not use it either"),
        "Ports of the former userspace proxy.";
    "windowsRunAsService", Boolean, Nothing, Ignored(WINDOWS), "Whether kube-proxy runs as a Windows service.";
}
