//! Which UDP flows the tables translate at this moment.

use std::collections::HashSet;

use tandem_core::family::Family;
use tandem_core::flows::Flow;

use super::conntrack::{Entries, EntriesError, Filter, Tracking as _};

/// Why they cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct TrackedError(#[from] EntriesError);

/// A flow, as its socket knows it: the address and port that it sends to, and its own port.
pub type Tracked<F> = (<F as Family>::Addr, u16, u16);

/// The UDP flows whose destination is translated. Two sockets in two networks may look the same here.
pub fn tracked<F: Family>() -> Result<HashSet<Tracked<F>>, TrackedError> {
    let mut found = HashSet::new();
    Entries::<F>::default().read(&Filter::Udp, &mut |flow, _| {
        if flow.to != flow.with {
            found.insert((flow.to.addr, flow.to.port.get(), flow.from.port.get()));
        }
    })?;
    Ok(found)
}

/// Calls `each` with every TCP and UDP flow that the kernel tracks.
pub fn each_tracked<F: Family>(mut each: impl FnMut(&Flow<F>)) -> Result<(), TrackedError> {
    let mut entries = Entries::<F>::default();
    entries.read(&Filter::Udp, &mut |flow, _| each(flow))?;
    entries.read(&Filter::Tcp, &mut |flow, _| each(flow))?;
    Ok(())
}
