use std::path::Path;

use serde_json::{Map, Value, json};

use tandem_core::node::NodePortAddresses;

use super::*;

const HEAD: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

fn load(text: &str, overrides: Overrides) -> Result<(Settings, Vec<String>), String> {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let name = format!(
        "tandem-config-{}-{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    );
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, text).unwrap();
    let result = Settings::load(Some(&path), overrides);
    std::fs::remove_file(&path).unwrap();
    result.map_err(|error| error.to_string().replace(&path.display().to_string(), "FILE"))
}

fn settings(text: &str) -> (Settings, Vec<String>) {
    load(&format!("{HEAD}{text}"), Overrides::default()).unwrap()
}

fn error(text: &str) -> String {
    load(&format!("{HEAD}{text}"), Overrides::default()).unwrap_err()
}

#[test]
fn a_configuration_as_kubeadm_writes_it_warns_of_nothing() {
    let (settings, warnings) = settings(
        "bindAddress: 0.0.0.0
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
",
    );
    let cidrs = vec!["10.244.0.0/16".parse().unwrap(), "fd00:10:244::/48".parse().unwrap()];
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(
        settings,
        Settings {
            node_name: "node-a".to_owned(),
            cluster_cidrs: cidrs.clone(),
            detect_local: DetectLocal::ClusterCidr(cidrs),
            masquerade_all: false,
            masquerade_bit: 14,
            node_port_addresses: NodePortAddresses::Primary,
            kubeconfig: Some("/var/lib/kube-proxy/kubeconfig.conf".into()),
            master: None,
        }
    );
}

#[test]
fn what_is_set_and_not_used_is_named() {
    let (_, warnings) = settings(
        "clusterCIDR: 10.0.0.0/8
conntrack: {maxPerCore: 1000, min: 131072, tcpEstablishedTimeout: 24h0m0s, tcpCloseWaitTimeout: 10m}
bindAddress: 192.0.2.1
featureGates: {SomeGate: true}
metricsBindAddress: 127.0.0.1:10249
mode: ipvs
ipvs: {excludeCIDRs: [10.0.0.0/8]}
",
    );
    assert_eq!(
        warnings,
        [
            "bindAddress: not used by tandem yet",
            "conntrack.maxPerCore: not used by tandem yet",
            "conntrack.tcpCloseWaitTimeout: not used by tandem yet",
            "featureGates.SomeGate: not used by tandem yet",
            "ipvs.excludeCIDRs: not used by tandem yet",
            "mode: ipvs: tandem programs nftables whatever the mode",
        ]
    );
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    for (text, problem) in [
        (
            "clusterCIRD: 10.0.0.0/8",
            "FILE: clusterCIRD: no such field; did you mean clusterCIDR?",
        ),
        (
            "conntrack: {maxpercore: 1}",
            "FILE: conntrack.maxpercore: no such field; did you mean maxPerCore?",
        ),
        (
            "nonsense: 1",
            "FILE: nonsense: no such field in kubeproxy.config.k8s.io/v1alpha1",
        ),
        ("mode: 7", "FILE: mode: invalid type: integer `7`, expected a string"),
        (
            "nftables: {masqueradeBit: x}",
            r#"FILE: nftables.masqueradeBit: invalid type: string "x", expected i32"#,
        ),
        (
            "nftables: {syncPeriod: 5}",
            "FILE: nftables.syncPeriod: invalid type: integer `5`, expected a string",
        ),
        (
            "nftables: {syncPeriod: soon}",
            r#"FILE: nftables.syncPeriod: "soon" is not a duration like 30s, 1m30s or 1h"#,
        ),
        (
            "nftables: {masqueradeBit: 32}",
            r#"FILE: nftables.masqueradeBit: "32": not a bit of a packet mark (0-31)"#,
        ),
        (
            "clusterCIDR: 10.0.0.0/8,x",
            r#"FILE: clusterCIDR: "x": not a range in CIDR notation"#,
        ),
        (
            "mode: kernelspace",
            r#"FILE: mode: "kernelspace": not a mode that works here (nftables)"#,
        ),
        (
            "detectLocalMode: Magic",
            r#"FILE: detectLocalMode: "Magic": not a mode (ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix)"#,
        ),
        (
            "nodePortAddresses: [primary, 10.0.0.0/8]",
            r#"FILE: nodePortAddresses: "primary,10.0.0.0/8": primary must be the only entry"#,
        ),
        (
            "nodePortAddresses: [eth0]",
            r#"FILE: nodePortAddresses: "eth0": not a range in CIDR notation"#,
        ),
        (
            "nodePortAddresses: 10.0.0.0/8",
            r#"FILE: nodePortAddresses: invalid type: string "10.0.0.0/8", expected a sequence"#,
        ),
    ] {
        assert_eq!(error(text), problem, "{text}");
    }
}

#[test]
fn another_kind_of_file_is_refused() {
    let load = |text| load(text, Overrides::default()).unwrap_err();
    assert_eq!(
        load("a: 1"),
        "FILE: apiVersion: missing, must be kubeproxy.config.k8s.io/v1alpha1"
    );
    assert_eq!(
        load("{\"apiVersion\": \"v1\"}"),
        "FILE: apiVersion: must be kubeproxy.config.k8s.io/v1alpha1, not \"v1\""
    );
    let kubelet = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeletConfiguration";
    assert_eq!(
        load(kubelet),
        "FILE: kind: must be KubeProxyConfiguration, not \"KubeletConfiguration\""
    );
    assert!(load("a: [").starts_with("FILE: "));
    assert!(load("{\"a\": ").starts_with("FILE: EOF"));
    let missing = Settings::load(Some(Path::new("/does/not/exist")), Overrides::default()).unwrap_err();
    assert_eq!(
        missing.to_string(),
        "/does/not/exist: No such file or directory (os error 2)"
    );
}

#[test]
fn flags_win_over_the_file() {
    let overrides = Overrides {
        hostname_override: Some("B".to_owned()),
        cluster_cidr: Some("10.9.0.0/16".to_owned()),
        detect_local_mode: Some("NodeCIDR".to_owned()),
        masquerade_all: Some(false),
        nodeport_addresses: Some(vec!["192.0.2.0/24".to_owned()]),
        kubeconfig: Some("/k".into()),
        master: Some("https://192.0.2.1:6443".to_owned()),
        masquerade_bit: Some(3),
    };
    let text = format!(
        "{HEAD}hostnameOverride: a\nclusterCIDR: 10.8.0.0/16\nnftables: {{masqueradeAll: true, masqueradeBit: 4}}\nclientConnection: {{kubeconfig: /f}}\n"
    );
    let (settings, _) = load(&text, overrides).unwrap();
    assert_eq!(
        (
            settings.node_name.as_str(),
            settings.masquerade_bit,
            settings.masquerade_all
        ),
        ("b", 3, false)
    );
    assert_eq!(settings.detect_local, DetectLocal::NodeCidr);
    assert_eq!(
        settings.node_port_addresses,
        NodePortAddresses::Ranges(vec!["192.0.2.0/24".parse().unwrap()])
    );
    assert_eq!(settings.kubeconfig.as_deref(), Some(Path::new("/k")));
    let wrong = Overrides {
        cluster_cidr: Some("x".to_owned()),
        ..Overrides::default()
    };
    assert_eq!(
        Settings::load(None, wrong).unwrap_err().to_string(),
        r#"--cluster-cidr: "x": not a range in CIDR notation"#
    );
}

#[test]
fn without_anything_the_machines_name_is_the_nodes() {
    let (settings, warnings) = Settings::load(None, Overrides::default()).unwrap();
    assert!(!settings.node_name.is_empty() && settings.node_name == settings.node_name.to_lowercase());
    assert_eq!(settings.detect_local, DetectLocal::None);
    assert_eq!(
        warnings,
        ["clusterCIDR: not given: traffic from outside the cluster is not masqueraded"]
    );
}

#[test]
fn interface_modes_are_warned_of_and_detect_nothing() {
    let (settings, warnings) = settings("detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: cni0}\n");
    assert_eq!(settings.detect_local, DetectLocal::None);
    assert_eq!(warnings[0], "detectLocal.bridgeInterface: not used by tandem yet");
    assert!(warnings[1].ends_with(
        "detectLocalMode: BridgeInterface is not supported yet: traffic from outside the cluster is not masqueraded"
    ));
}

#[test]
fn the_iptables_section_counts_where_that_mode_was_meant() {
    let of = |text: &str| settings(&format!("clusterCIDR: 10.0.0.0/8\n{text}")).0;
    assert_eq!(of("iptables: {masqueradeBit: 5}").masquerade_bit, 5);
    assert_eq!(of("mode: nftables\niptables: {masqueradeBit: 5}").masquerade_bit, 14);
    assert_eq!(
        of("iptables: {masqueradeBit: 5}\nnftables: {masqueradeBit: 6}").masquerade_bit,
        6
    );
    assert!(of("iptables: {masqueradeAll: true}").masquerade_all);
}

#[test]
fn every_field_of_the_tables_exists() {
    let fields = unused::USED
        .into_iter()
        .chain(unused::DEFAULTS.into_iter().map(|(field, _)| field));
    for field in fields {
        let mut value = Value::Null;
        for name in field.rsplit('.') {
            value = Value::Object(Map::from_iter([(name.to_owned(), value)]));
        }
        let map = value.as_object_mut().unwrap();
        map.insert("apiVersion".to_owned(), json!("kubeproxy.config.k8s.io/v1alpha1"));
        map.insert("kind".to_owned(), json!("KubeProxyConfiguration"));
        load(&value.to_string(), Overrides::default()).unwrap_or_else(|error| panic!("{field}: {error}"));
    }
}
