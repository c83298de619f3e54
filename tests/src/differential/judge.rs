//! What both worlds must have in common.

use std::net::IpAddr;

use super::talk::Seen;

/// Who asked, and what is known of both worlds.
pub(super) struct Question<'a> {
    /// The client's address.
    pub(super) client: IpAddr,
    /// The addresses of the node.
    pub(super) node: [IpAddr; 2],
    /// The endpoints of which one is to answer; none if nobody is.
    pub(super) set: &'a [usize],
    /// Whether a Service has the address and port.
    pub(super) is_known: bool,
}

/// Whose address the endpoint saw.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Source {
    Client,
    Node,
    Other(IpAddr),
}

/// An ending without what may differ: which of the endpoints answered, and the source's port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Answered(Source),
    Not(Seen),
}

impl Question<'_> {
    fn kind(&self, seen: Seen) -> Kind {
        match seen {
            Seen::Answered(_, source) if source.ip() == self.client => Kind::Answered(Source::Client),
            Seen::Answered(_, source) if self.node.contains(&source.ip()) => Kind::Answered(Source::Node),
            Seen::Answered(_, source) => Kind::Answered(Source::Other(source.ip())),
            // Routers may answer less often than they are asked.
            Seen::Unreachable if !self.is_known => Kind::Not(Seen::Silent),
            other => Kind::Not(other),
        }
    }

    /// What is wrong about an ending by itself.
    pub(super) fn check(&self, seen: Seen) -> Result<(), String> {
        match seen {
            Seen::Answered(by, _) if !self.set.contains(&by) => {
                Err(format!("{by} answers, and not one of {:?}", self.set))
            }
            Seen::Answered(..) => Ok(()),
            other if !self.set.is_empty() => Err(format!("{other:?}, although one of {:?} is to answer", self.set)),
            _ => Ok(()),
        }
    }

    /// What is wrong about the endings in both worlds: nft's and xdp's.
    pub(super) fn compare(&self, [nft, xdp]: [Seen; 2]) -> Result<(), String> {
        self.check(nft).map_err(|wrong| format!("nft: {wrong}"))?;
        self.check(xdp).map_err(|wrong| format!("xdp: {wrong}"))?;
        let (one, other) = (self.kind(nft), self.kind(xdp));
        if one == other {
            Ok(())
        } else {
            Err(format!("nft: {one:?}, xdp: {other:?}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 20));
    const NODE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 11));

    fn compare(set: &[usize], is_known: bool, seen: [Seen; 2]) -> bool {
        let question = Question {
            client: CLIENT,
            node: [NODE; 2],
            set,
            is_known,
        };
        question.compare(seen).is_ok()
    }

    #[test]
    fn any_endpoint_may_answer_and_all_else_must_be_the_same() {
        let by = |pod, source: IpAddr, port| Seen::Answered(pod, (source, port).into());
        let right = by(1, NODE, 2000);
        assert!(compare(&[1, 2], true, [right, by(2, NODE, 50_000)]));
        assert!(!compare(&[1, 2], true, [right, by(3, NODE, 50_000)]));
        assert!(!compare(&[1, 2], true, [right, by(2, CLIENT, 50_000)]));
        assert!(!compare(&[1, 2], true, [right, Seen::Refused]));
        assert!(!compare(&[1], true, [Seen::Silent; 2]));
        assert!(!compare(&[], true, [right; 2]));
        assert!(!compare(&[], true, [Seen::Refused, Seen::Silent]));
        assert!(!compare(&[], true, [Seen::Unreachable, Seen::Silent]));
        assert!(compare(&[], false, [Seen::Unreachable, Seen::Silent]));
        assert!(compare(&[], true, [Seen::Refused; 2]));
    }
}
