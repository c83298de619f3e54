//! Files of this machine with all that they need to run: links, and the shared libraries that `ldd` names.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::Error;
use crate::path::ImagePath;
use crate::tree::{Entry, HostFile, Mode, Tree};

/// Adds files and folders of this machine at their own paths. A symbolic link is added with what it leads to. A program
/// or library is added with all the libraries that it needs, and with the program that loads them.
pub fn add(tree: &mut Tree, paths: &[&Path]) -> Result<(), Error> {
    let mut elf = BTreeSet::new();
    for path in paths {
        add_one(tree, path, &mut elf)?;
    }
    add_libraries(tree, &elf)
}

/// Adds a program of this machine at another path, with the libraries that it needs at their own paths.
pub fn program(tree: &mut Tree, at: &str, host: &Path) -> Result<(), Error> {
    let mode = fs::metadata(host)
        .map_err(Error::file("read", host))?
        .permissions()
        .mode();
    tree.host_file(at, Mode::from_bits(mode), host)?;
    let elf = if is_elf(host)? {
        [host.to_owned()].into()
    } else {
        BTreeSet::new()
    };
    add_libraries(tree, &elf)
}

/// All of what a library needs is named for the program too, so what is found needs no further look.
fn add_libraries(tree: &mut Tree, elf: &BTreeSet<PathBuf>) -> Result<(), Error> {
    libraries(elf)?
        .iter()
        .try_for_each(|library| add_one(tree, library, &mut BTreeSet::new()))
}

/// Adds one file, or all of a folder. Programs and libraries are remembered in `elf`.
fn add_one(tree: &mut Tree, path: &Path, elf: &mut BTreeSet<PathBuf>) -> Result<(), Error> {
    let at = in_image(path)?;
    let metadata = fs::symlink_metadata(path).map_err(Error::file("read", path))?;
    let mode = Mode::from_bits(metadata.permissions().mode());
    if metadata.is_dir() {
        tree.add(at, Entry::Folder(mode))?;
        let entries = fs::read_dir(path).map_err(Error::file("read", path))?;
        for entry in entries {
            add_one(tree, &entry.map_err(Error::file("read", path))?.path(), elf)?;
        }
    } else if metadata.is_symlink() {
        if tree.contains(&at) {
            return Ok(()); // also ends a circle of links
        }
        let target = fs::read_link(path).map_err(Error::file("read", path))?;
        let next = resolve(path, &target);
        tree.link(&at.to_string(), &target.display().to_string())?;
        add_one(tree, &next, elf)?;
    } else {
        tree.add(at, Entry::Host(mode, HostFile::new(path)?))?;
        if is_elf(path)? {
            elf.insert(path.to_owned());
        }
    }
    Ok(())
}

fn in_image(path: &Path) -> Result<ImagePath, Error> {
    let text = path.to_str().ok_or_else(|| Error::Path {
        path: path.display().to_string(),
        reason: "it is no UTF-8",
    })?;
    ImagePath::parse(text)
}

/// The path that a link leads to, without `.` and `..`.
fn resolve(link: &Path, target: &Path) -> PathBuf {
    let from = link.parent().unwrap_or(Path::new("/")).join(target);
    let mut path = PathBuf::new();
    for part in from.components() {
        match part {
            std::path::Component::ParentDir => {
                path.pop();
            }
            std::path::Component::CurDir => {}
            other => path.push(other),
        }
    }
    path
}

fn is_elf(path: &Path) -> Result<bool, Error> {
    let mut start = Vec::new();
    let file = File::open(path).map_err(Error::file("read", path))?;
    file.take(4)
        .read_to_end(&mut start)
        .map_err(Error::file("read", path))?;
    Ok(start == b"\x7fELF")
}

/// The libraries that these files need, and the program that loads them, by their paths.
fn libraries(files: &BTreeSet<PathBuf>) -> Result<BTreeSet<PathBuf>, Error> {
    let mut all = BTreeSet::new();
    for file in files {
        let output = Command::new("ldd")
            .env("LC_ALL", "C")
            .env_remove("LD_PRELOAD")
            .arg(file)
            .output()
            .map_err(Error::file("run ldd for", file))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let said = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
        if said.contains("not a dynamic executable") || said.contains("statically linked") {
            continue;
        }
        if !output.status.success() {
            return Err(Error::Ldd {
                program: file.clone(),
                said: said.trim().to_owned(),
            });
        }
        all.extend(parse_ldd(file, &text)?);
    }
    Ok(all)
}

/// Reads what `ldd` prints, for example `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f…)`.
fn parse_ldd(program: &Path, text: &str) -> Result<BTreeSet<PathBuf>, Error> {
    let mut paths = BTreeSet::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (library, place) = line.split_once(" => ").unwrap_or((line, line));
        let place = place.rsplit_once(" (").map_or(place, |(place, _)| place).trim();
        if place == "not found" {
            return Err(Error::Library {
                program: program.to_owned(),
                library: library.to_owned(),
            });
        }
        // the kernel's own library (linux-vdso.so.1) has no path
        if place.starts_with('/') {
            paths.insert(PathBuf::from(place));
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_as_ldd_prints_them() {
        let text = "\tlinux-vdso.so.1 (0x00007ffc)\n\tlibnftables.so.1 => /lib/x86_64-linux-gnu/libnftables.so.1 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let paths = parse_ldd(Path::new("/usr/sbin/nft"), text).unwrap();
        let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        assert_eq!(
            paths,
            ["/lib/x86_64-linux-gnu/libnftables.so.1", "/lib64/ld-linux-x86-64.so.2"]
        );
        let error = parse_ldd(Path::new("/bin/a"), "\tlibx.so.1 => not found\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "/bin/a needs the library libx.so.1, which is not on this machine"
        );
    }

    #[test]
    fn links_are_followed_from_where_they_are() {
        let target = |link, target| resolve(Path::new(link), Path::new(target)).display().to_string();
        assert_eq!(
            target("/usr/sbin/iptables", "/etc/alternatives/iptables"),
            "/etc/alternatives/iptables"
        );
        assert_eq!(
            target("/usr/sbin/iptables-nft", "xtables-nft-multi"),
            "/usr/sbin/xtables-nft-multi"
        );
        assert_eq!(target("/lib/x/liba.so", "../y/./liba.so.1"), "/lib/y/liba.so.1");
    }

    #[test]
    fn a_program_brings_the_link_that_leads_to_it_and_all_libraries() {
        let mut tree = Tree::default();
        add(&mut tree, &[Path::new("/bin/sh"), Path::new("/bin/sh")]).unwrap();
        let all = tree.complete();
        let is = |entry: &Entry| match entry {
            Entry::Folder(_) => "folder",
            Entry::Bytes(..) => "bytes",
            Entry::Host(..) => "host",
            Entry::Link(_) => "link",
        };
        let at = |path: &str| all.get(&ImagePath::parse(path).unwrap()).map(is);
        assert!(matches!(at("/bin/sh"), Some("link" | "host")), "{all:?}");
        let named = |part: &str| all.keys().any(|path| path.to_string().contains(part));
        assert!(named("/libc.so.6") && named("/ld-linux"), "{all:?}");
    }

    #[test]
    fn what_is_not_there_or_no_file_is_named() {
        let mut tree = Tree::default();
        let mut said = |path| add(&mut tree, &[Path::new(path)]).unwrap_err().to_string();
        assert_eq!(
            said("/no/such/tool"),
            "read /no/such/tool: No such file or directory (os error 2)"
        );
        assert_eq!(said("bin/sh"), "path \"bin/sh\" in the image: it does not begin with /");
        assert_eq!(said("/dev/null"), "/dev/null is no file, folder or symbolic link");
    }
}
