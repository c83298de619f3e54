//! What each program asks first.

/// Whether a family's programs answer, and by which settings, in one word:
///
/// | bits | what |
/// |---|---|
/// | 0 | whether they answer |
/// | 1 | `masqueradeAll` |
/// | 2 | whether nobody is told to be a pod (`detectLocal: none`) |
/// | 3 | whether nodePorts are served on loopback addresses |
/// | 4 | whether some UDP sockets are held: they stay with nftables |
/// | 16–31 | the lowest nodePort in use |
/// | 32–47 | the highest nodePort in use; 0 if there is none |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Switch(pub u64);

impl Switch {
    const ON: u64 = 1;
    const MASQUERADE_ALL: u64 = 1 << 1;
    const DETECTS_NOBODY: u64 = 1 << 2;
    const LOOPBACK: u64 = 1 << 3;
    /// The bit that says whether some sockets are held.
    pub const HELD: u64 = 1 << 4;

    /// The word of a family whose programs answer nothing.
    pub const OFF: Self = Self(0);

    /// The word of a family whose programs answer.
    pub fn on(masquerade_all: bool, detects_nobody: bool, loopback: bool) -> Self {
        let bit = |bit: u64, set: bool| if set { bit } else { 0 };
        let settings = bit(Self::MASQUERADE_ALL, masquerade_all) | bit(Self::DETECTS_NOBODY, detects_nobody);
        Self(Self::ON | settings | bit(Self::LOOPBACK, loopback))
    }

    /// The same with these nodePorts in use, from the lowest to the highest.
    #[must_use]
    pub fn with_node_ports(self, range: Option<(u16, u16)>) -> Self {
        let (low, high) = range.unwrap_or_default();
        Self(self.0 & 0xffff | (low as u64) << 16 | (high as u64) << 32)
    }

    /// The same, and some sockets are held, or none is.
    #[must_use]
    pub fn with_held(self, held: bool) -> Self {
        let rest = self.0 & !Self::HELD;
        Self(if held { rest | Self::HELD } else { rest })
    }

    /// Whether some sockets are held.
    #[inline(always)]
    pub fn has_held(self) -> bool {
        self.0 & Self::HELD != 0
    }

    /// The nodePorts in use, from the lowest to the highest.
    pub fn node_ports(self) -> Option<(u16, u16)> {
        let (low, high) = ((self.0 >> 16) as u16, (self.0 >> 32) as u16);
        if high == 0 { None } else { Some((low, high)) }
    }

    /// Whether the programs answer.
    #[inline(always)]
    pub fn is_on(self) -> bool {
        self.0 & Self::ON != 0
    }

    /// Whether `masqueradeAll` is on.
    #[inline(always)]
    pub fn masquerade_all(self) -> bool {
        self.0 & Self::MASQUERADE_ALL != 0
    }

    /// Whether nobody is told to be a pod.
    #[inline(always)]
    pub fn detects_nobody(self) -> bool {
        self.0 & Self::DETECTS_NOBODY != 0
    }

    /// Whether nodePorts are served on loopback addresses.
    #[inline(always)]
    pub fn loopback(self) -> bool {
        self.0 & Self::LOOPBACK != 0
    }

    /// Whether a port, in the processor's order, may be a nodePort.
    #[inline(always)]
    pub fn may_be_node_port(self, port: u16) -> bool {
        (self.0 >> 16) as u16 <= port && port <= (self.0 >> 32) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::Switch;

    #[test]
    fn only_ports_in_use_may_be_node_ports() {
        let switch = Switch::on(false, true, false);
        assert!(!switch.may_be_node_port(1) && !switch.may_be_node_port(30000));
        let switch = switch.with_node_ports(Some((30000, 30010)));
        let may: [bool; 4] = [29999, 30000, 30010, 30011].map(|port| switch.may_be_node_port(port));
        assert_eq!(may, [false, true, true, false]);
        assert!(switch.is_on() && switch.detects_nobody() && !switch.masquerade_all() && !switch.loopback());
        assert_eq!(switch.node_ports(), Some((30000, 30010)));
        let held = switch.with_held(true);
        assert!(held.has_held() && held.is_on() && held.node_ports() == switch.node_ports());
        assert!(!switch.has_held() && held.with_held(false) == switch);
        assert!(!switch.with_node_ports(None).may_be_node_port(30000));
        assert!(!Switch::OFF.is_on());
    }
}
