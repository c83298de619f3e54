//! The list of everything in the image (SBOM): what `cargo cyclonedx` wrote, with Debian's packages, and without
//! anything of this machine.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tandem_image::Architecture;

use crate::metadata::{Metadata, Package};

/// One of Debian's packages of which files are in the program.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Debian {
    pub(crate) name: String,
    pub(crate) version: String,
    /// What its copyright file says.
    pub(crate) copyright: String,
}

/// Reads Debian's packages from a folder with a file `NAME=VERSION` for each.
pub(crate) fn debian(folder: &Path) -> Result<Vec<Debian>> {
    let reading = || format!("read {}", folder.display());
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).with_context(reading)? {
        let path = entry.with_context(reading)?.path();
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let (name, version) = name
            .split_once('=')
            .with_context(|| format!("{}: its name is not NAME=VERSION", path.display()))?;
        all.push(Debian {
            name: name.to_owned(),
            version: version.to_owned(),
            copyright: fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?,
        });
    }
    all.sort();
    Ok(all)
}

/// Completes the list. Returns its bytes and the names of its components.
pub(crate) fn complete(
    path: &Path,
    metadata: &Metadata,
    in_kernel: &[&Package],
    debian: &[Debian],
    architecture: Architecture,
) -> Result<(Vec<u8>, BTreeSet<String>)> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let sbom = serde_json::from_str(&text).with_context(|| format!("read {}", path.display()))?;
    with(sbom, &metadata.workspace_root, in_kernel, debian, architecture).with_context(|| path.display().to_string())
}

fn with(
    mut sbom: Value,
    root: &str,
    in_kernel: &[&Package],
    debian: &[Debian],
    architecture: Architecture,
) -> Result<(Vec<u8>, BTreeSet<String>)> {
    hide(&mut sbom, &format!("file://{root}"));
    let components = sbom
        .get_mut("components")
        .and_then(Value::as_array_mut)
        .context("it has no components")?;
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    for package in in_kernel {
        let (name, version) = (&package.name, &package.version);
        let purl = format!("pkg:cargo/{name}@{version}");
        // The program outside the kernel may be built from the same package.
        if components.iter().any(|component| text(component, "purl") == purl) {
            continue;
        }
        let licence = json!([{"expression": package.license.as_deref().unwrap_or_default().replace('/', " OR ")}]);
        components.push(
            json!({"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl, "licenses": licence}),
        );
    }
    for package in debian {
        let (name, version) = (&package.name, &package.version);
        let purl = format!(
            "pkg:deb/debian/{name}@{}?arch={}",
            version.replace('+', "%2B"),
            architecture.name()
        );
        components.push(json!({"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}));
    }
    components.sort_by_key(|component| text(component, "bom-ref"));
    let names = components
        .iter()
        .map(|component| text(component, "name") + " " + &text(component, "version"));
    let names = names.collect();
    if let Some(needs) = sbom.get_mut("dependencies").and_then(Value::as_array_mut) {
        needs.sort_by_key(|need| text(need, "ref"));
    }
    sbom.sort_all_objects();
    let mut bytes = serde_json::to_vec(&sbom)?;
    bytes.push(b'\n');
    Ok((bytes, names))
}

/// Takes the folder of the workspace out of every text.
fn hide(value: &mut Value, root: &str) {
    match value {
        Value::String(text) => *text = text.replace(root, "file:///tandem"),
        Value::Array(values) => values.iter_mut().for_each(|value| hide(value, root)),
        Value::Object(fields) => fields.values_mut().for_each(|value| hide(value, root)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_folders_give_one_list_with_debians_packages() {
        let cargo = |root: &str, order: [&str; 2]| {
            let component = |name: &str| json!({"bom-ref": format!("path+file://{root}/{name}#1"), "name": name, "version": "1", "type": "library"});
            json!({"bomFormat": "CycloneDX", "components": order.map(component)})
        };
        let libc = Debian {
            name: "libc6-dev".to_owned(),
            version: "2.36-9+deb12u14".to_owned(),
            copyright: String::new(),
        };
        let one = with(
            cargo("/a/b", ["x", "y"]),
            "/a/b",
            &[],
            std::slice::from_ref(&libc),
            Architecture::Arm64,
        )
        .unwrap();
        let other = with(cargo("/c", ["y", "x"]), "/c", &[], &[libc], Architecture::Arm64).unwrap();
        assert_eq!(one, other);
        assert_eq!(Vec::from_iter(one.1), ["libc6-dev 2.36-9+deb12u14", "x 1", "y 1"]);
        let sbom: Value = serde_json::from_slice(&one.0).unwrap();
        assert_eq!(sbom["components"][0]["bom-ref"], "path+file:///tandem/x#1");
        assert_eq!(
            sbom["components"][2]["purl"],
            "pkg:deb/debian/libc6-dev@2.36-9%2Bdeb12u14?arch=arm64"
        );
    }

    #[test]
    fn the_packages_of_the_programs_in_the_kernel_are_listed_once() {
        let both = Package::sample("both", "MIT", Path::new("/x"));
        let own = Package::sample("own", "MIT/Apache-2.0", Path::new("/x"));
        let sbom = json!({"components": [{"bom-ref": "b", "name": "both", "version": "1.0.0", "purl": "pkg:cargo/both@1.0.0"}]});
        let (bytes, names) = with(sbom, "/a", &[&both, &own], &[], Architecture::Amd64).unwrap();
        assert_eq!(Vec::from_iter(names), ["both 1.0.0", "own 1.0.0"]);
        let sbom: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(sbom["components"].as_array().unwrap().len(), 2);
        assert_eq!(sbom["components"][1]["licenses"][0]["expression"], "MIT OR Apache-2.0");
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let error = with(json!({"bomFormat": "CycloneDX"}), "/a", &[], &[], Architecture::Amd64).unwrap_err();
        assert_eq!(error.to_string(), "it has no components");
    }
}
