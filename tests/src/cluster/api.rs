//! A client of the API server. It lives in the server's namespace, on a thread with a runtime of its own. Callers wait
//! for their answers. If several threads call at once, each gets a connection.

use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use http::{Method, Request};
use http_body_util::BodyExt as _;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::netns::Namespace;

/// The API server as one user sees it.
#[derive(Clone, Debug)]
pub struct Api(UnboundedSender<Job>);

type Reply = (Result<String, kube::Error>, Instant);

/// A request, and where its answer goes.
#[derive(Debug)]
enum Job {
    /// The answer is a text. If the server refuses, it is an error that says why.
    Text(Request<Vec<u8>>, mpsc::Sender<Reply>),
    /// The answer is bytes, whatever its status.
    Bytes(Request<Vec<u8>>, mpsc::Sender<Result<Vec<u8>>>),
}

/// The path of an object, for example `path("Service", "default", "web")`. An empty name means all objects.
pub fn path(kind: &str, namespace: &str, name: &str) -> Result<String> {
    let (group, plural) = match kind {
        "ClusterRole" => ("apis/rbac.authorization.k8s.io/v1", "clusterroles"),
        "ClusterRoleBinding" => ("apis/rbac.authorization.k8s.io/v1", "clusterrolebindings"),
        "EndpointSlice" => ("apis/discovery.k8s.io/v1", "endpointslices"),
        "Namespace" => ("api/v1", "namespaces"),
        "Node" => ("api/v1", "nodes"),
        "Pod" => ("api/v1", "pods"),
        "Service" => ("api/v1", "services"),
        "ServiceCIDR" => ("apis/networking.k8s.io/v1", "servicecidrs"),
        _ => bail!("no path is known for a {kind}"),
    };
    let within = if namespace.is_empty() {
        String::new()
    } else {
        format!("namespaces/{namespace}/")
    };
    Ok(format!("/{group}/{within}{plural}/{name}")
        .trim_end_matches('/')
        .to_owned())
}

impl Api {
    /// Makes a client from a kubeconfig. The server need not answer yet.
    pub fn connect(inside: &Namespace, kubeconfig: &Path) -> Result<Self> {
        let (sender, jobs) = unbounded_channel();
        let (ready, is_ready) = mpsc::channel();
        let kubeconfig = Kubeconfig::read_from(kubeconfig).context("read the kubeconfig")?;
        inside.entrance().thread("api", move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(ready.send(Err(anyhow!(error)))),
            };
            runtime.block_on(async {
                match client(kubeconfig).await {
                    Ok(client) => {
                        let _ = ready.send(Ok(()));
                        answer(client, jobs).await;
                    }
                    Err(error) => drop(ready.send(Err(error))),
                }
            });
        })?;
        is_ready
            .recv()
            .context("the API client did not start")?
            .context("make an API client")?;
        Ok(Self(sender))
    }

    /// Reads an object or a list.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.call(Method::GET, path, None)
    }

    /// Reads a text that is not JSON.
    pub fn get_text(&self, path: &str) -> Result<String> {
        Ok(self.call_timed(Method::GET, path, None)?.0)
    }

    /// Creates an object, and sets its status if it has one. The path follows from its kind, namespace and name.
    pub fn create(&self, object: &Value) -> Result<Value> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let metadata = &object["metadata"];
        let (kind, namespace, name) = (
            text(&object["kind"]),
            text(&metadata["namespace"]),
            text(&metadata["name"]),
        );
        let created = self.call(Method::POST, &path(&kind, &namespace, "")?, Some(object))?;
        match object.get("status") {
            Some(status) => {
                let change = serde_json::json!({ "status": status });
                self.patch(&format!("{}/status", path(&kind, &namespace, &name)?), &change)
            }
            None => Ok(created),
        }
    }

    /// Creates many objects over this number of connections at once.
    pub fn create_all(&self, objects: &[Value], connections: usize) -> Result<()> {
        let rest = Mutex::new(objects.iter());
        let next = || rest.lock().ok().and_then(|mut rest| rest.next());
        thread::scope(|scope| {
            let work = || -> Result<()> {
                while let Some(object) = next() {
                    self.create(object)?;
                }
                Ok(())
            };
            let workers: Vec<_> = (0..connections).map(|_| scope.spawn(work)).collect();
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().map_err(|_| anyhow!("a worker panicked"))?)
        })
    }

    /// Changes fields of an object (a JSON merge patch).
    pub fn patch(&self, path: &str, change: &Value) -> Result<Value> {
        self.call(Method::PATCH, path, Some(change))
    }

    /// Deletes an object, with options such as `gracePeriodSeconds`.
    pub fn delete(&self, path: &str, options: &Value) -> Result<()> {
        self.call(Method::DELETE, path, Some(options)).map(drop)
    }

    /// Makes any call that answers in JSON.
    pub fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let (text, _) = self.call_timed(method, path, body)?;
        serde_json::from_str(&text).with_context(|| format!("{path} did not answer in JSON: {text}"))
    }

    /// Reads the whole body of an answer in the encoding that `accept` asks for.
    pub fn bytes(&self, path: &str, accept: &str) -> Result<Vec<u8>> {
        let request = Request::get(path).header("accept", accept).body(Vec::new());
        let (reply, answer) = mpsc::channel();
        let job = Job::Bytes(request.with_context(|| path.to_owned())?, reply);
        self.0.send(job).map_err(|_| anyhow!("the API client has ended"))?;
        answer.recv().context("the API client has ended")?
    }

    /// Makes any call. Returns the answer with the moment at which it was complete. An error can be downcast to
    /// [`kube::Error`].
    pub fn call_timed(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(String, Instant)> {
        let kind = if method == Method::PATCH {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        let what = format!("{method} {path}");
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", kind)
            .body(body);
        let (reply, answer) = mpsc::channel();
        let job = Job::Text(request.with_context(|| what.clone())?, reply);
        self.0.send(job).map_err(|_| anyhow!("the API client has ended"))?;
        let (result, at) = answer.recv().context("the API client has ended")?;
        Ok((result.context(what)?, at))
    }
}

async fn client(kubeconfig: Kubeconfig) -> Result<Client> {
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.connect_timeout = Some(Duration::from_secs(5));
    config.read_timeout = Some(Duration::from_secs(30));
    Ok(Client::try_from(config)?)
}

/// Sends all requests as they come, in parallel, until every [`Api`] is dropped.
async fn answer(client: Client, mut jobs: UnboundedReceiver<Job>) {
    while let Some(job) = jobs.recv().await {
        let client = client.clone();
        tokio::spawn(async move {
            // The caller may have gone.
            match job {
                Job::Text(request, reply) => {
                    let result = client.request_text(request).await;
                    let _ = reply.send((result, Instant::now()));
                }
                Job::Bytes(request, reply) => {
                    let _ = reply.send(bytes(&client, request).await);
                }
            }
        });
    }
}

async fn bytes(client: &Client, request: Request<Vec<u8>>) -> Result<Vec<u8>> {
    let answer = client.send(request.map(Body::from)).await?;
    let body = answer.into_body().collect().await.map_err(|error| anyhow!(error))?;
    Ok(body.to_bytes().to_vec())
}
