//! Runs scenarios.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::json;

use super::answer::{Answer, Rule};
use super::configuration::Configuration;
use super::differences::{KEPT_SOURCE, REFUSED_SOONER, ROUTED_SOURCE};
use super::flow::{Flow, Place, Sources, Target};
use super::measure::Question;
use super::objects::Objects;
use super::report::{Row, Verdict};
use super::scenario::{Scenario, Step};
use super::sender::Sender;
use super::side::secondary;
use super::took::{Took, Tracks, Trail, every_node};
use super::twins::Twins;
use crate::netns::Namespace;
use crate::stage::Ip;

/// How long kube-proxy may take until it does what a scenario expects. Some changes need controllers.
const PATIENCE: Duration = Duration::from_secs(15);
/// How much later Tandem may see a change than kube-proxy. Each follows the API server independently.
const GRACE: Duration = Duration::from_secs(2);
/// The time between two measurements.
const REST: Duration = Duration::from_millis(30);

/// A sender that keeps its socket: the world, where it is, its port and the family.
type Kept = (usize, String, u16, Ip);

/// A scenario under one configuration.
pub(super) struct Walk<'a> {
    twins: &'a mut Twins,
    scenario: &'a Scenario,
    label: String,
    objects: Objects,
    /// The servers that answered flows with a `sticky` word, in each world.
    stuck: [BTreeMap<(String, Ip), String>; 2],
    /// The sockets of unconnected senders that keep their source port, in each world.
    kept: Mutex<BTreeMap<Kept, Arc<OnceLock<UdpSocket>>>>,
    /// Lines of the table.
    pub(super) rows: Vec<Row>,
    /// The number of measured steps, counted once for each node by which clients enter.
    pub(super) steps: usize,
    /// The number of steps after which Tandem was asked again.
    pub(super) asked_again: usize,
}

/// A flow of one family, ready to be sent in both worlds.
struct Asked<'a> {
    flow: &'a Flow,
    family: Ip,
    by: Sender,
    to: SocketAddr,
    /// The node of the sender; none if it is outside.
    node: Option<u8>,
    title: String,
    sender: Vec<IpAddr>,
    /// All addresses of the sender, if it is a node.
    of_node: Vec<IpAddr>,
    questions: [(Namespace, Question); 2],
    /// Flows of the same lane are sent one after the other.
    lane: String,
}

impl<'a> Walk<'a> {
    pub(super) fn new(twins: &'a mut Twins, scenario: &'a Scenario, configuration: Configuration) -> Self {
        let label = match configuration {
            Configuration::Base => scenario.name.clone(),
            _ => format!("{} ({})", scenario.name, configuration.name()),
        };
        Self {
            twins,
            scenario,
            label,
            objects: Objects::default(),
            stuck: Default::default(),
            kept: Mutex::default(),
            rows: Vec::new(),
            steps: 0,
            asked_again: 0,
        }
    }

    /// Runs all steps and removes what was made, even after a failure.
    pub(super) fn walk(&mut self) -> Result<()> {
        let walked = self.prepare().and_then(|()| self.steps());
        let cleared = std::mem::take(&mut self.objects).clear(self.twins);
        walked.and(cleared).with_context(|| self.label.clone())
    }

    fn prepare(&mut self) -> Result<()> {
        let Self {
            twins,
            scenario,
            objects,
            ..
        } = self;
        for pod in &scenario.pods {
            objects.add_pod(twins, pod)?;
        }
        for (number, node) in &scenario.nodes {
            objects.change_node(twins, *number, &json!({ "metadata": { "labels": node.labels } }))?;
        }
        for object in &scenario.objects {
            objects.create(twins, object)?;
        }
        scenario.slices.iter().try_for_each(|slice| objects.slice(twins, slice))
    }

    fn steps(&mut self) -> Result<()> {
        for (number, step) in (1..).zip(&self.scenario.steps) {
            if crate::interrupt::came() {
                bail!("interrupted");
            }
            for action in &step.actions {
                self.objects.act(self.twins, action)?;
            }
            self.twins.settle()?;
            self.measure(number, step).with_context(|| format!("step {number}"))?;
        }
        Ok(())
    }

    /// Sends the flows of a step. Those that enter by the same node are sent at once.
    fn measure(&mut self, number: usize, step: &'a Step) -> Result<()> {
        for entry in 1..=3 {
            let flows = step.flows.iter().filter(|flow| flow.from.entry() == entry);
            let kinds = flows.flat_map(|flow| {
                let families = self.scenario.families_of(flow).iter();
                let senders = self.scenario.senders_of(flow);
                families.flat_map(move |family| senders.iter().map(move |by| (flow, *family, *by)))
            });
            let asked = kinds
                .map(|(flow, family, by)| self.prepare_flow(number, flow, family, by))
                .collect::<Result<Vec<_>>>()?;
            if asked.is_empty() {
                continue;
            }
            self.twins.enter_by(entry)?;
            self.compare(&asked)?;
        }
        Ok(())
    }

    fn prepare_flow(&self, step: usize, flow: &'a Flow, family: Ip, by: Sender) -> Result<Asked<'a>> {
        let to = self
            .address(&flow.to, family)
            .with_context(|| format!("flow `{flow}`"))?;
        let slot = flow.from.pod().and_then(|name| self.objects.slot(&name));
        let question = |side: usize| -> Result<(Namespace, Vec<IpAddr>, Question)> {
            let (namespace, own) = self.twins.sides[side].sender(&flow.from, slot, family)?;
            let from = matches!(flow.from, Place::Client { number: 2, .. }).then(|| own[0]);
            let kept = self.kept(side, flow, by, family);
            Ok((namespace, own, Question::new(flow, by, to, from, kept)))
        };
        let (theirs, sender, first) = question(0)?;
        let (ours, _, second) = question(1)?;
        let table = family.table();
        let lane = match (flow.port_of(by), &flow.sticky) {
            // The lane is for both families, because an IPv6 socket at any address takes the port of IPv4, too.
            (Some(port), _) => format!("port {port}"),
            (None, Some(word)) => format!("word {word} {table}"),
            (None, None) => String::new(),
        };
        let number = if self.scenario.steps.len() > 1 {
            format!("{step}: ")
        } else {
            String::new()
        };
        let shown = if matches!(flow.to, Target::Literal(_)) {
            format!(
                "{} -> {} {} {to}:{}",
                flow.from,
                flow.protocol,
                family.of(["IPv4", "IPv6"]),
                flow.port
            )
        } else {
            format!("{flow} {}", family.of(["IPv4", "IPv6"]))
        };
        let unconnected = match by {
            Sender::Connected => "",
            Sender::Unconnected => ", unconnected",
        };
        Ok(Asked {
            flow,
            family,
            by,
            to: SocketAddr::new(to, flow.port),
            node: match flow.from {
                Place::Client { .. } => None,
                Place::Node(number) => Some(number),
                Place::Pod(_) => slot.map(|(node, _)| node),
            },
            title: format!("{number}{shown}{unconnected}"),
            sender,
            of_node: self.addresses_of_node(flow, family)?,
            questions: [(theirs, first), (ours, second)],
            lane,
        })
    }

    /// The socket of a sender that keeps its source port. It does not exist before its first request.
    fn kept(&self, side: usize, flow: &Flow, by: Sender, family: Ip) -> Arc<OnceLock<UdpSocket>> {
        let Some(port) = flow.port_of(by) else {
            return Arc::default();
        };
        let key = (side, flow.from.to_string(), port, family);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(kept.entry(key).or_default())
    }

    /// Every address of the flow's family that a node has.
    fn addresses_of_node(&self, flow: &Flow, family: Ip) -> Result<Vec<IpAddr>> {
        let Place::Node(number) = flow.from else {
            return Ok(Vec::new());
        };
        let node = self.twins.ours().node(number)?;
        let ranges = node.pod_ranges();
        let gateway = [ranges.v4(1).into(), ranges.v6(1).into()];
        Ok([node.addresses(), gateway, secondary(number)]
            .map(|pair| family.of(pair))
            .to_vec())
    }

    fn address(&self, to: &Target, family: Ip) -> Result<IpAddr> {
        match to {
            Target::ClusterIp(service) => self.objects.cluster_ip(service, false, family),
            Target::OldClusterIp(service) => self.objects.cluster_ip(service, true, family),
            Target::Node(number) => Ok(family.of(self.twins.ours().node(*number)?.addresses())),
            Target::Secondary(number) => Ok(family.of(secondary(*number))),
            Target::Pod(name) => {
                let slot = self
                    .objects
                    .slot(name)
                    .with_context(|| format!("there is no pod {name}"))?;
                Ok(family.of(self.twins.ours().pod(slot)?.addresses()))
            }
            Target::Literal(addresses) => {
                let found = addresses.iter().find(|address| address.is_ipv4() == (family == Ip::V4));
                found.copied().with_context(|| format!("no address of {family:?}"))
            }
        }
    }

    /// Asks both worlds, and asks each again for as long as it may take to see a change. Compares the last answers.
    fn compare(&mut self, asked: &[Asked]) -> Result<()> {
        let (theirs, ours) = thread::scope(|scope| {
            let theirs = scope.spawn(|| ask(asked, 0));
            let ours = ask(asked, 1);
            (theirs.join().map_err(|_| anyhow!("a client panicked")), ours)
        });
        let (mut theirs, mut ours) = (theirs??, ours?);
        let deadline = Instant::now() + PATIENCE;
        while !self.all_fit(asked, &theirs) && Instant::now() < deadline {
            thread::sleep(REST);
            theirs = ask(asked, 0)?;
        }
        let mut took = self.took(asked, &ours)?;
        let mut verdicts = self.verdicts(asked, &theirs, &ours, &took);
        let deadline = Instant::now() + GRACE;
        self.steps += 1;
        if verdicts.iter().any(is_wrong) {
            self.asked_again += 1;
        }
        while verdicts.iter().any(is_wrong) && Instant::now() < deadline {
            thread::sleep(REST);
            ours = ask(asked, 1)?;
            took = self.took(asked, &ours)?;
            verdicts = self.verdicts(asked, &theirs, &ours, &took);
        }
        for (side, answers) in [&theirs, &ours].into_iter().enumerate() {
            self.stuck[side] = self.now_stuck(side, asked, answers);
        }
        let lines = asked.iter().zip(theirs).zip(ours).zip(took).zip(verdicts);
        self.rows
            .extend(lines.map(|((((asked, theirs), ours), took), verdict)| Row {
                scenario: self.label.clone(),
                flow: asked.title.clone(),
                theirs,
                ours,
                took,
                verdict,
            }));
        Ok(())
    }

    /// Who translated each flow in Tandem's world. This is asked only if there is more than one who can.
    fn took(&self, asked: &[Asked], ours: &[Answer]) -> Result<Vec<Option<Took>>> {
        if !self.twins.follows_in_sockets() {
            return Ok(vec![None; asked.len()]);
        }
        let trails: Vec<Trail> = asked.iter().map(Asked::trail).collect();
        let tracks = Tracks::read(self.twins.ours(), trails.iter())?;
        let pairs = trails.iter().zip(ours);
        Ok(pairs.map(|(trail, answer)| tracks.took(trail, answer)).collect())
    }

    fn all_fit(&self, asked: &[Asked], theirs: &[Answer]) -> bool {
        let stuck = self.now_stuck(0, asked, theirs);
        asked
            .iter()
            .zip(theirs)
            .all(|(asked, answer)| answer.fits(&asked.rule(&stuck)))
    }

    fn verdicts(&self, asked: &[Asked], theirs: &[Answer], ours: &[Answer], took: &[Option<Took>]) -> Vec<Verdict> {
        let stuck = [self.now_stuck(0, asked, theirs), self.now_stuck(1, asked, ours)];
        let all = asked.iter().zip(theirs).zip(ours).zip(took);
        all.map(|(((asked, theirs), ours), took)| asked.verdict(theirs, ours, *took, &stuck))
            .collect()
    }

    /// The servers that answer flows with a `sticky` word, if these are the next answers.
    fn now_stuck(&self, side: usize, asked: &[Asked], answers: &[Answer]) -> BTreeMap<(String, Ip), String> {
        let mut stuck = self.stuck[side].clone();
        for (asked, answer) in asked.iter().zip(answers) {
            if let (Some(word), Some(name)) = (&asked.flow.sticky, answer.only()) {
                stuck
                    .entry((word.clone(), asked.family))
                    .or_insert_with(|| name.to_owned());
            }
        }
        stuck
    }
}

impl Asked<'_> {
    fn rule<'s>(&'s self, stuck: &'s BTreeMap<(String, Ip), String>) -> Rule<'s> {
        let word = self.flow.sticky.clone();
        Rule {
            expect: &self.flow.expect,
            sources: self.flow.sources,
            sender: &self.sender,
            from_node: matches!(self.flow.from, Place::Node(_)),
            unconnected: self.by == Sender::Unconnected,
            stuck: word.and_then(|word| stuck.get(&(word, self.family)).map(String::as_str)),
        }
    }

    /// What connection tracking can show of it.
    fn trail(&self) -> Trail<'_> {
        let Flow { from, protocol, .. } = self.flow;
        Trail {
            nodes: self.node.map_or_else(every_node, |node| vec![node]),
            protocol: *protocol,
            to: self.to,
            sender: &self.sender,
            from_node: matches!(from, Place::Node(_)),
            from_outside: matches!(from, Place::Client { .. }),
            itself: self.itself(),
        }
    }

    /// The sender's name, if it is a pod.
    fn itself(&self) -> Option<&str> {
        match &self.flow.from {
            Place::Pod(name) => Some(name),
            Place::Client { .. } | Place::Node(_) => None,
        }
    }

    /// The verdict on a flow that sockets took, and that differs.
    fn followed(&self, theirs: &Answer, ours: &Answer, rule: &Rule) -> Verdict {
        if self.keeps_its_source(theirs, ours, rule) {
            return Verdict::Intended(KEPT_SOURCE.to_owned());
        }
        let is_cluster_ip = matches!(self.flow.to, Target::ClusterIp(_) | Target::OldClusterIp(_));
        let from_node = Rule {
            sender: &self.of_node,
            ..*rule
        };
        if is_cluster_ip && theirs.agrees_but_for_kept_sources(ours, &from_node) {
            return Verdict::Intended(ROUTED_SOURCE.to_owned());
        }
        let Some(followed) = &self.flow.followed else {
            return Verdict::Wrong(String::new());
        };
        let own = Rule {
            expect: &followed.tandem,
            sources: Sources::Any,
            ..*rule
        };
        if ours.fits(&own) {
            Verdict::Intended(followed.intended.clone())
        } else {
            Verdict::Wrong(format!("tandem was to give {}", followed.tandem))
        }
    }

    /// Whether Tandem differs only in this: the pod's socket translated, so servers see the pod, where kube-proxy shows
    /// them the node. It does so for all but ClusterIPs, and for a pod that reaches itself.
    fn keeps_its_source(&self, theirs: &Answer, ours: &Answer, rule: &Rule) -> bool {
        let Some(itself) = self.itself() else { return false };
        let is_cluster_ip = matches!(self.flow.to, Target::ClusterIp(_) | Target::OldClusterIp(_));
        (!is_cluster_ip || ours.by.contains_key(itself)) && theirs.agrees_but_for_kept_sources(ours, rule)
    }

    fn verdict(
        &self,
        theirs: &Answer,
        ours: &Answer,
        took: Option<Took>,
        stuck: &[BTreeMap<(String, Ip), String>; 2],
    ) -> Verdict {
        let (rule, our_rule) = (self.rule(&stuck[0]), self.rule(&stuck[1]));
        if !theirs.fits(&rule) {
            return Verdict::Broken(format!(
                "kube-proxy was to give {}{}",
                self.flow.expect,
                sources(self.flow.sources)
            ));
        }
        let same = theirs.agrees(ours, &our_rule);
        if self.flow.intended.is_none() && theirs.is_refused_sooner_by(ours, &our_rule) {
            return Verdict::Intended(REFUSED_SOONER.to_owned());
        }
        if self.flow.intended.is_none() && took == Some(Took::Sockets) && !same {
            return self.followed(theirs, ours, &our_rule);
        }
        let Some((key, expect)) = self.flow.intended.as_ref().zip(self.flow.tandem.as_ref()) else {
            return if same {
                Verdict::Same
            } else {
                Verdict::Wrong(String::new())
            };
        };
        if same {
            return Verdict::Wrong(format!("does not differ as `{key}` says"));
        }
        let own = Rule {
            expect,
            sources: Sources::Any,
            ..our_rule
        };
        if ours.fits(&own) {
            Verdict::Intended(key.clone())
        } else {
            Verdict::Wrong(format!("tandem was to give {expect}"))
        }
    }
}

fn sources(sources: Sources) -> &'static str {
    match sources {
        Sources::Kept => ", with the sender's own address",
        Sources::Masqueraded => ", without the sender's own address",
        Sources::Same | Sources::Any => "",
    }
}

fn is_wrong(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Wrong(_))
}

/// Sends all flows in one world, each lane on a thread of its own.
fn ask(asked: &[Asked], side: usize) -> Result<Vec<Answer>> {
    let mut lanes: Vec<Vec<usize>> = Vec::new();
    let mut named: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, one) in asked.iter().enumerate() {
        if let Some(lane) = named.get(one.lane.as_str()) {
            lanes[*lane].push(index);
            continue;
        }
        if !one.lane.is_empty() {
            named.insert(&one.lane, lanes.len());
        }
        lanes.push(vec![index]);
    }
    let of_lane = |lane: &[usize]| -> Result<Vec<(usize, Answer)>> {
        let one = |index: &usize| {
            let (from, question) = &asked[*index].questions[side];
            Ok((*index, from.run(|| question.ask())?))
        };
        lane.iter().map(one).collect()
    };
    let of_lane = &of_lane;
    let mut answers = thread::scope(|scope| {
        let threads: Vec<_> = lanes.iter().map(|lane| scope.spawn(move || of_lane(lane))).collect();
        let joined = threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a client panicked"))?);
        joined
            .collect::<Result<Vec<_>>>()
            .map(|lanes| lanes.into_iter().flatten().collect::<Vec<_>>())
    })?;
    answers.sort_by_key(|(index, _)| *index);
    Ok(answers.into_iter().map(|(_, answer)| answer).collect())
}
