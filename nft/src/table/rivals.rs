//! Chains of other programs that translate where this table's chains do, and being asked before them.
//!
//! The kernel asks nat chains of equal priority in the order of their registration, the youngest first, and once one of
//! them has translated a connection no other is asked. A table of iptables that is made after this one would mark, redirect
//! or masquerade what is addressed to a Service before its rules see it. So this table's chains are registered anew when
//! a rival appears. Called between changes, by the thread that makes them: a change
//! that comes meanwhile waits for one listing, and for three small transactions if a rival came.

use std::collections::HashSet;
use std::fs;

use tandem_core::family::{Family, IpFamily};

use crate::family::numbers;
use crate::rules;
use crate::rules::fixed::{Fixed, encode_fixed};
use crate::table::error::TableError;
use crate::table::listing::{self, Rival};
use crate::table::session::{self, Session};
use crate::wire::Batch;

/// What was seen at the last look.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    rivals: HashSet<Rival>,
    /// Whether the old iptables, which nftables does not list, had a nat table.
    legacy: bool,
    /// The kernel's generation then, and how many transactions were this thread's.
    at: Option<(u32, u32)>,
    /// Whether the last look failed.
    failed: bool,
}

/// Looks whether another program's nat chain came before this table's, and if so puts these first again; tells whether it
/// did.
pub(crate) fn keep_first<F: Family>(session: &mut Session<F>, seen: &mut Seen) -> Result<bool, TableError> {
    let now = match look(session, seen) {
        Ok(now) => now,
        Err(error) => {
            if !std::mem::replace(&mut seen.failed, true) {
                tracing::warn!("{error}; whether others are asked first is not known");
            }
            return Ok(false);
        }
    };
    let came = now.legacy && !seen.legacy || !now.rivals.is_subset(&seen.rivals);
    if came {
        lead(session)?;
    }
    *seen = now;
    Ok(came)
}

fn look<F: Family>(session: &mut Session<F>, seen: &Seen) -> Result<Seen, TableError> {
    let unread = |error| TableError::reading(F::FAMILY, error);
    let generation = listing::generation(&mut session.socket).map_err(unread)?;
    let at = (generation, session::transactions());
    let undisturbed = seen
        .at
        .is_some_and(|(generation, carried_out)| at.0.wrapping_sub(generation) == at.1.wrapping_sub(carried_out));
    let rivals = if undisturbed {
        seen.rivals.clone()
    } else {
        listing::rivals(&mut session.socket, F::FAMILY).map_err(unread)?
    };
    Ok(Seen {
        rivals,
        legacy: legacy_nat(F::FAMILY),
        at: Some(at),
        failed: false,
    })
}

/// Notes the rivals that are there; to be called when this table's chains were just registered.
pub(crate) fn note<F: Family>(session: &mut Session<F>, seen: &mut Seen) -> Result<(), TableError> {
    seen.rivals =
        listing::rivals(&mut session.socket, F::FAMILY).map_err(|error| TableError::reading(F::FAMILY, error))?;
    (seen.legacy, seen.at) = (legacy_nat(F::FAMILY), None);
    Ok(())
}

/// Registers the nat chains anew. A chain that goes and one that comes cannot be changed for a packet in between: while
/// they change, stand-ins with the same rules translate.
fn lead<F: Family>(session: &mut Session<F>) -> Result<(), TableError> {
    let settings = session.settings;
    transaction(session, |batch| {
        for (chain, hook) in Fixed::of_nat() {
            let stand_in = chain.stand_in();
            rules::encode_chain(batch, &stand_in, Some(hook));
            encode_fixed(batch, F::FAMILY, chain, &stand_in, settings);
        }
    })?;
    transaction(session, |batch| {
        for (chain, hook) in Fixed::of_nat() {
            rules::encode_flush(batch, chain.name());
            rules::encode_delete(batch, chain.name());
            rules::encode_chain(batch, chain.name(), Some(hook));
            encode_fixed(batch, F::FAMILY, chain, chain.name(), settings);
        }
    })?;
    transaction(session, |batch| {
        for (chain, _) in Fixed::of_nat() {
            rules::encode_stand_in_goes(batch, chain);
        }
    })
}

fn transaction<F: Family>(session: &mut Session<F>, write: impl FnOnce(&mut Batch)) -> Result<(), TableError> {
    let first = session.begin();
    write(&mut session.batch);
    session
        .commit(first)
        .carried_out()
        .map_err(|source| TableError::PutFirst {
            family: numbers(F::FAMILY).name,
            source,
        })
}

/// Whether the old iptables has a nat table here; one that goes never comes back in this namespace without a line here.
fn legacy_nat(family: IpFamily) -> bool {
    let file = match family {
        IpFamily::V4 => "/proc/thread-self/net/ip_tables_names",
        IpFamily::V6 => "/proc/thread-self/net/ip6_tables_names",
    };
    // Not there where the kernel has no such tables.
    fs::read_to_string(file).is_ok_and(|names| names.lines().any(|name| name == "nat"))
}
