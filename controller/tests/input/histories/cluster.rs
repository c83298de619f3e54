//! A node's engine in a small cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tandem::engine::Engine;
use tandem::event::{Event, Notice, ObjectKind};
use tandem::source::decode::Decoder;
use tandem_core::family::Family;
use tandem_core::object::ObjectKey;
use tandem_core::plane::Memory;
use tandem_core::row::Row;

use super::meaning::{Meaning, frontend_text, meaning};
use super::objects::{Id, Version};
use crate::host::{Host, at};

pub(crate) struct Cluster<'h> {
    host: &'h Host,
    engine: Engine,
    decoder: Decoder,
    /// The objects, each in its last readable version.
    objects: BTreeMap<Id, Version>,
    now: Instant,
}

impl<'h> Cluster<'h> {
    /// Starts an engine. Its first lists hold these changes.
    pub(crate) fn start(host: &'h Host, changes: &[(Id, Version)]) -> Self {
        let mut cluster = Self {
            host,
            engine: host.start(),
            decoder: Decoder::new("node-a"),
            objects: BTreeMap::new(),
            now: Instant::now(),
        };
        cluster.engine.take(ObjectKind::ALL.map(Event::Listing));
        for (id, version) in changes {
            cluster.change(*id, version);
        }
        cluster.engine.take(ObjectKind::ALL.map(Event::Listed));
        cluster.sync();
        cluster
    }

    pub(crate) fn change(&mut self, id: Id, version: &Version) {
        let event = self.event(id, version);
        self.engine.take([event]);
        match version {
            Version::Json(_) | Version::Addresses(_) => drop(self.objects.insert(id, version.clone())),
            Version::Gone if id != Id::Node => drop(self.objects.remove(&id)),
            Version::Gone | Version::Unreadable => {}
        }
    }

    fn event(&self, id: Id, version: &Version) -> Event {
        let key = ObjectKey::new(id.namespace(), id.name());
        match (version, id.kind()) {
            (Version::Json(object), Some(kind)) => {
                let outcome = self.decoder.decode_json(kind, &object.to_string());
                outcome.expect("an object that can be read").into_event()
            }
            (Version::Gone, Some(kind)) => Event::Deleted(kind, key, Vec::new()),
            (Version::Unreadable, Some(kind)) => Event::Unreadable(
                kind,
                key,
                Notice {
                    field: "spec".into(),
                    value: "7".into(),
                    problem: "not an object".into(),
                    uid: None,
                },
            ),
            (Version::Addresses(addresses), _) => {
                Event::Interfaces(addresses.iter().map(|address| address.parse().unwrap()).collect())
            }
            (other, None) => panic!("{other:?} is of no kind"),
        }
    }

    /// Sends a list of all objects of a kind except these, as after a lost connection.
    pub(crate) fn list(&mut self, kind: ObjectKind, gone: &[Id]) {
        if kind != ObjectKind::Node {
            self.objects
                .retain(|id, _| id.kind() != Some(kind) || !gone.contains(id));
        }
        let objects: Vec<_> = self.of_kind(kind);
        self.engine.take([Event::Listing(kind)]);
        self.engine.take(objects);
        self.engine.take([Event::Listed(kind)]);
    }

    fn of_kind(&self, kind: ObjectKind) -> Vec<Event> {
        let objects = self.objects.iter().filter(|(id, _)| id.kind() == Some(kind));
        objects.map(|(id, version)| self.event(*id, version)).collect()
    }

    /// Ends the engine, and starts it again with the same tables.
    pub(crate) fn restart(&mut self) {
        self.engine = self.host.start();
        let objects = self.objects();
        self.engine.take(ObjectKind::ALL.map(Event::Listing));
        for (id, version) in &objects {
            self.change(*id, version);
        }
        self.engine.take(ObjectKind::ALL.map(Event::Listed));
        self.sync();
    }

    pub(crate) fn objects(&self) -> Vec<(Id, Version)> {
        let objects = self.objects.iter();
        objects.map(|(id, version)| (*id, version.clone())).collect()
    }

    pub(crate) fn sync(&mut self) {
        self.engine.step([], at(self.now));
    }

    /// Removes all faults, and waits until everything that waited was tried again.
    pub(crate) fn settle(&mut self) {
        self.host.v4.mend();
        self.host.v6.mend();
        for _ in 0..3 {
            self.now += Duration::from_hours(1);
            self.sync();
        }
        let snapshot = self.engine.published().load_full();
        assert_eq!(
            (&snapshot.v4.set_aside[..], &snapshot.v6.set_aside[..]),
            (&[][..], &[][..])
        );
        let errors = (&snapshot.v4.last_error, &snapshot.v6.last_error);
        assert!(matches!(errors, (None, None)), "{errors:?}");
        same(&self.engine.v4().table().rows(), &self.host.v4);
        same(&self.engine.v6().table().rows(), &self.host.v6);
        assert_eq!(snapshot.v4.rows, self.host.v4.rows().len());
        assert_eq!(snapshot.v6.rows, self.host.v6.rows().len());
    }

    pub(crate) fn meaning(&self) -> (Meaning, Meaning) {
        (meaning(&self.host.v4.rows()), meaning(&self.host.v6.rows()))
    }

    /// The owner of each frontend.
    pub(crate) fn frontends(&self) -> BTreeMap<String, String> {
        fn of<F: Family>(kernel: &Memory<F>) -> Vec<(String, String)> {
            let owned = |row: &Row<F>| match row {
                Row::Frontend { frontend, label, .. } => {
                    Some((format!("{} {}", F::FAMILY, frontend_text(frontend)), label.to_string()))
                }
                _ => None,
            };
            kernel.rows().iter().filter_map(owned).collect()
        }
        let (v4, v6) = (of(&self.host.v4), of(&self.host.v6));
        v4.into_iter().chain(v6).collect()
    }

    /// The Service ports that have lists of endpoints.
    pub(crate) fn lists(&self) -> BTreeSet<String> {
        fn of<F: Family>(kernel: &Memory<F>) -> Vec<String> {
            let rows = kernel.rows();
            let lists = rows.iter().filter(|row| matches!(row, Row::Service { .. }));
            let names = lists.filter_map(Row::label);
            names.map(|name| format!("{} {name}", F::FAMILY)).collect()
        }
        let (v4, v6) = (of(&self.host.v4), of(&self.host.v6));
        v4.into_iter().chain(v6).collect()
    }
}

/// Checks that the table has the same rows as the kernel.
fn same<F: Family>(table: &[Row<F>], kernel: &Memory<F>) {
    let text = |rows: &[Row<F>]| {
        let mut lines: Vec<String> = rows.iter().map(|row| format!("{row:?}")).collect();
        lines.sort();
        lines
    };
    assert_eq!(text(table), text(&kernel.rows()));
}
