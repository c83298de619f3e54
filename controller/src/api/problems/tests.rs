//! What `tandem status` says about sockets under Problems.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use tandem_core::plan::PortKey;
use tandem_core::plane::{Full, Left};
use tandem_core::row::Protocol;

use super::*;

const SINCE: SystemTime = SystemTime::UNIX_EPOCH;

fn said(state: &State, snapshot: &Snapshot) -> String {
    let problems = of_sockets(state, snapshot);
    assert!(
        problems.iter().all(|problem| !problem.fatal),
        "Services work all the same"
    );
    let lines = problems
        .iter()
        .map(|problem| format!("{}: {}\n", problem.object, problem.problem));
    lines.collect()
}

fn left(ports: impl IntoIterator<Item = &'static str>) -> Arc<BTreeMap<PortKey, Left>> {
    let left = Left::Endpoints(Full {
        name: "LISTS4",
        room: 65_536,
        errno: None,
    });
    let key = |port: &str| PortKey {
        service: ObjectKey::new("shop", "web"),
        port: port.into(),
        protocol: Protocol::Tcp,
    };
    Arc::new(ports.into_iter().map(|port| (key(port), left)).collect())
}

#[test]
fn whatever_sockets_lack_is_a_problem_that_says_what_nftables_serves() {
    let nothing = Snapshot::empty(SINCE);
    assert_eq!(said(&State::default(), &nothing), "");
    let mut state = State {
        stage: Stage::Failed {
            since: SINCE,
            why: "the kernel is 5.10, and socket load balancing needs 5.15 or newer".into(),
        },
        ..State::default()
    };
    insta::assert_snapshot!(
        said(&state, &nothing),
        @"sockets: the kernel is 5.10, and socket load balancing needs 5.15 or newer: nftables serves alone"
    );
    state.outside.stage = OutsideStage::Failed {
        why: "the kernel is 5.10, and socket load balancing needs 5.15 or newer".into(),
    };
    assert_eq!(said(&state, &nothing).lines().count(), 1, "it is said once");
    state.stage = Stage::Off;
    state.outside.stage = OutsideStage::Failed {
        why: "its ports are not reserved".into(),
    };
    insta::assert_snapshot!(
        said(&state, &nothing),
        @"packets from outside: its ports are not reserved: nftables serves them"
    );
    state.outside.stage = OutsideStage::Off;
    state.stage = Stage::On { since: SINCE };
    state.pods = Where::Not {
        why: "no folder".into(),
    };
    let mut snapshot = Snapshot::empty(SINCE);
    snapshot.v4.followed.left = left(["", "http"]);
    snapshot.v6.followed.state = FollowState::Behind {
        since: SINCE,
        why: "use the map FRONTENDS6: Operation not permitted".into(),
    };
    insta::assert_snapshot!(said(&state, &snapshot), @r"
    sockets: no folder: nftables serves the pods
    Service shop/web: IPv4: left to nftables: there is no room for its endpoints: LISTS4 has room for 65536 and takes no more
    Service shop/web: IPv4: port http: left to nftables: there is no room for its endpoints: LISTS4 has room for 65536 and takes no more
    IPv6 sockets: use the map FRONTENDS6: Operation not permitted: nftables serves IPv6
    ");
}

#[test]
fn of_many_services_that_are_left_some_are_named_and_the_others_counted() {
    let mut snapshot = Snapshot::empty(SINCE);
    snapshot.v4.followed.left = left(["a", "b", "c", "d", "e", "f", "g"]);
    let said = said(&State::default(), &snapshot);
    assert_eq!(said.lines().count(), NAMED + 1, "{said}");
    let last = said.lines().last().unwrap();
    assert!(
        last.starts_with("IPv4 sockets: 2 more Service ports are left to nftables"),
        "{said}"
    );
}

/// A log line or a problem says once what happens instead.
#[cfg(feature = "xdp")]
#[test]
fn no_reason_of_the_programs_says_a_second_time_that_nftables_serves() {
    use tandem_xdp::kernel::{PinError, Strange};
    let reasons = [
        PinError::Newer("/sys/fs/bpf/tandem/v9".into()).to_string(),
        PinError::Taken("/sys/fs/bpf/tandem".into()).to_string(),
        PinError::NotBpf("/sys/fs/bpf".into()).to_string(),
        Strange::Other {
            path: "/sys/fs/bpf/tandem/v1/maps/LISTS4".into(),
            what: "its values have 4 bytes, not 8".to_owned(),
        }
        .to_string(),
    ];
    for why in reasons {
        let state = State {
            stage: Stage::Failed {
                since: SINCE,
                why: why.into(),
            },
            ..State::default()
        };
        let said = said(&state, &Snapshot::empty(SINCE));
        assert_eq!(said.matches("nftables").count(), 1, "{said}");
        assert!(said.ends_with(": nftables serves alone\n"), "{said}");
    }
}
