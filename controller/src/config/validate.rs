//! Checks fields that have no effect as kube-proxy checks them: if kube-proxy would report a mistake, Tandem reports it
//! too.

use std::time::Duration;

use serde_json::Value;
use tandem_core::addr::parse_net;

use super::ConfigError;
use super::document::Document;
use super::resolve::unbracketed;
use super::schema;

/// The largest verbosity that klog accepts.
const VERBOSITY: i64 = i32::MAX as i64;

pub(super) fn unused(config: &Document, warnings: &mut Vec<String>) -> Result<(), ConfigError> {
    for gate in config
        .value("featureGates")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let name = gate.0;
        if !schema::is_known_gate(name) {
            let (place, name) = (
                config.place("featureGates"),
                schema::words(&Value::String(name.clone())),
            );
            warnings.push(format!(
                "{place}: {name:?}: no feature gate of Kubernetes 1.36: ignored"
            ));
        }
    }
    if config.integer("clientConnection.burst") < 0 {
        return Err(config.wrong("clientConnection.burst", "must be 0 or more"));
    }
    bind_address(config, warnings)?;
    sync_periods(config)?;
    if config.duration("configSyncPeriod").is_zero() {
        return Err(config.wrong("configSyncPeriod", "must be longer than 0"));
    }
    for cidr in config.texts("ipvs.excludeCIDRs") {
        parse_net(cidr).map_err(|problem| config.wrong_value("ipvs.excludeCIDRs", cidr, &problem.to_string()))?;
    }
    let version = config.text("showHiddenMetricsForVersion");
    if !version.is_empty() && !is_version(version) {
        return Err(config.wrong("showHiddenMetricsForVersion", "not a version like 1.35"));
    }
    logging(config)
}

fn bind_address(config: &Document, warnings: &mut Vec<String>) -> Result<(), ConfigError> {
    let address = unbracketed(config.text("bindAddress")).parse::<std::net::IpAddr>();
    let address = address.map_err(|_| config.wrong("bindAddress", "not an IP address"))?;
    if !address.is_unspecified() {
        warnings.push(format!(
            "{}: \"{address}\": does not take the place of the Node object's addresses; its family decides the defaults of \
             healthzBindAddress and metricsBindAddress",
            config.place("bindAddress")
        ));
    }
    Ok(())
}

/// Checks only the periods of the mode's section, as kube-proxy does.
fn sync_periods(config: &Document) -> Result<(), ConfigError> {
    let (period, least) = match config.text("mode") {
        "nftables" => ("nftables.syncPeriod", "nftables.minSyncPeriod"),
        "ipvs" => ("ipvs.syncPeriod", "ipvs.minSyncPeriod"),
        _ => ("iptables.syncPeriod", "iptables.minSyncPeriod"),
    };
    if config.duration(period) < config.duration(least) || config.duration(period) == Duration::ZERO {
        return Err(config.wrong(period, &format!("shorter than {least}, {}", config.text(least))));
    }
    Ok(())
}

fn is_version(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.len() < 6 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('.')
        .is_some_and(|(major, minor)| digits(major) && digits(minor))
}

fn logging(config: &Document) -> Result<(), ConfigError> {
    if config.integer("logging.verbosity") > VERBOSITY {
        return Err(config.wrong("logging.verbosity", "more than 2147483647"));
    }
    let modules = config.value("logging.vmodule").and_then(Value::as_array);
    for module in modules.into_iter().flatten() {
        let pattern = module.get("filePattern").and_then(Value::as_str).unwrap_or_default();
        if pattern.is_empty() || pattern.contains(['=', ',']) {
            let problem = "filePattern must be there, without = and ,";
            return Err(config.wrong_value("logging.vmodule", pattern, problem));
        }
        let verbosity = module.get("verbosity").and_then(Value::as_i64).unwrap_or_default();
        if verbosity > VERBOSITY {
            return Err(config.wrong_value(
                "logging.vmodule",
                &verbosity.to_string(),
                "verbosity more than 2147483647",
            ));
        }
    }
    Ok(())
}
