//! Health check pages, asked as a load balancer asks.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::netns::Namespace;

/// How long a load balancer waits at most.
pub(crate) const PROBE: Duration = Duration::from_secs(2);

/// Sends a probe as a load balancer does. The error says that no good answer came in time.
pub(crate) fn probe(from: &Namespace, to: SocketAddr, path: &str) -> Result<()> {
    let answer = from.run(|| -> io::Result<String> {
        let deadline = Instant::now() + PROBE;
        let mut stream = TcpStream::connect_timeout(&to, PROBE)?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: lb.example\r\nConnection: close\r\n\r\n"
        )?;
        let (mut text, mut part) = (Vec::new(), [0; 2048]);
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            stream.set_read_timeout(Some(rest.max(Duration::from_millis(1))))?;
            match stream.read(&mut part)? {
                0 => return Ok(String::from_utf8_lossy(&text).into_owned()),
                length => text.extend(&part[..length]),
            }
        }
    })??;
    let status = answer.lines().next().unwrap_or_default().to_owned();
    ensure!(status.starts_with("HTTP/1.1 200"), "answered with {status:?}");
    Ok(())
}
