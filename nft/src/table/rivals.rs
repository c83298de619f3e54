//! Chains of other programs that translate where this table's chains do, and being asked before them.
//!
//! The kernel asks nat chains of equal priority in the order of their registration, the youngest first, and once one of
//! them has translated a connection no other is asked. A table of iptables that is made after this one would mark, redirect
//! or masquerade what is addressed to a Service before its rules see it. So this table's chains are registered anew when
//! a rival appears. Called between changes, by the thread that makes them: a change
//! that comes meanwhile waits for one listing, and for three small transactions if a rival came.

use std::cell::Cell;
use std::collections::HashSet;
use std::fs;

use tandem_core::family::{Family, IpFamily};

use crate::Kernel;
use crate::family::numbers;
use crate::rules::{self, FIXED, Hook, STAND_IN};
use crate::table::explain;
use crate::table::listing::{self, words};
use crate::wire::socket::Outcome;

thread_local! {
    /// Transactions that this thread carried out, of both families: the kernel numbers all of a namespace in one row. One
    /// thread owns both tables; whatever another one does counts as another program's, and costs one more look.
    static CARRIED_OUT: Cell<u32> = const { Cell::new(0) };
}

/// A chain of another program, however often its table is made anew under the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Rival {
    pub(crate) nfproto: u8,
    pub(crate) table: u64,
    pub(crate) chain: u64,
}

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

/// One transaction was carried out.
pub(crate) fn carried_out() {
    CARRIED_OUT.set(CARRIED_OUT.get().wrapping_add(1));
}

/// This table's hooks of type nat.
pub(crate) fn hooks() -> impl Iterator<Item = (&'static str, Hook)> {
    FIXED
        .iter()
        .filter_map(|(name, hook)| Some((*name, (*hook)?)))
        .filter(|(_, hook)| hook.kind == "nat")
}

impl<F: Family> Kernel<F> {
    /// Looks whether another program's nat chain came before this table's, and if so puts these first again; tells whether
    /// it did. Where nobody else changed nftables since the last look, that is one question to the kernel. An error says
    /// that the chains may be in between; where looking fails, nothing is wrong with them, and it is looked again next time.
    pub fn keep_first(&mut self) -> Result<bool, String> {
        let seen = match self.look_for_rivals() {
            Ok(seen) => seen,
            Err(reason) => {
                if !std::mem::replace(&mut self.seen.failed, true) {
                    tracing::warn!("{reason}; whether others are asked first is not known");
                }
                return Ok(false);
            }
        };
        let came = seen.legacy && !self.seen.legacy || !seen.rivals.is_subset(&self.seen.rivals);
        if came {
            self.lead()?;
        }
        self.seen = seen;
        Ok(came)
    }

    fn look_for_rivals(&mut self) -> Result<Seen, String> {
        let unread = |error| words(F::FAMILY, &error);
        let generation = listing::generation(&mut self.socket).map_err(unread)?;
        let at = (generation, CARRIED_OUT.get());
        let undisturbed = self
            .seen
            .at
            .is_some_and(|(generation, carried_out)| at.0.wrapping_sub(generation) == at.1.wrapping_sub(carried_out));
        let rivals = if undisturbed {
            self.seen.rivals.clone()
        } else {
            listing::rivals(&mut self.socket, F::FAMILY).map_err(unread)?
        };
        Ok(Seen {
            rivals,
            legacy: legacy_nat(F::FAMILY),
            at: Some(at),
            failed: false,
        })
    }

    /// Notes the rivals that are there; to be called when this table's chains were just registered.
    pub(crate) fn note_rivals(&mut self) -> Result<(), String> {
        self.seen.rivals = listing::rivals(&mut self.socket, F::FAMILY).map_err(|error| words(F::FAMILY, &error))?;
        (self.seen.legacy, self.seen.at) = (legacy_nat(F::FAMILY), None);
        Ok(())
    }

    /// Registers the nat chains anew. A chain that goes and one that comes cannot be changed for a packet in between: while
    /// they change, stand-ins with the same rules translate.
    fn lead(&mut self) -> Result<(), String> {
        self.transaction(|kernel| {
            for (name, hook) in hooks() {
                let stand_in = format!("{name}{STAND_IN}");
                rules::encode_chain(&mut kernel.batch, &stand_in, Some(hook));
                rules::encode_fixed(&mut kernel.batch, F::FAMILY, name, &stand_in, kernel.settings);
            }
        })?;
        self.transaction(|kernel| {
            for (name, hook) in hooks() {
                rules::encode_flush(&mut kernel.batch, name);
                rules::encode_delete(&mut kernel.batch, name);
                rules::encode_chain(&mut kernel.batch, name, Some(hook));
                rules::encode_fixed(&mut kernel.batch, F::FAMILY, name, name, kernel.settings);
            }
        })?;
        self.transaction(|kernel| {
            for (name, _) in hooks() {
                rules::encode_stand_in_goes(&mut kernel.batch, name);
            }
        })
    }

    fn transaction(&mut self, write: impl FnOnce(&mut Self)) -> Result<(), String> {
        let first = self.begin();
        write(self);
        match self.commit(first) {
            Outcome::Done => Ok(()),
            Outcome::Refused(refusals) => Err(explain::reason(refusals.first())),
            Outcome::NotSent(error) => Err(error.to_string()),
            Outcome::Lost(reason) => Err(reason),
        }
        .map_err(|reason| {
            format!(
                "putting the nat chains of table {} first: {reason}",
                numbers(F::FAMILY).name
            )
        })
    }
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
