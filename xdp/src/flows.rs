//! Cuts UDP flows in records while packets use them.

use tandem_core::flows::Translation;
use tandem_core::row::Protocol;
use tandem_xdp_layout::{Record, StateWord, Times, is_over, record};

use crate::convert::{self, Plane};

/// How often it is tried to cut one flow. Packets change the state of a UDP flow once in its life.
const TRIES: usize = 4;

/// What was found in records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// How many UDP flows there were.
    pub read: u64,
    /// How many of them were cut.
    pub cut: u64,
}

/// Asks of each UDP flow whether it is wrong, after it was read, and cuts it then. The client's next datagram begins another flow.
/// What the index says of the client stays: a word that leads to a record of another claim leads nowhere.
///
/// `now` is in seconds of the packet program's clock. By it and by `times`, a flow is known that is over for its client already. It
/// is cut all the same, because it would live again if the times became longer. But it does not count.
///
/// Connections (TCP) are not asked for. They end by themselves.
pub fn cut_datagrams<F: Plane>(
    records: impl IntoIterator<Item = impl Record>,
    now: u32,
    times: &Times,
    mut wrong: impl FnMut(Translation<F>) -> bool,
) -> Cut {
    let mut found = Cut::default();
    for words in records {
        if record::state(words).protocol() != Protocol::Udp.number() {
            continue;
        }
        let (state, flow) = record::read::<F::Mapped>(words);
        // The record may have been taken over since its protocol was read.
        let Some(flow) = flow.filter(|_| state.protocol() == Protocol::Udp.number()) else {
            continue;
        };
        let ends = convert::plain::<F>(flow.frontend).zip(convert::plain::<F>(flow.endpoint));
        let Some((to, with)) = ends else { continue };
        // A packet may have come since the time was read.
        let idle = now.saturating_sub(record::used::<F::Mapped>(words));
        let counts = u64::from(!is_over(state, idle, times));
        found.read += counts;
        if wrong(Translation { to, with }) && cut(words, state) {
            found.cut += counts;
        }
    }
    found
}

/// Frees a record if it is still of the flow that was read. Packets of the flow may change its state meanwhile.
fn cut(words: impl Record, read: StateWord) -> bool {
    let mut state = read;
    for _ in 0..TRIES {
        if record::change(words, state, state.freed()) {
            return true;
        }
        state = record::state(words);
        if !state.is_same_claim(read) {
            return false;
        }
    }
    false
}

#[cfg(test)]
mod tests;
