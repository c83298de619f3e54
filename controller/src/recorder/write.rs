//! Writes one Event to the API server.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::api::{GetParams, PostParams};
use kube::{Api, Client, Error, Resource};
use serde::de::DeserializeOwned;
use tandem_core::object::ObjectKey;
use tokio::time::timeout;

use crate::event::Kind;

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

/// What the API server knows of an object.
pub(super) enum Known {
    /// It has it, with this uid.
    As(Option<String>),
    /// It has it no more.
    Gone,
}

/// Asks for the object's uid: without it, `kubectl describe` does not show its Events. Answered out of the API server's
/// memory. Where there is no answer the Event does without.
pub(super) async fn look_up(client: &Client, kind: Kind, key: &ObjectKey) -> Known {
    let (client, namespace, name) = (client.clone(), &*key.namespace, &*key.name);
    let asked = async {
        match kind {
            Kind::Service => uid(Api::<Service>::namespaced(client, namespace), name).await,
            Kind::EndpointSlice => uid(Api::<EndpointSlice>::namespaced(client, namespace), name).await,
            Kind::Node => uid(Api::<Node>::all(client), name).await,
            Kind::ServiceCidr => uid(Api::<ServiceCIDR>::all(client), name).await,
        }
    };
    timeout(PATIENCE, asked).await.unwrap_or(Known::As(None))
}

async fn uid<K>(api: Api<K>, name: &str) -> Known
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    match api.get_metadata_with(name, &GetParams::any()).await {
        Ok(object) => Known::As(object.metadata.uid),
        Err(Error::Api(status)) if status.code == 404 => Known::Gone,
        Err(_) => Known::As(None),
    }
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
