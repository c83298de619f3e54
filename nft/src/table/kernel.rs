//! One family's table in the kernel. Owned by the engine; the only door through which rows reach the kernel. A change
//! costs one transaction with its rows, one system call to send it and one to receive the answer; nothing is listed on
//! that way.

use std::time::{Duration, Instant};

use tandem_core::family::Family;
use tandem_core::plane::{
    self, ApplyError, DataPlane, Delta, IdleError, Open, Ownership, ReadError, Reason, Rejection, RuleSettings,
};
use tandem_core::row::{Pick, Row};

use crate::family::numbers;
use crate::table::adopt::{self, OpenError};
use crate::table::error::{ChangeError, TableError};
use crate::table::explain;
use crate::table::nat_order::{self, LastCheck};
use crate::table::parts;
use crate::table::session::Session;
use crate::wire::outcome::Outcome;
use crate::wire::socket::Buffers;

/// The table `ip tandem` or `ip6 tandem`.
#[derive(Debug)]
pub struct Kernel<F: Family> {
    session: Session<F>,
    last_check: LastCheck,
    /// How long the last change took.
    took: Duration,
}

impl<F: Family> Kernel<F> {
    /// Opens the table: makes it, or takes over the one that is there with its rows, without a moment without rules.
    pub fn open(settings: RuleSettings) -> Result<Self, OpenError> {
        Self::open_with(settings, Buffers::LARGE)
    }

    /// The same, over a socket that holds no more than this.
    pub fn open_with(settings: RuleSettings, buffers: Buffers) -> Result<Self, OpenError> {
        let mut kernel = Self {
            session: Session::new(settings, buffers).map_err(OpenError::Socket)?,
            last_check: LastCheck::default(),
            took: Duration::ZERO,
        };
        kernel.repair()?;
        Ok(kernel)
    }

    /// What an engine opens the table by.
    pub fn opener() -> Open<F> {
        Box::new(|settings| match Self::open(settings) {
            Ok(kernel) => Ok(Box::new(kernel) as _),
            Err(error) => Err(plane::OpenError::new(error)),
        })
    }

    /// Puts the table right after another program deleted or changed it, as [`Self::open`] does, over the same socket.
    /// Rows that are gone stay gone: read them back and apply the difference.
    pub fn repair(&mut self) -> Result<(), OpenError> {
        if adopt::adopt(&mut self.session)? {
            // Registered just now, and so before all others.
            return Ok(nat_order::record(&mut self.session, &mut self.last_check)?);
        }
        // Whoever came while nobody ran is a rival that was never seen.
        self.keep_first()?;
        Ok(())
    }

    /// Looks whether another program's nat chain came before this table's, and if so puts these first again; tells whether
    /// it did. Where nobody else changed nftables since the last look, that is one question to the kernel. An error says
    /// that the chains may be in between; where looking fails, nothing is wrong with them, and it is looked again next time.
    pub fn keep_first(&mut self) -> Result<bool, TableError> {
        nat_order::keep_first(&mut self.session, &mut self.last_check)
    }

    /// Removes the chains that no service uses any more; returns how many. To be called when there is nothing else to
    /// do: a chain that was used once is likely to be used again.
    pub fn remove_unused_chains(&mut self) -> Result<usize, TableError> {
        self.session.remove_unused_chains()
    }
}

impl<F: Family> DataPlane<F> for Kernel<F> {
    fn read(&mut self) -> Result<Vec<Row<F>>, ReadError> {
        self.session.read_all().map_err(ReadError::new)
    }

    fn ways(&self) -> Vec<Pick> {
        self.session.chains.ways().collect()
    }

    fn ownership(&self) -> Ownership {
        self.session.ownership.clone()
    }

    fn idle(&mut self) -> Result<(), IdleError> {
        self.remove_unused_chains().map(drop).map_err(IdleError::new)
    }

    fn keep_first(&mut self) -> Result<bool, plane::OpenError> {
        Kernel::keep_first(self).map_err(plane::OpenError::new)
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
        let mut first = self.session.encode(delta, false);
        if !self.session.without_number.is_empty() && self.remove_unused_chains().is_ok() {
            // Chains that nothing uses any more have given their numbers back.
            first = self.session.encode(delta, false);
        }
        if !self.session.without_number.is_empty() {
            let reject = |row| Rejection {
                row,
                reason: Reason::NoWayLeft,
            };
            return Err(ApplyError::UsedUp(
                self.session.without_number.drain(..).map(reject).collect(),
            ));
        }
        if self.session.batch.bytes().len() > self.session.socket.limit() && delta.len() > 1 {
            return self.apply_halves(delta);
        }
        match self.session.commit(first) {
            Outcome::Done => {
                self.session.chains.commit(delta);
                Ok(())
            }
            Outcome::Refused(refusals) => explain::explain(&mut self.session, delta, first, &refusals),
            Outcome::NotSent(source) => {
                let (rows, family) = (delta.len(), numbers(F::FAMILY).name);
                Err(ApplyError::Failed(ChangeError::NotSent { rows, family, source }.into()))
            }
            Outcome::Lost(error) => Err(ApplyError::Unknown(error.into())),
        }
    }

    /// Applies a change that is too large for one transaction in two halves. After the first one nothing points at what
    /// is not there.
    fn apply_halves(&mut self, delta: &Delta<F>) -> Result<(), ApplyError<F>> {
        let Some([first, second]) = parts::halves(delta) else {
            return Err(ApplyError::Failed(ChangeError::RowTooLarge.into()));
        };
        self.apply(&first)?;
        self.apply(&second)
            .map_err(|error| ApplyError::Unknown(ChangeError::Partly(error.into()).into()))
    }
}
