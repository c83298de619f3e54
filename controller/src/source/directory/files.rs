//! The folder's files: which were read, what they hold, and who has an object that two of them define.

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
use crate::event::Kind;
use crate::source::decode::{Decoder, Outcome};

/// The manifests of one folder.
#[derive(Debug)]
pub(super) struct Files {
    path: PathBuf,
    /// Device and inode of the folder that was read: what goes from it is gone. What another one does not hold may only be
    /// out of sight, as where a mount is missing.
    home: Option<(u64, u64)>,
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

/// Why a folder without manifests is not taken for one that was emptied.
const ANOTHER: &str = "another folder than was read before, and without a manifest (is a mount missing?); what was read \
                       stays until there is one (an empty FILE.yaml, if there is to be nothing)";

/// More kinds that are not read are not said one by one.
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

    /// Whether any manifest could be read, however little it holds.
    pub(super) fn any(&self) -> bool {
        self.by_name.values().any(|file| file.text.is_some())
    }

    fn place(&self) -> io::Result<(u64, u64)> {
        let found = self.path.metadata()?;
        Ok((found.dev(), found.ino()))
    }

    /// Reads the whole folder again. Where that is not possible, or it is another one and without manifests, everything
    /// stays.
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
                if let Ok(found) = path.symlink_metadata() {
                    if found.is_symlink() {
                        self.faulty(name, None, true, &["a link that leads nowhere".to_owned()]);
                    }
                    // Else it is there again, and an event tells when it is complete.
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
