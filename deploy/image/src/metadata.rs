//! What `cargo metadata` says: the packages, and which of them become part of the program.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// The package whose program is in the image.
pub(crate) const PROGRAM: &str = "tandem";
/// The package of the programs in the kernel, which are in that program.
pub(crate) const IN_KERNEL: &str = "tandem-xdp-ebpf";

/// The answer of `cargo metadata`, as far as it is needed.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
    /// The folder of the workspace.
    pub(crate) workspace_root: String,
}

/// A package of the program.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    /// Its licences as an SPDX expression.
    pub(crate) license: Option<String>,
    manifest_path: PathBuf,
    /// Where it comes from. A package of the workspace has none.
    source: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    deps: Vec<Need>,
}

#[derive(Debug, Deserialize)]
struct Need {
    pkg: String,
    dep_kinds: Vec<NeedKind>,
}

#[derive(Debug, Deserialize)]
struct NeedKind {
    kind: Option<String>,
}

impl Metadata {
    /// Reads it from a file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let reading = || format!("read {}", path.display());
        let text = fs::read_to_string(path).with_context(reading)?;
        serde_json::from_str(&text).with_context(reading)
    }

    /// The packages of others that a program is built from, sorted by name and version. Macros are among them, because
    /// what they write becomes part of the program. What only tests or build scripts need is not.
    pub(crate) fn others(&self, of: &str) -> Result<Vec<&Package>> {
        let packages: BTreeMap<&str, &Package> = self.packages.iter().map(|one| (one.id.as_str(), one)).collect();
        let nodes: BTreeMap<&str, &Node> = self.resolve.nodes.iter().map(|one| (one.id.as_str(), one)).collect();
        let program = self.packages.iter().find(|one| one.name == of && one.source.is_none());
        let program = program.with_context(|| format!("cargo metadata has no package {of}"))?;
        let mut found = BTreeSet::new();
        let mut next = vec![program.id.as_str()];
        while let Some(id) = next.pop() {
            if found.insert(id) {
                let node = nodes
                    .get(id)
                    .with_context(|| format!("cargo metadata resolves no {id}"))?;
                let needed = node
                    .deps
                    .iter()
                    .filter(|need| need.dep_kinds.iter().any(|kind| kind.kind.is_none()));
                next.extend(needed.map(|need| need.pkg.as_str()));
            }
        }
        let mut others = Vec::new();
        for id in found {
            let package = packages
                .get(id)
                .with_context(|| format!("cargo metadata describes no {id}"))?;
            if package.source.is_some() {
                others.push(*package);
            }
        }
        others.sort_by(|one, other| (&one.name, &one.version).cmp(&(&other.name, &other.version)));
        Ok(others)
    }
}

impl Package {
    /// Whether this is the same package in the same version.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        (&self.name, &self.version) == (&other.name, &other.version)
    }

    /// The folder with its files.
    pub(crate) fn folder(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(Path::new("/"))
    }

    #[cfg(test)]
    pub(crate) fn sample(name: &str, license: &str, folder: &Path) -> Self {
        Self {
            id: name.to_owned(),
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            license: Some(license.to_owned()),
            manifest_path: folder.join("Cargo.toml"),
            source: Some("registry".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(value: Value) -> Metadata {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_only_tests_and_build_scripts_need_is_not_in_the_program() {
        let package = |name: &str, source: Option<&str>| json!({"id": name, "name": name, "version": "1.0.0", "license": "MIT", "manifest_path": "/x/Cargo.toml", "source": source});
        let need = |name: &str, kinds: &[Option<&str>]| {
            let kinds: Vec<Value> = kinds.iter().map(|kind| json!({"kind": kind})).collect();
            json!({"pkg": name, "dep_kinds": kinds})
        };
        let others = ["zlib", "both", "builds", "tests", "alone"].map(|name| package(name, Some("registry")));
        let ours = ["tandem", "tandem-core", "tandem-tests"].map(|name| package(name, None));
        let nodes = json!([
            {"id": "tandem", "deps": [
                need("tandem-core", &[None]), need("both", &[Some("dev"), None]), need("builds", &[Some("build")]),
                need("tests", &[Some("dev")]),
            ]},
            {"id": "tandem-core", "deps": [need("zlib", &[None])]},
            {"id": "tandem-tests", "deps": [need("alone", &[None]), need("tandem", &[None])]},
            {"id": "zlib", "deps": [need("both", &[None])]},
            {"id": "both", "deps": []},
        ]);
        let packages: Vec<Value> = others.into_iter().chain(ours).collect();
        let metadata = read(json!({"packages": packages, "resolve": {"nodes": nodes}, "workspace_root": "/x"}));
        let names: Vec<&str> = metadata
            .others(PROGRAM)
            .unwrap()
            .iter()
            .map(|one| one.name.as_str())
            .collect();
        assert_eq!(names, ["both", "zlib"]);
    }

    #[test]
    fn a_workspace_without_the_program_is_refused() {
        let metadata = read(json!({"packages": [], "resolve": {"nodes": []}, "workspace_root": "/x"}));
        assert_eq!(
            metadata.others(PROGRAM).unwrap_err().to_string(),
            "cargo metadata has no package tandem"
        );
    }
}
