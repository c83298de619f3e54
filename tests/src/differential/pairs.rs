//! The same question in both worlds, and many of them at the same time.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::event::{PollFd, Timespec, poll};

use super::talk::{Seen, Talk};
use crate::{interrupt, patience};

/// So many questions are sent in a row, before answers are looked for. Queues of virtual cables are short.
const AT_ONCE: usize = 16;
/// How long an answer is waited for that nobody is to give.
const SILENCE: Duration = Duration::from_millis(500);
/// How long one is waited for that is to come, or that came in the other world.
const PATIENCE: Duration = Duration::from_secs(6);
/// After so long, a datagram is sent again: a busy machine may lose one.
const AGAIN: Duration = Duration::from_millis(1500);

/// A socket in each world.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) talks: [Talk; 2],
    /// Whether an answer is to come.
    pub(super) is_served: bool,
    asked: Instant,
    repeated: bool,
}

impl Pair {
    pub(super) fn new(talks: [Talk; 2], is_served: bool) -> Self {
        Self {
            talks,
            is_served,
            asked: Instant::now(),
            repeated: false,
        }
    }

    /// Asks in both worlds.
    fn ask(&mut self, len: usize) {
        (self.asked, self.repeated) = (Instant::now(), false);
        for talk in &mut self.talks {
            talk.ask(len);
        }
    }

    /// How the question ended in both worlds.
    pub(super) fn seen(&self) -> [Seen; 2] {
        self.talks.each_ref().map(|talk| talk.seen().unwrap_or(Seen::Silent))
    }

    /// Whether nothing more is waited for.
    fn is_done(&self) -> bool {
        let seen = self.talks.each_ref().map(Talk::seen);
        if seen.iter().all(Option::is_some) {
            return true;
        }
        let is_answered = seen.iter().any(|seen| matches!(seen, Some(Seen::Answered(..))));
        let most = if self.is_served || is_answered {
            PATIENCE
        } else {
            SILENCE
        };
        self.asked.elapsed() > patience(most)
    }

    /// Sends a datagram again, once. Returns whether it did.
    fn repeat(&mut self) -> bool {
        if self.repeated || self.asked.elapsed() < patience(AGAIN) {
            return false;
        }
        self.repeated = true;
        let mut lost = self
            .talks
            .iter_mut()
            .filter(|talk| talk.is_udp() && talk.seen().is_none());
        lost.by_ref().map(Talk::say).count() > 0
    }
}

/// Asks questions of these lengths, and waits until all have ended. Returns how many datagrams were sent again.
pub(super) fn ask(pairs: &mut [(&mut Pair, usize)]) -> Result<u64> {
    for from in (0..pairs.len()).step_by(AT_ONCE) {
        let until = pairs.len().min(from + AT_ONCE);
        for (pair, len) in &mut pairs[from..until] {
            pair.ask(*len);
        }
        // What takes longer is waited for together with the others.
        let deadline = Instant::now() + Duration::from_millis(40);
        while Instant::now() < deadline && !look(&mut pairs[..until], Duration::from_millis(10))? {}
    }
    let mut again = 0;
    while !look(pairs, Duration::from_millis(50))? {
        ensure!(!interrupt::came(), "interrupted");
        again += pairs.iter_mut().map(|(pair, _)| u64::from(pair.repeat())).sum::<u64>();
    }
    Ok(again)
}

/// Looks what came to those that are not done. Returns whether all are.
fn look(pairs: &mut [(&mut Pair, usize)], longest: Duration) -> Result<bool> {
    let mut open: Vec<&mut Talk> = Vec::new();
    for (pair, _) in pairs.iter_mut().filter(|(pair, _)| !pair.is_done()) {
        open.extend(pair.talks.iter_mut().filter(|talk| talk.seen().is_none()));
    }
    if open.is_empty() {
        return Ok(true);
    }
    let mut files: Vec<PollFd<'_>> = open.iter().map(|talk| PollFd::new(*talk, talk.waits_for())).collect();
    let longest = Timespec::try_from(longest).context("too long a time")?;
    poll(&mut files, Some(&longest)).context("wait for answers")?;
    let ready: Vec<bool> = files.iter().map(|file| !file.revents().is_empty()).collect();
    for (talk, _) in open.into_iter().zip(ready).filter(|(_, ready)| *ready) {
        talk.look();
    }
    Ok(false)
}
