//! Maps and helpers, as the code for packets sees them.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use aya_ebpf::bindings::{bpf_fib_lookup, xdp_md};
use aya_ebpf::helpers::generated::{
    bpf_fib_lookup as fib_lookup, bpf_ktime_get_coarse_ns, bpf_map_lookup_elem, bpf_xdp_adjust_head, bpf_xdp_adjust_tail,
};
use aya_ebpf::maps::{Array, LpmTrie, LruHashMap};
use tandem_xdp_layout::{
    self as layout, Address4, Address6, DEVICE_WORDS, DeviceKey, DeviceNumber, FlowKey, FragmentKey, FrontendKey,
    IngressWord, ListIndex, Mac, Maps, RecordNumber, SourceKey, Switch, VisitorKey,
};
use tandem_xdp_packet::{FamilyWorld, Frame as _, Route, Way, World};

use super::frame::Frame;
use super::maps::{
    ANSWERS, Bucket, DEVICE_NUMBERS, DEVICES, FLOWS4, FLOWS6, FRAGMENTS4, FRAGMENTS6, HELD_FLOWS4, HELD_FLOWS6, INDEX4, INDEX6,
    INGRESS, PACKETS, Record4, Record6, VISITORS4, VISITORS6,
};
use super::number;
use crate::atomic;
use crate::rows::{self, Kernel, Rows as _};

/// TCP's number in the IP header.
const TCP: u8 = 6;
/// The families' numbers for routes.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// What a question for a route may be answered: `BPF_FIB_LKUP_RET_…`.
const SUCCESS: i64 = 0;
const NO_NEIGHBOUR: i64 = 7;
const FRAGMENT_NEEDED: i64 = 8;

/// A packet and the kernel around it.
pub(crate) struct Packet<const PARTS: bool> {
    ctx: *mut xdp_md,
    /// What the settings say: looked up once, because each look-up is code that is not in the processor's cache.
    settings: *const u64,
}

impl<const PARTS: bool> Packet<PARTS> {
    #[inline(always)]
    pub(crate) fn new(ctx: *mut xdp_md) -> Option<Self> {
        let settings = PACKETS.get_ptr(0)?.cast();
        Some(Self { ctx, settings })
    }

    #[inline(always)]
    fn ask(&self, question: &mut bpf_fib_lookup) -> Route {
        let (ctx, size) = (self.ctx.cast::<c_void>(), size_of::<bpf_fib_lookup>() as i32);
        // SAFETY: the kernel gives a valid context, and writes into the question.
        let answer = unsafe { fib_lookup(ctx, question, size, 0) };
        match answer {
            SUCCESS => {
                let [a, b, c, d, e, f] = question.dmac;
                let mac = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
                Route::Out(question.ifindex, Mac(mac))
            }
            NO_NEIGHBOUR => Route::NoNeighbour,
            // SAFETY: both are numbers of 16 bits.
            FRAGMENT_NEEDED => Route::Small(unsafe { question.__bindgen_anon_1.mtu_result }),
            _ => Route::Elsewhere,
        }
    }

    /// A question with nothing in it.
    #[inline(always)]
    fn question(&self, family: u8, protocol: u8, length: u16) -> bpf_fib_lookup {
        // SAFETY: all of it are numbers, for which 0 is one.
        let mut question: bpf_fib_lookup = unsafe { MaybeUninit::zeroed().assume_init() };
        question.family = family;
        question.l4_protocol = protocol;
        question.ifindex = self.ingress();
        question.__bindgen_anon_1.tot_len = length;
        question
    }
}

/// Words in a map.
#[derive(Clone, Copy)]
pub(crate) struct Words(*mut u64);

impl layout::Record for Words {
    #[inline(always)]
    fn get(self, at: u32) -> u64 {
        // SAFETY: the verifier proves that the word is in the value.
        atomic::read(unsafe { self.0.add(at as usize) })
    }

    #[inline(always)]
    fn set(self, at: u32, word: u64) {
        // SAFETY: as above.
        unsafe { self.0.add(at as usize).write_volatile(word) };
    }

    #[inline(always)]
    fn publish(self, at: u32, word: u64) {
        // SAFETY: as above.
        atomic::publish(unsafe { self.0.add(at as usize) }, word);
    }

    #[inline(always)]
    fn change(self, at: u32, from: u64, to: u64) -> bool {
        // SAFETY: as above.
        atomic::change(unsafe { self.0.add(at as usize) }, from, to)
    }

    #[inline(always)]
    fn fence(self) {
        atomic::fence();
    }
}

impl<const PARTS: bool> World for Packet<PARTS> {
    type Frame = Frame<PARTS>;

    #[inline(always)]
    fn frame(&self) -> Frame<PARTS> {
        Frame::new(self.ctx)
    }

    #[inline(always)]
    fn grow(&self, by: i32) -> Option<Frame<PARTS>> {
        // SAFETY: the kernel gives a valid context.
        let failed = unsafe { bpf_xdp_adjust_head(self.ctx, -by) };
        if failed == 0 { Some(self.frame()) } else { None }
    }

    #[inline(always)]
    fn cut(&self, len: u32) -> Option<Frame<PARTS>> {
        let more = len as i32 - self.frame().size() as i32;
        // SAFETY: the kernel gives a valid context.
        let failed = unsafe { bpf_xdp_adjust_tail(self.ctx, more) };
        if failed == 0 { Some(self.frame()) } else { None }
    }

    #[inline(always)]
    fn setting(&self, at: usize) -> u64 {
        // SAFETY: the verifier proves that the word is in the value.
        atomic::read(unsafe { self.settings.add(at) })
    }

    #[inline(always)]
    fn now(&self) -> u32 {
        // SAFETY: the helper has no arguments.
        layout::seconds(unsafe { bpf_ktime_get_coarse_ns() })
    }

    #[inline(always)]
    fn ingress(&self) -> u32 {
        // SAFETY: the kernel gives a valid context.
        unsafe { (*self.ctx).ingress_ifindex }
    }

    #[inline(always)]
    fn ingress_mac(&self) -> Option<Mac> {
        let index = self.ingress();
        IngressWord(atomic::read(INGRESS.get_ptr(IngressWord::place(index))?)).mac(index)
    }

    #[inline(always)]
    fn device_number(&self, key: DeviceKey) -> Option<DeviceNumber> {
        number(atomic::read(DEVICE_NUMBERS.get_ptr(&key)?), key)
    }

    #[inline(always)]
    fn device_word(&self, device: DeviceNumber, at: u32) -> u64 {
        DEVICES
            .get_ptr(device.get() as u32 * DEVICE_WORDS + at)
            .map_or(0, atomic::read)
    }

    #[inline(always)]
    fn may_answer(&self, most: u32) -> bool {
        let Some(word) = ANSWERS.get_ptr_mut(0) else { return false };
        let now = self.now();
        // SAFETY: the word is this processor's own.
        let before = unsafe { *word };
        let count = if (before >> 32) as u32 == now { before as u32 } else { 0 };
        if count >= most {
            return false;
        }
        // SAFETY: as above.
        unsafe { *word = (now as u64) << 32 | (count + 1) as u64 };
        true
    }
}

macro_rules! family {
    ($address:ty, $record:ty: $flows:ident $index:ident $held:ident $visitors:ident $fragments:ident
     $route:ident) => {
        impl<const PARTS: bool> Maps<$address> for Packet<PARTS> {
            #[inline(always)]
            fn frontend(&self, key: &FrontendKey<$address>) -> Option<u64> {
                Kernel.frontend(key)
            }

            #[inline(always)]
            fn has_address(&self, addr: &$address) -> bool {
                Kernel.has_address(addr)
            }

            #[inline(always)]
            fn service(&self, index: ListIndex) -> Option<u64> {
                Maps::<$address>::service(&Kernel, index)
            }

            #[inline(always)]
            fn word(&self, place: u32) -> Option<u64> {
                Maps::<$address>::word(&Kernel, place)
            }
        }

        impl<const PARTS: bool> FamilyWorld<$address> for Packet<PARTS> {
            type Words = Words;

            #[inline(always)]
            fn switch(&self) -> Switch {
                rows::switch::<$address>()
            }

            #[inline(always)]
            fn has_port(&self, port: u16, protocol: u8) -> bool {
                has_port(<$address>::PORTS, port, protocol)
            }

            #[inline(always)]
            fn record(&self, number: RecordNumber) -> Option<Words> {
                let flows: &Array<$record> = &$flows;
                Some(Words(flows.get_ptr_mut(number.get())?.cast()))
            }

            #[inline(always)]
            fn bucket(&self, number: u32) -> Option<Words> {
                let index: &Array<Bucket> = &$index;
                Some(Words(index.get_ptr_mut(number)?.cast()))
            }

            #[inline(always)]
            fn allows(&self, frontend: &FrontendKey<$address>, source: $address) -> bool {
                let key = SourceKey {
                    frontend: *frontend,
                    source,
                };
                has_prefix(<$address>::SOURCES, &key, SourceKey::<$address>::whole())
            }

            #[inline(always)]
            fn count(&self, list: ListIndex) {
                rows::count::<$address>(list.port_from_outside());
            }

            #[inline(always)]
            fn held(&self, key: &FlowKey<$address>) -> Option<u64> {
                get(&$held, key)
            }

            #[inline(always)]
            fn hold(&self, key: &FlowKey<$address>, word: u64) {
                put(&$held, key, word);
            }

            #[inline(always)]
            fn visitor(&self, key: &VisitorKey<$address>) -> Option<u64> {
                get(&$visitors, key)
            }

            #[inline(always)]
            fn remember(&self, key: &VisitorKey<$address>, word: u64) {
                put(&$visitors, key, word);
            }

            #[inline(always)]
            fn fragment(&self, key: &FragmentKey<$address>) -> Option<u64> {
                get(&$fragments, key)
            }

            #[inline(always)]
            fn remember_fragment(&self, key: &FragmentKey<$address>, word: u64) {
                put(&$fragments, key, word);
            }

            #[inline(always)]
            fn route(&self, way: &Way<$address>) -> Route {
                self.$route(way)
            }
        }
    };
}

family!(Address4, Record4: FLOWS4 INDEX4 HELD_FLOWS4 VISITORS4 FRAGMENTS4 route4);
family!(Address6, Record6: FLOWS6 INDEX6 HELD_FLOWS6 VISITORS6 FRAGMENTS6 route6);

impl<const PARTS: bool> Packet<PARTS> {
    #[inline(always)]
    fn route4(&self, way: &Way<Address4>) -> Route {
        let mut question = self.question(AF_INET, way.protocol, way.length);
        question.__bindgen_anon_3.ipv4_src = way.source.0;
        question.__bindgen_anon_4.ipv4_dst = way.to.0;
        self.ask(&mut question)
    }

    #[inline(always)]
    fn route6(&self, way: &Way<Address6>) -> Route {
        let mut question = self.question(AF_INET6, way.protocol, way.length);
        question.__bindgen_anon_3.ipv6_src = words(way.source);
        question.__bindgen_anon_4.ipv6_dst = words(way.to);
        self.ask(&mut question)
    }
}

#[inline(always)]
fn words(addr: Address6) -> [u32; 4] {
    let Address6 { first, second } = addr;
    [first as u32, (first >> 32) as u32, second as u32, (second >> 32) as u32]
}

/// Whether a port's bit is set.
#[inline(always)]
fn has_port(ports: &Array<u64>, port: u16, protocol: u8) -> bool {
    let port = u16::from_be(port) as u32;
    let at = if protocol == TCP { port } else { port + 65_536 };
    let word = ports.get_ptr(at >> 6).map_or(0, atomic::read);
    word >> (at & 63) & 1 != 0
}

/// Whether a map of prefixes has one that a key begins with. (aya's key is not aligned, as the kernel wants everything in a program's
/// memory to be.)
#[inline(always)]
fn has_prefix<K>(map: &LpmTrie<K, u64>, key: &K, bits: u32) -> bool {
    let mut whole = MaybeUninit::<(u32, [u32; 10])>::uninit();
    const { assert!(size_of::<K>() <= 40) };
    let at: *mut u32 = whole.as_mut_ptr().cast();
    // SAFETY: there is room for the number of bits and the key, one behind the other, which is what the kernel reads.
    unsafe {
        at.write_volatile(bits);
        let from = core::ptr::from_ref(key).cast::<u32>();
        for word in 0..size_of::<K>() / 4 {
            at.add(1 + word).write_volatile(from.add(word).read_volatile());
        }
        let map = core::ptr::from_ref(map).cast_mut().cast::<c_void>();
        !bpf_map_lookup_elem(map, at.cast()).is_null()
    }
}

#[inline(always)]
fn get<K>(map: &LruHashMap<K, u64>, key: &K) -> Option<u64> {
    map.get_ptr(key).map(atomic::read)
}

#[inline(always)]
fn put<K>(map: &LruHashMap<K, u64>, key: &K, word: u64) {
    // If there is no memory, it is not remembered.
    let _ = map.insert(key, &word, 0);
}
