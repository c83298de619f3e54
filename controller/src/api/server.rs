//! The server of the local API, in the agent.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::Serialize;
use tandem_core::node::InterfaceName;
use tandem_core::object::ObjectKey;
use tokio::net::UnixListener;

use crate::config::FileState;
use crate::engine::Snapshot;
use crate::flows::Report;
use crate::http::{Connections, Limits, json, not_found, serve_later, text};
use crate::net::{Link, Links, Rtnetlink};
use crate::xdp;

use super::document::{Document, List};
use super::flows::FlowsWanted;
use super::inside::{Counted, Inside, Rules};
use super::outside::FlowView;
use super::ready::ReadyView;
use super::socket::{self, Own, SocketError};
use super::view::{ServiceView, StatusView};

/// A socket that the agent listens on. It is removed when this value is dropped.
pub struct Server {
    listener: UnixListener,
    file: Own,
}

/// How often it is looked whether a socket is free.
const FREE_EVERY: Duration = Duration::from_millis(100);

/// The data for all answers.
struct Shared {
    published: Arc<ArcSwap<Snapshot>>,
    files: Arc<ArcSwap<FileState>>,
    /// Of IPv4 and IPv6.
    flows: [Report; 2],
    sockets: xdp::Report,
    rules: Box<RulesOf>,
}

/// What the configuration says now about pods' connections.
type RulesOf = dyn Fn(&Snapshot) -> Rules + Send + Sync;

impl Server {
    /// Listens at `path`, for root alone (mode 0600). A socket that a dead agent left is replaced. Anything else at the
    /// path stays, and is an error.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let (listener, file) = socket::listen(path)?;
        Ok(Self { listener, file })
    }

    /// As [`Self::bind`], as soon as nobody else answers there.
    pub async fn bind_when_free(path: &Path) -> Result<Self, SocketError> {
        loop {
            match Self::bind(path) {
                Err(SocketError::Taken(_)) => tokio::time::sleep(FREE_EVERY).await,
                bound => return bound,
            }
        }
    }

    /// Answers until dropped.
    pub async fn run(
        self,
        published: Arc<ArcSwap<Snapshot>>,
        files: Arc<ArcSwap<FileState>>,
        flows: [Report; 2],
        sockets: xdp::Report,
        rules: impl Fn(&Snapshot) -> Rules + Send + Sync + 'static,
    ) {
        let shared = Arc::new(Shared {
            published,
            files,
            flows,
            sockets,
            rules: Box::new(rules),
        });
        self.serve(move |request| answer(&shared, request)).await;
    }

    /// Answers `tandem ready` alone, with what is in `view`, until dropped. For a program that is no agent.
    pub async fn say_ready(self, view: Arc<ArcSwap<ReadyView>>) {
        self.serve(move |request| {
            let response = match request.uri().path() {
                "/v1/ready" => printed(&**view.load()),
                _ => not_found(),
            };
            std::future::ready(response)
        })
        .await;
    }

    async fn serve<R>(self, answer: impl Fn(&Request<Incoming>) -> R + Clone + Send + 'static)
    where
        R: Future<Output = Response<String>> + Send + 'static,
    {
        let _file = self.file;
        let room = Connections::new(Limits::local()).room();
        serve_later(self.listener, room, answer).await;
    }
}

/// A page, and whether it reads the kernel.
type Page = (fn(&Shared, &str) -> Response<String>, bool);

/// The pages that read the kernel are made on a thread of their own. The agent has few threads for all that must not wait.
fn answer(shared: &Arc<Shared>, request: &Request<Incoming>) -> impl Future<Output = Response<String>> + use<> {
    let page: Result<Page, Response<String>> = match request.uri().path() {
        _ if request.method() != Method::GET && request.method() != Method::HEAD => Err(only_get()),
        "/v1/status" => Ok((status, true)),
        "/v1/services" => Ok((services, true)),
        "/v1/flows" => Ok((flows, true)),
        "/v1/ready" => Ok((ready, false)),
        _ => Err(not_found()),
    };
    let shared = Arc::clone(shared);
    let query = request.uri().query().unwrap_or_default().to_owned();
    async move {
        match page {
            Err(response) => response,
            Ok((page, false)) => page(&shared, &query),
            Ok((page, true)) => tokio::task::spawn_blocking(move || page(&shared, &query))
                .await
                .unwrap_or_else(|error| {
                    let problem = format!("the answer cannot be made: {error}");
                    text(StatusCode::INTERNAL_SERVER_ERROR, &problem)
                }),
        }
    }
}

fn only_get() -> Response<String> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
    let allowed = HeaderValue::from_static("GET, HEAD");
    response.headers_mut().insert(header::ALLOW, allowed);
    response
}

fn status(shared: &Shared, _query: &str) -> Response<String> {
    let flows = shared.flows.each_ref().map(Report::load);
    let status = StatusView::new(
        &shared.published.load(),
        &shared.files.load(),
        &flows,
        &shared.sockets.load(),
    );
    printed(&Document::new(status))
}

fn ready(shared: &Shared, _query: &str) -> Response<String> {
    printed(&ReadyView::of(&shared.published.load()))
}

fn services(shared: &Shared, query: &str) -> Response<String> {
    let asked = |name| {
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        pairs.find_map(|(key, value)| (key == name).then_some(value))
    };
    let (namespace, name) = (asked("namespace"), asked("name"));
    let snapshot = shared.published.load_full();
    let sockets = shared.sockets.load();
    let inside = Inside {
        sockets: &sockets,
        rules: (shared.rules)(&snapshot),
        connections: asked("connections").map(|_| Counted::read(&sockets)),
    };
    if let (Some(namespace), Some(name)) = (&namespace, &name) {
        let key = ObjectKey::new(&**namespace, &**name);
        return match ServiceView::of(&snapshot, &key, &inside) {
            Some(view) => printed(&Document::new(view)),
            None => text(StatusCode::NOT_FOUND, &format!("service {key} is not known to tandem")),
        };
    }
    let wanted = |key: &&ObjectKey| {
        namespace
            .as_deref()
            .is_none_or(|namespace| *namespace == *key.namespace)
    };
    let mut keys: Vec<&ObjectKey> = snapshot.services.keys().filter(wanted).collect();
    keys.sort();
    let views: Vec<ServiceView> = keys
        .into_iter()
        .filter_map(|key| ServiceView::of(&snapshot, key, &inside))
        .collect();
    printed(&List::new(views))
}

fn flows(shared: &Shared, query: &str) -> Response<String> {
    let wanted = match FlowsWanted::of(query) {
        Ok(wanted) => wanted,
        Err(problem) => return text(StatusCode::BAD_REQUEST, &problem),
    };
    let state = shared.sockets.load();
    let names = device_names();
    let name = |index| {
        let name = names.get(&index);
        Some(name.map_or_else(|| format!("device {index}"), ToString::to_string))
    };
    let mut views = Vec::new();
    if let Some(counts) = &state.outside.counts {
        for family in wanted.families() {
            counts.flows(family, &mut |flow| {
                if wanted.has(&flow) {
                    views.push(FlowView::of(&flow, name));
                }
            });
        }
    }
    printed(&List::new(views))
}

/// The names of devices. Flows that go on after XDP was switched off go by devices that nobody names any more but the kernel.
fn device_names() -> HashMap<u32, InterfaceName> {
    let links = Rtnetlink::open().and_then(|mut kernel| kernel.list::<Link>(&Links));
    let links = links.unwrap_or_else(|error| {
        tracing::debug!("flows: {error}: their devices are shown by number");
        Vec::new()
    });
    links
        .into_iter()
        .filter_map(|link| Some((link.index, link.name?)))
        .collect()
}

fn printed<V: Serialize>(view: &V) -> Response<String> {
    match serde_json::to_string(view) {
        Ok(body) => json(StatusCode::OK, body),
        Err(error) => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            &format!("the answer cannot be printed: {error}"),
        ),
    }
}

#[cfg(test)]
mod tests;
