//! The frame of each answer: its version and kind, as in the Kubernetes API. Within a version, fields are only added.

use serde::{Deserialize, Serialize};

use super::outside::FlowView;
use super::view::{ServiceView, StatusView};

/// The version of all documents.
pub(super) const VERSION: &str = "tandem/v1";

/// What can be a document.
pub trait Kind {
    /// The name of what it describes. A list of it is called the same, with `List` behind.
    const KIND: &'static str;
}

impl Kind for StatusView {
    const KIND: &'static str = "Status";
}

impl Kind for FlowView {
    const KIND: &'static str = "Flow";
}

impl Kind for ServiceView {
    const KIND: &'static str = "Service";
}

/// One object. Its own fields follow the two of the frame.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Document<T> {
    /// `tandem/v1`
    pub api_version: String,
    /// What it is.
    pub kind: String,
    /// The object.
    #[serde(flatten)]
    pub body: T,
}

impl<T: Kind> Document<T> {
    pub(super) fn new(body: T) -> Self {
        Self {
            api_version: VERSION.to_owned(),
            kind: T::KIND.to_owned(),
            body,
        }
    }
}

/// Several objects. They all are of one kind, so only the list names it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct List<T> {
    /// `tandem/v1`
    pub api_version: String,
    /// `…List`
    pub kind: String,
    /// The objects.
    pub items: Vec<T>,
}

impl<T: Kind> List<T> {
    pub(super) fn new(items: Vec<T>) -> Self {
        Self {
            api_version: VERSION.to_owned(),
            kind: format!("{}List", T::KIND),
            items,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn web() -> ServiceView {
        serde_json::from_value(json!({
            "namespace": "shop", "name": "web", "type": "ClusterIP", "clusterIPs": ["10.96.0.1"], "externalIPs": [],
            "loadBalancerIPs": [], "loadBalancerSourceRanges": [], "internalTrafficPolicy": "Cluster",
            "externalTrafficPolicy": "Cluster", "sessionAffinitySeconds": null, "ageSeconds": 60, "problems": [], "ports": [],
        }))
        .unwrap()
    }

    #[test]
    fn each_document_begins_with_its_version_and_kind_and_can_be_read_again() {
        let one = serde_json::to_string(&Document::new(web())).unwrap();
        assert!(
            one.starts_with(r#"{"apiVersion":"tandem/v1","kind":"Service","namespace":"shop","name":"web","#),
            "{one}"
        );
        let read: Document<ServiceView> = serde_json::from_str(&one).unwrap();
        assert_eq!((&*read.kind, &*read.body.name), ("Service", "web"));
        let many = serde_json::to_string(&List::new(vec![web()])).unwrap();
        assert!(
            many.starts_with(r#"{"apiVersion":"tandem/v1","kind":"ServiceList","items":[{"namespace":"shop","#),
            "{many}"
        );
        let read: List<ServiceView> = serde_json::from_str(&many).unwrap();
        assert_eq!(read.items.len(), 1);
        let none: Value = serde_json::to_value(List::<ServiceView>::new(Vec::new())).unwrap();
        assert_eq!(
            none,
            json!({"apiVersion": "tandem/v1", "kind": "ServiceList", "items": []})
        );
        let yaml = serde_saphyr::to_string(&Document::new(web())).unwrap();
        assert!(
            yaml.starts_with("apiVersion: tandem/v1\nkind: Service\nnamespace: shop\n"),
            "{yaml}"
        );
    }
}
