//! Routing rules: they say in which order the kernel asks which routing table.

use netlink_bindings::rt_rule::{FibRuleHdr, FrAct, OpGetruleDump, OpNewruleDo};
use netlink_bindings::traits::NetlinkRequest as _;
use tandem_core::family::IpFamily;
use tandem_core::node::InterfaceName;

use super::Origin;
use super::object::{Listed, family, interface_name, kind, number};

/// `FR_ACT_TO_TBL`
const TO_TABLE: u8 = FrAct::ToTbl as u8;

/// A routing rule that names a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The family of its packets.
    pub family: IpFamily,
    /// The kernel asks the lowest first.
    pub priority: u32,
    /// The table that it names.
    pub table: u32,
    /// Only packets that came in by this link. The node's own packets count as coming in by `lo`.
    pub from_link: Option<InterfaceName>,
    /// Only packets with this mark.
    pub mark: Option<u32>,
    /// Who made it.
    pub origin: Origin,
}

/// The rules of one family.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The family.
    pub family: IpFamily,
}

impl Listed for Rule {
    type Filter = Rules;
    const NAME: &'static str = "rules";
    const GET: u16 = kind::RULE + kind::GET;

    fn ask(filter: &Rules, body: &mut Vec<u8>) {
        let header = FibRuleHdr {
            family: number(filter.family),
            ..FibRuleHdr::new()
        };
        let _ = OpGetruleDump::encode_request(body, &header);
    }

    /// None if the rule does not name a table, or if it selects packets by source or destination.
    fn decode(body: &[u8]) -> Option<Self> {
        let (header, rule) = OpGetruleDump::decode_reply(body);
        if header.action != TO_TABLE || header.src_len != 0 || header.dst_len != 0 {
            return None;
        }
        Some(Self {
            family: family(header.family)?,
            priority: rule.get_priority().unwrap_or_default(),
            table: rule.get_table().unwrap_or(header.table.into()),
            from_link: rule.get_iifname().ok().and_then(interface_name),
            mark: rule.get_fwmark().ok().filter(|mark| *mark != 0),
            origin: Origin(rule.get_protocol().unwrap_or_default()),
        })
    }

    fn passes(&self, filter: &Rules) -> bool {
        self.family == filter.family
    }
}

impl Rule {
    pub(super) fn encode(&self, body: &mut Vec<u8>) {
        let header = FibRuleHdr {
            family: number(self.family),
            action: TO_TABLE,
            ..FibRuleHdr::new()
        };
        let mut rule = OpNewruleDo::encode_request(body, &header)
            .push_priority(self.priority)
            .push_table(self.table)
            .push_protocol(self.origin.0);
        if let Some(mark) = self.mark {
            rule = rule.push_fwmark(mark);
        }
        if let Some(link) = self.from_link {
            let _ = rule.push_iifname_bytes(link.as_str().as_bytes());
        }
    }
}
