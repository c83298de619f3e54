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
    /// Files whose faults are not what they were.
    said: BTreeSet<OsString>,
}

#[derive(Debug, Default)]
struct File {
    /// The text it was read from, hashed: many events come without a change. None where it could not be read.
    text: Option<u64>,
    objects: Vec<Outcome>,
    /// What of it cannot be read.
    faults: Vec<String>,
}

/// More kinds that are not read are not said one by one.
const MOST_SKIPPED: usize = 64;

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

    /// What of which files cannot be read, where that changed since the last call; nothing where a file is mended or gone.
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
                // The folder itself may be what is gone: then everything stays.
                if self.path.is_dir()
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

    /// Notes what of a file cannot be read, and says it once.
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

/// Reads a file that is one: a pipe would be waited for, and a device might never end.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let found = std::fs::metadata(path)?;
    if !found.is_file() && !found.is_dir() {
        return Err(io::Error::other("not a file"));
    }
    std::fs::read(path)
}
