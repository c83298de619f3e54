//! The contract of followers: they hold some of a data plane's rows a second time, to answer sooner.

use std::collections::BTreeMap;
use std::{fmt, io};

use crate::family::Family;
use crate::id::ServiceId;
use crate::row::Row;

use super::{Cause, Delta, RuleSettings};

/// Holds some of a data plane's rows a second time, to answer sooner. It decides nothing. It is told of a change after
/// the data plane acknowledged it. The data plane serves whatever the follower lacks.
///
/// A follower is on or off. While it is on, it answers new connections by the rows and the rules that it holds. While
/// it is off, the data plane answers all of them. Connections that it answered before go on.
///
/// If a follower is dropped, everything stays as it is: the rows that it holds, and whether it is on. The follower of
/// the next run finds them so.
pub trait Follower<F: Family>: Send {
    /// Holds exactly these rows under these rules, and is on then. `rows` are ordered as [`Delta::added`] is. If it
    /// holds them already, it writes nothing. If it answers otherwise than the data plane before it is done, it is off
    /// until it is done.
    fn renew(&mut self, rules: &RuleSettings, rows: &[Row<F>]) -> Result<(), Behind>;

    /// Takes over a change that the data plane acknowledged. The follower is on, and holds the rows of before. One
    /// Service that it cannot hold is no failure: it is [`Self::left`].
    fn follow(&mut self, delta: &Delta<F>) -> Result<(), Behind>;

    /// Is off from now on, until it is renewed. This cannot fail: it writes one word of memory.
    fn switch_off(&mut self);

    /// Whether it would answer the same under these rules as under those that it has. A follower that has none yet
    /// answers by those that an earlier run left, if it is on.
    fn fits(&self, rules: &RuleSettings) -> bool;

    /// The lists of endpoints that are left to the data plane although a follower could hold them, and why. This must
    /// be cheap.
    fn left(&self) -> &BTreeMap<ServiceId, Left>;

    /// How many Service ports it holds. This must be cheap.
    fn taken(&self) -> usize;

    /// Whether it can be renewed. One that only knows the switch of what an earlier run left cannot: it is put in until
    /// the follower itself is there, so that nothing that was left answers by old rows.
    fn ready(&self) -> bool {
        true
    }

    /// Whether it answers after it was renewed. It does not if its rules say that another program's rules come first.
    fn answers(&self) -> bool {
        true
    }
}

/// Why a follower does not hold what it was told to hold. Before it returns this, it has switched itself off. So it is
/// never on with rows that are not the data plane's. After this, it may hold anything until it is renewed.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Behind(Cause);

impl Behind {
    /// Makes an error with the follower's own error as its cause.
    pub fn new(cause: impl Into<Cause>) -> Self {
        Self(cause.into())
    }
}

/// Why a follower leaves a list of endpoints to the data plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Left {
    /// The list has more endpoints than there is room for.
    #[error("there is no room for its endpoints: {0}")]
    Endpoints(Full),
    /// There are more frontends than there is room for.
    #[error("there is no room for its frontends: {0}")]
    Frontends(Full),
    /// A slot has no endpoint, or an endpoint no address.
    #[error("its rows do not make a list of endpoints")]
    Incomplete,
}

impl Left {
    /// Whether there was no room. There may be some later.
    pub fn is_for_room(&self) -> bool {
        matches!(self, Self::Endpoints(_) | Self::Frontends(_))
    }
}

/// What takes no more, and why there is no larger one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// Its name.
    pub name: &'static str,
    /// How much there is room for.
    pub room: u32,
    /// What the kernel says, by its number, if it was asked for more.
    pub errno: Option<i32>,
}

/// The number of "argument list too long", which the kernel says of a map that is full or would be too large.
const E2BIG: i32 = 7;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, room, errno } = self;
        write!(f, "{name} has room for {room} and takes no more")?;
        match errno {
            // The kernel's "argument list too long" says only that there is no room.
            None | Some(E2BIG) => Ok(()),
            // This asks nobody: the texts are the C library's.
            Some(errno) => write!(f, ": {}", io::Error::from_raw_os_error(*errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Full, Left};

    #[test]
    fn what_is_left_names_what_is_full_and_why() {
        let full = |errno| {
            Left::Endpoints(Full {
                name: "LISTS4",
                room: 65_536,
                errno,
            })
        };
        let begin = "there is no room for its endpoints: LISTS4 has room for 65536 and takes no more";
        assert_eq!(full(None).to_string(), begin);
        assert_eq!(full(Some(super::E2BIG)).to_string(), begin);
        for (errno, text) in [
            (1, "Operation not permitted"),
            (2, "No such file or directory"),
            (12, "Cannot allocate memory"),
        ] {
            assert_eq!(
                full(Some(errno)).to_string(),
                format!("{begin}: {text} (os error {errno})")
            );
        }
    }
}
