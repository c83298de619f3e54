//! The requests to the API server, and how long to wait for answers.

use std::time::Duration;

use http::Request;
use http::header::{ACCEPT, ACCEPT_ENCODING, HeaderValue};
use kube::client::Body;
use kube::core::params::{ListParams, VersionMatch, WatchParams};
use kube::core::request;
pub(super) use kube::core::request::Error as RequestError;

use super::watched::Resource;
use crate::ways::Accept;

/// Times of the list-and-watch loop.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// The longest time that one watch lasts before the server ends it. The shortest is 7 tenths of it.
    pub watch: Duration,
    /// API servers that send bookmarks send one about each minute. If a watch had a bookmark, and nothing has arrived for
    /// this long since, the watch is dead.
    pub quiet: Duration,
    /// How long an answer, or the next piece of a list, may take.
    pub answer: Duration,
    /// The first wait after a failure. Each later one is twice as long.
    pub first_wait: Duration,
    /// The longest wait after a failure.
    pub longest_wait: Duration,
    /// The longest time until everything is listed again, even if the watch works. The shortest is three quarters of it.
    pub relist: Duration,
    /// How long to wait before asking again for a kind that the server does not have, or does not allow to be listed.
    pub absent: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            // Between 7 and 10 minutes. kube-proxy's last between 5 and 10, so Tandem asks no more often.
            watch: Duration::from_mins(10),
            quiet: Duration::from_mins(3),
            answer: Duration::from_secs(30),
            first_wait: Duration::from_millis(800),
            longest_wait: Duration::from_secs(30),
            // No node lists more than once a day.
            relist: Duration::from_hours(32),
            absent: Duration::from_mins(5),
        }
    }
}

/// How to ask for a resource.
#[derive(Clone, Debug)]
pub(super) struct Query {
    pub(super) resource: Resource,
    accept: Accept,
}

/// From where a list is asked for, and in how many pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In one piece from the watch cache, of this version or a newer one. `0` stands for any version.
    Cache(String),
    /// In pages from the store.
    Pages,
    /// In one piece from the store.
    Store,
}

/// Objects in one page of a list.
const PAGE: u32 = 500;

impl Query {
    pub(super) fn new(resource: Resource, accept: Accept) -> Self {
        Self { resource, accept }
    }

    /// Drops the field selector, if servers may refuse it. Returns whether there was one to drop.
    pub(super) fn drop_fields(&mut self) -> bool {
        self.resource.fields_may_fail && !std::mem::take(&mut self.resource.fields).is_empty()
    }

    /// A request for a list, or for its next page.
    pub(super) fn list(&self, place: &Place, after: Option<&str>) -> Result<Request<Body>, RequestError> {
        // A cached list has no limit: with one, older servers read it from their store.
        let least = match place {
            Place::Cache(least) if after.is_none() => Some(least.clone()),
            Place::Cache(_) | Place::Pages | Place::Store => None,
        };
        let parameters = ListParams {
            label_selector: selector(self.resource.labels),
            field_selector: selector(&self.resource.fields),
            limit: (*place == Place::Pages).then_some(PAGE),
            continue_token: after.map(str::to_owned),
            version_match: least
                .as_ref()
                .filter(|least| *least != "0")
                .map(|_| VersionMatch::NotOlderThan),
            resource_version: least,
            ..ListParams::default()
        };
        let request = request::Request::new(self.resource.path).list(&parameters)?;
        Ok(self.uncompressed(request))
    }

    /// A request for what changes after this version.
    pub(super) fn watch(&self, version: &str, lasting: Duration) -> Result<Request<Body>, RequestError> {
        self.watch_from(version, lasting, false)
    }

    /// A request for all objects one by one, and then for what changes (KEP-3157). Without a version, the list is as new
    /// as one from the store.
    pub(super) fn stream(&self, lasting: Duration) -> Result<Request<Body>, RequestError> {
        self.watch_from("", lasting, true)
    }

    fn watch_from(&self, version: &str, lasting: Duration, all: bool) -> Result<Request<Body>, RequestError> {
        let parameters = WatchParams {
            label_selector: selector(self.resource.labels),
            field_selector: selector(&self.resource.fields),
            timeout: Some(u32::try_from(lasting.as_secs().max(1)).unwrap_or(u32::MAX)),
            bookmarks: true,
            send_initial_events: all,
        };
        let request = request::Request::new(self.resource.path).watch(&parameters, version)?;
        Ok(self.uncompressed(request))
    }

    fn uncompressed(&self, request: Request<Vec<u8>>) -> Request<Body> {
        let mut request = request.map(Body::from);
        let headers = request.headers_mut();
        headers.insert(ACCEPT, self.accept.header());
        // Events must arrive one by one. If the watch were compressed, the server would hold events back until it has
        // enough to compress.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        request
    }
}

fn selector(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::watch::kinds::OfKind;
    use crate::cluster::watch::watched::Watched as _;
    use crate::event::ObjectKind;

    fn query(kind: ObjectKind, node_name: &str) -> Query {
        Query::new(OfKind::sample(kind, node_name).resource(), Accept::default())
    }

    /// kube-core begins each query with `&`.
    fn target(request: Result<Request<Body>, RequestError>) -> String {
        request.unwrap().uri().to_string().replace("?&", "?")
    }

    #[test]
    fn services_of_other_proxies_and_headless_ones_are_not_asked_for() {
        assert_eq!(
            target(query(ObjectKind::Service, "a").list(&Place::Pages, None)),
            "/api/v1/services?fieldSelector=spec.clusterIP%21%3DNone\
             &labelSelector=%21service.kubernetes.io%2Fservice-proxy-name&limit=500"
        );
        assert_eq!(
            target(query(ObjectKind::EndpointSlice, "a").watch("7", Duration::from_mins(1))),
            "/apis/discovery.k8s.io/v1/endpointslices?watch=true&timeoutSeconds=60\
             &labelSelector=%21service.kubernetes.io%2Fheadless%2C%21service.kubernetes.io%2Fservice-proxy-name\
             &allowWatchBookmarks=true&resourceVersion=7"
        );
    }

    #[test]
    fn all_objects_one_by_one_are_asked_for_as_the_beginning_of_a_watch() {
        assert_eq!(
            target(query(ObjectKind::ServiceCidr, "a").stream(Duration::from_mins(5))),
            "/apis/networking.k8s.io/v1/servicecidrs?watch=true&timeoutSeconds=300&allowWatchBookmarks=true\
             &sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion="
        );
    }

    #[test]
    fn a_list_from_the_cache_names_the_least_version_and_no_limit() {
        let query = query(ObjectKind::ServiceCidr, "a");
        let from = |least: &str, after| target(query.list(&Place::Cache(least.to_owned()), after));
        let path = "/apis/networking.k8s.io/v1/servicecidrs?";
        assert_eq!(from("0", None), format!("{path}resourceVersion=0"));
        assert_eq!(
            from("7", None),
            format!("{path}resourceVersion=7&resourceVersionMatch=NotOlderThan")
        );
        // The server refuses a version beside the token of the next page.
        assert_eq!(from("7", Some("more")), format!("{path}continue=more"));
        assert_eq!(target(query.list(&Place::Store, None)), path);
    }

    #[test]
    fn what_is_accepted_is_what_the_settings_say() {
        let query = |accept| Query::new(OfKind::sample(ObjectKind::Node, "a").resource(), accept);
        let header = |accept| {
            let request = query(accept).stream(Duration::from_mins(5)).unwrap();
            request.headers()[ACCEPT].to_str().unwrap().to_owned()
        };
        assert_eq!(
            header(Accept::default()),
            "application/vnd.kubernetes.protobuf, application/json;q=0.9"
        );
        let (json, _) = Accept::parse("application/json");
        assert_eq!(header(json.unwrap()), "application/json");
    }

    #[test]
    fn only_this_node_is_asked_for() {
        assert_eq!(
            target(query(ObjectKind::Node, "node-a").list(&Place::Pages, Some("a/b="))),
            "/api/v1/nodes?fieldSelector=metadata.name%3Dnode-a&limit=500&continue=a%2Fb%3D"
        );
    }
}
