//! One kind of objects, listed and watched for ever.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::{Request, StatusCode};
use kube::Client;
use kube::client::Body;
use serde_json::value::RawValue;
use tokio::sync::mpsc::Sender;
use tokio::time::{sleep, timeout};

use super::backoff::{Backoff, jitter};
use super::failure::Failure;
use super::lines::{Lines, whole};
use super::query::{Query, Timing};
use super::wire::{Line, Page, Versioned};
use crate::event::{Event, Kind, Reach};
use crate::source::decode::{Decoded, Decoder};

/// Watches without any event or bookmark before everything is listed again.
const SILENT_WATCHES: u32 = 3;
/// Refused watches before everything is listed again.
const REFUSED_WATCHES: u32 = 2;

/// Nobody receives events any more.
struct Closed;

type Step<T> = ControlFlow<Closed, T>;

pub(super) struct Reflector {
    client: Client,
    query: Query,
    decoder: Arc<Decoder>,
    events: Sender<Event>,
    timing: Timing,
    backoff: Backoff,
    /// What was last said about reaching the objects.
    reach: Option<Reach>,
    /// Whether a list was complete once.
    listed: bool,
    /// Watches that the server refused, one after the other.
    refused: u32,
    /// Whether lists are asked for page by page: not after a page was too late to be had.
    paged: bool,
    /// Whether the server let any kind be listed: before that, its refusals may be those of a server or of rights that
    /// are still being set up.
    admitted: Arc<AtomicBool>,
    version: String,
}

/// How a watch ended.
enum Ended {
    /// As the server was asked to; `heard` tells whether anything came.
    Quietly { heard: bool },
    /// With a failure.
    Failed(Failure),
    /// With the versions going backwards.
    Backwards,
}

impl Reflector {
    pub(super) fn new(
        client: Client,
        query: Query,
        decoder: Arc<Decoder>,
        events: Sender<Event>,
        timing: Timing,
        admitted: Arc<AtomicBool>,
    ) -> Self {
        let backoff = Backoff::new(timing.first_wait, timing.longest_wait);
        let version = String::new();
        Self {
            client,
            query,
            decoder,
            events,
            timing,
            backoff,
            reach: None,
            listed: false,
            refused: 0,
            paged: true,
            admitted,
            version,
        }
    }

    /// Runs until nobody receives events any more.
    pub(super) async fn run(mut self) {
        let events = self.events.clone();
        tokio::select! {
            () = events.closed() => {}
            _ = self.list_and_watch() => {}
        }
    }

    async fn list_and_watch(&mut self) -> Step<()> {
        loop {
            let admitted = self.admitted.load(Ordering::Acquire);
            if let Err(failure) = self.list().await? {
                self.list_failed(&failure, admitted).await?;
                continue;
            }
            self.admitted.store(true, Ordering::Release);
            self.listed = true;
            self.paged = true;
            self.watch_while_trusted().await?;
        }
    }

    async fn list(&mut self) -> Step<Result<(), Failure>> {
        let mut after: Option<String> = None;
        let mut begun = false;
        loop {
            let request = self.query.list(self.paged, after.as_deref());
            let body = match self.answer(request).await {
                Ok(body) => whole(body, self.timing.answer).await,
                Err(failure) => Err(failure),
            };
            let text = match body {
                Ok(text) => text,
                Err(failure) => {
                    // The pages took longer than the server remembers: the next list is asked for in one piece.
                    self.paged &= !(after.is_some() && failure.code() == Some(410));
                    return Step::Continue(Err(failure));
                }
            };
            let page: Page<'_> = match serde_json::from_slice(&text) {
                Ok(page) => page,
                Err(error) => return Step::Continue(Err(Failure::Garbage(format!("a list that is none: {error}")))),
            };
            if !std::mem::replace(&mut begun, true) {
                self.send(Event::Listing(self.query.kind)).await?;
            }
            for item in page.items.unwrap_or_default() {
                if let Some(event) = self.decode(item) {
                    self.send(event).await?;
                }
            }
            self.version = page.metadata.resource_version;
            after = page.metadata.after.filter(|after| !after.is_empty());
            if after.is_none() {
                break;
            }
        }
        self.send(Event::Listed(self.query.kind)).await?;
        Step::Continue(Ok(()))
    }

    /// Decides what a failed list means, says so and waits. `admitted` as it was when the list was asked for.
    async fn list_failed(&mut self, failure: &Failure, admitted: bool) -> Step<()> {
        if failure.code() == Some(400) && self.query.drop_fields() {
            return Step::Continue(());
        }
        let optional = self.query.kind == Kind::ServiceCidr && !self.listed;
        match failure.code() {
            // Servers before 1.31 do not have the kind. Without it, unassigned ClusterIPs are not discarded: no more.
            Some(404) if optional => self.absent(None).await,
            Some(403) if optional && admitted => self.absent(Some(failure)).await,
            _ => {
                self.lost(failure, "list").await?;
                sleep(self.backoff.next(failure.retry_after())).await;
                Step::Continue(())
            }
        }
    }

    /// Takes the kind as one without objects, and asks again later.
    async fn absent(&mut self, forbidden: Option<&Failure>) -> Step<()> {
        self.send(Event::Listing(self.query.kind)).await?;
        self.send(Event::Listed(self.query.kind)).await?;
        match forbidden {
            Some(failure) => self.lost(failure, "list").await?,
            None => self.say(Reach::Watching).await?,
        }
        sleep(jitter(self.timing.absent, 0.3)).await;
        Step::Continue(())
    }

    /// Watches again and again from the last version seen, until it is time to list.
    async fn watch_while_trusted(&mut self) -> Step<()> {
        let relist = Instant::now() + jitter(self.timing.relist, 0.3);
        let mut silent = 0;
        while Instant::now() < relist {
            let began = Instant::now();
            match self.watch().await? {
                Ended::Quietly { heard } => {
                    silent = if heard { 0 } else { silent + 1 };
                    if silent >= SILENT_WATCHES {
                        tracing::debug!(kind = %self.query.kind, "listing again: watches have been silent");
                        return Step::Continue(());
                    }
                    // A server that ends every watch at once is not to be asked in a tight loop.
                    if began.elapsed() < Duration::from_secs(1).min(self.timing.watch / 2) {
                        sleep(self.backoff.next(None)).await;
                    } else {
                        self.backoff.reset();
                    }
                }
                Ended::Backwards => {
                    tracing::warn!(kind = %self.query.kind, "the API server's versions went backwards: listing again");
                    sleep(self.backoff.next(None)).await;
                    return Step::Continue(());
                }
                Ended::Failed(failure) => {
                    if began.elapsed() >= self.timing.longest_wait {
                        self.backoff.reset();
                    }
                    // Being asked to wait, or kept out, says nothing about the version.
                    self.refused += u32::from(!matches!(failure.code(), None | Some(401 | 403 | 429 | 503)));
                    // A version that expired while nothing else was wrong is an everyday matter, not a loss.
                    if !failure.is_about_version() || self.refused > 1 {
                        self.lost(&failure, "watch").await?;
                    }
                    sleep(self.backoff.next(failure.retry_after())).await;
                    if failure.is_about_version() || self.refused >= REFUSED_WATCHES {
                        return Step::Continue(());
                    }
                }
            }
        }
        Step::Continue(())
    }

    async fn watch(&mut self) -> Step<Ended> {
        let lasting = jitter(self.timing.watch, 0.2);
        let request = self.query.watch(&self.version, lasting);
        let body = match self.answer(request).await {
            Ok(body) => body,
            Err(failure) => return Step::Continue(Ended::Failed(failure)),
        };
        self.refused = 0;
        self.say(Reach::Watching).await?;
        // The server ends the watch itself; one that it does not end is dead.
        let deadline = lasting + self.timing.answer.min(Duration::from_secs(5));
        let began = Instant::now();
        let mut lines = Lines::new(body);
        let mut heard = false;
        loop {
            let left = deadline.saturating_sub(began.elapsed());
            let line = match lines.next(left).await {
                Ok(Some([])) => continue,
                Ok(Some(line)) => line,
                Ok(None) => return Step::Continue(Ended::Quietly { heard }),
                Err(failure) => return Step::Continue(Ended::Failed(failure)),
            };
            let line: Line<'_> = match serde_json::from_slice(line) {
                Ok(line) => line,
                Err(error) => {
                    let failure = Failure::Garbage(format!("an event that is none: {error}"));
                    return Step::Continue(Ended::Failed(failure));
                }
            };
            heard = true;
            match line.what {
                "ADDED" | "MODIFIED" | "DELETED" => {
                    if let Some(event) = self.changed(line.what, line.object) {
                        self.send(event).await?;
                    }
                }
                "BOOKMARK" => {
                    let bookmark: Versioned = serde_json::from_str(line.object.get()).unwrap_or_default();
                    let version = bookmark.metadata.resource_version;
                    if is_older(&version, &self.version) {
                        return Step::Continue(Ended::Backwards);
                    }
                    if !version.is_empty() {
                        self.version = version;
                    }
                }
                "ERROR" => return Step::Continue(Ended::Failed(Failure::event(line.object.get()))),
                other => tracing::debug!(kind = %self.query.kind, "watch event of unknown type {other:?}"),
            }
        }
    }

    /// The event of a change, and the version that the next watch begins after.
    fn changed(&mut self, what: &str, object: &RawValue) -> Option<Event> {
        match self.decoder.decode_json(self.query.kind, object.get()) {
            Ok(outcome) => {
                if let Some(version) = &outcome.version {
                    version.as_ref().clone_into(&mut self.version);
                }
                Some(match what {
                    "DELETED" => Event::Deleted(self.query.kind, outcome.decoded.key(), Vec::new()),
                    _ => outcome.into_event(),
                })
            }
            Err(error) => {
                let versioned: Versioned = serde_json::from_str(object.get()).unwrap_or_default();
                if !versioned.metadata.resource_version.is_empty() {
                    self.version = versioned.metadata.resource_version;
                }
                if let ("DELETED", Some(key)) = (what, &error.key) {
                    return Some(Event::Deleted(self.query.kind, key.clone(), Vec::new()));
                }
                tracing::error!("{error}; what was known of it stays");
                error.into_event()
            }
        }
    }

    /// The event of an object in a list. What is not Tandem's business is no event here: the list does not name it.
    fn decode(&self, object: &RawValue) -> Option<Event> {
        match self.decoder.decode_json(self.query.kind, object.get()) {
            Ok(outcome) => match outcome.decoded {
                Decoded::Ignore(_, _, _) if outcome.notices.is_empty() => None,
                _ => Some(outcome.into_event()),
            },
            Err(error) => {
                tracing::error!("{error}; what was known of it stays");
                error.into_event()
            }
        }
    }

    /// Asks, and returns the body of an answer 200.
    async fn answer(&self, request: Result<Request<Body>, http::Error>) -> Result<Body, Failure> {
        let request = request.map_err(|error| Failure::Garbage(format!("no usable address: {error}")))?;
        let answer = match timeout(self.timing.answer, self.client.send(request)).await {
            Err(_) => return Err(Failure::Silence(self.timing.answer)),
            Ok(Err(error)) => return Err(Failure::transport(&error)),
            Ok(Ok(answer)) => answer,
        };
        let (head, body) = answer.into_parts();
        if head.status == StatusCode::OK {
            return Ok(body);
        }
        let body = whole(body, self.timing.answer).await.unwrap_or_default();
        Err(Failure::answer(head.status, &head.headers, &body))
    }

    async fn lost(&mut self, failure: &Failure, verb: &str) -> Step<()> {
        self.say(Reach::Lost(failure.reason(verb, self.query.resource()))).await
    }

    /// Says whether the objects are reached, once per change.
    async fn say(&mut self, reach: Reach) -> Step<()> {
        if self.reach.as_ref() == Some(&reach) {
            return Step::Continue(());
        }
        self.reach = Some(reach.clone());
        self.send(Event::Reach(self.query.kind, reach)).await
    }

    async fn send(&self, event: Event) -> Step<()> {
        match self.events.send(event).await {
            Ok(()) => Step::Continue(()),
            Err(_) => Step::Break(Closed),
        }
    }
}

/// Whether a version is older than another: servers count up. Versions that are no numbers are not compared.
fn is_older(version: &str, than: &str) -> bool {
    matches!((version.parse::<u64>(), than.parse::<u64>()), (Ok(version), Ok(than)) if version < than)
}
