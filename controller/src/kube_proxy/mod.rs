//! A kube-proxy beside Tandem. While both run, neither takes the other's rules away, and kube-proxy's come first. Once
//! one of them runs alone, its rules decide. [`machine`] says how that is known and done.

mod machine;
mod signs;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use tandem_core::family::{Family, V4, V6};
use tandem_nft::remove_kube_proxys;
use tokio::net::TcpListener;
use tokio::sync::mpsc::Sender;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::engine::{FamilyStatus, Snapshot};
use crate::event::{Event, KubeProxy, NodeFact};
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

impl HealthAddress {
    /// Keeps the address, and keeps order between Tandem's rules and those of a kube-proxy. `serve` answers at a listener;
    /// aborting what it returns closes the listener. This returns only if the address cannot be had and the settings say
    /// that the agent then ends.
    pub(crate) async fn keep(mut self, serve: impl Fn(TcpListener) -> JoinHandle<()>) -> (SocketAddr, io::Error) {
        let mut machine = Machine::new(self.removes);
        let (mut look, mut signs, mut unseen) = (Look::default(), Signs::default(), false);
        let (mut standing, mut listen, mut taken) = (None, true, false);
        let mut told = None;
        loop {
            if let Some(address) = self.address.filter(|_| listen && standing.is_none()) {
                match bind_everywhere(address) {
                    Ok(listener) => {
                        tracing::info!(%address, "healthzBindAddress: listening");
                        (standing, taken) = (Some(serve(listener)), false);
                    }
                    Err(error) if self.hard_fail => return (address, error),
                    Err(error) => {
                        if !std::mem::replace(&mut taken, true) {
                            tracing::warn!(%address, "healthzBindAddress: cannot listen: {error}; tried again until it works");
                        }
                    }
                }
            }
            (look, signs) = see(look, signs, &mut unseen).await;
            let seen = Seen {
                programmed: self.is_programmed(),
                address: match &standing {
                    _ if self.address.is_none() => Address::Off,
                    Some(_) => Address::Held,
                    None if listen => Address::Taken,
                    None => Address::Left,
                },
                signs,
            };
            let todo = machine.step(&seen, Instant::now());
            if todo.remove {
                remove().await;
                (look, signs) = see(look, signs, &mut unseen).await;
                machine.removed(&signs);
            }
            let fact = KubeProxy {
                neighbour: todo.neighbour,
                address: self.address,
                tables: signs.has_tables(),
                chains: signs.has_chains(),
            };
            if told.replace(fact) != Some(fact) {
                // The engine is gone only if the agent ends.
                let _ = self.events.send(Event::NodeFact(NodeFact::KubeProxy(fact))).await;
            }
            listen = todo.listen;
            if !listen && let Some(standing) = standing.take() {
                give_away(standing).await;
                taken = false;
            }
            if seen.programmed {
                tokio::time::sleep(todo.after).await;
            } else {
                let _ = timeout(todo.after, self.news.changed()).await;
            }
        }
    }

    /// Whether the kernel has everything that is known, in both families.
    fn is_programmed(&self) -> bool {
        let snapshot = self.published.load();
        let is = |family: &FamilyStatus| family.ownership.is_some() && family.last_error.is_none();
        snapshot.complete && is(&snapshot.v4) && is(&snapshot.v6)
    }
}

/// Closes a listener. It is closed when its task has ended.
async fn give_away(standing: JoinHandle<()>) {
    standing.abort();
    let _ = standing.await;
}

/// Looks for the signs of a kube-proxy. If they cannot be read, those from before count, and the log says so once.
async fn see(mut look: Look, before: Signs, unseen: &mut bool) -> (Look, Signs) {
    let seen = tokio::task::spawn_blocking(move || {
        let signs = look.now(Instant::now());
        (look, signs)
    });
    let Ok((look, signs)) = seen.await else {
        return (Look::default(), before);
    };
    match signs {
        Ok(signs) => {
            *unseen = false;
            (look, signs)
        }
        Err(error) => {
            if !std::mem::replace(unseen, true) {
                tracing::warn!("{error}; whether a kube-proxy has left rules is not known");
            }
            (look, before)
        }
    }
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
