//! The client of the local API, for the commands.

use std::io;
use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

/// Why the agent did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Nobody listens, or this user has no right to connect.
    #[error("{path}: {}", reason(.source))]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The answer is not complete.
    #[error("{path}: the agent's answer broke off: {reason}")]
    Broken {
        /// The socket.
        path: PathBuf,
        /// What happened.
        reason: String,
    },
    /// The agent refuses the request. This is its message.
    #[error("{0}")]
    Refused(String),
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            "no tandem is running here (start it with `tandem run`, or name its socket with --socket)".into()
        }
        io::ErrorKind::PermissionDenied => "only root may ask the agent".into(),
        _ => error.to_string(),
    }
}

/// Asks the agent behind `socket`.
pub async fn get<T: DeserializeOwned>(socket: &Path, path_and_query: &str) -> Result<T, ApiError> {
    let stream = UnixStream::connect(socket).await.map_err(|source| ApiError::Connect {
        path: socket.to_owned(),
        source,
    })?;
    let broken = |reason: String| ApiError::Broken {
        path: socket.to_owned(),
        reason,
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(error.to_string()))?;
    tokio::spawn(connection);
    let request = Request::get(path_and_query)
        .header("host", "tandem")
        .body(Empty::<Bytes>::new())
        .map_err(|error| broken(error.to_string()))?;
    let response = sender
        .send_request(request)
        .await
        .map_err(|error| broken(error.to_string()))?;
    let status = response.status();
    let body = response
        .into_body()
        .collect()
        .await
        .map_err(|error| broken(error.to_string()))?
        .to_bytes();
    if status != StatusCode::OK {
        return Err(ApiError::Refused(String::from_utf8_lossy(&body).into_owned()));
    }
    serde_json::from_slice(&body).map_err(|error| broken(error.to_string()))
}
