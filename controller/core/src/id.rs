//! Service ids and endpoint ids: the 32-bit numbers that travel in a packet's priority while the rules find its
//! endpoint. They lie in `f000:0000`–`ffff:ffff`, so that a later rule can recognise an id that is still in the
//! priority.
//!
//! - Service ids without affinity: multiples of `200` in `f000:0200`–`f3ff:fe00`. The data plane uses the low 9 bits to
//!   note how an endpoint is picked.
//! - Service ids with ClientIP affinity: multiples of `1000` in `f400:0000`–`f7ff:f000`. The low 12 bits number the
//!   Service's endpoints, so an endpoint id masked with `ffff:f000` is its Service's id. A remembered endpoint id can
//!   therefore never lead to another Service, whichever numbers are used again.
//! - Bit 27 (`0800:0000`) of either selects the list of endpoints on this node.

use std::fmt;

/// The bits that every id has: the first four.
pub const TAG: u32 = 0xf000_0000;

/// The bit that selects the list of endpoints on this node.
pub const LOCAL_BIT: u32 = 0x0800_0000;

const PLAIN_STEP: u32 = 0x200;
const STICKY_FIRST: u32 = 0xf400_0000;
const STICKY_STEP: u32 = 0x1000;

/// How many endpoints a list with affinity can hold: the low 12 bits, without zero.
pub const STICKY_ENDPOINTS: usize = ENDPOINT_BITS as usize;

/// The bits that are zero in every service id. The data plane uses them to note how an endpoint is picked.
pub const PICK_BITS: u32 = PLAIN_STEP - 1;

/// The bits of an id with ClientIP affinity that number an endpoint of the list.
pub const ENDPOINT_BITS: u32 = STICKY_STEP - 1;

/// The id of one list of endpoints: all usable endpoints of a Service port or, with the local bit, those on this node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(u32);

impl ServiceId {
    /// The number of ids without affinity.
    pub const PLAIN: u32 = (STICKY_FIRST - TAG) / PLAIN_STEP - 1;
    /// The number of ids with affinity.
    pub const STICKY: u32 = ((TAG | LOCAL_BIT) - STICKY_FIRST) / STICKY_STEP;

    /// The `n`th id without affinity, from 0; none after the last.
    pub fn plain(n: u32) -> Option<Self> {
        let id = TAG.checked_add(n.checked_add(1)?.checked_mul(PLAIN_STEP)?)?;
        (id < STICKY_FIRST).then_some(Self(id))
    }

    /// The `n`th id with affinity, from 0; none after the last.
    pub fn sticky(n: u32) -> Option<Self> {
        let id = STICKY_FIRST.checked_add(n.checked_mul(STICKY_STEP)?)?;
        (id < TAG | LOCAL_BIT).then_some(Self(id))
    }

    /// Reads an id from the kernel; none if it is not one of Tandem's.
    pub fn from_raw(raw: u32) -> Option<Self> {
        let base = raw & !LOCAL_BIT;
        let ours = (TAG + PLAIN_STEP..STICKY_FIRST).contains(&base) && base.is_multiple_of(PLAIN_STEP)
            || (STICKY_FIRST..TAG | LOCAL_BIT).contains(&base) && base.is_multiple_of(STICKY_STEP);
        ours.then_some(Self(raw))
    }

    /// The number as the kernel holds it.
    pub fn raw(self) -> u32 {
        self.0
    }

    /// The id of the same Service port's list of endpoints on this node.
    #[must_use]
    pub fn local(self) -> Self {
        Self(self.0 | LOCAL_BIT)
    }

    /// The id of the same Service port's list of all usable endpoints.
    #[must_use]
    pub fn all(self) -> Self {
        Self(self.0 & !LOCAL_BIT)
    }

    /// Whether this is a list of endpoints on this node.
    pub fn is_local(self) -> bool {
        self.0 & LOCAL_BIT != 0
    }

    /// Whether this id belongs to a list with ClientIP affinity.
    pub fn is_sticky(self) -> bool {
        self.all().0 >= STICKY_FIRST
    }

    /// The number `n` for which [`Self::plain`] or [`Self::sticky`] returns this id.
    pub fn number(self) -> u32 {
        let base = self.all().0;
        if base >= STICKY_FIRST {
            (base - STICKY_FIRST) / STICKY_STEP
        } else {
            (base - TAG) / PLAIN_STEP - 1
        }
    }

    /// The id of endpoint `n` (1 to [`STICKY_ENDPOINTS`]) of this list with affinity.
    pub fn endpoint(self, n: u16) -> Option<EndpointId> {
        (self.is_sticky() && (1..=STICKY_ENDPOINTS).contains(&usize::from(n)))
            .then(|| EndpointId(self.0 | u32::from(n)))
    }
}

/// Writes the id as nft prints it: `f000:0200`.
impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:04x}", self.0 >> 16, self.0 & 0xffff)
    }
}

impl fmt::Debug for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One endpoint of a list with affinity, as the kernel remembers it per client.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(u32);

impl EndpointId {
    /// Reads an id from the kernel; none if it is not one of Tandem's.
    pub fn from_raw(raw: u32) -> Option<Self> {
        let service = ServiceId::from_raw(raw & !ENDPOINT_BITS)?;
        service.endpoint((raw & ENDPOINT_BITS) as u16)
    }

    /// The number as the kernel holds it.
    pub fn raw(self) -> u32 {
        self.0
    }

    /// The list this endpoint belongs to.
    pub fn service(self) -> ServiceId {
        ServiceId(self.0 & !ENDPOINT_BITS)
    }

    /// The endpoint's number in its list, from 1.
    pub fn number(self) -> u16 {
        (self.0 & ENDPOINT_BITS) as u16
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:04x}", self.0 >> 16, self.0 & 0xffff)
    }
}

impl fmt::Debug for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_id_gives_its_service_back() {
        let service = ServiceId::sticky(7).unwrap().local();
        let endpoint = service.endpoint(4095).unwrap();
        assert_eq!(endpoint.service(), service);
        assert_eq!(endpoint.number(), 4095);
        assert_eq!(EndpointId::from_raw(endpoint.raw()), Some(endpoint));
        assert_eq!(service.endpoint(0), None);
        assert_eq!(ServiceId::plain(7).unwrap().endpoint(1), None);
    }

    #[test]
    fn ids_stay_inside_their_ranges() {
        assert_eq!(ServiceId::plain(0).unwrap().to_string(), "f000:0200");
        assert_eq!(ServiceId::sticky(0).unwrap().to_string(), "f400:0000");
        assert_eq!(ServiceId::sticky(16_383).unwrap().to_string(), "f7ff:f000");
        assert_eq!(ServiceId::sticky(16_384), None);
        assert_eq!(ServiceId::plain(131_071), None);
        assert_eq!(ServiceId::plain(u32::MAX), None);
        assert_eq!(ServiceId::from_raw(0xf000_0000), None);
        assert_eq!(ServiceId::from_raw(0xf400_0001), None);
        assert_eq!(ServiceId::from_raw(0x1000_0001), None);
    }

    #[test]
    fn the_counts_of_ids_are_the_ends_of_their_ranges() {
        for (count, make) in [
            (ServiceId::PLAIN, ServiceId::plain as fn(u32) -> Option<ServiceId>),
            (ServiceId::STICKY, ServiceId::sticky),
        ] {
            assert!(make(count - 1).is_some());
            assert_eq!(make(count), None);
        }
    }

    #[test]
    fn numbers_come_back() {
        for n in [0, 1, 16_383] {
            assert_eq!(ServiceId::plain(n).unwrap().local().number(), n);
            assert_eq!(ServiceId::sticky(n).unwrap().local().number(), n);
        }
    }
}
