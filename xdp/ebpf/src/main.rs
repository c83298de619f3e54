//! Tandem's programs in the kernel: socket load balancing. `packets.rs` has those for packets from outside.
//!
//! A program leaves what it sees as it is, or translates it whole. It never refuses: what it leaves, nftables serves.

#![no_std]
#![no_main]
#![expect(
    internal_features,
    reason = "atomic additions have no other name on this machine yet"
)]
#![feature(core_intrinsics)]

mod atomic;
mod family;
mod maps;
mod rows;
mod sockets;

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;

use sockets::connect::Connect;
use sockets::datagram::Send;
use sockets::reverse::{Peer, Sender};
use sockets::{Who, rewrite};

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
    connect4 node_connect4: |ctx| rewrite::v4(ctx, Connect(Who::Node));
    connect6 node_connect6: |ctx| rewrite::v6_or_mapped(ctx, Connect(Who::Node));
    sendmsg4 node_sendmsg4: |ctx| rewrite::v4(ctx, Send(Who::Node));
    sendmsg6 node_sendmsg6: |ctx| rewrite::v6(ctx, Send(Who::Node));
    connect4 pods_connect4: |ctx| rewrite::v4(ctx, Connect(Who::Pod));
    connect6 pods_connect6: |ctx| rewrite::v6_or_mapped(ctx, Connect(Who::Pod));
    sendmsg4 pods_sendmsg4: |ctx| rewrite::v4(ctx, Send(Who::Pod));
    sendmsg6 pods_sendmsg6: |ctx| rewrite::v6(ctx, Send(Who::Pod));
    recvmsg4 recvmsg4: |ctx| rewrite::v4(ctx, Sender);
    recvmsg6 recvmsg6: |ctx| rewrite::v6_or_mapped(ctx, Sender);
    getpeername4 getpeername4: |ctx| rewrite::v4(ctx, Peer);
    getpeername6 getpeername6: |ctx| rewrite::v6_or_mapped(ctx, Peer);
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
