//! What a `connect` pays that is no Service's, only because programs are attached: the time with them, less the time without
//! them. UDP's `connect` is measured, because it sends nothing and can be repeated on one socket.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tandem_benches::report::{Samples, median, note, print, setting};
use tandem_tests::netns::Namespace;

use super::traffic::Site;

/// How many calls one sample has.
const CALLS: u32 = 100;
/// How many samples are taken before the programs are attached or detached again.
const SAMPLES: u32 = 50;

/// Measures it for a pod, whose calls two programs see, and for the node's own programs. In the end the programs are attached.
pub(crate) fn measure(site: &Site) -> Result<()> {
    let rounds: usize = setting("ROUNDS", 60)?;
    let node = &site.world.node(1)?.namespace;
    // Another pod's address, and a port that no nodePort has.
    let [v4, v6] = site.world.pod("server")?.addresses();
    for (name, from, to) in [
        ("connect_other_ns", &site.client, v4),
        ("connect_other_ipv6_ns", &site.client, v6),
        ("connect_other_node_ns", node, v4),
    ] {
        let mut more = Vec::new();
        let mut all = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            site.second.detach()?;
            let without = nanoseconds(from, to)?;
            site.second.attach(site.world.groups(1)?)?;
            let with = nanoseconds(from, to)?;
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
fn nanoseconds(from: &Namespace, to: IpAddr) -> Result<f64> {
    let to = SocketAddr::new(to, 9000);
    let median = from.run(|| -> Result<Duration> {
        let any = SocketAddr::new(if to.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() }, 0);
        let socket = UdpSocket::bind(any).context("make a UDP socket")?;
        let mut samples = Samples::default();
        for _ in 0..SAMPLES {
            let started = Instant::now();
            for _ in 0..CALLS {
                socket.connect(to).with_context(|| format!("connect to {to}"))?;
            }
            samples.push(started.elapsed() / CALLS);
        }
        Ok(samples.median())
    })??;
    Ok(median.as_secs_f64() * 1e9)
}
