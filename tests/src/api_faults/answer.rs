//! What the proxy answers to one request.

use std::sync::Arc;
use std::time::Duration;

use http::header::{
    ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, RETRY_AFTER, TRANSFER_ENCODING,
};
use http::{HeaderValue, Request, Response, StatusCode, Version};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use kube::Client;
use tokio::time::sleep;

use super::body::{Carrier, Cut, Passage, Passed, whole};
use super::case::{Encoding, Kind, Lists, Phase};
use super::fault::Fault;
use super::session::Session;

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const PAGE: &str = "<html><body>sign in to the portal</body></html>";
/// How late the head of a late answer comes.
const LATE: Duration = Duration::from_secs(2);

/// Answers a request. The error resets its stream.
pub(super) async fn answer(
    session: Arc<Session>,
    carrier: Arc<Carrier>,
    client: Client,
    request: Request<Incoming>,
) -> Result<Response<Passed>, Cut> {
    let path = request.uri().path();
    let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.path() == path) else {
        return pass_on(&client, request).await;
    };
    let query = request.uri().query().unwrap_or_default();
    let (is_watch, is_stream) = (query.contains("watch=true"), query.contains("sendInitialEvents=true"));
    let is_cached = !is_watch && query.contains("resourceVersion=");
    let refused = match session.case.way.lists {
        Lists::Stream => false,
        Lists::Cache => is_stream,
        Lists::Pages => is_stream || is_cached,
    };
    if refused {
        return Ok(refusal(StatusCode::BAD_REQUEST, "this server does not list like this"));
    }
    let mut target = None;
    if let Some(fault) = session.asked(kind, request.headers().contains_key(AUTHORIZATION)) {
        let instead = instead(fault).await;
        session.over();
        match instead {
            Instead::Answer(answer) => return Ok(answer),
            Instead::Nothing => return Err(Cut),
            Instead::Other => target = Some(kind.other()),
            Instead::Real => {}
        }
    }
    let answer = forward(&session, &client, request, target).await?;
    if answer.status() != StatusCode::OK {
        let (head, body) = answer.into_parts();
        return Ok(Response::from_parts(head, whole(read(body).await?)));
    }
    let (head, body) = answer.into_parts();
    let json = head
        .headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(JSON.as_bytes()));
    let passage = Passage {
        session,
        carrier,
        kind,
        encoding: if json { Encoding::Json } else { Encoding::Protobuf },
        phase: if is_watch && !is_stream {
            Phase::Watch
        } else {
            Phase::List
        },
    };
    let body = if is_watch {
        passage.watch(body)
    } else {
        passage.page(read(body).await?)
    };
    Ok(Response::from_parts(head, body))
}

/// Sends a request for objects to the API server, in the session's way.
async fn forward(
    session: &Session,
    client: &Client,
    request: Request<Incoming>,
    target: Option<Kind>,
) -> Result<Response<kube::client::Body>, Cut> {
    let (mut head, _) = request.into_parts();
    // By pages of two, even a short history has several.
    let query = head.uri.query().unwrap_or_default().replace("limit=500", "limit=2");
    let path = match target {
        Some(kind) => kind.path(),
        None => head.uri.path(),
    };
    // Another kind has other selectors.
    let kept = query
        .split('&')
        .filter(|part| target.is_none() || !part.contains("Selector="));
    let uri = format!("{path}?{}", kept.collect::<Vec<_>>().join("&"))
        .parse()
        .map_err(|_| Cut)?;
    head.uri = uri;
    if session.case.way.encoding == Encoding::Json {
        head.headers.insert(ACCEPT, HeaderValue::from_static(JSON));
    }
    send(client, Request::from_parts(head, Vec::new())).await
}

/// Passes on a request that is not for objects.
async fn pass_on(client: &Client, request: Request<Incoming>) -> Result<Response<Passed>, Cut> {
    let (mut head, body) = request.into_parts();
    let target = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    head.uri = target.parse().map_err(|_| Cut)?;
    let body = body.collect().await.map_err(|_| Cut)?.to_bytes().to_vec();
    let (head, body) = send(client, Request::from_parts(head, body)).await?.into_parts();
    Ok(Response::from_parts(head, whole(read(body).await?)))
}

async fn send(client: &Client, mut request: Request<Vec<u8>>) -> Result<Response<kube::client::Body>, Cut> {
    for name in [HOST, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
        request.headers_mut().remove(name);
    }
    *request.version_mut() = Version::default();
    let mut answer = client.send(request.map(Into::into)).await.map_err(|_| Cut)?;
    // A body that is cut must not be found out by a length that was announced.
    for name in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
        answer.headers_mut().remove(name);
    }
    *answer.version_mut() = Version::default();
    Ok(answer)
}

async fn read(body: kube::client::Body) -> Result<Vec<u8>, Cut> {
    let all = body.collect().await.map_err(|_| Cut)?;
    Ok(all.to_bytes().to_vec())
}

/// What comes instead of an answer.
enum Instead {
    Answer(Response<Passed>),
    Nothing,
    /// The answer to a request for another kind.
    Other,
    /// The answer itself.
    Real,
}

async fn instead(fault: Fault) -> Instead {
    let code = |code: u16| {
        let code = StatusCode::from_u16(code).unwrap_or_default();
        Instead::Answer(refusal(code, "a fault made by a test"))
    };
    match fault {
        Fault::Answer401 => code(401),
        Fault::Answer403 => code(403),
        Fault::Answer410 => code(410),
        Fault::Answer429 => code(429),
        Fault::Answer500 => code(500),
        Fault::Answer503 => code(503),
        Fault::Answer504 => code(504),
        Fault::Empty => Instead::Answer(typed(PROTOBUF, "")),
        Fault::HtmlPage => Instead::Answer(typed("text/html", PAGE)),
        Fault::HtmlAsProtobuf => Instead::Answer(typed(PROTOBUF, PAGE)),
        Fault::JsonAsProtobuf => {
            let list = r#"{"kind":"ServiceList","apiVersion":"v1","metadata":{"resourceVersion":"7"},"items":[]}"#;
            Instead::Answer(typed(PROTOBUF, list))
        }
        Fault::OtherKind => Instead::Other,
        Fault::NoAnswer => Instead::Nothing,
        _ => {
            sleep(LATE).await;
            Instead::Real
        }
    }
}

fn typed(kind: &'static str, body: &'static str) -> Response<Passed> {
    let mut answer = Response::new(whole(body));
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

/// A Status with this code.
fn refusal(code: StatusCode, message: &str) -> Response<Passed> {
    let status = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "code": code.as_u16(),
    });
    let mut answer = Response::new(whole(status.to_string()));
    *answer.status_mut() = code;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    if code == StatusCode::TOO_MANY_REQUESTS {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    answer
}
