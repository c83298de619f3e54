//! The events of a watch as they arrive, with what goes before each, and events that the proxy makes itself.

use super::case::Encoding;

/// What the bookmark that ends a list contains, in either encoding.
const END_OF_LIST: &[u8] = b"k8s.io/initial-events-end";

/// Takes a body apart. A frame is an event with its length before it, or with the end of line behind it.
#[derive(Debug)]
pub(super) struct Frames {
    encoding: Encoding,
    buffer: Vec<u8>,
}

impl Frames {
    pub(super) fn new(encoding: Encoding) -> Self {
        Self {
            encoding,
            buffer: Vec::new(),
        }
    }

    /// Takes what has arrived.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame, if all of it has arrived.
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        let length = match self.encoding {
            Encoding::Json => self.buffer.iter().position(|byte| *byte == b'\n')? + 1,
            Encoding::Protobuf => {
                let (length, _) = self.buffer.split_first_chunk::<4>()?;
                usize::try_from(u32::from_be_bytes(*length)).ok()? + 4
            }
        };
        (length <= self.buffer.len()).then(|| self.buffer.drain(..length).collect())
    }
}

/// Whether the frame is the bookmark that ends a list.
pub(super) fn ends_a_list(frame: &[u8]) -> bool {
    frame.windows(END_OF_LIST.len()).any(|part| part == END_OF_LIST)
}

/// Whether the frame is a bookmark. Nobody knows when the next one comes.
pub(super) fn is_a_bookmark(frame: &[u8], encoding: Encoding) -> bool {
    match encoding {
        Encoding::Json => frame.starts_with(br#"{"type":"BOOKMARK""#),
        Encoding::Protobuf => frame
            .get(4..)
            .is_some_and(|event| event.starts_with(&field(1, b"BOOKMARK"))),
    }
}

/// The frame with a length that is wrong by one. In JSON, its end of line is missing, or there is one inside it.
pub(super) fn with_wrong_length(frame: &[u8], encoding: Encoding, longer: bool) -> Vec<u8> {
    let mut wrong = frame.to_vec();
    match (encoding, wrong.first_chunk_mut::<4>()) {
        (Encoding::Protobuf, Some(length)) => {
            let was = u32::from_be_bytes(*length);
            *length = if longer { was + 1 } else { was - 1 }.to_be_bytes();
        }
        (Encoding::Json, _) if longer => drop(wrong.pop()),
        _ => wrong.insert(frame.len() / 2, b'\n'),
    }
    wrong
}

/// An ERROR event with this code.
pub(super) fn error_event(encoding: Encoding, code: u16) -> Vec<u8> {
    const MESSAGE: &str = "a fault made by a test";
    if encoding == Encoding::Json {
        let event = serde_json::json!({ "type": "ERROR", "object": {
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": MESSAGE, "code": code,
        }});
        return format!("{event}\n").into_bytes();
    }
    let mut status = [field(2, b"Failure"), field(3, MESSAGE.as_bytes())].concat();
    status.push(6 << 3); // a number
    status.extend(varint(code.into()));
    let kind = [field(1, b"v1"), field(2, b"Status")].concat();
    let object = [b"k8s\0".to_vec(), field(1, &kind), field(2, &status)].concat();
    framed(&[field(1, b"ERROR"), field(2, &field(1, &object))].concat())
}

/// A message with its length before it.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], message].concat()
}

/// A field of bytes in protobuf.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2][..], &varint(bytes.len() as u64), bytes].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        bytes.push(if value > 0 { low | 0x80 } else { low });
        if value == 0 {
            return bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_taken_apart_however_it_arrives() {
        for (encoding, body, first) in [
            (Encoding::Protobuf, &b"\0\0\0\x02ab\0\0\0\0"[..], 6),
            (Encoding::Json, b"{\"a\":1}\n{}\n", 8),
        ] {
            let mut frames = Frames::new(encoding);
            let mut seen = Vec::new();
            for byte in body {
                frames.push(&[*byte]);
                seen.extend(frames.next());
            }
            assert_eq!(seen.concat(), body);
            assert_eq!(seen[0].len(), first);
        }
    }

    #[test]
    fn a_wrong_length_is_wrong_by_one() {
        let frame = framed(b"abc");
        assert_eq!(with_wrong_length(&frame, Encoding::Protobuf, true), b"\0\0\0\x04abc");
        assert_eq!(with_wrong_length(&frame, Encoding::Protobuf, false), b"\0\0\0\x02abc");
        assert_eq!(with_wrong_length(b"{}\n", Encoding::Json, true), b"{}");
        assert_eq!(with_wrong_length(b"{}\n", Encoding::Json, false), b"{\n}\n");
    }

    #[test]
    fn numbers_take_seven_bits_a_byte() {
        assert_eq!(varint(410), [0x9a, 0x03]);
        assert_eq!(varint(0), [0]);
    }
}
