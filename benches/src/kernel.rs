//! Tandem's engine and tables in this process, in the network namespace of the calling thread.

use std::time::Instant;

use anyhow::{Result, bail};
use tandem::engine::{Engine, FamilyStatus, Open, Plane};
use tandem::event::Event;
use tandem::node_settings::{LocalPods, NodeSettings};
use tandem_core::delta::{ApplyError, DataPlane, Delta, ReadError};
use tandem_core::family::Family;
use tandem_core::node::NodePortAddresses;
use tandem_core::row::Row;
use tandem_nft::{DetectLocal, Kernel, Settings};

use crate::synthetic;

/// The settings that `tandem run` has without a configuration of its own.
pub const SETTINGS: Settings = Settings {
    masquerade_bit: 14,
    masquerade_all: false,
    detect_local: DetectLocal::Sources,
    drop_invalid: false,
};

/// An engine over the kernel's tables, which are opened by its first [`Engine::sync`].
pub fn engine() -> Engine {
    Engine::new(settings(), open(), open())
}

/// The same engine without a kernel: whatever it wants applied counts as applied.
pub fn engine_without_kernel() -> Engine {
    Engine::new(
        settings(),
        Box::new(|_| Ok(Box::new(Nowhere))),
        Box::new(|_| Ok(Box::new(Nowhere))),
    )
}

/// What configuration says about a node of [`synthetic`].
pub fn settings() -> NodeSettings {
    NodeSettings {
        node_name: "node-a".into(),
        local_pods: LocalPods::Ranges(synthetic::pod_ranges()),
        node_port_addresses: NodePortAddresses::Primary,
        masquerade_all: SETTINGS.masquerade_all,
        masquerade_bit: SETTINGS.masquerade_bit,
        drop_invalid: SETTINGS.drop_invalid,
    }
}

/// A data plane that is not there.
struct Nowhere;

impl<F: Family> DataPlane<F> for Nowhere {
    fn read(&mut self) -> Result<Vec<Row<F>>, ReadError> {
        Ok(Vec::new())
    }

    fn apply(&mut self, _: &Delta<F>) -> Result<(), ApplyError<F>> {
        Ok(())
    }
}

impl<F: Family> Plane<F> for Nowhere {
    fn ownership(&self) -> String {
        String::new()
    }

    fn tidy(&mut self) -> Result<(), String> {
        Ok(())
    }
}

fn open<F: Family>() -> Open<F> {
    Box::new(|settings| {
        let kernel = Kernel::<F>::open(settings).map_err(|error| error.to_string())?;
        Ok(Box::new(kernel))
    })
}

/// Takes events in and brings them to both tables; an error where the kernel did not take everything.
pub fn bring(engine: &mut Engine, events: impl IntoIterator<Item = Event>) -> Result<()> {
    engine.take(events);
    engine.sync(Instant::now());
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
