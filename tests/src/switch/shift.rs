//! Exchanges the endpoint of the Service that changes, and tells those who ask which one may answer.

use anyhow::Result;

use super::probe::Probe;
use super::site::Site;

impl Site {
    /// Exchanges the endpoint, and waits until that is programmed. From then on, the one that went must not answer.
    pub(super) fn shift(&mut self, probe: &Probe) -> Result<()> {
        self.begin_shift(probe)?;
        self.end_shift(probe)
    }

    /// Exchanges the endpoint. Until [`Self::end_shift`], either may answer.
    pub(super) fn begin_shift(&mut self, probe: &Probe) -> Result<()> {
        probe.either();
        self.exchange()
    }

    pub(super) fn end_shift(&mut self, probe: &Probe) -> Result<()> {
        self.wait_shifted()?;
        probe.only(self.shifted_to());
        Ok(())
    }
}
