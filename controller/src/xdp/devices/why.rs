//! Why devices are not used.

use std::fmt;

use super::pattern::DevicePattern;

/// Why a device is not used, or why there is none. The text follows a name and a colon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// No device has the name.
    NoSuchDevice,
    /// No device that could be used has such a name.
    NoneLike,
    /// There is no default route with a device.
    NoDefaultRoute,
    /// No device looks as if packets from outside come by it.
    NoneSuited,
    /// It is `lo`.
    Loopback,
    /// Its packets are not Ethernet's.
    NoEthernet {
        /// The hardware type (`ARPHRD_…`).
        hardware: u16,
    },
    /// It belongs to a bridge, or to something that learns as a bridge does.
    Port {
        /// The bridge's name.
        bridge: String,
    },
    /// It belongs to a bond.
    Member {
        /// The bond's name.
        bond: String,
    },
    /// It is a VLAN device.
    Vlan {
        /// The name of the device that it stands on; none if that is in another network namespace.
        carrier: Option<String>,
    },
    /// It is a VLAN device with tags that the programs do not write.
    OtherTags,
    /// It is a tunnel, or another virtual device by which no program can send.
    Unsuited {
        /// Its kind.
        kind: String,
    },
    /// Nobody has switched it on.
    Down,
    /// It has no MAC address.
    NoMac,
    /// Packets of VLANs come in without their tags.
    StripsTags {
        /// The device that takes the tags away: itself, or a member of the bond.
        device: String,
    },
    /// Its packets could not be told from those of another one.
    Collides {
        /// The other one, which is used.
        with: String,
    },
    /// There is an XDP program on it that is not ours.
    Foreign {
        /// The number of the program in the kernel.
        program: u32,
    },
    /// All numbers are used.
    TooMany,
}

impl Why {
    /// Why a pattern is among [`super::plan::Plan::unmatched`].
    pub fn unmatched(pattern: &DevicePattern) -> Self {
        match pattern {
            DevicePattern::Name(_) => Self::NoSuchDevice,
            DevicePattern::Glob(_) => Self::NoneLike,
            DevicePattern::DefaultRoute => Self::NoDefaultRoute,
            DevicePattern::Auto => Self::NoneSuited,
        }
    }

    /// Whether it is no news that a pattern for many devices leaves such a device out.
    pub(super) fn goes_without_saying(&self) -> bool {
        matches!(
            self,
            Self::Loopback
                | Self::Port { .. }
                | Self::Member { .. }
                | Self::Vlan { .. }
                | Self::OtherTags
                | Self::Unsuited { .. }
        )
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchDevice => f.write_str("there is no device of this name"),
            Self::NoneLike => f.write_str("no device that can be used has such a name"),
            Self::NoDefaultRoute => f.write_str("no default route leaves by a device: name the devices"),
            Self::NoneSuited => f.write_str(
                "no Ethernet device or bond is up and has a global address, or a VLAN with one: name the devices",
            ),
            Self::Loopback => f.write_str("is the loopback device: name those that packets from outside come by"),
            Self::NoEthernet { hardware } => {
                write!(
                    f,
                    "is no Ethernet device (hardware type {hardware}): nftables serves its packets"
                )
            }
            Self::Port { bridge } => write!(
                f,
                "is a port of the bridge {bridge}: the bridge would learn the marks' MAC addresses; nftables serves its packets"
            ),
            Self::Member { bond } => write!(f, "is a member of {bond}: name {bond} instead"),
            Self::Vlan { carrier: Some(carrier) } => write!(
                f,
                "is a VLAN device: name its carrier {carrier} instead; packets leave by it if {carrier} is used"
            ),
            Self::Vlan { carrier: None } => f.write_str(
                "is a VLAN device, and its carrier is in another network namespace: nftables serves its packets",
            ),
            Self::OtherTags => {
                f.write_str("is a VLAN device whose tags are not those of 802.1Q: nftables serves its packets")
            }
            Self::Unsuited { kind } => write!(
                f,
                "is of kind {kind}, by which no program can send: name the device that its packets leave by"
            ),
            Self::Down => f.write_str("is down: switch it on"),
            Self::NoMac => f.write_str("has no MAC address: give it one"),
            Self::StripsTags { device } => write!(
                f,
                "VLAN devices stand on it and {device} takes their tags away: ethtool -K {device} rxvlan off"
            ),
            Self::Collides { with } => write!(
                f,
                "its index and that of {with} are a multiple of 1024 apart, so only one of them is used: make one of them anew"
            ),
            Self::Foreign { program } => write!(
                f,
                "another XDP program is attached (number {program}): detach it, or do not name this device"
            ),
            Self::TooMany => f.write_str("63 devices and VLANs are used already: name fewer"),
        }
    }
}
