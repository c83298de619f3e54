//! Which data plane Tandem is asked to have.

use std::env::VarError;

use anyhow::{Result, bail};

/// The environment variable that says it.
const VARIABLE: &str = "DATA_PLANE";

/// The value of `dataPlane`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum DataPlane {
    /// nftables alone.
    #[default]
    Nft,
    /// eBPF follows in sockets.
    Xdp,
}

impl DataPlane {
    /// What the environment asks for; nftables alone if it says nothing.
    pub fn asked() -> Result<Self> {
        match std::env::var(VARIABLE).as_deref() {
            Err(VarError::NotPresent) | Ok("" | "nft") => Ok(Self::Nft),
            Ok("xdp") => Ok(Self::Xdp),
            other => bail!("{VARIABLE} is {other:?}, and only nft and xdp are known"),
        }
    }
}
