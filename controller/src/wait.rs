//! Waiting for a time that may not come.

use tokio::time::Instant;

/// Waits until then; for ever if there is no such time.
pub(crate) async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
