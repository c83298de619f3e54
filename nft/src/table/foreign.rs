//! Lists chains of other programs: those that translate, those that drop what is forwarded, and those that kube-proxy
//! left. It only reads.

use std::collections::{HashMap, HashSet};
use std::fs;

use netlink_bindings::nftables::{ChainAttrs, NftHookAttrs, RuleAttrs, TableAttrs, VerdictCode};
use tandem_core::family::IpFamily;
use tandem_core::plane::{ForwardDrop, Place};

use crate::family::{INET, IPV4, IPV6, UNSPEC, numbers};
use crate::rules::fixed_chain::{FORWARD, FixedChain};
use crate::wire::socket::{ListError, NetlinkSocket};
use crate::wire::{Command, DUMP, attr, message_attributes, message_nfproto, text};

/// The name of kube-proxy's table of nftables mode.
pub(crate) const KUBE_PROXY: &str = "kube-proxy";
/// kube-proxy's chain of iptables mode and ipvs mode, in table `nat`.
pub(crate) const KUBE_SERVICES: &str = "KUBE-SERVICES";

/// A nat chain of another program. The handles tell a table from one that was made anew under the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ForeignNatChain {
    pub(crate) nfproto: u8,
    pub(crate) table: u64,
    pub(crate) chain: u64,
    /// Whether a kube-proxy made its table, or has chains there.
    pub(crate) kube_proxy: bool,
}

/// What a listing of all chains holds.
#[derive(Debug, Default)]
struct Listed {
    /// Chains that translate, each with its table's name.
    nat: Vec<(Vec<u8>, ForeignNatChain)>,
    /// The tables with kube-proxy's chain of iptables mode.
    with_services: HashSet<(u8, Vec<u8>)>,
}

/// The chains of other tables that translate this family's packets where this table's chains do, with equal priority.
pub(crate) fn nat_chains(socket: &mut NetlinkSocket, family: IpFamily) -> Result<HashSet<ForeignNatChain>, ListError> {
    let nfproto = numbers(family).nfproto;
    let tables: HashMap<(u8, Vec<u8>), u64> = socket.query(
        Command::GetTable,
        DUMP,
        UNSPEC,
        |_| (),
        HashMap::new,
        |tables, body| {
            let (mut name, mut handle) = (Vec::new(), 0);
            for attribute in TableAttrs::new(message_attributes(body)).flatten() {
                match attribute {
                    TableAttrs::Name(text) => name = text.to_bytes().to_vec(),
                    TableAttrs::Handle(number) => handle = number,
                    _ => {}
                }
            }
            tables.insert((message_nfproto(body), name), handle);
        },
    )?;
    let listed = socket.query(
        Command::GetChain,
        DUMP,
        UNSPEC,
        |_| (),
        Listed::default,
        |listed, body| {
            let of = message_nfproto(body);
            let (mut table, mut handle, mut nat, mut at) = (Vec::new(), 0, false, (0, 0));
            let mut services = false;
            for attribute in ChainAttrs::new(message_attributes(body)).flatten() {
                match attribute {
                    ChainAttrs::Table(name) => table = name.to_bytes().to_vec(),
                    ChainAttrs::Handle(number) => handle = number,
                    ChainAttrs::Name(name) => services = name.to_bytes() == KUBE_SERVICES.as_bytes(),
                    ChainAttrs::Type(kind) => nat = kind.to_bytes() == b"nat",
                    ChainAttrs::Hook(hook) => {
                        for part in hook.flatten() {
                            match part {
                                NftHookAttrs::Num(number) => at.0 = number,
                                NftHookAttrs::Priority(priority) => at.1 = priority,
                                _ => {}
                            }
                        }
                    }
                    _ => {}
                }
            }
            let meets = FixedChain::of_nat(Place::First).any(|(_, hook)| (hook.number, hook.priority) == at);
            if services {
                listed.with_services.insert((of, table.clone()));
            }
            if nat && meets && (of == nfproto || of == INET) && table != crate::TABLE.as_bytes() {
                let chain = ForeignNatChain {
                    nfproto: of,
                    table: tables.get(&(of, table.clone())).copied().unwrap_or_default(),
                    chain: handle,
                    kube_proxy: table == KUBE_PROXY.as_bytes(),
                };
                listed.nat.push((table, chain));
            }
        },
    )?;
    let (nat, with_services) = (listed.nat, listed.with_services);
    let chains = nat.into_iter().map(|(table, chain)| ForeignNatChain {
        kube_proxy: chain.kube_proxy || with_services.contains(&(chain.nfproto, table)),
        ..chain
    });
    Ok(chains.collect())
}

/// The number of the youngest rule of a chain. None if there is no such chain, and 0 if it has no rule.
pub(crate) fn youngest_rule(
    socket: &mut NetlinkSocket,
    family: IpFamily,
    table: &str,
    chain: &str,
) -> Result<Option<u64>, ListError> {
    let nfproto = numbers(family).nfproto;
    let of_chain = |buf: &mut Vec<u8>| {
        text(buf, attr::chain::TABLE, table);
        text(buf, attr::chain::NAME, chain);
    };
    match socket.query(Command::GetChain, 0, nfproto, of_chain, || (), |(), _| ()) {
        Ok(()) => {}
        Err(ListError::Io(error)) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
        Err(error) => return Err(error),
    }
    let of_rules = |buf: &mut Vec<u8>| {
        text(buf, attr::rule::TABLE, table);
        text(buf, attr::rule::CHAIN, chain);
    };
    let youngest = socket.query(
        Command::GetRule,
        DUMP,
        nfproto,
        of_rules,
        || 0,
        |youngest, body| {
            let handles = RuleAttrs::new(message_attributes(body))
                .flatten()
                .filter_map(|attribute| match attribute {
                    RuleAttrs::Handle(handle) => Some(handle),
                    _ => None,
                });
            *youngest = handles.fold(*youngest, u64::max);
        },
    )?;
    Ok(Some(youngest))
}

/// Whether the old iptables has a nat table in this network namespace. nftables does not list it.
pub(crate) fn legacy_nat(family: IpFamily) -> bool {
    let file = match family {
        IpFamily::V4 => "/proc/thread-self/net/ip_tables_names",
        IpFamily::V6 => "/proc/thread-self/net/ip6_tables_names",
    };
    // A kernel without such tables has no such file.
    fs::read_to_string(file).is_ok_and(|names| names.lines().any(|name| name == "nat"))
}

/// The filter chains of all tables that have the hook `forward` and the policy `drop`. Those of bridges are left out.
pub(crate) fn forward_drops(socket: &mut NetlinkSocket) -> Result<Vec<ForwardDrop>, ListError> {
    const DROP: u32 = VerdictCode::Drop as u32;
    socket.query(
        Command::GetChain,
        DUMP,
        UNSPEC,
        |_| (),
        Vec::new,
        |found, body| {
            let family = match message_nfproto(body) {
                INET => "inet",
                IPV4 => "ip",
                IPV6 => "ip6",
                // A bridge forwards frames, not packets, and netdev has no such hook.
                _ => return,
            };
            let mut chain = ForwardDrop {
                family,
                table: String::new(),
                chain: String::new(),
            };
            let (mut filter, mut hook, mut policy) = (false, None, None);
            for attribute in ChainAttrs::new(message_attributes(body)).flatten() {
                match attribute {
                    ChainAttrs::Table(name) => chain.table = name.to_string_lossy().into_owned(),
                    ChainAttrs::Name(name) => chain.chain = name.to_string_lossy().into_owned(),
                    ChainAttrs::Type(kind) => filter = kind == c"filter",
                    ChainAttrs::Policy(number) => policy = Some(number),
                    ChainAttrs::Hook(parts) => {
                        hook = parts.flatten().find_map(|part| match part {
                            NftHookAttrs::Num(number) => Some(number),
                            _ => None,
                        });
                    }
                    _ => {}
                }
            }
            if filter && (hook, policy) == (Some(FORWARD), Some(DROP)) {
                found.push(chain);
            }
        },
    )
}
