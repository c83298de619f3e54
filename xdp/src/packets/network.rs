//! The network namespace of the node: devices, routes and neighbours.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd as _;
use std::process::Command;

use super::Failed;
use super::net::{DEVICES, Net, mac, neighbour};

pub(crate) fn run(program: &str, args: &[&str]) -> Result<(), Failed> {
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
pub(crate) fn make(name: &str) -> Result<(), Failed> {
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
            ip(&format!(
                "route add {}/{bits} via {gateway}",
                zero(net.pod(number, 0).ip())
            ))?;
        }
        ip(&format!(
            "route add {}/{bits} via {}",
            zero(net.client(0, 0).ip()),
            net.gateway(0)
        ))?;
        ip(&format!(
            "route add {}/{bits} via {}",
            zero(net.far_client(0).ip()),
            net.gateway(5)
        ))?;
        ip(&format!(
            "route add {}/{bits} via {}",
            zero(net.client_beside(0, 0).ip()),
            net.gateway(1)
        ))?;
        let nobody = net.addr([172, 16, 1, 99], [0xfd16, 1, 0, 0, 0, 0, 0, 99]);
        ip(&format!("route add {}/{bits} via {nobody}", zero(net.pod(9, 0).ip())))?;
        ip(&format!("address add {} dev lo", net.pod(7, 1).ip()))?;
    }
    Ok(())
}

/// The first address of the same range.
pub(crate) fn zero(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V4(addr) => {
            let [a, b, c, _] = addr.octets();
            Ipv4Addr::from([a, b, c, 0]).into()
        }
        IpAddr::V6(addr) => Ipv6Addr::from(u128::from(addr) & !0xffff).into(),
    }
}

/// The index of a device of this thread's network.
pub(crate) fn link_index(device: &str) -> io::Result<String> {
    let output = Command::new("ip").args(["-o", "link", "show", device]).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.split(':')
        .next()
        .map(str::to_owned)
        .ok_or_else(|| io::Error::other("no index"))
}
