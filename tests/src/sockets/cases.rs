//! The cases of one question each, as tables.

use crate::traffic::Protocol;

use super::ask::Way;
use super::expect::{BoundTo, Case, Form, Front};
use super::services::HOST;
use super::services::{self as s, Spec};
use super::site::Asker;
use super::variant::Variant;

const EVERYBODY: [Asker; 6] = [
    Asker::Node,
    Asker::HostPod,
    Asker::Pod,
    Asker::Server,
    Asker::Container,
    Asker::Root,
];
const NODE_AND_POD: [Asker; 2] = [Asker::Node, Asker::Pod];
const PLAIN: [Way; 3] = [Way::Tcp, Way::SendTo, Way::ConnectedUdp];
const TAKEN_FRONTS: [Front; 4] = [
    Front::ClusterIp,
    Front::ExternalIp,
    Front::LoadBalancer,
    Front::NodePort,
];
const BOTH_FAMILIES: [Form; 2] = [Form::V4, Form::V6];

/// A table: each of these asks each of these.
struct Table<'a> {
    services: &'a [Spec],
    askers: &'a [Asker],
    fronts: &'a [Front],
    ways: &'a [Way],
    forms: &'a [Form],
    bounds: &'a [BoundTo],
}

impl Table<'_> {
    fn cases(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for service in self.services {
            for asker in self.askers {
                for front in self.fronts {
                    for way in self.ways {
                        for form in self.forms {
                            for bound in self.bounds {
                                cases.push(Case {
                                    asker: *asker,
                                    service: *service,
                                    front: *front,
                                    form: *form,
                                    way: *way,
                                    bound: *bound,
                                });
                            }
                        }
                    }
                }
            }
        }
        cases.retain(is_possible);
        cases
    }
}

const ANY: Table<'static> = Table {
    services: &[s::BOTH],
    askers: &NODE_AND_POD,
    fronts: &TAKEN_FRONTS,
    ways: &PLAIN,
    forms: &Form::ALL,
    bounds: &[BoundTo::Nothing],
};

/// Every table of these settings.
pub(super) fn of(variant: Variant) -> Vec<Case> {
    let tables: &[Table<'_>] = match variant {
        Variant::Usual => &policies().into_iter().chain(other_calls()).collect::<Vec<_>>(),
        Variant::MasqueradeAll => &[Table {
            services: &[s::BOTH, s::EXTERNAL, s::ITSELF],
            fronts: &[Front::ClusterIp, Front::LoadBalancer, Front::NodePort],
            ..ANY
        }],
        Variant::DetectsNobody => &[Table {
            services: &[s::BOTH, s::INTERNAL, s::EXTERNAL, s::EXTERNAL_THERE],
            fronts: &[Front::ClusterIp, Front::LoadBalancer, Front::NodePort],
            ..ANY
        }],
        Variant::Loopback => &[Table {
            services: &[s::BOTH, s::EXTERNAL, s::EMPTY],
            askers: &[Asker::Node, Asker::HostPod, Asker::Pod, Asker::Root],
            fronts: &[Front::Loopback, Front::NodePort],
            ..ANY
        }],
        Variant::RootFolder => &[Table {
            askers: &[Asker::Root, Asker::Node, Asker::Pod],
            ..ANY
        }],
        Variant::NodeOnly | Variant::Off | Variant::Nft => &[Table {
            services: &[s::BOTH, s::EXTERNAL],
            askers: &[Asker::Node, Asker::Pod, Asker::HostPod],
            forms: &BOTH_FAMILIES,
            ..ANY
        }],
    };
    tables.iter().flat_map(Table::cases).collect()
}

/// Who asks, and whom, under which policy.
fn policies() -> Vec<Table<'static>> {
    vec![
        // Everybody asks everything.
        Table {
            askers: &EVERYBODY,
            fronts: &[
                Front::ClusterIp,
                Front::ExternalIp,
                Front::LoadBalancer,
                Front::NodePort,
                Front::Loopback,
                Front::Direct("web-2"),
                Front::Direct("web-3"),
                Front::OtherNode,
            ],
            ..ANY
        },
        // Policies, endpoints here and there, terminating ones, hints, nobody.
        Table {
            services: &[
                s::HERE,
                s::THERE,
                s::EMPTY,
                s::INTERNAL,
                s::INTERNAL_THERE,
                s::INTERNAL_ENDS,
                s::EXTERNAL,
                s::EXTERNAL_THERE,
                s::ENDS,
                s::ALL_END,
                s::HINTS,
            ],
            fronts: &[Front::ClusterIp, Front::LoadBalancer, Front::NodePort],
            ..ANY
        },
        // Who may come in, to each address.
        Table {
            services: &[s::ALLOWED, s::DENIED],
            ..ANY
        },
        // Policies as the other node has them. If it sends a pod back to this node, the answer takes a shorter way that
        // nobody translates, so pods only ask for endpoints there.
        Table {
            services: &[s::EXTERNAL_THERE, s::HERE, s::EMPTY],
            fronts: &[Front::OtherNode],
            ..ANY
        },
        Table {
            services: &[s::EXTERNAL],
            askers: &[Asker::Node],
            fronts: &[Front::OtherNode],
            ..ANY
        },
        // An endpoint asks for itself.
        Table {
            services: &[s::ITSELF],
            askers: &[Asker::Server],
            ..ANY
        },
        Table {
            askers: &[Asker::Server],
            fronts: &[Front::Direct("web-1")],
            ..ANY
        },
        // The endpoint is the node itself.
        Table {
            services: &[s::HOST_NETWORK],
            askers: &[Asker::Node, Asker::HostPod, Asker::Pod],
            ..ANY
        },
        Table {
            fronts: &[Front::Direct(HOST)],
            ..ANY
        },
    ]
}

/// Other calls, sockets that are bound, and addresses that are nobody's.
fn other_calls() -> Vec<Table<'static>> {
    vec![
        // Other calls.
        Table {
            fronts: &[Front::ClusterIp, Front::NodePort],
            ways: &[Way::NonBlocking, Way::FastOpen, Way::Mptcp, Way::SendMsg, Way::Sctp],
            ..ANY
        },
        Table {
            services: &[s::EMPTY],
            fronts: &[Front::ClusterIp, Front::NodePort],
            ways: &[Way::NonBlocking, Way::FastOpen, Way::Mptcp, Way::Sctp],
            ..ANY
        },
        // Sockets that are bound. The device is the way to the other node.
        Table {
            services: &[s::THERE],
            fronts: &[Front::ClusterIp, Front::NodePort],
            ways: &[Way::Tcp, Way::NonBlocking, Way::SendTo],
            bounds: &[BoundTo::Device, BoundTo::Address, BoundTo::Port],
            ..ANY
        },
        // What is nobody's frontend.
        Table {
            fronts: &[Front::UnknownPort, Front::OtherAddress],
            ..ANY
        },
    ]
}

/// Packets over SCTP are made without the kernel's sockets, which have no mapped form.
fn is_possible(case: &Case) -> bool {
    !(case.way.protocol() == Protocol::Sctp && case.form == Form::Mapped)
}
