//! The configuration that each release of kubeadm wrote to the ConfigMap kube-proxy. The ConfigMap stays as it is for
//! as long as the cluster lives. It has all fields that the release had: with their defaults until 1.17, and empty
//! since.

use super::*;

/// Releases, with the fields that differ from all others, and the fields that are not read.
const RELEASES: [(&str, &str, &[&str]); 12] = [
    (
        "1.9",
        "featureGates: ''
clientConnection: {acceptContentTypes: '', burst: 10, contentType: application/vnd.kubernetes.protobuf, kubeconfig: /k, qps: 5}
configSyncPeriod: 15m0s
conntrack: {max: null, maxPerCore: 32768, min: 131072, tcpCloseWaitTimeout: 1h0m0s, tcpEstablishedTimeout: 24h0m0s}
healthzBindAddress: 0.0.0.0:10256
iptables: {masqueradeAll: false, masqueradeBit: 14, minSyncPeriod: 0s, syncPeriod: 30s}
ipvs: {minSyncPeriod: 0s, scheduler: '', syncPeriod: 30s}
metricsBindAddress: 127.0.0.1:10249
oomScoreAdj: -999
resourceContainer: /kube-proxy
udpTimeoutMilliseconds: 250ms
",
        &["featureGates", "resourceContainer", "udpTimeoutMilliseconds"],
    ),
    (
        "1.10",
        "featureGates: {SupportIPVSProxyMode: true}
clientConnection: {acceptContentTypes: '', burst: 10, contentType: application/vnd.kubernetes.protobuf, kubeconfig: /k, qps: 5}
configSyncPeriod: 15m0s
conntrack: {max: null, maxPerCore: 32768, min: 131072, tcpCloseWaitTimeout: 1h0m0s, tcpEstablishedTimeout: 24h0m0s}
healthzBindAddress: 0.0.0.0:10256
iptables: {masqueradeAll: false, masqueradeBit: 14, minSyncPeriod: 0s, syncPeriod: 30s}
ipvs: {minSyncPeriod: 0s, scheduler: '', syncPeriod: 30s}
metricsBindAddress: 127.0.0.1:10249
nodePortAddresses: null
oomScoreAdj: -999
resourceContainer: /kube-proxy
udpIdleTimeout: 250ms
",
        &["featureGates", "resourceContainer", "udpIdleTimeout"],
    ),
    (
        "1.11 to 1.13",
        "clientConnection: {acceptContentTypes: '', burst: 10, contentType: application/vnd.kubernetes.protobuf, kubeconfig: /k, qps: 5}
configSyncPeriod: 15m0s
conntrack: {max: null, maxPerCore: 32768, min: 131072, tcpCloseWaitTimeout: 1h0m0s, tcpEstablishedTimeout: 24h0m0s}
healthzBindAddress: 0.0.0.0:10256
iptables: {masqueradeAll: false, masqueradeBit: 14, minSyncPeriod: 0s, syncPeriod: 30s}
ipvs: {excludeCIDRs: null, minSyncPeriod: 0s, scheduler: '', syncPeriod: 30s}
metricsBindAddress: 127.0.0.1:10249
nodePortAddresses: null
oomScoreAdj: -999
resourceContainer: /kube-proxy
udpIdleTimeout: 250ms
",
        &["resourceContainer", "udpIdleTimeout"],
    ),
    (
        "1.14",
        "clientConnection: {acceptContentTypes: '', burst: 10, contentType: application/vnd.kubernetes.protobuf, kubeconfig: /k, qps: 5}
configSyncPeriod: 15m0s
conntrack: {max: null, maxPerCore: 32768, min: 131072, tcpCloseWaitTimeout: 1h0m0s, tcpEstablishedTimeout: 24h0m0s}
healthzBindAddress: 0.0.0.0:10256
iptables: {masqueradeAll: false, masqueradeBit: 14, minSyncPeriod: 0s, syncPeriod: 30s}
ipvs: {excludeCIDRs: null, minSyncPeriod: 0s, scheduler: '', syncPeriod: 30s}
metricsBindAddress: 127.0.0.1:10249
nodePortAddresses: null
oomScoreAdj: -999
resourceContainer: /kube-proxy
udpIdleTimeout: 250ms
winkernel: {enableDSR: false, networkName: '', sourceVip: ''}
",
        &["resourceContainer", "udpIdleTimeout"],
    ),
    (
        "1.15",
        "clientConnection: {acceptContentTypes: '', burst: 10, contentType: application/vnd.kubernetes.protobuf, kubeconfig: /k, qps: 5}
configSyncPeriod: 15m0s
conntrack: {maxPerCore: 32768, min: 131072, tcpCloseWaitTimeout: 1h0m0s, tcpEstablishedTimeout: 24h0m0s}
healthzBindAddress: 0.0.0.0:10256
iptables: {masqueradeAll: false, masqueradeBit: 14, minSyncPeriod: 0s, syncPeriod: 30s}
ipvs: {excludeCIDRs: null, minSyncPeriod: 0s, scheduler: '', strictARP: false, syncPeriod: 30s}
metricsBindAddress: 127.0.0.1:10249
nodePortAddresses: null
oomScoreAdj: -999
resourceContainer: /kube-proxy
udpIdleTimeout: 250ms
winkernel: {enableDSR: false, networkName: '', sourceVip: ''}
",
        &["resourceContainer", "udpIdleTimeout"],
    ),
    (
        "1.16 and 1.17",
        "clientConnection: {acceptContentTypes: '', burst: 10, contentType: application/vnd.kubernetes.protobuf, kubeconfig: /k, qps: 5}
configSyncPeriod: 15m0s
conntrack: {maxPerCore: 32768, min: 131072, tcpCloseWaitTimeout: 1h0m0s, tcpEstablishedTimeout: 24h0m0s}
healthzBindAddress: 0.0.0.0:10256
iptables: {masqueradeAll: false, masqueradeBit: 14, minSyncPeriod: 0s, syncPeriod: 30s}
ipvs: {excludeCIDRs: null, minSyncPeriod: 0s, scheduler: '', strictARP: false, syncPeriod: 30s}
metricsBindAddress: 127.0.0.1:10249
nodePortAddresses: null
oomScoreAdj: -999
udpIdleTimeout: 250ms
winkernel: {enableDSR: false, networkName: '', sourceVip: ''}
",
        &["udpIdleTimeout"],
    ),
    (
        "1.18",
        "clientConnection: {acceptContentTypes: '', burst: 0, contentType: '', kubeconfig: /k, qps: 0}
configSyncPeriod: 0s
conntrack: {maxPerCore: null, min: null, tcpCloseWaitTimeout: null, tcpEstablishedTimeout: null}
detectLocalMode: ''
healthzBindAddress: ''
iptables: {masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
ipvs: {excludeCIDRs: null, minSyncPeriod: 0s, scheduler: '', strictARP: false, syncPeriod: 0s, tcpFinTimeout: 0s, tcpTimeout: 0s, udpTimeout: 0s}
metricsBindAddress: ''
nodePortAddresses: null
oomScoreAdj: null
showHiddenMetricsForVersion: ''
udpIdleTimeout: 0s
winkernel: {enableDSR: false, networkName: '', sourceVip: ''}
",
        &["udpIdleTimeout"],
    ),
    (
        "1.19 to 1.23",
        "bindAddressHardFail: false
clientConnection: {acceptContentTypes: '', burst: 0, contentType: '', kubeconfig: /k, qps: 0}
configSyncPeriod: 0s
conntrack: {maxPerCore: null, min: null, tcpCloseWaitTimeout: null, tcpEstablishedTimeout: null}
detectLocalMode: ''
healthzBindAddress: ''
iptables: {masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
ipvs: {excludeCIDRs: null, minSyncPeriod: 0s, scheduler: '', strictARP: false, syncPeriod: 0s, tcpFinTimeout: 0s, tcpTimeout: 0s, udpTimeout: 0s}
metricsBindAddress: ''
nodePortAddresses: null
oomScoreAdj: null
showHiddenMetricsForVersion: ''
udpIdleTimeout: 0s
winkernel: {enableDSR: false, networkName: '', sourceVip: ''}
",
        &["udpIdleTimeout"],
    ),
    (
        "1.24 and 1.25",
        "bindAddressHardFail: false
clientConnection: {acceptContentTypes: '', burst: 0, contentType: '', kubeconfig: /k, qps: 0}
configSyncPeriod: 0s
conntrack: {maxPerCore: null, min: null, tcpCloseWaitTimeout: null, tcpEstablishedTimeout: null}
detectLocal: {bridgeInterface: '', interfaceNamePrefix: ''}
detectLocalMode: ''
healthzBindAddress: ''
iptables: {masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
ipvs: {excludeCIDRs: null, minSyncPeriod: 0s, scheduler: '', strictARP: false, syncPeriod: 0s, tcpFinTimeout: 0s, tcpTimeout: 0s, udpTimeout: 0s}
metricsBindAddress: ''
nodePortAddresses: null
oomScoreAdj: null
showHiddenMetricsForVersion: ''
udpIdleTimeout: 0s
winkernel: {enableDSR: false, forwardHealthCheckVip: false, networkName: '', rootHnsEndpointName: '', sourceVip: ''}
",
        &["udpIdleTimeout"],
    ),
    (
        "1.26 and 1.27",
        "bindAddressHardFail: false
clientConnection: {acceptContentTypes: '', burst: 0, contentType: '', kubeconfig: /k, qps: 0}
configSyncPeriod: 0s
conntrack: {maxPerCore: null, min: null, tcpCloseWaitTimeout: null, tcpEstablishedTimeout: null}
detectLocal: {bridgeInterface: '', interfaceNamePrefix: ''}
detectLocalMode: ''
healthzBindAddress: ''
iptables: {localhostNodePorts: null, masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
ipvs: {excludeCIDRs: null, minSyncPeriod: 0s, scheduler: '', strictARP: false, syncPeriod: 0s, tcpFinTimeout: 0s, tcpTimeout: 0s, udpTimeout: 0s}
metricsBindAddress: ''
nodePortAddresses: null
oomScoreAdj: null
showHiddenMetricsForVersion: ''
winkernel: {enableDSR: false, forwardHealthCheckVip: false, networkName: '', rootHnsEndpointName: '', sourceVip: ''}
",
        &[],
    ),
    (
        "1.28",
        "bindAddressHardFail: false
clientConnection: {acceptContentTypes: '', burst: 0, contentType: '', kubeconfig: /k, qps: 0}
configSyncPeriod: 0s
conntrack: {maxPerCore: null, min: null, tcpCloseWaitTimeout: null, tcpEstablishedTimeout: null}
detectLocal: {bridgeInterface: '', interfaceNamePrefix: ''}
detectLocalMode: ''
healthzBindAddress: ''
iptables: {localhostNodePorts: null, masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
ipvs: {excludeCIDRs: null, minSyncPeriod: 0s, scheduler: '', strictARP: false, syncPeriod: 0s, tcpFinTimeout: 0s, tcpTimeout: 0s, udpTimeout: 0s}
logging: {flushFrequency: 0, options: {json: {infoBufferSize: '0'}}, verbosity: 0}
metricsBindAddress: ''
nodePortAddresses: null
oomScoreAdj: null
showHiddenMetricsForVersion: ''
winkernel: {enableDSR: false, forwardHealthCheckVip: false, networkName: '', rootHnsEndpointName: '', sourceVip: ''}
",
        &[],
    ),
    (
        "1.29 to 1.36",
        "bindAddressHardFail: false
clientConnection: {acceptContentTypes: '', burst: 0, contentType: '', kubeconfig: /k, qps: 0}
configSyncPeriod: 0s
conntrack: {maxPerCore: null, min: null, tcpBeLiberal: false, tcpCloseWaitTimeout: null, tcpEstablishedTimeout: null, udpStreamTimeout: 0s, udpTimeout: 0s}
detectLocal: {bridgeInterface: '', interfaceNamePrefix: ''}
detectLocalMode: ''
healthzBindAddress: ''
iptables: {localhostNodePorts: null, masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
ipvs: {excludeCIDRs: null, minSyncPeriod: 0s, scheduler: '', strictARP: false, syncPeriod: 0s, tcpFinTimeout: 0s, tcpTimeout: 0s, udpTimeout: 0s}
logging: {flushFrequency: 0, options: {json: {infoBufferSize: '0'}, text: {infoBufferSize: '0'}}, verbosity: 0}
metricsBindAddress: ''
nftables: {masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
nodePortAddresses: null
oomScoreAdj: null
showHiddenMetricsForVersion: ''
winkernel: {enableDSR: false, forwardHealthCheckVip: false, networkName: '', rootHnsEndpointName: '', sourceVip: ''}
",
        &[],
    ),
];

/// The fields that all of them have.
const ALL: &str = "bindAddress: 0.0.0.0\nclusterCIDR: 10.244.0.0/16\nenableProfiling: false\nhostnameOverride: ''\n\
                   mode: ''\nportRange: ''\n";

#[test]
fn the_config_map_of_every_kubeadm_since_1_9_is_read_and_means_what_the_newest_means() {
    let newest = settings(&format!("{ALL}{}", RELEASES[RELEASES.len() - 1].1)).0;
    for (release, text, unused) in RELEASES {
        let loaded = load(&format!("{ALL}{text}")).unwrap_or_else(|error| panic!("{release}: {error}"));
        let mut settings = loaded.settings;
        settings.effective = newest.effective.clone();
        assert_eq!(settings, newest, "{release}");
        // Without a mode, the nodePorts of iptables mode are meant. Every release gets this warning.
        let mut warnings = loaded.warnings;
        warnings.retain(|line| !line.starts_with("FILE: nodePortAddresses: not set"));
        for field in unused {
            let place = format!("FILE: {field}: ");
            assert!(
                warnings.iter().any(|line| line.starts_with(&place)),
                "{release}: {field} in {warnings:#?}"
            );
            warnings.retain(|line| !line.starts_with(&place));
        }
        assert_eq!(warnings, Vec::<String>::new(), "{release}");
    }
}

#[test]
fn what_kube_proxy_dropped_is_named_with_the_release_and_changes_nothing() {
    let plain = settings("mode: nftables\nclusterCIDR: 10.0.0.0/8\n").0;
    let mut tried = 0;
    for schema in SCHEMAS {
        for field in schema.unused {
            // The value may be of any type, because nobody reads it.
            for value in ["250ms", "7", "{a: {b: [c]}}", "[1]", "true", "''"] {
                let text = match field.path.split_once('.') {
                    Some((section, name)) => format!("{section}: {{{name}: {value}}}\n"),
                    None => format!("{}: {value}\n", field.path),
                };
                let scratch = Scratch::new();
                let of_tandem = schema.kind == "TandemConfiguration";
                let ours = if of_tandem { "" } else { &text };
                scratch.write(&format!("{HEAD}mode: nftables\nclusterCIDR: 10.0.0.0/8\n{ours}"));
                if of_tandem {
                    scratch.write_tandem(&text);
                }
                let loaded = scratch.load(&[]).unwrap_or_else(|error| panic!("{text}: {error}"));
                assert_eq!(loaded.settings, plain, "{text}");
                let file = if of_tandem { "FOLDER/tandem.conf" } else { "FILE" };
                let words = match field.why {
                    Why::Dropped(release) => format!("Kubernetes {release} dropped it, so it has no effect"),
                    Why::Foreign => "ignored: it has no effect".to_owned(),
                };
                let [warning] = &loaded.warnings[..] else {
                    panic!("{text}: {:#?}", loaded.warnings);
                };
                let start = format!("{file}: {}: ", field.path);
                assert!(warning.starts_with(&start) && warning.contains(&words), "{warning}");
                tried += 1;
            }
            let explained = explain(field.path, false).unwrap();
            let explained = explained.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(explained.contains(&field.reason()), "{explained}");
            assert!(schema.field(field.path).is_none(), "{} is read", field.path);
        }
    }
    assert!(tried >= 36, "{tried}");
    // Null means that the field is not set.
    let (_, warnings) = settings("mode: nftables\nclusterCIDR: 10.0.0.0/8\nconntrack: {max: null}\nmetadata: null\n");
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(
        settings("mode: nftables\nclusterCIDR: 10.0.0.0/8\nudpIdleTimeout: 250ms\n").1,
        [
            "FILE: udpIdleTimeout: \"250ms\": ignored: Kubernetes 1.26 dropped it, so it has no effect: it was the timeout of \
             UDP flows in userspace mode; conntrack.udpTimeout and conntrack.udpStreamTimeout are those of today"
        ]
    );
}

#[test]
fn a_name_for_kustomize_and_what_kubectl_writes_beside_it_is_no_mistake() {
    let metadata = "metadata:
  name: config
  namespace: kube-system
  creationTimestamp: null
  annotations:
    kubectl.kubernetes.io/last-applied-configuration: |
      {\"apiVersion\":\"kubeproxy.config.k8s.io/v1alpha1\",\"kind\":\"KubeProxyConfiguration\",\"nonsense\":1}
";
    let scratch = Scratch::new();
    scratch.write(&format!("{HEAD}mode: nftables\nclusterCIDR: 10.0.0.0/8\n{metadata}"));
    scratch.write_tandem(metadata);
    let ignored = "metadata: ignored: it has no effect: kube-proxy does not read it either; it may stay for tools that want a \
                   name, such as Kustomize";
    assert_eq!(
        scratch.load(&[]).unwrap().warnings,
        [format!("FILE: {ignored}"), format!("FOLDER/tandem.conf: {ignored}")]
    );
}

#[test]
fn beside_them_a_misspelt_field_is_still_a_mistake() {
    for (text, problem) in [
        ("udpIdleTimout: 250ms", "FILE: udpIdleTimout: no such field"),
        ("conntrack: {maximum: 1}", "FILE: conntrack.maximum: no such field"),
        ("max: 1", "FILE: max: no such field"),
        ("iptables: {metadata: {}}", "FILE: iptables.metadata: no such field"),
        ("metaData: {}", "FILE: metaData: no such field"),
        ("ipvs: {masqueradeAll: true}", "FILE: ipvs.masqueradeAll: no such field"),
    ] {
        let error = load(text).map(|_| ()).unwrap_err();
        assert!(error.starts_with(problem), "{error}");
    }
}

#[test]
fn gates_may_be_a_text_as_they_were_in_1_9() {
    let head = "mode: nftables\nclusterCIDR: 10.0.0.0/8\n";
    let (gates, warnings) = settings(&format!("{head}featureGates: 'WatchList=true, Zauber=false'\n"));
    assert_eq!(
        gates.kube_proxy_configuration()["featureGates"],
        serde_json::json!({"WatchList": true, "Zauber": false})
    );
    assert_eq!(
        warnings,
        [
            "FILE: featureGates: \"WatchList=true, Zauber=false\": a text until Kubernetes 1.9, names with true or false since",
            "FILE: featureGates: \"Zauber\": no feature gate of Kubernetes 1.36: ignored"
        ]
    );
    let error = load("featureGates: WatchList").map(|_| ()).unwrap_err();
    assert_eq!(
        error,
        "FILE: featureGates: \"WatchList\": not names with true or false, like A=true,B=false"
    );
}

#[test]
fn the_first_of_several_documents_counts_as_in_kube_proxy() {
    let scratch = Scratch::new();
    let head = format!("{HEAD}mode: nftables\nclusterCIDR: 10.0.0.0/8\n");
    for (text, more) in [
        (format!("---\n{head}---\n"), false),
        (format!("# ours\n---\n{head}...\n"), false),
        (format!("{head}---\n{TANDEM_HEAD}"), true),
        (format!("{head}---\nmode: [\n"), true),
    ] {
        scratch.write(&text);
        let loaded = scratch.load(&[]).unwrap_or_else(|error| panic!("{text}: {error}"));
        let warning =
            "FILE: more than one document: the first one counts, as in kube-proxy, and the others have no effect";
        assert_eq!(loaded.warnings, vec![warning; usize::from(more)], "{text}");
    }
    scratch.write(&format!("{TANDEM_HEAD}---\n{head}"));
    let error = scratch.load(&[]).map(|_| ()).unwrap_err();
    assert_eq!(
        error,
        "FILE: apiVersion: must be kubeproxy.config.k8s.io/v1alpha1, not \"tandem.config/v1alpha1\""
    );
}

#[test]
fn userspace_mode_is_read_as_the_others_are() {
    let (userspace, warnings) = settings("mode: userspace\nclusterCIDR: 10.0.0.0/8\niptables: {masqueradeBit: 5}\n");
    assert_eq!(userspace.masquerade_bit, 5);
    let expected =
        "FILE: mode: \"userspace\": Kubernetes 1.26 dropped this mode: tandem programs nftables whatever the mode";
    assert!(warnings.contains(&expected.to_owned()), "{warnings:#?}");
    assert!(
        warnings
            .iter()
            .any(|line| line.starts_with("FILE: nodePortAddresses: not set")),
        "{warnings:#?}"
    );
}

#[test]
fn flags_that_kube_proxy_dropped_are_named_with_the_release_and_change_nothing() {
    let plain = by_flags(&[]).unwrap();
    let scratch = Scratch::new();
    scratch.write(&format!("{HEAD}mode: nftables\nclusterCIDR: 10.0.0.0/8\n"));
    let mut tried = 0;
    for flag in FLAGS {
        let Sets::Dropped(release) = flag.sets else { continue };
        let value = match flag.kind {
            FieldKind::Boolean => "true",
            FieldKind::Integer | FieldKind::Unsigned => "7",
            _ => "1s",
        };
        let warning = format!(
            "--{}: ignored: Kubernetes {release} dropped it, so it has no effect",
            flag.name
        );
        let loaded = by_flags(&[(flag.name, value)]).unwrap();
        assert_eq!(loaded.settings, plain.settings);
        assert!(loaded.warnings.contains(&warning), "{:#?}", loaded.warnings);
        assert_eq!(scratch.load(&[(flag.name, value)]).unwrap().warnings, [warning]);
        tried += 1;
    }
    assert!(tried >= 16, "{tried}");
}
