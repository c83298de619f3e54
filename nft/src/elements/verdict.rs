//! Verdicts: those of rules, and those of elements that lead to chains.

use netlink_bindings::nftables::{PushDataAttrs, VerdictCode};

/// A verdict.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict<'c> {
    Accept,
    Drop,
    Return,
    Jump(&'c str),
    Goto(&'c str),
}

impl Verdict<'_> {
    fn code(self) -> VerdictCode {
        match self {
            Self::Accept => VerdictCode::Accept,
            Self::Drop => VerdictCode::Drop,
            Self::Return => VerdictCode::Return,
            Self::Jump(_) => VerdictCode::Jump,
            Self::Goto(_) => VerdictCode::Goto,
        }
    }

    /// Writes the attributes of a verdict's data.
    pub(crate) fn encode(self, buf: &mut Vec<u8>) {
        let verdict = PushDataAttrs::new(buf).nested_verdict().push_code(self.code() as u32);
        if let Self::Jump(chain) | Self::Goto(chain) = self {
            let _ = verdict.push_chain_bytes(chain.as_bytes());
        }
    }
}
