//! Writes one object to the API server.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use kube::api::PostParams;
use kube::{Api, Client, Error, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

/// The longest time that the API server may take for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The result of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The object exists. This node or another one wrote it.
    Written,
    /// The API server refuses it, and will refuse it again.
    Refused(String),
    /// There was no answer, or one that may change: try again.
    Failed(String),
}

/// Creates an object in its namespace, unless it exists already.
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
            // While a token is replaced, the server may refuse the old one.
            401 | 429 | 500.. => Outcome::Failed(status.message),
            code => Outcome::Refused(format!("{} ({code})", status.message)),
        },
        Err(error) => Outcome::Failed(error.to_string()),
    }
}
