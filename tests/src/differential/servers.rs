//! Servers in the pods. Each answers with its number and the source that it saw, in as many bytes as the question had.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use anyhow::Result;

use super::spec::TARGET;
use super::words::{self, HEADER};
use crate::node::Pod;

/// The threads end with the process: they wait for packets that nobody sends any more.
const STACK: usize = 128 << 10;

/// Starts the servers of a pod.
pub(super) fn start(pod: &Pod, number: usize) -> Result<()> {
    for address in pod.addresses() {
        let at = SocketAddr::new(address, TARGET);
        let bound = || Ok::<_, std::io::Error>((UdpSocket::bind(at)?, TcpListener::bind(at)?));
        let (socket, listener) = pod.namespace.run(bound)??;
        let spawn = |work: Box<dyn FnOnce() + Send>| thread::Builder::new().stack_size(STACK).spawn(work);
        spawn(Box::new(move || {
            let mut buffer = [0; 8192];
            while let Ok((count, from)) = socket.recv_from(&mut buffer) {
                if let Some(answer) = words::answer(&buffer[..count], number, from) {
                    // A client that is gone is no loss.
                    let _ = socket.send_to(&answer, from);
                }
            }
        }))?;
        spawn(Box::new(move || {
            for stream in listener.incoming().flatten() {
                let _ = thread::Builder::new()
                    .stack_size(STACK)
                    .spawn(move || talk(stream, number));
            }
        }))?;
    }
    Ok(())
}

/// Answers on a connection until it ends.
fn talk(mut stream: TcpStream, number: usize) -> Option<()> {
    let from = stream.peer_addr().ok()?;
    loop {
        let mut question = vec![0; HEADER];
        stream.read_exact(&mut question).ok()?;
        question.resize(words::len(&question)?, 0);
        stream.read_exact(&mut question[HEADER..]).ok()?;
        stream.write_all(&words::answer(&question, number, from)?).ok()?;
    }
}
