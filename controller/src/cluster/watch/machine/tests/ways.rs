//! What holds in whichever way lists are asked for.

use super::*;
use crate::cluster::watch::watched::Encoded;

/// Every way.
pub(super) const ALL: [Lists; 3] = [Lists::Stream, Lists::Cache, Lists::Pages];

const SHOP: &str = r#"{"metadata":{"namespace":"shop","name":"a","resourceVersion":"3"},"spec":{"clusterIP":"10.96.0.1","ports":[{"port":80}]}}"#;
const AHEAD: &str = "Timeout: Too large resource version: 900, current: 5";

const EXPIRED: &[u8] = br#"{"type":"ERROR","object":{"kind":"Status","code":410}}"#;
const OLDER: &[u8] = br#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"2"}}}"#;

/// How a list was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    Stream,
    Cache(String),
    Pages,
    Whole,
}

fn ahead() -> Failure {
    Failure::Answer {
        code: 504,
        message: AHEAD.to_owned(),
        retry_after: None,
    }
}

impl Bench {
    /// A machine whose first list, of this version, is complete, and whose watch is open.
    pub(super) fn watching(lists: Lists, version: &str) -> Self {
        let mut bench = Self::by(ObjectKind::Service, lists);
        bench.step(Input::Opened(Ok(())));
        bench.end(lists, version);
        if lists != Lists::Stream {
            bench.step(Input::Opened(Ok(())));
        }
        assert_eq!(bench.said(), ["listing", "listed", "watching"], "{lists:?}");
        bench
    }

    /// An object of the list arrives.
    fn object(&mut self, lists: Lists, object: &str) {
        if lists == Lists::Stream {
            let line = format!(r#"{{"type":"ADDED","object":{object}}}"#);
            self.step(Input::Line(line.as_bytes()));
        } else {
            self.step(Input::Item(Encoded::Json(serde_json::from_str(object).unwrap())));
        }
    }

    /// The end of the list arrives.
    fn end(&mut self, lists: Lists, version: &str) {
        if lists == Lists::Stream {
            let line = end_of_list(ObjectKind::Service, version);
            self.step(Input::Line(line.as_bytes()));
        } else {
            self.list(version);
        }
    }

    fn asked(&self) -> Asked {
        let target = self.target();
        let value = |name: &str| {
            let mut parts = target.split(['?', '&']);
            parts.find_map(|part| part.strip_prefix(name)).map(str::to_owned)
        };
        match (value("sendInitialEvents="), value("limit="), value("resourceVersion=")) {
            (Some(_), None, _) => Asked::Stream,
            (None, Some(_), None) => Asked::Pages,
            (None, None, Some(version)) if !target.contains("watch=true") => {
                let not_older = target.contains("resourceVersionMatch=NotOlderThan");
                assert_eq!(not_older, version != "0", "{target}");
                Asked::Cache(version)
            }
            (None, None, None) => Asked::Whole,
            _ => panic!("{target} is no list"),
        }
    }

    fn is_watch(&self) -> bool {
        matches!(&self.next, Next::Watch(_)) && !self.target().contains("sendInitialEvents")
    }
}

/// How the next list is asked for, if the version 5 is known.
fn again(lists: Lists) -> Asked {
    match lists {
        Lists::Stream => Asked::Stream,
        Lists::Cache => Asked::Cache("5".to_owned()),
        Lists::Pages => Asked::Pages,
    }
}

/// How the next list is asked for, if the version that is known is of no use.
fn anew(lists: Lists) -> Asked {
    match lists {
        Lists::Stream => Asked::Stream,
        Lists::Cache | Lists::Pages => Asked::Pages,
    }
}

#[test]
fn objects_are_told_as_they_arrive_and_the_list_is_complete_at_its_end() {
    for lists in ALL {
        let mut bench = Bench::by(ObjectKind::Service, lists);
        bench.step(Input::Opened(Ok(())));
        assert_eq!(bench.said(), [""; 0], "{lists:?}");
        bench.object(lists, SHOP);
        assert_eq!(bench.said(), ["listing", "applied shop/a"], "{lists:?}");
        assert_eq!(bench.patience(), TIMING.answer, "{lists:?}");
        bench.end(lists, "5");
        assert_eq!(bench.said()[0], "listed", "{lists:?}");
    }
}

#[test]
fn the_first_list_may_be_of_any_version_and_later_ones_are_not_older_than_what_is_known() {
    let mut bench = Bench::by(ObjectKind::Service, Lists::Cache);
    assert_eq!(bench.asked(), Asked::Cache("0".to_owned()));
    bench.step(Input::Opened(Err(answer(503))));
    bench.wait();
    assert_eq!(bench.asked(), Asked::Cache("0".to_owned()), "nothing is known yet");
    let mut bench = Bench::watching(Lists::Cache, "5");
    let bookmark = br#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}"#;
    bench.step(Input::Line(bookmark));
    bench.step(Input::Broken(answer(410)));
    bench.wait();
    assert_eq!(bench.asked(), Asked::Cache("9".to_owned()));
}

#[test]
fn a_version_that_is_too_old_in_every_form_is_followed_by_a_list() {
    for lists in ALL {
        let forms: [fn(&mut Bench); 3] = [
            |bench| bench.step(Input::Line(EXPIRED)),
            |bench| bench.step(Input::Broken(answer(410))),
            |bench| {
                bench.now += TIMING.watch;
                bench.step(Input::End(b""));
                bench.step(Input::Opened(Err(answer(410))));
            },
        ];
        for form in forms {
            let mut bench = Bench::watching(lists, "5");
            // The watch is renewed only if something was heard.
            bench.step(Input::Line(
                br#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"5"}}}"#,
            ));
            form(&mut bench);
            bench.wait();
            assert_eq!(bench.asked(), again(lists), "{lists:?}");
            bench.step(Input::Opened(Ok(())));
            bench.end(lists, "9");
            let said = bench.said();
            assert_eq!(said[..2], ["listing", "listed"], "{lists:?}: {said:?}");
            assert!(!said.iter().any(|said| said.starts_with("lost")), "{said:?}");
        }
    }
}

#[test]
fn a_store_that_went_back_in_time_is_listed_without_a_version() {
    for lists in ALL {
        let forms: [fn(&mut Bench); 3] = [
            |bench| bench.step(Input::Broken(ahead())),
            |bench| bench.step(Input::Line(OLDER)),
            |bench| {
                let object = SHOP.replace("\"3\"", "\"2\"");
                let line = format!(r#"{{"type":"MODIFIED","object":{object}}}"#);
                bench.step(Input::Line(line.as_bytes()));
            },
        ];
        for form in forms {
            let mut bench = Bench::watching(lists, "5");
            form(&mut bench);
            bench.wait();
            assert_eq!(bench.asked(), anew(lists), "{lists:?}");
            // Whatever version the list has, the watch and the next list follow it.
            bench.step(Input::Opened(Ok(())));
            bench.end(lists, "2");
            if lists != Lists::Stream {
                assert!(bench.target().ends_with("resourceVersion=2"), "{}", bench.target());
            }
            bench.step(Input::Broken(answer(410)));
            bench.wait();
            if lists == Lists::Cache {
                assert_eq!(bench.asked(), Asked::Cache("2".to_owned()));
            }
        }
    }
}

#[test]
fn a_cached_list_that_the_server_cannot_make_as_new_as_that_comes_from_its_store_at_once() {
    for failure in [ahead(), answer(410)] {
        let mut bench = Bench::watching(Lists::Cache, "5");
        bench.step(Input::Broken(answer(410)));
        bench.wait();
        assert_eq!(bench.asked(), Asked::Cache("5".to_owned()));
        bench.step(Input::Opened(Err(failure)));
        assert_eq!(bench.asked(), Asked::Pages);
        // The store does not answer either. It is asked again, because the cache would refuse once more.
        bench.step(Input::Opened(Err(answer(503))));
        bench.wait();
        assert_eq!(bench.asked(), Asked::Pages);
        bench.list("2");
        assert!(bench.is_watch());
    }
}

#[test]
fn a_cached_list_that_is_older_than_it_may_be_ends_no_list() {
    let mut bench = Bench::watching(Lists::Cache, "5");
    bench.step(Input::Broken(answer(410)));
    bench.wait();
    bench.step(Input::Opened(Ok(())));
    assert_eq!(bench.machine.wanted().versions, Versions::NotBefore("5".to_owned()));
    // Its objects are older than what is known, so none of them is told.
    let object =
        r#"{"metadata":{"namespace":"ns","name":"old","resourceVersion":"3"},"spec":{"clusterIP":"10.96.0.1"}}"#;
    let outdated = list("4").replace("\"items\":[]", &format!("\"items\":[{object}]"));
    bench.step(Input::Page(outdated.as_bytes()));
    assert_eq!(bench.said(), [""; 0]);
    assert_eq!(bench.asked(), Asked::Pages);
    bench.step(Input::Opened(Ok(())));
    bench.step(Input::Page(outdated.as_bytes()));
    assert_eq!(bench.said(), ["listing", "applied ns/old", "listed"]);
    assert!(bench.target().ends_with("resourceVersion=4"), "{}", bench.target());
}

#[test]
fn each_page_must_have_the_version_of_the_first() {
    let mut bench = Bench::by(ObjectKind::Service, Lists::Pages);
    assert_eq!(bench.machine.wanted().versions, Versions::Any);
    bench.step(Input::Opened(Ok(())));
    let first = list("4").replace("\"4\"", "\"4\",\"continue\":\"more\"");
    bench.step(Input::Page(first.as_bytes()));
    assert_eq!(bench.machine.wanted().versions, Versions::Only("4".to_owned()));
    bench.step(Input::Opened(Ok(())));
    bench.list("4");
    assert_eq!(bench.said(), ["listing", "listed"]);
    assert!(bench.target().ends_with("resourceVersion=4"), "{}", bench.target());
}

#[test]
fn a_server_that_refuses_cached_lists_is_asked_for_pages_at_once_and_for_a_cached_list_the_next_time() {
    for code in [402, 405, 415, 422, 501] {
        let mut bench = Bench::by(ObjectKind::Service, Lists::Cache);
        bench.step(Input::Opened(Err(answer(code))));
        assert_eq!(bench.asked(), Asked::Pages, "{code}");
        bench.step(Input::Opened(Err(answer(code))));
        bench.wait();
        assert_eq!(bench.asked(), Asked::Cache("0".to_owned()), "{code}");
        bench.step(Input::Opened(Err(answer(code))));
        bench.list("5");
        assert!(bench.is_watch());
    }
}

#[test]
fn a_cached_list_that_fails_for_another_reason_is_asked_for_again_after_a_wait() {
    for code in [401, 403, 404, 429, 500, 503, 504] {
        let mut bench = Bench::by(ObjectKind::Service, Lists::Cache);
        bench.step(Input::Opened(Err(answer(code))));
        bench.wait();
        assert_eq!(bench.asked(), Asked::Cache("0".to_owned()), "{code}");
    }
}

#[test]
fn watches_in_which_nothing_is_heard_are_followed_by_a_list_from_the_store() {
    for lists in ALL {
        let mut bench = Bench::watching(lists, "5");
        for _ in 0..SILENT_WATCHES {
            if matches!(bench.next, Next::Watch(_)) {
                bench.step(Input::Opened(Ok(())));
            }
            bench.now += TIMING.watch;
            bench.step(Input::End(b""));
        }
        // The end of a stream's list was something that was heard.
        if lists == Lists::Stream {
            bench.step(Input::Opened(Ok(())));
            bench.now += TIMING.watch;
            bench.step(Input::End(b""));
        }
        assert_eq!(bench.asked(), anew(lists), "{lists:?}");
        let said = bench.said();
        assert!(
            said[0].contains("3 watches in a row ended without an event"),
            "{said:?}"
        );
    }
}

#[test]
fn a_list_that_breaks_off_or_falls_silent_is_none_and_is_asked_for_again() {
    for lists in ALL {
        for failure in [
            Failure::Silence(TIMING.answer),
            Failure::Transport("the connection ended".to_owned()),
        ] {
            for objects in 0..2 {
                let mut bench = Bench::by(ObjectKind::Service, lists);
                let first = bench.asked();
                bench.step(Input::Opened(Ok(())));
                for _ in 0..objects {
                    bench.object(lists, SHOP);
                }
                bench.now += TIMING.answer;
                bench.step(Input::Broken(failure.clone()));
                bench.wait();
                assert_eq!(bench.asked(), first, "{lists:?}");
                let said = bench.said();
                assert!(
                    said.last().unwrap().starts_with("lost: cannot list services: "),
                    "{said:?}"
                );
                assert!(!said.contains(&"listed".to_owned()), "{lists:?}: {said:?}");
            }
        }
    }
}

#[test]
fn an_item_that_is_no_service_ends_no_list() {
    for lists in ALL {
        for item in [r#"{"kind":"Pod","metadata":{"name":"a"}}"#, "{}", "7", "null"] {
            let mut bench = Bench::by(ObjectKind::Service, lists);
            bench.step(Input::Opened(Ok(())));
            bench.object(lists, item);
            bench.wait();
            let said = bench.said();
            let [lost] = &said[..] else { panic!("{said:?}") };
            assert!(
                lost.contains(" with a Pod") || lost.contains("without a readable name"),
                "{lost}"
            );
        }
    }
}

#[test]
fn a_page_without_version_or_of_another_kind_ends_no_list() {
    let good = list("5");
    for lists in [Lists::Cache, Lists::Pages] {
        for bad in [
            good.replace("\"5\"", "\"\""),
            good.replace("\"5\"", "\"0\""),
            good.replace("ServiceList", "NodeList"),
            good.replace("\"v1\"", "\"v2\""),
            good.replace("items", "Items"),
            good[..good.len() - 1].to_owned(),
            String::new(),
            "{}".to_owned(),
        ] {
            let mut bench = Bench::by(ObjectKind::Service, lists);
            bench.step(Input::Opened(Ok(())));
            bench.object(lists, SHOP);
            bench.step(Input::Page(bad.as_bytes()));
            bench.wait();
            let said = bench.said();
            assert_eq!(said[..2], ["listing", "applied shop/a"]);
            assert!(
                said.len() == 3 && said[2].contains("the server sent "),
                "{bad}: {said:?}"
            );
        }
    }
}
