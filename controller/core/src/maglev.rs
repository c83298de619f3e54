//! Maglev: which endpoint of a list takes which share of the clients, so that every node gives one client the same
//! endpoint.
//!
//! A list has a table of cells, and each cell holds the slot of an endpoint. The hash of a client leads to a cell. Each
//! endpoint prefers the cells in an order of its own, which depends on its address and port alone. The endpoints take
//! turns, and each takes the first free cell of its order, until no cell is free. So all have the same number of cells,
//! give or take one, and if one endpoint goes, few cells of the others change.
//!
//! Nodes may have the endpoints of a list in other slots, and hear of them in another order. So nothing here depends on
//! slots, but what stands in the cells in the end.
//!
//! Invariant: the sizes, the orders and the turns never change. They are what nodes of different versions agree on.

use crate::family::Family;

/// What all nodes mix into the orders. It has no meaning (the first hexadecimal digits of pi).
pub const SEED: u64 = 0x243f_6a88_85a3_08d3;

/// How many cells there are: prime numbers, each below a power of two. So each order comes to every cell.
pub const SIZES: [u16; 9] = [251, 509, 1021, 2039, 4093, 8191, 16_381, 32_749, 65_521];

/// How many cells an endpoint should have at least: then no share is more than 1 % larger than another.
const CELLS: usize = 100;

/// How many cells a list of so many endpoints has. With another size, most clients get another endpoint: that is so when
/// a list grows beyond 2, 5, 10, 20, 40, 81, 163 or 327 endpoints, and when it shrinks again. From 656 endpoints on, an
/// endpoint has fewer than 100 cells, and beyond 65,521 the last endpoints have none.
pub fn size(endpoints: usize) -> u16 {
    let least = endpoints.saturating_mul(CELLS);
    let fits = SIZES.into_iter().find(|size| usize::from(*size) >= least);
    fits.unwrap_or(SIZES[SIZES.len() - 1])
}

/// The cells of the list with these endpoints (address and port), which are given by slot. Each cell holds a slot. A
/// list without endpoints has no cells. Slots from 65,536 on get no cell.
pub fn cells<F: Family>(endpoints: &[(F::Addr, u16)], seed: u64) -> Box<[u16]> {
    if endpoints.is_empty() {
        return Box::default();
    }
    let size = size(endpoints.len());
    let mut turns: Vec<(&(F::Addr, u16), u16)> = endpoints.iter().zip(0..=u16::MAX).collect();
    turns.sort_unstable();
    let mut orders: Vec<Order> = turns
        .into_iter()
        .map(|((addr, port), slot)| Order::of::<F>(addr, *port, seed, size, slot))
        .collect();
    let mut cells = vec![0; usize::from(size)].into_boxed_slice();
    let mut free = Free::all(size);
    let mut left = size;
    loop {
        for order in &mut orders {
            let cell = order.next_free(&free, size);
            free.take(cell);
            cells[usize::from(cell)] = order.slot;
            left -= 1;
            if left == 0 {
                return cells;
            }
        }
    }
}

/// The order in which an endpoint prefers the cells: from one on, always the same number of cells ahead.
struct Order {
    next: u16,
    ahead: u16,
    slot: u16,
}

impl Order {
    fn of<F: Family>(addr: &F::Addr, port: u16, seed: u64, size: u16, slot: u16) -> Self {
        let hash = hash(seed, F::octets(addr).as_ref(), port);
        // 2^32 is so much more than a size that what is left over does not count.
        let below = |end: u16, number: u64| (number >> 32) % u64::from(end);
        Self {
            next: narrow(below(size, mixed(hash))),
            ahead: narrow(below(size - 1, mixed(!hash)) + 1),
            slot,
        }
    }

    /// The first free cell. There must be one.
    fn next_free(&mut self, free: &Free, size: u16) -> u16 {
        loop {
            let cell = self.next;
            let ahead = u32::from(cell) + u32::from(self.ahead);
            let size = u32::from(size);
            self.next = narrow(if ahead >= size { ahead - size } else { ahead });
            if free.has(cell) {
                return cell;
            }
        }
    }
}

/// A number that is below the size of a table.
fn narrow(number: impl TryInto<u16>) -> u16 {
    number.try_into().unwrap_or_default()
}

/// FNV-1a over the seed, the address and the port, bytes in network order.
fn hash(seed: u64, addr: &[u8], port: u16) -> u64 {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let (seed, port) = (seed.to_be_bytes(), port.to_be_bytes());
    let bytes = seed.iter().chain(addr).chain(&port);
    bytes.fold(BASIS, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

/// Spreads every bit of a number over all of it: the finalizer of SplitMix64. FNV-1a alone leaves the addresses of
/// neighbours close together.
fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Which cells are free, one bit each: the bits of the largest table stay in a processor's first cache.
struct Free(Vec<u64>);

impl Free {
    fn all(size: u16) -> Self {
        Self(vec![u64::MAX; usize::from(size).div_ceil(64)])
    }

    fn has(&self, cell: u16) -> bool {
        self.0[usize::from(cell / 64)] >> (cell % 64) & 1 == 1
    }

    fn take(&mut self, cell: u16) {
        self.0[usize::from(cell / 64)] &= !(1 << (cell % 64));
    }
}

#[cfg(test)]
mod tests;
