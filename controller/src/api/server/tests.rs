//! The local API over a real unix socket.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::files;

/// A running server in its own folder.
struct Running {
    folder: PathBuf,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Running {
    fn start(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tandem-api-{name}-{}", std::process::id()));
        std::fs::DirBuilder::new().mode(0o700).create(&folder).unwrap();
        let server = Server::bind(&folder.join("socket")).unwrap();
        let snapshot = Snapshot::empty(SystemTime::UNIX_EPOCH);
        let published = Arc::new(ArcSwap::from_pointee(snapshot));
        let task = tokio::spawn(server.run(published, Arc::default(), Default::default(), xdp::Report::default()));
        Self { folder, task }
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.folder.join("socket")).await.unwrap()
    }

    /// Sends a request with this first line, and returns the whole answer.
    async fn ask(&self, line: &str) -> String {
        let mut stream = self.connect().await;
        let request = format!("{line} HTTP/1.1\r\nHost: tandem\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        timeout(Duration::from_secs(30), read).await.unwrap().unwrap();
        answer
    }
}

#[tokio::test]
async fn each_page_has_its_answer_and_other_requests_say_what_is_wrong() {
    let server = Running::start("pages");
    let cases = [
        ("GET /v1/status", "200 OK", "\"families\""),
        ("HEAD /v1/status", "200 OK", "content-length"),
        ("GET /v1/services", "200 OK", "\r\n\r\n[]"),
        ("GET /v1/services?namespace=a%2Db", "200 OK", "\r\n\r\n[]"),
        (
            "GET /v1/services?namespace=a%2Db&name=web",
            "404 Not Found",
            "service a-b/web is not known to tandem",
        ),
        ("GET /v2/status", "404 Not Found", "404 page not found"),
        ("POST /v1/status", "405 Method Not Allowed", "only GET and HEAD"),
        ("DELETE /v1/services", "405 Method Not Allowed", "allow: GET, HEAD"),
    ];
    for (line, code, part) in cases {
        let answer = server.ask(line).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {code}\r\n")), "{line}: {answer}");
        assert!(answer.contains(part), "{line}: {answer}");
    }
}

#[tokio::test]
async fn silent_connections_do_not_keep_a_command_from_its_answer() {
    let server = Running::start("silent");
    let mut held = Vec::new();
    for _ in 0..files::shares().local + 20 {
        held.push(server.connect().await);
    }
    let answer = server.ask("GET /v1/status").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    // The first connections were closed to make room. The ones that are left are answered too.
    let mut first = held.remove(0);
    assert_eq!(
        timeout(Duration::from_secs(30), first.read(&mut [0]))
            .await
            .unwrap()
            .unwrap(),
        0
    );
    let mut last = held.pop().unwrap();
    last.write_all(b"GET /v1/services HTTP/1.1\r\nHost: tandem\r\n\r\n")
        .await
        .unwrap();
    let mut first_line = [0; 15];
    timeout(Duration::from_secs(30), last.read_exact(&mut first_line))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&first_line, b"HTTP/1.1 200 OK");
}
