//! What the kernel tells about a call, and how the answer is written.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr};
use aya_ebpf::helpers::generated::{
    bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id, bpf_get_netns_cookie,
};
use aya_ebpf::programs::SockAddrContext;
use tandem_xdp_layout::{Address4, Address6, Endpoint, Node};

use crate::atomic;
use crate::maps::NODE;
use crate::sockets::Who;

/// The protocols' numbers in the IP header.
pub(crate) const TCP: u32 = 6;
pub(crate) const UDP: u32 = 17;

/// The state of a socket that has a peer: the kernel's `TCP_ESTABLISHED`, for UDP too.
const ESTABLISHED: u32 = 1;
/// The family of IPv4 sockets.
const AF_INET: u32 = 2;
/// The topmost folder of the cgroup hierarchy. Only the kernel's own threads are in it.
const ROOT: u64 = 1;
/// The third word of an IPv6 address that is an IPv4 address. The first two are 0.
const MAPPED: u32 = 0xffff_u32.to_be();

#[inline(always)]
fn node(word: Node) -> u64 {
    NODE.get_ptr(word as u32).map_or(0, atomic::read)
}

/// A call of a program.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a>(pub(crate) &'a SockAddrContext);

// SAFETY of this block: the kernel gives a valid context, and allows these fields to be read and written, in these sizes.
impl Call<'_> {
    #[inline(always)]
    fn raw(&self) -> *mut bpf_sock_addr {
        self.0.sock_addr
    }

    #[inline(always)]
    pub(crate) fn protocol(&self) -> u32 {
        unsafe { (&raw const (*self.raw()).protocol).read_volatile() }
    }

    #[inline(always)]
    fn port(&self) -> u16 {
        unsafe { (&raw const (*self.raw()).user_port).read_volatile() as u16 }
    }

    /// The same number, of which the kernel's verifier knows nothing any more. It follows every way through a program that it
    /// can tell from others, and numbers that it knows tell them apart.
    #[inline(always)]
    pub(crate) fn unknown(&self, number: u64) -> u64 {
        // Both are the same port.
        number ^ self.port() as u64 ^ self.port() as u64
    }

    #[inline(always)]
    fn set_port(&self, port: u16) {
        unsafe { (&raw mut (*self.raw()).user_port).write_volatile(port as u32) };
    }

    #[inline(always)]
    pub(crate) fn v4(&self) -> Endpoint<Address4> {
        let addr = unsafe { (&raw const (*self.raw()).user_ip4).read_volatile() };
        Endpoint {
            addr: Address4(addr),
            port: self.port(),
        }
    }

    #[inline(always)]
    pub(crate) fn set_v4(&self, to: Endpoint<Address4>) {
        unsafe { (&raw mut (*self.raw()).user_ip4).write_volatile(to.addr.0) };
        self.set_port(to.port);
    }

    #[inline(always)]
    fn word6(&self, at: usize) -> u32 {
        unsafe { (&raw const (*self.raw()).user_ip6[at]).read_volatile() }
    }

    #[inline(always)]
    fn set_word6(&self, at: usize, word: u32) {
        unsafe { (&raw mut (*self.raw()).user_ip6[at]).write_volatile(word) };
    }

    #[inline(always)]
    pub(crate) fn v6(&self) -> Endpoint<Address6> {
        Endpoint {
            addr: Address6::of_words(self.word6(0), self.word6(1), self.word6(2), self.word6(3)),
            port: self.port(),
        }
    }

    #[inline(always)]
    pub(crate) fn set_v6(&self, to: Endpoint<Address6>) {
        let Address6 { first, second } = to.addr;
        self.set_word6(0, first as u32);
        self.set_word6(1, (first >> 32) as u32);
        self.set_word6(2, second as u32);
        self.set_word6(3, (second >> 32) as u32);
        self.set_port(to.port);
    }

    /// Writes an IPv4 address into an IPv6 call whose address is a mapped one.
    #[inline(always)]
    pub(crate) fn set_mapped(&self, to: Endpoint<Address4>) {
        self.set_word6(3, to.addr.0);
        self.set_port(to.port);
    }

    /// The network namespace of the socket, by its cookie.
    #[inline(always)]
    pub(crate) fn network(&self) -> u64 {
        unsafe { bpf_get_netns_cookie(self.0.as_ptr()) }
    }

    /// Whether the call is one of those that this program takes.
    #[inline(always)]
    pub(crate) fn is_of(&self, who: Who) -> bool {
        let node = node(Node::Cookie);
        node != 0 && (self.network() == node) == (who == Who::Node)
    }

    /// Whether a program in a network of its own asks that is not in kubelet's folder.
    #[inline(always)]
    pub(crate) fn is_no_pod(&self) -> bool {
        let (folder, level) = (node(Node::PodFolder), node(Node::PodLevel));
        // Without a folder of pods, nobody knows.
        folder != 0 && unsafe { bpf_get_current_ancestor_cgroup_id(level as i32) } != folder
    }

    /// Whether the kernel itself asks.
    #[inline(always)]
    pub(crate) fn is_kernel_thread(&self) -> bool {
        unsafe { bpf_get_current_cgroup_id() == ROOT }
    }

    #[inline(always)]
    fn socket(&self) -> *mut bpf_sock {
        unsafe { (*self.raw()).__bindgen_anon_1.sk }
    }

    /// Whether the socket is bound to a device.
    #[inline(always)]
    pub(crate) fn is_bound_to_device(&self) -> bool {
        let socket = self.socket();
        !socket.is_null() && unsafe { (*socket).bound_dev_if } != 0
    }

    /// The socket's own port. A UDP socket that sends has one already: the kernel gives it one before it asks.
    #[inline(always)]
    pub(crate) fn own_port(&self) -> u16 {
        let socket = self.socket();
        if socket.is_null() {
            0
        } else {
            unsafe { (*socket).src_port as u16 }
        }
    }

    /// Whether the socket is bound to an address.
    #[inline(always)]
    pub(crate) fn has_source(&self) -> bool {
        let socket = self.socket();
        if socket.is_null() {
            return false;
        }
        // An IPv4 socket that lets go of its peer keeps the mapped form of its address.
        if unsafe { (*socket).family } == AF_INET {
            return unsafe { (*socket).src_ip4 } != 0;
        }
        let word = |at: usize| unsafe { (&raw const (*socket).src_ip6[at]).read_volatile() };
        word(0) | word(1) | word(2) | word(3) != 0
    }

    /// Whether an IPv4 datagram is given a source of its own (`IP_PKTINFO`), or its socket has one.
    #[inline(always)]
    pub(crate) fn has_message_source4(&self) -> bool {
        unsafe { (&raw const (*self.raw()).msg_src_ip4).read_volatile() != 0 }
    }

    /// Whether an IPv6 datagram is given a source of its own (`IPV6_PKTINFO`), or its socket has one.
    #[inline(always)]
    pub(crate) fn has_message_source6(&self) -> bool {
        let word = |at: usize| unsafe { (&raw const (*self.raw()).msg_src_ip6[at]).read_volatile() };
        word(0) | word(1) | word(2) | word(3) != 0
    }

    /// Whether the socket is bound to a port or an address.
    #[inline(always)]
    pub(crate) fn is_bound(&self) -> bool {
        let socket = self.socket();
        !socket.is_null() && (unsafe { (*socket).src_port } != 0 || self.has_source())
    }

    /// Whether a UDP socket takes answers from one peer alone. If it lets go of its peer, Linux keeps the address of an IPv6
    /// socket's.
    #[inline(always)]
    pub(crate) fn has_peer(&self) -> bool {
        let socket = self.socket();
        if socket.is_null() {
            return false;
        }
        if unsafe { (*socket).state } == ESTABLISHED {
            return true;
        }
        let word = |at: usize| unsafe { (&raw const (*socket).dst_ip6[at]).read_volatile() };
        let family = unsafe { (*socket).family };
        family != AF_INET && word(0) | word(1) | word(2) | word(3) != 0
    }
}

/// The IPv4 address that an IPv6 address stands for, if it stands for one.
#[inline(always)]
pub(crate) fn mapped(to: Endpoint<Address6>) -> Option<Endpoint<Address4>> {
    if to.addr.first != 0 || to.addr.second as u32 != MAPPED {
        return None;
    }
    Some(Endpoint {
        addr: Address4((to.addr.second >> 32) as u32),
        port: to.port,
    })
}
