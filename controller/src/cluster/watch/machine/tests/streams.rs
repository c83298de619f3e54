//! Lists that arrive as the beginning of a watch.

use super::*;

const SHOP: &str = r#"{"metadata":{"namespace":"shop","name":"a","resourceVersion":"3"},"spec":{"clusterIP":"10.96.0.1","ports":[{"port":80}]}}"#;
const HEADLESS: &str =
    r#"{"metadata":{"namespace":"shop","name":"h","resourceVersion":"4"},"spec":{"clusterIP":"None"}}"#;

fn event(what: &str, object: &str) -> String {
    format!(r#"{{"type":"{what}","object":{object}}}"#)
}

impl Bench {
    /// A machine whose first stream was opened.
    pub(super) fn streaming() -> Self {
        let (mut machine, now, mut events) = (machine(ObjectKind::Service, 1), Instant::now(), Vec::new());
        let at = Moment { now, admitted: false };
        let next = machine.step(Input::Time, at, &mut events);
        let mut bench = Self {
            machine,
            now,
            events,
            next,
        };
        assert!(bench.target().contains("sendInitialEvents=true"), "{}", bench.target());
        bench.step(Input::Opened(Ok(())));
        bench
    }

    fn line(&mut self, line: &str) {
        self.step(Input::Line(line.as_bytes()));
    }

    fn end_list(&mut self, version: &str) {
        self.line(&end_of_list(ObjectKind::Service, version));
    }
}

#[test]
fn objects_that_arrive_one_by_one_are_a_list_once_the_bookmark_ends_it_and_the_watch_goes_on() {
    let mut bench = Bench::streaming();
    assert_eq!(bench.patience(), TIMING.answer);
    bench.line(&event("ADDED", SHOP));
    bench.line(&event("ADDED", HEADLESS));
    bench.line(r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"4"}}}"#);
    assert_eq!(bench.said(), ["listing", "applied shop/a"]);
    bench.end_list("9");
    assert_eq!(bench.said(), ["listed", "watching"]);
    // The bookmark that ends a list does not say that the server sends others.
    assert!(bench.patience() > TIMING.quiet, "{:?}", bench.patience());
    bench.line(&event("DELETED", &SHOP.replace("\"3\"", "\"10\"")));
    assert_eq!(bench.said().len(), 1);
    bench.now += TIMING.watch;
    bench.step(Input::End(b""));
    assert!(bench.target().ends_with("resourceVersion=10"), "{}", bench.target());
    assert!(!bench.target().contains("sendInitialEvents"), "{}", bench.target());
}

#[test]
fn what_changes_before_the_list_ends_is_not_lost() {
    let mut bench = Bench::streaming();
    bench.line(&event("ADDED", SHOP));
    bench.line(&event("MODIFIED", HEADLESS));
    bench.line(&event("DELETED", SHOP));
    bench.end_list("9");
    let said = bench.said();
    assert_eq!(said[..2], ["listing", "applied shop/a"]);
    assert!(
        said[2].starts_with("Deleted(Service, ") && said[3].starts_with("Deleted(Service, "),
        "{said:?}"
    );
    assert_eq!(said[4..], ["listed", "watching"]);
}

#[test]
fn a_cluster_without_objects_is_a_list_that_begins_and_ends() {
    let mut bench = Bench::streaming();
    bench.end_list("9");
    assert_eq!(bench.said(), ["listing", "listed", "watching"]);
}

#[test]
fn a_server_that_does_not_stream_lists_from_its_watch_cache_at_once_and_is_asked_for_a_stream_the_next_time() {
    for code in [400, 403, 404, 405, 410, 415, 422, 501] {
        let mut bench = Bench::new(ObjectKind::Service);
        bench.machine = machine(ObjectKind::Service, 1);
        bench.step(Input::Time);
        bench.step(Input::Opened(Err(answer(code))));
        assert!(
            bench.target().contains("resourceVersion=0"),
            "{code}: {}",
            bench.target()
        );
        // A list that fails is not a reason to try streams again.
        bench.step(Input::Opened(Err(answer(500))));
        bench.wait();
        assert!(
            bench.target().contains("resourceVersion=0"),
            "{code}: {}",
            bench.target()
        );
        bench.list("5");
        bench.step(Input::Opened(Err(answer(410))));
        bench.wait();
        assert!(
            bench.target().contains("sendInitialEvents=true"),
            "{code}: {}",
            bench.target()
        );
        let lost = "lost: cannot list services: the server answers 500";
        assert_eq!(bench.said(), [lost, "listing", "listed"], "{code}");
    }
}

#[test]
fn a_server_that_refuses_everything_at_the_moment_is_asked_for_a_stream_again() {
    for code in [401, 429, 503] {
        let mut bench = Bench::streaming();
        bench.step(Input::Broken(answer(code)));
        bench.wait();
        assert!(
            bench.target().contains("sendInitialEvents=true"),
            "{code}: {}",
            bench.target()
        );
    }
}

#[test]
fn two_streams_in_a_row_that_open_and_do_not_end_their_list_are_followed_by_a_cached_list() {
    for silence in [true, false] {
        let mut bench = Bench::streaming();
        let ends = || {
            Input::Broken(if silence {
                Failure::Silence(TIMING.answer)
            } else {
                Failure::Transport("reset".to_owned())
            })
        };
        bench.line(&event("ADDED", SHOP));
        bench.step(ends());
        bench.wait();
        // A server that cannot be reached says nothing about streams.
        bench.step(Input::Opened(Err(Failure::Transport("refused".to_owned()))));
        bench.wait();
        bench.step(Input::Opened(Err(answer(503))));
        bench.wait();
        assert!(bench.target().contains("sendInitialEvents=true"), "{}", bench.target());
        bench.step(Input::Opened(Ok(())));
        bench.step(ends());
        bench.wait();
        assert!(bench.target().contains("resourceVersion=0"), "{}", bench.target());
    }
}

#[test]
fn a_watch_whose_versions_go_backwards_lists_again() {
    let mut bench = Bench::streaming();
    bench.end_list("9");
    bench.line(&event("MODIFIED", SHOP));
    bench.wait();
    assert!(bench.target().contains("sendInitialEvents=true"), "{}", bench.target());
    assert_eq!(
        bench.said(),
        ["listing", "listed", "watching"],
        "the older object is not taken"
    );
}

#[test]
fn a_stream_that_is_not_a_list_is_named_and_removes_nothing() {
    let other = end_of_list(ObjectKind::Node, "9");
    let no_version = end_of_list(ObjectKind::Service, "");
    let version_0 = end_of_list(ObjectKind::Service, "0");
    let foreign = event("ADDED", r#"{"kind":"Pod","metadata":{"name":"p","namespace":"shop"}}"#);
    let cases: [(Input<'_>, &str); 10] = [
        (Input::End(b""), "nothing instead of a watch event"),
        (Input::End(b"{\"kind\":\"ServiceList\""), "broken JSON"),
        (Input::Line(b"<html>"), "no JSON (<html>) instead of a watch event"),
        (Input::Line(other.as_bytes()), "a Node of v1 instead of a Service of v1"),
        (
            Input::Line(no_version.as_bytes()),
            "a bookmark without metadata.resourceVersion",
        ),
        (
            Input::Line(version_0.as_bytes()),
            "the end of a list without metadata.resourceVersion",
        ),
        (Input::Line(foreign.as_bytes()), "a watch event ADDED with a Pod"),
        (
            Input::Line(b"{\"type\":\"GONE\",\"object\":{}}"),
            "a watch event of type \"GONE\"",
        ),
        (Input::Broken(Failure::Transport("reset".to_owned())), "reset"),
        (Input::Broken(Failure::Silence(TIMING.answer)), "no answer for 30 s"),
    ];
    for (input, words) in cases {
        let mut bench = Bench::streaming();
        bench.now += TIMING.answer;
        let broken = matches!(input, Input::Broken(_));
        bench.step(input);
        bench.wait();
        let said = bench.said();
        assert!(said.len() == 1 && said[0].contains(words), "{words}: {said:?}");
        assert_eq!(bench.target().contains("sendInitialEvents=true"), broken, "{words}");
    }
}

#[test]
fn a_list_that_breaks_off_after_some_objects_is_no_list() {
    let mut bench = Bench::streaming();
    bench.line(&event("ADDED", SHOP));
    bench.step(Input::End(b"{\"type\":\"ADDED\",\"obj"));
    bench.wait();
    let lost = "lost: cannot list services: the server sent objects without the bookmark that ends their list";
    assert_eq!(bench.said(), ["listing", "applied shop/a", lost]);
    assert!(bench.target().contains("resourceVersion=0"), "{}", bench.target());
}

#[test]
fn a_list_that_never_ends_is_given_up() {
    let mut bench = Bench::streaming();
    let began = bench.now;
    while matches!(bench.next, Next::Read(_)) {
        bench.now += Duration::from_secs(10);
        bench.line(&event("ADDED", SHOP));
    }
    let lasted = bench.now - began;
    assert!(
        lasted <= TIMING.watch + LONGEST_END + Duration::from_secs(10),
        "{lasted:?}"
    );
    let said = bench.said();
    let last = said.last().unwrap();
    assert!(
        last.contains("cannot list services: the server sent a list that had no end after"),
        "{last}"
    );
}

#[test]
fn a_second_end_of_the_list_is_named_and_the_watch_begins_anew() {
    let mut bench = Bench::streaming();
    bench.end_list("9");
    bench.end_list("9");
    bench.wait();
    assert!(bench.target().ends_with("resourceVersion=9"), "{}", bench.target());
    let lost = "lost: cannot watch services: the server sent a second bookmark that ends a list";
    assert_eq!(bench.said(), ["listing", "listed", "watching", lost]);
}
