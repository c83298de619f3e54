//! The licences of everything in the image, as one text.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result, ensure};

use crate::metadata::Package;
use crate::sbom::Debian;

const APACHE: &str = include_str!("../../../LICENSE-APACHE");
const MIT: &str = include_str!("../../../LICENSE-MIT");
const LINE: &str = "--------------------------------------------------------------------------------";

/// Writes the text: Tandem, the packages of Rust, and Debian's packages.
pub(crate) fn text(others: &[&Package], debian: &[Debian]) -> Result<String> {
    let mut text = format!(
        "This image holds Tandem {}, and what it is built from.\n\n{LINE}\nTandem: Apache-2.0 OR MIT\n\n{MIT}\n",
        env!("CARGO_PKG_VERSION")
    );
    text += &packages(others)?;
    for package in debian {
        let (name, version) = (&package.name, &package.version);
        let _ = write!(
            text,
            "{LINE}\nDebian's package {name} {version}\n\n{}\n",
            package.copyright.trim_end()
        );
    }
    Ok(text)
}

/// The licences of the packages of Rust. Whoever may choose the Apache licence gets it, so its text is there once.
/// Other texts are there once too, with the names of all packages that have them.
fn packages(packages: &[&Package]) -> Result<String> {
    let mut apache = String::new();
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    for package in packages {
        let expression = package.license.as_deref();
        let expression = expression.with_context(|| format!("package {}: no licence is given", package.name))?;
        let head = format!("{} {}: {expression}\n", package.name, package.version);
        let mut files = files(package)?;
        if may_be_apache(expression) {
            apache += &head;
            files.retain(|name, _| name.starts_with("NOTICE"));
        } else {
            ensure!(
                !files.is_empty(),
                "package {} {} has the licence {expression}, and no file with its text",
                package.name,
                package.version
            );
        }
        for (_, text) in files {
            *texts.entry(text).or_default() += &head;
        }
    }
    let mut all = format!("{LINE}\nUsed under the Apache License 2.0:\n\n{apache}\n{APACHE}\n");
    let mut sorted: Vec<(String, String)> = texts.into_iter().map(|(text, heads)| (heads, text)).collect();
    sorted.sort();
    for (heads, text) in sorted {
        let _ = write!(all, "{LINE}\n{heads}\n{}\n", text.trim_end());
    }
    Ok(all)
}

/// Whether an expression lets everybody choose the Apache licence alone.
fn may_be_apache(expression: &str) -> bool {
    let bound = ["AND", "WITH", "(", ")"].iter().any(|word| expression.contains(word));
    !bound
        && expression
            .replace('/', " OR ")
            .split(" OR ")
            .any(|choice| choice.trim() == "Apache-2.0")
}

/// The files of a package that have texts of licences, by their names in capitals. Their lines end without spaces, so
/// that equal texts are equal.
fn files(package: &Package) -> Result<BTreeMap<String, String>> {
    let folder = package.folder();
    let reading = || format!("read {}", folder.display());
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).with_context(reading)? {
        let path = entry.with_context(reading)?.path();
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().to_uppercase())
            .unwrap_or_default();
        let known = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE"];
        if path.is_file() && known.iter().any(|start| name.starts_with(start)) {
            let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
            found.insert(name, lines.join("\n").trim_matches('\n').to_owned() + "\n");
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    /// A folder with the files of one package.
    fn folder(name: &str, files: &[(&str, &str)]) -> PathBuf {
        let path = std::env::temp_dir().join(format!("tandem-licences-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        for (file, text) in files {
            fs::write(path.join(file), text).unwrap();
        }
        path
    }

    fn listed(all: &[(&str, &str, &Path)]) -> Result<String> {
        let all: Vec<Package> = all
            .iter()
            .map(|(name, license, path)| Package::sample(name, license, path))
            .collect();
        packages(&all.iter().collect::<Vec<_>>())
    }

    #[test]
    fn each_text_is_there_once_with_all_its_packages() {
        let mit = folder("mit", &[("LICENSE", "MIT by A  \n"), ("README", "no licence")]);
        let also = folder("also", &[("License.txt", "\nMIT by A")]);
        let apache = folder("apache", &[("LICENSE-MIT", "MIT by B"), ("NOTICE", "B made this")]);
        let text = listed(&[
            ("a", "MIT", &mit),
            ("b", "MIT", &also),
            ("c", "MIT OR Apache-2.0", &apache),
            ("d", "MIT/Apache-2.0", Path::new("/")),
        ]);
        let text = text.unwrap();
        let (head, rest) = text.split_once(APACHE).unwrap();
        assert!(
            head.contains(
                "Used under the Apache License 2.0:\n\nc 1.0.0: MIT OR Apache-2.0\nd 1.0.0: MIT/Apache-2.0\n"
            )
        );
        assert!(
            rest.contains(&format!("{LINE}\na 1.0.0: MIT\nb 1.0.0: MIT\n\nMIT by A\n")),
            "{rest}"
        );
        assert!(
            rest.contains(&format!("{LINE}\nc 1.0.0: MIT OR Apache-2.0\n\nB made this\n")),
            "{rest}"
        );
        assert!(!text.contains("MIT by B") && !text.contains("no licence"));
        for path in [mit, also, apache] {
            fs::remove_dir_all(path).unwrap();
        }
    }

    #[test]
    fn a_licence_without_its_text_is_named() {
        let path = folder("none", &[("README", "MIT")]);
        let error = listed(&[("a", "MIT", &path)]).unwrap_err().to_string();
        assert_eq!(error, "package a 1.0.0 has the licence MIT, and no file with its text");
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn apache_is_chosen_only_where_it_is_enough() {
        for (expression, chosen) in [
            ("Apache-2.0", true),
            ("MIT OR Apache-2.0", true),
            ("Unlicense/MIT", false),
            ("Apache-2.0 AND ISC", false),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", false),
            ("Apache-2.0 WITH LLVM-exception", false),
        ] {
            assert_eq!(may_be_apache(expression), chosen, "{expression}");
        }
    }
}
