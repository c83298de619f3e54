//! The kernel's tables as the engine uses them.

use tandem_core::family::Family;
use tandem_nft::{Kernel, Ownership};

use super::family::Plane;

impl<F: Family> Plane<F> for Kernel<F> {
    fn ownership(&self) -> String {
        match Kernel::ownership(self) {
            Ownership::Owned => {
                "owned: the kernel refuses changes by others, and keeps the table when tandem ends".into()
            }
            Ownership::Shared(reason) => format!("shared: other programs can change the table ({reason})"),
        }
    }

    fn keep_first(&mut self) -> Result<bool, String> {
        Kernel::keep_first(self)
    }

    fn tidy(&mut self) -> Result<(), String> {
        Kernel::tidy(self).map(drop).map_err(|error| error.to_string())
    }
}
