//! The node's lock: one Tandem runs per node. The program takes the lock before it opens the tables, and removes it
//! when it ends in peace.
//!
//! The lock is an empty nftables table that a socket owns. A network namespace has one table of that name, whatever
//! else its programs share. Only a program that may change nftables there can make it. Its comment names the program
//! that made it. However the process ends, the table loses its owner with the socket, and then it is no lock any
//! more.
//!
//! If the kernel can (6.9), the table persists. This is for nft 1.0.6, which ends its listings in JSON at a table
//! that has exactly one flag.

use std::io;

use netlink_bindings::nftables::{PushTableAttrs, TableAttrs};

use crate::elements::udata;
use crate::family::IPV4;
use crate::table::holder::Holder;
use crate::table::listing::{OWNER, PERSIST};
use crate::wire::batch::Batch;
use crate::wire::outcome::{Outcome, TransactionError};
use crate::wire::owner;
use crate::wire::socket::{Buffers, ListError, NetlinkSocket};
use crate::wire::{CREATE, Command, EXCLUSIVE, attr, message_attributes, text};

const NAME: &str = "tandem-node-lock";
/// The family that is always there.
const NFPROTO: u8 = IPV4;
/// How often it is tried again if the holder went while the lock was read.
const ATTEMPTS: usize = 20;

/// Held as long as this program programs the node.
#[derive(Debug)]
pub struct NodeLock {
    socket: NetlinkSocket,
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another Tandem holds it.
    #[error("another tandem runs on this node: {0}")]
    Held(String),
    /// A program that is no Tandem holds it.
    #[error("the node's lock, nftables table ip {NAME}, belongs to another program: {0}")]
    Taken(String),
    /// The netlink socket could not be opened.
    #[error("taking the node's lock, nftables table ip {NAME}: {0}")]
    Socket(#[source] io::Error),
    /// This process may not change nftables.
    #[error("taking the node's lock, nftables table ip {NAME}: not permitted (CAP_NET_ADMIN is missing)")]
    NotPermitted,
    /// The table could not be read.
    #[error("taking the node's lock, nftables table ip {NAME}: {0}")]
    Read(#[source] ListError),
    /// The table could not be made.
    #[error("taking the node's lock, nftables table ip {NAME}: {0}")]
    Make(#[source] TransactionError),
    /// Other programs take the lock and let it go faster than it can be read.
    #[error(
        "taking the node's lock, nftables table ip {NAME}: {ATTEMPTS} times it was there, and gone when it was looked at"
    )]
    KeepsChanging,
}

/// The lock as the kernel lists it.
#[derive(Debug, Default)]
struct LockTable {
    /// The port id of the socket that owns it; 0 if none does.
    owner: u32,
    comment: String,
}

impl NodeLock {
    /// Takes the lock of this thread's network namespace.
    pub fn acquire() -> Result<Self, LockError> {
        let mut socket = NetlinkSocket::with(Buffers::SMALL).map_err(LockError::Socket)?;
        let (mut ownerless, mut flags) = (false, OWNER | PERSIST);
        for _ in 0..ATTEMPTS {
            let outcome = make(&mut socket, ownerless, flags);
            if let Outcome::Done = outcome {
                return Ok(Self { socket });
            }
            if flags & PERSIST != 0 && is_flag_unknown(&outcome) {
                flags = OWNER;
                continue;
            }
            match read_lock_table(&mut socket)? {
                Some(table) if table.owner == socket.port() => return Ok(Self { socket }),
                Some(table) if table.owner != 0 => return Err(describe_holder(&table)),
                // A table without an owner is no lock: its maker was killed, or it came from a file.
                Some(_) => ownerless = true,
                // The table that was in the way is gone.
                None if is_taken_meanwhile(&outcome) => ownerless = false,
                None => match outcome.carried_out() {
                    Ok(()) => return Ok(Self { socket }),
                    Err(error) => return Err(LockError::Make(error)),
                },
            }
        }
        Err(LockError::KeepsChanging)
    }
}

impl Drop for NodeLock {
    /// Nothing depends on this: without its owner the table is no lock.
    fn drop(&mut self) {
        let mut batch = Batch::default();
        let first = self.socket.sequence();
        batch.begin(NFPROTO, first);
        batch.message(Command::DelTable, 0, |buf| text(buf, attr::table::NAME, NAME));
        batch.end();
        let _ = self.socket.transact(batch.bytes(), first, batch.last_sequence());
    }
}

/// Whether the kernel refused because it does not know a flag.
fn is_flag_unknown(outcome: &Outcome) -> bool {
    let Outcome::Refused(refusals) = outcome else {
        return false;
    };
    refusals
        .iter()
        .any(|refusal| matches!(refusal.errno, libc::EINVAL | libc::EOPNOTSUPP))
}

/// Makes the table. If one without an owner exists, it is replaced.
fn make(socket: &mut NetlinkSocket, ownerless: bool, flags: u32) -> Outcome {
    let comment = udata::commented(udata::cut(&Holder::this_process().to_string()));
    let mut batch = Batch::default();
    let first = socket.sequence();
    batch.begin(NFPROTO, first);
    if ownerless {
        tracing::info!("table ip {NAME} is there and belongs to nobody any more: it is made anew");
        batch.message(Command::DelTable, 0, |buf| text(buf, attr::table::NAME, NAME));
    }
    batch.message(Command::NewTable, CREATE | EXCLUSIVE, |buf| {
        let _ = PushTableAttrs::new(buf)
            .push_name_bytes(NAME.as_bytes())
            .push_flags(flags)
            .push_userdata(&comment);
    });
    batch.end();
    socket.transact(batch.bytes(), first, batch.last_sequence())
}

/// Whether it failed because another program made, owned or removed the table meanwhile.
fn is_taken_meanwhile(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Done | Outcome::NotSent(_) => false,
        Outcome::Lost(_) => true,
        // EPERM says that the table has an owner. Reading the table shows whether this process may change nftables at
        // all.
        Outcome::Refused(refusals) => refusals
            .iter()
            .all(|refusal| matches!(refusal.errno, libc::EEXIST | libc::EPERM | libc::ENOENT)),
    }
}

/// Reads the table, if it exists.
fn read_lock_table(socket: &mut NetlinkSocket) -> Result<Option<LockTable>, LockError> {
    let found = socket.query(
        Command::GetTable,
        0,
        NFPROTO,
        |buf| text(buf, attr::table::NAME, NAME),
        LockTable::default,
        |table, body| {
            let mut flags = 0;
            for attribute in TableAttrs::new(message_attributes(body)).flatten() {
                match attribute {
                    TableAttrs::Flags(value) => flags = value,
                    TableAttrs::Owner(owner) => table.owner = owner,
                    TableAttrs::Userdata(data) => udata::comment(data).clone_into(&mut table.comment),
                    _ => {}
                }
            }
            if flags & OWNER == 0 {
                table.owner = 0;
            }
        },
    );
    match found {
        Ok(table) => Ok(Some(table)),
        Err(ListError::Io(error)) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(ListError::Io(error)) if error.raw_os_error() == Some(libc::EPERM) => Err(LockError::NotPermitted),
        Err(error) => Err(LockError::Read(error)),
    }
}

/// Says who holds the lock. A saved ruleset may hold the comment of a Tandem, so the owner has to be the process that
/// the comment names.
fn describe_holder(table: &LockTable) -> LockError {
    match table.comment.parse::<Holder>() {
        Ok(holder) if owner::may_be_port_of(table.owner, holder.pid()) => LockError::Held(holder.describe()),
        _ => LockError::Taken(owner::describe_port(table.owner)),
    }
}
