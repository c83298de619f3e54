//! The kernel's hash for short keys (`jhash2` in `include/linux/jhash.h`), which nft has, too: both choose by the same number.

const INITIAL: u32 = 0xdead_beef;

/// The hash of up to six words.
#[inline(always)]
pub fn jhash<const N: usize>(words: [u32; N], seed: u32) -> u32 {
    const { assert!(0 < N && N <= 6) };
    let start = INITIAL.wrapping_add(4 * N as u32).wrapping_add(seed);
    let (mut a, mut b, mut c) = (start, start, start);
    let mut at = 0;
    if N > 3 {
        a = a.wrapping_add(words[0]);
        b = b.wrapping_add(words[1 % N]);
        c = c.wrapping_add(words[2 % N]);
        (a, b, c) = mix(a, b, c);
        at = 3;
    }
    let rest = N - at;
    if rest > 2 {
        c = c.wrapping_add(words[(at + 2) % N]);
    }
    if rest > 1 {
        b = b.wrapping_add(words[(at + 1) % N]);
    }
    a = a.wrapping_add(words[at]);
    last(a, b, c)
}

#[inline(always)]
fn mix(mut a: u32, mut b: u32, mut c: u32) -> (u32, u32, u32) {
    a = a.wrapping_sub(c) ^ c.rotate_left(4);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(6);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(8);
    b = b.wrapping_add(a);
    a = a.wrapping_sub(c) ^ c.rotate_left(16);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(19);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(4);
    b = b.wrapping_add(a);
    (a, b, c)
}

#[inline(always)]
fn last(mut a: u32, mut b: u32, mut c: u32) -> u32 {
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    (c ^ b).wrapping_sub(b.rotate_left(24))
}
