//! What the local API says, as it is written in JSON and YAML. Made out of a snapshot when somebody asks.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tandem_core::family::{Family, IpFamily, V4, V6};
use tandem_core::node::NodeRows;
use tandem_core::object::{ObjectKey, Service, TrafficPolicy};
use tandem_core::plan::{FrontendPlan, NoEndpoints, PortPlan, Usable, plan};
use tandem_core::row::{Class, Frontend};

use crate::config::FileState;
use crate::conntrack::Status as Flows;
use crate::engine::{FamilyStatus, Place, Snapshot};
use crate::event::Reach;
use crate::index::Entry;

use super::problems::{of_agent, of_service};

/// A Service as Tandem makes it work.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are named as in the Kubernetes API")]
pub struct ServiceView {
    pub namespace: String,
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Vec<String>,
    #[serde(rename = "externalIPs")]
    pub external_ips: Vec<String>,
    #[serde(rename = "loadBalancerIPs")]
    pub load_balancer_ips: Vec<String>,
    pub load_balancer_source_ranges: Vec<String>,
    pub internal_traffic_policy: String,
    pub external_traffic_policy: String,
    pub session_affinity_seconds: Option<u32>,
    pub age_seconds: Option<u64>,
    pub ports: Vec<PortView>,
    pub problems: Vec<String>,
}

/// One port of a Service.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are named as in the Kubernetes API")]
pub struct PortView {
    pub name: String,
    pub protocol: String,
    pub port: u16,
    pub node_port: Option<u16>,
    /// Per family that the Service has.
    pub families: Vec<FamilyPortView>,
}

/// One port of a Service in one family.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FamilyPortView {
    /// `IPv4` or `IPv6`
    pub family: String,
    /// What leads here: `address:port`, or `nodePort N`
    pub frontends: Vec<String>,
    /// What the Service asks for, and another one has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken: Vec<TakenView>,
    /// The last change was refused: the rows in the kernel are those from before it, and not what stands here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub set_aside: bool,
    /// What frontends of traffic policy Cluster, pods and the node itself may use; none where nothing uses it.
    pub all: Option<EndpointsView>,
    /// What frontends of traffic policy Local may use; none where nothing uses it.
    pub local: Option<EndpointsView>,
}

/// A frontend that an older Service has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TakenView {
    /// `address:port`, or `nodePort N`
    pub frontend: String,
    /// The Service port that has it: `namespace/name:port`
    pub by: String,
}

/// A list of endpoints, and what a client sees where it is empty.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointsView {
    /// `address:port`
    pub endpoints: Vec<String>,
    /// Where there are none: `refused: …` or `discarded: …`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub empty: Option<String>,
}

/// How the agent is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusView {
    /// The agent's version.
    pub version: String,
    /// The node's name; empty while its object was not read.
    pub node: String,
    /// The name of the object that is looked for.
    #[serde(default)]
    pub node_looked_for: String,
    /// The node's addresses.
    pub node_addresses: Vec<String>,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// Whether every list was complete once; before that the kernel is left as it was found.
    pub complete: bool,
    /// How many Services are known.
    pub services: usize,
    /// How many EndpointSlices are known.
    pub endpoint_slices: usize,
    /// Per kind of object, whether it can be read: `watching`, or why not.
    pub sources: Vec<(String, String)>,
    /// IPv4, then IPv6.
    pub families: Vec<FamilyStatusView>,
    /// What is wrong with the node, with objects, and with the configuration.
    pub problems: Vec<ProblemView>,
    /// What of the configuration files is not in effect.
    #[serde(default)]
    pub configuration: ConfigurationView,
}

/// What of the configuration files is not in effect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigurationView {
    /// Why the files are not used as they are now; none where they are.
    pub rejected: Option<String>,
    /// Changes that wait for the next start: `field: old becomes new`.
    pub waiting: Vec<String>,
}

/// How one family is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FamilyStatusView {
    /// `IPv4` or `IPv6`
    pub family: String,
    /// The table's name for nft.
    pub table: String,
    /// Who may change the table; none while it is not open.
    pub ownership: Option<String>,
    /// Rows in the kernel.
    pub rows: usize,
    /// Rows that the start found there.
    pub rows_adopted: usize,
    /// Ranges that ClusterIPs are taken from.
    pub service_ranges: Vec<String>,
    /// Ranges whose sources count as pods.
    pub pod_ranges: Vec<String>,
    /// Addresses that take nodePort traffic.
    pub node_port_addresses: Vec<String>,
    /// Transactions that changed something.
    pub changes: u64,
    /// Seconds since the last one.
    pub last_change_seconds_ago: Option<f64>,
    /// Rows it touched.
    pub last_change_rows: usize,
    /// From handing it to the kernel to the kernel's acknowledgement.
    pub last_change_microseconds: u64,
    /// Why changes wait; none where they do not.
    pub last_error: Option<String>,
    /// Transactions that failed as a whole.
    pub failures: u64,
    /// Services that are not, or not wholly, programmed.
    pub set_aside: usize,
    /// New connections whose client could not be remembered for session affinity, since the table was made.
    #[serde(default)]
    pub unremembered: u64,
    /// Flows that changes made wrong; none before the first change.
    #[serde(default)]
    pub udp_flows: Option<UdpFlowsView>,
}

/// What became of flows whose endpoints, addresses or Services are gone, or came too late for them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UdpFlowsView {
    /// Flows that were cut.
    pub cut: u64,
    /// Of them: UDP flows that an endpoint's last answer had begun.
    #[serde(default)]
    pub cut_turned: u64,
    /// Of them: TCP and SCTP connections that began before their frontend was there.
    #[serde(default)]
    pub cut_connecting: u64,
    /// How often flows were looked at after changes.
    pub reconciliations: u64,
    /// How often they were looked at once more.
    #[serde(default)]
    pub second_looks: u64,
    /// Seconds since the last time.
    pub last_seconds_ago: Option<f64>,
    /// How long that took.
    pub last_microseconds: u64,
    /// How many flows were read for it.
    pub last_read: u64,
    /// How often it failed.
    pub failures: u64,
    /// Why it failed the last time; none where it did not.
    pub last_error: Option<String>,
}

/// Something wrong with the node or an object.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProblemView {
    /// `Kind namespace/name`, `file name`, `configuration`, or a part of the node: `interface name`, `chain …`
    pub object: String,
    /// Where, what, and what happens instead.
    pub problem: String,
    /// Whether `tandem status` fails for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fatal: bool,
}

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
    /// The Service with this name; none where only its slices are known.
    pub(super) fn of(snapshot: &Snapshot, key: &ObjectKey) -> Option<Self> {
        let entry = snapshot.services.get(key)?;
        let service = entry.service.as_deref()?;
        let created = u64::try_from(service.created).ok().filter(|created| *created > 0);
        let age = created.map(|created| seconds_since(SystemTime::UNIX_EPOCH + Duration::from_secs(created)).as_secs());
        let ports = ports(snapshot, service, entry);
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

fn ports(snapshot: &Snapshot, service: &Service, entry: &Entry) -> Vec<PortView> {
    let nobody = tandem_core::object::Node::default();
    let node = snapshot.node.as_deref().unwrap_or(&nobody);
    let slices = entry.slices.iter().map(|slice| &**slice);
    // Of a Service that is too large there is nothing to show but the problem.
    let (v4, v6) = (plan::<V4>(service, &slices, node), plan::<V6>(service, &slices, node));
    let (v4, v6) = (v4.unwrap_or_default(), v6.unwrap_or_default());
    let families = service.cluster_ips.iter().map(|addr| IpFamily::of(*addr));
    let families: Vec<IpFamily> = families.collect();
    let view = |at: usize| {
        let port = &service.ports[at];
        let one = |family: &IpFamily| match family {
            IpFamily::V4 => v4.get(at).map(|plan| family_port(plan, &snapshot.v4)),
            IpFamily::V6 => v6.get(at).map(|plan| family_port(plan, &snapshot.v6)),
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

fn family_port<F: Family>(plan: &PortPlan<F>, status: &FamilyStatus) -> FamilyPortView {
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
    let (mut frontends, mut taken) = (Vec::new(), Vec::new());
    for FrontendPlan { frontend: wanted, .. } in &plan.frontends {
        let frontend = frontend(wanted);
        match holder(wanted) {
            Some(by) => taken.push(TakenView {
                frontend,
                by: by.to_string(),
            }),
            None => frontends.push(frontend),
        }
    }
    FamilyPortView {
        family: F::FAMILY.to_string(),
        frontends,
        taken,
        set_aside: status.kept.contains(&plan.key.service),
        all: plan.all.as_ref().map(list),
        local: plan.local.as_ref().map(list),
    }
}

impl StatusView {
    /// `flows`: of IPv4 and IPv6.
    pub(super) fn new(snapshot: &Snapshot, files: &FileState, flows: &[Arc<Flows>; 2]) -> Self {
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
            families: vec![
                FamilyStatusView::new("ip tandem", &snapshot.v4, &snapshot.node_v4, flows_v4),
                FamilyStatusView::new("ip6 tandem", &snapshot.v6, &snapshot.node_v6, flows_v6),
            ],
            problems: of_agent(snapshot, files),
            configuration: ConfigurationView {
                rejected: files.rejected.clone(),
                waiting: files.waiting.clone(),
            },
        }
    }
}

impl FamilyStatusView {
    fn new<F: Family>(table: &str, status: &FamilyStatus, node: &NodeRows<F>, flows: &Flows) -> Self {
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
        let problems = StatusView::new(&snapshot, &FileState::default(), &Default::default()).problems;
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
        let status = StatusView::new(&Snapshot::empty(SystemTime::now()), &files, &Default::default());
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
