//! What a `connect` pays that is no Service's, only because programs are attached: the time with them, less the time without
//! them.
//!
//! Programs see a call before the kernel looks for a way. So TCP's `connect` is measured to addresses without any, which
//! takes little besides and can be repeated on one socket. UDP's `connect` locks its socket once more if any program is
//! attached.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use socket2::{Domain, SockAddr, Socket, Type};
use tandem_benches::report::{Samples, median, note, print, setting};
use tandem_tests::netns::Namespace;

use super::traffic::Site;

/// How many calls one sample has.
const CALLS: u32 = 100;
/// How many samples are taken before the programs are attached or detached again.
const SAMPLES: u32 = 50;
/// Addresses to which there is no way.
const NOWHERE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 1)),
];
/// What the kernel says to that: `EHOSTUNREACH`, or `ENETUNREACH`.
const NO_WAY: [i32; 2] = [113, 101];

/// Measures it for a pod, whose calls two programs see, and for the node's own programs. In the end the programs are attached.
pub(crate) fn measure(site: &Site) -> Result<()> {
    let rounds: usize = setting("ROUNDS", 60)?;
    let node = &site.world.node(1)?.namespace;
    for from in [&site.client, node] {
        from.ip("route add unreachable 203.0.113.0/24")?;
        from.ip("route add unreachable 2001:db8:113::/64")?;
    }
    let [v4, v6] = NOWHERE;
    // Another pod's address.
    let [pod, _] = site.world.pod("server")?.addresses();
    for (name, from, kind, to) in [
        ("connect_other_ns", &site.client, Type::STREAM, v4),
        ("connect_other_ipv6_ns", &site.client, Type::STREAM, v6),
        ("connect_other_node_ns", node, Type::STREAM, v4),
        ("connect_other_udp_ns", &site.client, Type::DGRAM, pod),
    ] {
        let mut more = Vec::new();
        let mut all = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            site.second.detach()?;
            let without = nanoseconds(from, kind, to)?;
            site.second.attach(site.world.groups(1)?)?;
            let with = nanoseconds(from, kind, to)?;
            more.push(with - without);
            all[0].push(without);
            all[1].push(with);
        }
        let [without, with] = all.map(median);
        note(format_args!("{without:.0} ns without programs, {with:.0} ns with them"));
        print(name, format_args!("{:.0}", median(more)));
    }
    Ok(())
}

/// The median time of a call.
fn nanoseconds(from: &Namespace, kind: Type, to: IpAddr) -> Result<f64> {
    // No nodePort.
    let to = SocketAddr::new(to, 9000);
    let median = from.run(|| -> Result<Duration> {
        let socket = Socket::new(Domain::for_address(to), kind, None).context("make a socket")?;
        let address = SockAddr::from(to);
        let mut samples = Samples::default();
        for _ in 0..SAMPLES {
            let started = Instant::now();
            for _ in 0..CALLS {
                match socket.connect(&address) {
                    Ok(()) if kind == Type::DGRAM => {}
                    Err(error) if error.raw_os_error().is_some_and(|error| NO_WAY.contains(&error)) => {}
                    Ok(()) => bail!("connect to {to}: there should be no way"),
                    Err(error) => return Err(error).with_context(|| format!("connect to {to}")),
                }
            }
            samples.push(started.elapsed() / CALLS);
        }
        Ok(samples.median())
    })??;
    Ok(median.as_secs_f64() * 1e9)
}
