//! Fills a real API server with a synthetic cluster.

use std::time::Instant;

use anyhow::Result;
use serde_json::{Value, json};
use tandem_core::family::IpFamily;
use tandem_tests::cluster::Cluster;

use crate::report::{note, setting};
use crate::synthetic::{NODE, PORT, Shape, TARGET};

/// The namespace of all Services.
pub const NAMESPACE: &str = "default";

/// Makes the Services and their slices.
pub fn load(cluster: &Cluster, shape: Shape) -> Result<()> {
    let started = Instant::now();
    let connections = setting("CONNECTIONS", 32)?;
    let objects: Vec<Value> = (0..shape.services)
        .flat_map(|n| [service(n), slice(shape, n, IpFamily::V4), slice(shape, n, IpFamily::V6)])
        .collect();
    for (done, part) in objects.chunks(3000).enumerate() {
        cluster.api().create_all(part, connections)?;
        let (made, took) = (done * 3000 + part.len(), started.elapsed().as_secs_f64());
        note(format_args!("{made} of {} objects made in {took:.0} s", objects.len()));
    }
    Ok(())
}

fn service(n: u32) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "namespace": NAMESPACE, "name": format!("service-{n}") },
        "spec": {
            "ipFamilyPolicy": "RequireDualStack",
            "ports": [{ "name": "http", "protocol": "TCP", "port": PORT, "targetPort": TARGET }],
        },
    })
}

fn slice(shape: Shape, n: u32, family: IpFamily) -> Value {
    let mut slice = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": NAMESPACE,
            "name": slice_name(n, family),
            "labels": { "kubernetes.io/service-name": format!("service-{n}") },
        },
        "addressType": family.to_string(),
        "ports": [{ "name": "http", "protocol": "TCP", "port": TARGET }],
    });
    slice["endpoints"] = endpoints(shape, n, family, 0)["endpoints"].take();
    slice
}

/// The name of the slice of Service `n` in one family.
pub fn slice_name(n: u32, family: IpFamily) -> String {
    format!("service-{n}-{}", family.to_string().to_lowercase())
}

/// A change that sets the endpoints of a slice: `more` than usual, none or one.
pub fn endpoints(shape: Shape, n: u32, family: IpFamily, more: u32) -> Value {
    let endpoint = |k| {
        json!({
            "addresses": [shape.endpoint(n, k, family)],
            "conditions": { "ready": true, "serving": true, "terminating": false },
            "nodeName": NODE,
        })
    };
    json!({ "endpoints": (0..shape.endpoints + more).map(endpoint).collect::<Vec<_>>() })
}
