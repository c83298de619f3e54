//! Rows in maps are a follower of nftables.

use std::collections::BTreeMap;

use tandem_core::id::ServiceId;
use tandem_core::plane::{Behind, Delta, Follower, Left, RuleSettings};
use tandem_core::row::Row;

use crate::convert::Plane;
use crate::rows::Rows;
use crate::store::{Store, StoreError};

impl From<StoreError> for Behind {
    fn from(error: StoreError) -> Self {
        Self::new(error)
    }
}

impl<F: Plane, S: Store<F::Mapped>> Follower<F> for Rows<F, S> {
    fn renew(&mut self, rules: &RuleSettings, rows: &[Row<F>]) -> Result<(), Behind> {
        Ok(Self::renew(self, rules, rows)?)
    }

    fn follow(&mut self, delta: &Delta<F>) -> Result<(), Behind> {
        Ok(Self::follow(self, delta)?)
    }

    fn switch_off(&mut self) {
        Self::switch_off(self);
    }

    fn fits(&self, rules: &RuleSettings) -> bool {
        Self::fits(self, rules)
    }

    fn left(&self) -> &BTreeMap<ServiceId, Left> {
        Self::left(self)
    }

    fn taken(&self) -> usize {
        self.ports()
    }

    fn answers(&self) -> bool {
        Self::answers(self)
    }
}
