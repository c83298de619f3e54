//! The cases of more than one question: sockets that ask again, lists that change, who stays with whom.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::net::connect_unspec;
use serde_json::Value;
use socket2::Socket;

use crate::addresses::Ip;
use crate::conntrack;
use crate::netns::Namespace;
use crate::patience;
use crate::stage::TARGET;
use crate::traffic::Protocol;

use super::ask::{Bound, Question, Way};
use super::expect::{Form, Front, Took, endpoint_at};
use super::judge::{Finding, Observed};
use super::services::{self as s, Spec};
use super::site::{Asker, MORE_TARGETS, MPTCP_TARGET, Site};

const ASKERS: [Asker; 2] = [Asker::Node, Asker::Pod];
/// How many cases need MPTCP.
pub(super) const OF_MPTCP: usize = ASKERS.len() * Form::ALL.len();
/// How often a list of two is asked, so that each of them has surely answered.
const MANY: usize = 24;

/// All of them. Those that change the Services come last.
pub(super) fn run(site: &mut Site, short: bool) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for asker in ASKERS {
        for form in Form::ALL {
            findings.extend(reconnects(site, asker, form)?);
            findings.extend(changes_its_mind_over_udp(site, asker, form)?);
            findings.push(five_frontends(site, asker, form)?);
            findings.extend(fast_open(site, asker, form)?);
            findings.extend(mptcp(site, asker, form)?);
        }
        findings.extend(spread(site, asker, short)?);
    }
    findings.extend(sticky(site)?);
    findings.extend(sticky_by_network(site)?);
    for asker in ASKERS {
        for form in Form::ALL {
            // Each change takes a while.
            if !short || (asker, form) == (Asker::Pod, Form::V4) || (asker, form) == (Asker::Node, Form::V6) {
                findings.extend(endpoint_goes(site, asker, form)?);
            }
        }
    }
    Ok(findings)
}

/// What one question of several has to bring.
struct Want<'a> {
    by: &'a str,
    took: Took,
    peer: Option<SocketAddr>,
    sender: Option<SocketAddr>,
}

impl Site {
    fn title(&self, asker: Asker, form: Form, what: &str) -> String {
        let form = match form {
            Form::V4 => "IPv4",
            Form::V6 => "IPv6",
            Form::Mapped => "mapped IPv4",
        };
        format!("{}: {}, {form}: {what}", self.variant.title(), asker.title())
    }
}

fn question(way: Way, to: SocketAddr) -> Question {
    Question {
        way,
        to,
        bound: Bound::Nothing,
        hears_refusals: true,
        patience: patience(Duration::from_secs(1)),
    }
}

fn at(front: Front, service: &Spec, form: Form) -> SocketAddr {
    form.write(front.address(service, form.family()))
}

fn finding(name: String, observed: &Observed, want: &Want<'_>) -> Finding {
    let seen = &observed.seen;
    let mut wrong = Vec::new();
    let mut check = |what: &str, wanted: String, found: String| {
        if wanted != found {
            wrong.push(format!("{what}: expected {wanted}, found {found}"));
        }
    };
    let by = seen
        .outcome
        .answered_by()
        .map_or_else(|| seen.outcome.to_string(), str::to_owned);
    check("answered by", want.by.to_owned(), by);
    check("taken by", want.took.to_string(), observed.took.to_string());
    check("getpeername", format!("{:?}", want.peer), format!("{:?}", seen.peer));
    check("recvfrom", format!("{:?}", want.sender), format!("{:?}", seen.sender));
    Finding {
        name,
        took: observed.took,
        wrong,
    }
}

/// A finding of several questions together.
fn together(name: String, took: Took, wrong: Vec<String>) -> Finding {
    Finding { name, took, wrong }
}

/// A TCP socket asks one Service, lets go of it, and asks an endpoint itself and other Services.
fn reconnects(site: &Site, asker: Asker, form: Form) -> Result<Vec<Finding>> {
    let title = |what: &str| site.title(asker, form, what);
    let place = site.place(asker)?;
    place.run(|| -> Result<Vec<Finding>> {
        let (first, second) = (
            at(Front::ClusterIp, &s::HERE, form),
            at(Front::NodePort, &s::THERE, form),
        );
        let endpoint = endpoint_at("web-2", form);
        let socket = question(Way::Tcp, first).open()?;
        let ask = |to: SocketAddr| {
            let question = question(Way::Tcp, to);
            site.observe(&question, form, || question.ask_on(&socket))
        };
        let want = |by, took, peer| Want {
            by,
            took,
            peer: Some(peer),
            sender: None,
        };
        let mut findings = vec![finding(
            title("a TCP socket asks a Service"),
            &ask(first)?,
            &want("web-2", Took::Sockets, first),
        )];
        let steps = [
            (
                "the same socket asks an endpoint itself",
                endpoint,
                "web-2",
                Took::Nobody,
            ),
            ("the same socket asks another Service", second, "web-3", Took::Sockets),
            (
                "the same socket asks the first Service again",
                first,
                "web-2",
                Took::Sockets,
            ),
        ];
        for (what, to, by, took) in steps {
            connect_unspec(&socket)?;
            findings.push(finding(title(what), &ask(to)?, &want(by, took, to)));
        }
        Ok(findings)
    })?
}

/// A UDP socket sends, connects, sends to another address than its peer, connects anew, lets go, and sends again.
fn changes_its_mind_over_udp(site: &Site, asker: Asker, form: Form) -> Result<Vec<Finding>> {
    let title = |what: &str| site.title(asker, form, what);
    let place = site.place(asker)?;
    place.run(|| -> Result<Vec<Finding>> {
        let (first, second) = (
            at(Front::ClusterIp, &s::HERE, form),
            at(Front::NodePort, &s::THERE, form),
        );
        let socket = question(Way::SendTo, first).open()?;
        let ask = |way: Way, to: SocketAddr, milliseconds: u64| {
            let question = Question {
                patience: patience(Duration::from_millis(milliseconds)),
                ..question(way, to)
            };
            site.observe(&question, form, || question.ask_on(&socket))
        };
        let want = |by, took, peer, sender| Want { by, took, peer, sender };
        let mut findings = vec![finding(
            title("a UDP socket sends to a Service"),
            &ask(Way::SendTo, first, 1000)?,
            &want("web-2", Took::Sockets, None, Some(first)),
        )];
        findings.push(finding(
            title("the same socket connects to another Service"),
            &ask(Way::ConnectedUdp, second, 1000)?,
            &want("web-3", Took::Nftables, Some(second), Some(second)),
        ));
        // An answer does not come from its peer, so the socket takes none.
        let other = ask(Way::SendTo, first, 200)?;
        let silent = other.seen.outcome.timed_out() && other.took == Took::Nftables;
        findings.push(together(
            title("the connected socket sends to the first Service"),
            other.took,
            (!silent)
                .then(|| {
                    format!(
                        "expected no answer, by nftables; found {}, {}",
                        other.seen.outcome, other.took
                    )
                })
                .into_iter()
                .collect(),
        ));
        findings.push(finding(
            title("the socket connects to the first Service"),
            &ask(Way::ConnectedUdp, first, 1000)?,
            &want("web-2", Took::Nftables, Some(first), Some(first)),
        ));
        connect_unspec(&socket)?;
        // Linux keeps the address of an IPv6 socket's last peer, and goes on to take answers from that address alone.
        let took = if form == Form::V4 {
            Took::Sockets
        } else {
            Took::Nftables
        };
        findings.push(finding(
            title("the socket has no peer any more and sends to the first Service"),
            &ask(Way::SendTo, first, 1000)?,
            &want("web-2", took, None, Some(first)),
        ));
        Ok(findings)
    })?
}

/// One UDP socket sends to six frontends: four are remembered, the others are nftables'. Every answer comes from what was
/// asked.
fn five_frontends(site: &Site, asker: Asker, form: Form) -> Result<Finding> {
    let cluster_ip = form.family().cluster_ip(40);
    let place = site.place(asker)?;
    let mut wrong = Vec::new();
    place.run(|| -> Result<()> {
        let all: Vec<SocketAddr> = MORE_TARGETS
            .iter()
            .map(|target| form.write(SocketAddr::new(cluster_ip, target - 8000)))
            .collect();
        let socket = question(Way::SendTo, all[0]).open()?;
        for round in 0..2 {
            for (number, to) in all.iter().enumerate() {
                let question = question(Way::SendTo, *to);
                let observed = site.observe(&question, form, || question.ask_on(&socket))?;
                let took = if number < 4 { Took::Sockets } else { Took::Nftables };
                let name = format!("round {round}, frontend {number}");
                let want = Want {
                    by: "web-2",
                    took,
                    peer: None,
                    sender: Some(*to),
                };
                wrong.extend(
                    finding(String::new(), &observed, &want)
                        .wrong
                        .into_iter()
                        .map(|fault| format!("{name}: {fault}")),
                );
            }
        }
        // All of them first, and then the answers.
        conntrack::forget(site.node()?)?;
        for to in &all {
            socket.send_to(b"who are you?\n", &(*to).into())?;
        }
        let mut senders = BTreeSet::new();
        for _ in &all {
            let mut bytes = [std::mem::MaybeUninit::uninit(); 512];
            let (_, from) = socket.recv_from(&mut bytes).context("an answer of six is missing")?;
            senders.extend(from.as_socket());
        }
        let wanted: BTreeSet<SocketAddr> = all.into_iter().collect();
        if senders != wanted {
            wrong.push(format!("recvfrom: expected {wanted:?}, found {senders:?}"));
        }
        Ok(())
    })??;
    let name = site.title(asker, form, "one UDP socket sends to six frontends, again and again");
    Ok(together(name, Took::Sockets, wrong))
}

/// A number of `/proc/net/netstat` in the calling thread's network.
fn statistic(group: &str, name: &str) -> Result<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/net/netstat").context("read the network's statistics")?;
    let mut lines = text.lines().filter(|line| line.starts_with(group));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let found = names
        .split(' ')
        .zip(values.split(' '))
        .find(|(other, _)| *other == name);
    found
        .and_then(|(_, value)| value.parse().ok())
        .with_context(|| format!("the kernel has no statistic {group} {name}"))
}

/// The second connection of a client sends data with its first packet.
fn fast_open(site: &Site, asker: Asker, form: Form) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for front in [Front::ClusterIp, Front::LoadBalancer, Front::NodePort] {
        let to = at(front, &s::HERE, form);
        let name = site.title(asker, form, &format!("TCP Fast Open to {front}, twice"));
        let place = site.place(asker)?;
        findings.push(place.run(|| -> Result<Finding> {
            let before = statistic("TcpExt:", "TCPFastOpenActive")?;
            let question = question(Way::FastOpen, to);
            let want = Want {
                by: "web-2",
                took: Took::Sockets,
                peer: Some(to),
                sender: None,
            };
            let mut wrong = Vec::new();
            for _ in 0..2 {
                let observed = site.observe(&question, form, || question.ask())?;
                wrong.extend(finding(String::new(), &observed, &want).wrong);
            }
            if statistic("TcpExt:", "TCPFastOpenActive")? == before {
                wrong.push("no data was sent with a first packet".to_owned());
            }
            Ok(together(name.clone(), Took::Sockets, wrong))
        })??);
    }
    Ok(findings)
}

/// A server that speaks MPTCP too. `getpeername` of the outer socket shows the endpoint.
fn mptcp(site: &Site, asker: Asker, form: Form) -> Result<Option<Finding>> {
    if !super::has_mptcp() {
        return Ok(None);
    }
    let to = form.write(SocketAddr::new(form.family().cluster_ip(42), 80));
    let name = site.title(asker, form, "MPTCP to a server that speaks it");
    let place = site.place(asker)?;
    let finding = place.run(|| -> Result<Finding> {
        let before = statistic("MPTcpExt:", "MPCapableSYNACKRX")?;
        let question = question(Way::Mptcp, to);
        let observed = site.observe(&question, form, || question.ask())?;
        let endpoint = SocketAddr::new(endpoint_at("web-2", form).ip(), MPTCP_TARGET);
        let want = Want {
            by: "web-2",
            took: Took::Sockets,
            peer: Some(endpoint),
            sender: None,
        };
        let mut found = finding(name.clone(), &observed, &want);
        if statistic("MPTcpExt:", "MPCapableSYNACKRX")? == before {
            found.wrong.push("the server did not speak MPTCP".to_owned());
        }
        Ok(found)
    })??;
    Ok(Some(finding))
}

/// Every endpoint answers in turn, and none of the connections is seen by nftables.
fn spread(site: &Site, asker: Asker, short: bool) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let fronts = [
        Front::ClusterIp,
        Front::ExternalIp,
        Front::LoadBalancer,
        Front::NodePort,
    ];
    for front in &fronts[..if short { 1 } else { 4 }] {
        for form in Form::ALL {
            for way in [Way::Tcp, Way::SendTo] {
                let to = at(*front, &s::BOTH, form);
                let place = site.place(asker)?;
                conntrack::forget(site.node()?)?;
                let names = names(&place, way, to, MANY)?;
                let mut wrong = Vec::new();
                let expected: BTreeSet<String> = ["web-1", "web-3"].map(str::to_owned).into();
                if names != expected {
                    wrong.push(format!("answered by: expected {expected:?}, found {names:?}"));
                }
                let plain = SocketAddr::new(to.ip().to_canonical(), to.port());
                let entries = conntrack::of(site.node()?, way.protocol())?;
                if let Some(entry) = entries.iter().find(|entry| entry.to == plain) {
                    wrong.push(format!("taken by: expected sockets, found {entry:?}"));
                }
                let name = site.title(asker, form, &format!("{MANY} times {front} by {way}"));
                findings.push(together(name, Took::Sockets, wrong));
            }
        }
    }
    Ok(findings)
}

/// Who answers if a place asks so often, each time on a new socket.
fn names(place: &Namespace, way: Way, to: SocketAddr, times: usize) -> Result<BTreeSet<String>> {
    place.run(|| {
        let ask = |_| {
            let outcome = question(way, to).ask().outcome;
            outcome.answered_by().map_or_else(|| outcome.to_string(), str::to_owned)
        };
        (0..times).map(ask).collect()
    })
}

/// A client stays with its endpoint, by whichever address and form it asks.
fn sticky(site: &Site) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for asker in [Asker::Node, Asker::Pod, Asker::SecondPod] {
        let place = site.place(asker)?;
        for way in [Way::Tcp, Way::SendTo, Way::ConnectedUdp] {
            for family in Ip::BOTH {
                let forms: &[Form] = if family == Ip::V4 {
                    &[Form::V4, Form::Mapped]
                } else {
                    &[Form::V6]
                };
                let mut all = BTreeSet::new();
                for form in forms {
                    for front in [Front::ClusterIp, Front::LoadBalancer, Front::NodePort] {
                        all.extend(names(&place, way, at(front, &s::STICKY, *form), 6)?);
                    }
                }
                let wrong = if all.len() == 1 {
                    Vec::new()
                } else {
                    vec![format!("answered by: expected one, found {all:?}")]
                };
                let name = site.title(asker, forms[0], &format!("affinity over all addresses by {way}"));
                let took = if way == Way::ConnectedUdp {
                    Took::Nftables
                } else {
                    Took::Sockets
                };
                findings.push(together(name, took, wrong));
            }
        }
    }
    Ok(findings)
}

/// Sixteen Services: two pods have endpoints of their own each, and stay with them.
fn sticky_by_network(site: &Site) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for family in Ip::BOTH {
        let choices = |asker: Asker| -> Result<Vec<BTreeSet<String>>> {
            let place = site.place(asker)?;
            let ask = |port: u16| names(&place, Way::Tcp, SocketAddr::new(family.cluster_ip(41), port), 4);
            (1..=16).map(ask).collect()
        };
        let both = [choices(Asker::Pod)?, choices(Asker::SecondPod)?];
        let again = [choices(Asker::Pod)?, choices(Asker::SecondPod)?];
        let mut wrong = Vec::new();
        if both.iter().flatten().any(|names| names.len() != 1) || both != again {
            wrong.push(format!(
                "expected one endpoint each time, found {both:?}, then {again:?}"
            ));
        }
        if both[0] == both[1] {
            wrong.push(format!(
                "both pods have the same endpoints sixteen times: {:?}",
                both[0]
            ));
        }
        let name = format!(
            "{}: {family:?}: affinity of two pods to sixteen Services",
            site.variant.title()
        );
        findings.push(together(name, Took::Sockets, wrong));
    }
    Ok(findings)
}

/// The Service whose endpoints change.
fn moving(endpoints: &[&str]) -> Vec<Value> {
    s::many_ports(("moving", 43), Protocol::Udp, &[(80, TARGET)], endpoints, false)
}

/// A UDP socket's endpoint goes away: the next datagram goes to another one; without any it is refused; and it comes back.
fn endpoint_goes(site: &mut Site, asker: Asker, form: Form) -> Result<Vec<Finding>> {
    let address: IpAddr = form.family().cluster_ip(43);
    let to = form.write(SocketAddr::new(address, 80));
    let place = site.place(asker)?;
    let (plain, connected) = (question(Way::SendTo, to), question(Way::ConnectedUdp, to));
    site.apply("moving.yaml", &moving(&["web-2"]))?;
    let sockets: (Socket, Socket) = place.run(|| Ok::<_, std::io::Error>((plain.open()?, connected.open()?)))??;
    let mut findings = Vec::new();
    let mut ask = |site: &Site, by: &str, what: &str| -> Result<()> {
        let observed = place.run(|| site.observe(&plain, form, || plain.ask_on(&sockets.0)))??;
        let want = Want {
            by,
            took: Took::Sockets,
            peer: None,
            sender: Some(to),
        };
        findings.push(finding(site.title(asker, form, what), &observed, &want));
        Ok(())
    };
    ask(site, "web-2", "a datagram to the only endpoint")?;
    ask(site, "web-2", "the next one")?;
    site.apply("moving.yaml", &moving(&["web-2", "web-3"]))?;
    ask(site, "web-2", "a datagram after a second endpoint has come")?;
    site.apply("moving.yaml", &moving(&["web-3"]))?;
    ask(site, "web-3", "the very next datagram after its endpoint has gone")?;
    site.apply("moving.yaml", &moving(&[]))?;
    let none = place.run(|| {
        let question = Question {
            patience: patience(Duration::from_millis(200)),
            ..plain
        };
        site.observe(&question, form, || question.ask_on(&sockets.0))
    })??;
    site.apply("moving.yaml", &moving(&["web-1"]))?;
    ask(site, "web-1", "a datagram after an endpoint has come back")?;
    let wrong = none
        .seen
        .outcome
        .answer()
        .map(|answer| format!("expected no answer, found one of {}", answer.by));
    findings.push(together(
        site.title(asker, form, "a datagram without any endpoint"),
        none.took,
        wrong.into_iter().collect(),
    ));
    // nftables serves a connected one: its entry is cut, and it goes on without noticing.
    let first = place.run(|| connected.ask_on(&sockets.1))?;
    site.apply("moving.yaml", &moving(&["web-3"]))?;
    let moved = || {
        let seen = place.run(|| connected_again(&connected, &sockets.1)).ok()?;
        (seen.as_deref() == Some("web-3")).then_some(())
    };
    let mut wrong = Vec::new();
    if first.outcome.answered_by() != Some("web-1") {
        wrong.push(format!("answered by: expected web-1, found {}", first.outcome));
    }
    if crate::eventually(Duration::from_secs(5), moved).is_none() {
        wrong.push("no datagram reached the new endpoint".to_owned());
    }
    findings.push(together(
        site.title(asker, form, "a connected UDP socket whose endpoint goes"),
        Took::Nftables,
        wrong,
    ));
    Ok(findings)
}

/// Sends once more on a socket that has its peer already.
fn connected_again(question: &Question, socket: &Socket) -> Option<String> {
    let mut socket: &Socket = socket;
    socket
        .set_read_timeout(Some(question.patience.min(patience(Duration::from_millis(200)))))
        .ok()?;
    socket.send(b"who are you?\n").ok()?;
    let mut bytes = [0; 512];
    let length = socket.read(&mut bytes).ok()?;
    let line = String::from_utf8_lossy(&bytes[..length]).into_owned();
    line.split(' ').next().map(str::to_owned)
}
