//! The ruleset that kube-proxy 1.36 writes for IPv4, as text for `nft -f`: a chain, a rule and an anonymous map for
//! every Service. Base chains and fixed rules are as in kube-proxy. No Service has a nodePort or a LoadBalancer.

use std::fmt::Write as _;

use tandem_core::family::IpFamily;

use crate::synthetic::{self, PORT, Shape, TARGET};

const BASE: &str = include_str!("kube_proxy/base.nft");

/// The whole ruleset of a cluster.
pub fn ruleset(shape: Shape) -> String {
    let pods = first(&synthetic::pod_ranges());
    let mut text = BASE
        .replace("@PODS@", &pods)
        .replace("@SERVICES@", &first(&synthetic::service_ranges()));
    for n in 0..shape.services {
        service(&mut text, shape, n);
    }
    text
}

fn first(ranges: &[ipnet::IpNet]) -> String {
    ranges.first().map(ToString::to_string).unwrap_or_default()
}

/// The part of one more ClusterIP Service: a chain, two elements and one rule.
fn service(text: &mut String, shape: Shape, n: u32) {
    let service = shape.service(n);
    let address = shape.cluster_ip(n, IpFamily::V4);
    let chain = format!("service-{:08X}-{}/tcp/http", n.wrapping_mul(0x9e37_79b9), service.key);
    let endpoints: Vec<String> = (0..shape.endpoints)
        .map(|k| format!("{k} : {} . {TARGET}", shape.endpoint(n, k, IpFamily::V4)))
        .collect();
    let (count, endpoints) = (shape.endpoints, endpoints.join(" , "));
    let _ = writeln!(
        text,
        "add chain ip kube-proxy {chain}\n\
         flush chain ip kube-proxy {chain}\n\
         add element ip kube-proxy cluster-ips {{ {address} }}\n\
         add element ip kube-proxy service-ips {{ {address} . tcp . {PORT} : goto {chain} }}\n\
         add rule ip kube-proxy {chain} meta l4proto tcp dnat ip addr . port to numgen random mod {count} map {{ {endpoints} }}"
    );
}
