//! What the kernel or others refuse: each is one line that names it.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use aya::maps::{Array, HashMap, MapData};
use aya::programs::links::PinnedLink;
use rustix::thread::CapabilitySet;
use tandem_core::plane::Full;
use tandem_xdp_layout::{ListIndex, VERSION};

use super::*;
use crate::kernel::object::{LoadError, bad};
use crate::kernel::{Found, OpenError};
use crate::store::Store as _;

/// An error's line.
fn said<T>(result: Result<T, impl std::fmt::Display>) -> String {
    let said = result.err().unwrap().to_string();
    assert!(!said.contains('\n'), "{said}");
    said
}

/// A program of somebody else on a folder, which goes with this.
struct Foreign<'a> {
    folder: &'a Path,
    hook: &'static str,
    pin: PathBuf,
}

impl<'a> Foreign<'a> {
    /// Takes the program of a pinned link, and attaches it without a link: by `flags` it allows others or not.
    fn attach(place: &Place, folder: &'a Path, flags: &[&str]) -> Self {
        Self::attach_as(place, folder, ("node_connect4", "connect4"), flags)
    }

    /// The same with the program of this name, at this hook.
    fn attach_as(place: &Place, folder: &'a Path, (program, hook): (&str, &'static str), flags: &[&str]) -> Self {
        let pin = place.mount.join("foreign");
        let owner = place.mount.join("owner");
        let pins = Pins::open(&owner).unwrap();
        let (sockets, ..) = Sockets::open(&Sizes::default(), pins).unwrap();
        sockets
            .programs
            .lock()
            .unwrap()
            .object
            .ebpf
            .program_mut(program)
            .unwrap()
            .pin(&pin)
            .unwrap();
        sockets.remove().unwrap();
        let mut attach = Command::new("bpftool");
        attach
            .args(["cgroup", "attach"])
            .arg(folder)
            .args([hook, "pinned"])
            .arg(&pin)
            .args(flags);
        run(&mut attach);
        Self { folder, hook, pin }
    }
}

impl Drop for Foreign<'_> {
    fn drop(&mut self) {
        let mut detach = Command::new("bpftool");
        detach
            .args(["cgroup", "detach"])
            .arg(self.folder)
            .args([self.hook, "pinned"])
            .arg(&self.pin);
        run(&mut detach);
        fs::remove_file(&self.pin).unwrap();
    }
}

#[test]
fn a_program_that_the_verifier_refuses_is_named_with_what_the_verifier_said() {
    let place = Place::new();
    let error = bad::load(&Pins::open(&place.pins).unwrap()).unwrap_err();
    assert!(matches!(error, LoadError::Refused { .. }), "{error}");
    let details = error.details().unwrap();
    assert!(
        details.contains("processed ") && details.lines().count() <= 12,
        "{details}"
    );
    let said = error.to_string();
    println!("{said}");
    assert!(
        said.starts_with("the kernel refuses the program node_connect4 (Invalid argument (os error 22)); its verifier"),
        "{said}"
    );
    // Older kernels say it in other words.
    assert!(said.contains("R0") && !said.contains('\n'), "{said}");
    // The same programs as they are can be loaded after that.
    let (sockets, ..) = place.open();
    sockets.remove().unwrap();
}

/// Opens and attaches with these rights alone.
fn attach_with(place: &Place, rights: CapabilitySet) -> Result<(), String> {
    let (pins, folder) = (Pins::open(&place.pins).unwrap(), place.cgroup.clone());
    // Rights are a thread's own.
    let attached = std::thread::spawn(move || {
        let mut own = rustix::thread::capabilities(None).unwrap();
        own.effective = rights;
        rustix::thread::set_capabilities(None, own).unwrap();
        let (sockets, v4, _) = Sockets::open(&Sizes::default(), pins).map_err(|error| error.to_string())?;
        let mut v4: Rows<V4, _> = Rows::new(v4, false);
        v4.renew(&RuleSettings::default(), &rows4())
            .map_err(|error| error.to_string())?;
        sockets.attach(Who::Node, &folder).map_err(|error| error.to_string())?;
        v4.store_mut().grow(1 << 17).map_err(|error| error.to_string())?;
        sockets.remove().map_err(|error| error.to_string())
    });
    attached.join().unwrap()
}

#[test]
fn the_rights_that_are_asked_for_are_enough_and_the_line_says_what_is_refused_without_them() {
    let place = Place::new();
    let needed = [CapabilitySet::BPF, CapabilitySet::NET_ADMIN, CapabilitySet::PERFMON];
    let all = needed
        .iter()
        .copied()
        .fold(CapabilitySet::empty(), |all, one| all | one);
    attach_with(&place, all).unwrap();
    attach_with(&place, CapabilitySet::SYS_ADMIN).unwrap();
    for one in needed {
        let error = attach_with(&place, all - one).unwrap_err();
        println!("without {one:?}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn a_folder_that_cannot_have_programs_is_named_with_the_reason() {
    let place = Place::new();
    let (sockets, ..) = place.open();
    let gone = place.cgroup.join("gone");
    let error = said(sockets.attach(Who::Pods, &gone));
    assert_eq!(
        error,
        format!(
            "open the cgroup folder {}: No such file or directory (os error 2)",
            gone.display()
        )
    );
    let error = said(sockets.attach(Who::Node, &place.mount));
    let at = place.mount.display();
    assert_eq!(
        error,
        format!("{at} is no folder of a cgroup v2 hierarchy: no program can be attached to it")
    );
    sockets.remove().unwrap();
}

#[test]
fn a_program_that_allows_no_other_is_named_with_its_folder() {
    let place = Place::new();
    let below = place.below("kubepods");
    let (sockets, mut v4, _) = place.open();
    v4.renew(&RuleSettings::default(), &rows4()).unwrap();
    sockets.set_node(place.cookie());
    let at = place.cgroup.display();
    {
        // What shows frontends is a part of its own, so that nothing translates without it.
        let _foreign = Foreign::attach_as(&place, &place.cgroup, ("recvmsg4", "recvmsg4"), &["override"]);
        let error = said(sockets.attach(Who::Answers, &place.cgroup));
        assert!(
            error.contains("allows no other") && error.contains("recvmsg4"),
            "{error}"
        );
    }
    {
        let _foreign = Foreign::attach(&place, &place.cgroup, &[]);
        for (who, folder, program) in [
            (Who::Node, &place.cgroup, "node_connect4"),
            (Who::Pods, &below, "pods_connect4"),
        ] {
            let error = said(sockets.attach(who, folder));
            let start = format!("a program that allows no other is attached to {at} (program ");
            let end = format!(", node_connect4): {program} cannot be attached to {}", folder.display());
            assert!(error.starts_with(&start) && error.ends_with(&end), "{error}");
        }
    }
    {
        // One that may be overridden below keeps its own folder for itself.
        let _foreign = Foreign::attach(&place, &place.cgroup, &["override"]);
        let error = said(sockets.attach(Who::Node, &place.cgroup));
        assert!(error.contains("allows no other"), "{error}");
        sockets.attach(Who::Pods, &below).unwrap();
    }
    {
        // One that allows others is no obstacle.
        let _foreign = Foreign::attach(&place, &place.cgroup, &["multi"]);
        sockets.attach(Who::Node, &place.cgroup).unwrap();
        assert_eq!(place.python(ASK4), "10.96.0.1:80");
    }
    assert_eq!(place.python(ASK4), "10.96.0.1:80");
    sockets.remove().unwrap();
}

#[test]
fn a_map_of_another_kind_or_size_that_is_pinned_is_named_and_not_used() {
    let place = Place::new();
    let pins = Pins::open(&place.pins).unwrap();
    let strange = [
        (
            "FRONTENDS4",
            "hash",
            "key 8 value 64 entries 16",
            "its keys and values have 8 and 64 bytes instead of 8 and 8",
        ),
        (
            "SERVICES6",
            "array",
            "key 4 value 8 entries 16 flags 1024",
            "it has 16 entries instead of 294910",
        ),
        (
            "SWITCH4",
            "array",
            "key 4 value 8 entries 1",
            "its memory cannot be mapped",
        ),
        (
            "LISTS4",
            "hash",
            "key 4 value 8 entries 16",
            "it is of the kind Hash instead of Array",
        ),
    ];
    for (name, kind, sizes, what) in strange {
        let pin = place.pins.join(format!("v{VERSION}/maps/{name}"));
        let mut make = Command::new("bpftool");
        make.args(["map", "create"])
            .arg(&pin)
            .args(["type", kind, "name", "strange"]);
        run(make.args(sizes.split(' ')));
        let error = Sockets::open(&Sizes::default(), pins.clone())
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains(what) && error.contains(name), "{error}");
        fs::remove_file(&pin).unwrap();
    }
    assert!(Sockets::open(&Sizes::default(), pins).is_ok());
}

/// Who prints an error says what happens instead. An error that says it too has the line say it twice.
#[test]
fn no_error_says_what_happens_instead_of_what_failed() {
    let mut folders = vec![PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
    let mut errors = 0;
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            for error in text
                .split("#[error(")
                .skip(1)
                .filter_map(|rest| rest.split(")]").next())
            {
                errors += 1;
                for said in ["serves alone", "serves everything", "only has nftables", "left alone"] {
                    assert!(!error.contains(said), "{}: {error}", path.display());
                }
            }
        }
    }
    assert!(errors > 30, "only {errors} errors");
}

#[test]
fn the_pins_of_a_newer_layout_stay_and_its_programs_are_switched_off() {
    let place = Place::new();
    drop(place.serve(&rows4(), &rows6()));
    let newer = place.pins.join("v999");
    fs::rename(place.pins.join(format!("v{VERSION}")), &newer).unwrap();
    place.refuse_untranslated();
    assert_eq!(place.python(ASK4), "10.96.0.1:80");
    let found = Found::look(&place.pins).unwrap();
    drop(found.switches(false).unwrap());
    assert_eq!(place.python(REFUSED), UNTRANSLATED);
    let error = Pins::open(&place.pins).unwrap_err();
    let said = "was made by a newer Tandem, whose maps this one cannot read";
    assert_eq!(error.to_string(), format!("{} {said}", newer.display()));
    assert!(newer.join("maps/FRONTENDS4").exists() && newer.join("links/node_connect4").exists());
    found.remove().unwrap();
    assert!(!newer.exists());
}

#[test]
fn pins_that_another_tandem_uses_are_left_alone() {
    let place = Place::new();
    let (sockets, mut v4, _) = place.open();
    v4.renew(&RuleSettings::default(), &rows4()).unwrap();
    sockets.set_node(place.cookie());
    sockets.attach(Who::Node, &place.cgroup).unwrap();
    // The same process may open them again.
    drop(Pins::open(&place.pins).unwrap());
    let lock = || {
        Command::new("flock")
            .args(["--nonblock".as_ref(), place.pins.as_os_str(), "true".as_ref()])
            .status()
            .unwrap()
    };
    assert!(!lock().success());
    drop((sockets, v4));
    assert!(lock().success());
    let mut other = Command::new("flock");
    let other = other.args([
        place.pins.as_os_str(),
        "sh".as_ref(),
        "-c".as_ref(),
        "echo locked; read line".as_ref(),
    ]);
    let mut other = other.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut locked = String::new();
    BufReader::new(other.stdout.take().unwrap())
        .read_line(&mut locked)
        .unwrap();
    let error = said(Pins::open(&place.pins));
    assert!(
        error.starts_with(&format!(
            "{} is in use by another Tandem that runs",
            place.pins.display()
        )),
        "{error}"
    );
    // Who finds them may not switch them off, detach them or remove them either.
    let error = said(Found::look(&place.pins));
    assert!(error.contains("is in use by another Tandem that runs"), "{error}");
    assert_eq!(place.python(ASK4), "10.96.0.1:80");
    drop(other.stdin.take());
    other.wait().unwrap();
    let (sockets, ..) = place.open();
    assert_eq!(sockets.attach(Who::Node, &place.cgroup).unwrap(), Attached::Adopted);
    sockets.remove().unwrap();
}

#[test]
fn a_map_for_which_there_is_no_memory_is_named_and_nothing_is_left_behind() {
    let place = Place::new();
    let absurd = Sizes {
        frontends: 4,
        words: [u32::MAX, 16],
    };
    let result = Sockets::open(&absurd, Pins::open(&place.pins).unwrap());
    assert!(matches!(result, Err(OpenError::Load(LoadError::Maps(_)))));
    let error = said(result);
    println!("{error}");
    assert!(
        error.starts_with("make the maps: ") && error.contains("LISTS4"),
        "{error}"
    );
    // What was pinned before that is used, and what is larger than it can be is left to nftables by name.
    let (sockets, mut v4, _) = place.open();
    v4.renew(&RuleSettings::default(), &rows4()).unwrap();
    assert!(matches!(
        v4.store_mut().grow(u32::MAX),
        Err(crate::StoreError::Full(Full { name: "LISTS4", .. }))
    ));
    sockets.set_node(place.cookie());
    sockets.attach(Who::Node, &place.cgroup).unwrap();
    assert_eq!(place.python(ASK4), "10.96.0.1:80");
    sockets.remove().unwrap();
}

/// Asks until it is told to stop, and says how often there were wrong answers, and whether there were right ones.
const ASK_ON: &str = r#"
import socket, os, sys
listener = socket.socket(); listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", 8080)); listener.listen(100)
right, wrong = 0, []
print("asking", flush=True)
while not os.path.exists(sys.argv[1]):
    client = socket.socket(); client.settimeout(2)
    try:
        client.connect(("10.96.0.1", 80))
        if listener.accept()[1] == client.getsockname(): right += 1
        else: wrong.append("another")
    except OSError as error:
        # What is not translated has no way: no route to host.
        if error.errno != 113: wrong.append(str(error))
    client.close()
print(wrong, right > 0)
"#;

#[test]
fn garbage_in_pinned_maps_harms_no_program_and_a_renewal_ends_right() {
    let place = Place::new();
    place.refuse_untranslated();
    let stop = std::env::temp_dir().join(format!("{}-stop", place.network));
    let (sockets, mut v4, mut v6) = place.open();
    v4.renew(&RuleSettings::default(), &rows4()).unwrap();
    v6.renew(&RuleSettings::default(), &rows6()).unwrap();
    sockets.set_node(place.cookie());
    sockets.attach(Who::Node, &place.cgroup).unwrap();
    drop((sockets, v4, v6));
    let mut asking = command(&place.network, &place.cgroup, ASK_ON);
    let mut asking = asking.arg(&stop).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(asking.stdout.take().unwrap()).lines();
    assert_eq!(said.next().unwrap().unwrap(), "asking");
    let mut random = fastrand::Rng::with_seed(16);
    for round in 0..12 {
        spoil(&place.pins.join(format!("v{VERSION}/maps")), &mut random, round);
        let (_sockets, mut v4, mut v6) = place.open();
        v4.renew(&RuleSettings::default(), &rows4()).unwrap();
        v6.renew(&RuleSettings::default(), &rows6()).unwrap();
        assert_eq!((v4.frontends(), v6.frontends(), v4.left().len()), (2, 2, 0));
    }
    fs::write(&stop, "").unwrap();
    assert_eq!(said.next().unwrap().unwrap(), "[] True");
    assert!(asking.wait().unwrap().success());
    fs::remove_file(&stop).unwrap();
    let (sockets, mut v4, mut v6) = place.open();
    v4.renew(&RuleSettings::default(), &rows4()).unwrap();
    v6.renew(&RuleSettings::default(), &rows6()).unwrap();
    assert_eq!((v4.store().writes(), v6.store().writes()), (0, 0));
    assert_eq!(place.python(ASK), ANSWERS);
    sockets.remove().unwrap();
}

/// Writes random words into the pinned maps of both families. The programs run meanwhile.
fn spoil(maps: &Path, random: &mut fastrand::Rng, round: u64) {
    for family in ["4", "6"] {
        let open = |name: &str| {
            aya::maps::Map::from_map_data(MapData::from_pin(maps.join(format!("{name}{family}"))).unwrap()).unwrap()
        };
        let mut lists: Array<_, u64> = open("LISTS").try_into().unwrap();
        let mut services: Array<_, u64> = open("SERVICES").try_into().unwrap();
        for at in 0..40 {
            lists.set(at, random.u64(..), 0).unwrap();
        }
        for at in 0..20 {
            services
                .set(random.u32(0..ListIndex::COUNT), random.u64(..), 0)
                .unwrap();
            services.set(at, random.u64(..), 0).unwrap();
        }
        if family == "4" {
            let mut frontends: HashMap<_, [u8; 8], u64> = open("FRONTENDS").try_into().unwrap();
            let mut keys: Vec<[u8; 8]> = frontends.keys().flatten().collect();
            keys.extend((0..10).map(|_| random.u64(..).to_ne_bytes()));
            for key in keys {
                frontends.insert(key, random.u64(..), 0).unwrap();
            }
        }
        let mut switch: Array<_, u64> = open("SWITCH").try_into().unwrap();
        if round.is_multiple_of(3) {
            switch.set(0, random.u64(..), 0).unwrap();
        }
    }
}

#[test]
fn something_else_in_the_place_of_a_link_is_replaced() {
    let place = Place::new();
    let (sockets, mut v4, _) = place.open();
    sockets.set_node(place.cookie());
    let pin = place.pins.join(format!("v{VERSION}/links/node_connect4"));
    run(Command::new("bpftool").args(["map", "create"]).arg(&pin).args([
        "type", "array", "key", "4", "value", "4", "entries", "1", "name", "strange",
    ]));
    v4.renew(&RuleSettings::default(), &rows4()).unwrap();
    assert_eq!(sockets.attach(Who::Node, &place.cgroup).unwrap(), Attached::Anew);
    assert!(PinnedLink::from_pin(&pin).is_ok());
    assert_eq!(place.python(ASK4), "10.96.0.1:80");
    sockets.remove().unwrap();
}
