use super::*;
use tandem_core::family::IpFamily;
use tandem_core::object::{Conditions, SliceEndpoint};
use tandem_core::samples::mk_service;

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("shop", name)
}

fn service(name: &str) -> Event {
    let service = Service {
        key: key(name),
        ports: Vec::new(),
        ..mk_service(name)
    };
    Event::Applied(Object::Service(service), Vec::new())
}

fn slice(name: &str, service: &str, last: u8) -> Event {
    let endpoint = SliceEndpoint {
        addr: [10, 0, 0, last].into(),
        conditions: Conditions::READY,
        local: false,
    };
    let slice = EndpointSlice {
        key: key(name),
        service: service.into(),
        family: IpFamily::V4,
        ports: [].into(),
        endpoints: [endpoint].into_iter().collect(),
        hints: Box::default(),
    };
    Event::Applied(Object::EndpointSlice(slice), Vec::new())
}

fn index(events: impl IntoIterator<Item = Event>) -> Index {
    let mut index = Index::default();
    for event in events {
        index.apply(event);
    }
    index
}

fn changed(index: &mut Index) -> Vec<String> {
    let mut names: Vec<String> = index.take_changed().keys().map(ToString::to_string).collect();
    names.sort();
    names
}

#[test]
fn a_slice_marks_its_service_whichever_comes_first() {
    let mut index = index([slice("web-1", "web", 1), service("web")]);
    assert_eq!(changed(&mut index), ["shop/web"]);
    let entry = index.services().get(&key("web")).unwrap();
    assert!(entry.service.is_some());
    assert_eq!(entry.slices.len(), 1);
}

#[test]
fn the_same_object_again_changes_nothing() {
    let mut index = index([slice("web-1", "web", 1), service("web")]);
    index.take_changed();
    index.apply(slice("web-1", "web", 1));
    index.apply(service("web"));
    assert_eq!(changed(&mut index), [] as [&str; 0]);
}

#[test]
fn a_slice_that_moves_to_another_service_marks_both() {
    let mut index = index([slice("moving", "old", 1)]);
    index.take_changed();
    index.apply(slice("moving", "new", 1));
    assert_eq!(changed(&mut index), ["shop/new", "shop/old"]);
    assert!(index.services().get(&key("old")).is_none());
}

#[test]
fn what_a_new_list_does_not_name_is_gone_when_the_list_ends() {
    let mut index = index([service("kept"), service("gone"), slice("gone-1", "gone", 1)]);
    index.take_changed();
    index.apply(Event::Listing(ObjectKind::Service));
    index.apply(service("kept"));
    assert_eq!(
        changed(&mut index),
        [] as [&str; 0],
        "nothing may go before the list has ended"
    );
    index.apply(Event::Listed(ObjectKind::Service));
    assert_eq!(changed(&mut index), ["shop/gone"]);
    assert_eq!(index.slice_count(), 1, "a list of Services says nothing about slices");
}

#[test]
fn the_index_is_complete_once_every_kind_was_listed() {
    let mut index = Index::default();
    for kind in ObjectKind::ALL {
        assert!(!index.complete());
        index.apply(Event::Listing(kind));
        index.apply(Event::Listed(kind));
    }
    assert!(index.complete());
    index.apply(Event::Listing(ObjectKind::Service));
    assert!(index.complete(), "a later list must not stop changes");
}

#[test]
fn a_notice_is_new_once_and_goes_with_its_cause() {
    let notice = Notice {
        field: "spec.ports[0]".into(),
        value: "x".into(),
        problem: "y".into(),
        uid: None,
    };
    let with = |notices| {
        let Event::Applied(object, _) = service("web") else {
            unreachable!("service() applies")
        };
        Event::Applied(object, notices)
    };
    let mut index = Index::default();
    assert_eq!(index.apply(with(vec![notice.clone()])).len(), 1);
    assert_eq!(index.apply(with(vec![notice])).len(), 0);
    assert_eq!(index.notices().len(), 1);
    index.apply(with(Vec::new()));
    assert_eq!(index.notices().len(), 0);
}

#[test]
fn deleting_what_is_not_there_changes_nothing() {
    let mut index = Index::default();
    for kind in ObjectKind::ALL {
        index.apply(Event::Deleted(kind, key("none"), Vec::new()));
    }
    assert_eq!(changed(&mut index), [] as [&str; 0]);
    assert!(!index.take_node_changed());
}

#[test]
fn a_copy_for_readers_does_not_see_later_changes() {
    let mut index = index([service("web")]);
    let copy = index.services().clone();
    index.apply(Event::Deleted(ObjectKind::Service, key("web"), Vec::new()));
    assert!(copy.get(&key("web")).is_some());
    assert!(index.services().get(&key("web")).is_none());
}

#[test]
fn an_object_that_cannot_be_read_stays_as_it_was_through_a_new_list() {
    let notice = Notice {
        field: "spec.ports".into(),
        value: String::new(),
        problem: "not a list".into(),
        uid: None,
    };
    let mut index = index([service("web")]);
    index.take_changed();
    index.apply(Event::Listing(ObjectKind::Service));
    let fresh = index.apply(Event::Unreadable(ObjectKind::Service, key("web"), notice));
    index.apply(Event::Listed(ObjectKind::Service));
    assert_eq!(fresh.len(), 1);
    assert!(
        index
            .services()
            .get(&key("web"))
            .is_some_and(|entry| entry.service.is_some())
    );
    assert_eq!(changed(&mut index), [] as [&str; 0]);
}

fn wrong(field: &str) -> Notice {
    Notice {
        field: field.into(),
        value: String::new(),
        problem: "not a list".into(),
        uid: None,
    }
}

/// The objects that have notices.
fn noticed(index: &Index) -> Vec<String> {
    let objects = index.notices().keys();
    objects.map(|(kind, key)| format!("{kind} {key}")).collect()
}

#[test]
fn a_notice_goes_when_a_list_does_not_name_its_object_whatever_the_object_was() {
    for kind in ObjectKind::ALL {
        // One was never readable, one is faulty and not used by Tandem, and one stays as it is.
        let unreadable = || Event::Unreadable(kind, key("unreadable"), wrong("spec"));
        let ignored = || Event::Deleted(kind, key("ignored"), vec![wrong("addressType")]);
        let kept = || Event::Unreadable(kind, key("kept"), wrong("spec"));
        let mut index = index([
            Event::Listing(kind),
            unreadable(),
            ignored(),
            kept(),
            Event::Listed(kind),
        ]);
        assert_eq!(index.notices().len(), 3, "{kind}");
        // A list that names them repeats the notices. A list that breaks off changes nothing.
        for event in [
            Event::Listing(kind),
            Event::Listing(kind),
            kept(),
            ignored(),
            unreadable(),
        ] {
            index.apply(event);
        }
        index.apply(Event::Listed(kind));
        assert_eq!(index.notices().len(), 3, "{kind}");
        // The lists of other kinds do not change this one.
        for other in ObjectKind::ALL.into_iter().filter(|other| *other != kind) {
            index.apply(Event::Listing(other));
            index.apply(Event::Listed(other));
        }
        assert_eq!(index.notices().len(), 3, "{kind}");
        for event in [Event::Listing(kind), kept(), Event::Listed(kind)] {
            index.apply(event);
        }
        assert_eq!(noticed(&index), [format!("{kind} shop/kept")]);
    }
}

#[test]
fn a_slice_changes_its_own_family_and_a_service_both() {
    let mut index = index([service("web"), slice("web-1", "web", 1)]);
    let families = |index: &mut Index| {
        let changed = index.take_changed()[&key("web")];
        [IpFamily::V4, IpFamily::V6].map(|family| changed.contains(family))
    };
    assert_eq!(families(&mut index), [true, true]);
    index.apply(slice("web-1", "web", 2));
    assert_eq!(families(&mut index), [true, false], "another endpoint");
    let Event::Applied(Object::EndpointSlice(mut other), _) = slice("web-1", "web", 2) else {
        panic!("not a slice")
    };
    other.family = IpFamily::V6;
    index.apply(Event::Applied(Object::EndpointSlice(other), Vec::new()));
    assert_eq!(
        families(&mut index),
        [true, true],
        "a slice of one family that became one of the other"
    );
    index.apply(Event::Deleted(ObjectKind::EndpointSlice, key("web-1"), Vec::new()));
    assert_eq!(families(&mut index), [false, true], "gone");
    index.apply(Event::Deleted(ObjectKind::Service, key("web"), Vec::new()));
    assert_eq!(families(&mut index), [true, true]);
}

#[test]
fn what_a_first_list_named_before_it_broke_off_goes_if_the_next_list_does_not_name_it() {
    for kind in [ObjectKind::Service, ObjectKind::EndpointSlice] {
        let object = |name: &str| match kind {
            ObjectKind::Service => service(name),
            _ => slice(name, "web", 1),
        };
        let unreadable = |name: &str| Event::Unreadable(kind, key(name), wrong("spec"));
        let mut index = index([
            Event::Listing(kind),
            object("a"),
            unreadable("c"),
            Event::Listing(kind),
            object("b"),
            Event::Listed(kind),
        ]);
        let known: Vec<String> = match kind {
            ObjectKind::Service => index.services().keys().map(ToString::to_string).collect(),
            _ => index.slices.iter().map(|slice| slice.0.key.to_string()).collect(),
        };
        assert_eq!(known, ["shop/b"], "{kind}");
        assert!(noticed(&index).is_empty(), "{kind}");

        // A list after that one notes names again.
        index.apply(Event::Listing(kind));
        index.apply(Event::Listed(kind));
        assert!(index.services().is_empty(), "{kind}");
    }
}

#[test]
fn an_object_that_only_could_not_be_read_is_remembered_for_the_next_list() {
    let mut index = index([
        Event::Listing(ObjectKind::Service),
        Event::Unreadable(ObjectKind::Service, key("a"), wrong("spec")),
    ]);
    assert_eq!(noticed(&index).len(), 1);
    index.apply(Event::Listing(ObjectKind::Service));
    index.apply(Event::Listed(ObjectKind::Service));
    assert!(noticed(&index).is_empty());
}
