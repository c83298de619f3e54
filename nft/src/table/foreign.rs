//! Lists chains of other programs: those that translate, those that drop what is forwarded, and those that kube-proxy
//! left. It only reads.

use std::collections::{HashMap, HashSet};

use netlink_bindings::nftables::{ChainAttrs, NftHookAttrs, TableAttrs, VerdictCode};
use tandem_core::family::IpFamily;
use tandem_core::plane::ForwardDrop;

use crate::family::{INET, IPV4, IPV6, UNSPEC, numbers};
use crate::rules::fixed_chain::{FORWARD, FixedChain};
use crate::wire::socket::{ListError, NetlinkSocket};
use crate::wire::{Command, DUMP, attr, message_attributes, message_nfproto, text};

/// A nat chain of another program. The handles tell a table from one that was made anew under the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ForeignNatChain {
    pub(crate) nfproto: u8,
    pub(crate) table: u64,
    pub(crate) chain: u64,
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
    socket.query(
        Command::GetChain,
        DUMP,
        UNSPEC,
        |_| (),
        HashSet::new,
        |found, body| {
            let of = message_nfproto(body);
            let (mut table, mut handle, mut nat, mut at) = (Vec::new(), 0, false, (0, 0));
            for attribute in ChainAttrs::new(message_attributes(body)).flatten() {
                match attribute {
                    ChainAttrs::Table(name) => table = name.to_bytes().to_vec(),
                    ChainAttrs::Handle(number) => handle = number,
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
            let meets = FixedChain::of_nat().any(|(_, hook)| (hook.number, hook.priority) == at);
            if nat && meets && (of == nfproto || of == INET) && table != crate::TABLE.as_bytes() {
                found.insert(ForeignNatChain {
                    nfproto: of,
                    table: tables.get(&(of, table)).copied().unwrap_or_default(),
                    chain: handle,
                });
            }
        },
    )
}

/// Whether a chain of this name is in a table of that name.
pub(crate) fn has_chain(
    socket: &mut NetlinkSocket,
    family: IpFamily,
    table: &str,
    chain: &str,
) -> Result<bool, ListError> {
    let found = socket.query(
        Command::GetChain,
        0,
        numbers(family).nfproto,
        |buf| {
            text(buf, attr::chain::TABLE, table);
            text(buf, attr::chain::NAME, chain);
        },
        || (),
        |(), _| (),
    );
    match found {
        Ok(()) => Ok(true),
        Err(ListError::Io(error)) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
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
