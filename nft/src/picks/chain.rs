//! The chains that are made on demand, and their names. Used by the rules, by the elements, and by what counts the
//! chains. Does no I/O.

use std::fmt;
use std::str::FromStr;

use tandem_core::row::{Pick, Port};

/// A chain that exists only if a Service needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PickChain {
    /// Leads to any of `count` endpoints.
    Pick { count: Port },
    /// Leads to the endpoint that the client had, if that endpoint still exists.
    Recall { seconds: u32 },
    /// Remembers the endpoint that was drawn, then uses the one that is remembered.
    Remember { seconds: u32 },
    /// Leads to the endpoint that the client had, otherwise to any of `count`.
    Stick { count: Port, seconds: u32 },
}

impl PickChain {
    /// The chain for this pick, if it is made on demand.
    pub(crate) fn of(pick: Pick) -> Option<Self> {
        match pick {
            Pick::Any { count } => Some(Self::Pick { count }),
            Pick::Sticky { count, seconds } => Some(Self::Stick { count, seconds }),
            Pick::Refuse | Pick::Discard => None,
        }
    }

    /// The pick that leads to this chain, if Services go to it directly.
    pub(crate) fn pick(self) -> Option<Pick> {
        match self {
            Self::Pick { count } => Some(Pick::Any { count }),
            Self::Stick { count, seconds } => Some(Pick::Sticky { count, seconds }),
            Self::Recall { .. } | Self::Remember { .. } => None,
        }
    }

    /// The chains that this one leads to.
    pub(crate) fn targets(self) -> impl Iterator<Item = Self> {
        match self {
            Self::Stick { seconds, .. } => Some([Self::Recall { seconds }, Self::Remember { seconds }]),
            _ => None,
        }
        .into_iter()
        .flatten()
    }
}

impl fmt::Display for PickChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pick { count } => write!(f, "pick-{count}"),
            Self::Recall { seconds } => write!(f, "recall-{seconds}s"),
            Self::Remember { seconds } => write!(f, "remember-{seconds}s"),
            Self::Stick { count, seconds } => write!(f, "stick-{count}-{seconds}s"),
        }
    }
}

/// Text that names no chain that is made on demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("names no chain that is made on demand")]
pub(crate) struct NoChain;

/// Reads exactly what [`fmt::Display`] writes.
impl FromStr for PickChain {
    type Err = NoChain;

    fn from_str(name: &str) -> Result<Self, NoChain> {
        let (kind, rest) = name.split_once('-').ok_or(NoChain)?;
        let seconds = |text: &str| {
            text.strip_suffix('s')
                .and_then(|digits| digits.parse().ok())
                .ok_or(NoChain)
        };
        let chain = match kind {
            "pick" => Self::Pick {
                count: rest.parse().map_err(|_| NoChain)?,
            },
            "recall" => Self::Recall {
                seconds: seconds(rest)?,
            },
            "remember" => Self::Remember {
                seconds: seconds(rest)?,
            },
            "stick" => {
                let (count, rest) = rest.split_once('-').ok_or(NoChain)?;
                Self::Stick {
                    count: count.parse().map_err(|_| NoChain)?,
                    seconds: seconds(rest)?,
                }
            }
            _ => return Err(NoChain),
        };
        if chain.to_string() == name {
            Ok(chain)
        } else {
            Err(NoChain)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_and_nothing_else_is_read() {
        for name in [
            "pick-1",
            "pick-65535",
            "recall-1s",
            "remember-4294967295s",
            "stick-3-10800s",
        ] {
            assert_eq!(
                name.parse::<PickChain>().map(|chain| chain.to_string()).as_deref(),
                Ok(name)
            );
        }
        for name in [
            "pick-0",
            "pick-03",
            "pick-+3",
            "pick-65536",
            "stick-3-10800",
            "recall-s",
            "refuse",
            "",
            "-",
        ] {
            assert_eq!(name.parse::<PickChain>(), Err(NoChain), "{name}");
        }
    }
}
