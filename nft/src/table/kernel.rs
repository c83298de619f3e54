//! One family's table in the kernel. Owned by the engine; the only door through which rows reach the kernel. A change
//! costs one transaction with its rows, one system call to send it and one to receive the answer; nothing is listed on
//! that way.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use tandem_core::family::Family;
use tandem_core::plane::{
    self, ApplyError, DataPlane, Delta, IdleError, Ownership, ReadError, Reason, Rejection, RuleSettings, WhyShared,
};
use tandem_core::row::{Pick, Row};

use crate::elements::decode::Found;
use crate::elements::element;
use crate::elements::sets::Set;
use crate::family::numbers;
use crate::picks::demand::{self, Demand, Number, Ways};
use crate::rules;
use crate::table::adopt::{self, OpenError};
use crate::table::change;
use crate::table::explain;
use crate::table::listing::{self, words};
use crate::table::parts;
use crate::table::rivals::{self, Seen};
use crate::wire::Batch;
use crate::wire::socket::{Buffers, Outcome, Socket};

/// The table `ip tandem` or `ip6 tandem`.
#[derive(Debug)]
pub struct Kernel<F: Family> {
    pub(crate) socket: Socket,
    pub(crate) batch: Batch,
    pub(crate) demand: Demand,
    pub(crate) settings: RuleSettings,
    pub(crate) ownership: Ownership,
    pub(crate) seen: Seen,
    /// For each row of the transaction in the order of writing, the message that holds it.
    pub(crate) messages: Vec<u32>,
    /// Rows of the transaction for whose way to pick an endpoint no number was left.
    unplaced: Vec<Row<F>>,
    /// How long the last change took.
    took: Duration,
    family: PhantomData<F>,
}

/// Why unused chains were not removed. Nothing depends on it: they do no harm.
#[derive(Debug, thiserror::Error)]
#[error("removing unused chains of table {table}: {reason}")]
pub struct TidyError {
    table: &'static str,
    reason: String,
}

impl<F: Family> Kernel<F> {
    /// Opens the table: makes it, or takes over the one that is there with its rows, without a moment without rules.
    pub fn open(settings: RuleSettings) -> Result<Self, OpenError> {
        Self::open_with(settings, Buffers::LARGE)
    }

    /// The same, over a socket that holds no more than this.
    pub fn open_with(settings: RuleSettings, buffers: Buffers) -> Result<Self, OpenError> {
        let mut kernel = Self {
            socket: Socket::with(buffers).map_err(OpenError::Socket)?,
            batch: Batch::default(),
            demand: Demand::default(),
            settings,
            ownership: Ownership::Shared(WhyShared::MadeWithoutOwner),
            seen: Seen::default(),
            messages: Vec::new(),
            unplaced: Vec::new(),
            took: Duration::ZERO,
            family: PhantomData,
        };
        kernel.repair()?;
        Ok(kernel)
    }

    /// Puts the table right after another program deleted or changed it, as [`Self::open`] does, over the same socket.
    /// Rows that are gone stay gone: read them back and apply the difference.
    pub fn repair(&mut self) -> Result<(), OpenError> {
        adopt::adopt(self)
    }

    /// Removes the chains that no service uses any more; returns how many. To be called when there is nothing else to
    /// do: a chain that was used once is likely to be used again.
    pub fn tidy(&mut self) -> Result<usize, TidyError> {
        let mut unused = self.demand.unused();
        // On kernels before 6.2, an element that was just removed may hold its chain for a moment.
        while !unused.is_empty() {
            let first = self.begin();
            for number in unused.iter().filter_map(|(_, number)| *number) {
                element::remove_way(&mut self.batch, number);
            }
            let mut deletions = Vec::with_capacity(unused.len());
            for (chain, _) in &unused {
                rules::encode_flush(&mut self.batch, &chain.to_string());
                deletions.push(self.batch.next_sequence());
                rules::encode_delete(&mut self.batch, &chain.to_string());
            }
            match self.commit(first) {
                Outcome::Done => break,
                Outcome::Refused(refusals) if refusals.iter().all(|refusal| refusal.errno == libc::EBUSY) => {
                    let before = unused.len();
                    let mut deletions = deletions.into_iter();
                    unused.retain(|_| {
                        let deletion = deletions.next();
                        refusals.iter().all(|refusal| Some(refusal.sequence) != deletion)
                    });
                    if unused.len() == before {
                        return Err(Self::untidy(explain::reason(refusals.first())));
                    }
                }
                Outcome::Refused(refusals) => {
                    return Err(Self::untidy(explain::reason(refusals.first())));
                }
                Outcome::NotSent(error) => return Err(Self::untidy(error.to_string())),
                Outcome::Lost(reason) => {
                    let _ = self.count_chains();
                    return Err(Self::untidy(reason));
                }
            }
        }
        for (chain, _) in &unused {
            self.demand.removed(*chain);
        }
        Ok(unused.len())
    }

    fn untidy(reason: String) -> TidyError {
        TidyError {
            table: numbers(F::FAMILY).name,
            reason,
        }
    }

    /// Starts a transaction; returns the number of its first message.
    pub(crate) fn begin(&mut self) -> u32 {
        let first = self.socket.sequence();
        self.batch.begin(numbers(F::FAMILY).nfproto, first);
        self.demand.begin();
        first
    }

    /// Sends the transaction that began with this message.
    pub(crate) fn commit(&mut self, first: u32) -> Outcome {
        self.batch.end();
        let outcome = self
            .socket
            .transact(self.batch.bytes(), first, self.batch.last_sequence());
        if matches!(outcome, Outcome::Done) {
            rivals::carried_out();
        }
        outcome
    }

    /// Counts anew which chains are there and used.
    pub(crate) fn count_chains(&mut self) -> Result<(), String> {
        let ways = self.ways()?;
        let services =
            listing::elements::<F>(&mut self.socket, Set::Services, &ways).map_err(|error| words(F::FAMILY, &error))?;
        self.count_chains_with(&services.rows)
    }

    /// What the numbers that services hold lead to.
    fn ways(&mut self) -> Result<Ways, String> {
        let picks = listing::picks(&mut self.socket, F::FAMILY).map_err(|error| words(F::FAMILY, &error))?;
        Ok(demand::ways(&picks))
    }

    fn count_chains_with(&mut self, rows: &[Row<F>]) -> Result<(), String> {
        let unread = |error| words(F::FAMILY, &error);
        let chains = listing::chains(&mut self.socket, F::FAMILY).map_err(unread)?;
        let picks = listing::picks(&mut self.socket, F::FAMILY).map_err(unread)?;
        let numbers: HashMap<&str, Number> = picks.iter().map(|(number, name)| (name.as_str(), *number)).collect();
        let chains = chains
            .keys()
            .filter_map(|name| Some((name.parse().ok()?, numbers.get(name.as_str()).copied())));
        self.demand.reset(chains, rows);
        Ok(())
    }

    /// Reads everything, and removes what is no row of ours.
    fn read_all(&mut self) -> Result<Vec<Row<F>>, String> {
        let ways = self.ways()?;
        let mut all = Vec::new();
        for set in Set::ROWS {
            let Found { mut rows, foreign } =
                listing::elements::<F>(&mut self.socket, set, &ways).map_err(|error| words(F::FAMILY, &error))?;
            if !foreign.is_empty() {
                self.remove_foreign(set, &foreign)?;
            }
            all.append(&mut rows);
        }
        self.count_chains_with(&all)?;
        Ok(all)
    }

    fn remove_foreign(&mut self, set: Set, foreign: &[element::Foreign]) -> Result<(), String> {
        let table = numbers(F::FAMILY).name;
        tracing::warn!(
            table,
            set = set.name(),
            elements = foreign.len(),
            first = ?foreign.first(),
            "removing elements that no tandem wrote"
        );
        let first = self.begin();
        for foreign in foreign {
            element::remove_foreign(&mut self.batch, foreign);
        }
        match self.commit(first) {
            Outcome::Done => Ok(()),
            Outcome::Refused(refusals) => Err(explain::reason(refusals.first())),
            Outcome::NotSent(error) => Err(error.to_string()),
            Outcome::Lost(reason) => Err(reason),
        }
        .map_err(|reason| format!("removing foreign elements of {} in table {table}: {reason}", set.name()))
    }

    /// Writes a change as one transaction; returns the number of its first message. `alone`: one message for each row.
    pub(crate) fn encode(&mut self, delta: &Delta<F>, alone: bool) -> u32 {
        let first = self.begin();
        let (messages, unplaced) = (&mut self.messages, &mut self.unplaced);
        change::write(&mut self.batch, &mut self.demand, delta, alone, messages, unplaced);
        first
    }
}

impl<F: Family> DataPlane<F> for Kernel<F> {
    fn read(&mut self) -> Result<Vec<Row<F>>, ReadError> {
        self.read_all().map_err(|error| ReadError::from(Box::from(error)))
    }

    fn ways(&self) -> Vec<Pick> {
        self.demand.ways().collect()
    }

    fn ownership(&self) -> Ownership {
        self.ownership.clone()
    }

    fn idle(&mut self) -> Result<(), IdleError> {
        match self.tidy() {
            Ok(_) => Ok(()),
            Err(error) => Err(IdleError::from(Box::from(error))),
        }
    }

    fn keep_first(&mut self) -> Result<bool, plane::OpenError> {
        Kernel::keep_first(self).map_err(|error| plane::OpenError::from(Box::from(error)))
    }

    fn took(&self) -> Duration {
        self.took
    }

    fn apply(&mut self, delta: &Delta<F>) -> Result<(), ApplyError<F>> {
        let started = Instant::now();
        let result = self.apply_whole(delta);
        self.took = started.elapsed();
        result
    }
}

impl<F: Family> Kernel<F> {
    fn apply_whole(&mut self, delta: &Delta<F>) -> Result<(), ApplyError<F>> {
        if delta.is_empty() {
            return Ok(());
        }
        let mut first = self.encode(delta, false);
        if !self.unplaced.is_empty() && self.tidy().is_ok() {
            // Chains that nothing uses any more have given their numbers back.
            first = self.encode(delta, false);
        }
        if !self.unplaced.is_empty() {
            let reject = |row| Rejection {
                row,
                reason: Reason::NoWayLeft,
            };
            return Err(ApplyError::UsedUp(self.unplaced.drain(..).map(reject).collect()));
        }
        if self.batch.bytes().len() > self.socket.limit() && delta.len() > 1 {
            return self.apply_halves(delta);
        }
        match self.commit(first) {
            Outcome::Done => {
                self.demand.commit(delta);
                Ok(())
            }
            Outcome::Refused(refusals) => explain::explain(self, delta, first, &refusals),
            Outcome::NotSent(error) => {
                let (rows, table) = (delta.len(), numbers(F::FAMILY).name);
                let reason = format!("sending a change of {rows} rows to table {table}: {error}");
                Err(ApplyError::Failed(reason.into()))
            }
            Outcome::Lost(reason) => Err(ApplyError::Unknown(reason.into())),
        }
    }

    /// Applies a change that is too large for one transaction in two halves. After the first one nothing points at what
    /// is not there.
    fn apply_halves(&mut self, delta: &Delta<F>) -> Result<(), ApplyError<F>> {
        let Some([first, second]) = parts::halves(delta) else {
            return Err(ApplyError::Failed(
                "one row does not fit into the socket's buffer".into(),
            ));
        };
        self.apply(&first)?;
        self.apply(&second)
            .map_err(|error| ApplyError::Unknown(format!("a part of the change was applied: {error}").into()))
    }
}
