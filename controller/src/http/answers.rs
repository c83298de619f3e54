//! Parts that all answers have in common, and the answers that Go's servers give before they look at a page.

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode, Version};
use hyper::ext::ReasonPhrase;

/// An answer in JSON.
pub(crate) fn json(status: StatusCode, body: String) -> Response<String> {
    typed(status, "application/json", body)
}

/// An answer in plain text.
pub(crate) fn text(status: StatusCode, body: &str) -> Response<String> {
    typed(status, "text/plain; charset=utf-8", body.to_owned())
}

/// The answer of Go's servers if there is no such page.
pub(crate) fn not_found() -> Response<String> {
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}

fn typed(status: StatusCode, kind: &'static str, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// What Go's servers refuse before they look at the path: HTTP/1.1 must have exactly one Host, and it must be well
/// formed.
pub(super) fn refusal(method: &Method, version: Version, headers: &HeaderMap) -> Option<Response<String>> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let problem = match (hosts.next(), hosts.next()) {
        (None, _) if version >= Version::HTTP_11 && method != Method::CONNECT => {
            "Bad Request: missing required Host header"
        }
        (Some(_), Some(_)) => "Bad Request",
        (Some(host), None) if !host.as_bytes().iter().all(|byte| may_be_in_host(*byte)) => {
            "Bad Request: malformed Host header"
        }
        _ => return None,
    };
    let mut response = Response::new(format!("400 {problem}"));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    // Go repeats the text in the status line.
    response
        .extensions_mut()
        .insert(ReasonPhrase::from_static(problem.as_bytes()));
    Some(response)
}

/// The characters of names, addresses in brackets, ports and their escapes, by RFC 3986.
fn may_be_in_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!$%&()*+,-.:;='[]_~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(hosts: &[&str], version: Version) -> Option<String> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(header::HOST, host.parse().unwrap());
        }
        refusal(&Method::GET, version, &headers).map(Response::into_body)
    }

    #[test]
    fn requests_without_one_sound_host_are_refused_as_go_refuses_them() {
        let said = |problem: &str| Some(format!("400 Bad Request: {problem}"));
        assert_eq!(refused(&[], Version::HTTP_11), said("missing required Host header"));
        assert_eq!(
            refused(&["a", "b"], Version::HTTP_11).as_deref(),
            Some("400 Bad Request")
        );
        assert_eq!(refused(&["a b"], Version::HTTP_11), said("malformed Host header"));
        assert_eq!(refused(&["a/b"], Version::HTTP_11), said("malformed Host header"));
        assert_eq!(refused(&[], Version::HTTP_10), None);
        for host in ["", "192.0.2.1:10256", "[2001:db8::1]:30000", "node1.example"] {
            assert_eq!(refused(&[host], Version::HTTP_11), None, "{host}");
        }
    }
}
