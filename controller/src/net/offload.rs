//! What devices do to packets before anybody sees them (`ethtool -k`).

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixDatagram;

use tandem_core::node::InterfaceName;

/// Asks about a device by its name.
const SIOCETHTOOL: libc::Ioctl = 0x8946;
/// `ETHTOOL_GFLAGS`: the offloads that have a flag. Kernels and drivers of all ages know it.
const GET_FLAGS: u32 = 0x25;
/// `ETH_FLAG_RXVLAN`: rx-vlan-offload
const STRIPS_VLAN_TAGS: u32 = 1 << 8;

/// A question of one word (`struct ethtool_value`).
#[repr(C)]
struct Question {
    command: u32,
    answer: u32,
}

/// Whether a device takes VLAN tags out of the packets that it receives. An XDP program then sees these packets without
/// their tag.
///
/// The device is looked for in the network namespace of this thread.
pub fn strips_vlan_tags(name: &InterfaceName) -> io::Result<bool> {
    match flags(name) {
        Ok(flags) => Ok(flags & STRIPS_VLAN_TAGS != 0),
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(false),
        Err(error) => Err(error),
    }
}

fn flags(name: &InterfaceName) -> io::Result<u32> {
    // A socket of any family will do. This one exists in every kernel.
    let socket = UnixDatagram::unbound()?;
    let mut question = Question {
        command: GET_FLAGS,
        answer: 0,
    };
    let mut request = libc::ifreq {
        ifr_name: name.padded().map(|byte| libc::c_char::from_ne_bytes([byte])),
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_data: (&raw mut question).cast(),
        },
    };
    #[expect(unsafe_code, reason = "the request has no safe name")]
    // SAFETY: the request holds a name that ends with a zero, and the address of a question that outlives the call. The
    // kernel reads the question's command, and for this command it writes the one word of the answer.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if done == 0 {
        Ok(question.answer)
    } else {
        Err(io::Error::last_os_error())
    }
}
