//! The program under test: started on a node, asked, killed, restarted, and checked when it is dropped.
//!
//! ```no_run
//! # use tandem_tests::{manifests::Folder, tandem::Tandem, topology::World};
//! # fn main() -> anyhow::Result<()> {
//! # let (world, folder) = (World::new()?, Folder::new("/tmp/manifests")?);
//! let mut tandem = Tandem::on(world.node(1)?).directory(&folder).start()?;
//! tandem.wait_ready()?;
//! tandem.expect_error("no such table"); // else any ERROR line fails the test
//! tandem.kill()?; // as kill -9 does
//! tandem.restart()?;
//! # Ok(())
//! # }
//! ```
//!
//! Dropping it lists the tables with nft, as text and JSON, and loads the text elsewhere ([`crate::nft::check`]). Then
//! it stops the process. Then it panics if the log has an ERROR line that the test did not announce. If the test fails,
//! the end of the log and both tables are printed.

mod log;
mod plan;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::manifests;
use crate::netns::{Namespace, run_command};
use crate::nft;
use crate::node::Node;
use crate::patience;
use crate::scratch::Scratch;
use crate::way::{Http, Way};

use log::Log;
pub use plan::Plan;

/// How long it may take to be ready, or to end when asked to.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long its programs in the kernel may take. The verifier looks at each of them.
pub(crate) const SOCKETS: Duration = Duration::from_mins(1);

/// The name of its `KubeProxyConfiguration`.
const CONFIGURATION: &str = "config.yaml";
/// The name of its `TandemConfiguration`.
const OWN_CONFIGURATION: &str = "tandem.conf";

/// A Tandem on a node.
#[derive(Debug)]
pub struct Tandem {
    namespace: Namespace,
    arguments: Vec<String>,
    /// Its `TandemConfiguration`.
    own: Value,
    /// The program, if it is not that of [`binary`].
    program: Option<PathBuf>,
    /// The program that runs it, with that program's arguments.
    run_by: Vec<String>,
    way: Option<Way>,
    hosts: Option<PathBuf>,
    capabilities: Option<Vec<String>>,
    process: Option<Child>,
    log: Log,
    expected: Vec<String>,
    judged: bool,
    scratch: Scratch,
}

/// The `tandem` binary: `TANDEM_BIN`, or else the one that was built beside this program.
pub fn binary() -> Result<PathBuf> {
    let path = match std::env::var_os("TANDEM_BIN") {
        Some(path) => PathBuf::from(path),
        None => beside("tandem")?,
    };
    ensure!(
        path.exists(),
        "{} is not there: build it with `cargo build -p tandem`, or use make",
        path.display()
    );
    Ok(path)
}

/// A program of the same build as this one. Tests are one folder deeper than programs.
pub fn beside(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("find this program")?;
    let folder = own.parent().context("this program is in no folder")?;
    let folder = if folder.ends_with("deps") {
        folder.parent().unwrap_or(folder)
    } else {
        folder
    };
    Ok(folder.join(name))
}

impl Tandem {
    /// Plans a Tandem on this node, with its name and [`manifests::configuration`].
    pub fn on(node: &Node) -> Plan {
        Self::in_namespace(&node.namespace, &node.name)
    }

    /// The same in any namespace.
    pub fn in_namespace(namespace: &Namespace, node: &str) -> Plan {
        Plan {
            namespace: namespace.clone(),
            node: node.to_owned(),
            source: Vec::new(),
            arguments: Vec::new(),
            configuration: manifests::configuration(),
            own: Value::Null,
            way: None,
            hosts: None,
            capabilities: None,
            expected: Vec::new(),
        }
    }

    /// Waits until it has programmed what it found at the start.
    pub fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + patience(PATIENCE);
        loop {
            if let Some(status) = self.process.as_mut().and_then(|process| process.try_wait().transpose()) {
                bail!("tandem ended with {}; its log:\n{}", status?, self.log.tail(20));
            }
            let status = self.status();
            if status.as_ref().is_ok_and(is_ready) {
                return Ok(());
            }
            if Instant::now() > deadline {
                let status = status.map_or_else(|error| format!("{error:#}"), |status| format!("{status:#}"));
                bail!(
                    "tandem is not ready after {:?}: {status}; its log:\n{}",
                    patience(PATIENCE),
                    self.log.tail(20)
                );
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until programs of its node and its pods are followed in their sockets, in both families.
    pub fn wait_sockets(&self) -> Result<()> {
        let mut last = Value::Null;
        let on = crate::eventually(SOCKETS, || {
            last = self.status().ok()?;
            follows(&last).then_some(())
        });
        on.with_context(|| {
            format!(
                "sockets are not on after {:?}: {:#}; its log:\n{}",
                patience(SOCKETS),
                last["sockets"],
                self.log.tail(20)
            )
        })
    }

    /// Waits until new flows from outside are taken by XDP.
    pub fn wait_outside(&self) -> Result<()> {
        let mut last = Value::Null;
        let on = crate::eventually(SOCKETS, || {
            last = self.status().ok()?;
            (last["outside"]["state"] == "on").then_some(())
        });
        on.with_context(|| {
            format!(
                "packets from outside are not taken after {:?}: {:#}; its log:\n{}",
                patience(SOCKETS),
                last["outside"],
                self.log.tail(20)
            )
        })
    }

    /// Whether programs of its node and its pods are followed in their sockets now, in both families.
    pub fn follows(&self) -> bool {
        self.status().is_ok_and(|status| follows(&status))
    }

    /// The output of `tandem status -o json`, even if it ends with 1 because something waits.
    pub fn status(&self) -> Result<Value> {
        let output = self.output(&["status", "-o", "json"])?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout).with_context(|| format!("no status: {}", complaint.trim()))
    }

    /// What `tandem ready` prints, also if it ends with 1.
    pub fn ready(&self) -> Result<String> {
        let output = self.output(&["ready"])?;
        let said = if output.stdout.is_empty() {
            output.stderr
        } else {
            output.stdout
        };
        Ok(String::from_utf8_lossy(&said).trim().to_owned())
    }

    /// Runs `tandem ARGUMENTS --socket …` on the node, however it ends.
    fn output(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(binary()?);
        command.args(arguments).arg("--socket").arg(self.socket());
        self.namespace
            .run(|| command.output())?
            .with_context(|| format!("run tandem {arguments:?}"))
    }

    /// The Services that `tandem services -A -o json` prints.
    pub fn services(&self) -> Result<Value> {
        let mut list = self.ask(&["services", "-A", "-o", "json"])?;
        Ok(list["items"].take())
    }

    /// Runs `tandem ARGUMENTS --socket …` on the node and returns what it printed.
    pub fn command(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(binary()?);
        command.args(arguments).arg("--socket").arg(self.socket());
        self.namespace.run(|| run_command(&mut command))?
    }

    fn ask(&self, arguments: &[&str]) -> Result<Value> {
        let answer = self.command(arguments)?;
        serde_json::from_str(&answer).with_context(|| format!("{arguments:?} did not print JSON: {answer}"))
    }

    /// Kills it as `kill -9` does, so that it cannot clean up.
    pub fn kill(&mut self) -> Result<()> {
        let mut process = self.process.take().context("tandem does not run")?;
        process.kill().context("kill tandem")?;
        process.wait().context("wait for tandem")?;
        Ok(())
    }

    /// Removes what it left (`tandem run --cleanup`), once it has ended. Returns what was logged.
    pub fn cleanup(&self) -> Result<String> {
        self.run_with("--cleanup")
    }

    /// Runs it on the node with all rights and one argument more, until it ends.
    fn run_with(&self, argument: &str) -> Result<String> {
        let mut command = Command::new(binary()?);
        command.args(&self.arguments).arg(argument).env("NO_COLOR", "1");
        let output = self
            .namespace
            .run(|| command.output())?
            .with_context(|| format!("run tandem {argument}"))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{}: {said}", output.status);
        Ok(said)
    }

    /// Does what needs all of root's rights (`tandem run --init-only`), as a privileged init container. Returns what was logged.
    pub fn init_only(&self) -> Result<String> {
        self.run_with("--init-only")
    }

    /// Asks it to end, as a kubelet does, and returns how it ended.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        let mut process = self.process.take().context("tandem does not run")?;
        if let Some(status) = process.try_wait().context("wait for tandem")? {
            return Ok(status); // it ended by itself
        }
        let pid = i32::try_from(process.id())
            .ok()
            .and_then(Pid::from_raw)
            .context("no such process id")?;
        kill_process(pid, Signal::TERM).context("ask tandem to end")?;
        let deadline = Instant::now() + patience(PATIENCE);
        while Instant::now() < deadline {
            if let Some(status) = process.try_wait().context("wait for tandem")? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(5));
        }
        process.kill().context("kill tandem")?;
        process.wait().context("wait for tandem")?;
        bail!(
            "tandem had not ended {:?} after it was asked to; its log:\n{}",
            patience(PATIENCE),
            self.log.tail(20)
        )
    }

    /// Starts it again after [`Self::kill`] or [`Self::terminate`], the same way. Does not wait until it is ready.
    pub fn restart(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "tandem still runs");
        let program = self.program.clone().map_or_else(binary, Ok)?;
        let mut command = match (&self.hosts, &self.capabilities, self.run_by.split_first()) {
            (Some(hosts), _, _) => with_hosts(hosts, &program),
            (None, Some(capabilities), _) => with_capabilities(capabilities, &program),
            (None, None, Some((runner, arguments))) => {
                let mut command = Command::new(runner);
                command.args(arguments).arg(&program);
                command
            }
            (None, None, None) => Command::new(&program),
        };
        command.args(&self.arguments).env("NO_COLOR", "1");
        match self.way.map(|way| way.http) {
            Some(Http::One) => command.env("DISABLE_HTTP2", "1"),
            Some(Http::Two) => command.env_remove("DISABLE_HTTP2"),
            None => &mut command,
        };
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = self.namespace.spawn(&mut command)?;
        self.log.follow(process.stdout.take());
        self.log.follow(process.stderr.take());
        self.process = Some(process);
        Ok(())
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// The socket by which the other commands reach it.
    pub fn socket(&self) -> PathBuf {
        self.scratch.path().join("tandem.sock")
    }

    /// At the next start, takes this program, or again the usual one.
    pub fn run_program(&mut self, program: Option<PathBuf>) {
        self.program = program;
    }

    /// At the next start, has another program run it, with these words before the command; none to run it itself. It must
    /// become the process that is started.
    pub fn run_by(&mut self, words: Vec<String>) {
        self.run_by = words;
    }

    /// Changes a field of its `TandemConfiguration`, which it watches.
    pub fn change_own_setting(&mut self, field: &str, value: impl Into<Value>) -> Result<()> {
        self.own[field] = value.into();
        let (path, new) = (
            self.scratch.path().join(OWN_CONFIGURATION),
            self.scratch.path().join("new.conf"),
        );
        fs::write(&new, manifests::to_yaml(&self.own)?).with_context(|| format!("write {}", new.display()))?;
        fs::rename(&new, &path).with_context(|| format!("write {}", path.display()))
    }

    /// A folder for files that belong to it.
    pub fn log_folder(&self) -> &Path {
        self.scratch.path()
    }

    /// Its `KubeProxyConfiguration`, which it watches.
    pub fn configuration(&self) -> PathBuf {
        self.scratch.path().join(CONFIGURATION)
    }

    /// Its log so far, across restarts.
    pub fn log(&self) -> Vec<String> {
        self.log.lines()
    }

    /// Waits for a log line that contains this text and returns it.
    pub fn wait_log(&self, text: &str, timeout: Duration) -> Result<String> {
        let found = crate::eventually(timeout, || self.log().into_iter().find(|line| line.contains(text)));
        found.with_context(|| {
            format!(
                "no log line with {text:?} after {timeout:?}; the last ones:\n{}",
                self.log.tail(20)
            )
        })
    }

    /// Announces ERROR lines that contain this text, before or after they come.
    pub fn expect_error(&mut self, text: &str) {
        self.expected.push(text.to_owned());
    }

    /// The way in which it was told to read from the API server.
    pub fn way(&self) -> Option<Way> {
        self.way
    }

    /// Fails if there are ERROR lines that were not announced, or if it read from the API server in another way than it was
    /// told to.
    pub fn check_log(&self) -> Result<()> {
        if let Some(way) = self.way {
            way.report(way.check(&self.log.lines())?)?;
        }
        let errors = self.log.errors(&self.expected);
        ensure!(
            errors.is_empty(),
            "ERROR lines that the test did not announce:\n{}",
            errors.join("\n")
        );
        Ok(())
    }

    /// Does what dropping does, with an error instead of a panic.
    pub fn finish(mut self) -> Result<()> {
        self.judge()
    }

    fn judge(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.judged, true) {
            return Ok(());
        }
        let tables = nft::check(&self.namespace);
        if self.process.is_some() {
            self.terminate()?;
        }
        tables?;
        self.log.wait_end();
        self.check_log()
    }
}

impl Drop for Tandem {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!(
                "the end of tandem's log in {}:\n{}",
                self.namespace.name(),
                self.log.tail(40)
            );
            for family in nft::FAMILIES {
                eprintln!(
                    "{}",
                    nft::text(&self.namespace, family).unwrap_or_else(|error| format!("{error:#}"))
                );
            }
            let _ = self.kill();
            return;
        }
        if in_test() {
            // The test framework captures this, and shows it only if the test fails with an error.
            println!(
                "the end of tandem's log in {}:\n{}",
                self.namespace.name(),
                self.log.tail(40)
            );
        }
        let complaint = self.judge().err().map(|error| format!("{error:#}"));
        assert!(
            complaint.is_none(),
            "in {}: {}",
            self.namespace.name(),
            complaint.unwrap_or_default()
        );
    }
}

/// The program as root of a container: with these capabilities alone, and no way to more.
fn with_capabilities(capabilities: &[String], program: &Path) -> Command {
    let given = capabilities.iter().map(|name| format!(",+{}", name.to_lowercase()));
    let bounding: String = std::iter::once("-all".to_owned()).chain(given).collect();
    let mut command = Command::new("setpriv");
    command.args([
        "--no-new-privs",
        "--inh-caps=-all",
        &format!("--bounding-set={bounding}"),
    ]);
    command.arg(program);
    in_container(&command)
}

/// Starts a program in a mount namespace of its own, in which kernel settings cannot be written, as in a container.
fn in_container(command: &Command) -> Command {
    let mut inside = Command::new("unshare");
    let script = "mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys && exec \"$0\" \"$@\"";
    inside.args(["--mount", "sh", "-c", script]);
    inside.arg(command.get_program()).args(command.get_args());
    inside
}

/// Starts a program in a mount namespace of its own, in which this file is `/etc/hosts`.
fn with_hosts(hosts: &Path, program: &Path) -> Command {
    let mut command = Command::new("unshare");
    let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
    command.args(["--mount", "sh", "-c", script]).arg(hosts).arg(program);
    command
}

/// Whether this program is a test, judged by the folder that cargo put it in.
fn in_test() -> bool {
    std::env::current_exe().is_ok_and(|path| path.parent().is_some_and(|folder| folder.ends_with("deps")))
}

/// The lines at level ERROR, and panics.
pub(crate) fn errors(log: &[String]) -> Vec<String> {
    log.iter().filter(|line| log::is_error(line)).cloned().collect()
}

/// Whether sockets of nodes and pods follow the tables of both families.
fn follows(status: &Value) -> bool {
    let families = status["families"].as_array().map_or(&[][..], Vec::as_slice);
    let sockets = &status["sockets"];
    sockets["state"] == json!("on")
        && sockets["node"]["folder"].is_string()
        && sockets["pods"]["folder"].is_string()
        && !families.is_empty()
        && families.iter().all(|family| family["follower"]["state"] == json!("on"))
}

/// Whether every list was complete once and no family waits for anything.
pub fn is_ready(status: &Value) -> bool {
    let families = status["families"].as_array().map_or(&[][..], Vec::as_slice);
    status["complete"] == json!(true)
        && !families.is_empty()
        && families
            .iter()
            .all(|family| family["ownership"].is_string() && family["lastError"].is_null())
}
