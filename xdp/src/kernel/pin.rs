//! Where maps and links outlive the agent: in a folder of a BPF file system, `<folder>/v<layout>/{maps,links}`.

use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::{fs, io};

use tandem_xdp_layout::VERSION;

use super::{link, mount};

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
    #[error("{0} was made by a newer Tandem, whose maps this one cannot read")]
    Newer(PathBuf),
    /// Another process has the folder.
    #[error("{0} is in use by another Tandem that runs")]
    Taken(PathBuf),
}

/// The folders of this layout.
#[derive(Clone, Debug)]
pub struct Pins {
    folder: PathBuf,
    /// Nobody else opens these pins meanwhile.
    lock: Arc<Mutex<Arc<Lock>>>,
}

/// A lock on a folder, which goes with this value, and with the process.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    /// The numbers of the file system and of the folder.
    folder: (u64, u64),
}

impl Lock {
    fn is_of(&self, folder: &Path) -> bool {
        fs::metadata(folder).is_ok_and(|now| (now.dev(), now.ino()) == self.folder)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A child that is just being started may have the file too, so closing it here would not be enough.
        let _: io::Result<()> = self.file.unlock();
    }
}

/// The locks of this process: one that opens its pins again is not another one.
static LOCKS: Mutex<Vec<Weak<Lock>>> = Mutex::new(Vec::new());

impl Pins {
    /// The pins below a folder of a BPF file system. The folder is made if it is missing; its parent must be there.
    pub fn open(folder: &Path) -> Result<Self, PinError> {
        let parent = mount::parent(folder);
        if !mount::is_bpf(parent).map_err(|error| PinError::Folder(parent.to_owned(), error))? {
            return Err(PinError::NotBpf(parent.to_owned()));
        }
        if let Some(newer) = newest_above(folder)? {
            return Err(PinError::Newer(newer));
        }
        fs::create_dir_all(folder).map_err(|error| PinError::Folder(folder.to_owned(), error))?;
        let pins = Self {
            folder: folder.join(format!("v{VERSION}")),
            lock: Arc::new(Mutex::new(lock(folder)?)),
        };
        pins.make()?;
        Ok(pins)
    }

    /// Makes the folders, if they are not there.
    pub(crate) fn make(&self) -> Result<(), PinError> {
        for folder in [self.maps(), self.links()] {
            fs::create_dir_all(&folder).map_err(|error| PinError::Folder(folder, error))?;
        }
        // Somebody may have deleted the folder that was locked. Nobody else may take this one.
        let root = self.folder.parent().unwrap_or(&self.folder);
        let mut locked = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if !locked.is_of(root) {
            *locked = lock(root)?;
        }
        Ok(())
    }

    /// The folders of another layout. They are not made.
    pub(crate) fn of_layout(&self, layout: u32) -> Self {
        let root = self.folder.parent().unwrap_or(&self.folder);
        Self {
            folder: root.join(format!("v{layout}")),
            lock: Arc::clone(&self.lock),
        }
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
        // The kernel frees a link that has no name any more in its own time. Until then, its program answers.
        link::detach(&pin);
        match fs::remove_file(&pin) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(PinError::Folder(pin, error)),
            _ => Ok(()),
        }
    }

    /// Removes all pins of this layout, and the folders. Whatever they held goes once nobody uses it. These links go first:
    /// what the others show must not outlast what these do.
    pub(crate) fn remove(&self, first: &[&str]) -> Result<(), PinError> {
        for name in first {
            self.remove_link(name)?;
        }
        for folder in [self.links(), self.maps()] {
            let failed = |error| PinError::Folder(folder.clone(), error);
            for entry in fs::read_dir(&folder).map_err(failed)? {
                let path = entry.map_err(failed)?.path();
                if folder == self.links() {
                    link::detach(&path);
                }
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

/// Locks a folder, so that two agents never write to the same maps.
pub(crate) fn lock(folder: &Path) -> Result<Arc<Lock>, PinError> {
    let failed = |error| PinError::Folder(folder.to_owned(), error);
    let file = File::open(folder).map_err(failed)?;
    let numbers = file.metadata().map_err(failed)?;
    let numbers = (numbers.dev(), numbers.ino());
    let mut locks = LOCKS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(lock) = locks
        .iter()
        .filter_map(Weak::upgrade)
        .find(|lock| lock.folder == numbers)
    {
        return Ok(lock);
    }
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(PinError::Taken(folder.to_owned())),
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    let lock = Arc::new(Lock { file, folder: numbers });
    locks.retain(|lock| lock.strong_count() > 0);
    locks.push(Arc::downgrade(&lock));
    Ok(lock)
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
