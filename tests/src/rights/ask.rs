//! Questions with real packets.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};

use crate::netns::Namespace;
use crate::stage::{Ip, Stage};
use crate::traffic::Protocol;

/// How many connections each question makes.
pub(super) const TIMES: u8 = 3;

/// Fails if one family does.
pub(super) fn every_family(check: impl Fn(Ip) -> Result<()>) -> Result<()> {
    Ip::BOTH
        .into_iter()
        .try_for_each(|family| check(family).with_context(|| format!("{family:?}")))
}

/// Fails unless each of some connections is answered by the one endpoint.
pub(super) fn answered(stage: &Stage, from: &Namespace, to: SocketAddr) -> Result<()> {
    let answers = stage.ask(from, TIMES.into(), Protocol::Tcp, (to.ip(), to.port()))?;
    ensure!(answers.names() == ["web-1"], "{to}: {:?}", answers.names());
    Ok(())
}
