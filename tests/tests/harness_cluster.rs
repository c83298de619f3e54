//! The harness's own tests: a real control plane. Needs root and the helper program that `make test` builds.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tandem_tests::cluster::{Api, Cluster, path};
use tandem_tests::eventually;
use tandem_tests::manifests::Service;
use tandem_tests::traffic::{Protocol, Request, Server};

#[test]
fn a_real_control_plane_runs_services_pods_and_slices() -> Result<()> {
    let start = Instant::now();
    let mut cluster = Cluster::start(2)?;
    println!("ready after {:.1?}", start.elapsed());
    nodes_have_pod_ranges_and_addresses_of_both_families(&cluster)?;
    a_dual_stack_service_gets_both_addresses(&cluster)?;
    a_deleted_pod_serves_while_it_terminates(&mut cluster)?;
    pods_reach_each_other_over_the_nodes(&cluster)?;
    tandems_user_may_read_and_nothing_more(&cluster)?;
    the_api_server_comes_back_with_what_it_had(&mut cluster)
}

fn nodes_have_pod_ranges_and_addresses_of_both_families(cluster: &Cluster) -> Result<()> {
    let node = cluster.api().get(&path("Node", "", "node2")?)?;
    assert_eq!(node["spec"]["podCIDRs"].as_array().map(Vec::len), Some(2), "{node:#}");
    assert_eq!(node["status"]["addresses"][1]["address"], "2001:db8:2::12", "{node:#}");
    Ok(())
}

fn a_dual_stack_service_gets_both_addresses(cluster: &Cluster) -> Result<()> {
    let service = Service::new("default", "web")
        .port("http", Protocol::Tcp, 80, 8080)
        .spec("ipFamilyPolicy", "RequireDualStack")
        .spec("ipFamilies", vec!["IPv6", "IPv4"]);
    let created = cluster.api().create(&service.build())?;
    let addresses = created["spec"]["clusterIPs"].as_array().context("no ClusterIPs")?;
    assert!(
        addresses[0]
            .as_str()
            .is_some_and(|address| address.starts_with("fd00:10:96::")),
        "{created:#}"
    );
    assert!(
        addresses[1].as_str().is_some_and(|address| address.starts_with("10.")),
        "{created:#}"
    );
    assert!(cluster.kubectl(&["get", "service", "web"])?.contains("ClusterIP"));
    Ok(())
}

fn a_deleted_pod_serves_while_it_terminates(cluster: &mut Cluster) -> Result<()> {
    cluster.add_pod("web-1", 1, "web")?;
    cluster.add_pod("web-2", 2, "web")?;
    wait_for_endpoints(cluster, "two ready endpoints of each family", |v4, v6| {
        [v4, v6]
            .iter()
            .all(|family| family.len() == 2 && family.iter().all(|one| one["conditions"]["ready"] == true))
    })?;
    cluster.delete_pod("web-1")?;
    let terminating = json!({ "ready": false, "serving": true, "terminating": true });
    wait_for_endpoints(
        cluster,
        "one endpoint of each family serving while terminating",
        |v4, v6| {
            [v4, v6]
                .iter()
                .all(|family| family.iter().any(|one| one["conditions"] == terminating))
        },
    )?;
    cluster.remove_pod("web-1")?;
    wait_for_endpoints(cluster, "one endpoint of each family", |v4, v6| {
        v4.len() == 1 && v6.len() == 1
    })?;
    cluster.set_ready("web-2", false)?;
    wait_for_endpoints(cluster, "an endpoint that is not ready", |v4, _| {
        v4.len() == 1 && v4[0]["conditions"]["ready"] == false
    })
}

fn wait_for_endpoints(cluster: &Cluster, what: &str, is_so: impl Fn(&[Value], &[Value]) -> bool) -> Result<()> {
    let endpoints = |family: &str| -> Result<Vec<Value>> {
        let slices = cluster.slices("default", "web")?;
        let slices = slices.iter().filter(|slice| slice["addressType"] == family);
        Ok(slices
            .filter_map(|slice| slice["endpoints"].as_array())
            .flatten()
            .cloned()
            .collect())
    };
    eventually(Duration::from_secs(15), || {
        let (v4, v6) = (endpoints("IPv4").ok()?, endpoints("IPv6").ok()?);
        is_so(&v4, &v6).then_some(())
    })
    .with_context(|| format!("never {what}: {:#?}", cluster.slices("default", "web")))
}

fn pods_reach_each_other_over_the_nodes(cluster: &Cluster) -> Result<()> {
    let pod = cluster.pod("web-2")?;
    for address in pod.addresses() {
        let server = Server::start(&pod.namespace, "web-2", Protocol::Tcp, (address, 8080).into())?;
        for from in [&cluster.node(1)?.namespace, &cluster.client] {
            let outcome = Request::tcp(server.address()).send(from)?;
            assert_eq!(outcome.answered_by(), Some("web-2"), "from {}: {outcome}", from.name());
        }
    }
    Ok(())
}

fn tandems_user_may_read_and_nothing_more(cluster: &Cluster) -> Result<()> {
    let api = Api::connect(cluster.inside(), &cluster.tandem_kubeconfig())?;
    for kind in ["Service", "EndpointSlice", "Node", "ServiceCIDR"] {
        api.get(&path(kind, "", "")?)?;
    }
    let error = api
        .get(&path("Pod", "", "")?)
        .err()
        .context("Tandem's user may list Pods")?;
    assert!(format!("{error:#}").contains("forbidden"), "{error:#}");
    Ok(())
}

fn the_api_server_comes_back_with_what_it_had(cluster: &mut Cluster) -> Result<()> {
    cluster.kill_api_server();
    assert!(cluster.api().get(&path("Service", "default", "web")?).is_err());
    cluster.start_api_server()?;
    assert_eq!(
        cluster.api().get(&path("Service", "default", "web")?)?["metadata"]["name"],
        "web"
    );
    Ok(())
}
