//! A list that arrives as the beginning of a watch (KEP-3157): all objects one by one, then a bookmark that ends the
//! list. So no whole list is ever in memory, and the server need not build one. Servers before 1.34 may refuse it.

use super::state::Stream;
use super::{
    Failure, Input, LONGEST_END, ListState, Machine, Moment, Next, ReadObject, State, UNFINISHED_STREAMS, WATCH_SPREAD,
    Watch, WatchLine, Watched, instead, objects,
};
use crate::cluster::watch::wire::Encoding;

impl<W: Watched> Machine<W> {
    /// Asks for a list as the beginning of a watch.
    pub(super) fn stream(&mut self, at: Moment) -> Next {
        let lasting = self.jitter.spread(self.timing.watch, WATCH_SPREAD);
        let request = self.query.stream(lasting);
        self.state = State::Streaming(Stream {
            watch: Watch::new(at.now, lasting),
            opened: false,
            begun: false,
            count: 0,
        });
        Next::Watch(request)
    }

    /// What to do after an input that belongs to the stream.
    pub(super) fn stream_goes_on(
        &mut self,
        mut stream: Stream,
        input: Input<'_>,
        at: Moment,
        events: &mut Vec<W::Event>,
    ) -> Next {
        let failure = match input {
            Input::Opened(Ok(())) => {
                stream.watch.end = at.now + stream.watch.lasting + self.timing.answer.min(LONGEST_END);
                stream.opened = true;
                return self.read_stream(stream, at);
            }
            Input::Line(_) | Input::Frame(_) | Input::Broken(Failure::Silence(_)) if at.now >= stream.watch.end => {
                let time = stream.watch.lasting.as_secs();
                Failure::Garbage(format!("a list that had no end after {time} s"))
            }
            Input::Line(line) if line.trim_ascii().is_empty() => return self.read_stream(stream, at),
            Input::Line(line) => match objects::line(&self.watched, line, true) {
                Ok(told) => return self.listed_one(stream, told, Encoding::Json, at, events),
                Err(failure) => failure,
            },
            Input::Frame(frame) => match objects::frame(&self.watched, frame, true) {
                Ok(told) => return self.listed_one(stream, told, Encoding::Protobuf, at, events),
                Err(failure) => failure,
            },
            Input::End(rest) if !stream.begun => instead(rest.trim_ascii(), "watch event", None),
            Input::End(_) => Failure::Garbage("objects without the bookmark that ends their list".to_owned()),
            Input::Broken(Failure::Silence(_)) => {
                Failure::Silence(at.now.saturating_duration_since(stream.watch.heard_at))
            }
            Input::Opened(Err(failure)) | Input::Broken(failure) => failure,
            Input::Time | Input::Item(_) | Input::Page(_) | Input::ProtobufPage(_) => return self.list(at),
        };
        self.stream_failed(stream.opened, &failure, at, events)
    }

    /// Takes what a line or a frame of the stream says.
    fn listed_one(
        &mut self,
        mut stream: Stream,
        told: WatchLine<W::Event>,
        encoding: Encoding,
        at: Moment,
        events: &mut Vec<W::Event>,
    ) -> Next {
        match told {
            WatchLine::Listed(version) => {
                self.begin(&mut stream.begun, events);
                let how = format!("one by one, in {encoding}");
                self.complete(version, stream.count, &how, at, events);
                self.streamed(stream.watch, at, events)
            }
            // A bookmark that does not end the list says nothing about it.
            WatchLine::Bookmark(_) => self.read_stream(stream, at),
            WatchLine::Change(ReadObject { event, .. }) => {
                self.begin(&mut stream.begun, events);
                stream.count += 1;
                events.extend(event);
                self.read_stream(stream, at)
            }
        }
    }

    /// Reports the beginning of a list, once.
    pub(super) fn begin(&self, begun: &mut bool, events: &mut Vec<W::Event>) {
        if !std::mem::replace(begun, true) {
            events.push(self.watched.tell(ListState::Listing));
        }
    }

    fn read_stream(&mut self, mut stream: Stream, at: Moment) -> Next {
        stream.watch.heard_at = at.now;
        let until = stream.watch.end.min(at.now + self.timing.answer);
        self.state = State::Streaming(stream);
        Next::Read(until)
    }

    /// The list is complete. What follows is a watch.
    fn streamed(&mut self, mut watch: Watch, at: Moment, events: &mut Vec<W::Event>) -> Next {
        (self.refused, self.silent, self.doubted) = (0, 0, false);
        self.say(super::Reach::Watching, events);
        (watch.heard, watch.heard_at) = (true, at.now);
        self.read(watch)
    }

    /// Decides how the list is asked for again. If the server does not stream lists, or not to this node, its watch cache is
    /// asked at once. If it sends something wrong, or if two streams in a row end before their list does, its watch cache
    /// is asked after a wait. A server that is only away or overloaded is asked for a stream again, because a list in one
    /// piece costs it more.
    fn stream_failed(&mut self, opened: bool, failure: &Failure, at: Moment, events: &mut Vec<W::Event>) -> Next {
        if failure.is_about_the_way() {
            self.unfinished = UNFINISHED_STREAMS;
            let reason = failure.reason("stream", self.query.resource.name());
            tracing::debug!(kind = self.query.resource.kind, "{reason}: asking the watch cache");
            return self.cached(at);
        }
        self.unfinished += match failure {
            Failure::Garbage(_) => UNFINISHED_STREAMS,
            _ => u32::from(opened),
        };
        self.lost(failure, "list", events);
        let wait = self.next_wait(failure.retry_after());
        self.rest(wait, at)
    }
}
