//! What the settings say.

use tandem_xdp_layout::{PacketSettings, Times};

use crate::ip::Ip;
use crate::world::World;

/// How many pages of records a family has.
#[inline(always)]
pub(crate) fn pages<A: Ip>(world: &impl World) -> u32 {
    (world.setting(2) >> (32 * A::FAMILY)) as u32
}

/// Whether new flows of a family are taken.
#[inline(always)]
pub(crate) fn is_on<A: Ip>(world: &impl World) -> bool {
    PacketSettings::is_on(world.setting(PacketSettings::SWITCHES), A::FAMILY)
}

/// Whether new flows of a family that are not taken are noted as nftables'.
#[inline(always)]
pub(crate) fn is_noting(world: &impl World) -> bool {
    PacketSettings::is_noting(world.setting(PacketSettings::SWITCHES))
}

/// Whether flows are being carried over from another layout.
#[inline(always)]
pub(crate) fn is_moving(world: &impl World) -> bool {
    PacketSettings::is_moving(world.setting(PacketSettings::SWITCHES))
}

/// The seed of the index.
#[inline(always)]
pub(crate) fn index_seed(world: &impl World) -> u32 {
    world.setting(1) as u32
}

/// The seed of the choice of endpoints.
#[inline(always)]
pub(crate) fn pick_seed(world: &impl World) -> u32 {
    (world.setting(1) >> 32) as u32
}

/// How long flows live without a packet.
#[inline(always)]
pub(crate) fn times(world: &impl World) -> Times {
    PacketSettings::times(world.setting(3), world.setting(4))
}

/// How many packets may be answered in a second because they are too big.
#[inline(always)]
pub(crate) fn answers(world: &impl World) -> u32 {
    world.setting(5) as u32
}
