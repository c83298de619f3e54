//! The files of the folder: which were read, what they hold, and which file counts if two define one object.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tandem_core::object::ObjectKey;

use super::documents::Format;
use super::manifest;
use crate::event::ObjectKind;
use crate::source::decode::{Decoder, Outcome};

/// The manifests of one folder.
#[derive(Debug)]
pub(super) struct Files {
    path: PathBuf,
    /// Device and inode of the folder that was read. If a file goes from this folder, it is gone. If another folder
    /// takes its place and lacks the file, the file may only be out of sight, for example because a mount is missing.
    home: Option<(u64, u64)>,
    decoder: Decoder,
    by_name: BTreeMap<OsString, File>,
    changed: bool,
    hasher: RandomState,
    /// Pairs of files that define one object, and the object. Each was reported once.
    contested: BTreeSet<(OsString, OsString, ObjectKind, ObjectKey)>,
    /// Kinds that were reported as skipped.
    skipped: BTreeSet<String>,
    /// Files whose faults have changed.
    said: BTreeSet<OsString>,
}

#[derive(Debug, Default)]
struct File {
    /// A hash of the text that was read, because many events come without a change. None if the file could not be read.
    text: Option<u64>,
    objects: Vec<Outcome>,
    /// The parts of it that cannot be read.
    faults: Vec<String>,
}

/// The message if a folder without manifests does not count as emptied.
const ANOTHER: &str = "another folder than was read before, and without a manifest (is a mount missing?); what was read \
                       stays until there is one (an empty FILE.yaml, if there is to be nothing)";

/// The largest number of skipped kinds that are reported.
const MOST_SKIPPED: usize = 64;

impl Files {
    pub(super) fn new(path: &Path, decoder: Decoder) -> Self {
        Self {
            path: path.to_owned(),
            home: None,
            decoder,
            by_name: BTreeMap::new(),
            changed: false,
            hasher: RandomState::new(),
            contested: BTreeSet::new(),
            skipped: BTreeSet::new(),
            said: BTreeSet::new(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether anything changed since the last call.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Whether the path leads to the folder that was read.
    pub(super) fn is_home(&self) -> bool {
        self.home.is_some() && self.place().ok() == self.home
    }

    /// Whether any manifest could be read, even an empty one.
    pub(super) fn any(&self) -> bool {
        self.by_name.values().any(|file| file.text.is_some())
    }

    fn place(&self) -> io::Result<(u64, u64)> {
        let found = self.path.metadata()?;
        Ok((found.dev(), found.ino()))
    }

    /// Reads the whole folder again. If that is not possible, or if it is another folder and has no manifests,
    /// everything stays.
    pub(super) fn read_all(&mut self) -> io::Result<()> {
        let place = self.place()?;
        let mut names = BTreeSet::new();
        for entry in self.path.read_dir()? {
            names.insert(entry?.file_name());
        }
        if self.place()? != place {
            return Err(io::Error::other("replaced while it was read"));
        }
        let known = !self.by_name.is_empty() && self.home != Some(place);
        if known && !names.iter().any(|name| Format::of(Path::new(name)).is_some()) {
            return Err(io::Error::other(ANOTHER));
        }
        self.home = Some(place);
        names.extend(self.by_name.keys().cloned());
        for name in names {
            self.read_one(&name);
        }
        Ok(())
    }

    /// The files whose faults changed since the last call, each with its present faults. The list is empty for a file
    /// that is repaired or gone.
    pub(super) fn take_faults(&mut self) -> Vec<(Box<str>, Vec<String>)> {
        let names = std::mem::take(&mut self.said).into_iter();
        names
            .map(|name| {
                let faults = self.by_name.get(&name).map(|file| file.faults.clone());
                (name.to_string_lossy().into(), faults.unwrap_or_default())
            })
            .collect()
    }

    /// Reads one file again, or notices that it is gone.
    pub(super) fn read_one(&mut self, name: &OsStr) {
        let Some(format) = Format::of(Path::new(name)) else {
            return;
        };
        let path = self.path.join(name);
        let text = match read_file(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Ok(found) = path.symlink_metadata() {
                    if found.is_symlink() {
                        self.faulty(name, None, true, &["a link that leads nowhere".to_owned()]);
                    }
                    // If it exists again, an event says when it is complete.
                } else if self.is_home()
                    && let Some(file) = self.by_name.remove(name)
                {
                    tracing::info!("{}: gone, its objects are removed", path.display());
                    self.changed = true;
                    if !file.faults.is_empty() {
                        self.said.insert(name.to_owned());
                    }
                }
                return;
            }
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => return,
            Err(error) => return self.faulty(name, None, true, &[error.to_string()]),
        };
        let hash = self.hasher.hash_one(&text);
        let known = self.by_name.get(name);
        if known.is_some_and(|known| known.text == Some(hash)) {
            return;
        }
        let had = known.map_or(0, |known| known.objects.len());
        let manifest = match std::str::from_utf8(&text) {
            Ok(text) => manifest::parse(&self.decoder, format, text.trim_start_matches('\u{feff}')),
            Err(error) => return self.faulty(name, Some(hash), true, &[format!("not UTF-8: {error}")]),
        };
        for kind in manifest.skipped {
            if self.skipped.len() < MOST_SKIPPED && self.skipped.insert(kind.clone()) {
                tracing::warn!("{}: {kind} is not read, here or elsewhere", path.display());
            }
        }
        if manifest.faults.is_empty() || had == 0 {
            let file = self.by_name.entry(name.to_owned()).or_default();
            file.objects = manifest.objects;
            self.changed = true;
        }
        let faults: Vec<String> = manifest.faults.iter().map(ToString::to_string).collect();
        self.faulty(name, Some(hash), had > 0, &faults);
    }

    /// Stores the faults of a file, and logs the new ones.
    fn faulty(&mut self, name: &OsStr, text: Option<u64>, kept: bool, faults: &[String]) {
        let stays = if kept {
            "the file's last good content stays"
        } else {
            "the rest of the file is used"
        };
        let file = self.by_name.entry(name.to_owned()).or_default();
        file.text = text;
        let faults: Vec<String> = faults.iter().map(|fault| format!("{fault}; {stays}")).collect();
        if file.faults == faults {
            return;
        }
        for fault in faults.iter().filter(|fault| !file.faults.contains(fault)) {
            tracing::error!("{}: {fault}", self.path.join(name).display());
        }
        file.faults = faults;
        self.said.insert(name.to_owned());
    }

    /// All objects. If several files define one, the first file by name counts.
    pub(super) fn objects(&mut self) -> BTreeMap<(ObjectKind, ObjectKey), &Outcome> {
        let mut objects: BTreeMap<(ObjectKind, ObjectKey), &Outcome> = BTreeMap::new();
        let mut owners: BTreeMap<(ObjectKind, ObjectKey), &OsString> = BTreeMap::new();
        for (name, file) in &self.by_name {
            for outcome in &file.objects {
                let id = (outcome.decoded.kind(), outcome.decoded.key());
                match owners.entry(id.clone()) {
                    Entry::Vacant(vacant) => {
                        vacant.insert(name);
                        objects.insert(id, outcome);
                    }
                    Entry::Occupied(owner) => {
                        let (kind, key) = id;
                        let owner = *owner.get();
                        if self.contested.insert((owner.clone(), name.clone(), kind, key.clone())) {
                            let (owner, name) = (owner.display(), name.display());
                            tracing::warn!("{kind} {key} is in {owner} and again in {name}: the first is used");
                        }
                    }
                }
            }
        }
        objects
    }
}

/// Reads a file. It refuses a pipe, because nobody may ever write to it, and a device, because it might never end.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let found = std::fs::metadata(path)?;
    if !found.is_file() && !found.is_dir() {
        return Err(io::Error::other("not a file"));
    }
    std::fs::read(path)
}
