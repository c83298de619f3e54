//! `connect`.

use aya_ebpf::bindings::bpf_sock;
use tandem_xdp_layout::{Endpoint, Pair, Reason};

use crate::atomic;
use crate::family::{Family, count_taken, taken};
use crate::rows::switch;
use crate::sockets::context::{Call, TCP, UDP};
use crate::sockets::rewrite::Rewrite;
use crate::sockets::{Who, find};

/// A program connects a socket.
pub(crate) struct Connect(pub(crate) Who);

impl Rewrite for Connect {
    #[inline(always)]
    fn rewrite<A: Family>(&self, call: &Call<'_>, to: Endpoint<A>) -> Option<Endpoint<A>> {
        taken::<A>(choose(call, to, self.0))
    }
}

#[inline(always)]
fn choose<A: Family>(call: &Call<'_>, to: Endpoint<A>, who: Who) -> Result<Endpoint<A>, Reason> {
    let switch = switch::<A>();
    let protocol = call.protocol();
    if !call.is_of(who) {
        // The pods' program has seen a pod's call before.
        if who == Who::Node && switch.is_on() && call.is_no_pod() {
            find::frontend(to, protocol, switch, who)?;
            return Err(Reason::NoPod);
        }
        return Err(Reason::NoFrontend);
    }
    forget::<A>(call, protocol);
    if !switch.is_on() {
        return Err(Reason::NoFrontend);
    }
    let frontend = find::frontend(to, protocol, switch, who)?;
    match protocol {
        TCP => {}
        UDP => return Err(Reason::ConnectedUdp),
        _ => return Err(Reason::Protocol),
    }
    let list = find::list::<A>(call, frontend, switch, who)?;
    if call.is_bound() {
        return Err(Reason::Bound);
    }
    let (endpoint, slot) = find::endpoint(call, &list)?;
    let mut pair = Pair::new(to, endpoint, slot);
    // SAFETY: the socket of the context lives as long as the program runs.
    let stored = unsafe { A::PEERS.get_or_insert_ptr_mut(call.0, Some(&mut pair)) };
    if stored.is_null() {
        return Err(Reason::NoMemory);
    }
    // It may have been there before.
    atomic::copy(&raw const pair, stored);
    count_taken::<A>(list.header.index);
    Ok(endpoint)
}

/// What the socket remembers of an earlier call ends with this one.
#[inline(always)]
fn forget<A: Family>(call: &Call<'_>, protocol: u32) {
    // SAFETY: the socket of the context lives as long as the program runs.
    unsafe {
        let socket: *mut bpf_sock = (*call.0.sock_addr).__bindgen_anon_1.sk;
        if protocol == UDP {
            // To delete takes a hold of the socket, also if there is nothing. To look costs nearly nothing.
            if !A::PAIRS.get_ptr_mut(call.0).is_null() {
                let _ = A::PAIRS.delete(socket);
            }
            return;
        }
        let stored = A::PEERS.get_ptr_mut(call.0);
        if !stored.is_null() {
            let empty = Pair::<A>::empty();
            atomic::copy(&raw const empty, stored);
        }
    }
}
