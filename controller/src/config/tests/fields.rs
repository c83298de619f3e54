//! Each field does what the table says.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::config::schema::{kube_proxy, tandem};

/// Fields with the fields that they need, and a value that is not their default.
const HONOURED: [(&str, &str, &str); 49] = [
    ("clientConnection.kubeconfig", "", "clientConnection: {kubeconfig: /f}"),
    (
        "clientConnection.acceptContentTypes",
        "",
        "clientConnection: {acceptContentTypes: application/json}",
    ),
    (
        "clientConnection.contentType",
        "",
        "clientConnection: {contentType: application/json}",
    ),
    ("logging.format", "", "logging: {format: json}"),
    ("logging.verbosity", "", "logging: {verbosity: 9}"),
    ("hostnameOverride", "", "hostnameOverride: another"),
    ("bindAddress", "", "bindAddress: '::'"),
    ("healthzBindAddress", "", "healthzBindAddress: '[2001:db8::1]:1'"),
    ("metricsBindAddress", "", "metricsBindAddress: 0.0.0.0"),
    ("bindAddressHardFail", "", "bindAddressHardFail: true"),
    (
        "mode",
        "iptables: {masqueradeBit: 5}\nnftables: {masqueradeBit: 6}\n",
        "mode: ipvs",
    ),
    (
        "iptables.masqueradeBit",
        "mode: iptables\n",
        "iptables: {masqueradeBit: 0}",
    ),
    (
        "iptables.masqueradeAll",
        "mode: ipvs\n",
        "iptables: {masqueradeAll: true}",
    ),
    (
        "nftables.masqueradeBit",
        "mode: nftables\n",
        "nftables: {masqueradeBit: 31}",
    ),
    (
        "nftables.masqueradeAll",
        "mode: nftables\n",
        "nftables: {masqueradeAll: true}",
    ),
    ("detectLocalMode", "", "detectLocalMode: NodeCIDR"),
    (
        "detectLocal.bridgeInterface",
        "detectLocalMode: BridgeInterface\n",
        "detectLocal: {bridgeInterface: cni1}",
    ),
    (
        "detectLocal.interfaceNamePrefix",
        "detectLocalMode: InterfaceNamePrefix\n",
        "detectLocal: {interfaceNamePrefix: cali}",
    ),
    ("clusterCIDR", "", "clusterCIDR: 10.0.0.0/8"),
    ("nodePortAddresses", "", "nodePortAddresses: [10.0.0.0/8, '::/0']"),
    ("oomScoreAdj", "", "oomScoreAdj: 0"),
    ("conntrack.maxPerCore", "", "conntrack: {maxPerCore: 0}"),
    ("conntrack.min", "", "conntrack: {min: 0}"),
    (
        "conntrack.tcpEstablishedTimeout",
        "",
        "conntrack: {tcpEstablishedTimeout: 0s}",
    ),
    (
        "conntrack.tcpCloseWaitTimeout",
        "",
        "conntrack: {tcpCloseWaitTimeout: 2h}",
    ),
    ("conntrack.tcpBeLiberal", "", "conntrack: {tcpBeLiberal: true}"),
    ("conntrack.udpTimeout", "", "conntrack: {udpTimeout: 30s}"),
    ("conntrack.udpStreamTimeout", "", "conntrack: {udpStreamTimeout: 300s}"),
    ("apiVersion", "", ""),
    ("kind", "", ""),
    ("tandem dataPlane", "", "dataPlane: xdp"),
    ("tandem socketLoadBalancing", "", "socketLoadBalancing: node"),
    ("tandem nodeCgroup", "", "nodeCgroup: /sys/fs/cgroup/unified"),
    ("tandem podCgroup", "", "podCgroup: /kubelet/kubepods"),
    ("tandem bpfFolder", "", "bpfFolder: /run/tandem/bpf"),
    ("tandem xdp.pick", "", "xdp: {pick: maglev}"),
    ("tandem xdp.devices", "", "xdp: {devices: [eth0, default-route]}"),
    ("tandem xdp.mode", "", "xdp: {mode: generic}"),
    ("tandem xdp.maxFlows", "", "xdp: {maxFlows: 32768}"),
    ("tandem nodePortLoopback", "", "nodePortLoopback: true"),
    ("tandem serviceRoutes", "", "serviceRoutes: false"),
    ("tandem dropInvalid", "", "dropInvalid: true"),
    ("tandem removeKubeProxyRules", "", "removeKubeProxyRules: false"),
    ("tandem events", "", "events: false"),
    ("tandem socket", "", "socket: /other.sock"),
    ("tandem apiServer.lists", "", "apiServer: {lists: Cache}"),
    ("tandem log.level", "", "log: {level: trace}"),
    ("tandem log.format", "", "log: {format: json}"),
    ("tandem apiVersion", "", ""),
];

/// Values other than the defaults for all fields that have no effect.
const IGNORED: &str = "featureGates: {WatchList: false}
clientConnection: {qps: 7.5, burst: 9}
logging:
  flushFrequency: 1s
  vmodule: [{filePattern: proxier, verbosity: 9}]
  options: {text: {splitStream: true, infoBufferSize: 1Ki}, json: {splitStream: true, infoBufferSize: 512}}
enableProfiling: true
showHiddenMetricsForVersion: '1.35'
iptables: {localhostNodePorts: false, syncPeriod: 10s, minSyncPeriod: 2s}
ipvs: {syncPeriod: 10s, minSyncPeriod: 2s, scheduler: rr, excludeCIDRs: [10.0.0.0/8], strictARP: true, tcpTimeout: 1s, tcpFinTimeout: 2s, udpTimeout: 3s}
nftables: {syncPeriod: 10s, minSyncPeriod: 2s}
winkernel: {networkName: a, sourceVip: 10.0.0.1, enableDSR: true, rootHnsEndpointName: b, forwardHealthCheckVip: true}
configSyncPeriod: 1m
portRange: 2-7
windowsRunAsService: true
";

fn load(tandem: bool, text: &str) -> Settings {
    let scratch = Scratch::new();
    if tandem {
        scratch.write(HEAD);
        scratch.write_tandem(text);
    } else {
        scratch.write(&format!("{HEAD}{text}\n"));
    }
    scratch
        .load(&[])
        .unwrap_or_else(|error| panic!("{text}: {error}"))
        .settings
}

#[test]
fn every_honoured_field_changes_the_settings_and_a_change_of_it_is_told_as_the_table_says() {
    let mut seen = BTreeSet::new();
    for (name, company, text) in HONOURED {
        let (of_tandem, path) = name.strip_prefix("tandem ").map_or((false, name), |path| (true, path));
        seen.insert((of_tandem, path));
        if matches!(path, "apiVersion" | "kind") {
            continue;
        }
        let company = match path {
            "detectLocal.bridgeInterface" => "detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: cni0}",
            "detectLocal.interfaceNamePrefix" => {
                "detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: veth}"
            }
            _ => company,
        };
        let before = load(of_tandem, company);
        // The fields that these two need are in the same section.
        let after = match path.split_once('.') {
            Some(("detectLocal", _)) => format!("{}\n{text}", company.lines().next().unwrap()),
            _ => format!("{company}{text}"),
        };
        let after = load(of_tandem, &after);
        let mut plain = after.clone();
        plain.effective = before.effective.clone();
        assert_ne!(plain, before, "{name} has no effect");

        let schema = if of_tandem {
            &tandem::SCHEMA
        } else {
            &kube_proxy::SCHEMA
        };
        let changes = Settings::changes(&before, &after);
        let Fate::Honoured(change) = schema.field(path).unwrap().fate else {
            panic!("{name} is not honoured");
        };
        let (told, kept) = match change {
            Change::Live => (&changes.live, before.clone()),
            Change::Restart => (&changes.needs_restart, after.clone()),
        };
        // The mode in effect is always nftables; what changes is the bit of the section that counts.
        let told_as = if path == "mode" { "nftables.masqueradeBit" } else { path };
        let is_told = told.iter().any(|line| line.starts_with(&format!("{told_as}: ")));
        assert!(is_told, "{name}: {changes:?}");
        // A change of a live field is taken over, and a change of any other field is not.
        let mut live = after.clone().live(&before);
        live.effective = kept.effective.clone();
        assert!(live != kept, "{name}: {change:?} is not what happens");
    }
    for (of_tandem, schema) in [(false, &kube_proxy::SCHEMA), (true, &tandem::SCHEMA)] {
        for field in schema
            .fields
            .iter()
            .filter(|field| matches!(field.fate, Fate::Honoured(_)))
        {
            let known = seen.contains(&(of_tandem, field.path)) || field.path == "kind";
            assert!(known, "{} is in no test", field.path);
        }
    }
}

#[test]
fn every_ignored_field_is_named_with_its_reason_where_it_says_something() {
    let (_, warnings) = settings(&format!("clusterCIDR: 10.0.0.0/8\nmode: nftables\n{IGNORED}"));
    let mut expected = 0;
    for field in kube_proxy::SCHEMA.fields {
        let Fate::Ignored(reason) = field.fate else { continue };
        // Gates alone change nothing, and the fields of a list's items are named by the list.
        if field.kind == FieldKind::Switches || field.path.starts_with("logging.vmodule.") {
            continue;
        }
        expected += 1;
        let found = warnings
            .iter()
            .any(|line| line.starts_with(&format!("FILE: {}: ", field.path)) && line.ends_with(reason));
        assert!(found, "{} is not named in {warnings:#?}", field.path);
    }
    assert_eq!(warnings.len(), expected, "{warnings:#?}");
}

#[test]
fn unknown_gates_are_named_and_known_ones_are_not() {
    let (_, warnings) = settings(
        "clusterCIDR: 10.0.0.0/8\nmode: nftables\nfeatureGates: {AllAlpha: false, NFTablesProxyMode: true, Zauber: true}\n",
    );
    assert_eq!(
        warnings,
        ["FILE: featureGates: \"Zauber\": no feature gate of Kubernetes 1.36: ignored"]
    );
}

#[test]
fn the_section_of_the_mode_counts_for_masquerading() {
    let of = |text: &str| settings(&format!("clusterCIDR: 10.0.0.0/8\n{text}")).0;
    assert_eq!(of("iptables: {masqueradeBit: 5}").masquerade_bit, 5);
    assert_eq!(of("mode: nftables\niptables: {masqueradeBit: 5}").masquerade_bit, 14);
    assert_eq!(
        of("iptables: {masqueradeBit: 5}\nnftables: {masqueradeBit: 6}").masquerade_bit,
        6
    );
    assert_eq!(
        of("mode: iptables\niptables: {masqueradeBit: 5}\nnftables: {masqueradeBit: 6}").masquerade_bit,
        5
    );
    assert!(of("iptables: {masqueradeAll: true}").masquerade_all);
    assert!(!of("mode: nftables\niptables: {masqueradeAll: true}").masquerade_all);
}

#[test]
fn addresses_that_will_not_be_served_are_warned_of() {
    for (text, warning) in [
        (
            "nodePortAddresses: [127.0.0.0/8, '::1/128']",
            "FILE: nodePortAddresses: \"127.0.0.0/8\": loopback addresses take no nodePort traffic, unless nodePortLoopback \
             of the TandemConfiguration is true",
        ),
        (
            "nodePortAddresses: [192.0.2.0/24]",
            "FILE: nodePortAddresses: no IPv6 range: all IPv6 addresses of the node take nodePort traffic, as in kube-proxy",
        ),
        (
            "mode: iptables",
            "FILE: nodePortAddresses: not set: nodePorts answer on the node's primary addresses, as in nftables mode; iptables \
             mode has them on all addresses, which is 0.0.0.0/0 and ::/0 here",
        ),
        (
            "bindAddress: 192.0.2.1",
            "FILE: bindAddress: \"192.0.2.1\": does not take the place of the Node object's addresses; its family decides the \
             defaults of healthzBindAddress and metricsBindAddress",
        ),
    ] {
        let warnings = settings(text).1;
        assert!(warnings.contains(&warning.to_owned()), "{text}: {warnings:#?}");
    }
}

#[test]
fn the_encodings_are_the_accepted_ones_and_else_that_of_the_content_type() {
    let both = "application/vnd.kubernetes.protobuf, application/json;q=0.9";
    for (text, header) in [
        ("", both),
        ("acceptContentTypes: '', contentType: ''", both),
        ("contentType: application/vnd.kubernetes.protobuf", both),
        ("contentType: application/json", "application/json"),
        (
            "acceptContentTypes: application/vnd.kubernetes.protobuf, contentType: application/json",
            "application/vnd.kubernetes.protobuf",
        ),
        (
            "acceptContentTypes: 'application/json,application/vnd.kubernetes.protobuf;q=0.5'",
            "application/json, application/vnd.kubernetes.protobuf;q=0.5",
        ),
    ] {
        let (settings, warnings) = settings(&format!(
            "clusterCIDR: 10.0.0.0/8\nmode: nftables\nclientConnection: {{{text}}}"
        ));
        assert_eq!(settings.ways.accept.header(), header, "{text}");
        assert_eq!(warnings, [""; 0], "{text}");
    }
}

#[test]
fn encodings_that_cannot_be_read_are_named_with_what_is_asked_for_instead() {
    let reads = "tandem reads application/vnd.kubernetes.protobuf and application/json";
    let instead = "it asks for protobuf, and takes JSON from servers that have no protobuf";
    for (text, warning, header) in [
        (
            "contentType: application/cbor",
            format!("FILE: clientConnection.contentType: \"application/cbor\": {reads}: {instead}"),
            "application/vnd.kubernetes.protobuf, application/json;q=0.9",
        ),
        (
            "acceptContentTypes: 'application/yaml, text/html'",
            format!("FILE: clientConnection.acceptContentTypes: \"application/yaml,text/html\": {reads}: {instead}"),
            "application/vnd.kubernetes.protobuf, application/json;q=0.9",
        ),
        (
            "acceptContentTypes: 'application/cbor,application/json', contentType: application/cbor",
            format!("FILE: clientConnection.acceptContentTypes: \"application/cbor\": {reads}: ignored"),
            "application/json",
        ),
    ] {
        let (settings, warnings) = settings(&format!(
            "clusterCIDR: 10.0.0.0/8\nmode: nftables\nclientConnection: {{{text}}}"
        ));
        assert_eq!(settings.ways.accept.header(), header, "{text}");
        assert_eq!(warnings, [warning], "{text}");
    }
}

#[test]
fn the_table_has_each_section_before_its_fields_and_no_field_twice() {
    for schema in SCHEMAS {
        let mut seen = BTreeSet::new();
        for field in schema.fields {
            if let Some((section, _)) = field.path.rsplit_once('.') {
                assert!(seen.contains(section), "{} before {section}", field.path);
            }
            assert!(seen.insert(field.path), "{} twice", field.path);
            assert!(!field.about.is_empty(), "{} is not described", field.path);
        }
    }
}

#[test]
fn every_flag_that_sets_a_field_sets_one_that_exists() {
    for flag in FLAGS {
        let (schema, path) = match flag.sets {
            Sets::KubeProxy(path) | Sets::Always(path) => (&kube_proxy::SCHEMA, path),
            Sets::Tandem(path) => (&tandem::SCHEMA, path),
            Sets::Itself | Sets::Own | Sets::Nothing(_) | Sets::Dropped(_) => continue,
        };
        assert!(schema.field(path).is_some(), "--{} sets {path}", flag.name);
    }
    let known: Value = json!(FLAGS.iter().map(|flag| flag.name).collect::<BTreeSet<_>>());
    assert_eq!(known.as_array().unwrap().len(), FLAGS.len(), "a flag twice");
}
