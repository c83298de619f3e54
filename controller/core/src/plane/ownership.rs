//! Who may change what a data plane holds.

use std::fmt;

/// Who may change what a data plane holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// This process alone, and what it wrote stays when it ends.
    Owned,
    /// Other programs too, for this reason.
    Shared(WhyShared),
}

/// Why other programs can change what a data plane holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhyShared {
    /// It was there before, made without an owner, and can get none.
    MadeWithoutOwner,
    /// This kernel has no owned tables that outlive their owner. The kernel's words.
    OldKernel(String),
    /// Nobody guards it: it is not the kernel's.
    Memory,
}

/// As `tandem status` says it.
impl fmt::Display for Ownership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owned => {
                f.write_str("owned: the kernel refuses changes by others, and keeps the table when tandem ends")
            }
            Self::Shared(why) => write!(f, "shared: other programs can change the table ({why})"),
        }
    }
}

impl fmt::Display for WhyShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MadeWithoutOwner => f.write_str("the table was there before, made without an owner"),
            Self::OldKernel(refused) => {
                write!(
                    f,
                    "this kernel has no owned tables that persist, before 6.9 ({refused})"
                )
            }
            Self::Memory => f.write_str("it is in memory"),
        }
    }
}
