//! Why a table in the kernel could not be read or changed. Everything in `table` fails with these errors, and the
//! errors of the data plane's contract carry them as causes.

use std::io;

use tandem_core::family::IpFamily;
use tandem_core::plane::Cause;

use crate::TABLE;
use crate::family::numbers;
use crate::wire::outcome::RefusedError;
use crate::wire::outcome::TransactionError;
use crate::wire::socket::ListError;

/// Why a table could not be read or changed. `family` is nft's name of the table's family, `ip` or `ip6`.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The table, or a part of it, does not exist any more.
    #[error("table {family} {TABLE} is gone: another program deleted it or parts of it")]
    Gone {
        /// The family.
        family: &'static str,
    },
    /// Another program owns the table.
    #[error("table {family} {TABLE} belongs to another program: {owner}")]
    Owned {
        /// The family.
        family: &'static str,
        /// The process, as far as its port id names it.
        owner: String,
    },
    /// This process may not change the table.
    #[error("table {family} {TABLE}: not permitted (CAP_NET_ADMIN is missing)")]
    NotPermitted {
        /// The family.
        family: &'static str,
    },
    /// This process may not read the table.
    #[error("reading table {family} {TABLE}: not permitted (CAP_NET_ADMIN is missing)")]
    ReadNotPermitted {
        /// The family.
        family: &'static str,
    },
    /// A listing failed.
    #[error("reading table {family} {TABLE}: {source}")]
    Read {
        /// The family.
        family: &'static str,
        /// Why.
        source: ListError,
    },
    /// The table was not made.
    #[error("making table {family} {TABLE}: {source}")]
    Make {
        /// The family.
        family: &'static str,
        /// Why.
        source: TransactionError,
    },
    /// The table was not made because the kernel refused its flags.
    #[error("making table {family} {TABLE}: {source}")]
    MakeWithFlags {
        /// The family.
        family: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The kernel refused a change, and the reason is not one of its rows.
    #[error("table {family} {TABLE}: {source}")]
    Change {
        /// The family.
        family: &'static str,
        /// The kernel's reason.
        source: RefusedError,
    },
    /// Elements that no Tandem wrote were not removed.
    #[error("removing foreign elements of {set} in table {family}: {source}")]
    RemoveForeign {
        /// The set.
        set: &'static str,
        /// The family.
        family: &'static str,
        /// Why.
        source: TransactionError,
    },
    /// Chains that no Service uses were not removed. They do no harm.
    #[error("removing unused chains of table {family}: {source}")]
    RemoveUnused {
        /// The family.
        family: &'static str,
        /// Why.
        source: TransactionError,
    },
    /// The nat chains were not put before those of other programs.
    #[error("putting the nat chains of table {family} first: {source}")]
    PutFirst {
        /// The family.
        family: &'static str,
        /// Why.
        source: TransactionError,
    },
}

impl TableError {
    /// What a failed listing of a family's table means.
    pub(crate) fn reading(family: IpFamily, source: ListError) -> Self {
        let family = numbers(family).name;
        match source {
            ListError::Io(error) if error.raw_os_error() == Some(libc::ENOENT) => Self::Gone { family },
            ListError::Io(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Self::ReadNotPermitted { family }
            }
            source => Self::Read { family, source },
        }
    }
}

/// Why a change was not applied, if the reason is not the table.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    /// The change was not sent.
    #[error("sending a change of {rows} rows to table {family}: {source}")]
    NotSent {
        rows: usize,
        family: &'static str,
        source: io::Error,
    },
    /// The change is one row, which cannot be halved.
    #[error("one row does not fit into the socket's buffer")]
    RowTooLarge,
    /// The first half was applied, the second was not.
    #[error("a part of the change was applied: {0}")]
    Partly(#[source] Cause),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::outcome::LostError;
    use tandem_netlink::answer::Refusal;

    #[test]
    fn each_error_names_what_was_tried_the_table_and_the_cause() {
        let errno = io::Error::from_raw_os_error;
        let refused = || {
            RefusedError::from(&Refusal {
                sequence: 1,
                errno: libc::EEXIST,
                words: None,
            })
        };
        let reading = |errno| TableError::reading(IpFamily::V6, io::Error::from_raw_os_error(errno).into());
        for (error, text) in [
            (
                reading(libc::ENOENT),
                "table ip6 tandem is gone: another program deleted it or parts of it",
            ),
            (
                reading(libc::EPERM),
                "reading table ip6 tandem: not permitted (CAP_NET_ADMIN is missing)",
            ),
            (
                reading(libc::ENOBUFS),
                "reading table ip6 tandem: No buffer space available (os error 105)",
            ),
            (
                TableError::reading(IpFamily::V4, ListError::KeepsChanging),
                "reading table ip tandem: the tables changed 20 times while they were read",
            ),
            (
                TableError::MakeWithFlags {
                    family: "ip",
                    source: errno(libc::EINVAL),
                },
                "making table ip tandem: Invalid argument (os error 22)",
            ),
            (
                TableError::Change {
                    family: "ip",
                    source: refused(),
                },
                "table ip tandem: the kernel refused: File exists (os error 17)",
            ),
            (
                TableError::PutFirst {
                    family: "ip",
                    source: LostError::NoAnswer.into(),
                },
                "putting the nat chains of table ip first: the kernel did not answer",
            ),
            (
                TableError::RemoveUnused {
                    family: "ip6",
                    source: refused().into(),
                },
                "removing unused chains of table ip6: the kernel refused: File exists (os error 17)",
            ),
        ] {
            assert_eq!(error.to_string(), text);
        }
    }
}
