//! The token in a file. The kubelet replaces the token of a service account about once an hour.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderValue;

/// A token in a file. The file is read for each request. There are few, because a watch of minutes is one request.
#[derive(Clone, Debug)]
pub(super) struct TokenFile {
    path: PathBuf,
    last: Arc<Mutex<Last>>,
}

#[derive(Debug, Default)]
struct Last {
    /// The last good token, as a header.
    header: Option<HeaderValue>,
    /// What was wrong with the file the last time.
    problem: Option<String>,
}

impl TokenFile {
    /// The file may still be empty.
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            last: Arc::default(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The header `Authorization` with the token. If the file cannot be used at the moment, this is the last good one;
    /// none if there never was one.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        let read = fs::read_to_string(&self.path).map_err(|error| error.to_string());
        let read = read.and_then(|text| bearer(&text));
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(header) => {
                *last = Last {
                    header: Some(header),
                    problem: None,
                }
            }
            Err(problem) if last.problem.as_ref() != Some(&problem) => {
                let instead = if last.header.is_some() {
                    "the last token of it is sent"
                } else {
                    "no token of it is sent"
                };
                tracing::warn!("token file {}: {problem}; {instead}", self.path.display());
                last.problem = Some(problem);
            }
            Err(_) => {}
        }
        last.header.clone()
    }
}

fn bearer(text: &str) -> Result<HeaderValue, String> {
    let token = text.trim();
    if token.is_empty() {
        return Err("is empty".to_owned());
    }
    let header = HeaderValue::try_from(format!("Bearer {token}"));
    let mut header = header.map_err(|_| "holds characters that no token has".to_owned())?;
    header.set_sensitive(true);
    Ok(header)
}
