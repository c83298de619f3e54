//! The states of listing and watching.

use std::time::{Duration, Instant};

use crate::cluster::watch::pages::Pages;
use crate::cluster::watch::query::Place;
use crate::cluster::watch::versions::Versions;
use crate::cluster::watch::watched::Resource;

/// What a machine is doing.
#[derive(Debug, Default)]
pub(super) enum State {
    /// Nothing was started.
    #[default]
    Idle,
    /// It waits before it continues.
    Resting,
    /// A list was asked for as the beginning of a watch, or its objects arrive.
    Streaming(Stream),
    /// A page of a list was asked for, or its items arrive.
    Listing(List),
    /// A watch was asked for, or its lines arrive.
    Watching(Watch),
}

/// A list that arrives as the beginning of a watch. A bookmark ends it, and the watch goes on.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) watch: Watch,
    /// Whether the server accepted the request.
    pub(super) opened: bool,
    /// How many objects it has named.
    pub(super) count: usize,
    /// Whether the beginning of the list was reported.
    pub(super) begun: bool,
}

/// Whether the server has the version up to which the objects are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Least {
    /// It has, as far as is known. A list must not be older.
    Known,
    /// It does not, or it cannot be trusted with it. A list may have any version, but must come from the store.
    Unavailable,
}

/// A list that is not complete.
#[derive(Debug)]
pub(super) struct List {
    pub(super) place: Place,
    pub(super) pages: Pages,
    /// Whether the beginning of the list was reported.
    pub(super) begun: bool,
    /// Whether the server had allowed any kind to be listed before this list was started.
    pub(super) admitted: bool,
    /// How many objects it has named.
    pub(super) count: usize,
}

impl List {
    pub(super) fn new(resource: &Resource, place: Place, admitted: bool) -> Self {
        Self {
            place,
            pages: Pages::new(resource),
            begun: false,
            admitted,
            count: 0,
        }
    }

    /// The versions that its next page may have.
    pub(super) fn versions(&self) -> Versions {
        match &self.place {
            _ if self.pages.count() > 0 => Versions::Only(self.pages.version().to_owned()),
            Place::Cache(least) => Versions::NotBefore(least.clone()),
            Place::Pages | Place::Store => Versions::Any,
        }
    }
}

/// A watch that has not ended.
#[derive(Debug)]
pub(super) struct Watch {
    /// When it was asked for.
    pub(super) began: Instant,
    /// How long it was asked to last.
    pub(super) lasting: Duration,
    /// If the watch has not ended by then, it is dead.
    pub(super) end: Instant,
    /// When something arrived the last time, or the answer itself.
    pub(super) heard_at: Instant,
    /// Whether anything arrived.
    pub(super) heard: bool,
}

impl Watch {
    pub(super) fn new(began: Instant, lasting: Duration) -> Self {
        Self {
            began,
            lasting,
            end: began + lasting,
            heard_at: began,
            heard: false,
        }
    }
}
