//! A short history of a few small objects. Each step has the same changes, of nearly the same bytes, and leads to another
//! state.
//!
//! | object | what a step does |
//! |---|---|
//! | Service `steady`, in both families, with a nodePort | nothing |
//! | Service `web` | gets an endpoint, then loses the one of the step before; one endpoint stays |
//! | Service `turn-0` or `turn-1` | is deleted, and the other one is created |
//! | Service `zonal`, with hints for two zones | nothing; but the node's zone changes, and so the endpoint that is used |
//! | the ServiceCIDR | gets another label |

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::losses::Kept;
use crate::cluster::{Api, path};
use crate::fleet::cluster_ips;
use crate::manifests::{Service, Slice};
use crate::traffic::Protocol;

const NAMESPACE: &str = "f";
const NODE: &str = "node1";
const NODE_PORT: u16 = 30080;

/// The objects at the API server, and the number of steps so far.
#[derive(Debug)]
pub(super) struct History {
    api: Api,
    step: usize,
    kept: Vec<(String, Vec<u8>)>,
}

impl History {
    /// Creates the objects.
    pub(super) fn begin(api: &Api) -> Result<Self> {
        let mut history = Self {
            api: api.clone(),
            step: 0,
            kept: Vec::new(),
        };
        api.create(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } }))?;
        let steady = Service::new(NAMESPACE, "steady").node_port("", Protocol::Tcp, 80, 8080, NODE_PORT);
        let steady = steady.spec("ipFamilyPolicy", "RequireDualStack");
        history.keep(steady, &["10.244.1.10", "10.244.1.11", "fd00:10:244:1::10"])?;
        history.slice("steady-4", "steady", &["10.244.1.10", "10.244.1.11"])?;
        history.slice("steady-6", "steady", &["fd00:10:244:1::10"])?;
        let web = Service::new(NAMESPACE, "web").port("", Protocol::Tcp, 80, 8080);
        history.keep(web, &["10.244.1.20"])?;
        history.slice("web", "web", &["10.244.1.20", &endpoint(0)])?;
        history.keep(Service::new(NAMESPACE, "zonal").port("", Protocol::Udp, 53, 53), &[])?;
        history.slice("zonal", "zonal", &["10.244.1.31", "10.244.1.32"])?;
        history.turn(0)?;
        history.relabel(0)?;
        // Whoever last wrote which field is most of an object. Once this is empty, the server does not fill it again.
        for (kind, namespace, name) in [
            ("Service", NAMESPACE, "steady"),
            ("Service", NAMESPACE, "web"),
            ("Service", NAMESPACE, "zonal"),
            ("Service", "default", "kubernetes"),
            ("EndpointSlice", NAMESPACE, "steady-4"),
            ("EndpointSlice", NAMESPACE, "steady-6"),
            ("EndpointSlice", NAMESPACE, "web"),
            ("EndpointSlice", NAMESPACE, "zonal"),
            ("Node", "", NODE),
            ("ServiceCIDR", "", "kubernetes"),
        ] {
            let nobody = json!({ "metadata": { "managedFields": [{}] } });
            history.api.patch(&path(kind, namespace, name)?, &nobody)?;
        }
        Ok(history)
    }

    /// Makes the next step.
    pub(super) fn advance(&mut self) -> Result<()> {
        let (before, now) = (endpoint(self.step), endpoint(self.step + 1));
        self.step += 1;
        let web = path("EndpointSlice", NAMESPACE, "web")?;
        self.api.patch(
            &web,
            &json!({ "endpoints": endpoints(&["10.244.1.20", &before, &now]) }),
        )?;
        let gone = turn(self.step - 1);
        for kind in ["Service", "EndpointSlice"] {
            self.api.delete(&path(kind, NAMESPACE, &gone)?, &json!({}))?;
        }
        self.turn(self.step)?;
        self.api
            .patch(&web, &json!({ "endpoints": endpoints(&["10.244.1.20", &now]) }))?;
        self.relabel(self.step)
    }

    /// What no change may take away, and the bytes by which it is known.
    pub(super) fn kept(&self) -> Kept {
        Arc::new(self.kept.clone())
    }

    /// Creates a Service that no change may take away, with these endpoints.
    fn keep(&mut self, service: Service, endpoints: &[&str]) -> Result<()> {
        let created = self.service(service)?;
        let name = created["metadata"]["name"]
            .as_str()
            .context("a Service without a name")?;
        self.kept
            .push((name.to_owned(), format!("{NAMESPACE}/{name}").into_bytes()));
        let mut addresses: Vec<IpAddr> = match cluster_ips(&created) {
            Ok(both) => both.to_vec(),
            Err(_) => vec![created["spec"]["clusterIP"].as_str().unwrap_or_default().parse()?],
        };
        for endpoint in endpoints {
            addresses.push(endpoint.parse()?);
        }
        for address in addresses {
            let bytes = match address {
                IpAddr::V4(address) => address.octets().to_vec(),
                IpAddr::V6(address) => address.octets().to_vec(),
            };
            self.kept.push((format!("{address} of {name}"), bytes));
        }
        Ok(())
    }

    fn service(&self, service: Service) -> Result<Value> {
        self.api.create(&service.spec("selector", Value::Null).build())
    }

    fn slice(&self, name: &str, service: &str, addresses: &[&str]) -> Result<()> {
        let protocol = if service == "zonal" {
            Protocol::Udp
        } else {
            Protocol::Tcp
        };
        let port = if service == "zonal" { 53 } else { 8080 };
        let mut slice = Slice::new(NAMESPACE, name, service)
            .family(addresses.iter().any(|address| address.contains(':')))
            .port("", protocol, port)
            .build();
        slice["endpoints"] = endpoints(addresses);
        if service == "zonal" {
            for (number, zone) in ["a", "b"].iter().enumerate() {
                slice["endpoints"][number]["hints"] = json!({ "forZones": [{ "name": zone }] });
            }
        }
        self.api.create(&slice).map(drop)
    }

    /// Creates the Service whose turn it is.
    fn turn(&self, step: usize) -> Result<()> {
        let name = turn(step);
        // An address that the server chooses may have more digits in the one step than in the other.
        let address = ["10.96.200.100", "10.96.200.101"][step % 2];
        let service = Service::new(NAMESPACE, &name).port("", Protocol::Tcp, 80, 8080);
        self.service(service.cluster_ips(&[address]))?;
        self.slice(&name, &name, &["10.244.1.40"])
    }

    /// Changes the labels of the node and of the range.
    fn relabel(&self, step: usize) -> Result<()> {
        let zone = ["a", "b"][step % 2];
        for (kind, name, label) in [
            ("Node", NODE, "topology.kubernetes.io/zone"),
            ("ServiceCIDR", "kubernetes", "turn"),
        ] {
            let change = json!({ "metadata": { "labels": { label: zone } } });
            self.api.patch(&path(kind, "", name)?, &change)?;
        }
        Ok(())
    }
}

fn turn(step: usize) -> String {
    format!("turn-{}", step % 2)
}

/// The endpoint of `web` after this many steps.
fn endpoint(step: usize) -> String {
    format!("10.244.1.{}", 100 + step % 100)
}

fn endpoints(addresses: &[&str]) -> Value {
    addresses
        .iter()
        .map(|address| json!({ "addresses": [address] }))
        .collect()
}
