//! Questions and answers as bytes: how long they are, the question's number, and in the answer who answers and the source that it saw.

use std::net::SocketAddr;

/// How long the beginning is that all of them have.
pub(super) const HEADER: usize = 8;
/// The shortest question, whose answer still has room for what is said.
pub(super) const SHORTEST: usize = 80;
/// The longest one.
const LONGEST: usize = 8192;

/// A question of this length.
pub(super) fn question(len: usize, number: u32) -> Vec<u8> {
    let len = len.clamp(SHORTEST, LONGEST);
    let mut bytes = Vec::with_capacity(len);
    bytes.extend(u32::try_from(len).unwrap_or_default().to_be_bytes());
    bytes.extend(number.to_be_bytes());
    bytes.resize(len, b'?');
    bytes
}

/// How long a question or an answer is that begins with these bytes; none if no question begins so.
pub(super) fn len(bytes: &[u8]) -> Option<usize> {
    let len = usize::try_from(u32::from_be_bytes(bytes.first_chunk().copied()?)).ok()?;
    (SHORTEST..=LONGEST).contains(&len).then_some(len)
}

/// The answer of a server; none if that was no question.
pub(super) fn answer(question: &[u8], by: usize, source: SocketAddr) -> Option<Vec<u8>> {
    if len(question)? != question.len() {
        return None;
    }
    let mut bytes = question[..HEADER].to_vec();
    bytes.extend(format!("{by} {source}\n").into_bytes());
    bytes.resize(question.len(), 0);
    Some(bytes)
}

/// Who answered the question of this number, and the source that it saw; none if it is another answer, or not all of it.
pub(super) fn read(answer: &[u8], number: u32) -> Option<(usize, SocketAddr)> {
    let of = u32::from_be_bytes(answer.get(4..HEADER)?.try_into().ok()?);
    if len(answer)? != answer.len() || of != number {
        return None;
    }
    let line = answer[HEADER..].split(|byte| *byte == b'\n').next()?;
    let (by, source) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    Some((by.parse().ok()?, source.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_as_long_as_its_question_and_is_read_only_for_it() {
        let source: SocketAddr = "[2001:db8:1111:2222:3333:4444:5555:6666]:65535".parse().unwrap();
        for size in [0, 80, 4500] {
            let question = question(size, 7);
            let answer = answer(&question, 6, source).unwrap();
            assert_eq!(answer.len(), question.len());
            assert_eq!(read(&answer, 7), Some((6, source)));
            assert_eq!(read(&answer, 8), None);
            assert_eq!(read(&answer[..answer.len() - 1], 7), None);
            assert_eq!(read(&question, 7), None);
        }
    }
}
