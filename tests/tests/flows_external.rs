//! External addresses that lead into the cluster: externalIPs and those of load balancers.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tandem_tests::manifests::{Policy, Service};
use tandem_tests::stage::{Ip, PROTOCOLS, Stage, service, slices};
use tandem_tests::topology::CLIENT;
use tandem_tests::traffic::Protocol;

const MANY: usize = 40;

/// The numbers of the addresses: both kinds of external address lead to the same Service.
const EXTERNAL: u8 = 10;
const BALANCER: u8 = 20;

fn external(service: Service) -> Service {
    let (external, balancer) = (Ip::external_ips(EXTERNAL), Ip::external_ips(BALANCER));
    service
        .external_ips(&external.each_ref().map(String::as_str))
        .load_balancer(&balancer.each_ref().map(String::as_str))
}

fn web(policy: Policy, pods: &[&str]) -> Vec<Value> {
    let mut objects = vec![external(service("web", 10)).external_policy(policy).build()];
    objects.extend(slices("web", pods));
    objects
}

/// Runs a check for both families, both kinds of address and every protocol.
fn everywhere(mut check: impl FnMut(Ip, IpAddr, Protocol) -> Result<()>) -> Result<()> {
    for family in Ip::BOTH {
        for number in [EXTERNAL, BALANCER] {
            for protocol in PROTOCOLS {
                check(family, family.external_ip(number), protocol)?;
            }
        }
    }
    Ok(())
}

#[test]
fn policy_cluster_masquerades_and_uses_every_endpoint() -> Result<()> {
    let stage = Stage::new(&web(Policy::Cluster, &["web-1", "web-3"]))?;
    everywhere(|family, address, protocol| {
        for from in [stage.client(), stage.pod("web-2"), stage.node()] {
            let answers = stage.ask(from, MANY, protocol, (address, 80))?;
            assert_eq!(
                answers.names(),
                ["web-1", "web-3"],
                "{protocol} {address} from {}",
                from.name()
            );
            assert!(
                answers.only_from(&stage.masqueraded(family)),
                "{protocol} {address}: {:?}",
                answers.sources()
            );
        }
        Ok(())
    })
}

#[test]
fn policy_local_keeps_the_source_and_uses_local_endpoints_only() -> Result<()> {
    let stage = Stage::new(&web(Policy::Local, &["web-1", "web-2", "web-3"]))?;
    everywhere(|family, address, protocol| {
        let answers = stage.ask(stage.client(), MANY, protocol, (address, 80))?;
        assert_eq!(answers.names(), ["web-1", "web-2"], "{protocol} {address}");
        assert_eq!(answers.sources(), [family.of(CLIENT)], "{protocol} {address}");
        Ok(())
    })
}

#[test]
fn policy_local_leads_pods_and_the_node_to_every_endpoint() -> Result<()> {
    let stage = Stage::new(&web(Policy::Local, &["web-1", "web-3"]))?;
    everywhere(|family, address, protocol| {
        let answers = stage.ask(stage.pod("web-2"), MANY, protocol, (address, 80))?;
        assert_eq!(answers.names(), ["web-1", "web-3"], "{protocol} {address} from a pod");
        assert_eq!(
            answers.sources(),
            [stage.pod_address("web-2", family)],
            "{protocol} {address} from a pod"
        );
        let answers = stage.ask(stage.node(), MANY, protocol, (address, 80))?;
        assert_eq!(
            answers.names(),
            ["web-1", "web-3"],
            "{protocol} {address} from the node"
        );
        assert!(
            answers.only_from(&stage.masqueraded(family)),
            "{protocol} {address}: {:?}",
            answers.sources()
        );
        Ok(())
    })
}

#[test]
fn policy_local_without_local_endpoints_discards_for_clients_only() -> Result<()> {
    let stage = Stage::new(&web(Policy::Local, &["web-3"]))?;
    everywhere(|_, address, protocol| {
        let outcome = stage.send(stage.client(), protocol, (address, 80))?;
        assert!(outcome.timed_out(), "{protocol} {address}: {outcome}");
        for from in [stage.pod("web-2"), stage.node()] {
            assert_eq!(
                stage.ask(from, 3, protocol, (address, 80))?.names(),
                ["web-3"],
                "{protocol} {address}"
            );
        }
        Ok(())
    })
}

#[test]
fn no_endpoint_anywhere_refuses_at_once_under_both_policies() -> Result<()> {
    for policy in [Policy::Cluster, Policy::Local] {
        let stage = Stage::new(&web(policy, &[]))?;
        everywhere(|_, address, protocol| {
            let refused = stage.expect_refused(protocol, (address, 80));
            refused.with_context(|| format!("policy {policy:?}"))
        })?;
    }
    Ok(())
}

#[test]
fn a_load_balancer_in_mode_proxy_is_not_captured() -> Result<()> {
    let mut proxied = external(service("web", 10)).build();
    for ingress in proxied["status"]["loadBalancer"]["ingress"]
        .as_array_mut()
        .into_iter()
        .flatten()
    {
        ingress["ipMode"] = json!("Proxy");
    }
    let mut objects = vec![proxied];
    objects.extend(slices("web", &["web-1"]));
    let stage = Stage::new(&objects)?;
    for family in Ip::BOTH {
        let outcome = stage.send(stage.pod("web-2"), Protocol::Tcp, (family.external_ip(BALANCER), 80))?;
        assert!(outcome.answer().is_none(), "{family:?}: {outcome}");
        assert_eq!(stage.connections(family, "web", "tcp")?, 0, "{family:?}");
        let outcome = stage.send(stage.pod("web-2"), Protocol::Tcp, (family.external_ip(EXTERNAL), 80))?;
        assert_eq!(outcome.answered_by(), Some("web-1"), "{family:?}: {outcome}");
        assert_eq!(stage.connections(family, "web", "tcp")?, 1, "{family:?}");
    }
    Ok(())
}

#[test]
fn the_oldest_claimant_has_an_external_ip_and_the_next_takes_over() -> Result<()> {
    let claim = |name: &str, number: u8, created: &str, pod: &str| {
        let addresses = Ip::external_ips(EXTERNAL);
        let mut claimant = service(name, number)
            .external_ips(&addresses.each_ref().map(String::as_str))
            .build();
        claimant["metadata"]["creationTimestamp"] = json!(created);
        let mut objects = vec![claimant];
        objects.extend(slices(name, &[pod]));
        objects
    };
    // The younger one comes first by name and by file, so only its age can decide.
    let mut stage = Stage::new(&claim("a-young", 11, "2026-02-02T00:00:00Z", "web-1"))?;
    stage.apply("old.yaml", &claim("b-old", 12, "2026-01-01T00:00:00Z", "web-3"))?;
    for family in Ip::BOTH {
        let answers = stage.ask(stage.client(), 10, Protocol::Tcp, (family.external_ip(EXTERNAL), 80))?;
        assert_eq!(answers.names(), ["web-3"], "{family:?}");
        assert_eq!(stage.connections(family, "b-old", "tcp")?, 10);
        assert_eq!(stage.connections(family, "a-young", "tcp")?, 0);
        // Each keeps its own ClusterIP.
        let answers = stage.ask(stage.client(), 5, Protocol::Tcp, (family.cluster_ip(11), 80))?;
        assert_eq!(answers.names(), ["web-1"], "{family:?}");
    }
    stage.remove("old.yaml")?;
    for family in Ip::BOTH {
        let answers = stage.ask(stage.client(), 10, Protocol::Tcp, (family.external_ip(EXTERNAL), 80))?;
        assert_eq!(answers.names(), ["web-1"], "{family:?}");
    }
    Ok(())
}
