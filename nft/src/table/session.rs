//! Transactions with the kernel, and what is known of the table between two of them: its chains and how many Services
//! use each. Used by everything that opens, changes or reads a table. It decides nothing.

use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::marker::PhantomData;

use tandem_core::family::Family;
use tandem_core::plane::{Delta, Ownership, RuleSettings, WhyShared};
use tandem_core::row::Row;

use crate::elements::decode::SetContent;
use crate::elements::element;
use crate::elements::sets::Set;
use crate::family::numbers;
use crate::picks::chains::{self, PickChains, PickNumber, PicksByNumber};
use crate::rules;
use crate::table::change;
use crate::table::error::TableError;
use crate::table::listing;
use crate::wire::batch::Batch;
use crate::wire::outcome::RefusedError;
use crate::wire::outcome::{Outcome, TransactionError};
use crate::wire::socket::{Buffers, ListError, NetlinkSocket};

thread_local! {
    /// The transactions of this thread, of both families: the kernel numbers all transactions of a namespace in one
    /// sequence. One thread owns both tables. A transaction of another thread counts as another program's, which
    /// costs one more check.
    static OWN_TRANSACTIONS: Cell<u32> = const { Cell::new(0) };
}

/// Counts one transaction that was carried out.
pub(crate) fn count_own_transaction() {
    OWN_TRANSACTIONS.set(OWN_TRANSACTIONS.get().wrapping_add(1));
}

/// How many transactions this thread has carried out.
pub(crate) fn own_transactions() -> u32 {
    OWN_TRANSACTIONS.get()
}

/// The socket and the state of one family's table.
#[derive(Debug)]
pub(crate) struct Session<F: Family> {
    pub(crate) socket: NetlinkSocket,
    pub(crate) batch: Batch,
    pub(crate) chains: PickChains,
    pub(crate) settings: RuleSettings,
    pub(crate) ownership: Ownership,
    /// The message that holds each row of the transaction, in the order of writing.
    pub(crate) messages: Vec<u32>,
    /// The rows of the transaction for whose pick no number was free.
    pub(crate) without_number: Vec<Row<F>>,
    family: PhantomData<F>,
}

impl<F: Family> Session<F> {
    /// A session whose table is not open yet.
    pub(crate) fn new(settings: RuleSettings, buffers: Buffers) -> io::Result<Self> {
        Ok(Self {
            socket: NetlinkSocket::with(buffers)?,
            batch: Batch::default(),
            chains: PickChains::default(),
            settings,
            ownership: Ownership::Shared(WhyShared::MadeWithoutOwner),
            messages: Vec::new(),
            without_number: Vec::new(),
            family: PhantomData,
        })
    }

    /// Removes the chains that no Service uses any more. Returns how many. Call it when there is nothing else to do:
    /// a chain that was used once is likely to be used again.
    pub(crate) fn remove_unused_chains(&mut self) -> Result<usize, TableError> {
        let mut unused = self.chains.unused();
        // On kernels before 6.2, an element that was just removed may keep its chain for a moment.
        while !unused.is_empty() {
            let first = self.begin();
            for number in unused.iter().filter_map(|(_, number)| *number) {
                element::remove_pick(&mut self.batch, number);
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
                        return Err(Self::not_removed(RefusedError::first(&refusals).into()));
                    }
                }
                Outcome::Refused(refusals) => {
                    return Err(Self::not_removed(RefusedError::first(&refusals).into()));
                }
                Outcome::NotSent(error) => return Err(Self::not_removed(TransactionError::NotSent(error))),
                Outcome::Lost(error) => {
                    let _ = self.count_chains();
                    return Err(Self::not_removed(error.into()));
                }
            }
        }
        for (chain, _) in &unused {
            self.chains.removed(*chain);
        }
        Ok(unused.len())
    }

    fn not_removed(source: TransactionError) -> TableError {
        let family = numbers(F::FAMILY).name;
        TableError::RemoveUnused { family, source }
    }

    /// Starts a transaction. Returns the number of its first message.
    pub(crate) fn begin(&mut self) -> u32 {
        let first = self.socket.sequence();
        self.batch.begin(numbers(F::FAMILY).nfproto, first);
        self.chains.begin();
        first
    }

    /// Sends the transaction that began with this message.
    pub(crate) fn commit(&mut self, first: u32) -> Outcome {
        self.batch.end();
        let outcome = self
            .socket
            .transact(self.batch.bytes(), first, self.batch.last_sequence());
        if matches!(outcome, Outcome::Done) {
            count_own_transaction();
        }
        outcome
    }

    /// Counts anew which chains exist and how many Services use each.
    pub(crate) fn count_chains(&mut self) -> Result<(), TableError> {
        let picks = self.picks_by_number()?;
        let services = listing::elements::<F>(&mut self.socket, Set::Services, &picks).map_err(Self::unread)?;
        self.count_chains_with(&services.rows)
    }

    fn unread(error: ListError) -> TableError {
        TableError::reading(F::FAMILY, error)
    }

    /// The picks that the numbers in `services` stand for.
    fn picks_by_number(&mut self) -> Result<PicksByNumber, TableError> {
        let picks = listing::picks(&mut self.socket, F::FAMILY).map_err(Self::unread)?;
        Ok(chains::picks_by_number(&picks))
    }

    fn count_chains_with(&mut self, rows: &[Row<F>]) -> Result<(), TableError> {
        let chains = listing::chains(&mut self.socket, F::FAMILY).map_err(Self::unread)?;
        let picks = listing::picks(&mut self.socket, F::FAMILY).map_err(Self::unread)?;
        let numbers: HashMap<&str, PickNumber> = picks.iter().map(|(number, name)| (name.as_str(), *number)).collect();
        let chains = chains
            .keys()
            .filter_map(|name| Some((name.parse().ok()?, numbers.get(name.as_str()).copied())));
        self.chains.reset(chains, rows);
        Ok(())
    }

    /// Reads all rows, and removes the elements that are no rows.
    pub(crate) fn read_all(&mut self) -> Result<Vec<Row<F>>, TableError> {
        let picks = self.picks_by_number()?;
        let mut all = Vec::new();
        for set in Set::ROWS {
            let SetContent { mut rows, foreign } =
                listing::elements::<F>(&mut self.socket, set, &picks).map_err(Self::unread)?;
            if !foreign.is_empty() {
                self.remove_foreign(set, &foreign)?;
            }
            all.append(&mut rows);
        }
        self.count_chains_with(&all)?;
        Ok(all)
    }

    fn remove_foreign(&mut self, set: Set, foreign: &[element::ForeignElement]) -> Result<(), TableError> {
        let (set, family) = (set.name(), numbers(F::FAMILY).name);
        tracing::warn!(
            table = family,
            set,
            elements = foreign.len(),
            first = ?foreign.first(),
            "removing elements that no tandem wrote"
        );
        let first = self.begin();
        for foreign in foreign {
            element::remove_foreign(&mut self.batch, foreign);
        }
        let outcome = self.commit(first).carried_out();
        outcome.map_err(|source| TableError::RemoveForeign { set, family, source })
    }

    /// Writes a change as one transaction. Returns the number of its first message. If `alone` is set, each row has a
    /// message of its own.
    pub(crate) fn encode(&mut self, delta: &Delta<F>, alone: bool) -> u32 {
        let first = self.begin();
        let (messages, without_number) = (&mut self.messages, &mut self.without_number);
        change::write(
            &mut self.batch,
            &mut self.chains,
            self.settings.ahead,
            delta,
            alone,
            messages,
            without_number,
        );
        first
    }
}
