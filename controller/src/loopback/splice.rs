//! Relays one connection. It copies the data of each side to the other, at the pace of the slower side, until both have
//! sent everything.

use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long the other side may take to accept the connection. KEP-6032 uses the same time.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a connection may be silent before the kernel checks whether its ends still exist.
const SILENCE: Duration = Duration::from_secs(15);

/// Relays a connection until it ends. The client gets a reset if nobody answers, and if the other side resets.
pub(super) async fn carry(mut client: TcpStream, to: SocketAddr) {
    let mut endpoint = match timeout(PATIENCE, TcpStream::connect(to)).await {
        Ok(Ok(endpoint)) => endpoint,
        result => {
            tracing::debug!(%to, ?result, "no endpoint answers");
            return reset(&client);
        }
    };
    for stream in [&client, &endpoint] {
        // These options only affect delays, and ends that vanish without a message.
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(SILENCE).with_interval(SILENCE));
    }
    if copy_bidirectional(&mut client, &mut endpoint).await.is_err() {
        // One end was reset. The other end must not take the data so far for all the data.
        reset(&client);
        reset(&endpoint);
    }
}

/// Makes the socket send a reset when it is closed. If this option cannot be set, it is closed in the usual way.
fn reset(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// A client, and the other end of the connection that relays it.
    async fn connected() -> (TcpStream, TcpStream) {
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (front, back) = (
            TcpListener::bind(local).await.unwrap(),
            TcpListener::bind(local).await.unwrap(),
        );
        let client = TcpStream::connect(front.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = front.accept().await.unwrap();
        tokio::spawn(carry(accepted, back.local_addr().unwrap()));
        (client, back.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn a_side_that_has_said_all_still_hears_the_other() {
        let (mut client, mut server) = connected().await;
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut heard = String::new();
        server.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "question");
        server.write_all(b"answer").await.unwrap();
        drop(server);
        heard.clear();
        client.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "answer");
    }

    #[tokio::test]
    async fn a_reset_is_passed_on() {
        let (mut client, server) = connected().await;
        reset(&server);
        drop(server);
        let error = client.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_client_is_reset_where_nobody_listens() {
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let front = TcpListener::bind(local).await.unwrap();
        let nobody = TcpListener::bind(local).await.unwrap().local_addr().unwrap();
        let mut client = TcpStream::connect(front.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = front.accept().await.unwrap();
        carry(accepted, nobody).await;
        let error = client.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}
