//! A client whose configuration is read again when its files change.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;
use std::{fs, os::unix::fs::MetadataExt as _};

use http::header::AUTHORIZATION;
use http::{Request, Response};
use hyper::body::Incoming;
use kube::Config;
use kube::client::{Body, ConfigExt};
use tokio::sync::Mutex;
use tower::util::{BoxCloneSyncService, MapRequestLayer};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt as _};

use super::ConnectError;
use super::origin::Origin;
use super::token::TokenFile;
use super::transport::Transport;

type Stack = BoxCloneSyncService<Request<Body>, Response<Incoming>, BoxError>;

/// Sends requests with the address and the credentials that the files name now. A watch that runs goes on with those
/// with which it began.
#[derive(Clone)]
pub(super) struct Renewed(Arc<Mutex<State>>);

struct State {
    origin: Origin,
    stack: Stack,
    files: Vec<(PathBuf, Option<Stamp>)>,
    /// Why the files could not be used the last time.
    problem: Option<String>,
}

/// What differs if a file was written or replaced.
type Stamp = (SystemTime, u64, u64);

impl Renewed {
    /// Reads the configuration. Returns the client's service, and the default namespace.
    pub(super) async fn read(origin: Origin) -> Result<(Self, String), ConnectError> {
        let (stack, files, namespace) = make(&origin).await?;
        let state = State {
            origin,
            stack,
            files,
            problem: None,
        };
        Ok((Self(Arc::new(Mutex::new(state))), namespace))
    }
}

impl State {
    /// What sends the next request. If files changed, they are read again. If they cannot be used, what was read before
    /// stays, and they are tried again with the next request.
    async fn current(&mut self) -> Stack {
        if self.files.iter().any(|(path, seen)| stamp(path) != *seen) {
            match make(&self.origin).await {
                Ok((stack, files, _)) => {
                    tracing::info!("the files of the kubeconfig changed and were read again");
                    (self.stack, self.files, self.problem) = (stack, files, None);
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

impl Service<Request<Body>> for Renewed {
    type Response = Response<Incoming>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let state = Arc::clone(&self.0);
        Box::pin(async move {
            let stack = state.lock().await.current().await;
            stack.oneshot(request).await
        })
    }
}

/// Reads the configuration, and makes from it what sends requests. Unlike kube's usual client, this one does not retry
/// by itself and does not log failures. kube's client retries 429, 503 and 504 without a message, and logs every failure
/// as an error. Whoever sends the requests does both.
async fn make(origin: &Origin) -> Result<(Stack, Vec<(PathBuf, Option<Stamp>)>, String), ConnectError> {
    let (mut config, files) = origin.read().await?;
    // A file that changes while it is read has another stamp than this one, and is read once more.
    let files = files.into_iter().map(|path| (path.clone(), stamp(&path))).collect();
    let token = token_file(&mut config)?;
    let credentials = |error| ConnectError::Credentials(Box::new(error));
    let token = token.map(|token| {
        MapRequestLayer::new(move |mut request: Request<Body>| {
            if let Some(header) = token.header() {
                request.headers_mut().insert(AUTHORIZATION, header);
            }
            request
        })
    });
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(credentials)?)
        .option_layer(token)
        .layer(config.extra_headers_layer().map_err(credentials)?)
        .map_err(BoxError::from)
        .service(Transport::new(&config)?);
    Ok((BoxCloneSyncService::new(service), files, config.default_namespace))
}

/// Takes the token's file out of the configuration. kube reads such a file once a minute, and takes an empty one for a
/// token. As in client-go, a token that stands in the kubeconfig itself is used as long as the file never had one.
fn token_file(config: &mut Config) -> Result<Option<TokenFile>, ConnectError> {
    let Some(path) = config.auth_info.token_file.take().map(PathBuf::from) else {
        return Ok(None);
    };
    match fs::metadata(&path) {
        Err(source) if config.auth_info.token.is_none() => Err(ConnectError::Token { path, source }),
        _ => Ok(Some(TokenFile::new(path))),
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let data = fs::metadata(path).ok()?;
    Some((data.modified().ok()?, data.len(), data.ino()))
}
