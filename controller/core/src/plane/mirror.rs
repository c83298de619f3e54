//! A follower in memory, for tests of the code that uses followers. A call that breaks the contract panics. Tests can
//! make it fail.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::family::Family;
use crate::id::ServiceId;
use crate::row::{Key, Row};

use super::{Behind, Delta, Follower, Full, Left, RuleSettings};

/// The rows of one family, held a second time. A clone is a handle to the same rows. The rows stay when their user is
/// dropped, as those of a follower in the kernel do.
#[derive(Clone, Debug, Default)]
pub struct Mirror<F: Family> {
    shared: Arc<Mutex<State<F>>>,
    /// The lists that were left after this handle's last call.
    left: BTreeMap<ServiceId, Left>,
}

/// What happened to a [`Mirror`], step by step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It was told to hold exactly this number of rows.
    Renew(usize),
    /// It was told of a change of this number of rows.
    Follow(usize),
    /// It was switched on.
    On,
    /// It was switched off.
    Off,
    /// It returned [`Behind`].
    Behind,
}

#[derive(Debug)]
struct State<F: Family> {
    rows: BTreeMap<Key<F>, Row<F>>,
    rules: Option<RuleSettings>,
    on: bool,
    seen: Vec<Seen>,
    /// The number of calls that can fail.
    calls: usize,
    /// The numbers of those that do.
    failing: BTreeSet<usize>,
    /// All calls fail for this reason.
    broken: Option<String>,
    /// The number of lists for which there is room.
    room: Option<usize>,
}

impl<F: Family> Default for State<F> {
    fn default() -> Self {
        Self {
            rows: BTreeMap::new(),
            rules: None,
            on: false,
            seen: Vec::new(),
            calls: 0,
            failing: BTreeSet::new(),
            broken: None,
            room: None,
        }
    }
}

impl<F: Family> Mirror<F> {
    /// A follower without rows. It is off.
    pub fn new() -> Self {
        Self::default()
    }

    /// A follower as an earlier run left it: on, with these rules and rows.
    pub fn found(rules: RuleSettings, rows: impl IntoIterator<Item = Row<F>>) -> Self {
        let mirror = Self::default();
        {
            let mut state = mirror.state();
            state.rows = rows.into_iter().map(|row| (row.key(), row)).collect();
            (state.rules, state.on) = (Some(rules), true);
        }
        mirror
    }

    /// All rows that it holds, ordered by their keys.
    pub fn rows(&self) -> Vec<Row<F>> {
        self.state().rows.values().cloned().collect()
    }

    /// The rules by which it answers.
    pub fn rules(&self) -> Option<RuleSettings> {
        self.state().rules
    }

    /// Whether it is on.
    pub fn is_on(&self) -> bool {
        self.state().on
    }

    /// What happened since the last call of this function.
    pub fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.state().seen)
    }

    /// Has the `n`th renewal or change from now on fail. The next one is the first.
    pub fn fail_at(&self, n: usize) {
        let mut state = self.state();
        let number = state.calls + n;
        state.failing.insert(number);
    }

    /// From now on, every renewal and every change fails for this reason.
    pub fn break_down(&self, reason: &str) {
        self.state().broken = Some(reason.to_owned());
    }

    /// From now on, there is room for only this number of lists. The last ones are left.
    pub fn limit(&self, room: usize) {
        self.state().room = Some(room);
    }

    /// Removes all faults and limits.
    pub fn mend(&self) {
        let mut state = self.state();
        state.failing.clear();
        (state.broken, state.room) = (None, None);
    }

    fn state(&self) -> MutexGuard<'_, State<F>> {
        // If a thread panicked while it held the lock, its test has failed already.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lists for which there is no room.
    fn without_room(&self) -> BTreeMap<ServiceId, Left> {
        let state = self.state();
        let Some(room) = state.room else {
            return BTreeMap::new();
        };
        let without = state.lists().into_iter().skip(room);
        let full = Full {
            name: "the mirror",
            room: u32::try_from(room).unwrap_or(u32::MAX),
            errno: None,
        };
        without.map(|list| (list, Left::Endpoints(full))).collect()
    }
}

impl<F: Family> Follower<F> for Mirror<F> {
    fn renew(&mut self, rules: &RuleSettings, rows: &[Row<F>]) -> Result<(), Behind> {
        {
            let mut state = self.state();
            state.seen.push(Seen::Renew(rows.len()));
            let wanted: BTreeMap<_, _> = rows.iter().map(|row| (row.key(), row.clone())).collect();
            assert_eq!(wanted.len(), rows.len(), "two rows have one key");
            if state.rows != wanted || state.rules != Some(*rules) {
                state.switch(false);
            }
            if let Err(behind) = state.call() {
                // It was interrupted half way.
                state.rows = wanted.into_iter().take(rows.len() / 2).collect();
                return Err(behind);
            }
            state.rows = wanted;
            state.rules = Some(*rules);
            state.switch(true);
        }
        self.left = self.without_room();
        Ok(())
    }

    fn follow(&mut self, delta: &Delta<F>) -> Result<(), Behind> {
        {
            let mut state = self.state();
            state.seen.push(Seen::Follow(delta.len()));
            assert!(state.on, "told of a change while it is off:\n{delta}");
            let failed = state.call();
            for row in delta.old_rows() {
                let held = state.rows.remove(&row.key());
                assert_eq!(held.as_ref(), Some(row), "a row goes that it does not hold");
            }
            // If it fails, it was interrupted half way.
            failed?;
            for row in delta.new_rows() {
                let held = state.rows.insert(row.key(), row.clone());
                assert_eq!(held, None, "a row comes whose key it holds: {row}");
            }
        }
        self.left = self.without_room();
        Ok(())
    }

    fn switch_off(&mut self) {
        self.state().switch(false);
    }

    fn fits(&self, rules: &RuleSettings) -> bool {
        self.rules() == Some(*rules)
    }

    fn left(&self) -> &BTreeMap<ServiceId, Left> {
        &self.left
    }

    fn taken(&self) -> usize {
        let lists = self.state().lists();
        let held = lists.into_iter().filter(|list| !self.left.contains_key(list));
        held.map(ServiceId::all).collect::<BTreeSet<_>>().len()
    }
}

impl<F: Family> State<F> {
    fn lists(&self) -> BTreeSet<ServiceId> {
        let services = self.rows.values().filter(|row| row.pick().is_some());
        services.filter_map(Row::service).collect()
    }

    fn switch(&mut self, on: bool) {
        if std::mem::replace(&mut self.on, on) != on {
            self.seen.push(if on { Seen::On } else { Seen::Off });
        }
    }

    /// Counts a call. If it is to fail, switches off first.
    fn call(&mut self) -> Result<(), Behind> {
        self.calls += 1;
        let number = self.calls;
        let fails = self.failing.remove(&number);
        let reason = self.broken.clone().or_else(|| fails.then(|| "broken".to_owned()));
        let Some(reason) = reason else { return Ok(()) };
        self.switch(false);
        self.seen.push(Seen::Behind);
        Err(Behind::new(reason))
    }
}
