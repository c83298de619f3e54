//! Packets from outside, in the words of the local API.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tandem_core::family::IpFamily;

use super::planes::CountView;
use crate::xdp::{DeviceRole, DeviceState, FlowShown, HopShown, OutsideStage, OutsideState};

/// Packets from outside. They are there if the configuration names devices, or if something is left of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutsideView {
    /// `on`, `waiting`, `failed`, `ending` or `off`
    pub state: String,
    /// Since when, in seconds. None if it is not known.
    pub since_seconds_ago: Option<f64>,
    /// Why it is not on. None if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The devices that the configuration names, and those by which packets may leave.
    pub devices: Vec<DeviceView>,
    /// How many instructions the kernel's verifier looked at.
    pub verified_instructions: u64,
    /// IPv4, then IPv6. None is there if there are no programs.
    pub families: Vec<PacketsView>,
}

/// A device.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceView {
    /// Its name, or the pattern that matches none.
    pub name: String,
    /// Its index. None if there is no such device.
    pub index: Option<u32>,
    /// `attached`, `wayOut` (packets may leave by it) or `refused` (nftables serves it)
    pub role: String,
    /// Who runs the program: `native` (the driver) or `generic` (the kernel).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Since when a program is attached, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_seconds_ago: Option<f64>,
    /// The number of its VLAN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// The device that carries its packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carrier: Option<String>,
    /// Why it is not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The packets and flows of one family.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PacketsView {
    /// `IPv4` or `IPv6`
    pub family: String,
    /// Packets that were translated and sent on.
    pub sent: u64,
    /// Packets that were answered, because they were larger than their way takes.
    pub answered: u64,
    /// Packets that were passed to nftables, or dropped where the reason says so.
    pub passed: Vec<CountView>,
    /// The flows.
    pub flows: u32,
    /// How many flows there can be.
    pub most_flows: u32,
    /// Records of flows that are over, which the next flows take.
    pub over: u32,
    /// Ports that are kept free, because somebody else uses them.
    pub held_ports: u32,
    /// The pages of records. An endpoint's flows are in one of them.
    pub pages: u32,
    /// The most records in use in one page, of 16,384.
    pub fullest_page: u32,
}

/// A flow that XDP translates.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowView {
    /// `TCP` or `UDP`
    pub protocol: String,
    /// Who asked: `address:port`
    pub client: String,
    /// What it asked for: `address:port`
    pub frontend: String,
    /// Who answers: `address:port`
    pub endpoint: String,
    /// What the endpoint sees as the client: `address:port`
    pub source: String,
    /// What it is doing, in the words of `conntrack -L`.
    pub state: String,
    /// For how long there has been one.
    pub age_seconds: u32,
    /// For how long there was no packet.
    pub idle_seconds: u32,
    /// Where packets to the endpoint go next.
    pub to_endpoint: HopView,
    /// Where packets to the client go next.
    pub to_client: HopView,
}

/// Where packets go next.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HopView {
    /// The device. None if it is gone.
    pub device: Option<String>,
    /// The neighbour.
    pub mac: String,
    /// Whether this was found by the routes as they are now. If not, the next packet asks again.
    pub current: bool,
}

fn ago(then: SystemTime) -> f64 {
    SystemTime::now().duration_since(then).unwrap_or_default().as_secs_f64()
}

impl OutsideView {
    pub(super) fn of(state: &OutsideState) -> Option<Self> {
        if !state.wanted && state.stage == OutsideStage::Off {
            return None;
        }
        let (name, since, reason) = match &state.stage {
            OutsideStage::Off => ("off", None, None),
            OutsideStage::Ending { until } => ("ending", None, Some(ending(*until))),
            OutsideStage::Waiting { why } => ("waiting", None, Some(why.to_string())),
            OutsideStage::On { since } => ("on", Some(ago(*since)), None),
            OutsideStage::Failed { why } => ("failed", None, Some(why.to_string())),
        };
        let families = state.counts.iter().flat_map(|counts| {
            [IpFamily::V4, IpFamily::V6].map(|family| {
                let (traffic, fill) = (counts.traffic(family), counts.fill(family));
                PacketsView {
                    family: family.to_string(),
                    sent: traffic.sent,
                    answered: traffic.answered,
                    passed: traffic
                        .left
                        .into_iter()
                        .map(|(reason, count)| CountView { reason, count })
                        .collect(),
                    flows: fill.flows,
                    most_flows: fill.pages * crate::xdp::PAGE,
                    over: fill.over,
                    held_ports: fill.held,
                    pages: fill.pages,
                    fullest_page: fill.fullest,
                }
            })
        });
        Some(Self {
            state: name.to_owned(),
            since_seconds_ago: since,
            reason,
            devices: state.devices.iter().map(DeviceView::of).collect(),
            verified_instructions: state.verified,
            families: families.collect(),
        })
    }
}

/// How long the flows may go on.
fn ending(until: SystemTime) -> String {
    let left = until.duration_since(SystemTime::now()).unwrap_or_default();
    let minutes = left.as_secs().div_ceil(60);
    let plural = if minutes == 1 { "" } else { "s" };
    format!("no new flows; those that there are go on, for {minutes} minute{plural} at most")
}

impl DeviceView {
    fn of(device: &DeviceState) -> Self {
        let plain = Self {
            name: device.name.clone(),
            index: (device.index != 0).then_some(device.index),
            role: String::new(),
            mode: None,
            since_seconds_ago: None,
            vlan: None,
            carrier: None,
            reason: None,
        };
        match &device.role {
            DeviceRole::Attached { mode, since } => Self {
                role: "attached".to_owned(),
                mode: Some((*mode).to_owned()),
                since_seconds_ago: Some(ago(*since)),
                ..plain
            },
            DeviceRole::WayOut { vlan, carrier } => Self {
                role: "wayOut".to_owned(),
                vlan: Some(*vlan),
                carrier: Some(carrier.clone()),
                ..plain
            },
            DeviceRole::Refused { why } => Self {
                role: "refused".to_owned(),
                reason: Some(why.to_string()),
                ..plain
            },
        }
    }
}

impl FlowView {
    /// `device` gives the name of a device by its index.
    pub(super) fn of(flow: &FlowShown, device: impl Fn(u32) -> Option<String>) -> Self {
        let hop = |hop: &HopShown| HopView {
            device: hop.device.and_then(&device),
            mac: hop.mac.to_string(),
            current: hop.current,
        };
        Self {
            protocol: flow.protocol.to_string(),
            client: flow.client.to_string(),
            frontend: flow.frontend.to_string(),
            endpoint: flow.endpoint.to_string(),
            source: flow.source.to_string(),
            state: flow.state.to_owned(),
            age_seconds: flow.age,
            idle_seconds: flow.idle,
            to_endpoint: hop(&flow.to_endpoint),
            to_client: hop(&flow.to_client),
        }
    }
}
