//! Does what a machine says: sends requests, waits, and passes events on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, StatusCode};
use kube::Client;
use kube::client::Body;
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep_until, timeout};

use super::failure::Failure;
use super::instead::words;
use super::items::Items;
use super::lines::{Lines, beginning};
use super::machine::{Input, Machine, Moment, Next};
use super::protobuf;
use super::query::RequestError;
use super::watched::Watched;
use super::wire::Encoding;
use crate::source::decode::printable;
use crate::ways::{JSON, PROTOBUF};

/// This much of a wrong body is enough to tell what it is.
const BEGINNING: usize = 4 << 10;
/// No Status is longer than this.
const LONGEST_STATUS: usize = 1 << 20;

/// Runs until nobody receives events any more. `answer` is how long an answer may take. All kinds share `admitted`.
pub(super) async fn run<W: Watched>(
    machine: Machine<W>,
    client: Client,
    answer: Duration,
    events: Sender<W::Event>,
    admitted: Arc<AtomicBool>,
) {
    tokio::select! {
        () = events.closed() => {}
        () = drive(machine, client, answer, &events, &admitted) => {}
    }
}

async fn drive<W: Watched>(
    mut machine: Machine<W>,
    client: Client,
    time: Duration,
    events: &Sender<W::Event>,
    admitted: &AtomicBool,
) {
    let (mut out, mut reading) = (Vec::new(), None);
    let mut input = Input::Time;
    loop {
        let at = Moment {
            now: Instant::now().into_std(),
            admitted: admitted.load(Ordering::Acquire),
        };
        let next = machine.step(input, at, &mut out);
        if machine.has_listed() {
            admitted.store(true, Ordering::Release);
        }
        for event in out.drain(..) {
            if events.send(event).await.is_err() {
                return;
            }
        }
        if !matches!(next, Next::Read(_)) {
            out = Vec::new();
            // This ends an answer that is no longer read.
            reading = None;
        }
        input = match next {
            Next::Wait(until) => {
                sleep_until(until.into()).await;
                Input::Time
            }
            Next::List(request) => {
                let opened = ask(&client, time, request).await;
                Input::Opened(opened.map(|(encoding, body)| {
                    reading = Some(Reading::List(Box::new(Items::new(body, encoding, machine.wanted()))));
                }))
            }
            Next::Watch(request) => {
                let opened = ask(&client, time, request).await;
                Input::Opened(opened.map(|(encoding, body)| {
                    reading = Some(Reading::Watch(Lines::new(body, encoding)));
                }))
            }
            Next::Read(until) => {
                let silence = until.saturating_duration_since(Instant::now().into_std());
                match &mut reading {
                    // A long list may take longer than this as a whole, but none of its parts may.
                    Some(Reading::List(items)) => items.next(time).await,
                    Some(Reading::Watch(lines)) => lines.next(silence).await,
                    None => Input::End(&[]),
                }
            }
        };
    }
}

/// The body of the answer that is read.
enum Reading {
    List(Box<Items<Body>>),
    Watch(Lines<Body>),
}

/// Sends a request. Returns the body of an answer 200 that may be JSON or protobuf.
async fn ask(
    client: &Client,
    time: Duration,
    request: Result<Request<Body>, RequestError>,
) -> Result<(Encoding, Body), Failure> {
    let request = request.map_err(|error| Failure::Garbage(format!("no usable address: {error}")))?;
    let answer = match timeout(time, client.send(request)).await {
        Err(_) => return Err(Failure::Silence(time)),
        Ok(Err(error)) => return Err(Failure::transport(&error)),
        Ok(Ok(answer)) => answer,
    };
    let (head, body) = answer.into_parts();
    let kind = head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let kind = kind.map(String::from_utf8_lossy);
    let encoding = kind.as_ref().map_or(Some(Encoding::Json), |kind| encoding_of(kind));
    if head.status == StatusCode::OK {
        let Some(encoding) = encoding else {
            let text = beginning(body, BEGINNING, time).await;
            let kind = printable(&kind.unwrap_or_default());
            let came = format!("{kind} instead of JSON or protobuf ({})", words(&text));
            return Err(Failure::Garbage(came));
        };
        return Ok((encoding, body));
    }
    let body = beginning(body, LONGEST_STATUS, time).await;
    Err(match encoding {
        Some(Encoding::Protobuf) => {
            let said = protobuf::status_in(&body).unwrap_or_default();
            Failure::answered(head.status, &head.headers, said.message)
        }
        _ => Failure::answer(head.status, &head.headers, &body),
    })
}

/// The encoding that a media type stands for. `;stream=watch` and the like do not change it.
fn encoding_of(kind: &str) -> Option<Encoding> {
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case(JSON) {
        Some(Encoding::Json)
    } else if kind.eq_ignore_ascii_case(PROTOBUF) {
        Some(Encoding::Protobuf)
    } else {
        None
    }
}
