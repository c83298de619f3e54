//! Single packets given to the programs (`BPF_PROG_TEST_RUN`), for tests and measurements.

use std::io;
use std::time::Duration;

use aya::maps::HashMap;
use aya::programs::{TestRun as _, TestRunOptions};
use tandem_xdp_layout::{
    Address4, Address6, BUCKET, FlowAddress, FlowKey, FragmentKey, Record as _, SLOTS, StateWord, VisitorKey, record,
};

use super::Packets;
use super::error::PacketsError;
use super::maps::{map, words};
use super::records::Records;
use crate::kernel::hash::Raw;

/// What a program did with a packet.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The verdict's number (`enum xdp_action`).
    pub action: u32,
    /// The packet afterwards.
    pub packet: Vec<u8>,
    /// How long it took.
    pub took: Duration,
}

/// The size of the largest packet that comes back.
const LARGEST: usize = 4096;

impl Packets {
    /// Gives a packet to a program: the one for packets in one piece, or the one for packets in parts.
    pub fn try_packet(&self, parts: bool, packet: &[u8]) -> io::Result<Answer> {
        self.try_program(super::object::PROGRAMS[usize::from(parts)], packet)
    }

    /// Loads the program that passes every packet.
    pub fn load_pass(&self) -> Result<(), PacketsError> {
        Ok(super::super::lock(&self.programs).load_pass()?)
    }

    /// Gives a packet to it.
    pub fn pass_packet(&self, packet: &[u8]) -> io::Result<Answer> {
        self.try_program(super::object::PASS, packet)
    }

    fn try_program(&self, name: &str, packet: &[u8]) -> io::Result<Answer> {
        // Others may try packets at the same time.
        let object = super::super::lock(&self.programs)
            .packets()
            .ok_or(io::ErrorKind::NotFound)?;
        let program = object.program(name).ok_or(io::ErrorKind::NotFound)?;
        let mut after = vec![0; LARGEST];
        let result = program
            .test_run(TestRunOptions {
                data_in: Some(packet),
                data_out: Some(&mut after),
                ..TestRunOptions::default()
            })
            .map_err(io::Error::other)?;
        after.truncate(result.data_size_out as usize);
        Ok(Answer {
            action: result.return_value,
            packet: after,
            took: result.duration,
        })
    }

    /// Forgets all flows, clients and fragments of a family.
    pub fn forget_all(&self, six: bool) -> Result<(), PacketsError> {
        let name = if six { "INDEX6" } else { "INDEX4" };
        let buckets = 2 * self.pages()[usize::from(six)] * SLOTS / BUCKET;
        let index = words(self.pins(), name, buckets * BUCKET)?;
        for (at, word) in index.all() {
            if word != 0 {
                index.set(at, 0);
            }
        }
        if six {
            forget(&self.records::<Address6>(six)?);
            self.empty::<FlowKey<Address6>>("HELD_FLOWS6")?;
            self.empty::<VisitorKey<Address6>>("VISITORS6")?;
            return self.empty::<FragmentKey<Address6>>("FRAGMENTS6");
        }
        forget(&self.records::<Address4>(six)?);
        self.empty::<FlowKey<Address4>>("HELD_FLOWS4")?;
        self.empty::<VisitorKey<Address4>>("VISITORS4")?;
        self.empty::<FragmentKey<Address4>>("FRAGMENTS4")
    }

    fn empty<K: Copy + 'static>(&self, name: &'static str) -> Result<(), PacketsError> {
        let wrong = |error| PacketsError::Map(name, error);
        let mut hash: HashMap<_, Raw<K>, u64> = map(self.pins(), name)?.try_into().map_err(wrong)?;
        let keys: Vec<_> = hash.keys().collect::<Result<_, _>>().map_err(wrong)?;
        for key in keys {
            hash.remove(&key).map_err(wrong)?;
        }
        Ok(())
    }

    /// How many flows of nftables are remembered, of IPv4 or IPv6.
    pub fn held(&self, six: bool) -> Result<usize, PacketsError> {
        if six {
            self.count::<FlowKey<Address6>>("HELD_FLOWS6")
        } else {
            self.count::<FlowKey<Address4>>("HELD_FLOWS4")
        }
    }

    fn count<K: Copy + 'static>(&self, name: &'static str) -> Result<usize, PacketsError> {
        let hash: HashMap<_, Raw<K>, u64> = map(self.pins(), name)?
            .try_into()
            .map_err(|error| PacketsError::Map(name, error))?;
        Ok(hash.keys().count())
    }
}

/// Forgets the flows of all records.
fn forget<A: FlowAddress>(records: &Records<A>) {
    for (_, words) in records.all() {
        if record::state(words) != StateWord::default() {
            for at in 0..A::WORDS {
                words.set(at, 0);
            }
        }
    }
}
