//! Where packets go next, and the devices that they go by.

/// A next hop, in one word:
///
/// | bits | what |
/// |---|---|
/// | 0–47 | the MAC address of the neighbour |
/// | 48–53 | the number of the device; 0 is no device |
/// | 54–63 | the generation of the routes by which it was found |
///
/// A hop of an older generation is looked up again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Hop(pub u64);

/// A MAC address: its six bytes in the order of the packet, from the lowest bits up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mac(pub u64);

/// The generation of routes and neighbours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteGeneration(u16);

impl RouteGeneration {
    /// How many there are. After the last one comes the first one again.
    pub const COUNT: u16 = 1 << 10;

    /// The generation of this number.
    #[inline(always)]
    pub fn new(number: u16) -> Self {
        Self(number & (Self::COUNT - 1))
    }

    /// Its number.
    #[inline(always)]
    pub fn get(self) -> u16 {
        self.0
    }

    /// How many generations came since an earlier one.
    pub fn since(self, earlier: Self) -> u16 {
        self.0.wrapping_sub(earlier.0) & (Self::COUNT - 1)
    }

    /// The one before it.
    #[must_use]
    pub fn before(self) -> Self {
        Self::new(self.0.wrapping_sub(1))
    }
}

impl Mac {
    const MASK: u64 = (1 << 48) - 1;

    /// The address of these bytes.
    pub fn of_bytes(bytes: [u8; 6]) -> Self {
        Self(bytes.into_iter().rev().fold(0, |all, byte| all << 8 | byte as u64))
    }

    /// Its bytes.
    pub fn bytes(self) -> [u8; 6] {
        let bytes = self.0.to_le_bytes();
        [bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5]]
    }
}

impl Hop {
    const DEVICE: u32 = 48;
    const GENERATION: u32 = 54;

    /// A hop.
    #[inline(always)]
    pub fn new(mac: Mac, device: DeviceNumber, generation: RouteGeneration) -> Self {
        Self(mac.0 & Mac::MASK | (device.0 as u64) << Self::DEVICE | (generation.0 as u64) << Self::GENERATION)
    }

    /// The neighbour.
    #[inline(always)]
    pub fn mac(self) -> Mac {
        Mac(self.0 & Mac::MASK)
    }

    /// The device.
    #[inline(always)]
    pub fn device(self) -> DeviceNumber {
        DeviceNumber((self.0 >> Self::DEVICE) as u8 & (DeviceNumber::COUNT - 1))
    }

    /// The same hop of another generation: it is looked up again.
    #[inline(always)]
    #[must_use]
    pub fn outdated(self) -> Self {
        Self(self.0 ^ 1 << Self::GENERATION)
    }

    /// Whether it was found by this generation.
    #[inline(always)]
    pub fn is_of(self, generation: RouteGeneration) -> bool {
        (self.0 >> Self::GENERATION) as u16 == generation.0
    }

    /// The generation by which it was found.
    #[inline(always)]
    pub fn generation(self) -> RouteGeneration {
        RouteGeneration((self.0 >> Self::GENERATION) as u16)
    }

    /// The same hop, found again.
    #[inline(always)]
    #[must_use]
    pub fn renewed(self, generation: RouteGeneration) -> Self {
        Self::new(self.mac(), self.device(), generation)
    }
}

/// The number of a device that packets may leave by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceNumber(u8);

impl DeviceNumber {
    /// How many numbers there are. The first one, 0, is no device's.
    pub const COUNT: u8 = 64;

    /// The device of this number, if there is one.
    #[inline(always)]
    pub fn new(number: u8) -> Option<Self> {
        if 0 < number && number < Self::COUNT {
            Some(Self(number))
        } else {
            None
        }
    }

    /// Its number.
    #[inline(always)]
    pub fn get(self) -> u8 {
        self.0
    }
}

/// What names a device: its index in the kernel, and a VLAN on it, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct DeviceKey {
    /// The index.
    pub index: u32,
    /// The VLAN's number; 0 for none.
    pub vlan: u32,
}

/// What stands about the key of a device, in one word: the number of the device (bits 0–7), and a check of the key (bits
/// 32–63).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct DeviceWord(pub u64);

impl DeviceWord {
    /// The word for a key.
    pub fn new(key: DeviceKey, device: DeviceNumber) -> Self {
        Self(device.0 as u64 | Self::check(key))
    }

    /// The device, if the word stands about this key.
    #[inline(always)]
    pub fn device(self, key: DeviceKey) -> Option<DeviceNumber> {
        if self.0 & !0xffff_ffff != Self::check(key) {
            return None;
        }
        DeviceNumber::new(self.0 as u8)
    }

    #[inline(always)]
    fn check(key: DeviceKey) -> u64 {
        crate::address::mix(key.index as u64, key.vlan as u64) & !0xffff_ffff
    }
}

/// A device by which packets may leave, as five words: where it is, its own MAC address, and its source addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// The index of the device that carries it.
    pub index: u32,
    /// The VLAN's number, in the processor's order; 0 for none.
    pub vlan: u16,
    /// The largest packet, without the Ethernet header.
    pub mtu: u16,
    /// Its own MAC address.
    pub mac: Mac,
    /// Whether a packet may leave by the way it came (`XDP_TX`). If not, it is redirected to the same device.
    pub returns: bool,
}

/// How many words there are for a device. Some are not used.
pub const DEVICE_WORDS: u32 = 8;
/// Where the source address is: IPv4's, and the two words of IPv6's.
pub const DEVICE_SOURCES: [u32; 2] = [2, 3];

impl Device {
    const RETURNS: u64 = 1 << 48;

    /// The first two words.
    pub fn words(self) -> [u64; 2] {
        let first = self.index as u64 | (self.vlan as u64) << 32 | (self.mtu as u64) << 48;
        [first, self.mac.0 | if self.returns { Self::RETURNS } else { 0 }]
    }

    /// The device of two words.
    #[inline(always)]
    pub fn of_words(first: u64, second: u64) -> Self {
        Self {
            index: first as u32,
            vlan: (first >> 32) as u16,
            mtu: (first >> 48) as u16,
            mac: Mac(second & Mac::MASK),
            returns: second & Self::RETURNS != 0,
        }
    }
}

/// Which device a packet came in by, in one word: its MAC address (bits 0–47) and the low bits of its index (bits 48–63). The
/// place of the word is the index, too, as far as there are places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct IngressWord(pub u64);

impl IngressWord {
    /// How many places there are.
    pub const COUNT: u32 = 1024;

    /// The word of a device.
    pub fn new(index: u32, mac: Mac) -> Self {
        Self(mac.0 | (index as u64) << 48)
    }

    /// The place of a device.
    #[inline(always)]
    pub fn place(index: u32) -> u32 {
        index & (Self::COUNT - 1)
    }

    /// The MAC address, if the word stands about this device.
    #[inline(always)]
    pub fn mac(self, index: u32) -> Option<Mac> {
        if self.0 == 0 || (self.0 >> 48) as u16 != index as u16 {
            return None;
        }
        Some(Mac(self.0 & Mac::MASK))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hop_gives_back_what_it_was_made_of() {
        let mac = Mac::of_bytes([2, 0x74, 0xff, 4, 5, 0xfe]);
        assert_eq!(mac.bytes(), [2, 0x74, 0xff, 4, 5, 0xfe]);
        let device = DeviceNumber::new(63).unwrap();
        let last = RouteGeneration::new(RouteGeneration::COUNT - 1);
        let hop = Hop::new(mac, device, last);
        assert_eq!((hop.mac(), hop.device(), hop.generation()), (mac, device, last));
        let next = RouteGeneration::new(last.get() + 1);
        assert_eq!(
            (next.since(last), last.since(last), last.since(next)),
            (1, 0, RouteGeneration::COUNT - 1)
        );
        assert_eq!(next.before(), last);
        assert_eq!(next.get(), 0);
        assert!(hop.is_of(last) && !hop.is_of(next) && hop.renewed(next).is_of(next));
        assert_eq!(hop.renewed(next).mac(), mac);
        assert_eq!(DeviceNumber::new(0), None);
        assert_eq!(DeviceNumber::new(64), None);
    }

    #[test]
    fn a_device_is_found_by_its_own_key_alone() {
        let key = DeviceKey { index: 3, vlan: 100 };
        let number = DeviceNumber::new(5).unwrap();
        let word = DeviceWord::new(key, number);
        assert_eq!(word.device(key), Some(number));
        assert_eq!(word.device(DeviceKey { index: 3, vlan: 101 }), None);
        let device = Device {
            index: u32::MAX,
            vlan: 4095,
            mtu: 9000,
            mac: Mac::of_bytes([1; 6]),
            returns: true,
        };
        let [first, second] = device.words();
        assert_eq!(Device::of_words(first, second), device);
    }

    #[test]
    fn a_packet_of_an_unknown_device_is_told() {
        let mac = Mac::of_bytes([2, 0, 0, 0, 0, 1]);
        let word = IngressWord::new(7, mac);
        assert_eq!(word.mac(7), Some(mac));
        assert_eq!(word.mac(7 + IngressWord::COUNT), None);
        assert_eq!(IngressWord::default().mac(0), None);
    }
}
