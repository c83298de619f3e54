//! Writes one Event to the API server.

use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use kube::api::PostParams;
use kube::{Api, Client, Error};
use tokio::time::timeout;

/// How long the API server may take for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is there, by this node or another.
    Written,
    /// The API server does not take it, and never will.
    Refused(String),
    /// Nobody answered, or not in earnest: worth another try.
    Failed(String),
}

/// Makes an Event, unless it is there already.
pub(super) async fn create(client: &Client, event: &Event) -> Outcome {
    let namespace = event.metadata.namespace.as_deref().unwrap_or("default");
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    match timeout(PATIENCE, events.create(&PostParams::default(), event)).await {
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
