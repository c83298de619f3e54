//! What sources tell the engine.

use std::fmt;
use std::net::IpAddr;

use tandem_core::family::IpFamily;
use tandem_core::node::InterfaceName;
use tandem_core::object::{EndpointSlice, Node, ObjectKey, Service};
use tandem_core::plane::ForwardDrop;
use tandem_core::uid::Uid;

use ipnet::IpNet;

use crate::node_settings::NodeSettings;

/// The kinds of objects that Tandem reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `v1 Service`
    Service,
    /// `discovery.k8s.io/v1 EndpointSlice`
    EndpointSlice,
    /// `v1 Node`, this one only
    Node,
    /// `networking.k8s.io/v1 ServiceCIDR`
    ServiceCidr,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Service, Self::EndpointSlice, Self::Node, Self::ServiceCidr];

    /// As `kind` in an object has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Node => "Node",
            Self::ServiceCidr => "ServiceCIDR",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One object, trimmed to what Tandem uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A Service with a ClusterIP.
    Service(Service),
    /// A slice that belongs to a Service.
    EndpointSlice(EndpointSlice),
    /// This node.
    Node(Node),
    /// Ranges that ClusterIPs are taken from.
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
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Service(_) => Kind::Service,
            Self::EndpointSlice(_) => Kind::EndpointSlice,
            Self::Node(_) => Kind::Node,
            Self::ServiceCidr(_) => Kind::ServiceCidr,
        }
    }

    /// Its namespace and name.
    pub fn key(&self) -> ObjectKey {
        match self {
            Self::Service(service) => service.key.clone(),
            Self::EndpointSlice(slice) => slice.key.clone(),
            Self::Node(node) => ObjectKey::new("", node.name.clone()),
            Self::ServiceCidr(cidr) => cidr.key.clone(),
        }
    }
}

/// Something about an object that its owner should know: what was wrong, where, and what happens instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Path of the field: `spec.externalIPs[1]`
    pub field: String,
    /// The value found there, shortened.
    pub value: String,
    /// What is wrong with it, and what happens instead.
    pub problem: String,
    /// The object's `metadata.uid`, where it has one: another object of its name has notices of its own.
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

/// What a source yields, in order. The index is complete once every kind has been listed.
#[derive(Clone, Debug)]
pub enum Event {
    /// A list of this kind begins: objects that it does not name are gone when it ends.
    Listing(Kind),
    /// An object is there in this form.
    Applied(Object, Vec<Notice>),
    /// An object is gone, or has become one that is none of Tandem's business (headless, `ExternalName`, another proxy's).
    Deleted(Kind, ObjectKey, Vec<Notice>),
    /// An object is there, but in no readable form: what was known of it stays.
    Unreadable(Kind, ObjectKey, Notice),
    /// The list of this kind is complete.
    Listed(Kind),
    /// The addresses that this node's interfaces have.
    Interfaces(Vec<IpAddr>),
    /// The configuration changed, as far as the node's own rows and rules go.
    Configured(Box<NodeSettings>),
    /// What else was found on the node; it changes no row.
    Around(Around),
    /// What of this file cannot be read; nothing once it is mended or gone.
    Faulty(Box<str>, Vec<String>),
    /// The source lost or found its way to objects of this kind.
    Reach(Kind, Reach),
}

/// Something on this node that is not Tandem's, and that may be in the way of Services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Around {
    /// All addresses of this node, sorted, each with the interface that has it.
    Addresses(Vec<(IpAddr, InterfaceName)>),
    /// Chains that drop what is forwarded, sorted.
    ForwardDrops(Vec<ForwardDrop>),
    /// New connections whose client could not be remembered for session affinity.
    Unremembered {
        /// Of which family.
        family: IpFamily,
        /// How many there were since the table was made.
        connections: u64,
        /// Whether there were any lately.
        lately: bool,
        /// How many clients are remembered at most.
        most: u32,
    },
}

/// Whether objects of a kind can be read at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// They are read as they change.
    Watching,
    /// They are not; the reason, and since when is the reader's to note.
    Lost(String),
}
