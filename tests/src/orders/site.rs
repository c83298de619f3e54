//! One node on which orders are run, with a client and two endpoints.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::{Value, json};

use super::order::{Mode, Order, Pace, Step};
use crate::cluster::{Cluster, Program, path};
use crate::eventually;
use crate::manifests::{self, Service, Slice};
use crate::netns::run_command;
use crate::nft;
use crate::node::{Node, Pod};
use crate::stage::Ip;
use crate::tandem::{self, Tandem};
use crate::traffic::{Outcome, Protocol, Request, Server, Tally};

/// The namespace of all Services.
pub(super) const NAMESPACE: &str = "orders";
const TARGET: u16 = 8080;
/// How long it may take until whoever is left is known to be alone, and has programmed everything.
const SETTLES: Duration = Duration::from_secs(30);
/// How long a program may take to follow a change.
const FOLLOWS: Duration = Duration::from_secs(15);
/// The time between two steps in the middle of changes. A kube-proxy writes its rules within it.
const SOON: Duration = Duration::from_secs(3);

/// A node, a client on it, and two endpoints.
#[derive(Debug)]
pub(super) struct Site<'a> {
    cluster: &'a Cluster,
    number: u8,
    node: &'a Node,
    client: Pod,
    endpoints: [Pod; 2],
    _servers: Vec<Server>,
}

/// A Service with a slice of each family.
#[derive(Debug)]
struct Target {
    name: String,
    addresses: [IpAddr; 2],
}

/// What runs.
#[derive(Debug, Default)]
struct Programs {
    tandem: Option<Tandem>,
    kube_proxy: Option<Program>,
}

impl<'a> Site<'a> {
    pub(super) fn new(cluster: &'a Cluster, number: u8) -> Result<Self> {
        let node = cluster.node(number)?;
        let client = node.add_pod("client", 9)?;
        let endpoints = [node.add_pod("a", 10)?, node.add_pod("b", 11)?];
        let mut servers = Vec::new();
        for pod in &endpoints {
            for address in pod.addresses() {
                let address = SocketAddr::new(address, TARGET);
                servers.push(Server::start(&pod.namespace, &pod.name, Protocol::Tcp, address)?);
            }
        }
        Ok(Self {
            cluster,
            number,
            node,
            client,
            endpoints,
            _servers: servers,
        })
    }

    /// Runs one order. Returns what became of requests to a Service that does not change.
    pub(super) fn run(&self, index: usize, order: &Order) -> Result<Tally> {
        let name = |what: &str| format!("{what}-{}-{index}", self.number);
        let steady = self.create(&name("steady"), &[0])?;
        let moves = self.create(&name("moves"), &[0])?;
        let goes = self.create(&name("goes"), &[1])?;
        let busy = self.create(&name("busy"), &[0, 1])?;
        let mut programs = Programs::default();
        let over = AtomicBool::new(false);
        let tally = thread::scope(|scope| {
            let changing = (order.pace == Pace::Changes).then(|| scope.spawn(|| self.keep_changing(&busy, &over)));
            let result = self.steps(order, &mut programs, &steady, &moves);
            over.store(true, Ordering::Relaxed);
            if let Some(changing) = changing {
                changing.join().map_err(|_| anyhow!("the changes panicked"))??;
            }
            let (requests, settled) = result?;
            let judged = settled.and_then(|()| self.judge(index, order, &mut programs, &moves, &goes));
            let mut tally = Tally::default();
            for requests in requests {
                tally.merge(requests.stop()?);
            }
            judged?;
            Ok::<_, anyhow::Error>(tally)
        })?;
        for target in [&steady, &moves, &busy] {
            self.delete(target)?;
        }
        self.delete_named(&name("made"))?;
        if let Some(tandem) = programs.tandem.take() {
            tandem.finish()?;
        }
        Ok(tally)
    }

    /// Takes the steps. Requests to the Service that does not change begin when the first program has programmed it.
    fn steps(
        &self,
        order: &Order,
        programs: &mut Programs,
        steady: &Target,
        moves: &Target,
    ) -> Result<(Vec<crate::traffic::Repeat>, Result<()>)> {
        let mut requests = Vec::new();
        for (at, step) in order.steps.iter().enumerate() {
            self.step(*step, order.mode, programs)
                .with_context(|| format!("step {}", at + 1))?;
            if at == 0 {
                self.answered_by(steady, &["a"]).context("the first program")?;
                for address in steady.addresses {
                    let request = Request::tcp((address, 80).into()).interval(Duration::from_millis(5));
                    requests.push(request.repeat(&self.client.namespace)?);
                }
            }
            let settled = match order.pace {
                Pace::Rest => self
                    .settle(order, at + 1, programs)
                    .and_then(|()| self.works_beside(order, at + 1, moves)),
                Pace::Changes => {
                    thread::sleep(SOON);
                    Ok(())
                }
            };
            if settled.is_err() {
                return Ok((requests, settled.with_context(|| format!("after step {}", at + 1))));
            }
        }
        let settled = self.settle(order, order.steps.len(), programs).context("at the end");
        Ok((requests, settled))
    }

    fn step(&self, step: Step, mode: Mode, programs: &mut Programs) -> Result<()> {
        match step {
            Step::Tandem => match &mut programs.tandem {
                Some(tandem) => tandem.restart(),
                none => {
                    let plan = Tandem::on(self.node).kubeconfig(&self.cluster.tandem_kubeconfig());
                    let mut tandem = plan.start()?;
                    // While both run, one of them has the address for metrics, and the other one tries again.
                    tandem.expect_error("metricsBindAddress: cannot listen");
                    *none = Some(tandem);
                    Ok(())
                }
            },
            Step::TandemEnds => programs.tandem.as_mut().context("no tandem")?.terminate().map(drop),
            Step::TandemDies => programs.tandem.as_mut().context("no tandem")?.kill(),
            Step::KubeProxy => {
                let mut configuration = manifests::configuration();
                let section = match mode {
                    Mode::Nftables => "nftables",
                    Mode::Iptables => "iptables",
                };
                configuration["mode"] = json!(section);
                configuration[section] = json!({ "minSyncPeriod": "100ms" });
                programs.kube_proxy = Some(self.cluster.start_kube_proxy_with(self.number, &configuration)?);
                Ok(())
            }
            Step::KubeProxyDies => {
                programs.kube_proxy = None;
                Ok(())
            }
        }
    }

    /// Waits until whoever runs after this number of steps has noticed what there is, and checks that Tandem says it.
    fn settle(&self, order: &Order, steps: usize, programs: &mut Programs) -> Result<()> {
        if let Some(kube_proxy) = &mut programs.kube_proxy {
            kube_proxy.check()?;
        }
        let (tandem, kube_proxy) = order.running(steps);
        if !tandem {
            // kube-proxy says nothing of what it has programmed. What it must answer is waited for.
            return Ok(());
        }
        let tandem = programs.tandem.as_ref().context("no tandem")?;
        let wanted = if kube_proxy {
            "kube-proxy: one runs on this node too"
        } else {
            "serves this node"
        };
        let (mut said, mut problems) = (String::new(), String::new());
        let settled = eventually(SETTLES, || {
            thread::sleep(Duration::from_millis(50));
            said = tandem.ready().unwrap_or_else(|error| format!("{error:#}"));
            problems = tandem.status().ok()?["problems"].to_string();
            // A kube-proxy that ended early has made no chains.
            let named = kube_proxy || nft::has_kube_services(&self.node.namespace);
            (said.contains(wanted) && problems.contains("\"kube-proxy\"") == named).then_some(())
        });
        ensure!(
            settled.is_some(),
            "tandem ready says {said:?}, and not {wanted:?}; the status has the problems {problems}"
        );
        Ok(())
    }

    /// While both run, a change is followed, and kube-proxy's table is not taken away.
    fn works_beside(&self, order: &Order, steps: usize, moves: &Target) -> Result<()> {
        if order.running(steps) != (true, true) {
            return Ok(());
        }
        let table = || self.node.namespace.exec(&["nft", "-a", "list", "tables"]);
        let (before, at) = (table()?, steps % 2);
        self.set_endpoints(moves, &[at])?;
        self.answered_by(moves, &[["a", "b"][at]])
            .context("a change while both run")?;
        let after = table()?;
        ensure!(after == before, "the tables changed while both run:\n{before}\n{after}");
        Ok(())
    }

    /// Changes something at the API server. Whoever is left must follow, and nobody else's rules may decide.
    fn judge(&self, index: usize, order: &Order, programs: &mut Programs, moves: &Target, goes: &Target) -> Result<()> {
        self.set_endpoints(moves, &[0])?;
        self.answered_by(moves, &["a"])
            .context("the endpoint before the change")?;
        self.set_endpoints(moves, &[1])?;
        self.delete(goes)?;
        let made = self.create(&format!("made-{}-{index}", self.number), &[0])?;
        self.answered_by(moves, &["b"]).context("the endpoint that changed")?;
        self.answered_by(&made, &["a"]).context("the Service that was made")?;
        if !order.may_leave_rules() {
            for address in goes.addresses {
                let silent = || matches!(self.ask(address), Ok(outcome) if outcome.answer().is_none());
                let gone = eventually(FOLLOWS, || (0..5).all(|_| silent()).then_some(()));
                ensure!(gone.is_some(), "{address} of a Service that was deleted still answers");
            }
        }
        let listing = self.node.namespace.exec(&["nft", "list", "tables"])?;
        let (_, kube_proxy) = order.running(order.steps.len());
        if order.mode == Mode::Nftables {
            ensure!(
                listing.contains("kube-proxy") == kube_proxy,
                "the tables at the end:\n{listing}"
            );
        }
        if let Some(kube_proxy) = &mut programs.kube_proxy {
            kube_proxy.check()?;
        }
        Ok(())
    }

    /// Waits until ten requests in a row, in each family, are answered by these.
    fn answered_by(&self, target: &Target, names: &[&str]) -> Result<()> {
        for address in target.addresses {
            let mut last = String::new();
            let right = eventually(FOLLOWS, || {
                for _ in 0..10 {
                    let outcome = self.ask(address).map_err(|error| last = format!("{error:#}")).ok()?;
                    let fine = outcome.answered_by().is_some_and(|name| names.contains(&name));
                    if !fine {
                        last = format!("{outcome:?}");
                        return None;
                    }
                }
                Some(())
            });
            ensure!(
                right.is_some(),
                "{} {address}: not answered by {names:?}: {last}",
                target.name
            );
        }
        Ok(())
    }

    fn ask(&self, address: IpAddr) -> Result<Outcome> {
        let request = Request::tcp((address, 80).into()).timeout(Duration::from_millis(500));
        request.send(&self.client.namespace)
    }

    fn keep_changing(&self, target: &Target, over: &AtomicBool) -> Result<()> {
        for turn in [&[0][..], &[0, 1], &[1], &[0, 1]].into_iter().cycle() {
            if over.load(Ordering::Relaxed) {
                break;
            }
            self.set_endpoints(target, turn)?;
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn create(&self, name: &str, endpoints: &[usize]) -> Result<Target> {
        let service = Service::new(NAMESPACE, name)
            .spec("ipFamilyPolicy", "RequireDualStack")
            .port("http", Protocol::Tcp, 80, TARGET);
        let mut service = service.build();
        // No controller makes its slices.
        service["spec"]["selector"] = Value::Null;
        let created = self.cluster.api().create(&service)?;
        let address = |at: usize| -> Result<IpAddr> {
            let text = created["spec"]["clusterIPs"][at].as_str();
            Ok(text.context("a Service without a ClusterIP")?.parse()?)
        };
        let target = Target {
            name: name.to_owned(),
            addresses: [address(0)?, address(1)?],
        };
        for family in Ip::BOTH {
            let slice = Slice::new(NAMESPACE, &slice_name(name, family), name).family(family == Ip::V6);
            let mut slice = slice.port("http", Protocol::Tcp, TARGET).build();
            slice["endpoints"] = self.endpoints(endpoints, family);
            self.cluster.api().create(&slice)?;
        }
        Ok(target)
    }

    fn set_endpoints(&self, target: &Target, endpoints: &[usize]) -> Result<()> {
        for family in Ip::BOTH {
            let slice = path("EndpointSlice", NAMESPACE, &slice_name(&target.name, family))?;
            let change = json!({ "endpoints": self.endpoints(endpoints, family) });
            self.cluster.api().patch(&slice, &change)?;
        }
        Ok(())
    }

    fn endpoints(&self, endpoints: &[usize], family: Ip) -> Value {
        let ready = json!({ "ready": true, "serving": true, "terminating": false });
        let endpoint = |at: &usize| {
            let address = family.of(self.endpoints[*at].addresses());
            json!({ "addresses": [address], "nodeName": self.node.name, "conditions": ready })
        };
        endpoints.iter().map(endpoint).collect()
    }

    fn delete(&self, target: &Target) -> Result<()> {
        self.delete_named(&target.name)
    }

    fn delete_named(&self, name: &str) -> Result<()> {
        let api = self.cluster.api();
        api.delete(&path("Service", NAMESPACE, name)?, &json!({}))?;
        for family in Ip::BOTH {
            // The controller that follows Services may have been quicker.
            let _ = api.delete(
                &path("EndpointSlice", NAMESPACE, &slice_name(name, family))?,
                &json!({}),
            );
        }
        Ok(())
    }

    /// Removes everything that the programs left on the node.
    pub(super) fn clean(&self) -> Result<()> {
        let namespace = &self.node.namespace;
        let mut command = std::process::Command::new(tandem::binary()?);
        command.args(["run", "--cleanup", "--socket", "/nowhere"]);
        namespace.run(|| run_command(&mut command))??;
        namespace.exec(&["nft", "flush", "ruleset"]).map(drop)
    }
}

fn slice_name(service: &str, family: Ip) -> String {
    format!("{service}-{}", family.of(["v4", "v6"]))
}
