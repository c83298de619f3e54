//! The folder's files: which were read, what they hold, and who has an object that two of them define.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};

use tandem_core::object::ObjectKey;

use super::documents::Format;
use super::manifest;
use crate::event::Kind;
use crate::source::decode::{Decoder, Outcome};

/// The manifests of one folder.
#[derive(Debug)]
pub(super) struct Files {
    path: PathBuf,
    decoder: Decoder,
    by_name: BTreeMap<OsString, File>,
    changed: bool,
    hasher: RandomState,
    /// Who was said to define an object that another file has: said once.
    contested: BTreeSet<(OsString, OsString, Kind, ObjectKey)>,
    /// Kinds that were said to be skipped.
    skipped: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct File {
    /// The text it was read from, hashed: many events come without a change.
    text: u64,
    objects: Vec<Outcome>,
}

impl Files {
    pub(super) fn new(path: &Path, decoder: Decoder) -> Self {
        Self {
            path: path.to_owned(),
            decoder,
            by_name: BTreeMap::new(),
            changed: false,
            hasher: RandomState::new(),
            contested: BTreeSet::new(),
            skipped: BTreeSet::new(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether anything changed since the last call.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Reads the whole folder again. Where that is not possible, everything stays.
    pub(super) fn read_all(&mut self) -> io::Result<()> {
        let mut names = BTreeSet::new();
        for entry in self.path.read_dir()? {
            names.insert(entry?.file_name());
        }
        names.extend(self.by_name.keys().cloned());
        for name in names {
            self.read_one(&name);
        }
        Ok(())
    }

    /// Reads one file again, or notices that it is gone.
    pub(super) fn read_one(&mut self, name: &OsStr) {
        let Some(format) = Format::of(Path::new(name)) else {
            return;
        };
        let path = self.path.join(name);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // The folder itself may be what is gone: then everything stays.
                if self.path.is_dir() && self.by_name.remove(name).is_some() {
                    tracing::info!("{}: gone, its objects are removed", path.display());
                    self.changed = true;
                }
                return;
            }
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => return,
            Err(error) => {
                tracing::error!("{}: {error}; its last good content stays", path.display());
                return;
            }
        };
        let hash = self.hasher.hash_one(&text);
        let known = self.by_name.get(name);
        if known.is_some_and(|known| known.text == hash) {
            return;
        }
        let had = known.map_or(0, |known| known.objects.len());
        let manifest = match std::str::from_utf8(&text) {
            Ok(text) => manifest::parse(&self.decoder, format, text.trim_start_matches('\u{feff}')),
            Err(error) => {
                tracing::error!("{}: not UTF-8: {error}; its last good content stays", path.display());
                self.by_name.entry(name.to_owned()).or_default().text = hash;
                return;
            }
        };
        for kind in manifest.skipped {
            if self.skipped.insert(kind.clone()) {
                tracing::warn!("{}: {kind} is not read, here or elsewhere", path.display());
            }
        }
        let file = self.by_name.entry(name.to_owned()).or_default();
        file.text = hash;
        if manifest.faults.is_empty() || had == 0 {
            file.objects = manifest.objects;
            self.changed = true;
        }
        let stays = if had > 0 {
            "its last good content stays"
        } else {
            "the rest of it is used"
        };
        for fault in manifest.faults {
            tracing::error!("{}: {fault}; {stays}", path.display());
        }
    }

    /// All objects, each as the first file by name has it.
    pub(super) fn objects(&mut self) -> BTreeMap<(Kind, ObjectKey), &Outcome> {
        let mut objects: BTreeMap<(Kind, ObjectKey), &Outcome> = BTreeMap::new();
        let mut owners: BTreeMap<(Kind, ObjectKey), &OsString> = BTreeMap::new();
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
