//! The same objects through the engine: an object that cannot be read keeps its rows, and its neighbour is always
//! served.

use std::time::Instant;

use tandem::engine::Engine;
use tandem::event::{Event, ObjectKind};
use tandem::source::decode::Decoder;

use super::table::{good, read};
use crate::host::{Host, at};
use tandem_core::row::Row;

/// The event of an object's text, as a source sends it.
fn event(decoder: &Decoder, kind: ObjectKind, text: &str) -> Option<Event> {
    match decoder.decode_json(kind, text) {
        Ok(outcome) => Some(outcome.into_event()),
        Err(error) => {
            let key = error.key.clone()?;
            let notice = error.notice();
            Some(Event::Unreadable(kind, key, notice))
        }
    }
}

/// Another Service with its own slice, beside the bad objects.
fn neighbour(decoder: &Decoder) -> Vec<Event> {
    let renamed = |kind: ObjectKind| {
        let text = good(kind).to_string();
        let others = [
            ("\"web", "\"well"),
            ("10.96.0.1", "10.96.0.9"),
            ("fd00:96::1", "fd00:96::9"),
            ("192.0.2.", "192.0.9."),
            ("198.51.100.", "198.51.9."),
        ];
        let text = others.iter().fold(text, |text, (own, other)| text.replace(own, other));
        event(decoder, kind, &text.replace("nodePort\":30080", "nodePort\":0")).unwrap()
    };
    [ObjectKind::Service, ObjectKind::EndpointSlice].map(renamed).into()
}

fn step(engine: &mut Engine, events: impl IntoIterator<Item = Event>) {
    engine.step(events, at(Instant::now()));
}

/// The IPv4 rows of Services with this name.
fn rows(host: &Host, name: &str) -> Vec<String> {
    let all = host.v4.rows();
    let mine = all
        .iter()
        .filter(|row| row.label().is_some_and(|label| label.contains(name)));
    let mut rows: Vec<String> = mine
        .map(|row| match row {
            Row::Service { pick, label, .. } => format!("{label} {pick:?}"),
            Row::Frontend { frontend, label, .. } => format!("{label} {frontend:?}"),
            other => format!("{other:?}"),
        })
        .collect();
    rows.sort();
    rows
}

#[test]
fn an_unreadable_object_keeps_what_it_had_and_any_bad_one_leaves_its_neighbour_alone() {
    let decoder = Decoder::new("node-a");
    let mut unreadable = 0;
    for kind in ObjectKind::ALL {
        for mut case in read(kind) {
            // Hundreds of thousands of rows would show no more than thousands do.
            case.value = case.value.replace("100000 of", "5000 of");
            let host = Host::default();
            let mut engine = host.start();
            engine.take(ObjectKind::ALL.map(Event::Listing));
            engine.take(neighbour(&decoder));
            let own = ObjectKind::ALL.map(|kind| event(&decoder, kind, &good(kind).to_string()).unwrap());
            engine.take(own);
            engine.step(ObjectKind::ALL.map(Event::Listed), at(Instant::now()));
            let (web, well) = (rows(&host, "shop/web"), rows(&host, "shop/well"));
            assert!(!web.is_empty() && !well.is_empty());
            // If the name of a bad object cannot be read, there is no event.
            let Some(bad) = event(&decoder, kind, &case.object(kind)) else {
                continue;
            };
            let stays = matches!(bad, Event::Unreadable(..));
            step(&mut engine, [bad]);
            let name = format!("{kind} {} = {}", case.field, case.value);
            if kind != ObjectKind::Node {
                assert_eq!(rows(&host, "shop/well"), well, "{name}");
            }
            let snapshot = engine.published().load_full();
            // If there are more ports than ids with affinity, the others are served without affinity. A Service that is
            // too large stays as it was.
            for aside in snapshot.v4.set_aside.iter().chain(&snapshot.v6.set_aside) {
                assert!(
                    ["has no session affinity", "is too large"]
                        .iter()
                        .any(|why| aside.reason.contains(why)),
                    "{name}: {}",
                    aside.reason
                );
            }
            if stays {
                unreadable += 1;
                assert_eq!(rows(&host, "shop/web"), web, "{name}");
                assert_eq!(snapshot.notices.len(), 1, "{name}");
            }
            // The object is repaired: all rows are as before, and no notice is left.
            step(&mut engine, [event(&decoder, kind, &good(kind).to_string()).unwrap()]);
            if !case.field.starts_with("/metadata") {
                assert_eq!(rows(&host, "shop/web"), web, "{name}");
                assert!(engine.published().load().notices.is_empty(), "{name}");
            }
        }
    }
    assert!(unreadable > 50, "{unreadable}");
}

#[test]
fn files_with_faults_are_in_the_snapshot_until_they_are_mended() {
    let host = Host::default();
    let mut engine = host.start();
    step(&mut engine, [Event::Faulty("a.yaml".into(), vec!["line 3: no".into()])]);
    let faults = engine.published().load().faults.clone();
    assert_eq!(faults["a.yaml"], ["line 3: no"]);
    step(&mut engine, [Event::Faulty("a.yaml".into(), Vec::new())]);
    assert!(engine.published().load().faults.is_empty());
}
