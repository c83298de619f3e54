//! What rtnetlink lists and changes, of every kind: from messages and to messages.

use std::ffi::CStr;

use tandem_core::family::IpFamily;
use tandem_core::node::InterfaceName;

use super::{Address, FdbEntry, Link, Neighbour, Route, Rule};

/// The families of rtnetlink messages.
pub(super) const UNSPECIFIED: u8 = 0;
const INET: u8 = 2;
pub(super) const BRIDGE: u8 = 7;
const INET6: u8 = 10;

/// An object of the kernel's network configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// An interface.
    Link(Link),
    /// An address of an interface.
    Address(Address),
    /// A route.
    Route(Route),
    /// A routing rule.
    Rule(Rule),
    /// The link-layer address of a neighbour.
    Neighbour(Neighbour),
    /// An entry of a bridge's or a VXLAN device's forwarding table.
    Fdb(FdbEntry),
}

/// A change that is asked of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Adds the object, or replaces the one with the same key.
    Set(Object),
    /// Removes the object.
    Remove(Object),
    /// Has the kernel find out whether a neighbour is there, as if a packet went to it.
    Probe(Neighbour),
}

/// A kind of object that can be listed.
pub trait Listed: Sized {
    /// Which of them to list.
    type Filter;
    /// Their name in errors.
    const NAME: &'static str;
    /// The type of the request (`RTM_GET…`).
    const GET: u16;

    /// Writes the fixed header and the attributes of the request.
    fn ask(filter: &Self::Filter, body: &mut Vec<u8>);
    /// Reads one message of the answer. None if it holds nothing of this kind.
    fn decode(body: &[u8]) -> Option<Self>;
    /// Whether the filter accepts it. Old kernels do not filter.
    fn passes(&self, filter: &Self::Filter) -> bool;
}

/// The type numbers `RTM_NEW…` of each kind. `RTM_DEL…` is one higher.
pub(super) mod kind {
    pub(in crate::net) const LINK: u16 = 16;
    pub(in crate::net) const ADDRESS: u16 = 20;
    pub(in crate::net) const ROUTE: u16 = 24;
    pub(in crate::net) const NEIGHBOUR: u16 = 28;
    pub(in crate::net) const RULE: u16 = 32;
    /// What to add to `RTM_NEW…` for `RTM_DEL…`.
    pub(in crate::net) const GONE: u16 = 1;
    /// What to add to `RTM_NEW…` for `RTM_GET…`.
    pub(in crate::net) const GET: u16 = 2;
}

/// `NLM_F_REPLACE`
pub(super) const REPLACE: u16 = 0x100;
/// `NLM_F_EXCL`
pub(super) const EXCLUSIVE: u16 = 0x200;
/// `NLM_F_CREATE`
pub(super) const CREATE: u16 = 0x400;

impl Object {
    /// Reads a message of this type. The flag is true if the object exists, and false if it is gone.
    pub(super) fn decode(message: u16, body: &[u8]) -> Option<(bool, Self)> {
        // Each kind has four types: new, del, get, set.
        let (base, verb) = (message & !3, message & 3);
        let object = match base {
            kind::LINK => Self::Link(Link::decode(body)?),
            kind::ADDRESS => Self::Address(Address::decode(body)?),
            kind::ROUTE => Self::Route(Route::decode(body)?),
            kind::RULE => Self::Rule(Rule::decode(body)?),
            kind::NEIGHBOUR if body.first() == Some(&BRIDGE) => Self::Fdb(FdbEntry::decode(body)?),
            kind::NEIGHBOUR => Self::Neighbour(Neighbour::decode(body)?),
            _ => return None,
        };
        (verb <= kind::GONE).then_some((verb == 0, object))
    }

    /// `RTM_NEW…` of its kind.
    fn kind(&self) -> u16 {
        match self {
            Self::Link(_) => kind::LINK,
            Self::Address(_) => kind::ADDRESS,
            Self::Route(_) => kind::ROUTE,
            Self::Rule(_) => kind::RULE,
            Self::Neighbour(_) | Self::Fdb(_) => kind::NEIGHBOUR,
        }
    }

    /// The errors by which the kernel says that the object exists already, or is gone already.
    fn settled(&self, gone: bool) -> &'static [i32] {
        match (self, gone) {
            // Rules cannot be replaced. So a rule is added only if there is no equal one.
            (Self::Rule(_), false) => &[libc::EEXIST],
            (_, false) => &[],
            (Self::Link(_), true) => &[libc::ENODEV],
            (Self::Address(_), true) => &[libc::EADDRNOTAVAIL, libc::ENODEV],
            (Self::Route(_), true) => &[libc::ESRCH, libc::ENODEV],
            (Self::Rule(_), true) => &[libc::ENOENT],
            (Self::Neighbour(_) | Self::Fdb(_), true) => &[libc::ENOENT, libc::ENODEV],
        }
    }
}

impl Change {
    /// The object that is set or removed; none if nothing is.
    pub fn object(&self) -> Option<&Object> {
        match self {
            Self::Set(object) | Self::Remove(object) => Some(object),
            Self::Probe(_) => None,
        }
    }

    /// Whether this error number says that nothing has to be done.
    pub(super) fn is_settled_by(&self, errno: i32) -> bool {
        let gone = matches!(self, Self::Remove(_));
        self.object()
            .is_some_and(|object| object.settled(gone).contains(&errno))
    }

    /// The message's type and flags.
    pub(super) fn head(&self) -> (u16, u16) {
        match self {
            // An existing link is changed, not created. So neither flag may be set.
            Self::Set(Object::Link(link)) if link.index != 0 => (kind::LINK, 0),
            Self::Set(Object::Link(_)) => (kind::LINK, CREATE | EXCLUSIVE),
            Self::Set(object @ Object::Rule(_)) => (object.kind(), CREATE | EXCLUSIVE),
            Self::Set(object) => (object.kind(), CREATE | REPLACE),
            Self::Remove(object) => (object.kind() + kind::GONE, 0),
            Self::Probe(_) => (kind::NEIGHBOUR, CREATE),
        }
    }

    /// Writes everything after netlink's header.
    pub(super) fn encode(&self, body: &mut Vec<u8>) {
        let (object, removed) = match self {
            Self::Set(object) => (object, false),
            Self::Remove(object) => (object, true),
            Self::Probe(neighbour) => return neighbour.encode_probe(body),
        };
        match object {
            Object::Link(link) => link.encode(removed, body),
            Object::Address(address) => address.encode(body),
            Object::Route(route) => route.encode(body),
            Object::Rule(rule) => rule.encode(body),
            Object::Neighbour(neighbour) => neighbour.encode(body),
            Object::Fdb(entry) => entry.encode(body),
        }
    }
}

/// The number of an IP family in rtnetlink messages.
pub(super) fn number(family: IpFamily) -> u8 {
    match family {
        IpFamily::V4 => INET,
        IpFamily::V6 => INET6,
    }
}

/// The IP family of a message.
pub(super) fn family(number: u8) -> Option<IpFamily> {
    match number {
        INET => Some(IpFamily::V4),
        INET6 => Some(IpFamily::V6),
        _ => None,
    }
}

/// The name of a link. None if Tandem cannot use the name.
pub(super) fn interface_name(name: &CStr) -> Option<InterfaceName> {
    InterfaceName::parse(name.to_str().ok()?).ok()
}
