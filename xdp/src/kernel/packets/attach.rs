//! What ties the programs for packets to devices. The name of a link's pin says which program it has, how it is run, and the index
//! of its device: `packets-native-3`.

use std::fmt;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::str::FromStr;

use super::object::{PROGRAMS, PacketsObject};
use crate::kernel::link::Attached;
use crate::kernel::pin::{PinError, Pins};
use crate::kernel::sys;

/// Who runs a program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// The device's driver, before there is a socket buffer.
    #[default]
    Native,
    /// The kernel, after it has made a socket buffer: slower than native, and no faster than nftables by much.
    Generic,
}

impl Mode {
    /// `XDP_FLAGS_DRV_MODE` and `XDP_FLAGS_SKB_MODE`
    fn flags(self) -> u32 {
        match self {
            Self::Native => 1 << 2,
            Self::Generic => 1 << 1,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Generic => "generic",
        })
    }
}

/// Why a device's packets are not looked at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// It is gone.
    #[error("the device is gone")]
    Gone,
    /// Somebody else's program is attached.
    #[error("another XDP program is attached")]
    Foreign,
    /// Its driver runs no programs.
    #[error(
        "its driver has no native mode, or not at this moment: {0} (xdp.mode: generic works on every device, and is slower)"
    )]
    NotNative(String),
    /// The kernel refused.
    #[error("the kernel refuses: {0}")]
    Refused(String),
    /// The link could not be pinned.
    #[error("{0}")]
    Pin(String),
}

/// A link to a device, as its pin names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DevicePin {
    /// The device's index.
    pub index: u32,
    /// Who runs the program.
    pub mode: Mode,
    /// Whether the program takes packets in parts.
    pub parts: bool,
}

impl DevicePin {
    fn program(self) -> &'static str {
        PROGRAMS[usize::from(self.parts)]
    }
}

impl fmt::Display for DevicePin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.program(), self.mode, self.index)
    }
}

impl FromStr for DevicePin {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let mut words = name.split('-');
        let (Some(program), Some(mode), Some(index), None) = (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(());
        };
        Ok(Self {
            parts: match PROGRAMS.iter().position(|name| *name == program) {
                Some(place) => place == 1,
                None => return Err(()),
            },
            mode: match mode {
                "native" => Mode::Native,
                "generic" => Mode::Generic,
                _ => return Err(()),
            },
            index: index.parse().map_err(|_| ())?,
        })
    }
}

/// The links to devices that are pinned in a folder, and whether each still is attached.
pub(crate) fn pinned(links: &Path) -> Vec<(DevicePin, bool)> {
    let names = std::fs::read_dir(links).into_iter().flatten().flatten();
    let pins = names.filter_map(|entry| entry.file_name().to_str()?.parse::<DevicePin>().ok());
    let mut pins: Vec<_> = pins.map(|pin| (pin, is_attached(links, pin))).collect();
    pins.sort_unstable();
    pins
}

/// The numbers of the programs of these links.
pub(crate) fn programs(links: &Path) -> Vec<u32> {
    let program = |(pin, _): (DevicePin, bool)| {
        let link = sys::open(&links.join(pin.to_string())).ok()?;
        Some(sys::device_of(link.as_fd()).ok()??.1)
    };
    pinned(links).into_iter().filter_map(program).collect()
}

fn is_attached(links: &Path, pin: DevicePin) -> bool {
    let link = sys::open(&links.join(pin.to_string()));
    let device = link.and_then(|link| sys::device_of(link.as_fd()));
    matches!(device, Ok(Some((index, _))) if index == pin.index)
}

/// Attaches a program to a device, by the link that is pinned, or by a new one. There is no moment without a program if there is
/// a link.
pub(crate) fn attach(object: &PacketsObject, pins: &Pins, wanted: DevicePin) -> Result<Attached, DeviceError> {
    let links = pins.links();
    let refused = |error: io::Error| DeviceError::Refused(error.to_string());
    let program = object.fd(wanted.program()).map_err(refused)?;
    for (pin, attached) in pinned(&links).into_iter().filter(|(pin, _)| pin.index == wanted.index) {
        let path = links.join(pin.to_string());
        if attached && pin.mode == wanted.mode {
            update(object, &path, wanted)?;
            if pin != wanted {
                let not_pinned = |error| DeviceError::Pin(format!("rename the pin {}: {error}", path.display()));
                std::fs::rename(&path, links.join(wanted.to_string())).map_err(not_pinned)?;
            }
            return Ok(Attached::Adopted);
        }
        // It is of a device that is gone, or the program is run in another way, which a link cannot change.
        pins.remove_link(&pin.to_string())
            .map_err(|error| DeviceError::Pin(error.to_string()))?;
    }
    let link = sys::attach(program.as_fd(), wanted.index, wanted.mode.flags()).map_err(|error| why(&error, wanted))?;
    let path = links.join(wanted.to_string());
    // Without a pin, it would be gone with this process, and nobody would know why.
    let not_pinned = |error| DeviceError::Pin(format!("pin the link {}: {error}", path.display()));
    sys::pin(link.as_fd(), &path).map_err(not_pinned)?;
    Ok(Attached::Anew)
}

/// Gives the link that is pinned there the program of a device.
pub(crate) fn update(object: &PacketsObject, path: &Path, wanted: DevicePin) -> Result<(), DeviceError> {
    let refused = |error: io::Error| DeviceError::Refused(error.to_string());
    let (program, link) = (
        object.fd(wanted.program()).map_err(refused)?,
        sys::open(path).map_err(refused)?,
    );
    // A driver may refuse another program, because of the size of its packets.
    sys::update(link.as_fd(), program.as_fd()).map_err(|error| why(&error, wanted))
}

/// Detaches what is attached to a device.
pub(crate) fn detach(pins: &Pins, index: u32) -> Result<(), PinError> {
    for (pin, _) in pinned(&pins.links()).into_iter().filter(|(pin, _)| pin.index == index) {
        pins.remove_link(&pin.to_string())?;
    }
    Ok(())
}

/// Gives every link that is pinned its program of this object.
pub(crate) fn give(object: &PacketsObject, pins: &Pins) -> io::Result<()> {
    for (pin, attached) in pinned(&pins.links()) {
        if attached {
            let (program, link) = (
                object.fd(pin.program())?,
                sys::open(&pins.links().join(pin.to_string()))?,
            );
            match sys::update(link.as_fd(), program.as_fd()) {
                // The device went meanwhile.
                Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {}
                result => result?,
            }
        }
    }
    Ok(())
}

/// A refusal of the kernel, in words.
fn why(error: &io::Error, wanted: DevicePin) -> DeviceError {
    match error.raw_os_error() {
        Some(libc::ENODEV) => DeviceError::Gone,
        Some(libc::EINVAL) if !sys::is_device(wanted.index) => DeviceError::Gone,
        Some(libc::EBUSY | libc::EEXIST) => DeviceError::Foreign,
        Some(libc::EOPNOTSUPP) if wanted.mode == Mode::Native => DeviceError::NotNative(error.to_string()),
        // Drivers say so if packets of the device's MTU do not fit into what they give to programs.
        Some(libc::EINVAL | libc::ERANGE | libc::EFBIG) if wanted.mode == Mode::Native && !wanted.parts => {
            DeviceError::NotNative(format!(
                "{error}: the MTU may be too large, or other settings of the device"
            ))
        }
        _ => DeviceError::Refused(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_pin_says_what_it_is_of() {
        for parts in [false, true] {
            for mode in [Mode::Native, Mode::Generic] {
                let pin = DevicePin { index: 12, mode, parts };
                assert_eq!(pin.to_string().parse(), Ok(pin));
            }
        }
        for other in [
            "packets",
            "packets-native",
            "packets-native-x",
            "node_connect4",
            "packets-native-1-2",
            "pass-native-1",
        ] {
            assert_eq!(other.parse::<DevicePin>(), Err(()), "{other}");
        }
    }
}
