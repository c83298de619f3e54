//! Random histories of events, and of faults of both.

use fastrand::Rng;
use tandem_core::plane::Fault;

use super::*;

/// How many histories, and how many steps each has.
const HISTORIES: u64 = 120;
const STEPS: usize = 60;

/// A cluster of a few Services, and the faults of both planes.
struct History {
    rng: Rng,
    host: Host,
    mirror: Mirror<V4>,
    engine: Engine,
    seat: Seat<V4>,
    /// Whether a follower is in.
    seated: bool,
    settings: NodeSettings,
    /// The numbers of the Services, and how many endpoints each has.
    services: BTreeMap<u8, u8>,
    now: Instant,
}

/// What it takes to know that the histories tried what they should.
#[derive(Debug, Default)]
struct Tally {
    on: usize,
    off: usize,
    follows: usize,
    renewals: usize,
    behind: usize,
}

impl History {
    fn start(seed: u64) -> Self {
        let (host, mirror) = (Host::default(), Mirror::new());
        let (engine, seat) = engine(&host, &mirror);
        let mut history = Self {
            rng: Rng::with_seed(seed),
            host,
            mirror,
            engine,
            seat,
            seated: true,
            settings: Host::settings(),
            services: BTreeMap::new(),
            now: Instant::now(),
        };
        history.list();
        history
    }

    fn list(&mut self) {
        let services = self.services.iter();
        let objects: Vec<Event> = services.flat_map(|(n, count)| objects(*n, *count)).collect();
        self.engine.take([Event::Configured(Box::new(self.settings.clone()))]);
        self.step(lists(objects));
    }

    /// A step, after which the follower is not on with anything else than the data plane's.
    fn step(&mut self, events: Vec<Event>) {
        let wake = self.engine.step(events, at(self.now));
        assert!(wake.at > self.now, "the engine spins");
        never_stale(&self.mirror, &self.host.v4);
        let state = status(&self.engine).state;
        assert!(
            !matches!(state, FollowState::On { .. }) || self.mirror.is_on(),
            "said to be on"
        );
        assert!(
            !matches!(
                state,
                FollowState::Off | FollowState::Behind { .. } | FollowState::Waiting { off: true, .. }
            ) || !self.mirror.is_on(),
            "said to be off: {state:?}"
        );
    }

    fn services(&mut self) -> Vec<Event> {
        let n = self.rng.u8(1..6);
        if self.rng.u8(0..5) == 0 && self.services.remove(&n).is_some() {
            return gone(n);
        }
        let count = self.rng.u8(0..5);
        self.services.insert(n, count);
        objects(n, count)
    }

    fn change(&mut self) {
        let mut events = self.services();
        if self.rng.bool() {
            events.extend(self.services());
        }
        self.step(events);
    }

    fn fault_of_the_plane(&mut self) {
        let n = self.rng.u8(1..6);
        let faults = [
            Fault::Failed,
            Fault::AppliedUnknown,
            Fault::FailedUnknown,
            Fault::Refused(name(n)),
        ];
        let fault = self.rng.choice(faults);
        match self.rng.u8(0..8) {
            0 => self.host.v4.break_down("broken"),
            1 => self.host.v4.refuse(&name(n)),
            2 => self.host.v4.limit_ways(usize::from(n)),
            _ => self.host.v4.next(fault),
        }
    }

    fn restart(&mut self) {
        let (engine, seat) = engine(&self.host, &self.mirror);
        (self.engine, self.seat, self.seated) = (engine, seat, true);
        self.list();
    }

    fn seat(&mut self) {
        self.seated = !self.seated;
        if self.seated {
            put(&self.seat, &self.host, &self.mirror);
        } else {
            self.seat.clear();
        }
    }

    fn other_rules(&mut self) {
        self.settings.masquerade_all = self.rng.bool();
        self.step(vec![Event::Configured(Box::new(self.settings.clone()))]);
    }

    fn go_on(&mut self, tally: &mut Tally) {
        match self.rng.u8(0..40) {
            0..18 => self.change(),
            18..22 => self.fault_of_the_plane(),
            22..24 => self.mirror.fail_at(self.rng.usize(1..4)),
            24 => self.mirror.break_down("broken"),
            25 => self.mirror.limit(self.rng.usize(0..4)),
            26..29 => self.mirror.mend(),
            29..31 => self.host.v4.mend(),
            31 => self.restart(),
            32 => self.seat(),
            33 => self.other_rules(),
            _ => {
                self.now += Duration::from_millis(self.rng.u64(1..2_000));
                self.step(Vec::new());
            }
        }
        if self.mirror.is_on() {
            tally.on += 1;
        } else {
            tally.off += 1;
        }
        for seen in self.mirror.take_seen() {
            match seen {
                Seen::Follow(_) => tally.follows += 1,
                Seen::Renew(_) => tally.renewals += 1,
                Seen::Behind => tally.behind += 1,
                Seen::On | Seen::Off => {}
            }
        }
    }

    /// Without faults, it is on with everything in the end.
    fn settle(mut self) {
        self.host.v4.mend();
        self.mirror.mend();
        if !self.seated {
            self.seat();
        }
        for _ in 0..3 {
            self.now += Duration::from_hours(1);
            self.step(Vec::new());
        }
        assert!(is_on(&self.engine));
        // A change after which there is room for everything again.
        self.services.insert(7, 1);
        self.step(objects(7, 1));
        assert!(is_on(&self.engine) && self.mirror.is_on(), "{:?}", status(&self.engine));
        assert_eq!(self.host.services().0.len(), self.services.len());
        assert_eq!(status(&self.engine).taken, self.services.len());
        assert!(status(&self.engine).left.is_empty());
    }
}

fn name(n: u8) -> String {
    format!("s{n}")
}

fn objects(n: u8, endpoints: u8) -> Vec<Event> {
    vec![
        service(&name(n), n),
        slice(&name(n), &(1..=endpoints).collect::<Vec<_>>()),
    ]
}

fn gone(n: u8) -> Vec<Event> {
    let service = ObjectKey::new("shop", name(n));
    let slice = ObjectKey::new("shop", format!("{}-1", name(n)));
    vec![
        Event::Deleted(ObjectKind::Service, service, Vec::new()),
        Event::Deleted(ObjectKind::EndpointSlice, slice, Vec::new()),
    ]
}

#[test]
fn whatever_fails_it_is_never_on_with_rows_other_than_the_data_planes() {
    let mut tally = Tally::default();
    for seed in 0..HISTORIES {
        let mut history = History::start(seed);
        for _ in 0..STEPS {
            history.go_on(&mut tally);
        }
        history.settle();
    }
    let enough = |count: usize| count > 200;
    assert!(
        enough(tally.on)
            && enough(tally.off)
            && enough(tally.follows)
            && enough(tally.renewals)
            && enough(tally.behind),
        "{tally:?}"
    );
}
