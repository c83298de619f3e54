//! Rows as set elements: the sets, the fields of their keys and values, and the userdata that nft stores beside them.
//! Pure bytes.

pub(crate) mod decode;
pub(crate) mod element;
pub(crate) mod field;
pub(crate) mod key;
pub(crate) mod layout;
mod parts;
pub(crate) mod protocols;
pub(crate) mod sets;
pub(crate) mod udata;
pub(crate) mod verdict;
