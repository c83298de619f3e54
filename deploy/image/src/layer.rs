//! The files of an image as one compressed tar.

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::Path;

use flate2::{Compression as Level, GzBuilder, write::GzEncoder};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use crate::error::Error;
use crate::image::{Compression, Created};
use crate::path::ImagePath;
use crate::tree::{Entry, HostFile, Mode, Tree};

/// What was written.
pub(crate) struct Written {
    /// The digest of the file, which is compressed or not.
    pub(crate) digest: String,
    pub(crate) size: u64,
    /// The digest of the tar inside.
    pub(crate) diff_id: String,
    pub(crate) unpacked: u64,
}

/// Writes all files to `path`, which is made anew. What does not depend on the tree depends on `created` alone.
pub(crate) fn write(path: &Path, tree: &Tree, created: Created, compression: Compression) -> Result<Written, Error> {
    let file = File::create(path).map_err(Error::file("write", path))?;
    let outer = Hashed::new(io::BufWriter::new(file));
    let mut builder = Builder::new(Hashed::new(Packer::new(outer, compression)));
    for (at, entry) in tree.complete() {
        append(&mut builder, path, &at, &entry, created)?;
    }
    let inner = builder.into_inner().map_err(Error::file("write", path))?;
    let (packer, diff_id, unpacked) = inner.finish();
    let outer = packer.finish().map_err(Error::file("write", path))?;
    let (mut file, digest, size) = outer.finish();
    file.flush().map_err(Error::file("write", path))?;
    Ok(Written {
        digest,
        size,
        diff_id,
        unpacked,
    })
}

fn append<W: Write>(
    builder: &mut Builder<W>,
    layer: &Path,
    at: &ImagePath,
    entry: &Entry,
    created: Created,
) -> Result<(), Error> {
    let written = match entry {
        Entry::Folder(mode) => {
            let mut header = header(EntryType::Directory, *mode, 0, created);
            builder.append_data(&mut header, at.in_tar() + "/", io::empty())
        }
        Entry::Bytes(mode, bytes) => {
            let mut header = header(EntryType::Regular, *mode, bytes.len() as u64, created);
            builder.append_data(&mut header, at.in_tar(), bytes.as_slice())
        }
        Entry::Link(target) => {
            let mut header = header(EntryType::Symlink, Mode::from_bits(0o777), 0, created);
            builder.append_link(&mut header, at.in_tar(), target)
        }
        Entry::Host(mode, host) => return append_host(builder, layer, at, *mode, host, created),
    };
    written.map_err(Error::file("write", layer))
}

/// Adds a file of this machine. It must still have the size that the entry was made with, because the size comes first
/// in a tar.
fn append_host<W: Write>(
    builder: &mut Builder<W>,
    layer: &Path,
    at: &ImagePath,
    mode: Mode,
    host: &HostFile,
    created: Created,
) -> Result<(), Error> {
    let file = File::open(&host.path).map_err(Error::file("read", &host.path))?;
    let now = file.metadata().map_err(Error::file("read", &host.path))?.len();
    let changed = |after| Error::Changed {
        path: host.path.clone(),
        before: host.size,
        after,
    };
    if now != host.size {
        return Err(changed(now));
    }
    let mut exact = file.take(host.size);
    let mut header = header(EntryType::Regular, mode, host.size, created);
    builder
        .append_data(&mut header, at.in_tar(), &mut exact)
        .map_err(Error::file("write", layer))?;
    match exact.limit() {
        0 => Ok(()),
        missing => Err(changed(host.size - missing)),
    }
}

/// A header without anything that this machine adds: no user, no group, no device.
fn header(kind: EntryType, mode: Mode, size: u64, created: Created) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode.bits());
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(created.seconds());
    header.set_size(size);
    header
}

/// Counts what passes, and computes its digest.
pub(crate) struct Hashed<W> {
    inner: W,
    hash: Sha256,
    size: u64,
}

impl<W: Write> Hashed<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            size: 0,
        }
    }

    fn finish(self) -> (W, String, u64) {
        (self.inner, hexadecimal(&self.hash.finalize()), self.size)
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or(bytes));
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Compresses what passes, or does not.
enum Packer<W: Write> {
    Gzip(Box<GzEncoder<W>>),
    Off(W),
}

impl<W: Write> Packer<W> {
    fn new(inner: W, compression: Compression) -> Self {
        match compression {
            // without a time and a file name, which gzip would have from this machine
            Compression::Gzip => Self::Gzip(Box::new(GzBuilder::new().mtime(0).write(inner, Level::best()))),
            Compression::Off => Self::Off(inner),
        }
    }

    fn finish(self) -> io::Result<W> {
        match self {
            Self::Gzip(encoder) => encoder.finish(),
            Self::Off(inner) => Ok(inner),
        }
    }
}

impl<W: Write> Write for Packer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Off(inner) => inner.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.flush(),
            Self::Off(inner) => inner.flush(),
        }
    }
}

/// The digest of bytes, without the name of the algorithm.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
