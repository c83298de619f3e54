//! Fields of the wrong types.

use super::*;

#[test]
fn an_object_of_the_wrong_types_is_refused_by_name_field_and_value() {
    for (kind, json, error) in [
        (
            ObjectKind::Service,
            with_spec(r#""ports":[{"port":80},{"port":"http"}]"#),
            r#"Service shop/web: spec.ports[1].port: "http": not a whole number"#,
        ),
        (
            ObjectKind::Service,
            with_spec(r#""ports":{"port":80}"#),
            r#"Service shop/web: spec.ports: "{…}": not a list"#,
        ),
        (
            ObjectKind::Service,
            with_spec(r#""externalIPs":"10.0.0.1""#),
            r#"Service shop/web: spec.externalIPs: "10.0.0.1": not a list"#,
        ),
        (
            ObjectKind::Service,
            with_spec(r#""ports":[{"port":99999999999999999999}]"#),
            r#"Service shop/web: spec.ports[0].port: "1e+20": not a whole number"#,
        ),
        (
            ObjectKind::EndpointSlice,
            with_endpoints("IPv4", r#"[{"addresses":"10.0.0.1"}]"#),
            r#"EndpointSlice shop/web-1: endpoints[0].addresses: "10.0.0.1": not a list of strings"#,
        ),
        (
            ObjectKind::EndpointSlice,
            with_endpoints("IPv4", r#"[{"addresses":["10.0.0.1"],"conditions":{"ready":"yes"}}]"#),
            r#"EndpointSlice shop/web-1: endpoints[0].conditions.ready: "yes": not true or false"#,
        ),
        (
            ObjectKind::Service,
            r#"{"metadata":{"namespace":"shop"},"spec":{"clusterIP":"10.0.0.1"}}"#.to_owned(),
            "Service without a readable name: metadata.name is missing",
        ),
        (
            ObjectKind::Service,
            r#"{"metadata":"x"}"#.to_owned(),
            r#"Service without a readable name: metadata: "x": not an object"#,
        ),
    ] {
        assert_eq!(decoder().decode_json(kind, &json).unwrap_err().to_string(), error);
    }
}

/// Puts values of every shape in place of every value of good objects. Whatever the result is, nothing panics, and
/// other objects are decoded as before.
#[test]
fn no_shape_of_any_field_panics() {
    let good = [
        (ObjectKind::Service, with_spec(r#""type":"LoadBalancer","clusterIPs":["10.96.0.1"],"externalIPs":["192.0.2.1"],"loadBalancerSourceRanges":["10.0.0.0/8"],"sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":5}}"#)),
        (ObjectKind::EndpointSlice, with_endpoints("IPv4", r#"[{"addresses":["10.0.0.1"],"conditions":{"ready":true},"nodeName":"node-a"}]"#)),
        (ObjectKind::Node, r#"{"metadata":{"name":"node-a"},"spec":{"podCIDRs":["10.0.0.0/8"]},"status":{"addresses":[{"type":"InternalIP","address":"10.0.0.1"}]}}"#.to_owned()),
        (ObjectKind::ServiceCidr, r#"{"metadata":{"name":"a","resourceVersion":"7"},"spec":{"cidrs":["10.0.0.0/8"]}}"#.to_owned()),
    ];
    let poison = [
        "null",
        "true",
        "0",
        "-1",
        "65536",
        "1e400",
        "18446744073709551616",
        "0.5",
        r#""""#,
        r#""\u0000""#,
        r#""é\ud83d\ude00""#,
        r#""999.999.999.999""#,
        r#""0000000000000000000000000.1.1.1""#,
        r#""::ffff:127.0.0.1""#,
        r#""10.0.0.0/-1""#,
        "[]",
        "[null]",
        "[[]]",
        "[1]",
        r#"[""]"#,
        "{}",
        r#"{"":null}"#,
    ];
    let decoder = decoder();
    for (kind, text) in good {
        let expected = decoder.decode_json(kind, &text).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let mut pointers = Vec::new();
        collect(&value, String::new(), &mut pointers);
        for pointer in &pointers {
            for shape in poison {
                let mut copy = value.clone();
                let Ok(shape) = serde_json::from_str(shape) else {
                    continue;
                };
                *copy.pointer_mut(pointer).unwrap() = shape;
                let _ = decoder
                    .decode_json(kind, &copy.to_string())
                    .map_err(|error| error.to_string());
            }
        }
        for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
            assert!(decoder.decode_json(kind, &text[..end]).is_err());
        }
        assert_eq!(decoder.decode_json(kind, &text).unwrap(), expected);
    }
}

fn collect(value: &serde_json::Value, at: String, into: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(map) => {
            for (name, value) in map {
                collect(
                    value,
                    format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")),
                    into,
                );
            }
        }
        serde_json::Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                collect(value, format!("{at}/{index}"), into);
            }
        }
        _ => {}
    }
    into.push(at);
}
