//! Reads keys and values part by part. Used to decode elements. It trusts nothing: bytes that are no such part give
//! none.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tandem_core::family::{Family, IpFamily};
use tandem_core::id::{EndpointId, ServiceId};
use tandem_core::row::{Endpoint, L4Address, Port, Protocol};

/// The parts of a key or value. Each is taken from the front.
pub(super) struct Parts<'a>(pub(super) &'a [u8]);

impl Parts<'_> {
    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (part, rest) = self.0.split_at_checked(N)?;
        let padding = rest.get(..N.next_multiple_of(4) - N)?;
        padding.iter().all(|byte| *byte == 0).then_some(())?;
        self.0 = &rest[padding.len()..];
        part.try_into().ok()
    }

    pub(super) fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }

    pub(super) fn addr<F: Family>(&mut self) -> Option<F::Addr> {
        match F::FAMILY {
            IpFamily::V4 => F::addr(IpAddr::V4(Ipv4Addr::from(self.bytes::<4>()?))),
            IpFamily::V6 => F::addr(IpAddr::V6(Ipv6Addr::from(self.bytes::<16>()?))),
        }
    }

    pub(super) fn protocol(&mut self) -> Option<Protocol> {
        self.bytes::<1>().and_then(|[number]| Protocol::from_number(number))
    }

    pub(super) fn port(&mut self) -> Option<Port> {
        self.bytes().map(u16::from_be_bytes).and_then(Port::new)
    }

    pub(super) fn socket<F: Family>(&mut self) -> Option<L4Address<F>> {
        Some(L4Address {
            addr: self.addr::<F>()?,
            protocol: self.protocol()?,
            port: self.port()?,
        })
    }

    pub(super) fn endpoint<F: Family>(&mut self) -> Option<Endpoint<F>> {
        Some(Endpoint {
            addr: self.addr::<F>()?,
            port: self.port()?,
        })
    }

    pub(super) fn number(&mut self) -> Option<u32> {
        self.bytes().map(u32::from_ne_bytes)
    }

    pub(super) fn service(&mut self) -> Option<ServiceId> {
        self.number().and_then(ServiceId::from_raw)
    }

    pub(super) fn endpoint_id(&mut self) -> Option<EndpointId> {
        self.number().and_then(EndpointId::from_raw)
    }

    pub(super) fn slot(&mut self) -> Option<u16> {
        self.number().and_then(|slot| u16::try_from(slot).ok())
    }
}
