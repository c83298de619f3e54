//! One family's table in the kernel, as the data plane that the engine owns. Rows reach the kernel through nothing
//! else. A change costs one transaction with its rows: one system call sends it, one receives the answer, and nothing
//! is listed.

use std::time::{Duration, Instant};

use tandem_core::family::Family;
use tandem_core::plane::{
    self, ApplyError, DataPlane, Delta, IdleError, Open, Ownership, Place, ReadError, Reason, Rejection, RuleSettings,
};
use tandem_core::row::{Pick, Row};

use crate::family::numbers;
use crate::table::adopt::{self, OpenError};
use crate::table::error::ChangeError;
use crate::table::explain;
use crate::table::halves;
use crate::table::nat_order::{self, LastCheck};
use crate::table::session::Session;
use crate::wire::outcome::Outcome;
use crate::wire::socket::Buffers;

/// The table `ip tandem` or `ip6 tandem`.
#[derive(Debug)]
pub struct NftTable<F: Family> {
    session: Session<F>,
    last_check: LastCheck,
    /// How long the last change took.
    took: Duration,
}

impl<F: Family> NftTable<F> {
    /// Opens the table. Makes it, or takes over the one that is there with its rows. There is no moment without rules.
    pub fn open(settings: RuleSettings) -> Result<Self, OpenError> {
        Self::open_with(settings, Buffers::LARGE)
    }

    /// The same, over a socket that holds no more than this.
    pub(crate) fn open_with(settings: RuleSettings, buffers: Buffers) -> Result<Self, OpenError> {
        let mut session = Session::new(settings, buffers).map_err(OpenError::Socket)?;
        let mut last_check = LastCheck::default();
        match adopt::adopt(&mut session)? {
            // They stand where they are to stand.
            Some(Place::Second) if settings.place == Place::Second => {}
            // Other programs may have added chains while no Tandem ran.
            Some(Place::First) if settings.place == Place::First => {
                nat_order::put_first(&mut session, &mut last_check)?;
            }
            Some(_) => {
                nat_order::register_anew(&mut session)?;
                nat_order::record(&mut session, &mut last_check)?;
            }
            // Chains that were registered just now are asked before all others.
            None => nat_order::record(&mut session, &mut last_check)?,
        }
        Ok(Self {
            session,
            last_check,
            took: Duration::ZERO,
        })
    }

    /// How an engine opens the table.
    pub fn opener() -> Open<F> {
        Box::new(|settings| match Self::open(settings) {
            Ok(table) => Ok(Box::new(table) as _),
            Err(error) => Err(plane::OpenError::new(error)),
        })
    }
}

impl<F: Family> DataPlane<F> for NftTable<F> {
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
        self.session.remove_unused_chains().map(drop).map_err(IdleError::new)
    }

    fn keep_first(&mut self, also_kube_proxy: bool) -> Result<bool, plane::OpenError> {
        if self.session.settings.place == Place::Second {
            return Ok(false);
        }
        nat_order::keep_first(&mut self.session, &mut self.last_check, also_kube_proxy).map_err(plane::OpenError::new)
    }

    fn took(&self) -> Duration {
        self.took
    }

    fn apply(&mut self, delta: &Delta<F>) -> Result<(), ApplyError<F>> {
        let started = Instant::now();
        let result = self.apply_whole(delta);
        self.session.batch.forget();
        self.took = started.elapsed();
        result
    }
}

impl<F: Family> NftTable<F> {
    fn apply_whole(&mut self, delta: &Delta<F>) -> Result<(), ApplyError<F>> {
        if delta.is_empty() {
            return Ok(());
        }
        let mut first = self.session.encode(delta, false);
        if !self.session.without_number.is_empty() && self.session.remove_unused_chains().is_ok() {
            // The numbers of the chains that went are free now.
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

    /// Applies a change that is too large for one transaction in two halves. After the first half no row points at a
    /// row that is not there.
    fn apply_halves(&mut self, delta: &Delta<F>) -> Result<(), ApplyError<F>> {
        let Some([first, second]) = halves::halves(delta) else {
            return Err(ApplyError::Failed(ChangeError::RowTooLarge.into()));
        };
        self.apply(&first)?;
        self.apply(&second)
            .map_err(|error| ApplyError::Unknown(ChangeError::Partly(error.into()).into()))
    }
}
