//! Which network namespace this process is in.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;

/// `SO_NETNS_COOKIE`, since Linux 5.14.
const SO_NETNS_COOKIE: libc::c_int = 71;

/// The cookie of this thread's network namespace. No other namespace ever has it.
pub fn network() -> io::Result<u64> {
    let socket = UdpSocket::bind("127.0.0.1:0").or_else(|_| UdpSocket::bind("[::]:0"))?;
    let mut cookie = 0_u64;
    let mut len = libc::socklen_t::try_from(size_of::<u64>()).map_err(io::Error::other)?;
    #[expect(unsafe_code, reason = "the option has no safe name")]
    // SAFETY: the kernel writes at most `len` bytes, which is the size of the value.
    let done = unsafe {
        let (level, value) = (libc::SOL_SOCKET, (&raw mut cookie).cast());
        libc::getsockopt(socket.as_raw_fd(), level, SO_NETNS_COOKIE, value, &raw mut len)
    };
    if done == 0 {
        Ok(cookie)
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_network_has_one_cookie() {
        let cookie = super::network().unwrap();
        assert_ne!(cookie, 0);
        assert_eq!(super::network().unwrap(), cookie);
    }
}
