//! What a step is.

use std::time::Duration;

use anyhow::Result;

use super::Figures;
use super::site::Site;

type Take = fn(&mut Site, &mut Figures, Duration) -> Result<()>;

/// One step.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// What is done.
    pub name: &'static str,
    take: Take,
}

impl Step {
    pub(super) const fn new(name: &'static str, take: Take) -> Self {
        Self { name, take }
    }

    pub(super) fn take(&self, site: &mut Site, figures: &mut Figures, interval: Duration) -> Result<()> {
        (self.take)(site, figures, interval)
    }
}
