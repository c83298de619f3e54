//! Why a family's changes are not in the data plane.

use std::collections::BTreeMap;
use std::fmt;

use tandem_core::family::Family;
use tandem_core::object::ObjectKey;
use tandem_core::plan::PortKey;
use tandem_core::plane::{ApplyError, OpenError, ReadError, Reason};

/// Why all changes of a family wait. They are tried again later.
#[derive(Debug, thiserror::Error)]
pub(super) enum SyncError<F: Family> {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Apply(#[from] ApplyError<F>),
    /// A row of a Service that the change does not concern.
    #[error(transparent)]
    Elsewhere(PortRefused),
}

/// The data plane's answer to a change that it did not apply.
pub(super) enum Refusal<F: Family> {
    /// It refused rows of these Services; everything else can go through. `used_up`: there was no room for a way to
    /// pick an endpoint.
    Of {
        services: BTreeMap<ObjectKey, PortRefused>,
        used_up: bool,
    },
    /// It refused the change as a whole.
    Whole(ApplyError<F>),
}

impl<F: Family> Refusal<F> {
    /// The error, if it would not help to leave these Services out: the rows belong to other Services than the change's.
    pub(super) fn of_the_whole(self) -> SyncError<F> {
        match self {
            Self::Whole(error) => SyncError::Apply(error),
            Self::Of { services, .. } => match services.into_values().next() {
                Some(refused) => SyncError::Elsewhere(refused),
                None => SyncError::Apply(ApplyError::Rejected(Vec::new())),
            },
        }
    }
}

/// Why a row of this Service port was refused.
#[derive(Debug)]
pub(super) struct PortRefused {
    pub(super) port: PortKey,
    pub(super) reason: Reason,
}

impl fmt::Display for PortRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "port {}: {}", self.port, self.reason)
    }
}

impl std::error::Error for PortRefused {}
