//! Tandem's own image: which files it has, and what its labels say.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::Error;
use crate::host;
use crate::image::{Architecture, Config, Created, Image};
use crate::tree::{Mode, Tree};

/// Where the program is. Its folder has a link for kubeadm's DaemonSet too, which starts `kube-proxy`.
pub const PROGRAM: &str = "/usr/local/bin/tandem";
const AS_KUBE_PROXY: &str = "/usr/local/bin/kube-proxy";
/// Where the TLS library looks for the certificates of public authorities, for a kubeconfig without any.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
const DOCUMENTS: &str = "/usr/share/doc/tandem";

/// What an image has beside the program.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Documents {
    /// The certificates of public authorities, as PEM.
    pub authorities: Vec<u8>,
    /// The licences of everything in the image.
    pub licences: Vec<u8>,
    /// The list of everything in the image, as CycloneDX JSON.
    pub sbom: Vec<u8>,
}

/// What the labels say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct About {
    /// The version, for example `0.1.0`.
    pub version: String,
    /// The commit. It ends with `-dirty` if the tree had changes.
    pub revision: String,
    /// Where the source is, as a URL.
    pub source: Option<String>,
}

/// Makes the image. If the program is not linked statically, the libraries that it needs are in the image too.
pub fn image(
    program: &Path,
    architecture: Architecture,
    documents: &Documents,
    about: &About,
    created: Created,
) -> Result<Image, Error> {
    let mut tree = Tree::default();
    host::program(&mut tree, PROGRAM, program)?;
    tree.link(AS_KUBE_PROXY, "tandem")?;
    tree.file(AUTHORITIES, Mode::DATA, documents.authorities.as_slice())?;
    tree.file(
        &format!("{DOCUMENTS}/licences.txt"),
        Mode::DATA,
        documents.licences.as_slice(),
    )?;
    tree.file(
        &format!("{DOCUMENTS}/sbom.cdx.json"),
        Mode::DATA,
        documents.sbom.as_slice(),
    )?;
    let config = Config {
        entrypoint: vec![PROGRAM.to_owned()],
        env: [("PATH".to_owned(), "/usr/local/bin".to_owned())].into(),
        labels: labels(about, created),
        ..Config::default()
    };
    Ok(Image::new(tree, config, architecture, created))
}

fn labels(about: &About, created: Created) -> BTreeMap<String, String> {
    let created = created.text();
    let known = [
        ("title", Some("tandem")),
        (
            "description",
            Some("Kubernetes Services on a node, IPv4 and IPv6 side by side: kube-proxy's work, on nftables"),
        ),
        ("version", Some(about.version.as_str())),
        ("revision", Some(about.revision.as_str())),
        ("created", Some(created.as_str())),
        ("licenses", Some("Apache-2.0 OR MIT")),
        ("source", about.source.as_deref()),
    ];
    let label = |(key, value): (&str, Option<&str>)| {
        value.map(|value| (format!("org.opencontainers.image.{key}"), value.to_owned()))
    };
    known.into_iter().filter_map(label).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_image_has_the_program_and_what_belongs_to_it_and_nothing_else() {
        let program = std::env::temp_dir().join(format!("tandem-product-{}", std::process::id()));
        std::fs::write(&program, "no ELF, so it needs no library").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let documents = Documents {
            authorities: Vec::new(),
            licences: Vec::new(),
            sbom: Vec::new(),
        };
        let about = About {
            version: "1.2.3".to_owned(),
            revision: "0123abc-dirty".to_owned(),
            source: Some("https://example.test/tandem".to_owned()),
        };
        let created = Created::from_seconds(1_700_000_000).unwrap();
        let image = image(&program, Architecture::Arm64, &documents, &about, created).unwrap();
        std::fs::remove_file(&program).unwrap();

        let paths: Vec<String> = image.tree.complete().keys().map(ToString::to_string).collect();
        assert_eq!(
            paths,
            [
                "/etc",
                "/etc/ssl",
                "/etc/ssl/certs",
                "/etc/ssl/certs/ca-certificates.crt",
                "/usr",
                "/usr/local",
                "/usr/local/bin",
                "/usr/local/bin/kube-proxy",
                "/usr/local/bin/tandem",
                "/usr/share",
                "/usr/share/doc",
                "/usr/share/doc/tandem",
                "/usr/share/doc/tandem/licences.txt",
                "/usr/share/doc/tandem/sbom.cdx.json",
            ]
        );
        let labels: Vec<String> = image
            .config
            .labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        assert_eq!(
            labels,
            [
                "org.opencontainers.image.created=2023-11-14T22:13:20Z",
                "org.opencontainers.image.description=Kubernetes Services on a node, IPv4 and IPv6 side by side: \
                 kube-proxy's work, on nftables",
                "org.opencontainers.image.licenses=Apache-2.0 OR MIT",
                "org.opencontainers.image.revision=0123abc-dirty",
                "org.opencontainers.image.source=https://example.test/tandem",
                "org.opencontainers.image.title=tandem",
                "org.opencontainers.image.version=1.2.3",
            ]
        );
        assert_eq!(image.config.entrypoint, [PROGRAM]);
    }
}
