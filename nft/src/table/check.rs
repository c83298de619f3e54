//! Checks whether this kernel can hold the rules. Nothing is changed: the kernel gets the transaction that makes a table
//! without its end marker. It checks every message, and then drops them all. `nft --check` does the same.

use std::io;

use netlink_bindings::nftables::{ChainAttrs, ExprAttrs, ExprListAttrs, RuleAttrs, SetAttrs};
use tandem_core::family::{Family, V4, V6};
use tandem_core::plane::RuleSettings;
use tandem_core::row::Port;
use tandem_netlink::answer::{Content, Messages, Refusal};

use crate::TABLE;
use crate::family::numbers;
use crate::picks::chain::PickChain;
use crate::table::adopt;
use crate::table::listing;
use crate::table::session::Session;
use crate::wire::outcome::Outcome;
use crate::wire::socket::Buffers;
use crate::wire::{Command, SUBSYSTEM, message_attributes};

/// What the kernel answers if it does not know an expression, a type of chain or set, or one of their attributes. With
/// another answer the rules may work at the next try.
const UNKNOWN: [i32; 5] = [
    libc::ENOENT,
    libc::EINVAL,
    libc::EOPNOTSUPP,
    libc::EAFNOSUPPORT,
    libc::EPROTONOSUPPORT,
];

/// This kernel cannot hold the rules.
#[derive(Debug, thiserror::Error)]
pub enum LackError {
    /// It has no netlink socket for nftables.
    #[error("opening a netlink socket for nftables: {0}")]
    Socket(#[source] io::Error),
    /// It refuses a part of the table.
    #[error("in table {family} {TABLE}, it refuses {part}: {refusal}")]
    Part {
        /// nft's name of the table's family.
        family: &'static str,
        /// A rule, a chain or a set, and what is in it.
        part: String,
        /// Its reason.
        #[source]
        refusal: Refusal,
    },
}

/// Checks whether this kernel can hold the rules of at least one family. If only one family's fail, the other one works,
/// and opening the table gives the error. If the check itself fails, it says nothing.
pub fn check_kernel() -> Result<(), LackError> {
    check::<V4>().or_else(|error| check::<V6>().map_err(|_| error))
}

fn check<F: Family>() -> Result<(), LackError> {
    let mut session = match Session::<F>::new(RuleSettings::default(), Buffers::SMALL) {
        Ok(session) => session,
        Err(error) if error.raw_os_error().is_some_and(|errno| UNKNOWN.contains(&errno)) => {
            return Err(LackError::Socket(error));
        }
        Err(_) => return Ok(()),
    };
    // A table that is there shows that the kernel holds one. If this version needs more of it, opening it gives the error.
    if matches!(listing::table(&mut session.socket, F::FAMILY), Ok(Some(_))) {
        return Ok(());
    }
    let first = session.begin();
    adopt::encode_new(&mut session, &chains());
    ask(&mut session, first)
}

/// Has the kernel check the transaction that began with this message.
pub(crate) fn ask<F: Family>(session: &mut Session<F>, first: u32) -> Result<(), LackError> {
    session.batch.end_without_marker();
    let (bytes, last) = (session.batch.bytes(), session.batch.last_sequence());
    let outcome = session.socket.transact(bytes, first, last);
    judge(numbers(F::FAMILY).name, bytes, outcome)
}

/// What the kernel's answer to this transaction says.
fn judge(family: &'static str, batch: &[u8], outcome: Outcome) -> Result<(), LackError> {
    let Outcome::Refused(refusals) = outcome else {
        return Ok(());
    };
    // A message that follows from one that was refused is refused too, so the first one counts.
    match refusals.into_iter().min_by_key(|refusal| refusal.sequence) {
        Some(refusal) if UNKNOWN.contains(&refusal.errno) => Err(LackError::Part {
            family,
            part: part(batch, refusal.sequence),
            refusal,
        }),
        _ => Ok(()),
    }
}

/// One chain of each kind that Services need.
fn chains() -> Vec<PickChain> {
    let (count, seconds) = (Port::MIN, 10_800);
    vec![
        PickChain::Pick { count },
        PickChain::Recall { seconds },
        PickChain::Remember { seconds },
        PickChain::Stick { count, seconds },
    ]
}

/// What the message with this number is about.
fn part(batch: &[u8], sequence: u32) -> String {
    let refused = Messages(batch).find(|message| message.sequence == sequence);
    let Some(Content::Data { kind, body }) = refused.map(|message| message.content) else {
        return "the transaction".to_owned();
    };
    let is = |command: Command| kind == SUBSYSTEM << 8 | command as u16;
    if is(Command::NewRule) {
        rule(body)
    } else if is(Command::NewChain) {
        chain(body)
    } else if is(Command::NewSet) {
        set(body)
    } else if is(Command::NewTable) {
        "the table itself".to_owned()
    } else {
        format!("message {} of the transaction", kind & 0xff)
    }
}

fn rule(body: &[u8]) -> String {
    let (mut chain, mut expressions) = (String::new(), Vec::new());
    for attribute in RuleAttrs::new(message_attributes(body)).flatten() {
        match attribute {
            RuleAttrs::Chain(name) => chain = name.to_string_lossy().into_owned(),
            RuleAttrs::Expressions(list) => {
                for ExprListAttrs::Elem(expression) in list.flatten() {
                    // The data of an expression that the library does not know cannot be read, but its name can.
                    for name in expression.flatten() {
                        if let ExprAttrs::Name(name) = name {
                            expressions.push(name.to_string_lossy().into_owned());
                        }
                    }
                }
            }
            _ => {}
        }
    }
    expressions.sort_unstable();
    expressions.dedup();
    format!("a rule of chain {chain} with {}", expressions.join(", "))
}

fn chain(body: &[u8]) -> String {
    let (mut chain, mut base) = (String::new(), String::new());
    for attribute in ChainAttrs::new(message_attributes(body)).flatten() {
        match attribute {
            ChainAttrs::Name(name) => chain = name.to_string_lossy().into_owned(),
            ChainAttrs::Type(kind) => base = format!(" of type {}", kind.to_string_lossy()),
            _ => {}
        }
    }
    format!("chain {chain}{base}")
}

fn set(body: &[u8]) -> String {
    let name = SetAttrs::new(message_attributes(body))
        .flatten()
        .find_map(|attribute| match attribute {
            SetAttrs::Name(name) => Some(name.to_string_lossy().into_owned()),
            _ => None,
        });
    format!("set {}", name.unwrap_or_default())
}

#[cfg(test)]
mod tests;
