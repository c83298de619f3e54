//! The ports that XDP gives to its flows: the kernel must give them to nobody else. `net.ipv4.ip_local_reserved_ports`
//! names the ports that it gives to nobody who does not ask for them, for both families.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tandem_core::plane::XDP_PORTS;

/// The setting, below the root of the file system.
const SETTING: &str = "proc/sys/net/ipv4/ip_local_reserved_ports";
/// What it was before Tandem wrote it, in the folder of the agent's socket.
const BEFORE: &str = "reserved-ports";

/// Ports, as the kernel names them: `8080,9000-9010`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ports(Vec<RangeInclusive<u16>>);

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |word: &str| word.trim().parse::<u16>().map_err(|_| format!("{word:?} is no port"));
        let range = |word: &str| match word.split_once('-') {
            Some((first, last)) => Ok(number(first)?..=number(last)?),
            None => number(word).map(|port| port..=port),
        };
        let words = text.trim().split(',').filter(|word| !word.trim().is_empty());
        let ranges = words.map(range).collect::<Result<Vec<_>, String>>()?;
        Ok(Self(ranges).joined())
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, range) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let (first, last) = (range.start(), range.end());
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

impl Ports {
    /// Whether all of these are among them.
    fn has(&self, wanted: &RangeInclusive<u16>) -> bool {
        self.0
            .iter()
            .any(|range| range.contains(wanted.start()) && range.contains(wanted.end()))
    }

    /// The same and these.
    fn with(mut self, more: RangeInclusive<u16>) -> Self {
        self.0.push(more);
        self.joined()
    }

    /// The same without these.
    fn without(&self, fewer: &RangeInclusive<u16>) -> Self {
        let mut left = Vec::new();
        for range in &self.0 {
            let (first, last) = (*range.start(), *range.end());
            if first < *fewer.start() {
                left.push(first..=last.min(fewer.start() - 1));
            }
            if last > *fewer.end() {
                left.push(first.max(fewer.end() + 1)..=last);
            }
        }
        Self(left)
    }

    fn joined(mut self) -> Self {
        self.0.sort_by_key(|range| *range.start());
        let mut joined: Vec<RangeInclusive<u16>> = Vec::new();
        for range in self.0 {
            match joined.last_mut() {
                Some(last) if u32::from(*range.start()) <= u32::from(*last.end()) + 1 => {
                    *last = *last.start()..=*last.end().max(range.end());
                }
                _ => joined.push(range),
            }
        }
        Self(joined)
    }
}

/// The setting on a node, and where it is remembered what it was.
#[derive(Clone, Debug)]
pub struct Reserved {
    setting: PathBuf,
    before: PathBuf,
}

impl Reserved {
    /// The setting below this root. `socket` is the agent's.
    pub fn new(root: &Path, socket: &Path) -> Self {
        let folder = socket.parent().unwrap_or(Path::new("/run/tandem"));
        Self {
            setting: root.join(SETTING),
            before: folder.join(BEFORE),
        }
    }

    fn read(&self) -> Result<(String, Ports), String> {
        let failed = |error: &dyn fmt::Display| format!("{}: {error}", self.setting.display());
        let text = fs::read_to_string(&self.setting).map_err(|error| failed(&error))?;
        let ports = text.parse().map_err(|error: String| failed(&error))?;
        Ok((text.trim().to_owned(), ports))
    }

    fn write(&self, ports: &str) -> Result<(), String> {
        // An empty list is written as a line of its own.
        fs::write(&self.setting, format!("{ports}\n")).map_err(|error| format!("{}: {error}", self.setting.display()))
    }

    /// Adds XDP's ports, if they are not there. Returns whether it wrote anything.
    pub fn add(&self) -> Result<bool, String> {
        let (text, ports) = self.read()?;
        if ports.has(&XDP_PORTS) {
            return Ok(false);
        }
        let wanted = ports.with(XDP_PORTS);
        let refused = |error: io::Error| {
            format!(
                "{}: {error}: the ports {}-{} are not reserved for XDP: `tandem run --init-only` reserves them where it may \
                 write, or sysctl -w net.ipv4.ip_local_reserved_ports={wanted}",
                self.setting.display(),
                XDP_PORTS.start(),
                XDP_PORTS.end()
            )
        };
        // Where it cannot be written, as in most containers, nothing is noted.
        let mut setting = fs::OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(&self.setting)
            .map_err(refused)?;
        // What it was is noted first: an agent that ends here has changed nothing.
        if let Some(folder) = self.before.parent() {
            let noted = fs::create_dir_all(folder).and_then(|()| fs::write(&self.before, &text));
            noted.map_err(|error| format!("note what the reserved ports were: {}: {error}", self.before.display()))?;
        }
        setting.write_all(format!("{wanted}\n").as_bytes()).map_err(|error| {
            let _: io::Result<()> = fs::remove_file(&self.before);
            refused(error)
        })?;
        Ok(true)
    }

    /// Whether Tandem added XDP's ports, and has not taken them out again.
    pub fn were_added(&self) -> bool {
        self.before.exists()
    }

    /// Takes XDP's ports out again, if Tandem added them. Those of them that were reserved before stay so. Returns whether it wrote
    /// anything.
    pub fn remove(&self) -> Result<bool, String> {
        let before: Ports = match fs::read_to_string(&self.before) {
            Ok(text) => text.parse().unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(format!("{}: {error}", self.before.display())),
        };
        let (_, now) = self.read()?;
        let mut wanted = now.without(&XDP_PORTS);
        for range in &before.0 {
            let (first, last) = (*range.start().max(XDP_PORTS.start()), *range.end());
            if first <= last {
                wanted = wanted.with(first..=last);
            }
        }
        let differs = wanted != now;
        if differs {
            self.write(&wanted.to_string())?;
        }
        fs::remove_file(&self.before).map_err(|error| format!("{}: {error}", self.before.display()))?;
        Ok(differs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root of a file system with this setting. It goes with the value.
    struct Root(PathBuf);

    impl Root {
        fn new(name: &str, setting: &str) -> Self {
            let root = Self(std::env::temp_dir().join(format!("tandem-reserved-{}-{name}", std::process::id())));
            fs::create_dir_all(root.file().parent().unwrap()).unwrap();
            fs::write(root.file(), setting).unwrap();
            root
        }

        fn file(&self) -> PathBuf {
            self.0.join(SETTING)
        }

        fn is(&self) -> String {
            fs::read_to_string(self.file()).unwrap().trim().to_owned()
        }

        fn reserved(&self) -> Reserved {
            Reserved::new(&self.0, &self.0.join("run/tandem.sock"))
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _: io::Result<()> = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn ports_are_read_joined_and_written_as_the_kernel_writes_them() {
        for (text, same) in [
            ("", ""),
            ("8080", "8080"),
            ("1-3,5,6-7", "1-3,5-7"),
            ("60000-60010,8080", "8080,60000-60010"),
            ("1-65535", "1-65535"),
        ] {
            assert_eq!(text.parse::<Ports>().unwrap().to_string(), same);
        }
        assert_eq!("8080,x".parse::<Ports>(), Err("\"x\" is no port".to_owned()));
        let all = "1-65535".parse::<Ports>().unwrap();
        assert_eq!(all.without(&XDP_PORTS).to_string(), "1-49151");
        assert_eq!(all.without(&(0..=u16::MAX)).to_string(), "");
    }

    #[test]
    fn what_was_reserved_before_is_reserved_afterwards_and_nothing_else() {
        for (before, with) in [
            ("", "49152-65535"),
            ("8080,9000-9010", "8080,9000-9010,49152-65535"),
            ("50000-50010", "49152-65535"),
            ("40000-60000", "40000-65535"),
        ] {
            let root = Root::new("before", before);
            let reserved = root.reserved();
            assert_eq!(reserved.remove(), Ok(false), "nothing was added");
            assert_eq!(reserved.add(), Ok(true));
            assert_eq!((root.is().as_str(), reserved.add()), (with, Ok(false)));
            // Somebody else reserves one meanwhile.
            fs::write(root.file(), format!("7000,{with}")).unwrap();
            assert_eq!(reserved.remove(), Ok(true));
            let expected = format!("7000,{before}").parse::<Ports>().unwrap().to_string();
            assert_eq!((root.is(), reserved.remove()), (expected, Ok(false)));
        }
    }

    #[test]
    fn where_the_setting_cannot_be_written_nothing_is_noted_and_it_is_said_who_can() {
        let root = Root::new("refused", "8080");
        // A setting with a number in it, which root may not write either.
        fs::remove_file(root.file()).unwrap();
        std::os::unix::fs::symlink("/proc/sys/kernel/cap_last_cap", root.file()).unwrap();
        let reserved = root.reserved();
        let why = reserved.add().unwrap_err();
        assert!(
            why.contains("the ports 49152-65535 are not reserved for XDP: `tandem run --init-only` reserves them"),
            "{why}"
        );
        assert!(!reserved.were_added());
    }

    #[test]
    fn ports_that_are_reserved_already_are_left_alone_to_the_end() {
        let root = Root::new("all", "49000-65535");
        let reserved = root.reserved();
        assert_eq!((reserved.add(), reserved.remove()), (Ok(false), Ok(false)));
        assert_eq!(root.is(), "49000-65535");
    }
}
