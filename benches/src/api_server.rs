//! A stand-in for a kube-apiserver. It lists a synthetic cluster page by page or as the beginning of a watch, and sends
//! changes of slices to every watcher.
//!
//! The objects are complete, as in [`crate::synthetic`]'s texts, so that Tandem's decoder has to skip what Tandem does
//! not use. There is no TLS and no storage: a list always shows the cluster as it was at the start.

mod watch;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};
use tandem_core::family::IpFamily;
use tandem_tests::manifests::to_yaml;
use tandem_tests::netns::Namespace;

use crate::synthetic::{Shape, node_object, service_cidr_object};
use watch::History;

/// The version of every list. Changes have the versions after it.
const VERSION: u64 = 1_000_000;
/// The size of a page if the request does not set one.
const PAGE: u32 = 500;

/// The running server. It ends when the process ends.
#[derive(Debug)]
pub struct ApiServer {
    address: SocketAddr,
    shape: Shape,
    slices: Arc<History>,
}

/// One kind of objects.
struct Resource {
    kind: &'static str,
    version: &'static str,
    count: u32,
    object: Box<dyn Fn(u32) -> Value + Send + Sync>,
    history: Arc<History>,
}

#[derive(serde::Deserialize)]
struct Parameters {
    limit: Option<u32>,
    #[serde(rename = "continue")]
    after: Option<u32>,
    #[serde(default)]
    watch: bool,
    #[serde(rename = "sendInitialEvents", default)]
    all: bool,
    #[serde(rename = "resourceVersion")]
    version: Option<String>,
    #[serde(rename = "timeoutSeconds")]
    seconds: Option<u64>,
}

impl ApiServer {
    /// Serves a cluster on the loopback address of a namespace.
    pub fn start(inside: &Namespace, shape: Shape) -> Result<Self> {
        let (ready, is_ready) = channel();
        let slices = Arc::new(History::default());
        let router = router(shape, &slices);
        inside.entrance().thread("api-server", move || {
            let serve = async {
                let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
                let _ = ready.send(listener.local_addr()?);
                axum::serve(listener, router).await
            };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            if let Err(error) = runtime.and_then(|runtime| runtime.block_on(serve)) {
                eprintln!("the API server's stand-in ended: {error}");
            }
        })?;
        let address = is_ready.recv().context("the API server's stand-in did not start")?;
        Ok(Self { address, shape, slices })
    }

    /// Writes a kubeconfig for this server.
    pub fn write_kubeconfig(&self, file: &Path) -> Result<()> {
        let text = to_yaml(&json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "bench",
            "clusters": [{ "name": "bench", "cluster": { "server": format!("http://{}", self.address) } }],
            "users": [{ "name": "bench", "user": {} }],
            "contexts": [{ "name": "bench", "context": { "cluster": "bench", "user": "bench" } }],
        }))?;
        std::fs::write(file, text).with_context(|| format!("write {}", file.display()))
    }

    /// Tells all watchers that the slice of Service `n` has this number of endpoints more than usual (none or one).
    pub fn change(&self, n: u32, family: IpFamily, more: u32) {
        let shape = self.shape;
        self.slices.push(|version| {
            let mut object = shape.slice_object(n, family, more, version);
            object["kind"] = json!("EndpointSlice");
            object["apiVersion"] = json!("discovery.k8s.io/v1");
            json!({ "type": "MODIFIED", "object": object })
        });
    }
}

fn router(shape: Shape, slices: &Arc<History>) -> Router {
    let services = Resource {
        kind: "Service",
        version: "v1",
        count: shape.services,
        object: Box::new(move |n| shape.service_object(n)),
        history: Arc::default(),
    };
    let dual_stack = shape.families.len() > 1;
    let slice = move |n: u32, family: usize| {
        let version = 200_000 + u64::from(n);
        shape.slice_object(n, shape.families[family], 0, version)
    };
    let endpoint_slices = Resource {
        kind: "EndpointSlice",
        version: "discovery.k8s.io/v1",
        count: if dual_stack { shape.services * 2 } else { shape.services },
        object: Box::new(move |i| {
            if dual_stack {
                slice(i / 2, i as usize % 2)
            } else {
                slice(i, 0)
            }
        }),
        history: slices.clone(),
    };
    let one = |kind, version, object: fn() -> Value| Resource {
        kind,
        version,
        count: 1,
        object: Box::new(move |_| object()),
        history: Arc::default(),
    };
    let route = |resource: Resource| get(answer).with_state(Arc::new(resource));
    Router::new()
        .route("/api/v1/services", route(services))
        .route("/api/v1/nodes", route(one("Node", "v1", node_object)))
        .route("/apis/discovery.k8s.io/v1/endpointslices", route(endpoint_slices))
        .route(
            "/apis/networking.k8s.io/v1/servicecidrs",
            route(one("ServiceCIDR", "networking.k8s.io/v1", service_cidr_object)),
        )
}

async fn answer(State(resource): State<Arc<Resource>>, Query(parameters): Query<Parameters>) -> Response {
    let body = if parameters.watch {
        let after = parameters.version.as_ref().and_then(|version| version.parse().ok());
        let all = parameters.all.then(|| resource.clone());
        watch::body(
            resource.history.clone(),
            all,
            after.unwrap_or(VERSION),
            parameters.seconds.unwrap_or(300),
        )
    } else {
        Body::from(page(&resource, &parameters))
    };
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

impl Resource {
    /// The line of a watch that says that an object exists.
    fn added(&self, number: u32) -> String {
        let mut object = (self.object)(number);
        object["kind"] = json!(self.kind);
        object["apiVersion"] = json!(self.version);
        format!("{}\n", json!({ "type": "ADDED", "object": object }))
    }

    /// The line that ends the objects which exist.
    fn all_sent(&self) -> String {
        let metadata = json!({
            "resourceVersion": VERSION.to_string(),
            "annotations": { "k8s.io/initial-events-end": "true" },
        });
        let object = json!({ "kind": self.kind, "apiVersion": self.version, "metadata": metadata });
        format!("{}\n", json!({ "type": "BOOKMARK", "object": object }))
    }
}

fn page(resource: &Resource, parameters: &Parameters) -> String {
    let first = parameters.after.unwrap_or(0).min(resource.count);
    let end = (first + parameters.limit.unwrap_or(PAGE)).min(resource.count);
    let items: Vec<Value> = (first..end).map(&resource.object).collect();
    let mut metadata = json!({ "resourceVersion": VERSION.to_string() });
    if end < resource.count {
        metadata["continue"] = json!(end.to_string());
        metadata["remainingItemCount"] = json!(resource.count - end);
    }
    let kind = format!("{}List", resource.kind);
    json!({ "kind": kind, "apiVersion": resource.version, "metadata": metadata, "items": items }).to_string()
}
