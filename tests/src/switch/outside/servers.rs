//! Servers that say who they are, to each datagram and on each connection.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use anyhow::Result;

use crate::node::Pod;

/// The port of both, and the first port of the Service.
pub(super) const PORT: u16 = 7070;
/// How many ports the Service has for datagrams. All of them lead to the same one.
pub(super) const PORTS: u16 = 20;
/// The threads end with the process: they wait for packets that nobody sends any more.
const STACK: usize = 64 << 10;

/// Starts the servers of a pod, which answer with this number.
pub(super) fn start(pod: &Pod, number: u8) -> Result<()> {
    for address in pod.addresses() {
        let at = SocketAddr::new(address, PORT);
        let bound = || Ok::<_, std::io::Error>((UdpSocket::bind(at)?, TcpListener::bind(at)?));
        let (socket, listener) = pod.namespace.run(bound)??;
        let spawn = |work: Box<dyn FnOnce() + Send>| thread::Builder::new().stack_size(STACK).spawn(work);
        spawn(Box::new(move || {
            let mut buffer = [0; 16];
            while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                // A client that is gone is no loss.
                let _ = socket.send_to(&[number], from);
            }
        }))?;
        spawn(Box::new(move || {
            for stream in listener.incoming().flatten() {
                let _ = thread::Builder::new()
                    .stack_size(STACK)
                    .spawn(move || talk(&stream, number));
            }
        }))?;
    }
    Ok(())
}

fn talk(mut stream: &TcpStream, number: u8) {
    let mut buffer = [0; 1];
    while stream.read_exact(&mut buffer).is_ok() && stream.write_all(&[number]).is_ok() {}
}
