//! The sets and maps of a table: their names and their layouts. Used to make a table, to compare one that exists, and
//! to encode and decode elements. Holds no rows.

use crate::elements::field::{Field, SHARES, Value};
use crate::elements::layout::{CONCAT, DYNAMIC, INTERVAL, Layout, MAP, TIMEOUT, map, set};

/// A set or map of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Set {
    ClusterFrontends,
    ExternalFrontends,
    NodePorts,
    Services,
    Picks,
    Endpoints,
    StickyEndpoints,
    EndpointIds,
    Affinity,
    Priorities,
    ClusterIps,
    ServiceCidrs,
    LocalPods,
    NodeAddresses,
    Hairpin,
    RestrictedFrontends,
    AllowedSources,
}

/// How many shares of clients a family's map `affinity` can remember over all Services. Of one Service it remembers
/// at most 16,384.
pub const REMEMBERED_MOST: u32 = 16 * SHARES;

/// How many connections the map `priorities` can hold at a time.
const PRIORITIES: u32 = 16_384;

/// The key of a frontend.
pub(crate) const FRONTEND_KEY: &[Field] = &[Field::Daddr, Field::Protocol, Field::Port];
const ENDPOINT: Value = Value::Fields(&[Field::Daddr, Field::Port]);
const ID: Value = Value::Fields(&[Field::Priority]);

static LAYOUTS: [Layout; Set::ALL.len()] = [
    map(
        "cluster-frontends",
        "ClusterIP . protocol . port : service",
        FRONTEND_KEY,
        ID,
    ),
    map(
        "external-frontends",
        "externalIP or LoadBalancer ingress . protocol . port : service",
        FRONTEND_KEY,
        ID,
    ),
    map(
        "node-ports",
        "protocol . nodePort : service",
        &[Field::Protocol, Field::Port],
        ID,
    ),
    Layout {
        counter: true,
        ..map(
            "services",
            "service : the same service with the number of the way to pick an endpoint",
            &[Field::Priority],
            ID,
        )
    },
    map(
        "picks",
        "number : the way to pick an endpoint",
        &[Field::Priority],
        Value::Verdict,
    ),
    map(
        "endpoints",
        "service . slot : endpoint",
        &[Field::Priority, Field::Slot],
        ENDPOINT,
    ),
    map(
        "sticky-endpoints",
        "service . slot : endpoint id, for services with ClientIP affinity",
        &[Field::Priority, Field::Slot],
        ID,
    ),
    map("endpoint-ids", "endpoint id : endpoint", &[Field::Priority], ENDPOINT),
    Layout {
        size: Some(REMEMBERED_MOST),
        flags: MAP | TIMEOUT | DYNAMIC,
        ..map(
            "affinity",
            "service . share of clients : endpoint id, written by the packets themselves",
            &[Field::Priority, Field::Slot],
            ID,
        )
    },
    Layout {
        size: Some(PRIORITIES),
        flags: MAP | TIMEOUT | DYNAMIC,
        ..map(
            "priorities",
            "connection : the priority that its first packet had, for a second",
            &[Field::Slot],
            ID,
        )
    },
    set(
        "cluster-ips",
        "ClusterIPs; their unknown ports are refused",
        &[Field::Daddr],
    ),
    Layout {
        flags: INTERVAL,
        ..set(
            "service-cidrs",
            "ranges of ClusterIPs; their unassigned addresses are dropped",
            &[Field::Daddr],
        )
    },
    Layout {
        flags: INTERVAL,
        ..set(
            "local-pods",
            "sources that count as pods (detectLocal)",
            &[Field::Saddr],
        )
    },
    set(
        "node-addresses",
        "addresses that accept NodePort traffic (nodePortAddresses)",
        &[Field::Daddr],
    ),
    set(
        "hairpin",
        "local endpoints reaching themselves through a service",
        &[Field::Saddr, Field::Daddr],
    ),
    set(
        "restricted-frontends",
        "frontends with loadBalancerSourceRanges",
        FRONTEND_KEY,
    ),
    Layout {
        flags: INTERVAL | CONCAT,
        ..set(
            "allowed-sources",
            "frontend . client range",
            &[Field::Daddr, Field::Protocol, Field::Port, Field::Saddr],
        )
    },
];

impl Set {
    /// Every set, in the order in which a table lists them.
    pub(crate) const ALL: [Self; 17] = [
        Self::ClusterFrontends,
        Self::ExternalFrontends,
        Self::NodePorts,
        Self::Services,
        Self::Picks,
        Self::Endpoints,
        Self::StickyEndpoints,
        Self::EndpointIds,
        Self::Affinity,
        Self::Priorities,
        Self::ClusterIps,
        Self::ServiceCidrs,
        Self::LocalPods,
        Self::NodeAddresses,
        Self::Hairpin,
        Self::RestrictedFrontends,
        Self::AllowedSources,
    ];

    /// The sets that hold rows. `picks` belongs to the rules, and packets write into `affinity` and `priorities`.
    pub(crate) const ROWS: [Self; 14] = [
        Self::ClusterFrontends,
        Self::ExternalFrontends,
        Self::NodePorts,
        Self::Services,
        Self::Endpoints,
        Self::StickyEndpoints,
        Self::EndpointIds,
        Self::ClusterIps,
        Self::ServiceCidrs,
        Self::LocalPods,
        Self::NodeAddresses,
        Self::Hairpin,
        Self::RestrictedFrontends,
        Self::AllowedSources,
    ];

    pub(crate) fn layout(self) -> &'static Layout {
        &LAYOUTS[self as usize]
    }

    pub(crate) fn name(self) -> &'static str {
        self.layout().name
    }
}
