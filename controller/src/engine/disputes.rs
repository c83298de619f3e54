//! Frontends that several Services want: which Service has each, and which ones wait. This is updated with each change.
//! So readers need not ask the tables, and a change costs only what it disputes.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rpds::HashTrieMapSync;
use tandem_core::family::Family;
use tandem_core::plan::PortKey;
use tandem_core::row::{Class, Frontend, Port, Protocol};
use tandem_core::table::Table;

/// A frontend of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The kind of address and the address; none for a nodePort.
    pub addr: Option<(Class, IpAddr)>,
    /// The port.
    pub port: Port,
    /// The protocol.
    pub protocol: Protocol,
}

impl<F: Family> From<Frontend<F>> for Place {
    fn from(frontend: Frontend<F>) -> Self {
        match frontend {
            Frontend::Address { class, at } => Self {
                addr: Some((class, at.addr.into())),
                port: at.port,
                protocol: at.protocol,
            },
            Frontend::NodePort { protocol, port } => Self {
                addr: None,
                port,
                protocol,
            },
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.addr {
            Some((_, addr)) => write!(f, "{}/{}", SocketAddr::new(addr, self.port.get()), self.protocol),
            None => write!(f, "nodePort {}/{}", self.port, self.protocol),
        }
    }
}

/// The frontends of one family that several Service ports want. A copy shares everything that did not change.
#[derive(Clone, Debug, Default)]
pub struct Disputes(HashTrieMapSync<Place, Arc<[PortKey]>>);

impl Disputes {
    /// The Service port that has the frontend instead of this port; none if this port has it, or does not want it.
    pub fn holder(&self, place: &Place, port: &PortKey) -> Option<&PortKey> {
        let claimants = self.0.get(place)?;
        let holder = claimants.first()?;
        (holder != port && claimants.contains(port)).then_some(holder)
    }

    /// Every claim that waits, sorted: the port that waits, the port that has the frontend, and the frontend.
    pub fn waiting(&self) -> Vec<(&PortKey, &PortKey, Place)> {
        let waiting = self.0.iter().flat_map(|(place, claimants)| {
            let holder = claimants.first();
            let waits = claimants.iter().skip(1);
            waits.filter_map(move |port| Some((port, holder?, *place)))
        });
        let mut waiting: Vec<_> = waiting.collect();
        waiting.sort_unstable();
        waiting
    }

    /// Updates this from what changed in the table.
    pub(super) fn follow<F: Family>(&mut self, table: &mut Table<F>) {
        let mut began = Vec::new();
        for frontend in table.take_disputed() {
            let place = Place::from(frontend);
            let claimants: Arc<[PortKey]> = table.claimants(&frontend).cloned().collect();
            if claimants.len() > 1 {
                if !self.0.contains_key(&place) {
                    began.push((place, claimants.clone()));
                }
                self.0.insert_mut(place, claimants);
            } else {
                self.0.remove_mut(&place);
            }
        }
        if let Some((place, claimants)) = began.first() {
            let claimants: Vec<String> = claimants.iter().map(ToString::to_string).collect();
            tracing::warn!(
                family = %F::FAMILY, frontend = %place, claimants = claimants.join(", "), others = began.len() - 1,
                "several Services claim one address and port: the oldest has it"
            );
        }
    }
}
