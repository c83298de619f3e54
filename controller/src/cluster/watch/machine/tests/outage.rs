//! Many nodes, and one API server that goes away and comes back. The test sets the time, so it counts the same requests
//! each time.

use std::collections::BTreeMap;

use super::*;

const NODES: u64 = 200;
/// The time in which a server answers or refuses.
const ANSWER: Duration = Duration::from_millis(5);

/// One kind of one node, and when its next input comes.
struct Client {
    machine: Machine<OfKind>,
    next: Next,
    due: Instant,
}

impl Client {
    /// A client whose watch began before the outage.
    fn watching(kind: ObjectKind, seed: u64, now: Instant) -> Self {
        let at = Moment { now, admitted: true };
        let (mut machine, mut events) = (machine(kind, seed), Vec::new());
        machine.step(Input::Time, at, &mut events);
        machine.step(Input::Opened(Ok(())), at, &mut events);
        let next = machine.step(Input::Line(end_of_list(kind, "5").as_bytes()), at, &mut events);
        Self {
            machine,
            next,
            due: now,
        }
    }

    /// Gives the machine the input that is due. Returns whether it sent a request for it.
    fn step(&mut self, away: bool) {
        let refused = || Failure::Transport("Connection refused (os error 111)".to_owned());
        let at = Moment {
            now: self.due,
            admitted: true,
        };
        let input = match &self.next {
            Next::Wait(_) => Input::Time,
            Next::Watch(_) if away => Input::Opened(Err(refused())),
            Next::Watch(_) => Input::Opened(Ok(())),
            // The outage breaks all watches at its beginning.
            Next::Read(_) => Input::Broken(refused()),
            Next::List(_) => panic!("the version is still good"),
        };
        self.next = self.machine.step(input, at, &mut Vec::new());
        self.due = match self.next {
            Next::Wait(until) => until,
            _ => self.due + ANSWER,
        };
    }

    fn asks(&self) -> bool {
        matches!(self.next, Next::Watch(_))
    }
}

/// The requests in each second of the outage, and in each second after it until all watch again.
fn requests(outage: Duration) -> (BTreeMap<u64, u64>, BTreeMap<u64, u64>) {
    let began = Instant::now();
    let (mut during, mut after) = (BTreeMap::new(), BTreeMap::new());
    for (node, kind) in (0..NODES).flat_map(|node| ObjectKind::ALL.map(|kind| (node, kind))) {
        let mut client = Client::watching(kind, node * 16 + kind as u64, began);
        loop {
            let since = client.due - began;
            if client.asks() {
                let (counts, second) = match since.checked_sub(outage) {
                    None => (&mut during, since.as_secs()),
                    Some(later) => (&mut after, later.as_secs()),
                };
                *counts.entry(second).or_default() += 1;
            } else if since >= outage && matches!(client.next, Next::Read(_)) {
                break;
            }
            client.step(since < outage);
        }
    }
    (during, after)
}

#[test]
fn after_an_outage_two_hundred_nodes_come_back_over_a_time_that_grows_with_it() {
    let clients = NODES * ObjectKind::ALL.len() as u64;
    let busiest = |counts: &BTreeMap<u64, u64>| counts.values().copied().max().unwrap_or_default();
    // The outage, the share of all clients that may come in the busiest second after it, and how many seconds pass
    // until the last one comes.
    for (seconds, share, last) in [(1, 1.0, 1), (10, 0.4, 3), (60, 0.1, 12), (600, 0.08, 14)] {
        let (during, after) = requests(Duration::from_secs(seconds));
        let most = busiest(&after);
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let came = most as f64 / clients as f64;
        assert!(came <= share, "outage of {seconds} s: {most} of {clients}: {after:?}");
        let seen = after.keys().max().copied().unwrap_or_default();
        assert!(seen >= last, "outage of {seconds} s: all came in {seen} s: {after:?}");
        // In an outage, the requests become fewer.
        if seconds >= 60 {
            let late = during.range(40..).map(|(_, count)| *count).max().unwrap_or_default();
            assert!(late * 10 <= busiest(&during), "{during:?}");
        }
    }
}

#[test]
fn a_server_that_shuts_down_and_ends_all_watches_is_not_asked_by_all_nodes_at_once() {
    let began = Instant::now();
    let mut counts = BTreeMap::<u128, usize>::new();
    for (node, kind) in (0..NODES).flat_map(|node| ObjectKind::ALL.map(|kind| (node, kind))) {
        let mut client = Client::watching(kind, node * 16 + kind as u64, began);
        let at = Moment {
            now: began + Duration::from_mins(1),
            admitted: true,
        };
        let Next::Wait(until) = client.machine.step(Input::End(b""), at, &mut Vec::new()) else {
            panic!("no wait")
        };
        assert!(until - at.now <= TIMING.first_wait);
        *counts.entry((until - at.now).as_millis() / 100).or_default() += 1;
    }
    let (busiest, all) = (
        counts.values().max().copied().unwrap_or_default(),
        counts.values().sum::<usize>(),
    );
    assert!(busiest * 5 <= all, "in a tenth of a second: {counts:?}");
}
