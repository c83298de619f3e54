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

use crate::engine::{FamilyStatus, Snapshot};
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

/// Why the address cannot be had.
pub(crate) type Refused = (SocketAddr, io::Error);

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
    /// Whether the log says that somebody else has it.
    taken: bool,
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
            taken: false,
            told: None,
        };
        loop {
            let after = keeper.step(false).await?;
            let unprogrammed = !keeper.health.is_programmed();
            tokio::select! {
                () = end.cancelled() => break,
                Ok(()) = keeper.health.news.changed(), if unprogrammed => {}
                () = tokio::time::sleep(after) => {}
            }
        }
        // A kube-proxy may have started a moment ago.
        keeper.step(true).await.map(drop)
    }

    /// Whether the kernel has everything that is known, in both families.
    fn is_programmed(&self) -> bool {
        let snapshot = self.published.load();
        let is = |family: &FamilyStatus| family.ownership.is_some() && family.last_error.is_none();
        snapshot.complete && is(&snapshot.v4) && is(&snapshot.v6)
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
            programmed: self.health.is_programmed(),
            address: match &self.standing {
                _ if self.health.address.is_none() => Address::Off,
                Some(_) => Address::Held,
                None if self.listen => Address::Taken,
                None => Address::Left,
            },
            signs: self.signs,
        };
        let todo = self.machine.step(&seen, Instant::now());
        if todo.remove && !last {
            remove().await;
            self.see(true).await;
            self.machine.removed(&self.signs);
        }
        if let Some(neighbour) = todo.neighbour {
            self.tell(neighbour, last).await;
        }
        self.listen = todo.listen;
        if !self.listen
            && let Some(standing) = self.standing.take()
        {
            give_away(standing).await;
            self.taken = false;
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
                (self.standing, self.taken) = (Some((self.serve)(listener)), false);
            }
            Err(error) if self.health.hard_fail => return Err((address, error)),
            Err(error) => {
                if !std::mem::replace(&mut self.taken, true) {
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
            place: if last {
                neighbour.place_at_end()
            } else {
                neighbour.place()
            },
            address: self.health.address,
            tables: self.signs.has_tables(),
            chains: self.signs.has_chains(),
        };
        if self.told.replace(fact) == Some(fact) {
            return;
        }
        // The engine is gone only if the agent ends.
        let _ = self
            .health
            .events
            .send(Event::NodeFact(NodeFact::KubeProxy(fact)))
            .await;
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

/// Removes kube-proxy's tables. The kernel takes a while for large ones.
async fn remove() {
    let removed = tokio::task::spawn_blocking(|| {
        remove_table::<V4>();
        remove_table::<V6>();
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
