//! Links: the network interfaces.

use netlink_bindings::rt_link::{
    IfinfoFlags, Ifinfomsg, IterableXdpAttrs, LinkinfoDataMsg, OpDellinkDo, OpGetlinkDump, OpNewlinkDo,
};
use netlink_bindings::traits::NetlinkRequest as _;
use tandem_core::node::InterfaceName;

use super::Mac;
use super::object::{Listed, interface_name, kind};

/// `RTEXT_FILTER_SKIP_STATS`: counters are the larger half of a link's message.
const WITHOUT_COUNTERS: u32 = 1 << 3;
/// `IFF_UP`
const UP: u32 = IfinfoFlags::Up as u32;
/// `IFF_RUNNING`
const RUNNING: u32 = IfinfoFlags::Running as u32;
/// `ETH_P_8021Q`
const CUSTOMER: u16 = 0x8100;

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// The number by which other objects name it. 0 if the link does not exist yet.
    pub index: u32,
    /// Its name. None if Tandem cannot use the name.
    pub name: Option<InterfaceName>,
    /// The kind of a virtual device: `dummy`, `bridge`, `veth`, `vxlan`. None for hardware and `lo`.
    pub kind: Option<String>,
    /// Its link-layer address, if that address has six bytes.
    pub mac: Option<Mac>,
    /// The largest packet, in bytes. 0 lets the kernel choose.
    pub mtu: u32,
    /// Whether the administrator has switched it on.
    pub up: bool,
    /// Whether it has a carrier. This field is only read.
    pub running: bool,
    /// The bridge or bond that it belongs to.
    pub master: Option<u32>,
    /// What sort of device it is (`ARPHRD_…`). This field is only read.
    pub hardware: u16,
    /// The device below a VLAN device, or the other end of a veth device. None if it is in another network namespace. This
    /// field is only read.
    pub carrier: Option<u32>,
    /// The VLAN of a VLAN device. This field is only read.
    pub vlan: Option<Vlan>,
    /// The XDP program that is attached to it. This field is only read.
    pub attached: Option<Attached>,
}

/// The tag that a VLAN device adds and takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vlan {
    /// The number of the VLAN.
    pub id: u16,
    /// Whether the tag is not of 802.1Q, but of another protocol: 802.1ad, whose tags stand outside of others.
    pub outer: bool,
}

/// An XDP program, as a link tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Its number in the kernel; 0 if the kernel does not tell. Of several programs, it is the one in the driver.
    pub program: u32,
    /// Where it runs.
    pub mode: AttachMode,
}

/// Where an XDP program runs (`XDP_ATTACHED_…`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachMode {
    /// In the driver.
    Native,
    /// In the kernel's general code, after the driver.
    Generic,
    /// In the device.
    Offload,
    /// There is more than one program.
    Many,
}

/// All links.
#[derive(Clone, Copy, Debug)]
pub struct Links;

impl Listed for Link {
    type Filter = Links;
    const NAME: &'static str = "links";
    const GET: u16 = kind::LINK + kind::GET;

    fn ask(Links: &Links, body: &mut Vec<u8>) {
        let _ = OpGetlinkDump::encode_request(body, &Ifinfomsg::new()).push_ext_mask(WITHOUT_COUNTERS);
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let (header, link) = OpGetlinkDump::decode_reply(body);
        let info = link.get_linkinfo();
        let kind = info.as_ref().ok().and_then(|info| info.get_kind().ok());
        let data = info.as_ref().ok().and_then(|info| info.get_data().ok());
        // An index in another namespace says nothing here: a link of this namespace may have the same one.
        let carrier = link.get_link().ok().filter(|_| link.get_link_netnsid().is_err());
        Some(Self {
            index: u32::try_from(header.ifi_index).ok().filter(|index| *index != 0)?,
            name: link.get_ifname().ok().and_then(interface_name),
            kind: kind.map(|kind| kind.to_string_lossy().into_owned()),
            mac: link.get_address().ok().and_then(|bytes| bytes.try_into().ok()).map(Mac),
            mtu: link.get_mtu().unwrap_or_default(),
            up: header.ifi_flags & UP != 0,
            running: header.ifi_flags & RUNNING != 0,
            master: link.get_master().ok(),
            hardware: header.ifi_type,
            // Tunnels that leave by any device have a 0.
            carrier: carrier.filter(|carrier| *carrier != 0),
            vlan: data.as_ref().and_then(vlan),
            attached: link.get_xdp().ok().and_then(|xdp| attached(&xdp)),
        })
    }

    fn passes(&self, Links: &Links) -> bool {
        true
    }
}

fn vlan(data: &LinkinfoDataMsg<'_>) -> Option<Vlan> {
    let LinkinfoDataMsg::Vlan(vlan) = data else {
        return None;
    };
    Some(Vlan {
        id: vlan.get_id().ok()?,
        outer: vlan.get_protocol().is_ok_and(|protocol| protocol != CUSTOMER),
    })
}

fn attached(xdp: &IterableXdpAttrs<'_>) -> Option<Attached> {
    let mode = match xdp.get_attached().ok()? {
        0 => return None,
        1 => AttachMode::Native,
        2 => AttachMode::Generic,
        3 => AttachMode::Offload,
        _ => AttachMode::Many,
    };
    let program = xdp.get_prog_id().or_else(|_| xdp.get_drv_prog_id());
    let program = program.or_else(|_| xdp.get_skb_prog_id());
    Some(Attached {
        program: program.unwrap_or_default(),
        mode,
    })
}

impl Link {
    /// The hardware type of Ethernet devices (`ARPHRD_ETHER`).
    pub const ETHERNET: u16 = 1;
    /// The hardware type of `lo` (`ARPHRD_LOOPBACK`).
    pub const LOOPBACK: u16 = 772;

    pub(super) fn encode(&self, removed: bool, body: &mut Vec<u8>) {
        let header = Ifinfomsg {
            ifi_index: self.index.cast_signed(),
            ifi_flags: if self.up { UP } else { 0 },
            ifi_change: UP,
            ..Ifinfomsg::new()
        };
        if removed {
            let _ = OpDellinkDo::encode_request(body, &header);
            return;
        }
        let mut link = OpNewlinkDo::encode_request(body, &header);
        if let Some(name) = self.name {
            link = link.push_ifname_bytes(name.as_str().as_bytes());
        }
        if let Some(Mac(mac)) = self.mac {
            link = link.push_address(&mac);
        }
        if self.mtu != 0 {
            link = link.push_mtu(self.mtu);
        }
        if let Some(master) = self.master {
            link = link.push_master(master);
        }
        // The kind of a link that exists cannot change.
        if let Some(kind) = self.kind.as_ref().filter(|_| self.index == 0) {
            let _ = link.nested_linkinfo().push_kind_bytes(kind.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IFLA_LINK: u16 = 5;
    const IFLA_LINKINFO: u16 = 18;
    const IFLA_LINK_NETNSID: u16 = 37;
    const IFLA_XDP: u16 = 43;

    /// An attribute, as it lies in a message.
    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let len = u16::try_from(value.len() + 4).unwrap();
        let mut bytes = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// The link of index 3 with these attributes.
    fn read(attributes: &[Vec<u8>]) -> Link {
        let header = Ifinfomsg {
            ifi_index: 3,
            ifi_type: Link::ETHERNET,
            ..Ifinfomsg::new()
        };
        let body = [header.as_slice(), &attributes.concat()].concat();
        Link::decode(&body).unwrap()
    }

    fn of_vlan(id: u16, protocol: u16) -> Vec<u8> {
        let data = [attribute(1, &id.to_ne_bytes()), attribute(5, &protocol.to_be_bytes())];
        let info = [attribute(1, b"vlan\0"), attribute(2, &data.concat())];
        attribute(IFLA_LINKINFO, &info.concat())
    }

    #[test]
    fn a_vlan_device_tells_its_tag_and_the_device_below() {
        let below = attribute(IFLA_LINK, &7_u32.to_ne_bytes());
        let link = read(&[below, of_vlan(100, 0x8100)]);
        assert_eq!((link.hardware, link.kind.as_deref()), (1, Some("vlan")));
        assert_eq!(link.carrier, Some(7));
        assert_eq!(link.vlan, Some(Vlan { id: 100, outer: false }));
        let link = read(&[of_vlan(4094, 0x88a8)]);
        assert_eq!(link.vlan, Some(Vlan { id: 4094, outer: true }));
    }

    #[test]
    fn a_device_in_another_namespace_is_no_carrier() {
        let below = |index: u32| attribute(IFLA_LINK, &index.to_ne_bytes());
        assert_eq!(read(&[below(7)]).carrier, Some(7));
        assert_eq!(read(&[below(0)]).carrier, None);
        let elsewhere = attribute(IFLA_LINK_NETNSID, &0_i32.to_ne_bytes());
        assert_eq!(read(&[below(7), elsewhere]).carrier, None);
    }

    #[test]
    fn a_link_tells_which_program_is_attached_and_where_it_runs() {
        let cases: [(u8, &[(u16, u32)], _); 6] = [
            (0, &[], None),
            (1, &[(4, 12), (5, 12)], Some((12, AttachMode::Native))),
            (2, &[(4, 13), (6, 13)], Some((13, AttachMode::Generic))),
            (3, &[(4, 14), (7, 14)], Some((14, AttachMode::Offload))),
            (4, &[(7, 15), (6, 16), (5, 17)], Some((17, AttachMode::Many))),
            (4, &[(7, 15)], Some((0, AttachMode::Many))),
        ];
        for (mode, programs, expected) in cases {
            let programs = programs.iter().map(|(kind, id)| attribute(*kind, &id.to_ne_bytes()));
            let xdp: Vec<u8> = [attribute(2, &[mode])].into_iter().chain(programs).flatten().collect();
            let found = read(&[attribute(IFLA_XDP, &xdp)]).attached;
            let expected = expected.map(|(program, mode)| Attached { program, mode });
            assert_eq!(found, expected, "mode {mode}");
        }
        assert_eq!(read(&[]).attached, None);
    }
}
