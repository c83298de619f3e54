//! The programs in the kernel. They need Debian's Rust with its library for eBPF, and
//! bpf-linker: `make setup` installs both.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use object::build::elf::{Builder, SectionData};

/// Debian's compiler. It has a library for eBPF, and it is the one that builds the image.
const CARGO: &str = "/usr/bin/cargo";
const RUSTC: &str = "/usr/bin/rustc";
const TARGET: &str = "bpfel-unknown-none";

pub(super) fn build() -> Result<(), String> {
    for folder in [
        "build",
        "ebpf/src",
        "ebpf/Cargo.toml",
        "ebpf/Cargo.lock",
        "layout/src",
        "packet/src",
    ] {
        println!("cargo::rerun-if-changed={folder}");
    }
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR").map_err(|error| error.to_string())?);
    let out = PathBuf::from(env::var("OUT_DIR").map_err(|error| error.to_string())?);
    let linker = linker(&here)?;
    let sysroot = run(Command::new(RUSTC).args(["--print", "sysroot"]))?;
    if !Path::new(sysroot.trim()).join("lib/rustlib").join(TARGET).is_dir() {
        return Err(wanting("Rust's library for eBPF (libstd-rust-web-dev-bpf)"));
    }
    // One folder for all profiles and features: the result is the same.
    let target = here.join("../target/ebpf");
    // The paths are the same wherever this is built, so that the program is, too.
    let mut flags = vec![
        "-Cpanic=abort".to_owned(),
        "-Ctarget-cpu=v3".to_owned(),
        // Numbers in packets are where they are. Every machine with a compiler for these programs reads them in one go.
        "-Ctarget-feature=+allows-misaligned-mem-access".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        format!("--remap-path-prefix={}=/tandem/xdp", here.display()),
        format!("--remap-path-prefix={}=/cargo", cargo_home()?.display()),
    ];
    if env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch != "x86_64") {
        flags.push("--cfg=weak_order".to_owned()); // other processors may read what was written in another order
    }
    let mut build = Command::new(CARGO);
    build
        .args(["build", "--quiet", "--release", "--locked", "--target", TARGET])
        .current_dir(here.join("ebpf"))
        .env_clear()
        .envs(
            ["PATH", "HOME", "CARGO_HOME"]
                .into_iter()
                .filter_map(|name| Some((name, env::var_os(name)?))),
        )
        .env("RUSTC", RUSTC)
        .env("RUSTC_BOOTSTRAP", "1") // for atomic additions, which have no stable name for this target
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", linker)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    if env::var_os("CARGO_NET_OFFLINE").is_some() {
        build.arg("--offline");
    }
    run(&mut build)?;
    for (program, object) in [
        ("tandem-xdp-ebpf", "tandem-xdp.o"),
        ("tandem-xdp-packets", "tandem-xdp-packets.o"),
    ] {
        embed(&target.join(TARGET).join("release").join(program), &out.join(object))?;
    }
    Ok(())
}

/// Puts a program where the agent's compiler finds it.
fn embed(program: &Path, object: &Path) -> Result<(), String> {
    let bytes = fs::read(program).map_err(|error| format!("read {}: {error}", program.display()))?;
    let bytes = without_debug(&bytes).map_err(|error| format!("the programs in the kernel: {error}"))?;
    fs::write(object, bytes).map_err(|error| format!("write {}: {error}", object.display()))
}

/// The object without what only debuggers read. The kernel reads BTF, which was made of it.
fn without_debug(object: &[u8]) -> object::build::Result<Vec<u8>> {
    let mut builder = Builder::read(object)?;
    let is_debug = |name: &[u8]| name.starts_with(b".debug") || name.starts_with(b".rel.debug");
    for section in &mut builder.sections {
        section.delete |= is_debug(&section.name);
    }
    // LLVM has one section for the names of symbols and of sections, and the library writes two.
    let names = builder.sections.add();
    names.name = b".shstrtab".as_slice().into();
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    builder.write(&mut stripped)?;
    Ok(stripped)
}

fn cargo_home() -> Result<PathBuf, String> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    home.ok_or_else(|| "neither CARGO_HOME nor HOME is set".to_owned())
}

/// The linker: the one in `target/tools`, or one on PATH.
fn linker(here: &Path) -> Result<PathBuf, String> {
    let own = here.join("../target/tools/bin/bpf-linker");
    let path = env::var_os("PATH").unwrap_or_default();
    let others = env::split_paths(&path).map(|folder| folder.join("bpf-linker"));
    let found = std::iter::once(own).chain(others).find(|file| file.is_file());
    found.ok_or_else(|| wanting("bpf-linker"))
}

fn wanting(what: &str) -> String {
    format!(
        "{what} is missing, which the programs in the kernel are built with: run `make setup`, or build without them \
         (--no-default-features)"
    )
}

fn run(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!(
        "{program}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    ))
}
