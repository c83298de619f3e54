//! Listing and watching, as a machine. Its input says what the server answered. Its output is events and what to do
//! next. It does no I/O, reads no clock, and has no randomness of its own.

#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

mod list;
mod state;
mod stream;
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
use super::split::Wanted;
use super::versions::{Versions, is_older};
use super::watched::{Encoded, ListState, ReadObject, Watched};
use crate::backoff::Backoff;
use crate::event::Reach;
use crate::ways::{Lists, Ways};
use state::{Least, State, Watch};

/// After this many watches in a row without an event or bookmark, everything is listed again.
const SILENT_WATCHES: u32 = 3;
/// After this many refused watches, everything is listed again.
const REFUSED_WATCHES: u32 = 2;
/// After this many streams in a row that ended before their list did, the list is asked for from the watch cache.
const UNFINISHED_STREAMS: u32 = 2;
/// By how much of their longest time watches may be shorter. The watches of a cluster's nodes must not all end at once.
const WATCH_SPREAD: f64 = 0.3;
/// The longest time that a server may take to end a watch after the watch's time is over.
const LONGEST_END: Duration = Duration::from_secs(5);

/// What happened.
#[derive(Debug)]
pub(super) enum Input<'a> {
    /// The time to wait for has come.
    Time,
    /// The answer to a request: its body follows, or the request failed.
    Opened(Result<(), Failure>),
    /// An item of a list. The list has said that it is the wanted one.
    Item(Encoded<'a>),
    /// The end of a list's page in JSON: the page without the items that came before.
    Page(&'a [u8]),
    /// As `Page`, in protobuf.
    ProtobufPage(&'a [u8]),
    /// A line of a watch.
    Line(&'a [u8]),
    /// A frame of a watch in protobuf.
    Frame(&'a [u8]),
    /// The body of a watch ended. This rest after the last line is not a line.
    End(&'a [u8]),
    /// The body broke off.
    Broken(Failure),
}

/// What to do next. The result is the next input.
#[derive(Debug)]
pub(super) enum Next {
    /// Wait until this time.
    Wait(Instant),
    /// Ask for a page of a list.
    List(Result<Request<Body>, RequestError>),
    /// Ask for a watch.
    Watch(Result<Request<Body>, RequestError>),
    /// Read the next line of the watch, or the next item of the list. If nothing has arrived by this time, the connection is
    /// dead.
    Read(Instant),
}

/// Facts of one moment, the same for all kinds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) now: Instant,
    /// Whether the server allowed any kind to be listed. Before that, it may refuse because the server or the rights
    /// are still being set up.
    pub(super) admitted: bool,
}

#[derive(Debug)]
pub(super) struct Machine<W> {
    watched: W,
    query: Query,
    lists: Lists,
    timing: Timing,
    backoff: Backoff,
    jitter: Jitter,
    /// What was last reported about whether the objects can be read.
    reach: Option<Reach>,
    /// Whether any list was complete.
    listed: bool,
    /// How many watches the server refused, or answered with something else, since the last watch with an event.
    refused: u32,
    /// How many watches ended without an event since the last watch with one.
    silent: u32,
    /// Whether the last watches did not work. If so, an answer 200 does not yet count as a working watch, only an event
    /// does.
    doubted: bool,
    /// The next watch begins after this version.
    version: String,
    /// Whether a list may name that version as the least one.
    least: Least,
    /// When everything is listed again, even if the watches work.
    relist: Option<Instant>,
    /// How many streams in a row ended before their list did. From `UNFINISHED_STREAMS` on, the list is asked for from
    /// the watch cache.
    unfinished: u32,
    /// Whether the server sends bookmarks, so that a watch is never without one for long.
    bookmarks: bool,
    state: State,
}

/// How a watch ended.
enum Ended {
    /// As the server was asked to end it. `heard` says whether anything arrived.
    Quietly { heard: bool },
    /// With a failure.
    Failed(Failure),
    /// Because the versions went backwards.
    Backwards,
}

impl<W: Watched> Machine<W> {
    /// A machine that knows nothing yet. `jitter` spreads its waits.
    pub(super) fn new(watched: W, ways: &Ways, timing: Timing, jitter: Jitter) -> Self {
        Self {
            query: Query::new(watched.resource(), ways.accept.clone()),
            watched,
            lists: ways.lists,
            timing,
            backoff: Backoff::new(timing.first_wait, timing.longest_wait),
            jitter,
            reach: None,
            listed: false,
            refused: 0,
            silent: 0,
            doubted: false,
            version: String::new(),
            least: Least::Known,
            relist: None,
            unfinished: 0,
            bookmarks: false,
            state: State::Idle,
        }
    }

    /// Whether any list was complete.
    pub(super) fn has_listed(&self) -> bool {
        self.listed
    }

    /// What the body of a list must be.
    pub(super) fn wanted(&self) -> Wanted {
        let versions = match &self.state {
            State::Listing(list) => list.versions(),
            _ => Versions::Any,
        };
        Wanted {
            versions,
            ..Wanted::of(&self.query.resource)
        }
    }

    /// Takes an input. Appends events, and returns what to do next.
    pub(super) fn step(&mut self, input: Input<'_>, at: Moment, events: &mut Vec<W::Event>) -> Next {
        match (std::mem::take(&mut self.state), input) {
            (
                State::Listing(list),
                input
                @ (Input::Opened(_) | Input::Item(_) | Input::Page(_) | Input::ProtobufPage(_) | Input::Broken(_)),
            ) => self.list_goes_on(list, input, at, events),
            (
                State::Streaming(stream),
                input @ (Input::Opened(_) | Input::Line(_) | Input::Frame(_) | Input::End(_) | Input::Broken(_)),
            ) => self.stream_goes_on(stream, input, at, events),
            (State::Watching(watch), Input::Opened(Ok(()))) => {
                if !self.doubted {
                    self.say(Reach::Watching, events);
                }
                // The server ends the watch itself. If it does not end it by then, the watch is dead.
                let end = at.now + watch.lasting + self.timing.answer.min(LONGEST_END);
                let watch = Watch {
                    end,
                    heard_at: at.now,
                    ..watch
                };
                self.read(watch)
            }
            (State::Watching(watch), Input::Line(line)) if line.trim_ascii().is_empty() => self.read(watch),
            (State::Watching(watch), Input::Line(line)) => {
                let told = objects::line(&self.watched, line, false);
                self.heard(watch, told, at, events)
            }
            (State::Watching(watch), Input::Frame(frame)) => {
                let told = objects::frame(&self.watched, frame, false);
                self.heard(watch, told, at, events)
            }
            (State::Watching(watch), Input::End(rest)) => {
                let rest = rest.trim_ascii();
                // A rest without an end of line was cut off, or never was an event.
                let ended = if watch.heard || rest.is_empty() {
                    Ended::Quietly { heard: watch.heard }
                } else {
                    Ended::Failed(instead(rest, "watch event", None))
                };
                self.ended(&watch, ended, at, events)
            }
            (State::Watching(watch), Input::Broken(Failure::Silence(_))) => {
                let failure = Failure::Silence(at.now.saturating_duration_since(watch.heard_at));
                self.ended(&watch, Ended::Failed(failure), at, events)
            }
            (State::Watching(watch), Input::Opened(Err(failure)) | Input::Broken(failure)) => {
                self.ended(&watch, Ended::Failed(failure), at, events)
            }
            (State::Idle | State::Resting, Input::Time) => self.go_on(at),
            // This input does not fit the state. Everything is listed again.
            (
                _,
                Input::Time
                | Input::Opened(_)
                | Input::Item(_)
                | Input::Page(_)
                | Input::ProtobufPage(_)
                | Input::Line(_)
                | Input::Frame(_)
                | Input::End(_)
                | Input::Broken(_),
            ) => self.list(at),
        }
    }

    /// Watches from the last version seen, or lists if a new list is due.
    fn go_on(&mut self, at: Moment) -> Next {
        match self.relist {
            Some(relist) if at.now < relist => self.watch(at),
            _ => self.list(at),
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

    fn watch(&mut self, at: Moment) -> Next {
        let lasting = self.jitter.spread(self.timing.watch, WATCH_SPREAD);
        let request = self.query.watch(&self.version, lasting);
        self.state = State::Watching(Watch::new(at.now, lasting));
        Next::Watch(request)
    }

    fn read(&mut self, watch: Watch) -> Next {
        let until = if self.bookmarks {
            watch.end.min(watch.heard_at + self.timing.quiet)
        } else {
            watch.end
        };
        self.state = State::Watching(watch);
        Next::Read(until)
    }

    fn heard(
        &mut self,
        mut watch: Watch,
        told: Result<WatchLine<W::Event>, Failure>,
        at: Moment,
        events: &mut Vec<W::Event>,
    ) -> Next {
        let heard = match told {
            Ok(told) => told,
            Err(failure) => return self.ended(&watch, Ended::Failed(failure), at, events),
        };
        if !std::mem::replace(&mut watch.heard, true) {
            (self.refused, self.doubted) = (0, false);
            self.say(Reach::Watching, events);
        }
        match heard {
            WatchLine::Change(ReadObject {
                version: Some(version), ..
            }) if is_older(&version, &self.version) => {
                return self.ended(&watch, Ended::Backwards, at, events);
            }
            WatchLine::Change(ReadObject { event, version }) => {
                if let Some(version) = version {
                    self.version = version;
                }
                events.extend(event);
            }
            WatchLine::Listed(_) => {
                let problem = "a second bookmark that ends a list".to_owned();
                return self.ended(&watch, Ended::Failed(Failure::Garbage(problem)), at, events);
            }
            WatchLine::Bookmark(version) if is_older(&version, &self.version) => {
                return self.ended(&watch, Ended::Backwards, at, events);
            }
            WatchLine::Bookmark(version) => {
                self.version = version;
                self.bookmarks = true;
            }
        }
        watch.heard_at = at.now;
        self.read(watch)
    }

    /// Decides what to do after a watch: watch again, or list. Reports a failure.
    fn ended(&mut self, watch: &Watch, ended: Ended, at: Moment, events: &mut Vec<W::Event>) -> Next {
        let stood = at.now.saturating_duration_since(watch.began);
        match ended {
            Ended::Quietly { heard } => {
                self.silent = if heard { 0 } else { self.silent + 1 };
                if !heard && self.silent.is_multiple_of(SILENT_WATCHES) {
                    self.doubted = true;
                    self.lost(&Failure::Unheard(SILENT_WATCHES), "watch", events);
                    // A watch cache that follows its store no longer would say the same again.
                    (self.relist, self.least) = (None, Least::Unavailable);
                }
                // If a server ends every watch at once, it must not be asked in a tight loop.
                if stood < Duration::from_secs(1).min(self.timing.watch / 2) {
                    let wait = self.next_wait(None);
                    return self.rest(wait, at);
                }
                self.backoff.reset();
                // A server that ends a watch before its time may be shutting down. Then it ends the watches of all nodes,
                // and they must not all come back at once.
                if stood + LONGEST_END < watch.lasting {
                    let wait = self.jitter.spread(self.timing.first_wait, 1.0);
                    return self.rest(wait, at);
                }
                self.go_on(at)
            }
            Ended::Backwards => {
                tracing::warn!(
                    kind = self.query.resource.kind,
                    "the API server's versions went backwards: listing again"
                );
                (self.relist, self.least) = (None, Least::Unavailable);
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
            // This watch lasted a while, even if without an event. So earlier refusals and this failure do not count as
            // refusals in a row.
            self.refused = 0;
        }
        self.refused += u32::from(refusal);
        self.doubted |= garbage;
        if failure.is_about_version() && self.refused <= 1 {
            // The server answers again, whatever failed before. So the new list need not wait long.
            self.backoff.reset();
        } else {
            // An expired version, without another problem, is normal. It is not reported as a loss.
            self.lost(failure, "watch", events);
        }
        // An old version is still one that a list must not be older than. A version that the server has not reached is not.
        if failure.is_ahead() {
            self.least = Least::Unavailable;
        }
        if failure.is_about_version() || (refusal && self.refused >= REFUSED_WATCHES) {
            self.relist = None;
        }
    }

    fn lost(&mut self, failure: &Failure, verb: &str, events: &mut Vec<W::Event>) {
        self.say(Reach::Lost(failure.reason(verb, self.query.resource.name())), events);
    }

    /// Reports whether the objects can be read, once per change.
    fn say(&mut self, reach: Reach, events: &mut Vec<W::Event>) {
        if self.reach.as_ref() != Some(&reach) {
            self.reach = Some(reach.clone());
            events.push(self.watched.tell(ListState::Reach(reach)));
        }
    }
}
