//! The machine with a kube-proxy beside it, both in a simulated node.

use tandem_core::plane::Place;

use super::super::signs::Rules;
use super::*;

const TICK: Duration = Duration::from_millis(100);
/// Longer than kube-proxy's five seconds and Tandem's seven together.
const REST: u32 = 150;

/// Who has something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Tandem,
    KubeProxy,
}

/// What kube-proxy does in nftables mode: it asks for the address every five seconds, and makes its tables when they are
/// missing at a change. There is a change every second.
#[derive(Debug)]
struct KubeProxy {
    started: Instant,
    asks: Instant,
}

/// A node with the rules of both, and the health check address.
#[derive(Debug)]
struct Node {
    now: Instant,
    address: Option<Who>,
    /// kube-proxy's tables.
    tables: Option<u64>,
    made: u64,
    /// Whose rules are asked first, while kube-proxy's tables are there.
    first: Who,
    kube_proxy: Option<KubeProxy>,
    tandem: Option<(Machine, Instant)>,
    neighbour: Neighbour,
    /// How many times Tandem took kube-proxy's tables while kube-proxy ran and they had decided.
    taken_away: u32,
    /// When Tandem's lists are complete.
    complete_at: Instant,
    /// Whether the settings turn the address off.
    off: bool,
}

impl Node {
    fn new() -> Self {
        Self {
            now: Instant::now(),
            address: None,
            tables: None,
            made: 0,
            first: Who::Tandem,
            kube_proxy: None,
            tandem: None,
            neighbour: Neighbour::None,
            taken_away: 0,
            complete_at: Instant::now(),
            off: false,
        }
    }

    fn start_kube_proxy(&mut self) {
        let now = self.now;
        self.kube_proxy.get_or_insert(KubeProxy {
            started: now,
            asks: now,
        });
    }

    fn stop_kube_proxy(&mut self) {
        self.kube_proxy = None;
        if self.address == Some(Who::KubeProxy) {
            self.address = None;
        }
    }

    fn start_tandem(&mut self, removes: bool) {
        if self.tandem.is_none() {
            self.tandem = Some((Machine::new(removes), self.now));
        }
    }

    fn stop_tandem(&mut self) {
        self.tandem = None;
        self.neighbour = Neighbour::None;
        if self.address == Some(Who::Tandem) {
            self.address = None;
        }
    }

    fn signs(&self) -> Signs {
        signs(self.tables)
    }

    fn tick(&mut self) {
        self.now += TICK;
        if let Some(kube_proxy) = &mut self.kube_proxy {
            let lives = self.now.duration_since(kube_proxy.started).as_millis();
            let changes = lives.is_multiple_of(1000);
            if kube_proxy.asks <= self.now {
                kube_proxy.asks += Duration::from_secs(5);
                self.address.get_or_insert(Who::KubeProxy);
            }
            if changes && self.tables.is_none() {
                self.made += 1;
                // The kernel asks the younger chains first.
                (self.tables, self.first) = (Some(self.made), Who::KubeProxy);
            }
        }
        let Some((mut machine, due)) = self.tandem.take() else {
            return;
        };
        if due > self.now {
            self.tandem = Some((machine, due));
            return;
        }
        let address = match self.address {
            _ if self.off => Address::Off,
            Some(Who::Tandem) => Address::Held,
            Some(Who::KubeProxy) | None => Address::Left,
        };
        let mut todo = machine.step(&self.seen(address), self.now);
        if todo.listen && address == Address::Left {
            let now_is = *self.address.get_or_insert(Who::Tandem);
            let address = if now_is == Who::Tandem {
                Address::Held
            } else {
                Address::Taken
            };
            todo = machine.step(&self.seen(address), self.now);
        }
        if !todo.listen && self.address == Some(Who::Tandem) {
            self.address = None;
        }
        if todo.remove != [false; 2] {
            self.taken_away += u32::from(self.kube_proxy.is_some() && self.first == Who::KubeProxy);
            self.tables = None;
            machine.removed(&self.signs());
        }
        let Some(neighbour) = todo.neighbour else {
            self.tandem = Some((machine, self.now + todo.after));
            return;
        };
        self.first = match place(neighbour, false) {
            Place::Second => Who::KubeProxy,
            // Tandem's chains are registered anew when their place changes.
            Place::First if place(self.neighbour, false) == Place::Second => Who::Tandem,
            // The engine keeps them first, whatever comes again.
            Place::First if neighbour == Neighbour::Reappears => Who::Tandem,
            Place::First => self.first,
        };
        self.neighbour = neighbour;
        self.tandem = Some((machine, self.now + todo.after));
    }

    fn seen(&self, address: Address) -> Seen {
        Seen {
            complete: self.now >= self.complete_at,
            programmed: [self.now >= self.complete_at; 2],
            address,
            signs: self.signs(),
        }
    }

    fn rest(&mut self, ticks: u32) {
        for _ in 0..ticks {
            self.tick();
        }
    }

    /// Whether the rules of whoever runs decide, and only those.
    fn check(&self) -> Result<(), String> {
        let fine = match (&self.tandem, &self.kube_proxy) {
            (Some(_), Some(_)) => {
                self.tables.is_some() && self.first == Who::KubeProxy && self.neighbour == Neighbour::Runs
            }
            (Some(_), None) => self.tables.is_none() && self.neighbour == Neighbour::None,
            (None, Some(_)) => self.tables.is_some() && self.first == Who::KubeProxy,
            (None, None) => true,
        };
        if fine { Ok(()) } else { Err(format!("{self:?}")) }
    }
}

/// The tables of nftables mode, with this number in both families.
fn signs(table: Option<u64>) -> Signs {
    let rules = Rules {
        table,
        ..Rules::default()
    };
    Signs([rules, rules])
}

/// Every sequence of this many steps of six kinds.
fn sequences(length: u32) -> impl Iterator<Item = Vec<usize>> {
    (0..6_usize.pow(length)).map(move |number| (0..length).map(|at| number / 6_usize.pow(at) % 6).collect())
}

#[test]
fn in_whatever_order_both_start_and_end_the_rules_of_the_one_that_runs_decide() {
    for steps in sequences(5) {
        let mut node = Node::new();
        for step in &steps {
            match step {
                0 => node.start_tandem(true),
                1 => node.stop_tandem(),
                2 => node.start_kube_proxy(),
                3 => node.stop_kube_proxy(),
                4 => node.rest(3),
                _ => node.rest(67),
            }
        }
        node.rest(REST);
        if let Err(found) = node.check() {
            panic!("after {steps:?}: {found}");
        }
        for _ in 0..20 {
            node.rest(10);
            assert_eq!(node.check(), Ok(()), "after {steps:?}, at rest");
        }
    }
}

#[test]
fn a_kube_proxy_that_starts_before_the_lists_are_complete_keeps_its_tables() {
    for later in 1..60 {
        let mut node = Node::new();
        node.start_tandem(true);
        node.complete_at = node.now + 60 * TICK;
        node.rest(later);
        node.start_kube_proxy();
        node.rest(10 * REST);
        assert_eq!(node.taken_away, 0, "kube-proxy started {later} ticks after Tandem");
        assert_eq!(node.check(), Ok(()));
    }
}

#[test]
fn without_an_address_tandems_rules_stay_first_and_old_tables_go_after_a_while() {
    let mut node = Node::new();
    node.off = true;
    node.start_tandem(true);
    node.rest(20);
    node.start_kube_proxy();
    node.rest(REST);
    assert_eq!((node.neighbour, node.first), (Neighbour::Reappears, Who::Tandem));
    assert!(node.tables.is_some());
    node.stop_kube_proxy();
    node.rest(7000);
    assert_eq!((node.neighbour, node.tables), (Neighbour::None, None));
}

#[test]
fn a_table_that_cannot_be_removed_is_removed_again_later() {
    let (mut machine, mut now) = (Machine::new(true), Instant::now());
    let mut tries = 0;
    for _ in 0..30 {
        if machine.step(&seen(Address::Held, Some(1)), now).remove != [false; 2] {
            tries += 1;
            machine.removed(&signs(Some(1)));
        }
        now += Duration::from_secs(1);
    }
    assert_eq!(tries, 3);
}

#[test]
fn the_table_of_a_family_stays_until_that_family_is_programmed() {
    let (mut machine, mut now) = (Machine::new(true), Instant::now());
    let half = Seen {
        programmed: [true, false],
        ..seen(Address::Held, Some(1))
    };
    let todo = machine.step(&half, now);
    assert_eq!((todo.remove, todo.neighbour), ([true, false], Some(Neighbour::None)));
    now += Duration::from_secs(1);
    assert_eq!(machine.step(&seen(Address::Held, Some(1)), now).remove, [false, true]);
}

#[test]
fn beside_a_kube_proxy_that_runs_its_tables_stay() {
    for early in 0..60 {
        let mut node = Node::new();
        node.start_kube_proxy();
        node.rest(early);
        node.start_tandem(true);
        node.rest(10 * REST);
        assert_eq!(node.taken_away, 0, "Tandem started {early} ticks after kube-proxy");
        assert_eq!(node.check(), Ok(()));
    }
}

#[test]
fn tables_of_a_saved_ruleset_go_again_and_the_address_is_tandems_again() {
    let mut node = Node::new();
    node.start_tandem(true);
    node.rest(20);
    node.tables = Some(77);
    node.rest(15);
    assert_eq!((node.neighbour, node.address), (Neighbour::Appeared, None));
    node.rest(REST);
    assert_eq!((node.tables, node.address), (None, Some(Who::Tandem)));
    assert_eq!(node.neighbour, Neighbour::None);
}

/// A machine whose address the settings turn off, or which nobody else wants.
fn seen(address: Address, table: Option<u64>) -> Seen {
    Seen {
        complete: true,
        programmed: [true; 2],
        address,
        signs: signs(table),
    }
}

#[test]
fn without_an_address_tables_that_come_again_tell_that_a_kube_proxy_lives() {
    let (mut machine, now) = (Machine::new(true), Instant::now());
    assert_eq!(machine.step(&seen(Address::Off, Some(1)), now).remove, [true; 2]);
    machine.removed(&Signs::default());
    let at_rest = machine.step(&seen(Address::Off, None), now);
    assert_eq!((at_rest.remove, at_rest.neighbour), ([false; 2], Some(Neighbour::None)));
    for _ in 0..3 {
        let todo = machine.step(&seen(Address::Off, Some(2)), now);
        assert_eq!((todo.remove, todo.neighbour), ([false; 2], Some(Neighbour::Reappears)));
    }
    assert_eq!(
        machine.step(&seen(Address::Off, None), now).neighbour,
        Some(Neighbour::None)
    );
}

#[test]
fn tables_that_come_again_while_nobody_wants_the_address_are_removed_once_and_then_named() {
    let (mut machine, mut now) = (Machine::new(true), Instant::now());
    machine.step(&seen(Address::Held, None), now);
    let mut removed = 0;
    for table in 1..6 {
        let mut todo = machine.step(&seen(Address::Held, Some(table)), now);
        if !todo.listen {
            now += OFFERED_FOR;
            machine.step(&seen(Address::Left, Some(table)), now);
            todo = machine.step(&seen(Address::Held, Some(table)), now);
        }
        if todo.remove == [false; 2] {
            assert_eq!(todo.neighbour, Some(Neighbour::Reappears));
        } else {
            removed += 1;
            machine.removed(&Signs::default());
            machine.step(&seen(Address::Held, None), now);
        }
        now += Duration::from_secs(20);
    }
    assert_eq!(removed, 1);
}

#[test]
fn nothing_is_removed_before_everything_is_programmed_or_if_the_settings_say_so() {
    let now = Instant::now();
    let early = Seen {
        complete: false,
        programmed: [false; 2],
        ..seen(Address::Held, Some(1))
    };
    let mut machine = Machine::new(true);
    assert_eq!(machine.step(&early, now).remove, [false; 2]);
    assert_eq!(machine.step(&seen(Address::Held, Some(1)), now).remove, [true; 2]);
    let mut machine = Machine::new(false);
    let todo = machine.step(&seen(Address::Held, Some(1)), now);
    assert_eq!((todo.remove, todo.neighbour), ([false; 2], Some(Neighbour::None)));
}

#[test]
fn an_address_that_a_stranger_has_is_named_and_leaves_tandems_rules_first() {
    let mut machine = Machine::new(true);
    let todo = machine.step(&seen(Address::Taken, None), Instant::now());
    assert_eq!(todo.neighbour, Some(Neighbour::AddressTaken));
    assert_eq!(place(Neighbour::AddressTaken, false), Place::First);
}
