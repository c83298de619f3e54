//! A data plane in memory that outlives the engine, as the kernel does, and fails when it is told to.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use tandem::engine::{Engine, Open, Plane};
use tandem::node_settings::{LocalPods, NodeSettings};
use tandem_core::delta::{ApplyError, DataPlane, Delta, ReadError, Rejection};
use tandem_core::family::{Family, V4, V6};
use tandem_core::node::NodePortAddresses;
use tandem_core::row::Row;

/// What becomes of a change.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    Applied,
    /// The rows whose label contains this are refused.
    Refused(String),
    /// Nothing is applied.
    Failed,
    /// It is applied, and nobody knows.
    AppliedUnknown,
    /// It is not, and nobody knows.
    FailedUnknown,
}

#[derive(Debug)]
pub(crate) struct Kernel<F: Family> {
    /// By what they print.
    rows: BTreeMap<String, Row<F>>,
    /// What becomes of the next changes; then they are applied.
    pub(crate) fates: VecDeque<Fate>,
}

impl<F: Family> Default for Kernel<F> {
    fn default() -> Self {
        Self {
            rows: BTreeMap::new(),
            fates: VecDeque::new(),
        }
    }
}

impl<F: Family> Kernel<F> {
    pub(crate) fn rows(&self) -> Vec<Row<F>> {
        self.rows.values().cloned().collect()
    }

    fn change(&mut self, delta: &Delta<F>) {
        for row in delta.removed.iter().chain(delta.changed.iter().map(|(old, _)| old)) {
            let before = self.rows.remove(&format!("{row:?}"));
            assert!(before.is_some(), "{row:?} is removed and not there");
        }
        for row in delta.changed.iter().map(|(_, new)| new).chain(&delta.added) {
            let before = self.rows.insert(format!("{row:?}"), row.clone());
            assert!(before.is_none(), "{row:?} is there already");
        }
    }
}

pub(crate) fn label<F: Family>(row: &Row<F>) -> &str {
    match row {
        Row::Frontend { label, .. } | Row::Service { label, .. } => label,
        _ => "",
    }
}

struct Handle<F: Family>(Arc<Mutex<Kernel<F>>>);

impl<F: Family> DataPlane<F> for Handle<F> {
    fn read(&mut self) -> Result<Vec<Row<F>>, ReadError> {
        Ok(self.0.lock().unwrap().rows())
    }

    fn apply(&mut self, delta: &Delta<F>) -> Result<(), ApplyError<F>> {
        let mut kernel = self.0.lock().unwrap();
        match kernel.fates.pop_front().unwrap_or(Fate::Applied) {
            Fate::Applied => {}
            Fate::Failed => return Err(ApplyError::Failed("broken".into())),
            Fate::FailedUnknown => return Err(ApplyError::Unknown("no answer".into())),
            Fate::AppliedUnknown => {
                kernel.change(delta);
                return Err(ApplyError::Unknown("no answer".into()));
            }
            Fate::Refused(name) => {
                let new = delta.added.iter().chain(delta.changed.iter().map(|(_, new)| new));
                let rejections: Vec<Rejection<F>> = new
                    .filter(|row| label(row).contains(&name))
                    .map(|row| Rejection {
                        row: row.clone(),
                        reason: "no".into(),
                    })
                    .collect();
                if !rejections.is_empty() {
                    return Err(ApplyError::Rejected(rejections));
                }
            }
        }
        kernel.change(delta);
        Ok(())
    }
}

impl<F: Family> Plane<F> for Handle<F> {
    fn ownership(&self) -> String {
        "the test's".into()
    }

    fn tidy(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// A node's two kernels.
#[derive(Default)]
pub(crate) struct Host {
    pub(crate) v4: Arc<Mutex<Kernel<V4>>>,
    pub(crate) v6: Arc<Mutex<Kernel<V6>>>,
}

impl Host {
    pub(crate) fn start(&self) -> Engine {
        fn opener<F: Family>(kernel: &Arc<Mutex<Kernel<F>>>) -> Open<F> {
            let kernel = Arc::clone(kernel);
            Box::new(move |_| Ok(Box::new(Handle(Arc::clone(&kernel))) as _))
        }
        let settings = NodeSettings {
            node_name: "node-a".into(),
            local_pods: LocalPods::NodeCidrs,
            node_port_addresses: NodePortAddresses::Primary,
            masquerade_all: false,
            masquerade_bit: 14,
            drop_invalid: false,
        };
        Engine::new(settings, opener(&self.v4), opener(&self.v6))
    }
}
