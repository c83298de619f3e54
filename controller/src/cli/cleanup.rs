//! `--cleanup`: removes what Tandem leaves on a node when it stops.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tandem_core::family::{V4, V6};
use tandem_nft::{NodeLock, RemoveError, remove};
use tokio::signal::unix::{SignalKind, signal};

use crate::api::{ReadyView, Server, remove_dead};
use crate::routes;
use crate::standing::Standing;
use crate::xdp;

use super::{CommandError, block_on};

/// What is done once the node is clean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Afterwards {
    End,
    /// Be ready until the end, for a DaemonSet that cleans every node.
    Stay,
}

/// Removes what is pinned, both tables, the routes and the socket of the local API. Says what was there. If one step fails, the others
/// are done nevertheless. A program that stays keeps the socket, as its own.
pub(super) fn run(socket: &Path, pins: &Path, afterwards: Afterwards) -> Result<(), CommandError> {
    match afterwards {
        Afterwards::End => {
            let _lock = NodeLock::acquire()?;
            clean(socket, true, pins)
        }
        Afterwards::Stay => block_on(clean_and_stay(socket, pins))?,
    }
}

/// Cleans as soon as no Tandem runs on the node, and answers `tandem ready` meanwhile. Ends when a signal comes.
async fn clean_and_stay(socket: &Path, pins: &Path) -> Result<(), CommandError> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut standing = Standing::take(true)?;
    let waits = ReadyView::no("the node is not clean: another tandem still serves it");
    let says = Arc::new(ArcSwap::from_pointee(waits));
    let answers = async {
        // In a folder that both share, the socket is that of the other one until it ends.
        let server = Server::bind_when_free(socket).await?;
        server.say_ready(Arc::clone(&says)).await;
        Err("the local API ended".into())
    };
    let work = async {
        standing.served().await?;
        clean(socket, false, pins)?;
        tracing::info!("the node is clean; waits to be told to end");
        says.store(Arc::new(ReadyView::yes(
            "the node is clean: nothing of tandem is left on it",
        )));
        std::future::pending::<Result<(), CommandError>>().await
    };
    tokio::select! {
        ended = work => ended,
        ended = answers => ended,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

/// Removes the programs in the kernel, the reservation of their ports, both tables, the routes and, if nobody answers there, the socket.
/// The programs go first: they must not answer by rows of tables that are gone.
fn clean(socket: &Path, with_socket: bool, pins: &Path) -> Result<(), CommandError> {
    let programs = (format!("the programs and maps in {}", pins.display()), xdp::clean(pins));
    let words = |result: Result<bool, RemoveError>| result.map_err(|error| error.to_string());
    let routes = routes::KernelRoutes::default().bring(&routes::Routes::new());
    let mut results = vec![
        programs,
        (
            "the reservation of the ports 49152-65535".to_owned(),
            xdp::Reserved::new(Path::new("/"), socket).remove(),
        ),
        ("table ip tandem".to_owned(), words(remove::<V4>())),
        ("table ip6 tandem".to_owned(), words(remove::<V6>())),
        (
            "the routes of the Service ranges".to_owned(),
            routes.map_err(|error| error.to_string()),
        ),
    ];
    results.extend(with_socket.then(|| {
        let gone = remove_dead(socket).map_err(|error| error.to_string());
        (socket.display().to_string(), gone)
    }));
    let mut failures = Vec::new();
    for (what, result) in results {
        match result {
            Ok(true) => tracing::info!("removed {what}"),
            Ok(false) => tracing::info!("{what}: not there"),
            Err(problem) => failures.push(problem),
        }
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(failures.join("; ").into())
    }
}
