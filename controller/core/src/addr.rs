//! Parses addresses and ranges. A parsed value is canonical and safe, and nobody checks it again.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

/// A parsed value. It also says whether its text was not canonical (leading zeros, IPv4 inside IPv6), which deserves a
/// warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed<T> {
    /// The value that the text means.
    pub value: T,
    /// Whether the text was written in a form that other programs may read as something else.
    pub unusual: bool,
}

/// Why a text is not an address or a range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The text is no address.
    #[error("not an IP address")]
    Address,
    /// The text is no range.
    #[error("not a range in CIDR notation")]
    Range,
    /// The address is one that Tandem never sends to.
    #[error("{0} addresses are never sent to")]
    Forbidden(Forbidden),
}

/// Kinds of addresses that no object may make Tandem send to (CVE-2021-25737).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forbidden {
    /// `0.0.0.0`, `::`
    Unspecified,
    /// `127.0.0.0/8`, `::1`
    Loopback,
    /// `169.254.0.0/16`, `fe80::/10`
    LinkLocal,
    /// `224.0.0.0/4`, `ff00::/8`, `255.255.255.255`
    Multicast,
}

impl std::fmt::Display for Forbidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "unspecified",
            Self::Loopback => "loopback",
            Self::LinkLocal => "link-local",
            Self::Multicast => "multicast",
        })
    }
}

/// Reads an address. Octets with leading zeros are decimal, as kube-proxy reads them (CVE-2021-29923). An IPv4 address
/// written inside IPv6 becomes the IPv4 address.
pub fn parse_ip(text: &str) -> Result<Parsed<IpAddr>, ParseError> {
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(v6)) => Ok(match v6.to_ipv4_mapped() {
            Some(v4) => Parsed {
                value: v4.into(),
                unusual: true,
            },
            None => Parsed {
                value: v6.into(),
                unusual: false,
            },
        }),
        Ok(v4) => Ok(Parsed {
            value: v4,
            unusual: false,
        }),
        Err(_) => Ok(Parsed {
            value: leading_zeros(text).ok_or(ParseError::Address)?.into(),
            unusual: true,
        }),
    }
}

/// Reads a range in CIDR notation. Bits outside the mask are cleared.
pub fn parse_net(text: &str) -> Result<Parsed<IpNet>, ParseError> {
    let (addr, bits) = text.trim().split_once('/').ok_or(ParseError::Range)?;
    if bits.is_empty() || !bits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ParseError::Range);
    }
    let addr = parse_ip(addr).map_err(|_| ParseError::Range)?;
    let bits: u8 = bits.parse().map_err(|_| ParseError::Range)?;
    let net = IpNet::new(addr.value, bits).map_err(|_| ParseError::Range)?;
    Ok(Parsed {
        value: net.trunc(),
        unusual: addr.unusual,
    })
}

/// Reads an address that connections may be sent to.
pub fn parse_endpoint(text: &str) -> Result<Parsed<IpAddr>, ParseError> {
    let parsed = parse_ip(text)?;
    match forbidden(parsed.value) {
        Some(kind) => Err(ParseError::Forbidden(kind)),
        None => Ok(parsed),
    }
}

/// The kind of an address that Tandem never sends to and never takes traffic for; none for all others.
pub fn forbidden(addr: IpAddr) -> Option<Forbidden> {
    let link_local = match addr {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if addr.is_unspecified() {
        Some(Forbidden::Unspecified)
    } else if addr.is_loopback() {
        Some(Forbidden::Loopback)
    } else if link_local {
        Some(Forbidden::LinkLocal)
    } else if addr.is_multicast() || addr == IpAddr::V4(Ipv4Addr::BROADCAST) {
        Some(Forbidden::Multicast)
    } else {
        None
    }
}

fn leading_zeros(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        if part.is_empty() || part.len() > 16 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let digits = part.trim_start_matches('0');
        *octet = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    }
    parts.next().is_none().then(|| octets.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_zeros_are_decimal_and_worth_a_warning() {
        let parsed = parse_ip("192.168.0.011").unwrap();
        assert_eq!(
            parsed,
            Parsed {
                value: "192.168.0.11".parse().unwrap(),
                unusual: true
            }
        );
        assert_eq!(
            parse_net("203.0.113.000/025").unwrap().value,
            "203.0.113.0/25".parse().unwrap()
        );
        assert_eq!(
            parse_ip("010.0.0.010").unwrap().value,
            "10.0.0.10".parse::<IpAddr>().unwrap()
        );
    }

    #[test]
    fn an_ipv4_address_inside_ipv6_is_the_ipv4_address() {
        let parsed = parse_ip("::ffff:10.0.0.1").unwrap();
        assert_eq!(
            parsed,
            Parsed {
                value: "10.0.0.1".parse().unwrap(),
                unusual: true
            }
        );
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "1.2.3",
            "1.2.3.4.5",
            "1.2.3.256",
            "0x1.2.3.4",
            "fe80::1%eth0",
            "1.2.3.4 ",
            "::ffff:0:10.0.0.256",
        ] {
            assert_eq!(parse_ip(text), Err(ParseError::Address), "{text:?}");
        }
        for text in ["10.0.0.0", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "::/129", "/8"] {
            assert_eq!(parse_net(text), Err(ParseError::Range), "{text:?}");
        }
    }

    #[test]
    fn ranges_lose_the_bits_behind_their_mask() {
        assert_eq!(parse_net(" 10.1.2.3/8 ").unwrap().value, "10.0.0.0/8".parse().unwrap());
    }

    #[test]
    fn endpoints_in_special_ranges_are_refused_with_the_kind() {
        for (text, kind) in [
            ("0.0.0.0", Forbidden::Unspecified),
            ("::", Forbidden::Unspecified),
            ("127.0.0.1", Forbidden::Loopback),
            ("127.9.9.9", Forbidden::Loopback),
            ("::1", Forbidden::Loopback),
            ("::ffff:127.0.0.1", Forbidden::Loopback),
            ("169.254.169.254", Forbidden::LinkLocal),
            ("fe80::1", Forbidden::LinkLocal),
            ("224.0.0.1", Forbidden::Multicast),
            ("255.255.255.255", Forbidden::Multicast),
            ("ff02::1", Forbidden::Multicast),
        ] {
            assert_eq!(parse_endpoint(text), Err(ParseError::Forbidden(kind)), "{text}");
        }
        assert!(parse_endpoint("10.0.0.1").is_ok());
    }
}
