//! Strangers of every kind, and probes between them, over real connections on loopback.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::*;
use crate::http::serve;

fn limited(each: usize, all: usize, patience: Patience) -> Arc<Connections> {
    Connections::new(Limits { each, all, patience })
}

/// Connections of one listener, as for health checks.
const EACH: usize = 256;

/// Nothing here takes this long, unless it hangs.
const HANGS: Duration = Duration::from_secs(30);
/// More than twice as many as one listener holds.
const MANY: usize = 600;
/// No deadline passes within a test.
const ENDLESS: Patience = Patience {
    head: Duration::from_hours(1),
    idle: Duration::from_hours(1),
    unread: Duration::from_hours(1),
};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// What a stranger does with an open connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stranger {
    /// Nothing.
    Silent,
    /// Half of the first line, and no more.
    HalfALine,
    /// One byte of a header from time to time.
    Trickle,
    /// One request. The stranger does not read the answer.
    NeverReads,
    /// Many requests. The stranger reads no answer, so the kernel's buffers for it become full.
    AsksAndNeverReads,
    /// One request that is answered, and nothing more.
    KeptAlive,
    /// One request that is answered, and the beginning of the next one.
    HalfALineMore,
}

const KINDS: [Stranger; 7] = [
    Stranger::Silent,
    Stranger::HalfALine,
    Stranger::Trickle,
    Stranger::NeverReads,
    Stranger::AsksAndNeverReads,
    Stranger::KeptAlive,
    Stranger::HalfALineMore,
];

struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// A server whose answers have a body of this size.
    async fn start(connections: &Arc<Connections>, size: usize) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let body = "x".repeat(size);
        let answer = move |_: &Request<Incoming>| {
            let mut response = Response::new(body.clone());
            *response.status_mut() = StatusCode::OK;
            response
        };
        let task = tokio::spawn(serve(listener, connections.room(), answer));
        Self { address, task }
    }

    async fn connect(&self) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        timeout(HANGS, socket.connect(self.address)).await.unwrap().unwrap()
    }

    /// A connection of this kind. It does everything that it can do without waiting.
    async fn visitor(&self, kind: Stranger) -> TcpStream {
        let mut stream = self.connect().await;
        // If the server has closed the connection already, writing fails.
        let _ = match kind {
            Stranger::Silent => Ok(()),
            Stranger::HalfALine => stream.write_all(b"GET /hea").await,
            Stranger::Trickle => stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX: ").await,
            Stranger::NeverReads => stream.write_all(REQUEST).await,
            Stranger::AsksAndNeverReads => stream.write_all(&REQUEST.repeat(20)).await,
            Stranger::KeptAlive | Stranger::HalfALineMore => {
                let asked = self.ask(&mut stream).await;
                if kind == Stranger::HalfALineMore && asked.is_ok() {
                    stream.write_all(b"GET /hea").await
                } else {
                    asked
                }
            }
        };
        stream
    }

    /// Sends one request, and reads the answer.
    async fn ask(&self, stream: &mut TcpStream) -> io::Result<()> {
        stream.write_all(REQUEST).await?;
        let mut head = [0; 15];
        timeout(HANGS, stream.read_exact(&mut head)).await??;
        assert_eq!(&head, b"HTTP/1.1 200 OK");
        let mut rest = vec![0; 4096];
        while !rest.ends_with(b"x") && !rest.ends_with(b"\r\n\r\n") {
            let mut more = [0; 4096];
            let length = timeout(HANGS, stream.read(&mut more)).await??;
            if length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            rest.extend_from_slice(&more[..length]);
        }
        Ok(())
    }

    /// Does what a load balancer does.
    async fn probe(&self) {
        let mut stream = self.connect().await;
        self.ask(&mut stream).await.unwrap();
    }
}

/// Whether the other end closes the connection. This reads everything that arrives.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut buffer = [0; 4096];
    let closed = async { while stream.read(&mut buffer).await.is_ok_and(|length| length > 0) {} };
    timeout(HANGS, closed).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_are_answered_whoever_holds_six_hundred_connections_open() {
    files::shares();
    for kind in KINDS {
        let connections = limited(EACH, 2048, ENDLESS);
        let server = Server::start(&connections, 1).await;
        let mut held = Vec::new();
        for number in 0..MANY {
            held.push(server.visitor(kind).await);
            // Before, when and after the limit is reached.
            if number % 25 == 0 {
                server.probe().await;
            }
        }
        for _ in 0..25 {
            server.probe().await;
        }
        let there = connections.rooms().total();
        assert!(there <= EACH, "{kind:?}: {there}");
        // The oldest ones were closed.
        assert!(is_closed(&mut held[0]).await, "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_that_stays_connected_and_asks_now_and_then_outlives_the_silent_ones() {
    files::shares();
    let connections = limited(EACH, 2048, ENDLESS);
    let server = Server::start(&connections, 1).await;
    let mut probe = server.connect().await;
    server.ask(&mut probe).await.unwrap();
    let mut held = Vec::new();
    for number in 0..MANY {
        held.push(server.visitor(Stranger::Silent).await);
        if number % 100 == 0 {
            server.ask(&mut probe).await.unwrap();
        }
    }
    server.ask(&mut probe).await.unwrap();
    assert!(is_closed(&mut held[0]).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_flooded_listener_costs_the_others_nothing_where_all_together_are_too_many() {
    files::shares();
    let connections = limited(50, 60, ENDLESS);
    let (flooded, other) = (
        Server::start(&connections, 1).await,
        Server::start(&connections, 1).await,
    );
    let mut quiet = other.visitor(Stranger::KeptAlive).await;
    let mut held = Vec::new();
    for _ in 0..MANY {
        held.push(flooded.visitor(Stranger::Silent).await);
    }
    // More than there is room for beside the flood.
    let mut probes = Vec::new();
    for _ in 0..20 {
        let mut probe = other.connect().await;
        other.ask(&mut probe).await.unwrap();
        probes.push(probe);
    }
    other.ask(&mut quiet).await.unwrap();
    assert!(connections.rooms().total() <= 60);
    drop((flooded, other, held, probes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_makes_no_progress_is_cut_off_after_a_time_and_trickling_does_not_prolong_it() {
    let short = Duration::from_millis(200);
    // Each limit alone: the one that this kind reaches is short, and the others never pass.
    for kind in KINDS {
        let mut patience = ENDLESS;
        match kind {
            Stranger::Silent | Stranger::HalfALine | Stranger::Trickle | Stranger::HalfALineMore => {
                patience.head = short;
            }
            Stranger::NeverReads | Stranger::KeptAlive => patience.idle = short,
            Stranger::AsksAndNeverReads => patience.unread = short,
        }
        let connections = limited(EACH, 2048, patience);
        let size = if kind == Stranger::AsksAndNeverReads {
            1 << 20
        } else {
            1
        };
        let server = Server::start(&connections, size).await;
        let mut stream = server.visitor(kind).await;
        let trickling = async {
            loop {
                if kind == Stranger::Trickle {
                    let _ = stream.write_all(b"x").await;
                }
                // The listener got the first number, the connection gets the second. Before that, the server has not
                // seen the connection.
                let (given_out, there) = {
                    let rooms = connections.rooms();
                    (rooms.next, rooms.total())
                };
                if given_out >= 2 && there == 0 {
                    break;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(15), trickling)
            .await
            .unwrap_or_else(|_| panic!("{kind:?} stays"));
        assert!(is_closed(&mut stream).await, "{kind:?}");
    }
}

#[tokio::test]
async fn all_connections_end_with_their_server() {
    let connections = limited(EACH, 2048, ENDLESS);
    let server = Server::start(&connections, 1).await;
    let mut streams = JoinSet::new();
    for kind in KINDS {
        let mut stream = server.visitor(kind).await;
        streams.spawn(async move { is_closed(&mut stream).await });
    }
    drop(server);
    while let Some(closed) = streams.join_next().await {
        assert!(closed.unwrap());
    }
    assert!(connections.rooms().of_listeners.is_empty());
}

#[tokio::test]
async fn the_silent_go_by_age_and_never_one_that_is_being_answered() {
    let connections = limited(3, 4, ENDLESS);
    let (one, other) = (connections.room(), connections.room());
    let gone = async |visit: &Visit| {
        let gone = visit.progress.gone.notified();
        timeout(Duration::ZERO, gone).await.is_ok()
    };
    let visits: Vec<Visit> = (0..3).map(|_| one.enter()).collect();
    visits[0].progress.asked();
    let fourth = one.enter();
    assert_eq!((gone(&visits[0]).await, gone(&visits[1]).await), (false, true));
    // It was answered meanwhile, so it is younger than the third.
    visits[0].progress.has_sent_all();
    let fifth = one.enter();
    assert_eq!((gone(&visits[0]).await, gone(&visits[2]).await), (false, true));
    // An answer that the client does not read is silence too.
    visits[0].progress.asked();
    visits[0].progress.cannot_send();
    fourth.progress.asked();
    fifth.progress.asked();
    let _sixth = one.enter();
    assert!(gone(&visits[0]).await);
    // All together are too many: the listener with the most closes one.
    let (_first, _second) = (other.enter(), other.enter());
    assert!(!gone(&fourth).await && !gone(&fifth).await);
    // The same if there are no files left.
    assert!(one.make_room());
}
