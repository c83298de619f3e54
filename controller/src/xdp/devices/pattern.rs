//! How the configuration names devices (`xdp.devices`).

use std::fmt;
use std::str::FromStr;

use tandem_core::node::InterfaceName;

const DEFAULT_ROUTE: &str = "default-route";
const AUTO: &str = "auto";

/// Some devices. A device whose own name is one of the two words can only be named with a `*`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DevicePattern {
    /// The one of this name.
    Name(InterfaceName),
    /// All whose name is like this.
    Glob(Glob),
    /// `default-route`: those that a default route of either family leaves by.
    DefaultRoute,
    /// `auto`: those that can be used and that packets from outside may come by.
    Auto,
}

/// A name with at least one `*`, which stands for any number of characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Glob(Box<str>);

/// A text that names no devices.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value:?}: {why}")]
pub struct BadPattern {
    /// The text.
    pub value: String,
    /// Why it names none.
    pub why: &'static str,
}

impl Glob {
    /// Whether a name is like this.
    pub fn matches(&self, name: &InterfaceName) -> bool {
        let mut name = name.as_str();
        let mut parts = self.0.split('*');
        // The first part and the last one are at the ends of the name. Each other one is found as early as possible, so
        // that most is left for those after it.
        let (Some(first), Some(last)) = (parts.next(), parts.next_back()) else {
            return false;
        };
        let Some(rest) = name.strip_prefix(first) else {
            return false;
        };
        name = rest;
        for part in parts {
            let Some((_, rest)) = name.split_once(part) else {
                return false;
            };
            name = rest;
        }
        name.ends_with(last)
    }
}

impl FromStr for DevicePattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, BadPattern> {
        let bad = |why| BadPattern {
            value: text.to_owned(),
            why,
        };
        match text {
            DEFAULT_ROUTE => return Ok(Self::DefaultRoute),
            AUTO => return Ok(Self::Auto),
            "" => return Err(bad("empty: name a device, or write auto or default-route")),
            _ => {}
        }
        if text.contains(char::is_whitespace) {
            return Err(bad("no name of a device has white space in it"));
        }
        if text.contains('/') {
            return Err(bad("no name of a device has a / in it"));
        }
        // A `*` may stand for nothing.
        let written: String = text.split('*').collect();
        if written.len() >= InterfaceName::SIZE {
            return Err(bad("no name of a device is longer than 15 bytes"));
        }
        let is_glob = written.len() < text.len();
        // The part of a name may be what no name is: nothing, or dots.
        if is_glob && written.bytes().all(|byte| byte == b'.') {
            return Ok(Self::Glob(Glob(text.into())));
        }
        let name = InterfaceName::parse(&written).map_err(|_| bad("not the name of a device"))?;
        Ok(if is_glob {
            Self::Glob(Glob(text.into()))
        } else {
            Self::Name(name)
        })
    }
}

impl fmt::Display for DevicePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name(name) => name.as_str(),
            Self::Glob(glob) => &glob.0,
            Self::DefaultRoute => DEFAULT_ROUTE,
            Self::Auto => AUTO,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_shown_as_it_was_written() {
        let patterns = [
            "eth0",
            "eth0.100",
            "eth*",
            "*",
            "e*p*s0",
            "default-route",
            "auto",
            "aut*",
            "**",
            "123456789012345*",
        ];
        for text in patterns {
            assert_eq!(text.parse::<DevicePattern>().unwrap().to_string(), text);
        }
        assert_eq!("auto".parse(), Ok(DevicePattern::Auto));
        assert_eq!("default-route".parse(), Ok(DevicePattern::DefaultRoute));
        assert!(matches!("aut*".parse(), Ok(DevicePattern::Glob(_))));
        assert!(matches!("Auto".parse(), Ok(DevicePattern::Name(_))));
    }

    #[test]
    fn a_bad_pattern_is_named_with_the_reason() {
        let cases = [
            ("", "\"\": empty"),
            (
                "abcdefghijklmnop",
                "\"abcdefghijklmnop\": no name of a device is longer than 15 bytes",
            ),
            ("abcdefgh*ijklmnop", "longer than 15"),
            ("a/b", "\"a/b\": no name of a device has a / in it"),
            ("a/*", "a / in it"),
            ("eth0 eth1", "white space"),
            (" eth0", "white space"),
            ("eth0\n", "white space"),
            (".", "not the name of a device"),
            ("..", "not the name of a device"),
            ("a:1", "not the name of a device"),
            ("é*", "not the name of a device"),
        ];
        for (text, said) in cases {
            let error = text.parse::<DevicePattern>().unwrap_err();
            assert_eq!(error.value, text);
            assert!(error.to_string().contains(said), "{error}");
        }
    }

    #[test]
    fn a_star_stands_for_any_number_of_characters() {
        let cases = [
            ("eth*", "eth0", true),
            ("eth*", "eth", true),
            ("eth*", "veth0", false),
            ("*", "lo", true),
            ("*0", "eth0", true),
            ("*0", "eth01", false),
            ("e*0", "e0", true),
            ("e*e", "e", false),
            ("e*e", "ee", true),
            ("enp*s*f0", "enp3s0f0", true),
            ("enp*s*f0", "enp3s0f1", false),
            ("*a*a*", "a", false),
            ("*a*a*", "banana", true),
            ("*ab*b", "ab", false),
            ("*ab*b", "abb", true),
            ("a**b", "ab", true),
        ];
        for (text, name, expected) in cases {
            let Ok(DevicePattern::Glob(glob)) = text.parse() else {
                panic!("{text}");
            };
            let name = InterfaceName::parse(name).unwrap();
            assert_eq!(glob.matches(&name), expected, "{text} {name}");
        }
    }
}
