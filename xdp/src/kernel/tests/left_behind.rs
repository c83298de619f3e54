//! What an earlier run left, and whose switches cannot be reached.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Stdio};

use tandem_core::plane::Follower;
use tandem_xdp_layout::{SWITCH_SINCE, VERSION};

use super::super::{Found, Older};
use super::*;

/// Asks by UDP, and is answered when a line comes. Prints who answered.
const LATE: &str = r#"
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); server.bind(("127.0.0.1", 8080))
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); client.settimeout(2)
client.sendto(b"x", ("10.96.0.1", 80))
data, peer = server.recvfrom(10)
print("asked", flush=True)
input()
server.sendto(b"y", peer)
print("%s:%d" % client.recvfrom(10)[1])
"#;

/// A program that has asked and waits for its answer.
struct Late {
    child: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl Late {
    fn ask(place: &Place) -> Self {
        let mut command = command(&place.network, &place.cgroup, LATE);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut late = Self {
            said: BufReader::new(child.stdout.take().unwrap()),
            child,
        };
        assert_eq!(late.line(), "asked");
        late
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// Lets the answer come. Returns from where, as the program sees it.
    fn answered_by(mut self) -> String {
        self.child.stdin.take().unwrap().write_all(b"\n").unwrap();
        let by = self.line();
        assert!(self.child.wait().unwrap().success());
        by
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Has the programs of a run that ended be those of an older layout, whose switch is known or is not. Returns its folder.
fn grow_old(place: &Place, known: bool) -> PathBuf {
    let older = place.pins.join(format!("v{}", SWITCH_SINCE - u32::from(!known)));
    fs::rename(place.pins.join(format!("v{VERSION}")), &older).unwrap();
    older
}

const REVERSE: [&str; 4] = ["getpeername4", "getpeername6", "recvmsg4", "recvmsg6"];

#[test]
fn an_older_layout_translates_until_the_rows_of_this_one_are_on_and_shows_its_answers_after_that() {
    let place = Place::new();
    drop(place.serve(&rows4(), &rows6()));
    let late = Late::ask(&place);
    let older = grow_old(&place, true);
    let rules = RuleSettings::default();
    let found = Found::look(&place.pins).unwrap();
    let [stand_in, _] = found.switches(false).unwrap();
    assert!(Follower::<V4>::fits(&stand_in, &rules));
    let (sockets, v4, v6) = place.open();
    let [older4, older6] = found.older(false).unwrap();
    let (mut v4, mut v6) = (older4.before(v4), older6.before(v6));
    sockets.set_node(place.cookie());
    sockets.attach(Who::Node, &place.cgroup).unwrap();
    let service = rows4()[0].service().unwrap();
    place.refuse_untranslated();
    // Both are attached. The older ones alone are on.
    assert_eq!(place.python(ASK4), "10.96.0.1:80");
    assert_eq!(sockets.taken(IpFamily::V4, service), [0; 2]);
    assert_eq!(found.retire_older(true).unwrap(), Older::On);
    v4.renew(&rules, &rows4()).unwrap();
    assert_eq!(place.python(ASK4), "10.96.0.1:80");
    assert_eq!(sockets.taken(IpFamily::V4, service), [1, 0]);
    // IPv6 is still the older ones'.
    assert_eq!(found.retire_older(true).unwrap(), Older::On);
    v6.renew(&rules, &rows6()).unwrap();
    assert_eq!(found.retire_older(true).unwrap(), Older::Shows);
    assert_eq!(
        (names(&older.join("links")), names(&older)),
        (REVERSE.map(str::to_owned).to_vec(), vec!["links".to_owned()])
    );
    assert_eq!(place.python(ASK4), "10.96.0.1:80");
    assert_eq!(late.answered_by(), "10.96.0.1:80");
    found.remove_older().unwrap();
    assert_eq!(
        Found::look(&place.pins).unwrap().retire_older(true).unwrap(),
        Older::None
    );
    sockets.remove().unwrap();
}

#[test]
fn an_older_layout_is_off_as_soon_as_its_rows_are_old_and_if_its_switch_is_not_known() {
    let place = Place::new();
    drop(place.serve(&rows4(), &rows6()));
    let older = grow_old(&place, true);
    let found = Found::look(&place.pins).unwrap();
    let (sockets, v4, _) = place.open();
    let [older4, _] = found.older(false).unwrap();
    let mut v4 = older4.before(v4);
    // Its settings are others than those of the data plane.
    let others = RuleSettings {
        masquerade_all: true,
        ..RuleSettings::default()
    };
    assert!(Follower::<V4>::fits(&v4, &RuleSettings::default()) && !Follower::<V4>::fits(&v4, &others));
    place.refuse_untranslated();
    assert_eq!(place.python(REFUSED), "[Errno 111] Connection refused");
    assert_eq!(place.python(ASK4), "10.96.0.1:80");
    // The engine does this as soon as nftables has acknowledged a change.
    Follower::<V4>::switch_off(&mut v4);
    assert_eq!(place.python(REFUSED), UNTRANSLATED);
    drop((sockets, v4));
    // The switch of a layout that is older than any that is known.
    fs::remove_dir_all(place.pins.join(format!("v{VERSION}"))).unwrap();
    fs::rename(&older, place.pins.join(format!("v{VERSION}"))).unwrap();
    let (sockets, mut v4, v6) = place.open();
    v4.renew(&RuleSettings::default(), &rows4()).unwrap();
    sockets.attach(Who::Node, &place.cgroup).unwrap();
    assert_eq!(place.python(ASK4), "10.96.0.1:80");
    drop((sockets, v4, v6));
    grow_old(&place, false);
    let found = Found::look(&place.pins).unwrap();
    let [stand_in, _] = found.switches(false).unwrap();
    assert!(Follower::<V4>::fits(&stand_in, &others));
    assert_eq!(place.python(REFUSED), UNTRANSLATED);
    found.remove().unwrap();
}

#[test]
fn what_sockets_remember_is_pinned_again_and_the_next_run_shows_their_frontends() {
    let place = Place::new();
    let (sockets, mut v4, v6) = place.open();
    v4.renew(&RuleSettings::default(), &rows4()).unwrap();
    sockets.set_node(place.cookie());
    sockets.attach(Who::Node, &place.cgroup).unwrap();
    let late = Late::ask(&place);
    fs::remove_dir_all(&place.pins).unwrap();
    sockets.pin_again().unwrap();
    // Nobody else may have the new folder either.
    let mut lock = Command::new("flock");
    lock.args(["--nonblock".as_ref(), place.pins.as_os_str(), "true".as_ref()]);
    assert!(!lock.status().unwrap().success());
    sockets.attach(Who::Node, &place.cgroup).unwrap();
    drop((sockets, v4, v6));
    let (sockets, mut v4, _v6) = place.open();
    v4.renew(&RuleSettings::default(), &rows4()).unwrap();
    sockets.set_node(place.cookie());
    sockets.attach(Who::Node, &place.cgroup).unwrap();
    assert_eq!(late.answered_by(), "10.96.0.1:80");
    sockets.remove().unwrap();
}

#[test]
fn programs_whose_switch_cannot_be_reached_are_detached() {
    let place = Place::new();
    let (sockets, mut v4, v6) = place.open();
    v4.renew(&RuleSettings::default(), &rows4()).unwrap();
    sockets.set_node(place.cookie());
    sockets.attach(Who::Node, &place.cgroup).unwrap();
    drop((sockets, v4, v6));
    assert_eq!(place.python(ASK4), "10.96.0.1:80");
    let found = Found::look(&place.pins).unwrap();
    // As long as its switch is there, it goes on as it was found.
    drop(found.switches(false).unwrap());
    assert_eq!(place.python(ASK4), "10.96.0.1:80");
    // A process without the right to open maps gets no switch either, on kernels and under filters that ask for it.
    let layout = place.pins.join(format!("v{VERSION}"));
    fs::remove_file(layout.join("maps/SWITCH6")).unwrap();
    let _switches = found.switches(false).unwrap();
    assert_eq!(place.python(REFUSED), "timed out");
    assert!(!found.translates());
    assert!(layout.join("links/recvmsg4").exists());
    found.remove().unwrap();
}

#[test]
fn links_whose_folder_is_gone_and_links_of_an_earlier_run_do_not_keep_a_map_from_growing() {
    let place = Place::new();
    let sizes = Sizes {
        frontends: 4,
        words: [16, 16],
    };
    let open = || {
        let (sockets, v4, _) = Sockets::open(&sizes, Pins::open(&place.pins).unwrap()).unwrap();
        (sockets, Rows::<V4, _>::new(v4, false))
    };
    let (sockets, mut v4) = open();
    v4.renew(&RuleSettings::default(), &rows4()).unwrap();
    sockets.set_node(place.cookie());
    sockets.attach(Who::Node, &place.cgroup).unwrap();
    let pods = place.below("kubepods");
    sockets.attach(Who::Pods, &pods).unwrap();
    fs::remove_dir(&pods).unwrap();
    drop((sockets, v4));
    // This run grows its maps before it attaches anything.
    let (sockets, mut v4) = open();
    v4.renew(&RuleSettings::default(), &rows4()).unwrap();
    let mut all = rows4();
    for number in 10..30 {
        let service = ServiceId::plain(number).unwrap();
        let own = rows::<V4>([10, 96, 1, u8::try_from(number).unwrap()].into(), [127, 0, 0, 1].into());
        all.extend(own.into_iter().take(3).map(|row| with(row, service)));
    }
    v4.renew(&RuleSettings::default(), &all).unwrap();
    assert_eq!((v4.frontends(), v4.left().len()), (22, 0));
    assert_eq!(place.python(&ASK4.replace("10.96.0.1", "10.96.1.29")), "10.96.1.29:80");
    sockets.remove().unwrap();
}
