//! Versions of lists. Servers count up.

/// The versions that a list may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Versions {
    /// All.
    Any,
    /// This one and all later ones.
    NotBefore(String),
    /// This one only: the page belongs to a list of this version.
    Only(String),
}

impl Versions {
    /// Whether a list may have this version. Each list has one. In a request, 0 stands for any version, and no store has
    /// it.
    pub(super) fn allow(&self, version: &str) -> bool {
        !matches!(version, "" | "0")
            && match self {
                Self::Any => true,
                Self::NotBefore(least) => !is_older(version, least),
                Self::Only(only) => version == only,
            }
    }
}

/// Whether a version is older than another. Versions that are not numbers are not compared.
pub(super) fn is_older(version: &str, than: &str) -> bool {
    matches!((version.parse::<u64>(), than.parse::<u64>()), (Ok(version), Ok(than)) if version < than)
}
