//! The `tandem-image` command: makes Tandem's image from what `scripts/image.sh` built.

mod licences;
mod metadata;
mod sbom;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use tandem_image::layout::{self, WrittenImage};
use tandem_image::product::{self, About, Documents};
use tandem_image::{Architecture, Created, Image, Named};

use crate::metadata::{IN_KERNEL, Metadata, PROGRAM};

/// Makes Tandem's image, as an OCI layout and as one tar of it.
///
/// For each processor, `--parts` has a folder with its name (amd64, arm64) and these files: `tandem`, the program;
/// `metadata.json`, from `cargo metadata`; `metadata-ebpf.json`, the same for the programs in the kernel; `sbom.json`, from `cargo cyclonedx`; and a folder `debian` with a file for each
/// of Debian's packages that is in the program. The file's name is the package's name and version, with `=` between them,
/// and it holds the package's copyright file.
#[derive(Parser)]
#[command(name = "tandem-image", version)]
struct Arguments {
    /// The folder with a folder for each processor.
    #[arg(long)]
    parts: PathBuf,
    /// The processors, for example `amd64,arm64`.
    #[arg(long, value_delimiter = ',', required = true)]
    archs: Vec<Architecture>,
    /// A folder with a file for each public authority.
    #[arg(long, default_value = "/usr/share/ca-certificates/mozilla")]
    authorities: PathBuf,
    /// The image's name in the layout.
    #[arg(long, default_value = concat!("localhost/tandem:", env!("CARGO_PKG_VERSION")))]
    name: String,
    /// The commit.
    #[arg(long)]
    revision: String,
    /// The time of everything in the image, in seconds since 1970.
    #[arg(long)]
    created: i64,
    /// Where the source is, as a URL.
    #[arg(long)]
    source: Option<String>,
    /// The folder for the layout. A layout that is there is replaced.
    #[arg(long)]
    layout: PathBuf,
    /// The tar of the layout.
    #[arg(long)]
    archive: PathBuf,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tandem-image: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let created = Created::from_seconds(arguments.created)?;
    let about = About {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: arguments.revision.clone(),
        source: arguments.source.clone(),
    };
    let authorities = authorities(&arguments.authorities)?;
    let mut images = Vec::new();
    let mut components = BTreeSet::new();
    for architecture in &arguments.archs {
        let parts = arguments.parts.join(architecture.name());
        let (image, named) = part(&parts, *architecture, &authorities, &about, created)
            .with_context(|| format!("making the image for {}", architecture.name()))?;
        images.push(image);
        components.extend(named);
    }
    let written = layout::write(&arguments.layout, &[Named::new(&arguments.name, images)?])?;
    layout::archive(&arguments.layout, &arguments.archive)?;
    for name in &written {
        name.platforms.iter().for_each(report);
        // It is the same number for every processor.
        if let Some(image) = name.platforms.first() {
            println!("image_files: {}", image.files);
        }
        println!("sbom_components: {}", components.len());
        println!("image_name: {}", name.name);
        println!("image_digest: {}", name.digest);
    }
    Ok(())
}

/// Makes the image for one processor. Returns it with the names of all that is in it.
fn part(
    parts: &Path,
    architecture: Architecture,
    authorities: &[u8],
    about: &About,
    created: Created,
) -> Result<(Image, BTreeSet<String>)> {
    let metadata = Metadata::read(&parts.join("metadata.json"))?;
    let programs = Metadata::read(&parts.join("metadata-ebpf.json"))?;
    let in_kernel = programs.others(IN_KERNEL)?;
    let mut others = metadata.others(PROGRAM)?;
    for package in &in_kernel {
        if !others.iter().any(|one| one.is_same(package)) {
            others.push(package);
        }
    }
    others.sort_by_key(|package| (&package.name, &package.version));
    let debian = sbom::debian(&parts.join("debian"))?;
    let (sbom, names) = sbom::complete(&parts.join("sbom.json"), &metadata, &in_kernel, &debian, architecture)?;
    let documents = Documents {
        authorities: authorities.to_owned(),
        licences: licences::text(&others, &debian)?.into_bytes(),
        sbom,
    };
    // Beside the layout too, for whoever does not want to unpack it.
    for (name, bytes) in [
        ("licences.txt", &documents.licences),
        ("sbom.cdx.json", &documents.sbom),
    ] {
        let path = parts.join(name);
        fs::write(&path, bytes).with_context(|| format!("write {}", path.display()))?;
    }
    let image = product::image(&parts.join("tandem"), architecture, &documents, about, created)?;
    Ok((image, names))
}

/// The certificates of all files of a folder, in the order of their names. The file that this machine made of them may
/// have certificates that its administrator added.
fn authorities(folder: &Path) -> Result<Vec<u8>> {
    let reading = || format!("read {}", folder.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(reading)? {
        paths.push(entry.with_context(reading)?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "crt"));
    ensure!(!paths.is_empty(), "{} has no file *.crt", folder.display());
    paths.sort();
    let mut all = Vec::new();
    for path in paths {
        all.extend(fs::read(&path).with_context(|| format!("read {}", path.display()))?);
        if !all.ends_with(b"\n") {
            all.push(b'\n');
        }
    }
    Ok(all)
}

/// Prints the figures of one processor. A megabyte has a million bytes.
fn report(image: &WrittenImage) {
    let megabytes = |bytes: u64| {
        let tenths = bytes.div_ceil(100_000);
        format!("{}.{}", tenths / 10, tenths % 10)
    };
    let name = image.architecture.name();
    println!("image_{name}_mb: {}", megabytes(image.stored));
    println!("image_unpacked_{name}_mb: {}", megabytes(image.unpacked));
}
