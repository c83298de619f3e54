//! Endpoints that change all the time, and how long a node's kernel takes to follow.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::{Value, json};

use super::arrivals::{self, Arrivals};
use crate::cluster::{Api, path};
use crate::eventually;
use crate::kubelets::{Kubelets, PodView};
use crate::manifests::{Service, Slice};
use crate::traffic::Protocol;

/// The Service whose endpoints change.
pub(super) const NAME: &str = "moving";
/// Its port whose endpoints have the number of the last change as their port. Nobody asks there.
const NUMBER: &str = "number";
/// The time between two changes.
const EVERY: Duration = Duration::from_millis(50);
/// How long a node may take to follow a change.
const PATIENCE: Duration = Duration::from_mins(1);

/// It changes endpoints until it is dropped.
#[derive(Debug)]
pub(super) struct Changes {
    stop: Arc<AtomicBool>,
    /// The changes that the API server has answered.
    answered: Arc<Mutex<Vec<Answer>>>,
    /// The Pods that are endpoints by turns.
    pods: Vec<PodView>,
    pinned: Arc<Mutex<Pinned>>,
    thread: Option<JoinHandle<Result<()>>>,
}

/// Whether one Pod is to be the only endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pinned {
    /// The endpoints change.
    No,
    /// This Pod is to be the only one.
    Wanted(usize),
    /// It is.
    Done,
}

/// When the API server answered a change.
#[derive(Clone, Copy, Debug)]
struct Answer {
    at: Instant,
    family: usize,
    number: u16,
}

/// The gaps of the nodes from now on.
#[derive(Debug)]
pub(super) struct Gaps {
    since: Instant,
    nodes: Vec<(String, Arrivals)>,
}

impl Changes {
    /// Makes the Service, and begins.
    pub(super) fn start(kubelets: &Kubelets, pods: &[PodView]) -> Result<Self> {
        let api = kubelets.api().clone();
        let mut service = Service::new("default", NAME)
            .spec("ipFamilyPolicy", "RequireDualStack")
            .port("tcp", Protocol::Tcp, 80, 8080)
            .port(NUMBER, Protocol::Tcp, 81, 8080)
            .build();
        // No controller makes its slices.
        service["spec"]["selector"] = Value::Null;
        api.create(&service)?;
        for family in [0, 1] {
            let slice = Slice::new("default", &slice_name(family), NAME).family(family == 1);
            let slice = slice.port("tcp", Protocol::Tcp, 8080);
            let mut slice = slice.port(NUMBER, Protocol::Tcp, arrivals::FIRST).build();
            slice["endpoints"] = endpoints(pods, family)?;
            api.create(&slice)?;
        }
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let pinned = Arc::new(Mutex::new(Pinned::No));
        let changing = Changing {
            api,
            pods: pods.to_vec(),
            stop: Arc::clone(&stop),
            answered: Arc::clone(&answered),
            pinned: Arc::clone(&pinned),
        };
        let thread = thread::Builder::new()
            .name("changes".into())
            .spawn(move || changing.run())
            .context("start a thread")?;
        Ok(Self {
            stop,
            answered,
            pods: pods.to_vec(),
            pinned,
            thread: Some(thread),
        })
    }

    /// The longest time, on any node, from the API server's answer to a change until the kernel has that change.
    pub(super) fn longest(&self, gaps: &Gaps) -> Result<Duration> {
        let answered = self.answered.lock().map_err(|_| anyhow!("the changes panicked"))?;
        let answers: Vec<Answer> = answered
            .iter()
            .copied()
            .filter(|answer| answer.at >= gaps.since)
            .collect();
        drop(answered);
        let last = [0, 1].map(|family| {
            let numbers = answers.iter().filter(|answer| answer.family == family);
            numbers.map(|answer| answer.number).max()
        });
        ensure!(last.iter().all(Option::is_some), "nothing changed");
        let mut longest = Duration::ZERO;
        for (name, node) in &gaps.nodes {
            let arrivals = node.until(last, PATIENCE).with_context(|| name.clone())?;
            for Answer { at, family, number } in &answers {
                let took = arrivals::took(*number, *family, *at, &arrivals);
                longest =
                    longest.max(took.with_context(|| format!("{name} had no change {number} after {PATIENCE:?}"))?);
            }
        }
        Ok(longest)
    }

    /// Makes this Pod the only endpoint, and returns its name. The endpoints change again after [`Self::unpin`].
    pub(super) fn pin(&self, turn: usize) -> Result<&str> {
        let number = turn % self.pods.len();
        self.set(Pinned::Wanted(number))?;
        let done = eventually(PATIENCE, || (*self.pinned.lock().ok()? == Pinned::Done).then_some(()));
        done.context("the endpoints change no more")?;
        Ok(&self.pods[number].name)
    }

    /// Lets the endpoints change again.
    pub(super) fn unpin(&self) -> Result<()> {
        self.set(Pinned::No)
    }

    fn set(&self, pinned: Pinned) -> Result<()> {
        *self.pinned.lock().map_err(|_| anyhow!("the changes panicked"))? = pinned;
        Ok(())
    }

    /// Ends it, and says whether a change was refused.
    pub(super) fn stop(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("it has ended")?;
        thread.join().map_err(|_| anyhow!("the changes panicked"))?
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Gaps {
    /// Begins to note when the nodes' rules change.
    pub(super) fn watch(kubelets: &Kubelets, pods: &[PodView]) -> Result<Self> {
        let addresses: Vec<IpAddr> = pods.iter().flat_map(|pod| pod.addresses.iter().copied()).collect();
        let nodes = kubelets.machines().iter().map(|machine| {
            let arrivals = Arrivals::watch(&machine.node().namespace, &addresses)?;
            Ok((machine.name().to_owned(), arrivals))
        });
        Ok(Self {
            nodes: nodes.collect::<Result<Vec<_>>>()?,
            since: Instant::now(),
        })
    }
}

/// What the thread needs that makes the changes.
struct Changing {
    api: Api,
    pods: Vec<PodView>,
    stop: Arc<AtomicBool>,
    answered: Arc<Mutex<Vec<Answer>>>,
    pinned: Arc<Mutex<Pinned>>,
}

impl Changing {
    /// Changes both families by turns until it is stopped. All Pods serve all the time, so no connection may be lost.
    fn run(&self) -> Result<()> {
        let mut numbers = arrivals::FIRST..u16::MAX;
        for turn in (0..self.pods.len()).cycle() {
            let pinned = *self.pinned.lock().map_err(|_| anyhow!("the test panicked"))?;
            let some: Vec<PodView> = match pinned {
                Pinned::No => self
                    .pods
                    .iter()
                    .cycle()
                    .skip(turn)
                    .take(self.pods.len() - 1)
                    .cloned()
                    .collect(),
                Pinned::Wanted(number) => vec![self.pods[number].clone()],
                Pinned::Done => Vec::new(),
            };
            for family in [0, 1] {
                if self.stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
                if !some.is_empty() {
                    self.write(family, &some, numbers.next().context("there were too many changes")?)?;
                }
                thread::sleep(EVERY);
            }
            let mut now = self.pinned.lock().map_err(|_| anyhow!("the test panicked"))?;
            if *now == pinned && pinned != Pinned::No {
                *now = Pinned::Done;
            }
        }
        Ok(())
    }

    fn write(&self, family: usize, pods: &[PodView], number: u16) -> Result<()> {
        let port = |name: &str, port: u16| json!({ "name": name, "protocol": "TCP", "port": port });
        let change = json!({
            "endpoints": endpoints(pods, family)?,
            "ports": [port("tcp", 8080), port(NUMBER, number)],
        });
        self.api
            .patch(&path("EndpointSlice", "default", &slice_name(family))?, &change)?;
        let mut answered = self.answered.lock().map_err(|_| anyhow!("the test panicked"))?;
        answered.push(Answer {
            at: Instant::now(),
            family,
            number,
        });
        Ok(())
    }
}

fn slice_name(family: usize) -> String {
    format!("{NAME}-{}", ["v4", "v6"][family])
}

fn endpoints(pods: &[PodView], family: usize) -> Result<Value> {
    let one = |pod: &PodView| -> Result<Value> {
        let address: &IpAddr = pod.addresses.get(family).context("a Pod without both families")?;
        Ok(json!({ "addresses": [address], "nodeName": pod.node, "conditions": { "ready": true } }))
    };
    pods.iter().map(one).collect()
}
