//! Lists that are no streams: from the server's watch cache, in one piece, or from its store, in pages. Their items arrive
//! one by one too, after the page has said that it is a list of the right kind and version. The rest around them is checked
//! at the end of each page, and only then may a list be complete.

use crate::ways::Lists;

use super::state::{Least, List};
use super::{Failure, Input, ListState, Machine, Moment, Next, State, UNFINISHED_STREAMS, Watched, is_older, objects};
use crate::cluster::watch::query::Place;
use crate::cluster::watch::watched::Encoded;
use crate::cluster::watch::wire::Encoding;

impl<W: Watched> Machine<W> {
    /// Asks for all objects, in the way that the settings name. If the server did not stream the last list, its watch cache
    /// is asked.
    pub(super) fn list(&mut self, at: Moment) -> Next {
        self.relist = None;
        match self.lists {
            Lists::Stream if self.unfinished < UNFINISHED_STREAMS => self.stream(at),
            Lists::Stream | Lists::Cache => self.cached(at),
            Lists::Pages => self.from(Place::Pages, at),
        }
    }

    /// Asks the watch cache. As client-go does: the first list may be of any version, and each later one must not be older
    /// than what is known. If the server does not have that version, its store is asked.
    pub(super) fn cached(&mut self, at: Moment) -> Next {
        if self.least == Least::Unavailable {
            return self.from(Place::Pages, at);
        }
        let known = Some(self.version.clone()).filter(|version| !version.is_empty());
        self.from(Place::Cache(known.unwrap_or_else(|| "0".to_owned())), at)
    }

    fn from(&mut self, place: Place, at: Moment) -> Next {
        self.ask_for_page(List::new(&self.query.resource, place, at.admitted))
    }

    fn ask_for_page(&mut self, list: List) -> Next {
        let request = self.query.list(&list.place, list.pages.after());
        self.state = State::Listing(list);
        Next::List(request)
    }

    /// What to do after an input that belongs to the list.
    pub(super) fn list_goes_on(
        &mut self,
        mut list: List,
        input: Input<'_>,
        at: Moment,
        events: &mut Vec<W::Event>,
    ) -> Next {
        let (page, encoding) = match input {
            Input::Opened(Ok(())) => return self.read_list(list, at),
            Input::Item(item) => {
                return match self.item(&mut list, item, events) {
                    Ok(()) => self.read_list(list, at),
                    Err(failure) => self.list_failed(&list, &failure, at, events),
                };
            }
            Input::Page(text) => (list.pages.take(text), Encoding::Json),
            Input::ProtobufPage(body) => (list.pages.take_protobuf(body), Encoding::Protobuf),
            Input::Opened(Err(failure)) | Input::Broken(failure) => (Err(failure), Encoding::Json),
            Input::Time | Input::Line(_) | Input::Frame(_) | Input::End(_) => return self.list(at),
        };
        let items = match page {
            Ok(items) => items,
            // Reading the pages took longer than the server keeps the list.
            Err(failure) if list.pages.after().is_some() && failure.code() == Some(410) => {
                let problem = "no further page, as the list is too old (410)".to_owned();
                return self.list_failed(&list, &Failure::Pages(problem), at, events);
            }
            Err(failure) => return self.list_failed(&list, &failure, at, events),
        };
        if let Some(failure) = outdated(&list) {
            return self.list_failed(&list, &failure, at, events);
        }
        self.begin(&mut list.begun, events);
        for item in items {
            if let Err(failure) = self.item(&mut list, item, events) {
                return self.list_failed(&list, &failure, at, events);
            }
        }
        if list.pages.after().is_some() {
            return self.ask_for_page(list);
        }
        let how = format!("{}, in {encoding}", way(&list));
        self.complete(list.pages.version().to_owned(), list.count, &how, at, events);
        self.watch(at)
    }

    fn read_list(&mut self, list: List, at: Moment) -> Next {
        self.state = State::Listing(list);
        Next::Read(at.now + self.timing.answer)
    }

    fn item(&self, list: &mut List, item: Encoded<'_>, events: &mut Vec<W::Event>) -> Result<(), Failure> {
        let event = objects::item(&self.watched, item)?;
        self.begin(&mut list.begun, events);
        events.extend(event);
        list.count += 1;
        Ok(())
    }

    /// A list of so many objects is complete. `how` says how it was read.
    pub(super) fn complete(
        &mut self,
        version: String,
        count: usize,
        how: &str,
        at: Moment,
        events: &mut Vec<W::Event>,
    ) {
        tracing::info!("listed {count} {} {how}", self.query.resource.name());
        self.version = version;
        events.push(self.watched.tell(ListState::Listed));
        // By the time of the next list, the server may be a newer one. So that list is asked for as a stream again.
        (self.listed, self.unfinished, self.least) = (true, 0, Least::Known);
        self.relist = Some(at.now + self.jitter.spread(self.timing.relist, 0.25));
    }

    /// Decides what a failed list means, and reports it. If the server lists in another way, it is asked in that way at
    /// once, this one time: after the watch cache in pages, after pages in one piece.
    fn list_failed(&mut self, list: &List, failure: &Failure, at: Moment, events: &mut Vec<W::Event>) -> Next {
        if failure.code() == Some(400) && self.query.drop_fields() {
            return self.from(list.place.clone(), at);
        }
        let other = match &list.place {
            Place::Cache(_) => self.store_instead(failure),
            Place::Pages => matches!(failure, Failure::Pages(_)).then_some(Place::Store),
            Place::Store => None,
        };
        if let Some(other) = other {
            let reason = failure.reason("list", self.query.resource.name());
            let now = if other == Place::Pages {
                "in pages"
            } else {
                "for all at once"
            };
            tracing::info!(kind = self.query.resource.kind, "{reason}: asking {now}");
            return self.ask_for_page(List::new(&self.query.resource, other, list.admitted));
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

    /// Whether the store is asked because the watch cache could not answer. 403 and 404 say something about the objects,
    /// and the store would say the same.
    fn store_instead(&mut self, failure: &Failure) -> Option<Place> {
        if failure.is_about_version() {
            self.least = Least::Unavailable;
        }
        let refused = failure.is_about_the_way() && !matches!(failure.code(), Some(403 | 404));
        (failure.is_about_version() || refused || matches!(failure, Failure::Pages(_))).then_some(Place::Pages)
    }

    /// Reports a list without objects for the kind, and asks again later.
    fn absent(&mut self, forbidden: Option<&Failure>, at: Moment, events: &mut Vec<W::Event>) -> Next {
        events.extend([ListState::Listing, ListState::Listed].map(|told| self.watched.tell(told)));
        match forbidden {
            Some(failure) => self.lost(failure, "list", events),
            None => self.say(super::Reach::Watching, events),
        }
        let wait = self.jitter.spread(self.timing.absent, 0.3);
        self.rest(wait, at)
    }
}

/// The failure of a list that is older than it may be.
fn outdated(list: &List) -> Option<Failure> {
    let Place::Cache(least) = &list.place else {
        return None;
    };
    let version = list.pages.version();
    is_older(version, least).then(|| Failure::Outdated {
        version: version.to_owned(),
        least: least.clone(),
    })
}

/// Where the list came from, as text.
fn way(list: &List) -> String {
    let pieces = match list.pages.count() {
        1 => "1 piece".to_owned(),
        count => format!("{count} pieces"),
    };
    match list.place {
        Place::Cache(_) => format!("in {pieces} from the watch cache"),
        Place::Pages => format!("in {pieces} from the store, page by page"),
        Place::Store => format!("in {pieces} from the store"),
    }
}
