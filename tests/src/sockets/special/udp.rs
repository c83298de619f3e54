//! UDP sockets that send to more than one address, and whose endpoint goes.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::net::connect_unspec;
use serde_json::Value;
use socket2::Socket;

use crate::conntrack;
use crate::patience;
use crate::stage::TARGET;
use crate::traffic::Protocol;

use super::super::ask::{Question, Way};
use super::super::expect::{Form, Front, Took};
use super::super::judge::Finding;
use super::super::services as s;
use super::super::site::{Asker, MORE_TARGETS, Site};
use super::{Want, at, finding, question, together};

/// A UDP socket sends, connects, sends to another address than its peer, connects anew, lets go, and sends again.
pub(super) fn changes_its_mind_over_udp(site: &Site, asker: Asker, form: Form) -> Result<Vec<Finding>> {
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
pub(super) fn five_frontends(site: &Site, asker: Asker, form: Form) -> Result<Finding> {
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
        wrong.extend(all_answer(site, &socket, &all)?);
        Ok(())
    })??;
    let name = site.title(asker, form, "one UDP socket sends to six frontends, again and again");
    Ok(together(name, Took::Sockets, wrong))
}

/// One UDP socket sends to three frontends that lead to the same endpoint. The first one is the socket's. The others are nftables',
/// which tells their answers apart.
pub(super) fn one_endpoint_of_three_frontends(site: &Site, asker: Asker, form: Form) -> Result<Vec<Finding>> {
    let title = |what: &str| site.title(asker, form, what);
    let all = [Front::ClusterIp, Front::NodePort, Front::LoadBalancer].map(|front| at(front, &s::HERE, form));
    let place = site.place(asker)?;
    place.run(|| -> Result<Vec<Finding>> {
        let socket = question(Way::SendTo, all[0]).open()?;
        let mut findings = Vec::new();
        for what in ["a UDP socket asks", "the same socket asks again"] {
            for (number, to) in all.iter().enumerate() {
                let question = question(Way::SendTo, *to);
                let observed = site.observe(&question, form, || question.ask_on(&socket))?;
                let want = Want {
                    by: "web-2",
                    took: if number == 0 { Took::Sockets } else { Took::Nftables },
                    peer: None,
                    sender: Some(*to),
                };
                let name = title(&format!("{what} frontend {number} of three of one endpoint"));
                findings.push(finding(name, &observed, &want));
            }
        }
        let name = title("all three are asked before an answer is read");
        findings.push(together(name, Took::Sockets, all_answer(site, &socket, &all)?));
        Ok(findings)
    })?
}

/// Sends to all of them first, and then reads the answers. Returns what is wrong.
fn all_answer(site: &Site, socket: &Socket, all: &[SocketAddr]) -> Result<Vec<String>> {
    conntrack::forget(site.node()?)?;
    for to in all {
        socket.send_to(b"who are you?\n", &(*to).into())?;
    }
    let mut senders = BTreeSet::new();
    for _ in all {
        let mut bytes = [std::mem::MaybeUninit::uninit(); 512];
        let (_, from) = socket.recv_from(&mut bytes).context("an answer is missing")?;
        senders.extend(from.as_socket());
    }
    let wanted: BTreeSet<SocketAddr> = all.iter().copied().collect();
    let wrong = (senders != wanted).then(|| format!("recvfrom: expected {wanted:?}, found {senders:?}"));
    Ok(wrong.into_iter().collect())
}

/// The Service whose endpoints change.
fn moving(endpoints: &[&str]) -> Vec<Value> {
    s::many_ports(("moving", 43), Protocol::Udp, &[(80, TARGET)], endpoints, false)
}

/// A UDP socket's endpoint goes away: the next datagram goes to another one; without any it is refused; and it comes back.
pub(super) fn endpoint_goes(site: &mut Site, asker: Asker, form: Form) -> Result<Vec<Finding>> {
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
