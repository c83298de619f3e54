//! The proxy between a Tandem and the real API server. It takes TLS connections with a certificate of its own, and passes
//! each request and each answer on, except for the fault of the session.
//!
//! It listens in the namespace of its Tandem. Its requests to the API server leave from the control plane's namespace,
//! where the thread of all proxies runs.

use std::net::SocketAddr;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Handle};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::answer::answer;
use super::body::Carrier;
use super::case::Http;
use super::fault::Fault;
use super::session::Session;
use crate::netns::Namespace;

/// The way to the API server, which all proxies share.
#[derive(Clone)]
pub(super) struct Upstream {
    runtime: Handle,
    client: Client,
}

/// A proxy for one Tandem.
pub(super) struct Proxy {
    address: SocketAddr,
    identities: Arc<[Identity; 2]>,
    session: Arc<Mutex<Option<Arc<Session>>>>,
}

/// A certificate that signs itself.
struct Identity {
    pem: String,
    http1: TlsAcceptor,
    http2: TlsAcceptor,
}

impl Upstream {
    /// Starts the thread of all proxies. It lives as long as the process.
    pub(super) fn start(inside: &Namespace, kubeconfig: &Path) -> Result<Self> {
        let kubeconfig = Kubeconfig::read_from(kubeconfig).context("read the kubeconfig")?;
        let (ready, is_ready) = mpsc::channel();
        inside.entrance().thread("proxies", move || {
            let runtime = match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(ready.send(Err(anyhow!(error)))),
            };
            runtime.block_on(async {
                let client = client(kubeconfig).await;
                let runtime = Handle::current();
                let _ = ready.send(client.map(|client| Self { runtime, client }));
                std::future::pending::<()>().await;
            });
        })?;
        is_ready.recv().context("the thread of the proxies did not start")?
    }
}

/// A client without a token. Each request has its own.
async fn client(kubeconfig: Kubeconfig) -> Result<Client> {
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.auth_info = AuthInfo::default();
    config.connect_timeout = Some(Duration::from_secs(5));
    (config.read_timeout, config.write_timeout) = (None, None);
    Ok(Client::try_from(config)?)
}

impl Proxy {
    /// Starts to listen on a loopback address of this namespace.
    pub(super) fn start(namespace: &Namespace, upstream: &Upstream) -> Result<Self> {
        let listener = namespace.run(|| std::net::TcpListener::bind("127.0.0.1:0"))?;
        let listener = listener.context("listen for Tandem")?;
        listener.set_nonblocking(true).context("listen without waiting")?;
        let proxy = Self {
            address: listener.local_addr().context("the proxy's address")?,
            identities: Arc::new([Identity::new()?, Identity::new()?]),
            session: Arc::default(),
        };
        let (session, identities) = (Arc::clone(&proxy.session), Arc::clone(&proxy.identities));
        let _inside = upstream.runtime.enter();
        let listener = TcpListener::from_std(listener).context("listen for Tandem")?;
        let client = upstream.client.clone();
        upstream.runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let now = session.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if let Some(session) = now {
                    tokio::spawn(serve(stream, session, Arc::clone(&identities), client.clone()));
                }
            }
        });
        Ok(proxy)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate before or after [`Fault::NewCertificate`], as PEM.
    pub(super) fn certificate(&self, new: bool) -> &str {
        &self.identities[usize::from(new)].pem
    }

    /// From now on, new connections belong to this session.
    pub(super) fn begin(&self, session: Arc<Session>) {
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
    }
}

impl Identity {
    fn new() -> Result<Self> {
        let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).context("make a certificate")?;
        let acceptor = |protocols: &[&str]| -> Result<TlsAcceptor> {
            let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).map_err(|error| anyhow!(error))?;
            let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_no_client_auth()
                .with_single_cert(vec![own.cert.der().clone()], key)?;
            config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
            Ok(TlsAcceptor::from(Arc::new(config)))
        };
        Ok(Self {
            pem: own.cert.pem(),
            http1: acceptor(&["http/1.1"])?,
            http2: acceptor(&["h2", "http/1.1"])?,
        })
    }
}

/// Serves one connection of Tandem.
async fn serve(stream: TcpStream, session: Arc<Session>, identities: Arc<[Identity; 2]>, client: Client) {
    let (fault, armed, first) = (session.case.fault, session.is_armed(), session.connected());
    let identity = &identities[usize::from(armed && fault == Fault::NewCertificate)];
    let http1_only = session.case.way.http == Http::One || (armed && fault == Fault::OnlyHttp1);
    let acceptor = if http1_only { &identity.http1 } else { &identity.http2 };
    let _ = stream.set_nodelay(true);
    if session.case.at % 2 == 1 {
        // When this connection is dropped, the client sees a reset, and not an end.
        let _ = stream.set_zero_linger();
    }
    let Ok(mut stream) = acceptor.accept(stream).await else {
        return;
    };
    if armed && fault == Fault::NoHttp2 && !session.is_over() {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let _ = stream.shutdown().await;
        return;
    }
    if first && fault == Fault::OnlyHttp1 {
        session.over();
    }
    let carrier = Arc::new(Carrier::default());
    let handler = (Arc::clone(&session), Arc::clone(&carrier));
    let service = service_fn(move |request: Request<Incoming>| {
        answer(Arc::clone(&handler.0), Arc::clone(&handler.1), client.clone(), request)
    });
    let io = TokioIo::new(stream);
    if http1_only {
        let connection = http1::Builder::new().serve_connection(io, service);
        drive(connection, http1::Connection::graceful_shutdown, &carrier, &session).await;
    } else {
        let connection = http2::Builder::new(TokioExecutor::new()).serve_connection(io, service);
        drive(connection, http2::Connection::graceful_shutdown, &carrier, &session).await;
    }
}

/// Serves a connection until it ends or is cut.
async fn drive<C: Future>(connection: C, go_away: impl Fn(Pin<&mut C>), carrier: &Carrier, session: &Session) {
    let mut connection = pin!(connection);
    loop {
        tokio::select! {
            _ = connection.as_mut() => return,
            () = carrier.go_away.notified() => go_away(connection.as_mut()),
            () = carrier.cut.notified() => return,
            () = session.cut.notified() => return,
        }
    }
}
