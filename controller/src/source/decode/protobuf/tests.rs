//! Objects that are written in protobuf must mean what their JSON means.

use prost::encoding::{WireType, encode_key, encode_varint};
use serde_json::{Value as Json, json};

use super::schema::{ENDPOINT_SLICE, Field, Message, NODE, SERVICE, SERVICE_CIDR, Type};
use crate::event::ObjectKind;
use crate::source::decode::{DecodeError, Decoder, Outcome, Stranger};

/// Writes the fields that the schema knows, and behind each message one that it does not know.
pub(crate) fn encode(schema: &Message, object: &Json) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in schema {
        if let Some(value) = object.get(field.name) {
            put(&mut bytes, field, value);
        }
    }
    put_bytes(&mut bytes, 999, b"unknown");
    encode_key(998, WireType::SixtyFourBit, &mut bytes);
    bytes.extend([7; 8]);
    bytes
}

fn put(bytes: &mut Vec<u8>, field: &Field, value: &Json) {
    let number = field.number;
    let all = |bytes: &mut Vec<u8>, is: Type| {
        for entry in value.as_array().unwrap() {
            let (name, number) = (field.name, field.number);
            put(bytes, &Field { number, name, is }, entry);
        }
    };
    match field.is {
        Type::Text => put_bytes(bytes, number, value.as_str().unwrap().as_bytes()),
        Type::Int => put_number(bytes, number, value.as_i64().unwrap()),
        Type::Bool => put_number(bytes, number, i64::from(value.as_bool().unwrap())),
        Type::Time => {
            let time: jiff::Timestamp = value.as_str().unwrap().parse().unwrap();
            let mut inner = Vec::new();
            put_number(&mut inner, 1, time.as_second());
            put_bytes(bytes, number, &inner);
        }
        Type::Object(schema) => put_bytes(bytes, number, &encode(schema, value)),
        Type::Texts => all(bytes, Type::Text),
        Type::Objects(schema) => all(bytes, Type::Object(schema)),
        Type::Map => {
            for (name, value) in value.as_object().unwrap() {
                let mut entry = Vec::new();
                put_bytes(&mut entry, 1, name.as_bytes());
                put_bytes(&mut entry, 2, value.as_str().unwrap().as_bytes());
                put_bytes(bytes, number, &entry);
            }
        }
    }
}

pub(crate) fn put_bytes(bytes: &mut Vec<u8>, number: u32, value: &[u8]) {
    encode_key(number, WireType::LengthDelimited, bytes);
    encode_varint(value.len() as u64, bytes);
    bytes.extend(value);
}

pub(crate) fn put_number(bytes: &mut Vec<u8>, number: u32, value: i64) {
    encode_key(number, WireType::Varint, bytes);
    encode_varint(value.cast_unsigned(), bytes);
}

fn schema(kind: ObjectKind) -> &'static Message {
    match kind {
        ObjectKind::Service => SERVICE,
        ObjectKind::EndpointSlice => ENDPOINT_SLICE,
        ObjectKind::Node => NODE,
        ObjectKind::ServiceCidr => SERVICE_CIDR,
    }
}

fn decode(kind: ObjectKind, object: &Json) -> Result<Outcome, DecodeError> {
    Decoder::new("node-a").decode_protobuf(kind, kind.name(), &encode(schema(kind), object))
}

fn service() -> Json {
    json!({
        "metadata": {
            "name": "web", "namespace": "shop", "uid": "0b2f5a7e-7c2e-4a4e-9a55-0a8b8d1c2e3f", "resourceVersion": "77",
            "creationTimestamp": "2024-02-29T12:00:00Z", "labels": { "app": "web", "team": "" },
            "annotations": { "note": "…", "tandem.config/pick": "maglev", "empty": "" },
        },
        "spec": {
            "type": "LoadBalancer", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00:10:96::7"],
            "externalIPs": ["192.0.2.50"], "loadBalancerSourceRanges": ["198.51.100.0/24", "no range"],
            "internalTrafficPolicy": "Cluster", "externalTrafficPolicy": "Local", "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": 60 } }, "healthCheckNodePort": 30999,
            "ports": [
                { "name": "http", "protocol": "TCP", "port": 80, "nodePort": 30080 },
                { "name": "dns", "protocol": "UDP", "port": 53, "nodePort": 0 },
                { "name": "bad", "protocol": "TCP", "port": -1 },
            ],
        },
        "status": { "loadBalancer": { "ingress": [
            { "ip": "203.0.113.9", "ipMode": "VIP" }, { "ip": "2001:db8::9", "ipMode": "Proxy" }, { "ip": "" },
        ] } },
    })
}

fn slice() -> Json {
    json!({
        "metadata": {
            "name": "web-x2", "namespace": "shop", "resourceVersion": "78",
            "labels": { "kubernetes.io/service-name": "web", "other": "label" },
        },
        "addressType": "IPv4",
        "endpoints": [
            {
                "addresses": ["10.244.1.5", "10.244.1.6"], "nodeName": "node-a",
                "conditions": { "ready": true, "serving": true, "terminating": false },
                "hints": { "forZones": [{ "name": "z1" }, { "name": "z2" }], "forNodes": [{ "name": "node-b" }] },
            },
            { "addresses": ["10.244.2.5"], "conditions": { "ready": false, "serving": true, "terminating": true } },
            { "addresses": ["127.0.0.1"] },
            { "addresses": ["2001:db8::1"], "conditions": {} },
        ],
        "ports": [{ "name": "", "protocol": "TCP", "port": 8080 }, { "name": "dns", "protocol": "UDP", "port": 53 }],
    })
}

fn node() -> Json {
    json!({
        "metadata": {
            "name": "node-a", "resourceVersion": "79", "deletionTimestamp": "2024-02-29T12:00:00Z",
            "labels": { "topology.kubernetes.io/zone": "z1" },
        },
        "spec": {
            "podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00:10:244:1::/64"],
            "taints": [{ "key": "ToBeDeletedByClusterAutoscaler" }],
        },
        "status": { "addresses": [
            { "type": "InternalIP", "address": "192.0.2.11" }, { "type": "Hostname", "address": "node-a" },
            { "type": "ExternalIP", "address": "2001:db8:2::11" },
        ] },
    })
}

fn service_cidr() -> Json {
    json!({
        "metadata": { "name": "kubernetes", "resourceVersion": "80" },
        "spec": { "cidrs": ["10.96.0.0/12", "fd00:10:96::/112"] },
    })
}

fn objects() -> [(ObjectKind, Json); 4] {
    [
        (ObjectKind::Service, service()),
        (ObjectKind::EndpointSlice, slice()),
        (ObjectKind::Node, node()),
        (ObjectKind::ServiceCidr, service_cidr()),
    ]
}

/// The object, and every object that comes from it by leaving one field out, however deep.
fn with_one_less(object: &Json) -> Vec<Json> {
    let mut all = vec![object.clone()];
    match object {
        Json::Object(fields) => {
            for (name, value) in fields {
                let mut without = fields.clone();
                without.remove(name);
                all.push(Json::Object(without));
                for changed in with_one_less(value) {
                    let mut with = fields.clone();
                    with.insert(name.clone(), changed);
                    all.push(Json::Object(with));
                }
            }
        }
        Json::Array(entries) => {
            for (index, entry) in entries.iter().enumerate() {
                for changed in with_one_less(entry) {
                    let mut with = entries.clone();
                    with[index] = changed;
                    all.push(Json::Array(with));
                }
            }
        }
        _ => {}
    }
    all
}

#[test]
fn an_object_in_protobuf_means_what_it_means_in_json_whichever_field_is_missing() {
    let mut count = 0;
    for (kind, object) in objects() {
        for object in with_one_less(&object) {
            let json = Decoder::new("node-a").decode_json(kind, &object.to_string());
            let protobuf = decode(kind, &object);
            match (json, protobuf) {
                (Err(json), Err(protobuf)) => {
                    assert_eq!((json.key, json.stranger), (protobuf.key, protobuf.stranger), "{object}");
                }
                (json, protobuf) => assert_eq!(json, protobuf, "{object}"),
            }
            count += 1;
        }
    }
    assert!(count > 200, "{count}");
}

#[test]
fn a_field_of_another_type_is_named_with_its_path_and_costs_that_object_alone() {
    // spec.ports[1].port as a text
    let (mut port, mut ports, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    put_bytes(&mut port, 3, b"http");
    put_bytes(
        &mut ports,
        1,
        &encode(super::schema::SERVICE_PORT, &json!({ "port": 80 })),
    );
    put_bytes(&mut ports, 1, &port);
    put_bytes(
        &mut bytes,
        1,
        &encode(super::schema::META, &json!({ "name": "web", "namespace": "shop" })),
    );
    put_bytes(&mut bytes, 2, &ports);
    let error = Decoder::new("node-a")
        .decode_protobuf(ObjectKind::Service, "Service", &bytes)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"Service shop/web: spec.ports[1].port: "byte array": not a whole number"#
    );
    assert_eq!((error.stranger, &*error.field), (None, "spec.ports[1].port"));
}

#[test]
fn an_object_of_another_kind_or_without_a_name_is_a_stranger() {
    let decoder = Decoder::new("node-a");
    let bytes = encode(SERVICE, &service());
    let other = decoder.decode_protobuf(ObjectKind::Service, "Pod", &bytes).unwrap_err();
    assert_eq!(other.stranger, Some(Stranger::OtherKind));
    let nameless = decoder
        .decode_protobuf(ObjectKind::Service, "Service", b"")
        .unwrap_err();
    assert_eq!(nameless.stranger, Some(Stranger::Nameless));
    // In a list, an object has no kind of its own.
    assert!(decoder.decode_protobuf(ObjectKind::Service, "", &bytes).is_ok());
}

#[test]
fn bytes_that_are_cut_off_anywhere_are_never_taken_for_more_than_they_are() {
    for (kind, object) in objects() {
        let (whole, bytes) = (decode(kind, &object).unwrap(), encode(schema(kind), &object));
        for length in 0..bytes.len() {
            if let Ok(part) = Decoder::new("node-a").decode_protobuf(kind, kind.name(), &bytes[..length]) {
                assert_eq!(part.decoded.key(), whole.decoded.key(), "{kind} {length}");
            }
        }
    }
}

#[test]
fn whichever_bit_is_wrong_nothing_panics_and_messages_are_short() {
    for (kind, object) in objects() {
        let bytes = encode(schema(kind), &object);
        for bit in 0..bytes.len() * 8 {
            let mut wrong = bytes.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            if let Err(error) = Decoder::new("node-a").decode_protobuf(kind, kind.name(), &wrong) {
                let text = error.to_string();
                assert!(text.len() < 1_000 && !text.contains(char::is_control), "{text}");
            }
        }
    }
}
