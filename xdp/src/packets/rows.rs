//! The rows of the Services.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;

use ipnet::IpNet;
use tandem_core::id::ServiceId;
use tandem_core::row::{Class, Endpoint, Frontend, L4Address, Label, Pick, Port, Protocol, Row};

use super::Failed;
use super::net::{Net, port};
use super::network::zero;
use crate::convert::Plane;

/// How many endpoints the Service with many has.
const MANY: u8 = 64;

/// Makes the rows of one family.
struct Maker<F: Plane, O> {
    of: O,
    services: u32,
    rows: Vec<Row<F>>,
}

fn number(number: u16) -> Result<Port, Failed> {
    Ok(NonZeroU16::new(number).ok_or("a port is 0")?)
}

impl<F: Plane, O: Fn(IpAddr) -> F::Addr> Maker<F, O> {
    fn at(&self, addr: IpAddr, protocol: Protocol, port: u16) -> Result<L4Address<F>, Failed> {
        Ok(L4Address {
            addr: (self.of)(addr),
            protocol,
            port: number(port)?,
        })
    }

    /// A list without affinity, of all endpoints or of those on this node.
    fn plain(&mut self, frontend: Frontend<F>, pods: &[SocketAddr], local: bool) -> Result<(), Failed> {
        self.services += 1;
        let service = ServiceId::plain(self.services).ok_or("there is no such id")?;
        let service = if local { service.local() } else { service };
        for (slot, pod) in (0..).zip(pods) {
            let endpoint = self.endpoint(*pod)?;
            self.rows.push(Row::Endpoint {
                service,
                slot,
                endpoint,
            });
        }
        let count = u16::try_from(pods.len())?;
        let pick = NonZeroU16::new(count).map_or(Pick::Refuse, |count| Pick::Any { count });
        self.service(frontend, service, pick);
        Ok(())
    }

    /// A list with affinity.
    fn sticky(&mut self, frontend: Frontend<F>, pods: &[SocketAddr]) -> Result<(), Failed> {
        self.services += 1;
        let service = ServiceId::sticky(self.services).ok_or("there is no such id")?;
        for (slot, pod) in (0..).zip(pods) {
            let endpoint = self.endpoint(*pod)?;
            // Numbers begin at 1: the first one is the Service's own id.
            let id = service.endpoint(slot + 1).ok_or("there is no such endpoint")?;
            self.rows.push(Row::EndpointId { id, endpoint });
            self.rows.push(Row::StickyEndpoint { service, slot, id });
        }
        let count = NonZeroU16::new(u16::try_from(pods.len())?).ok_or("no endpoint")?;
        self.service(frontend, service, Pick::Sticky { count, seconds: 100 });
        Ok(())
    }

    fn endpoint(&self, pod: SocketAddr) -> Result<Endpoint<F>, Failed> {
        Ok(Endpoint {
            addr: (self.of)(pod.ip()),
            port: number(pod.port())?,
        })
    }

    fn service(&mut self, frontend: Frontend<F>, service: ServiceId, pick: Pick) {
        let label: Label = format!("a/{}", self.services).into();
        self.rows.push(Row::Service {
            service,
            pick,
            label: Arc::clone(&label),
        });
        self.rows.push(Row::Frontend {
            frontend,
            service,
            label,
        });
    }

    fn protocol(&mut self, net: Net, protocol: Protocol) -> Result<(), Failed> {
        let out = [net.pod(1, 1)];
        let many: Vec<SocketAddr> = (1..=MANY).map(|number| net.pod(1, number)).collect();
        let plain: [(u16, &[SocketAddr], bool); 11] = [
            (port::OUT, &out, false),
            (port::NONE, &[], false),
            (port::DENIED, &out, false),
            (port::ALLOWED, &out, false),
            (port::LOCAL, &[net.pod(7, 1)], true),
            (port::HERE, &[net.pod(7, 1)], false),
            (port::TUNNEL, &[net.pod(5, 1)], false),
            (port::UNKNOWN, &[net.pod(9, 1)], false),
            (port::SMALL, &[net.pod(2, 1)], false),
            (port::VLAN, &[net.pod(3, 1)], false),
            (port::MANY, &many, false),
        ];
        for (port, pods, local) in plain {
            let at = self.at(net.vip(), protocol, port)?;
            self.plain(external(at), pods, local)?;
        }
        let at = self.at(net.vip(), protocol, port::HIGH)?;
        self.plain(external(at), &out, false)?;
        let at = self.at(net.vip(), protocol, port::STICKY)?;
        self.sticky(external(at), &[net.pod(1, 1), net.pod(1, 2)])?;
        let at = self.at(net.cluster_ip(), protocol, port::CLUSTER)?;
        let cluster = Frontend::Address {
            class: Class::Cluster,
            at,
        };
        self.plain(cluster, &out, false)?;
        let port = number(port::NODE)?;
        self.plain(Frontend::NodePort { protocol, port }, &out, false)
    }

    /// Only some sources may reach these.
    fn restricted(&mut self, net: Net, protocol: Protocol) -> Result<(), Failed> {
        for (port, may) in [(port::DENIED, net.far_client(0)), (port::ALLOWED, net.client(0, 0))] {
            let at = self.at(net.vip(), protocol, port)?;
            self.rows.push(Row::Restricted { at });
            let source = IpNet::new(zero(may.ip()), if net.six { 64 } else { 24 })?;
            let source = F::net(source).ok_or("a range is of the other family")?;
            self.rows.push(Row::AllowedSource { at, source });
        }
        Ok(())
    }
}

fn external<F: Plane>(at: L4Address<F>) -> Frontend<F> {
    Frontend::Address {
        class: Class::External,
        at,
    }
}

/// The rows of one family.
pub(crate) fn rows<F: Plane>(of: impl Fn(IpAddr) -> F::Addr, net: Net) -> Result<Vec<Row<F>>, Failed> {
    let mut maker = Maker {
        of,
        services: 0,
        rows: Vec::new(),
    };
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        maker.protocol(net, protocol)?;
        maker.restricted(net, protocol)?;
    }
    let addr = (maker.of)(net.own(0));
    maker.rows.push(Row::NodeAddress { addr });
    Ok(maker.rows)
}
