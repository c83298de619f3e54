//! One Tandem per node. The lock is an empty nftables table that its socket owns: there is one of that name in each
//! network namespace, whatever else the programs in it share; only who may change nftables there can make it; its comment
//! names who made it; and with the socket it loses its owner, however the process ends: it is no lock then. Taken by the
//! program before it opens the tables, and removed when that ends in peace.
//!
//! It persists where the kernel can (6.9), for the sake of nft 1.0.6: that ends its listings in JSON at a table that has
//! exactly one flag.

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
/// How often it is tried again because a holder went while it was being looked at.
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
    /// Others take it and let it go faster than it can be read.
    #[error(
        "taking the node's lock, nftables table ip {NAME}: {ATTEMPTS} times it was there, and gone when it was looked at"
    )]
    KeepsChanging,
}

/// The table as it is there.
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
                // A table without an owner is nobody's: whoever made it was killed, or it came from a file.
                Some(_) => ownerless = true,
                // Whoever was in the way is gone.
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
    /// Nothing depends on it: without its owner it is no lock.
    fn drop(&mut self) {
        let mut batch = Batch::default();
        let first = self.socket.sequence();
        batch.begin(NFPROTO, first);
        batch.message(Command::DelTable, 0, |buf| text(buf, attr::table::NAME, NAME));
        batch.end();
        let _ = self.socket.transact(batch.bytes(), first, batch.last_sequence());
    }
}

/// Whether the kernel does not know a flag.
fn is_flag_unknown(outcome: &Outcome) -> bool {
    let Outcome::Refused(refusals) = outcome else {
        return false;
    };
    refusals
        .iter()
        .any(|refusal| matches!(refusal.errno, libc::EINVAL | libc::EOPNOTSUPP))
}

/// Makes the table, in the place of one that nobody owns if there is one.
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

/// Whether another table of this name, or that it is gone, explains this.
fn is_taken_meanwhile(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Done | Outcome::NotSent(_) => false,
        Outcome::Lost(_) => true,
        // EPERM: it has an owner. That this process may change nftables at all is known once the table was looked for.
        Outcome::Refused(refusals) => refusals
            .iter()
            .all(|refusal| matches!(refusal.errno, libc::EEXIST | libc::EPERM | libc::ENOENT)),
    }
}

/// Looks at the table, if it is there.
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

/// Who holds it. A saved ruleset may hold a Tandem's comment, so the owner has to be who the comment names.
fn describe_holder(table: &LockTable) -> LockError {
    match table.comment.parse::<Holder>() {
        Ok(holder) if owner::may_be_port_of(table.owner, holder.pid()) => LockError::Held(holder.describe()),
        _ => LockError::Taken(owner::describe_port(table.owner)),
    }
}
