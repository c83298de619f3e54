//! Packets from outside in XDP: real packets, real devices. Needs root.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tandem_tests::bpffs::BpfFolder;
use tandem_tests::manifests::Slice;
use tandem_tests::netns::{Namespace, run_command};
use tandem_tests::stage::{Ip, NAMESPACE, Stage, TARGET, bare_service, port_name, service, slices};
use tandem_tests::traffic::{Protocol, Request};
use tandem_tests::{conntrack, eventually};

/// How long a state may take to come. The longest wait of the agent before it tries something again is half a minute.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long a packet may take.
const SOON: Duration = Duration::from_secs(5);
/// The first port that XDP gives to its flows.
const FIRST_PORT: u16 = 49_152;
/// Where the servers listen that send back what they get.
const ECHO: u16 = 7777;
/// The protocols that XDP takes.
const TAKEN: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

/// A node whose device is XDP's, and one Service whose only endpoint is on the other node.
struct Outside {
    stage: Stage,
    /// It goes after the agent that uses it.
    pins: BpfFolder,
}

impl Outside {
    fn new() -> Result<Self> {
        Self::with(json!({ "devices": ["eth0"] }))
    }

    fn with(xdp: Value) -> Result<Self> {
        let pins = BpfFolder::new("pins-outside")?;
        let external = external_ips(10);
        let web = service("web", 10).external_ips(&external.each_ref().map(String::as_str));
        let mut objects = vec![web.build()];
        objects.extend(slices("web", &["web-3"]));
        let stage = Stage::with(&objects, |plan| {
            plan.own_setting("dataPlane", "xdp")
                .own_setting("socketLoadBalancing", "off")
                .own_setting("bpfFolder", pins.path().display().to_string())
                .own_setting("xdp", xdp)
        })?;
        stage.world.ready_for_xdp()?;
        Ok(Self { stage, pins })
    }

    fn ready(self) -> Result<Self> {
        self.stage.tandem.wait_outside()?;
        // The first packets teach the node the MAC addresses of its neighbours.
        for family in Ip::BOTH {
            self.stage
                .ask(self.stage.client(), 2, Protocol::Tcp, (family.external_ip(10), 80))?;
        }
        Ok(self)
    }

    /// The status of packets from outside.
    fn status(&self) -> Result<Value> {
        Ok(self.stage.tandem.status()?["outside"].clone())
    }

    /// Waits until the status of packets from outside is so.
    fn wait(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut last = json!(null);
        let there = eventually(PATIENCE, || {
            last = self.status().ok()?;
            is_so(&last).then_some(())
        });
        there.with_context(|| format!("{what} does not come:\n{last:#}"))?;
        Ok(last)
    }

    /// The flows that `tandem flows` shows with these words.
    fn flows(&self, words: &[&str]) -> Result<Vec<Value>> {
        let arguments: Vec<&str> = ["flows", "-o", "json"].iter().chain(words).copied().collect();
        let list: Value = serde_json::from_str(&self.stage.tandem.command(&arguments)?)?;
        ensure!(list["kind"] == "FlowList", "{list}");
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// Asks the frontend of a family, and returns the source that the endpoint saw.
    fn seen(&self, family: Ip, protocol: Protocol) -> Result<SocketAddr> {
        let outcome = Request::new(protocol, (family.external_ip(10), 80).into()).send(self.stage.client())?;
        let answer = outcome
            .answer()
            .with_context(|| format!("{protocol} {family:?}: {outcome}"))?;
        ensure!(answer.by == "web-3", "{protocol} {family:?}: answered by {}", answer.by);
        Ok(answer.source)
    }

    /// Whether XDP takes new flows of both families and protocols.
    fn is_taken(&self) -> Result<bool> {
        for family in Ip::BOTH {
            for protocol in TAKEN {
                let seen = self.seen(family, protocol)?;
                if seen.port() < FIRST_PORT {
                    return Ok(false);
                }
                ensure!(
                    seen.ip() == self.stage.node_address(1, family),
                    "the endpoint saw {seen}"
                );
            }
        }
        Ok(true)
    }

    /// Whether a program is attached to the node's device.
    fn is_attached(&self) -> Result<bool> {
        Ok(self
            .stage
            .node()
            .exec(&["ip", "link", "show", "eth0"])?
            .contains("prog/xdp"))
    }
}

#[test]
fn packets_from_outside_pass_the_node_without_its_stack_and_their_answers_come_back() -> Result<()> {
    let outside = Outside::new()?.ready()?;
    let stage = &outside.stage;
    for family in Ip::BOTH {
        for protocol in TAKEN {
            let before = stage.connections(family, "web", &port_name(protocol))?;
            let sent = |status: &Value| status["families"][usize::from(family == Ip::V6)]["sent"].as_u64();
            let sent_before = sent(&outside.status()?);
            let frontend = (family.external_ip(10), 80);
            let tracked = || -> Result<Vec<_>> {
                let mut entries = conntrack::of(stage.node(), protocol)?;
                entries.retain(|entry| entry.to == SocketAddr::from(frontend));
                Ok(entries)
            };
            let tracked_before = tracked()?;
            let answers = stage.ask(stage.client(), 40, protocol, frontend)?;
            ensure!(answers.names() == ["web-3"], "{:?}", answers.names());
            ensure!(
                answers.only_from(&[stage.node_address(1, family)]),
                "{:?}",
                answers.sources()
            );
            // Neither connection tracking nor the rules have seen anything of it.
            ensure!(
                tracked()? == tracked_before,
                "{:?}, then {:?}",
                tracked_before,
                tracked()?
            );
            let after = stage.connections(family, "web", &port_name(protocol))?;
            ensure!(before == after, "nftables counted {before}, then {after}");
            ensure!(
                sent(&outside.status()?) >= sent_before.map(|sent| sent + 80),
                "{:#}",
                outside.status()?
            );
            // The flows are listed, with everything that belongs to them.
            let frontend = SocketAddr::from(frontend).to_string();
            let flows = outside.flows(&[
                "--frontend",
                &frontend,
                "--protocol",
                &protocol.to_string().to_lowercase(),
            ])?;
            let flow = flows.first().context("no flow is listed")?;
            let endpoint = SocketAddr::new(stage.pod_address("web-3", family), TARGET).to_string();
            ensure!(
                flow["endpoint"] == json!(endpoint) && flow["frontend"] == json!(frontend),
                "{flow:#}"
            );
            ensure!(
                flow["toEndpoint"]["device"] == "eth0" && flow["toClient"]["current"] == true,
                "{flow:#}"
            );
        }
    }
    let services: Value = serde_json::from_str(
        &stage
            .tandem
            .command(&["services", "web", "-n", NAMESPACE, "-o", "json"])?,
    )?;
    let port = &services["ports"][0]["families"][0];
    ensure!(
        port["fromOutside"]["by"] == "xdp" && port["connections"]["xdp"].as_u64() >= Some(40),
        "{port:#}"
    );
    Ok(())
}

/// A server in a pod that sends back what it gets, on each connection.
fn echo(namespace: &Namespace, addresses: [IpAddr; 2]) -> Result<()> {
    for address in addresses {
        let bound =
            || Ok::<_, std::io::Error>((TcpListener::bind((address, ECHO))?, UdpSocket::bind((address, ECHO))?));
        let (listener, socket) = namespace.run(bound)??;
        std::thread::spawn(move || -> Result<()> {
            let stream = listener.accept()?.0;
            let mut buffer = [0; 16];
            loop {
                let count = (&stream).read(&mut buffer)?;
                if count == 0 {
                    return Ok(());
                }
                (&stream).write_all(&buffer[..count])?;
            }
        });
        std::thread::spawn(move || -> Result<()> {
            let mut buffer = [0; 16];
            loop {
                let (count, from) = socket.recv_from(&mut buffer)?;
                socket.send_to(&buffer[..count], from)?;
            }
        });
    }
    Ok(())
}

/// A connection, and datagrams of one socket.
struct Long {
    stream: TcpStream,
    socket: UdpSocket,
}

impl Long {
    fn open(from: &Namespace, to: IpAddr) -> Result<Self> {
        from.run(|| {
            let stream = TcpStream::connect_timeout(&(to, ECHO).into(), SOON)?;
            stream.set_read_timeout(Some(SOON))?;
            let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
            let socket = UdpSocket::bind((any, 0))?;
            socket.connect((to, ECHO))?;
            socket.set_read_timeout(Some(SOON))?;
            Ok(Self { stream, socket })
        })?
    }

    /// Sends something by both, and expects it back.
    fn say(&mut self) -> Result<()> {
        let mut buffer = [0; 5];
        self.stream.write_all(b"hello")?;
        self.stream
            .read_exact(&mut buffer)
            .context("the connection is silent")?;
        self.socket.send(b"hello")?;
        let count = self.socket.recv(&mut buffer).context("no datagram comes back")?;
        ensure!(&buffer[..count] == b"hello");
        Ok(())
    }
}

/// A Service whose endpoint is that server.
fn echo_service(addresses: [IpAddr; 2]) -> Vec<Value> {
    let external = external_ips(20);
    let service = bare_service("echo", 20).external_ips(&external.each_ref().map(String::as_str));
    let service = TAKEN.into_iter().fold(service, |service, protocol| {
        service.port(&port_name(protocol), protocol, ECHO, ECHO)
    });
    let mut objects = vec![service.build()];
    for address in addresses {
        let six = address.is_ipv6();
        let slice = Slice::new(NAMESPACE, if six { "echo-v6" } else { "echo-v4" }, "echo").family(six);
        let slice = TAKEN.into_iter().fold(slice, |slice, protocol| {
            slice.port(&port_name(protocol), protocol, ECHO)
        });
        objects.push(slice.ready(address, "node2").build());
    }
    objects
}

fn external_ips(number: u8) -> [String; 2] {
    Ip::BOTH.map(|family| family.external_ip(number).to_string())
}

#[test]
fn flows_outlive_the_agent_and_end_by_themselves_when_xdp_is_switched_off() -> Result<()> {
    let mut outside = Outside::with(json!({ "devices": ["default-route"] }))?.ready()?;
    let addresses = Ip::BOTH.map(|family| outside.stage.pod_address("web-3", family));
    outside.stage.apply("echo.yaml", &echo_service(addresses))?;
    echo(outside.stage.pod("web-3"), addresses)?;
    let mut longs = Vec::new();
    for family in Ip::BOTH {
        longs.push(Long::open(outside.stage.client(), family.external_ip(20))?);
    }
    let mut all_say = |when: &str| {
        longs
            .iter_mut()
            .try_for_each(Long::say)
            .with_context(|| when.to_owned())
    };
    all_say("at the beginning")?;
    let of_echo = |outside: &Outside| -> Result<usize> {
        let mut count = 0;
        for family in Ip::BOTH {
            count += outside
                .flows(&["--frontend", &family.external_ip(20).to_string()])?
                .len();
        }
        Ok(count)
    };
    ensure!(of_echo(&outside)? == 4, "{:#?}", outside.flows(&[])?);
    // Nobody runs, and then another agent does.
    outside.stage.tandem.kill()?;
    all_say("while no agent runs")?;
    ensure!(outside.is_taken()?, "nobody takes new flows while no agent runs");
    outside.stage.tandem.restart()?;
    outside.stage.tandem.wait_ready()?;
    outside.stage.tandem.wait_outside()?;
    all_say("after the next agent came")?;
    ensure!(of_echo(&outside)? == 4 && outside.is_taken()?, "flows are lost");
    // Off: what there is goes on, and new flows are nftables'.
    outside.stage.tandem.change_own_setting("dataPlane", "nft")?;
    outside.wait("the end", |status| status["state"] == "ending")?;
    all_say("while XDP ends")?;
    ensure!(!outside.is_taken()?, "new flows are taken although XDP is off");
    ensure!(of_echo(&outside)? == 4, "flows are lost");
    // On again.
    outside.stage.tandem.change_own_setting("dataPlane", "xdp")?;
    outside.stage.tandem.wait_outside()?;
    all_say("after XDP is on again")?;
    ensure!(outside.is_taken()?, "new flows are not taken");
    // Cleaned: nothing is left.
    outside.stage.tandem.terminate()?;
    let cleaned = outside.stage.tandem.cleanup()?;
    ensure!(cleaned.contains("removed the reservation of the ports"), "{cleaned}");
    ensure!(
        !outside.is_attached()? && !outside.pins.path().exists(),
        "something is left: {cleaned}"
    );
    let reserved = outside
        .stage
        .node()
        .exec(&["cat", "/proc/sys/net/ipv4/ip_local_reserved_ports"])?;
    ensure!(reserved.trim().is_empty(), "reserved ports are left: {reserved}");
    Ok(())
}

#[test]
fn the_ports_of_flows_are_given_back_without_the_agent_once_no_program_is_attached() -> Result<()> {
    let mut outside = Outside::new()?.ready()?;
    let reserved = |outside: &Outside| -> Result<String> {
        let node = outside.stage.node();
        Ok(node
            .exec(&["cat", "/proc/sys/net/ipv4/ip_local_reserved_ports"])?
            .trim()
            .to_owned())
    };
    let addresses = Ip::BOTH.map(|family| outside.stage.pod_address("web-3", family));
    outside.stage.apply("echo.yaml", &echo_service(addresses))?;
    echo(outside.stage.pod("web-3"), addresses)?;
    let mut long = Long::open(outside.stage.client(), Ip::V4.external_ip(20))?;
    long.say()?;
    ensure!(reserved(&outside)? == "49152-65535", "{}", reserved(&outside)?);
    outside
        .stage
        .tandem
        .change_own_setting("xdp", json!({ "devices": [] }))?;
    outside.wait("the end", |status| status["state"] == "ending")?;
    // The connection goes on, so its ports are kept.
    let said = outside.stage.tandem.init_only()?;
    ensure!(said.contains("the ports 49152-65535 stay reserved"), "{said}");
    ensure!(reserved(&outside)? == "49152-65535", "{}", reserved(&outside)?);
    long.say()?;
    outside.stage.tandem.terminate()?;
    std::fs::remove_dir_all(outside.pins.path())?;
    let said = outside.stage.tandem.init_only()?;
    ensure!(said.contains("are not reserved any more"), "{said}");
    ensure!(reserved(&outside)?.is_empty(), "{}", reserved(&outside)?);
    let said = outside.stage.tandem.init_only()?;
    ensure!(!said.contains("49152"), "{said}");
    Ok(())
}

#[test]
fn a_device_that_cannot_be_used_is_named_with_the_reason_and_nftables_serves_it() -> Result<()> {
    let devices = json!({ "devices": ["eth0", "nope", "lo", "wan*"] });
    let outside = Outside::with(devices)?.ready()?;
    let role = |status: &Value, name: &str| -> Option<Value> {
        let devices = status["devices"].as_array()?;
        devices.iter().find(|device| device["name"] == name).cloned()
    };
    let status = outside.status()?;
    for (name, part, words) in [
        ("eth0", "attached", ""),
        ("nope", "refused", "there is no device of this name"),
        ("lo", "refused", "is the loopback device"),
        ("wan*", "refused", "no device that can be used has such a name"),
    ] {
        let device = role(&status, name).with_context(|| format!("{name} is not named: {status:#}"))?;
        let reason = device["reason"].as_str().unwrap_or_default();
        ensure!(device["role"] == part && reason.contains(words), "{device:#}");
    }
    ensure!(outside.is_taken()?, "nothing is taken");
    // A device comes, and goes down.
    let node = outside.stage.node();
    node.ip(
        "link add wan0 type veth peer name wan1\nlink set wan1 up\nlink set wan0 up\naddr add 198.18.9.1/24 dev wan0\n",
    )?;
    let is_role = |status: &Value, part: &str| role(status, "wan0").is_some_and(|device| device["role"] == part);
    outside.wait("the device that came", |status| is_role(status, "attached"))?;
    node.ip("link set wan0 down\n")?;
    let down = outside.wait("the device that went down", |status| !is_role(status, "attached"))?;
    ensure!(outside.is_taken()?, "nothing is taken any more: {down:#}");
    Ok(())
}

#[test]
fn somebody_elses_program_is_left_alone_and_ours_comes_back_if_it_is_taken_away() -> Result<()> {
    let outside = Outside::new()?.ready()?;
    ensure!(outside.is_taken()?, "nothing is taken");
    let links = |outside: &Outside| outside.pins.path().join(format!("v{}/links", layout(outside)));
    // A link is detached, and its pin removed.
    for entry in std::fs::read_dir(links(&outside))?.flatten() {
        if entry.file_name().to_string_lossy().starts_with("packets") {
            std::fs::remove_file(entry.path())?;
        }
    }
    let gone = eventually(PATIENCE, || outside.is_attached().ok()?.then_some(()));
    gone.context("our program does not come back")?;
    outside.stage.tandem.wait_outside()?;
    let taken = eventually(PATIENCE, || outside.is_taken().ok()?.then_some(()));
    taken.context("packets are not taken again")?;
    // Somebody else's program is there first.
    let device = outside.stage.node().exec(&["ip", "link", "show", "eth0"])?;
    let id = device
        .split("prog/xdp id ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    let id = id.context("no number of a program")?.to_owned();
    let node = outside.stage.node();
    node.ip("link add other0 type veth peer name other1\nlink set other1 up\nlink set other0 up\n")?;
    // A program of ours, attached by somebody else, is somebody else's as soon as ours are others.
    node.run(|| run_command(Command::new("bpftool").args(["net", "attach", "xdp", "id", &id, "dev", "other0"])))??;
    let mut outside = outside;
    outside.stage.tandem.terminate()?;
    outside.stage.tandem.restart()?;
    outside.stage.tandem.wait_ready()?;
    outside.stage.tandem.wait_outside()?;
    outside
        .stage
        .tandem
        .change_own_setting("xdp", json!({ "devices": ["eth0", "other0"] }))?;
    let status = outside.wait("the other program", |status| {
        status["devices"]
            .to_string()
            .contains("another XDP program is attached")
    })?;
    ensure!(status["state"] == "on", "{status:#}");
    let other = outside.stage.node().exec(&["ip", "link", "show", "other0"])?;
    ensure!(
        other.contains(&format!("id {id} ")),
        "somebody else's program was touched: {other}"
    );
    ensure!(outside.is_taken()?, "nothing is taken");
    Ok(())
}

#[test]
fn ports_that_somebody_takes_out_of_the_reserved_ones_are_reserved_again_and_flows_are_taken() -> Result<()> {
    let outside = Outside::new()?.ready()?;
    let node = outside.stage.node();
    // As `sysctl --system` does with a file that knows nothing of XDP.
    node.sysctls(&[("net/ipv4/ip_local_reserved_ports", "8080")])?;
    let mut last = String::new();
    let again = eventually(PATIENCE, || {
        last = node.exec(&["cat", "/proc/sys/net/ipv4/ip_local_reserved_ports"]).ok()?;
        (last.trim() == "8080,49152-65535").then_some(())
    });
    again.with_context(|| format!("the reserved ports are {last:?}"))?;
    ensure!(outside.is_taken()?, "XDP takes nothing any more");
    Ok(())
}

/// The number of the newest layout that is pinned.
fn layout(outside: &Outside) -> u32 {
    let entries = std::fs::read_dir(outside.pins.path()).into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.strip_prefix('v')?.parse().ok());
    numbers.max().unwrap_or_default()
}
