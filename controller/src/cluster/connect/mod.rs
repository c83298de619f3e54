//! Makes a client from a kubeconfig or from the pod's service account. The client has one connection to the API server,
//! if the server speaks HTTP/2. It reads its files again when they change.

mod origin;
mod renewed;
#[cfg(test)]
mod tests;
mod token;
mod transport;

use std::io;
use std::path::{Path, PathBuf};

use http::Uri;
use kube::Client;
use kube::config::{InClusterError, KubeconfigError};
use tokio::sync::watch;
use tower::service_fn;

use origin::Origin;
use renewed::Renewed;

use crate::event::ApiServer;

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig cannot be used.
    #[error("kubeconfig {path}: {source}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Box<KubeconfigError>,
    },
    /// There is no kubeconfig and no service account.
    #[error(
        "no kubeconfig given (--kubeconfig or clientConnection.kubeconfig), and this is not a pod with a service account: {0}"
    )]
    InCluster(#[source] InClusterError),
    /// The server's address cannot be parsed.
    #[error("server address {0:?}: {1}")]
    Server(String, #[source] http::uri::InvalidUri),
    /// The server's address has no scheme or host.
    #[error("server address {0:?}: needs a scheme and a host, as in https://192.0.2.1:6443")]
    ServerParts(String),
    /// The file of the token cannot be read.
    #[error("token file {path}: {source}")]
    Token {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: io::Error,
    },
    /// The name that the server's certificate must have is not a name.
    #[error("tls-server-name {0:?}: neither a host name nor an address")]
    TlsServerName(String),
    /// Certificates or credentials cannot be used.
    #[error("credentials: {0}")]
    Credentials(#[source] Box<kube::Error>),
}

/// Which HTTP a server is asked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http {
    /// HTTP/2, if the server speaks it.
    Newest,
    /// HTTP/1.1. Each request that runs has a connection of its own.
    One,
}

/// Makes a client for the server that the kubeconfig names, or, without a kubeconfig, for the one of the pod's service
/// account. If `server` is given, it replaces the address. Beside the client, returns where the server is, also if the
/// kubeconfig changes later.
pub async fn connect(
    kubeconfig: Option<&Path>,
    server: Option<&str>,
    http: Http,
) -> Result<(Client, watch::Receiver<ApiServer>), ConnectError> {
    let origin = Origin::new(kubeconfig, server)?;
    let (renewed, namespace, server) = Renewed::read(origin, http).await?;
    if http == Http::One {
        tracing::info!("the API server is asked by HTTP/1.1, as the settings say");
    }
    let service = service_fn(move |request| renewed.clone().send(request));
    Ok((Client::new(service, namespace), server))
}

/// Where a server of this address is.
fn place(server: &Uri) -> ApiServer {
    let host = server.host().unwrap_or_default();
    let port = server.port_u16().unwrap_or(match server.scheme_str() {
        Some("http") => 80,
        _ => 443,
    });
    ApiServer {
        name: format!("{host}:{port}").into(),
        address: host.trim_matches(['[', ']']).parse().ok(),
    }
}
