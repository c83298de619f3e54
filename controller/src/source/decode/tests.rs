use tandem_core::family::Families;
use tandem_core::object::{Choice, Conditions, EndpointSlice, Node, Service, SliceEndpoint, TrafficPolicy};

mod topology;
mod types;

use super::*;

fn decoder() -> Decoder {
    Decoder::new("node-a")
}

/// Decodes JSON and returns it with its notices as text.
fn check(kind: ObjectKind, json: &str) -> (Decoded, Vec<String>) {
    let outcome = decoder().decode_json(kind, json).unwrap();
    (
        outcome.decoded,
        outcome.notices.iter().map(ToString::to_string).collect(),
    )
}

fn service(json: &str) -> (Service, Vec<String>) {
    match check(ObjectKind::Service, json) {
        (Decoded::Apply(Object::Service(service)), notices) => (service, notices),
        (other, _) => panic!("not a Service: {other:?}"),
    }
}

fn slice(json: &str) -> (EndpointSlice, Vec<String>) {
    match check(ObjectKind::EndpointSlice, json) {
        (Decoded::Apply(Object::EndpointSlice(slice)), notices) => (slice, notices),
        (other, _) => panic!("not an EndpointSlice: {other:?}"),
    }
}

fn why(kind: ObjectKind, json: &str) -> Why {
    match check(kind, json).0 {
        Decoded::Ignore(_, _, why) => why,
        Decoded::Apply(object) => panic!("applied: {object:?}"),
    }
}

/// A Service with one port and the fields of `spec`.
fn with_spec(spec: &str) -> String {
    let ports = if spec.contains("\"ports\"") {
        ""
    } else {
        r#","ports":[{"port":80}]"#
    };
    format!(r#"{{"metadata":{{"namespace":"shop","name":"web"}},"spec":{{"clusterIP":"10.96.0.1",{spec}{ports}}}}}"#)
}

fn with_endpoints(family: &str, endpoints: &str) -> String {
    format!(
        r#"{{"metadata":{{"namespace":"shop","name":"web-1","labels":{{"kubernetes.io/service-name":"web"}}}},
        "addressType":"{family}","endpoints":{endpoints},"ports":[{{"name":"http","port":8080,"protocol":"TCP"}}]}}"#
    )
}

#[test]
fn a_whole_service_is_read() {
    let (service, notices) = service(
        r#"{"kind":"Service","apiVersion":"v1",
        "metadata":{"namespace":"shop","name":"web","creationTimestamp":"2026-01-02T03:04:05Z","managedFields":[{"x":1}]},
        "spec":{"type":"LoadBalancer","clusterIP":"10.96.0.1","clusterIPs":["10.96.0.1","fd00::1"],
          "externalIPs":["192.0.2.7"],"loadBalancerSourceRanges":[" 203.0.113.9/24 "],
          "internalTrafficPolicy":"Local","externalTrafficPolicy":"Local","healthCheckNodePort":31000,
          "sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":60}},
          "ports":[{"name":"http","protocol":"TCP","port":80,"nodePort":30080,"targetPort":"web"},
                   {"name":"dns","protocol":"UDP","port":53,"nodePort":0}]},
        "status":{"loadBalancer":{"ingress":[{"ip":"198.51.100.1"},{"hostname":"lb.example"},
          {"ip":"198.51.100.2","ipMode":"Proxy"},{"ip":"2001:db8::1","ipMode":"VIP"}]}}}"#,
    );
    assert_eq!(notices, Vec::<String>::new());
    assert_eq!(service.key.to_string(), "shop/web");
    assert_eq!(service.created, 1_767_323_045);
    assert_eq!(format!("{:?}", service.cluster_ips), "[10.96.0.1, fd00::1]");
    assert_eq!(format!("{:?}", service.ingress_ips), "[198.51.100.1, 2001:db8::1]");
    assert_eq!(service.source_ranges, ["203.0.113.0/24".parse().unwrap()]);
    assert_eq!(service.restricted, Families { v4: true, v6: false });
    assert_eq!(
        (service.internal_policy, service.external_policy),
        (TrafficPolicy::Local, TrafficPolicy::Local)
    );
    assert_eq!(service.affinity, Some(60));
    assert_eq!(service.health_check_node_port.unwrap().get(), 31_000);
    assert_eq!(service.ports[0].node_port.unwrap().get(), 30_080);
    assert_eq!((&*service.ports[1].name, service.ports[1].node_port), ("dns", None));
}

#[test]
fn the_annotation_says_how_packets_from_outside_pick_an_endpoint_and_another_word_is_told() {
    let choice = |annotations: &str| {
        let meta = format!(r#"{{"metadata":{{"annotations":{annotations},"#);
        let (service, notices) = service(&with_spec(r#""ports":[]"#).replacen(r#"{"metadata":{"#, &meta, 1));
        (service.choice, notices)
    };
    for (value, wanted) in [
        ("maglev", Some(Choice::Maglev)),
        ("random", Some(Choice::Random)),
        ("", None),
    ] {
        let annotations = format!(r#"{{"other":"text","tandem.config/pick":"{value}"}}"#);
        assert_eq!(choice(&annotations), (wanted, Vec::new()));
    }
    assert_eq!(choice(r#"{"other":"text"}"#), (None, Vec::new()));
    let said = "metadata.annotations.tandem.config/pick: \"Maglev\": not a way to pick an endpoint (random, maglev); xdp.pick \
                of the node's configuration counts";
    assert_eq!(
        choice(r#"{"tandem.config/pick":"Maglev"}"#),
        (None, vec![said.to_owned()])
    );
}

#[test]
fn services_that_are_not_ours_are_ignored_with_the_reason() {
    for (json, reason) in [
        (
            r#"{"metadata":{"name":"a"},"spec":{"clusterIP":"None"}}"#,
            Why::Headless,
        ),
        (
            r#"{"metadata":{"name":"a"},"spec":{"clusterIP":"None","clusterIPs":["None"]}}"#,
            Why::Headless,
        ),
        (r#"{"metadata":{"name":"a"},"spec":{"clusterIP":""}}"#, Why::Headless),
        (r#"{"metadata":{"name":"a"},"spec":{}}"#, Why::Headless),
        (r#"{"metadata":{"name":"a"}}"#, Why::Headless),
        (
            r#"{"metadata":{"name":"a"},"spec":{"type":"ExternalName","clusterIP":"10.0.0.1"}}"#,
            Why::ExternalName,
        ),
        (
            r#"{"metadata":{"name":"a","labels":{"service.kubernetes.io/service-proxy-name":""}},"spec":{"clusterIP":"10.0.0.1"}}"#,
            Why::OtherProxy,
        ),
    ] {
        assert_eq!(why(ObjectKind::Service, json), reason, "{json}");
    }
}

#[test]
fn slices_and_nodes_that_are_not_ours_are_ignored_with_the_reason() {
    for (kind, json, reason) in [
        (
            ObjectKind::EndpointSlice,
            r#"{"metadata":{"name":"a"},"addressType":"IPv4"}"#.to_owned(),
            Why::NoService,
        ),
        (
            ObjectKind::EndpointSlice,
            with_endpoints("IPv4", "[]").replace(r#""labels":{"#, r#""labels":{"service.kubernetes.io/headless":"","#),
            Why::HeadlessSlice,
        ),
        (
            ObjectKind::EndpointSlice,
            with_endpoints("FQDN", "[]"),
            Why::AddressType,
        ),
        (
            ObjectKind::EndpointSlice,
            with_endpoints("IPv5", "[]"),
            Why::AddressType,
        ),
        (
            ObjectKind::Node,
            r#"{"metadata":{"name":"node-b"}}"#.to_owned(),
            Why::OtherNode,
        ),
    ] {
        assert_eq!(why(kind, &json), reason, "{json}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn every_fault_costs_its_own_field_and_is_named() {
    for (spec, notice) in [
        (
            r#""ports":[{"port":80},{"name":"b","port":70000}]"#,
            r#"spec.ports[1].port: "70000": not a port number (1-65535); this port is not served"#,
        ),
        (
            r#""ports":[{"port":80},{"name":"b","port":-1}]"#,
            r#"spec.ports[1].port: "-1": not a port number (1-65535); this port is not served"#,
        ),
        (
            r#""ports":[{"port":80},{"name":"b","port":0}]"#,
            r#"spec.ports[1].port: "0": not a port number (1-65535); this port is not served"#,
        ),
        (
            r#""ports":[{"port":80},{"name":"b"}]"#,
            r#"spec.ports[1].port: "": missing; this port is not served"#,
        ),
        (
            r#""ports":[{"port":80},{"name":"b","port":81,"protocol":"ICMP"}]"#,
            r#"spec.ports[1].protocol: "ICMP": not a protocol that Services have (TCP, UDP, SCTP); this port is not served"#,
        ),
        (
            r#""ports":[{"port":80},{"name":"b","port":80}]"#,
            r#"spec.ports[1]: "TCP 80": protocol and port of an earlier port; this port is not served"#,
        ),
        (
            r#""ports":[{"port":80},{"name":"b\" : drop","port":81}]"#,
            r#"spec.ports[1].name: "b\" : drop": not a name: letters, digits, - and . only; this port is not served"#,
        ),
        (
            r#""ports":[{"port":80},{"port":81}]"#,
            r#"spec.ports[1]: "": the name of an earlier port; this port is not served"#,
        ),
        (
            r#""ports":[{"port":80,"nodePort":65536}]"#,
            r#"spec.ports[0].nodePort: "65536": not a port number (1-65535); taken as none"#,
        ),
        (
            r#""healthCheckNodePort":-5"#,
            r#"spec.healthCheckNodePort: "-5": not a port number (1-65535); taken as none"#,
        ),
        (
            r#""type":"Magic""#,
            r#"spec.type: "Magic": not a type of Service; taken as ClusterIP"#,
        ),
        (
            r#""sessionAffinity":"Cookie""#,
            r#"spec.sessionAffinity: "Cookie": not a session affinity (None, ClientIP); taken as None"#,
        ),
        (
            r#""sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":86401}}"#,
            r#"spec.sessionAffinityConfig.clientIP.timeoutSeconds: "86401": not in 1-86400; 86400 is used"#,
        ),
        (
            r#""sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":0}}"#,
            r#"spec.sessionAffinityConfig.clientIP.timeoutSeconds: "0": not in 1-86400; 1 is used"#,
        ),
        (
            r#""externalTrafficPolicy":"Zone""#,
            r#"spec.externalTrafficPolicy: "Zone": not a traffic policy (Cluster, Local); taken as Cluster"#,
        ),
        (
            r#""externalIPs":["127.0.0.1"]"#,
            r#"spec.externalIPs[0]: "127.0.0.1": a Service cannot have a loopback address; this address is not served"#,
        ),
        (
            r#""externalIPs":["10.0.0.1","example.com"]"#,
            r#"spec.externalIPs[1]: "example.com": not an IP address; this address is not served"#,
        ),
        (
            r#""externalIPs":["010.0.0.011"]"#,
            r#"spec.externalIPs[0]: "010.0.0.011": not how an address is written; read as 10.0.0.11"#,
        ),
        (
            r#""clusterIPs":["10.96.0.1","10.96.0.2"]"#,
            r#"spec.clusterIPs[1]: "10.96.0.2": a second IPv4 address; this address is not served"#,
        ),
        (
            r#""loadBalancerSourceRanges":["10.0.0.1"]"#,
            r#"spec.loadBalancerSourceRanges[0]: "10.0.0.1": not a range in CIDR notation; it lets nobody in"#,
        ),
        (
            r#""loadBalancerSourceRanges":["203.0.113.000/025"]"#,
            r#"spec.loadBalancerSourceRanges[0]: "203.0.113.000/025": not how a range is written; read as 203.0.113.0/25"#,
        ),
    ] {
        let (service, notices) = service(&with_spec(spec));
        assert_eq!(notices, [notice], "{spec}");
        assert_eq!(service.ports.len(), 1, "{spec}");
    }
}

#[test]
fn a_service_whose_source_ranges_are_unreadable_stays_restricted() {
    for ranges in [r#"["nonsense"]"#, r#"[""]"#] {
        let service = service(&with_spec(&format!(r#""loadBalancerSourceRanges":{ranges}"#))).0;
        assert_eq!(service.restricted, Families::BOTH, "{ranges}");
        assert!(service.source_ranges.is_empty(), "{ranges}");
    }
    let open = service(&with_spec(r#""loadBalancerSourceRanges":[]"#)).0;
    assert_eq!(open.restricted, Families::NONE);
}

#[test]
fn what_could_not_be_read_closes_the_families_that_it_may_have_meant() {
    let (v4, v6) = (Families { v4: true, v6: false }, Families { v4: false, v6: true });
    for (ranges, closed) in [
        (r#"["2001:db8::/32"]"#, v6),
        (r#"["2001:db8::/32","nonsense"]"#, Families::BOTH),
        (r#"["2001:db8::/32","10.0.0.0/33"]"#, Families::BOTH),
        (r#"["10.0.0.0/8","10.0.0.0/33"]"#, v4),
        (r#"["10.0.0.0/8","2001:db8::/129"]"#, Families::BOTH),
        (r#"["fe80::/129"]"#, v6),
        (r#"["10.0.0.0/8,fd00::/8"]"#, Families::BOTH),
        (r#"["::ffff:10.0.0.0/120"]"#, Families::BOTH),
    ] {
        let service = service(&with_spec(&format!(r#""loadBalancerSourceRanges":{ranges}"#))).0;
        assert_eq!(service.restricted, closed, "{ranges}");
    }
}

#[test]
fn affinity_lasts_three_hours_unless_the_service_says_otherwise() {
    assert_eq!(
        service(&with_spec(r#""sessionAffinity":"ClientIP""#)).0.affinity,
        Some(10_800)
    );
    assert_eq!(service(&with_spec(r#""sessionAffinity":"None""#)).0.affinity, None);
}

#[test]
fn endpoints_carry_their_conditions_and_whether_they_are_here() {
    let (slice, notices) = slice(&with_endpoints(
        "IPv4",
        r#"[{"addresses":["10.0.0.1","10.0.0.9"],"nodeName":"node-a"},
            {"addresses":["10.0.0.2"],"conditions":{"ready":false,"serving":true,"terminating":true},"nodeName":"node-b"},
            {"addresses":["10.0.0.3"],"conditions":{"ready":null},"targetRef":{"kind":"Pod"}}]"#,
    ));
    assert!(notices.is_empty());
    assert_eq!(
        (slice.service.as_ref(), slice.family.to_string().as_str()),
        ("web", "IPv4")
    );
    let ready = |addr: &str, local| SliceEndpoint {
        addr: addr.parse().unwrap(),
        conditions: Conditions::READY,
        local,
    };
    let leaving = Conditions {
        ready: false,
        serving: true,
        terminating: true,
    };
    assert_eq!(
        slice.endpoints.iter().collect::<Vec<_>>(),
        [
            ready("10.0.0.1", true),
            SliceEndpoint {
                addr: "10.0.0.2".parse().unwrap(),
                conditions: leaving,
                local: false
            },
            ready("10.0.0.3", false)
        ]
    );
}

#[test]
fn endpoints_that_must_not_be_reached_are_left_out_and_said_once() {
    let (slice, notices) = slice(&with_endpoints(
        "IPv4",
        r#"[{"addresses":["10.0.0.1"]},{"addresses":["127.0.0.1"]},{"addresses":["169.254.169.254"]},{"addresses":["224.0.0.1"]},
            {"addresses":["fd00::1"]},{"addresses":["x"]},{"addresses":[]},{},{"addresses":["10.0.0.010"]}]"#,
    ));
    assert_eq!(slice.endpoints.len(), 2);
    assert_eq!(
        notices,
        [
            r#"endpoints[6].addresses: "": no address; this endpoint is left out (and 1 more like it)"#,
            r#"endpoints[5].addresses[0]: "x": not an IP address; this endpoint is left out"#,
            r#"endpoints[1].addresses[0]: "127.0.0.1": loopback addresses are never sent to; this endpoint is left out (and 2 more like it)"#,
            r#"endpoints[4].addresses[0]: "fd00::1": not an IPv4 address, which addressType promises; this endpoint is left out"#,
            r#"endpoints[8].addresses[0]: "10.0.0.010": not how an address is written; read as decimal IPv4"#,
        ]
    );
}

#[test]
fn an_object_that_says_it_is_of_another_kind_is_refused() {
    for kind in ObjectKind::ALL {
        for said in ["Pod", "Status", "Service", "EndpointSlice", "Node", "ServiceCIDR"] {
            let json = format!(r#"{{"kind":"{said}","metadata":{{"namespace":"shop","name":"web"}}}}"#);
            let error = decoder()
                .decode_json(kind, &json)
                .err()
                .map(|error| error.what.to_string());
            let expected = (said != kind.name()).then(|| format!("kind is \"{said}\", not {kind}"));
            assert_eq!(error, expected, "{json}");
        }
        for json in [
            r#"{"metadata":{"name":"web"}}"#,
            r#"{"kind":"","metadata":{"name":"web"}}"#,
        ] {
            assert!(decoder().decode_json(kind, json).is_ok(), "{json}");
        }
    }
}

#[test]
fn an_object_is_told_by_its_name_whatever_else_is_wrong_with_it() {
    for wrong in [
        r#""labels":7"#,
        r#""labels":{"kubernetes.io/service-name":7}"#,
        r#""uid":7"#,
        r#""creationTimestamp":{}"#,
        r#""resourceVersion":7"#,
    ] {
        for kind in ObjectKind::ALL {
            let json = format!(r#"{{"metadata":{{"namespace":"shop","name":"web",{wrong}}}}}"#);
            let error = decoder().decode_json(kind, &json).unwrap_err();
            assert_eq!(
                error.key.map(|key| key.name.to_string()).as_deref(),
                Some("web"),
                "{json}"
            );
        }
    }
}

#[test]
fn null_lists_are_empty_lists() {
    let (slice, notices) =
        slice(&with_endpoints("IPv6", "null").replace("[{\"name\":\"http\"", "null,\"x\":[{\"name\":\"http\""));
    assert!(slice.endpoints.is_empty() && slice.ports.is_empty() && notices.is_empty());
}

#[test]
fn the_node_has_internal_addresses_first_and_its_ranges() {
    let json = r#"{"metadata":{"name":"node-a"},"spec":{"podCIDR":"10.1.0.0/24","podCIDRs":["10.1.0.0/24","fd00:1::/64"]},
        "status":{"addresses":[{"type":"Hostname","address":"node-a"},{"type":"ExternalIP","address":"198.51.100.1"},
        {"type":"InternalIP","address":"192.0.2.1"},{"type":"InternalIP","address":"2001:db8::1"},{"type":"InternalIP","address":"::1"}]}}"#;
    let (decoded, notices) = check(ObjectKind::Node, json);
    let Decoded::Apply(Object::Node(Node {
        addresses, pod_cidrs, ..
    })) = decoded
    else {
        panic!("{decoded:?}")
    };
    assert_eq!(format!("{addresses:?}"), "[192.0.2.1, 2001:db8::1, 198.51.100.1]");
    assert_eq!(pod_cidrs.len(), 2);
    assert_eq!(
        notices,
        [r#"status.addresses[4].address: "::1": a node cannot have a loopback address; this address is left out"#]
    );
}

#[test]
fn a_service_cidr_has_its_ranges() {
    let (decoded, notices) = check(
        ObjectKind::ServiceCidr,
        r#"{"metadata":{"name":"kubernetes"},"spec":{"cidrs":["10.96.0.0/12","x","fd00::/112"]}}"#,
    );
    let Decoded::Apply(Object::ServiceCidr(cidr)) = decoded else {
        panic!("{decoded:?}")
    };
    assert_eq!((cidr.key.to_string().as_str(), cidr.cidrs.len()), ("kubernetes", 2));
    assert_eq!(
        notices,
        [r#"spec.cidrs[1]: "x": not a range in CIDR notation; this range is left out"#]
    );
}

#[test]
fn names_that_objects_share_are_stored_once() {
    let decoder = decoder();
    let one = decoder
        .decode_json(ObjectKind::EndpointSlice, &with_endpoints("IPv4", "[]"))
        .unwrap();
    let two = decoder
        .decode_json(ObjectKind::EndpointSlice, &with_endpoints("IPv6", "[]"))
        .unwrap();
    let (Decoded::Apply(Object::EndpointSlice(one)), Decoded::Apply(Object::EndpointSlice(two))) =
        (one.decoded, two.decoded)
    else {
        panic!("not slices")
    };
    assert!(Arc::ptr_eq(&one.service, &two.service));
    assert!(Arc::ptr_eq(&one.key.namespace, &two.key.namespace));
    assert!(Arc::ptr_eq(&one.ports[0].name, &two.ports[0].name));
}
