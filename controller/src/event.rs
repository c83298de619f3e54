//! Events: what sources tell the engine.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use tandem_core::family::IpFamily;
use tandem_core::node::InterfaceName;
use tandem_core::object::{EndpointSlice, Node, ObjectKey, Service};
use tandem_core::plane::{Ahead, ForwardDrop, Place};
use tandem_core::uid::Uid;

use ipnet::IpNet;

use crate::node_settings::NodeSettings;

/// The kinds of objects that Tandem reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// `v1 Service`
    Service,
    /// `discovery.k8s.io/v1 EndpointSlice`
    EndpointSlice,
    /// `v1 Node`, this one only
    Node,
    /// `networking.k8s.io/v1 ServiceCIDR`
    ServiceCidr,
}

impl ObjectKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Service, Self::EndpointSlice, Self::Node, Self::ServiceCidr];

    /// The kind's name, as in an object's field `kind`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Node => "Node",
            Self::ServiceCidr => "ServiceCIDR",
        }
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One object, with only the fields that Tandem uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A Service with a ClusterIP.
    Service(Service),
    /// A slice that belongs to a Service.
    EndpointSlice(EndpointSlice),
    /// This node.
    Node(Node),
    /// Ranges of ClusterIPs.
    ServiceCidr(ServiceCidr),
}

/// `spec.cidrs` of a ServiceCIDR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceCidr {
    /// The name; the namespace is empty.
    pub key: ObjectKey,
    /// The ranges.
    pub cidrs: Vec<IpNet>,
}

impl Object {
    /// The object's kind.
    pub fn kind(&self) -> ObjectKind {
        match self {
            Self::Service(_) => ObjectKind::Service,
            Self::EndpointSlice(_) => ObjectKind::EndpointSlice,
            Self::Node(_) => ObjectKind::Node,
            Self::ServiceCidr(_) => ObjectKind::ServiceCidr,
        }
    }

    /// The object's namespace and name.
    pub fn key(&self) -> ObjectKey {
        match self {
            Self::Service(service) => service.key.clone(),
            Self::EndpointSlice(slice) => slice.key.clone(),
            Self::Node(node) => ObjectKey::new("", node.name.clone()),
            Self::ServiceCidr(cidr) => cidr.key.clone(),
        }
    }
}

/// A fault of an object that its owner should know: where it is, what is wrong, and what happens instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Path of the field: `spec.externalIPs[1]`
    pub field: String,
    /// The value of the field, shortened.
    pub value: String,
    /// What is wrong with it, and what happens instead.
    pub problem: String,
    /// The object's `metadata.uid`, if it has one. Another object with the same name has notices of its own.
    pub uid: Option<Uid>,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.field.is_empty() {
            write!(f, "{}: {:?}: ", self.field, self.value)?;
        }
        f.write_str(&self.problem)
    }
}

/// What a source sends, in this order. The index is complete once every kind has been listed.
#[derive(Clone, Debug)]
pub enum Event {
    /// A list of this kind begins. Objects that it does not name are gone when it ends.
    Listing(ObjectKind),
    /// An object exists, with this content.
    Applied(Object, Vec<Notice>),
    /// An object is gone, or Tandem does not use it any more (headless, `ExternalName`, another proxy's).
    Deleted(ObjectKind, ObjectKey, Vec<Notice>),
    /// An object exists, but cannot be read. Its last good content stays.
    Unreadable(ObjectKind, ObjectKey, Notice),
    /// The list of this kind is complete.
    Listed(ObjectKind),
    /// The addresses that this node's interfaces have.
    Interfaces(Vec<IpAddr>),
    /// The configuration of the node's own rows and rules changed.
    Configured(Box<NodeSettings>),
    /// The agent that served the node has ended. From now on, this one does.
    TakeOver,
    /// Something else was found on the node. It changes no row.
    NodeFact(NodeFact),
    /// The faults of this file; an empty list if it is repaired or gone.
    Faulty(Box<str>, Vec<String>),
    /// The source can no longer read objects of this kind, or can read them again.
    Reach(ObjectKind, Reach),
}

/// Something on this node that does not belong to Tandem, and that may disturb Services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeFact {
    /// All addresses of this node, sorted, each with the interface that has it.
    Addresses(Vec<(IpAddr, InterfaceName)>),
    /// Chains that drop forwarded packets, sorted.
    ForwardDrops(Vec<ForwardDrop>),
    /// A kube-proxy beside Tandem, or what one left.
    KubeProxy(KubeProxy),
    /// Who sees packets from outside before the rules do.
    Ahead(Ahead),
    /// Which API server is asked.
    ApiServer(ApiServer),
    /// New connections whose client could not be remembered for session affinity.
    Unremembered {
        /// The family.
        family: IpFamily,
        /// How many there were since the table was made.
        connections: u64,
        /// Whether there were any a short time ago.
        lately: bool,
        /// The largest number of clients that can be remembered.
        most: u32,
    },
}

/// Where the API server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiServer {
    /// Host and port, as the settings say.
    pub name: Box<str>,
    /// The host, if it is an address.
    pub address: Option<IpAddr>,
}

/// What is known of a kube-proxy on this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KubeProxy {
    /// Whether one runs.
    pub neighbour: Neighbour,
    /// Where Tandem's rules are to stand.
    pub place: Place,
    /// The health check address. It shows whether a kube-proxy runs.
    pub address: Option<SocketAddr>,
    /// Whether tables of nftables mode are there.
    pub tables: bool,
    /// Whether chains of iptables mode or ipvs mode are there.
    pub chains: bool,
}

/// Whether a kube-proxy runs on this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Neighbour {
    /// None is known.
    #[default]
    None,
    /// Rules have appeared. It is being found out whether a kube-proxy made them.
    Appeared,
    /// One runs: it has the health check address, and its rules are there.
    Runs,
    /// A program makes rules of a kube-proxy again and again, and does not want the address.
    Reappears,
    /// Another program has the address, and no rules of a kube-proxy are there.
    AddressTaken,
    /// Tandem may not listen at the address, or the node does not have it.
    AddressUnusable,
}

impl KubeProxy {
    /// Whether a kube-proxy, or a program that makes its rules, runs on this node. If only `iptables-legacy` translates
    /// addresses, that is not certain.
    pub fn is_there(&self) -> bool {
        match self.neighbour {
            Neighbour::Runs => self.tables || self.chains,
            Neighbour::Reappears => true,
            Neighbour::None | Neighbour::Appeared | Neighbour::AddressTaken | Neighbour::AddressUnusable => false,
        }
    }
}

/// Whether objects of a kind can be read at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// They are watched.
    Watching,
    /// They cannot be read, for this reason. The receiver notes since when.
    Lost(String),
}
