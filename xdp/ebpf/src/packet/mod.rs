//! Packets from outside, as the driver hands them over. What is done with them is in `tandem-xdp-packet`; here is what that code
//! sees of the kernel.

mod frame;
mod maps;
pub(crate) mod sample;
mod world;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX};
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::bpf_redirect;
use aya_ebpf::programs::XdpContext;
use tandem_xdp_layout::{Device, DeviceKey, DeviceNumber, DeviceWord, PacketCount, Reason};
use tandem_xdp_packet::{Kind, Verdict, World as _, begin, go_on};

use maps::PACKET_COUNTS;
use world::Packet;

/// Treats a packet. `PARTS` says whether large packets come in parts.
///
/// Each part of the work is a function of its own. What they answer is an answer of the program, or what is to be done next.
#[inline(always)]
pub(crate) fn run<const PARTS: bool>(ctx: &XdpContext) -> u32 {
    let ctx = ctx.ctx;
    let mut answer = most::<PARTS>(ctx);
    if is(answer, Verdict::FIRST) {
        answer = stage::<PARTS, { Verdict::FIRST }>(ctx, answer);
    }
    if is(answer, Verdict::TAKE) {
        answer = stage::<PARTS, { Verdict::TAKE }>(ctx, answer);
    }
    if is(answer, Verdict::FRAGMENT) {
        answer = stage::<PARTS, { Verdict::FRAGMENT }>(ctx, answer);
    }
    if is(answer, Verdict::ERROR) {
        answer = stage::<PARTS, { Verdict::ERROR }>(ctx, answer);
    }
    if is(answer, Verdict::TOO_BIG) {
        answer = stage::<PARTS, { Verdict::TOO_BIG }>(ctx, answer);
    }
    answer as u32
}

/// The kind of a packet whose treatment goes on, in the bits of its verdict that say why others are passed.
const SIX: u64 = 1 << 8;
const TAGGED: u64 = 1 << 9;

/// Whether this is to be done next.
#[inline(always)]
fn is(answer: u64, next: u8) -> bool {
    answer as u8 == next
}

/// What few packets need, for the kind of the packet.
#[inline(always)]
fn stage<const PARTS: bool, const WHAT: u8>(ctx: *mut xdp_md, answer: u64) -> u64 {
    match answer & (SIX | TAGGED) {
        0 => part::<PARTS, false, false, WHAT>(ctx, answer),
        SIX => part::<PARTS, true, false, WHAT>(ctx, answer),
        TAGGED => part::<PARTS, false, true, WHAT>(ctx, answer),
        _ => part::<PARTS, true, true, WHAT>(ctx, answer),
    }
}

/// What most packets need.
#[inline(never)]
fn most<const PARTS: bool>(ctx: *mut xdp_md) -> u64 {
    // There is always one place for the settings.
    let Some(world) = Packet::<PARTS>::new(ctx) else {
        return XDP_PASS as u64;
    };
    let (verdict, kind) = begin(&world);
    answer(&world, verdict, kind)
}

/// A part of what few packets need.
#[inline(never)]
fn part<const PARTS: bool, const SIX: bool, const TAGGED: bool, const WHAT: u8>(ctx: *mut xdp_md, before: u64) -> u64 {
    // There is always one place for the settings.
    let Some(world) = Packet::<PARTS>::new(ctx) else {
        return XDP_PASS as u64;
    };
    let kind = Kind {
        six: SIX,
        tagged: TAGGED,
    };
    answer(&world, go_on(&world, WHAT, Verdict::of_word(before), kind), kind)
}

/// Does what a verdict says.
#[inline(always)]
fn answer<const PARTS: bool>(world: &Packet<PARTS>, verdict: Verdict, kind: Kind) -> u64 {
    let family = kind.six as usize;
    let action = match verdict.what() {
        Verdict::PASS => {
            if verdict.why() != Reason::NoFrontend.number() {
                count(PacketCount::left(family, verdict.why()));
            }
            XDP_PASS
        }
        Verdict::DROP => {
            count(PacketCount::left(family, verdict.why()));
            XDP_DROP
        }
        Verdict::SEND => {
            count(PacketCount::sent(family));
            redirect(verdict.device())
        }
        Verdict::TRANSMIT => {
            count(PacketCount::sent(family));
            XDP_TX
        }
        Verdict::RETURN => {
            count(PacketCount::answered(family));
            if returns(world) { XDP_TX } else { redirect(world.ingress()) }
        }
        _ => {
            let kind = if kind.six { SIX } else { 0 } | if kind.tagged { TAGGED } else { 0 };
            return verdict.word() | kind;
        }
    };
    action as u64
}

/// No answer of a program is taken for what is to be done next.
const _: () = assert!(XDP_REDIRECT < Verdict::FIRST as u32);

/// Whether packets may leave by the device that they came in by.
#[inline(always)]
fn returns<const PARTS: bool>(world: &Packet<PARTS>) -> bool {
    let key = DeviceKey {
        index: world.ingress(),
        vlan: 0,
    };
    match world.device_number(key) {
        Some(device) => Device::of_words(0, world.device_word(device, 1)).returns,
        None => false,
    }
}

#[inline(always)]
pub(crate) fn redirect(index: u32) -> u32 {
    // SAFETY: the helper takes any number.
    unsafe { bpf_redirect(index, 0) as u32 }
}

#[inline(always)]
fn count(at: PacketCount) {
    if let Some(count) = PACKET_COUNTS.get_ptr_mut(at.place()) {
        // SAFETY: the count is this processor's own.
        unsafe { *count += 1 };
    }
}

/// The number of a device, in the word that stands about it.
#[inline(always)]
fn number(word: u64, key: DeviceKey) -> Option<DeviceNumber> {
    DeviceWord(word).device(key)
}
