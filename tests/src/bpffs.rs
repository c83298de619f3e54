//! BPF file systems of a test: a node's programs and maps are pinned in them. Without a mount, nothing is left.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::netns::run_command;
use crate::scratch::Scratch;

/// A BPF file system in a folder of this test. Dropping it removes what is pinned in it.
#[derive(Debug)]
pub struct BpfFolder {
    pins: PathBuf,
    scratch: Scratch,
}

impl BpfFolder {
    /// Mounts it; the label is part of its folder's name.
    pub fn new(label: &str) -> Result<Self> {
        let scratch = Scratch::new(label)?;
        run_command(Command::new("mount").args(["-t", "bpf", "bpf"]).arg(scratch.path()))
            .context("mount a BPF file system")?;
        Ok(Self {
            pins: scratch.path().join("tandem"),
            scratch,
        })
    }

    /// A folder in it that is not there yet: `bpfFolder`.
    pub fn path(&self) -> &Path {
        &self.pins
    }
}

impl Drop for BpfFolder {
    fn drop(&mut self) {
        // Nothing opens files in it, and the programs and maps that are in use stay until their users end.
        if let Err(error) = run_command(Command::new("umount").arg(self.scratch.path())) {
            eprintln!("{} was not unmounted: {error:#}", self.scratch.path().display());
        }
    }
}
