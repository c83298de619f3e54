//! `--cleanup`: removes what Tandem leaves on a node when it stops.

use std::path::Path;

use tandem_core::family::{V4, V6};
use tandem_nft::{NodeLock, RemoveError, remove};

use crate::api::remove_dead;
use crate::routes;

use super::CommandError;

/// Removes both tables, the routes and the socket of the local API. Says what was there. If one step fails, the others
/// are done nevertheless.
pub(super) fn run(socket: &Path) -> Result<(), CommandError> {
    let _lock = NodeLock::acquire()?;
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
