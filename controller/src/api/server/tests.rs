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
        Self::start_with(name, xdp::Report::default())
    }

    fn start_with(name: &str, sockets: xdp::Report) -> Self {
        let folder = std::env::temp_dir().join(format!("tandem-api-{name}-{}", std::process::id()));
        std::fs::DirBuilder::new().mode(0o700).create(&folder).unwrap();
        let server = Server::bind(&folder.join("socket")).unwrap();
        let snapshot = Snapshot::empty(SystemTime::UNIX_EPOCH);
        let published = Arc::new(ArcSwap::from_pointee(snapshot));
        let rules = |_: &Snapshot| Rules::default();
        let task = tokio::spawn(server.run(published, Arc::default(), Default::default(), sockets, rules));
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

const NO_SERVICES: &str = "\r\n\r\n{\"apiVersion\":\"tandem/v1\",\"kind\":\"ServiceList\",\"items\":[]}";

#[tokio::test]
async fn each_page_has_its_answer_and_other_requests_say_what_is_wrong() {
    let server = Running::start("pages");
    let cases = [
        (
            "GET /v1/status",
            "200 OK",
            "{\"apiVersion\":\"tandem/v1\",\"kind\":\"Status\",\"version\":",
        ),
        ("HEAD /v1/status", "200 OK", "content-length"),
        ("GET /v1/services", "200 OK", NO_SERVICES),
        ("GET /v1/services?namespace=a%2Db", "200 OK", NO_SERVICES),
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

/// The kernel's counts. Reading the maps takes until somebody says so.
#[derive(Default)]
struct Slow {
    asked: tokio::sync::Notify,
    release: std::sync::Mutex<Option<std::sync::mpsc::Receiver<()>>>,
    below: std::sync::Mutex<Vec<PathBuf>>,
}

impl xdp::Counts for Slow {
    fn left(&self, _: tandem_core::family::IpFamily) -> Vec<(String, u64)> {
        Vec::new()
    }

    fn taken(&self, _: tandem_core::family::IpFamily, _: tandem_core::id::ServiceId) -> [u64; 2] {
        [0; 2]
    }

    fn maps(&self) -> Vec<xdp::MapFill> {
        self.asked.notify_one();
        if let Some(release) = self.release.lock().unwrap().take() {
            release.recv().unwrap();
        }
        Vec::new()
    }

    fn below(&self, folder: &Path) -> xdp::Below {
        self.below.lock().unwrap().push(folder.to_owned());
        xdp::Below { processes: 3, pods: 2 }
    }
}

#[tokio::test]
async fn an_answer_that_reads_the_kernel_holds_nobody_up_and_counts_below_each_folder_once() {
    let counts = Arc::new(Slow::default());
    let (release, released) = std::sync::mpsc::channel();
    *counts.release.lock().unwrap() = Some(released);
    let since = SystemTime::UNIX_EPOCH;
    let at = |folder: &str| xdp::Where::At {
        folder: folder.into(),
        since,
    };
    let sockets = xdp::Report::of(xdp::State {
        wanted: (xdp::DataPlane::Xdp, xdp::SocketsOf::All),
        stage: xdp::Stage::On { since },
        node: at("/node"),
        pods: at("/pods"),
        counts: Some(counts.clone()),
        ..xdp::State::default()
    });
    let server = Running::start_with("slow", sockets);
    let status = async {
        let answer = server.ask("GET /v1/status").await;
        assert!(answer.contains(r#""processes":3,"pods":2"#), "{answer}");
    };
    let ready = async {
        counts.asked.notified().await;
        let answer = server.ask("GET /v1/ready").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        release.send(()).unwrap();
    };
    tokio::join!(status, ready);
    assert_eq!(
        *counts.below.lock().unwrap(),
        [PathBuf::from("/node"), PathBuf::from("/pods")]
    );
}
