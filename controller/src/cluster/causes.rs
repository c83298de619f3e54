//! Errors of libraries as one text.

use std::error::Error;

/// An error with its causes, the outermost first, each once.
pub(super) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut causes: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        let text = cause.to_string();
        // Outer errors often end with the inner error's words.
        if let Some(last) = causes.last_mut().filter(|last| last.ends_with(&text)) {
            last.truncate(last.len() - text.len());
            *last = last.trim_end_matches([':', ' ']).to_owned();
        }
        causes.push(text);
        next = cause.source();
    }
    causes.retain(|cause| !cause.is_empty());
    // The libraries' names for their layers mean nothing to people who run the node.
    let noise = [
        "client error (Connect)",
        "client error (SendRequest)",
        "tcp connect error",
        "ServiceError",
        "HyperError",
    ];
    if causes.len() > 1 {
        let last = causes.last().cloned();
        causes.retain(|cause| !noise.iter().any(|noise| cause.starts_with(noise)));
        if causes.is_empty() {
            causes.extend(last);
        }
    }
    causes.join(": ")
}
