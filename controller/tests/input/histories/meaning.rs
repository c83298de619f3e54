//! Rows as a packet sees them: without ids and slots. Rows that make no sense fail the test.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use tandem_core::family::Family;
use tandem_core::id::{EndpointId, ServiceId};
use tandem_core::row::{Class, Endpoint, Frontend, L4Address, Pick, Row};

/// The meaning of rows, line by line.
pub(crate) type Meaning = BTreeSet<String>;

pub(crate) fn frontend_text<F: Family>(frontend: &Frontend<F>) -> String {
    match frontend {
        Frontend::Address { class, at } => {
            let class = match class {
                Class::Cluster => "cluster",
                Class::External => "external",
            };
            format!("{class} {}", socket(at))
        }
        Frontend::NodePort { protocol, port } => format!("nodePort {port}/{protocol}"),
    }
}

fn socket<F: Family>(at: &L4Address<F>) -> String {
    let addr: IpAddr = at.addr.into();
    format!("{}/{}", SocketAddr::new(addr, at.port.get()), at.protocol)
}

fn endpoint<F: Family>(endpoint: &Endpoint<F>) -> String {
    SocketAddr::new(endpoint.addr.into(), endpoint.port.get()).to_string()
}

/// The content of each list, by slot.
fn lists<F: Family>(rows: &[Row<F>]) -> BTreeMap<ServiceId, BTreeMap<u16, String>> {
    let ids: BTreeMap<EndpointId, String> = rows
        .iter()
        .filter_map(|row| match row {
            Row::EndpointId { id, endpoint: to } => Some((*id, endpoint(to))),
            _ => None,
        })
        .collect();
    let mut lists: BTreeMap<ServiceId, BTreeMap<u16, String>> = BTreeMap::new();
    let mut used = BTreeSet::new();
    for row in rows {
        let (service, slot, to) = match row {
            Row::Endpoint {
                service,
                slot,
                endpoint: to,
            } => (service, slot, endpoint(to)),
            Row::StickyEndpoint { service, slot, id } => {
                assert!(used.insert(*id), "{id} is in two slots");
                assert_eq!(id.service(), *service, "a remembered endpoint leads elsewhere");
                (
                    service,
                    slot,
                    ids.get(id).expect("an endpoint id that leads somewhere").clone(),
                )
            }
            _ => continue,
        };
        let before = lists.entry(*service).or_default().insert(*slot, to);
        assert_eq!(before, None, "two endpoints in one slot");
    }
    assert_eq!(used.len(), ids.len(), "an endpoint id that is in no list");
    lists
}

/// The meaning of these rows. It fails if they have none.
pub(crate) fn meaning<F: Family>(rows: &[Row<F>]) -> Meaning {
    let mut lists = lists(rows);
    let mut picks = BTreeMap::new();
    for row in rows {
        let Row::Service { service, pick, label } = row else {
            continue;
        };
        let slots = lists.remove(service).unwrap_or_default();
        let count = match pick {
            Pick::Any { count } | Pick::Sticky { count, .. } => count.get(),
            Pick::Refuse | Pick::Discard => 0,
        };
        assert!(slots.keys().copied().eq(0..count), "{label}: {pick:?} of {slots:?}");
        assert!(!matches!(pick, Pick::Sticky { .. }) || service.is_sticky(), "{label}");
        let endpoints: BTreeSet<String> = slots.values().cloned().collect();
        assert_eq!(endpoints.len(), slots.len(), "{label}: one endpoint twice");
        let list = if service.is_local() { "local" } else { "all" };
        let text = format!("{label} {list} {pick:?} {endpoints:?}");
        assert_eq!(picks.insert(*service, (label.clone(), text)), None);
    }
    assert!(lists.is_empty(), "endpoints of no Service: {lists:?}");
    let mut lines: Meaning = picks.values().map(|(_, text)| format!("list {text}")).collect();
    let sockets: BTreeSet<String> = rows
        .iter()
        .filter_map(|row| match row {
            Row::Frontend {
                frontend: Frontend::Address { at, .. },
                ..
            } => Some(socket(at)),
            _ => None,
        })
        .collect();
    for row in rows {
        let line = match row {
            Row::Frontend {
                frontend,
                service,
                label,
            } => {
                let (list_of, list) = picks.get(service).expect("a frontend that leads somewhere");
                assert_eq!(label, list_of, "a frontend that leads to another Service");
                format!("{} leads to {list}", frontend_text(frontend))
            }
            Row::ClusterIp { addr } => format!("clusterIP {addr}"),
            Row::ServiceCidr { net } => format!("service range {net}"),
            Row::LocalPods { net } => format!("pods {net}"),
            Row::NodeAddress { addr } => format!("node address {addr}"),
            Row::LocalEndpoint { addr } => format!("hairpin {addr}"),
            Row::Restricted { at } => {
                assert!(sockets.contains(&socket(at)), "nobody is kept from {}", socket(at));
                format!("{} is not for everyone", socket(at))
            }
            Row::AllowedSource { at, source } => {
                assert!(sockets.contains(&socket(at)), "nobody may reach {}", socket(at));
                format!("{} from {source}", socket(at))
            }
            Row::Spread { .. } => panic!("a data plane does not store {row}"),
            Row::Service { .. } | Row::Endpoint { .. } | Row::StickyEndpoint { .. } | Row::EndpointId { .. } => {
                continue;
            }
        };
        assert!(lines.insert(line.clone()), "twice: {line}");
    }
    lines
}
