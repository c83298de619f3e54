//! Decodes ports and protocols from numbers and text.

use tandem_core::row::{Port, Protocol};

use super::notes::Notes;
use super::raw::Text;

/// What happens to a port that cannot be served.
pub(super) const NOT_SERVED: &str = "this port is not served";

/// The port number of `ports[index]`. If it is invalid, there is a notice.
pub(super) fn port(notes: &mut Notes, field: &str, index: usize, number: Option<i64>) -> Option<Port> {
    let Some(number) = number else {
        notes.add(format!("{field}[{index}].port"), "", format!("missing; {NOT_SERVED}"));
        return None;
    };
    let port = number_of(number);
    if port.is_none() {
        let problem = format!("not a port number (1-65535); {NOT_SERVED}");
        notes.add(format!("{field}[{index}].port"), number.to_string(), problem);
    }
    port
}

/// The protocol of `ports[index]`. If it is invalid, there is a notice. A missing one means TCP, as in the API.
pub(super) fn protocol(notes: &mut Notes, field: &str, index: usize, name: Option<&Text<'_>>) -> Option<Protocol> {
    match name.map_or("TCP", Text::as_str) {
        "TCP" | "" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "SCTP" => Some(Protocol::Sctp),
        other => {
            let problem = format!("not a protocol that Services have (TCP, UDP, SCTP); {NOT_SERVED}");
            notes.add(format!("{field}[{index}].protocol"), other, problem);
            None
        }
    }
}

/// The number as a port, if it is valid.
pub(super) fn number_of(number: i64) -> Option<Port> {
    u16::try_from(number).ok().and_then(Port::new)
}

/// Adds a notice that `ports[index]` claims what an earlier port has.
pub(super) fn duplicate(notes: &mut Notes, field: &str, index: usize, value: &str, what: &str) {
    notes.add(
        format!("{field}[{index}]"),
        value,
        format!("{what} of an earlier port; {NOT_SERVED}"),
    );
}
