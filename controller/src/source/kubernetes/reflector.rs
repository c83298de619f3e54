//! One kind of objects, listed and watched for ever.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, StatusCode};
use kube::Client;
use kube::client::Body;
use tokio::sync::mpsc::Sender;
use tokio::time::{sleep, timeout};

use super::backoff::{Backoff, jitter};
use super::failure::Failure;
use super::instead::{instead, words};
use super::lines::{Lines, beginning, whole};
use super::objects::{self, Told};
use super::pages::Pages;
use super::query::{Query, Timing};
use crate::event::{Event, Kind, Reach};
use crate::source::decode::{Decoder, printable};

/// Watches without any event or bookmark, one after the other, before everything is listed again.
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
    /// Watches that the server refused, or answered by something else, since one was heard.
    refused: u32,
    /// Watches that ended without a word since one was heard.
    silent: u32,
    /// Whether what answered the last watches was none: then only an event tells that this one is.
    doubted: bool,
    /// Whether the server let any kind be listed: before that, its refusals may be those of a server or of rights that
    /// are still being set up.
    admitted: Arc<AtomicBool>,
    version: String,
}

/// How a list is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pieces {
    Pages,
    One,
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
            silent: 0,
            doubted: false,
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
            self.watch_while_trusted().await?;
        }
    }

    /// Lists page by page; where the pages are of no use, all at once, this one time.
    async fn list(&mut self) -> Step<Result<(), Failure>> {
        let Err(failure) = self.list_in(Pieces::Pages).await? else {
            return Step::Continue(Ok(()));
        };
        if !matches!(failure, Failure::Pages(_)) {
            return Step::Continue(Err(failure));
        }
        let reason = failure.reason("list", self.query.resource());
        tracing::info!(kind = %self.query.kind, "{reason}: asking for all at once");
        self.list_in(Pieces::One).await
    }

    async fn list_in(&mut self, pieces: Pieces) -> Step<Result<(), Failure>> {
        let query = self.query.clone();
        let mut pages = Pages::new(&query);
        let mut begun = false;
        loop {
            let request = self.query.list(pieces == Pieces::Pages, pages.after());
            let body = match self.answer(request).await {
                Ok(body) => whole(body, self.timing.answer).await,
                Err(failure) => Err(failure),
            };
            let after = pages.after().is_some();
            let items = match body.as_deref().map_err(Clone::clone).and_then(|text| pages.take(text)) {
                Ok(items) => items,
                // The pages took longer than the server remembers.
                Err(failure) if after && failure.code() == Some(410) => {
                    return Step::Continue(Err(Failure::Pages(
                        "no further page, as the list is too old (410)".to_owned(),
                    )));
                }
                Err(failure) => return Step::Continue(Err(failure)),
            };
            if !std::mem::replace(&mut begun, true) {
                self.send(Event::Listing(self.query.kind)).await?;
            }
            for item in items {
                match objects::item(&self.decoder, self.query.kind, item) {
                    Ok(Some(event)) => self.send(event).await?,
                    Ok(None) => {}
                    Err(failure) => return Step::Continue(Err(failure)),
                }
            }
            if pages.after().is_none() {
                break;
            }
        }
        self.version = pages.into_version();
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
        while Instant::now() < relist {
            let began = Instant::now();
            match self.watch().await? {
                Ended::Quietly { heard } => {
                    self.silent = if heard { 0 } else { self.silent + 1 };
                    let listing = !heard && self.silent.is_multiple_of(SILENT_WATCHES);
                    if listing {
                        self.doubted = true;
                        self.lost(&Failure::Unheard(SILENT_WATCHES), "watch").await?;
                    }
                    // A server that ends every watch at once is not to be asked in a tight loop.
                    if began.elapsed() < Duration::from_secs(1).min(self.timing.watch / 2) {
                        sleep(self.backoff.next(None)).await;
                    } else {
                        self.backoff.reset();
                    }
                    if listing {
                        return Step::Continue(());
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
                    let refusal = failure.is_a_refusal();
                    if began.elapsed() >= self.timing.first_wait && !matches!(failure, Failure::Garbage(_)) {
                        // It stood for a while, if without a word: what was refused before it is no row with this.
                        self.refused = 0;
                    }
                    self.refused += u32::from(refusal);
                    self.doubted |= matches!(failure, Failure::Garbage(_));
                    if failure.is_about_version() && self.refused <= 1 {
                        // The server is there, whatever was before: no long wait for the new list.
                        self.backoff.reset();
                    }
                    // A version that expired while nothing else was wrong is an everyday matter, not a loss.
                    if !failure.is_about_version() || self.refused > 1 {
                        self.lost(&failure, "watch").await?;
                    }
                    sleep(self.backoff.next(failure.retry_after())).await;
                    if failure.is_about_version() || (refusal && self.refused >= REFUSED_WATCHES) {
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
        if !self.doubted {
            self.say(Reach::Watching).await?;
        }
        // The server ends the watch itself; one that it does not end is dead.
        let deadline = lasting + self.timing.answer.min(Duration::from_secs(5));
        let began = Instant::now();
        let mut lines = Lines::new(body);
        let mut heard = false;
        loop {
            let left = deadline.saturating_sub(began.elapsed());
            let line = match lines.next(left).await {
                Ok(line) => line,
                Err(failure) => return Step::Continue(Ended::Failed(failure)),
            };
            let Some(line) = line else {
                // What is left without an end of line was cut off, or never was an event.
                let rest = lines.rest().trim_ascii();
                return Step::Continue(if heard || rest.is_empty() {
                    Ended::Quietly { heard }
                } else {
                    Ended::Failed(instead(rest, "watch event", None))
                });
            };
            if line.trim_ascii().is_empty() {
                continue;
            }
            let told = match objects::line(&self.decoder, self.query.kind, line) {
                Ok(told) => told,
                Err(failure) => return Step::Continue(Ended::Failed(failure)),
            };
            if !std::mem::replace(&mut heard, true) {
                (self.refused, self.doubted) = (0, false);
                self.say(Reach::Watching).await?;
            }
            match told {
                Told::Change(event, version) => {
                    self.version = version.unwrap_or_else(|| std::mem::take(&mut self.version));
                    if let Some(event) = event {
                        self.send(event).await?;
                    }
                }
                Told::Bookmark(version) if is_older(&version, &self.version) => {
                    return Step::Continue(Ended::Backwards);
                }
                Told::Bookmark(version) => self.version = version,
            }
        }
    }

    /// Asks, and returns the body of an answer 200 that may be JSON.
    async fn answer(&self, request: Result<Request<Body>, http::Error>) -> Result<Body, Failure> {
        let request = request.map_err(|error| Failure::Garbage(format!("no usable address: {error}")))?;
        let answer = match timeout(self.timing.answer, self.client.send(request)).await {
            Err(_) => return Err(Failure::Silence(self.timing.answer)),
            Ok(Err(error)) => return Err(Failure::transport(&error)),
            Ok(Ok(answer)) => answer,
        };
        let (head, body) = answer.into_parts();
        if head.status == StatusCode::OK {
            let kind = head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
            return match kind.map(String::from_utf8_lossy) {
                Some(kind) if !is_json(&kind) => {
                    let text = beginning(body, self.timing.answer).await;
                    let came = format!("{} instead of JSON ({})", printable(&kind), words(&text));
                    Err(Failure::Garbage(came))
                }
                _ => Ok(body),
            };
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

/// Whether a media type is that of what was asked for.
fn is_json(kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

/// Whether a version is older than another: servers count up. Versions that are no numbers are not compared.
fn is_older(version: &str, than: &str) -> bool {
    matches!((version.parse::<u64>(), than.parse::<u64>()), (Ok(version), Ok(than)) if version < than)
}
