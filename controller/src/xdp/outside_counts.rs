//! What the programs for packets counted, and the flows that they have, as they are read out of the kernel's memory.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tandem_core::family::{IpFamily, V4, V6};
use tandem_core::row::Endpoint;
use tandem_xdp::kernel::{FlowFound, PacketMaps};
use tandem_xdp::{Hop, Plane};

use super::outside_report::{Fill, FlowShown, HopShown, OutsideCounts, TrafficCounts};
use super::place::words;
use crate::net::Mac;

/// The maps in the kernel.
pub(super) struct Kernels(pub(super) Arc<PacketMaps>);

impl Kernels {
    fn each<F: Plane>(&self, each: &mut dyn FnMut(FlowShown)) {
        let devices = self.0.devices().into_iter();
        let devices: BTreeMap<_, _> = devices.map(|(number, index, _)| (number, index)).collect();
        let read = self.0.flows::<F>(|flow| each(shown(&flow, &devices)));
        if let Err(error) = read {
            tracing::warn!("xdp: {}", words(error));
        }
    }
}

fn shown<F: Plane>(flow: &FlowFound<F>, devices: &BTreeMap<tandem_xdp::DeviceNumber, u32>) -> FlowShown {
    let end = |endpoint: Endpoint<F>| SocketAddr::new(endpoint.addr.into(), endpoint.port.get());
    let hop = |hop: Hop, current: bool| HopShown {
        device: devices.get(&hop.device()).copied(),
        mac: Mac(hop.mac().bytes()),
        current,
    };
    FlowShown {
        protocol: flow.protocol,
        client: end(flow.client),
        frontend: end(flow.frontend),
        endpoint: end(flow.endpoint),
        source: SocketAddr::new(flow.source.into(), flow.port),
        state: flow.state.name(),
        age: flow.age,
        idle: flow.idle,
        to_endpoint: hop(flow.hops[0], flow.current[0]),
        to_client: hop(flow.hops[1], flow.current[1]),
    }
}

impl OutsideCounts for Kernels {
    fn traffic(&self, family: IpFamily) -> TrafficCounts {
        let traffic = self.0.traffic(family).unwrap_or_else(|error| {
            tracing::warn!("xdp: {}", words(error));
            tandem_xdp::kernel::Traffic::default()
        });
        let left = traffic.left.into_iter();
        TrafficCounts {
            sent: traffic.sent,
            answered: traffic.answered,
            left: left.map(|(reason, count)| (reason.words().to_owned(), count)).collect(),
        }
    }

    fn fill(&self, family: IpFamily) -> Fill {
        let fill = match family {
            IpFamily::V4 => self.0.fill::<V4>(),
            IpFamily::V6 => self.0.fill::<V6>(),
        };
        let fill = fill.unwrap_or_else(|error| {
            tracing::warn!("xdp: {}", words(error));
            tandem_xdp::kernel::PageFill::default()
        });
        Fill {
            pages: fill.pages,
            flows: fill.flows,
            over: fill.over,
            held: fill.held,
            fullest: fill.fullest,
        }
    }

    fn flows(&self, family: IpFamily, each: &mut dyn FnMut(FlowShown)) {
        match family {
            IpFamily::V4 => self.each::<V4>(each),
            IpFamily::V6 => self.each::<V6>(each),
        }
    }
}
