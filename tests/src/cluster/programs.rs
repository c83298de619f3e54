//! The programs of the control plane, all in one binary, and what each is started with.

use std::fs::{self, File, OpenOptions};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use super::Reporter;
use super::files::{ADMIN, AUTHORITY, KUBELETS_CLIENT, PORT};
use crate::fabric::GATEWAYS;
use crate::netns::Namespace;
use crate::topology::{POD_RANGES, SERVICE_RANGES};

/// A program that runs until it is dropped, and logs to a file.
#[derive(Debug)]
pub struct Program {
    name: String,
    process: Child,
    log: PathBuf,
    keep: bool,
}

/// The binary that contains the control plane, kubelet, kube-proxy, kubeadm and kubectl.
pub fn binary() -> Result<PathBuf> {
    let path = std::env::var_os("TANDEM_CONTROLPLANE").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("controlplane/bin/controlplane"),
        PathBuf::from,
    );
    ensure!(
        path.exists(),
        "{} is not there: build it with `make controlplane`",
        path.display()
    );
    Ok(path)
}

impl Program {
    pub(super) fn start(
        inside: &Namespace,
        folder: &Path,
        name: &str,
        arguments: &[String],
        keep: bool,
    ) -> Result<Self> {
        let mut command = Command::new(binary()?);
        command.arg(name).args(arguments); // the first argument chooses the program
        Self::start_command(inside, folder, name, command, keep)
    }

    /// Starts any program, with its log in this folder.
    pub(crate) fn start_command(
        inside: &Namespace,
        folder: &Path,
        name: &str,
        mut command: Command,
        keep: bool,
    ) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let file: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .context("open a log file")?;
        // Ctrl-C at a terminal must reach only the test, which then ends this program.
        command.current_dir(folder).stdin(Stdio::null()).process_group(0);
        command
            .stdout(file.try_clone().context("open a log file")?)
            .stderr(file);
        let process = inside.spawn(&mut command)?;
        Ok(Self {
            name: name.to_owned(),
            process,
            log,
            keep,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What it has logged.
    pub fn log(&self) -> Result<String> {
        fs::read_to_string(&self.log).with_context(|| format!("read {}", self.log.display()))
    }

    /// An error if it has ended, with the end of its log.
    pub fn check(&mut self) -> Result<()> {
        if let Some(status) = self.process.try_wait()? {
            let log = self.log()?;
            let lines: Vec<&str> = log.lines().collect();
            bail!(
                "{} ended with {status}:\n{}",
                self.name,
                lines[lines.len().saturating_sub(20)..].join("\n")
            );
        }
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if !self.keep {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

pub(super) fn etcd(folder: &Path) -> Vec<String> {
    let data = folder.join("etcd");
    vec![
        format!("--data-dir={}", data.display()),
        "--unsafe-no-fsync".to_owned(), // its data need not survive a crash
        "--listen-client-urls=http://127.0.0.1:2379".to_owned(),
        "--advertise-client-urls=http://127.0.0.1:2379".to_owned(),
        "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
        "--initial-advertise-peer-urls=http://127.0.0.1:2380".to_owned(),
        "--initial-cluster=default=http://127.0.0.1:2380".to_owned(),
        "--log-level=warn".to_owned(),
    ]
}

pub(super) fn api_server(folder: &Path) -> Vec<String> {
    let file = |name: &str| folder.join(name).display().to_string();
    let (address, ranges) = (GATEWAYS.0, SERVICE_RANGES.join(","));
    vec![
        "--etcd-servers=http://127.0.0.1:2379".to_owned(),
        format!("--secure-port={PORT}"),
        format!("--bind-address={address}"),
        format!("--advertise-address={address}"),
        format!("--service-cluster-ip-range={ranges}"),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", file("sa.key")),
        format!("--service-account-signing-key-file={}", file("sa.key")),
        format!("--tls-cert-file={}", file("server.crt")),
        format!("--tls-private-key-file={}", file("server.key")),
        format!("--token-auth-file={}", file("tokens.csv")),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--allow-privileged".to_owned(),
        format!("--cert-dir={}", file("certs")),
    ]
}

/// More flags of the API server: those that a caller asks for, and those that depend on who reports.
pub(super) fn flags(folder: &Path, asked: &[&str], reporter: Reporter) -> Vec<String> {
    let asked = asked.iter().map(|flag| (*flag).to_owned());
    let file = |end: &str| folder.join(format!("{KUBELETS_CLIENT}.{end}")).display().to_string();
    let own = match reporter {
        Reporter::Test => vec![
            // Pods need no service accounts here, because nothing in them asks the API server.
            "--disable-admission-plugins=ServiceAccount".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
        ],
        Reporter::Kubelets => vec![
            format!("--kubelet-client-certificate={}", file("crt")),
            format!("--kubelet-client-key={}", file("key")),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
        ],
    };
    own.into_iter().chain(asked).collect()
}

pub(super) fn scheduler(folder: &Path) -> Vec<String> {
    let kubeconfig = folder.join(ADMIN);
    let kubeconfig = kubeconfig.display();
    vec![
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--leader-elect=false".to_owned(),
        format!("--cert-dir={}", folder.join("certs").display()),
    ]
}

pub(super) fn controller_manager(folder: &Path, reporter: Reporter) -> Vec<String> {
    let (kubeconfig, key) = (folder.join(ADMIN), folder.join("sa.key"));
    let kubeconfig = kubeconfig.display();
    let own = match reporter {
        // No kubelet reports here, so these controllers would soon mark every node lost and its pods unready.
        Reporter::Test => "--controllers=*,-node-lifecycle-controller,-taint-eviction-controller".to_owned(),
        // Without it every Pod would get an empty file as the API server's authority.
        Reporter::Kubelets => format!("--root-ca-file={}", folder.join(AUTHORITY).display()),
    };
    vec![
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        format!("--service-account-private-key-file={}", key.display()),
        "--allocate-node-cidrs".to_owned(),
        format!("--cluster-cidr={}", POD_RANGES.join(",")),
        "--node-cidr-mask-size-ipv6=64".to_owned(),
        "--leader-elect=false".to_owned(),
        "--kube-api-qps=500".to_owned(),
        "--kube-api-burst=1000".to_owned(),
        format!("--cert-dir={}", folder.join("certs").display()),
        own,
    ]
}
