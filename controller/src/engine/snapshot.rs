//! What readers see: the last published state, always whole and never locked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tandem_core::family::{V4, V6};
use tandem_core::node::NodeRows;
use tandem_core::object::{Choice, Node, ObjectKey};
use tandem_core::plan::PortKey;
use tandem_core::plane::{Ahead, Left, Ownership};

use super::disputes::Disputes;
use super::problems::NodeProblem;
use crate::event::{KubeProxy, ObjectKind, Reach};
use crate::index::{Faults, Notices, Services, no_services};

/// Everything that `tandem services` and `tandem status` show.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When the agent started.
    pub started: SystemTime,
    /// Whether every list was complete once, and no other agent serves the node. Before that, the kernel is left as it
    /// was found.
    pub complete: bool,
    /// Whether every list was complete once.
    pub listed: bool,
    /// Whether another agent serves the node, and this one waits for its end.
    pub stands_by: bool,
    /// What is known of a kube-proxy on this node. None before the first look.
    pub kube_proxy: Option<KubeProxy>,
    /// Services and their slices.
    pub services: Services,
    /// How many slices there are.
    pub slices: usize,
    /// The name of this node's Node object.
    pub node_name: Arc<str>,
    /// How packets from outside pick an endpoint of a Service that does not say it.
    pub usual_choice: Choice,
    /// This node's object, once known, with the addresses that count although it does not list them any more.
    pub node: Option<Arc<Node>>,
    /// What is wrong with the node itself.
    pub problems: Arc<[NodeProblem]>,
    /// The addresses that the node's interfaces have.
    pub interfaces: Arc<[IpAddr]>,
    /// The node's own rows, IPv4.
    pub node_v4: Arc<NodeRows<V4>>,
    /// The node's own rows, IPv6.
    pub node_v6: Arc<NodeRows<V6>>,
    /// Whether each kind of object can be read.
    pub reach: Arc<BTreeMap<ObjectKind, Reach>>,
    /// What is wrong with objects.
    pub notices: Arc<Notices>,
    /// The faults of each file that cannot be read completely.
    pub faults: Arc<Faults>,
    /// The IPv4 tables.
    pub v4: FamilyStatus,
    /// The IPv6 tables.
    pub v6: FamilyStatus,
}

impl Snapshot {
    /// The snapshot of an agent that has seen no event yet.
    pub fn empty(started: SystemTime) -> Self {
        Self {
            started,
            complete: false,
            listed: false,
            stands_by: false,
            kube_proxy: None,
            services: no_services(),
            slices: 0,
            node_name: Arc::default(),
            usual_choice: Choice::default(),
            node: None,
            problems: Arc::default(),
            interfaces: Arc::default(),
            node_v4: Arc::default(),
            node_v6: Arc::default(),
            reach: Arc::default(),
            notices: Arc::default(),
            faults: Arc::default(),
            v4: FamilyStatus::default(),
            v6: FamilyStatus::default(),
        }
    }
}

/// The status of one family.
#[derive(Clone, Debug, Default)]
pub struct FamilyStatus {
    /// Rows in the kernel.
    pub rows: usize,
    /// The number of rows that were found in the kernel at the start.
    pub adopted: usize,
    /// Transactions that changed something.
    pub changes: u64,
    /// The time of the last one.
    pub last_change: Option<SystemTime>,
    /// How many rows it touched.
    pub last_change_rows: usize,
    /// How long it took, from the call to the kernel's acknowledgement.
    pub last_change_took: Duration,
    /// Since when changes wait, and why.
    pub last_error: Option<(SystemTime, String)>,
    /// Transactions that failed as a whole.
    pub failures: u64,
    /// Services that are not, or not completely, programmed.
    pub set_aside: Vec<SetAside>,
    /// Those of them whose rows are all as they were before the change that was refused.
    pub kept: BTreeSet<ObjectKey>,
    /// The number of new connections whose client could not be remembered, since the table was made.
    pub unremembered: u64,
    /// The frontends that several Services want.
    pub disputes: Disputes,
    /// Who may change the tables; none while they are not open.
    pub ownership: Option<Ownership>,
    /// Who the rules in the kernel think sees packets from outside before them; none while the tables are not open.
    pub ahead: Option<Ahead>,
    /// The follower of the tables.
    pub followed: FollowStatus,
}

/// The status of one family's follower.
#[derive(Clone, Debug, Default)]
pub struct FollowStatus {
    /// Where it is in its life.
    pub state: FollowState,
    /// The number of Service ports that it holds. None count while it is known to be off.
    pub taken: usize,
    /// The Service ports that it leaves to the tables, and why.
    pub left: Arc<BTreeMap<PortKey, Left>>,
    /// How many changes it followed.
    pub changes: u64,
    /// How often it was renewed from the table.
    pub renewals: u64,
    /// The time of the last change or renewal.
    pub last_change: Option<SystemTime>,
    /// How long that took.
    pub last_change_took: Duration,
    /// How often it failed.
    pub failures: u64,
}

/// Where a follower is in its life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FollowState {
    /// There is none.
    #[default]
    Off,
    /// It waits until the tables hold everything that is known.
    Waiting {
        /// Since when.
        since: SystemTime,
        /// Whether it is switched off meanwhile. If not, it goes on with what it holds.
        off: bool,
    },
    /// It holds what the tables hold.
    On {
        /// Since when it has been on without a pause.
        since: SystemTime,
    },
    /// It holds what the tables hold, and is off: the rules of a kube-proxy come first.
    Beside {
        /// Since when.
        since: SystemTime,
    },
    /// It failed and is off. It is tried again.
    Behind {
        /// Since when.
        since: SystemTime,
        /// Why.
        why: Arc<str>,
    },
}

/// A Service that is not, or not completely, programmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// The Service.
    pub service: ObjectKey,
    /// The reason.
    pub reason: String,
}
