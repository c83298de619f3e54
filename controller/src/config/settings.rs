//! What the agent uses of the configuration.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use tandem_core::addr::parse_net;
use tandem_core::node::NodePortAddresses;

use super::ConfigError;
use super::file::{self, KubeProxyConfiguration};
use super::unused;

/// The mark that kube-proxy uses where nothing else is configured.
const DEFAULT_MASQUERADE_BIT: u8 = 14;

/// The agent's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The Node object's name.
    pub node_name: String,
    /// `clusterCIDR`: ranges that pods have.
    pub cluster_cidrs: Vec<IpNet>,
    /// How a pod's traffic is told from outside traffic.
    pub detect_local: DetectLocal,
    /// Whether all traffic to ClusterIPs is masqueraded.
    pub masquerade_all: bool,
    /// Which bit of the packet mark asks for masquerading.
    pub masquerade_bit: u8,
    /// Which of the node's addresses accept nodePort traffic.
    pub node_port_addresses: NodePortAddresses,
    /// The kubeconfig; none means the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// The API server's address, in place of the kubeconfig's.
    pub master: Option<String>,
}

/// How a pod's traffic is told from outside traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DetectLocal {
    /// By these ranges.
    ClusterCidr(Vec<IpNet>),
    /// By this node's `spec.podCIDRs`.
    NodeCidr,
    /// Not at all: nothing is masqueraded for coming from outside.
    None,
}

/// Flags: each wins over the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--hostname-override`
    pub hostname_override: Option<String>,
    /// `--cluster-cidr`
    pub cluster_cidr: Option<String>,
    /// `--detect-local-mode`
    pub detect_local_mode: Option<String>,
    /// `--masquerade-all`
    pub masquerade_all: Option<bool>,
    /// `--nodeport-addresses`
    pub nodeport_addresses: Option<Vec<String>>,
    /// `--kubeconfig`
    pub kubeconfig: Option<PathBuf>,
    /// `--master`
    pub master: Option<String>,
    /// `--nftables-masquerade-bit`
    pub masquerade_bit: Option<i32>,
}

/// A value and the field or flag that it comes from.
struct Given<T> {
    value: T,
    place: String,
}

impl Settings {
    /// Reads the file, if there is one, and puts the flags over it. Gives what to warn of as well.
    pub fn load(file: Option<&Path>, overrides: Overrides) -> Result<(Self, Vec<String>), ConfigError> {
        let Some(path) = file else {
            return Self::merge(None, KubeProxyConfiguration::default(), overrides, Vec::new());
        };
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let (config, values) = file::parse(path, &text)?;
        Self::merge(Some(path), config, overrides, unused::warnings(&values))
    }

    fn merge(
        path: Option<&Path>,
        config: KubeProxyConfiguration,
        flags: Overrides,
        mut warnings: Vec<String>,
    ) -> Result<(Self, Vec<String>), ConfigError> {
        let place = |field: &str| path.map_or_else(|| field.to_owned(), |path| format!("{}: {field}", path.display()));
        let iptables = config.iptables.unwrap_or_default();
        let nftables = config.nftables.unwrap_or_default();

        let mode = config.mode.unwrap_or_default();
        check_mode(&mode, &place("mode"), &mut warnings)?;

        let cidrs = given(
            flags.cluster_cidr,
            "--cluster-cidr",
            config.cluster_cidr,
            place("clusterCIDR"),
        );
        let cluster_cidrs =
            cidrs.map_or_else(|| Ok(Vec::new()), |given| ranges(given.value.split(','), &given.place))?;
        let local = given(
            flags.detect_local_mode,
            "--detect-local-mode",
            config.detect_local_mode,
            place("detectLocalMode"),
        );
        let detect_local = detect_local(local, &cluster_cidrs, &mut warnings)?;

        let addresses = config.node_port_addresses;
        let addresses = given(
            flags.nodeport_addresses,
            "--nodeport-addresses",
            addresses,
            place("nodePortAddresses"),
        );
        // The bit of the iptables section is meant where that mode was, as Tandem takes its place.
        let bit = nftables.masquerade_bit.map(|bit| (bit, "nftables.masqueradeBit"));
        let bit = bit.or(iptables
            .masquerade_bit
            .filter(|_| mode != "nftables")
            .map(|bit| (bit, "iptables.masqueradeBit")));
        let field = place(bit.map_or("nftables.masqueradeBit", |(_, field)| field));
        let bit = given(
            flags.masquerade_bit,
            "--nftables-masquerade-bit",
            bit.map(|(bit, _)| bit),
            field,
        );

        let in_file = nftables.masquerade_all.unwrap_or(false) || iptables.masquerade_all.unwrap_or(false);
        let kubeconfig = config.client_connection.and_then(|connection| connection.kubeconfig);
        let kubeconfig = kubeconfig.filter(|path| !path.is_empty()).map(PathBuf::from);
        let settings = Self {
            node_name: node_name(flags.hostname_override, config.hostname_override)?,
            cluster_cidrs,
            detect_local,
            masquerade_all: flags.masquerade_all.unwrap_or(in_file),
            masquerade_bit: masquerade_bit(bit)?,
            node_port_addresses: node_port_addresses(addresses)?,
            kubeconfig: flags.kubeconfig.or(kubeconfig),
            master: flags.master.filter(|master| !master.is_empty()),
        };
        Ok((settings, warnings))
    }
}

fn given<T>(flag: Option<T>, flag_name: &str, field: Option<T>, place: String) -> Option<Given<T>> {
    let flag = flag.map(|value| Given {
        value,
        place: flag_name.to_owned(),
    });
    flag.or(field.map(|value| Given { value, place }))
}

fn invalid(place: &str, value: &dyn Display, problem: &dyn Display) -> ConfigError {
    ConfigError::Value {
        place: place.to_owned(),
        value: value.to_string(),
        problem: problem.to_string(),
    }
}

fn check_mode(mode: &str, place: &str, warnings: &mut Vec<String>) -> Result<(), ConfigError> {
    match mode {
        "" | "nftables" => Ok(()),
        "iptables" | "ipvs" => {
            warnings.push(format!("mode: {mode}: tandem programs nftables whatever the mode"));
            Ok(())
        }
        _ => Err(invalid(place, &mode, &"not a mode that works here (nftables)")),
    }
}

fn ranges<'a>(list: impl Iterator<Item = &'a str>, place: &str) -> Result<Vec<IpNet>, ConfigError> {
    let mut ranges = Vec::new();
    for text in list.map(str::trim).filter(|text| !text.is_empty()) {
        let range = parse_net(text)
            .map_err(|problem| invalid(place, &text, &problem))?
            .value;
        if !ranges.contains(&range) {
            ranges.push(range);
        }
    }
    Ok(ranges)
}

fn detect_local(
    mode: Option<Given<String>>,
    cluster_cidrs: &[IpNet],
    warnings: &mut Vec<String>,
) -> Result<DetectLocal, ConfigError> {
    let Given { value, place } = mode.unwrap_or(Given {
        value: String::new(),
        place: String::new(),
    });
    let not_masqueraded = "traffic from outside the cluster is not masqueraded";
    match value.as_str() {
        "" | "ClusterCIDR" if cluster_cidrs.is_empty() => {
            warnings.push(format!("clusterCIDR: not given: {not_masqueraded}"));
            Ok(DetectLocal::None)
        }
        "" | "ClusterCIDR" => Ok(DetectLocal::ClusterCidr(cluster_cidrs.to_vec())),
        "NodeCIDR" => Ok(DetectLocal::NodeCidr),
        "BridgeInterface" | "InterfaceNamePrefix" => {
            warnings.push(format!("{place}: {value} is not supported yet: {not_masqueraded}"));
            Ok(DetectLocal::None)
        }
        other => {
            let modes = "not a mode (ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix)";
            Err(invalid(&place, &other, &modes))
        }
    }
}

fn masquerade_bit(bit: Option<Given<i32>>) -> Result<u8, ConfigError> {
    let Some(Given { value, place }) = bit else {
        return Ok(DEFAULT_MASQUERADE_BIT);
    };
    u8::try_from(value)
        .ok()
        .filter(|bit| *bit <= 31)
        .ok_or_else(|| invalid(&place, &value, &"not a bit of a packet mark (0-31)"))
}

fn node_port_addresses(list: Option<Given<Vec<String>>>) -> Result<NodePortAddresses, ConfigError> {
    let Some(Given { value: list, place }) = list.filter(|list| !list.value.is_empty()) else {
        return Ok(NodePortAddresses::Primary);
    };
    let mut cidrs = Vec::new();
    for text in list.iter().map(|text| text.trim()) {
        match text {
            "primary" if list.len() == 1 => return Ok(NodePortAddresses::Primary),
            "primary" => return Err(invalid(&place, &list.join(","), &"primary must be the only entry")),
            "all" => cidrs.extend(ranges(["0.0.0.0/0", "::/0"].into_iter(), &place)?),
            "localhost" => {
                return Err(invalid(
                    &place,
                    &text,
                    &"nodePorts on loopback addresses do not work with nftables",
                ));
            }
            "" => return Err(invalid(&place, &text, &"empty entry")),
            _ => cidrs.extend(ranges(std::iter::once(text), &place)?),
        }
    }
    Ok(NodePortAddresses::Ranges(cidrs))
}

/// As kube-proxy makes it: trimmed, in lower case, the host's name where none is given.
fn node_name(flag: Option<String>, field: Option<String>) -> Result<String, ConfigError> {
    let given = [flag, field]
        .into_iter()
        .flatten()
        .map(|name| name.trim().to_lowercase())
        .find(|name| !name.is_empty());
    let host = || {
        rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .trim()
            .to_lowercase()
    };
    Some(given.unwrap_or_else(host))
        .filter(|name| !name.is_empty())
        .ok_or(ConfigError::NoHostname)
}
