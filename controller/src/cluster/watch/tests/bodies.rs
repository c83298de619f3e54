//! Answers 200 that are not what was asked for: a gateway's page, a Status, half a list. None of them may complete a
//! list.

use super::*;

/// A correct list with one object.
fn good() -> String {
    list("5", &[object("good", "3")])
}

/// Bodies that are not lists, each with what the report says.
#[expect(clippy::too_many_lines, reason = "a table")]
fn no_lists() -> Vec<(String, &'static str)> {
    let with = |from: &str, to: &str| {
        let bad = good().replacen(from, to, 1);
        assert_ne!(bad, good(), "{from}");
        bad
    };
    let items = |items: &str| {
        let text = list("5", &[]);
        text.replace("[]", items)
    };
    let status = |code| status(code, "no");
    let html = "<!DOCTYPE html>\n<html><title>Sign in</title></html>".to_owned();
    vec![
        (
            "{}".into(),
            "the server sent an object without kind ({}) instead of a ServiceList of v1",
        ),
        (String::new(), "the server sent nothing instead of a ServiceList"),
        (" \n".into(), "the server sent nothing instead of a ServiceList"),
        ("null".into(), "instead of a ServiceList"),
        ("[]".into(), "instead of a ServiceList"),
        ("7".into(), "the server sent no JSON (7) instead of a ServiceList"),
        (
            html,
            "the server sent no JSON (<!DOCTYPE html> <html><title>Sign in</title></html>) instead of a ServiceList",
        ),
        (status(500), "cannot list services: the server answers 500: no"),
        (
            status(403),
            "may not list services: RBAC lacks verb list on resource services (403): no",
        ),
        (status(401), "credentials refused (401): no"),
        (status(404), "the server does not have them (404): no"),
        (status(200), "the server sent a Status instead of a ServiceList of v1"),
        (
            good()[..good().len() - 1].into(),
            "broken JSON (EOF while parsing an object) instead of a ServiceList",
        ),
        (good()[..60].into(), "broken JSON (EOF"),
        (
            good() + "{}",
            "broken JSON (trailing characters) instead of a ServiceList",
        ),
        (
            with("ServiceList", "List"),
            "the server sent a List of v1 instead of a ServiceList of v1",
        ),
        (
            with("ServiceList", "PodList"),
            "a PodList of v1 instead of a ServiceList of v1",
        ),
        (
            with("ServiceList", "Service"),
            "a Service of v1 instead of a ServiceList of v1",
        ),
        (
            with(r#""v1""#, r#""v2""#),
            "a ServiceList of v2 instead of a ServiceList of v1",
        ),
        (
            with(r#""apiVersion""#, r#""apiversion""#),
            "a ServiceList of no apiVersion instead of a ServiceList of v1",
        ),
        (with(r#""kind""#, r#""ObjectKind""#), "an object without kind"),
        (
            with(r#""items""#, r#""Items""#),
            "the server sent a ServiceList without items",
        ),
        (
            with(r#""metadata""#, r#""meta""#),
            "a ServiceList without metadata.resourceVersion",
        ),
        (
            with(r#""resourceVersion":"5""#, r#""resourceVersion":"""#),
            "a ServiceList without metadata.resourceVersion",
        ),
        (
            with(r#""resourceVersion":"5""#, r#""resourceVersion":"0""#),
            "a ServiceList without metadata.resourceVersion",
        ),
        (
            with(r#""resourceVersion":"5""#, r#""resourceVersion":5"#),
            r#"a broken ServiceList: "5": not a string"#,
        ),
        (items("{}"), r#"a broken ServiceList: "{…}": not a list"#),
        (
            items("[{}]"),
            "the server sent a ServiceList with a Service without a readable name",
        ),
        (items("[null]"), "a ServiceList with a Service without a readable name"),
        (
            items(r#"["web"]"#),
            "a ServiceList with a Service without a readable name",
        ),
        (
            items(r#"[{"metadata":{"name":""}}]"#),
            "a ServiceList with a Service without a readable name",
        ),
        (
            items(r#"[{"metadata":{"name":7}}]"#),
            "a ServiceList with a Service without a readable name",
        ),
        (
            items(r#"[{"metadata":{"name":"a","namespace":7}}]"#),
            "a ServiceList with a Service without a readable name",
        ),
        (
            items(r#"[{"kind":"Pod","metadata":{"name":"a"}}]"#),
            "the server sent a ServiceList with a Pod",
        ),
        (
            items(&format!("[{}]", status(500))),
            "the server sent a ServiceList with a Status",
        ),
    ]
}

/// All events up to this one.
async fn until(events: &mut Receiver<Event>, last: &str) -> Vec<String> {
    let mut told = Vec::new();
    while told.last().is_none_or(|told| told != last) {
        told.push(next(events).await);
    }
    told
}

/// Checks that the loss is reported with these words, and that the first list that ends is the correct one.
async fn expect_no_list(lists: Lists, address: &str, words: &str, body: &str) {
    let mut events = watch_by(lists, address, timing()).await;
    let told = until(&mut events, "listed").await;
    let lost: Vec<_> = told.iter().filter(|told| told.starts_with("lost: ")).collect();
    assert!(matches!(&lost[..], [lost] if lost.contains(words)), "{body}: {told:?}");
    assert!(told.contains(&"applied shop/good".to_owned()), "{body}: {told:?}");
    assert_eq!(next(&mut events).await, "watching", "{body}");
}

#[tokio::test]
async fn an_answer_that_is_no_list_ends_none() {
    for lists in [Lists::Cache, Lists::Pages] {
        for (body, words) in no_lists() {
            let answer = body.clone();
            let (_, address) = Server::start(move |what, before| match (what, before) {
                ("list", 0..2) => Some(Reply::Answer("200 OK", "", answer.clone())),
                ("list", _) => Some(Reply::Answer("200 OK", "", good())),
                _ => None,
            })
            .await;
            expect_no_list(lists, &address, words, &body).await;
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_no_page_ends_no_list() {
    for (body, words) in no_lists() {
        let answer = body.clone();
        let (_, address) = Server::start(move |what, before| {
            let body = match (what, before) {
                ("list", 0 | 2) => good()
                    .replace(r#""5""#, r#""5","continue":"more""#)
                    .replace("good", "first"),
                ("list", 1 | 3) => answer.clone(),
                ("list", _) => good(),
                _ => return None,
            };
            Some(Reply::Answer("200 OK", "", body))
        })
        .await;
        expect_no_list(Lists::Pages, &address, words, &body).await;
    }
}

#[tokio::test]
async fn what_is_not_called_json_or_protobuf_is_neither_a_list_nor_a_watch() {
    for kind in [
        "text/html; charset=utf-8",
        "text/plain",
        "application/vnd.kubernetes.protobuf",
        "application/jsonp",
    ] {
        let headers: &'static str = format!("Content-Type: {kind}\r\n").leak();
        for asked in ["list", "watch"] {
            let (_, address) = Server::start(move |what, before| match (what, before) {
                (what, 0..2) if what == asked => Some(Reply::Answer("200 OK", headers, good())),
                ("list", _) => Some(Reply::Answer(
                    "200 OK",
                    "Content-Type: application/json;charset=utf-8\r\n",
                    good(),
                )),
                _ => None,
            })
            .await;
            let mut events = watch(&address, timing()).await;
            let mut told = until(&mut events, "watching").await;
            if kind.ends_with("protobuf") && asked == "watch" {
                // The answer itself is right. Its first bytes are not.
                told.extend(until(&mut events, "watching").await);
            }
            let sent = if kind.ends_with("protobuf") {
                "JSON that is announced as protobuf".to_owned()
            } else {
                format!("{kind} instead of JSON or protobuf ({{")
            };
            let lost = format!("lost: cannot {asked} services: the server sent {sent}");
            assert_eq!(
                told.iter().filter(|told| told.starts_with(&lost)).count(),
                1,
                "{told:?}"
            );
            let lists = told.iter().filter(|told| *told == "listed").count();
            assert_eq!(lists, if asked == "list" { 1 } else { 2 }, "{told:?}");
        }
    }
}

/// Lines that are not events of a watch, each with what the report says.
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn no_events() -> Vec<(String, &'static str)> {
    let status = || status(500, "no");
    let pod = r#"{"kind":"Pod","metadata":{"namespace":"shop","name":"good","resourceVersion":"9"}}"#;
    vec![
        (
            "{}".into(),
            "the server sent an object without kind ({}) instead of a watch event",
        ),
        (
            "{}\n".into(),
            "the server sent an object without kind ({}) instead of a watch event",
        ),
        (
            list("9", &[]) + "\n",
            "the server sent a ServiceList of v1 instead of a watch event",
        ),
        (
            list("9", &[]),
            "the server sent a ServiceList of v1 instead of a watch event",
        ),
        (status() + "\n", "cannot watch services: the server answers 500: no"),
        (
            "<html>\n<title>Sign in</title></html>\n".into(),
            "the server sent no JSON (<html>) instead of a watch event",
        ),
        (
            "<html><title>Sign in</title></html>".into(),
            "the server sent no JSON (<html><title>Sign in</title></html>)",
        ),
        ("null\n".into(), "instead of a watch event"),
        ("[]\n".into(), "instead of a watch event"),
        ("ok".into(), "the server sent no JSON (ok) instead of a watch event"),
        (
            r#"{"type":"ADDED","obj"#.into(),
            "the server sent broken JSON (EOF while parsing",
        ),
        (
            event("ADDED", &status()),
            "the server sent a watch event ADDED with a Status",
        ),
        (
            event("MODIFIED", pod),
            "the server sent a watch event MODIFIED with a Pod",
        ),
        (
            event("DELETED", pod),
            "the server sent a watch event DELETED with a Pod",
        ),
        (
            event("ADDED", "{}"),
            "the server sent a watch event ADDED with a Service without a readable name",
        ),
        (
            event("ADDED", "null"),
            "the server sent a watch event ADDED with a Service without a readable name",
        ),
        (
            event("DELETED", "{}"),
            "the server sent a watch event DELETED with a Service without a readable name",
        ),
        (
            event("DELETED", r#"{"metadata":{"resourceVersion":"9"}}"#),
            "a Service without a readable name",
        ),
        (
            event("BOOKMARK", "{}"),
            "the server sent a bookmark without metadata.resourceVersion",
        ),
        (
            event("BOOKMARK", r#"{"metadata":{"resourceVersion":""}}"#),
            "a bookmark without metadata.resourceVersion",
        ),
        (
            event("CHANGED", &object("good", "9")),
            r#"the server sent a watch event of type "CHANGED""#,
        ),
        (event("ERROR", "{}"), "instead of a Status in an ERROR event"),
        (
            event("ERROR", &status()),
            "cannot watch services: the server answers 500: no",
        ),
    ]
}

#[tokio::test]
async fn what_is_no_watch_is_told_of_and_everything_is_listed_again() {
    for (body, words) in no_events() {
        let answer = body.clone();
        let (server, address) = Server::start(move |what, before| match (what, before) {
            ("list", _) => Some(Reply::Answer("200 OK", "", good())),
            ("watch", 0..3) => Some(Reply::Lines(vec![answer.clone()])),
            _ => Some(Reply::Silence(vec![event("ADDED", &object("late", "6"))])),
        })
        .await;
        let mut events = watch(&address, timing()).await;
        let told = until(&mut events, "applied shop/late").await;
        let lost: Vec<_> = told.iter().filter(|told| told.starts_with("lost: ")).collect();
        assert!(
            matches!(&lost[..], [lost, ..] if lost.contains(words)),
            "{body}: {told:?}"
        );
        assert!(!told.iter().any(|told| told.starts_with("deleted")), "{body}: {told:?}");
        // After two of them, everything is listed again. After each further one, too.
        assert_eq!(
            (server.count("list"), server.count("watch")),
            (3, 4),
            "{body}: {told:?}"
        );
        let heard = told.iter().rposition(|told| told == "watching").unwrap();
        assert!(
            told[heard..].iter().all(|told| !told.starts_with("lost")),
            "{body}: {told:?}"
        );
    }
}

#[tokio::test]
async fn a_watch_that_turns_into_something_else_is_taken_up_behind_its_last_event() {
    let (server, address) = Server::start(|what, before| match (what, before) {
        ("watch", 0) => Some(Reply::Lines(vec![
            event("ADDED", &object("a", "6")),
            "<html>\n".to_owned(),
        ])),
        ("watch", _) => Some(Reply::Silence(vec![event("ADDED", &object("b", "7"))])),
        _ => None,
    })
    .await;
    let mut events = watch(&address, timing()).await;
    expect(&mut events, &["listing", "listed", "watching", "applied shop/a"]).await;
    assert!(
        next(&mut events)
            .await
            .starts_with("lost: cannot watch services: the server sent no JSON (<html>)")
    );
    expect(&mut events, &["watching", "applied shop/b"]).await;
    assert_eq!(server.count("list"), 1);
}
