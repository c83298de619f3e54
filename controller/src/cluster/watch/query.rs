//! What is asked of the API server, and how patiently.

use std::time::Duration;

use http::Request;
use kube::client::Body;

use super::watched::Resource;

/// Times of the list-and-watch loop.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How long one watch lasts before the server ends it. A dead connection is noticed after this and a little more.
    pub watch: Duration,
    /// How long an answer, or the next piece of a list, may take.
    pub answer: Duration,
    /// The first wait after a failure; later ones double.
    pub first_wait: Duration,
    /// The longest wait after a failure.
    pub longest_wait: Duration,
    /// How long a watch is trusted before everything is listed again, whatever it says. The real time varies by a third.
    pub relist: Duration,
    /// How long to wait before asking again for a kind that the server does not have or does not show.
    pub absent: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            watch: Duration::from_mins(1),
            answer: Duration::from_secs(30),
            first_wait: Duration::from_millis(800),
            longest_wait: Duration::from_secs(30),
            relist: Duration::from_hours(4),
            absent: Duration::from_mins(5),
        }
    }
}

/// How a resource is asked for.
#[derive(Clone, Debug)]
pub(super) struct Query {
    pub(super) resource: Resource,
}

/// Objects in one page of a list.
const PAGE: u32 = 500;

impl Query {
    pub(super) fn new(resource: Resource) -> Self {
        Self { resource }
    }

    /// Does without the field selector, if servers may refuse it. Returns whether there was one to do without.
    pub(super) fn drop_fields(&mut self) -> bool {
        self.resource.fields_may_fail && !std::mem::take(&mut self.resource.fields).is_empty()
    }

    /// A page of the list; `paged: false` asks for everything at once.
    pub(super) fn list(&self, paged: bool, after: Option<&str>) -> Result<Request<Body>, http::Error> {
        let mut parameters = self.selectors();
        if paged {
            parameters.push(("limit", PAGE.to_string()));
        }
        if let Some(after) = after {
            parameters.push(("continue", after.to_owned()));
        }
        self.request(&parameters)
    }

    pub(super) fn watch(&self, version: &str, lasting: Duration) -> Result<Request<Body>, http::Error> {
        let mut parameters = self.selectors();
        parameters.push(("watch", "true".to_owned()));
        parameters.push(("allowWatchBookmarks", "true".to_owned()));
        parameters.push(("timeoutSeconds", lasting.as_secs().max(1).to_string()));
        parameters.push(("resourceVersion", version.to_owned()));
        self.request(&parameters)
    }

    fn selectors(&self) -> Vec<(&'static str, String)> {
        let mut parameters = Vec::new();
        if !self.resource.labels.is_empty() {
            parameters.push(("labelSelector", self.resource.labels.to_owned()));
        }
        if !self.resource.fields.is_empty() {
            parameters.push(("fieldSelector", self.resource.fields.clone()));
        }
        parameters
    }

    fn request(&self, parameters: &[(&str, String)]) -> Result<Request<Body>, http::Error> {
        let mut target = String::from(self.resource.path);
        for (index, (name, value)) in parameters.iter().enumerate() {
            target.push(if index == 0 { '?' } else { '&' });
            target.push_str(name);
            target.push('=');
            escape(value, &mut target);
        }
        // Events must come out one by one: a compressed watch would hold them back.
        Request::get(target)
            .header(http::header::ACCEPT, "application/json")
            .header(http::header::ACCEPT_ENCODING, "identity")
            .body(Body::empty())
    }
}

fn escape(text: &str, into: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push('%');
            into.push(char::from(HEX[usize::from(byte >> 4)]));
            into.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::watch::kinds::OfKind;
    use crate::cluster::watch::watched::Watched as _;
    use crate::event::Kind;

    fn query(kind: Kind, node_name: &str) -> Query {
        Query::new(OfKind::sample(kind, node_name).resource())
    }

    fn target(request: Result<Request<Body>, http::Error>) -> String {
        request.unwrap().uri().to_string()
    }

    #[test]
    fn services_of_other_proxies_and_headless_ones_are_not_asked_for() {
        assert_eq!(
            target(query(Kind::Service, "a").list(true, None)),
            "/api/v1/services?labelSelector=%21service.kubernetes.io%2Fservice-proxy-name\
             &fieldSelector=spec.clusterIP%21%3DNone&limit=500"
        );
        assert_eq!(
            target(query(Kind::EndpointSlice, "a").watch("7", Duration::from_mins(1))),
            "/apis/discovery.k8s.io/v1/endpointslices?labelSelector=%21service.kubernetes.io%2Fheadless\
             %2C%21service.kubernetes.io%2Fservice-proxy-name\
             &watch=true&allowWatchBookmarks=true&timeoutSeconds=60&resourceVersion=7"
        );
    }

    #[test]
    fn only_this_node_is_asked_for() {
        assert_eq!(
            target(query(Kind::Node, "node-a").list(true, Some("a/b="))),
            "/api/v1/nodes?fieldSelector=metadata.name%3Dnode-a&limit=500&continue=a%2Fb%3D"
        );
    }
}
