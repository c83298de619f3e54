//! Ctrl-C and SIGTERM for programs that clean up after themselves. The first signal is noted. The second one ends the
//! program at once, and the reaper removes what it made (see [`crate::netns`]).

use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;

use anyhow::{Context as _, Result};
use tokio::signal::unix::{SignalKind, signal};

/// The number of signals so far.
static SIGNALS: AtomicU8 = AtomicU8::new(0);
/// The exit code that a shell gives a program that Ctrl-C ended.
pub const INTERRUPTED: u8 = 130;

/// Starts to note them.
pub fn watch() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let count = move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if SIGNALS.fetch_add(1, Ordering::Relaxed) > 0 {
                    std::process::exit(INTERRUPTED.into());
                }
            }
        });
    };
    thread::Builder::new()
        .name("signals".into())
        .spawn(count)
        .context("start a thread for signals")?;
    Ok(())
}

/// Whether one has come.
pub fn came() -> bool {
    SIGNALS.load(Ordering::Relaxed) > 0
}
