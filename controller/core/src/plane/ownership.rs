//! Who may change the rows of a data plane.

use std::fmt;

/// Who may change the rows of a data plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Only this process. The rows stay when it ends.
    Owned,
    /// Other programs too, for this reason.
    Shared(WhyShared),
}

/// Why other programs can change the rows of a data plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhyShared {
    /// The table existed before, without an owner, and can get none.
    MadeWithoutOwner,
    /// This kernel has no owned tables that outlive their owner. The text is the kernel's.
    OldKernel(String),
    /// Nothing protects it, because it is not in the kernel.
    Memory,
}

/// Writes what `tandem status` says.
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
