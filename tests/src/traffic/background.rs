//! Requests that run while a test does something else, and one connection that must survive it.

use std::fmt;
use std::io::{ErrorKind, Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};

use super::{Answer, Outcome, Request, Tally};
use crate::netns::Namespace;

/// Requests one after the other until it is stopped.
#[derive(Debug)]
pub struct Repeat {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    lost: Arc<AtomicU64>,
    thread: JoinHandle<Result<Tally>>,
}

/// One TCP connection that sends a numbered message every few milliseconds and expects each one back, in order.
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<StreamReport>>,
    by: String,
}

/// The result of a [`Stream`].
#[derive(Clone, Debug, Default)]
pub struct StreamReport {
    /// Messages sent.
    pub sent: u64,
    /// Messages that came back, in order.
    pub returned: u64,
    /// The longest time between two that came back.
    pub longest_gap: Duration,
    /// Why it ended before it was stopped.
    pub broken: Option<String>,
}

impl Request {
    /// Sends the request again and again in the background.
    pub fn repeat(&self, from: &Namespace) -> Result<Repeat> {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let lost = Arc::new(AtomicU64::new(0));
        let (stopped, count, request) = (Arc::clone(&stop), Arc::clone(&sent), self.clone());
        let failed = Arc::clone(&lost);
        let thread = from.entrance().thread("repeat", move || {
            let start = Instant::now();
            let mut tally = Tally::default();
            while !stopped.load(Ordering::Relaxed) {
                let began = start.elapsed();
                let outcome = request.send_here();
                if outcome.answer().is_none() {
                    failed.fetch_add(1, Ordering::Relaxed);
                }
                tally.add(began, outcome);
                count.fetch_add(1, Ordering::Relaxed);
                thread::sleep(request.interval);
            }
            tally
        })?;
        Ok(Repeat {
            stop,
            sent,
            lost,
            thread,
        })
    }

    /// Opens a connection that stays, and keeps it busy.
    pub fn stream(&self, from: &Namespace) -> Result<Stream> {
        let mut socket = from
            .run(|| self.connect())?
            .with_context(|| format!("connect to {}", self.to))?;
        let mut greeting = [0; 256];
        let length = socket.read(&mut greeting).context("read the greeting")?;
        let by = Answer::parse(&String::from_utf8_lossy(&greeting[..length]), Duration::ZERO)?.by;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, interval) = (Arc::clone(&stop), self.interval);
        // A connection belongs to the namespace in which it was made, wherever its thread runs.
        let thread = thread::spawn(move || keep_busy(&socket, interval, &stopped));
        Ok(Stream { stop, thread, by })
    }
}

impl Repeat {
    /// Requests that ended so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Those of them that were not answered.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Waits until this number of further requests have ended.
    pub fn wait_for(&self, more: u64, timeout: Duration) -> Result<()> {
        let (goal, deadline) = (self.sent() + more, Instant::now() + timeout);
        while self.sent() < goal {
            anyhow::ensure!(
                Instant::now() < deadline,
                "{} of {goal} requests after {timeout:?}",
                self.sent()
            );
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Stops and returns the results.
    pub fn stop(self) -> Result<Tally> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .map_err(|_| anyhow!("the background client panicked"))?
    }
}

impl Stream {
    /// The server at the other end.
    pub fn by(&self) -> &str {
        &self.by
    }

    /// Whether it has ended by itself.
    pub fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Stops and returns the result.
    pub fn stop(self) -> Result<StreamReport> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .map_err(|_| anyhow!("the stream's client panicked"))?
    }
}

impl StreamReport {
    /// Whether every message came back.
    pub fn is_whole(&self) -> bool {
        self.broken.is_none() && self.sent == self.returned
    }
}

impl fmt::Display for StreamReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            sent,
            returned,
            longest_gap,
            broken,
        } = self;
        write!(
            formatter,
            "{returned} of {sent} messages came back, longest gap {longest_gap:.1?}"
        )?;
        broken
            .as_ref()
            .map_or(Ok(()), |reason| write!(formatter, ", then {reason}"))
    }
}

fn keep_busy(mut socket: &socket2::Socket, interval: Duration, stop: &AtomicBool) -> Result<StreamReport> {
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .context("set a timeout")?;
    let mut report = StreamReport::default();
    let mut last = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let message = report.sent.to_be_bytes();
        if let Err(error) = socket.write_all(&message) {
            report.broken = Some(Outcome::from_error(&error, last.elapsed()).to_string());
            break;
        }
        report.sent += 1;
        let mut back = [0; 8];
        match socket.read_exact(&mut back) {
            Ok(()) if back == message => report.returned += 1,
            Ok(()) => report.broken = Some(format!("message {} came instead", u64::from_be_bytes(back))),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => report.broken = Some("closed".to_owned()),
            Err(error) => report.broken = Some(Outcome::from_error(&error, last.elapsed()).to_string()),
        }
        if report.broken.is_some() {
            break;
        }
        report.longest_gap = report.longest_gap.max(last.elapsed());
        last = Instant::now();
        thread::sleep(interval);
    }
    Ok(report)
}
