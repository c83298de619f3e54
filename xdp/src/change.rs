//! A change of the maps as a value: what goes, what comes, and what each list holds afterwards.

use std::collections::{BTreeMap, BTreeSet};

use tandem_core::id::ServiceId;
use tandem_core::plane::Delta;
use tandem_core::row::Row;
use tandem_xdp_layout::{Address, Class, FrontendKey, Maps, ServiceWord, SourceKey};

use crate::content::{Content, Draft, Incomplete, list_of};
use crate::convert::{self, Plane};

/// What a list holds after a change; none if it is gone.
pub(crate) type Wanted<A> = Result<Option<Content<A>>, Incomplete>;

/// A frontend and its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held<A: Address> {
    pub(crate) key: FrontendKey<A>,
    pub(crate) class: Class,
    pub(crate) service: ServiceId,
}

/// A range of sources of a frontend, and how many of its bits count.
pub(crate) type Source<A> = (SourceKey<A>, u32);

/// A change of one family's maps.
#[derive(Debug)]
pub(crate) struct Change<F: Plane> {
    /// Frontends that go, or that get another list.
    pub(crate) gone: Vec<(FrontendKey<F::Mapped>, Class)>,
    /// Keys that must not be there as they are.
    pub(crate) drop: Vec<FrontendKey<F::Mapped>>,
    /// Frontends that come, or that get another list.
    pub(crate) new: Vec<Held<F::Mapped>>,
    /// Frontends that stay, and whose number may have another generation.
    pub(crate) again: Vec<Held<F::Mapped>>,
    /// The lists that change.
    pub(crate) lists: BTreeMap<ServiceId, Wanted<F::Mapped>>,
    /// The Service ports (by their list of all endpoints) that have a number which was another's before.
    pub(crate) handed: BTreeSet<ServiceId>,
    /// Those whose number may have counted another's connections.
    pub(crate) counted: BTreeSet<ServiceId>,
    /// Service ports of which a list goes and none comes. What they have counted is nobody's any more.
    pub(crate) ended: BTreeSet<ServiceId>,
    /// Frontends that only some sources may reach from now on, and those that all may reach again.
    pub(crate) restricted: Vec<FrontendKey<F::Mapped>>,
    pub(crate) open: Vec<FrontendKey<F::Mapped>>,
    /// Sources that may reach a frontend from now on, and those that may not any more.
    pub(crate) sources: Vec<Source<F::Mapped>>,
    pub(crate) sources_gone: Vec<Source<F::Mapped>>,
    /// Addresses of the node.
    pub(crate) addresses: Vec<F::Mapped>,
    pub(crate) addresses_gone: Vec<F::Mapped>,
}

impl<F: Plane> Default for Change<F> {
    fn default() -> Self {
        Self {
            gone: Vec::new(),
            drop: Vec::new(),
            new: Vec::new(),
            again: Vec::new(),
            lists: BTreeMap::new(),
            handed: BTreeSet::new(),
            counted: BTreeSet::new(),
            ended: BTreeSet::new(),
            restricted: Vec::new(),
            open: Vec::new(),
            sources: Vec::new(),
            sources_gone: Vec::new(),
            addresses: Vec::new(),
            addresses_gone: Vec::new(),
        }
    }
}

impl<F: Plane> Change<F> {
    /// What a change of rows means for the maps that hold the rows before it.
    pub(crate) fn of(delta: &Delta<F>, maps: &impl Maps<F::Mapped>) -> Self {
        let mut change = Self::default();
        for row in &delta.removed {
            change.take_removed(row);
        }
        for (old, new) in &delta.changed {
            change.take_changed(old, new);
        }
        for row in &delta.added {
            change.take_added(row);
        }
        change.handed.extend(handed(delta));
        change.counted.clone_from(&change.handed);
        change.ended.extend(delta.removed.iter().filter_map(port_of));
        for port in delta.added.iter().filter_map(port_of) {
            change.ended.remove(&port);
        }
        let mut drafts: BTreeMap<ServiceId, Draft<F::Mapped>> = BTreeMap::new();
        for row in delta.old_rows() {
            if let Some(list) = list_of(row) {
                drafts.entry(list).or_insert_with(|| draft(maps, list)).remove(row);
            }
        }
        for row in delta.new_rows() {
            if let Some(list) = list_of(row) {
                drafts.entry(list).or_insert_with(|| draft(maps, list)).put(row);
            }
        }
        // The other list of a number that changed hands gets the new generation too.
        for all in &change.handed {
            for list in [*all, all.local()] {
                drafts.entry(list).or_insert_with(|| draft(maps, list));
            }
        }
        change.lists = drafts.into_iter().map(|(list, draft)| (list, draft.finish())).collect();
        change
    }

    fn take_removed(&mut self, row: &Row<F>) {
        match row {
            Row::Frontend { frontend, .. } => self.gone.push(convert::frontend(frontend)),
            Row::NodeAddress { addr } => self.addresses_gone.push(F::mapped(*addr)),
            Row::Restricted { at } => self.open.push(convert::address_key(at)),
            Row::AllowedSource { at, source } => self.sources_gone.push(convert::source(at, *source)),
            _ => {}
        }
    }

    fn take_changed(&mut self, old: &Row<F>, new: &Row<F>) {
        if let (Row::Frontend { frontend, service, .. }, Row::Frontend { service: next, .. }) = (old, new) {
            if service == next {
                self.again.extend(held(new));
            } else {
                self.gone.push(convert::frontend(frontend));
                self.new.extend(held(new));
            }
        }
    }

    fn take_added(&mut self, row: &Row<F>) {
        match row {
            Row::Frontend { .. } => self.new.extend(held(row)),
            Row::NodeAddress { addr } => self.addresses.push(F::mapped(*addr)),
            Row::Restricted { at } => self.restricted.push(convert::address_key(at)),
            Row::AllowedSource { at, source } => self.sources.push(convert::source(at, *source)),
            _ => {}
        }
    }
}

/// The Service port whose list a row begins, if it is such a row.
fn port_of<F: Plane>(row: &Row<F>) -> Option<ServiceId> {
    row.pick().and(row.service()).map(ServiceId::all)
}

/// The frontend of a row, if it is a frontend's.
pub(crate) fn held<F: Plane>(row: &Row<F>) -> Option<Held<F::Mapped>> {
    let Row::Frontend { frontend, service, .. } = row else {
        return None;
    };
    let (key, class) = convert::frontend(frontend);
    Some(Held {
        key,
        class,
        service: *service,
    })
}

/// The Service ports whose lists stay, but are another Service's from now on.
fn handed<F: Plane>(delta: &Delta<F>) -> impl Iterator<Item = ServiceId> + '_ {
    delta.changed.iter().filter_map(|(old, new)| match (old, new) {
        (Row::Service { service, label, .. }, Row::Service { label: next, .. }) if label != next => Some(service.all()),
        _ => None,
    })
}

/// A list as the maps have it. An empty one if there is none, or if it makes no sense.
fn draft<A: Address>(maps: &impl Maps<A>, service: ServiceId) -> Draft<A> {
    let word = ServiceWord(maps.service(convert::index(service)).unwrap_or_default());
    Draft::read(maps, word).unwrap_or_default()
}
