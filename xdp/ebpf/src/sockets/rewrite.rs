//! What all programs have in common: they look at the address of a call, and perhaps write another one.

use aya_ebpf::programs::SockAddrContext;
use tandem_xdp_layout::Endpoint;

use crate::family::Family;
use crate::sockets::context::{Call, mapped};

/// What a program does with an address.
pub(crate) trait Rewrite {
    /// The address to write in the place of this one; none if it stays.
    fn rewrite<A: Family>(&self, call: &Call<'_>, at: Endpoint<A>) -> Option<Endpoint<A>>;
}

/// A call with an IPv4 address.
#[inline(always)]
pub(crate) fn v4(ctx: &SockAddrContext, by: impl Rewrite) {
    let call = Call(ctx);
    if let Some(to) = by.rewrite(&call, call.v4()) {
        call.set_v4(to);
    }
}

/// A call with an IPv6 address that is never an IPv4 address: the kernel takes those to the programs for IPv4.
#[inline(always)]
pub(crate) fn v6(ctx: &SockAddrContext, by: impl Rewrite) {
    let call = Call(ctx);
    if let Some(to) = by.rewrite(&call, call.v6()) {
        call.set_v6(to);
    }
}

/// A call with an IPv6 address, which may be an IPv4 address.
#[inline(always)]
pub(crate) fn v6_or_mapped(ctx: &SockAddrContext, by: impl Rewrite) {
    let call = Call(ctx);
    match mapped(call.v6()) {
        Some(at) => {
            if let Some(to) = by.rewrite(&call, at) {
                call.set_mapped(to);
            }
        }
        None => v6(ctx, by),
    }
}
