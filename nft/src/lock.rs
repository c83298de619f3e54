//! One Tandem per node. The lock is an abstract unix socket: there is one of that name in each network namespace, and
//! it vanishes with its process, however that ends. Taken by the program before it opens the tables.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use crate::{owner, socket};

const NAME: &str = "tandem-node-agent";

/// Held as long as this program programs the node.
#[derive(Debug)]
pub struct NodeLock {
    _socket: UnixListener,
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another Tandem holds it.
    #[error("another tandem runs on this node: {0}")]
    Held(String),
    /// The lock itself failed.
    #[error("taking the node's lock @{NAME}: {0}")]
    Io(#[from] std::io::Error),
}

impl NodeLock {
    /// Takes the lock of this thread's network namespace.
    pub fn acquire() -> Result<Self, LockError> {
        let name = SocketAddr::from_abstract_name(NAME)?;
        match UnixListener::bind_addr(&name) {
            Ok(socket) => Ok(Self { _socket: socket }),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(LockError::Held(holder(&name))),
            Err(error) => Err(error.into()),
        }
    }
}

fn holder(name: &SocketAddr) -> String {
    match UnixStream::connect_addr(name).and_then(|stream| socket::peer_pid(&stream)) {
        Ok(0) => "in a pid namespace that cannot be seen from here".to_owned(),
        Ok(pid) => owner::process_with_arguments(pid),
        Err(error) => format!("it cannot be named: {error}"),
    }
}
