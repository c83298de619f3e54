//! A folder of manifests that is changed file by file, as an operator or a tool would do it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::to_yaml;

/// A folder that Tandem watches.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Opens the folder, and makes it if it is missing.
    pub fn new(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        fs::create_dir_all(&path).with_context(|| format!("make folder {}", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes objects as the documents of one file. The file appears as a whole, so nobody reads half of it.
    pub fn write(&self, file: &str, objects: &[Value]) -> Result<()> {
        let documents: Result<Vec<String>> = objects.iter().map(to_yaml).collect();
        self.write_text(file, &documents?.join("---\n"))
    }

    /// The same with any text, even wrong text.
    pub fn write_text(&self, file: &str, text: &str) -> Result<()> {
        let (hidden, path) = (self.0.join(format!(".{file}.new")), self.0.join(file));
        fs::write(&hidden, text).with_context(|| format!("write {}", hidden.display()))?;
        fs::rename(&hidden, &path).with_context(|| format!("write {}", path.display()))
    }

    /// Removes a file.
    pub fn remove(&self, file: &str) -> Result<()> {
        let path = self.0.join(file);
        fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))
    }
}
