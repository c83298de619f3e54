//! The agent's side of the local API.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use tandem_core::object::ObjectKey;
use tokio::net::{UnixListener, UnixStream};

use crate::config::FileState;
use crate::engine::Snapshot;

use super::view::{ServiceView, StatusView};

/// Why the agent cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody answers there already.
    #[error("{0}: another tandem answers on this socket; give this one its own with --socket")]
    Taken(PathBuf),
    /// The socket or its folder cannot be made.
    #[error("{path}: cannot listen: {source}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
}

/// A socket that is listened on; removed when dropped.
pub struct Server {
    listener: UnixListener,
    path: Cleanup,
}

struct Cleanup(PathBuf);

impl Drop for Cleanup {
    fn drop(&mut self) {
        // Nothing is lost where it stays: the next agent replaces a socket that nobody answers on.
        let _ = fs::remove_file(&self.0);
    }
}

/// What all requests are answered from.
#[derive(Clone)]
struct Shared {
    published: Arc<ArcSwap<Snapshot>>,
    files: Arc<ArcSwap<FileState>>,
}

impl Server {
    /// Listens at `path`, for root alone (mode 0600). A socket left behind by a dead agent is replaced.
    pub async fn bind(path: &Path) -> Result<Self, ListenError> {
        let error = |source| ListenError::Io {
            path: path.to_owned(),
            source,
        };
        if UnixStream::connect(path).await.is_ok() {
            return Err(ListenError::Taken(path.to_owned()));
        }
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(error)?;
        }
        match fs::remove_file(path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(error(source)),
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(error)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(error)?;
        Ok(Self {
            listener,
            path: Cleanup(path.to_owned()),
        })
    }

    /// Answers until dropped.
    pub async fn run(self, published: Arc<ArcSwap<Snapshot>>, files: Arc<ArcSwap<FileState>>) -> io::Result<()> {
        let routes = Router::new()
            .route("/v1/status", get(status))
            .route("/v1/services", get(services))
            .with_state(Shared { published, files });
        let _path = self.path;
        axum::serve(self.listener, routes).await
    }
}

async fn status(State(shared): State<Shared>) -> Json<StatusView> {
    Json(StatusView::new(&shared.published.load(), &shared.files.load()))
}

/// Which Services are asked for.
#[derive(Deserialize)]
struct Which {
    namespace: Option<String>,
    name: Option<String>,
}

async fn services(State(shared): State<Shared>, Query(which): Query<Which>) -> Response {
    let snapshot = shared.published.load_full();
    if let (Some(namespace), Some(name)) = (&which.namespace, &which.name) {
        let key = ObjectKey::new(namespace.as_str(), name.as_str());
        return match ServiceView::of(&snapshot, &key) {
            Some(view) => Json(vec![view]).into_response(),
            None => (StatusCode::NOT_FOUND, format!("service {key} is not known to tandem")).into_response(),
        };
    }
    let wanted = |key: &&ObjectKey| {
        which
            .namespace
            .as_deref()
            .is_none_or(|namespace| *namespace == *key.namespace)
    };
    let mut keys: Vec<&ObjectKey> = snapshot.services.keys().filter(wanted).collect();
    keys.sort();
    let views: Vec<ServiceView> = keys
        .into_iter()
        .filter_map(|key| ServiceView::of(&snapshot, key))
        .collect();
    Json(views).into_response()
}
