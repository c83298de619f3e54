//! The records of flows, as those who cut wrong flows read them.

use std::io;

use tandem_core::flows::Translation;
use tandem_xdp::kernel::Records;
use tandem_xdp::{Plane, Times, cut_datagrams};

use crate::flows::{FlowRecords, Found};

/// One family's records. They are mapped only while they are read, because what is mapped counts as the agent's memory.
pub struct XdpRecords<O> {
    open: O,
}

impl<O> XdpRecords<O> {
    /// `open` maps the records, and says how long flows live without a packet. It is called for each reading, by
    /// another thread.
    pub fn new(open: O) -> Self {
        Self { open }
    }
}

impl<F, O> FlowRecords<F> for XdpRecords<O>
where
    F: Plane,
    O: Fn() -> io::Result<(Records<F::Mapped>, Times)> + Send + Sync,
{
    fn cut(&self, wrong: &mut dyn FnMut(Translation<F>) -> bool) -> io::Result<Found> {
        let (records, times) = (self.open)()?;
        let all = records.all().map(|(_, record)| record);
        let found = cut_datagrams::<F>(all, Records::<F::Mapped>::now(), &times, wrong);
        Ok(Found {
            read: found.read,
            cut: found.cut,
        })
    }
}
