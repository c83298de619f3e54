//! A node for the packets: its network, the rows of its Services, and the loaded programs.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use tandem_core::family::{V4, V6};
use tandem_core::plane::RuleSettings;
use tandem_xdp_layout::{
    Address4, Address6, Device, DeviceNumber, Mac, PacketSettings, RouteGeneration, Switch, Times,
};

use super::Failed;
use super::net::{DEVICES, Net, TAG, VLAN, mac};
use super::network::{self, link_index, run};
use super::rows::rows;
use crate::convert::Plane as _;
use crate::kernel::{KernelMaps, PacketSizes, Packets, Pins, Sizes, Sockets};
use crate::rows::Rows;
use crate::store::Store as _;

/// A node.
pub(crate) struct Place {
    name: String,
    mount: PathBuf,
    pub(crate) packets: Packets,
    _sockets: Sockets,
    /// They hold the rows for as long as they are there.
    rows: (Rows<V4, KernelMaps<Address4>>, Rows<V6, KernelMaps<Address6>>),
    /// The switches of the rows of both families, as they are if all is well.
    switches: [Switch; 2],
    pub(crate) settings: PacketSettings,
}

impl Place {
    /// Makes a node, and enters it with this thread.
    pub(crate) fn new(pages: u32) -> Result<Self, Failed> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("tandem-packets-{}-{number}", std::process::id());
        let mount = std::env::temp_dir().join(&name);
        network::make(&name)?;
        fs::create_dir(&mount)?;
        run("mount", &["-t", "bpf", "bpf", &mount.to_string_lossy()])?;
        let pins = Pins::open(&mount.join("pins"))?;
        let (sockets, v4, v6) = Sockets::open(&Sizes::default(), pins)?;
        let (mut rows4, mut rows6) = (Rows::new(v4, false), Rows::new(v6, false));
        let four = |addr| {
            if let IpAddr::V4(addr) = addr {
                addr
            } else {
                Ipv4Addr::UNSPECIFIED
            }
        };
        let six = |addr| {
            if let IpAddr::V6(addr) = addr {
                addr
            } else {
                Ipv6Addr::UNSPECIFIED
            }
        };
        let rules = RuleSettings::default();
        rows4
            .renew(&rules, &rows::<V4>(four, Net { six: false })?)
            .map_err(|behind| format!("{behind:?}"))?;
        rows6
            .renew(&rules, &rows::<V6>(six, Net { six: true })?)
            .map_err(|behind| format!("{behind:?}"))?;
        let sizes = PacketSizes {
            pages: [pages; 2],
            ..PacketSizes::default()
        };
        let mut packets = sockets.packets(&sizes)?;
        devices(&mut packets, true)?;
        let settings = PacketSettings {
            on: [true; 2],
            noting: false,
            moving: false,
            generation: RouteGeneration::new(1),
            index_seed: 0x1234_5678,
            pick_seed: 0x9abc_def0,
            pages: [pages; 2],
            times: Times::default(),
            answers: 1_000_000,
        };
        packets.set(&settings);
        let place = Self {
            name,
            mount,
            packets,
            _sockets: sockets,
            switches: [rows4.store().switch(), rows6.store().switch()],
            rows: (rows4, rows6),
            settings,
        };
        Ok(place)
    }

    /// Switches the rows of both families off, as while they are not complete, or on again.
    pub(crate) fn switch_rows(&mut self, on: bool) {
        let [four, six] = if on { self.switches } else { [Switch::OFF; 2] };
        self.rows.0.store_mut().set_switch(four);
        self.rows.1.store_mut().set_switch(six);
    }

    /// Tells the programs the devices anew, with addresses or without.
    pub(crate) fn readdress(&mut self, addressed: bool) -> Result<(), Failed> {
        devices(&mut self.packets, addressed)
    }
}

/// Tells the programs the devices, the ports and the sources.
fn devices(packets: &mut Packets, addressed: bool) -> Result<(), Failed> {
    let index = |device: &str| -> Result<u32, Failed> { Ok(link_index(device)?.trim().parse()?) };
    for (number, name) in DEVICES.iter().enumerate().take(4) {
        let own = index(name)?;
        let device = Device {
            index: if *name == "vlan" { index("out")? } else { own },
            vlan: if *name == "vlan" { VLAN } else { 0 },
            mtu: if *name == "small" { 1400 } else { 1500 },
            mac: Mac::of_bytes(mac(number)),
            returns: false,
        };
        let (IpAddr::V4(four), IpAddr::V6(six)) = (Net { six: false }.own(number), Net { six: true }.own(number))
        else {
            return Err("the node's addresses are of other families".into());
        };
        let Address6 { first, second } = V6::mapped(six);
        let sources = [u64::from(V4::mapped(four).0), first, second];
        let sources = if addressed { sources } else { [0; 3] };
        let number = DeviceNumber::new(number as u8 + 1).ok_or("there is no such device")?;
        packets.set_device(number, own, device, sources)?;
    }
    // Packets are given to the programs as if `lo` had received them.
    packets.set_ingress(1, Some(Mac::of_bytes(mac(0))));
    let tagged = Device {
        index: 1,
        vlan: TAG,
        mtu: 1500,
        mac: Mac::of_bytes(mac(0)),
        returns: false,
    };
    let number = DeviceNumber::new(20).ok_or("there is no such device")?;
    packets.set_device(number, 9999, tagged, [0; 3])?;
    Ok(())
}

impl Drop for Place {
    fn drop(&mut self) {
        // What fails here is said by the next run, which finds the names taken.
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
        // The programs are still open, so the file system goes with them.
        let _ = Command::new("umount").arg("-l").arg(&self.mount).status();
        let _: io::Result<()> = fs::remove_dir(&self.mount);
    }
}
