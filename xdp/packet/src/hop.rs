//! The way out of a packet.

use tandem_xdp_layout::{
    Device, DeviceKey, DeviceNumber, Direction, FlowAddress, Hop, PacketSettings, Reason, RouteGeneration, StateWord,
    record,
};

use crate::world::{FamilyWorld, Route, Way, World};

/// The generation of routes.
#[inline(always)]
pub(crate) fn generation(world: &impl World) -> RouteGeneration {
    PacketSettings::generation(world.setting(PacketSettings::SWITCHES))
}

/// Looks a next hop up.
#[inline(always)]
pub(crate) fn look_up<A: FlowAddress>(
    world: &impl FamilyWorld<A>,
    way: &Way<A>,
    nowhere: Reason,
) -> Result<Hop, Reason> {
    of_route(world, world.route(way), nowhere)
}

/// The next hop that the routes say.
#[inline(always)]
pub(crate) fn of_route(world: &impl World, route: Route, nowhere: Reason) -> Result<Hop, Reason> {
    let (index, mac) = match route {
        Route::Out(index, mac) => (index, mac),
        Route::NoNeighbour => return Err(Reason::NoNeighbour),
        Route::Small(_) => return Err(Reason::SmallWay),
        Route::Elsewhere => return Err(nowhere),
    };
    match world.device_number(DeviceKey { index, vlan: 0 }) {
        Some(device) => Ok(Hop::new(mac, device, generation(world))),
        None => Err(nowhere),
    }
}

/// The next hop of a flow, as it is remembered. If the routes changed meanwhile, it is looked up again. If it cannot be found then,
/// the flow goes where it went.
#[inline(always)]
pub(crate) fn remembered<A: FlowAddress, W: FamilyWorld<A>>(
    world: &W,
    words: W::Words,
    state: StateWord,
    hop: Hop,
    direction: Direction,
    way: &Way<A>,
) -> Hop {
    if hop.is_of(generation(world)) {
        return hop;
    }
    match look_up(world, way, Reason::NoWayOut) {
        Ok(found) => {
            record::renew_hop::<A>(words, state, direction, hop, found);
            found
        }
        Err(_) => hop,
    }
}

/// The largest packet that a device takes.
#[inline(always)]
pub(crate) fn mtu(world: &impl World, device: DeviceNumber) -> u16 {
    Device::of_words(world.device_word(device, 0), 0).mtu
}

/// The device of a hop; none if it is gone.
#[inline(always)]
pub(crate) fn device(world: &impl World, hop: Hop) -> Option<Device> {
    let number = hop.device();
    let device = Device::of_words(world.device_word(number, 0), world.device_word(number, 1));
    if device.index == 0 { None } else { Some(device) }
}
