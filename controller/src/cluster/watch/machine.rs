//! Listing and watching, as a machine: what was asked of the server, and how the answers came, go in;
//! events and what to do next come out. No I/O, no clock, no randomness of its own.

#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

mod state;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use http::Request;
use kube::client::Body;

use super::backoff::{Jitter, next_wait};
use super::failure::Failure;
use super::instead::instead;
use super::objects::{self, WatchLine};
use super::query::{Query, RequestError, Timing};
use super::watched::{ListState, ReadObject, Watched};
use crate::backoff::Backoff;
use crate::event::Reach;
use state::{List, Pieces, State, Watch};

/// Watches without any event or bookmark, one after the other, before everything is listed again.
const SILENT_WATCHES: u32 = 3;
/// Refused watches before everything is listed again.
const REFUSED_WATCHES: u32 = 2;
/// The longest that a server may take to end a watch whose time is over.
const LONGEST_END: Duration = Duration::from_secs(5);

/// What happened.
#[derive(Debug)]
pub(super) enum Input<'a> {
    /// The time that was waited for has come.
    Time,
    /// A page of a list was answered by this body.
    Page(Result<&'a [u8], Failure>),
    /// A watch was answered: its lines come, or none will.
    Opened(Result<(), Failure>),
    /// A line of a watch.
    Line(&'a [u8]),
    /// The body of a watch ended behind this, which is no line.
    End(&'a [u8]),
    /// The body of a watch broke off.
    Broken(Failure),
}

/// What to do next; its outcome is the next input.
#[derive(Debug)]
pub(super) enum Next {
    /// Wait until then.
    Wait(Instant),
    /// Ask for a page of a list.
    List(Result<Request<Body>, RequestError>),
    /// Ask for a watch.
    Watch(Result<Request<Body>, RequestError>),
    /// Read the next line of the watch, which is dead if none has come by then.
    Read(Instant),
}

/// What is the same for all kinds at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) now: Instant,
    /// Whether the server let any kind be listed: before that, its refusals may be those of a server or of rights that
    /// are still being set up.
    pub(super) admitted: bool,
}

#[derive(Debug)]
pub(super) struct Machine<W> {
    watched: W,
    query: Query,
    timing: Timing,
    backoff: Backoff,
    jitter: Jitter,
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
    /// The version that the next watch begins after.
    version: String,
    /// When everything is listed again, whatever watches say.
    relist: Option<Instant>,
    state: State,
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

impl<W: Watched> Machine<W> {
    /// One that knows nothing. `jitter` spreads its waits.
    pub(super) fn new(watched: W, timing: Timing, jitter: Jitter) -> Self {
        Self {
            query: Query::new(watched.resource()),
            watched,
            timing,
            backoff: Backoff::new(timing.first_wait, timing.longest_wait),
            jitter,
            reach: None,
            listed: false,
            refused: 0,
            silent: 0,
            doubted: false,
            version: String::new(),
            relist: None,
            state: State::Idle,
        }
    }

    /// Whether a list was complete once.
    pub(super) fn has_listed(&self) -> bool {
        self.listed
    }

    /// Takes in what happened. Appends events, and gives what to do next.
    pub(super) fn step(&mut self, input: Input<'_>, at: Moment, events: &mut Vec<W::Event>) -> Next {
        match (std::mem::take(&mut self.state), input) {
            (State::Listing(list), Input::Page(body)) => self.page(list, body, at, events),
            (State::Watching(watch), Input::Opened(Ok(()))) => {
                if !self.doubted {
                    self.say(Reach::Watching, events);
                }
                // The server ends the watch itself; one that it does not end is dead.
                let until = at.now + watch.lasting + self.timing.answer.min(LONGEST_END);
                self.read(Watch { until, ..watch })
            }
            (State::Watching(watch), Input::Line(line)) => self.line(watch, line, at, events),
            (State::Watching(watch), Input::End(rest)) => {
                let rest = rest.trim_ascii();
                // What is left without an end of line was cut off, or never was an event.
                let ended = if watch.heard || rest.is_empty() {
                    Ended::Quietly { heard: watch.heard }
                } else {
                    Ended::Failed(instead(rest, "watch event", None))
                };
                self.ended(&watch, ended, at, events)
            }
            (State::Watching(watch), Input::Opened(Err(failure)) | Input::Broken(failure)) => {
                self.ended(&watch, Ended::Failed(failure), at, events)
            }
            (State::Idle | State::Resting, Input::Time) => self.go_on(at),
            // Nobody asked for this. What was begun is begun anew.
            (
                _,
                Input::Time | Input::Page(_) | Input::Opened(_) | Input::Line(_) | Input::End(_) | Input::Broken(_),
            ) => self.list(Pieces::Pages, at),
        }
    }

    /// Watches from the last version seen, or lists if it is time to.
    fn go_on(&mut self, at: Moment) -> Next {
        match self.relist {
            Some(relist) if at.now < relist => self.watch(at),
            _ => self.list(Pieces::Pages, at),
        }
    }

    /// Waits, then goes on.
    fn rest(&mut self, wait: Duration, at: Moment) -> Next {
        self.state = State::Resting;
        Next::Wait(at.now + wait)
    }

    /// The next wait after a failure.
    fn next_wait(&mut self, asked: Option<Duration>) -> Duration {
        next_wait(&mut self.backoff, &mut self.jitter, asked)
    }

    fn list(&mut self, pieces: Pieces, at: Moment) -> Next {
        self.relist = None;
        self.ask_for_page(List::new(&self.query.resource, pieces, at.admitted))
    }

    fn ask_for_page(&mut self, list: List) -> Next {
        let request = self.query.list(list.pieces == Pieces::Pages, list.pages.after());
        self.state = State::Listing(list);
        Next::List(request)
    }

    fn page(&mut self, mut list: List, body: Result<&[u8], Failure>, at: Moment, events: &mut Vec<W::Event>) -> Next {
        let further = list.pages.after().is_some();
        let items = match body.and_then(|text| list.pages.take(text)) {
            Ok(items) => items,
            // The pages took longer than the server remembers.
            Err(failure) if further && failure.code() == Some(410) => {
                let problem = "no further page, as the list is too old (410)".to_owned();
                return self.list_failed(&list, &Failure::Pages(problem), at, events);
            }
            Err(failure) => return self.list_failed(&list, &failure, at, events),
        };
        if !std::mem::replace(&mut list.begun, true) {
            events.push(self.watched.tell(ListState::Listing));
        }
        for item in items {
            match objects::item(&self.watched, item) {
                Ok(event) => events.extend(event),
                Err(failure) => return self.list_failed(&list, &failure, at, events),
            }
        }
        if list.pages.after().is_some() {
            return self.ask_for_page(list);
        }
        self.version = list.pages.into_version();
        events.push(self.watched.tell(ListState::Listed));
        self.listed = true;
        self.relist = Some(at.now + self.jitter.spread(self.timing.relist, 0.3));
        self.watch(at)
    }

    /// Decides what a failed list means, and says so. If the pages are of no use, all is asked for at once, this one time.
    fn list_failed(&mut self, list: &List, failure: &Failure, at: Moment, events: &mut Vec<W::Event>) -> Next {
        if matches!(failure, Failure::Pages(_)) && list.pieces == Pieces::Pages {
            let reason = failure.reason("list", self.query.resource.name());
            tracing::info!(kind = self.query.resource.kind, "{reason}: asking for all at once");
            return self.ask_for_page(List::new(&self.query.resource, Pieces::One, list.admitted));
        }
        if failure.code() == Some(400) && self.query.drop_fields() {
            return self.list(Pieces::Pages, at);
        }
        let optional = self.query.resource.optional && !self.listed;
        match failure.code() {
            Some(404) if optional => self.absent(None, at, events),
            Some(403) if optional && list.admitted => self.absent(Some(failure), at, events),
            _ => {
                self.lost(failure, "list", events);
                let wait = self.next_wait(failure.retry_after());
                self.rest(wait, at)
            }
        }
    }

    /// Takes the kind as one without objects, and asks again later.
    fn absent(&mut self, forbidden: Option<&Failure>, at: Moment, events: &mut Vec<W::Event>) -> Next {
        events.extend([ListState::Listing, ListState::Listed].map(|told| self.watched.tell(told)));
        match forbidden {
            Some(failure) => self.lost(failure, "list", events),
            None => self.say(Reach::Watching, events),
        }
        let wait = self.jitter.spread(self.timing.absent, 0.3);
        self.rest(wait, at)
    }

    fn watch(&mut self, at: Moment) -> Next {
        let lasting = self.jitter.spread(self.timing.watch, 0.2);
        let request = self.query.watch(&self.version, lasting);
        self.state = State::Watching(Watch::new(at.now, lasting));
        Next::Watch(request)
    }

    fn read(&mut self, watch: Watch) -> Next {
        let until = watch.until;
        self.state = State::Watching(watch);
        Next::Read(until)
    }

    fn line(&mut self, mut watch: Watch, line: &[u8], at: Moment, events: &mut Vec<W::Event>) -> Next {
        if line.trim_ascii().is_empty() {
            return self.read(watch);
        }
        let heard = match objects::line(&self.watched, line) {
            Ok(told) => told,
            Err(failure) => return self.ended(&watch, Ended::Failed(failure), at, events),
        };
        if !std::mem::replace(&mut watch.heard, true) {
            (self.refused, self.doubted) = (0, false);
            self.say(Reach::Watching, events);
        }
        match heard {
            WatchLine::Change(ReadObject { event, version }) => {
                if let Some(version) = version {
                    self.version = version;
                }
                events.extend(event);
            }
            WatchLine::Bookmark(version) if is_older(&version, &self.version) => {
                return self.ended(&watch, Ended::Backwards, at, events);
            }
            WatchLine::Bookmark(version) => self.version = version,
        }
        self.read(watch)
    }

    /// Decides what the end of a watch means, and says so: the next watch, or a list.
    fn ended(&mut self, watch: &Watch, ended: Ended, at: Moment, events: &mut Vec<W::Event>) -> Next {
        let stood = at.now.saturating_duration_since(watch.began);
        match ended {
            Ended::Quietly { heard } => {
                self.silent = if heard { 0 } else { self.silent + 1 };
                if !heard && self.silent.is_multiple_of(SILENT_WATCHES) {
                    self.doubted = true;
                    self.lost(&Failure::Unheard(SILENT_WATCHES), "watch", events);
                    self.relist = None;
                }
                // A server that ends every watch at once is not to be asked in a tight loop.
                if stood < Duration::from_secs(1).min(self.timing.watch / 2) {
                    let wait = self.next_wait(None);
                    return self.rest(wait, at);
                }
                self.backoff.reset();
                self.go_on(at)
            }
            Ended::Backwards => {
                tracing::warn!(
                    kind = self.query.resource.kind,
                    "the API server's versions went backwards: listing again"
                );
                self.relist = None;
                let wait = self.next_wait(None);
                self.rest(wait, at)
            }
            Ended::Failed(failure) => {
                self.watch_failed(&failure, stood, events);
                let wait = self.next_wait(failure.retry_after());
                self.rest(wait, at)
            }
        }
    }

    fn watch_failed(&mut self, failure: &Failure, stood: Duration, events: &mut Vec<W::Event>) {
        if stood >= self.timing.longest_wait {
            self.backoff.reset();
        }
        let (refusal, garbage) = (failure.is_a_refusal(), matches!(failure, Failure::Garbage(_)));
        if stood >= self.timing.first_wait && !garbage {
            // It stood for a while, if without a word: what was refused before it is no row with this.
            self.refused = 0;
        }
        self.refused += u32::from(refusal);
        self.doubted |= garbage;
        if failure.is_about_version() && self.refused <= 1 {
            // The server is there, whatever was before: no long wait for the new list.
            self.backoff.reset();
        } else {
            // A version that expired while nothing else was wrong is an everyday matter, not a loss.
            self.lost(failure, "watch", events);
        }
        if failure.is_about_version() || (refusal && self.refused >= REFUSED_WATCHES) {
            self.relist = None;
        }
    }

    fn lost(&mut self, failure: &Failure, verb: &str, events: &mut Vec<W::Event>) {
        self.say(Reach::Lost(failure.reason(verb, self.query.resource.name())), events);
    }

    /// Says whether the objects are reached, once per change.
    fn say(&mut self, reach: Reach, events: &mut Vec<W::Event>) {
        if self.reach.as_ref() != Some(&reach) {
            self.reach = Some(reach.clone());
            events.push(self.watched.tell(ListState::Reach(reach)));
        }
    }
}

/// Whether a version is older than another: servers count up. Versions that are no numbers are not compared.
fn is_older(version: &str, than: &str) -> bool {
    matches!((version.parse::<u64>(), than.parse::<u64>()), (Ok(version), Ok(than)) if version < than)
}
