//! What an earlier run left, in a follower's place, and the follower that takes its place.

use std::collections::BTreeMap;
use std::sync::Arc;

use tandem_core::family::Family;
use tandem_core::id::ServiceId;
use tandem_core::plane::{Behind, Delta, Follower, Left, RuleSettings};
use tandem_core::row::Row;
use tandem_xdp_layout::Switch;

use super::memory::Words;
use super::pin::Lock;
use crate::convert::settings;

pub(crate) fn is_on(word: &Words) -> bool {
    Switch(word.get(0).unwrap_or_default()).is_on()
}

/// One family's switches, as an earlier run left them: of this layout, and of an older one after an upgrade. They stand in the
/// follower's place until the programs are loaded, so that what was left does not answer by old rows.
#[derive(Debug)]
pub struct Switches {
    words: Vec<Words>,
    loopback: bool,
    left: BTreeMap<ServiceId, Left>,
    _lock: Option<Arc<Lock>>,
}

impl Switches {
    pub(crate) fn new(loopback: bool, lock: Option<Arc<Lock>>) -> Self {
        Self {
            words: Vec::new(),
            loopback,
            left: BTreeMap::new(),
            _lock: lock,
        }
    }

    pub(crate) fn add(&mut self, word: Words) {
        self.words.push(word);
    }

    /// The rows that take the place of what was left. It answers until they are on, and not longer. So there is no moment in which
    /// neither answers.
    pub fn before<R>(self, rows: R) -> Succession<R> {
        Succession { older: self, rows }
    }

    fn off(&self) {
        for word in &self.words {
            word.publish(0, Switch::OFF.0);
        }
    }

    fn fit(&self, rules: &RuleSettings) -> bool {
        let wanted = settings(rules, self.loopback);
        self.words.iter().filter(|word| is_on(word)).all(|word| {
            let found = Switch(word.get(0).unwrap_or_default()).with_held(false); // what is held is no setting
            found.with_node_ports(None) == wanted
        })
    }
}

impl<F: Family> Follower<F> for Switches {
    fn renew(&mut self, _: &RuleSettings, _: &[Row<F>]) -> Result<(), Behind> {
        self.off();
        Err(Behind::new("its programs are not loaded"))
    }

    fn follow(&mut self, _: &Delta<F>) -> Result<(), Behind> {
        self.off();
        Err(Behind::new("its programs are not loaded"))
    }

    fn switch_off(&mut self) {
        self.off();
    }

    fn fits(&self, rules: &RuleSettings) -> bool {
        self.fit(rules)
    }

    fn left(&self) -> &BTreeMap<ServiceId, Left> {
        &self.left
    }

    fn taken(&self) -> usize {
        0
    }

    fn ready(&self) -> bool {
        false
    }
}

/// Rows, and the switches of what they take the place of. While rows wait, what was left is on or off as if it were theirs.
#[derive(Debug)]
pub struct Succession<R> {
    older: Switches,
    rows: R,
}

impl<F: Family, R: Follower<F>> Follower<F> for Succession<R> {
    fn renew(&mut self, rules: &RuleSettings, rows: &[Row<F>]) -> Result<(), Behind> {
        let renewed = self.rows.renew(rules, rows);
        // If it failed, nobody tells of the next change.
        self.older.off();
        renewed
    }

    fn follow(&mut self, delta: &Delta<F>) -> Result<(), Behind> {
        self.rows.follow(delta)
    }

    fn switch_off(&mut self) {
        self.older.off();
        self.rows.switch_off();
    }

    fn fits(&self, rules: &RuleSettings) -> bool {
        self.older.fit(rules) && self.rows.fits(rules)
    }

    fn left(&self) -> &BTreeMap<ServiceId, Left> {
        self.rows.left()
    }

    fn taken(&self) -> usize {
        self.rows.taken()
    }

    fn ready(&self) -> bool {
        self.rows.ready()
    }

    fn answers(&self) -> bool {
        self.rows.answers()
    }
}
