//! Opens as many TCP connections a second as possible: made, accepted, reset. Nothing is sent, and no connection stays
//! in `TIME_WAIT`, so that only the path to the server counts.

use std::io::{ErrorKind, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use socket2::{Domain, SockRef, Socket, Type};
use tandem_tests::netns::Namespace;

/// How long a client waits for one connection before it gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// Starts a server with this number of threads. It resets everything that it accepts, as long as the process lives.
pub fn serve(inside: &Namespace, address: SocketAddr, threads: usize) -> Result<()> {
    let socket = inside.run(|| -> Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).context("make a socket")?;
        socket.set_reuse_address(true).context("reuse an address")?;
        if address.is_ipv6() {
            socket.set_only_v6(true).context("listen on IPv6 alone")?;
        }
        socket
            .bind(&address.into())
            .with_context(|| format!("listen on {address}"))?;
        socket.listen(4096).with_context(|| format!("listen on {address}"))?;
        Ok(socket)
    })??;
    for _ in 0..threads {
        let socket = socket.try_clone().context("share a socket")?;
        start(move || {
            while let Ok((connection, _)) = socket.accept() {
                let _ = connection.set_linger(Some(Duration::ZERO)); // a reset is as good as any other end
            }
        })?;
    }
    Ok(())
}

/// Starts a server's thread. It needs neither the namespace nor the cgroup folder, to which its socket belongs; a thread in a
/// folder would keep that from being removed.
pub(crate) fn start(serve: impl FnOnce() + Send + 'static) -> Result<()> {
    let thread = std::thread::Builder::new().name("server".to_owned());
    thread.spawn(serve).context("start a server")?;
    Ok(())
}

/// How many connections a second this number of threads can make to these addresses in turns. Each thread makes one
/// after the other.
pub fn per_second(from: &Namespace, to: &[SocketAddr], threads: usize, lasting: Duration) -> Result<f64> {
    let made = AtomicU32::new(0);
    let started = Instant::now();
    let client = || -> Result<()> {
        for address in to.iter().cycle() {
            if started.elapsed() >= lasting {
                break;
            }
            connect(*address)?;
            made.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    from.run(|| {
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..threads).map(|_| scope.spawn(client)).collect();
            clients
                .into_iter()
                .try_for_each(|client| client.join().map_err(|_| anyhow!("a client panicked"))?)
        })
    })??;
    let made = made.into_inner();
    ensure!(made > 0, "no connection was made");
    Ok(f64::from(made) / started.elapsed().as_secs_f64())
}

/// Connects, and waits for the server's reset.
pub(crate) fn connect(address: SocketAddr) -> Result<()> {
    let what = || format!("connect to {address}");
    let mut connection = match TcpStream::connect_timeout(&address, PATIENCE) {
        // The reset came before this thread ran.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
        connection => connection.with_context(what)?,
    };
    SockRef::from(&connection)
        .set_linger(Some(Duration::ZERO))
        .with_context(what)?;
    match connection.read(&mut [0]) {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
        Err(error) => Err(error).with_context(what),
        Ok(_) => Err(anyhow!("{address} sent something: that is another server")),
    }
}
