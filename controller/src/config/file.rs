//! `KubeProxyConfiguration` of `kubeproxy.config.k8s.io/v1alpha1`, field by field. Most fields are here so that a value of
//! the wrong type, or a name that does not exist, is an error and not a silence.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::ConfigError;
use super::duration::GoDuration;

/// What `apiVersion` must be.
const API_VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";
/// What `kind` must be.
const KIND: &str = "KubeProxyConfiguration";

macro_rules! sections {
    ($($name:ident { $($field:ident: $type:ty = $json:literal,)* })*) => {$(
        #[derive(Clone, Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[expect(dead_code, reason = "read for its type; see unused.rs for what is not used")]
        pub(super) struct $name {
            $(#[serde(rename = $json)] pub(super) $field: Option<$type>,)*
        }
    )*};
}

sections! {
    KubeProxyConfiguration {
        api_version: String = "apiVersion",
        kind: String = "kind",
        feature_gates: BTreeMap<String, bool> = "featureGates",
        client_connection: ClientConnection = "clientConnection",
        logging: Logging = "logging",
        hostname_override: String = "hostnameOverride",
        bind_address: String = "bindAddress",
        healthz_bind_address: String = "healthzBindAddress",
        metrics_bind_address: String = "metricsBindAddress",
        bind_address_hard_fail: bool = "bindAddressHardFail",
        enable_profiling: bool = "enableProfiling",
        show_hidden_metrics_for_version: String = "showHiddenMetricsForVersion",
        mode: String = "mode",
        iptables: Iptables = "iptables",
        ipvs: Ipvs = "ipvs",
        nftables: Nftables = "nftables",
        winkernel: Winkernel = "winkernel",
        detect_local_mode: String = "detectLocalMode",
        detect_local: DetectLocalSection = "detectLocal",
        cluster_cidr: String = "clusterCIDR",
        node_port_addresses: Vec<String> = "nodePortAddresses",
        oom_score_adj: i32 = "oomScoreAdj",
        conntrack: Conntrack = "conntrack",
        config_sync_period: GoDuration = "configSyncPeriod",
        port_range: String = "portRange",
        windows_run_as_service: bool = "windowsRunAsService",
    }
    ClientConnection {
        kubeconfig: String = "kubeconfig",
        accept_content_types: String = "acceptContentTypes",
        content_type: String = "contentType",
        qps: f32 = "qps",
        burst: i32 = "burst",
    }
    Logging {
        format: String = "format",
        flush_frequency: FlushFrequency = "flushFrequency",
        verbosity: u32 = "verbosity",
        vmodule: Vec<VModule> = "vmodule",
        options: LogOptions = "options",
    }
    VModule {
        file_pattern: String = "filePattern",
        verbosity: u32 = "verbosity",
    }
    LogOptions {
        text: LogBuffer = "text",
        json: LogBuffer = "json",
    }
    LogBuffer {
        split_stream: bool = "splitStream",
        info_buffer_size: Quantity = "infoBufferSize",
    }
    Iptables {
        masquerade_bit: i32 = "masqueradeBit",
        masquerade_all: bool = "masqueradeAll",
        localhost_node_ports: bool = "localhostNodePorts",
        snat_node_internal_ip: bool = "snatNodeInternalIP",
        sync_period: GoDuration = "syncPeriod",
        min_sync_period: GoDuration = "minSyncPeriod",
    }
    Ipvs {
        sync_period: GoDuration = "syncPeriod",
        min_sync_period: GoDuration = "minSyncPeriod",
        scheduler: String = "scheduler",
        exclude_cidrs: Vec<String> = "excludeCIDRs",
        strict_arp: bool = "strictARP",
        tcp_timeout: GoDuration = "tcpTimeout",
        tcp_fin_timeout: GoDuration = "tcpFinTimeout",
        udp_timeout: GoDuration = "udpTimeout",
    }
    Nftables {
        masquerade_bit: i32 = "masqueradeBit",
        masquerade_all: bool = "masqueradeAll",
        sync_period: GoDuration = "syncPeriod",
        min_sync_period: GoDuration = "minSyncPeriod",
    }
    Conntrack {
        max_per_core: i32 = "maxPerCore",
        min: i32 = "min",
        tcp_established_timeout: GoDuration = "tcpEstablishedTimeout",
        tcp_close_wait_timeout: GoDuration = "tcpCloseWaitTimeout",
        tcp_be_liberal: bool = "tcpBeLiberal",
        udp_timeout: GoDuration = "udpTimeout",
        udp_stream_timeout: GoDuration = "udpStreamTimeout",
    }
    Winkernel {
        network_name: String = "networkName",
        source_vip: String = "sourceVip",
        enable_dsr: bool = "enableDSR",
        root_hns_endpoint_name: String = "rootHnsEndpointName",
        forward_health_check_vip: bool = "forwardHealthCheckVip",
    }
    DetectLocalSection {
        bridge_interface: String = "bridgeInterface",
        interface_name_prefix: String = "interfaceNamePrefix",
    }
}

/// A duration, or nanoseconds as older versions wrote it.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
#[expect(dead_code, reason = "read for its type")]
pub(super) enum FlushFrequency {
    Nanoseconds(i64),
    Text(GoDuration),
}

/// A `resource.Quantity`.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
#[expect(dead_code, reason = "read for its type")]
pub(super) enum Quantity {
    Number(i64),
    Text(String),
}

/// Reads a file's text. Gives the typed configuration and the values as they stand there.
pub(super) fn parse(path: &Path, text: &str) -> Result<(KubeProxyConfiguration, Value), ConfigError> {
    let value = value(text).map_err(|problem| ConfigError::Syntax {
        path: path.to_owned(),
        problem,
    })?;
    let fail = |field: String, problem: String| ConfigError::Field {
        path: path.to_owned(),
        field,
        problem,
    };
    for (field, expected) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        match value.get(field) {
            Some(Value::String(found)) if found == expected => {}
            Some(found) => return Err(fail(field.to_owned(), format!("must be {expected}, not {found}"))),
            None => return Err(fail(field.to_owned(), format!("missing, must be {expected}"))),
        }
    }
    let config = serde_path_to_error::deserialize(&value).map_err(|error| {
        let field = error.path().to_string();
        let problem = error.into_inner().to_string();
        fail(field, explain(&problem))
    })?;
    Ok((config, value))
}

fn value(text: &str) -> Result<Value, String> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|error| error.to_string());
    }
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())
}

/// An unknown field gets the nearest known one as a suggestion, instead of serde's list of all.
fn explain(problem: &str) -> String {
    let mut quoted = problem.split('`').skip(1).step_by(2);
    let Some(unknown) = quoted.next().filter(|_| problem.starts_with("unknown field")) else {
        return problem.to_owned();
    };
    let lower = unknown.to_lowercase();
    let nearest = quoted
        .map(|known| (strsim::damerau_levenshtein(&lower, &known.to_lowercase()), known))
        .filter(|(distance, known)| *distance <= known.len().div_ceil(3).min(3))
        .min();
    match nearest {
        Some((_, known)) => format!("no such field; did you mean {known}?"),
        None => format!("no such field in {API_VERSION}"),
    }
}
