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
use super::lines::{Lines, beginning, whole};
use super::machine::{Input, Machine, Moment, Next};
use super::query::RequestError;
use super::watched::Watched;
use crate::source::decode::printable;

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
    let (mut out, mut page, mut lines) = (Vec::new(), Vec::new(), None);
    let mut input = Input::Time;
    loop {
        let at = Moment {
            now: Instant::now().into_std(),
            admitted: admitted.load(Ordering::Acquire),
        };
        let next = machine.step(input, at, &mut out);
        // The events hold what was read from the page. A page may be large, so it is dropped.
        drop(std::mem::take(&mut page));
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
            // This ends a watch that is no longer read.
            lines = None;
        }
        input = match next {
            Next::Wait(until) => {
                sleep_until(until.into()).await;
                Input::Time
            }
            Next::List(request) => {
                let body = match ask(&client, time, request).await {
                    Ok(body) => whole(body, time).await,
                    Err(failure) => Err(failure),
                };
                match body {
                    Ok(text) => {
                        page = text;
                        Input::Page(Ok(&page))
                    }
                    Err(failure) => Input::Page(Err(failure)),
                }
            }
            Next::Watch(request) => {
                let opened = ask(&client, time, request).await;
                Input::Opened(opened.map(|body| lines = Some(Lines::new(body))))
            }
            Next::Read(until) => match &mut lines {
                Some(lines) => {
                    lines
                        .next(until.saturating_duration_since(Instant::now().into_std()))
                        .await
                }
                None => Input::End(&[]),
            },
        };
    }
}

/// Sends a request. Returns the body of an answer 200 that may be JSON.
async fn ask(client: &Client, time: Duration, request: Result<Request<Body>, RequestError>) -> Result<Body, Failure> {
    let request = request.map_err(|error| Failure::Garbage(format!("no usable address: {error}")))?;
    let answer = match timeout(time, client.send(request)).await {
        Err(_) => return Err(Failure::Silence(time)),
        Ok(Err(error)) => return Err(Failure::transport(&error)),
        Ok(Ok(answer)) => answer,
    };
    let (head, body) = answer.into_parts();
    if head.status == StatusCode::OK {
        let kind = head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        return match kind.map(String::from_utf8_lossy) {
            Some(kind) if !is_json(&kind) => {
                let text = beginning(body, time).await;
                let came = format!("{} instead of JSON ({})", printable(&kind), words(&text));
                Err(Failure::Garbage(came))
            }
            _ => Ok(body),
        };
    }
    let body = whole(body, time).await.unwrap_or_default();
    Err(Failure::answer(head.status, &head.headers, &body))
}

/// Whether a media type is JSON's.
fn is_json(kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}
