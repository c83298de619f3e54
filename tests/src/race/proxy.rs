//! The same for the real kube-proxy: a control plane, one node, and lists that shrink by changes at the API server.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::flood::serve;
use super::scenario::{Scenario, forget_closed, many_ports, plain_service};
use super::{Figures, Options, flood};
use crate::cluster::{Api, Cluster, path};
use crate::eventually;
use crate::manifests;
use crate::node::Pod;
use crate::stage::{Ip, NAMESPACE, TARGET, slice};

const PATIENCE: Duration = Duration::from_mins(1);

/// A Service and the lists of its endpoints that take turns.
struct Lists {
    title: &'static str,
    name: &'static str,
    number: u8,
    turns: Vec<Vec<[IpAddr; 2]>>,
}

/// Floods a node with the real kube-proxy. It runs the scenarios for which changes through an API server are quick
/// enough, and reports each when it is done.
pub fn run(options: &Options, mut tell: impl FnMut(&str, &Figures)) -> Result<Figures> {
    let cluster = Cluster::start(1)?;
    let node = cluster.node(1)?;
    forget_closed(&node.namespace)?;
    let (first, second) = (node.add_pod("web-1", 10)?, node.add_pod("web-2", 11)?);
    for pod in [&first, &second] {
        serve(&pod.namespace, TARGET, 1)?;
    }
    let client = node.add_pod("client", 9)?;
    many_ports(&client.namespace)?;
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } });
    cluster.api().create(&namespace)?;
    // Lets kube-proxy write as often as it can. By default, it waits a second between two changes.
    let mut configuration = manifests::configuration();
    configuration["nftables"] = json!({ "minSyncPeriod": "5ms" });
    let mut proxy = cluster.start_kube_proxy_with(1, &configuration)?;
    let part = Options {
        connections: options.connections / 2,
        lasting: options.lasting / 2,
        ..*options
    };
    let mut sum = Figures::default();
    for lists in all(&first, &second) {
        let scenario = lists.scenario();
        lists.create(cluster.api())?;
        let programmed = || {
            let text = node.namespace.exec(&["nft", "list", "ruleset"]).ok()?;
            Ip::BOTH
                .iter()
                .all(|family| text.contains(&family.cluster_ip(lists.number).to_string()))
                .then_some(())
        };
        eventually(PATIENCE, programmed)
            .with_context(|| format!("kube-proxy programmed nothing:\n{}", proxy.log().unwrap_or_default()))?;
        let change = |step: usize| {
            lists.change(cluster.api(), step)?;
            Ok(step % 2 == 1)
        };
        let figures = flood(&scenario, &node.namespace, &client.namespace, &part, change)?;
        proxy.check()?;
        figures.ensure_meaningful()?;
        tell(lists.title, &figures);
        sum.add(&figures);
    }
    Ok(sum)
}

fn all(first: &Pod, second: &Pod) -> [Lists; 2] {
    let (first, second) = (first.addresses(), second.addresses());
    [
        Lists {
            title: "kube-proxy: two endpoints become one",
            name: "web",
            number: 10,
            turns: vec![vec![first, second], vec![first], vec![first, second], vec![second]],
        },
        Lists {
            title: "kube-proxy: one endpoint becomes none",
            name: "lonely",
            number: 11,
            turns: vec![vec![first], vec![]],
        },
    ]
}

impl Lists {
    fn scenario(&self) -> Scenario {
        let mut scenario = Scenario::inside(self.title, 50, self.number);
        scenario.right.clear();
        for pair in self.turns.iter().flatten() {
            for family in Ip::BOTH {
                let from = family.cluster_ip(self.number);
                scenario.right.insert((from, family.of(*pair)));
            }
        }
        scenario
    }

    fn create(&self, api: &Api) -> Result<()> {
        let mut service = plain_service(self.name, self.number).build();
        service["spec"]["selector"] = Value::Null; // no controller makes its slices
        api.create(&service)?;
        for family in Ip::BOTH {
            let mut object = slice(&self.slice_name(family), self.name, family).build();
            object["endpoints"] = self.endpoints(0, family);
            api.create(&object)?;
        }
        Ok(())
    }

    fn change(&self, api: &Api, step: usize) -> Result<()> {
        for family in Ip::BOTH {
            let slice = path("EndpointSlice", NAMESPACE, &self.slice_name(family))?;
            api.patch(&slice, &json!({ "endpoints": self.endpoints(step, family) }))?;
        }
        Ok(())
    }

    fn endpoints(&self, step: usize, family: Ip) -> Value {
        let ready = json!({ "ready": true, "serving": true, "terminating": false });
        let endpoint =
            |pair: &[IpAddr; 2]| json!({ "addresses": [family.of(*pair)], "nodeName": "node1", "conditions": ready });
        let turn = &self.turns[step % self.turns.len()];
        turn.iter().map(endpoint).collect()
    }

    fn slice_name(&self, family: Ip) -> String {
        format!("{}-{}", self.name, family.of(["v4", "v6"]))
    }
}
