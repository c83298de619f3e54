//! A list that nobody reads, beside a watch that is read, over one connection.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll};

use hyper::body::{Bytes, Frame};
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, channel, unbounded_channel};

use super::*;
use crate::cluster::everything::All;
use crate::cluster::watch::{Timing, watch};
use crate::ways::Ways;

const SLICES: usize = 20_000;

/// A watch that sends these lines, then those that come, and does not end.
struct Lines {
    first: Box<dyn Iterator<Item = String> + Send + Sync>,
    sent: Arc<AtomicUsize>,
    later: Option<UnboundedReceiver<String>>,
}

impl hyper::body::Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = |line: String| Poll::Ready(Some(Ok(Frame::data(Bytes::from(line)))));
        if let Some(line) = self.first.next() {
            self.sent.fetch_add(1, Ordering::Relaxed);
            return frame(line);
        }
        match self.later.as_mut().map(|later| later.poll_recv(context)) {
            Some(Poll::Ready(Some(line))) => frame(line),
            _ => Poll::Pending,
        }
    }
}

fn event(what: &str, kind: &str, more: &str) -> String {
    format!("{{\"type\":\"{what}\",\"object\":{{\"kind\":\"{kind}\",{more}}}}}\n")
}

/// A slice with a hundred endpoints.
fn slice(number: usize) -> String {
    let endpoints = vec![r#"{"addresses":["10.244.1.7"],"conditions":{"ready":true}}"#; 100].join(",");
    let metadata = format!(r#""metadata":{{"namespace":"a","name":"s-{number}","resourceVersion":"3"}}"#);
    event(
        "ADDED",
        "EndpointSlice",
        &format!(r#"{metadata},"endpoints":[{endpoints}]"#),
    )
}

/// The bookmark that ends a list.
fn end(kind: &str, api_version: &str) -> String {
    let metadata = r#""metadata":{"resourceVersion":"5","annotations":{"k8s.io/initial-events-end":"true"}}"#;
    event("BOOKMARK", kind, &format!(r#""apiVersion":"{api_version}",{metadata}"#))
}

async fn next(events: &mut Receiver<String>) -> String {
    timeout(PATIENCE, events.recv()).await.unwrap().unwrap()
}

#[tokio::test]
async fn twenty_thousand_slices_that_nobody_reads_hold_no_other_watch_back_and_are_all_read_later() {
    let (change, changes) = unbounded_channel();
    let (sent, changes) = (Arc::new(AtomicUsize::new(0)), std::sync::Mutex::new(Some(changes)));
    let counted = Arc::clone(&sent);
    let server = Server::start(&["h2"], move |request| {
        let lines = if request.uri().path().ends_with("endpointslices") {
            let slices = (0..SLICES)
                .map(slice)
                .chain([end("EndpointSlice", "discovery.k8s.io/v1")]);
            Lines {
                first: Box::new(slices),
                sent: Arc::clone(&counted),
                later: None,
            }
        } else {
            Lines {
                first: Box::new([end("Service", "v1")].into_iter()),
                sent: Arc::default(),
                later: changes.lock().unwrap().take(),
            }
        };
        let mut answer = Response::new(lines.boxed_unsync());
        let kind = "application/json".parse().unwrap();
        answer.headers_mut().insert(http::header::CONTENT_TYPE, kind);
        answer
    })
    .await;
    let client = Folder::new("slices").client(&server).await.unwrap();
    let start = |kind, path| {
        let (sender, receiver) = channel(1);
        let client = client.clone();
        tokio::spawn(async move {
            let all = All { kind, path };
            watch(
                client,
                all,
                &Ways::default(),
                Timing::default(),
                sender,
                Arc::new(AtomicBool::new(true)),
            )
            .await;
        });
        receiver
    };
    let mut slices = start("EndpointSlice", "/apis/discovery.k8s.io/v1/endpointslices");
    assert_eq!(next(&mut slices).await, "Listing");
    // From here on, nobody reads. The server sends what the windows allow.
    let mut before = 0;
    while before == 0 || before != sent.load(Ordering::Relaxed) {
        before = sent.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(before < SLICES / 10, "{before} slices were sent");

    let mut services = start("Service", "/api/v1/services");
    for expected in ["Listing", "Listed", "Reach(Watching)"] {
        assert_eq!(next(&mut services).await, expected);
    }
    let object = r#""metadata":{"namespace":"a","name":"web","resourceVersion":"6"}"#;
    change.send(event("MODIFIED", "Service", object)).unwrap();
    assert_eq!(
        next(&mut services).await,
        format!(r#"Applied {{"kind":"Service",{object}}}"#)
    );
    assert_eq!(server.connections(), 1);
    assert!(sent.load(Ordering::Relaxed) < SLICES / 10, "still nobody reads");

    for number in 0..SLICES {
        let slice = next(&mut slices).await;
        assert!(
            slice.starts_with("Listed {") && slice.contains(&format!("\"s-{number}\"")),
            "{slice}"
        );
    }
    assert_eq!(next(&mut slices).await, "Listed");
    assert_eq!(next(&mut slices).await, "Reach(Watching)");
}
