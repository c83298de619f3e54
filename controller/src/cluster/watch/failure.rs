//! What can go wrong between the agent and the API server. The texts say what to do about it.

use std::error::Error;
use std::time::Duration;

use http::StatusCode;
use http::header::{HeaderMap, RETRY_AFTER};

use super::wire::Status;
use crate::cluster::causes::causes;
use crate::source::decode::{printable, shorten};

/// A request that failed, or a watch that broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The server answered, but not with what was asked for.
    Answer {
        /// The HTTP status, or the code inside a watch's ERROR event.
        code: u16,
        /// What the server says about it.
        message: String,
        /// How long the server wants no further request.
        retry_after: Option<Duration>,
    },
    /// No answer arrived: the connection, TLS, name resolution or the credentials failed.
    Transport(String),
    /// Nothing arrived for this long, so the connection must be dead.
    Silence(Duration),
    /// The answer is not one that an API server sends.
    Garbage(String),
    /// The pages do not belong to one list.
    Pages(String),
    /// The list is older than what was known before.
    Outdated {
        /// Its version.
        version: String,
        /// The version that it must at least have.
        least: String,
    },
    /// This many watches in a row ended without an event.
    Unheard(u32),
}

impl Failure {
    /// The failure of an answer whose body is a Status in JSON, or anything else.
    pub(super) fn answer(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let parsed: Status = serde_json::from_slice(body).unwrap_or_default();
        let message = if parsed.message.is_empty() {
            let text = String::from_utf8_lossy(body);
            text.trim().lines().next().unwrap_or_default().to_owned()
        } else {
            parsed.message
        };
        Self::answered(status, headers, message)
    }

    /// The failure of an answer that says this.
    pub(super) fn answered(status: StatusCode, headers: &HeaderMap, message: String) -> Self {
        let seconds = headers
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.parse().ok());
        Self::Answer {
            code: status.as_u16(),
            message,
            retry_after: seconds.map(Duration::from_secs),
        }
    }

    /// The failure that a Status reports.
    pub(super) fn status(status: Status) -> Self {
        let seconds = status.details.map_or(0, |details| details.retry_after_seconds);
        Self::Answer {
            code: status.code,
            message: status.message,
            retry_after: (seconds > 0).then(|| Duration::from_secs(seconds)),
        }
    }

    /// The failure of an error below HTTP. The text names the causes, the outermost first, each once.
    pub(super) fn transport(error: &(dyn Error + 'static)) -> Self {
        let text = causes(error);
        // rustls adds a link to its manual to this error.
        if text.contains("close_notify") {
            return Self::Transport("the server closed the connection".to_owned());
        }
        // What happened to the connection is logged once, not for each answer that it carried.
        if text.contains("stream closed because of a broken pipe") {
            return Self::Transport("the connection ended".to_owned());
        }
        let tls = ["certificate", "TLS", "tls", "handshake", "alert", "corrupt message"]
            .iter()
            .any(|word| text.contains(word));
        Self::Transport(if tls && !text.starts_with("TLS") {
            format!("TLS: {text}")
        } else {
            text
        })
    }

    pub(super) fn code(&self) -> Option<u16> {
        match self {
            Self::Answer { code, .. } => Some(*code),
            _ => None,
        }
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Answer { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether the server cannot watch from the version that was asked for. Either the version is too old, or it is
    /// newer than all that the server has, because its store went back in time.
    pub(super) fn is_about_version(&self) -> bool {
        self.code() == Some(410) || self.is_ahead() || matches!(self, Self::Outdated { .. })
    }

    /// Whether the version that was asked for is newer than all that the server has.
    pub(super) fn is_ahead(&self) -> bool {
        match self {
            Self::Answer { message, .. } => message.to_ascii_lowercase().contains("too large resource version"),
            _ => false,
        }
    }

    /// Whether the server refused this way of asking. 401 and 429 say nothing about it.
    pub(super) fn is_about_the_way(&self) -> bool {
        matches!(self.code(), Some(400 | 402..=428 | 430..=499 | 501))
    }

    /// Whether the server refused this watch itself. Otherwise the connection or the rights failed.
    pub(super) fn is_a_refusal(&self) -> bool {
        match self {
            Self::Answer { code, .. } => !matches!(code, 401 | 403 | 429 | 503),
            Self::Garbage(_) | Self::Pages(_) | Self::Outdated { .. } | Self::Unheard(_) => true,
            Self::Transport(_) | Self::Silence(_) => false,
        }
    }

    /// Why objects of a resource cannot be read at present, as text.
    pub(super) fn reason(&self, verb: &str, resource: &str) -> String {
        match self {
            Self::Answer { code, message, .. } => {
                let message = if message.is_empty() {
                    String::new()
                } else {
                    format!(": {}", first_words(message))
                };
                match code {
                    401 => format!("cannot {verb} {resource}: credentials refused (401){message}"),
                    403 => format!(
                        "may not {verb} {resource}: RBAC lacks verb {verb} on resource {resource} (403){message}"
                    ),
                    404 => format!("cannot {verb} {resource}: the server does not have them (404){message}"),
                    410 => format!("cannot {verb} {resource}: the version known here is too old (410){message}"),
                    429 => format!("cannot {verb} {resource}: the server is overloaded (429){message}"),
                    code => format!("cannot {verb} {resource}: the server answers {code}{message}"),
                }
            }
            Self::Transport(text) => format!("cannot {verb} {resource}: {text}"),
            Self::Silence(time) if *time < Duration::from_secs(1) => {
                format!("cannot {verb} {resource}: no answer for {} ms", time.as_millis())
            }
            Self::Silence(time) => format!("cannot {verb} {resource}: no answer for {} s", time.as_secs()),
            Self::Garbage(text) => format!("cannot {verb} {resource}: the server sent {text}"),
            Self::Pages(text) => format!("cannot {verb} {resource} page by page: the server sent {text}"),
            Self::Outdated { version, least } => format!(
                "cannot {verb} {resource}: the server sent version {}, and version {} was known",
                printable(version),
                printable(least)
            ),
            Self::Unheard(count) => format!(
                "cannot {verb} {resource}: {count} watches in a row ended without an event; everything is listed again instead"
            ),
        }
    }
}

/// The first words of a server's message. The message may be a whole page.
fn first_words(message: &str) -> String {
    let mut words = String::new();
    for word in message.split_whitespace() {
        if words.len() > 300 {
            words.push('…');
            break;
        }
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str(&printable(&if word.len() > 200 {
            shorten(word)
        } else {
            word.to_owned()
        }));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::watch::instead::error_event;

    #[test]
    fn a_missing_permission_names_verb_and_resource() {
        let body = br#"{"kind":"Status","status":"Failure","message":"services is forbidden: User \"tandem\" cannot list resource \"services\" in API group \"\" at the cluster scope","reason":"Forbidden","code":403}"#;
        let failure = Failure::answer(StatusCode::FORBIDDEN, &HeaderMap::new(), body);
        assert_eq!(
            failure.reason("list", "services"),
            "may not list services: RBAC lacks verb list on resource services (403): services is forbidden: User \"tandem\" \
             cannot list resource \"services\" in API group \"\" at the cluster scope"
        );
    }

    #[test]
    fn a_server_that_asks_for_patience_is_understood() {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, "7".parse().unwrap());
        let failure = Failure::answer(
            StatusCode::TOO_MANY_REQUESTS,
            &headers,
            b"Too many requests, please try again later.\n",
        );
        assert_eq!(failure.retry_after(), Some(Duration::from_secs(7)));
        assert!(
            failure
                .reason("watch", "nodes")
                .contains("overloaded (429): Too many requests")
        );
    }

    #[test]
    fn versions_that_cannot_be_watched_from_are_told_apart() {
        let expired = error_event(r#"{"kind":"Status","code":410,"message":"too old resource version: 1 (2)"}"#);
        let ahead = Failure::answer(
            StatusCode::GATEWAY_TIMEOUT,
            &HeaderMap::new(),
            br#"{"message":"Too large resource version: 9, current: 2","code":504}"#,
        );
        let slow = Failure::answer(StatusCode::GATEWAY_TIMEOUT, &HeaderMap::new(), b"");
        assert!(expired.is_about_version() && ahead.is_about_version() && !slow.is_about_version());
    }

    #[test]
    fn causes_are_said_once_and_without_the_layers_names() {
        #[derive(Debug, thiserror::Error)]
        #[error("client error (Connect)")]
        struct Outer(#[source] Middle);
        #[derive(Debug, thiserror::Error)]
        #[error("tcp connect error: {0}")]
        struct Middle(#[source] std::io::Error);
        let error = Outer(Middle(std::io::Error::from_raw_os_error(111)));
        assert_eq!(
            Failure::transport(&error),
            Failure::Transport("Connection refused (os error 111)".to_owned())
        );
    }
}
