//! Tandem with the real control plane: Services are deleted, made again, renamed, renumbered and retyped. Needs root
//! and the helper program that `make test` builds.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tandem_tests::fleet::{Fleet, OTHER, TARGET, cluster_ips, shared};
use tandem_tests::manifests::Service;
use tandem_tests::stage::Ip;
use tandem_tests::traffic::Protocol;

/// A dual-stack Service for the pods `NAME-1` and `NAME-2`.
fn dual(name: &str) -> Service {
    Service::new("default", name)
        .spec("ipFamilyPolicy", "RequireDualStack")
        .port("http", Protocol::Tcp, 80, TARGET)
}

/// Adds `NAME-1` on node 1 and `NAME-2` on node 3.
fn add_pods(fleet: &mut Fleet, name: &str) -> Result<[String; 2]> {
    let pods = [format!("{name}-1"), format!("{name}-2")];
    fleet.add_pod(&pods[0], 1, name)?;
    fleet.add_pod(&pods[1], 3, name)?;
    Ok(pods)
}

/// Waits for the pods behind the Service and asks both of its ClusterIPs.
fn answered_at(fleet: &Fleet, name: &str, addresses: [IpAddr; 2], port: u16, pods: [&str; 2]) -> Result<()> {
    fleet.wait_for(name, &Ip::BOTH, &pods, TARGET)?;
    for address in addresses {
        fleet.expect_answers(Protocol::Tcp, (address, port), &pods)?;
    }
    Ok(())
}

fn lost_at(fleet: &Fleet, addresses: [IpAddr; 2], port: u16) -> Result<()> {
    addresses
        .into_iter()
        .try_for_each(|address| fleet.expect_lost((address, port)))
}

#[test]
fn a_deleted_service_is_forgotten_and_works_again_when_it_is_made_again() -> Result<()> {
    shared(|fleet| {
        let pods = add_pods(fleet, "again")?;
        let pods = pods.each_ref().map(String::as_str);
        let first = cluster_ips(&fleet.cluster.api().create(&dual("again").build())?)?;
        answered_at(fleet, "again", first, 80, pods)?;

        fleet.delete("again")?;
        fleet.settle()?;
        lost_at(fleet, first, 80)?;
        for tandem in &fleet.tandems {
            ensure!(tandem.command(&["services", "again", "-n", "default"]).is_err());
        }

        // Once with the addresses that it had, and once with new ones.
        let addresses = first.map(|address| address.to_string());
        let same = dual("again").cluster_ips(&addresses.each_ref().map(String::as_str));
        let second = cluster_ips(&fleet.cluster.api().create(&same.build())?)?;
        assert_eq!(first, second);
        answered_at(fleet, "again", second, 80, pods)?;
        fleet.delete("again")?;
        let third = cluster_ips(&fleet.cluster.api().create(&dual("again").build())?)?;
        answered_at(fleet, "again", third, 80, pods)
    })
}

#[test]
fn ports_are_renamed_and_renumbered_and_lead_to_other_targets() -> Result<()> {
    shared(|fleet| {
        let pods = add_pods(fleet, "ports")?;
        let pods = pods.each_ref().map(String::as_str);
        let addresses = cluster_ips(&fleet.cluster.api().create(&dual("ports").build())?)?;
        answered_at(fleet, "ports", addresses, 80, pods)?;
        let set = |fleet: &Fleet, name: &str, port: u16, target: Value| {
            let port = json!({ "name": name, "protocol": "TCP", "port": port, "targetPort": target });
            fleet.patch("ports", &json!({ "spec": { "ports": [port] } })).map(drop)
        };

        set(fleet, "web", 80, json!(TARGET))?;
        fleet.settle()?;
        answered_at(fleet, "ports", addresses, 80, pods)?;
        let services = fleet.tandems[0].services()?;
        ensure!(services.to_string().contains(r#""name":"web""#), "{services:#}");

        set(fleet, "web", 81, json!(TARGET))?;
        fleet.settle()?;
        answered_at(fleet, "ports", addresses, 81, pods)?;
        for address in addresses {
            fleet.expect_refused((address, 80))?; // the address is a ClusterIP, but no Service has the port
        }

        let others = pods.map(|pod| format!("{pod}-other"));
        let others = others.each_ref().map(String::as_str);
        for (target, port, servers) in [
            (json!(OTHER), OTHER, others),
            (json!("main"), TARGET, pods),
            (json!("other"), OTHER, others),
            (json!(TARGET), TARGET, pods),
        ] {
            set(fleet, "web", 81, target)?;
            fleet.wait_for("ports", &Ip::BOTH, &pods, port)?;
            for address in addresses {
                fleet.expect_answers(Protocol::Tcp, (address, 81), &servers)?;
            }
        }
        set(fleet, "web", 81, json!("nobody-has-this"))?;
        fleet.wait_for("ports", &Ip::BOTH, &[], 0)?;
        addresses
            .into_iter()
            .try_for_each(|address| fleet.expect_refused((address, 81)))
    })
}

/// What the client outside gets through `node1` from the nodePort and from the LoadBalancer's address, in both
/// families.
fn reached_from_outside(fleet: &Fleet, node_port: Option<u16>, balancer: bool) -> Result<()> {
    for family in Ip::BOTH {
        let node = family.of(fleet.cluster.node(1)?.addresses());
        if let Some(port) = node_port {
            let outcome = fleet.send(&fleet.cluster.client, (node, port))?;
            ensure!(outcome.answer().is_some(), "nodePort {family:?}: {outcome}");
        }
        let outcome = fleet.send(&fleet.cluster.client, (family.external_ip(7), 80))?;
        ensure!(outcome.answer().is_some() == balancer, "balancer {family:?}: {outcome}");
    }
    Ok(())
}

fn retype(fleet: &mut Fleet, service: &str, change: &Value) -> Result<Value> {
    let changed = fleet.patch(service, &json!({ "spec": change }))?;
    fleet.settle()?;
    Ok(changed)
}

/// Sets the status as a cloud would: the load balancer's address, and how it delivers.
fn announce(fleet: &mut Fleet, mode: &str) -> Result<()> {
    let ingress = Ip::external_ips(7).map(|address| json!({ "ip": address, "ipMode": mode }));
    fleet.patch(
        "types",
        &json!({ "status": { "loadBalancer": { "ingress": ingress } } }),
    )?;
    fleet.settle()
}

#[test]
fn a_service_goes_through_every_type_and_back() -> Result<()> {
    shared(|fleet| {
        let pods = add_pods(fleet, "types")?;
        let pods = pods.each_ref().map(String::as_str);
        let first = cluster_ips(&fleet.cluster.api().create(&dual("types").build())?)?;
        answered_at(fleet, "types", first, 80, pods)?;
        reached_from_outside(fleet, None, false)?;

        let changed = retype(fleet, "types", &json!({ "type": "NodePort" }))?;
        let port = changed["spec"]["ports"][0]["nodePort"]
            .as_u64()
            .context("no nodePort")?;
        let port = u16::try_from(port)?;
        reached_from_outside(fleet, Some(port), false)?;

        retype(fleet, "types", &json!({ "type": "LoadBalancer" }))?;
        reached_from_outside(fleet, Some(port), false)?;
        announce(fleet, "VIP")?;
        reached_from_outside(fleet, Some(port), true)?;
        announce(fleet, "Proxy")?;
        reached_from_outside(fleet, Some(port), false)?;
        announce(fleet, "VIP")?;
        reached_from_outside(fleet, Some(port), true)?;

        retype(fleet, "types", &json!({ "type": "ClusterIP" }))?;
        reached_from_outside(fleet, None, false)?;
        for family in Ip::BOTH {
            let node = family.of(fleet.cluster.node(1)?.addresses());
            let outcome = fleet.send(&fleet.cluster.client, (node, port))?;
            ensure!(outcome.refused_at_once(), "{family:?}: {outcome}");
        }
        answered_at(fleet, "types", first, 80, pods)?;

        let external = json!({ "type": "ExternalName", "externalName": "elsewhere.example" });
        retype(fleet, "types", &external)?;
        lost_at(fleet, first, 80)?;
        let dual_stack = json!({ "type": "ClusterIP", "externalName": null, "ipFamilyPolicy": "RequireDualStack" });
        let second = cluster_ips(&retype(fleet, "types", &dual_stack)?)?;
        answered_at(fleet, "types", second, 80, pods)?;

        retype(fleet, "types", &external)?;
        let mut headless = dual_stack.clone();
        headless["clusterIP"] = json!("None");
        retype(fleet, "types", &headless)?;
        lost_at(fleet, second, 80)?;
        ensure!(
            fleet.tandems[1]
                .command(&["services", "types", "-n", "default"])
                .is_err()
        );
        retype(fleet, "types", &external)?;
        let third = cluster_ips(&retype(fleet, "types", &dual_stack)?)?;
        answered_at(fleet, "types", third, 80, pods)
    })
}

#[test]
fn a_service_of_another_proxy_is_left_to_it() -> Result<()> {
    shared(|fleet| {
        let pods = add_pods(fleet, "others")?;
        let pods = pods.each_ref().map(String::as_str);
        let label = "service.kubernetes.io/service-proxy-name";
        let mut service = dual("others").build();
        service["metadata"]["labels"] = json!({ label: "another" });
        let created = fleet.cluster.api().create(&service)?;
        fleet.settle()?;
        lost_at(fleet, cluster_ips(&created)?, 80)?;
        ensure!(
            fleet.tandems[0]
                .command(&["services", "others", "-n", "default"])
                .is_err()
        );

        // The label goes, and comes back.
        fleet.patch("others", &json!({ "metadata": { "labels": { label: null } } }))?;
        answered_at(fleet, "others", cluster_ips(&created)?, 80, pods)?;
        fleet.patch("others", &json!({ "metadata": { "labels": { label: "another" } } }))?;
        fleet.settle()?;
        lost_at(fleet, cluster_ips(&created)?, 80)
    })
}
