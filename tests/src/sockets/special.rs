//! The cases of more than one question: sockets that ask again, lists that change, who stays with whom.

mod sticky;
mod udp;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::net::connect_unspec;

use crate::conntrack;
use crate::netns::Namespace;
use crate::patience;

use super::ask::{Bound, Question, Way};
use super::expect::{Form, Front, Took, endpoint_at};
use super::judge::{Finding, Observed};
use super::services::{self as s, Spec};
use super::site::{Asker, MPTCP_TARGET, Site};

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
            findings.extend(udp::changes_its_mind_over_udp(site, asker, form)?);
            findings.push(udp::five_frontends(site, asker, form)?);
            findings.extend(udp::one_endpoint_of_three_frontends(site, asker, form)?);
            findings.extend(fast_open(site, asker, form)?);
            findings.extend(mptcp(site, asker, form)?);
        }
        findings.extend(spread(site, asker, short)?);
    }
    findings.extend(sticky::sticky(site)?);
    findings.extend(sticky::sticky_by_network(site)?);
    for asker in ASKERS {
        for form in Form::ALL {
            // Each change takes a while.
            if !short || (asker, form) == (Asker::Pod, Form::V4) || (asker, form) == (Asker::Node, Form::V6) {
                findings.extend(udp::endpoint_goes(site, asker, form)?);
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
