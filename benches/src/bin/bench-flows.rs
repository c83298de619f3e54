//! New TCP connections from a pod through a ClusterIP, compared with connections straight to the same endpoints. Both
//! pass through the node, which has all of Tandem's tables.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use tandem::event::{Event, Object};
use tandem_benches::connections::{per_second, serve};
use tandem_benches::kernel;
use tandem_benches::report::{median, note, print, setting};
use tandem_benches::synthetic::{DUAL_STACK, PORT, Shape, TARGET, ready_here};
use tandem_core::family::IpFamily;
use tandem_tests::topology::World;

const SHAPE: Shape = Shape::dual_stack(10_000, 3);
const LAST: u32 = SHAPE.services - 1;
/// How long one round takes, for each of the two.
const ROUND: Duration = Duration::from_millis(700);

fn main() -> Result<()> {
    let rounds: usize = setting("ROUNDS", 11)?;
    let threads: usize = setting("THREADS", 2)?;
    let world = World::with_pods(&[("client", 1, 10), ("server", 1, 11)])?;
    let (node, client, server) = (world.node(1)?, world.pod("client")?, world.pod("server")?);
    // The kernel must forget closed connections before their ports are used again, for both alike.
    node.namespace
        .sysctls(&[("net/netfilter/nf_conntrack_tcp_timeout_close", "1")])?;
    client
        .namespace
        .sysctls(&[("net/ipv4/ip_local_port_range", "1024 65535")])?;

    note(format_args!(
        "{} dual-stack Services x {} endpoints; the last one is used",
        SHAPE.services, SHAPE.endpoints
    ));
    let mut engine = kernel::engine();
    node.namespace.run(|| kernel::bring(&mut engine, SHAPE.events()))??;

    for (family, infix) in DUAL_STACK.iter().zip(["", "_ipv6"]) {
        let endpoints = endpoints(*family, server.addresses());
        for endpoint in &endpoints[1..] {
            let (link, bits) = (format!("pod{}", 11), if endpoint.is_ipv4() { 32 } else { 128 });
            server
                .namespace
                .ip(&format!("addr add {endpoint}/{bits} dev eth0 nodad"))?;
            node.namespace.ip(&format!("route replace {endpoint} dev {link}"))?;
        }
        let any: IpAddr = if *family == IpFamily::V4 {
            [0; 4].into()
        } else {
            [0_u16; 8].into()
        };
        serve(&server.namespace, SocketAddr::new(any, TARGET.get()), threads)?;
        let mut slice = SHAPE.slice(LAST, *family, 0);
        slice.endpoints = ready_here(&endpoints);
        node.namespace
            .run(|| kernel::bring(&mut engine, [Event::Applied(Object::EndpointSlice(slice), Vec::new())]))??;

        let direct: Vec<SocketAddr> = endpoints
            .iter()
            .map(|addr| SocketAddr::new(*addr, TARGET.get()))
            .collect();
        let service = [SocketAddr::new(SHAPE.cluster_ip(LAST, *family), PORT.get())];
        let measure = |to: &[SocketAddr]| per_second(&client.namespace, to, threads, ROUND);
        measure(&direct)?;
        measure(&service)?;
        let mut pairs = Vec::new();
        for round in 0..rounds {
            // The first one meets the leftovers of the other, so they take turns.
            let (first, second) = if round % 2 == 0 {
                (&direct[..], &service[..])
            } else {
                (&service[..], &direct[..])
            };
            let (first, second) = (measure(first)?, measure(second)?);
            pairs.push(if round % 2 == 0 {
                (first, second)
            } else {
                (second, first)
            });
        }
        let figures = |figure: fn(&(f64, f64)) -> f64| median(pairs.iter().map(figure));
        print(
            &format!("cps{infix}_direct"),
            format_args!("{:.0}", figures(|(direct, _)| *direct)),
        );
        print(
            &format!("cps{infix}_tandem"),
            format_args!("{:.0}", figures(|(_, tandem)| *tandem)),
        );
        print(
            &format!("cps{infix}_ratio"),
            format_args!("{:.3}", figures(|(direct, tandem)| tandem / direct)),
        );
    }
    Ok(())
}

/// The server pod's own address and two more.
fn endpoints(family: IpFamily, own: [IpAddr; 2]) -> [IpAddr; 3] {
    match family {
        IpFamily::V4 => [own[0], [10, 244, 1, 101].into(), [10, 244, 1, 102].into()],
        IpFamily::V6 => {
            let other = |last| IpAddr::from([0xfd00, 0x10, 0x244, 1, 0, 0, 0, last]);
            [own[1], other(0x101), other(0x102)]
        }
    }
}
