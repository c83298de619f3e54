//! Network namespaces that are always removed again.
//!
//! A [`Namespace`] is called `tdm-<pid>-<n>-<label>`. Dropping it deletes it. A small shell, the reaper, waits on a
//! pipe for the end of this process and deletes what is left. So nothing stays after `kill -9`, a panic that aborts, a
//! static value or Ctrl-C. Before the first namespace is made, leftovers of dead processes are removed.
//!
//! [`Namespace::run`] executes a closure on a new thread inside the namespace. Sockets that are made there belong to
//! the namespace, and programs that are started there run in it. Nothing here touches the namespace in which the tests
//! run.
//!
//! A namespace may have a cgroup folder ([`crate::cgroup`]). Then every thread that enters the namespace also enters
//! that folder.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{self, Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::group::Group;
use crate::patience;

const FOLDER: &str = "/run/netns";

/// Waits for end of file, then removes the namespaces `$1*`, the programs in them, the cgroups `$1*`, and the folders
/// `$2*` with the file systems that are mounted in them. A cgroup can be removed once its processes have ended, a moment after they were killed.
const REAP: &str = r#"cat >/dev/null
for file in /run/netns/"$1"*; do
  [ -e "$file" ] || continue
  for pid in $(ip netns pids "${file##*/}"); do kill -9 "$pid"; done
  ip netns delete "${file##*/}"
done
for try in 1 2 3 4 5 6 7 8 9 10; do
  again=
  for group in /sys/fs/cgroup/"$1"* /sys/fs/cgroup/*/"$1"*; do
    [ -d "$group" ] || continue
    # a program may have started while the namespaces were looked through
    find "$group" -name cgroup.threads -exec cat {} + 2>/dev/null | while read -r thread; do kill -9 "$thread"; done
    find "$group" -depth -type d -exec rmdir {} + || again=yes
  done
  [ "$again" ] || break
  sleep 0.5
done
while read -r device mount rest; do
  case $mount in "$2"*) umount "$mount" || umount -l "$mount" ;; esac
done </proc/self/mounts
rm -rf "$2"*"#;

/// A network namespace of a test. It is deleted when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Namespace(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    entrance: Entrance,
    keep: bool,
}

/// A handle with which threads can enter a namespace after a borrow of it has ended.
#[derive(Clone, Debug)]
pub struct Entrance {
    network: Arc<File>,
    /// The cgroup folder of the threads that enter, once it is known.
    group: Arc<OnceLock<Group>>,
}

impl Namespace {
    /// Makes an empty namespace with `lo` up and both families switched on.
    pub fn new(label: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        start_reaper()?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self::create(format!("{}{count}-{label}", prefix(process::id())), false)
    }

    /// Makes a namespace with exactly this name. It stays when it is dropped, for `make cluster`.
    pub fn fixed(name: &str) -> Result<Self> {
        Self::create(name.to_owned(), true)
    }

    /// The namespace that the calling thread is in.
    pub fn current() -> Result<Self> {
        Self::of_others("this", Path::new("/proc/thread-self/ns/net"))
    }

    /// A namespace that others made and remove, by its file.
    pub fn of_others(name: &str, path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("open namespace {}", path.display()))?;
        Ok(Self(Arc::new(Inner {
            name: name.to_owned(),
            entrance: Entrance::new(file),
            keep: true,
        })))
    }

    /// Another way into the same network. Threads that enter by it are in this cgroup folder.
    #[must_use]
    pub fn beside(&self, group: &Group) -> Self {
        Self(Arc::new(Inner {
            name: self.0.name.clone(),
            entrance: Entrance {
                network: Arc::clone(&self.0.entrance.network),
                group: Arc::new(OnceLock::from(group.clone())),
            },
            keep: true,
        }))
    }

    /// From now on, every thread that enters the namespace enters this cgroup folder too.
    pub fn settle(&self, group: &Group) -> Result<()> {
        let set = self.0.entrance.group.set(group.clone());
        ensure!(set.is_ok(), "namespace {} has a cgroup already", self.name());
        Ok(())
    }

    fn create(name: String, keep: bool) -> Result<Self> {
        run_command(Command::new("ip").args(["netns", "add", &name]))?;
        let path = Path::new(FOLDER).join(&name);
        let file = File::open(&path).with_context(|| format!("open namespace {}", path.display()))?;
        let namespace = Self(Arc::new(Inner {
            name,
            entrance: Entrance::new(file),
            keep,
        }));
        // Addresses are usable at once, because nothing else on these links could have them.
        namespace.sysctls(&[
            ("net/ipv6/conf/all/disable_ipv6", "0"),
            ("net/ipv6/conf/default/disable_ipv6", "0"),
            ("net/ipv6/conf/all/accept_dad", "0"),
            ("net/ipv6/conf/default/accept_dad", "0"),
            ("net/ipv6/conf/default/router_solicitations", "0"),
            ("net/ipv4/conf/all/rp_filter", "0"),
            ("net/ipv4/conf/default/rp_filter", "0"),
            // A refusal is an ICMP error, and tests cause more of them than the kernel's limits allow.
            ("net/ipv4/icmp_ratelimit", "0"),
            ("net/ipv6/icmp/ratelimit", "0"),
        ])?;
        namespace.lift_icmp_limits()?;
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Its name in `ip netns`.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// A handle for threads that outlive this borrow.
    pub fn entrance(&self) -> Entrance {
        self.0.entrance.clone()
    }

    /// Runs a closure inside the namespace, on a thread of its own, and returns its result.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let inside = scope.spawn(|| self.0.entrance.enter().map(|()| work()));
            match inside.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Starts a program inside the namespace. It is killed when this process ends, if not before.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        let what = format!("{command:?}");
        self.run(|| command.spawn())?
            .with_context(|| format!("start {what} in {}", self.name()))
    }

    /// Runs a program inside the namespace and waits for its end. Returns what it printed, or an error if it failed.
    pub fn exec(&self, arguments: &[&str]) -> Result<String> {
        let (program, rest) = arguments.split_first().context("no program given")?;
        let mut command = Command::new(program);
        command.args(rest);
        self.run(|| run_command(&mut command))?
            .with_context(|| format!("in namespace {}", self.name()))
    }

    /// Runs lines with `ip -batch`, for example `"addr add 192.0.2.1/24 dev eth0"`. If one fails, the result is an
    /// error.
    pub fn ip(&self, lines: &str) -> Result<()> {
        let mut command = Command::new("ip");
        command.args(["-batch", "-"]);
        self.run(|| feed_command(&mut command, lines))?
            .with_context(|| format!("ip in namespace {}:\n{lines}", self.name()))?;
        Ok(())
    }

    /// Writes kernel settings, by their path under `/proc/sys`.
    pub fn sysctls(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.run(|| {
            for (key, value) in settings {
                fs::write(Path::new("/proc/sys").join(key), value).with_context(|| format!("set {key} to {value}"))?;
            }
            Ok(())
        })?
    }

    /// Removes the limit on all ICMP errors together. Newer kernels have it in each namespace, older ones once.
    fn lift_icmp_limits(&self) -> Result<()> {
        let limits = ["net/ipv4/icmp_msgs_per_sec", "net/ipv4/icmp_msgs_burst"];
        let exists = |key: &&str| Path::new("/proc/sys").join(key).exists();
        let here: Vec<&str> = self.run(|| limits.into_iter().filter(exists).collect())?;
        here.into_iter().try_for_each(|key| self.sysctls(&[(key, "100000")]))
    }

    /// Makes it a router for both families.
    pub fn forward(&self) -> Result<()> {
        self.sysctls(&[("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1")])
    }

    /// Makes a cable from `here` in this namespace to `there` in the other. Both ends are up and have their addresses
    /// (with prefix length). It makes no routes.
    pub fn cable(&self, here: &str, addresses: &[&str], other: &Self, there: &str, theirs: &[&str]) -> Result<()> {
        // The kernel tells IPv6 of a new carrier at once only if the two ends have different numbers. Otherwise it
        // takes up to a second, in which no neighbour answers.
        static NUMBER: AtomicU32 = AtomicU32::new(100);
        let number = NUMBER.fetch_add(2, Ordering::Relaxed);
        let (peer, namespace) = (number + 1, other.name());
        self.ip(&format!(
            "link add {here} index {number} type veth peer name {there} index {peer} netns {namespace}"
        ))?;
        self.address(here, addresses)?;
        other.address(there, theirs)
    }

    /// Gives a link its addresses and switches it on.
    pub fn address(&self, link: &str, addresses: &[&str]) -> Result<()> {
        let mut lines = String::new();
        for address in addresses {
            let no_check = if address.contains(':') { " nodad" } else { "" };
            let _ = writeln!(lines, "addr add {address} dev {link}{no_check}");
        }
        let _ = writeln!(lines, "link set {link} up");
        self.ip(&lines)?;
        self.wait_local(addresses)
    }

    /// Waits until the namespace takes packets to these addresses (the prefix length does not matter). The kernel
    /// makes the route of a new IPv6 address in a worker, even without a check for duplicates. Until then a program can
    /// bind to the address, and a packet to it is forwarded.
    pub fn wait_local(&self, addresses: &[&str]) -> Result<()> {
        let limit = patience(Duration::from_secs(5));
        let deadline = Instant::now() + limit;
        for address in addresses.iter().filter(|address| address.contains(':')) {
            let alone = address.split('/').next().unwrap_or(address);
            let arguments = ["ip", "-6", "route", "show", "table", "local", "exact", alone];
            while self.exec(&arguments)?.is_empty() {
                ensure!(
                    Instant::now() < deadline,
                    "{}: no route to {address} after {limit:?}",
                    self.name()
                );
                thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = run_command(Command::new("ip").args(["netns", "delete", &self.name]))
        {
            eprintln!("namespace {} was not deleted: {error:#}", self.name);
        }
    }
}

impl Entrance {
    fn new(network: File) -> Self {
        Self {
            network: Arc::new(network),
            group: Arc::default(),
        }
    }

    /// Moves the calling thread to the namespace and its cgroup folder, for the rest of its life.
    fn enter(&self) -> Result<()> {
        if let Some(group) = self.group.get() {
            group.enter()?;
        }
        if self.is_here()? {
            return Ok(()); // a program in a Pod may not even ask for it
        }
        move_into_link_name_space(self.network.as_fd(), Some(LinkNameSpaceType::Network))
            .context("enter the network namespace")
    }

    /// Whether the calling thread is in the namespace.
    fn is_here(&self) -> Result<bool> {
        let here = fs::metadata("/proc/thread-self/ns/net").context("look at this network namespace")?;
        let there = self.network.metadata().context("look at the network namespace")?;
        Ok((here.dev(), here.ino()) == (there.dev(), there.ino()))
    }

    /// Starts a thread inside the namespace. The error says that it could not enter.
    pub fn thread<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<Result<T>>> {
        let entrance = self.clone();
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || entrance.enter().map(|()| work()))
            .with_context(|| format!("start thread {name}"))
    }
}

/// Runs a program and waits for its end. Returns what it printed, or an error with what it wrote to standard error.
pub fn run_command(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The same with `input` on its standard input.
pub fn feed_command(command: &mut Command, input: &str) -> Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {command:?}"))?;
    // The program may stop reading early and say why on its standard error. That message is shown.
    let written = child
        .stdin
        .take()
        .map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()));
    let output = child
        .wait_with_output()
        .with_context(|| format!("wait for {command:?}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{command:?}: {}: {}",
        output.status,
        complaint.trim()
    );
    written.with_context(|| format!("write to {command:?}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The beginning of the names of this process's namespaces and folders.
pub(crate) fn prefix(pid: u32) -> String {
    format!("tdm-{pid}-")
}

/// Starts the reaper, once per process. Before, it removes what dead processes left.
pub(crate) fn start_reaper() -> Result<()> {
    static REAPER: OnceLock<Result<ChildStdin, String>> = OnceLock::new();
    let started = REAPER.get_or_init(|| {
        for pid in leftovers() {
            // The new reaper sees the end of file at once.
            let _ = reap(pid, Stdio::null()).and_then(|mut child| Ok(child.wait()?));
        }
        let mut child = reap(process::id(), Stdio::piped()).map_err(|error| format!("{error:#}"))?;
        child
            .stdin
            .take()
            .ok_or_else(|| "reaper without standard input".to_owned())
    });
    started.as_ref().map(|_| ()).map_err(|error| anyhow::anyhow!("{error}"))
}

fn reap(pid: u32, stdin: Stdio) -> Result<Child> {
    let prefix = prefix(pid);
    let folders = scratch_root().join(&prefix);
    Command::new("sh")
        .args(["-c", REAP, "reaper", &prefix])
        .arg(folders)
        .stdin(stdin)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0) // Ctrl-C must not end the reaper before it has done its work
        .spawn()
        .context("start the reaper")
}

/// Dead processes that left namespaces or folders.
fn leftovers() -> Vec<u32> {
    let folders = [Path::new(FOLDER).to_path_buf(), scratch_root()];
    let entries = folders
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flatten()
        .flatten();
    let mut pids: Vec<u32> = entries
        .filter_map(|entry| {
            entry
                .file_name()
                .to_str()?
                .strip_prefix("tdm-")?
                .split('-')
                .next()?
                .parse()
                .ok()
        })
        .filter(|pid: &u32| !Path::new("/proc").join(pid.to_string()).exists())
        .collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// The folder in which tests make their folders.
pub(crate) fn scratch_root() -> std::path::PathBuf {
    std::env::temp_dir()
}
