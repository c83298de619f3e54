//! The expected frontends and their owners. They are computed from the objects' JSON, without code of Tandem.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::objects::{Id, Version};

#[derive(Default)]
pub(crate) struct Expected {
    /// Frontend -> `namespace/name:port`
    pub(crate) owners: BTreeMap<String, String>,
    /// The Service ports that are programmed.
    pub(crate) lists: BTreeSet<String>,
}

fn texts<'v>(list: &'v Value, field: &str) -> Vec<&'v str> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(|item| {
        if field.is_empty() {
            item.as_str()
        } else {
            item[field].as_str()
        }
    })
    .collect()
}

pub(crate) fn frontends(objects: &[(Id, Version)]) -> Expected {
    let mut expected = Expected::default();
    let mut claims: BTreeMap<String, BTreeSet<(String, String)>> = BTreeMap::new();
    for (id, version) in objects {
        let (Id::Service(_), Version::Json(service)) = (id, version) else {
            continue;
        };
        let spec = &service["spec"];
        if spec["clusterIP"] == "None" {
            continue;
        }
        for (family, is_family) in [("IPv4", '.'), ("IPv6", ':')] {
            let of_family = |list: Vec<&'_ str>| -> Vec<String> {
                let list = list.into_iter().filter(|addr| addr.contains(is_family));
                list.map(|addr| {
                    if is_family == ':' {
                        format!("[{addr}]")
                    } else {
                        addr.to_owned()
                    }
                })
                .collect()
            };
            let cluster_ips = of_family(texts(&spec["clusterIPs"], ""));
            let Some(cluster_ip) = cluster_ips.first() else {
                continue;
            };
            let ingress = of_family(texts(&service["status"]["loadBalancer"]["ingress"], "ip"));
            let external = of_family(texts(&spec["externalIPs"], ""));
            for port in spec["ports"].as_array().unwrap() {
                let (number, protocol) = (&port["port"], port["protocol"].as_str().unwrap());
                let owner = format!("shop/{}:{}", id.name(), port["name"].as_str().unwrap());
                expected.lists.insert(format!("{family} {owner}"));
                let mut claim = |frontend: String| {
                    let created = service["metadata"]["creationTimestamp"].as_str().unwrap();
                    let rank = (created.to_owned(), owner.clone());
                    claims.entry(format!("{family} {frontend}")).or_default().insert(rank);
                };
                claim(format!("cluster {cluster_ip}:{number}/{protocol}"));
                for addr in ingress.iter().chain(&external) {
                    claim(format!("external {addr}:{number}/{protocol}"));
                }
                if !port["nodePort"].is_null() {
                    claim(format!("nodePort {}/{protocol}", port["nodePort"]));
                }
            }
        }
    }
    for (frontend, claims) in claims {
        // The oldest has the frontend, then the first by name.
        expected
            .owners
            .extend(claims.into_iter().next().map(|(_, owner)| (frontend, owner)));
    }
    expected
}
