//! Netlink's own header, as it is sent.

/// Bytes of the header.
pub const HEADER: usize = 16;
/// Where the header holds a message's type.
pub const KIND_AT: usize = 4;
/// Where the header holds a message's flags.
pub const FLAGS_AT: usize = 6;
/// Where the header holds a message's number.
pub const SEQUENCE_AT: usize = 8;

/// `NLM_F_REQUEST`: every message to the kernel has it.
pub const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`: the kernel acknowledges success too, not only failure.
pub const ACK: u16 = 0x4;
/// `NLM_F_DUMP`: the request asks for all objects of a kind.
pub const DUMP: u16 = 0x300;

/// Appends one message: the header, then what `body` writes. Afterwards it sets the length in the header, and pads the
/// message to four bytes.
///
/// Returns the number of bytes that the header states.
pub fn push(buffer: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, body: impl FnOnce(&mut Vec<u8>)) -> u32 {
    let start = buffer.len();
    buffer.extend(0_u32.to_ne_bytes());
    buffer.extend(kind.to_ne_bytes());
    buffer.extend((flags | REQUEST).to_ne_bytes());
    buffer.extend(sequence.to_ne_bytes());
    buffer.extend(0_u32.to_ne_bytes()); // the kernel fills in the port
    body(buffer);
    let length = u32::try_from(buffer.len() - start).unwrap_or(u32::MAX);
    buffer[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    buffer.resize(buffer.len().next_multiple_of(4), 0);
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_states_its_length_without_the_padding() {
        let mut buffer = Vec::new();
        push(&mut buffer, 24, ACK, 7, |body| body.extend([1, 2, 3]));
        push(&mut buffer, 25, DUMP, 8, |_| {});
        assert_eq!(buffer.len(), 20 + 16);
        assert_eq!(buffer[..4], 19_u32.to_ne_bytes());
        assert_eq!(buffer[6..8], 5_u16.to_ne_bytes());
        assert_eq!(buffer[16..20], [1, 2, 3, 0]);
        assert_eq!(buffer[20..24], 16_u32.to_ne_bytes());
        assert_eq!(buffer[28..32], 8_u32.to_ne_bytes());
    }
}
