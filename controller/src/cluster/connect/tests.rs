//! The connection, against servers with TLS that do what a real API server does not do on request.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use kube::client::Body;
use tokio::time::timeout;

use super::*;

mod server;
mod slow;

use server::{Answer, Folder, Server, endless, text};

/// The longest time for anything in these tests.
const PATIENCE: Duration = Duration::from_secs(20);

async fn get(client: &Client, path: &str) -> Result<String, String> {
    let answer = open(client, path).await?;
    let body = timeout(PATIENCE, answer.collect()).await.unwrap();
    let bytes = body.map_err(|error| error.to_string())?.to_bytes();
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

async fn open(client: &Client, path: &str) -> Result<Body, String> {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let answer = timeout(PATIENCE, client.send(request)).await.unwrap();
    Ok(answer.map_err(|error| format!("{error:?}"))?.into_body())
}

/// Says which HTTP the request came by, and with which credentials.
fn echo(request: &Request<Incoming>) -> Answer {
    let token = request.headers().get(AUTHORIZATION);
    let token = token.map_or("no token", |token| token.to_str().unwrap());
    text(format!("{:?} {token}", request.version()))
}

#[tokio::test]
async fn a_missing_kubeconfig_is_named() {
    let error = connect(Some(Path::new("/does/not/exist")), None, Http::Newest)
        .await
        .err()
        .unwrap();
    let error = error.to_string();
    assert!(
        error.starts_with("kubeconfig /does/not/exist: failed to read kubeconfig"),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_address_needs_scheme_and_host() {
    for text in ["192.0.2.1:6443", "/path"] {
        let error = connect(None, Some(text), Http::Newest).await.err().unwrap().to_string();
        assert!(error.contains("needs a scheme and a host"), "{error}");
    }
    assert!(
        connect(None, Some("https://192.0.2.1:6443"), Http::Newest)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn requests_that_begin_at_the_same_time_share_one_connection() {
    let server = Server::start(&["h2", "http/1.1"], echo).await;
    let client = Folder::new("share").client(&server).await.unwrap();
    let requests = (0..16).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { get(&client, "/").await })
    });
    for request in requests.collect::<Vec<_>>() {
        assert_eq!(request.await.unwrap().unwrap(), "HTTP/2.0 no token");
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_server_without_http_2_is_asked_by_http_1_1() {
    for alpn in [&["http/1.1"][..], &[]] {
        let server = Server::start(alpn, echo).await;
        let client = Folder::new("old").client(&server).await.unwrap();
        for _ in 0..3 {
            assert_eq!(get(&client, "/").await.unwrap(), "HTTP/1.1 no token");
        }
        // The first one found out which HTTP the server speaks.
        assert_eq!(server.connections(), 2);
    }
}

#[tokio::test]
async fn a_server_with_http_2_is_asked_by_http_1_1_if_the_settings_say_so() {
    let server = Server::start(&["h2", "http/1.1"], echo).await;
    let folder = Folder::new("one");
    let kubeconfig = folder.kubeconfig(&server, "{}");
    let (client, _) = connect(Some(&kubeconfig), None, Http::One).await.unwrap();
    assert_eq!(get(&client, "/").await.unwrap(), "HTTP/1.1 no token");
    server.cut();
    let mut answers = Vec::new();
    for _ in 0..20 {
        answers.push(get(&client, "/").await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The cut may be noticed by a request that was under way.
    for answer in &answers[1..] {
        assert_eq!(answer.as_deref(), Ok("HTTP/1.1 no token"));
    }
}

#[tokio::test]
async fn an_answer_that_nobody_reads_holds_no_other_one_back() {
    let server = Server::start(&["h2"], |request| match request.uri().path() {
        "/endless" => endless(),
        _ => text("x".repeat(8 << 20)),
    })
    .await;
    let client = Folder::new("stalled").client(&server).await.unwrap();
    let mut stalled = Vec::new();
    for _ in 0..16 {
        stalled.push(open(&client, "/endless").await.unwrap());
    }
    // The server has sent what the windows allow.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(get(&client, "/").await.unwrap().len(), 8 << 20);
    for body in &mut stalled {
        let frame = timeout(PATIENCE, body.frame()).await.unwrap();
        assert!(frame.unwrap().unwrap().is_data());
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn after_a_goaway_running_answers_go_on_and_new_requests_take_a_new_connection() {
    let server = Server::start(&["h2"], |request| match request.uri().path() {
        "/endless" => endless(),
        _ => echo(request),
    })
    .await;
    let client = Folder::new("goaway").client(&server).await.unwrap();
    let mut running = open(&client, "/endless").await.unwrap();
    server.go_away();
    for _ in 0..10 {
        assert_eq!(get(&client, "/").await.unwrap(), "HTTP/2.0 no token");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(server.connections(), 2);
    let mut read = 0;
    while read < 4 << 20 {
        let frame = timeout(PATIENCE, running.frame()).await.unwrap().unwrap().unwrap();
        read += frame.into_data().unwrap().len();
    }
}

#[tokio::test]
async fn a_server_that_went_away_is_connected_to_again() {
    let server = Server::start(&["h2"], echo).await;
    let folder = Folder::new("away");
    let client = folder.client(&server).await.unwrap();
    get(&client, "/").await.unwrap();
    server.cut();
    let mut answers = Vec::new();
    for _ in 0..20 {
        answers.push(get(&client, "/").await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The cut may be noticed by a request that was under way.
    assert!(answers[1..].iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_token_that_changes_is_sent_from_the_next_request_on_and_an_empty_file_changes_nothing() {
    let server = Server::start(&["h2"], echo).await;
    let folder = Folder::new("token");
    let token = folder.write("token", "one\n");
    let client = folder
        .client_with(&server, &format!("tokenFile: {}", token.display()))
        .await
        .unwrap();
    assert_eq!(get(&client, "/").await.unwrap(), "HTTP/2.0 Bearer one");
    folder.write("token", "two");
    assert_eq!(get(&client, "/").await.unwrap(), "HTTP/2.0 Bearer two");
    for unusable in ["", " \n", "two\u{1}lines"] {
        folder.write("token", unusable);
        assert_eq!(get(&client, "/").await.unwrap(), "HTTP/2.0 Bearer two");
    }
    fs::remove_file(&token).unwrap();
    assert_eq!(get(&client, "/").await.unwrap(), "HTTP/2.0 Bearer two");
    folder.write("token", "three");
    assert_eq!(get(&client, "/").await.unwrap(), "HTTP/2.0 Bearer three");
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_kubeconfig_that_changes_while_the_tokens_file_is_empty_keeps_the_last_token() {
    let server = Server::start(&["h2"], echo).await;
    let folder = Folder::new("kept");
    let token = folder.write("token", "one");
    let user = format!("tokenFile: {}", token.display());
    let client = folder.client_with(&server, &user).await.unwrap();
    assert_eq!(get(&client, "/").await.unwrap(), "HTTP/2.0 Bearer one");
    folder.write("token", "");
    folder.kubeconfig(&server, &user);
    assert_eq!(get(&client, "/").await.unwrap(), "HTTP/2.0 Bearer one");
    assert_eq!(server.connections(), 2, "the kubeconfig was read again");
}

#[tokio::test]
async fn everybody_who_waits_for_a_server_that_is_away_is_told_the_same_cause() {
    let server = Server::start(&["h2"], echo).await;
    let folder = Folder::new("unreachable");
    let kubeconfig = folder.kubeconfig(&server, "{}");
    // Nobody listens on this port, which is reserved.
    let (client, _) = connect(Some(&kubeconfig), Some("https://127.0.0.1:1"), Http::Newest)
        .await
        .unwrap();
    let requests = (0..8).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { get(&client, "/").await.unwrap_err() })
    });
    for request in requests.collect::<Vec<_>>() {
        let error = request.await.unwrap();
        assert!(error.contains("Connection refused"), "{error}");
    }
}

#[tokio::test]
async fn a_token_in_the_kubeconfig_is_sent_until_the_file_has_one() {
    let server = Server::start(&["h2"], echo).await;
    let folder = Folder::new("both");
    let token = folder.path("token");
    let user = format!("token: inline\n    tokenFile: {}", token.display());
    let client = folder.client_with(&server, &user).await.unwrap();
    assert_eq!(get(&client, "/").await.unwrap(), "HTTP/2.0 Bearer inline");
    folder.write("token", "from-file");
    assert_eq!(get(&client, "/").await.unwrap(), "HTTP/2.0 Bearer from-file");
}

#[tokio::test]
async fn a_missing_token_file_is_named() {
    let server = Server::start(&["h2"], echo).await;
    let folder = Folder::new("missing");
    let error = folder
        .client_with(&server, "tokenFile: /does/not/exist")
        .await
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "token file /does/not/exist: No such file or directory (os error 2)"
    );
}

#[tokio::test]
async fn a_kubeconfig_that_changes_is_read_again_and_a_broken_one_changes_nothing() {
    let (first, second) = (
        Server::start(&["h2"], |_| text("first".to_owned())).await,
        Server::start(&["h2"], |_| text("second".to_owned())).await,
    );
    let folder = Folder::new("kubeconfig");
    let client = folder.client(&first).await.unwrap();
    assert_eq!(get(&client, "/").await.unwrap(), "first");
    folder.write("kubeconfig", "clusters: [");
    assert_eq!(get(&client, "/").await.unwrap(), "first");
    folder.write("kubeconfig", "");
    assert_eq!(get(&client, "/").await.unwrap(), "first");
    folder.kubeconfig(&second, "{}");
    assert_eq!(get(&client, "/").await.unwrap(), "second");
    assert_eq!((first.connections(), second.connections()), (1, 1));
}

#[tokio::test]
async fn a_certificate_authority_that_changes_is_read_again() {
    let (first, second) = (Server::start(&["h2"], echo).await, Server::start(&["h2"], echo).await);
    let folder = Folder::new("authority");
    let client = folder.client(&first).await.unwrap();
    get(&client, "/").await.unwrap();
    // The server's address moves to one whose certificate another authority signed.
    folder.kubeconfig_with_authority(&second, &first);
    let error = get(&client, "/").await.unwrap_err();
    assert!(error.contains("InvalidCertificate"), "{error}");
    folder.write("ca.pem", second.certificate());
    assert_eq!(get(&client, "/").await.unwrap(), "HTTP/2.0 no token");
}

#[test]
fn a_server_is_named_by_host_and_port() {
    for (server, name, address) in [
        ("https://[fd00::1]:6443", "[fd00::1]:6443", Some("fd00::1")),
        ("https://10.96.0.1", "10.96.0.1:443", Some("10.96.0.1")),
        ("http://user:secret@10.96.0.1", "10.96.0.1:80", Some("10.96.0.1")),
        ("https://api.example:6443/k8s", "api.example:6443", None),
    ] {
        let found = place(&server.parse().unwrap());
        assert_eq!(&*found.name, name);
        assert_eq!(found.address, address.map(|text| text.parse().unwrap()));
    }
}
