//! Single packets given to the programs (`BPF_PROG_TEST_RUN`), for tests and measurements.

use std::io;
use std::time::Duration;

use aya::maps::{HashMap, Map, MapError, PerCpuArray};
use aya::programs::xdp::XdpLinkId;
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, XdpMode};
use tandem_xdp_layout::{
    Address4, Address6, BUCKET, DEVICE_WORDS, FlowAddress, FlowKey, FragmentKey, Record as _, StateWord, VisitorKey,
    record,
};

use super::{Packets, PacketsError, Records};
use crate::kernel::hash::Raw;
use crate::kernel::memory::Words;
use crate::kernel::object::refused;
use crate::kernel::usage;

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

    /// The memory that the kernel counts for all that is remembered of flows, clients and fragments.
    pub fn flow_memory(&self) -> io::Result<u64> {
        const MAPS: [&str; 5] = ["FLOWS", "INDEX", "HELD_FLOWS", "VISITORS", "FRAGMENTS"];
        let names = MAPS
            .into_iter()
            .flat_map(|name| ["4", "6"].map(|family| format!("{name}{family}")));
        let memory = names.map(|name| match self.object.map(&name) {
            Some(Map::Array(data) | Map::LruHashMap(data)) => usage::memory(data),
            _ => Err(io::ErrorKind::NotFound.into()),
        });
        memory.sum()
    }

    /// Loads a program for measurements, and attaches it to a device.
    pub(crate) fn attach(&mut self, name: &'static str, device: u32) -> Result<XdpLinkId, PacketsError> {
        let program = self.object.sample(name)?;
        let attached = program.attach_to_if_index(device, XdpMode::Driver);
        attached.map_err(|error| refused(name, &error).into())
    }

    /// Detaches one.
    pub(crate) fn detach(&mut self, name: &'static str, link: XdpLinkId) -> Result<(), PacketsError> {
        let detached = self.object.sample(name)?.detach(link);
        detached.map_err(|error| refused(name, &error).into())
    }

    /// Writes all words of a device, whatever they are.
    pub(crate) fn set_words(&self, number: u8, words: [u64; DEVICE_WORDS as usize]) {
        for (at, word) in (u32::from(number) * DEVICE_WORDS..).zip(words) {
            self.devices.set(at, word);
        }
    }

    /// Sends so many packets by the program that makes and redirects them, for real.
    pub(crate) fn generate(&mut self, count: u32) -> io::Result<()> {
        const BATCH: u32 = 64;
        let program = self.object.sample(super::object::GENERATE).map_err(io::Error::other)?;
        let options = TestRunOptions {
            data_in: Some(&[0; 64]),
            repeat: count,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::default()
        };
        program.test_run(options).map_err(io::Error::other)?;
        Ok(())
    }

    /// Loads the program that passes every packet.
    pub fn load_pass(&mut self) -> Result<(), PacketsError> {
        self.object.sample(super::object::PASS).map(drop)
    }

    /// Gives a packet to it.
    pub fn pass_packet(&self, packet: &[u8]) -> io::Result<Answer> {
        self.try_program(super::object::PASS, packet)
    }

    fn try_program(&self, name: &str, packet: &[u8]) -> io::Result<Answer> {
        let program = self.object.program(name).ok_or(io::ErrorKind::NotFound)?;
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

    /// The counts of the programs, all processors' together.
    pub fn counts(&self) -> Result<Vec<u64>, MapError> {
        let map = self.object.map("PACKET_COUNTS").ok_or(MapError::InvalidName {
            name: "PACKET_COUNTS".to_owned(),
        })?;
        let counts: PerCpuArray<_, u64> = map.try_into()?;
        let count = |at| Ok(counts.get(&at, 0)?.iter().sum());
        (0..counts.len()).map(count).collect()
    }

    /// Forgets all flows, clients and fragments of a family.
    pub fn forget_all(&mut self, six: bool) -> Result<(), PacketsError> {
        let index = self.index(six)?;
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

    /// The words of the index of a family.
    pub(crate) fn index(&self, six: bool) -> Result<Words, PacketsError> {
        let name = if six { "INDEX6" } else { "INDEX4" };
        let Some(Map::Array(data)) = self.object.map(name) else {
            return Err(PacketsError::Missing(name));
        };
        let info = data.info().map_err(|error| PacketsError::Map(name, error))?;
        let words = info.max_entries() * BUCKET;
        Words::map(data.fd(), words).map_err(|error| PacketsError::Memory(name, error))
    }

    fn empty<K: Copy + 'static>(&mut self, name: &'static str) -> Result<(), PacketsError> {
        let map = self.object.map_mut(name).ok_or(PacketsError::Missing(name))?;
        let wrong = |error| PacketsError::Map(name, error);
        let mut hash: HashMap<_, Raw<K>, u64> = map.try_into().map_err(wrong)?;
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
        let map = self.object.map(name).ok_or(PacketsError::Missing(name))?;
        let hash: HashMap<_, Raw<K>, u64> = map.try_into().map_err(|error| PacketsError::Map(name, error))?;
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
