//! From what a program asks for to its list.

use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_ktime_get_boot_ns};
use tandem_xdp_layout::{
    self as layout, AffinityKey, AffinityWord, Class, Endpoint, FrontendKey, FrontendWord, List, Reason, Switch, Which,
};

use crate::family::Family;
use crate::rows::Kernel;
use crate::sockets::Who;
use crate::sockets::context::{Call, TCP};

const NANOSECONDS: u64 = 1_000_000_000;

/// The frontend at an address and port: an address of its own, or a nodePort on one of the node's addresses.
#[inline(always)]
pub(crate) fn frontend<A: Family>(
    to: Endpoint<A>,
    protocol: u32,
    switch: Switch,
    who: Who,
) -> Result<FrontendWord, Reason> {
    // MPTCP's number, for example, has more bits than the IP header's.
    if protocol > u8::MAX as u32 {
        return Err(Reason::NoFrontend);
    }
    let loopback = who == Who::Node && protocol == TCP && switch.loopback();
    let protocol = protocol as u8;
    let key = FrontendKey::new(to.addr, to.port, protocol);
    match layout::frontend(&Kernel, &key) {
        Err(Reason::NoFrontend) => {}
        found => return found,
    }
    if !layout::takes_node_port(&Kernel, &to, switch, loopback) {
        return Err(Reason::NoFrontend);
    }
    layout::frontend(&Kernel, &FrontendKey::<A>::node_port(to.port, protocol))
}

/// The list that answers who asks.
#[inline(always)]
pub(crate) fn list<A: Family>(
    call: &Call<'_>,
    frontend: FrontendWord,
    switch: Switch,
    who: Who,
) -> Result<List<A>, Reason> {
    let which = match frontend.class() {
        Some(Class::Cluster) if who == Who::Pod && switch.masquerade_all() => return Err(Reason::MasqueradeAll),
        Some(Class::Cluster) => Which::Own,
        // Nobody is told to be a pod, so a pod is a client like those outside.
        Some(Class::External | Class::NodePort) if who == Who::Pod && switch.detects_nobody() => Which::Own,
        Some(Class::External | Class::NodePort) => Which::All,
        None => return Err(Reason::Changing),
    };
    if frontend.restricted() {
        return Err(Reason::Restricted);
    }
    if call.is_kernel_thread() {
        return Err(Reason::KernelThread);
    }
    if call.is_bound_to_device() {
        return Err(Reason::BoundToDevice);
    }
    layout::list(&Kernel, frontend, which)
}

/// An endpoint of a list and its slot: the one that this client had before, or any.
#[inline(always)]
pub(crate) fn endpoint<A: Family>(call: &Call<'_>, list: &List<A>) -> Result<(Endpoint<A>, u16), Reason> {
    // SAFETY: the helper has no arguments.
    let random = unsafe { bpf_get_prandom_u32() } as u64;
    let any = ((random * list.header.count as u64) >> 32) as u16;
    let slot = if list.header.sticky {
        sticky(call, list, any)
    } else {
        Some(any)
    };
    let Some(slot) = slot else {
        return Err(Reason::Changing);
    };
    match list.endpoint(&Kernel, slot) {
        Some(endpoint) => Ok((endpoint, slot)),
        None => Err(Reason::Changing),
    }
}

/// The slot of the endpoint that this client had before, else `any`. It is remembered from now on.
#[inline(always)]
fn sticky<A: Family>(call: &Call<'_>, list: &List<A>, any: u16) -> Option<u16> {
    let key = AffinityKey::new(call.network(), list.header.index, list.header.generation);
    // SAFETY: the helper has no arguments.
    let now = (unsafe { bpf_ktime_get_boot_ns() } / NANOSECONDS) as u32;
    let known = A::AFFINITY
        .get_ptr(&key)
        .map(|word| AffinityWord(crate::atomic::read(word)));
    let number = known.and_then(|word| word.number(&key, now, list.header.seconds));
    let before = number.and_then(|number| list.slot_of_number(&Kernel, number));
    let slot = before.filter(|slot| *slot < list.header.count).unwrap_or(any);
    let word = AffinityWord::new(&key, list.number(&Kernel, slot)?, now);
    // If there is no memory, the client is not remembered, as in nftables.
    let _ = A::AFFINITY.insert(&key, &word.0, 0);
    Some(slot)
}
