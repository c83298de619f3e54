//! The programs for packets on devices of a network namespace of the test.

use std::os::fd::AsFd as _;

use aya::maps::MapData;

use super::*;
use crate::kernel::{DeviceError, DevicePin, Mode, PacketSizes, Packets, PacketsError, sys};

const SIZES: PacketSizes = PacketSizes {
    pages: [1, 1],
    held: 64,
    visitors: 64,
};

impl Place {
    /// Makes a device, and returns its index.
    fn device(&self, name: &str) -> u32 {
        let ip = |args: &str| run(Command::new("ip").args(["-n", &self.network]).args(args.split(' ')));
        ip(&format!("link add {name} type veth peer name {name}-peer"));
        ip(&format!("link set {name} up"));
        ip(&format!("link set {name}-peer up"));
        self.index(name)
    }

    fn index(&self, name: &str) -> u32 {
        let shown = Command::new("ip")
            .args(["-n", &self.network, "-o", "link", "show", name])
            .output()
            .unwrap();
        String::from_utf8_lossy(&shown.stdout)
            .split(':')
            .next()
            .unwrap()
            .parse()
            .unwrap()
    }

    /// Has a thread in the network namespace do something.
    fn within<T: Send>(&self, does: impl FnOnce() -> T + Send) -> T {
        let namespace = fs::File::open(format!("/run/netns/{}", self.network)).unwrap();
        let enter = || {
            let kind = Some(rustix::thread::LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(namespace.as_fd(), kind).unwrap();
            does()
        };
        std::thread::scope(|scope| scope.spawn(enter).join().unwrap())
    }

    /// Whether the device has an XDP program, and which.
    fn program(&self, name: &str) -> Option<String> {
        let shown = Command::new("ip")
            .args(["-n", &self.network, "link", "show", name])
            .output()
            .unwrap();
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        Some(shown.split_once("prog/xdp")?.1.split_whitespace().nth(1)?.to_owned())
    }
}

fn packets(sockets: &Sockets) -> Packets {
    sockets
        .packets(&SIZES)
        .unwrap_or_else(|error: PacketsError| panic!("{error}: {error:?}"))
}

#[test]
fn a_device_keeps_its_program_from_run_to_run_and_loses_it_when_it_is_asked_to() {
    let place = Place::new();
    let index = place.device("eth0");
    let pin = DevicePin {
        index,
        mode: Mode::Native,
        parts: false,
    };
    let (sockets, ..) = place.open();
    let first = packets(&sockets);
    assert_eq!(
        place.within(|| first.attach(index, Mode::Native, false)),
        Ok(Attached::Anew)
    );
    assert_eq!(first.attached(), [(pin, true)]);
    let before = place.program("eth0").unwrap();
    drop((first, sockets));
    assert_eq!(
        place.program("eth0"),
        Some(before.clone()),
        "it works on while nobody runs"
    );

    let (sockets, ..) = place.open();
    let second = packets(&sockets);
    assert_eq!(second.attached(), [(pin, true)]);
    assert_eq!(
        place.within(|| second.attach(index, Mode::Native, false)),
        Ok(Attached::Adopted)
    );
    assert_ne!(place.program("eth0"), Some(before), "it is this run's program");
    // The other program, and the other way to run one.
    assert_eq!(
        place.within(|| second.attach(index, Mode::Native, true)),
        Ok(Attached::Adopted)
    );
    assert_eq!(second.attached(), [(DevicePin { parts: true, ..pin }, true)]);
    assert_eq!(
        place.within(|| second.attach(index, Mode::Generic, true)),
        Ok(Attached::Anew)
    );
    let generic = DevicePin {
        parts: true,
        mode: Mode::Generic,
        ..pin
    };
    assert_eq!(second.attached(), [(generic, true)]);
    second.detach(index).unwrap();
    assert_eq!((second.attached(), place.program("eth0")), (Vec::new(), None));
}

#[test]
fn a_program_of_somebody_else_is_named_and_left_alone_and_what_is_gone_is_said() {
    let place = Place::new();
    let index = place.device("eth0");
    let (sockets, ..) = place.open();
    let ours = packets(&sockets);
    let foreign = Place::new();
    let (others, ..) = foreign.open();
    let theirs = packets(&others);
    place.within(|| theirs.attach(index, Mode::Native, false)).unwrap();
    let before = place.program("eth0");
    assert_eq!(
        place.within(|| ours.attach(index, Mode::Native, false)),
        Err(DeviceError::Foreign)
    );
    assert_eq!(place.program("eth0"), before);
    theirs.detach(index).unwrap();
    place.within(|| ours.attach(index, Mode::Native, false)).unwrap();

    // Somebody takes it away by force.
    run(Command::new("ip").args(["-n", &place.network, "link", "delete", "eth0"]));
    let gone = ours.attached();
    assert!(matches!(gone[..], [(pin, false)] if pin.index == index), "{gone:?}");
    assert_eq!(
        place.within(|| ours.attach(index, Mode::Native, false)),
        Err(DeviceError::Gone)
    );
    assert_eq!(ours.attached(), [], "the pin of a link that is gone is removed");
    place.within(|| {
        assert_eq!(
            ours.attach(1, Mode::Native, false),
            Err(DeviceError::NotNative(
                "Operation not supported (os error 95)".to_owned()
            ))
        );
    });
}

#[test]
fn a_map_with_rows_that_is_enlarged_is_the_packets_too() {
    let place = Place::new();
    let index = place.device("eth0");
    let pins = Pins::open(&place.pins).unwrap();
    let small = Sizes {
        frontends: 4,
        words: [4096, 4096],
    };
    let (sockets, v4, _v6) = Sockets::open(&small, pins).unwrap();
    let packets = packets(&sockets);
    place.within(|| packets.attach(index, Mode::Native, false)).unwrap();
    let mut rows = Rows::<V4, _>::new(v4, false);
    let pin = place
        .pins
        .join(format!("v{}/maps/FRONTENDS4", tandem_xdp_layout::VERSION));
    let id = || MapData::from_pin(&pin).unwrap().info().unwrap().id();
    let before = id();
    let many: Vec<Row<V4>> = (1..20).flat_map(|at| rows_of([10, 96, 0, at])).collect();
    rows.renew(&RuleSettings::default(), &many).unwrap();
    assert!(rows.left().is_empty());
    let after = id();
    assert_ne!(before, after);
    let link = sys::open(
        &place
            .pins
            .join(format!("v{}/links/packets-native-{index}", tandem_xdp_layout::VERSION)),
    );
    let (_, program) = sys::device_of(link.unwrap().as_fd()).unwrap().unwrap();
    let used = loaded(program);
    assert!(used.contains(&after) && !used.contains(&before), "{used:?}");
}

/// A ClusterIP with one endpoint, whose numbers are those of the address.
fn rows_of(frontend: [u8; 4]) -> Vec<Row<V4>> {
    let number = u32::from(frontend[3]) * 2;
    let mut rows = rows::<V4>(frontend.into(), [127, 0, 0, 1].into());
    let other = |id: ServiceId| ServiceId::plain(number + id.number() - 1).unwrap();
    for row in &mut rows {
        match row {
            Row::Endpoint { service, .. } | Row::Service { service, .. } | Row::Frontend { service, .. } => {
                *service = other(*service);
            }
            _ => {}
        }
    }
    rows
}

/// The maps of a loaded program.
fn loaded(program: u32) -> Vec<u32> {
    let found = aya::programs::loaded_programs()
        .flatten()
        .find(|found| found.id() == program);
    found.unwrap().map_ids().unwrap().unwrap()
}

/// Settings with which flows are taken.
fn settings() -> tandem_xdp_layout::PacketSettings {
    tandem_xdp_layout::PacketSettings {
        on: [true; 2],
        noting: false,
        moving: false,
        generation: tandem_xdp_layout::RouteGeneration::new(7),
        index_seed: 11,
        pick_seed: 12,
        pages: [1, 1],
        times: tandem_xdp_layout::Times::default(),
        answers: 9,
    }
}

/// A record for a connection, as the program writes it.
fn begin(maps: &crate::kernel::PacketMaps, slot: u32, client: u16) {
    use tandem_xdp_layout::{Endpoint, Flow, Hop, RecordNumber, State, record};
    let at = |addr: [u8; 4], port: u16| Endpoint {
        addr: V4::mapped(addr.into()),
        port: port.to_be(),
    };
    let records = maps.records::<Address4>(false).unwrap();
    let words = records.at(RecordNumber::at(slot)).unwrap();
    let flow = Flow {
        client: at([198, 51, 100, 1], client),
        frontend: at([192, 0, 2, 1], 80),
        endpoint: at([10, 244, 1, 1], 8080),
        source: V4::mapped([10, 0, 0, 1].into()),
        delta: 1,
        header_delta: 2,
    };
    let before = record::state(words);
    assert!(record::claim(
        words,
        before,
        &flow,
        (State::Open, 6),
        [Hop::default(); 2],
        crate::kernel::now()
    ));
}

#[test]
fn flows_of_an_older_layout_are_carried_over_with_their_devices_and_links() {
    use crate::kernel::packets::OlderFlows;
    use tandem_xdp_layout::VERSION;

    let place = Place::new();
    let index = place.device("eth0");
    let settings = settings();
    let (sockets, ..) = place.open();
    let first = packets(&sockets);
    first.set(&settings);
    place.within(|| first.attach(index, Mode::Native, false)).unwrap();
    begin(&first, 3, 1003);
    let older_maps = first.maps();
    let before = place.program("eth0");
    drop((first, sockets));
    let older = place.pins.join(format!("v{}", VERSION - 1));
    fs::rename(place.pins.join(format!("v{VERSION}")), &older).unwrap();

    let (sockets, ..) = place.open();
    let second = packets(&sockets);
    let pins = Pins::open(&place.pins).unwrap();
    assert!(
        OlderFlows::find(&pins).is_none(),
        "its form is not known to be the same"
    );
    let flows = OlderFlows::find_since(&pins, VERSION - 1).unwrap();
    assert_eq!(flows.pages(), [1, 1]);
    place.within(|| flows.carry(&second)).unwrap();
    assert_ne!(place.program("eth0"), before, "it is this layout's program");
    let pin = DevicePin {
        index,
        mode: Mode::Native,
        parts: false,
    };
    assert_eq!(second.attached(), [(pin, true)]);
    assert!(
        fs::read_dir(older.join("links")).unwrap().next().is_none(),
        "an old link is left"
    );
    let carried = second.settings().unwrap();
    assert_eq!(
        (carried.index_seed, carried.generation),
        (settings.index_seed, settings.generation)
    );
    assert!(carried.noting && !carried.moving && carried.on == [false; 2]);
    let clients = |maps: &crate::kernel::PacketMaps| {
        let mut clients = Vec::new();
        maps.flows::<V4>(|flow| clients.push(flow.client.port.get())).unwrap();
        clients
    };
    assert_eq!((clients(&older_maps), clients(&second)), (vec![1003], vec![1003]));
    assert!(
        OlderFlows::find_since(&pins, VERSION - 1).is_none(),
        "it would be carried over twice"
    );
}

/// A word of a mapped array.
fn word(pins: &Pins, name: &str, at: u32) -> aya::maps::Array<MapData, u64> {
    let data = MapData::from_pin(pins.maps().join(name)).unwrap();
    let array: aya::maps::Array<MapData, u64> = aya::maps::Map::from_map_data(data).unwrap().try_into().unwrap();
    assert!(at < array.len());
    array
}

#[test]
fn what_is_carried_over_a_second_time_does_not_replace_what_the_new_programs_wrote() {
    use crate::kernel::packets::OlderFlows;
    use tandem_xdp_layout::VERSION;

    let place = Place::new();
    let index = place.device("eth0");
    let (sockets, ..) = place.open();
    let first = packets(&sockets);
    first.set(&settings());
    place.within(|| first.attach(index, Mode::Native, false)).unwrap();
    begin(&first, 3, 1003);
    begin(&first, 4, 1004);
    let before = first.pins().clone();
    word(&before, "PORTS4", 7).set(7, 0b10, 0).unwrap();
    drop((first, sockets));
    let older = place.pins.join(format!("v{}", VERSION - 1));
    fs::rename(place.pins.join(format!("v{VERSION}")), &older).unwrap();

    // An earlier attempt ended when some devices had the new programs, which went on with one flow.
    let (sockets, ..) = place.open();
    let second = packets(&sockets);
    word(second.pins(), "PORTS4", 7).set(7, 0b100, 0).unwrap();
    begin(&second, 3, 2003);
    let pins = Pins::open(&place.pins).unwrap();
    let flows = OlderFlows::find_since(&pins, VERSION - 1).unwrap();
    place.within(|| flows.carry(&second)).unwrap();
    let mut clients = Vec::new();
    second.flows::<V4>(|flow| clients.push(flow.client.port.get())).unwrap();
    assert_eq!(clients, [2003, 1004]);
    let ports = word(second.pins(), "PORTS4", 7).get(&7, 0).unwrap();
    assert_eq!(ports, 0b110, "the ports of both are asked for");
}

#[test]
fn devices_are_taken_from_programs_of_a_newer_layout_and_what_those_know_stays() {
    use crate::kernel::Found;

    let place = Place::new();
    let index = place.device("eth0");
    let (sockets, ..) = place.open();
    let first = packets(&sockets);
    place.within(|| first.attach(index, Mode::Native, false)).unwrap();
    let found = Found::look(&place.pins).unwrap();
    assert!(found.has_devices() && !found.has_devices_of_newer());
    found.detach_newer_devices().unwrap();
    assert!(place.program("eth0").is_some(), "its own stay");
    drop((first, sockets, found));
    let newer = place.pins.join("v999");
    fs::rename(place.pins.join(format!("v{}", tandem_xdp_layout::VERSION)), &newer).unwrap();

    let found = Found::look(&place.pins).unwrap();
    assert!(!found.has_devices() && found.has_devices_of_newer());
    found.detach_newer_devices().unwrap();
    assert!(!found.has_devices_of_newer());
    assert_eq!(place.program("eth0"), None);
    assert!(newer.join("maps/FLOWS4").exists());
}

#[test]
fn a_port_that_somebody_uses_is_held_also_where_a_flow_is_over_and_not_where_one_stands() {
    use crate::kernel::HeldPort;
    use tandem_xdp_layout::Times;

    let place = Place::new();
    let (sockets, ..) = place.open();
    let packets = packets(&sockets);
    packets.set(&settings());
    begin(&packets, 3, 1003);
    let ports = [HeldPort::<V4> {
        port: tandem_xdp_layout::FIRST_PORT + 3,
        towards: None,
    }];
    assert_eq!(packets.hold_ports(&ports).unwrap(), 0, "a flow has it");
    // The flow was silent for longer than connections live.
    let records = packets.records::<Address4>(false).unwrap();
    let words = records.at(tandem_xdp_layout::RecordNumber::at(3)).unwrap();
    let used = tandem_xdp_layout::record::used::<Address4>(words);
    let long_ago = used.wrapping_sub(Times::default().established + 1);
    tandem_xdp_layout::Record::set(
        words,
        <Address4 as tandem_xdp_layout::FlowAddress>::USED,
        u64::from(long_ago),
    );
    assert_eq!(packets.hold_ports(&ports).unwrap(), 1);
    let fill = packets.fill::<V4>().unwrap();
    assert_eq!((fill.held, fill.flows, fill.over), (1, 0, 0));
    assert_eq!(packets.hold_ports::<V4>(&[]).unwrap(), 0);
    assert_eq!(packets.fill::<V4>().unwrap().held, 0, "it is given back");
}
