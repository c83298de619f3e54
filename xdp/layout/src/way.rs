//! How a list answers.

/// How a list answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By any endpoint.
    Any,
    /// By the endpoint that the client had before.
    Sticky,
    /// The connection is refused.
    Refuse,
    /// The packet is dropped.
    Discard,
}

impl Way {
    #[inline(always)]
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Any => 1,
            Self::Sticky => 2,
            Self::Refuse => 3,
            Self::Discard => 4,
        }
    }

    #[inline(always)]
    pub(crate) fn from_number(number: u16) -> Option<Self> {
        match number {
            1 => Some(Self::Any),
            2 => Some(Self::Sticky),
            3 => Some(Self::Refuse),
            4 => Some(Self::Discard),
            _ => None,
        }
    }
}
