//! `TandemConfiguration`: what kube-proxy has no field for.

use super::Change::{Live, Restart};
use super::Default::{Empty, Nothing, Unset};
use super::Fate::{Honoured, Section};
use super::FieldKind::{Boolean, Integer, Section as OBJECT, Text, Texts};
use super::{Schema, fields, unused};

pub(crate) static SCHEMA: Schema = Schema {
    kind: "TandemConfiguration",
    version: "tandem.config/v1alpha1",
    about: "Settings that kube-proxy does not have. The KubeProxyConfiguration stays valid for kube-proxy. --tandem-config \
            names the file. Without this flag, Tandem reads tandem.conf beside the --config file if it exists, so that \
            both can be in one ConfigMap. Flags win over it.",
    fields: FIELDS,
    unused: unused::TANDEM,
};

fields! {
    "apiVersion", Text, Nothing, Honoured(Restart), "tandem.config/v1alpha1, and nothing else.";
    "kind", Text, Nothing, Honoured(Restart), "TandemConfiguration, and nothing else.";
    "dataPlane", Text, Empty("nft"), Honoured(Live),
        "nft: nftables answers everything. xdp: programs in the kernel (eBPF) answer what they can, sooner; nftables stays \
         programmed, decides, and answers everything else. docs/xdp.md says what this needs. What is missing on a node is \
         shown by tandem status, and nftables answers alone there.";
    "socketLoadBalancing", Text, Empty("all"), Honoured(Live),
        "Whose connections to Services are translated in their sockets, if dataPlane is xdp. all: those of the node and of \
         its pods. node: those of the node alone, for a service mesh that must see ClusterIPs in pods. off: nobody's.";
    "nodeCgroup", Text, Nothing, Honoured(Live),
        "The topmost cgroup v2 folder of the node. If it is not set, it is found in the table of mounts. In a container, \
         the node's own must be mounted.";
    "podCgroup", Text, Nothing, Honoured(Live),
        "The folder of all pods, below nodeCgroup. If it is not set, it is kubepods.slice or kubepods, as kubelet names it. \
         With kubelet's cgroupRoot, it is below that one.";
    "bpfFolder", Text, Empty("/sys/fs/bpf/tandem"), Honoured(Live),
        "Where programs and maps outlive the agent: a folder of a BPF file system. If none is mounted there, Tandem mounts \
         one at the folder above.";
    "xdp", OBJECT, Nothing, Section, "How packets from outside are answered, if dataPlane is xdp.";
    "xdp.pick", Text, Empty("random"), Honoured(Live),
        "How packets from outside to a nodePort, a LoadBalancer address or an externalIP pick an endpoint, if the Service has \
         no annotation tandem.config/pick. random: any one. maglev: every node picks the same one for the same client, so that \
         a client whose packets come to another node stays with its endpoint. It has no effect if dataPlane is nft, and on \
         traffic policy Local.";
    "xdp.devices", Texts, Nothing, Honoured(Live),
        "The devices whose packets from outside XDP takes, if dataPlane is xdp: names, names with *, default-route for those \
         that a default route leaves by, auto for all that packets from outside may come by. Endpoints are reached by these \
         devices, too. On all others, and without any, nftables serves packets from outside. tandem status says which are \
         used, and why others are not.";
    "xdp.mode", Text, Empty("native"), Honoured(Live),
        "native: the driver of each device runs the program; a device whose driver cannot is left to nftables. generic: the \
         kernel runs it, on every device, and slower.";
    "xdp.maxFlows", Integer, Unset("262144"), Honoured(Live),
        "How many flows XDP can have at a time, of IPv4 and of IPv6 each. It is rounded up to 16384, 32768, 65536 and so on, up \
         to 8388608. The memory for all of them is taken at once: 80 bytes for one of IPv4, 144 for one of IPv6. What does not \
         fit is served by nftables. A change is read at once, and XDP uses it once its flows are gone: after XDP was off.";
    "nodePortLoopback", Boolean, Nothing, Honoured(Restart),
        "Whether nodePorts answer on the node's loopback addresses too.";
    "serviceRoutes", Boolean, Unset("true"), Honoured(Live),
        "Whether the ranges that ClusterIPs are taken from get a route to lo, so that a node without a default route \
         reaches them.";
    "dropInvalid", Boolean, Nothing, Honoured(Live),
        "Whether forwarded packets are dropped that connection tracking calls invalid.";
    "removeKubeProxyRules", Boolean, Unset("true"), Honoured(Restart),
        "Whether the nftables tables that a kube-proxy left (ip kube-proxy, ip6 kube-proxy) are removed once Tandem has \
         programmed everything and no kube-proxy runs any more. While they exist, packets pass both programs' rules.";
    "events", Boolean, Unset("true"), Honoured(Restart),
        "Whether Tandem writes Kubernetes Events that say what is wrong with an object.";
    "socket", Text, Empty("/run/tandem/tandem.sock"), Honoured(Restart),
        "Where tandem services and tandem status find this agent.";
    "apiServer", OBJECT, Nothing, Section, "How the API server is asked. Its address is in the kubeconfig.";
    "apiServer.lists", Text, Empty("Stream"), Honoured(Restart),
        "How Tandem asks for all objects of a kind. Stream asks for them one by one, as the beginning of a watch; a server \
         that does not do this is asked as with Cache. Cache asks for them in one piece, from the API server's watch cache, \
         as kube-proxy does. Pages asks for 500 at a time; before Kubernetes 1.34, the API server reads these from etcd.";
    "log", OBJECT, Nothing, Section, "What is logged, and how.";
    "log.level", Text, Nothing, Honoured(Live),
        "error, warn, info, debug or trace, also per module: info,tandem::engine=debug. If it is not set, \
         logging.verbosity of the KubeProxyConfiguration counts.";
    "log.format", Text, Nothing, Honoured(Restart),
        "text for lines for people, json for one JSON object a line. If it is not set, logging.format of the \
         KubeProxyConfiguration counts.";
}
