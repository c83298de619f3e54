//! Lists what the kernel holds: the table, its sets, its chains and their elements. Used to open or read a table, and
//! to explain a refusal. It only reads.

use std::collections::HashMap;
use std::time::Duration;

use netlink_bindings::nftables::{ChainAttrs, ExprAttrs, NftHookAttrs, SetAttrs, SetDescAttrs, TableAttrs, TableFlags};
use tandem_core::family::{Family, IpFamily};

use crate::elements::decode::{self, SetContent, SetReader};
use crate::elements::layout::{ANONYMOUS_SET, Shape};
use crate::elements::sets::Set;
use crate::family::{UNSPEC, numbers};
use crate::picks::chains::{PickNumber, PicksByNumber};
use crate::rules::COUNTER;
use crate::wire::socket::{ListError, NetlinkSocket};
use crate::wire::{Command, DUMP, attr, attribute, message_attributes, number, text};

/// The table belongs to the socket that made it. Nobody else can change it.
pub(crate) const OWNER: u32 = TableFlags::Owner as u32;
/// The table stays when its owner goes.
pub(crate) const PERSIST: u32 = TableFlags::Persist as u32;

/// A table as the kernel lists it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TableInfo {
    pub(crate) flags: u32,
    /// The port id of the socket that owns it; 0 if none does.
    pub(crate) owner: u32,
    /// Its number. A table that is made anew under the same name has another one.
    pub(crate) handle: u64,
}

impl TableInfo {
    /// The port id of the socket that owns the table, if it has an owner that lives.
    pub(crate) fn owner(self) -> Option<u32> {
        (self.flags & OWNER != 0 && self.owner != 0).then_some(self.owner)
    }
}

/// A chain as the kernel lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChainInfo {
    pub(crate) kind: Option<String>,
    pub(crate) number: u32,
    pub(crate) priority: i32,
    pub(crate) hooked: bool,
}

/// The table, if there is one.
pub(crate) fn table(socket: &mut NetlinkSocket, family: IpFamily) -> Result<Option<TableInfo>, ListError> {
    table_named(socket, family, crate::TABLE)
}

/// The table of this name, if there is one.
pub(crate) fn table_named(
    socket: &mut NetlinkSocket,
    family: IpFamily,
    name: &str,
) -> Result<Option<TableInfo>, ListError> {
    let result = socket.query(
        Command::GetTable,
        0,
        numbers(family).nfproto,
        |buf| text(buf, attr::table::NAME, name),
        TableInfo::default,
        |table, body| {
            for attribute in TableAttrs::new(message_attributes(body)).flatten() {
                match attribute {
                    TableAttrs::Flags(flags) => table.flags = flags,
                    TableAttrs::Owner(owner) => table.owner = owner,
                    TableAttrs::Handle(handle) => table.handle = handle,
                    _ => {}
                }
            }
        },
    );
    match result {
        Ok(table) => Ok(Some(table)),
        Err(ListError::Io(error)) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The table's sets by name, without anonymous ones.
pub(crate) fn sets(socket: &mut NetlinkSocket, family: IpFamily) -> Result<HashMap<String, Shape>, ListError> {
    socket.query(
        Command::GetSet,
        DUMP,
        numbers(family).nfproto,
        |buf| text(buf, attr::set::TABLE, crate::TABLE),
        HashMap::new,
        |sets, body| {
            let (mut shape, mut name, mut ours) = (Shape::default(), String::new(), false);
            for attribute in SetAttrs::new(message_attributes(body)).flatten() {
                match attribute {
                    SetAttrs::Table(table) => ours = table.to_bytes() == crate::TABLE.as_bytes(),
                    SetAttrs::Name(text) => name = text.to_string_lossy().into_owned(),
                    SetAttrs::Flags(flags) => shape.flags = flags,
                    SetAttrs::KeyType(kind) => shape.key_type = kind,
                    SetAttrs::KeyLen(len) => shape.key_len = len,
                    SetAttrs::DataType(kind) => shape.data_type = kind,
                    SetAttrs::DataLen(len) => shape.data_len = len,
                    SetAttrs::Desc(desc) => {
                        for part in desc.flatten() {
                            if let SetDescAttrs::Size(size) = part {
                                shape.size = size;
                            }
                        }
                    }
                    SetAttrs::Expr(expression) => {
                        shape.counter = expression
                            .flatten()
                            .any(|part| matches!(part, ExprAttrs::Name(name) if name == c"counter"));
                    }
                    _ => {}
                }
            }
            if ours && shape.flags & ANONYMOUS_SET == 0 {
                sets.insert(name, shape);
            }
        },
    )
}

/// The number of the last transaction in the network namespace, by whatever program.
pub(crate) fn generation(socket: &mut NetlinkSocket) -> Result<u32, ListError> {
    socket.query(
        Command::GetGeneration,
        0,
        UNSPEC,
        |_| (),
        || 0,
        |generation, body| {
            let id = attribute(message_attributes(body), attr::generation::ID).and_then(|bytes| bytes.try_into().ok());
            *generation = id.map_or(0, u32::from_be_bytes);
        },
    )
}

/// The table's chains by name.
pub(crate) fn chains(socket: &mut NetlinkSocket, family: IpFamily) -> Result<HashMap<String, ChainInfo>, ListError> {
    socket.query(
        Command::GetChain,
        DUMP,
        numbers(family).nfproto,
        |buf| text(buf, attr::chain::TABLE, crate::TABLE),
        HashMap::new,
        |chains, body| {
            let (mut chain, mut name, mut ours) = (ChainInfo::default(), String::new(), false);
            for attribute in ChainAttrs::new(message_attributes(body)).flatten() {
                match attribute {
                    ChainAttrs::Table(table) => ours = table.to_bytes() == crate::TABLE.as_bytes(),
                    ChainAttrs::Name(text) => name = text.to_string_lossy().into_owned(),
                    ChainAttrs::Type(kind) => chain.kind = Some(kind.to_string_lossy().into_owned()),
                    ChainAttrs::Hook(hook) => {
                        chain.hooked = true;
                        for part in hook.flatten() {
                            match part {
                                NftHookAttrs::Num(number) => chain.number = number,
                                NftHookAttrs::Priority(priority) => chain.priority = priority,
                                _ => {}
                            }
                        }
                    }
                    _ => {}
                }
            }
            if ours {
                chains.insert(name, chain);
            }
        },
    )
}

/// The chain that each number in `picks` leads to. The name is empty if the number leads to no chain.
pub(crate) fn picks(socket: &mut NetlinkSocket, family: IpFamily) -> Result<HashMap<PickNumber, String>, ListError> {
    socket.query(
        Command::GetSetElem,
        DUMP,
        numbers(family).nfproto,
        |buf| {
            text(buf, attr::elements::TABLE, crate::TABLE);
            text(buf, attr::elements::SET, Set::Picks.name());
        },
        HashMap::new,
        decode::picks,
    )
}

/// How many packets a counter of the table counted. None if the table or the counter does not exist.
pub(crate) fn counter(socket: &mut NetlinkSocket, family: IpFamily, name: &str) -> Result<Option<u64>, ListError> {
    let found = socket.query(
        Command::GetObject,
        0,
        numbers(family).nfproto,
        |buf| {
            text(buf, attr::object::TABLE, crate::TABLE);
            text(buf, attr::object::NAME, name);
            number(buf, attr::object::TYPE, COUNTER);
        },
        || None,
        |packets, body| {
            let data = attribute(message_attributes(body), attr::object::DATA)
                .and_then(|data| attribute(data, attr::counter::PACKETS));
            *packets = data.and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
        },
    );
    match found {
        Err(ListError::Io(error)) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        found => found,
    }
}

/// What a set holds. While a hash table grows, the kernel lists some elements twice and leaves out as many, without a
/// word. So the listing is repeated if an element came twice.
pub(crate) fn elements<F: Family>(
    socket: &mut NetlinkSocket,
    set: Set,
    picks: &PicksByNumber,
) -> Result<SetContent<F>, ListError> {
    const ATTEMPTS: usize = 20;
    const GROWING: Duration = Duration::from_millis(5);
    for _ in 0..ATTEMPTS {
        let reader = socket.query(
            Command::GetSetElem,
            DUMP,
            numbers(F::FAMILY).nfproto,
            |buf| {
                text(buf, attr::elements::TABLE, crate::TABLE);
                text(buf, attr::elements::SET, set.name());
            },
            || SetReader::<F>::new(set, picks),
            SetReader::message,
        )?;
        let found = reader.finish();
        if !found.repeats_itself() {
            return Ok(found);
        }
        std::thread::sleep(GROWING);
    }
    Err(ListError::KeepsChanging)
}
