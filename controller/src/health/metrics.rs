//! The pages that kube-proxy serves beside its metrics: the plain `/healthz`, and `/proxyMode`.

use http::header::X_CONTENT_TYPE_OPTIONS;
use http::{Response, StatusCode, Uri};

use crate::http::{not_found, text};

pub(super) fn answer(uri: &Uri) -> Response<String> {
    let verbose = || {
        let query = uri.query().unwrap_or_default();
        form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "verbose")
    };
    match uri.path() {
        // An answer shows that the process lives. kube-proxy checks nothing else here.
        "/healthz" if verbose() => text(StatusCode::OK, "[+]ping ok\nhealthz check passed\n"),
        "/healthz" => text(StatusCode::OK, "ok"),
        "/healthz/ping" => {
            let mut response = text(StatusCode::OK, "ok");
            // For this page alone, kube-proxy does not forbid a browser to guess the type.
            response.headers_mut().remove(X_CONTENT_TYPE_OPTIONS);
            response
        }
        "/proxyMode" => text(StatusCode::OK, "nftables"),
        "/metrics" => text(
            StatusCode::NOT_FOUND,
            "tandem serves no metrics yet; `tandem status -o json` tells what it knows\n",
        ),
        _ => not_found(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_beside_the_metrics_are_kube_proxys() {
        let said = |path: &str| {
            let response = answer(&path.parse().unwrap());
            (response.status().as_u16(), response.into_body())
        };
        assert_eq!(said("/healthz"), (200, "ok".to_owned()));
        assert_eq!(
            said("/healthz?verbose"),
            (200, "[+]ping ok\nhealthz check passed\n".to_owned())
        );
        assert_eq!(said("/proxyMode"), (200, "nftables".to_owned()));
        assert_eq!(said("/livez"), (404, "404 page not found\n".to_owned()));
        assert_eq!(said("/metrics").0, 404);
    }
}
