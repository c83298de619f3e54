//! `--cleanup`: removes what Tandem leaves on a node when it stops.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use tandem_core::family::{V4, V6};
use tandem_nft::{LockError, NodeLock, RemoveError, remove};
use tokio::signal::unix::{SignalKind, signal};

use crate::api::{ReadyView, Server, remove_dead};
use crate::routes;

use super::{CommandError, block_on};

/// How often a cleanup that stays looks whether the agent has ended.
const ENDED_EVERY: Duration = Duration::from_millis(100);

/// What is done once the node is clean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Afterwards {
    End,
    /// Be ready until the end, for a DaemonSet that cleans every node.
    Stay,
}

/// Removes both tables, the routes and the socket of the local API. Says what was there. If one step fails, the others
/// are done nevertheless.
pub(super) fn run(socket: &Path, afterwards: Afterwards) -> Result<(), CommandError> {
    let _lock = match afterwards {
        Afterwards::End => NodeLock::acquire()?,
        Afterwards::Stay => lock_when_free()?,
    };
    clean(socket)?;
    match afterwards {
        Afterwards::End => Ok(()),
        Afterwards::Stay => block_on(stay(socket))?,
    }
}

/// The agent that is being replaced may take a moment to end.
fn lock_when_free() -> Result<NodeLock, LockError> {
    let mut told = false;
    loop {
        match NodeLock::acquire() {
            Err(LockError::Held(holder)) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::info!("another tandem runs on this node: {holder}; the node is cleaned once it has ended");
                }
                sleep(ENDED_EVERY);
            }
            acquired => return acquired,
        }
    }
}

fn clean(socket: &Path) -> Result<(), CommandError> {
    let mut failures = Vec::new();
    let mut note = |what: &str, result: Result<bool, String>| match result {
        Ok(true) => tracing::info!("removed {what}"),
        Ok(false) => tracing::info!("{what}: not there"),
        Err(problem) => failures.push(problem),
    };
    let words = |result: Result<bool, RemoveError>| result.map_err(|error| error.to_string());
    note("table ip tandem", words(remove::<V4>()));
    note("table ip6 tandem", words(remove::<V6>()));
    let routes = routes::KernelRoutes::default().bring(&routes::Routes::new());
    note(
        "the routes of the Service ranges",
        routes.map_err(|error| error.to_string()),
    );
    let gone = remove_dead(socket).map_err(|error| error.to_string());
    note(&socket.display().to_string(), gone);
    if failures.is_empty() {
        Ok(())
    } else {
        Err(failures.join("; ").into())
    }
}

/// Answers `tandem ready` until a signal comes.
async fn stay(socket: &Path) -> Result<(), CommandError> {
    let server = Server::bind(socket)?;
    tracing::info!("the node is clean; waits to be told to end");
    let clean = ReadyView::yes("the node is clean: nothing of tandem is left on it");
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        () = server.say_ready(clean) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
