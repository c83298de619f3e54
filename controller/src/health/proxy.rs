//! `/healthz` and `/livez`: whether this node's Services are up to date, and whether it should get new connections.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use http::{Response, StatusCode};
use jiff::Timestamp;
use serde::Serialize;

use super::Shared;
use super::verdict::{FAMILIES, FamilyHealth};
use crate::http::{json, not_found};

/// Go's zero time. kube-proxy prints it if there was no update yet.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// kube-proxy's `ProxyHealth`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    last_updated: String,
    current_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_eligible: Option<bool>,
    healthy: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    status: BTreeMap<&'static str, FamilyReport>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FamilyReport {
    last_updated: String,
    healthy: bool,
}

pub(super) fn answer(shared: &Arc<Shared>, path: &str) -> Response<String> {
    let eligible = || {
        let node = shared.published.load().node.clone();
        // If the node is not known, it should get no connections.
        node.is_some_and(|node| !node.leaving)
    };
    match path {
        "/healthz" => report(shared.families(), Some(eligible()), SystemTime::now()),
        // Even if a node is leaving, its Services must be up to date.
        "/livez" => report(shared.families(), None, SystemTime::now()),
        _ => not_found(),
    }
}

fn report(families: [Option<FamilyHealth>; 2], eligible: Option<bool>, now: SystemTime) -> Response<String> {
    let healthy = families.iter().flatten().all(|family| family.healthy);
    let good = healthy && eligible != Some(false);
    let updated = families.iter().flatten().filter_map(|family| family.updated).max();
    let status = FAMILIES.into_iter().zip(families).filter_map(|(name, family)| {
        let family = family?;
        Some((
            name,
            FamilyReport {
                last_updated: text(family.updated),
                healthy: family.healthy,
            },
        ))
    });
    let report = Report {
        // kube-proxy's rule: if everything is good, the last update is now.
        last_updated: text(if good { Some(now) } else { updated }),
        current_time: text(Some(now)),
        node_eligible: eligible,
        healthy,
        status: status.collect(),
    };
    let code = if good {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    // Serialising plain values into memory cannot fail.
    json(code, serde_json::to_string(&report).unwrap_or_default())
}

fn text(time: Option<SystemTime>) -> String {
    let time = time.and_then(|time| Timestamp::try_from(time).ok());
    time.map_or_else(|| NEVER.to_owned(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn family(updated: Option<u64>, healthy: bool) -> FamilyHealth {
        let updated = updated.map(|second| SystemTime::UNIX_EPOCH + Duration::from_secs(second));
        FamilyHealth { updated, healthy }
    }

    fn at(second: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(second) + Duration::from_micros(1500)
    }

    fn check(response: &Response<String>, code: u16, body: &str) {
        assert_eq!((response.status().as_u16(), response.body().as_str()), (code, body));
    }

    #[test]
    fn a_node_that_starts_up_is_healthy_and_has_no_status() {
        let body = r#"{"lastUpdated":"1970-01-01T00:00:09.0015Z","currentTime":"1970-01-01T00:00:09.0015Z","nodeEligible":true,"healthy":true}"#;
        check(&report([None, None], Some(true), at(9)), 200, body);
    }

    #[test]
    fn a_node_on_its_way_out_is_healthy_and_live_but_not_eligible() {
        let families = [family(Some(3), true), family(Some(4), true)].map(Some);
        let body = r#"{"lastUpdated":"1970-01-01T00:00:04Z","currentTime":"1970-01-01T00:00:09.0015Z","nodeEligible":false,"healthy":true,"status":{"IPv4":{"lastUpdated":"1970-01-01T00:00:03Z","healthy":true},"IPv6":{"lastUpdated":"1970-01-01T00:00:04Z","healthy":true}}}"#;
        check(&report(families, Some(false), at(9)), 503, body);
        let body = r#"{"lastUpdated":"1970-01-01T00:00:09.0015Z","currentTime":"1970-01-01T00:00:09.0015Z","healthy":true,"status":{"IPv4":{"lastUpdated":"1970-01-01T00:00:03Z","healthy":true},"IPv6":{"lastUpdated":"1970-01-01T00:00:04Z","healthy":true}}}"#;
        check(&report(families, None, at(9)), 200, body);
    }

    #[test]
    fn one_late_family_makes_the_node_unhealthy() {
        let families = [family(Some(3), true), family(None, false)].map(Some);
        let body = r#"{"lastUpdated":"1970-01-01T00:00:03Z","currentTime":"1970-01-01T00:00:09.0015Z","healthy":false,"status":{"IPv4":{"lastUpdated":"1970-01-01T00:00:03Z","healthy":true},"IPv6":{"lastUpdated":"0001-01-01T00:00:00Z","healthy":false}}}"#;
        check(&report(families, None, at(9)), 503, body);
    }
}
