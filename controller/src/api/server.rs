//! The agent's side of the local API.

use std::io;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use tandem_core::object::ObjectKey;
use tokio::net::UnixListener;

use crate::config::FileState;
use crate::conntrack::Report;
use crate::engine::Snapshot;

use super::socket::{self, Own, SocketError};
use super::view::{ServiceView, StatusView};

/// A socket that is listened on; removed when dropped.
pub struct Server {
    listener: UnixListener,
    file: Own,
}

/// What all requests are answered from.
#[derive(Clone)]
struct Shared {
    published: Arc<ArcSwap<Snapshot>>,
    files: Arc<ArcSwap<FileState>>,
    /// Of IPv4 and IPv6.
    flows: [Report; 2],
}

impl Server {
    /// Listens at `path`, for root alone (mode 0600). A socket left behind by a dead agent is replaced; whatever else is there
    /// stays, and is an error.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let (listener, file) = socket::listen(path)?;
        Ok(Self { listener, file })
    }

    /// Answers until dropped.
    pub async fn run(
        self,
        published: Arc<ArcSwap<Snapshot>>,
        files: Arc<ArcSwap<FileState>>,
        flows: [Report; 2],
    ) -> io::Result<()> {
        let shared = Shared {
            published,
            files,
            flows,
        };
        let routes = Router::new()
            .route("/v1/status", get(status))
            .route("/v1/services", get(services))
            .with_state(shared);
        let _file = self.file;
        axum::serve(self.listener, routes).await
    }
}

async fn status(State(shared): State<Shared>) -> Json<StatusView> {
    let flows = shared.flows.each_ref().map(Report::load);
    Json(StatusView::new(&shared.published.load(), &shared.files.load(), &flows))
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
