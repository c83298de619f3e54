//! Who else uses ports that XDP gives to its flows: sockets of this node, and flows that nftables masquerades. A reply to one of
//! them must not be taken for a reply to a flow of XDP's.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use tandem_core::flows::Flow;
use tandem_core::plane::XDP_PORTS;
use tandem_core::row::{Endpoint, Port, Protocol};
use tandem_xdp::Plane;
use tandem_xdp::kernel::HeldPort;

/// The lists of sockets, and their protocols.
const LISTS: [(&str, Protocol); 4] = [
    ("tcp", Protocol::Tcp),
    ("tcp6", Protocol::Tcp),
    ("udp", Protocol::Udp),
    ("udp6", Protocol::Udp),
];

/// The ports that sockets of this node use, as `/proc/net` below this root names them.
pub(super) fn of_sockets<F: Plane>(root: &Path) -> Vec<HeldPort<F>> {
    let mut ports = Vec::new();
    for (name, protocol) in LISTS {
        // Without a family, its list is not there.
        let list = fs::read_to_string(root.join("proc/net").join(name)).unwrap_or_default();
        ports.extend(list.lines().skip(1).filter_map(|line| socket::<F>(line, protocol)));
    }
    ports
}

/// The port of a flow that nftables masquerades, if it is one of XDP's.
pub(super) fn of_flow<F: Plane>(flow: &Flow<F>) -> Option<HeldPort<F>> {
    XDP_PORTS.contains(&flow.back.port.get()).then_some(HeldPort {
        port: flow.back.port.get(),
        towards: Some((flow.with, flow.protocol)),
    })
}

/// The port of a socket, if it is one of XDP's and may get packets of this family. A socket that is connected to nobody gets them
/// from anybody.
fn socket<F: Plane>(line: &str, protocol: Protocol) -> Option<HeldPort<F>> {
    let mut words = line.split_whitespace().skip(1);
    let (own, other) = (end(words.next()?)?, end(words.next()?)?);
    if !XDP_PORTS.contains(&own.1) {
        return None;
    }
    let Some(port) = Port::new(other.1) else {
        return Some(HeldPort {
            port: own.1,
            towards: None,
        });
    };
    let addr = F::addr(other.0.to_canonical())?;
    Some(HeldPort {
        port: own.1,
        towards: Some((Endpoint { addr, port }, protocol)),
    })
}

/// An address and a port: `0100007F:1F90`. Each word of an address stands in the order of the processor.
fn end(text: &str) -> Option<(IpAddr, u16)> {
    let (addr, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        u32::from_str_radix(addr.get(8 * at..8 * at + 8)?, 16)
            .ok()
            .map(u32::to_ne_bytes)
    };
    let addr = match addr.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let mut bytes = [0; 16];
            for at in 0..4 {
                bytes[4 * at..4 * at + 4].copy_from_slice(&word(at)?);
            }
            Ipv6Addr::from(bytes).into()
        }
        _ => return None,
    };
    Some((addr, port))
}

#[cfg(test)]
mod tests {
    use tandem_core::family::{V4, V6};

    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn sockets_with_ports_of_xdp_are_found_in_the_kernels_lists() {
        let tcp = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                   0: 0100007F:C350 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0\n   \
                   1: 0100000A:C351 0200000A:1F90 01 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0\n   \
                   2: 0100000A:1F90 0200000A:C351 01 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0\n";
        let udp6 = "  sl\n  1: 00000000000000000000000001000000:FFFF B80D0120000000000000000001000000:0035 07 \n";
        let root = std::env::temp_dir().join(format!("tandem-ports-{}", std::process::id()));
        fs::create_dir_all(root.join("proc/net")).unwrap();
        fs::write(root.join("proc/net/tcp"), tcp).unwrap();
        fs::write(root.join("proc/net/udp6"), udp6).unwrap();
        let (v4, v6) = (of_sockets::<V4>(&root), of_sockets::<V6>(&root));
        fs::remove_dir_all(&root).unwrap();
        let port = Port::new;
        let listens = |port| (port, None);
        let to = |addr: Ipv4Addr, at| {
            Some((
                Endpoint {
                    addr,
                    port: port(at).unwrap(),
                },
                Protocol::Tcp,
            ))
        };
        let shown: Vec<_> = v4.iter().map(|held| (held.port, held.towards)).collect();
        assert_eq!(shown, [listens(50_000), (50_001, to([10, 0, 0, 2].into(), 8080))]);
        let other = Endpoint {
            addr: "2001:db8::1".parse().unwrap(),
            port: port(53).unwrap(),
        };
        let shown: Vec<_> = v6.iter().map(|held| (held.port, held.towards)).collect();
        assert_eq!(shown, [(50_000, None), (65_535, Some((other, Protocol::Udp)))]);
    }
}
