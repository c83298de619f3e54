//! Which slices serve which port of a Service. This is an index, because a Service may have hundreds of ports and
//! hundreds of slices.

use crate::family::Family;
use crate::object::{EndpointSlice, ServicePort};
use crate::row::{Port, Protocol};

/// The ports of a Service's slices.
#[derive(Debug)]
pub(super) struct Served<'a>(Vec<Entry<'a>>);

/// A port of a slice.
#[derive(Debug)]
struct Entry<'a> {
    name: &'a str,
    protocol: Protocol,
    number: Port,
    slice: &'a EndpointSlice,
}

impl<'a> Served<'a> {
    /// The ports of all slices of family `F`.
    pub(super) fn new<F: Family>(slices: impl Iterator<Item = &'a EndpointSlice>) -> Self {
        let of_family = slices.filter(|slice| slice.family == F::FAMILY);
        let entries = of_family.flat_map(|slice| {
            slice.ports.iter().map(move |port| Entry {
                name: &port.name,
                protocol: port.protocol,
                number: port.port,
                slice,
            })
        });
        let mut entries: Vec<_> = entries.collect();
        // The sort is stable, so slices stay in their order.
        entries.sort_by_key(Entry::key);
        Self(entries)
    }

    /// The slices that serve a port, each with the port number of its endpoints.
    pub(super) fn by(&self, port: &ServicePort) -> impl Iterator<Item = (&'a EndpointSlice, Port)> + use<'a, '_> {
        let key = (&*port.name, port.protocol);
        let first = self.0.partition_point(|entry| entry.key() < key);
        let count = self.0[first..].partition_point(|entry| entry.key() == key);
        self.0[first..first + count]
            .iter()
            .map(|entry| (entry.slice, entry.number))
    }
}

impl<'a> Entry<'a> {
    fn key(&self) -> (&'a str, Protocol) {
        (self.name, self.protocol)
    }
}
