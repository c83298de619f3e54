//! Accepts connections, and goes on after errors. There are TCP listeners for health checks, metrics and nodePorts on
//! loopback addresses, and a unix socket for the local API.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// The wait after an error that is not about one connection.
const PAUSE: Duration = Duration::from_secs(1);
/// The wait if another connection was closed to make room.
const ROOM_PAUSE: Duration = Duration::from_millis(1);

/// A listener of some kind.
pub(crate) trait Listener: Send + Sync + 'static {
    /// Its connections.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection.
    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
    /// Its address, for the log.
    fn name(&self) -> String;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        self.accept().await.map(|(stream, _)| stream)
    }

    fn name(&self) -> String {
        named(self.local_addr().as_ref().map(SocketAddr::to_string))
    }
}

impl Listener for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        self.accept().await.map(|(stream, _)| stream)
    }

    fn name(&self) -> String {
        let address = self.local_addr();
        let path = address.as_ref().map(|address| address.as_pathname());
        named(path.map(|path| path.map_or_else(String::new, |path| path.display().to_string())))
    }
}

fn named(address: Result<String, &io::Error>) -> String {
    address.unwrap_or_else(|error| format!("unknown ({error})"))
}

/// Accepts the next connection. If there is no file left for it, `make_room` may close another one. If an error
/// concerns the listener or the process, and not one connection, it is logged once, and the function waits and tries
/// again: nobody else could do better.
pub(crate) async fn accept<L: Listener>(listener: &L, mut make_room: impl FnMut() -> bool) -> L::Stream {
    let mut told = false;
    loop {
        let error = match listener.next().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_one_connection(&error) => continue,
            Err(error) => error,
        };
        if !std::mem::replace(&mut told, true) {
            let address = listener.name();
            tracing::warn!(%address, "cannot accept connections, tried again until it works: {error}");
        }
        let pause = if is_for_want_of_files(&error) && make_room() {
            // The connection that goes is closed by its own task.
            ROOM_PAUSE
        } else {
            PAUSE
        };
        tokio::time::sleep(pause).await;
    }
}

fn is_for_want_of_files(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset
    )
}
