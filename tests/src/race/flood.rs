//! Opens as many new TCP connections as possible, and resets them as soon as they are established.
//!
//! A thread keeps a window of connections under way. If one waits for its SYN to be sent again, it leaves the window to
//! others, and is watched until it ends.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use socket2::{Domain, Socket, Type};

use crate::netns::Namespace;

/// How long a connection may take before it counts as dead.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// The same after the last change, if a Service was away at times. At that time, a SYN is sent again after 4 s at most.
const PATIENCE_IN_CALM: Duration = Duration::from_secs(9);
/// A SYN is sent again after one second. So if a connection takes longer than this, it has lost one.
const WAITED: Duration = Duration::from_millis(900);
/// A connection that takes longer leaves the window.
const SLOW: Duration = Duration::from_millis(200);
/// How many connections a thread has under way.
const WINDOW: usize = 48;
/// How many slow connections it watches besides those.
const WATCHED: usize = 6000;

/// What to connect to.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// Destinations, used in turns.
    pub(super) to: Vec<SocketAddr>,
    /// Sources, used in turns; if there are none, the route decides.
    pub(super) from: Vec<IpAddr>,
    /// Whether a destination is away at times. Then the time counts from the last change on.
    pub(super) away_at_times: bool,
}

/// The results of the connections.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    /// Connections that were begun.
    pub(super) connections: u64,
    /// Refused.
    pub(super) refused: u64,
    /// There was no route, or an ICMP error said so.
    pub(super) unreachable: u64,
    /// Ended well, but only after a SYN was sent again.
    pub(super) waited: u64,
    /// Neither established nor refused in time.
    pub(super) dead: u64,
}

/// A flood under way.
#[derive(Debug)]
pub(super) struct Flood {
    control: Arc<Control>,
    threads: Vec<JoinHandle<Result<Result<Tally>>>>,
}

#[derive(Debug, Default)]
struct Control {
    begun: AtomicU64,
    stop: AtomicBool,
    stopped: OnceLock<Instant>,
}

impl Flood {
    /// Starts it with this number of threads.
    pub(super) fn start(inside: &Namespace, plan: &Plan, threads: usize) -> Result<Self> {
        ensure!(!plan.to.is_empty(), "nothing to connect to");
        crate::allow_open_files()?;
        let control = Arc::new(Control::default());
        let start = |number: usize| {
            let (plan, control) = (plan.clone(), Arc::clone(&control));
            inside
                .entrance()
                .thread("flood", move || Client::new(&plan, &control, number)?.run())
        };
        let threads = (0..threads).map(start).collect::<Result<_>>()?;
        Ok(Self { control, threads })
    }

    /// How many connections were begun so far.
    pub(super) fn begun(&self) -> u64 {
        self.control.begun.load(Ordering::Relaxed)
    }

    /// Fails if a thread has ended by itself.
    pub(super) fn check(&self) -> Result<()> {
        ensure!(
            self.threads.iter().all(|thread| !thread.is_finished()),
            "a thread of the flood has ended"
        );
        Ok(())
    }

    /// Begins no more connections, and waits for those that are under way.
    pub(super) fn end(mut self) -> Result<Tally> {
        self.stop();
        let mut sum = Tally::default();
        for thread in self.threads.drain(..) {
            let tally = thread
                .join()
                .map_err(|_| anyhow!("a thread of the flood panicked"))???;
            sum.add(tally);
        }
        Ok(sum)
    }

    fn stop(&self) {
        let _ = self.control.stopped.set(Instant::now());
        self.control.stop.store(true, Ordering::Release);
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Tally {
    pub(super) fn add(&mut self, other: Self) {
        self.connections += other.connections;
        self.refused += other.refused;
        self.unreachable += other.unreachable;
        self.waited += other.waited;
        self.dead += other.dead;
    }
}

/// One thread's connections. Each has a number, which is never used again.
struct Client<'a> {
    plan: &'a Plan,
    control: &'a Control,
    epoll: std::os::fd::OwnedFd,
    /// The connections under way, the oldest first. The first one has the number `first`. None stands for one that has
    /// ended.
    pending: VecDeque<Option<(Socket, Instant)>>,
    first: u64,
    /// The next one that is not yet known to be slow.
    young: u64,
    alive: usize,
    slow: usize,
    turn: usize,
    tally: Tally,
}

impl<'a> Client<'a> {
    fn new(plan: &'a Plan, control: &'a Control, number: usize) -> Result<Self> {
        Ok(Self {
            plan,
            control,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).context("make an epoll instance")?,
            pending: VecDeque::new(),
            first: 0,
            young: 0,
            alive: 0,
            slow: 0,
            turn: number * 7,
            tally: Tally::default(),
        })
    }

    fn run(mut self) -> Result<Tally> {
        // Changes must not wait for the flood. The more changes there are, the more packets meet one.
        rustix::process::nice(10).context("let others go first")?;
        let mut events: Vec<epoll::Event> = Vec::with_capacity(256);
        loop {
            let stopping = self.control.stop.load(Ordering::Acquire);
            while !stopping && self.alive - self.slow < WINDOW && self.slow < WATCHED {
                if !self.begin()? {
                    break;
                }
            }
            if stopping && self.alive == 0 {
                return Ok(self.tally);
            }
            let timeout = Timespec {
                tv_sec: 0,
                tv_nsec: 5_000_000,
            };
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("wait for connections"),
            }
            for event in events.drain(..) {
                self.ended(event.data.u64())?;
            }
            self.look_at_time();
        }
    }

    /// Begins a connection. Returns false if there is no free port for it now.
    fn begin(&mut self) -> Result<bool> {
        let turn = self.turn;
        self.turn += 1;
        let to = self.plan.to[turn % self.plan.to.len()];
        let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking(), None).context("make a socket")?;
        socket.set_linger(Some(Duration::ZERO)).context("set SO_LINGER")?;
        let mut sources = self.plan.from.iter().filter(|from| from.is_ipv4() == to.is_ipv4());
        let count = sources.clone().count();
        if let Some(source) = (count > 0)
            .then(|| sources.nth(turn / self.plan.to.len() % count))
            .flatten()
        {
            match socket.bind(&SocketAddr::new(*source, 0).into()) {
                Err(error) if error.kind() == ErrorKind::AddrInUse => return Ok(false),
                bound => bound.with_context(|| format!("send from {source}"))?,
            }
        }
        let began = Instant::now();
        match socket.connect(&to.into()) {
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {
                thread::sleep(Duration::from_millis(1));
                return Ok(false);
            }
            Err(error) => return Err(error).with_context(|| format!("connect to {to}")),
            Ok(()) => {}
        }
        let number = self.first + self.pending.len() as u64;
        epoll::add(
            &self.epoll,
            &socket,
            epoll::EventData::new_u64(number),
            epoll::EventFlags::OUT,
        )
        .context("watch a connection")?;
        self.pending.push_back(Some((socket, began)));
        self.alive += 1;
        self.tally.connections += 1;
        self.control.begun.fetch_add(1, Ordering::Relaxed);
        Ok(true)
    }

    fn ended(&mut self, number: u64) -> Result<()> {
        let Some((socket, began)) = self.take(number) else {
            return Ok(());
        };
        match socket.take_error().context("ask how a connection ended")? {
            None => {}
            Some(error) => match error.kind() {
                // It was established, and the server's reset came before this thread ran.
                ErrorKind::ConnectionReset => {}
                ErrorKind::ConnectionRefused => self.tally.refused += 1,
                ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => self.tally.unreachable += 1,
                // The client's own kernel gave up.
                ErrorKind::TimedOut => self.tally.dead += 1,
                _ => return Err(error).context("a connection ended"),
            },
        }
        if began.elapsed() > WAITED {
            self.tally.waited += 1;
        }
        Ok(())
    }

    /// Removes a connection from those under way.
    fn take(&mut self, number: u64) -> Option<(Socket, Instant)> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let taken = self.pending.get_mut(index)?.take()?;
        self.alive -= 1;
        if number < self.young {
            self.slow -= 1;
        }
        while self.pending.front().is_some_and(Option::is_none) {
            self.pending.pop_front();
            self.first += 1;
        }
        self.young = self.young.max(self.first);
        Some(taken)
    }

    /// Removes slow connections from the window, and gives up dead ones.
    fn look_at_time(&mut self) {
        let now = Instant::now();
        while let Ok(index) = usize::try_from(self.young - self.first) {
            match self.pending.get(index) {
                Some(Some((_, began))) if now.duration_since(*began) < SLOW => break,
                Some(Some(_)) => self.slow += 1,
                Some(None) => {}
                None => break,
            }
            self.young += 1;
        }
        while let Some(Some((_, began))) = self.pending.front() {
            let limit = if self.plan.away_at_times {
                let Some(stopped) = self.control.stopped.get() else {
                    return;
                };
                *began.max(stopped) + PATIENCE_IN_CALM
            } else {
                *began + PATIENCE
            };
            if now < limit {
                return;
            }
            if self.take(self.first).is_some() {
                self.tally.dead += 1;
            }
        }
    }
}

/// Accepts connections on this port of every address and resets them, with this number of threads for each family, as
/// long as the process lives.
pub(super) fn serve(inside: &Namespace, port: u16, threads: usize) -> Result<()> {
    inside.sysctls(&[
        ("net/core/somaxconn", "16384"),
        ("net/ipv4/tcp_max_syn_backlog", "16384"),
    ])?;
    for any in [IpAddr::from([0; 4]), IpAddr::from([0_u16; 8])] {
        let listener = inside.run(|| listen(SocketAddr::new(any, port)))??;
        for _ in 0..threads {
            let listener = listener.try_clone().context("share a socket")?;
            inside.entrance().thread("server", move || accept(&listener))?;
        }
    }
    Ok(())
}

fn listen(address: SocketAddr) -> Result<Socket> {
    let what = || format!("listen on {address}");
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).with_context(what)?;
    socket.set_reuse_address(true).with_context(what)?;
    if address.is_ipv6() {
        socket.set_only_v6(true).with_context(what)?;
    }
    socket.bind(&address.into()).with_context(what)?;
    socket.listen(16_384).with_context(what)?;
    Ok(socket)
}

fn accept(listener: &Socket) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok((connection, _)) => {
                let _ = connection.set_linger(Some(Duration::ZERO)); // a reset is as good as any other end
            }
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
}
