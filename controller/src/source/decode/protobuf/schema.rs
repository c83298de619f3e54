//! The fields that Tandem reads, with their numbers in protobuf and their names in JSON. The numbers are those of
//! `generated.proto` in k8s.io/api (core/v1, discovery/v1, networking/v1) and k8s.io/apimachinery. They never change.

/// The fields of a message. Others are skipped.
pub(crate) type Message = [Field];

/// One field.
#[derive(Debug)]
pub(crate) struct Field {
    pub(super) number: u32,
    pub(super) name: &'static str,
    pub(super) is: Type,
}

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Type {
    Text,
    Int,
    Bool,
    /// A time, which is text in JSON.
    Time,
    Object(&'static Message),
    Texts,
    Objects(&'static Message),
    /// Names and texts, such as labels.
    Map,
}

use Type::{Bool, Int, Map, Object, Objects, Text, Texts, Time};

macro_rules! message {
    ($($(#[$doc:meta])* $name:ident { $($number:literal $json:literal $is:expr),+ $(,)? })+) => {
        $(
            $(#[$doc])*
            pub(crate) static $name: &Message = &[$(Field { number: $number, name: $json, is: $is }),+];
        )+
    };
}

message! {
    /// A Service.
    SERVICE { 1 "metadata" Object(META), 2 "spec" Object(SERVICE_SPEC), 3 "status" Object(SERVICE_STATUS) }
    SERVICE_SPEC {
        1 "ports" Objects(SERVICE_PORT),
        3 "clusterIP" Text,
        4 "type" Text,
        5 "externalIPs" Texts,
        7 "sessionAffinity" Text,
        9 "loadBalancerSourceRanges" Texts,
        11 "externalTrafficPolicy" Text,
        12 "healthCheckNodePort" Int,
        14 "sessionAffinityConfig" Object(AFFINITY_CONFIG),
        18 "clusterIPs" Texts,
        22 "internalTrafficPolicy" Text,
    }
    SERVICE_PORT { 1 "name" Text, 2 "protocol" Text, 3 "port" Int, 5 "nodePort" Int }
    AFFINITY_CONFIG { 1 "clientIP" Object(CLIENT_IP) }
    CLIENT_IP { 1 "timeoutSeconds" Int }
    SERVICE_STATUS { 1 "loadBalancer" Object(LOAD_BALANCER) }
    LOAD_BALANCER { 1 "ingress" Objects(INGRESS) }
    INGRESS { 1 "ip" Text, 3 "ipMode" Text }

    /// An EndpointSlice.
    ENDPOINT_SLICE {
        1 "metadata" Object(META),
        2 "endpoints" Objects(ENDPOINT),
        3 "ports" Objects(SLICE_PORT),
        4 "addressType" Text,
    }
    ENDPOINT { 1 "addresses" Texts, 2 "conditions" Object(CONDITIONS), 6 "nodeName" Text, 8 "hints" Object(HINTS) }
    CONDITIONS { 1 "ready" Bool, 2 "serving" Bool, 3 "terminating" Bool }
    HINTS { 1 "forZones" Objects(HINT), 2 "forNodes" Objects(HINT) }
    HINT { 1 "name" Text }
    SLICE_PORT { 1 "name" Text, 2 "protocol" Text, 3 "port" Int }

    /// A Node.
    NODE { 1 "metadata" Object(META), 2 "spec" Object(NODE_SPEC), 3 "status" Object(NODE_STATUS) }
    NODE_SPEC { 1 "podCIDR" Text, 5 "taints" Objects(TAINT), 7 "podCIDRs" Texts }
    TAINT { 1 "key" Text }
    NODE_STATUS { 5 "addresses" Objects(NODE_ADDRESS) }
    NODE_ADDRESS { 1 "type" Text, 2 "address" Text }

    /// A ServiceCIDR.
    SERVICE_CIDR { 1 "metadata" Object(META), 2 "spec" Object(SERVICE_CIDR_SPEC) }
    SERVICE_CIDR_SPEC { 1 "cidrs" Texts }

    META {
        1 "name" Text,
        3 "namespace" Text,
        5 "uid" Text,
        6 "resourceVersion" Text,
        8 "creationTimestamp" Time,
        9 "deletionTimestamp" Time,
        11 "labels" Map,
        12 "annotations" Map,
    }

    /// The metadata of a list.
    LIST_META { 2 "resourceVersion" Text, 3 "continue" Text }
    /// A bookmark's object, of any kind.
    BOOKMARK { 1 "metadata" Object(META) }
    /// A Status.
    STATUS { 3 "message" Text, 5 "details" Object(STATUS_DETAILS), 6 "code" Int }
    STATUS_DETAILS { 5 "retryAfterSeconds" Int }
}
