//! The rows of one frontend: the frontend itself, and the sources that may reach it.

use crate::family::Family;
use crate::id::ServiceId;
use crate::plan::FrontendPlan;
use crate::row::{Frontend, Label, Row};

use super::journal::Journal;

/// A frontend, and the Service port that has it.
#[derive(Clone, Debug)]
pub(super) struct HeldFrontend<F: Family> {
    /// The Service port's id for all endpoints.
    pub(super) id: ServiceId,
    pub(super) plan: FrontendPlan<F>,
    pub(super) label: Label,
}

impl<F: Family> HeldFrontend<F> {
    fn row(&self) -> Row<F> {
        let service = if self.plan.local { self.id.local() } else { self.id };
        Row::Frontend {
            frontend: self.plan.frontend,
            service,
            label: self.label.clone(),
        }
    }

    /// Writes the differences if the frontend gets another holder, or if its holder's plan for it changes.
    pub(super) fn write(old: Option<&Self>, new: Option<&Self>, journal: &mut Journal<F>) {
        let rows = (old.map(Self::row), new.map(Self::row));
        if rows.0 != rows.1 {
            journal.write(rows.0, rows.1);
        }
        let sources = |held: Option<&Self>| held.and_then(|held| held.plan.sources.clone());
        let (before, after) = (sources(old), sources(new));
        let Some(Frontend::Address { at, .. }) = old.or(new).map(|held| held.plan.frontend) else {
            return;
        };
        if before == after {
            return;
        }
        match (before.is_some(), after.is_some()) {
            (true, false) => journal.remove(Row::Restricted { at }),
            (false, true) => journal.add(Row::Restricted { at }),
            _ => {}
        }
        let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
        // Both are sorted.
        for source in before.iter().filter(|source| after.binary_search(source).is_err()) {
            journal.remove(Row::AllowedSource { at, source: *source });
        }
        for source in after.iter().filter(|source| before.binary_search(source).is_err()) {
            journal.add(Row::AllowedSource { at, source: *source });
        }
    }
}
