//! A node whose data planes are in memory.

use std::time::{Instant, SystemTime};

use tandem::engine::{Engine, Now};
use tandem::node_settings::{DetectLocal, NodeSettings, PodRanges};
use tandem_core::family::{V4, V6};
use tandem_core::node::NodePortAddresses;
use tandem_core::object::Choice;
use tandem_core::plane::Memory;

/// A node's two data planes. Like the kernel's tables, they outlive the engine.
pub(crate) struct Host {
    pub(crate) v4: Memory<V4>,
    pub(crate) v6: Memory<V6>,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            v4: Memory::strict(),
            v6: Memory::strict(),
        }
    }
}

impl Host {
    pub(crate) fn start(&self) -> Engine {
        let settings = NodeSettings {
            node_name: "node-a".into(),
            detect_local: DetectLocal::Sources(PodRanges::OfNode),
            node_port_addresses: NodePortAddresses::Primary,
            masquerade_all: false,
            masquerade_bit: 14,
            drop_invalid: false,
            usual_choice: Choice::Random,
        };
        Engine::new(settings, self.v4.opener(), self.v6.opener(), at(Instant::now()))
    }
}

/// The time of a step.
pub(crate) fn at(monotonic: Instant) -> Now {
    Now {
        monotonic,
        wall: SystemTime::now(),
    }
}
