//! Folders for the files of one test: logs, sockets, manifests. They are removed on drop, or else when the process
//! ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};

use crate::netns;

/// A folder that only this test uses.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes an empty folder; the label is part of its name.
    pub fn new(label: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        netns::start_reaper()?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = netns::scratch_root().join(format!("{}{count}-{label}", netns::prefix(process::id())));
        fs::create_dir_all(&path).with_context(|| format!("make folder {}", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // the reaper tries again
    }
}
