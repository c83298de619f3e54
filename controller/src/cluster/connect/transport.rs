//! Carries requests to the API server. All requests share one connection, if the server speaks HTTP/2.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::uri::Scheme;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connection as _, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::Config;
use kube::client::{Body, ConfigExt};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tower::{BoxError, ServiceExt as _};

use super::{ConnectError, Http};
use crate::cluster::causes::causes;

/// The longest time for making a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// After this time without traffic, the kernel checks whether the other side is still there.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// After this time without a frame from the server, an HTTP/2 connection sends a ping.
const PING: Duration = Duration::from_secs(20);
/// If a ping has no answer within this time, the connection is dead.
const PONG: Duration = Duration::from_secs(15);
/// How much a server may send of one answer before it is read.
const STREAM_WINDOW: u32 = 256 << 10;
/// How much a server may send of all answers together before they are read. It is far more than all windows of streams
/// that Tandem has, so that no answer that is read slowly holds another one back.
const CONNECTION_WINDOW: u32 = 64 * STREAM_WINDOW;

type Connector = HttpsConnector<HttpConnector>;

/// Makes connections, and holds the one that all requests share.
#[derive(Clone)]
pub(super) struct Transport {
    connector: Connector,
    http: Http,
    /// For a server that speaks only HTTP/1.1, and for plain HTTP. Each request that runs has its own connection.
    http1: Client<Connector, Body>,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    server: Server,
    /// When the last attempt to connect failed, and why.
    failed: Option<(Instant, Unreachable)>,
}

/// Why no connection was made, and to which address. Everybody who waited for the connection gets the same error.
#[derive(Clone, Debug)]
struct Unreachable {
    server: Uri,
    error: Arc<BoxError>,
}

/// In a pod, kubelet sets it to the ClusterIP of the Service `kubernetes`.
const IN_POD: &str = "KUBERNETES_SERVICE_HOST";

impl Unreachable {
    fn new(server: &Uri, error: impl Into<BoxError>) -> Self {
        Self {
            server: server.clone(),
            error: Arc::new(error.into()),
        }
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = super::place(&self.server);
        f.write_str(&place.name)?;
        let host = self.server.host().unwrap_or_default().trim_matches(['[', ']']);
        if std::env::var(IN_POD).is_ok_and(|given| given.trim_matches(['[', ']']) == host) {
            write!(
                f,
                " (this is {IN_POD}, the ClusterIP of the Service kubernetes: nothing answers there before a service proxy \
                 runs on this node. Give the API server's own address, by --master or in a kubeconfig)"
            )?;
        }
        write!(f, ": {}", causes(&**self.error))
    }
}

/// Its text names all causes, so it has no source.
impl Error for Unreachable {}

/// What is known of the server.
enum Server {
    /// It must be asked which HTTP it speaks.
    Unknown,
    /// The connection, which may have ended meanwhile.
    Http2(SendRequest<Body>),
    /// It does not speak HTTP/2.
    Http1,
}

/// No connection was made in time.
#[derive(Debug, thiserror::Error)]
#[error("no connection within {} s", CONNECT.as_secs())]
struct Slow;

impl Transport {
    pub(super) fn new(config: &Config, http: Http) -> Result<Self, ConnectError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT));
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_keepalive_interval(Some(KEEPALIVE));
        tcp.set_keepalive_retries(Some(3));
        tcp.set_tcp_user_timeout(Some(KEEPALIVE * 3));
        let certificates = config.rustls_client_config();
        let certificates = certificates.map_err(|error| ConnectError::Credentials(Box::new(error)))?;
        let connector = |http2: bool| {
            let mut tls = HttpsConnectorBuilder::new()
                .with_tls_config(certificates.clone())
                .https_or_http();
            if let Some(name) = &config.tls_server_name {
                let parsed = name.clone().try_into();
                let parsed = parsed.map_err(|_| ConnectError::TlsServerName(name.clone()))?;
                tls = tls.with_server_name_resolver(FixedServerNameResolver::new(parsed));
            }
            Ok(if http2 {
                tls.enable_all_versions().wrap_connector(tcp.clone())
            } else {
                tls.enable_http1().wrap_connector(tcp.clone())
            })
        };
        let shared = Shared {
            server: Server::Unknown,
            failed: None,
        };
        Ok(Self {
            http1: Client::builder(TokioExecutor::new()).build(connector(false)?),
            connector: connector(true)?,
            http,
            shared: Arc::new(Mutex::new(shared)),
        })
    }

    /// Sends a request, and returns the answer as soon as its head has arrived.
    pub(super) async fn send(self, mut request: Request<Body>) -> Result<Response<Incoming>, BoxError> {
        let mut tried = false;
        loop {
            let Some(mut connection) = self.connection(request.uri()).await? else {
                return self.send_http1(request).await;
            };
            match connection.try_send_request(request).await {
                Ok(answer) => return Ok(answer),
                Err(mut error) => match error.take_message() {
                    // The server ended the connection before it took the request, for instance with GOAWAY. The request
                    // goes to a new connection, once.
                    Some(unsent) if !std::mem::replace(&mut tried, true) => request = unsent,
                    _ => return Err(error.into_error().into()),
                },
            }
        }
    }

    async fn send_http1(&self, request: Request<Body>) -> Result<Response<Incoming>, BoxError> {
        let server = request.uri().clone();
        match self.http1.request(request).await {
            Ok(answer) => Ok(answer),
            Err(error) => {
                // The server that comes back may be another one.
                self.shared.lock().await.server = Server::Unknown;
                Err(if error.is_connect() {
                    Unreachable::new(&server, error).into()
                } else {
                    error.into()
                })
            }
        }
    }

    /// The connection that all requests share. It is made if there is none; meanwhile, the other requests wait. None if
    /// the server speaks only HTTP/1.1.
    async fn connection(&self, server: &Uri) -> Result<Option<SendRequest<Body>>, BoxError> {
        // Without TLS, nothing tells which HTTP a server speaks.
        if self.http == Http::One || server.scheme() != Some(&Scheme::HTTPS) {
            return Ok(None);
        }
        let asked = Instant::now();
        let mut shared = self.shared.lock().await;
        match &shared.server {
            Server::Http2(connection) if !connection.is_closed() => return Ok(Some(connection.clone())),
            Server::Http1 => return Ok(None),
            Server::Http2(_) | Server::Unknown => {}
        }
        // Whoever waited while another one tried to connect need not try too.
        if let Some((_, error)) = shared.failed.as_ref().filter(|(at, _)| *at > asked) {
            return Err(error.clone().into());
        }
        match self.connect(server).await {
            Ok(Some(connection)) => {
                tracing::info!("the API server is asked by HTTP/2");
                shared.server = Server::Http2(connection.clone());
                Ok(Some(connection))
            }
            Ok(None) => {
                tracing::info!("the API server is asked by HTTP/1.1, because it does not speak HTTP/2");
                shared.server = Server::Http1;
                Ok(None)
            }
            Err(error) => {
                let error = Unreachable::new(server, error);
                shared.failed = Some((Instant::now(), error.clone()));
                Err(error.into())
            }
        }
    }

    /// Makes a connection. None if the server does not speak HTTP/2.
    async fn connect(&self, server: &Uri) -> Result<Option<SendRequest<Body>>, BoxError> {
        let made = timeout(CONNECT, self.connector.clone().oneshot(server.clone())).await;
        let io = made.map_err(|_| Slow)??;
        if !io.connected().is_negotiated_h2() {
            return Ok(None);
        }
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(PONG)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(io)
            .await?;
        tokio::spawn(async move {
            // Each request over this connection fails too, and reports that it ended. Only here is it known why.
            match connection.await {
                Err(error) if error.is_timeout() => {
                    tracing::warn!("the API server did not answer a ping within {} s", PONG.as_secs());
                }
                Err(error) => tracing::info!("the connection to the API server ended: {}", causes(&error)),
                Ok(()) => {}
            }
        });
        Ok(Some(sender))
    }
}
