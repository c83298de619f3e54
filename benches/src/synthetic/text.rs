//! The same objects as a kube-apiserver writes them, with all fields that Tandem does not use.

use serde_json::{Value, json};
use tandem_core::family::IpFamily;

use super::{NODE, PORT, Shape, TARGET, key, node, pod_ranges, service_ranges, slice_suffix};

const WHEN: &str = "2026-10-09T08:53:20Z";
/// Numbers that make `uid`s of different kinds different.
const SERVICE: u32 = 1;
const SLICE: u32 = 2;
const POD: u32 = 16;

impl Shape {
    /// Service `n`, installed by Helm, without `kind` and `apiVersion`, as in a list.
    pub fn service_object(&self, n: u32) -> Value {
        let key = key(n, "");
        let (namespace, name) = (&*key.namespace, &*key.name);
        let addresses: Vec<_> = self.families.iter().map(|family| self.cluster_ip(n, *family)).collect();
        let families: Vec<_> = self.families.iter().map(ToString::to_string).collect();
        json!({
            "metadata": {
                "name": name,
                "namespace": namespace,
                "uid": uid(SERVICE, n),
                "resourceVersion": (100_000 + n).to_string(),
                "creationTimestamp": WHEN,
                "labels": labels(n, name),
                "annotations": {
                    "meta.helm.sh/release-name": name,
                    "meta.helm.sh/release-namespace": namespace,
                    "prometheus.io/port": "9090",
                    "prometheus.io/scrape": "true",
                },
                "managedFields": managed("helm", "v1", &service_fields()),
            },
            "spec": {
                "ports": [{ "name": "http", "protocol": "TCP", "port": PORT, "targetPort": TARGET }],
                "selector": { "app.kubernetes.io/instance": name, "app.kubernetes.io/name": name },
                "clusterIP": addresses.first(),
                "clusterIPs": addresses,
                "type": "ClusterIP",
                "sessionAffinity": "None",
                "ipFamilies": families,
                "ipFamilyPolicy": if families.len() > 1 { "PreferDualStack" } else { "SingleStack" },
                "internalTrafficPolicy": "Cluster",
            },
            "status": { "loadBalancer": {} },
        })
    }

    /// The slice of Service `n` in one family as the EndpointSlice controller makes it, with this number of endpoints
    /// more.
    pub fn slice_object(&self, n: u32, family: IpFamily, more: u32, version: u64) -> Value {
        let (service, key) = (key(n, "").name, key(n, slice_suffix(family)));
        let (service, owner) = (&*service, uid(SERVICE, n));
        let mut labels = labels(n, service);
        labels["endpointslice.kubernetes.io/managed-by"] = json!("endpointslice-controller.k8s.io");
        labels["kubernetes.io/service-name"] = json!(service);
        json!({
            "metadata": {
                "name": key.name,
                "generateName": format!("{service}-"),
                "namespace": key.namespace,
                "uid": uid(SLICE + u32::from(family == IpFamily::V6), n),
                "resourceVersion": version.to_string(),
                "generation": 7,
                "creationTimestamp": WHEN,
                "labels": labels,
                "annotations": { "endpoints.kubernetes.io/last-change-trigger-time": WHEN },
                "ownerReferences": [{
                    "apiVersion": "v1",
                    "kind": "Service",
                    "name": service,
                    "uid": owner,
                    "controller": true,
                    "blockOwnerDeletion": true,
                }],
                "managedFields": managed("kube-controller-manager", "discovery.k8s.io/v1", &slice_fields(&owner)),
            },
            "addressType": family.to_string(),
            "endpoints": (0..self.endpoints + more).map(|k| self.endpoint_object(n, k, family)).collect::<Vec<_>>(),
            "ports": [{ "name": "http", "protocol": "TCP", "port": TARGET }],
        })
    }

    fn endpoint_object(&self, n: u32, k: u32, family: IpFamily) -> Value {
        let (service, node) = (key(n, ""), self.node_of(n, k));
        json!({
            "addresses": [self.endpoint(n, k, family)],
            "conditions": { "ready": true, "serving": true, "terminating": false },
            "targetRef": {
                "kind": "Pod",
                "namespace": service.namespace,
                "name": format!("{}-7d9c5b8f6d-{k:05x}", service.name),
                "uid": uid(POD + k, n),
            },
            "nodeName": format!("node{node}"),
            "zone": format!("zone-{}", node % 3),
        })
    }
}

/// This node, without `kind` and `apiVersion`.
pub fn node_object() -> Value {
    let mut addresses: Vec<Value> = node()
        .addresses
        .iter()
        .map(|address| json!({ "type": "InternalIP", "address": address }))
        .collect();
    addresses.push(json!({ "type": "Hostname", "address": NODE }));
    json!({
        "metadata": {
            "name": NODE,
            "uid": uid(0, 1),
            "resourceVersion": "99999",
            "creationTimestamp": WHEN,
            "labels": { "kubernetes.io/hostname": NODE, "kubernetes.io/os": "linux" },
        },
        "spec": { "podCIDRs": pod_ranges() },
        "status": { "addresses": addresses, "conditions": [{ "type": "Ready", "status": "True" }] },
    })
}

/// The ServiceCIDR that an API server makes from its flag.
pub fn service_cidr_object() -> Value {
    json!({
        "metadata": { "name": "kubernetes", "uid": uid(0, 2), "resourceVersion": "2", "creationTimestamp": WHEN },
        "spec": { "cidrs": service_ranges() },
        "status": {},
    })
}

fn labels(n: u32, name: &str) -> Value {
    json!({
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/managed-by": "Helm",
        "app.kubernetes.io/name": name,
        "app.kubernetes.io/version": format!("1.27.{n}"),
        "helm.sh/chart": format!("{name}-4.2.1"),
    })
}

fn managed(manager: &str, version: &str, fields: &Value) -> Value {
    json!([{
        "manager": manager,
        "operation": "Update",
        "apiVersion": version,
        "time": WHEN,
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    }])
}

fn service_fields() -> Value {
    json!({
        "f:metadata": {
            "f:annotations": {
                ".": {},
                "f:meta.helm.sh/release-name": {},
                "f:meta.helm.sh/release-namespace": {},
                "f:prometheus.io/port": {},
                "f:prometheus.io/scrape": {},
            },
            "f:labels": label_fields(&[]),
        },
        "f:spec": {
            "f:internalTrafficPolicy": {},
            "f:ipFamilyPolicy": {},
            "f:ports": {
                ".": {},
                "k:{\"port\":80,\"protocol\":\"TCP\"}":
                    { ".": {}, "f:name": {}, "f:port": {}, "f:protocol": {}, "f:targetPort": {} },
            },
            "f:selector": {},
            "f:sessionAffinity": {},
            "f:type": {},
        },
    })
}

fn slice_fields(owner: &str) -> Value {
    let owner = format!("k:{{\"uid\":\"{owner}\"}}");
    json!({
        "f:addressType": {},
        "f:endpoints": {},
        "f:metadata": {
            "f:annotations": { ".": {}, "f:endpoints.kubernetes.io/last-change-trigger-time": {} },
            "f:generateName": {},
            "f:labels": label_fields(&["f:endpointslice.kubernetes.io/managed-by", "f:kubernetes.io/service-name"]),
            "f:ownerReferences": { ".": {}, owner: {} },
        },
        "f:ports": {},
    })
}

fn label_fields(more: &[&str]) -> Value {
    let mut fields = json!({
        ".": {},
        "f:app.kubernetes.io/instance": {},
        "f:app.kubernetes.io/managed-by": {},
        "f:app.kubernetes.io/name": {},
        "f:app.kubernetes.io/version": {},
        "f:helm.sh/chart": {},
    });
    for name in more {
        fields[name] = json!({});
    }
    fields
}

fn uid(kind: u32, n: u32) -> String {
    let digits = format!("{kind:08x}{:08x}{:016x}", n.wrapping_mul(0x9e37_79b9), n);
    format!(
        "{}-{}-4{}-a{}-{}",
        &digits[..8],
        &digits[8..12],
        &digits[13..16],
        &digits[17..20],
        &digits[20..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_name_what_objects_name() {
        let shape = Shape::dual_stack(200, 3);
        let service = shape.service_object(7);
        assert_eq!(
            service["spec"]["clusterIPs"][1],
            shape.cluster_ip(7, IpFamily::V6).to_string()
        );
        let (text, object) = (
            shape.slice_object(7, IpFamily::V4, 1, 5),
            shape.slice(7, IpFamily::V4, 1),
        );
        assert_eq!(
            text["metadata"]["labels"]["kubernetes.io/service-name"],
            *object.service
        );
        let addresses = text["endpoints"]
            .as_array()
            .unwrap()
            .iter()
            .map(|endpoint| &endpoint["addresses"][0]);
        let same = addresses.eq(object
            .endpoints
            .iter()
            .map(|endpoint| endpoint.addr.to_string())
            .collect::<Vec<_>>()
            .iter());
        assert!(same, "{text}");
    }

    #[test]
    fn uids_differ_and_have_their_form() {
        assert_ne!(uid(1, 7), uid(2, 7));
        assert_ne!(uid(1, 7), uid(1, 8));
        assert_eq!(uid(1, 7).split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
    }
}
