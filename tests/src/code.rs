//! The project's own code, parsed: which file of a crate uses which, and which functions are tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use syn::visit::{self, Visit};
use syn::{Attribute, File, Item, ItemFn, ItemMacro, ItemUse, UseTree};

/// A file of a crate by its path in modules: `engine::family`. The root is empty.
pub type Module = Vec<String>;

/// The files of a crate, each with the files that it uses, and with all paths that it names. Tests do not count.
#[derive(Debug, Default)]
pub struct Crate {
    uses: BTreeMap<Module, BTreeSet<Module>>,
    names: BTreeMap<Module, Vec<Vec<String>>>,
}

/// The folder that holds all packages.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(Path::to_path_buf).unwrap_or_default()
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("target") && !path.ends_with(".git") {
            files(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

fn parse(path: &Path) -> Result<File> {
    let text = fs::read_to_string(path)?;
    syn::parse_file(&text).with_context(|| path.display().to_string())
}

/// Whether an item is only for tests.
fn for_tests(attributes: &[Attribute]) -> bool {
    let cfg = attributes.iter().filter(|attribute| attribute.path().is_ident("cfg"));
    cfg.filter_map(|attribute| attribute.parse_args::<syn::Ident>().ok())
        .any(|name| name == "test")
}

impl Crate {
    /// Reads the crate whose library is in this folder.
    pub fn read(folder: &Path) -> Result<Self> {
        let mut paths = Vec::new();
        files(folder, &mut paths)?;
        let mut parsed = BTreeMap::new();
        for path in paths {
            let relative = path.strip_prefix(folder)?.with_extension("");
            let mut module: Module = relative
                .iter()
                .map(|part| part.to_string_lossy().into_owned())
                .collect();
            if module
                .iter()
                .any(|part| part == "tests" || part == "bin" || part == "main")
            {
                continue;
            }
            if module.last().is_some_and(|last| last == "mod" || last == "lib") {
                module.pop();
            }
            parsed.insert(module, parse(&path)?);
        }
        let all: BTreeSet<Module> = parsed.keys().cloned().collect();
        let mut read = Self::default();
        for (module, file) in parsed {
            let mut paths = Paths::default();
            paths.visit_file(&file);
            let used = paths.0.iter().filter_map(|path| resolve(&all, &module, path));
            read.uses
                .insert(module.clone(), used.filter(|used| *used != module).collect());
            read.names.insert(module, paths.0);
        }
        Ok(read)
    }

    /// The files below this one, each with every path that it names. If the name is empty, all files of the crate.
    pub fn names_below(&self, top: &str) -> Vec<(String, Vec<String>)> {
        let below = self
            .names
            .iter()
            .filter(|(module, _)| top.is_empty() || module.first().is_some_and(|first| first == top));
        below
            .flat_map(|(module, paths)| paths.iter().map(|path| (module.join("::"), path.clone())))
            .collect()
    }

    /// Files that use each other in a circle. A file and the files below it may use each other.
    pub fn circles(&self) -> Vec<Vec<Module>> {
        let mut circles = Vec::new();
        for start in self.uses.keys() {
            // Each circle is found once, beginning with the first of its files.
            if let Some(path) = self.way_back(start)
                && path.iter().all(|module| module >= start)
            {
                circles.push(path);
            }
        }
        circles
    }

    /// The shortest path from a file to itself.
    fn way_back(&self, start: &Module) -> Option<Vec<Module>> {
        let mut came: BTreeMap<&Module, &Module> = BTreeMap::new();
        let mut queue = std::collections::VecDeque::from([start]);
        while let Some(module) = queue.pop_front() {
            for next in self.uses[module].iter().filter(|next| !related(module, next)) {
                if next == start {
                    let mut path = vec![module.clone()];
                    while let Some(before) = path.last().and_then(|last| came.get(last)) {
                        path.push((*before).clone());
                    }
                    path.reverse();
                    return Some(path);
                }
                if !came.contains_key(next) {
                    came.insert(next, module);
                    queue.push_back(next);
                }
            }
        }
        None
    }

    /// Which top-level files and folders use which others.
    pub fn arrows(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (module, uses) in &self.uses {
            let Some(from) = module.first() else { continue };
            let to = uses.iter().filter_map(|used| used.first()).filter(|to| *to != from);
            arrows.entry(from.clone()).or_default().extend(to.cloned());
        }
        arrows
    }
}

/// Whether one of two files is above the other.
fn related(a: &Module, b: &Module) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

/// The file that a path leads to, from this one.
fn resolve(all: &BTreeSet<Module>, from: &Module, path: &[String]) -> Option<Module> {
    let (first, rest) = path.split_first()?;
    let mut base = match first.as_str() {
        "crate" => Vec::new(),
        "self" => from.clone(),
        "super" => from[..from.len().saturating_sub(1)].to_vec(),
        _ => {
            let below = [&from[..], std::slice::from_ref(first)].concat();
            return all.contains(&below).then(|| longest(all, [&from[..], path].concat()));
        }
    };
    let mut rest = rest;
    while let Some(("super", more)) = rest.split_first().map(|(first, more)| (first.as_str(), more)) {
        base.pop();
        rest = more;
    }
    base.extend_from_slice(rest);
    Some(longest(all, base))
}

fn longest(all: &BTreeSet<Module>, mut path: Vec<String>) -> Module {
    while !path.is_empty() && !all.contains(&path) {
        path.pop();
    }
    path
}

/// All paths that a file names outside its tests.
#[derive(Default)]
struct Paths(Vec<Vec<String>>);

impl Paths {
    fn tree(&mut self, tree: &UseTree, mut before: Vec<String>) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.tree(&path.tree, before);
            }
            UseTree::Name(name) => {
                before.push(name.ident.to_string());
                self.0.push(before);
            }
            UseTree::Rename(name) => {
                before.push(name.ident.to_string());
                self.0.push(before);
            }
            UseTree::Glob(_) => self.0.push(before),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.tree(tree, before.clone())),
        }
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Mod(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            _ => &Vec::new(),
        };
        if !for_tests(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.tree(&item.tree, Vec::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|part| part.ident.to_string()).collect();
        if names.len() > 1 {
            self.0.push(names);
        }
        visit::visit_path(self, path);
    }
}

/// The names of all tests in these folders of the project.
pub fn tests(folders: &[&str]) -> Result<BTreeSet<String>> {
    let mut found = Tests::default();
    for folder in folders {
        let mut paths = Vec::new();
        files(&root().join(folder), &mut paths)?;
        for path in paths {
            found.visit_file(&parse(&path)?);
        }
    }
    Ok(found.0)
}

#[derive(Default)]
struct Tests(BTreeSet<String>);

impl<'ast> Visit<'ast> for Tests {
    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        let is_test = |attribute: &Attribute| {
            attribute
                .path()
                .segments
                .last()
                .is_some_and(|last| last.ident == "test")
        };
        if item.attrs.iter().any(is_test) {
            self.0.insert(item.sig.ident.to_string());
        }
        visit::visit_item_fn(self, item);
    }

    /// `proptest! { #[test] fn name(input in strategy) { … } }` is no Rust. Its names follow `#[test] fn`.
    fn visit_item_macro(&mut self, item: &'ast ItemMacro) {
        if item.mac.path.is_ident("proptest") {
            let text = item.mac.tokens.to_string();
            let names = text
                .split("fn ")
                .skip(1)
                .filter_map(|rest| rest.split(['(', ' ']).next());
            self.0.extend(names.map(str::to_owned));
        }
    }
}
