//! Images as an OCI layout: a folder with `oci-layout`, `index.json` and `blobs/sha256/`.
//!
//! Each name in `index.json` leads to an index of its own, which has a manifest for each processor. So the digest of a
//! name is the digest that a registry gives to it.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use oci_spec::image::{
    ANNOTATION_REF_NAME, Arch, ConfigBuilder, Descriptor, DescriptorBuilder, Digest, ImageConfigurationBuilder,
    ImageIndexBuilder, ImageManifestBuilder, MediaType, OciLayoutBuilder, Os, PlatformBuilder, RootFsBuilder,
    SCHEMA_VERSION,
};
use serde::Serialize;

use crate::error::Error;
use crate::image::{Architecture, Compression, Config, Image, Named};
use crate::layer::{self, sha256};
use crate::name::Name;

/// The annotation by which `ctr images import` names an image. It takes the other one only as a tag.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// What was written under one name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WrittenName {
    /// The name.
    pub name: Name,
    /// The digest of its index, as `sha256:…`.
    pub digest: String,
    /// One for each processor.
    pub platforms: Vec<WrittenImage>,
}

/// What was written for one processor.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WrittenImage {
    /// The processor.
    pub architecture: Architecture,
    /// The digest of its manifest, as `sha256:…`.
    pub digest: String,
    /// The bytes that a node fetches: the files as they are stored, the configuration and the manifest.
    pub stored: u64,
    /// The bytes of the tar of its files.
    pub unpacked: u64,
    /// How many files and links it has, without folders.
    pub files: usize,
}

/// Writes images to a folder. An OCI layout that is there is replaced. Anything else there is an error.
pub fn write(folder: &Path, images: &[Named]) -> Result<Vec<WrittenName>, Error> {
    let mut names = BTreeSet::new();
    if let Some(twice) = images.iter().find(|named| !names.insert(&named.name)) {
        return Err(Error::TwiceNamed {
            name: twice.name.to_string(),
            what: "the name".to_owned(),
        });
    }
    let store = Store::begin(folder)?;
    let mut written = Vec::new();
    let mut descriptors = Vec::new();
    for named in images {
        let (name, descriptor) = store.name(named)?;
        written.push(name);
        descriptors.push(descriptor);
    }
    // Last, so nobody reads a layout that was not finished.
    store.file(INDEX, &json(&index(descriptors)?)?)?;
    Ok(written)
}

/// Packs a layout into one tar, as `ctr images import` and `skopeo copy oci-archive:` read it.
pub fn archive(layout: &Path, tar: &Path) -> Result<(), Error> {
    if ![MARK, INDEX].iter().all(|name| layout.join(name).is_file()) {
        return Err(Error::NoLayout(layout.to_owned()));
    }
    let out = File::create(tar).map_err(Error::file("write", tar))?;
    let mut builder = tar::Builder::new(io::BufWriter::new(out));
    let mut names = vec![MARK.to_owned(), INDEX.to_owned()];
    let blobs = layout.join(BLOBS);
    let mut digests = fs::read_dir(&blobs)
        .and_then(Iterator::collect::<io::Result<Vec<_>>>)
        .map_err(Error::file("read", &blobs))?;
    digests.sort_by_key(fs::DirEntry::file_name);
    names.extend(
        digests
            .iter()
            .map(|entry| format!("{BLOBS}/{}", entry.file_name().display())),
    );
    for name in names {
        let path = layout.join(&name);
        let file = File::open(&path).map_err(Error::file("read", &path))?;
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(file.metadata().map_err(Error::file("read", &path))?.len());
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        builder
            .append_data(&mut header, &name, file)
            .map_err(Error::file("write", tar))?;
    }
    let mut out = builder.into_inner().map_err(Error::file("write", tar))?;
    out.flush().map_err(Error::file("write", tar))
}

/// The file that tells a layout from other folders.
const MARK: &str = "oci-layout";
const INDEX: &str = "index.json";
const BLOBS: &str = "blobs/sha256";

/// A layout that is being written.
struct Store<'a>(&'a Path);

impl<'a> Store<'a> {
    /// Makes the folder, or empties the layout that is there.
    fn begin(folder: &'a Path) -> Result<Self, Error> {
        let blobs = folder.join(BLOBS);
        let empty = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(Error::file("read", folder)(error)),
            Ok(mut entries) => entries.next().is_none(),
        };
        if !empty {
            if !folder.join(MARK).is_file() {
                return Err(Error::NoLayout(folder.to_owned()));
            }
            remove(&folder.join(INDEX), |path| fs::remove_file(path))?;
            remove(&blobs, |path| fs::remove_dir_all(path))?;
        }
        fs::create_dir_all(&blobs).map_err(Error::file("make", &blobs))?;
        let store = Self(folder);
        let mark = OciLayoutBuilder::default()
            .image_layout_version("1.0.0")
            .build()
            .map_err(Error::document)?;
        store.file(MARK, &json(&mark)?)?;
        Ok(store)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.0.join(name);
        fs::write(&path, bytes).map_err(Error::file("write", &path))
    }

    fn blob(&self, digest: &str) -> PathBuf {
        self.0.join(BLOBS).join(digest)
    }

    /// Stores a document, and describes it.
    fn document(&self, media: MediaType, value: &impl Serialize) -> Result<Descriptor, Error> {
        let bytes = json(value)?;
        let digest = sha256(&bytes);
        self.file(&format!("{BLOBS}/{digest}"), &bytes)?;
        describe(media, &digest, bytes.len() as u64)
    }

    fn name(&self, named: &Named) -> Result<(WrittenName, Descriptor), Error> {
        let mut platforms = Vec::new();
        let mut manifests = Vec::new();
        for image in &named.images {
            let (written, mut descriptor) = self.image(image)?;
            let platform = PlatformBuilder::default()
                .architecture(arch(image.architecture))
                .os(Os::Linux)
                .build()
                .map_err(Error::document)?;
            descriptor.set_platform(Some(platform));
            platforms.push(written);
            manifests.push(descriptor);
        }
        let mut descriptor = self.document(MediaType::ImageIndex, &index(manifests)?)?;
        let name = named.name.clone();
        let digest = descriptor.digest().to_string();
        let annotations = [ANNOTATION_REF_NAME, CONTAINERD_NAME].map(|key| (key.to_owned(), name.to_string()));
        descriptor.set_annotations(Some(annotations.into()));
        let written = WrittenName {
            name,
            digest,
            platforms,
        };
        Ok((written, descriptor))
    }

    fn image(&self, image: &Image) -> Result<(WrittenImage, Descriptor), Error> {
        let (layer, unpacked, diff_id) = self.layer(image)?;
        let config = ImageConfigurationBuilder::default()
            .created(image.created.text())
            .architecture(arch(image.architecture))
            .os(Os::Linux)
            .config(config(&image.config)?)
            .rootfs(
                RootFsBuilder::default()
                    .typ("layers")
                    .diff_ids([diff_id])
                    .build()
                    .map_err(Error::document)?,
            )
            .build()
            .map_err(Error::document)?;
        let config = self.document(MediaType::ImageConfig, &config)?;
        let mut stored = layer.size() + config.size();
        let manifest = ImageManifestBuilder::default()
            .schema_version(SCHEMA_VERSION)
            .media_type(MediaType::ImageManifest)
            .config(config)
            .layers([layer])
            .build()
            .map_err(Error::document)?;
        let manifest = self.document(MediaType::ImageManifest, &manifest)?;
        stored += manifest.size();
        let written = WrittenImage {
            architecture: image.architecture,
            digest: manifest.digest().to_string(),
            stored,
            unpacked,
            files: image.tree.files(),
        };
        Ok((written, manifest))
    }

    /// Stores the files. Returns their descriptor, the size of the tar inside and its digest.
    fn layer(&self, image: &Image) -> Result<(Descriptor, u64, String), Error> {
        // The name is known only when everything is written.
        let unfinished = self.blob("unfinished");
        let written = layer::write(&unfinished, &image.tree, image.created, image.compression)?;
        let path = self.blob(&written.digest);
        fs::rename(&unfinished, &path).map_err(Error::file("write", &path))?;
        let media = match image.compression {
            Compression::Gzip => MediaType::ImageLayerGzip,
            Compression::Off => MediaType::ImageLayer,
        };
        let descriptor = describe(media, &written.digest, written.size)?;
        Ok((descriptor, written.unpacked, format!("sha256:{}", written.diff_id)))
    }
}

fn remove(path: &Path, by: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), Error> {
    match by(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::file("remove", path)(error)),
        _ => Ok(()),
    }
}

const fn arch(architecture: Architecture) -> Arch {
    match architecture {
        Architecture::Amd64 => Arch::Amd64,
        Architecture::Arm64 => Arch::ARM64,
    }
}

fn config(config: &Config) -> Result<oci_spec::image::Config, Error> {
    let mut builder = ConfigBuilder::default();
    if !config.entrypoint.is_empty() {
        builder = builder.entrypoint(config.entrypoint.clone());
    }
    if !config.cmd.is_empty() {
        builder = builder.cmd(config.cmd.clone());
    }
    if !config.env.is_empty() {
        let pairs = config.env.iter().map(|(key, value)| format!("{key}={value}"));
        builder = builder.env(pairs.collect::<Vec<String>>());
    }
    if !config.labels.is_empty() {
        builder = builder.labels(config.labels.clone().into_iter().collect::<HashMap<_, _>>());
    }
    if let Some(user) = &config.user {
        builder = builder.user(user.as_str());
    }
    if let Some(folder) = &config.working_dir {
        builder = builder.working_dir(folder.to_string());
    }
    builder.build().map_err(Error::document)
}

fn index(manifests: Vec<Descriptor>) -> Result<oci_spec::image::ImageIndex, Error> {
    ImageIndexBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageIndex)
        .manifests(manifests)
        .build()
        .map_err(Error::document)
}

fn describe(media: MediaType, digest: &str, size: u64) -> Result<Descriptor, Error> {
    DescriptorBuilder::default()
        .media_type(media)
        .digest(Digest::from_str(&format!("sha256:{digest}")).map_err(Error::document)?)
        .size(size)
        .build()
        .map_err(Error::document)
}

/// JSON with sorted keys. The structures of the specification have maps without an order, so a value is made first.
fn json(value: &impl Serialize) -> Result<Vec<u8>, Error> {
    let mut value = serde_json::to_value(value).map_err(Error::document)?;
    value.sort_all_objects();
    serde_json::to_vec(&value).map_err(Error::document)
}

#[cfg(test)]
mod tests;
