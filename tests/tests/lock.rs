//! One Tandem per node, seen from pods: they share the node's network and nothing else.

use std::io::Read as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tandem_tests::eventually;
use tandem_tests::manifests::Folder;
use tandem_tests::netns::{Namespace, feed_command, run_command};
use tandem_tests::scratch::Scratch;
use tandem_tests::tandem::{Tandem, binary};

const TABLE: &str = "table ip tandem-node-lock";
const PATIENCE: Duration = Duration::from_secs(20);

/// A node without any Service.
struct Empty {
    namespace: Namespace,
    folder: Folder,
    scratch: Scratch,
}

impl Empty {
    fn new() -> Result<Self> {
        let scratch = Scratch::new("lock")?;
        let folder = Folder::new(scratch.path().join("manifests"))?;
        // A file without objects says that there are none. A folder without files changes nothing.
        folder.write("none.yaml", &[])?;
        Ok(Self {
            namespace: Namespace::new("lock")?,
            folder,
            scratch,
        })
    }

    fn start(&self) -> Result<Tandem> {
        Tandem::in_namespace(&self.namespace, "node1")
            .directory(&self.folder)
            .start()
    }

    /// Tandem as another pod starts it: there it is process 1, and sees no process outside.
    fn in_a_pod(&self, name: &str) -> Result<Command> {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.arg(binary()?).args(["run", "--hostname-override", "node1"]);
        command.arg(format!("--source=directory:{}", self.folder.path().display()));
        command.arg(format!(
            "--socket={}",
            self.scratch.path().join(name).join("tandem.sock").display()
        ));
        command
            .env("POD_NAME", name)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        std::fs::create_dir_all(self.scratch.path().join(name))?;
        Ok(command)
    }

    fn tables(&self) -> Result<String> {
        self.namespace.exec(&["nft", "list", "tables"])
    }

    fn wait_for_lock(&self) -> Result<()> {
        let held = || self.tables().ok()?.contains(TABLE).then_some(());
        eventually(PATIENCE, held).context("nobody takes the lock")
    }

    fn nft(&self, orders: &str) -> Result<String> {
        let mut command = Command::new("nft");
        command.args(["-f", "-"]);
        self.namespace.run(|| feed_command(&mut command, orders))?
    }
}

/// Ends a program that a test started, even if the test fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The message of a Tandem that was refused.
fn refusal(namespace: &Namespace, command: &mut Command) -> Result<String> {
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut second = Running(namespace.spawn(command)?);
    let ended = eventually(PATIENCE, || second.0.try_wait().ok().flatten());
    ensure!(
        !ended.context("two Tandems run on one node")?.success(),
        "it ended well"
    );
    let mut words = String::new();
    second
        .0
        .stderr
        .take()
        .context("it has no log")?
        .read_to_string(&mut words)?;
    println!("{words}");
    Ok(words)
}

#[test]
fn a_tandem_of_another_pod_is_named_by_what_the_lock_says_of_it() -> Result<()> {
    let node = Empty::new()?;
    let first = Running(node.namespace.spawn(&mut node.in_a_pod("tandem-first")?)?);
    node.wait_for_lock()?;
    let words = [
        "another tandem runs on this node: pid 1 (tandem run --hostname-override",
        ") on tandem-first, since 20",
        "in another pid namespace, ",
    ];
    // From the node, where process 1 is another process, and from a third place.
    let mut second = node.start()?;
    second.expect_error(words[0]);
    let line = second.wait_log(words[0], PATIENCE)?;
    let other = refusal(&node.namespace, &mut node.in_a_pod("tandem-second")?)?;
    for (told, word) in [line, other].iter().flat_map(|told| words.map(|word| (told, word))) {
        ensure!(told.contains(word), "{word:?} is not in: {told}");
    }
    second.finish()?;
    drop(first);
    // It ends with its pid namespace, a moment after the program that made the namespace.
    let free = || {
        (!node
            .namespace
            .exec(&["nft", "list", "ruleset"])
            .ok()?
            .contains("flags owner"))
        .then_some(())
    };
    eventually(PATIENCE, free).context("the first one does not end")?;
    node.start()?.wait_ready()
}

#[test]
fn a_tandem_outside_is_named_to_one_in_a_pod() -> Result<()> {
    let node = Empty::new()?;
    let mut first = node.start()?;
    first.wait_ready()?;
    let told = refusal(&node.namespace, &mut node.in_a_pod("tandem-second")?)?;
    let pid = first.pid().context("it does not run")?;
    let name = format!("another tandem runs on this node: pid {pid} (tandem run ");
    ensure!(
        told.contains(&name) && told.contains("in another pid namespace"),
        "{told}"
    );
    first.finish()
}

#[test]
fn who_may_not_change_nftables_does_not_keep_tandem_from_starting() -> Result<()> {
    let node = Empty::new()?;
    let squat = "table ip tandem-node-lock { flags owner; }\n";
    let nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let bounded = ["--bounding-set", "-net_admin", "--inh-caps", "-net_admin"];
    for arguments in [&nobody[..], &bounded] {
        let mut command = Command::new("setpriv");
        command.args(arguments).args(["nft", "-f", "-"]);
        let made = node.namespace.run(|| feed_command(&mut command, squat))?;
        ensure!(made.is_err(), "{arguments:?} made the table");
    }
    node.nft(squat).context("with the right it can be made")?;
    let name = SocketAddr::from_abstract_name("tandem-node-agent")?;
    let _socket = node.namespace.run(|| UnixListener::bind_addr(&name))??;
    let mut tandem = node.start()?;
    tandem.wait_ready()?;
    println!("lock_squatted: refused");
    tandem.finish()
}

#[test]
fn a_tandem_that_may_not_change_nftables_says_what_it_lacks() -> Result<()> {
    let node = Empty::new()?;
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]);
    command.arg(binary()?).args(["run", "--hostname-override", "node1"]);
    command.arg(format!("--source=directory:{}", node.folder.path().display()));
    let told = refusal(&node.namespace, &mut command)?;
    ensure!(
        told.contains("table ip tandem-node-lock: not permitted (CAP_NET_ADMIN is missing)"),
        "{told}"
    );
    Ok(())
}

#[test]
fn a_killed_tandem_holds_no_lock_and_the_next_one_starts_at_once() -> Result<()> {
    let node = Empty::new()?;
    let mut tandem = node.start()?;
    tandem.wait_ready()?;
    for _ in 0..3 {
        ensure!(node.tables()?.contains(TABLE), "{}", node.tables()?);
        tandem.kill()?;
        tandem.restart()?;
        tandem.wait_ready()?;
    }
    ensure!(tandem.terminate()?.success(), "it did not end well");
    ensure!(!node.tables()?.contains(TABLE), "{}", node.tables()?);
    tandem.finish()
}

#[test]
fn a_table_of_that_name_from_a_file_keeps_nobody_from_starting_and_cleanup_takes_it_away() -> Result<()> {
    let node = Empty::new()?;
    let plain = "table ip tandem-node-lock {\ncomment \"from a file\"\nchain a { }\n}\n";
    node.nft(plain)?;
    let mut tandem = node.start()?;
    tandem.wait_ready()?;
    let listing = node.namespace.exec(&["nft", "list", "ruleset"])?;
    ensure!(!listing.contains("from a file"), "{listing}");
    tandem.kill()?;
    node.nft("delete table ip tandem-node-lock\n")?;
    node.nft(plain)?;
    cleanup(&node.namespace, &tandem.socket())?;
    ensure!(node.tables()?.is_empty(), "{}", node.tables()?);
    tandem.finish()
}

fn cleanup(namespace: &Namespace, socket: &Path) -> Result<()> {
    let mut command = Command::new(binary()?);
    command.args(["run", "--cleanup", "--hostname-override", "node1", "--socket"]);
    command.arg(socket);
    namespace.run(|| run_command(&mut command))?.map(drop)
}

#[test]
fn flushing_all_that_nft_may_flush_leaves_the_lock() -> Result<()> {
    let node = Empty::new()?;
    let mut first = node.start()?;
    first.wait_ready()?;
    node.namespace.exec(&["nft", "flush", "ruleset"])?;
    ensure!(node.tables()?.contains(TABLE), "{}", node.tables()?);
    let told = refusal(&node.namespace, &mut node.in_a_pod("tandem-second")?)?;
    ensure!(told.contains("another tandem runs on this node"), "{told}");
    first.finish()
}
