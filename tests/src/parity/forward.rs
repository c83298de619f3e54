//! Relays TCP connections to an address of one namespace to the same address of another. The second world reaches the
//! API server of the first like this.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context as _, Result};

use crate::netns::{Entrance, Namespace};

/// Accepts connections until it is dropped. An established connection ends when one of its ends does.
#[derive(Debug)]
pub(super) struct Forwarder {
    stop: Arc<AtomicBool>,
    at: Namespace,
    address: SocketAddr,
}

impl Forwarder {
    pub(super) fn start(at: &Namespace, towards: &Namespace, address: SocketAddr) -> Result<Self> {
        let listener = at.run(|| TcpListener::bind(address))?;
        let listener = listener.with_context(|| format!("listen on {address} in {}", at.name()))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, towards) = (Arc::clone(&stop), towards.entrance());
        thread::Builder::new()
            .name("forwarder".to_owned())
            .spawn(move || {
                for near in listener.incoming() {
                    if stopped.load(Ordering::Relaxed) {
                        break;
                    }
                    // If a connection cannot be relayed, it is closed, and its client tries again.
                    let _ = near.map_err(Into::into).and_then(|near| carry(near, &towards, address));
                }
            })
            .context("start the forwarder")?;
        Ok(Self {
            stop,
            at: at.clone(),
            address,
        })
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // It waits for a connection, so this wakes it.
        let _ = self.at.run(|| TcpStream::connect(self.address));
    }
}

fn carry(near: TcpStream, towards: &Entrance, address: SocketAddr) -> Result<()> {
    towards.thread("forward", move || -> io::Result<()> {
        let far = TcpStream::connect(address)?;
        far.set_nodelay(true)?;
        near.set_nodelay(true)?;
        let (near_end, far_end) = (near.try_clone()?, far.try_clone()?);
        thread::spawn(move || pass(near_end, far_end));
        pass(far, near);
        Ok(())
    })?;
    Ok(())
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let _ = io::copy(&mut from, &mut to); // either end may go at any time
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
