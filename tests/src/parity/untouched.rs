//! A Service in Tandem's world that no scenario touches. Its connections and requests must notice nothing.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::process::setpriority_process;

use super::responder::Responder;
use super::side::FIRST;
use super::twins::{NODES, Twins, make_fixed};
use crate::fleet::{TARGET, cluster_ips};
use crate::node::Pod;
use crate::traffic::{Protocol, Request, Server, Stream};

const NAME: &str = "calm";
/// The loops and servers use only processor time that the measurements leave, not the other way round.
const NICE: i32 = 10;
/// The port of a server that sends everything back.
const ECHO: u16 = 7000;
/// How long a request may take. The loops get little time on a busy machine.
const WAIT: Duration = Duration::from_secs(4);
/// The same for a datagram, which is not sent again.
const WAIT_UDP: Duration = Duration::from_secs(2);
/// A lost first packet is sent again after a second. If a request took this long, it may have lost one.
const SLOW: Duration = Duration::from_millis(900);
/// The time between two datagrams. A port may be used again only after connection tracking has forgotten it.
const REST_UDP: Duration = Duration::from_millis(5);
/// The client's number among the pods of node 3.
const CLIENT: u8 = FIRST - 3;

/// The Service and its servers.
#[derive(Debug)]
pub(super) struct Untouched {
    addresses: [IpAddr; 2],
    /// Only this Service's requests come from there. So if a packet is sent again there, it was lost on the way to this
    /// Service.
    client: Pod,
    running: Option<Running>,
    counts: Arc<Counts>,
    _servers: Vec<Responder>,
    _echoes: Vec<Server>,
    _pods: Vec<Pod>,
}

/// What was sent, and what was lost.
#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    failed: AtomicU64,
    slowest_us: AtomicU64,
    failures: Mutex<Vec<String>>,
}

#[derive(Debug)]
struct Running {
    stop: Arc<AtomicBool>,
    loops: Vec<JoinHandle<Result<()>>>,
    streams: Vec<Stream>,
}

impl Untouched {
    /// Makes the Service with a pod on each node of Tandem's world.
    pub(super) fn new(twins: &Twins) -> Result<Self> {
        let (mut pods, mut servers, mut echoes) = (Vec::new(), Vec::new(), Vec::new());
        for number in 1..=NODES {
            let name = format!("{NAME}-{number}");
            let pod = twins.ours().add_pod(number, &name, FIRST - 1)?;
            let addresses = pod.addresses().map(|address| SocketAddr::new(address, ECHO));
            echoes.extend(Server::start_all(&pod.namespace, &name, &[Protocol::Tcp], &addresses)?);
            let server = Responder::start_nice(&pod.namespace, pod.addresses(), NICE)?;
            server.rename(&name);
            servers.push(server);
            pods.push(pod);
        }
        let endpoints = pods
            .iter()
            .map(|pod| pod.addresses().map(|address| (address, pod.node.as_str())));
        let endpoints: Vec<_> = endpoints.collect();
        let service = make_fixed(
            twins.api(),
            NAME,
            &[
                (Protocol::Tcp, 80, TARGET),
                (Protocol::Udp, 80, TARGET),
                (Protocol::Tcp, 81, ECHO),
            ],
            &endpoints,
        )?;
        Ok(Self {
            addresses: cluster_ips(&service)?,
            client: twins.ours().add_pod(3, "calm-client", CLIENT)?,
            running: None,
            counts: Arc::default(),
            _servers: servers,
            _echoes: echoes,
            _pods: pods,
        })
    }

    /// Starts a stream and two loops of requests, TCP and UDP, in each family.
    pub(super) fn start(&mut self, twins: &Twins) -> Result<()> {
        let stop = Arc::new(AtomicBool::new(false));
        let (mut loops, mut streams) = (Vec::new(), Vec::new());
        for address in self.addresses {
            let busy = Request::tcp((address, 81).into()).timeout(WAIT);
            streams.push(
                busy.interval(Duration::from_millis(2))
                    .stream(&twins.ours().shell(1)?.namespace)?,
            );
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                loops.push(self.repeat(protocol, (address, 80).into(), &stop)?);
            }
        }
        self.running = Some(Running { stop, loops, streams });
        Ok(())
    }

    /// Sends requests one after the other. If a TCP request was answered only because a packet was sent again, it
    /// counts as lost.
    fn repeat(&self, protocol: Protocol, to: SocketAddr, stop: &Arc<AtomicBool>) -> Result<JoinHandle<Result<()>>> {
        let (counts, stop) = (Arc::clone(&self.counts), Arc::clone(stop));
        let (wait, rest) = if protocol == Protocol::Udp {
            (WAIT_UDP, REST_UDP)
        } else {
            (WAIT, Duration::ZERO)
        };
        let request = Request::new(protocol, to).timeout(wait);
        let client = self.client.namespace.entrance();
        client.thread("untouched", move || {
            let _ = setpriority_process(None, NICE); // of this thread
            while !stop.load(Ordering::Relaxed) {
                let before = sent_again();
                let outcome = request.send_here();
                counts.sent.fetch_add(1, Ordering::Relaxed);
                let fail = |how| counts.fail(&format!("a request to {to} over {protocol}: {outcome}{how}"));
                match outcome.answer() {
                    Some(answer) => {
                        counts.slowest_us.fetch_max(micros(answer.elapsed), Ordering::Relaxed);
                        if protocol == Protocol::Tcp && was_lost(answer.elapsed, before, sent_again) {
                            fail(", and only after a packet was sent again");
                        }
                    }
                    None => fail(""),
                }
                sleep(rest);
            }
        })
    }

    /// What was lost since the last call, for a message that says when.
    pub(super) fn news(&self) -> Vec<String> {
        std::mem::take(&mut *self.counts.failures.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends streams and loops, before the programs do.
    pub(super) fn stop(&mut self) -> Result<()> {
        let mut running = self.running.take().context("the untouched Service is not in use")?;
        running.stop.store(true, Ordering::Relaxed);
        for handle in std::mem::take(&mut running.loops) {
            handle.join().map_err(|_| anyhow!("a loop of requests panicked"))??;
        }
        for stream in std::mem::take(&mut running.streams) {
            let report = stream.stop()?;
            ensure!(report.sent > 0, "a stream sent nothing");
            self.counts.sent.fetch_add(report.sent, Ordering::Relaxed);
            if !report.is_whole() {
                self.counts.fail(&format!("a stream: {report}"));
            }
        }
        Ok(())
    }

    /// The number of requests and messages that were sent, the number of those that were lost, and the longest time of
    /// a request.
    pub(super) fn counts(&self) -> (u64, u64, Duration) {
        let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let Counts {
            sent,
            failed,
            slowest_us,
            ..
        } = &*self.counts;
        (count(sent), count(failed), Duration::from_micros(count(slowest_us)))
    }
}

/// How often TCP in this namespace has sent a packet again, if the kernel says it.
fn sent_again() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/net/snmp").ok()?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let mut fields = names.split(' ').zip(numbers.split(' '));
    fields.find(|(name, _)| *name == "RetransSegs")?.1.parse().ok()
}

/// Whether a packet of an answered request was lost. A slow answer alone may only have waited for a processor.
fn was_lost(took: Duration, before: Option<u64>, after: impl Fn() -> Option<u64>) -> bool {
    took >= SLOW && (before.is_none() || before != after())
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Counts {
    fn fail(&self, what: &str) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(what.to_owned());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_lost_a_packet_only_where_it_was_slow_and_something_was_sent_again() {
        let now = || Some(3);
        assert!(sent_again().is_some());
        assert!(was_lost(SLOW, Some(2), now) && was_lost(SLOW, None, now));
        assert!(!was_lost(SLOW, Some(3), now) && !was_lost(SLOW / 2, Some(2), now));
    }
}
