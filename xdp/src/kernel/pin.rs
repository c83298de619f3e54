//! Where maps and links outlive the agent: in a folder of a BPF file system, `<folder>/v<layout>/{maps,links}`.

use std::path::{Path, PathBuf};
use std::{fs, io};

use tandem_xdp_layout::VERSION;

use super::mount;

/// Why maps and links cannot be pinned.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The folder is on another file system.
    #[error("{0} is not on a BPF file system: mount one there (mount -t bpf bpf /sys/fs/bpf)")]
    NotBpf(PathBuf),
    /// A folder cannot be made or read.
    #[error("{0}: {1}")]
    Folder(PathBuf, #[source] io::Error),
    /// A Tandem with a newer layout of maps was here.
    #[error("{0} was made by a newer Tandem, whose maps this one cannot read: they are left alone")]
    Newer(PathBuf),
}

/// The folders of this layout.
#[derive(Clone, Debug)]
pub struct Pins {
    folder: PathBuf,
}

impl Pins {
    /// The pins below a folder of a BPF file system. The folder is made if it is missing; its parent must be there.
    pub fn open(folder: &Path) -> Result<Self, PinError> {
        let parent = mount::parent(folder);
        if !mount::is_bpf(parent).map_err(|error| PinError::Folder(parent.to_owned(), error))? {
            return Err(PinError::NotBpf(parent.to_owned()));
        }
        let pins = Self {
            folder: folder.join(format!("v{VERSION}")),
        };
        if let Some(newer) = newest_above(folder)? {
            return Err(PinError::Newer(newer));
        }
        pins.make()?;
        Ok(pins)
    }

    /// Makes the folders, if they are not there.
    pub(crate) fn make(&self) -> Result<(), PinError> {
        for folder in [self.maps(), self.links()] {
            fs::create_dir_all(&folder).map_err(|error| PinError::Folder(folder, error))?;
        }
        Ok(())
    }

    /// Where maps are pinned.
    pub(crate) fn maps(&self) -> PathBuf {
        self.folder.join("maps")
    }

    /// Where links are pinned.
    pub(crate) fn links(&self) -> PathBuf {
        self.folder.join("links")
    }

    /// Removes the pin of a link, if there is one.
    pub(crate) fn remove_link(&self, name: &str) -> Result<(), PinError> {
        let pin = self.links().join(name);
        match fs::remove_file(&pin) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(PinError::Folder(pin, error)),
            _ => Ok(()),
        }
    }

    /// Removes all pins of this layout, and the folders. Whatever they held goes once nobody uses it. These links go first:
    /// what the others show must not outlast what these do.
    pub(crate) fn remove(&self, first: &[&str]) -> Result<(), PinError> {
        for name in first {
            match fs::remove_file(self.links().join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(PinError::Folder(self.links().join(name), error));
                }
                _ => {}
            }
        }
        for folder in [self.links(), self.maps()] {
            let failed = |error| PinError::Folder(folder.clone(), error);
            for entry in fs::read_dir(&folder).map_err(failed)? {
                let path = entry.map_err(failed)?.path();
                fs::remove_file(&path).map_err(|error| PinError::Folder(path.clone(), error))?;
            }
            fs::remove_dir(&folder).map_err(failed)?;
        }
        fs::remove_dir(&self.folder).map_err(|error| PinError::Folder(self.folder.clone(), error))?;
        // Another layout may be there.
        let _: io::Result<()> = self.folder.parent().map_or(Ok(()), fs::remove_dir);
        Ok(())
    }
}

/// The folder of a newer layout, if there is one.
fn newest_above(folder: &Path) -> Result<Option<PathBuf>, PinError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(PinError::Folder(folder.to_owned(), error)),
    };
    let version = |path: &Path| path.file_name()?.to_str()?.strip_prefix('v')?.parse::<u32>().ok();
    let newer = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| version(path).is_some_and(|version| version > VERSION));
    Ok(newer.max())
}
