//! A server for pods of `make cluster`. It answers with its name and the source that it saw, over TCP, UDP and SCTP, in
//! the namespace in which it is started, until it is killed. Usage: `whoami NAME ADDRESS:PORT…`

use std::net::SocketAddr;
use std::thread;

use anyhow::{Context as _, Result};
use tandem_tests::netns::Namespace;
use tandem_tests::traffic::{Protocol, Server};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().context("usage: whoami NAME ADDRESS:PORT…")?;
    let addresses = arguments.map(|address| address.parse().with_context(|| format!("not an address: {address}")));
    let addresses = addresses.collect::<Result<Vec<SocketAddr>>>()?;
    let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let _servers = Server::start_all(&Namespace::current()?, &name, &protocols, &addresses)?;
    loop {
        thread::park();
    }
}
