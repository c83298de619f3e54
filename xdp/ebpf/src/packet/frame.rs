//! The bytes of a packet, in the driver's memory.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::bpf_xdp_get_buff_len;
use tandem_xdp_packet as packet;

/// A packet.
#[derive(Clone, Copy)]
pub(crate) struct Frame<const PARTS: bool> {
    ctx: *mut xdp_md,
}

/// Bytes that are there.
#[derive(Clone, Copy)]
pub(crate) struct Part(*mut u8);

impl<const PARTS: bool> Frame<PARTS> {
    /// The packet of a context.
    #[inline(always)]
    pub(crate) fn new(ctx: *mut xdp_md) -> Self {
        Self { ctx }
    }

    #[inline(always)]
    fn range(self) -> (usize, usize) {
        // SAFETY: the kernel gives a valid context, and makes pointers of these fields.
        unsafe {
            let from = (&raw const (*self.ctx).data).read_volatile();
            let to = (&raw const (*self.ctx).data_end).read_volatile();
            (from as usize, to as usize)
        }
    }
}

impl<const PARTS: bool> packet::Frame for Frame<PARTS> {
    type Part = Part;

    #[inline(always)]
    fn part(self, at: usize, len: usize) -> Option<Part> {
        let (from, to) = self.range();
        if from + at + len > to {
            return None;
        }
        Some(Part((from + at) as *mut u8))
    }

    #[inline(always)]
    fn size(self) -> u32 {
        if PARTS {
            // SAFETY: the kernel gives a valid context.
            return unsafe { bpf_xdp_get_buff_len(self.ctx) as u32 };
        }
        let (from, to) = self.range();
        (to - from) as u32
    }
}

// SAFETY of this block: whoever asks for a part asks for as many bytes as are read and written. The kernel's verifier proves it.
// Numbers in a packet are where they are: `read_unaligned` is one instruction on machines that can do it, which all are that have
// native XDP.
impl packet::Part for Part {
    #[inline(always)]
    fn u8(self, at: usize) -> u8 {
        unsafe { self.0.add(at).read() }
    }

    #[inline(always)]
    fn u16(self, at: usize) -> u16 {
        unsafe { self.0.add(at).cast::<u16>().read_unaligned() }
    }

    #[inline(always)]
    fn u32(self, at: usize) -> u32 {
        unsafe { self.0.add(at).cast::<u32>().read_unaligned() }
    }

    #[inline(always)]
    fn u64(self, at: usize) -> u64 {
        unsafe { self.0.add(at).cast::<u64>().read_unaligned() }
    }

    #[inline(always)]
    fn put_u8(self, at: usize, value: u8) {
        unsafe { self.0.add(at).write(value) };
    }

    #[inline(always)]
    fn put_u16(self, at: usize, value: u16) {
        unsafe { self.0.add(at).cast::<u16>().write_unaligned(value) };
    }

    #[inline(always)]
    fn put_u32(self, at: usize, value: u32) {
        unsafe { self.0.add(at).cast::<u32>().write_unaligned(value) };
    }

    #[inline(always)]
    fn put_u64(self, at: usize, value: u64) {
        unsafe { self.0.add(at).cast::<u64>().write_unaligned(value) };
    }
}
