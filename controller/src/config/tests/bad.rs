//! Wrong values for every field. Each is refused by a line that names file, field and value, and nothing panics.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::*;
use crate::config::document::put;
use crate::config::schema::{kube_proxy, tandem, words};

/// Values that a field of this kind cannot have.
fn misfits(kind: FieldKind) -> Vec<Value> {
    let huge_text = "x".repeat(100_000);
    let mut misfits = match kind {
        FieldKind::Boolean => vec![json!("true"), json!(1)],
        FieldKind::Integer => vec![
            json!("7"),
            json!(1.5),
            json!(2_147_483_648_i64),
            json!(-2_147_483_649_i64),
            json!(1e300),
        ],
        FieldKind::Unsigned => vec![json!("7"), json!(-1), json!(4_294_967_296_i64), json!(u64::MAX)],
        FieldKind::Number => vec![json!("7"), json!(1e300), json!(-1e39)],
        FieldKind::Text => vec![json!(7), json!(true), json!(u64::MAX)],
        FieldKind::Duration => vec![
            json!(30),
            json!("soon"),
            json!("-1s"),
            json!("30"),
            json!("9".repeat(30) + "h"),
            json!(huge_text),
        ],
        FieldKind::DurationOrNanoseconds => vec![json!("soon"), json!(-1), json!(1.5), json!("-1s")],
        FieldKind::Quantity => vec![json!("much"), json!(-1), json!("9".repeat(40)), json!("1Zi")],
        FieldKind::Texts => vec![json!("10.0.0.0/8"), json!({"a": 1}), json!(7), json!(vec![7; 10_000])],
        FieldKind::Switches => vec![json!("a"), json!(["a"]), json!({"WatchList": "yes"})],
        FieldKind::Section => vec![json!("a"), json!(7), json!([1])],
        FieldKind::Sections => vec![json!("a"), json!({"filePattern": "a"}), json!([7])],
    };
    // A list or section is wrong for every kind that takes one value.
    if !matches!(
        kind,
        FieldKind::Texts | FieldKind::Switches | FieldKind::Section | FieldKind::Sections
    ) {
        misfits.extend([json!(["a"]), json!({"a": "b"})]);
    }
    misfits
}

/// The innermost value, which the line is about.
fn innermost(value: &Value) -> &Value {
    match value {
        Value::Array(list) => list.first().map_or(value, innermost),
        _ => value,
    }
}

#[test]
fn a_value_of_the_wrong_type_or_size_is_refused_in_every_field_by_name() {
    let mut tried = 0;
    for (schema, name) in [(&kube_proxy::SCHEMA, "FILE"), (&tandem::SCHEMA, "FOLDER/tandem.conf")] {
        for field in schema
            .fields
            .iter()
            .filter(|field| !matches!(field.path, "apiVersion" | "kind"))
        {
            for misfit in misfits(field.kind) {
                let mut value = json!({"apiVersion": schema.version, "kind": schema.kind});
                match field.path.strip_prefix("logging.vmodule.") {
                    Some(inner) => put(&mut value, "logging.vmodule", json!([{ inner: misfit.clone() }])),
                    None => put(&mut value, field.path, misfit.clone()),
                }
                let scratch = Scratch::new();
                if name == "FILE" {
                    scratch.write(&value.to_string());
                } else {
                    scratch.write(HEAD);
                    std::fs::write(scratch.0.join("tandem.conf"), value.to_string()).unwrap();
                }
                let error = scratch
                    .load(&[])
                    .map(|_| ())
                    .expect_err(&format!("{}: {misfit}", field.path));
                let place = field.path.replace("vmodule.", "vmodule[0].");
                assert!(
                    error.starts_with(&format!("{name}: {place}")),
                    "{}: {error}",
                    field.path
                );
                let plain = innermost(&misfit);
                let named = [plain, &misfit]
                    .iter()
                    .any(|value| value.is_object() || error.contains(&format!("{:?}: ", words(value))));
                let missing = error.contains("no such field");
                assert!(named || missing, "{}: {} in {error}", field.path, words(plain));
                assert!(error.len() < 600, "{} is shortened: {error}", field.path);
                tried += 1;
            }
        }
    }
    assert!(tried > 400, "{tried}");
}

#[test]
fn every_field_may_be_missing_or_null() {
    for field in kube_proxy::SCHEMA
        .fields
        .iter()
        .filter(|field| !matches!(field.path, "apiVersion" | "kind"))
    {
        if field.path.starts_with("logging.vmodule.") {
            continue;
        }
        let mut value = json!({"apiVersion": kube_proxy::SCHEMA.version, "kind": kube_proxy::SCHEMA.kind});
        put(&mut value, field.path, Value::Null);
        let scratch = Scratch::new();
        scratch.write(&value.to_string());
        let loaded = scratch
            .load(&[])
            .unwrap_or_else(|error| panic!("{}: {error}", field.path));
        scratch.write(HEAD);
        assert_eq!(loaded.settings, scratch.load(&[]).unwrap().settings, "{}", field.path);
    }
}

/// Files, and the message for each.
const MEANINGLESS: &[(&str, &str)] = &[
    // Out of range.
    (
        "nftables: {masqueradeBit: 32}",
        r#"FILE: nftables.masqueradeBit: "32": not a bit of a packet mark (0-31)"#,
    ),
    (
        "iptables: {masqueradeBit: -1}",
        r#"FILE: iptables.masqueradeBit: "-1": not a bit of a packet mark (0-31)"#,
    ),
    (
        "oomScoreAdj: 1001",
        r#"FILE: oomScoreAdj: "1001": not between -1000 and 1000"#,
    ),
    (
        "oomScoreAdj: -1001",
        r#"FILE: oomScoreAdj: "-1001": not between -1000 and 1000"#,
    ),
    (
        "conntrack: {maxPerCore: -1}",
        r#"FILE: conntrack.maxPerCore: "-1": must be 0 or more"#,
    ),
    (
        "conntrack: {min: -1}",
        r#"FILE: conntrack.min: "-1": must be 0 or more"#,
    ),
    (
        "conntrack: {udpTimeout: 700000h}",
        r#"FILE: conntrack.udpTimeout: "700000h0m0s": longer than the kernel can wait (68 years)"#,
    ),
    (
        "clientConnection: {burst: -1}",
        r#"FILE: clientConnection.burst: "-1": must be 0 or more"#,
    ),
    (
        "logging: {verbosity: 4294967295}",
        r#"FILE: logging.verbosity: "4294967295": more than 2147483647"#,
    ),
    (
        "logging: {vmodule: [{filePattern: a, verbosity: 4294967295}]}",
        r#"FILE: logging.vmodule: "4294967295": verbosity more than 2147483647"#,
    ),
    (
        "healthzBindAddress: 0.0.0.0:0",
        r#"FILE: healthzBindAddress: "0.0.0.0:0": port 0 is no port to be found at"#,
    ),
    (
        "healthzBindAddress: 0.0.0.0:65536",
        r#"FILE: healthzBindAddress: "0.0.0.0:65536": not an address, or address and port, like 0.0.0.0:10256 or [::]:10256"#,
    ),
    (
        "metricsBindAddress: ':10249'",
        r#"FILE: metricsBindAddress: ":10249": not an address, or address and port, like 0.0.0.0:10256 or [::]:10256"#,
    ),
    (
        "bindAddress: node-1",
        r#"FILE: bindAddress: "node-1": not an IP address"#,
    ),
    (
        "hostnameOverride: a/b",
        r#"FILE: hostnameOverride: "a/b": not a name that a Node can have"#,
    ),
    (
        "hostnameOverride: '  '",
        r#"FILE: hostnameOverride: "  ": nothing but blanks"#,
    ),
    (
        "mode: kernelspace",
        r#"FILE: mode: "kernelspace": not a mode that works here (nftables; iptables and ipvs mean it too)"#,
    ),
    (
        "detectLocalMode: Magic",
        r#"FILE: detectLocalMode: "Magic": not a mode (ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix)"#,
    ),
    (
        "clusterCIDR: 10.0.0.0/8,x",
        r#"FILE: clusterCIDR: "x": not a range in CIDR notation"#,
    ),
    (
        "nodePortAddresses: [eth0]",
        r#"FILE: nodePortAddresses: "eth0": not a range in CIDR notation"#,
    ),
    (
        "nodePortAddresses: [10.0.0.0/33]",
        r#"FILE: nodePortAddresses: "10.0.0.0/33": not a range in CIDR notation"#,
    ),
    ("nodePortAddresses: ['']", r#"FILE: nodePortAddresses: "": empty entry"#),
    (
        "ipvs: {excludeCIDRs: [10.0.0.1]}",
        r#"FILE: ipvs.excludeCIDRs: "10.0.0.1": not a range in CIDR notation"#,
    ),
    (
        "logging: {format: xml}",
        r#"FILE: logging.format: "xml": not a format (text, json)"#,
    ),
    (
        "logging: {vmodule: [{filePattern: 'a=b', verbosity: 1}]}",
        r#"FILE: logging.vmodule: "a=b": filePattern must be there, without = and ,"#,
    ),
    (
        "showHiddenMetricsForVersion: newest",
        r#"FILE: showHiddenMetricsForVersion: "newest": not a version like 1.35"#,
    ),
    // Contradictory.
    (
        "nodePortAddresses: [primary, 10.0.0.0/8]",
        r#"FILE: nodePortAddresses: "primary,10.0.0.0/8": primary must be the only entry"#,
    ),
    (
        "mode: nftables\nnftables: {syncPeriod: 1s, minSyncPeriod: 2s}",
        r#"FILE: nftables.syncPeriod: "1s": shorter than nftables.minSyncPeriod, 2s"#,
    ),
    (
        "mode: iptables\niptables: {minSyncPeriod: 1m}",
        r#"FILE: iptables.syncPeriod: "30s": shorter than iptables.minSyncPeriod, 1m0s"#,
    ),
    (
        "detectLocalMode: BridgeInterface",
        r#"FILE: detectLocal.bridgeInterface: "": detectLocalMode: BridgeInterface needs the name of an interface here"#,
    ),
    (
        "detectLocalMode: InterfaceNamePrefix\ndetectLocal: {bridgeInterface: cni0}",
        r#"FILE: detectLocal.interfaceNamePrefix: "": detectLocalMode: InterfaceNamePrefix needs the name of an interface here"#,
    ),
    (
        "detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: a-name-too-long-for-linux}",
        r#"FILE: detectLocal.bridgeInterface: "a-name-too-long-for-linux": not the name of a network interface: 1 to 15 characters, no /, no blanks"#,
    ),
    // Names.
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
    (
        "logging: {vmodule: [{filePatern: a}]}",
        "FILE: logging.vmodule[0].filePatern: no such field; did you mean filePattern?",
    ),
];

#[test]
fn a_value_that_means_nothing_is_refused_by_name() {
    let long = "a".repeat(300);
    for (text, problem) in MEANINGLESS {
        assert_eq!(load(text).map(|_| ()).unwrap_err(), *problem, "{text}");
    }
    let error = load(&format!("hostnameOverride: {long}")).map(|_| ()).unwrap_err();
    assert!(
        error.starts_with("FILE: hostnameOverride: \"aaa") && error.len() < 200,
        "{error}"
    );
}

#[test]
fn what_is_wrong_in_tandems_own_file_is_named_too() {
    for (text, problem) in [
        (
            "nodeportLoopback: true",
            "FOLDER/tandem.conf: nodeportLoopback: no such field; did you mean nodePortLoopback?",
        ),
        (
            "log: {format: xml}",
            r#"FOLDER/tandem.conf: log.format: "xml": not a format (text, json)"#,
        ),
        (
            "apiServer: {lists: pages}",
            r#"FOLDER/tandem.conf: apiServer.lists: "pages": not a way to list objects (Stream, Cache, Pages)"#,
        ),
        (
            "dataPlane: ebpf",
            r#"FOLDER/tandem.conf: dataPlane: "ebpf": not a data plane (nft, xdp)"#,
        ),
        (
            "dataPlane: true",
            r#"FOLDER/tandem.conf: dataPlane: "true": not a text (a number or true needs quotes)"#,
        ),
        (
            "socketLoadBalancing: pods",
            r#"FOLDER/tandem.conf: socketLoadBalancing: "pods": must be all, node or off"#,
        ),
        (
            "xdp: {pick: Maglev}",
            r#"FOLDER/tandem.conf: xdp.pick: "Maglev": must be random or maglev"#,
        ),
        (
            "nodeCgroup: sys/fs/cgroup",
            r#"FOLDER/tandem.conf: nodeCgroup: "sys/fs/cgroup": not an absolute path of a folder"#,
        ),
        (
            "podCgroup: /sys/fs/cgroup/kubepods",
            r#"FOLDER/tandem.conf: podCgroup: "/sys/fs/cgroup/kubepods": must be below the topmost cgroup folder, as /kubepods"#,
        ),
        (
            "podCgroup: ../kubepods",
            r#"FOLDER/tandem.conf: podCgroup: "../kubepods": not a folder below the topmost cgroup folder, as /kubepods"#,
        ),
        (
            "podCgroup: /",
            r#"FOLDER/tandem.conf: podCgroup: "/": not a folder below the topmost cgroup folder, as /kubepods"#,
        ),
        (
            "bpfFolder: bpf/tandem",
            r#"FOLDER/tandem.conf: bpfFolder: "bpf/tandem": not an absolute path of a folder"#,
        ),
        (
            "bpfFolder: /",
            r#"FOLDER/tandem.conf: bpfFolder: "/": not an absolute path of a folder"#,
        ),
        (
            "bpfFolder: /sys/fs/bpf/tandem.1",
            r#"FOLDER/tandem.conf: bpfFolder: "/sys/fs/bpf/tandem.1": a BPF file system has no names with dots"#,
        ),
        (
            "mode: nftables",
            "FOLDER/tandem.conf: mode: no such field in tandem.config/v1alpha1",
        ),
    ] {
        let scratch = Scratch::new();
        scratch.write(HEAD);
        scratch.write_tandem(text);
        assert_eq!(scratch.load(&[]).map(|_| ()).unwrap_err(), problem);
    }
    let scratch = Scratch::new();
    scratch.write(HEAD);
    scratch.write_tandem("log: {level: 'a=b=c'}");
    let error = scratch.load(&[]).map(|_| ()).unwrap_err();
    assert!(
        error.starts_with(r#"FOLDER/tandem.conf: log.level: "a=b=c": not a level"#),
        "{error}"
    );
}

#[test]
fn what_is_wrong_about_devices_is_named_with_the_field_and_the_value() {
    for (text, problem) in [
        (
            "xdp: {devices: [eth0, eth0/1]}",
            r#"FOLDER/tandem.conf: xdp.devices: "eth0/1": no name of a device has a / in it"#,
        ),
        (
            "xdp: {devices: eth0}",
            r#"FOLDER/tandem.conf: xdp.devices: "eth0": not a list of texts"#,
        ),
        (
            "xdp: {mode: fast}",
            r#"FOLDER/tandem.conf: xdp.mode: "fast": must be native or generic"#,
        ),
        (
            "xdp: {maxFlows: 100}",
            r#"FOLDER/tandem.conf: xdp.maxFlows: "100": must be between 16384 and 8388608"#,
        ),
        (
            "xdp: {maxFlows: 8388609}",
            r#"FOLDER/tandem.conf: xdp.maxFlows: "8388609": must be between 16384 and 8388608"#,
        ),
    ] {
        let scratch = Scratch::new();
        scratch.write(HEAD);
        scratch.write_tandem(text);
        assert_eq!(scratch.load(&[]).map(|_| ()).unwrap_err(), problem);
    }
}

#[test]
fn one_family_alone_is_no_mistake_and_the_other_is_left_as_it_is() {
    // Each of these is about one family, on a node that may have both families or the other one.
    for text in [
        "clusterCIDR: fd00::/48",
        "clusterCIDR: 10.0.0.0/8",
        "nodePortAddresses: [2001:db8::/64]",
        "bindAddress: '::1'\nhealthzBindAddress: 0.0.0.0:1\nmetricsBindAddress: '[::1]:1'",
        "bindAddress: 10.0.0.1\nhealthzBindAddress: '[::]:1'",
        "winkernel: {sourceVip: 'fd00::1'}\nipvs: {excludeCIDRs: ['fd00::/64']}",
    ] {
        load(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
}

#[test]
fn another_kind_of_file_is_refused() {
    let load = |text: &str| {
        let scratch = Scratch::new();
        scratch.write(text);
        scratch.load(&[]).map(|_| ()).unwrap_err()
    };
    assert_eq!(
        load("a: 1"),
        "FILE: apiVersion: missing, must be kubeproxy.config.k8s.io/v1alpha1"
    );
    assert_eq!(
        load(""),
        "FILE: apiVersion: missing, must be kubeproxy.config.k8s.io/v1alpha1"
    );
    assert_eq!(
        load("- a"),
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
    assert_eq!(
        load(&format!("{HEAD}mode: a\nmode: b\n")),
        "FILE: the key mode is there twice at line 4, column 1"
    );
    // Every alias has ten times the one before.
    let mut bomb = format!("{HEAD}a0: &a0 [x, x]\n");
    for n in 1..12 {
        let _ = writeln!(bomb, "a{n}: &a{n} [{}]", vec![format!("*a{}", n - 1); 10].join(", "));
    }
    assert!(load(&bomb).starts_with("FILE: "));
    let missing = Sources {
        config: Some("/does/not/exist".into()),
        ..Sources::default()
    };
    let error = missing.load().map(|_| ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "configuration file /does/not/exist: No such file or directory (os error 2)"
    );
}
