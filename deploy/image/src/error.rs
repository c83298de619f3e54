//! Why an image was not made.

use std::io;
use std::path::{Path, PathBuf};

/// Why an image was not made. What was being written is then incomplete and has to be made anew.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A path inside the image is not absolute, or does not name one place.
    #[error("path {path:?} in the image: {reason}")]
    Path {
        /// The path as it was given.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Two different entries are at one path.
    #[error("path {path} in the image is given twice, first as {first}")]
    Twice {
        /// The path.
        path: String,
        /// What the first entry is.
        first: &'static str,
    },
    /// An entry lies below one that is no folder.
    #[error("path {path} in the image lies below {above}, which is {what}")]
    BelowNoFolder {
        /// The path.
        path: String,
        /// The entry above it.
        above: String,
        /// What that entry is.
        what: &'static str,
    },
    /// A symbolic link leads nowhere, because it has no target or one with a zero byte.
    #[error("link {path} in the image: target {target:?} is no path")]
    Target {
        /// The link.
        path: String,
        /// Its target as it was given.
        target: String,
    },
    /// A name of an image cannot be one.
    #[error("image name {name:?}: {reason}")]
    Name {
        /// The name as it was given.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Two images have the same name, or two platforms of one image are the same.
    #[error("image {name}: {what} is given twice")]
    TwiceNamed {
        /// The image.
        name: String,
        /// The name or the platform.
        what: String,
    },
    /// An image without any platform.
    #[error("image {0}: no platform is given")]
    NoPlatform(String),
    /// A processor that images cannot be made for.
    #[error("architecture {0:?} is not known: use amd64 or arm64")]
    Architecture(String),
    /// A time that no calendar has.
    #[error("created time {0} is not in the years 1970 to 9999")]
    Created(i64),
    /// A file of this machine could not be read or written.
    #[error("{doing} {}: {source}", path.display())]
    File {
        /// What was tried, for example `read`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of this machine became shorter or longer while it was read.
    #[error("{} had {before} bytes, and {after} when it was read", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// Its size when the entry was made.
        before: u64,
        /// What was read.
        after: u64,
    },
    /// A file of this machine is something that an image cannot have from it: a device, a socket, a pipe.
    #[error("{} is no file, folder or symbolic link", .0.display())]
    Special(PathBuf),
    /// A program of this machine needs a library that this machine does not have.
    #[error("{} needs the library {library}, which is not on this machine", program.display())]
    Library {
        /// The program.
        program: PathBuf,
        /// The library's name.
        library: String,
    },
    /// `ldd` did not say which libraries a program needs.
    #[error("ldd {}: {said}", program.display())]
    Ldd {
        /// The program.
        program: PathBuf,
        /// What it printed.
        said: String,
    },
    /// The folder for a layout holds something else.
    #[error("{} is no OCI layout: it is left as it is, remove it or choose another folder", .0.display())]
    NoLayout(PathBuf),
    /// A document of the OCI specification could not be built or written as JSON.
    #[error("describing the image: {0}")]
    Document(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    pub(crate) fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { doing, path, source }
    }

    pub(crate) fn document(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Document(source.into())
    }
}
