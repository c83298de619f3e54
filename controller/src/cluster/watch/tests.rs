//! Faults that a real API server does not show on request. A socket plays the server.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::timeout;

use super::*;
use crate::cluster::{Http, connect};
use crate::event::Reach;
use crate::ways::Lists;

mod bodies;
mod lists;
mod optional;
mod pages;
mod tenants;

/// What the server answers.
enum Reply {
    /// A status, further headers and a body.
    Answer(&'static str, &'static str, String),
    /// These lines, then the end of the watch.
    Lines(Vec<String>),
    /// These lines, then nothing: the connection died without a message.
    Silence(Vec<String>),
}

type Handler = dyn Fn(&str, usize) -> Option<Reply> + Send + Sync;

/// Asks `handler` about requests for Services. The handler gets the verb (list or watch) and how many requests with
/// this verb came before. If it returns `None`, and for all other resources, the answer is an empty list or a watch
/// with a bookmark. It does not stream lists.
struct Server {
    counts: Mutex<HashMap<&'static str, usize>>,
    /// The requests for lists of Services.
    lists: Mutex<Vec<String>>,
    handler: Box<Handler>,
}

impl Server {
    async fn start(handler: impl Fn(&str, usize) -> Option<Reply> + Send + Sync + 'static) -> (Arc<Self>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = Arc::new(Self {
            counts: Mutex::default(),
            lists: Mutex::default(),
            handler: Box::new(handler),
        });
        let shared = Arc::clone(&server);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&shared).serve(stream));
            }
        });
        (server, address)
    }

    fn count(&self, what: &str) -> usize {
        self.counts.lock().unwrap().get(what).copied().unwrap_or(0)
    }

    async fn serve(self: Arc<Self>, mut stream: TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else { return };
            head.push(byte);
        }
        let head = String::from_utf8(head).unwrap();
        let target = head.split(' ').nth(1).unwrap();
        if target.contains("sendInitialEvents=true") {
            let refused = status(
                422,
                "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled",
            );
            let head = format!(
                "HTTP/1.1 422 Unprocessable Entity\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                refused.len()
            );
            let _ = stream.write_all(format!("{head}{refused}").as_bytes()).await;
            return;
        }
        let what = if target.contains("watch=true") { "watch" } else { "list" };
        let reply = target.starts_with("/api/v1/services?").then(|| {
            if what == "list" {
                self.lists.lock().unwrap().push(target.to_owned());
            }
            let before = {
                let mut counts = self.counts.lock().unwrap();
                let count = counts.entry(what).or_default();
                *count += 1;
                *count - 1
            };
            (self.handler)(what, before)
        });
        let reply = reply.flatten().unwrap_or_else(|| match what {
            "list" => Reply::Answer("200 OK", "", empty(target)),
            _ => Reply::Silence(vec![bookmark("5")]),
        });
        let (status, headers, text, hold) = match reply {
            Reply::Answer(status, headers, text) => (status, headers, text, false),
            Reply::Lines(lines) => ("200 OK", "", lines.concat(), false),
            Reply::Silence(lines) => ("200 OK", "", lines.concat(), true),
        };
        let kind = if headers.contains("Content-Type") {
            ""
        } else {
            "Content-Type: application/json\r\n"
        };
        let head = format!("HTTP/1.1 {status}\r\n{kind}Connection: close\r\n{headers}\r\n");
        let _ = stream.write_all(format!("{head}{text}").as_bytes()).await;
        if hold {
            let _ = stream.read_u8().await;
        }
    }
}

fn object(name: &str, version: &str) -> String {
    format!(
        r#"{{"metadata":{{"namespace":"shop","name":"{name}","resourceVersion":"{version}"}},"spec":{{"clusterIP":"10.96.0.1","ports":[{{"port":80}}]}}}}"#
    )
}

fn list(version: &str, objects: &[String]) -> String {
    format!(
        r#"{{"kind":"ServiceList","apiVersion":"v1","metadata":{{"resourceVersion":"{version}"}},"items":[{}]}}"#,
        objects.join(",")
    )
}

/// An empty list of the resource that the request names.
fn empty(target: &str) -> String {
    let (kind, version) = match target.split('?').next().unwrap().rsplit('/').next().unwrap() {
        "services" => ("ServiceList", "v1"),
        "endpointslices" => ("EndpointSliceList", "discovery.k8s.io/v1"),
        "nodes" => ("NodeList", "v1"),
        "servicecidrs" => ("ServiceCIDRList", "networking.k8s.io/v1"),
        other => panic!("{other} is never asked for"),
    };
    // Servers write a list like this if nothing was ever put into it.
    format!(r#"{{"kind":"{kind}","apiVersion":"{version}","metadata":{{"resourceVersion":"5"}},"items":null}}"#)
}

fn event(what: &str, object: &str) -> String {
    format!("{{\"type\":\"{what}\",\"object\":{object}}}\n")
}

fn bookmark(version: &str) -> String {
    event(
        "BOOKMARK",
        &format!(r#"{{"kind":"Service","metadata":{{"resourceVersion":"{version}"}}}}"#),
    )
}

fn status(code: u16, message: &str) -> String {
    format!(r#"{{"kind":"Status","status":"Failure","code":{code},"message":"{message}"}}"#)
}

fn timing() -> Timing {
    Timing {
        watch: Duration::from_secs(2),
        quiet: Duration::from_secs(2),
        answer: Duration::from_millis(500),
        first_wait: Duration::from_millis(20),
        longest_wait: Duration::from_millis(200),
        relist: Duration::from_mins(10),
        absent: Duration::from_mins(10),
    }
}

/// Starts the source. Returns its events as text, only those of Services.
async fn watch(address: &str, timing: Timing) -> Receiver<Event> {
    watch_by(Lists::default(), address, timing).await
}

/// As [`watch`], with lists that are asked for in this way.
async fn watch_by(lists: Lists, address: &str, timing: Timing) -> Receiver<Event> {
    let (client, _) = connect(None, Some(address), Http::Newest).await.unwrap();
    let (sender, receiver) = channel(1000);
    let ways = Ways {
        lists,
        ..Ways::default()
    };
    tokio::spawn(async move { run_with(client, "node-a", &ways, sender, timing).await });
    receiver
}

async fn next(events: &mut Receiver<Event>) -> String {
    loop {
        let event = timeout(Duration::from_secs(5), events.recv())
            .await
            .expect("no event")
            .expect("source ended");
        let (kind, text) = match event {
            Event::Listing(kind) => (kind, "listing".to_owned()),
            Event::Listed(kind) => (kind, "listed".to_owned()),
            Event::Applied(object, _) => (object.kind(), format!("applied {}", object.key())),
            Event::Deleted(kind, key, _) => (kind, format!("deleted {key}")),
            Event::Reach(kind, Reach::Watching) => (kind, "watching".to_owned()),
            Event::Reach(kind, Reach::Lost(reason)) => (kind, format!("lost: {reason}")),
            Event::Unreadable(kind, key, _) => (kind, format!("unreadable {key}")),
            Event::Interfaces(_) | Event::Configured(_) | Event::NodeFact(_) | Event::TakeOver | Event::Faulty(..) => {
                continue;
            }
        };
        if kind == ObjectKind::Service {
            return text;
        }
    }
}

async fn expect(events: &mut Receiver<Event>, expected: &[&str]) {
    for expected in expected {
        assert_eq!(next(events).await, *expected);
    }
}

#[tokio::test]
async fn a_list_and_its_watch_become_events() {
    let (_, address) = Server::start(|what, before| match (what, before) {
        ("list", _) => Some(Reply::Answer(
            "200 OK",
            "",
            list("5", &[object("a", "3"), object("b", "4")]),
        )),
        (_, 0) => Some(Reply::Silence(vec![
            event("MODIFIED", &object("a", "6")),
            event("MODIFIED", &object("b", "7").replace("10.96.0.1", "None")),
            event("DELETED", &object("a", "8")),
        ])),
        _ => None,
    })
    .await;
    let mut events = watch(&address, timing()).await;
    expect(
        &mut events,
        &["listing", "applied shop/a", "applied shop/b", "listed", "watching"],
    )
    .await;
    expect(&mut events, &["applied shop/a", "deleted shop/b", "deleted shop/a"]).await;
}

#[tokio::test]
async fn an_answer_410_to_the_watch_lists_again_without_a_tight_loop() {
    let (server, address) =
        Server::start(|what, _| (what == "watch").then(|| Reply::Answer("410 Gone", "", status(410, "too old")))).await;
    let mut events = watch(&address, timing()).await;
    expect(&mut events, &["listing", "listed", "listing", "listed"]).await;
    assert!(
        next(&mut events)
            .await
            .starts_with("lost: cannot watch services: the version known here is too old (410)")
    );
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Waits grow to 100-200 ms.
    let lists = server.count("list");
    assert!((3..=20).contains(&lists), "{lists} lists");
}

#[tokio::test]
async fn an_event_410_inside_the_watch_lists_again() {
    let (_, address) = Server::start(|what, before| {
        (what == "watch" && before == 0).then(|| Reply::Silence(vec![event("ERROR", &status(410, "too old"))]))
    })
    .await;
    let mut events = watch(&address, timing()).await;
    expect(&mut events, &["listing", "listed", "watching", "listing", "listed"]).await;
}

#[tokio::test]
async fn a_version_that_the_server_has_not_reached_lists_again() {
    let (_, address) = Server::start(|what, before| {
        let text = status(504, "Timeout: Too large resource version: 900, current: 5");
        (what == "watch" && before == 0).then_some(Reply::Answer("504 Gateway Timeout", "", text))
    })
    .await;
    let mut events = watch(&address, timing()).await;
    expect(&mut events, &["listing", "listed", "listing", "listed", "watching"]).await;
}

#[tokio::test]
async fn versions_that_go_backwards_list_again() {
    let (_, address) = Server::start(|what, before| match (what, before) {
        ("list", 0) => Some(Reply::Answer("200 OK", "", list("900", &[]))),
        ("watch", 0) => Some(Reply::Silence(vec![bookmark("7")])),
        _ => None,
    })
    .await;
    let mut events = watch(&address, timing()).await;
    expect(&mut events, &["listing", "listed", "watching", "listing", "listed"]).await;
}

#[tokio::test]
async fn watches_that_hear_nothing_are_told_of_and_list_again_until_one_is_heard() {
    let (server, address) = Server::start(|what, before| match (what, before) {
        ("watch", 0..6) => Some(Reply::Lines(Vec::new())),
        ("watch", _) => Some(Reply::Silence(vec![event("ADDED", &object("late", "6"))])),
        _ => None,
    })
    .await;
    let mut events = watch(&address, timing()).await;
    expect(
        &mut events,
        &[
            "listing",
            "listed",
            "watching",
            "lost: cannot watch services: 3 watches in a row ended without an event; everything is listed again instead",
            "listing",
            "listed",
        ],
    )
    .await;
    assert!((3..=4).contains(&server.count("watch")));
    // The answer to the next watch says nothing yet: only an event does.
    expect(&mut events, &["listing", "listed", "watching", "applied shop/late"]).await;
}

#[tokio::test]
async fn a_connection_that_died_silently_is_noticed_and_taken_up_again() {
    let (_, address) = Server::start(|what, before| match (what, before) {
        ("watch", 0) => Some(Reply::Silence(Vec::new())),
        ("watch", 1) => Some(Reply::Silence(vec![event("ADDED", &object("late", "6"))])),
        _ => None,
    })
    .await;
    let began = Instant::now();
    let mut events = watch(&address, timing()).await;
    expect(&mut events, &["listing", "listed", "watching"]).await;
    assert!(
        next(&mut events)
            .await
            .starts_with("lost: cannot watch services: no answer for")
    );
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    expect(&mut events, &["watching", "applied shop/late"]).await;
}

#[tokio::test]
async fn a_refusal_is_said_once_in_clear_words_and_then_forgotten() {
    for (answer, message, words) in [
        (
            "401 Unauthorized",
            "Unauthorized",
            "cannot list services: credentials refused (401): Unauthorized",
        ),
        (
            "403 Forbidden",
            "User x cannot list resource services",
            "may not list services: RBAC lacks verb list on resource services (403): User x cannot list resource services",
        ),
        (
            "500 Internal Server Error",
            "etcd is away",
            "cannot list services: the server answers 500: etcd is away",
        ),
    ] {
        let (_, address) = Server::start(move |what, before| {
            (what == "list" && before < 4).then(|| Reply::Answer(answer, "", status(0, message)))
        })
        .await;
        let mut events = watch(&address, timing()).await;
        expect(
            &mut events,
            &[&format!("lost: {words}"), "listing", "listed", "watching"],
        )
        .await;
    }
}

#[tokio::test]
async fn a_server_that_asks_for_time_gets_it() {
    let (server, address) = Server::start(|what, before| {
        (what == "list" && before < 2)
            .then(|| Reply::Answer("429 Too Many Requests", "Retry-After: 1\r\n", String::new()))
    })
    .await;
    let began = Instant::now();
    let mut events = watch(
        &address,
        Timing {
            longest_wait: Duration::from_secs(5),
            ..timing()
        },
    )
    .await;
    assert!(next(&mut events).await.contains("overloaded (429)"));
    expect(&mut events, &["listing", "listed"]).await;
    assert!(began.elapsed() >= Duration::from_secs(2) && server.count("list") == 3);
}

#[tokio::test]
async fn a_server_too_old_for_the_field_selector_is_asked_without() {
    let (_, address) = Server::start(|what, before| {
        let text = status(400, "field label not supported: spec.clusterIP");
        (what == "list" && before == 0).then_some(Reply::Answer("400 Bad Request", "", text))
    })
    .await;
    expect(&mut watch(&address, timing()).await, &["listing", "listed", "watching"]).await;
}

#[tokio::test]
async fn an_unreadable_object_costs_itself_alone() {
    let (_, address) = Server::start(|what, before| match (what, before) {
        ("watch", 0) => Some(Reply::Silence(vec![
            event("MODIFIED", &object("bad", "6").replace("80", r#""http""#)),
            event("MODIFIED", &object("good", "7")),
            event("DELETED", &object("bad", "8").replace("80", r#""http""#)),
        ])),
        _ => None,
    })
    .await;
    let mut events = watch(&address, timing()).await;
    expect(
        &mut events,
        &[
            "listing",
            "listed",
            "watching",
            "unreadable shop/bad",
            "applied shop/good",
            "deleted shop/bad",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_server_that_is_away_is_named_with_the_cause() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut events = watch(&format!("http://{address}"), timing()).await;
    let refused = next(&mut events).await;
    assert!(
        refused.starts_with("lost: cannot list services: ") && refused.contains("onnection refused"),
        "{refused}"
    );

    let mut events = watch("http://no-such-host.invalid:1", timing()).await;
    let unknown = next(&mut events).await;
    assert!(unknown.contains("dns error") || unknown.contains("lookup"), "{unknown}");

    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = plain.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = plain.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let mut events = watch(&format!("https://{address}"), timing()).await;
    let tls = next(&mut events).await;
    assert!(tls.starts_with("lost: cannot list services: TLS: "), "{tls}");
}

#[tokio::test]
async fn the_source_ends_when_nobody_listens() {
    let (_, address) = Server::start(|_, _| None).await;
    let (client, _) = connect(None, Some(&address), Http::Newest).await.unwrap();
    let (sender, receiver) = channel(10);
    let source = tokio::spawn(async move { run_with(client, "node-a", &Ways::default(), sender, timing()).await });
    drop(receiver);
    timeout(Duration::from_secs(2), source)
        .await
        .expect("still running")
        .unwrap();
}
