//! Waits for a time that may not exist.

use tokio::time::Instant;

/// Waits until this time. If there is no time, it waits for ever.
pub(crate) async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
