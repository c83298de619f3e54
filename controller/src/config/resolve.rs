//! Makes settings from fields, with one function for each setting. The functions say what a value means, and which
//! values have no meaning.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use tandem_core::addr::{self, parse_net};
use tandem_core::node::{InterfaceName, NodePortAddresses};
use tandem_core::object::is_name;

use super::ConfigError;
use super::document::Document;
use super::flags::Flags;
use super::settings::{Conntrack, ConntrackMax, LogFormat};
use crate::node_settings::{DetectLocal, PodRanges};

pub(super) fn mode(config: &Document, warnings: &mut Vec<String>) -> Result<(), ConfigError> {
    let mode = config.text("mode");
    match mode {
        "nftables" | "" => {}
        "iptables" | "ipvs" => warnings.push(format!(
            "{}: {mode:?}: tandem programs nftables whatever the mode",
            config.place("mode")
        )),
        "userspace" => warnings.push(format!(
            "{}: {mode:?}: Kubernetes 1.26 dropped this mode: tandem programs nftables whatever the mode",
            config.place("mode")
        )),
        _ => {
            let problem = "not a mode that works here (nftables; iptables and ipvs mean it too)";
            return Err(config.wrong("mode", problem));
        }
    }
    // For kube-proxy, no mode means iptables, so a file without a mode means that. In userspace mode, nodePorts
    // answered on all addresses too.
    let meant_iptables = matches!(mode, "iptables" | "userspace") || (mode.is_empty() && config.is_from_file());
    if meant_iptables && config.texts("nodePortAddresses").is_empty() {
        warnings.push(format!(
            "{}: not set: nodePorts answer on the node's primary addresses, as in nftables mode; iptables mode has them on \
             all addresses, which is 0.0.0.0/0 and ::/0 here",
            config.place("nodePortAddresses")
        ));
    }
    Ok(())
}

/// A field with an address to serve on, and the flags for it.
pub(super) struct Served {
    field: &'static str,
    address_flag: &'static str,
    port_flag: &'static str,
    port: u16,
    /// The defaults, by the family of `bindAddress`.
    default: [&'static str; 2],
}

pub(super) const HEALTHZ: Served = Served {
    field: "healthzBindAddress",
    address_flag: "healthz-bind-address",
    port_flag: "healthz-port",
    port: 10_256,
    default: ["0.0.0.0:10256", "[::]:10256"],
};

pub(super) const METRICS: Served = Served {
    field: "metricsBindAddress",
    address_flag: "metrics-bind-address",
    port_flag: "metrics-port",
    port: 10_249,
    default: ["127.0.0.1:10249", "[::1]:10249"],
};

pub(super) fn bind_address(
    config: &Document,
    flags: &Flags,
    served: &Served,
) -> Result<Option<SocketAddr>, ConfigError> {
    let by_flags = config.place(served.field) == format!("--{}", served.address_flag) || !config.is_from_file();
    let mut port = served.port;
    if by_flags {
        if flags.text(served.address_flag) == Some("") {
            return Ok(None);
        }
        match flags.integer(served.port_flag) {
            Some(0) => return Ok(None),
            Some(given) => {
                port = u16::try_from(given).map_err(|_| ConfigError::Value {
                    place: format!("--{}", served.port_flag),
                    value: given.to_string(),
                    problem: "not a port (1-65535, or 0 for none)".to_owned(),
                })?;
            }
            None => {}
        }
    }
    let bind = config.text("bindAddress");
    let bind: IpAddr = unbracketed(bind)
        .parse()
        .map_err(|_| config.wrong("bindAddress", "not an IP address"))?;
    if !config.is_set(served.field) {
        let default = served.default[usize::from(bind.is_ipv6())];
        return Ok(default.parse().ok());
    }
    let text = config.text(served.field);
    let address = text.parse::<SocketAddr>().or_else(|error| {
        unbracketed(text)
            .parse()
            .map(|ip| SocketAddr::new(ip, port))
            .map_err(|_| error)
    });
    match address {
        Ok(address) if address.port() > 0 => Ok(Some(address)),
        Ok(_) => Err(config.wrong(served.field, "port 0 is no port to be found at")),
        Err(_) => Err(config.wrong(
            served.field,
            "not an address, or address and port, like 0.0.0.0:10256 or [::]:10256",
        )),
    }
}

/// The text without brackets. An IPv6 address may have them, as in kube-proxy.
pub(super) fn unbracketed(text: &str) -> &str {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    inner.filter(|inner| inner.contains(':')).unwrap_or(text)
}

/// The node's name as kube-proxy makes it: trimmed and in lower case; the host's name if none is given.
pub(super) fn node_name(config: &Document) -> Result<String, ConfigError> {
    let given = config.text("hostnameOverride").trim().to_lowercase();
    if !given.is_empty() {
        let ends = given.starts_with(['-', '.']) || given.ends_with(['-', '.']);
        if ends || !is_name(&given) {
            return Err(config.wrong("hostnameOverride", "not a name that a Node can have"));
        }
        return Ok(given);
    }
    if !config.text("hostnameOverride").is_empty() {
        return Err(config.wrong("hostnameOverride", "nothing but blanks"));
    }
    let host = rustix::system::uname();
    Some(host.nodename().to_string_lossy().trim().to_lowercase())
        .filter(|name| !name.is_empty())
        .ok_or(ConfigError::NoHostname)
}

pub(super) fn detect_local(config: &Document, warnings: &mut Vec<String>) -> Result<DetectLocal, ConfigError> {
    let interface = |field: &str| {
        InterfaceName::parse(config.text(field)).map_err(|problem| match config.text(field) {
            "" => {
                let mode = config.text("detectLocalMode");
                config.wrong(
                    field,
                    &format!("detectLocalMode: {mode} needs the name of an interface here"),
                )
            }
            _ => config.wrong(field, &problem.to_string()),
        })
    };
    let cidrs = ranges(config, "clusterCIDR", config.text("clusterCIDR").split(','))?;
    match config.text("detectLocalMode") {
        "ClusterCIDR" if cidrs.is_empty() => {
            let place = config.place("clusterCIDR");
            warnings.push(format!(
                "{place}: not given: traffic from outside the cluster is not masqueraded"
            ));
            Ok(DetectLocal::Nothing)
        }
        "ClusterCIDR" => Ok(DetectLocal::Sources(PodRanges::Listed(cidrs))),
        "NodeCIDR" => Ok(DetectLocal::Sources(PodRanges::OfNode)),
        "BridgeInterface" => Ok(DetectLocal::Interface(interface("detectLocal.bridgeInterface")?)),
        "InterfaceNamePrefix" => {
            let prefix = interface("detectLocal.interfaceNamePrefix")?;
            Ok(DetectLocal::InterfacePrefix(prefix))
        }
        _ => Err(config.wrong(
            "detectLocalMode",
            "not a mode (ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix)",
        )),
    }
}

/// The section that counts for masquerading; none if there is no mode.
fn section(config: &Document) -> Option<&'static str> {
    match config.text("mode") {
        "nftables" => Some("nftables"),
        "" => None,
        _ => Some("iptables"),
    }
}

pub(super) fn masquerade_all(config: &Document) -> bool {
    match section(config) {
        Some("nftables") => config.on("nftables.masqueradeAll"),
        Some(_) => config.on("iptables.masqueradeAll"),
        None => config.on("nftables.masqueradeAll") || config.on("iptables.masqueradeAll"),
    }
}

pub(super) fn masquerade_bit(config: &Document, warnings: &mut Vec<String>) -> Result<u8, ConfigError> {
    let bit = |field: &str| {
        let value = u8::try_from(config.integer(field)).ok().filter(|bit| *bit <= 31);
        value.ok_or_else(|| config.wrong(field, "not a bit of a packet mark (0-31)"))
    };
    let (nftables, iptables) = (bit("nftables.masqueradeBit")?, bit("iptables.masqueradeBit")?);
    let by_nftables = match section(config) {
        Some(section) => section == "nftables",
        None => config.is_written("nftables.masqueradeBit"),
    };
    let (used, other, field) = if by_nftables {
        (nftables, iptables, "iptables.masqueradeBit")
    } else {
        (iptables, nftables, "nftables.masqueradeBit")
    };
    if config.is_set(field) && used != other {
        let place = config.place(field);
        warnings.push(format!(
            "{place}: \"{other}\": ignored: the other section's {used} counts"
        ));
    }
    Ok(used)
}

pub(super) fn node_port_addresses(
    config: &Document,
    loopback: bool,
    warnings: &mut Vec<String>,
) -> Result<NodePortAddresses, ConfigError> {
    const FIELD: &str = "nodePortAddresses";
    let list: Vec<&str> = config.texts(FIELD).into_iter().map(str::trim).collect();
    let mut cidrs = Vec::new();
    for text in &list {
        match *text {
            "primary" if list.len() == 1 => return Ok(NodePortAddresses::Primary),
            "primary" => return Err(config.wrong_value(FIELD, &list.join(","), "primary must be the only entry")),
            "" => return Err(config.wrong_value(FIELD, text, "empty entry")),
            _ => cidrs.extend(ranges(config, FIELD, std::iter::once(*text))?),
        }
    }
    if cidrs.is_empty() {
        return Ok(NodePortAddresses::Primary);
    }
    let place = config.place(FIELD);
    for cidr in cidrs.iter().filter(|cidr| is_loopback(cidr) && !loopback) {
        warnings.push(format!(
            "{place}: \"{cidr}\": loopback addresses take no nodePort traffic, unless nodePortLoopback of the \
             TandemConfiguration is true"
        ));
    }
    let families: BTreeSet<bool> = cidrs.iter().map(|cidr| cidr.addr().is_ipv6()).collect();
    if families.len() == 1 {
        let other = if families.contains(&true) { "IPv4" } else { "IPv6" };
        warnings.push(format!(
            "{place}: no {other} range: all {other} addresses of the node take nodePort traffic, as in kube-proxy"
        ));
    }
    cidrs.dedup();
    Ok(NodePortAddresses::Ranges(cidrs))
}

fn is_loopback(cidr: &IpNet) -> bool {
    addr::forbidden(cidr.addr()) == Some(addr::Forbidden::Loopback)
}

fn ranges<'a>(config: &Document, field: &str, list: impl Iterator<Item = &'a str>) -> Result<Vec<IpNet>, ConfigError> {
    let (mut ranges, mut seen) = (Vec::new(), BTreeSet::new());
    for text in list.map(str::trim).filter(|text| !text.is_empty()) {
        let wrong = |problem: &dyn Display| config.wrong_value(field, text, &problem.to_string());
        let range = parse_net(text).map_err(|problem| wrong(&problem))?.value;
        if seen.insert(range) {
            ranges.push(range);
        }
    }
    Ok(ranges)
}

pub(super) fn conntrack(config: &Document) -> Result<Conntrack, ConfigError> {
    let count = |field: &str| {
        let value = u32::try_from(config.integer(field));
        value.map_err(|_| config.wrong(field, "must be 0 or more"))
    };
    let seconds = |field: &str| {
        let time = config.duration(field);
        if time.as_secs() > u64::from(u32::MAX >> 1) {
            return Err(config.wrong(field, "longer than the kernel can wait (68 years)"));
        }
        Ok(Some(time).filter(|time| *time >= Duration::from_secs(1)))
    };
    let (per_core, min) = (count("conntrack.maxPerCore")?, count("conntrack.min")?);
    Ok(Conntrack {
        max: (per_core > 0).then_some(ConntrackMax { per_core, min }),
        tcp_established: seconds("conntrack.tcpEstablishedTimeout")?,
        tcp_close_wait: seconds("conntrack.tcpCloseWaitTimeout")?,
        tcp_be_liberal: config.on("conntrack.tcpBeLiberal"),
        udp: seconds("conntrack.udpTimeout")?,
        udp_stream: seconds("conntrack.udpStreamTimeout")?,
    })
}

pub(super) fn oom_score_adj(config: &Document) -> Result<i32, ConfigError> {
    let value = i32::try_from(config.integer("oomScoreAdj")).ok();
    value
        .filter(|value| (-1000..=1000).contains(value))
        .ok_or_else(|| config.wrong("oomScoreAdj", "not between -1000 and 1000"))
}

pub(super) fn log_filter(tandem: &Document, config: &Document) -> Result<String, ConfigError> {
    let level = tandem.text("log.level");
    if level.is_empty() {
        let filter = match config.integer("logging.verbosity") {
            0..=3 => "info",
            4..=7 => "info,tandem=debug,tandem_core=debug,tandem_nft=debug",
            _ => "info,tandem=trace,tandem_core=trace,tandem_nft=trace",
        };
        return Ok(filter.to_owned());
    }
    match tracing_subscriber::EnvFilter::try_new(level) {
        Ok(_) => Ok(level.to_owned()),
        Err(error) => Err(tandem.wrong(
            "log.level",
            &format!("not a level (error, warn, info, debug, trace): {error}"),
        )),
    }
}

pub(super) fn log_format(tandem: &Document, config: &Document) -> Result<LogFormat, ConfigError> {
    let (document, field) = match tandem.text("log.format") {
        "" => (config, "logging.format"),
        _ => (tandem, "log.format"),
    };
    match document.text(field) {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(document.wrong(field, "not a format (text, json)")),
    }
}
