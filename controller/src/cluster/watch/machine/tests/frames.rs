//! Lists and watches in protobuf.

use serde_json::{Value, json};

use super::*;
use crate::source::decode::protobuf::schema::{BOOKMARK, LIST_META, Message, SERVICE, STATUS};
use crate::source::decode::protobuf::tests::{encode, put_bytes};

fn envelope(kind: &str, api_version: &str, bytes: &[u8]) -> Vec<u8> {
    let (mut of, mut whole) = (Vec::new(), Vec::new());
    put_bytes(&mut of, 1, api_version.as_bytes());
    put_bytes(&mut of, 2, kind.as_bytes());
    put_bytes(&mut whole, 1, &of);
    put_bytes(&mut whole, 2, bytes);
    [b"k8s\0".as_slice(), &whole].concat()
}

fn frame(what: &str, object: &[u8]) -> Vec<u8> {
    let (mut raw, mut frame) = (Vec::new(), Vec::new());
    put_bytes(&mut raw, 1, object);
    put_bytes(&mut frame, 1, what.as_bytes());
    put_bytes(&mut frame, 2, &raw);
    frame
}

fn event(what: &str, kind: &str, schema: &Message, object: &Value) -> Vec<u8> {
    frame(what, &envelope(kind, "v1", &encode(schema, object)))
}

fn shop(name: &str, version: &str) -> Value {
    json!({
        "metadata": { "namespace": "shop", "name": name, "resourceVersion": version },
        "spec": { "clusterIP": "10.96.0.1", "ports": [{ "port": 80 }] },
    })
}

fn end(kind: &str, version: &str) -> Vec<u8> {
    let annotations = json!({ "other": "text", "k8s.io/initial-events-end": "true" });
    let object = json!({ "metadata": { "resourceVersion": version, "annotations": annotations } });
    event("BOOKMARK", kind, BOOKMARK, &object)
}

fn page(kind: &str, version: &str, after: &str, items: &[Value]) -> Vec<u8> {
    let mut list = Vec::new();
    put_bytes(
        &mut list,
        1,
        &encode(LIST_META, &json!({ "resourceVersion": version, "continue": after })),
    );
    for item in items {
        put_bytes(&mut list, 2, &encode(SERVICE, item));
    }
    envelope(kind, "v1", &list)
}

#[test]
fn objects_in_frames_are_a_list_and_then_a_watch() {
    let mut bench = Bench::streaming();
    bench.step(Input::Frame(&event("ADDED", "Service", SERVICE, &shop("a", "3"))));
    bench.step(Input::Frame(&end("Service", "9")));
    bench.step(Input::Frame(&event("MODIFIED", "Service", SERVICE, &shop("b", "10"))));
    let plain = json!({ "metadata": { "resourceVersion": "12" } });
    bench.step(Input::Frame(&event("BOOKMARK", "Service", BOOKMARK, &plain)));
    bench.now += TIMING.watch;
    bench.step(Input::End(b""));
    assert!(bench.target().ends_with("resourceVersion=12"), "{}", bench.target());
    let expected = ["listing", "applied shop/a", "listed", "watching", "applied shop/b"];
    assert_eq!(bench.said(), expected);
}

#[test]
fn a_status_in_a_frame_is_the_servers_failure() {
    let mut bench = Bench::streaming();
    bench.step(Input::Frame(&end("Service", "9")));
    let status = json!({ "code": 410, "message": "too old resource version: 9 (12)" });
    bench.step(Input::Frame(&event("ERROR", "Status", STATUS, &status)));
    bench.wait();
    assert!(bench.target().contains("sendInitialEvents=true"), "{}", bench.target());
    assert_eq!(bench.said(), ["listing", "listed", "watching"]);
}

#[test]
fn frames_that_are_no_events_are_named_and_remove_nothing() {
    let cases = [
        (end("Node", "9"), "a Node of v1 instead of a Service of v1"),
        (end("Service", ""), "a bookmark without metadata.resourceVersion"),
        (
            end("Service", "0"),
            "the end of a list without metadata.resourceVersion",
        ),
        (
            event("ADDED", "Pod", SERVICE, &shop("a", "3")),
            "a watch event ADDED with a Pod",
        ),
        (
            event("GONE", "Service", SERVICE, &shop("a", "3")),
            "a watch event of type \"GONE\"",
        ),
        (
            event("ERROR", "Pod", SERVICE, &shop("a", "3")),
            "a Pod of v1 instead of a Status in an ERROR event",
        ),
        (
            frame("ADDED", b"{\"kind\":\"Service\"}"),
            "instead of a watch event in protobuf",
        ),
        (b"<html>".to_vec(), "a broken watch event: no protobuf: "),
        (Vec::new(), "nothing instead of a watch event in protobuf"),
    ];
    for (frame, words) in cases {
        let mut bench = Bench::streaming();
        bench.step(Input::Frame(&frame));
        bench.wait();
        let said = bench.said();
        assert!(said.len() == 1 && said[0].contains(words), "{words}: {said:?}");
        assert!(
            bench.target().contains("resourceVersion=0"),
            "{words}: {}",
            bench.target()
        );
    }
}

#[test]
fn a_frame_that_is_cut_off_anywhere_ends_no_list() {
    let whole = end("Service", "9");
    for length in 0..whole.len() {
        let mut bench = Bench::streaming();
        bench.step(Input::Frame(&whole[..length]));
        assert!(!bench.said().contains(&"listed".to_owned()), "{length}");
    }
}

#[test]
fn pages_in_protobuf_are_a_list() {
    let mut bench = Bench::new(ObjectKind::Service);
    bench.step(Input::ProtobufPage(&page(
        "ServiceList",
        "9",
        "more",
        &[shop("a", "3")],
    )));
    assert!(bench.target().contains("continue=more"), "{}", bench.target());
    bench.step(Input::ProtobufPage(&page("ServiceList", "9", "", &[shop("b", "4")])));
    assert!(bench.target().ends_with("resourceVersion=9"), "{}", bench.target());
    assert_eq!(bench.said(), ["listing", "applied shop/a", "applied shop/b", "listed"]);
}

#[test]
fn a_body_in_protobuf_that_is_no_list_is_named_and_removes_nothing() {
    let status = envelope(
        "Status",
        "v1",
        &encode(STATUS, &json!({ "code": 403, "message": "forbidden" })),
    );
    let cases = [
        (
            page("NodeList", "9", "", &[]),
            "the server sent a NodeList of v1 instead of a ServiceList of v1",
        ),
        (
            page("ServiceList", "", "", &[]),
            "the server sent a ServiceList without metadata.resourceVersion",
        ),
        (
            page("ServiceList", "0", "", &[]),
            "the server sent a ServiceList without metadata.resourceVersion",
        ),
        (
            status,
            "may not list services: RBAC lacks verb list on resource services (403): forbidden",
        ),
        (
            b"k8s\0\xff\xff".to_vec(),
            "the server sent a broken ServiceList: no protobuf: ",
        ),
        (
            b"{}".to_vec(),
            "the server sent JSON that is announced as protobuf instead of a ServiceList of v1",
        ),
        (Vec::new(), "the server sent nothing instead of a ServiceList of v1"),
    ];
    for (body, words) in cases {
        let mut bench = Bench::new(ObjectKind::Service);
        bench.step(Input::ProtobufPage(&body));
        bench.wait();
        let said = bench.said();
        assert!(said.len() == 1 && said[0].contains(words), "{words}: {said:?}");
    }
    let whole = page("ServiceList", "9", "", &[shop("a", "3")]);
    for length in 0..whole.len() {
        let mut bench = Bench::new(ObjectKind::Service);
        bench.step(Input::ProtobufPage(&whole[..length]));
        assert!(!bench.said().contains(&"listed".to_owned()), "{length}");
    }
}
