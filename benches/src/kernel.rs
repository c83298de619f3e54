//! Tandem's engine and tables in this process, in the network namespace of the calling thread.

use std::sync::LazyLock;

use anyhow::{Result, bail};
use tandem::engine::{Engine, FamilyStatus, Now};
use tandem::event::Event;
use tandem::node_settings::{self, NodeSettings, PodRanges};
use tandem_core::node::NodePortAddresses;
use tandem_core::object::Choice;
use tandem_core::plane::{Ahead, DetectLocal, Memory, Place, RuleSettings};
use tandem_nft::NftTable;

use crate::synthetic;

/// The settings of `tandem run` without a configuration.
pub const SETTINGS: RuleSettings = RuleSettings {
    masquerade_bit: 14,
    masquerade_all: false,
    detect_local: DetectLocal::Sources(()),
    drop_invalid: false,
    place: Place::First,
    ahead: Ahead::Nobody,
};

/// The time of every step. It never changes, so that what the engine does because time passes is not in the figures.
pub static NOW: LazyLock<Now> = LazyLock::new(Now::read);

/// An engine for the kernel's tables. Its first [`Engine::step`] opens them.
pub fn engine() -> Engine {
    Engine::new(settings(), NftTable::opener(), NftTable::opener(), *NOW)
}

/// The same engine without a kernel: every change counts as applied.
pub fn engine_without_kernel() -> Engine {
    let nowhere = (Memory::forgetful(), Memory::forgetful());
    Engine::new(settings(), nowhere.0.opener(), nowhere.1.opener(), *NOW)
}

/// The configuration of a node of [`synthetic`].
pub fn settings() -> NodeSettings {
    NodeSettings {
        node_name: "node-a".into(),
        detect_local: node_settings::DetectLocal::Sources(PodRanges::Listed(synthetic::pod_ranges())),
        node_port_addresses: NodePortAddresses::Primary,
        masquerade_all: SETTINGS.masquerade_all,
        masquerade_bit: SETTINGS.masquerade_bit,
        drop_invalid: SETTINGS.drop_invalid,
        usual_choice: Choice::Random,
    }
}

/// Brings events to both tables. The error says that the kernel did not apply everything.
pub fn bring(engine: &mut Engine, events: impl IntoIterator<Item = Event>) -> Result<()> {
    engine.step(events, *NOW);
    whole(engine.v4().status())?;
    whole(engine.v6().status())
}

fn whole(status: &FamilyStatus) -> Result<()> {
    match (&status.last_error, status.set_aside.first()) {
        (Some((_, reason)), _) => bail!("the kernel did not take it: {reason}"),
        (_, Some(aside)) => bail!("service {}: {}", aside.service, aside.reason),
        (None, None) => Ok(()),
    }
}
