//! The client of the local API, for the commands.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// How long an answer may take. The agent answers from memory; an answer with 50,000 Services takes less than a second.
const PATIENCE: Duration = Duration::from_secs(30);

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
    /// It took the request, and did not answer it.
    #[error("{path}: the agent did not answer within {} s", PATIENCE.as_secs())]
    Silent {
        /// The socket.
        path: PathBuf,
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
    timeout(PATIENCE, ask(socket, path_and_query))
        .await
        .unwrap_or_else(|_| {
            Err(ApiError::Silent {
                path: socket.to_owned(),
            })
        })
}

async fn ask<T: DeserializeOwned>(socket: &Path, path_and_query: &str) -> Result<T, ApiError> {
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

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_does_not_answer_is_not_waited_for_forever() {
        let path = std::env::temp_dir().join(format!("tandem-silent-{}", std::process::id()));
        let _listener = UnixListener::bind(&path).unwrap();
        let error = get::<serde_json::Value>(&path, "/v1/ready").await.unwrap_err();
        std::fs::remove_file(&path).unwrap();
        let expected = format!("{}: the agent did not answer within 30 s", path.display());
        assert_eq!(error.to_string(), expected);
    }
}
