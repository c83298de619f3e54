//! Faults of system calls. The kernel cannot be made to refuse each call when it is wanted, so `strace` stands between this
//! crate and its calls of `bpf`: it answers one or some of them with an error, without asking the kernel.

use std::collections::BTreeMap;
use std::{env, process};

use tandem_core::plane::Delta;

use super::*;
use crate::kernel::{link, lock};

/// Where the run that faults are put into finds its place.
const PLACE: &str = "TANDEM_TEST_PLACE";
/// A number puts faults into each so manieth call, one after the other: 1 into each call, which takes hours.
const WHICH: &str = "TANDEM_TEST_FAULTS";
/// How often a step is tried again.
const TRIES: usize = 4;
/// The smallest maps: they grow several times.
const SMALL: Sizes = Sizes {
    frontends: 4,
    words: [16, 16],
};

/// Asks each address, and prints which endpoint answered, or that the connection was left to nftables.
const ASK_ALL: &str = r#"
import select, socket, sys
listeners = {}
for port in (8080, 8081):
    listener = socket.socket(); listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port)); listener.listen(100)
    listeners[listener] = port
def ask(address):
    client = socket.socket(); client.settimeout(2)
    try: client.connect((address, 80))
    except OSError as error: return "left" if error.errno == 113 else str(error).replace(" ", "_")
    answering = select.select(list(listeners), [], [], 2)[0][0]
    answering.accept()
    return str(listeners[answering])
print(" ".join(ask(address) for address in sys.argv[1:]))
"#;

/// The Services that nftables has: the port of the endpoint by the last byte of the ClusterIP.
type Table = BTreeMap<u8, u16>;

fn service_rows(at: u8, endpoint_port: u16) -> Vec<Row<V4>> {
    let service = ServiceId::plain(u32::from(at)).unwrap();
    let rows = rows::<V4>([10, 96, 0, at].into(), [127, 0, 0, 1].into())
        .into_iter()
        .take(3);
    let rows = rows.map(|row| match with(row, service) {
        Row::Endpoint {
            service,
            slot,
            mut endpoint,
        } => {
            endpoint.port = port(endpoint_port);
            Row::Endpoint {
                service,
                slot,
                endpoint,
            }
        }
        other => other,
    });
    rows.collect()
}

fn all_rows(table: &Table) -> Vec<Row<V4>> {
    table
        .iter()
        .flat_map(|(at, endpoint)| service_rows(*at, *endpoint))
        .collect()
}

/// A change: the Service at an address gets an endpoint, another one, or goes.
fn delta(at: u8, before: Option<u16>, after: Option<u16>) -> Delta<V4> {
    let rows = |endpoint: Option<u16>| endpoint.map(|endpoint| service_rows(at, endpoint)).unwrap_or_default();
    match (before, after) {
        (Some(_), Some(_)) => Delta {
            changed: rows(before)
                .into_iter()
                .zip(rows(after))
                .filter(|(old, new)| old != new)
                .collect(),
            ..Delta::default()
        },
        _ => Delta {
            added: rows(after),
            removed: rows(before),
            ..Delta::default()
        },
    }
}

/// The run that faults are put into: network, cgroup folder, folder of the pins, the network's cookie.
struct Life {
    network: String,
    cgroup: PathBuf,
    pins: PathBuf,
    cookie: u64,
    table: Table,
}

impl Life {
    /// Asks all addresses, also those without a Service. None may be answered by another endpoint than its own. Returns how
    /// many were answered.
    fn ask(&self) -> usize {
        let addresses: Vec<u8> = (1..=12).collect();
        let mut python = command(&self.network, &self.cgroup, ASK_ALL);
        let output = python
            .args(addresses.iter().map(|at| format!("10.96.0.{at}")))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let answers: Vec<&str> = said.split_whitespace().collect();
        assert_eq!(
            answers.len(),
            addresses.len(),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let mut answered = 0;
        for (at, answer) in addresses.into_iter().zip(answers) {
            let right = self.table.get(&at).map(u16::to_string);
            if answer != "left" {
                assert_eq!(Some(answer.to_owned()), right, "10.96.0.{at} of {:?}", self.table);
                answered += 1;
            }
        }
        answered
    }

    /// Tries a step until it succeeds. Each time that it fails, the family is off.
    fn until<T>(&self, what: &str, is_off: bool, mut step: impl FnMut() -> Result<T, String>) -> T {
        for _ in 0..TRIES {
            match step() {
                Ok(done) => return done,
                Err(error) => println!("failed: {what}: {error}"),
            }
            let answered = self.ask();
            assert!(!is_off || answered == 0, "{answered} answers after {what}");
        }
        println!("given up: {what}");
        process::exit(GIVEN_UP);
    }

    fn live(&mut self) {
        println!(); // the name of the test stands before
        let (sockets, v4, _v6) = self.until("open", false, || {
            let pins = Pins::open(&self.pins).map_err(|error| error.to_string())?;
            Sockets::open(&SMALL, pins).map_err(|error| error.to_string())
        });
        sockets.set_node(self.cookie);
        let mut v4: Rows<V4, _> = Rows::new(v4, false);
        self.table = (1..=3).map(|at| (at, 8080)).collect();
        self.until("renew", true, || {
            v4.renew(&RuleSettings::default(), &all_rows(&self.table))
                .map_err(|error| error.to_string())
        });
        self.until("attach", false, || {
            sockets
                .attach(Who::Node, &self.cgroup)
                .map_err(|error| error.to_string())
        });
        self.ask();
        let mut steps: Vec<(u8, Option<u16>)> = (4..=8).map(|at| (at, Some(8080))).collect();
        steps.extend([(2, Some(8081)), (3, None), (8, Some(8081)), (9, Some(8080))]);
        let mut is_renewed = false;
        for (at, after) in steps {
            let change = delta(at, self.table.get(&at).copied(), after);
            // nftables has it before this is told.
            match after {
                Some(endpoint) => drop(self.table.insert(at, endpoint)),
                None => drop(self.table.remove(&at)),
            }
            if let Err(error) = v4.follow(&change) {
                println!("failed: follow: {error}");
                assert_eq!(self.ask(), 0, "the family must be off");
                // nftables goes on meanwhile. There is room now, so nothing is enlarged that would bring programs together.
                for gone in [at, 4] {
                    self.table.remove(&gone);
                }
                self.until("renew", true, || {
                    v4.renew(&RuleSettings::default(), &all_rows(&self.table))
                        .map_err(|error| error.to_string())
                });
                is_renewed = true;
            }
            if is_renewed {
                let left = v4.left().len();
                assert_eq!(self.ask() + left, self.table.len(), "{left} are left");
            }
        }
        let left = v4.left().len();
        assert_eq!(self.ask() + left, self.table.len(), "{left} are left");
    }
}

/// What the run ends with if a step fails again and again.
const GIVEN_UP: i32 = 9;

#[test]
#[ignore = "the test below runs it, with faults"]
fn a_life_that_faults_are_put_into() {
    let place = env::var(PLACE).unwrap();
    let [network, cgroup, pins, cookie]: [&str; 4] = place.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let mut life = Life {
        network: network.to_owned(),
        cgroup: cgroup.into(),
        pins: pins.into(),
        cookie: cookie.parse().unwrap(),
        table: Table::new(),
    };
    life.live();
}

/// Runs the life under strace with these faults (none: only looks). Returns what the test's thread called, and what was printed.
fn under_strace(place: &Place, inject: Option<&str>) -> (Vec<String>, String) {
    let log = env::temp_dir().join(format!("{}-strace", place.network));
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "--seccomp-bpf", "-s", "0", "-e", "trace=bpf", "-o"])
        .arg(&log);
    if let Some(inject) = inject {
        strace.args(["-e", &format!("inject=bpf:{inject}")]);
    }
    strace
        .arg(env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture", "--test-threads=1"]);
    strace.arg(
        concat!(module_path!(), "::a_life_that_faults_are_put_into")
            .split_once("::")
            .unwrap()
            .1,
    );
    let cookie = place.cookie().to_string();
    let [cgroup, pins] = [&place.cgroup, &place.pins].map(|path| path.to_str().unwrap());
    let at = [&place.network, cgroup, pins, &cookie];
    let output = strace.env(PLACE, at.join(" ")).output().unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        output.status.success() || output.status.code() == Some(GIVEN_UP),
        "{inject:?}: {said}"
    );
    assert!(said.contains("running 1 test"), "{said}");
    let calls = fs::read_to_string(&log).unwrap();
    fs::remove_file(&log).unwrap();
    let mut threads: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for line in calls.lines() {
        let call = line.split_once("bpf(").and_then(|(_, call)| call.split(',').next());
        if let (Some(thread), Some(call)) = (line.split(' ').next(), call) {
            threads.entry(thread).or_default().push(call.to_owned());
        }
    }
    (threads.into_values().max_by_key(Vec::len).unwrap_or_default(), said)
}

/// Which calls get which errors: `when=` of strace, and the error.
fn faults(calls: &[String]) -> Vec<(String, &'static str)> {
    const ERRORS: [&str; 3] = ["ENOMEM", "EPERM", "EINVAL"];
    let error = |at: usize| ERRORS[at % ERRORS.len()];
    if let Ok(every) = env::var(WHICH) {
        let calls = (1..=calls.len()).step_by(every.parse().unwrap());
        let one = calls.clone().map(|at| (at.to_string(), error(at)));
        let some = calls.map(|at| (format!("{at}..{}", at + 5), error(at + 1)));
        return one.chain(some).collect();
    }
    let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, call) in (1..).zip(calls) {
        places.entry(call).or_default().push(at);
    }
    // Of each kind one, late: when maps grow.
    let kinds = places.values().map(|places| places[places.len() * 3 / 4]);
    (0..)
        .zip(kinds)
        .map(|(kind, at)| (at.to_string(), error(kind)))
        .collect()
}

/// Faults that tear the programs apart: the second program of an enlargement does not come, and the first one does not go back.
/// The second time, the next renewals fail too. How many calls come before differs by a few.
fn tears(calls: &[String]) -> [impl Iterator<Item = (String, &'static str)>; 2] {
    let updates: Vec<usize> = (1..)
        .zip(calls)
        .filter(|(_, call)| *call == "BPF_LINK_UPDATE")
        .map(|(at, _)| at)
        .collect();
    let second = updates[updates.len() - 2];
    [(1, "ENOMEM"), (4, "EPERM")].map(|(more, error)| {
        let near = [0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5].into_iter();
        near.map(move |by| {
            let from = second.saturating_add_signed(by);
            (format!("{from}..{}", from + more), error)
        })
    })
}

#[test]
fn whichever_call_fails_answers_are_right_or_none_and_the_next_run_is_whole() {
    let place = Place::new();
    place.refuse_untranslated();
    let (calls, said) = under_strace(&place, None);
    assert!(!said.contains("failed: "), "{said}");
    println!("calls: {}", calls.len());
    for (when, error) in faults(&calls) {
        with_fault(&place, &when, error);
    }
    for mut near in tears(&calls) {
        let torn = near.any(|(when, error)| with_fault(&place, &when, error).contains("others the smaller one"));
        assert!(torn, "no enlargement failed half way");
    }
    Pins::open(&place.pins).unwrap().remove(&[]).unwrap();
}

/// Runs the life with this fault, and a run without faults after it. Returns what was printed.
fn with_fault(place: &Place, when: &str, error: &str) -> String {
    Pins::open(&place.pins).unwrap().remove(&[]).unwrap();
    let (_, said) = under_strace(place, Some(&format!("error={error}:when={when}")));
    let failed: Vec<&str> = said.lines().filter(|line| line.starts_with("failed: ")).collect();
    println!("{when} {error}: {failed:?}");
    // A run without faults takes over whatever there is.
    let (sockets, v4, _) = Sockets::open(&SMALL, Pins::open(&place.pins).unwrap()).unwrap();
    let mut v4: Rows<V4, _> = Rows::new(v4, false);
    let life = Life {
        network: place.network.clone(),
        cgroup: place.cgroup.clone(),
        pins: place.pins.clone(),
        cookie: place.cookie(),
        table: (1..=12).map(|at| (at, 8081)).collect(),
    };
    sockets.set_node(life.cookie);
    v4.renew(&RuleSettings::default(), &all_rows(&life.table)).unwrap();
    sockets.attach(Who::Node, &place.cgroup).unwrap();
    assert_eq!((life.ask(), v4.left().len()), (12, 0), "{when} {error}: {said}");
    said
}

#[test]
fn programs_that_an_enlargement_tore_apart_are_whole_again_with_the_next_change() {
    let place = Place::new();
    let (sockets, mut v4, _v6) = place.serve(&rows4(), &[]);
    place.refuse_untranslated();
    // One link has the program of another object, whose maps are empty.
    let (other, ..) = Sockets::open(&Sizes::default(), Pins::open(&place.mount.join("other")).unwrap()).unwrap();
    let pin = place
        .pins
        .join(format!("v{}/links/node_connect4", tandem_xdp_layout::VERSION));
    link::replace(lock(&other.programs).object.program("node_connect4").unwrap(), &pin).unwrap();
    lock(&sockets.programs).doubt();
    assert_eq!(place.python(REFUSED), UNTRANSLATED);
    v4.follow(&delta(9, None, Some(8080))).unwrap();
    assert_eq!(place.python(ASK4), "10.96.0.1:80");
    other.remove().unwrap();
    sockets.remove().unwrap();
}
