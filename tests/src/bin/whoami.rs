//! A server for pods of `make cluster`. It answers with its name and the source that it saw, over TCP, UDP and SCTP, in
//! the namespace in which it is started, until it is killed.

use std::net::SocketAddr;
use std::thread;

use anyhow::Result;
use clap::Parser;
use tandem_tests::netns::Namespace;
use tandem_tests::traffic::{Protocol, Server};

/// A server that answers with its name and the source that it saw.
#[derive(Parser)]
struct Arguments {
    name: String,
    #[arg(value_name = "ADDRESS:PORT")]
    addresses: Vec<SocketAddr>,
}

fn main() -> Result<()> {
    let Arguments { name, addresses } = Arguments::parse();
    let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let _servers = Server::start_all(&Namespace::current()?, &name, &protocols, &addresses)?;
    loop {
        thread::park();
    }
}
