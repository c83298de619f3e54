//! A server with TLS, and a folder with the files by which a client reaches it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Bytes, Frame};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::*;

/// What a server answers.
pub(super) type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

pub(super) fn text(text: String) -> Answer {
    Response::new(Full::new(Bytes::from(text)).boxed_unsync())
}

/// An answer that has no end.
pub(super) fn endless() -> Answer {
    struct Endless;

    impl hyper::body::Body for Endless {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'y'; 16 << 10])))))
        }
    }

    Response::new(Endless.boxed_unsync())
}

type Handler = dyn Fn(&Request<Incoming>) -> Answer + Send + Sync;

/// A server on a loopback address.
pub(super) struct Server {
    address: SocketAddr,
    certificate: String,
    shared: Arc<Shared>,
}

struct Shared {
    handler: Box<Handler>,
    connections: AtomicUsize,
    go_away: Notify,
    cut: Notify,
}

impl Server {
    /// Starts a server that offers these protocols.
    pub(super) async fn start(
        alpn: &[&str],
        handler: impl Fn(&Request<Incoming>) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
        let mut config =
            ServerConfig::builder_with_provider(Arc::new(tokio_rustls::rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![own.cert.der().clone()], key)
                .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            certificate: own.cert.pem(),
            shared: Arc::new(Shared {
                handler: Box::new(handler),
                connections: AtomicUsize::new(0),
                go_away: Notify::new(),
                cut: Notify::new(),
            }),
        };
        let shared = Arc::clone(&server.shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(Arc::clone(&shared), acceptor.clone(), stream));
            }
        });
        server
    }

    /// How many connections it accepted.
    pub(super) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Says on all connections that no further request is taken.
    pub(super) fn go_away(&self) {
        self.shared.go_away.notify_waiters();
    }

    /// Closes all connections.
    pub(super) fn cut(&self) {
        self.shared.cut.notify_waiters();
    }

    /// The certificate, as PEM.
    pub(super) fn certificate(&self) -> &str {
        &self.certificate
    }
}

async fn serve(shared: Arc<Shared>, acceptor: TlsAcceptor, stream: TcpStream) {
    shared.connections.fetch_add(1, Ordering::Relaxed);
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let handler = Arc::clone(&shared);
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = (handler.handler)(&request);
        async move { Ok::<_, Infallible>(answer) }
    });
    let io = TokioIo::new(stream);
    if !http2 {
        let _ = http1::Builder::new().serve_connection(io, service).await;
        return;
    }
    let mut connection = Box::pin(http2::Builder::new(TokioExecutor::new()).serve_connection(io, service));
    loop {
        tokio::select! {
            _ = connection.as_mut() => return,
            () = shared.go_away.notified() => connection.as_mut().graceful_shutdown(),
            () = shared.cut.notified() => return,
        }
    }
}

/// A folder with a kubeconfig and what it names.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tandem-connect-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Replaces a file at once, as the kubelet does.
    pub(super) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(self.path("new"), content).unwrap();
        fs::rename(self.path("new"), &path).unwrap();
        path
    }

    /// Writes a kubeconfig with these fields of the user. The file `ca.pem` is the server's certificate.
    pub(super) fn kubeconfig(&self, server: &Server, user: &str) -> PathBuf {
        self.kubeconfig_with_authority_and_user(server, server, user)
    }

    pub(super) fn kubeconfig_with_authority(&self, server: &Server, authority: &Server) -> PathBuf {
        self.kubeconfig_with_authority_and_user(server, authority, "{}")
    }

    fn kubeconfig_with_authority_and_user(&self, server: &Server, authority: &Server, user: &str) -> PathBuf {
        let ca = self.write("ca.pem", authority.certificate());
        let (ca, address) = (ca.display(), server.address);
        self.write(
            "kubeconfig",
            &format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
                 contexts:\n- name: c\n  context: {{cluster: c, user: u}}\n\
                 clusters:\n- name: c\n  cluster:\n    server: https://{address}\n    certificate-authority: {ca}\n\
                 users:\n- name: u\n  user:\n    {user}\n"
            ),
        )
    }

    pub(super) async fn client(&self, server: &Server) -> Result<Client, ConnectError> {
        self.client_with(server, "{}").await
    }

    pub(super) async fn client_with(&self, server: &Server, user: &str) -> Result<Client, ConnectError> {
        connect(Some(&self.kubeconfig(server, user)), None, Http::Newest)
            .await
            .map(|(client, _)| client)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
