//! Listening sockets that Services ask for. They come, move and go with their Services.
//!
//! Every Service has its own. If one cannot be opened, the others are not affected. That is reported once, and tried
//! again.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use socket2::{Domain, Socket, Type};
use tandem_core::object::ObjectKey;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::config::Settings;
use crate::engine::{Changed, Snapshot};
use crate::files;
use crate::index::Entry;
use crate::wait::until;

/// How long until an address that could not be bound is tried again. kube-proxy uses the same time.
pub(crate) const RETRY: Duration = Duration::from_secs(5);
/// Changes that come within this time are handled together.
const TOGETHER: Duration = Duration::from_millis(100);
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// What a Service wants: the addresses to listen on, each with what it is for.
pub(crate) type Wanted<P> = BTreeMap<SocketAddr, P>;

/// What a set of listeners is for: what each Service wants, who serves a listener, and who is told if one cannot be
/// opened.
pub(crate) trait Purpose: Send + 'static {
    /// What one listener is for. If this changes, the listener is opened anew.
    type For: Clone + PartialEq + Send + Sync;
    /// What a Service wants. This function is pure.
    fn wanted(&self, entry: &Entry, snapshot: &Snapshot, settings: &Settings) -> Wanted<Self::For>;
    /// Starts serving. Aborting the handle ends it.
    fn serve(&self, listener: TcpListener, service: &ObjectKey, purpose: Self::For) -> JoinHandle<()>;
    /// Reports a listener that cannot be opened.
    fn refused(&self, service: &ObjectKey, address: SocketAddr, error: &io::Error);
}

enum Standing {
    Served(JoinHandle<()>),
    Refused,
}

/// All listeners of one purpose.
pub(crate) struct Listeners<P: Purpose> {
    purpose: P,
    standing: BTreeMap<ObjectKey, BTreeMap<SocketAddr, (P::For, Standing)>>,
}

impl<P: Purpose> Listeners<P> {
    pub(crate) fn new(purpose: P) -> Self {
        Self {
            purpose,
            standing: BTreeMap::new(),
        }
    }

    /// Follows the snapshots of the engine, for ever.
    pub(crate) async fn follow(
        mut self,
        mut news: watch::Receiver<()>,
        changed: Changed,
        published: Arc<ArcSwap<Snapshot>>,
        mut settings: watch::Receiver<Arc<Settings>>,
    ) {
        let mut before: Option<Arc<Snapshot>> = None;
        let mut retry_at = None;
        loop {
            let mut everything = false;
            retry_at = self
                .any_refused()
                .then(|| retry_at.unwrap_or_else(|| Instant::now() + RETRY));
            tokio::select! {
                Ok(()) = news.changed() => {}
                Ok(()) = settings.changed() => {
                    everything = true;
                }
                () = until(retry_at) => {
                    self.retry();
                    retry_at = None;
                    continue;
                }
                // The engine is gone, and so the agent ends.
                else => return,
            }
            // This is read before the snapshot, so that the snapshot has all of these changes.
            let changed = changed.take();
            let snapshot = published.load_full();
            // Before that, it is not known which Services are gone, or how many endpoints each has.
            if !snapshot.complete {
                continue;
            }
            everything |= before.as_ref().is_none_or(|before| {
                before.node_v4.node_addresses != snapshot.node_v4.node_addresses
                    || before.node_v6.node_addresses != snapshot.node_v6.node_addresses
            });
            let services: BTreeSet<ObjectKey> = if everything {
                self.standing.keys().chain(snapshot.services.keys()).cloned().collect()
            } else {
                changed.into_iter().collect()
            };
            let now = settings.borrow_and_update().clone();
            let wanted = services.into_iter().map(|key| {
                let entry = snapshot.services.get(&key);
                let wanted = entry.map(|entry| self.purpose.wanted(entry, &snapshot, &now));
                (key, wanted.unwrap_or_default())
            });
            let wanted = wanted.collect();
            self.update(wanted).await;
            before = Some(snapshot);
            tokio::time::sleep(TOGETHER).await;
        }
    }

    /// Opens and closes listeners until these Services have what they want.
    async fn update(&mut self, wanted: Vec<(ObjectKey, Wanted<P::For>)>) {
        // Everything that goes is closed first, because a port may pass from one Service to another.
        let mut ending = Vec::new();
        for (service, wanted) in &wanted {
            if let Some(standing) = self.standing.get_mut(service) {
                let gone = standing.extract_if(.., |address, (purpose, _)| wanted.get(address) != Some(purpose));
                ending.extend(gone.filter_map(|(_, (_, standing))| match standing {
                    Standing::Served(task) => Some(task),
                    Standing::Refused => None,
                }));
                if standing.is_empty() {
                    self.standing.remove(service);
                }
            }
        }
        let ended = !ending.is_empty();
        for task in &ending {
            task.abort();
        }
        for task in ending {
            // The socket is closed only when the task is gone.
            let _ = task.await;
        }
        if ended && self.any_refused() {
            self.retry();
        }
        let mut room = self.room();
        for (service, wanted) in wanted {
            for (address, purpose) in wanted {
                let standing = self
                    .standing
                    .get(&service)
                    .and_then(|of_service| of_service.get(&address));
                if standing.is_none() {
                    let new = match self.open(&service, address, &purpose, &mut room) {
                        Ok(task) => Standing::Served(task),
                        Err(error) => {
                            if !(error.kind() == io::ErrorKind::AddrInUse && self.is_ours(address)) {
                                self.purpose.refused(&service, address, &error);
                            }
                            Standing::Refused
                        }
                    };
                    let of_service = self.standing.entry(service.clone()).or_default();
                    of_service.insert(address, (purpose, new));
                }
            }
        }
    }

    /// Whether another Service still has the address. It will probably lose it in a moment.
    fn is_ours(&self, address: SocketAddr) -> bool {
        let served = |standing: Option<&(P::For, Standing)>| matches!(standing, Some((_, Standing::Served(_))));
        self.standing
            .values()
            .any(|of_service| served(of_service.get(&address)))
    }

    /// Tries again to open what could not be opened. A failure is not reported again.
    fn retry(&mut self) {
        let refused = |(_, standing): &(P::For, Standing)| matches!(standing, Standing::Refused);
        let waiting: Vec<_> = self
            .standing
            .iter()
            .flat_map(|(service, standing)| {
                standing
                    .iter()
                    .map(move |(address, standing)| (service, address, standing))
            })
            .filter(|(_, _, standing)| refused(standing))
            .map(|(service, address, (purpose, _))| (service.clone(), *address, purpose.clone()))
            .collect();
        let mut room = self.room();
        for (service, address, purpose) in waiting {
            if let Ok(task) = self.open(&service, address, &purpose, &mut room) {
                tracing::info!(%service, %address, "listening after all");
                let of_service = self.standing.entry(service).or_default();
                of_service.insert(address, (purpose, Standing::Served(task)));
            }
        }
    }

    fn any_refused(&self) -> bool {
        let mut all = self.standing.values().flat_map(BTreeMap::values);
        all.any(|(_, standing)| matches!(standing, Standing::Refused))
    }

    /// How many more listeners there may be. A listener is a file, and other parts need files too.
    fn room(&self) -> usize {
        let all = self.standing.values().flat_map(BTreeMap::values);
        let served = all.filter(|(_, standing)| matches!(standing, Standing::Served(_)));
        files::shares().listeners.saturating_sub(served.count())
    }

    fn open(
        &self,
        service: &ObjectKey,
        address: SocketAddr,
        purpose: &P::For,
        room: &mut usize,
    ) -> io::Result<JoinHandle<()>> {
        let Some(less) = room.checked_sub(1) else {
            let most = files::shares().listeners;
            return Err(io::Error::other(format!(
                "there are {most} such listeners, which is all that the limit of open files (RLIMIT_NOFILE) leaves for them"
            )));
        };
        let listener = bind(address)?;
        *room = less;
        tracing::debug!(%service, %address, "listening");
        Ok(self.purpose.serve(listener, service, purpose.clone()))
    }
}

/// Listens on one address, for its family only.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    listen(address, true)
}

/// Listens as kube-proxy's own servers do: an unspecified address of either family means all addresses of both.
pub(crate) fn bind_everywhere(address: SocketAddr) -> io::Result<TcpListener> {
    if !address.ip().is_unspecified() {
        return bind(address);
    }
    let any = |ip: IpAddr| SocketAddr::new(ip, address.port());
    match listen(any(Ipv6Addr::UNSPECIFIED.into()), false) {
        // The kernel has no IPv6.
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => bind(any(Ipv4Addr::UNSPECIFIED.into())),
        result => result,
    }
}

fn listen(address: SocketAddr, one_family: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(socket2::Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(one_family)?;
    }
    // Connections of an earlier listener on this address may still be ending.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
