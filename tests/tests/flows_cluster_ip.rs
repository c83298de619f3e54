//! ClusterIPs: who answers, which source it sees, and what happens if nobody can answer.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use serde_json::json;
use tandem_tests::manifests::Policy;
use tandem_tests::stage::{Ip, PROTOCOLS, Stage, TARGET, bare_service, port_name, service, slices};
use tandem_tests::traffic::{Protocol, Server};

/// With this many requests, each of three endpoints gets one: one is missed once in three million runs.
const MANY: usize = 40;

fn web(pods: &[&str]) -> Vec<serde_json::Value> {
    let mut objects = vec![service("web", 10).build()];
    objects.extend(slices("web", pods));
    objects
}

#[test]
fn a_pod_reaches_every_endpoint_and_keeps_its_source() -> Result<()> {
    let stage = Stage::new(&web(&["web-1", "web-3"]))?;
    for family in Ip::BOTH {
        for protocol in PROTOCOLS {
            let answers = stage.ask(stage.pod("web-2"), MANY, protocol, (family.cluster_ip(10), 80))?;
            assert_eq!(answers.names(), ["web-1", "web-3"], "{protocol} {family:?}");
            assert_eq!(
                answers.sources(),
                [stage.pod_address("web-2", family)],
                "{protocol} {family:?}"
            );
            stage.expect_counted(family, "web", protocol, MANY)?;
        }
    }
    Ok(())
}

#[test]
fn a_client_outside_the_pod_network_is_masqueraded() -> Result<()> {
    let stage = Stage::new(&web(&["web-1", "web-3"]))?;
    for family in Ip::BOTH {
        for protocol in PROTOCOLS {
            let answers = stage.ask(stage.client(), MANY, protocol, (family.cluster_ip(10), 80))?;
            assert_eq!(answers.names(), ["web-1", "web-3"], "{protocol} {family:?}");
            assert!(
                answers.only_from(&stage.masqueraded(family)),
                "{protocol}: {:?}",
                answers.sources()
            );
        }
    }
    Ok(())
}

#[test]
fn the_node_itself_reaches_cluster_ips() -> Result<()> {
    let stage = Stage::new(&web(&["web-1", "web-3"]))?;
    for family in Ip::BOTH {
        for protocol in PROTOCOLS {
            let answers = stage.ask(stage.node(), MANY, protocol, (family.cluster_ip(10), 80))?;
            assert_eq!(answers.names(), ["web-1", "web-3"], "{protocol} {family:?}");
            assert!(
                answers.only_from(&stage.masqueraded(family)),
                "{protocol}: {:?}",
                answers.sources()
            );
            stage.expect_counted(family, "web", protocol, MANY)?;
        }
    }
    Ok(())
}

#[test]
fn a_pod_reaches_itself_through_its_service() -> Result<()> {
    let stage = Stage::new(&web(&["web-1"]))?;
    for family in Ip::BOTH {
        for protocol in PROTOCOLS {
            let answers = stage.ask(stage.pod("web-1"), 5, protocol, (family.cluster_ip(10), 80))?;
            assert_eq!(answers.names(), ["web-1"], "{protocol} {family:?}");
            assert!(
                answers.only_from(&stage.masqueraded(family)),
                "{protocol}: {:?}",
                answers.sources()
            );
        }
    }
    Ok(())
}

#[test]
fn masquerade_all_hides_pods_too() -> Result<()> {
    let stage = Stage::with(&web(&["web-1"]), |plan| {
        plan.setting("nftables", json!({ "masqueradeAll": true }))
    })?;
    for family in Ip::BOTH {
        for protocol in PROTOCOLS {
            let answers = stage.ask(stage.pod("web-2"), 5, protocol, (family.cluster_ip(10), 80))?;
            assert!(
                answers.only_from(&stage.masqueraded(family)),
                "{protocol}: {:?}",
                answers.sources()
            );
        }
    }
    Ok(())
}

#[test]
fn a_service_without_endpoints_refuses_at_once() -> Result<()> {
    let stage = Stage::new(&[service("web", 10).build()])?;
    for family in Ip::BOTH {
        for protocol in PROTOCOLS {
            stage.expect_refused(protocol, (family.cluster_ip(10), 80))?;
            stage.expect_counted(family, "web", protocol, 3)?;
        }
    }
    Ok(())
}

#[test]
fn an_unknown_port_of_a_cluster_ip_is_refused_at_once() -> Result<()> {
    let stage = Stage::new(&web(&["web-1"]))?;
    for family in Ip::BOTH {
        for protocol in PROTOCOLS {
            stage.expect_refused(protocol, (family.cluster_ip(10), 81))?;
            stage.expect_counted(family, "web", protocol, 0)?;
        }
    }
    Ok(())
}

#[test]
fn an_unassigned_cluster_ip_is_dropped() -> Result<()> {
    let stage = Stage::new(&web(&["web-1"]))?;
    for family in Ip::BOTH {
        for protocol in PROTOCOLS {
            // The node itself gets an error for what it sends. What it forwards gets no answer.
            let outcome = stage.send(stage.pod("web-2"), protocol, (family.cluster_ip(200), 80))?;
            assert!(outcome.timed_out(), "{protocol} {family:?}: {outcome}");
            let outcome = stage.send(stage.node(), protocol, (family.cluster_ip(200), 80))?;
            assert!(
                outcome.answer().is_none() && !outcome.refused_at_once(),
                "{protocol} {family:?}: {outcome}"
            );
        }
    }
    Ok(())
}

#[test]
fn internal_traffic_policy_local_stays_on_the_node() -> Result<()> {
    let local = service("web", 10).internal_policy(Policy::Local).build();
    let mut objects = vec![local];
    objects.extend(slices("web", &["web-1", "web-3"]));
    let stage = Stage::new(&objects)?;
    for family in Ip::BOTH {
        for protocol in PROTOCOLS {
            for from in [stage.pod("web-2"), stage.node(), stage.client()] {
                let answers = stage.ask(from, 12, protocol, (family.cluster_ip(10), 80))?;
                assert_eq!(answers.names(), ["web-1"], "{protocol} {family:?} from {}", from.name());
            }
        }
    }
    Ok(())
}

#[test]
fn internal_traffic_policy_local_without_local_endpoints_discards() -> Result<()> {
    let local = service("web", 10).internal_policy(Policy::Local).build();
    let mut objects = vec![local];
    objects.extend(slices("web", &["web-3"]));
    let stage = Stage::new(&objects)?;
    for family in Ip::BOTH {
        for protocol in PROTOCOLS {
            let outcome = stage.send(stage.pod("web-2"), protocol, (family.cluster_ip(10), 80))?;
            assert!(outcome.timed_out(), "{protocol} {family:?}: {outcome}");
            assert!(stage.connections(family, "web", &port_name(protocol))? >= 1);
        }
    }
    Ok(())
}

#[test]
fn each_port_leads_to_its_own_target_and_only_in_its_protocol() -> Result<()> {
    // Port 53 leads to web-1 for UDP and to web-3 for TCP. Port 80 leads to both for TCP.
    let split = bare_service("split", 10)
        .port("dns", Protocol::Udp, 53, 8080)
        .port("dns-tcp", Protocol::Tcp, 53, 8080)
        .port("http", Protocol::Tcp, 80, 8080)
        .build();
    let mut objects = vec![split];
    for (pod, names) in [("web-1", ["dns", "http"]), ("web-3", ["dns-tcp", "http"])] {
        for mut slice in slices("split", &[pod]) {
            slice["metadata"]["name"] = json!(format!("{}-{pod}", slice["metadata"]["name"].as_str().unwrap_or("")));
            slice["ports"] = names
                .map(
                    |name| json!({ "name": name, "port": 8080, "protocol": if name == "dns" { "UDP" } else { "TCP" } }),
                )
                .into_iter()
                .collect();
            objects.push(slice);
        }
    }
    let stage = Stage::new(&objects)?;
    for family in Ip::BOTH {
        let from = stage.pod("web-2");
        let names = |protocol, port| -> Result<Vec<String>> {
            let answers = stage.ask(from, MANY, protocol, (family.cluster_ip(10), port))?;
            Ok(answers.names().into_iter().map(str::to_owned).collect())
        };
        assert_eq!(names(Protocol::Udp, 53)?, ["web-1"]);
        assert_eq!(names(Protocol::Tcp, 53)?, ["web-3"]);
        assert_eq!(names(Protocol::Tcp, 80)?, ["web-1", "web-3"]);
        let outcome = stage.send(from, Protocol::Udp, (family.cluster_ip(10), 80))?;
        assert!(outcome.refused_at_once(), "{outcome}");
    }
    Ok(())
}

#[test]
fn endpoints_of_several_slices_are_one_list() -> Result<()> {
    let mut objects = vec![service("web", 10).build()];
    // web-2 is in two slices, as it is while a controller moves it from one to the other.
    for (name, pods) in [("first", &["web-1", "web-2"][..]), ("second", &["web-2", "web-3"])] {
        for mut slice in slices("web", pods) {
            slice["metadata"]["name"] = json!(format!("{name}-{}", slice["addressType"].as_str().unwrap_or("")));
            objects.push(slice);
        }
    }
    let stage = Stage::new(&objects)?;
    for family in Ip::BOTH {
        for protocol in PROTOCOLS {
            let answers = stage.ask(stage.client(), MANY, protocol, (family.cluster_ip(10), 80))?;
            assert_eq!(answers.names(), ["web-1", "web-2", "web-3"], "{protocol} {family:?}");
        }
    }
    let services = stage.tandem.services()?;
    let lists: Vec<usize> = services[0]["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|port| Some(port["families"][0]["all"]["endpoints"].as_array()?.len()))
        .collect();
    assert_eq!(lists, [3, 3, 3], "web-2 counts once: {services:#}");
    Ok(())
}

#[test]
fn a_service_of_one_family_leaves_the_other_alone() -> Result<()> {
    let address = Ip::V6.cluster_ip(10).to_string();
    let single = tandem_tests::manifests::Service::new("shop", "single")
        .cluster_ips(&[&address])
        .port("tcp", Protocol::Tcp, 80, 8080)
        .build();
    let mut objects = vec![single];
    objects.extend(slices("single", &["web-1"]));
    let stage = Stage::new(&objects)?;
    let ask = |to: IpAddr| stage.send(stage.pod("web-2"), Protocol::Tcp, (to, 80));
    assert_eq!(ask(Ip::V6.cluster_ip(10))?.answered_by(), Some("web-1"));
    assert!(ask(Ip::V4.cluster_ip(10))?.timed_out());
    Ok(())
}

#[test]
fn an_endpoint_in_the_nodes_own_network_is_reached_from_everywhere() -> Result<()> {
    let mut objects = vec![service("host", 10).build()];
    objects.extend(slices("host", &["web-1"]));
    for (slice, address) in objects[1..].iter_mut().zip(["192.0.2.11", "2001:db8:2::11"]) {
        slice["endpoints"][0]["addresses"] = json!([address]);
    }
    let stage = Stage::new(&objects)?;
    let addresses = Ip::BOTH.map(|family| SocketAddr::new(stage.node_address(1, family), TARGET));
    let _servers = Server::start_all(stage.node(), "host", &PROTOCOLS, &addresses)?;
    for family in Ip::BOTH {
        for protocol in PROTOCOLS {
            for from in [stage.pod("web-2"), stage.client(), stage.node()] {
                let answers = stage.ask(from, 3, protocol, (family.cluster_ip(10), 80))?;
                assert_eq!(answers.names(), ["host"], "{protocol} {family:?} from {}", from.name());
            }
            let answers = stage.ask(stage.pod("web-2"), 3, protocol, (family.cluster_ip(10), 80))?;
            assert_eq!(
                answers.sources(),
                [stage.pod_address("web-2", family)],
                "{protocol} {family:?}"
            );
        }
    }
    Ok(())
}
