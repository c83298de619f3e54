//! A name server that knows a few names.

use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::netns::Namespace;

const A: [u8; 4] = [0, 1, 0, 1];
const AAAA: [u8; 4] = [0, 28, 0, 1];
const NO_SUCH_NAME: u8 = 3;

/// It answers on 127.0.0.1 until it is dropped.
#[derive(Debug)]
pub(super) struct NameServer {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl NameServer {
    pub(super) fn start(namespace: &Namespace, names: &[(&str, IpAddr)]) -> Result<Self> {
        let socket = namespace
            .run(|| UdpSocket::bind(("127.0.0.1", 53)))?
            .context("bind the name server")?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let names: Vec<(Vec<u8>, IpAddr)> = names.iter().map(|(name, address)| (encode(name), *address)).collect();
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let serve = move || {
            let mut buffer = [0; 512];
            while !ended.load(Ordering::Relaxed) {
                if let Ok((length, client)) = socket.recv_from(&mut buffer)
                    && let Some(answer) = answer(&buffer[..length], &names)
                {
                    let _ = socket.send_to(&answer, client); // a client that went away asks no more
                }
            }
        };
        let thread = namespace.entrance().thread("name server", serve)?;
        Ok(Self {
            end,
            thread: Some(thread),
        })
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // it cannot panic in a way that matters now
        }
    }
}

/// A name as it is in a question: each part with its length before it.
fn encode(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in name.split('.') {
        bytes.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
        bytes.extend(part.to_ascii_lowercase().bytes());
    }
    bytes.push(0);
    bytes
}

/// Answers a query with one question. Anything else gets no answer.
fn answer(query: &[u8], names: &[(Vec<u8>, IpAddr)]) -> Option<Vec<u8>> {
    let (head, question) = query.split_at_checked(12)?;
    let end = question.iter().position(|byte| *byte == 0)? + 1;
    let (name, rest) = question.split_at(end);
    let kind: [u8; 4] = rest.get(..4)?.try_into().ok()?;
    let name = name.to_ascii_lowercase();
    let known: Vec<IpAddr> = names
        .iter()
        .filter(|(one, _)| *one == name)
        .map(|(_, address)| *address)
        .collect();
    let data: Vec<Vec<u8>> = known
        .iter()
        .filter_map(|address| match address {
            IpAddr::V4(address) if kind == A => Some(address.octets().to_vec()),
            IpAddr::V6(address) if kind == AAAA => Some(address.octets().to_vec()),
            _ => None,
        })
        .collect();
    let code = if known.is_empty() { NO_SUCH_NAME } else { 0 };
    let count = u8::try_from(data.len()).ok()?;
    let mut answer = head.get(..2)?.to_vec();
    // an answer of the authority itself, with recursion; one question, and these answers
    answer.extend([0x85, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0]);
    answer.extend(&question[..end + 4]);
    for bytes in data {
        answer.extend([0xc0, 12]); // the name of the question
        answer.extend(kind);
        answer.extend([0, 0, 0, 60, 0, u8::try_from(bytes.len()).ok()?]);
        answer.extend(bytes);
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &str, kind: [u8; 4]) -> Vec<u8> {
        let mut query = vec![7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        query.extend(encode(name));
        query.extend(kind);
        query
    }

    #[test]
    fn a_known_name_has_its_address_in_its_family_and_an_unknown_one_does_not_exist() {
        let names = [(encode("four.test"), "192.0.2.1".parse().unwrap())];
        let told = answer(&query("FOUR.test", A), &names).unwrap();
        assert_eq!(told[..8], [7, 9, 0x85, 0x80, 0, 1, 0, 1]);
        assert!(told.ends_with(&[0, 4, 192, 0, 2, 1]));
        let told = answer(&query("four.test", AAAA), &names).unwrap();
        assert_eq!(told[..8], [7, 9, 0x85, 0x80, 0, 1, 0, 0]);
        let told = answer(&query("five.test", A), &names).unwrap();
        assert_eq!(told[3], 0x80 | NO_SUCH_NAME);
        assert_eq!(answer(b"short", &names), None);
        assert_eq!(answer(&[0; 12], &names), None);
    }
}
