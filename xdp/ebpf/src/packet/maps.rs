//! What only the packet programs have. The agent makes the maps as large as they must be.

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray};
use tandem_xdp_layout::{
    Address4, Address6, BUCKET, DEVICE_WORDS, DeviceKey, DeviceNumber, FlowAddress, FlowKey, FragmentKey, IngressWord, PacketCount,
    PacketWords, SLOTS, VisitorKey,
};

/// What the packet program asks first: see [`tandem_xdp_layout::PacketSettings`].
#[map]
pub(crate) static PACKETS: Array<PacketWords> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// What the packet program did.
#[map]
pub(crate) static PACKET_COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(PacketCount::PLACES, 0);

/// How many packets this processor answered in a second: the second (upper half), and how many.
#[map]
pub(crate) static ANSWERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// The devices by which packets may leave, by their numbers.
#[map]
pub(crate) static DEVICES: Array<u64> =
    Array::with_max_entries(DEVICE_WORDS * DeviceNumber::COUNT as u32, BPF_F_MMAPABLE);

/// The numbers of devices.
#[map]
pub(crate) static DEVICE_NUMBERS: HashMap<DeviceKey, u64> = HashMap::with_max_entries(1024, BPF_F_NO_PREALLOC);

/// The devices whose packets are taken.
#[map]
pub(crate) static INGRESS: Array<u64> = Array::with_max_entries(IngressWord::COUNT, BPF_F_MMAPABLE);

/// A bucket of the index.
pub(crate) type Bucket = [u64; BUCKET as usize];
/// The record of a flow.
pub(crate) type Record4 = [u64; Address4::WORDS as usize];
pub(crate) type Record6 = [u64; Address6::WORDS as usize];

macro_rules! packets {
    ($address:ty, $record:ty: $flows:ident $index:ident $held:ident $visitors:ident $fragments:ident) => {
        #[map]
        pub(crate) static $flows: Array<$record> = Array::with_max_entries(SLOTS, BPF_F_MMAPABLE);
        #[map]
        pub(crate) static $index: Array<Bucket> = Array::with_max_entries(2 * SLOTS / BUCKET, BPF_F_MMAPABLE);
        #[map]
        pub(crate) static $held: LruHashMap<FlowKey<$address>, u64> = LruHashMap::with_max_entries(65_536, 0);
        #[map]
        pub(crate) static $visitors: LruHashMap<VisitorKey<$address>, u64> = LruHashMap::with_max_entries(65_536, 0);
        #[map]
        pub(crate) static $fragments: LruHashMap<FragmentKey<$address>, u64> = LruHashMap::with_max_entries(8192, 0);
    };
}

packets!(Address4, Record4: FLOWS4 INDEX4 HELD_FLOWS4 VISITORS4 FRAGMENTS4);
packets!(Address6, Record6: FLOWS6 INDEX6 HELD_FLOWS6 VISITORS6 FRAGMENTS6);
