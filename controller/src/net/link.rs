//! Links: the network interfaces.

use netlink_bindings::rt_link::{IfinfoFlags, Ifinfomsg, OpDellinkDo, OpGetlinkDump, OpNewlinkDo};
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
        let kind = link.get_linkinfo().and_then(|info| info.get_kind());
        Some(Self {
            index: u32::try_from(header.ifi_index).ok().filter(|index| *index != 0)?,
            name: link.get_ifname().ok().and_then(interface_name),
            kind: kind.ok().map(|kind| kind.to_string_lossy().into_owned()),
            mac: link.get_address().ok().and_then(|bytes| bytes.try_into().ok()).map(Mac),
            mtu: link.get_mtu().unwrap_or_default(),
            up: header.ifi_flags & UP != 0,
            running: header.ifi_flags & RUNNING != 0,
            master: link.get_master().ok(),
        })
    }

    fn passes(&self, Links: &Links) -> bool {
        true
    }
}

impl Link {
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
