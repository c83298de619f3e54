//! What this kernel and this process can: asked before anything is loaded, so that one line names what is missing.
//!
//! The kernel's BTF (`/sys/kernel/btf/vmlinux`) is not asked for: the programs use none of its types, and load without it.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::cgroups::{CgroupError, Folder};
use super::mount::{self, MountError};

/// The oldest kernel: mixed cgroup v1 and v2 work from it on, atomics and network cookies are older.
const OLDEST: (u32, u32) = (5, 15);

const RELEASE: &str = "/proc/sys/kernel/osrelease";
const STATUS: &str = "/proc/thread-self/status";
const MOUNTS: &str = "/proc/self/mountinfo";
const JIT: &str = "/proc/sys/net/core/bpf_jit_enable";
/// It is there whenever the settings of the node's own network are to be seen.
const BESIDE_JIT: &str = "/proc/sys/net/core/netdev_budget";

/// The right that stands for all others below.
const SYS_ADMIN: u32 = 21;
/// The rights that are needed, by their numbers (`linux/capability.h`).
const NEEDED: [(u32, &str); 3] = [(12, "CAP_NET_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];

/// What is missing.
#[derive(Debug, thiserror::Error)]
pub enum Unable {
    /// The kernel is too old.
    #[error("the kernel is {release}, and socket load balancing needs {major}.{minor} or newer ({RELEASE})", major = OLDEST.0, minor = OLDEST.1)]
    Old {
        /// What it is.
        release: String,
    },
    /// The process has too few rights.
    #[error("the process lacks {missing}, and has no CAP_SYS_ADMIN in its place (CapEff in {STATUS})")]
    Rights {
        /// The rights that are missing.
        missing: String,
    },
    /// The kernel would interpret the programs.
    #[error("the kernel's JIT compiler for eBPF is off: switch it on (sysctl net.core.bpf_jit_enable=1; {JIT} is 0)")]
    JitOff,
    /// The kernel can only interpret programs.
    #[error("the kernel has no JIT compiler for eBPF: one with CONFIG_BPF_JIT is needed (there is no {JIT})")]
    NoJit,
    /// There are no folders to attach to.
    #[error("{0} (looked for in {MOUNTS})")]
    Cgroups(CgroupError),
    /// There is nowhere to pin.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// It cannot be known.
    #[error("read {0}, to learn what this kernel can: {1}")]
    Read(PathBuf, #[source] io::Error),
}

/// Looks whether the programs can be loaded, attached and pinned below this folder. A BPF file system is mounted at its
/// parent if there is none. The rest is only looked at.
pub fn able(pins: &Path) -> Result<(), Unable> {
    new_enough(&read(RELEASE)?)?;
    may(&read(STATUS)?)?;
    jit(text(JIT)?.as_deref(), Path::new(BESIDE_JIT).exists())?;
    Folder::topmost(&read(MOUNTS)?).map_err(Unable::Cgroups)?;
    mount::below(pins)?;
    Ok(())
}

fn read(file: &str) -> Result<String, Unable> {
    fs::read_to_string(file).map_err(|error| Unable::Read(file.into(), error))
}

/// The text of a file; none if it is not there.
fn text(file: &str) -> Result<Option<String>, Unable> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Unable::Read(file.into(), error)),
    }
}

/// `6.1.0-18-amd64`: what follows the first two numbers differs from distribution to distribution.
fn new_enough(release: &str) -> Result<(), Unable> {
    let release = release.trim();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= OLDEST => Ok(()),
        _ => Err(Unable::Old {
            release: release.to_owned(),
        }),
    }
}

/// Whether the rights of a process are enough, by its `status`.
fn may(status: &str) -> Result<(), Unable> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let rights = line.and_then(|rights| u64::from_str_radix(rights.trim(), 16).ok());
    let rights = rights.unwrap_or_default();
    let has = |number: u32| rights & 1 << number != 0;
    let missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(number, _)| !has(*number))
        .map(|(_, name)| *name)
        .collect();
    if missing.is_empty() || has(SYS_ADMIN) {
        return Ok(());
    }
    Err(Unable::Rights {
        missing: missing.join(", "),
    })
}

/// Whether programs are compiled, by the setting. It stands only in the node's own network: elsewhere it cannot be known, and
/// nothing is said. A kernel with `CONFIG_BPF_JIT_ALWAYS_ON` has nothing else than 1 and 2.
fn jit(setting: Option<&str>, settings_are_seen: bool) -> Result<(), Unable> {
    match setting.map(str::trim) {
        Some("0") => Err(Unable::JitOff),
        None if settings_are_seen => Err(Unable::NoJit),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use rustix::thread::CapabilitySet;

    use super::*;

    #[test]
    fn a_kernel_that_is_too_old_is_named() {
        for release in [
            "5.15.0",
            "5.15",
            "6.1.0-18-amd64\n",
            "6.18.44-fc-v782",
            "10.0-rc1",
            "5.100",
        ] {
            assert!(new_enough(release).is_ok(), "{release}");
        }
        for release in ["5.14.21-default", "4.18.0-553.el8.x86_64", "5", "", "linux"] {
            assert!(matches!(new_enough(release), Err(Unable::Old { .. })), "{release}");
        }
        assert_eq!(
            new_enough("5.10.0-8-cloud-amd64\n").unwrap_err().to_string(),
            "the kernel is 5.10.0-8-cloud-amd64, and socket load balancing needs 5.15 or newer (/proc/sys/kernel/osrelease)"
        );
    }

    #[test]
    fn rights_that_are_missing_are_named() {
        let status =
            |rights: u64| format!("Name:\ttandem\nCapPrm:\t000001ffffffffff\nCapEff:\t{rights:016x}\nCapBnd:\t0\n");
        let all: u64 = NEEDED.iter().map(|(number, _)| 1 << number).sum();
        assert!(may(&status(all)).is_ok());
        assert!(may(&status(1 << SYS_ADMIN)).is_ok());
        assert_eq!(
            may(&status(1 << 12)).unwrap_err().to_string(),
            "the process lacks CAP_PERFMON, CAP_BPF, and has no CAP_SYS_ADMIN in its place (CapEff in \
             /proc/thread-self/status)"
        );
        for (number, name) in NEEDED {
            let error = may(&status(all & !(1 << number))).unwrap_err().to_string();
            assert!(error.starts_with(&format!("the process lacks {name}, and")), "{error}");
        }
        assert!(may("").is_err() && may("CapEff:\tnothing").is_err());
    }

    #[test]
    fn a_jit_compiler_that_is_off_or_missing_is_named() {
        assert!(jit(Some("1\n"), true).is_ok() && jit(Some("2\n"), true).is_ok());
        assert!(jit(None, false).is_ok());
        assert!(matches!(jit(None, true), Err(Unable::NoJit)));
        assert_eq!(
            jit(Some("0\n"), true).unwrap_err().to_string(),
            "the kernel's JIT compiler for eBPF is off: switch it on (sysctl net.core.bpf_jit_enable=1; \
             /proc/sys/net/core/bpf_jit_enable is 0)"
        );
    }

    #[test]
    fn what_is_missing_is_one_line() {
        let file = || PathBuf::from("/proc/self/mountinfo");
        let failed = || io::Error::from_raw_os_error(libc::EPERM);
        let errors = [
            Unable::NoJit,
            Unable::JitOff,
            Unable::Cgroups(CgroupError::NoHierarchy),
            Unable::Mount(MountError::Refused(file(), failed())),
            Unable::Read(file(), failed()),
        ];
        for error in errors {
            let line = error.to_string();
            assert!(line.contains("/proc/") && !line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn a_file_system_for_pins_is_mounted_or_its_refusal_is_named() {
        let parent = std::env::temp_dir().join(format!("tandem-able-{}", std::process::id()));
        fs::create_dir(&parent).unwrap();
        let pins = parent.join("tandem");
        // Rights are a thread's own.
        let without = |rights: CapabilitySet, pins: PathBuf| {
            let asked = std::thread::spawn(move || {
                let mut own = rustix::thread::capabilities(None).unwrap();
                own.effective -= rights;
                rustix::thread::set_capabilities(None, own).unwrap();
                able(&pins).map_err(|error| error.to_string())
            });
            asked.join().unwrap()
        };
        let refused = without(CapabilitySet::SYS_ADMIN, pins.clone()).unwrap_err();
        let at = parent.display();
        assert_eq!(
            refused,
            format!(
                "no BPF file system is at {at}, and to mount one was refused (Operation not permitted (os error 1)): mount one \
                 there (mount -t bpf bpf {at}), or give the process CAP_SYS_ADMIN"
            )
        );
        let both = without(CapabilitySet::SYS_ADMIN | CapabilitySet::BPF, pins.clone()).unwrap_err();
        assert!(both.starts_with("the process lacks CAP_BPF, and"), "{both}");
        assert!(!mount::is_bpf(&parent).unwrap());
        assert_eq!(without(CapabilitySet::empty(), pins.clone()), Ok(()));
        assert!(mount::is_bpf(&parent).unwrap());
        // It is there, so the right to mount is not needed any more.
        assert_eq!(without(CapabilitySet::SYS_ADMIN, pins.clone()), Ok(()));
        assert!(!mount::below(&pins).unwrap());
        rustix::mount::unmount(&parent, rustix::mount::UnmountFlags::empty()).unwrap();
        fs::remove_dir(&parent).unwrap();
        let gone = able(&pins).unwrap_err().to_string();
        assert!(
            gone.starts_with(&format!("look at {at}, where a BPF file system is to be: No such file")),
            "{gone}"
        );
    }
}
