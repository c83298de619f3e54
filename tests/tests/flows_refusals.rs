//! Refusals and drops in connection with what belongs to the node: its addresses inside a Service range, routes that
//! are chosen by source, and its own programs. Real packets; MUST NOT look at rules.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use socket2::{Domain, Socket, Type};
use tandem_tests::netns::Namespace;
use tandem_tests::stage::{Ip, Stage, node_port_service, service, slices};
use tandem_tests::traffic::{Protocol, Request};

/// An address of a family inside the range of ClusterIPs that no Service has.
fn inside_the_range(family: Ip) -> IpAddr {
    family.cluster_ip(200)
}

/// Listens in the namespace and answers every connection by closing it, until dropped.
fn listen(namespace: &Namespace, at: SocketAddr) -> Result<TcpListener> {
    let listener = namespace.run(|| TcpListener::bind(at))??;
    let accepting = listener.try_clone()?;
    std::thread::spawn(move || while accepting.accept().is_ok() {});
    Ok(listener)
}

fn connects(namespace: &Namespace, to: SocketAddr) -> Result<()> {
    let connected = namespace.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(3)))?;
    connected.map(drop).with_context(|| format!("{to}"))
}

#[test]
fn an_address_of_the_node_inside_a_service_range_answers_everybody() -> Result<()> {
    let mut objects = vec![service("web", 10).build()];
    objects.extend(slices("web", &["web-1"]));
    let stage = Stage::new(&objects)?;
    let node = stage.node();
    // A bridge, because this kernel may have no dummy devices.
    node.ip("link add kube-ipvs0 type bridge")?;
    for family in Ip::BOTH {
        let own = inside_the_range(family);
        // A device that ipvs mode left has the addresses of Services, too.
        let held = family.cluster_ip(10);
        for address in [own, held] {
            // Without the check for duplicates, an IPv6 address can be bound to at once. Packets come a little later.
            let rest = if address.is_ipv4() {
                "32 dev kube-ipvs0"
            } else {
                "128 dev kube-ipvs0 nodad"
            };
            node.ip(&format!("address add {address}/{rest}"))?;
            node.wait_local(&[&address.to_string()])?;
        }
        for (address, port) in [(own, 22), (held, 10_250)] {
            let at = SocketAddr::new(address, port);
            let _listener = listen(node, at)?;
            connects(stage.client(), at)?;
            connects(node, at)?;
            connects(stage.pod("web-2"), at)?;
        }
        // The Service itself still answers.
        let answers = stage.ask(stage.client(), 5, Protocol::Tcp, (held, 80))?;
        ensure!(answers.names() == ["web-1"], "{answers:?}");
    }
    Ok(())
}

#[test]
fn a_refusal_finds_its_way_back_where_routes_are_chosen_by_source() -> Result<()> {
    let stage = Stage::new(&[node_port_service("idle", 10, 30_080).build()])?;
    let node = stage.node();
    for family in Ip::BOTH {
        let (flag, client) = match family {
            Ip::V4 => ("-4", "198.51.100.0/24"),
            Ip::V6 => ("-6", "2001:db8:99::/64"),
        };
        let own = stage.node_address(1, family);
        let to_client = node.exec(&["ip", flag, "route", "show", "default"])?;
        let gateway = to_client.split_whitespace().skip_while(|word| *word != "via").nth(1);
        let gateway = gateway.context("no default route")?.to_owned();
        // Only packets with the node's own address as their source have a route to clients.
        let own_text = own.to_string();
        node.exec(&["ip", flag, "route", "add", "prohibit", client])?;
        node.exec(&["ip", flag, "rule", "add", "from", &own_text, "lookup", "100"])?;
        node.exec(&["ip", flag, "route", "add", client, "via", &gateway, "table", "100"])?;
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let request = Request::new(protocol, SocketAddr::new(own, 30_080));
            let outcome = request.timeout(Duration::from_millis(800)).send(stage.client())?;
            ensure!(outcome.refused_at_once(), "{family:?}, {protocol:?}: {outcome}");
        }
    }
    Ok(())
}

#[test]
fn a_reset_to_a_program_of_the_node_is_not_taken_for_a_connection_to_a_service() -> Result<()> {
    let mut objects = vec![
        service("idle", 11).build(),
        node_port_service("web", 10, 30_080).build(),
    ];
    objects.extend(slices("web", &["web-1"]));
    let stage = Stage::new(&objects)?;
    for family in Ip::BOTH {
        // Its own port is a nodePort, so the refusal's destination looks like the Service.
        let own = SocketAddr::new(stage.node_address(1, family), 30_080);
        let to = SocketAddr::new(family.cluster_ip(11), 80);
        let refused = stage.node().run(|| -> std::io::Result<()> {
            let socket = Socket::new(Domain::for_address(own), Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.bind(&own.into())?;
            socket.connect_timeout(&to.into(), Duration::from_millis(800))
        })?;
        let kind = refused.map_err(|error| error.kind());
        ensure!(
            kind == Err(std::io::ErrorKind::ConnectionRefused),
            "{family:?}: {kind:?}"
        );
    }
    Ok(())
}
