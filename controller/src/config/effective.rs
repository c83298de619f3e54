//! The configuration that is in effect: the fields as the mode, the host and the flags make them. `--write-config-to`
//! writes it, and changes are found by comparing it. kube-proxy can read it, except for what
//! [`Settings::refused_by_kube_proxy`] names.

use serde_json::{Value, json};

use super::document::{lookup, put};
use super::schema::Change;
use super::schema::{Fate, FieldKind, SCHEMAS, Schema, kube_proxy, tandem};
use super::settings::Settings;
use crate::node_settings::{DetectLocal, PodRanges};

/// Fields that kube-proxy leaves out if they are empty.
const LEFT_OUT: [&str; 5] = [
    "featureGates",
    "logging.vmodule",
    "logging.options.text.splitStream",
    "logging.options.json.splitStream",
    "windowsRunAsService",
];

/// Fills in fields whose defaults depend on other fields.
pub(super) fn fill(settings: &mut Settings) {
    let served = |address: Option<std::net::SocketAddr>| address.map(|address| address.to_string()).unwrap_or_default();
    let (healthz, metrics) = (
        served(settings.healthz_bind_address),
        served(settings.metrics_bind_address),
    );
    let (bit, all) = (settings.masquerade_bit, settings.masquerade_all);
    let values = &mut settings.effective.kube_proxy;
    if let DetectLocal::Sources(PodRanges::Listed(ranges)) = &settings.detect_local {
        // kube-proxy accepts no blanks between ranges, and no range twice.
        let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        put(values, "clusterCIDR", json!(ranges.join(",")));
    }
    put(values, "apiVersion", json!(kube_proxy::SCHEMA.version));
    put(values, "kind", json!(kube_proxy::SCHEMA.kind));
    put(values, "mode", json!("nftables"));
    put(values, "nftables.masqueradeBit", json!(bit));
    put(values, "nftables.masqueradeAll", json!(all));
    put(values, "healthzBindAddress", json!(healthz));
    put(values, "metricsBindAddress", json!(metrics));
    let name = lookup(values, "hostnameOverride")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let name = json!(name.trim().to_lowercase());
    put(values, "hostnameOverride", name);
    if lookup(values, "nodePortAddresses") == Some(&json!([])) {
        put(values, "nodePortAddresses", json!(["primary"]));
    }
    let values = &mut settings.effective.tandem;
    put(values, "apiVersion", json!(tandem::SCHEMA.version));
    put(values, "kind", json!(tandem::SCHEMA.kind));
}

impl Settings {
    /// The `KubeProxyConfiguration` that is in effect as YAML, in the form that kube-proxy writes.
    pub fn to_yaml(&self) -> Result<String, String> {
        let mut values = self.kube_proxy_configuration().clone();
        // The value of this section is now in the mode's section, where kube-proxy reads it.
        put(&mut values, "iptables.masqueradeAll", json!(false));
        for path in LEFT_OUT {
            let empty = lookup(&values, path)
                .is_some_and(|value| *value == json!(false) || *value == json!({}) || *value == json!([]));
            if let (true, Some((section, name))) = (empty, Some(path.rsplit_once('.').unwrap_or(("", path)))) {
                let mut at = section.split('.').filter(|name| !name.is_empty());
                let section = at.try_fold(&mut values, |value, name| value.get_mut(name));
                if let Some(Value::Object(map)) = section {
                    map.remove(name);
                }
            }
        }
        serde_saphyr::to_string(&values).map_err(|error| error.to_string())
    }

    /// A line about what Tandem accepts and kube-proxy refuses in the file that [`Self::to_yaml`] makes; none if
    /// kube-proxy accepts it.
    pub fn refused_by_kube_proxy(&self) -> Option<String> {
        let DetectLocal::Sources(PodRanges::Listed(ranges)) = &self.detect_local else {
            return None;
        };
        let v6 = ranges.iter().filter(|range| range.addr().is_ipv6()).count();
        let several = v6 > 1 || ranges.len() - v6 > 1;
        let text = lookup(self.kube_proxy_configuration(), "clusterCIDR").and_then(Value::as_str)?;
        several.then(|| format!("clusterCIDR: {text:?}: kube-proxy refuses a file with two ranges of one family"))
    }

    /// The differences: the fields whose change takes effect at once, and those whose change waits for the next start.
    pub fn changes(old: &Self, new: &Self) -> Changes {
        let mut changes = Changes::default();
        let trees = [
            (&old.effective.kube_proxy, &new.effective.kube_proxy),
            (&old.effective.tandem, &new.effective.tandem),
        ];
        for (schema, (old, new)) in SCHEMAS.into_iter().zip(trees) {
            changes.compare(schema, old, new);
        }
        changes
    }

    /// These settings, except that fields which cannot change while the agent runs have the values of `running`.
    #[must_use]
    pub fn live(self, running: &Self) -> Self {
        let running = running.clone();
        Self {
            detect_local: self.detect_local,
            masquerade_all: self.masquerade_all,
            masquerade_bit: self.masquerade_bit,
            node_port_addresses: self.node_port_addresses,
            drop_invalid: self.drop_invalid,
            service_routes: self.service_routes,
            xdp: self.xdp,
            conntrack: self.conntrack,
            oom_score_adj: self.oom_score_adj,
            log_filter: self.log_filter,
            effective: self.effective,
            ..running
        }
    }
}

/// Fields that differ, each as `field: old becomes new`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Changes that take effect at once.
    pub live: Vec<String>,
    /// Changes that take effect at the next start.
    pub needs_restart: Vec<String>,
}

impl Changes {
    fn compare(&mut self, schema: &Schema, old: &Value, new: &Value) {
        for field in schema.fields.iter().filter(|field| field.kind != FieldKind::Section) {
            let (old, new) = (lookup(old, field.path), lookup(new, field.path));
            let Fate::Honoured(change) = field.fate else { continue };
            if old == new {
                continue;
            }
            let words = |value: Option<&Value>| super::schema::words(value.unwrap_or(&Value::Null));
            let line = format!("{}: {:?} becomes {:?}", field.path, words(old), words(new));
            match change {
                Change::Live => self.live.push(line),
                Change::Restart => self.needs_restart.push(line),
            }
        }
    }
}
