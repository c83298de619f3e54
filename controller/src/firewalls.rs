//! Looks now and then whether another program's chain drops what is forwarded, and tells the engine when that changes.

use std::thread::sleep;
use std::time::Duration;

use tandem_nft::forward_drops;
use tokio::sync::mpsc::Sender;

use crate::event::{Around, Event};

/// How often it looks. Being told by the kernel would mean to be woken by each change of any table, Tandem's own first.
const EVERY: Duration = Duration::from_secs(10);

/// Goes on until the engine is gone. Blocks: give it a thread of its own.
pub(crate) fn follow(events: &Sender<Event>) {
    let (mut known, mut complaint) = (Vec::new(), None);
    while !events.is_closed() {
        match forward_drops() {
            Ok(found) => {
                complaint = None;
                if found != known {
                    known.clone_from(&found);
                    let event = Event::Around(Around::ForwardDrops(found));
                    if events.blocking_send(event).is_err() {
                        return;
                    }
                }
            }
            Err(error) => {
                let text = error.to_string();
                if complaint.as_ref() != Some(&text) {
                    tracing::warn!("{text}; whether one drops what is forwarded is not known");
                    complaint = Some(text);
                }
            }
        }
        sleep(EVERY);
    }
}
