//! A node for the packets: devices, routes and neighbours in a network namespace, the rows of Services, and the loaded programs.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::Command;

use ipnet::IpNet;
use tandem_core::family::{V4, V6};
use tandem_core::id::ServiceId;
use tandem_core::plane::RuleSettings;
use tandem_core::row::{Class, Endpoint, Frontend, L4Address, Pick, Protocol, Row};
use tandem_xdp_layout::{
    Address4, Address6, Device, DeviceNumber, Mac, PacketSettings, RouteGeneration, Times,
};

use crate::convert::Plane;
use crate::kernel::{KernelMaps, PacketSizes, Packets, Pins, Sizes, Sockets};
use crate::rows::Rows;

/// Why a node was not made.
pub type Failed = Box<dyn std::error::Error + Send + Sync>;

/// The devices, in the order of their numbers from 1. The last one has no number: it stands for a tunnel.
pub(crate) const DEVICES: [&str; 6] = ["in", "out", "small", "vlan", "empty", "tun"];
/// The VLAN's number of the device `vlan`, and the number by which tagged packets come in.
pub(crate) const VLAN: u16 = 7;
pub(crate) const TAG: u16 = 100;
/// How many endpoints the Service with many has.
const MANY: u8 = 64;

/// The MAC address of a device, and of the neighbour behind it.
pub(crate) fn mac(device: usize) -> [u8; 6] {
    [2, 0, 0, 0, device as u8, 1]
}
pub(crate) fn neighbour(device: usize) -> [u8; 6] {
    [2, 0, 0, 0, device as u8, 2]
}

/// The addresses of one family.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Net {
    pub(crate) six: bool,
}

impl Net {
    fn addr(self, four: [u8; 4], six: [u16; 8]) -> IpAddr {
        if self.six { Ipv6Addr::from(six).into() } else { Ipv4Addr::from(four).into() }
    }

    /// The node's address at a device.
    pub(crate) fn own(self, device: usize) -> IpAddr {
        self.addr([172, 16, device as u8, 1], [0xfd16, device as u16, 0, 0, 0, 0, 0, 1])
    }

    /// The neighbour's.
    fn gateway(self, device: usize) -> IpAddr {
        self.addr([172, 16, device as u8, 2], [0xfd16, device as u16, 0, 0, 0, 0, 0, 2])
    }

    /// A pod behind a device: 1 out, 2 small, 3 vlan, 5 tun; 0 is this node's, and 9 behind a neighbour that nobody knows.
    pub(crate) fn pod(self, behind: usize, number: u8) -> SocketAddr {
        let addr = self.addr(
            [10, 244, behind as u8, number],
            [0xfd10, behind as u16, 0, 0, 0, 0, 0, u16::from(number)],
        );
        (addr, 8080).into()
    }

    /// A client: behind `in`, or behind a device that is not XDP's.
    pub(crate) fn client(self, number: u8, port: u16) -> SocketAddr {
        (self.addr([198, 51, 100, number], [0x2001, 0xdb8, 0xc, 0, 0, 0, 0, u16::from(number)]), port).into()
    }

    pub(crate) fn far_client(self, port: u16) -> SocketAddr {
        (self.addr([203, 0, 113, 1], [0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 1]), port).into()
    }

    /// A LoadBalancer address.
    pub(crate) fn vip(self) -> IpAddr {
        self.addr([192, 0, 2, 10], [0x2001, 0xdb8, 0, 0, 0, 0, 0, 10])
    }

    pub(crate) fn cluster_ip(self) -> IpAddr {
        self.addr([10, 96, 0, 1], [0xfd96, 0, 0, 0, 0, 0, 0, 1])
    }
}

/// The ports of the LoadBalancer address: what answers there.
pub(crate) mod port {
    pub(crate) const OUT: u16 = 80;
    pub(crate) const NONE: u16 = 81;
    pub(crate) const STICKY: u16 = 82;
    pub(crate) const DENIED: u16 = 83;
    pub(crate) const ALLOWED: u16 = 84;
    pub(crate) const LOCAL: u16 = 85;
    pub(crate) const HERE: u16 = 86;
    pub(crate) const TUNNEL: u16 = 87;
    pub(crate) const UNKNOWN: u16 = 88;
    pub(crate) const SMALL: u16 = 89;
    pub(crate) const VLAN: u16 = 90;
    pub(crate) const CLUSTER: u16 = 80;
    pub(crate) const MANY: u16 = 92;
    pub(crate) const HIGH: u16 = 50_000;
    pub(crate) const NODE: u16 = 30_080;
}

/// A node.
pub(crate) struct Place {
    name: String,
    mount: PathBuf,
    pub(crate) packets: Packets,
    _sockets: Sockets,
    /// They hold the rows for as long as they are there.
    _rows: (Rows<V4, KernelMaps<Address4>>, Rows<V6, KernelMaps<Address6>>),
    pub(crate) settings: PacketSettings,
}

fn run(program: &str, args: &[&str]) -> Result<(), Failed> {
    let output = Command::new(program).args(args).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("{program} {}: {said}", args.join(" ")).into())
}

fn hex(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Makes the network, and enters it with this thread.
fn network(name: &str) -> Result<(), Failed> {
    run("ip", &["netns", "add", name])?;
    let ip = |args: &str| {
        let args: Vec<&str> = ["-n", name].into_iter().chain(args.split(' ')).collect();
        run("ip", &args)
    };
    ip("link set lo up")?;
    for (number, device) in DEVICES.iter().enumerate() {
        ip(&format!("link add {device} type veth peer name {device}-peer"))?;
        ip(&format!("link set {device} address {}", hex(mac(number))))?;
        if *device == "small" {
            ip("link set small mtu 1400")?;
        }
        for end in [(*device).to_owned(), format!("{device}-peer")] {
            ip(&format!("link set {end} up"))?;
        }
    }
    let namespace = fs::File::open(format!("/run/netns/{name}"))?;
    rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(rustix::thread::LinkNameSpaceType::Network))?;
    fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
    fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1")?;
    for six in [false, true] {
        let net = Net { six };
        let bits = if six { 64 } else { 24 };
        for (number, device) in DEVICES.iter().enumerate() {
            if *device == "empty" {
                continue;
            }
            let (own, gateway) = (net.own(number), net.gateway(number));
            let nodad = if six { " nodad" } else { "" };
            ip(&format!("address add {own}/{bits} dev {device}{nodad}"))?;
            let lladdr = hex(neighbour(number));
            ip(&format!("neighbour replace {gateway} lladdr {lladdr} dev {device}"))?;
            ip(&format!("route add {}/{bits} via {gateway}", zero(net.pod(number, 0).ip())))?;
        }
        ip(&format!("route add {}/{bits} via {}", zero(net.client(0, 0).ip()), net.gateway(0)))?;
        ip(&format!("route add {}/{bits} via {}", zero(net.far_client(0).ip()), net.gateway(5)))?;
        let nobody = net.addr([172, 16, 1, 99], [0xfd16, 1, 0, 0, 0, 0, 0, 99]);
        ip(&format!("route add {}/{bits} via {nobody}", zero(net.pod(9, 0).ip())))?;
        ip(&format!("address add {} dev lo", net.pod(7, 1).ip()))?;
    }
    Ok(())
}

/// The first address of the same range.
fn zero(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V4(addr) => {
            let [a, b, c, _] = addr.octets();
            Ipv4Addr::from([a, b, c, 0]).into()
        }
        IpAddr::V6(addr) => Ipv6Addr::from(u128::from(addr) & !0xffff).into(),
    }
}

/// The rows of one family.
fn rows<F: Plane>(of: impl Fn(IpAddr) -> F::Addr, net: Net) -> Result<Vec<Row<F>>, Failed> {
    let number = |number: u16| NonZeroU16::new(number).ok_or("a port is 0");
    let mut rows = Vec::new();
    let mut next = 0;
    let mut service = |at: Frontend<F>, pods: &[SocketAddr], sticky: bool, local: bool| -> Result<(), Failed> {
        next += 1;
        let id = if sticky { ServiceId::sticky(next) } else { ServiceId::plain(next) };
        let id = id.ok_or("there is no such id")?;
        let id = if local { id.local() } else { id };
        let label = format!("a/{next}").into();
        for (slot, pod) in (0_u16..).zip(pods) {
            let endpoint = Endpoint {
                addr: of(pod.ip()),
                port: number(pod.port())?,
            };
            if sticky {
                let id_of = id.endpoint(slot + 1).ok_or("there is no such endpoint")?;
                rows.push(Row::EndpointId { id: id_of, endpoint });
                rows.push(Row::StickyEndpoint { service: id, slot, id: id_of });
            } else {
                rows.push(Row::Endpoint { service: id, slot, endpoint });
            }
        }
        let pick = match NonZeroU16::new(pods.len() as u16) {
            None => Pick::Refuse,
            Some(count) if sticky => Pick::Sticky { count, seconds: 100 },
            Some(count) => Pick::Any { count },
        };
        rows.push(Row::Service { service: id, pick, label: std::sync::Arc::clone(&label) });
        rows.push(Row::Frontend { frontend: at, service: id, label });
        Ok(())
    };
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let at = |class, addr, port| -> Result<Frontend<F>, Failed> {
            Ok(Frontend::Address {
                class,
                at: L4Address { addr: of(addr), protocol, port: number(port)? },
            })
        };
        let vip = |port| at(Class::External, net.vip(), port);
        let out = [net.pod(1, 1)];
        service(vip(port::OUT)?, &out, false, false)?;
        service(vip(port::NONE)?, &[], false, false)?;
        service(vip(port::STICKY)?, &[net.pod(1, 1), net.pod(1, 2)], true, false)?;
        service(vip(port::DENIED)?, &out, false, false)?;
        service(vip(port::ALLOWED)?, &out, false, false)?;
        service(vip(port::LOCAL)?, &[net.pod(7, 1)], false, true)?;
        service(vip(port::HERE)?, &[net.pod(7, 1)], false, false)?;
        service(vip(port::TUNNEL)?, &[net.pod(5, 1)], false, false)?;
        service(vip(port::UNKNOWN)?, &[net.pod(9, 1)], false, false)?;
        service(vip(port::SMALL)?, &[net.pod(2, 1)], false, false)?;
        service(vip(port::VLAN)?, &[net.pod(3, 1)], false, false)?;
        service(vip(port::HIGH)?, &out, false, false)?;
        let many: Vec<SocketAddr> = (1..=MANY).map(|number| net.pod(1, number)).collect();
        service(vip(port::MANY)?, &many, false, false)?;
        service(at(Class::Cluster, net.cluster_ip(), port::CLUSTER)?, &out, false, false)?;
        let node_port = Frontend::NodePort { protocol, port: number(port::NODE)? };
        service(node_port, &out, false, false)?;
    }
    for (port, may) in [(port::DENIED, net.far_client(0)), (port::ALLOWED, net.client(0, 0))] {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let at = L4Address { addr: of(net.vip()), protocol, port: number(port)? };
            rows.push(Row::Restricted { at });
            let source = IpNet::new(zero(may.ip()), if net.six { 64 } else { 24 })?;
            let source = F::net(source).ok_or("a range is of the other family")?;
            rows.push(Row::AllowedSource { at, source });
        }
    }
    rows.push(Row::NodeAddress { addr: of(net.own(0)) });
    Ok(rows)
}

impl Place {
    /// Makes a node, and enters it with this thread.
    pub(crate) fn new(pages: u32) -> Result<Self, Failed> {
        let name = format!("tandem-packets-{}", std::process::id());
        let mount = std::env::temp_dir().join(&name);
        network(&name)?;
        fs::create_dir(&mount)?;
        run("mount", &["-t", "bpf", "bpf", &mount.to_string_lossy()])?;
        let pins = Pins::open(&mount.join("pins"))?;
        let (sockets, v4, v6) = Sockets::open(&Sizes::default(), pins.clone())?;
        let (mut rows4, mut rows6) = (Rows::new(v4, false), Rows::new(v6, false));
        let four = |addr| if let IpAddr::V4(addr) = addr { addr } else { Ipv4Addr::UNSPECIFIED };
        let six = |addr| if let IpAddr::V6(addr) = addr { addr } else { Ipv6Addr::UNSPECIFIED };
        let rules = RuleSettings::default();
        rows4.renew(&rules, &rows::<V4>(four, Net { six: false })?).map_err(|behind| format!("{behind:?}"))?;
        rows6.renew(&rules, &rows::<V6>(six, Net { six: true })?).map_err(|behind| format!("{behind:?}"))?;
        let sizes = PacketSizes {
            pages: [pages; 2],
            ..PacketSizes::default()
        };
        let mut packets = Packets::open(&sizes, &pins)?;
        devices(&mut packets)?;
        let settings = PacketSettings {
            on: [true; 2],
            generation: RouteGeneration::new(1),
            index_seed: 0x1234_5678,
            pick_seed: 0x9abc_def0,
            pages: [pages; 2],
            times: Times::default(),
            answers: 1_000_000,
        };
        packets.set(&settings);
        let place = Self {
            name,
            mount,
            packets,
            _sockets: sockets,
            _rows: (rows4, rows6),
            settings,
        };
        Ok(place)
    }
}

/// Tells the programs the devices, the ports and the sources.
fn devices(packets: &mut Packets) -> Result<(), Failed> {
    let index = |device: &str| -> Result<u32, Failed> { Ok(link_index(device)?.trim().parse()?) };
    for (number, name) in DEVICES.iter().enumerate().take(4) {
        let own = index(name)?;
        let device = Device {
            index: if *name == "vlan" { index("out")? } else { own },
            vlan: if *name == "vlan" { VLAN } else { 0 },
            mtu: if *name == "small" { 1400 } else { 1500 },
            mac: Mac::of_bytes(mac(number)),
            returns: false,
        };
        let (IpAddr::V4(four), IpAddr::V6(six)) = (Net { six: false }.own(number), Net { six: true }.own(number)) else {
            return Err("the node's addresses are of other families".into());
        };
        let Address6 { first, second } = V6::mapped(six);
        let sources = [u64::from(V4::mapped(four).0), first, second];
        let number = DeviceNumber::new(number as u8 + 1).ok_or("there is no such device")?;
        packets.set_device(number, own, device, sources)?;
    }
    // Packets are given to the programs as if `lo` had received them.
    packets.set_ingress(1, Some(Mac::of_bytes(mac(0))));
    let tagged = Device {
        index: 1,
        vlan: TAG,
        mtu: 1500,
        mac: Mac::of_bytes(mac(0)),
        returns: false,
    };
    let number = DeviceNumber::new(20).ok_or("there is no such device")?;
    packets.set_device(number, 9999, tagged, [0; 3])?;
    Ok(())
}

/// The index of a device of this thread's network.
fn link_index(device: &str) -> io::Result<String> {
    let output = Command::new("ip").args(["-o", "link", "show", device]).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.split(':').next().map(str::to_owned).ok_or_else(|| io::Error::other("no index"))
}

impl Drop for Place {
    fn drop(&mut self) {
        // What fails here is said by the next run, which finds the names taken.
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
        // The programs are still open, so the file system goes with them.
        let _ = Command::new("umount").arg("-l").arg(&self.mount).status();
        let _: io::Result<()> = fs::remove_dir(&self.mount);
    }
}
