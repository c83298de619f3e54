//! A flow: the sender, the destination, and the result that kube-proxy must have.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::sender::Sender;
use super::words::{protocol, some_families, some_senders};
use crate::stage::Ip;
use crate::traffic::Protocol;

/// The source ports of senders that are not connected are greater by this.
pub(super) const UNCONNECTED_PORTS: u16 = 5000;

/// Requests of one kind.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    /// The sender.
    pub from: Place,
    /// The destination.
    pub to: Target,
    /// The port.
    pub port: u16,
    /// The transport.
    #[serde(default = "tcp", deserialize_with = "protocol")]
    pub protocol: Protocol,
    /// The families; by default those of the scenario.
    #[serde(default, deserialize_with = "some_families")]
    pub families: Option<Vec<Ip>>,
    /// How datagrams are sent; by default as the scenario says.
    #[serde(default, deserialize_with = "some_senders")]
    pub senders: Option<Vec<Sender>>,
    /// The least number of requests.
    #[serde(default = "many")]
    pub requests: usize,
    /// The source port of all of them.
    #[serde(default, rename = "source port")]
    pub source_port: Option<u16>,
    /// The size of each request and of its answer, in bytes.
    pub size: Option<usize>,
    /// The number of milliseconds between two requests. With it, they are sent one after the other.
    pub rest: Option<u64>,
    /// What is compared of the sources that servers saw.
    #[serde(default)]
    pub sources: Sources,
    /// All flows with the same word must be answered by the same server.
    pub sticky: Option<String>,
    /// The result that kube-proxy must have.
    pub expect: Expect,
    /// Why Tandem differs here: an entry of `docs/differences.md`.
    pub intended: Option<String>,
    /// The result of Tandem, if it differs.
    pub tandem: Option<Expect>,
}

/// The sender.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub enum Place {
    /// One of two clients outside the cluster. Its packets to Services enter by this node.
    Client {
        /// 1, or 2 for the second client.
        number: u8,
        /// The node.
        by: u8,
    },
    /// A process on a node.
    Node(u8),
    /// A pod.
    Pod(String),
}

/// The destination.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "Value")]
pub enum Target {
    /// A Service's ClusterIP, `name` or `namespace/name`.
    ClusterIp(String),
    /// The first ClusterIP that the Service had in this scenario.
    OldClusterIp(String),
    /// A node's first address.
    Node(u8),
    /// A node's second address, which the Node object does not have.
    Secondary(u8),
    /// A pod.
    Pod(String),
    /// These addresses, at most one of each family.
    Literal(Vec<IpAddr>),
}

/// The result of a flow.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "Value")]
pub enum Expect {
    /// Each of these servers answers, and no other.
    Answers(BTreeSet<String>),
    /// Exactly one of these servers answers all.
    OneOf(BTreeSet<String>),
    /// Each of these servers answers some requests, and some get no answer.
    Partly(BTreeSet<String>),
    /// All are refused.
    Refused,
    /// No reaction at all.
    Dropped,
    /// An error says that there is no route: no program treated it as a Service's packet.
    Unreachable,
    /// Anything. Only agreement counts.
    Any,
}

/// What is compared of the sources that servers saw.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Sources {
    /// They must be the same.
    #[default]
    Same,
    /// They must be the same, and only the sender's own address.
    Kept,
    /// They must be the same, without the sender's own address.
    Masqueraded,
    /// Nothing is compared.
    Any,
}

impl Flow {
    /// The source port of all requests. Each kind of sender has one of its own, because connection tracking remembers by
    /// the port who translated.
    pub(super) fn port_of(&self, sender: Sender) -> Option<u16> {
        self.source_port.map(|port| match sender {
            Sender::Connected => port,
            Sender::Unconnected => port + UNCONNECTED_PORTS,
        })
    }
}

impl Sources {
    pub(super) fn is_about_the_sender(self) -> bool {
        matches!(self, Self::Kept | Self::Masqueraded)
    }
}

impl Place {
    pub(super) fn pod(&self) -> Option<String> {
        match self {
            Self::Pod(name) => Some(name.clone()),
            _ => None,
        }
    }

    /// The node by which it enters, if it comes from outside.
    pub(super) fn entry(&self) -> u8 {
        match self {
            Self::Client { by, .. } => *by,
            _ => 1,
        }
    }
}

impl Target {
    pub(super) fn pod(&self) -> Option<String> {
        match self {
            Self::Pod(name) => Some(name.clone()),
            _ => None,
        }
    }
}

impl Expect {
    /// The servers that are expected to answer.
    pub fn names(&self) -> Option<&BTreeSet<String>> {
        match self {
            Self::Answers(names) | Self::OneOf(names) | Self::Partly(names) => Some(names),
            _ => None,
        }
    }
}

impl TryFrom<String> for Place {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        let (who, by) = match text.split_once(" by ") {
            Some((who, node)) => (who, node_number(node)?),
            None => (text.as_str(), 1),
        };
        let place = match who.split_once(' ') {
            None if who == "client" => Self::Client { number: 1, by },
            None if who == "other-client" => Self::Client { number: 2, by },
            Some(("node", number)) => Self::Node(node_number(number)?),
            Some(("pod", name)) => Self::Pod(name.to_owned()),
            _ => bail!("{text:?} is nobody (client, client by N, other-client, node N, pod NAME)"),
        };
        ensure!(
            !text.contains(" by ") || matches!(place, Self::Client { .. }),
            "{text:?}: only a client enters by a node"
        );
        Ok(place)
    }
}

impl TryFrom<Value> for Target {
    type Error = anyhow::Error;

    fn try_from(value: Value) -> Result<Self> {
        if let Value::Array(list) = &value {
            let parse = |address: &Value| {
                let text = address.as_str().unwrap_or_default();
                text.parse().with_context(|| format!("{address} is not an address"))
            };
            let addresses: Vec<IpAddr> = list.iter().map(parse).collect::<Result<_>>()?;
            let of_v4 = addresses.iter().filter(|address| address.is_ipv4()).count();
            ensure!(
                !addresses.is_empty() && of_v4 < 2 && addresses.len() - of_v4 < 2,
                "{value}: not one address of each family"
            );
            return Ok(Self::Literal(addresses));
        }
        let text = value.as_str().unwrap_or_default();
        if let Some(name) = text.strip_prefix("ClusterIP of ") {
            Ok(Self::ClusterIp(name.to_owned()))
        } else if let Some(name) = text.strip_prefix("old ClusterIP of ") {
            Ok(Self::OldClusterIp(name.to_owned()))
        } else if let Some(number) = text.strip_prefix("secondary of node ") {
            node_number(number).map(Self::Secondary)
        } else if let Some(number) = text.strip_prefix("node ") {
            node_number(number).map(Self::Node)
        } else if let Some(name) = text.strip_prefix("pod ") {
            Ok(Self::Pod(name.to_owned()))
        } else {
            let address = text.parse().with_context(|| {
                format!(
                    "{value} is no target (ClusterIP of NAME, old ClusterIP of NAME, node N, secondary of node N, pod NAME, addresses)"
                )
            });
            Ok(Self::Literal(vec![address?]))
        }
    }
}

impl TryFrom<Value> for Expect {
    type Error = anyhow::Error;

    fn try_from(value: Value) -> Result<Self> {
        if let Some(word) = value.as_str() {
            return Ok(match word {
                "refused" => Self::Refused,
                "dropped" => Self::Dropped,
                "unreachable" => Self::Unreachable,
                "any" => Self::Any,
                _ => bail!("{word:?} is no outcome (refused, dropped, unreachable, any, a list of servers)"),
            });
        }
        let fields = value.as_object().into_iter().flatten();
        let fields: Vec<(&str, &Value)> = fields.map(|(name, value)| (name.as_str(), value)).collect();
        match fields[..] {
            [] => names(&value).map(Self::Answers),
            [("one of", list)] => names(list).map(Self::OneOf),
            [("answered", list), ("lost", Value::Bool(true))] => names(list).map(Self::Partly),
            _ => bail!("{value} is no outcome ({{one of: […]}}, {{answered: […], lost: true}})"),
        }
    }
}

fn names(list: &Value) -> Result<BTreeSet<String>> {
    let name = |value: &Value| value.as_str().map(str::to_owned);
    let names: Option<BTreeSet<String>> = list.as_array().and_then(|list| list.iter().map(name).collect());
    names
        .filter(|names| !names.is_empty())
        .with_context(|| format!("{list} is not a list of servers"))
}

pub(super) fn node_number(text: &str) -> Result<u8> {
    let number = text.parse().ok().filter(|number| (1..=3).contains(number));
    number.with_context(|| format!("there is no node {text:?} (1, 2, 3)"))
}

fn tcp() -> Protocol {
    Protocol::Tcp
}

fn many() -> usize {
    24
}

impl fmt::Display for Flow {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            from,
            to,
            port,
            protocol,
            ..
        } = self;
        write!(formatter, "{from} -> {to} {protocol} {port}")
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client { number, by } => {
                let other = if *number == 1 { "" } else { "other-" };
                write!(formatter, "{other}client by {by}")
            }
            Self::Node(number) => write!(formatter, "node {number}"),
            Self::Pod(name) => write!(formatter, "pod {name}"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClusterIp(name) => write!(formatter, "ClusterIP of {name}"),
            Self::OldClusterIp(name) => write!(formatter, "old ClusterIP of {name}"),
            Self::Node(number) => write!(formatter, "node {number}"),
            Self::Secondary(number) => write!(formatter, "secondary of node {number}"),
            Self::Pod(name) => write!(formatter, "pod {name}"),
            Self::Literal(addresses) => {
                let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                formatter.write_str(&texts.join("/"))
            }
        }
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(" ");
        match self {
            Self::Answers(names) => formatter.write_str(&list(names)),
            Self::OneOf(names) => write!(formatter, "one of {}", list(names)),
            Self::Partly(names) => write!(formatter, "{}, some dropped", list(names)),
            Self::Refused => formatter.write_str("refused"),
            Self::Dropped => formatter.write_str("dropped"),
            Self::Unreachable => formatter.write_str("unreachable"),
            Self::Any => formatter.write_str("anything"),
        }
    }
}
