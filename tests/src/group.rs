//! A cgroup folder that threads can enter ([`crate::cgroup`] makes them).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};

/// A folder that threads can enter.
#[derive(Clone, Debug)]
pub struct Group(Arc<PathBuf>);

impl Group {
    /// A folder that is there.
    pub(crate) fn at(folder: PathBuf) -> Self {
        Self(Arc::new(folder))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Moves the calling thread to it.
    pub(crate) fn enter(&self) -> Result<()> {
        let file = self.0.join("cgroup.threads");
        // 0 is the thread that writes.
        fs::write(&file, "0").with_context(|| format!("enter cgroup {}", self.0.display()))
    }
}
