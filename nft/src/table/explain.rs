//! Explains refusals: which rows of a change the kernel refused, or why the change failed as a whole. `NftTable`
//! calls it only after a refused transaction. Such a transaction changed nothing, so it is safe to try it again.

use tandem_core::family::Family;
use tandem_core::plane::{ApplyError, Delta, Reason, Rejection};
use tandem_core::row::Row;

use crate::family::numbers;
use crate::table::error::TableError;
use crate::table::listing;
use crate::table::session::Session;
use tandem_netlink::answer::Refusal;

use crate::wire::outcome::Outcome;
use crate::wire::outcome::RefusedError;
use crate::wire::owner;

/// Explains the refusal of a change whose transaction began with message `first`. A second try may apply the change
/// after all.
pub(crate) fn explain<F: Family>(
    session: &mut Session<F>,
    delta: &Delta<F>,
    first: u32,
    refusals: &[Refusal],
) -> Result<(), ApplyError<F>> {
    if let Some(error) = table_problem(session, refusals) {
        return Err(ApplyError::Failed(error.into()));
    }
    if !is_about_rows(session, first, refusals) {
        return Err(failed::<F>(refusals));
    }
    // If a message holds many rows, the kernel names the first bad one at best. So ask again, with one message for
    // each row.
    if session.messages.windows(2).all(|pair| pair[0] != pair[1]) {
        return Err(rejected(session, delta, refusals));
    }
    let first = session.encode(delta, true);
    match session.commit(first) {
        Outcome::Done => {
            session.chains.commit(delta);
            Ok(())
        }
        Outcome::Refused(refusals) if is_about_rows(session, first, &refusals) => {
            Err(rejected(session, delta, &refusals))
        }
        Outcome::Refused(refusals) => Err(failed::<F>(&refusals)),
        // One message for each row takes more room than the change itself.
        Outcome::NotSent(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => name_all(session, delta, refusals),
        Outcome::NotSent(error) => Err(ApplyError::Failed(error.into())),
        Outcome::Lost(error) => Err(ApplyError::Unknown(error.into())),
    }
}

/// Names every row of the messages that were refused. That is too many rows, but the bad ones are among them.
fn name_all<F: Family>(session: &mut Session<F>, delta: &Delta<F>, refusals: &[Refusal]) -> Result<(), ApplyError<F>> {
    session.encode(delta, false);
    Err(rejected(session, delta, refusals))
}

/// The reason, if it lies in the table or in this process.
fn table_problem<F: Family>(session: &mut Session<F>, refusals: &[Refusal]) -> Option<TableError> {
    let family = numbers(F::FAMILY).name;
    let has = |errno| refusals.iter().any(|refusal| refusal.errno == errno);
    let port = session.socket.port();
    match listing::table(&mut session.socket, F::FAMILY) {
        Ok(None) => return Some(TableError::Gone { family }),
        Ok(Some(table)) if has(libc::EPERM) && table.owner != 0 && table.owner != port => {
            let owner = owner::describe_port(table.owner);
            return Some(TableError::Owned { family, owner });
        }
        Ok(Some(_)) => {}
        Err(error) => return Some(TableError::reading(F::FAMILY, error)),
    }
    if has(libc::EPERM) {
        return Some(TableError::NotPermitted { family });
    }
    if has(libc::ENOENT)
        && let Ok(sets) = listing::sets(&mut session.socket, F::FAMILY)
        && crate::elements::sets::Set::ALL
            .iter()
            .any(|set| !sets.contains_key(set.name()))
    {
        return Some(TableError::Gone { family });
    }
    None
}

/// Whether every refusal is about a message that holds rows, and is of a kind that a row can cause.
fn is_about_rows<F: Family>(session: &Session<F>, first: u32, refusals: &[Refusal]) -> bool {
    let Some(rows_begin) = session.messages.first() else {
        return false;
    };
    refusals.iter().all(|refusal| {
        refusal.sequence.wrapping_sub(first) >= rows_begin.wrapping_sub(first)
            && !matches!(
                refusal.errno,
                libc::ENOMEM | libc::ENOBUFS | libc::EINTR | libc::EAGAIN | libc::EPERM
            )
    })
}

fn failed<F: Family>(refusals: &[Refusal]) -> ApplyError<F> {
    let (family, source) = (numbers(F::FAMILY).name, RefusedError::first(refusals));
    ApplyError::Failed(TableError::Change { family, source }.into())
}

fn rejected<F: Family>(session: &Session<F>, delta: &Delta<F>, refusals: &[Refusal]) -> ApplyError<F> {
    // In the order of writing: first the rows that go, then the rows that come.
    let rows = delta
        .removed
        .iter()
        .map(|row| (row, false))
        .chain(delta.changed.iter().map(|(_, new)| (new, false)))
        .chain(delta.changed.iter().map(|(_, new)| (new, true)))
        .chain(delta.added.iter().map(|row| (row, true)));
    let mut rejections: Vec<Rejection<F>> = Vec::new();
    for ((row, comes), message) in rows.zip(&session.messages) {
        if let Some(refusal) = refusals.iter().find(|refusal| refusal.sequence == *message)
            && rejections.iter().all(|rejection| rejection.row != *row)
        {
            rejections.push(Rejection {
                row: row.clone(),
                reason: row_reason(refusal, row, comes),
            });
        }
    }
    if rejections.is_empty() {
        failed::<F>(refusals)
    } else {
        ApplyError::Rejected(rejections)
    }
}

/// What the kernel's error number means for a row that comes or goes.
fn row_reason<F: Family>(refusal: &Refusal, row: &Row<F>, comes: bool) -> Reason {
    match (refusal.errno, comes) {
        // The kernel says either, depending on which end of a range it meets first.
        (libc::EEXIST | libc::ENOTEMPTY, true) => taken(row),
        (libc::ENOENT, false) => Reason::NotThere,
        (libc::ENFILE, true) => Reason::Full,
        _ => Reason::Other(RefusedError::from(refusal).to_string()),
    }
}

/// Why a row cannot come if another one excludes it.
fn taken<F: Family>(row: &Row<F>) -> Reason {
    if row.key().is_range() {
        Reason::Overlaps
    } else {
        Reason::Taken
    }
}
