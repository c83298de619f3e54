//! How large a Service may be, so that one object cannot delay all others. Everything is counted before any row is
//! made.

use crate::family::Family;
use crate::object::Service;

use super::Outside;
use super::served::Served;

/// The largest number of frontends of a Service in one family: its addresses times its ports.
pub const MOST_FRONTENDS: usize = 32_768;
/// The largest number of entries that its source ranges may make in one family: ranges times LoadBalancer addresses
/// times ports. These cost the kernel more than anything else.
pub const MOST_SOURCES: usize = 8_192;
/// The largest number of entries that its slices may have for its ports in one family, ready or not.
pub const MOST_ENDPOINTS: usize = 131_072;

/// What a Service has too many of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    /// Addresses and ports.
    #[error("its addresses times its ports are {0} frontends; a Service can have {MOST_FRONTENDS}")]
    Frontends(usize),
    /// Source ranges.
    #[error(
        "its source ranges times its LoadBalancer addresses and ports are {0} entries; a Service can have {MOST_SOURCES}"
    )]
    Sources(usize),
    /// Endpoints.
    #[error("its slices have {0} endpoints for its ports; a Service can have {MOST_ENDPOINTS}")]
    Endpoints(usize),
}

/// Checks whether a Service is within the limits in family `F`.
pub(super) fn check<F: Family>(service: &Service, outside: &[Outside<F>], served: &Served<'_>) -> Result<(), TooLarge> {
    let ports = service.ports.len();
    let node_ports = service.ports.iter().filter(|port| port.node_port.is_some()).count();
    let frontends = ports * (1 + outside.len()) + node_ports;
    if frontends > MOST_FRONTENDS {
        return Err(TooLarge::Frontends(frontends));
    }
    let ranges: usize = outside
        .iter()
        .filter_map(|outside| outside.sources.as_deref())
        .map(<[_]>::len)
        .sum();
    let sources = ranges.saturating_mul(ports);
    if sources > MOST_SOURCES {
        return Err(TooLarge::Sources(sources));
    }
    let entries = |port| served.by(port).map(|(slice, _)| slice.endpoints.len()).sum::<usize>();
    let endpoints: usize = service.ports.iter().map(entries).sum();
    if endpoints > MOST_ENDPOINTS {
        return Err(TooLarge::Endpoints(endpoints));
    }
    Ok(())
}
