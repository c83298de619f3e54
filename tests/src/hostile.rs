//! What others may do to stop a node's Services: objects as large as the API server accepts, connections that send
//! nothing, and a lock that another program takes before Tandem.

mod objects;
mod pause;
mod silence;
mod squatter;

use std::fmt;

pub use pause::{Load, Pauses, pauses};
pub use silence::{Siege, healthz_under_flood};
pub use squatter::lock_squatted;

/// How an attack ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Good,
    /// The attack worked. The text says what happened.
    Bad(String),
}

impl Outcome {
    /// Whether the attack had no effect.
    pub fn is_good(&self) -> bool {
        *self == Self::Good
    }

    /// `word` if it had no effect, or else what happened.
    pub fn or_say<'a>(&'a self, word: &'a str) -> impl fmt::Display + 'a {
        match self {
            Self::Good => word,
            Self::Bad(what) => what,
        }
    }
}
