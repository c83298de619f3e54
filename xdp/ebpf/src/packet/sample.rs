//! What programs for measurements do. What they need stands in the places of devices that no node has.

use aya_ebpf::bindings::xdp_action::XDP_ABORTED;
use aya_ebpf::programs::XdpContext;
use tandem_xdp_layout::DEVICE_WORDS;

use super::maps::DEVICES;
use crate::atomic;

/// The number of the device that packets are redirected to.
pub(crate) const OUT: u32 = 61;
/// The number of the device that packets are generated for.
const IN: u32 = 62;
/// Where the generated packet stands, instead of a device.
const PACKET: u32 = 63;

/// Redirects a packet to the device of a number.
#[inline(always)]
pub(crate) fn redirect(number: u32) -> u32 {
    let index = DEVICES.get_ptr(number * DEVICE_WORDS).map_or(0, atomic::read);
    super::redirect(index as u32)
}

/// Writes the packet, and sends it.
#[inline(always)]
pub(crate) fn generate(ctx: &XdpContext) -> u32 {
    let (from, to) = (ctx.data(), ctx.data_end());
    if from + DEVICE_WORDS as usize * 8 > to {
        return XDP_ABORTED;
    }
    for at in 0..DEVICE_WORDS {
        let word = DEVICES.get_ptr(PACKET * DEVICE_WORDS + at).map_or(0, atomic::read);
        // SAFETY: the packet has as many bytes.
        unsafe { ((from + at as usize * 8) as *mut u64).write_unaligned(word) };
    }
    redirect(IN)
}
