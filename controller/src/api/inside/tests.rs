//! Who answers the node and its pods, by what the programs ask.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use tandem_core::family::V4;
use tandem_core::object::ObjectKey;
use tandem_core::plane::Full;
use tandem_core::row::{Endpoint, L4Address};

use super::*;
use crate::xdp::{DataPlane, Stage};

const SINCE: SystemTime = SystemTime::UNIX_EPOCH;

/// Sockets that are on, of the node and its pods.
fn on() -> State {
    let at = |folder: &str| Where::At {
        folder: folder.into(),
        since: SINCE,
    };
    State {
        wanted: (DataPlane::Xdp, SocketsOf::All),
        stage: Stage::On { since: SINCE },
        node: at("/sys/fs/cgroup"),
        pods: at("/sys/fs/cgroup/kubepods"),
        ..State::default()
    }
}

fn followed() -> FamilyStatus {
    let mut status = FamilyStatus::default();
    status.followed.state = FollowState::On { since: SINCE };
    status
}

/// A Service port with a ClusterIP, a LoadBalancer address and a nodePort. The external policy is `Local`, and no endpoint
/// is on this node.
fn plan(protocol: Protocol) -> PortPlan<V4> {
    let port = 80.try_into().unwrap();
    let address = |class, addr: [u8; 4]| Frontend::Address {
        class,
        at: L4Address {
            addr: addr.into(),
            protocol,
            port,
        },
    };
    let frontend = |frontend, local| FrontendPlan {
        frontend,
        local,
        sources: None,
    };
    PortPlan {
        key: PortKey {
            service: ObjectKey::new("shop", "web"),
            port: "http".into(),
            protocol,
        },
        created: 0,
        frontends: vec![
            frontend(address(Class::Cluster, [10, 96, 0, 10]), false),
            frontend(address(Class::External, [203, 0, 113, 10]), true),
            frontend(Frontend::NodePort { protocol, port }, true),
        ],
        all: Some(Usable::Endpoints(vec![Endpoint {
            addr: [10, 244, 2, 1].into(),
            port,
        }])),
        local: Some(Usable::None(NoEndpoints::OnThisNode)),
        hairpin: Vec::new(),
        affinity: None,
        maglev: false,
        answering: Vec::new(),
    }
}

fn answers(sockets: &State, rules: Rules, plan: &PortPlan<V4>, status: &FamilyStatus) -> String {
    let inside = Inside {
        sockets,
        rules,
        connections: None,
    };
    let own: Vec<_> = plan.frontends.iter().collect();
    let mut said = String::new();
    for (name, asker) in [("node", Asker::Node), ("pods", Asker::Pod)] {
        let AnswersView { by, why_nftables } = inside.who(asker, plan, &own, status);
        let why = why_nftables.map(|why| format!(" ({why})")).unwrap_or_default();
        writeln!(said, "{name}: {by}{why}").unwrap();
    }
    said
}

#[test]
fn sockets_answer_the_node_and_pods_if_nothing_keeps_them_from_it() {
    let tcp = plan(Protocol::Tcp);
    let said = answers(&on(), Rules::default(), &tcp, &followed());
    assert_eq!(said, "node: sockets\npods: sockets\n");
    let said = answers(&State::default(), Rules::default(), &tcp, &followed());
    assert_eq!(said, "node: nftables\npods: nftables\n", "nobody asks for sockets");
}

#[test]
fn what_keeps_sockets_from_pods_alone_is_said_of_pods_alone() {
    let tcp = plan(Protocol::Tcp);
    let mut node_alone = on();
    node_alone.wanted.1 = SocketsOf::Node;
    node_alone.pods = Where::Nowhere;
    insta::assert_snapshot!(answers(&node_alone, Rules::default(), &tcp, &followed()), @r"
    node: sockets
    pods: nftables (socketLoadBalancing: node)
    ");
    let mut not_attached = on();
    not_attached.pods = Where::Not {
        why: "no folder".into(),
    };
    insta::assert_snapshot!(answers(&not_attached, Rules::default(), &tcp, &followed()), @r"
    node: sockets
    pods: nftables (programs not attached)
    ");
    let everything = Rules {
        masquerade_all: true,
        ..Rules::default()
    };
    insta::assert_snapshot!(answers(&on(), everything, &tcp, &followed()), @r"
    node: sockets
    pods: sockets (ClusterIP: masqueradeAll)
    ");
    // Then a pod is a client like those outside.
    let nobody = Rules {
        detects_nobody: [true, false],
        ..Rules::default()
    };
    insta::assert_snapshot!(answers(&on(), nobody, &tcp, &followed()), @r"
    node: sockets
    pods: sockets (external addresses: no endpoint on this node, nodePort: no endpoint on this node)
    ");
}

#[test]
fn frontends_that_sockets_leave_are_said_with_the_reason() {
    let mut restricted = plan(Protocol::Tcp);
    restricted.frontends[1].sources = Some(Arc::new([]));
    insta::assert_snapshot!(answers(&on(), Rules::default(), &restricted, &followed()), @r"
    node: sockets (LoadBalancer: source ranges)
    pods: sockets (LoadBalancer: source ranges)
    ");
    let mut inside_local = plan(Protocol::Tcp);
    inside_local.frontends[0].local = true;
    insta::assert_snapshot!(answers(&on(), Rules::default(), &inside_local, &followed()), @r"
    node: sockets (ClusterIP: no endpoint on this node)
    pods: sockets (ClusterIP: no endpoint on this node)
    ");
    let mut empty = plan(Protocol::Tcp);
    empty.all = Some(Usable::None(NoEndpoints::Anywhere));
    insta::assert_snapshot!(answers(&on(), Rules::default(), &empty, &followed()), @r"
    node: nftables (no endpoint)
    pods: nftables (no endpoint)
    ");
}

#[test]
fn what_keeps_sockets_from_a_whole_service_port_or_a_family_is_said_of_both() {
    let tcp = plan(Protocol::Tcp);
    let both = |why: &str| format!("node: nftables ({why})\npods: nftables ({why})\n");
    let said = answers(&on(), Rules::default(), &plan(Protocol::Sctp), &followed());
    assert_eq!(said, both("SCTP"));
    let mut left = followed();
    let full = Full {
        name: "LISTS4",
        room: 1,
        errno: None,
    };
    left.followed.left = Arc::new([(tcp.key.clone(), Left::Endpoints(full))].into());
    assert_eq!(answers(&on(), Rules::default(), &tcp, &left), both("no room"));
    for (state, why) in [
        (FollowState::Off, "sockets are off"),
        (
            FollowState::Waiting {
                since: SINCE,
                off: true,
            },
            "sockets are waiting",
        ),
        (FollowState::Beside { since: SINCE }, "a kube-proxy's rules come first"),
        (
            FollowState::Behind {
                since: SINCE,
                why: "no memory".into(),
            },
            "sockets are behind",
        ),
    ] {
        let mut status = followed();
        status.followed.state = state;
        assert_eq!(answers(&on(), Rules::default(), &tcp, &status), both(why));
    }
    let mut failed = on();
    failed.stage = Stage::Failed {
        since: SINCE,
        why: "no".into(),
    };
    (failed.node, failed.pods) = (Where::Nowhere, Where::Nowhere);
    assert_eq!(
        answers(&failed, Rules::default(), &tcp, &followed()),
        both("programs not attached")
    );
}
