//! A kube-proxy beside Tandem. While both run, neither takes the other's rules away, and kube-proxy's come first. Once
//! one of them runs alone, its rules decide. [`machine`] says how that is known and done.

mod machine;
mod signs;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tandem_core::family::{Family, V4, V6};
use tandem_nft::remove_kube_proxys;
use tokio::net::TcpListener;
use tokio::sync::mpsc::Sender;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::engine::Snapshot;
use crate::event::{Event, KubeProxy, Neighbour, NodeFact};
use crate::listeners::bind_everywhere;
use machine::{Address, Machine, Seen};
use signs::{Look, Signs};

/// The health check address, and who gets it.
pub(crate) struct HealthAddress {
    /// The address. None if the settings turn it off.
    pub(crate) address: Option<SocketAddr>,
    /// Whether the agent ends if somebody else has it.
    pub(crate) hard_fail: bool,
    /// Whether the tables that a kube-proxy left are removed.
    pub(crate) removes: bool,
    /// The engine.
    pub(crate) events: Sender<Event>,
    pub(crate) published: Arc<ArcSwap<Snapshot>>,
    pub(crate) news: watch::Receiver<()>,
}

/// Looks once, before Tandem's tables are opened. If rules of a kube-proxy are there and somebody has the health check
/// address, a kube-proxy runs, and Tandem's rules stand second from the beginning. Otherwise it is found out in time.
pub(crate) async fn first_look(address: Option<SocketAddr>) -> Option<KubeProxy> {
    let address = address?;
    let signs = tokio::task::spawn_blocking(|| Look::default().now()).await.ok()?.ok()?;
    if !signs.has_tables() && !signs.has_chains() {
        return None;
    }
    let taken = || bind_everywhere(address).is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse);
    if !taken() {
        return None;
    }
    // An agent that has ended a moment ago may still have it.
    tokio::time::sleep(AGAIN).await;
    taken().then(|| KubeProxy {
        neighbour: Neighbour::Runs,
        place: machine::place(Neighbour::Runs, false),
        address: Some(address),
        tables: signs.has_tables(),
        chains: signs.has_chains(),
    })
}

/// When the first look looks at the address for the second time.
const AGAIN: Duration = Duration::from_millis(20);

/// Why the address cannot be had.
pub(crate) type Refused = (SocketAddr, io::Error);

/// So many attempts are made before the agent ends, if the settings say that it then ends. The agent that was there before
/// may still be ending.
const HARD_FAIL_AFTER: u32 = 5;

/// What the last attempts to listen showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tried {
    Not,
    /// Somebody else listens there, for this number of attempts.
    InUse(u32),
    /// Tandem has no right to listen there, or the node does not have the address.
    Unusable,
}

/// What is known so far.
struct Keeper<S> {
    health: HealthAddress,
    serve: S,
    machine: Machine,
    look: Look,
    signs: Signs,
    /// Whether signs could not be read the last time.
    unseen: bool,
    /// The task that answers at the address.
    standing: Option<JoinHandle<()>>,
    /// Whether Tandem wants the address.
    listen: bool,
    /// What the last attempts to listen showed.
    tried: Tried,
    told: Option<KubeProxy>,
}

impl HealthAddress {
    /// Keeps the address, and keeps order between Tandem's rules and those of a kube-proxy. `serve` answers at a listener;
    /// aborting what it returns closes the listener. This returns when `end` is cancelled, or if the address cannot be had
    /// and the settings say that the agent then ends.
    pub(crate) async fn keep(
        self,
        serve: impl Fn(TcpListener) -> JoinHandle<()>,
        end: CancellationToken,
    ) -> Result<(), Refused> {
        let mut keeper = Keeper {
            machine: Machine::new(self.removes),
            health: self,
            serve,
            look: Look::default(),
            signs: Signs::default(),
            unseen: false,
            standing: None,
            listen: true,
            tried: Tried::Not,
            told: None,
        };
        loop {
            let after = keeper.step(false).await?;
            let unprogrammed = keeper.health.programmed() != [true; 2];
            tokio::select! {
                () = end.cancelled() => break,
                Ok(()) = keeper.health.news.changed(), if unprogrammed => {}
                () = tokio::time::sleep(after) => {}
            }
        }
        // A kube-proxy may have started a moment ago.
        keeper.step(true).await?;
        if let Some(standing) = keeper.standing.take() {
            give_away(standing).await;
        }
        Ok(())
    }

    /// Whether the kernel has everything that is known: IPv4, IPv6.
    fn programmed(&self) -> [bool; 2] {
        let snapshot = self.published.load();
        [&snapshot.v4, &snapshot.v6]
            .map(|family| snapshot.complete && family.ownership.is_some() && family.last_error.is_none())
    }
}

impl<S: Fn(TcpListener) -> JoinHandle<()>> Keeper<S> {
    /// Looks, decides and acts. Returns when to do so again. `last`: Tandem ends.
    async fn step(&mut self, last: bool) -> Result<Duration, Refused> {
        if !last {
            self.bind()?;
        }
        self.see(last).await;
        let seen = Seen {
            complete: self.health.published.load().complete,
            programmed: self.health.programmed(),
            address: match (&self.standing, self.tried) {
                _ if self.health.address.is_none() => Address::Off,
                (Some(_), _) => Address::Held,
                (None, Tried::Unusable) if self.listen => Address::Off,
                // An agent that has ended a moment ago may still have it. The second attempt tells.
                (None, Tried::InUse(2..)) if self.listen => Address::Taken,
                (None, _) => Address::Left,
            },
            signs: self.signs,
        };
        let todo = self.machine.step(&seen, Instant::now());
        if todo.remove != [false; 2] && !last {
            remove(todo.remove).await;
            self.see(true).await;
            self.machine.removed(&self.signs);
        }
        if let Some(neighbour) = todo.neighbour {
            let unusable = neighbour == Neighbour::None && self.tried == Tried::Unusable;
            let known = if unusable {
                Neighbour::AddressUnusable
            } else {
                neighbour
            };
            self.tell(known, last).await;
        }
        self.listen = todo.listen;
        if !self.listen
            && let Some(standing) = self.standing.take()
        {
            give_away(standing).await;
            self.tried = Tried::Not;
        }
        Ok(todo.after)
    }

    /// Listens, if that is wanted and nobody else does.
    fn bind(&mut self) -> Result<(), Refused> {
        let wanted = self.listen && self.standing.is_none();
        let Some(address) = self.health.address.filter(|_| wanted) else {
            return Ok(());
        };
        match bind_everywhere(address) {
            Ok(listener) => {
                tracing::info!(%address, "healthzBindAddress: listening");
                (self.standing, self.tried) = (Some((self.serve)(listener)), Tried::Not);
            }
            Err(error) => {
                let before = self.tried;
                self.tried = match before {
                    _ if error.kind() != io::ErrorKind::AddrInUse => Tried::Unusable,
                    Tried::InUse(times) => Tried::InUse(times.saturating_add(1)),
                    Tried::Not | Tried::Unusable => Tried::InUse(1),
                };
                if self.health.hard_fail && !matches!(self.tried, Tried::InUse(..HARD_FAIL_AFTER)) {
                    return Err((address, error));
                }
                if self.tried == Tried::InUse(2) || self.tried == Tried::Unusable && before != Tried::Unusable {
                    tracing::warn!(%address, "healthzBindAddress: cannot listen: {error}; tried again until it works");
                }
            }
        }
        Ok(())
    }

    /// Tells the engine what is known, if that is news. At the end, waits until it is done.
    async fn tell(&mut self, neighbour: Neighbour, last: bool) {
        let fact = KubeProxy {
            neighbour,
            place: machine::place(neighbour, last),
            address: self.health.address,
            tables: self.signs.has_tables(),
            chains: self.signs.has_chains(),
        };
        if self.told.replace(fact) != Some(fact) {
            // The engine is gone only if the agent ends.
            let _ = self
                .health
                .events
                .send(Event::NodeFact(NodeFact::KubeProxy(fact)))
                .await;
        }
        while last && self.health.published.load().kube_proxy != Some(fact) {
            if self.health.news.changed().await.is_err() {
                return;
            }
        }
    }

    /// Looks for the signs of a kube-proxy. If they cannot be read, those from before count, and the log says so once.
    async fn see(&mut self, whole: bool) {
        let mut look = std::mem::take(&mut self.look);
        if whole {
            look.again();
        }
        let seen = tokio::task::spawn_blocking(move || {
            let signs = look.now();
            (look, signs)
        });
        // A panic has been printed.
        let Ok((look, signs)) = seen.await else {
            return;
        };
        self.look = look;
        match signs {
            Ok(signs) => (self.signs, self.unseen) = (signs, false),
            Err(error) => {
                if !std::mem::replace(&mut self.unseen, true) {
                    tracing::warn!("{error}; whether a kube-proxy has left rules is not known");
                }
            }
        }
    }
}

/// Closes a listener. It is closed when its task has ended.
async fn give_away(standing: JoinHandle<()>) {
    standing.abort();
    let _ = standing.await;
}

/// Removes kube-proxy's table in these families. The kernel takes a while for large ones.
async fn remove([v4, v6]: [bool; 2]) {
    let removed = tokio::task::spawn_blocking(move || {
        if v4 {
            remove_table::<V4>();
        }
        if v6 {
            remove_table::<V6>();
        }
    });
    // A panic has been printed.
    let _ = removed.await;
}

fn remove_table<F: Family>() {
    match remove_kube_proxys::<F>() {
        Ok(true) => tracing::info!(family = %F::FAMILY, "removed the table that kube-proxy left"),
        Ok(false) => {}
        Err(error) => {
            tracing::warn!(family = %F::FAMILY, "{error}; packets meet kube-proxy's rules as well as tandem's");
        }
    }
}
