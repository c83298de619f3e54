//! Compares the code with the drawings in ARCHITECTURE.md: which parts use which. No root, no network.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tandem_tests::code::{Crate, Module, root};

/// The folders of the packages' libraries.
const LIBRARIES: [&str; 9] = [
    "controller/core/src",
    "nft/src",
    "xdp/src",
    "xdp/layout/src",
    "xdp/packet/src",
    "controller/src",
    "tests/src",
    "benches/src",
    "deploy/image/src",
];

fn library(folder: &str) -> Result<Crate> {
    Crate::read(&root().join(folder)).with_context(|| folder.to_owned())
}

#[test]
fn no_files_of_a_package_use_each_other_in_a_circle() -> Result<()> {
    for folder in LIBRARIES {
        let circles = library(folder)?.circles();
        let text = |module: &Module| module.join("::");
        let circles: Vec<String> = circles
            .iter()
            .map(|circle| circle.iter().map(text).collect::<Vec<_>>().join(" -> "))
            .collect();
        ensure!(circles.is_empty(), "{folder}: {}", circles.join("\n"));
    }
    Ok(())
}

#[test]
fn a_circle_is_found_where_there_is_one() -> Result<()> {
    let scratch = tandem_tests::scratch::Scratch::new("circle")?;
    let write = |name: &str, text: &str| fs::write(scratch.path().join(name), text);
    write("lib.rs", "mod a; mod b; mod c;")?;
    write("a.rs", "use crate::b::B; pub struct A(B);")?;
    write("b.rs", "pub struct B; pub fn f() -> super::c::C { super::c::C }")?;
    write("c.rs", "pub struct C; #[cfg(test)] mod tests { use crate::a::A; }")?;
    assert_eq!(Crate::read(scratch.path())?.circles(), Vec::<Vec<Module>>::new());
    write("c.rs", "use crate::a::A; pub struct C;")?;
    let circle: Vec<Module> = ["a", "b", "c"].map(|name| vec![name.to_owned()]).into();
    assert_eq!(Crate::read(scratch.path())?.circles(), [circle]);
    Ok(())
}

/// Whether a path leads outside the program: to files, sockets, threads, other processes, a clock or random numbers.
fn leads_outside(path: &[String]) -> bool {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let crates = ["tokio", "kube", "k8s_openapi", "rustix", "libc", "rand", "tandem_nft"];
    let modules = ["fs", "thread", "process", "env", "os"];
    let names = [
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "RandomState",
        "Instant",
        "SystemTime",
    ];
    match path[..] {
        // If a whole module is imported, or everything in it, the code could use any part of it.
        ["std"] | ["std", "net" | "time" | "hash"] => true,
        ["std", module, ..] if modules.contains(&module) => true,
        ["std", _, name, ..] => names.contains(&name),
        [first, ..] => crates.contains(&first),
        [] => false,
    }
}

#[test]
fn core_and_the_index_name_no_input_no_output_and_no_clock() -> Result<()> {
    for (folder, top) in [
        ("controller/core/src", ""),
        ("controller/src", "index"),
        ("xdp/layout/src", ""),
    ] {
        let names = library(folder)?.names_below(top);
        ensure!(names.len() > 50, "{folder}: only {} paths", names.len());
        let outside = names.iter().filter(|(_, path)| leads_outside(path));
        let outside: Vec<String> = outside
            .map(|(file, path)| format!("{file}: {}", path.join("::")))
            .collect();
        ensure!(outside.is_empty(), "{folder}: {}", outside.join("\n"));
    }
    Ok(())
}

#[test]
fn what_leads_outside_is_told_from_what_does_not() {
    let path = |text: &str| text.split("::").map(str::to_owned).collect::<Vec<_>>();
    for text in [
        "std::time::Instant::now",
        "std::fs::read",
        "std::time",
        "tokio::spawn",
        "std::net::TcpStream",
    ] {
        assert!(leads_outside(&path(text)), "{text}");
    }
    for text in [
        "std::time::Duration",
        "std::net::IpAddr",
        "std::sync::Mutex",
        "crate::row::Row",
    ] {
        assert!(!leads_outside(&path(text)), "{text}");
    }
}

/// A drawing of ARCHITECTURE.md, with lines `from -> to, to`. It follows this heading.
fn drawn(heading: &str) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md"))?;
    let (_, after) = text
        .split_once(&format!("{heading}\n\n```\n"))
        .context("no such drawing")?;
    let (drawing, _) = after.split_once("```").context("the drawing does not end")?;
    let line = |line: &str| {
        let (from, to) = line.split_once(" ->").with_context(|| line.to_owned())?;
        let to = to.split(',').map(str::trim).filter(|to| !to.is_empty());
        Ok((from.trim().to_owned(), to.map(str::to_owned).collect()))
    };
    drawing.lines().map(line).collect()
}

fn text(arrows: &BTreeMap<String, BTreeSet<String>>) -> String {
    let line = |(from, to): (&String, &BTreeSet<String>)| {
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        format!("{from} -> {}\n", to.join(", "))
    };
    arrows.iter().map(line).collect()
}

/// Compares the arrows between the parts of a library with the drawing that follows this heading.
fn compare(folder: &str, heading: &str) -> Result<()> {
    let (drawn, found) = (text(&drawn(heading)?), text(&library(folder)?.arrows()));
    ensure!(drawn == found, "{folder}: the code has these arrows:\n{found}");
    Ok(())
}

#[test]
fn the_arrows_between_the_agents_parts_are_those_that_the_architecture_draws() -> Result<()> {
    compare(
        "controller/src",
        "Arrows between the parts of the agent (`controller/src`):",
    )
}

#[test]
fn the_arrows_between_the_parts_of_the_nftables_data_plane_are_those_that_the_architecture_draws() -> Result<()> {
    compare(
        "nft/src",
        "Arrows between the parts of the nftables data plane (`nft/src`), from the lowest layer up:",
    )
}

/// For each of our packages, those of our packages that it needs to be built.
fn packages() -> Result<BTreeMap<String, BTreeSet<String>>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()?;
    ensure!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let mut arrows = BTreeMap::new();
    for package in metadata["packages"].as_array().context("packages")? {
        let name = package["name"].as_str().context("name")?;
        let needs = package["dependencies"].as_array().context("dependencies")?;
        let ours = needs
            .iter()
            .filter(|need| need["kind"].is_null())
            .filter_map(|need| need["name"].as_str());
        let ours = ours.filter(|need| need.starts_with("tandem")).map(str::to_owned);
        arrows.insert(name.to_owned(), ours.collect());
    }
    Ok(arrows)
}

#[test]
fn packages_depend_on_each_other_only_as_the_architecture_says() -> Result<()> {
    let (drawn, found) = (text(&drawn("Arrows between the packages:")?), text(&packages()?));
    ensure!(drawn == found, "the packages have these arrows:\n{found}");
    Ok(())
}
