//! How datagrams are sent.

use serde::Deserialize;

/// How datagrams are sent.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(rename_all = "kebab-case")]
pub enum Sender {
    /// On a connected socket.
    #[default]
    Connected,
    /// With `sendto`. The answer must come from the address that was asked.
    Unconnected,
}
