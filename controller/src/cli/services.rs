//! `tandem services`

use std::net::SocketAddr;

use clap::Args;
use tandem_core::object::is_name;

use crate::api::{AnswersView, ConnectionsView, Document, EndpointsView, List, PortView, ServiceView, TakenView, get};

use super::format::{Table, age, print, structured};
use super::{Agent, AskError, Output, block_on};

/// List the Services that this node serves, and the endpoints that they have here.
///
/// The columns IPV4 and IPV6 say how many endpoints a new connection may reach in that family. "3, local 1" means that
/// a traffic policy is Local. "refused" or "discarded" means that there are none. "-" means that the Service has no
/// ClusterIP of that family. "set aside" means that its last change was refused, and that what was programmed before
/// stays. If an older Service has an address or nodePort, it is marked "(taken)", or "(taken:80/TCP)" if that is so for
/// some ports only. If there are several addresses, the first is shown, and how many more there are ("+1"). `-o wide`
/// shows all addresses, and adds the policies, affinity, who answers programs on this node and in its pods (sockets or
/// nftables, and why; both are shown where they differ), who answers packets from outside (xdp or nftables), how many connections there were since the Service was programmed,
/// and problems. `-o json` has every endpoint: of one Service as a `Service`, of several as a `ServiceList` with `items`.
///
/// Exits with 3 if no agent answers, or if it does not know the Service.
#[derive(Args)]
#[command(after_help = "Examples:\n  tandem services -A\n  tandem services -n shop web -o yaml")]
pub(super) struct Services {
    /// Only this Service (with -n, or in namespace "default").
    name: Option<String>,
    /// Only this namespace. "default" if neither -n nor -A is given.
    #[arg(short, long, value_name = "NAMESPACE", conflicts_with = "all_namespaces")]
    namespace: Option<String>,
    /// All namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Another form than a table.
    #[arg(short, long, value_enum)]
    output: Option<Output>,
    #[command(flatten)]
    agent: Agent,
}

impl Services {
    pub(super) fn run(self) -> Result<(), AskError> {
        let namespace = self.namespace.as_deref().unwrap_or("default");
        if let Some(text) = [Some(namespace), self.name.as_deref()]
            .into_iter()
            .flatten()
            .find(|text| !is_name(text))
        {
            return Err(AskError::Usage(format!(
                "{text:?} is not a name: letters, digits, - and . only"
            )));
        }
        let query = match (&self.name, self.all_namespaces) {
            (Some(_), true) => {
                return Err(AskError::Usage(
                    "a Service by name needs its namespace (-n), not -A".into(),
                ));
            }
            (Some(name), false) => format!("/v1/services?namespace={namespace}&name={name}"),
            (None, true) => "/v1/services".to_owned(),
            (None, false) => format!("/v1/services?namespace={namespace}"),
        };
        // The short table does not show them, and the kernel would have to list every Service port.
        let query = match self.output {
            None => query,
            Some(_) if query.contains('?') => format!("{query}&connections=yes"),
            Some(_) => format!("{query}?connections=yes"),
        };
        let services = if self.name.is_some() {
            let service: Document<ServiceView> = block_on(get(&self.agent.socket, &query))??;
            if structured(&service, self.output)? {
                return Ok(());
            }
            vec![service.body]
        } else {
            let list: List<ServiceView> = block_on(get(&self.agent.socket, &query))??;
            if structured(&list, self.output)? {
                return Ok(());
            }
            list.items
        };
        if services.is_empty() {
            let place = if self.all_namespaces {
                "any namespace".into()
            } else {
                format!("namespace {namespace}")
            };
            eprintln!("No Services found in {place}.");
            return Ok(());
        }
        print(&table(
            &services,
            self.all_namespaces,
            self.output == Some(Output::Wide),
        ))?;
        Ok(())
    }
}

fn table(services: &[ServiceView], all_namespaces: bool, wide: bool) -> String {
    let mut headings = vec![
        "NAME",
        "TYPE",
        "CLUSTER-IP",
        "EXTERNAL-IP",
        "PORT(S)",
        "IPV4",
        "IPV6",
        "AGE",
    ];
    if all_namespaces {
        headings.insert(0, "NAMESPACE");
    }
    if wide {
        headings.extend([
            "INTERNAL",
            "EXTERNAL",
            "AFFINITY",
            "FROM-INSIDE",
            "FROM-OUTSIDE",
            "CONNECTIONS",
            "PROBLEMS",
        ]);
    }
    let mut table = Table::new(&headings);
    for service in services {
        let marked = |address: &String| format!("{address}{}", mark(service, address));
        let cluster: Vec<String> = service.cluster_ips.iter().map(marked).collect();
        let external = service.load_balancer_ips.iter().chain(&service.external_ips);
        let external: Vec<String> = external.map(marked).collect();
        let mut row = vec![
            service.name.clone(),
            service.kind.clone(),
            addresses(&cluster, wide),
            addresses(&external, wide),
            service.ports.iter().map(port).collect::<Vec<_>>().join(","),
            endpoints(service, "IPv4"),
            endpoints(service, "IPv6"),
            service.age_seconds.map_or_else(|| "<unknown>".to_owned(), age),
        ];
        if all_namespaces {
            row.insert(0, service.namespace.clone());
        }
        if wide {
            row.push(service.internal_traffic_policy.clone());
            row.push(service.external_traffic_policy.clone());
            row.push(
                service
                    .session_affinity_seconds
                    .map(|seconds| format!("{seconds}s"))
                    .unwrap_or_default(),
            );
            row.push(from_inside(service));
            row.push(from_outside(service));
            row.push(connections(service));
            row.push(service.problems.join("; "));
        }
        table.row(row);
    }
    table.print()
}

/// Who answers programs on the node and in its pods. Each different answer is shown once.
fn from_inside(service: &ServiceView) -> String {
    let families = service.ports.iter().flat_map(|port| &port.families);
    let mut cells: Vec<String> = families
        .map(|port| match (answers(&port.from_node), answers(&port.from_pods)) {
            (node, pods) if node == pods => node,
            (node, pods) => format!("node: {node}, pods: {pods}"),
        })
        .collect();
    cells.sort();
    cells.dedup();
    cells.join("; ")
}

/// Who answers packets from outside. Each different answer is shown once.
fn from_outside(service: &ServiceView) -> String {
    let families = service.ports.iter().flat_map(|port| &port.families);
    let mut cells: Vec<String> = families
        .filter_map(|port| port.from_outside.as_ref().map(answers))
        .collect();
    cells.sort();
    cells.dedup();
    cells.join("; ")
}

/// Who answers, and why nftables if the configuration asks for others.
fn answers(view: &AnswersView) -> String {
    match &view.why_nftables {
        Some(except) if view.by != "nftables" => format!("{} (except {except})", view.by),
        Some(why) => format!("{} ({why})", view.by),
        None => view.by.clone(),
    }
}

/// The connections of all ports, and how many of them sockets were translated for, and XDP has.
fn connections(service: &ServiceView) -> String {
    let families = service.ports.iter().flat_map(|port| &port.families);
    let counted: Vec<ConnectionsView> = families.filter_map(|port| port.connections).collect();
    let sockets: u64 = counted.iter().map(|count| count.sockets).sum();
    let xdp: u64 = counted.iter().map(|count| count.xdp).sum();
    let all: u64 = sockets + xdp + counted.iter().map(|count| count.nftables).sum::<u64>();
    let by = [(sockets, "sockets"), (xdp, "xdp")]
        .into_iter()
        .filter(|(count, _)| *count > 0);
    let by: Vec<String> = by.map(|(count, who)| format!("{count} by {who}")).collect();
    if by.is_empty() {
        all.to_string()
    } else {
        format!("{all} ({})", by.join(", "))
    }
}

/// Addresses as kubectl prints them: the first one, and how many more there are. The wide table has all of them.
fn addresses(list: &[String], wide: bool) -> String {
    match list {
        [first, more @ ..] if !wide && !more.is_empty() => format!("{first} +{}", more.len()),
        _ => list.join(","),
    }
}

/// The mark of an address whose ports lead to other Services: all ports, or those that it names.
fn mark(service: &ServiceView, address: &str) -> String {
    let at = |frontend: &str| {
        let socket = frontend.parse::<SocketAddr>();
        socket.is_ok_and(|socket| socket.ip().to_string() == address)
    };
    let has = |port: &PortView| {
        port.families
            .iter()
            .any(|family| family.frontends.iter().any(|it| at(it)))
    };
    let lacks = |port: &&PortView| {
        let mut families = port.families.iter();
        families.any(|family| family.taken.iter().any(|taken| at(&taken.frontend)))
    };
    let taken: Vec<String> = service
        .ports
        .iter()
        .filter(lacks)
        .map(|port| format!("{}/{}", port.port, port.protocol))
        .collect();
    match taken.is_empty() {
        true => String::new(),
        false if service.ports.iter().any(has) => format!("(taken:{})", taken.join(",")),
        false => "(taken)".into(),
    }
}

/// A port in kubectl's form: `80:30080/TCP`.
fn port(port: &PortView) -> String {
    match port.node_port {
        Some(node_port) => {
            let is = |taken: &TakenView| taken.frontend == format!("nodePort {node_port}");
            let taken = port.families.iter().any(|family| family.taken.iter().any(is));
            let mark = if taken { "(taken)" } else { "" };
            format!("{}:{node_port}{mark}/{}", port.port, port.protocol)
        }
        None => format!("{}/{}", port.port, port.protocol),
    }
}

/// The number of endpoints of the ports. Each different number is shown once.
fn endpoints(service: &ServiceView, family: &str) -> String {
    let count = |list: &EndpointsView| match list.empty.as_deref().and_then(|empty| empty.split(':').next()) {
        Some(empty) => empty.to_owned(),
        None => list.endpoints.len().to_string(),
    };
    let families = service
        .ports
        .iter()
        .flat_map(|port| &port.families)
        .filter(|port| port.family == family);
    let mut cells: Vec<String> = families
        .filter_map(|port| match (&port.all, &port.local) {
            _ if port.set_aside => Some("set aside".to_owned()),
            (Some(all), Some(local)) => Some(format!("{}, local {}", count(all), count(local))),
            (Some(all), None) => Some(count(all)),
            (None, Some(local)) => Some(format!("local {}", count(local))),
            (None, None) => None,
        })
        .collect();
    cells.dedup();
    if cells.is_empty() { "-".into() } else { cells.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service() -> ServiceView {
        serde_json::from_value(serde_json::json!({
            "namespace": "shop", "name": "web", "type": "NodePort", "clusterIPs": ["10.96.0.1", "fd00:10:96::1"],
            "externalIPs": [], "loadBalancerIPs": ["203.0.113.1"], "loadBalancerSourceRanges": [],
            "internalTrafficPolicy": "Cluster", "externalTrafficPolicy": "Local", "sessionAffinitySeconds": 10_800,
            "ageSeconds": 60, "problems": [],
            "ports": [{
                "name": "http", "protocol": "TCP", "port": 80, "nodePort": 30_080,
                "families": [
                    { "family": "IPv4", "frontends": [], "all": { "endpoints": ["10.0.0.1:80", "10.0.0.2:80"] },
                      "local": { "endpoints": [], "empty": "discarded: no usable endpoint on this node" } },
                ],
            }],
        }))
        .unwrap()
    }

    #[test]
    fn the_table_looks_like_kubectls() {
        insta::assert_snapshot!(table(&[service()], true, false), @r"
        NAMESPACE   NAME   TYPE       CLUSTER-IP     EXTERNAL-IP   PORT(S)        IPV4                 IPV6   AGE
        shop        web    NodePort   10.96.0.1 +1   203.0.113.1   80:30080/TCP   2, local discarded   -      60s
        ");
    }

    #[test]
    fn what_an_older_service_has_is_marked() {
        let mut web = service();
        let taken = |frontend: &str| TakenView {
            frontend: frontend.into(),
            by: "shop/old:http".into(),
        };
        web.ports[0].families[0].frontends = vec!["10.96.0.1:80".into()];
        web.ports[0].families[0].taken = vec![taken("203.0.113.1:80"), taken("nodePort 30080")];
        let mut both = web.clone();
        both.ports.push(both.ports[0].clone());
        both.ports[1].port = 443;
        both.ports[1].node_port = None;
        both.ports[1].families[0].taken.clear();
        both.ports[1].families[0].frontends = vec!["203.0.113.1:443".into()];
        let mut old = service();
        old.ports[0].families[0].set_aside = true;
        insta::assert_snapshot!(table(&[web, both, old], false, false), @r"
        NAME   TYPE       CLUSTER-IP     EXTERNAL-IP                 PORT(S)                       IPV4                 IPV6   AGE
        web    NodePort   10.96.0.1 +1   203.0.113.1(taken)          80:30080(taken)/TCP           2, local discarded   -      60s
        web    NodePort   10.96.0.1 +1   203.0.113.1(taken:80/TCP)   80:30080(taken)/TCP,443/TCP   2, local discarded   -      60s
        web    NodePort   10.96.0.1 +1   203.0.113.1                 80:30080/TCP                  set aside            -      60s
        ");
    }

    #[test]
    fn wide_adds_policies_and_affinity() {
        let mut web = service();
        let by = |by: &str, why: Option<&str>| AnswersView {
            by: by.to_owned(),
            why_nftables: why.map(str::to_owned),
        };
        let family = &mut web.ports[0].families[0];
        (family.from_node, family.from_pods) = (by("sockets", None), by("sockets", None));
        family.connections = Some(ConnectionsView {
            nftables: 5,
            sockets: 7,
            xdp: 2,
        });
        family.from_outside = Some(by("xdp", None));
        let mut other = web.ports[0].clone();
        let family = &mut other.families[0];
        (family.from_node, family.from_pods) = (by("nftables", Some("SCTP")), by("nftables", Some("SCTP")));
        family.from_outside = Some(by("nftables", Some("SCTP")));
        family.connections = None;
        web.ports.push(other);
        let wide = table(&[web], false, true);
        assert!(wide.contains(" 10.96.0.1,fd00:10:96::1 "), "{wide}");
        assert!(
            wide.lines().next().unwrap().ends_with(
                "AFFINITY   FROM-INSIDE                FROM-OUTSIDE           CONNECTIONS                   PROBLEMS"
            ),
            "{wide}"
        );
        assert!(
            wide.lines().nth(1).unwrap().ends_with(
                "10800s     nftables (SCTP); sockets   nftables (SCTP); xdp   14 (7 by sockets, 2 by xdp)   <none>"
            ),
            "{wide}"
        );
    }

    #[test]
    fn who_answers_the_node_and_who_answers_pods_are_both_shown_where_they_differ() {
        let cell = |node: (&str, Option<&str>), pods: (&str, Option<&str>)| {
            let view = |(by, why): (&str, Option<&str>)| AnswersView {
                by: by.to_owned(),
                why_nftables: why.map(str::to_owned),
            };
            let mut web = service();
            let family = &mut web.ports[0].families[0];
            (family.from_node, family.from_pods) = (view(node), view(pods));
            from_inside(&web) + "\n"
        };
        let (nft, sockets) = (("nftables", None), ("sockets", None));
        let cells = [
            cell(nft, nft),
            cell(sockets, sockets),
            cell(sockets, ("nftables", Some("socketLoadBalancing: node"))),
            cell(sockets, ("sockets", Some("ClusterIP: masqueradeAll"))),
        ];
        insta::assert_snapshot!(cells.concat(), @r"
        nftables
        sockets
        node: sockets, pods: nftables (socketLoadBalancing: node)
        node: sockets, pods: sockets (except ClusterIP: masqueradeAll)
        ");
    }
}
