//! Objects as the API writes them, with only the fields that Tandem uses. They exist only while one object is decoded,
//! and borrow from its text.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;
use tandem_core::uid::Uid;

use super::protobuf::reader::Fields;

/// A string. It is borrowed if its text has no escapes, also inside `Option` and `Vec`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text<'a>(Cow<'a, str>);

impl Text<'_> {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Cow<'de, str>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(text))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(text.to_owned()))
            }

            fn visit_string<E: Error>(self, text: String) -> Result<Self::Value, E> {
                Ok(Cow::Owned(text))
            }
        }

        deserializer.deserialize_str(TextVisitor).map(Text)
    }
}

/// The first string of a list. The others are skipped.
#[derive(Debug, Default)]
pub(super) struct First<'a>(pub(super) Option<Text<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for First<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FirstVisitor;

        impl<'de> Visitor<'de> for FirstVisitor {
            type Value = First<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of strings")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let first = list.next_element()?;
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(First(first))
            }
        }

        deserializer.deserialize_seq(FirstVisitor)
    }
}

/// The fields that identify an object. They can be read even if other fields have wrong types, and however deep the
/// object is nested.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Header<'a> {
    #[serde(borrow, default)]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    metadata: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
struct Names<'a> {
    #[serde(borrow, default)]
    name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    namespace: Option<&'a RawValue>,
    #[serde(borrow, default)]
    uid: Option<&'a RawValue>,
}

impl<'a> Header<'a> {
    pub(super) fn of(object: &'a str) -> Self {
        fields(object).unwrap_or_default()
    }

    pub(super) fn kind(&self) -> Option<Text<'a>> {
        text(self.kind)?
    }

    /// Name, namespace and uid; none if there is no name, or if the name or the namespace is not a text.
    pub(super) fn meta(&self) -> Option<Meta<'a>> {
        let names: Names<'a> = fields(self.metadata?.get())?;
        Some(Meta {
            name: text(names.name)?.filter(|name| !name.as_str().is_empty()),
            namespace: text(names.namespace)?,
            uid: text(names.uid).flatten(),
            ..Meta::default()
        })
        .filter(|meta| meta.name.is_some())
    }
}

/// The fields of a JSON object; none for anything else. Without this check, serde would read a list as the fields in
/// their order.
fn fields<'a, T: Deserialize<'a>>(object: &'a str) -> Option<T> {
    let object = object.trim_start();
    object.starts_with('{').then(|| serde_json::from_str(object).ok())?
}

/// A text, or that it is missing; none if the value is not a text.
#[expect(clippy::option_option, reason = "something that is no text is neither")]
fn text(value: Option<&RawValue>) -> Option<Option<Text<'_>>> {
    value.map_or(Some(None), |value| serde_json::from_str(value.get()).ok().map(Some))
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(super) struct Meta<'a> {
    pub(super) name: Option<Text<'a>>,
    pub(super) namespace: Option<Text<'a>>,
    pub(super) uid: Option<Text<'a>>,
    pub(super) resource_version: Option<Text<'a>>,
    pub(super) creation_timestamp: Option<Text<'a>>,
    pub(super) deletion_timestamp: Option<IgnoredAny>,
    pub(super) labels: Option<Labels<'a>>,
    pub(super) annotations: Option<Annotations<'a>>,
}

impl Meta<'_> {
    /// What can be read of an object in protobuf whose other fields may be broken: name, namespace and uid; none if there
    /// is no name.
    pub(super) fn of_protobuf(object: &[u8]) -> Option<Meta<'_>> {
        let meta = Fields(object).find(1)?;
        let text = |number| {
            Some(Text(Cow::Borrowed(
                std::str::from_utf8(Fields(meta).find(number)?).ok()?,
            )))
        };
        Some(Meta {
            name: text(1).filter(|name: &Text<'_>| !name.as_str().is_empty()),
            namespace: text(3),
            uid: text(5),
            ..Meta::default()
        })
        .filter(|meta| meta.name.is_some())
    }

    /// The uid; none if it is invalid. That is no fault, because nothing that Tandem does depends on it.
    pub(super) fn uid(&self) -> Option<Uid> {
        self.uid.as_ref()?.as_str().parse().ok()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub(super) struct Labels<'a> {
    #[serde(rename = "service.kubernetes.io/service-proxy-name")]
    pub(super) proxy_name: Option<Text<'a>>,
    #[serde(rename = "service.kubernetes.io/headless")]
    pub(super) headless: Option<Text<'a>>,
    #[serde(rename = "kubernetes.io/service-name")]
    pub(super) service_name: Option<Text<'a>>,
    #[serde(rename = "topology.kubernetes.io/zone")]
    pub(super) zone: Option<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub(super) struct Annotations<'a> {
    #[serde(rename = "tandem.config/pick")]
    pub(super) pick: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub(super) struct Service<'a> {
    pub(super) kind: Option<Text<'a>>,
    pub(super) metadata: Option<Meta<'a>>,
    pub(super) spec: Option<ServiceSpec<'a>>,
    pub(super) status: Option<ServiceStatus<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(super) struct ServiceSpec<'a> {
    #[serde(rename = "type")]
    pub(super) kind: Option<Text<'a>>,
    #[serde(rename = "clusterIP")]
    pub(super) cluster_ip: Option<Text<'a>>,
    #[serde(rename = "clusterIPs")]
    pub(super) cluster_ips: Option<Vec<Text<'a>>>,
    #[serde(rename = "externalIPs")]
    pub(super) external_ips: Option<Vec<Text<'a>>>,
    pub(super) load_balancer_source_ranges: Option<Vec<Text<'a>>>,
    pub(super) internal_traffic_policy: Option<Text<'a>>,
    pub(super) external_traffic_policy: Option<Text<'a>>,
    pub(super) session_affinity: Option<Text<'a>>,
    pub(super) session_affinity_config: Option<AffinityConfig>,
    pub(super) health_check_node_port: Option<i64>,
    pub(super) ports: Option<Vec<ServicePort<'a>>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct AffinityConfig {
    #[serde(rename = "clientIP")]
    pub(super) client_ip: Option<ClientIp>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ClientIp {
    pub(super) timeout_seconds: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(super) struct ServicePort<'a> {
    pub(super) name: Option<Text<'a>>,
    pub(super) protocol: Option<Text<'a>>,
    pub(super) port: Option<i64>,
    pub(super) node_port: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(super) struct ServiceStatus<'a> {
    pub(super) load_balancer: Option<LoadBalancer<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub(super) struct LoadBalancer<'a> {
    pub(super) ingress: Option<Vec<Ingress<'a>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(super) struct Ingress<'a> {
    pub(super) ip: Option<Text<'a>>,
    pub(super) ip_mode: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(super) struct EndpointSlice<'a> {
    pub(super) kind: Option<Text<'a>>,
    pub(super) metadata: Option<Meta<'a>>,
    pub(super) address_type: Option<Text<'a>>,
    pub(super) endpoints: Option<Vec<Endpoint<'a>>>,
    pub(super) ports: Option<Vec<SlicePort<'a>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(super) struct Endpoint<'a> {
    pub(super) addresses: Option<First<'a>>,
    pub(super) conditions: Option<Conditions>,
    pub(super) node_name: Option<Text<'a>>,
    pub(super) hints: Option<Hints<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(super) struct Hints<'a> {
    pub(super) for_zones: Option<Vec<Hint<'a>>>,
    pub(super) for_nodes: Option<Vec<Hint<'a>>>,
}

#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub(super) struct Hint<'a> {
    pub(super) name: Option<Text<'a>>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct Conditions {
    pub(super) ready: Option<bool>,
    pub(super) serving: Option<bool>,
    pub(super) terminating: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub(super) struct SlicePort<'a> {
    pub(super) name: Option<Text<'a>>,
    pub(super) protocol: Option<Text<'a>>,
    pub(super) port: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub(super) struct Node<'a> {
    pub(super) kind: Option<Text<'a>>,
    pub(super) metadata: Option<Meta<'a>>,
    pub(super) spec: Option<NodeSpec<'a>>,
    pub(super) status: Option<NodeStatus<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub(super) struct NodeSpec<'a> {
    #[serde(rename = "podCIDR")]
    pub(super) pod_cidr: Option<Text<'a>>,
    #[serde(rename = "podCIDRs")]
    pub(super) pod_cidrs: Option<Vec<Text<'a>>>,
    pub(super) taints: Option<Vec<Taint<'a>>>,
}

#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub(super) struct Taint<'a> {
    pub(super) key: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub(super) struct NodeStatus<'a> {
    pub(super) addresses: Option<Vec<NodeAddress<'a>>>,
}

#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub(super) struct NodeAddress<'a> {
    #[serde(rename = "type")]
    pub(super) kind: Option<Text<'a>>,
    pub(super) address: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub(super) struct ServiceCidr<'a> {
    pub(super) kind: Option<Text<'a>>,
    pub(super) metadata: Option<Meta<'a>>,
    pub(super) spec: Option<ServiceCidrSpec<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub(super) struct ServiceCidrSpec<'a> {
    pub(super) cidrs: Option<Vec<Text<'a>>>,
}
