//! API servers that only note which name they are asked for, with and without TLS.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::netns::Namespace;

const PLAIN: u16 = 8080;
const TLS: u16 = 8443;

/// What a server saw.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Asked {
    /// A request with this `Host`.
    For(String),
    /// Tandem ended before it asked.
    Nobody,
}

/// Both servers. They answer 503 to everything, in both families, until they are dropped.
#[derive(Debug)]
pub(super) struct Server {
    seen: Arc<Mutex<Option<String>>>,
    end: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Server {
    /// Starts them. Also returns the certificate of the one with TLS, which is valid for this name.
    pub(super) fn start(namespace: &Namespace, name: &str) -> Result<(Self, String)> {
        let own = rcgen::generate_simple_self_signed([name.to_owned()]).context("make a certificate")?;
        let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key.into())
            .context("use the certificate")?;
        let mut server = Self {
            seen: Arc::default(),
            end: Arc::default(),
            threads: Vec::new(),
        };
        server.listen(namespace, PLAIN, None)?;
        server.listen(namespace, TLS, Some(Arc::new(config)))?;
        Ok((server, own.cert.pem()))
    }

    /// Forgets what was asked.
    pub(super) fn forget(&self) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What was asked since.
    pub(super) fn asked(&self) -> Option<Asked> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clone().map(Asked::For)
    }

    fn listen(&mut self, namespace: &Namespace, port: u16, tls: Option<Arc<ServerConfig>>) -> Result<()> {
        let listener = namespace.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)))?;
        let listener = listener.with_context(|| format!("listen on port {port}"))?;
        listener.set_nonblocking(true).context("set up a listener")?;
        let (seen, end) = (Arc::clone(&self.seen), Arc::clone(&self.end));
        let serve = move || {
            while !end.load(Ordering::Relaxed) {
                let Ok((client, _)) = listener.accept() else {
                    thread::sleep(Duration::from_millis(5));
                    continue;
                };
                // A client that says nothing, or something else, is none that is waited for.
                if let Ok(host) = host(client, tls.as_ref()) {
                    *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(host);
                }
            }
        };
        self.threads.push(namespace.entrance().thread("API server", serve)?);
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // a panic was printed already
        }
    }
}

/// Reads a request and answers it. Returns its `Host`.
fn host(client: TcpStream, tls: Option<&Arc<ServerConfig>>) -> Result<String> {
    client.set_nonblocking(false)?;
    client.set_read_timeout(Some(Duration::from_secs(2)))?;
    match tls {
        None => answer(client),
        Some(config) => answer(StreamOwned::new(ServerConnection::new(Arc::clone(config))?, client)),
    }
}

fn answer(client: impl Read + Write) -> Result<String> {
    let mut client = BufReader::new(client);
    let mut found = None;
    loop {
        let mut line = String::new();
        client.read_line(&mut line)?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((key, value)) = line.split_once(": ")
            && key.eq_ignore_ascii_case("host")
        {
            found = Some(value.to_owned());
        }
    }
    client
        .get_mut()
        .write_all(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
    found.context("a request without a host")
}
