//! `--cleanup`: removes what Tandem leaves on a node when it stops.

use std::path::Path;

use tandem_core::family::{V4, V6};
use tandem_nft::{NodeLock, RemoveError, remove};
use tokio::signal::unix::{SignalKind, signal};

use crate::api::{ReadyView, Server, remove_dead};
use crate::routes;
use crate::standing::Standing;

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
    let mut standing = Standing::take(true)?;
    let work = async {
        standing.served().await?;
        clean(socket)?;
        let server = Server::bind(socket)?;
        tracing::info!("the node is clean; waits to be told to end");
        server
            .say_ready(ReadyView::yes("the node is clean: nothing of tandem is left on it"))
            .await;
        Ok(())
    };
    tokio::select! {
        ended = work => ended,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
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
