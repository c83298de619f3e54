//! The fields of a `KubeProxyConfiguration` that are set to something and not used yet.

use serde_json::Value;

use super::duration;

/// The fields that are used.
pub(super) const USED: [&str; 12] = [
    "apiVersion",
    "kind",
    "clientConnection.kubeconfig",
    "clusterCIDR",
    "detectLocalMode",
    "hostnameOverride",
    "iptables.masqueradeAll",
    "iptables.masqueradeBit",
    "mode",
    "nftables.masqueradeAll",
    "nftables.masqueradeBit",
    "nodePortAddresses",
];

/// What kube-proxy takes where the others are not set: writing it down changes nothing. Empty values and zeros never do.
pub(super) const DEFAULTS: [(&str, &str); 22] = [
    ("bindAddress", "0.0.0.0"),
    ("bindAddress", "::"),
    ("clientConnection.burst", "10"),
    ("clientConnection.contentType", "application/vnd.kubernetes.protobuf"),
    ("clientConnection.qps", "5"),
    ("configSyncPeriod", "15m"),
    ("conntrack.maxPerCore", "32768"),
    ("conntrack.min", "131072"),
    ("conntrack.tcpCloseWaitTimeout", "1h"),
    ("conntrack.tcpEstablishedTimeout", "24h"),
    ("healthzBindAddress", "0.0.0.0:10256"),
    ("healthzBindAddress", "[::]:10256"),
    ("iptables.localhostNodePorts", "true"),
    ("iptables.minSyncPeriod", "1s"),
    ("iptables.syncPeriod", "30s"),
    ("ipvs.syncPeriod", "30s"),
    ("logging.flushFrequency", "5s"),
    ("logging.format", "text"),
    ("metricsBindAddress", "127.0.0.1:10249"),
    ("metricsBindAddress", "[::1]:10249"),
    ("nftables.minSyncPeriod", "1s"),
    ("nftables.syncPeriod", "30s"),
];

/// A warning for each.
pub(super) fn warnings(config: &Value) -> Vec<String> {
    let mut warnings = Vec::new();
    collect(config, "", &mut warnings);
    warnings
}

fn collect(value: &Value, field: &str, into: &mut Vec<String>) {
    if let Value::Object(map) = value {
        for (name, value) in map {
            let field = if field.is_empty() {
                name.clone()
            } else {
                format!("{field}.{name}")
            };
            collect(value, &field, into);
        }
    } else if !USED.contains(&field) && !is_empty(value) && !is_default(field, value) {
        into.push(format!("{field}: not used by tandem yet"));
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty() || duration::parse(text).is_some_and(|time| time.is_zero()),
        Value::Array(list) => list.is_empty(),
        Value::Bool(true) | Value::Object(_) => false,
    }
}

fn is_default(field: &str, value: &Value) -> bool {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let same = |default: &str| {
        text == default || duration::parse(&text).is_some_and(|time| Some(time) == duration::parse(default))
    };
    DEFAULTS.iter().any(|(of, default)| *of == field && same(default))
}
