//! A client whose configuration is read again when its files change.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use kube::Config;
use kube::client::{Body, ConfigExt};
use tokio::sync::{Mutex, watch};
use tower::util::{BoxCloneSyncService, MapRequestLayer};
use tower::{BoxError, ServiceBuilder, ServiceExt as _};

use super::origin::{Origin, Seen};
use super::token::TokenFile;
use super::transport::Transport;
use super::{ConnectError, Http, place};
use crate::event::ApiServer;

type Stack = BoxCloneSyncService<Request<Body>, Response<Incoming>, BoxError>;

/// Sends requests with the address and the credentials that the files name now. A watch that runs goes on with those
/// with which it began.
#[derive(Clone)]
pub(super) struct Renewed(Arc<Mutex<State>>);

struct State {
    origin: Origin,
    http: Http,
    stack: Stack,
    files: Vec<Seen>,
    /// The token's file, if there is one. It outlives a change of the other files, because it holds the last good token.
    token: Option<TokenFile>,
    /// Why the files could not be used the last time.
    problem: Option<String>,
    /// Tells where the server is.
    told: watch::Sender<ApiServer>,
}

impl Renewed {
    /// Reads the configuration. Beside what sends requests, returns the default namespace, and where the server is.
    pub(super) async fn read(
        origin: Origin,
        http: Http,
    ) -> Result<(Self, String, watch::Receiver<ApiServer>), ConnectError> {
        let made = make(&origin, http, None).await?;
        let (told, server) = watch::channel(place(&made.server));
        let state = State {
            origin,
            http,
            stack: made.stack,
            files: made.files,
            token: made.token,
            problem: None,
            told,
        };
        Ok((Self(Arc::new(Mutex::new(state))), made.namespace, server))
    }

    pub(super) async fn send(self, request: Request<Body>) -> Result<Response<Incoming>, BoxError> {
        let stack = self.0.lock().await.current().await;
        stack.oneshot(request).await
    }
}

impl State {
    /// What sends the next request. If files changed, they are read again. If they cannot be used, what was read before
    /// stays, and they are tried again with the next request.
    async fn current(&mut self) -> Stack {
        if self.files.iter().any(Seen::changed) {
            match make(&self.origin, self.http, self.token.as_ref()).await {
                Ok(made) => {
                    let server = place(&made.server);
                    tracing::info!(
                        "the files of the kubeconfig changed and were read again; the API server is {}",
                        server.name
                    );
                    self.told.send_replace(server);
                    (self.stack, self.files, self.token) = (made.stack, made.files, made.token);
                    self.problem = None;
                }
                Err(error) => {
                    let problem = error.to_string();
                    if self.problem.as_ref() != Some(&problem) {
                        tracing::error!("{problem}; what was read before stays in use");
                        self.problem = Some(problem);
                    }
                }
            }
        }
        self.stack.clone()
    }
}

/// What the files said.
struct Made {
    stack: Stack,
    files: Vec<Seen>,
    token: Option<TokenFile>,
    namespace: String,
    server: Uri,
}

/// Reads the configuration, and makes from it what sends requests. Unlike kube's usual client, this one does not retry
/// by itself and does not log failures. kube's client retries 429, 503 and 504 without a message, and logs every failure
/// as an error. Whoever sends the requests does both.
async fn make(origin: &Origin, http: Http, known: Option<&TokenFile>) -> Result<Made, ConnectError> {
    let (mut config, files) = origin.read().await?;
    if let Some(proxy) = &config.proxy_url {
        let host = proxy.host().unwrap_or_default();
        tracing::warn!("the proxy {host} is not used: Tandem connects to the API server itself");
    }
    let token = token_file(&mut config, known)?;
    let credentials = |error| ConnectError::Credentials(Box::new(error));
    let with_token = token.clone().map(|token| {
        MapRequestLayer::new(move |mut request: Request<Body>| {
            if let Some(header) = token.header() {
                request.headers_mut().insert(AUTHORIZATION, header);
            }
            request
        })
    });
    let transport = Transport::new(&config, http)?;
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(credentials)?)
        .option_layer(with_token)
        .layer(config.extra_headers_layer().map_err(credentials)?)
        .map_err(BoxError::from)
        .service_fn(move |request| transport.clone().send(request));
    Ok(Made {
        stack: BoxCloneSyncService::new(service),
        files,
        token,
        namespace: config.default_namespace,
        server: config.cluster_url,
    })
}

/// Takes the token's file out of the configuration. kube reads such a file once a minute, and takes an empty one for a
/// token. As in client-go, a token that stands in the kubeconfig itself is used as long as the file never had one. `known`
/// is the file that was used until now.
fn token_file(config: &mut Config, known: Option<&TokenFile>) -> Result<Option<TokenFile>, ConnectError> {
    let Some(path) = config.auth_info.token_file.take().map(PathBuf::from) else {
        return Ok(None);
    };
    if let Some(known) = known.filter(|known| known.path() == path) {
        return Ok(Some(known.clone()));
    }
    match fs::metadata(&path) {
        Err(source) if config.auth_info.token.is_none() => Err(ConnectError::Token { path, source }),
        _ => Ok(Some(TokenFile::new(path))),
    }
}
