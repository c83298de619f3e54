//! Checks from time to time whether another program's chain drops forwarded packets, and whether clients could not be
//! remembered. The kernel sends no suitable message about either. If a result changes, the engine is told.

use std::thread::sleep;
use std::time::{Duration, Instant};

use tandem_core::family::{Family, V4, V6};
use tandem_nft::{REMEMBERED_MOST, forward_drops, unremembered};
use tokio::sync::mpsc::Sender;

use crate::event::{Event, NodeFact};

/// How often it checks. A notification by the kernel would wake it with each change of any table, most often Tandem's
/// own.
const EVERY: Duration = Duration::from_secs(10);

/// How long after the last client that could not be remembered the memory still counts as full.
const LATELY: Duration = Duration::from_mins(10);

/// Runs until the engine is gone. It blocks, so it needs a thread of its own.
pub(crate) fn follow(events: &Sender<Event>) {
    let mut told: [Told; 3] = Default::default();
    let (mut chains, mut v4, mut v6) = (None, Memory::default(), Memory::default());
    while !events.is_closed() {
        let now = Instant::now();
        let found = [
            forward_drops()
                .map(NodeFact::ForwardDrops)
                .map_err(|error| format!("{error}; whether one drops what is forwarded is not known")),
            v4.look::<V4>(now),
            v6.look::<V6>(now),
        ];
        let before = [&mut chains, &mut v4.told, &mut v6.told];
        for ((found, before), told) in found.into_iter().zip(before).zip(&mut told) {
            told.clear_unless(found.is_err());
            match found {
                Ok(fact) if before.as_ref() != Some(&fact) => {
                    *before = Some(fact.clone());
                    if events.blocking_send(Event::NodeFact(fact)).is_err() {
                        return;
                    }
                }
                Ok(_) => {}
                Err(complaint) => told.once(complaint),
            }
        }
        sleep(EVERY);
    }
}

/// The last problem that was logged.
#[derive(Default)]
struct Told(Option<String>);

impl Told {
    fn clear_unless(&mut self, failed: bool) {
        self.0 = self.0.take().filter(|_| failed);
    }

    fn once(&mut self, complaint: String) {
        if self.0.as_ref() != Some(&complaint) {
            tracing::warn!("{complaint}");
            self.0 = Some(complaint);
        }
    }
}

/// One family's counter of clients that could not be remembered.
#[derive(Default)]
struct Memory {
    count: Option<u64>,
    grew: Option<Instant>,
    told: Option<NodeFact>,
}

impl Memory {
    fn look<F: Family>(&mut self, now: Instant) -> Result<NodeFact, String> {
        let count =
            unremembered::<F>().map_err(|error| format!("{error}; whether clients are remembered is not known"))?;
        Ok(self.seen::<F>(count.unwrap_or_default(), now))
    }

    /// The counter outlives the agent. So its value at the first check says nothing about the present.
    fn seen<F: Family>(&mut self, count: u64, now: Instant) -> NodeFact {
        if self.count.replace(count).is_some_and(|before| before < count) {
            self.grew = Some(now);
        }
        NodeFact::Unremembered {
            family: F::FAMILY,
            connections: count,
            lately: self.grew.is_some_and(|grew| now.duration_since(grew) < LATELY),
            most: REMEMBERED_MOST,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_is_full_for_some_minutes_after_the_counter_has_grown_and_not_for_what_it_had_before() {
        let (mut memory, start) = (Memory::default(), Instant::now());
        let mut look = |count, minutes: u64| {
            let fact = memory.seen::<V6>(count, start + Duration::from_mins(minutes));
            let NodeFact::Unremembered {
                connections, lately, ..
            } = fact
            else {
                panic!("{fact:?}");
            };
            assert_eq!(connections, count);
            lately
        };
        assert!(!look(7, 0));
        assert!(look(8, 1));
        assert!(look(8, 10));
        assert!(!look(8, 11));
        assert!(!look(0, 12), "the table was made anew");
        assert!(look(1, 13));
    }
}
