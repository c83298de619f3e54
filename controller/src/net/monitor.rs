//! Changes of objects, as the kernel reports them.

use std::io;

use tandem_netlink::answer::{Content, Messages};
use tandem_netlink::socket::{Received, Socket};
use tokio::io::unix::AsyncFd;

use super::object::Object;
use super::rtnetlink::NetError;

/// Notifications wait here while the tenant is busy.
const BUFFER: usize = 1 << 20;
/// How many changes one call returns, unless some were lost.
const MANY: usize = 1024;

/// A kind of object, for both families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Interfaces.
    Links,
    /// Addresses.
    Addresses,
    /// Routes.
    Routes,
    /// Routing rules.
    Rules,
    /// Neighbours and FDB entries.
    Neighbours,
}

impl Group {
    /// `RTNLGRP_…` of linux/rtnetlink.h
    fn numbers(self) -> &'static [u32] {
        match self {
            Self::Links => &[1],
            Self::Neighbours => &[3],
            Self::Addresses => &[5, 9],
            Self::Routes => &[7, 11],
            Self::Rules => &[8, 19],
        }
    }
}

/// What the kernel reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The object was added or changed.
    Come(Object),
    /// The object was removed.
    Gone(Object),
    /// Some notifications were lost: read everything again.
    Lost,
}

/// A subscription. Each tenant has its own, so none waits for another.
///
/// The kernel does not report every IPv4 route that goes: it is silent if the route's link goes down or its source
/// address goes. So a tenant that keeps routes must follow links and addresses too.
#[derive(Debug)]
pub struct Monitor {
    socket: AsyncFd<Socket>,
}

impl Monitor {
    /// Subscribes to changes in this thread's network namespace. It works only inside a tokio runtime.
    pub fn open(groups: &[Group]) -> Result<Self, NetError> {
        let open = || {
            let socket = Socket::open(None)?;
            socket.bind(0)?;
            socket.receive_buffer(BUFFER)?;
            for number in groups.iter().flat_map(|group| group.numbers()) {
                socket.join(*number)?;
            }
            register(socket)
        };
        Ok(Self {
            socket: open().map_err(NetError::Open)?,
        })
    }

    /// Waits for a change. Returns the changes that wait, in their order. After a loss, it returns all of them, and
    /// `News::Lost` at the end.
    ///
    /// This function is cancel-safe: nothing is lost if it is dropped.
    pub async fn next(&mut self) -> Result<Vec<News>, NetError> {
        let (mut news, mut lost) = (Vec::new(), false);
        loop {
            let mut ready = self.socket.readable_mut().await.map_err(NetError::Follow)?;
            // After a loss, the socket gets nothing new until it is empty, and reports only one loss. So after a loss
            // this empties it.
            while lost || news.len() < MANY {
                match ready.get_inner_mut().receive() {
                    Received::Datagram(datagram) => {
                        news.extend(Messages(datagram).filter_map(|message| told(&message)));
                    }
                    Received::Truncated(_) | Received::Overrun => lost = true,
                    Received::Nothing => {
                        ready.clear_ready();
                        break;
                    }
                    Received::Failed(error) => return Err(NetError::Follow(error)),
                }
            }
            news.extend(lost.then_some(News::Lost));
            if !news.is_empty() {
                return Ok(news);
            }
        }
    }
}

#[expect(unsafe_code, reason = "tokio has no safe way to wait for a descriptor of this kind")]
fn register(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: the socket owns its descriptor, gives the same one each time, and closes it only when it is dropped.
    unsafe { AsyncFd::register(socket) }.map_err(io::Error::from)
}

fn told(message: &tandem_netlink::answer::Message<'_>) -> Option<News> {
    let Content::Data { kind, body } = message.content else {
        return None;
    };
    let (there, object) = Object::decode(kind, body)?;
    Some(if there { News::Come(object) } else { News::Gone(object) })
}
