//! Writes one object to the API server.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use kube::api::PostParams;
use kube::{Api, Client, Error, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

/// How long the API server may take for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is there, by this node or another.
    Written,
    /// The API server does not take it, and never will.
    Refused(String),
    /// Nobody answered, or not in earnest: worth another try.
    Failed(String),
}

/// Makes an object in its namespace, unless it is there already.
pub(crate) async fn create<K>(client: &Client, object: &K) -> Outcome
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Serialize,
{
    let namespace = object.meta().namespace.as_deref().unwrap_or("default");
    let objects: Api<K> = Api::namespaced(client.clone(), namespace);
    match timeout(PATIENCE, objects.create(&PostParams::default(), object)).await {
        Ok(result) => outcome(result.map(drop)),
        Err(_) => Outcome::Failed(format!("no answer in {PATIENCE:?}")),
    }
}

fn outcome(result: Result<(), Error>) -> Outcome {
    match result {
        Ok(()) => Outcome::Written,
        Err(Error::Api(status)) => match status.code {
            409 => Outcome::Written,
            429 | 500.. => Outcome::Failed(status.message),
            code => Outcome::Refused(format!("{} ({code})", status.message)),
        },
        Err(error) => Outcome::Failed(error.to_string()),
    }
}
