//! Tandem's programs in the kernel: socket load balancing.
//!
//! A program leaves what it sees as it is, or translates it whole. It never refuses: what it leaves, nftables serves.

#![no_std]
#![no_main]
#![expect(internal_features, reason = "atomic additions have no other name on this machine yet")]
#![feature(core_intrinsics)]

mod atomic;
mod family;
mod maps;
mod sockets;

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;

use sockets::{Who, connect, datagram, reverse};

/// The kernel goes on with the call. Another answer would refuse it.
const GO_ON: i32 = 1;

macro_rules! programs {
    ($($hook:ident $name:ident: $run:expr;)*) => {
        $(
            #[cgroup_sock_addr($hook)]
            fn $name(ctx: SockAddrContext) -> i32 {
                let run: fn(&SockAddrContext) = $run;
                run(&ctx);
                GO_ON
            }
        )*
    };
}

programs! {
    connect4 node_connect4: |ctx| connect::v4(ctx, Who::Node);
    connect6 node_connect6: |ctx| connect::v6(ctx, Who::Node);
    sendmsg4 node_sendmsg4: |ctx| datagram::v4(ctx, Who::Node);
    sendmsg6 node_sendmsg6: |ctx| datagram::v6(ctx, Who::Node);
    connect4 pods_connect4: |ctx| connect::v4(ctx, Who::Pod);
    connect6 pods_connect6: |ctx| connect::v6(ctx, Who::Pod);
    sendmsg4 pods_sendmsg4: |ctx| datagram::v4(ctx, Who::Pod);
    sendmsg6 pods_sendmsg6: |ctx| datagram::v6(ctx, Who::Pod);
    recvmsg4 recvmsg4: reverse::recvmsg4;
    recvmsg6 recvmsg6: reverse::recvmsg6;
    getpeername4 getpeername4: reverse::getpeername4;
    getpeername6 getpeername6: reverse::getpeername6;
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
