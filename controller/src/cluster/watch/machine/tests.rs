//! The machine without a server. The test sets the time.

mod frames;
mod outage;
mod streams;
mod ways;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::cluster::watch::kinds::OfKind;
use crate::event::{Event, ObjectKind};

const TIMING: Timing = Timing {
    watch: Duration::from_mins(10),
    quiet: Duration::from_mins(3),
    answer: Duration::from_secs(30),
    first_wait: Duration::from_millis(800),
    longest_wait: Duration::from_secs(30),
    relist: Duration::from_hours(32),
    absent: Duration::from_mins(5),
};

/// A machine for Services, and its output.
struct Bench {
    machine: Machine<OfKind>,
    now: Instant,
    events: Vec<Event>,
    next: Next,
}

fn watched(kind: ObjectKind) -> OfKind {
    OfKind::sample(kind, "node-a")
}

fn machine(kind: ObjectKind, seed: u64) -> Machine<OfKind> {
    machine_by(kind, Lists::default(), seed)
}

fn machine_by(kind: ObjectKind, lists: Lists, seed: u64) -> Machine<OfKind> {
    let ways = Ways {
        lists,
        ..Ways::default()
    };
    Machine::new(watched(kind), &ways, TIMING, Jitter::seeded(seed))
}

impl Bench {
    fn new(kind: ObjectKind) -> Self {
        Self::by(kind, Lists::Pages)
    }

    /// A machine that has asked for its first list in this way.
    fn by(kind: ObjectKind, lists: Lists) -> Self {
        let (mut machine, now, mut events) = (machine_by(kind, lists, 1), Instant::now(), Vec::new());
        let at = Moment { now, admitted: false };
        let next = machine.step(Input::Time, at, &mut events);
        Self {
            machine,
            now,
            events,
            next,
        }
    }

    fn step(&mut self, input: Input<'_>) {
        let at = Moment {
            now: self.now,
            admitted: self.machine.has_listed(),
        };
        self.next = self.machine.step(input, at, &mut self.events);
    }

    /// Sets the time to the end of the machine's wait. Returns how long the wait was.
    fn wait(&mut self) -> Duration {
        let Next::Wait(until) = self.next else {
            panic!("{:?}", self.next)
        };
        let waited = until - self.now;
        self.now = until;
        self.step(Input::Time);
        waited
    }

    /// How long the machine waits for the next line.
    fn patience(&self) -> Duration {
        let Next::Read(until) = self.next else {
            panic!("{:?}", self.next)
        };
        until - self.now
    }

    fn list(&mut self, version: &str) {
        let text = list(version);
        self.step(Input::Page(text.as_bytes()));
    }

    fn target(&self) -> String {
        match &self.next {
            Next::List(request) | Next::Watch(request) => request.as_ref().unwrap().uri().to_string(),
            other => panic!("{other:?}"),
        }
    }

    fn said(&mut self) -> Vec<String> {
        let text = |event: Event| match event {
            Event::Listing(_) => "listing".to_owned(),
            Event::Listed(_) => "listed".to_owned(),
            Event::Reach(_, Reach::Watching) => "watching".to_owned(),
            Event::Reach(_, Reach::Lost(reason)) => format!("lost: {reason}"),
            Event::Applied(object, _) => format!("applied {}", object.key()),
            other => format!("{other:?}"),
        };
        self.events.drain(..).map(text).collect()
    }
}

fn list(version: &str) -> String {
    list_of(ObjectKind::Service, version)
}

/// A list without objects.
fn list_of(kind: ObjectKind, version: &str) -> String {
    let resource = watched(kind).resource();
    let (kind, group) = (resource.list_kind(), resource.api_version());
    format!(r#"{{"kind":"{kind}","apiVersion":"{group}","metadata":{{"resourceVersion":"{version}"}},"items":[]}}"#)
}

/// The bookmark that ends a list.
fn end_of_list(kind: ObjectKind, version: &str) -> String {
    let resource = watched(kind).resource();
    let (kind, group) = (resource.kind, resource.api_version());
    format!(
        r#"{{"type":"BOOKMARK","object":{{"kind":"{kind}","apiVersion":"{group}","metadata":{{"resourceVersion":"{version}","annotations":{{"k8s.io/initial-events-end":"true"}}}}}}}}"#
    )
}

fn answer(code: u16) -> Failure {
    Failure::Answer {
        code,
        message: String::new(),
        retry_after: None,
    }
}

#[test]
fn a_watch_begins_behind_the_list_and_goes_on_behind_the_last_bookmark() {
    let mut bench = Bench::new(ObjectKind::Service);
    bench.list("5");
    assert!(bench.target().ends_with("resourceVersion=5"), "{}", bench.target());
    bench.step(Input::Opened(Ok(())));
    bench.step(Input::Line(
        br#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}"#,
    ));
    bench.now += TIMING.watch;
    bench.step(Input::End(b""));
    assert!(bench.target().ends_with("resourceVersion=9"), "{}", bench.target());
    assert_eq!(bench.said(), ["listing", "listed", "watching"]);
}

#[test]
fn lists_that_fail_are_asked_for_again_after_waits_that_double() {
    let mut bench = Bench::new(ObjectKind::Service);
    for most in [800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000] {
        bench.step(Input::Opened(Err(answer(500))));
        let (waited, most) = (bench.wait(), Duration::from_millis(most));
        assert!(waited <= most && waited >= most / 2, "{waited:?} of {most:?}");
        assert!(matches!(bench.next, Next::List(_)));
    }
    let lost = "lost: cannot list services: the server answers 500";
    assert_eq!(bench.said(), [lost], "said once");
}

#[test]
fn a_watch_that_the_server_does_not_end_is_dead_a_little_later() {
    let mut bench = Bench::new(ObjectKind::Service);
    bench.list("5");
    bench.step(Input::Opened(Ok(())));
    let (lasts, most) = (bench.patience(), TIMING.watch + LONGEST_END);
    assert!(lasts <= most && lasts >= TIMING.watch.mul_f64(0.7), "{lasts:?}");
    bench.now += lasts;
    bench.step(Input::Broken(Failure::Silence(lasts)));
    bench.wait();
    assert!(matches!(bench.next, Next::Watch(_)), "the version is still good");
}

#[test]
fn watches_last_7_to_10_minutes_and_differ_from_node_to_node() {
    let lasts = |seed| {
        let (mut machine, mut events) = (machine(ObjectKind::Service, seed), Vec::new());
        let at = Moment {
            now: Instant::now(),
            admitted: true,
        };
        let Next::Watch(Ok(request)) = machine.step(Input::Time, at, &mut events) else {
            panic!("no watch")
        };
        let query = request.uri().query().unwrap().to_owned();
        let asked = query.split('&').find_map(|part| part.strip_prefix("timeoutSeconds="));
        asked.unwrap().parse::<u64>().unwrap()
    };
    let times: std::collections::BTreeSet<u64> = (0..200).map(lasts).collect();
    let (least, most) = (*times.first().unwrap(), *times.last().unwrap());
    assert!(least >= 420 && most <= 600, "{times:?}");
    assert!(least < 440 && most > 580 && times.len() > 50, "{times:?}");
}

#[test]
fn everything_is_listed_again_after_a_day_of_good_watches() {
    for lists in ways::ALL {
        let mut bench = Bench::watching(lists, "5");
        let (began, mut watches) = (bench.now, 0);
        loop {
            bench.step(Input::Line(
                br#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"5"}}}"#,
            ));
            bench.now += Duration::from_mins(10);
            bench.step(Input::End(b""));
            watches += 1;
            if !bench.target().contains("timeoutSeconds") || bench.target().contains("sendInitialEvents") {
                break;
            }
            bench.step(Input::Opened(Ok(())));
        }
        let lasted = bench.now - began;
        let least = TIMING.relist.mul_f64(0.75);
        assert!(lasted >= least && lasted <= TIMING.relist + TIMING.watch, "{lasted:?}");
        assert!(lasted >= Duration::from_hours(24) && watches > 140, "{watches}");
    }
}

#[test]
fn a_watch_whose_bookmarks_stop_is_dead_within_minutes() {
    let mut bench = Bench::new(ObjectKind::Service);
    bench.list("5");
    bench.step(Input::Opened(Ok(())));
    // A kind that nothing happens to may have no bookmarks. So silence alone says nothing.
    assert!(bench.patience() > TIMING.quiet, "{:?}", bench.patience());
    bench.now += Duration::from_mins(1);
    bench.step(Input::Line(
        br#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}"#,
    ));
    assert_eq!(bench.patience(), TIMING.quiet);
    bench.now += TIMING.quiet;
    bench.step(Input::Broken(Failure::Silence(TIMING.quiet)));
    bench.wait();
    assert!(bench.target().ends_with("resourceVersion=9"), "{}", bench.target());
    bench.step(Input::Opened(Ok(())));
    let lost = "lost: cannot watch services: no answer for 180 s";
    assert_eq!(bench.said(), ["listing", "listed", "watching", lost, "watching"]);
}

/// One input, and how much time passes before it.
fn input() -> impl Strategy<Value = (Given, u64)> {
    let given = prop_oneof![
        4 => Just(Given::Time),
        4 => (0..12u8, any::<bool>()).prop_map(|(version, more)| Given::Page(version, more)),
        2 => (0..6usize).prop_map(Given::BadPage),
        3 => Just(Given::Opened),
        3 => (0..6usize).prop_map(Given::Refused),
        6 => (0..6usize).prop_map(Given::Line),
        2 => any::<bool>().prop_map(Given::End),
        1 => Just(Given::Silent),
    ];
    (given, prop_oneof![Just(0), 1..2_000u64, Just(60_000), Just(20_000_000)])
}

#[derive(Clone, Debug)]
enum Given {
    Time,
    Page(u8, bool),
    BadPage(usize),
    Opened,
    Refused(usize),
    Line(usize),
    End(bool),
    Silent,
}

const LINES: [&[u8]; 6] = [
    b"",
    br#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}"#,
    br#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"1"}}}"#,
    br#"{"type":"ADDED","object":{"metadata":{"namespace":"shop","name":"a","resourceVersion":"6"},"spec":{"clusterIP":"10.96.0.1","ports":[{"port":80}]}}}"#,
    br#"{"type":"ERROR","object":{"kind":"Status","code":410}}"#,
    b"<html>",
];
const BODIES: [&[u8]; 6] = [b"", b"{}", b"<html>", br#"{"kind":"Status","code":403}"#, b"[", b"null"];
const CODES: [u16; 6] = [400, 403, 404, 410, 429, 500];

proptest! {
    #[test]
    fn whatever_comes_whenever_a_list_ends_only_behind_its_beginning_and_no_wait_is_too_long(
        inputs in vec(input(), 1..60), seed in any::<u64>(), kind in 0..ObjectKind::ALL.len(),
    ) {
        let mut machine = machine(ObjectKind::ALL[kind], seed);
        let (mut now, mut events, mut listing) = (Instant::now(), Vec::new(), false);
        for (given, passes) in inputs {
            now += Duration::from_millis(passes);
            let page;
            let input = match given {
                Given::Time => Input::Time,
                Given::Page(version, more) => {
                    let resource = watched(ObjectKind::ALL[kind]).resource();
                    let (kind, group) = (resource.list_kind(), resource.api_version());
                    let after = if more { "more" } else { "" };
                    page = format!(
                        r#"{{"kind":"{kind}","apiVersion":"{group}","metadata":{{"resourceVersion":"{version}","continue":"{after}"}},"items":[]}}"#
                    );
                    Input::Page(page.as_bytes())
                }
                Given::BadPage(number) => Input::Page(BODIES[number]),
                Given::Opened => Input::Opened(Ok(())),
                Given::Refused(number) => Input::Opened(Err(answer(CODES[number]))),
                Given::Line(number) => Input::Line(LINES[number]),
                Given::End(cut) => Input::End(if cut { b"{\"type\":" } else { b"" }),
                Given::Silent => Input::Broken(Failure::Silence(TIMING.answer)),
            };
            let at = Moment { now, admitted: machine.has_listed() };
            let next = machine.step(input, at, &mut events);
            for event in events.drain(..) {
                match event {
                    Event::Listing(_) => listing = true,
                    Event::Listed(_) => prop_assert!(std::mem::take(&mut listing), "a list that did not begin ends"),
                    _ => {}
                }
            }
            if let Next::Wait(until) = next {
                let longest = TIMING.longest_wait.max(TIMING.absent);
                prop_assert!(until > now && until - now <= longest, "{:?}", until - now);
            }
        }
    }
}
