//! Kubernetes objects as values, and folders of them for `--source directory:PATH`.
//!
//! The builders make [`serde_json::Value`]s. A [`Folder`] writes them as YAML, and [`crate::cluster::Api`] sends them
//! to an API server. If a builder has no method for a field, change the value (`service.build()["spec"]["…"] = …`).

mod folder;

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::node::Node;
use crate::topology::{POD_RANGES, SERVICE_RANGES};
use crate::traffic::Protocol;

pub use folder::Folder;

/// One document of YAML.
pub fn to_yaml(value: &Value) -> Result<String> {
    serde_saphyr::to_string(value).context("write YAML")
}

/// A builder of a Service. It begins as a ClusterIP Service without ports and addresses.
#[derive(Clone, Debug)]
pub struct Service {
    object: Value,
}

/// A builder of an EndpointSlice.
#[derive(Clone, Debug)]
pub struct Slice {
    object: Value,
}

/// A traffic policy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Policy {
    /// Any endpoint.
    Cluster,
    /// Endpoints on the node that received the packet.
    Local,
}

impl Service {
    /// A Service in a namespace. It selects pods labelled `app: NAME`.
    pub fn new(namespace: &str, name: &str) -> Self {
        let object = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "namespace": namespace, "name": name },
            "spec": { "type": "ClusterIP", "selector": { "app": name }, "ports": [] },
        });
        Self { object }
    }

    /// Its ClusterIPs, in their order; the families follow from them.
    #[must_use]
    pub fn cluster_ips(self, addresses: &[&str]) -> Self {
        let families: Vec<&str> = addresses
            .iter()
            .map(|a| if a.contains(':') { "IPv6" } else { "IPv4" })
            .collect();
        let policy = if addresses.len() > 1 {
            "RequireDualStack"
        } else {
            "SingleStack"
        };
        self.spec("clusterIP", addresses.first().copied())
            .spec("clusterIPs", addresses)
            .spec("ipFamilies", families)
            .spec("ipFamilyPolicy", policy)
    }

    /// A port and the number that its endpoints listen on.
    #[must_use]
    pub fn port(self, name: &str, protocol: Protocol, port: u16, target: u16) -> Self {
        self.push_port(json!({
            "name": name, "protocol": protocol.to_string(), "port": port, "targetPort": target,
        }))
    }

    /// Adds a port with a nodePort. A ClusterIP Service becomes a NodePort one.
    #[must_use]
    pub fn node_port(self, name: &str, protocol: Protocol, port: u16, target: u16, node_port: u16) -> Self {
        let kind = self.object["spec"]["type"].clone();
        let kind = if kind == "ClusterIP" { json!("NodePort") } else { kind };
        self.spec("type", kind).push_port(json!({
            "name": name, "protocol": protocol.to_string(), "port": port, "targetPort": target, "nodePort": node_port,
        }))
    }

    /// Makes it a LoadBalancer with these addresses.
    #[must_use]
    pub fn load_balancer(mut self, addresses: &[&str]) -> Self {
        let ingress: Vec<Value> = addresses
            .iter()
            .map(|address| json!({ "ip": address, "ipMode": "VIP" }))
            .collect();
        self.object["status"] = json!({ "loadBalancer": { "ingress": ingress } });
        self.spec("type", "LoadBalancer")
    }

    /// Its externalIPs.
    #[must_use]
    pub fn external_ips(self, addresses: &[&str]) -> Self {
        self.spec("externalIPs", addresses)
    }

    /// Its externalTrafficPolicy.
    #[must_use]
    pub fn external_policy(self, policy: Policy) -> Self {
        self.spec("externalTrafficPolicy", format!("{policy:?}"))
    }

    /// Its internalTrafficPolicy.
    #[must_use]
    pub fn internal_policy(self, policy: Policy) -> Self {
        self.spec("internalTrafficPolicy", format!("{policy:?}"))
    }

    /// Sets ClientIP affinity for this number of seconds.
    #[must_use]
    pub fn affinity(self, seconds: u32) -> Self {
        self.spec("sessionAffinity", "ClientIP").spec(
            "sessionAffinityConfig",
            json!({ "clientIP": { "timeoutSeconds": seconds } }),
        )
    }

    /// Its loadBalancerSourceRanges.
    #[must_use]
    pub fn source_ranges(self, ranges: &[&str]) -> Self {
        self.spec("loadBalancerSourceRanges", ranges)
    }

    /// Sets any other field of its `spec`.
    #[must_use]
    pub fn spec(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.object["spec"][field] = value.into();
        self
    }

    /// The object.
    pub fn build(self) -> Value {
        self.object
    }

    fn push_port(mut self, port: Value) -> Self {
        if let Some(ports) = self.object["spec"]["ports"].as_array_mut() {
            ports.push(port);
        }
        self
    }
}

impl Slice {
    /// A slice of a Service's endpoints. Its family is that of the endpoints that are added.
    pub fn new(namespace: &str, name: &str, service: &str) -> Self {
        let object = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "namespace": namespace,
                "name": name,
                "labels": { "kubernetes.io/service-name": service },
            },
            "addressType": "IPv4",
            "ports": [],
            "endpoints": [],
        });
        Self { object }
    }

    /// Sets its family, for a slice without endpoints.
    #[must_use]
    pub fn family(mut self, is_ipv6: bool) -> Self {
        self.object["addressType"] = json!(if is_ipv6 { "IPv6" } else { "IPv4" });
        self
    }

    /// Adds a port, by its name in the Service.
    #[must_use]
    pub fn port(self, name: &str, protocol: Protocol, port: u16) -> Self {
        self.push(
            "ports",
            json!({ "name": name, "protocol": protocol.to_string(), "port": port }),
        )
    }

    /// An endpoint that is ready.
    #[must_use]
    pub fn ready(self, address: IpAddr, node: &str) -> Self {
        self.endpoint(address, node, (true, true, false))
    }

    /// Adds an endpoint whose pod is being deleted and still serves.
    #[must_use]
    pub fn terminating(self, address: IpAddr, node: &str) -> Self {
        self.endpoint(address, node, (false, true, true))
    }

    /// Adds an endpoint that does not serve (yet).
    #[must_use]
    pub fn unready(self, address: IpAddr, node: &str) -> Self {
        self.endpoint(address, node, (false, false, false))
    }

    /// The object.
    pub fn build(self) -> Value {
        self.object
    }

    fn endpoint(mut self, address: IpAddr, node: &str, conditions: (bool, bool, bool)) -> Self {
        let (ready, serving, terminating) = conditions;
        self.object["addressType"] = json!(if address.is_ipv4() { "IPv4" } else { "IPv6" });
        self.push(
            "endpoints",
            json!({
                "addresses": [address],
                "nodeName": node,
                "conditions": { "ready": ready, "serving": serving, "terminating": terminating },
            }),
        )
    }

    fn push(mut self, list: &str, value: Value) -> Self {
        if let Some(values) = self.object[list].as_array_mut() {
            values.push(value);
        }
        self
    }
}

/// The Node object of a node of [`crate::topology`].
pub fn node(node: &Node) -> Value {
    let ranges = node.pod_ranges();
    let pods = [format!("{}/24", ranges.v4), format!("{}/64", ranges.v6)];
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": node.name, "labels": { "kubernetes.io/hostname": node.name } },
        "spec": { "podCIDR": pods[0], "podCIDRs": pods },
        "status": { "addresses": [
            { "type": "InternalIP", "address": node.v4 },
            { "type": "InternalIP", "address": node.v6 },
            { "type": "Hostname", "address": node.name },
        ] },
    })
}

/// A configuration for the demo and for the test cluster.
pub fn configuration() -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": POD_RANGES.join(","),
    })
}

/// The ServiceCIDR object that a cluster with these ranges has.
pub fn service_cidr() -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": { "name": "kubernetes" },
        "spec": { "cidrs": SERVICE_RANGES },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_yaml_could_read_as_something_else_are_quoted() -> Result<()> {
        let texts = [
            "on", "no", "y", "NULL", "~", "1e3", "0x10", "10:30", "10.96", "- a", "a: b", "a #b", "::1", "",
        ];
        let value = json!({ "texts": texts, "empty": {}, "ports": [{ "port": 80, "list": [1, "10.96.0.10"] }] });
        let yaml = to_yaml(&value)?;
        assert_eq!(serde_saphyr::from_str::<Value>(&yaml)?, value, "{yaml}");
        // As YAML 1.1 reads them, which is what Kubernetes' programs do.
        for text in ["on", "no", "y", "10:30"] {
            assert!(yaml.contains(&format!("- \"{text}\"\n")), "{text} in {yaml}");
        }
        Ok(())
    }
}
