//! Removes tables for good: Tandem's own for `tandem run --cleanup`, and the one that kube-proxy left when Tandem
//! took its place.
//!
//! When the owner of a table goes, the kernel takes its mark off, and anybody can delete the table. A table whose
//! owner lives belongs to a running Tandem and is left alone.

use std::io;

use tandem_core::family::Family;

use crate::TABLE;
use crate::family::numbers;
use crate::table::error::TableError;
use crate::table::foreign::KUBE_PROXY;
use crate::table::listing;
use crate::wire::batch::Batch;
use crate::wire::outcome::{Outcome, TransactionError};
use crate::wire::owner;
use crate::wire::socket::NetlinkSocket;
use crate::wire::{Command, attr, text};

/// Why a table was not removed. It is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// The netlink socket could not be opened.
    #[error("opening a netlink socket for nftables: {0}")]
    Socket(#[source] io::Error),
    /// A running program owns it.
    #[error("table {table} is not removed: it belongs to a running program, {owner}")]
    Owned {
        /// The table.
        table: String,
        /// The process, as far as its port id names it.
        owner: String,
    },
    /// It could not be read.
    #[error("removing table {table}: {source}")]
    Read {
        /// The table.
        table: String,
        /// Why.
        source: TableError,
    },
    /// The kernel refused, or did not answer.
    #[error("removing table {table}: {source}")]
    Failed {
        /// The table.
        table: String,
        /// Why.
        source: TransactionError,
    },
}

/// Removes this family's table with all that is in it. Gives false if there is none.
pub fn remove<F: Family>() -> Result<bool, RemoveError> {
    remove_named::<F>(TABLE)
}

/// Removes the table that kube-proxy's nftables mode made in this family. Gives false if there is none. Both tables
/// have the same hooks. While kube-proxy's exists, packets meet its rules too, and may meet them first.
pub fn remove_kube_proxys<F: Family>() -> Result<bool, RemoveError> {
    remove_named::<F>(KUBE_PROXY)
}

fn remove_named<F: Family>(name: &str) -> Result<bool, RemoveError> {
    let table = format!("{} {name}", numbers(F::FAMILY).name);
    let mut socket = NetlinkSocket::open().map_err(RemoveError::Socket)?;
    let found = listing::table_named(&mut socket, F::FAMILY, name).map_err(|error| RemoveError::Read {
        table: table.clone(),
        source: TableError::reading(F::FAMILY, error),
    })?;
    let Some(info) = found else {
        return Ok(false);
    };
    if let Some(port) = info.owner() {
        let owner = owner::describe_port(port);
        return Err(RemoveError::Owned { table, owner });
    }
    let mut batch = Batch::default();
    let first = socket.sequence();
    batch.begin(numbers(F::FAMILY).nfproto, first);
    batch.message(Command::DelTable, 0, |buf| text(buf, attr::table::NAME, name));
    batch.end();
    let outcome = socket.transact(batch.bytes(), first, batch.last_sequence());
    match &outcome {
        // Another program removed it first.
        Outcome::Refused(refusals) if refusals.iter().all(|refusal| refusal.errno == libc::ENOENT) => Ok(false),
        // The answer was lost: only the table itself shows whether it was removed.
        Outcome::Lost(_) if matches!(listing::table_named(&mut socket, F::FAMILY, name), Ok(None)) => Ok(true),
        _ => match outcome.carried_out() {
            Ok(()) => Ok(true),
            Err(source) => Err(RemoveError::Failed { table, source }),
        },
    }
}
