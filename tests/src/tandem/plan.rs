//! How a Tandem is started: its sources, its settings, its arguments.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::log::Log;
use super::{CONFIGURATION, OWN_CONFIGURATION, Tandem, binary};
use crate::bpffs::BpfFolder;
use crate::cgroup::NodeGroups;
use crate::manifests::{self, Folder};
use crate::netns::Namespace;
use crate::scratch::Scratch;
use crate::topology::POD_RANGES;
use crate::way::Way;

/// How to start a Tandem.
#[derive(Debug)]
pub struct Plan {
    pub(super) namespace: Namespace,
    pub(super) node: String,
    pub(super) source: Vec<String>,
    pub(super) arguments: Vec<String>,
    pub(super) configuration: Value,
    pub(super) own: Value,
    pub(super) way: Option<Way>,
    pub(super) hosts: Option<PathBuf>,
    pub(super) capabilities: Option<Vec<String>>,
    pub(super) expected: Vec<String>,
}

impl Plan {
    /// Takes its objects from a folder.
    #[must_use]
    pub fn directory(mut self, folder: &Folder) -> Self {
        self.source = vec!["--source".to_owned(), format!("directory:{}", folder.path().display())];
        self
    }

    /// Takes its objects from an API server, in the way that the environment asks for.
    #[must_use]
    pub fn kubeconfig(mut self, path: &Path) -> Self {
        // With --config, the flag with that name is ignored.
        self.configuration["clientConnection"] = json!({ "kubeconfig": path });
        self.source = ["--source", "kubernetes"].map(str::to_owned).to_vec();
        match Way::asked() {
            Ok(Some(way)) => self.way(way),
            Ok(None) => self,
            // Its start fails, and says why.
            Err(error) => self.arguments(&[&format!("{error:#}")]),
        }
    }

    /// Takes its objects from the API server in this way. [`Tandem::check_log`] checks that it does.
    #[must_use]
    pub fn way(mut self, way: Way) -> Self {
        self.configuration["clientConnection"]["contentType"] = json!(way.encoding.value());
        self.way = Some(way);
        self.own_setting("apiServer", json!({ "lists": way.lists.value() }))
    }

    /// Sets a field of its `KubeProxyConfiguration`.
    #[must_use]
    pub fn setting(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.configuration[field] = value.into();
        self
    }

    /// Sets a field of its `TandemConfiguration`, the file beside the other.
    #[must_use]
    pub fn own_setting(mut self, field: &str, value: impl Into<Value>) -> Self {
        if self.own.is_null() {
            self.own = json!({ "apiVersion": "tandem.config/v1alpha1", "kind": "TandemConfiguration" });
        }
        self.own[field] = value.into();
        self
    }

    /// Has it follow in sockets (`dataPlane: xdp`), those of the programs in a node's cgroup folders.
    #[must_use]
    pub fn sockets(self, groups: &NodeGroups, pins: &BpfFolder) -> Self {
        self.own_setting("dataPlane", "xdp")
            .own_setting("nodeCgroup", groups.path().display().to_string())
            .own_setting("bpfFolder", pins.path().display().to_string())
    }

    /// Has it take packets from outside on these devices, beside what follows in sockets.
    #[must_use]
    pub fn devices(self, names: &[&str]) -> Self {
        self.own_setting("xdp", json!({ "devices": names }))
    }

    /// Configures it only by flags. There is no file, and settings for a file are ignored.
    #[must_use]
    pub fn without_a_file(mut self) -> Self {
        self.configuration = Value::Null;
        self.arguments(&["--cluster-cidr", &POD_RANGES.join(",")])
    }

    /// Shows it this file as `/etc/hosts`.
    #[must_use]
    pub fn hosts(mut self, file: &Path) -> Self {
        self.hosts = Some(file.to_owned());
        self
    }

    /// Gives it root's user with these capabilities alone, no way to more, and a `/proc/sys` that cannot be written, as a container
    /// has them.
    #[must_use]
    pub fn capabilities(mut self, capabilities: &[String]) -> Self {
        self.capabilities = Some(capabilities.to_vec());
        self
    }

    /// Announces an error that it logs at its start.
    #[must_use]
    pub fn expect_error(mut self, text: &str) -> Self {
        self.expected.push(text.to_owned());
        self
    }

    /// Adds arguments of `tandem run`.
    #[must_use]
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments
            .extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// Starts it. Does not wait until it is ready.
    pub fn start(self) -> Result<Tandem> {
        let scratch = Scratch::new(&self.node)?;
        let mut tandem = Tandem {
            arguments: self.write(scratch.path())?,
            own: self.own,
            program: None,
            run_by: Vec::new(),
            way: self.way,
            hosts: self.hosts,
            capabilities: self.capabilities,
            namespace: self.namespace,
            process: None,
            log: Log::default(),
            expected: self.expected,
            judged: false,
            scratch,
        };
        tandem.restart()?;
        Ok(tandem)
    }

    /// Starts it with its files in this folder. It stays when this program ends, for `make cluster`.
    pub fn start_kept(self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("make folder {}", folder.display()))?;
        let log = File::create(folder.join("tandem.log")).context("make a log file")?;
        let mut command = Command::new(binary()?);
        command.args(self.write(folder)?).env("NO_COLOR", "1").process_group(0);
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("share a log file")?)
            .stderr(log);
        self.namespace.spawn(&mut command)?;
        Ok(())
    }

    /// Writes the configuration to a folder and returns the arguments for it.
    fn write(&self, folder: &Path) -> Result<Vec<String>> {
        let file = folder.join(CONFIGURATION);
        if !self.configuration.is_null() {
            fs::write(&file, manifests::to_yaml(&self.configuration)?)
                .with_context(|| format!("write {}", file.display()))?;
        }
        if !self.own.is_null() {
            let own = folder.join(OWN_CONFIGURATION);
            fs::write(&own, manifests::to_yaml(&self.own)?).with_context(|| format!("write {}", own.display()))?;
        }
        let (file, socket) = (
            file.display().to_string(),
            folder.join("tandem.sock").display().to_string(),
        );
        let files = ["--config", &file];
        let files = files.into_iter().filter(|_| !self.configuration.is_null());
        let fixed = ["--hostname-override", &self.node, "--socket", &socket];
        Ok(["run"]
            .into_iter()
            .chain(files)
            .chain(fixed)
            .map(str::to_owned)
            .chain(self.source.iter().cloned())
            .chain(self.arguments.iter().cloned())
            .collect())
    }
}
