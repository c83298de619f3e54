//! Single packets given to the programs (`BPF_PROG_TEST_RUN`), for tests and measurements.

use std::io;
use std::time::Duration;

use aya::maps::{HashMap, Map};
use aya::programs::xdp::XdpLinkId;
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp, XdpMode};
use tandem_xdp_layout::{
    Address4, Address6, BUCKET, DEVICE_WORDS, DeviceNumber, FlowAddress, FlowKey, FragmentKey, Record as _, SLOTS,
    StateWord, VisitorKey, record,
};

use super::Packets;
use super::error::PacketsError;
use super::maps::{map, words};
use super::records::Records;
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
        let object = self.object()?;
        let memory = names.map(|name| match object.map(&name) {
            Some(Map::Array(data) | Map::LruHashMap(data)) => usage::memory(data),
            _ => Err(io::ErrorKind::NotFound.into()),
        });
        memory.sum()
    }

    /// Does something with a program that only measurements have. Nobody else uses the programs meanwhile.
    fn sample<T>(&self, name: &'static str, does: impl FnOnce(&mut Xdp) -> T) -> Result<T, PacketsError> {
        let mut programs = super::super::lock(&self.programs);
        let object = programs.packets_mut().ok_or(PacketsError::Missing(name))?;
        object.sample(name).map(does)
    }

    /// Loads a program for measurements, and attaches it to a device.
    pub(crate) fn attach_sample(&self, name: &'static str, device: u32) -> Result<XdpLinkId, PacketsError> {
        let attached = self.sample(name, |program| program.attach_to_if_index(device, XdpMode::Driver))?;
        attached.map_err(|error| refused(name, &error).into())
    }

    /// Detaches one.
    pub(crate) fn detach_sample(&self, name: &'static str, link: XdpLinkId) -> Result<(), PacketsError> {
        let detached = self.sample(name, |program| program.detach(link))?;
        detached.map_err(|error| refused(name, &error).into())
    }

    /// Writes all words of a device, whatever they are.
    pub(crate) fn set_words(&self, number: u8, device: [u64; DEVICE_WORDS as usize]) -> Result<(), PacketsError> {
        let devices = words(self.pins(), "DEVICES", DEVICE_WORDS * u32::from(DeviceNumber::COUNT))?;
        for (at, word) in (u32::from(number) * DEVICE_WORDS..).zip(device) {
            devices.set(at, word);
        }
        Ok(())
    }

    /// Sends so many packets by the program that makes and redirects them, for real.
    pub(crate) fn generate(&self, count: u32) -> io::Result<()> {
        const BATCH: u32 = 64;
        let options = TestRunOptions {
            data_in: Some(&[0; 64]),
            repeat: count,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::default()
        };
        let sent = self.sample(super::object::GENERATE, |program| program.test_run(options));
        sent.map_err(io::Error::other)?.map_err(io::Error::other)?;
        Ok(())
    }

    /// Loads the program that passes every packet.
    pub fn load_pass(&self) -> Result<(), PacketsError> {
        self.sample(super::object::PASS, |_| ())
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
        let buckets = 2 * self.pages()[usize::from(six)] * SLOTS / BUCKET;
        words(self.pins(), name, buckets * BUCKET)
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
