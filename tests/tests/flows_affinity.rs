//! ClientIP affinity: a client stays with one endpoint as long as both exist.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::Value;
use tandem_tests::manifests::Policy;
use tandem_tests::netns::Namespace;
use tandem_tests::stage::{Ip, PROTOCOLS, Stage, node_port_service, slices};
use tandem_tests::traffic::{Protocol, Request};

const PODS: [&str; 3] = ["web-1", "web-2", "web-3"];
const NODE_PORT: u16 = 30_080;
const EXTERNAL: u8 = 10;
/// The outside client has this number of additional addresses. Each counts as a client of its own.
const CLIENTS: u8 = 20;

fn sticky(name: &str, number: u8, seconds: u32, pods: &[&str]) -> Vec<Value> {
    let addresses = Ip::external_ips(EXTERNAL);
    let service = node_port_service(name, number, NODE_PORT)
        .external_ips(&addresses.each_ref().map(String::as_str))
        .affinity(seconds);
    let mut objects = vec![service.build()];
    objects.extend(slices(name, pods));
    objects
}

/// The server that answers all of several requests.
fn only(stage: &Stage, from: &Namespace, protocol: Protocol, to: (IpAddr, u16)) -> Result<String> {
    let answers = stage.ask(from, 8, protocol, to)?;
    let [name] = answers.names()[..] else {
        anyhow::bail!(
            "{protocol} {to:?} from {}: {:?} answered one client",
            from.name(),
            answers.names()
        );
    };
    Ok(name.to_owned())
}

fn many_clients(stage: &Stage) -> Result<()> {
    let addresses: Vec<String> = (0..CLIENTS)
        .flat_map(|number| Ip::BOTH.map(|family| (family, client(family, number))))
        .map(|(family, address)| format!("{address}/{}", family.of([24, 64])))
        .collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    stage.client().address("eth0", &addresses)
}

fn client(family: Ip, number: u8) -> IpAddr {
    match family {
        Ip::V4 => Ipv4Addr::new(198, 51, 100, 100 + number).into(),
        Ip::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0x99, 0, 0, 0, 1, number.into()).into(),
    }
}

/// The server that answers each of the clients.
fn census(stage: &Stage, family: Ip) -> Result<BTreeMap<IpAddr, String>> {
    (0..CLIENTS)
        .map(|number| {
            let from = client(family, number);
            let request = Request::tcp((family.cluster_ip(10), 80).into()).from(from);
            let outcome = request.send(stage.client())?;
            let name = outcome.answered_by().with_context(|| format!("{from}: {outcome}"))?;
            Ok((from, name.to_owned()))
        })
        .collect()
}

#[test]
fn a_client_keeps_its_endpoint_whichever_address_it_uses() -> Result<()> {
    let stage = Stage::new(&sticky("web", 10, 10_800, &PODS))?;
    for family in Ip::BOTH {
        let frontends = [
            (family.cluster_ip(10), 80),
            (stage.node_address(1, family), NODE_PORT),
            (family.external_ip(EXTERNAL), 80),
        ];
        for protocol in PROTOCOLS {
            for from in [stage.client(), stage.pod("web-2"), stage.pod("web-1"), stage.node()] {
                let first = only(&stage, from, protocol, frontends[0])?;
                // If the node sends to itself, it uses another of its addresses, and so is another client.
                let others = if from.name() == stage.node().name() {
                    &[]
                } else {
                    &frontends[1..]
                };
                for to in others {
                    assert_eq!(
                        only(&stage, from, protocol, *to)?,
                        first,
                        "{protocol} {to:?} from {}",
                        from.name()
                    );
                }
            }
        }
    }
    Ok(())
}

#[test]
fn clients_are_spread_over_all_endpoints_and_each_stays() -> Result<()> {
    let stage = Stage::new(&sticky("web", 10, 10_800, &PODS))?;
    many_clients(&stage)?;
    for family in Ip::BOTH {
        let first = census(&stage, family)?;
        assert!(
            PODS.iter().all(|pod| first.values().any(|name| name == pod)),
            "{first:?}"
        );
        assert_eq!(census(&stage, family)?, first);
        stage.expect_counted(family, "web", Protocol::Tcp, 2 * usize::from(CLIENTS))?;
    }
    Ok(())
}

#[test]
fn a_remembered_endpoint_that_dies_is_replaced_on_the_very_next_connection() -> Result<()> {
    let mut stage = Stage::new(&sticky("web", 10, 10_800, &PODS))?;
    let mut left = PODS.to_vec();
    while left.len() > 1 {
        let victim = only(&stage, stage.client(), Protocol::Tcp, (Ip::V4.cluster_ip(10), 80))?;
        let remembered = |stage: &Stage| -> Result<Vec<String>> {
            let pairs = Ip::BOTH
                .into_iter()
                .flat_map(|family| PROTOCOLS.map(|protocol| (family, protocol)));
            pairs
                .map(|(family, protocol)| only(stage, stage.client(), protocol, (family.cluster_ip(10), 80)))
                .collect()
        };
        let before = remembered(&stage)?;
        left.retain(|pod| *pod != victim);
        stage.silence(&victim);
        stage.apply("objects.yaml", &sticky("web", 10, 10_800, &left))?;
        let after = remembered(&stage)?;
        for (before, after) in before.iter().zip(&after) {
            assert_ne!(*after, victim);
            assert!(
                before == after || *before == victim,
                "{before} lives, but {after} answers now"
            );
        }
    }
    Ok(())
}

#[test]
fn other_changes_of_the_service_move_no_client() -> Result<()> {
    let mut stage = Stage::new(&sticky("web", 10, 10_800, &["web-1", "web-2"]))?;
    many_clients(&stage)?;
    let before = Ip::BOTH.map(|family| census(&stage, family));
    stage.apply("objects.yaml", &sticky("web", 10, 10_800, &PODS))?;
    for (family, before) in Ip::BOTH.into_iter().zip(before) {
        assert_eq!(census(&stage, family)?, before?, "{family:?}");
    }
    Ok(())
}

#[test]
fn an_idle_client_is_forgotten_and_a_busy_one_is_not() -> Result<()> {
    let stage = Stage::new(&sticky("web", 10, 2, &PODS))?;
    many_clients(&stage)?;
    for family in Ip::BOTH {
        let first = census(&stage, family)?;
        let busy_until = Instant::now() + Duration::from_secs(3);
        while Instant::now() < busy_until {
            thread::sleep(Duration::from_millis(300));
            assert_eq!(census(&stage, family)?, first, "{family:?}");
        }
        thread::sleep(Duration::from_millis(2_500));
        // That each of twenty clients draws the same endpoint again happens once in three thousand million runs.
        assert_ne!(census(&stage, family)?, first, "{family:?}");
    }
    Ok(())
}

#[test]
fn another_timeout_and_none_count_from_the_next_connection_on() -> Result<()> {
    let mut stage = Stage::new(&sticky("web", 10, 10_800, &PODS))?;
    many_clients(&stage)?;
    let first = Ip::BOTH.map(|family| census(&stage, family));
    // The change moves no client. A client that connects after it is remembered for the new time.
    stage.apply("objects.yaml", &sticky("web", 10, 1, &PODS))?;
    for (family, first) in Ip::BOTH.into_iter().zip(first) {
        let first = first?;
        assert_eq!(census(&stage, family)?, first, "{family:?}");
        thread::sleep(Duration::from_millis(1_500));
        assert_ne!(census(&stage, family)?, first, "{family:?}: as in the test above");
    }
    let mut objects = sticky("web", 10, 1, &PODS);
    objects[0]["spec"]["sessionAffinity"] = "None".into();
    stage.apply("objects.yaml", &objects)?;
    for family in Ip::BOTH {
        for protocol in PROTOCOLS {
            let answers = stage.ask(stage.client(), 40, protocol, (family.cluster_ip(10), 80))?;
            assert_eq!(answers.names(), PODS, "{protocol} {family:?}");
        }
    }
    Ok(())
}

#[test]
fn what_was_remembered_never_leads_to_another_service() -> Result<()> {
    let mut stage = Stage::new(&sticky("web", 10, 10_800, &["web-1"]))?;
    many_clients(&stage)?;
    for family in Ip::BOTH {
        assert!(census(&stage, family)?.values().all(|name| name == "web-1"));
    }
    // The same addresses, and the numbers that were given back, now belong to another Service.
    stage.remove("objects.yaml")?;
    stage.apply("objects.yaml", &sticky("next", 10, 10_800, &["web-3"]))?;
    for family in Ip::BOTH {
        assert!(
            census(&stage, family)?.values().all(|name| name == "web-3"),
            "{family:?}"
        );
        stage.expect_counted(family, "next", Protocol::Tcp, CLIENTS.into())?;
    }
    Ok(())
}

#[test]
fn policy_local_remembers_among_local_endpoints() -> Result<()> {
    let addresses = Ip::external_ips(EXTERNAL);
    let service = node_port_service("web", 10, NODE_PORT)
        .external_ips(&addresses.each_ref().map(String::as_str))
        .external_policy(Policy::Local)
        .affinity(10_800);
    let mut objects = vec![service.build()];
    objects.extend(slices("web", &PODS));
    let stage = Stage::new(&objects)?;
    for family in Ip::BOTH {
        for protocol in PROTOCOLS {
            let first = only(
                &stage,
                stage.client(),
                protocol,
                (stage.node_address(1, family), NODE_PORT),
            )?;
            assert_ne!(first, "web-3", "{protocol} {family:?}");
            let second = only(&stage, stage.client(), protocol, (family.external_ip(EXTERNAL), 80))?;
            assert_eq!(second, first, "{protocol} {family:?}");
        }
    }
    Ok(())
}
