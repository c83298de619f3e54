//! Tandem's programs in the kernel: packets from outside.
//!
//! A program leaves a packet as it is, but for the choice that it writes on it, or translates it whole. What it leaves, nftables
//! serves.
#![no_std]
#![no_main]
#![expect(
    internal_features,
    reason = "atomic operations have no other name on this machine yet"
)]
#![feature(core_intrinsics)]

mod atomic;
mod packet;
mod rows;

use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;

/// Packets that are in one piece: all that a driver without parts has.
#[xdp]
fn packets(ctx: XdpContext) -> u32 {
    packet::run::<false>(&ctx)
}

/// Packets that may come in parts: those of devices whose MTU is larger than a page.
#[xdp(frags)]
fn packets_in_parts(ctx: XdpContext) -> u32 {
    packet::run::<true>(&ctx)
}

/// Passes every packet. It is loaded by tests alone: what all others cost more than this, they cost themselves. And some drivers take
/// redirected packets only if the other end has a program.
#[xdp]
fn pass(_ctx: XdpContext) -> u32 {
    aya_ebpf::bindings::xdp_action::XDP_PASS
}

/// Redirects every packet, and does nothing else. It is loaded by measurements alone, as are the next two.
#[xdp]
fn nothing(_ctx: XdpContext) -> u32 {
    packet::sample::redirect(packet::sample::OUT)
}

/// Makes of every packet the one that is measured, and sends it.
#[xdp]
fn generate(ctx: XdpContext) -> u32 {
    packet::sample::generate(&ctx)
}

/// Drops every packet.
#[xdp]
fn lose(_ctx: XdpContext) -> u32 {
    aya_ebpf::bindings::xdp_action::XDP_DROP
}

/// The kernel wants a licence that its helpers may be used with. The code is under Apache-2.0 or MIT.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // No program can get here: the verifier would refuse it.
    loop {}
}
