//! Makes the answers of the local API from a snapshot. They are made only when somebody asks.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tandem_core::family::{Family, IpFamily, V4, V6};
use tandem_core::node::NodeRows;
use tandem_core::object::{Choice, ObjectKey, Service, TrafficPolicy};
use tandem_core::plan::{NoEndpoints, PortPlan, Usable, plan};
use tandem_core::row::{Class, Frontend};

use crate::config::FileState;
use crate::engine::{FamilyStatus, Place, Snapshot};
use crate::event::Reach;
use crate::flows::Status as Flows;
use crate::index::Entry;
use crate::xdp::State;

use super::inside::{Asker, Inside};
use super::outside::OutsideView;
use super::planes::{FollowerView, SocketsView};
use super::problems::{of_agent, of_service, of_sockets};
use super::view::{
    ConfigurationView, EndpointsView, FamilyPortView, FamilyStatusView, PortView, ServiceView, StatusView, TakenView,
    UdpFlowsView,
};

fn text<T: ToString>(items: impl IntoIterator<Item = T>) -> Vec<String> {
    items.into_iter().map(|item| item.to_string()).collect()
}

fn policy(policy: TrafficPolicy) -> String {
    match policy {
        TrafficPolicy::Cluster => "Cluster".into(),
        TrafficPolicy::Local => "Local".into(),
    }
}

fn seconds_since(then: SystemTime) -> Duration {
    SystemTime::now().duration_since(then).unwrap_or_default()
}

impl ServiceView {
    /// The Service with this name. None if only its slices are known.
    pub(super) fn of(snapshot: &Snapshot, key: &ObjectKey, inside: &Inside<'_>) -> Option<Self> {
        let entry = snapshot.services.get(key)?;
        let service = entry.service.as_deref()?;
        let created = u64::try_from(service.created).ok().filter(|created| *created > 0);
        let age = created.map(|created| seconds_since(SystemTime::UNIX_EPOCH + Duration::from_secs(created)).as_secs());
        let ports = ports(snapshot, service, entry, inside);
        Some(Self {
            namespace: key.namespace.to_string(),
            name: key.name.to_string(),
            kind: service.kind.to_string(),
            cluster_ips: text(&service.cluster_ips),
            external_ips: text(&service.external_ips),
            load_balancer_ips: text(&service.ingress_ips),
            load_balancer_source_ranges: text(&service.source_ranges),
            internal_traffic_policy: policy(service.internal_policy),
            external_traffic_policy: policy(service.external_policy),
            session_affinity_seconds: service.affinity,
            age_seconds: age,
            problems: of_service(snapshot, key, &ports),
            ports,
        })
    }
}

fn ports(snapshot: &Snapshot, service: &Service, entry: &Entry, inside: &Inside<'_>) -> Vec<PortView> {
    let nobody = tandem_core::object::Node::default();
    let node = snapshot.node.as_deref().unwrap_or(&nobody);
    let slices = entry.slices.iter().map(|slice| &**slice);
    // If a Service is too large, only its problem is shown.
    let usual = snapshot.usual_choice;
    let (v4, v6) = (
        plan::<V4>(service, &slices, node, usual),
        plan::<V6>(service, &slices, node, usual),
    );
    let (v4, v6) = (v4.unwrap_or_default(), v6.unwrap_or_default());
    let families = service.cluster_ips.iter().map(|addr| IpFamily::of(*addr));
    let families: Vec<IpFamily> = families.collect();
    let view = |at: usize| {
        let port = &service.ports[at];
        let one = |family: &IpFamily| match family {
            IpFamily::V4 => v4.get(at).map(|plan| family_port(plan, &snapshot.v4, inside)),
            IpFamily::V6 => v6.get(at).map(|plan| family_port(plan, &snapshot.v6, inside)),
        };
        PortView {
            name: port.name.to_string(),
            protocol: port.protocol.to_string(),
            port: port.port.get(),
            node_port: port.node_port.map(Into::into),
            families: families.iter().filter_map(one).collect(),
        }
    };
    (0..service.ports.len()).map(view).collect()
}

fn family_port<F: Family>(plan: &PortPlan<F>, status: &FamilyStatus, inside: &Inside<'_>) -> FamilyPortView {
    let socket = |addr: std::net::IpAddr, port: u16| std::net::SocketAddr::new(addr, port).to_string();
    let frontend = |frontend: &Frontend<F>| match frontend {
        Frontend::Address {
            class: Class::Cluster | Class::External,
            at,
        } => socket(at.addr.into(), at.port.get()),
        Frontend::NodePort { port, .. } => format!("nodePort {port}"),
    };
    let list = |usable: &Usable<F>| match usable {
        Usable::Endpoints(endpoints) => EndpointsView {
            endpoints: endpoints.iter().map(|e| socket(e.addr.into(), e.port.get())).collect(),
            empty: None,
        },
        Usable::None(reason) => EndpointsView {
            endpoints: Vec::new(),
            empty: Some(match reason {
                NoEndpoints::Anywhere => "refused: no usable endpoint".into(),
                NoEndpoints::OnThisNode => "discarded: no usable endpoint on this node".into(),
            }),
        },
    };
    let holder = |frontend: &Frontend<F>| status.disputes.holder(&Place::from(*frontend), &plan.key);
    let (mut own, mut taken) = (Vec::new(), Vec::new());
    for wanted in &plan.frontends {
        match holder(&wanted.frontend) {
            Some(by) => taken.push(TakenView {
                frontend: frontend(&wanted.frontend),
                by: by.to_string(),
            }),
            None => own.push(wanted),
        }
    }
    let who = |asker| inside.who(asker, plan, &own, status);
    FamilyPortView {
        family: F::FAMILY.to_string(),
        frontends: own.iter().map(|own| frontend(&own.frontend)).collect(),
        taken,
        set_aside: status.kept.contains(&plan.key.service),
        from_node: who(Asker::Node),
        from_pods: who(Asker::Pod),
        from_outside: inside.who_outside(plan, &own, status),
        connections: inside.connections(F::FAMILY, &plan.key),
        pick: plan.maglev.then(|| Choice::Maglev.name().to_owned()),
        all: plan.all.as_ref().map(list),
        local: plan.local.as_ref().map(list),
    }
}

impl StatusView {
    /// `flows` are those of IPv4 and of IPv6.
    pub(super) fn new(snapshot: &Snapshot, files: &FileState, flows: &[Arc<Flows>; 2], sockets: &State) -> Self {
        let [flows_v4, flows_v6] = flows;
        let reach = |reach: &Reach| match reach {
            Reach::Watching => "watching".to_owned(),
            Reach::Lost(reason) => reason.clone(),
        };
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            node: snapshot
                .node
                .as_ref()
                .map(|node| node.name.to_string())
                .unwrap_or_default(),
            node_looked_for: snapshot.node_name.to_string(),
            node_addresses: text(snapshot.node.iter().flat_map(|node| &node.addresses)),
            uptime_seconds: seconds_since(snapshot.started).as_secs(),
            complete: snapshot.complete,
            listed: snapshot.listed,
            stands_by: snapshot.stands_by,
            services: snapshot
                .services
                .values()
                .filter(|entry| entry.service.is_some())
                .count(),
            endpoint_slices: snapshot.slices,
            sources: snapshot
                .reach
                .iter()
                .map(|(kind, state)| (kind.to_string(), reach(state)))
                .collect(),
            sockets: SocketsView::of(sockets),
            outside: OutsideView::of(&sockets.outside),
            families: vec![
                FamilyStatusView::new("ip tandem", &snapshot.v4, &snapshot.node_v4, flows_v4, sockets),
                FamilyStatusView::new("ip6 tandem", &snapshot.v6, &snapshot.node_v6, flows_v6, sockets),
            ],
            problems: of_agent(snapshot, files)
                .into_iter()
                .chain(of_sockets(sockets, snapshot))
                .collect(),
            configuration: ConfigurationView {
                rejected: files.rejected.clone(),
                waiting: files.waiting.clone(),
            },
        }
    }
}

impl FamilyStatusView {
    fn new<F: Family>(table: &str, status: &FamilyStatus, node: &NodeRows<F>, flows: &Flows, sockets: &State) -> Self {
        Self {
            family: F::FAMILY.to_string(),
            table: table.into(),
            ownership: status.ownership.as_ref().map(ToString::to_string),
            rows: status.rows,
            rows_adopted: status.adopted,
            service_ranges: text(&node.service_cidrs),
            pod_ranges: text(&node.local_pods),
            node_port_addresses: text(&node.node_addresses),
            changes: status.changes,
            last_change_seconds_ago: status.last_change.map(|then| seconds_since(then).as_secs_f64()),
            last_change_rows: status.last_change_rows,
            last_change_microseconds: u64::try_from(status.last_change_took.as_micros()).unwrap_or(u64::MAX),
            last_error: status.last_error.as_ref().map(|(_, reason)| reason.clone()),
            failures: status.failures,
            set_aside: status.set_aside.len(),
            unremembered: status.unremembered,
            udp_flows: Some(UdpFlowsView::new(flows)),
            follower: FollowerView::of(&status.followed, F::FAMILY, sockets),
        }
    }
}

impl UdpFlowsView {
    fn new(status: &Flows) -> Self {
        Self {
            cut: status.cut,
            cut_turned: status.turned,
            cut_connecting: status.connecting,
            reconciliations: status.reconciliations,
            second_looks: status.second_looks,
            last_seconds_ago: status.last.map(|then| seconds_since(then).as_secs_f64()),
            last_microseconds: u64::try_from(status.last_took.as_micros()).unwrap_or(u64::MAX),
            last_read: status.last_read,
            failures: status.failures,
            last_error: status.last_error.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_with_faults_are_problems_like_those_of_objects() {
        let mut snapshot = Snapshot::empty(SystemTime::now());
        let faults = [("a.yaml".into(), vec!["line 3: no".to_owned(), "line 9: no".to_owned()])];
        snapshot.faults = Arc::new(faults.into());
        let problems =
            StatusView::new(&snapshot, &FileState::default(), &Default::default(), &State::default()).problems;
        let said: Vec<String> = problems
            .iter()
            .map(|p| format!("{}: {}", p.object, p.problem))
            .collect();
        assert_eq!(said, ["file a.yaml: line 3: no", "file a.yaml: line 9: no"]);
    }
    #[test]
    fn rejected_configuration_files_are_a_problem_and_changes_that_wait_are_shown_beside() {
        let files = FileState {
            rejected: Some("f: mode: wrong".into()),
            waiting: vec!["events: true becomes false".into()],
        };
        let status = StatusView::new(
            &Snapshot::empty(SystemTime::now()),
            &files,
            &Default::default(),
            &State::default(),
        );
        let [problem] = &status.problems[..] else {
            panic!("{:?}", status.problems);
        };
        assert_eq!(
            (problem.object.as_str(), problem.problem.as_str()),
            ("configuration", "f: mode: wrong: the configuration in use stays")
        );
        assert_eq!(status.configuration.waiting, files.waiting);
    }
}
