//! Services.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use tandem_core::addr::{ParseError, Parsed, parse_endpoint, parse_net};
use tandem_core::family::{Families, IpFamily};
use tandem_core::object::{Choice, ObjectKey, Service, ServicePort, ServiceType, TrafficPolicy, is_name};

use super::notes::Notes;
use super::raw::{self, Meta, Text};
use super::{Decoded, Decoder, Raw, Why, ports};
use crate::event::{Object, ObjectKind};

/// For how many seconds a client is remembered if a Service does not say it (the API's default).
const DEFAULT_AFFINITY: u32 = 10_800;
/// The longest time that the API allows.
const MOST_AFFINITY: u32 = 86_400;
/// A list with more addresses is cut. Each address is a row for each port, and no load balancer gives so many.
const MOST_ADDRESSES: usize = 4096;

impl<'a> Raw<'a> for raw::Service<'a> {
    const KIND: ObjectKind = ObjectKind::Service;

    fn kind(&self) -> Option<&Text<'a>> {
        self.kind.as_ref()
    }

    fn meta(&self) -> Option<&Meta<'a>> {
        self.metadata.as_ref()
    }

    fn decode(self, decoder: &Decoder, key: ObjectKey, notes: &mut Notes) -> Decoded {
        let meta = self.metadata.unwrap_or_default();
        let spec = self.spec.unwrap_or_default();
        let cluster_ips = match why_ignored(&meta, &spec) {
            Ok(cluster_ips) => cluster_ips,
            Err(why) => return Decoded::Ignore(ObjectKind::Service, key, why),
        };
        let ingress = self
            .status
            .and_then(|status| status.load_balancer)
            .and_then(|balancer| balancer.ingress);
        let (source_ranges, restricted) =
            ranges(notes, spec.load_balancer_source_ranges.as_deref().unwrap_or_default());
        Decoded::Apply(Object::Service(Service {
            key,
            uid: meta.uid(),
            created: created(notes, meta.creation_timestamp.as_ref()),
            kind: service_type(notes, spec.kind.as_ref()),
            cluster_ips: cluster_addresses(notes, cluster_ips, spec.cluster_ip.as_ref()),
            external_ips: addresses(
                notes,
                "spec.externalIPs",
                spec.external_ips.as_deref().unwrap_or_default(),
            ),
            ingress_ips: ingress_addresses(notes, &ingress.unwrap_or_default()),
            restricted,
            source_ranges,
            internal_policy: policy(
                notes,
                "spec.internalTrafficPolicy",
                spec.internal_traffic_policy.as_ref(),
            ),
            external_policy: policy(
                notes,
                "spec.externalTrafficPolicy",
                spec.external_traffic_policy.as_ref(),
            ),
            affinity: affinity(
                notes,
                spec.session_affinity.as_ref(),
                spec.session_affinity_config.as_ref(),
            ),
            choice: choice(
                notes,
                meta.annotations.and_then(|annotations| annotations.pick).as_ref(),
            ),
            health_check_node_port: node_port(
                notes,
                "spec.healthCheckNodePort".to_owned(),
                spec.health_check_node_port,
            ),
            ports: service_ports(decoder, notes, spec.ports.as_deref().unwrap_or_default()),
        }))
    }
}

/// The ClusterIPs with the path of their field, or why the Service has none.
fn why_ignored<'s, 'a>(meta: &Meta<'_>, spec: &'s raw::ServiceSpec<'a>) -> Result<(&'static str, &'s [Text<'a>]), Why> {
    if meta.labels.as_ref().is_some_and(|labels| labels.proxy_name.is_some()) {
        return Err(Why::OtherProxy);
    }
    if spec.kind.as_ref().is_some_and(|kind| kind.as_str() == "ExternalName") {
        return Err(Why::ExternalName);
    }
    let is_set = |ip: &Text<'_>| !matches!(ip.as_str(), "" | "None");
    if spec.cluster_ip.as_ref().is_some_and(|ip| ip.as_str() == "None") {
        return Err(Why::Headless);
    }
    match spec.cluster_ips.as_deref() {
        Some(list @ [first, ..]) if is_set(first) => Ok(("spec.clusterIPs", list)),
        _ => match &spec.cluster_ip {
            Some(ip) if is_set(ip) => Ok(("spec.clusterIP", std::slice::from_ref(ip))),
            _ => Err(Why::Headless),
        },
    }
}

fn created(notes: &mut Notes, text: Option<&Text<'_>>) -> i64 {
    let Some(text) = text.map(Text::as_str) else { return 0 };
    if let Ok(time) = text.parse::<Timestamp>() {
        return time.as_second();
    }
    notes.add(
        "metadata.creationTimestamp",
        text,
        "not a time (RFC 3339); taken as 1970",
    );
    0
}

fn service_type(notes: &mut Notes, text: Option<&Text<'_>>) -> ServiceType {
    match text.map_or("ClusterIP", Text::as_str) {
        "ClusterIP" | "" => ServiceType::ClusterIp,
        "NodePort" => ServiceType::NodePort,
        "LoadBalancer" => ServiceType::LoadBalancer,
        other => {
            notes.add("spec.type", other, "not a type of Service; taken as ClusterIP");
            ServiceType::ClusterIp
        }
    }
}

fn policy(notes: &mut Notes, field: &str, text: Option<&Text<'_>>) -> TrafficPolicy {
    match text.map_or("Cluster", Text::as_str) {
        "Cluster" | "" => TrafficPolicy::Cluster,
        "Local" => TrafficPolicy::Local,
        other => {
            notes.add(field, other, "not a traffic policy (Cluster, Local); taken as Cluster");
            TrafficPolicy::Cluster
        }
    }
}

fn affinity(notes: &mut Notes, text: Option<&Text<'_>>, config: Option<&raw::AffinityConfig>) -> Option<u32> {
    match text.map_or("None", Text::as_str) {
        "None" | "" => return None,
        "ClientIP" => {}
        other => {
            notes.add(
                "spec.sessionAffinity",
                other,
                "not a session affinity (None, ClientIP); taken as None",
            );
            return None;
        }
    }
    let given = config
        .and_then(|config| config.client_ip.as_ref())
        .and_then(|client_ip| client_ip.timeout_seconds);
    let Some(seconds) = given else {
        return Some(DEFAULT_AFFINITY);
    };
    let kept = seconds.clamp(1, i64::from(MOST_AFFINITY));
    if kept != seconds {
        let field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
        notes.add(
            field,
            seconds.to_string(),
            format!("not in 1-{MOST_AFFINITY}; {kept} is used"),
        );
    }
    Some(u32::try_from(kept).unwrap_or(DEFAULT_AFFINITY))
}

/// What the Service says of how packets from outside pick an endpoint.
fn choice(notes: &mut Notes, text: Option<&Text<'_>>) -> Option<Choice> {
    let text = text.map(Text::as_str).filter(|text| !text.is_empty())?;
    let choice = Choice::named(text);
    if choice.is_none() {
        notes.add(
            "metadata.annotations.tandem.config/pick",
            text,
            "not a way to pick an endpoint (random, maglev); xdp.pick of the node's configuration counts",
        );
    }
    choice
}

/// A port on the node. 0 means none.
fn node_port(notes: &mut Notes, field: String, number: Option<i64>) -> Option<tandem_core::row::Port> {
    let number = number.filter(|number| *number != 0)?;
    let port = ports::number_of(number);
    if port.is_none() {
        notes.add(field, number.to_string(), "not a port number (1-65535); taken as none");
    }
    port
}

fn service_ports(decoder: &Decoder, notes: &mut Notes, list: &[raw::ServicePort<'_>]) -> Vec<ServicePort> {
    let field = "spec.ports";
    let mut kept: Vec<ServicePort> = Vec::with_capacity(list.len());
    let (mut numbers, mut names) = (HashSet::new(), HashSet::new());
    for (index, raw) in list.iter().enumerate() {
        let protocol = ports::protocol(notes, field, index, raw.protocol.as_ref());
        let port = ports::port(notes, field, index, raw.port);
        let (Some(protocol), Some(port)) = (protocol, port) else {
            continue;
        };
        let name = raw.name.as_ref().map_or("", Text::as_str);
        if !is_name(name) {
            let problem = format!("not a name: letters, digits, - and . only; {}", ports::NOT_SERVED);
            notes.add(format!("{field}[{index}].name"), name, problem);
            continue;
        }
        if numbers.contains(&(protocol, port)) {
            ports::duplicate(notes, field, index, &format!("{protocol} {port}"), "protocol and port");
            continue;
        }
        if !names.insert(name) {
            ports::duplicate(notes, field, index, name, "the name");
            continue;
        }
        numbers.insert((protocol, port));
        let node_port = node_port(notes, format!("{field}[{index}].nodePort"), raw.node_port);
        kept.push(ServicePort {
            name: decoder.intern(name),
            protocol,
            port,
            node_port,
        });
    }
    kept
}

/// One address per family, as in the API. `alone` is `spec.clusterIP`.
fn cluster_addresses(notes: &mut Notes, (field, list): (&str, &[Text<'_>]), alone: Option<&Text<'_>>) -> Vec<IpAddr> {
    let mut kept: Vec<IpAddr> = Vec::with_capacity(2);
    if let (Some(alone), Some(first)) = (alone.filter(|ip| !ip.as_str().is_empty()), list.first())
        && alone != first
    {
        notes.add(
            "spec.clusterIP",
            alone.as_str(),
            "not the first of spec.clusterIPs; those are used",
        );
    }
    for (index, text) in list.iter().enumerate() {
        let path = || {
            if field.ends_with('s') {
                format!("{field}[{index}]")
            } else {
                field.to_owned()
            }
        };
        let Some(addr) = address(notes, path, text.as_str()) else {
            continue;
        };
        let family = IpFamily::of(addr);
        if kept.iter().any(|other| IpFamily::of(*other) == family) {
            notes.add(
                path(),
                text.as_str(),
                format!("a second {family} address; this address is not served"),
            );
        } else {
            kept.push(addr);
        }
    }
    kept
}

fn addresses(notes: &mut Notes, field: &str, list: &[Text<'_>]) -> Vec<IpAddr> {
    let mut kept = Addresses::default();
    for (index, text) in list.iter().enumerate() {
        let path = || format!("{field}[{index}]");
        if let Some(addr) = address(notes, path, text.as_str())
            && kept.is_full_with(addr)
        {
            notes.add(path(), text.as_str(), Addresses::FULL);
            break;
        }
    }
    kept.list
}

/// Addresses in their order, each once.
#[derive(Default)]
struct Addresses {
    list: Vec<IpAddr>,
    seen: HashSet<IpAddr>,
}

impl Addresses {
    const FULL: &str = "more than 4096 addresses; this one and those behind it are not served";

    /// Adds an address. Returns true, without adding it, if there are too many.
    fn is_full_with(&mut self, addr: IpAddr) -> bool {
        if self.list.len() >= MOST_ADDRESSES {
            return !self.seen.contains(&addr);
        }
        if self.seen.insert(addr) {
            self.list.push(addr);
        }
        false
    }
}

fn ingress_addresses(notes: &mut Notes, list: &[raw::Ingress<'_>]) -> Vec<IpAddr> {
    let mut kept = Addresses::default();
    for (index, ingress) in list.iter().enumerate() {
        let path = |field: &str| format!("status.loadBalancer.ingress[{index}].{field}");
        let ip = ingress.ip.as_ref().map_or("", Text::as_str);
        if ip.is_empty() {
            continue; // a host name: its clients reach the load balancer itself
        }
        match ingress.ip_mode.as_ref().map_or("VIP", Text::as_str) {
            "VIP" => {}
            "Proxy" => continue, // traffic has to pass through the load balancer (KEP-1860)
            other => {
                notes.add(
                    path("ipMode"),
                    other,
                    "not an ipMode (VIP, Proxy); this address is not served",
                );
                continue;
            }
        }
        if let Some(addr) = address(notes, || path("ip"), ip)
            && kept.is_full_with(addr)
        {
            notes.add(path("ip"), ip, Addresses::FULL);
            break;
        }
    }
    kept.list
}

/// An address that a Service may have. If it is invalid, there is a notice.
fn address(notes: &mut Notes, field: impl Fn() -> String, text: &str) -> Option<IpAddr> {
    match parse_endpoint(text) {
        Ok(Parsed { value, unusual }) => {
            if unusual {
                notes.add(field(), text, format!("not how an address is written; read as {value}"));
            }
            Some(value)
        }
        Err(ParseError::Forbidden(kind)) => {
            notes.add(
                field(),
                text,
                format!("a Service cannot have a {kind} address; this address is not served"),
            );
            None
        }
        Err(error) => {
            notes.add(field(), text, format!("{error}; this address is not served"));
            None
        }
    }
}

/// The ranges that could be read, and the families that are closed to all other sources: those of every entry, valid or
/// not.
///
/// Here Tandem is stricter than kube-proxy. kube-proxy ignores an entry that it cannot read, and lets everyone in if no
/// other is left. A typing mistake must not open what was to be closed.
fn ranges(notes: &mut Notes, list: &[Text<'_>]) -> (Vec<IpNet>, Families) {
    let field = |index: usize| format!("spec.loadBalancerSourceRanges[{index}]");
    let (mut kept, mut seen) = (Vec::with_capacity(list.len()), HashSet::new());
    let mut restricted = Families::default();
    for (index, text) in list.iter().enumerate() {
        let text = text.as_str();
        match parse_net(text) {
            Ok(Parsed { value, unusual }) => {
                if unusual {
                    let problem = format!("not how a range is written; read as {value}");
                    notes.add(field(index), text, problem);
                }
                restricted = restricted.and(Families::only(IpFamily::of(value.addr())));
                if seen.insert(value) {
                    kept.push(value);
                }
            }
            Err(error) => {
                let (v4, v6) = (may_be_v4(text), may_be_v6(text));
                let unclear = v4 == v6;
                restricted.v4 |= v4 || unclear;
                restricted.v6 |= v6 || unclear;
                notes.add(field(index), text, format!("{error}; it lets nobody in"));
            }
        }
    }
    (kept, restricted)
}

/// Whether a range that cannot be read looks like IPv4 and nothing else.
fn may_be_v4(text: &str) -> bool {
    text.contains('.') && text.bytes().all(|byte| byte.is_ascii_digit() || b"./ ".contains(&byte))
}

/// Whether a range that cannot be read looks like IPv6 and nothing else.
fn may_be_v6(text: &str) -> bool {
    text.contains(':')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() || b":/ ".contains(&byte))
}
