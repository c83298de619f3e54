//! Connections that are older than their frontend.

use super::*;
use crate::row::{Class, L4Address};

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn only_connections_that_nobody_answered_or_translated_miss_a_frontend_that_came() {
    let mut arrivals = Arrivals::<V4>::default();
    let frontend = |protocol, addr: [u8; 4]| Frontend::Address {
        class: Class::External,
        at: L4Address {
            addr: addr.into(),
            protocol,
            port: port(80),
        },
    };
    let came = [203, 0, 113, 1];
    let node_port = Frontend::NodePort {
        protocol: Protocol::Tcp,
        port: port(30_080),
    };
    assert!(!arrivals.came(&frontend(Protocol::Udp, came)));
    assert!(arrivals.is_empty(), "UDP is judged by endpoints");
    assert!(arrivals.came(&frontend(Protocol::Tcp, came)));
    assert!(arrivals.came(&node_port));
    assert_eq!(arrivals.protocols(), [Protocol::Tcp].into());
    let opening = Flow {
        protocol: Protocol::Tcp,
        answered: false,
        opening: true,
        ..flow(endpoint(9), at(came, 80), at(came, 80))
    };
    let to = |to| Flow {
        to,
        with: to,
        ..opening
    };
    let missed = |arrivals: &Arrivals<V4>, flow: Flow<V4>| arrivals.missed_by(&flow, &[[192, 0, 2, 11].into()].into());
    assert!(missed(&arrivals, opening));
    let masqueraded = Flow {
        back: endpoint(8),
        ..opening
    };
    assert!(missed(&arrivals, masqueraded), "by somebody else");
    assert!(missed(&arrivals, to(at([192, 0, 2, 11], 30_080))));
    for (flow, why) in [
        (
            Flow {
                answered: true,
                ..opening
            },
            "answered",
        ),
        (
            Flow {
                opening: false,
                ..opening
            },
            "it stands, and its answers go another way",
        ),
        (
            Flow {
                with: endpoint(1),
                ..opening
            },
            "translated",
        ),
        (
            Flow {
                protocol: Protocol::Sctp,
                ..opening
            },
            "another protocol",
        ),
        (to(at(came, 81)), "another port"),
        (to(at([203, 0, 113, 2], 80)), "another address"),
        (to(at([192, 0, 2, 12], 30_080)), "an address that takes no nodePorts"),
    ] {
        assert!(!missed(&arrivals, flow), "{why}");
    }

    let round = arrivals.next_round();
    arrivals.came(&frontend(Protocol::Sctp, [203, 0, 113, 2]));
    arrivals.went(&node_port);
    assert!(!missed(&arrivals, to(at([192, 0, 2, 11], 30_080))));
    assert!(missed(&arrivals, opening));
    arrivals.forget(round);
    assert!(!missed(&arrivals, opening), "looked at twice");
    assert_eq!(arrivals.protocols(), [Protocol::Sctp].into());
}
