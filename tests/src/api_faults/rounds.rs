//! Runs cases in rounds. A round is one step of the history, and one case for each Tandem.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};

use super::case::{Case, Encoding, Http, Kind, Lists, Phase, Way};
use super::fault::Fault;
use super::history::History;
use super::plan::Lengths;
use super::proxy::Upstream;
use super::worker::{Tables, Worker, remove_tables, tables, wait_watching};
use crate::cluster::{Cluster, TANDEM_TOKEN};
use crate::interrupt;
use crate::tandem::Tandem;

/// The Tandems, and what they watch.
pub(super) struct Rounds {
    workers: Vec<Worker>,
    /// A Tandem without a proxy. It starts anew in each round, without tables.
    fresh: Tandem,
    history: History,
    upstream: Upstream,
    cluster: Cluster,
}

/// What a case came to: nothing if all was right.
pub(super) type Verdict = (Case, Vec<String>);

impl Rounds {
    /// Starts a control plane with the objects of the history.
    pub(super) fn start() -> Result<Self> {
        let cluster = Cluster::start(1)?;
        let history = History::begin(cluster.api())?;
        let upstream = Upstream::start(cluster.inside(), &cluster.tandem_kubeconfig())?;
        let fresh = Tandem::on(cluster.node(1)?)
            .kubeconfig(&cluster.tandem_kubeconfig())
            .start()?;
        wait_watching(&fresh)?;
        Ok(Self {
            workers: Vec::new(),
            fresh,
            history,
            upstream,
            cluster,
        })
    }

    /// Makes sure that there are so many Tandems.
    fn want(&mut self, count: usize) -> Result<()> {
        let (node, kept) = (self.cluster.node(1)?, self.history.kept());
        while self.workers.len() < count {
            let worker = Worker::start(node, TANDEM_TOKEN, &self.upstream, &kept)?;
            self.workers.push(worker);
        }
        Ok(())
    }

    /// Runs these cases at once.
    pub(super) fn round(&mut self, cases: &[Case], patience: Duration) -> Result<Vec<Verdict>> {
        self.want(cases.len())?;
        ensure!(!interrupt::came(), "interrupted");
        self.each(cases, Worker::prepare)?;
        self.history.advance()?;
        let wanted = self.fresh_tables()?;
        let mut verdicts = self.each(cases, |worker, case| Ok((case, worker.judge(&wanted, patience)?)))?;
        // While the others went on, those that were right must have stayed so.
        let late = self.each(cases, |worker, _| Ok(worker.losses()))?;
        for ((_, complaints), late) in verdicts.iter_mut().zip(late) {
            complaints.extend(late);
        }
        Ok(verdicts)
    }

    /// The tables of a Tandem that starts without tables and without a proxy.
    fn fresh_tables(&mut self) -> Result<Tables> {
        let namespace = &self.cluster.node(1)?.namespace;
        self.fresh.kill()?;
        remove_tables(namespace)?;
        self.fresh.restart()?;
        wait_watching(&self.fresh)?;
        tables(namespace)
    }

    /// Does the same for each case, all at once.
    fn each<T: Send>(
        &mut self,
        cases: &[Case],
        work: impl Fn(&mut Worker, Case) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let work = &work;
        thread::scope(|scope| {
            let pairs = self.workers.iter_mut().zip(cases);
            let running =
                pairs.map(|(worker, case)| scope.spawn(move || work(worker, *case).with_context(|| format!("{case}"))));
            let running: Vec<_> = running.collect();
            let ended = running
                .into_iter()
                .map(|thread| thread.join().map_err(|_| anyhow!("a case panicked"))?);
            ended.collect()
        })
    }

    /// Runs the history once without a fault, in each encoding and way to list. Returns the lengths of all frames.
    pub(super) fn lengths(&mut self) -> Result<Lengths> {
        let ways: Vec<Way> = Way::all().filter(|way| way.http == Http::Two).collect();
        let quiet = |way: &Way| Case {
            way: *way,
            phase: Phase::Watch,
            kind: Kind::Service,
            fault: Fault::Nothing,
            at: 0,
        };
        let cases: Vec<Case> = ways.iter().map(quiet).collect();
        for (case, complaints) in self.round(&cases, Duration::from_secs(30))? {
            ensure!(
                complaints.is_empty(),
                "{case}, without a fault: {}",
                complaints.join("\n")
            );
        }
        let figures = self.workers.iter().map(|worker| worker.figures().frames);
        let ways = ways.iter().map(|way| (way.encoding, way.lists));
        let lengths: Lengths = ways.zip(figures).collect();
        for way in [(Encoding::Protobuf, Lists::Stream), (Encoding::Json, Lists::Pages)] {
            let phases = lengths.get(&way).map_or(0, BTreeMap::len);
            ensure!(
                phases == 2 * Kind::ALL.len(),
                "{way:?}: only {phases} of the phases have bytes"
            );
        }
        Ok(lengths)
    }

    /// Ends all Tandems.
    pub(super) fn end(self) -> Result<()> {
        self.workers.into_iter().try_for_each(Worker::end)?;
        self.fresh.finish()
    }
}
