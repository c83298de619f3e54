//! Opens a table: makes what is missing and takes over what exists, in one transaction, so that there is no moment
//! without rules. `NftTable` calls it at a start, and after another program changed the table.

use std::collections::HashMap;
use std::io;

use netlink_bindings::nftables::PushTableAttrs;
use tandem_core::family::{Family, IpFamily};
use tandem_core::plane::{Ownership, Place, WhyShared};
use tandem_core::row::Row;

use crate::TABLE;
use crate::elements::element;
use crate::elements::sets::Set;
use crate::elements::udata;
use crate::family::numbers;
use crate::picks::chain::PickChain;
use crate::picks::chains::{self, PickNumber};
use crate::rules::fixed;
use crate::rules::fixed_chain::FixedChain;
use crate::rules::{self, pick};
use crate::table::compatible;
use crate::table::error::TableError;
use crate::table::listing::{self, OWNER, PERSIST, TableInfo};
use crate::table::session::Session;
use crate::wire::batch::Batch;
use crate::wire::outcome::RefusedError;
use crate::wire::outcome::{Outcome, TransactionError};
use crate::wire::owner;
use crate::wire::{CREATE, Command, attr, text};

const COMMENT: &str = "Kubernetes Services, programmed by tandem";

/// Why a table was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The netlink socket could not be opened.
    #[error("opening a netlink socket for nftables: {0}")]
    Socket(#[source] io::Error),
    /// Another program owns the table.
    #[error("table {table} belongs to another program: {owner}")]
    Owned {
        /// The table.
        table: String,
        /// The process, as far as its port id names it.
        owner: String,
    },
    /// Making or taking over the table failed. It is as it was.
    #[error(transparent)]
    Failed(#[from] TableError),
}

/// What exists before the table is opened.
struct Existing<F: Family> {
    table: Option<TableInfo>,
    /// The chains made on demand, each with the number that leads to it. Their rules are written anew.
    on_demand: HashMap<PickChain, Option<PickNumber>>,
    /// The picks that always exist but are missing, each with its chain.
    missing_picks: Vec<(PickNumber, &'static str)>,
    /// The nat chains with a stand-in. An earlier run ended while it registered them anew.
    stand_ins: Vec<FixedChain>,
    /// Where the nat chains stand. None if there are none.
    place: Option<Place>,
    /// The rows of a table that has to be made anew.
    carried_over: Option<Vec<Row<F>>>,
}

impl<F: Family> Existing<F> {
    fn nothing() -> Self {
        Self {
            table: None,
            on_demand: HashMap::new(),
            missing_picks: chains::FIXED.to_vec(),
            stand_ins: Vec::new(),
            place: None,
            carried_over: None,
        }
    }
}

/// Opens the table of this session. Gives where its chains stand, or none if they were registered just now, where the
/// settings want them.
pub(crate) fn adopt<F: Family>(session: &mut Session<F>) -> Result<Option<Place>, OpenError> {
    let family = F::FAMILY;
    let existing = read_existing(session)?;
    let there = existing
        .table
        .filter(|_| existing.carried_over.is_none())
        .map(|table| table.flags);
    // When the owner of a table that persists goes, the kernel takes the flag `owner` off. A table that never had an
    // owner can get none.
    let owned = there.is_none_or(|flags| flags & (OWNER | PERSIST) != 0);
    let flags = if owned { OWNER | PERSIST } else { 0 };
    session.ownership = match send(session, &existing, flags)? {
        Ok(()) if owned => Ownership::Owned,
        Ok(()) => Ownership::Shared(WhyShared::MadeWithoutOwner),
        Err(refused) if owned => match send(session, &existing, there.unwrap_or_default() & PERSIST)? {
            Ok(()) => Ownership::Shared(WhyShared::OldKernel(refused.to_string())),
            Err(source) => return Err(refused_flags(family, source)),
        },
        Err(source) => return Err(refused_flags(family, source)),
    };
    session.count_chains()?;
    Ok(existing.place)
}

fn refused_flags(family: IpFamily, source: io::Error) -> OpenError {
    let family = numbers(family).name;
    OpenError::Failed(TableError::MakeWithFlags { family, source })
}

/// Reads what exists, and decides whether it can be taken over.
fn read_existing<F: Family>(session: &mut Session<F>) -> Result<Existing<F>, OpenError> {
    let unread = |error| TableError::reading(F::FAMILY, error);
    let name = numbers(F::FAMILY).name;
    let Some(table) = listing::table(&mut session.socket, F::FAMILY).map_err(unread)? else {
        return Ok(Existing::nothing());
    };
    if let Some(port) = table.owner()
        && port != session.socket.port()
    {
        let owner = owner::describe_port(port);
        return Err(OpenError::Owned {
            table: format!("{name} {TABLE}"),
            owner,
        });
    }
    let sets = listing::sets(&mut session.socket, F::FAMILY).map_err(unread)?;
    let chains = listing::chains(&mut session.socket, F::FAMILY).map_err(unread)?;
    let usable = |set: Set| {
        sets.get(set.name())
            .is_some_and(|shape| compatible::fits(shape, &set.layout().shape(F::FAMILY)))
    };
    let picks = if usable(Set::Picks) {
        listing::picks(&mut session.socket, F::FAMILY).map_err(unread)?
    } else {
        HashMap::new()
    };
    let incompatible = match compatible::check(F::FAMILY, &sets, &chains, &picks) {
        Ok((on_demand, place)) => {
            let missing_picks = chains::FIXED
                .into_iter()
                .filter(|(number, _)| !picks.contains_key(number));
            return Ok(Existing {
                table: Some(table),
                on_demand,
                missing_picks: missing_picks.collect(),
                stand_ins: FixedChain::of_nat(Place::First)
                    .map(|(chain, _)| chain)
                    .filter(|chain| chains.contains_key(&chain.stand_in()))
                    .collect(),
                place,
                carried_over: None,
            });
        }
        Err(incompatible) => incompatible,
    };
    tracing::warn!(
        table = name,
        because = incompatible.to_string(),
        "making the table anew; its rows are carried over"
    );
    let picks_by_number = chains::picks_by_number(&picks);
    let mut rows = Vec::new();
    for set in Set::ROWS.into_iter().filter(|set| usable(*set)) {
        rows.append(
            &mut listing::elements::<F>(&mut session.socket, set, &picks_by_number)
                .map_err(unread)?
                .rows,
        );
    }
    Ok(Existing {
        table: Some(table),
        carried_over: Some(rows),
        ..Existing::nothing()
    })
}

/// Sends the transaction that makes or takes over the table. The inner error says that the kernel refused the flags.
fn send<F: Family>(
    session: &mut Session<F>,
    existing: &Existing<F>,
    flags: u32,
) -> Result<Result<(), io::Error>, OpenError> {
    let failed = |source| {
        let family = numbers(F::FAMILY).name;
        OpenError::Failed(TableError::Make { family, source })
    };
    let first = session.begin();
    let table_message = encode(session, existing, flags);
    match session.commit(first) {
        Outcome::Done => Ok(Ok(())),
        Outcome::Refused(refusals) => {
            let about_flags = refusals.iter().find(|refusal| {
                refusal.sequence == table_message && matches!(refusal.errno, libc::EINVAL | libc::EOPNOTSUPP)
            });
            match about_flags {
                Some(refusal) => Ok(Err(io::Error::from_raw_os_error(refusal.errno))),
                None => Err(failed(RefusedError::first(&refusals).into())),
            }
        }
        Outcome::NotSent(error) => Err(failed(TransactionError::NotSent(error))),
        Outcome::Lost(error) => Err(failed(error.into())),
    }
}

/// Writes a transaction that makes a table with these chains. The table has an owner, as the node's lock must have.
pub(crate) fn encode_new<F: Family>(session: &mut Session<F>, chains: &[PickChain]) {
    let new = Existing {
        on_demand: chains.iter().map(|chain| (*chain, None)).collect(),
        ..Existing::nothing()
    };
    encode(session, &new, OWNER);
}

/// Writes the transaction. Returns the number of the message that makes the table.
fn encode<F: Family>(session: &mut Session<F>, existing: &Existing<F>, flags: u32) -> u32 {
    let (family, settings) = (F::FAMILY, session.settings);
    // A chain keeps its hook for as long as it exists.
    let place = existing.place.unwrap_or(settings.place);
    let batch = &mut session.batch;
    if existing.carried_over.is_some() {
        batch.message(Command::DelTable, 0, |buf| text(buf, attr::table::NAME, TABLE));
    }
    let message = batch.next_sequence();
    encode_table(batch, flags);
    for set in Set::ALL {
        set.layout().encode(batch, family);
    }
    rules::encode_counter(batch);
    for chain in FixedChain::ALL {
        rules::encode_chain(batch, chain.name(), chain.hook(place));
        rules::encode_flush(batch, chain.name());
    }
    for chain in FixedChain::ALL {
        fixed::encode_fixed(batch, family, chain, chain.name(), settings);
    }
    for chain in existing.on_demand.keys() {
        pick::encode_pick_chain(batch, *chain, false);
        rules::encode_flush(batch, &chain.to_string());
    }
    for chain in existing.on_demand.keys() {
        pick::encode_pick_rules(batch, family, settings.ahead, *chain);
    }
    for (number, chain) in &existing.missing_picks {
        element::add_pick(batch, *number, chain);
    }
    for chain in &existing.stand_ins {
        rules::encode_stand_in_goes(batch, *chain);
    }
    let Some(rows) = &existing.carried_over else {
        return message;
    };
    session.chains.reset(std::iter::empty(), std::iter::empty::<&Row<F>>());
    for row in rows {
        // These rows were in the table before, so there are numbers for all of them.
        if let Ok(chains) = session.chains.require(row) {
            pick::encode_pick_chains(batch, family, settings.ahead, chains);
        }
    }
    for row in rows {
        if let Some(number) = session.chains.number_of(row) {
            element::add(batch, row, number, false);
        }
    }
    message
}

fn encode_table(batch: &mut Batch, flags: u32) {
    let comment = udata::commented(COMMENT);
    batch.message(Command::NewTable, CREATE, |buf| {
        let _ = PushTableAttrs::new(buf)
            .push_name_bytes(TABLE.as_bytes())
            .push_flags(flags)
            .push_userdata(&comment);
    });
}
