//! The bytes of a packet.

/// A packet as a driver has it: the Ethernet header first.
pub trait Frame: Copy {
    /// Some of its bytes.
    type Part: Part;

    /// The bytes from `at` on, `len` of them; none if there are not as many.
    fn part(self, at: usize, len: usize) -> Option<Self::Part>;

    /// How long the packet is, with the parts of a large one that are not in one piece with the first.
    fn size(self) -> u32;
}

/// Bytes that are there. Numbers are in the order of the packet, so those of more than one byte are in network order. Whoever reads
/// or writes beyond the end has made a mistake: a process ends, and the kernel refuses the program.
pub trait Part: Copy {
    /// Reads a byte.
    fn u8(self, at: usize) -> u8;
    /// Reads two bytes.
    fn u16(self, at: usize) -> u16;
    /// Reads four bytes.
    fn u32(self, at: usize) -> u32;
    /// Reads eight bytes.
    fn u64(self, at: usize) -> u64;
    /// Writes a byte.
    fn put_u8(self, at: usize, value: u8);
    /// Writes two bytes.
    fn put_u16(self, at: usize, value: u16);
    /// Writes four bytes.
    fn put_u32(self, at: usize, value: u32);
    /// Writes eight bytes.
    fn put_u64(self, at: usize, value: u64);
}
