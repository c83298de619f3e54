//! Makes a client from a kubeconfig or from the pod's service account.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt};
use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use tower::{BoxError, ServiceBuilder};

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
    /// Certificates or credentials cannot be used.
    #[error("credentials: {0}")]
    Credentials(#[source] Box<kube::Error>),
}

/// The longest time for making a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// After this time without traffic, the kernel checks whether the other side is still there.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Makes a client for the server that the kubeconfig names, or, without a kubeconfig, for the one of the pod's service
/// account. If `server` is given, it replaces the address.
pub async fn connect(kubeconfig: Option<&Path>, server: Option<&str>) -> Result<Client, ConnectError> {
    let server = server.map(parse_server).transpose()?;
    let mut config = match (kubeconfig, &server) {
        (Some(path), _) => from_kubeconfig(path).await?,
        (None, Some(server)) => Config::incluster().unwrap_or_else(|_| Config::new(server.clone())),
        (None, None) => Config::incluster().map_err(ConnectError::InCluster)?,
    };
    if let Some(server) = server {
        config.cluster_url = server;
    }
    client(&config).map_err(|error| ConnectError::Credentials(Box::new(error)))
}

fn parse_server(text: &str) -> Result<http::Uri, ConnectError> {
    let uri: http::Uri = text
        .parse()
        .map_err(|error| ConnectError::Server(text.to_owned(), error))?;
    if uri.scheme().is_none() || uri.host().is_none() {
        return Err(ConnectError::ServerParts(text.to_owned()));
    }
    Ok(uri)
}

async fn from_kubeconfig(path: &Path) -> Result<Config, ConnectError> {
    let failed = |source| ConnectError::Kubeconfig {
        path: path.to_owned(),
        source: Box::new(source),
    };
    let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(failed)
}

/// Unlike kube's usual client, this one does not retry by itself and does not log failures. kube's client retries 429,
/// 503 and 504 without a message, and logs every failure as an error. The source does both itself.
fn client(config: &Config) -> Result<Client, kube::Error> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE));
    tcp.set_keepalive_retries(Some(3));
    tcp.set_tcp_user_timeout(Some(KEEPALIVE * 3));
    let https = config.rustls_https_connector_with_connector(tcp)?;
    let http: legacy::Client<_, Body> = legacy::Client::builder(TokioExecutor::new()).build(https);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_kubeconfig_is_named() {
        let error = connect(Some(Path::new("/does/not/exist")), None)
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.starts_with("kubeconfig /does/not/exist: failed to read kubeconfig"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_server_address_needs_scheme_and_host() {
        for text in ["192.0.2.1:6443", "/path"] {
            let error = connect(None, Some(text)).await.err().unwrap().to_string();
            assert!(error.contains("needs a scheme and a host"), "{error}");
        }
        assert!(connect(None, Some("https://192.0.2.1:6443")).await.is_ok());
    }
}
