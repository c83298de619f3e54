//! A data plane in memory, for tests and benchmarks of the code that uses data planes. It refuses what the kernel
//! refuses, for the same reasons. Tests can make it fail.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::family::Family;
use crate::row::{Key, Pick, Row};

use super::{ApplyError, DataPlane, Delta, Open, Ownership, ReadError, Reason, Rejection, RuleSettings, WhyShared};

/// The rows of one family. A clone is a handle to the same rows. The rows stay when their user is dropped, as the
/// kernel's tables do.
#[derive(Clone, Debug, Default)]
pub struct Memory<F: Family>(Arc<Mutex<State<F>>>);

/// What happens to one change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is applied like any other.
    None,
    /// The new rows whose label contains this are refused.
    Refused(String),
    /// Nothing is applied.
    Failed,
    /// It is applied, but the answer says that the result is unknown.
    AppliedUnknown,
    /// It is not applied, and the answer says that the result is unknown.
    FailedUnknown,
}

#[derive(Debug)]
struct State<F: Family> {
    rows: BTreeMap<Key<F>, Row<F>>,
    /// If set, changes count as applied, but no rows are stored.
    forgetful: bool,
    /// If set, a change that does not fit the rows panics.
    strict: bool,
    /// What happens to the next changes. Later changes are applied.
    faults: VecDeque<Fault>,
    /// Rows whose label contains this are refused.
    refuse: Option<String>,
    /// All changes fail for this reason.
    broken: Option<String>,
    /// The number of ways to pick an endpoint for which there is room.
    room: Option<usize>,
    transactions: Vec<usize>,
    opened: usize,
    rules: Option<RuleSettings>,
}

impl<F: Family> Default for State<F> {
    fn default() -> Self {
        Self {
            rows: BTreeMap::new(),
            forgetful: false,
            strict: false,
            faults: VecDeque::new(),
            refuse: None,
            broken: None,
            room: None,
            transactions: Vec::new(),
            opened: 0,
            rules: None,
        }
    }
}

impl<F: Family> Memory<F> {
    /// A data plane without rows. It refuses changes that do not fit its rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same for tests in which every change has to fit: a change that does not fit panics.
    pub fn strict() -> Self {
        let memory = Self::default();
        memory.state().strict = true;
        memory
    }

    /// A data plane that accepts every change and stores nothing, for benchmarks of the code that uses it.
    pub fn forgetful() -> Self {
        let memory = Self::default();
        memory.state().forgetful = true;
        memory
    }

    /// The function by which an engine opens it.
    pub fn opener(&self) -> Open<F> {
        let memory = self.clone();
        Box::new(move |rules| {
            let mut state = memory.state();
            state.opened += 1;
            state.rules = Some(rules);
            drop(state);
            Ok(Box::new(memory.clone()) as _)
        })
    }

    /// All rows, ordered by their keys.
    pub fn rows(&self) -> Vec<Row<F>> {
        self.state().rows.values().cloned().collect()
    }

    /// The number of rows that each change touched so far.
    pub fn transactions(&self) -> Vec<usize> {
        self.state().transactions.clone()
    }

    /// Starts counting changes again from none.
    pub fn forget_transactions(&self) {
        self.state().transactions.clear();
    }

    /// How often it was opened.
    pub fn opened(&self) -> usize {
        self.state().opened
    }

    /// The rules of the last opening.
    pub fn rules(&self) -> Option<RuleSettings> {
        self.state().rules
    }

    /// Adds a row, as another program might.
    pub fn put(&self, row: Row<F>) {
        self.state().rows.insert(row.key(), row);
    }

    /// Removes the rows for which `goes` is true, as another program might.
    pub fn lose(&self, goes: impl Fn(&Row<F>) -> bool) {
        self.state().rows.retain(|_, row| !goes(row));
    }

    /// From now on, new rows whose label contains this are refused.
    pub fn refuse(&self, label: &str) {
        self.state().refuse = Some(label.to_owned());
    }

    /// From now on, every change fails as a whole for this reason.
    pub fn break_down(&self, reason: &str) {
        self.state().broken = Some(reason.to_owned());
    }

    /// From now on, there is room for only this number of ways to pick an endpoint.
    pub fn limit_ways(&self, room: usize) {
        self.state().room = Some(room);
    }

    /// Removes all faults: everything works again.
    pub fn mend(&self) {
        let mut state = self.state();
        state.faults.clear();
        (state.refuse, state.broken, state.room) = (None, None, None);
    }

    /// Sets what happens to the next changes, one after the other. Later changes are applied.
    pub fn next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state().faults.extend(faults);
    }

    fn state(&self) -> MutexGuard<'_, State<F>> {
        // If a thread panicked while it held the lock, its test has failed already.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: Family> DataPlane<F> for Memory<F> {
    fn read(&mut self) -> Result<Vec<Row<F>>, ReadError> {
        Ok(self.rows())
    }

    fn apply(&mut self, delta: &Delta<F>) -> Result<(), ApplyError<F>> {
        let mut state = self.state();
        if let Some(reason) = &state.broken {
            return Err(ApplyError::Failed(reason.as_str().into()));
        }
        match state.faults.pop_front().unwrap_or(Fault::None) {
            Fault::None => {}
            Fault::Failed => return Err(ApplyError::Failed("broken".into())),
            Fault::FailedUnknown => return Err(ApplyError::Unknown("no answer".into())),
            Fault::AppliedUnknown => {
                state.change(delta)?;
                return Err(ApplyError::Unknown("no answer".into()));
            }
            Fault::Refused(label) => state.check(delta, Some(&label))?,
        }
        let refuse = state.refuse.clone();
        state.check(delta, refuse.as_deref())?;
        state.change(delta)
    }

    fn ways(&self) -> Vec<Pick> {
        self.state().ways().into_iter().collect()
    }

    fn ownership(&self) -> Ownership {
        Ownership::Shared(WhyShared::Memory)
    }
}

fn rejections<F: Family>(rows: impl Iterator<Item = (Row<F>, Reason)>) -> Vec<Rejection<F>> {
    rows.map(|(row, reason)| Rejection { row, reason }).collect()
}

impl<F: Family> State<F> {
    fn ways(&self) -> HashSet<Pick> {
        self.rows.values().filter_map(Row::pick).collect()
    }

    /// Refuses rows whose label contains this, and rows for whose way to pick an endpoint there is no room.
    fn check(&self, delta: &Delta<F>, label: Option<&str>) -> Result<(), ApplyError<F>> {
        let unplaced = self.unplaced(delta);
        if !unplaced.is_empty() {
            return Err(ApplyError::UsedUp(unplaced));
        }
        let Some(label) = label else { return Ok(()) };
        let named = |row: &&Row<F>| row.label().is_some_and(|found| found.contains(label));
        let refused = delta.new_rows().filter(named);
        let refused = rejections(refused.map(|row| (row.clone(), Reason::Other("no".into()))));
        if refused.is_empty() {
            Ok(())
        } else {
            Err(ApplyError::Rejected(refused))
        }
    }

    fn unplaced(&self, delta: &Delta<F>) -> Vec<Rejection<F>> {
        let Some(room) = self.room else { return Vec::new() };
        let mut ways = self.ways();
        let unplaced = delta.new_rows().filter(|row| {
            let Some(way) = row.pick().filter(|way| !matches!(way, Pick::Refuse | Pick::Discard)) else {
                return false;
            };
            let full = ways.len() >= room && !ways.contains(&way);
            if !full {
                ways.insert(way);
            }
            full
        });
        rejections(unplaced.map(|row| (row.clone(), Reason::NoWayLeft)))
    }

    /// Applies a change completely or not at all.
    fn change(&mut self, delta: &Delta<F>) -> Result<(), ApplyError<F>> {
        let stored = delta.stored();
        assert!(
            stored.len() == delta.len(),
            "a data plane does not store this:\n{delta}"
        );
        self.transactions.push(delta.len());
        if self.forgetful {
            return Ok(());
        }
        let (mut undo, mut refused) = (Vec::new(), Vec::new());
        for row in delta.old_rows() {
            match self.rows.remove(&row.key()) {
                Some(before) => {
                    assert!(!self.strict || before == *row, "{row:?} goes, and {before:?} is there");
                    undo.push((row.key(), Some(before)));
                }
                None => refused.push((row.clone(), Reason::NotThere)),
            }
        }
        for row in delta.new_rows() {
            if let Some(reason) = self.obstacle(row) {
                refused.push((row.clone(), reason));
            } else {
                undo.push((row.key(), None));
                self.rows.insert(row.key(), row.clone());
            }
        }
        if refused.is_empty() {
            return Ok(());
        }
        for (key, before) in undo.into_iter().rev() {
            match before {
                Some(row) => self.rows.insert(key, row),
                None => self.rows.remove(&key),
            };
        }
        self.transactions.pop();
        let error = ApplyError::Rejected(rejections(refused.into_iter()));
        assert!(!self.strict, "a change does not fit: {error}\n{delta}");
        Err(error)
    }

    /// Why a row cannot be added; none if it can.
    fn obstacle(&self, row: &Row<F>) -> Option<Reason> {
        let key = row.key();
        if !key.is_range() {
            return self.rows.contains_key(&key).then_some(Reason::Taken);
        }
        // The ranges that exist do not overlap each other, so only the neighbours can overlap the new one.
        let before = self.rows.range(..key).next_back();
        let after = self.rows.range(key..).next();
        let overlaps = before.into_iter().chain(after).any(|(there, _)| there.overlaps(&key));
        overlaps.then_some(Reason::Overlaps)
    }
}
