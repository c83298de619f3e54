//! The images of the tests, made of programs of this build and of this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, ensure};
use tandem_image::image::Compression;
use tandem_image::{Architecture, Config, Created, Image, Named, Tree, host, layout};

use crate::cluster::binary;
use crate::tandem::{self, beside};

/// The registry of all images.
pub const REGISTRY: &str = "registry.tandem.test";
/// The image of each Pod's first container.
pub const PAUSE: &str = "registry.tandem.test/pause:1";
/// A server that says its name.
pub const WHOAMI: &str = "registry.tandem.test/whoami:1";
/// The tag of kube-proxy's image, as kubeadm gives it.
pub const KUBERNETES: &str = "v1.36.3";

/// The programs that kube-proxy calls, as links to one program.
const IPTABLES: [&str; 6] = [
    "iptables",
    "iptables-save",
    "iptables-restore",
    "ip6tables",
    "ip6tables-save",
    "ip6tables-restore",
];

/// `pause` of this build.
pub fn pause() -> Result<Named> {
    program(PAUSE, "/pause", &beside("pause")?)
}

/// `whoami` of this build.
pub fn whoami() -> Result<Named> {
    program(WHOAMI, "/whoami", &beside("whoami")?)
}

/// The real kube-proxy, with nft and iptables of this machine. Its name is the one that kubeadm uses.
pub fn kube_proxy() -> Result<Named> {
    let multi = of_machine("xtables-nft-multi")?;
    let nft = of_machine("nft")?;
    let mut tree = Tree::default();
    host::add(&mut tree, &[&binary()?, &multi, &nft, &extensions()?])?;
    tree.link("/usr/local/bin/kube-proxy", &binary()?.display().to_string())?;
    for name in IPTABLES {
        tree.link(&format!("/usr/local/sbin/{name}"), &multi.display().to_string())?;
    }
    let path = format!("/usr/local/sbin:/usr/local/bin:{}", folder_of(&nft)?.display());
    let config = Config {
        entrypoint: vec!["/usr/local/bin/kube-proxy".to_owned()],
        env: [("PATH".to_owned(), path)].into(),
        ..Config::default()
    };
    named(&format!("{REGISTRY}/kube-proxy:{KUBERNETES}"), tree, config)
}

/// The layout of the project's own image, if `TANDEM_IMAGE` names one.
pub fn own_layout() -> Option<PathBuf> {
    std::env::var_os("TANDEM_IMAGE").map(PathBuf::from)
}

/// The name of Tandem's image with this tag.
pub fn tandem_name(tag: &str) -> String {
    format!("{REGISTRY}/tandem:{tag}")
}

/// Tandem of this build with the libraries that it needs, under this tag. Its programs have the paths that they have in
/// the project's own image.
pub fn tandem(tag: &str) -> Result<Named> {
    let mut tree = Tree::default();
    let program = tandem::binary()?;
    host::add(&mut tree, &[&program])?;
    tree.link("/usr/local/bin/tandem", &program.display().to_string())?;
    tree.link("/usr/local/bin/kube-proxy", "tandem")?;
    let config = Config {
        entrypoint: vec!["/usr/local/bin/tandem".to_owned()],
        env: [("PATH".to_owned(), "/usr/local/bin".to_owned())].into(),
        // Another tag is another image.
        labels: [("org.opencontainers.image.version".to_owned(), tag.to_owned())].into(),
        ..Config::default()
    };
    named(&tandem_name(tag), tree, config)
}

/// An image in Tandem's place whose program ends at once with an error.
pub fn crashing(tag: &str) -> Result<Named> {
    program(
        &format!("{REGISTRY}/tandem:{tag}"),
        "/usr/local/bin/tandem",
        &beside("whoami")?,
    )
}

/// An image in Tandem's place for a processor that this machine does not have.
pub fn foreign(tag: &str) -> Result<Named> {
    let other = match Architecture::HERE {
        Architecture::Amd64 => Architecture::Arm64,
        Architecture::Arm64 => Architecture::Amd64,
    };
    let image = Image::new(Tree::default(), Config::default(), other, Created::from_seconds(0)?);
    Ok(Named::new(&tandem_name(tag), vec![image])?)
}

/// Writes images into one OCI archive in this folder.
pub fn archive(folder: &Path, images: &[Named]) -> Result<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("images-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let (images_folder, archive) = (folder.join(&name), folder.join(format!("{name}.tar")));
    layout::write(&images_folder, images)?;
    layout::archive(&images_folder, &archive)?;
    fs::remove_dir_all(&images_folder).with_context(|| format!("remove {}", images_folder.display()))?;
    Ok(archive)
}

/// An image of one program with the libraries that it needs.
fn program(name: &str, at: &str, path: &Path) -> Result<Named> {
    ensure!(
        path.exists(),
        "{} is not there: build it with `cargo build --workspace --bins`, or use make",
        path.display()
    );
    let mut tree = Tree::default();
    host::add(&mut tree, &[path])?;
    tree.link(at, &path.display().to_string())?;
    let config = Config {
        entrypoint: vec![at.to_owned()],
        ..Config::default()
    };
    named(name, tree, config)
}

fn named(name: &str, tree: Tree, config: Config) -> Result<Named> {
    let image = Image::new(tree, config, Architecture::HERE, Created::from_seconds(0)?);
    // These images never leave the machine.
    Ok(Named::new(name, vec![image.compressed(Compression::Off)])?)
}

/// A program of this machine that only root needs.
fn of_machine(name: &str) -> Result<PathBuf> {
    let places = ["/usr/sbin", "/sbin"].map(|folder| Path::new(folder).join(name));
    let found = places.into_iter().find(|path| path.exists());
    found.with_context(|| format!("{name} is not there: install it with `make setup`"))
}

/// The folder of the extensions of iptables, which it loads when a rule needs one.
fn extensions() -> Result<PathBuf> {
    let libraries = Path::new("/usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
    let places = [libraries.join("xtables"), PathBuf::from("/usr/lib/xtables")];
    let found = places.into_iter().find(|path| path.is_dir());
    found.context("the extensions of iptables are not there: install iptables with `make setup`")
}

fn folder_of(path: &Path) -> Result<&Path> {
    path.parent()
        .with_context(|| format!("{} is in no folder", path.display()))
}
