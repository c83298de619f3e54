//! Files and flags together.

use serde_json::{Value, json};
use tandem_core::node::NodePortAddresses;

use super::*;
use crate::node_settings::{DetectLocal, PodRanges};

const KUBEADM: &str = "bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection: {acceptContentTypes: '', burst: 0, contentType: '', kubeconfig: /var/lib/kube-proxy/kubeconfig.conf, qps: 0}
clusterCIDR: 10.244.0.0/16,fd00:10:244::/48
configSyncPeriod: 0s
conntrack: {maxPerCore: null, min: null, tcpBeLiberal: false, tcpCloseWaitTimeout: null, tcpEstablishedTimeout: null, udpStreamTimeout: 0s, udpTimeout: 0s}
detectLocal: {bridgeInterface: '', interfaceNamePrefix: ''}
detectLocalMode: ''
enableProfiling: false
healthzBindAddress: ''
hostnameOverride: ' Node-A '
iptables: {localhostNodePorts: null, masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
ipvs: {excludeCIDRs: null, minSyncPeriod: 0s, scheduler: '', strictARP: false, syncPeriod: 0s, tcpFinTimeout: 0s, tcpTimeout: 0s, udpTimeout: 0s}
logging: {flushFrequency: 0, options: {json: {infoBufferSize: '0'}, text: {infoBufferSize: '0'}}, verbosity: 0}
metricsBindAddress: ''
mode: nftables
nftables: {masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
nodePortAddresses: null
oomScoreAdj: null
portRange: ''
showHiddenMetricsForVersion: ''
winkernel: {enableDSR: false, forwardHealthCheckVip: false, networkName: '', rootHnsEndpointName: '', sourceVip: ''}
";

/// What kube-proxy 1.36.3 writes with `--write-config-to --proxy-mode nftables` and nothing else.
const DEFAULTS: &str = include_str!("defaults.yaml");

#[test]
fn a_configuration_as_kubeadm_writes_it_warns_of_nothing() {
    let (settings, warnings) = settings(KUBEADM);
    assert_eq!(warnings, Vec::<String>::new());
    let cidrs = ["10.244.0.0/16", "fd00:10:244::/48"].map(|cidr| cidr.parse().unwrap());
    assert_eq!(settings.node_name, "node-a");
    assert_eq!(
        settings.detect_local,
        DetectLocal::Sources(PodRanges::Listed(cidrs.to_vec()))
    );
    assert_eq!((settings.masquerade_all, settings.masquerade_bit), (false, 14));
    assert_eq!(settings.node_port_addresses, NodePortAddresses::Primary);
    assert_eq!(settings.kubeconfig, Some("/var/lib/kube-proxy/kubeconfig.conf".into()));
    assert_eq!(settings.healthz_bind_address, "0.0.0.0:10256".parse().ok());
    assert_eq!(settings.metrics_bind_address, "127.0.0.1:10249".parse().ok());
    assert_eq!(settings.oom_score_adj, -999);
    assert_eq!(
        settings.conntrack.max,
        Some(ConntrackMax {
            per_core: 32_768,
            min: 131_072
        })
    );
    assert_eq!(settings.log_filter, "info");
    assert!(settings.events && settings.service_routes && !settings.node_port_loopback && !settings.drop_invalid);
}

#[test]
fn the_defaults_are_those_of_kube_proxy() {
    let defaults = by_flags(&[("proxy-mode", "nftables")]).unwrap().settings;
    let ours: Value = serde_saphyr::from_str(&defaults.to_yaml().unwrap()).unwrap();
    let theirs: Value = serde_saphyr::from_str(DEFAULTS).unwrap();
    for (name, value) in theirs.as_object().unwrap() {
        // kube-proxy writes no sync periods of other modes, and null for an empty list.
        let periods = matches!(name.as_str(), "iptables" | "ipvs");
        let ours = ours.get(name).unwrap_or_else(|| panic!("{name} is missing"));
        for (inner, value) in value.as_object().filter(|_| periods).into_iter().flatten() {
            if !inner.ends_with("yncPeriod") && !value.is_null() {
                assert_eq!(ours.get(inner), Some(value), "{name}.{inner}");
            }
        }
        if !periods {
            assert_eq!(ours, value, "{name}");
        }
    }
    assert_eq!(ours.as_object().unwrap().len(), theirs.as_object().unwrap().len());
}

#[test]
fn what_is_written_out_reads_the_same_again() {
    let text = "clusterCIDR: 10.0.0.0/8
mode: iptables
iptables: {masqueradeBit: 5, masqueradeAll: true}
conntrack: {tcpEstablishedTimeout: 90m, udpTimeout: 1500ms}
featureGates: {NFTablesProxyMode: true}
hostnameOverride: A
healthzBindAddress: 192.0.2.1
logging: {flushFrequency: 5000000000, vmodule: [{filePattern: a, verbosity: 3}]}
";
    let mut first = settings(text).0;
    let scratch = Scratch::new();
    let written = first.to_yaml().unwrap();
    scratch.write(&written);
    let second = scratch.load(&[]).unwrap().settings;
    assert_eq!(second.to_yaml().unwrap(), written);
    first.effective = second.effective.clone();
    assert_eq!(first, second);
    assert_eq!((second.masquerade_bit, second.masquerade_all), (5, true));
    assert_eq!(second.healthz_bind_address, "192.0.2.1:10256".parse().ok());
}

#[test]
fn beside_a_file_flags_are_ignored_by_name_but_for_those_that_win() {
    let scratch = Scratch::new();
    scratch.write(&format!(
        "{HEAD}mode: nftables\nclusterCIDR: 10.8.0.0/16\nhostnameOverride: a\nlogging: {{verbosity: 0}}\n"
    ));
    let flags = [
        ("hostname-override", "B"),
        ("v", "5"),
        ("master", "https://192.0.2.1:6443"),
        ("cluster-cidr", "10.9.0.0/16"),
        ("kubeconfig", "/k"),
        ("healthz-port", "0"),
        ("vmodule", "a=1"),
        ("housekeeping-interval", "1s"),
        ("socket", "/s"),
    ];
    let loaded = scratch.load(&flags).unwrap();
    let settings = loaded.settings;
    assert_eq!((settings.node_name.as_str(), settings.kubeconfig), ("b", None));
    assert!(settings.log_filter.contains("tandem=debug") && settings.socket == Path::new("/s"));
    assert_eq!(settings.master.as_deref(), Some("https://192.0.2.1:6443"));
    assert_eq!(
        settings.detect_local,
        DetectLocal::Sources(PodRanges::Listed(vec!["10.8.0.0/16".parse().unwrap()]))
    );
    assert!(settings.healthz_bind_address.is_some());
    assert_eq!(
        loaded.warnings,
        [
            "--cluster-cidr: ignored because of --config, as in kube-proxy",
            "--kubeconfig: ignored because of --config, as in kube-proxy",
            "--healthz-port: ignored because of --config, as in kube-proxy",
            "--vmodule: ignored: it names files of kube-proxy's source; --log does the same for Tandem's",
            "--housekeeping-interval: ignored: kube-proxy does not use it either: it is cAdvisor's, which is linked into it",
        ]
    );
}

#[test]
fn without_a_file_flags_set_fields() {
    let settings = by_flags(&[
        ("cluster-cidr", "10.9.0.0/16,fd00:9::/64"),
        ("nodeport-addresses", "192.0.2.0/24,2001:db8::/64"),
        ("masquerade-all", "true"),
        ("proxy-mode", "iptables"),
        ("iptables-masquerade-bit", "3"),
        ("conntrack-max-per-core", "0"),
        ("conntrack-tcp-be-liberal", "1"),
        ("healthz-bind-address", "192.0.2.1"),
        ("healthz-port", "1234"),
        ("metrics-bind-address", ""),
        ("oom-score-adj", "-5"),
        ("kubeconfig", "/k"),
    ])
    .unwrap()
    .settings;
    assert!(matches!(&settings.detect_local, DetectLocal::Sources(PodRanges::Listed(cidrs)) if cidrs.len() == 2));
    assert!(matches!(&settings.node_port_addresses, NodePortAddresses::Ranges(cidrs) if cidrs.len() == 2));
    assert_eq!(
        (settings.masquerade_all, settings.masquerade_bit, settings.oom_score_adj),
        (true, 3, -5)
    );
    assert_eq!(
        (settings.conntrack.max, settings.conntrack.tcp_be_liberal),
        (None, true)
    );
    assert_eq!(settings.healthz_bind_address, "192.0.2.1:1234".parse().ok());
    assert_eq!(
        (settings.metrics_bind_address, settings.kubeconfig),
        (None, Some("/k".into()))
    );
    let off = by_flags(&[("healthz-port", "0"), ("metrics-port", "0")])
        .unwrap()
        .settings;
    assert_eq!((off.healthz_bind_address, off.metrics_bind_address), (None, None));
    let v6 = by_flags(&[("bind-address", "::")]).unwrap().settings;
    assert_eq!(v6.healthz_bind_address, "[::]:10256".parse().ok());
    assert_eq!(v6.metrics_bind_address, "[::1]:10249".parse().ok());
}

#[test]
fn every_flag_takes_a_value_of_its_type_and_refuses_another_by_name() {
    for flag in FLAGS {
        let (good, bad) = match flag.kind {
            FieldKind::Boolean => ("true", Some("maybe")),
            FieldKind::Integer | FieldKind::Unsigned => ("7", Some("x")),
            FieldKind::Number => ("1.5", Some("x")),
            FieldKind::Duration => ("1s", Some("soon")),
            FieldKind::Switches => ("WatchList=true", Some("WatchList=maybe")),
            _ => (text_for(flag.name), None),
        };
        // A file that is named has to exist.
        if !flag.name.ends_with("config") {
            by_flags(&[(flag.name, good)]).unwrap_or_else(|error| panic!("--{}: {error}", flag.name));
        }
        if let Some(bad) = bad
            .filter(|_| !matches!(flag.sets, Sets::Nothing(_) | Sets::Dropped(_)) || flag.kind != FieldKind::Duration)
        {
            let error = by_flags(&[(flag.name, bad)]).unwrap_err();
            assert!(error.starts_with(&format!("--{}: {bad:?}: not ", flag.name)), "{error}");
        }
    }
}

fn text_for(flag: &str) -> &'static str {
    match flag {
        "bind-address" => "::",
        "cluster-cidr" | "nodeport-addresses" | "ipvs-exclude-cidrs" => "10.0.0.0/8",
        "detect-local-mode" => "NodeCIDR",
        "healthz-bind-address" | "metrics-bind-address" => "[::1]:1",
        "hostname-override" => "a",
        "log" => "debug",
        "log-format" | "logging-format" => "json",
        "log-text-info-buffer-size" | "log-json-info-buffer-size" => "1Ki",
        "proxy-mode" => "ipvs",
        "show-hidden-metrics-for-version" => "1.35",
        _ => "x",
    }
}

#[test]
fn tandems_own_file_is_found_beside_the_other_and_flags_win_over_it() {
    let scratch = Scratch::new();
    scratch.write(&format!("{HEAD}logging: {{verbosity: 4, format: text}}\n"));
    scratch.write_tandem("nodePortLoopback: true\nserviceRoutes: false\ndropInvalid: true\nevents: false\nsocket: /a\nlog: {level: warn, format: json}\n");
    let loaded = scratch.load(&[]).unwrap();
    assert_eq!(loaded.files, [scratch.path(), scratch.0.join("tandem.conf")]);
    let settings = loaded.settings;
    assert!(settings.node_port_loopback && settings.drop_invalid && !settings.service_routes && !settings.events);
    assert_eq!(
        (settings.socket.as_path(), settings.log_filter.as_str()),
        (Path::new("/a"), "warn")
    );
    assert_eq!(settings.log_format, LogFormat::Json);
    let settings = scratch
        .load(&[("log", "error"), ("log-format", "text"), ("socket", "/b")])
        .unwrap()
        .settings;
    assert_eq!(
        (settings.socket.as_path(), settings.log_filter.as_str()),
        (Path::new("/b"), "error")
    );
    assert_eq!(settings.log_format, LogFormat::Text);
    // A file that is named has to exist.
    let mut sources = scratch.sources(&[]).unwrap();
    sources.tandem_config = Some(scratch.0.join("other.conf"));
    assert!(
        sources
            .load()
            .unwrap_err()
            .to_string()
            .ends_with("other.conf: No such file or directory (os error 2)")
    );
}

#[test]
fn without_anything_the_machines_name_is_the_nodes() {
    let loaded = by_flags(&[]).unwrap();
    let name = loaded.settings.node_name;
    assert!(!name.is_empty() && name == name.to_lowercase());
    assert_eq!(loaded.settings.detect_local, DetectLocal::Nothing);
    assert_eq!(
        loaded.warnings,
        ["clusterCIDR: not given: traffic from outside the cluster is not masqueraded"]
    );
}

#[test]
fn all_ranges_of_a_family_count() {
    let cidrs = "10.1.0.0/16, 10.2.0.0/16,fd00:1::/64,10.1.0.0/16,fd00:2::/64,";
    let DetectLocal::Sources(PodRanges::Listed(cidrs)) = settings(&format!("clusterCIDR: '{cidrs}'\n")).0.detect_local
    else {
        panic!("not by ranges");
    };
    let cidrs: Vec<String> = cidrs.iter().map(ToString::to_string).collect();
    assert_eq!(cidrs, ["10.1.0.0/16", "10.2.0.0/16", "fd00:1::/64", "fd00:2::/64"]);
}

#[test]
fn json_is_read_as_well() {
    let value =
        json!({"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "oomScoreAdj": 3});
    let scratch = Scratch::new();
    scratch.write(&value.to_string());
    assert_eq!(scratch.load(&[]).unwrap().settings.oom_score_adj, 3);
}

#[test]
fn what_kube_proxy_refuses_in_a_written_file_is_told() {
    let told = |cidrs: &str| {
        let settings = settings(&format!("clusterCIDR: '{cidrs}'\n")).0;
        settings.refused_by_kube_proxy()
    };
    assert_eq!(
        told("10.1.0.0/16, 10.2.0.0/16, fd00:1::/64"),
        Some(
            "clusterCIDR: \"10.1.0.0/16,10.2.0.0/16,fd00:1::/64\": kube-proxy refuses a file with two ranges of one family"
                .to_owned()
        )
    );
    assert!(told("fd00:1::/64,fd00:2::/64").is_some());
    assert_eq!(
        told("10.1.0.0/16, fd00:1::/64, 10.1.0.0/16,"),
        None,
        "one of each is written"
    );
}

#[test]
fn the_socket_is_known_whatever_is_wrong_with_other_fields() {
    let scratch = Scratch::new();
    scratch.write("mode: [");
    let socket = |scratch: &Scratch, flags: &[(&str, &str)]| scratch.sources(flags).unwrap().socket();
    let usual = Path::new("/run/tandem/tandem.sock");
    assert_eq!(socket(&scratch, &[]), usual);
    scratch.write_tandem("socket: /a\n");
    assert_eq!(socket(&scratch, &[]), Path::new("/a"));
    scratch.write_tandem("socket: /a\nsocket: /b\n");
    assert_eq!(socket(&scratch, &[]), usual);
    assert_eq!(socket(&scratch, &[("socket", "/c")]), Path::new("/c"));
}
