//! The files of an image.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::path::ImagePath;

/// Who may read, write and execute an entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mode(u32);

impl Mode {
    /// Everyone reads it, and its owner writes it: `644`.
    pub const DATA: Self = Self(0o644);
    /// Everyone reads and executes it, or enters the folder: `755`.
    pub const PROGRAM: Self = Self(0o755);
    /// A folder in which everyone may make files of his own, as `/tmp`: `1777`.
    pub const SHARED: Self = Self(0o1777);

    /// The lowest twelve bits of a file's mode. Other bits are left away.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits & 0o7777)
    }

    /// The twelve bits.
    pub const fn bits(self) -> u32 {
        self.0
    }
}

/// What is at one path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Entry {
    /// A folder.
    Folder(Mode),
    /// A file with these bytes.
    Bytes(Mode, Vec<u8>),
    /// A file with the bytes of a file of this machine, which is read when the image is written.
    Host(Mode, HostFile),
    /// A symbolic link with its target, which may be relative and need not exist.
    Link(String),
}

/// A file of this machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HostFile {
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
}

impl HostFile {
    /// Refers to a file that exists.
    pub fn new(path: &Path) -> Result<Self, Error> {
        let metadata = fs::metadata(path).map_err(Error::file("read", path))?;
        if !metadata.is_file() {
            return Err(Error::Special(path.to_owned()));
        }
        Ok(Self {
            path: path.to_owned(),
            size: metadata.len(),
        })
    }
}

impl Entry {
    pub(crate) fn what(&self) -> &'static str {
        match self {
            Self::Folder(_) => "a folder",
            Self::Bytes(..) | Self::Host(..) => "a file",
            Self::Link(_) => "a symbolic link",
        }
    }
}

/// The files of an image, by their paths. Folders that are not given are made, with mode `755`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tree(BTreeMap<ImagePath, Entry>);

impl Tree {
    /// Adds a folder.
    pub fn folder(&mut self, path: &str, mode: Mode) -> Result<(), Error> {
        self.add(ImagePath::parse(path)?, Entry::Folder(mode))
    }

    /// Adds a file with these bytes.
    pub fn file(&mut self, path: &str, mode: Mode, bytes: impl Into<Vec<u8>>) -> Result<(), Error> {
        self.add(ImagePath::parse(path)?, Entry::Bytes(mode, bytes.into()))
    }

    /// Adds a file with the bytes of a file of this machine.
    pub fn host_file(&mut self, path: &str, mode: Mode, host: &Path) -> Result<(), Error> {
        self.add(ImagePath::parse(path)?, Entry::Host(mode, HostFile::new(host)?))
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) -> Result<(), Error> {
        if target.is_empty() || target.contains('\0') {
            return Err(Error::Target {
                path: path.to_owned(),
                target: target.to_owned(),
            });
        }
        self.add(ImagePath::parse(path)?, Entry::Link(target.to_owned()))
    }

    /// Adds an entry. An equal entry may be there already. Another entry, or one above it that is no folder, is an
    /// error: programs that unpack images differ in what they make of that.
    pub fn add(&mut self, path: ImagePath, entry: Entry) -> Result<(), Error> {
        let above = |parent: ImagePath| match self.0.get(&parent) {
            None | Some(Entry::Folder(_)) => Ok(()),
            Some(other) => Err(below(&path, &parent, other)),
        };
        path.parents().try_for_each(above)?;
        // What lies in a folder comes directly behind it.
        let next = self.0.range((Bound::Excluded(&path), Bound::Unbounded)).next();
        if !matches!(entry, Entry::Folder(_))
            && let Some((lower, _)) = next
            && lower.parents().any(|parent| parent == path)
        {
            return Err(below(lower, &path, &entry));
        }
        match self.0.get(&path) {
            Some(first) if *first != entry => Err(Error::Twice {
                path: path.to_string(),
                first: first.what(),
            }),
            _ => {
                self.0.insert(path, entry);
                Ok(())
            }
        }
    }

    /// Whether something was added at this path.
    pub fn contains(&self, path: &ImagePath) -> bool {
        self.0.contains_key(path)
    }

    /// How many entries are no folders.
    pub fn files(&self) -> usize {
        let no_folder = |entry: &&Entry| !matches!(entry, Entry::Folder(_));
        self.0.values().filter(no_folder).count()
    }

    /// All entries in their order, with the folders that they need.
    pub(crate) fn complete(&self) -> BTreeMap<ImagePath, Entry> {
        let mut all = self.0.clone();
        for parent in self.0.keys().flat_map(ImagePath::parents) {
            all.entry(parent).or_insert(Entry::Folder(Mode::PROGRAM));
        }
        all
    }
}

fn below(path: &ImagePath, above: &ImagePath, entry: &Entry) -> Error {
    Error::BelowNoFolder {
        path: path.to_string(),
        above: above.to_string(),
        what: entry.what(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(result: Result<(), Error>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn one_path_has_one_entry() {
        let mut tree = Tree::default();
        tree.file("/a/b", Mode::DATA, "one").unwrap();
        assert_eq!(
            said(tree.file("/a/b", Mode::DATA, "two")),
            "path /a/b in the image is given twice, first as a file"
        );
        assert_eq!(
            said(tree.link("/a/b", "c")),
            "path /a/b in the image is given twice, first as a file"
        );
        tree.file("/a/b", Mode::DATA, "one").unwrap();
        assert_eq!(tree.files(), 1);
    }

    #[test]
    fn nothing_lies_below_a_file_or_a_link_whichever_comes_first() {
        let mut tree = Tree::default();
        tree.file("/a/b", Mode::DATA, "").unwrap();
        tree.link("/lib", "usr/lib").unwrap();
        assert_eq!(
            said(tree.file("/a/b/c/d", Mode::DATA, "")),
            "path /a/b/c/d in the image lies below /a/b, which is a file"
        );
        assert_eq!(
            said(tree.folder("/lib/x", Mode::PROGRAM)),
            "path /lib/x in the image lies below /lib, which is a symbolic link"
        );
        assert_eq!(
            said(tree.link("/a", "b")),
            "path /a/b in the image lies below /a, which is a symbolic link"
        );
        tree.folder("/a", Mode::SHARED).unwrap();
    }

    #[test]
    fn a_file_of_this_machine_must_exist_and_be_a_file() {
        let mut tree = Tree::default();
        let error = said(tree.host_file("/a", Mode::DATA, Path::new("/no/such/file")));
        assert_eq!(error, "read /no/such/file: No such file or directory (os error 2)");
        let error = said(tree.host_file("/a", Mode::DATA, Path::new("/dev/null")));
        assert_eq!(error, "/dev/null is no file, folder or symbolic link");
    }

    #[test]
    fn a_link_has_a_target() {
        let mut tree = Tree::default();
        assert_eq!(
            said(tree.link("/a", "")),
            "link /a in the image: target \"\" is no path"
        );
    }
}
