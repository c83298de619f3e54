//! `--cleanup`: removes what Tandem leaves on a node when it stops.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tandem_core::family::{V4, V6};
use tandem_nft::{NodeLock, RemoveError, remove};
use tokio::signal::unix::{SignalKind, signal};

use crate::api::{ReadyView, Server, remove_dead};
use crate::routes;
use crate::standing::Lock;

use super::{CommandError, block_on};

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
    match afterwards {
        Afterwards::End => {
            let _lock = NodeLock::acquire()?;
            clean(socket)
        }
        Afterwards::Stay => block_on(clean_and_stay(socket))?,
    }
}

/// Cleans as soon as no Tandem runs on the node, and answers `tandem ready` from then on. Ends when a signal comes.
async fn clean_and_stay(socket: &Path) -> Result<(), CommandError> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (lock, over) = (Lock::default(), Arc::new(AtomicBool::new(false)));
    let waiting = {
        let lock = lock.clone();
        let tell = |holder| {
            tracing::info!("another tandem runs on this node: {holder}; the node is cleaned once it has ended");
        };
        let over = Arc::clone(&over);
        tokio::task::spawn_blocking(move || lock.wait(tell, || over.load(Ordering::Relaxed)))
    };
    let work = async {
        waiting.await?;
        clean(socket)?;
        let server = Server::bind(socket)?;
        tracing::info!("the node is clean; waits to be told to end");
        server
            .say_ready(ReadyView::yes("the node is clean: nothing of tandem is left on it"))
            .await;
        Ok(())
    };
    let result = tokio::select! {
        ended = work => ended,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    // The thread that waits for the lock ends.
    over.store(true, Ordering::Relaxed);
    result
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
