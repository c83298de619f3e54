//! The files of an image as the only files that Tandem sees: does it start, and does it find the API server by name?
//!
//! [`check`] unpacks an image into a folder and runs its program there with `chroot`, in a namespace with a name server
//! and with API servers that only note who asked. As in a pod, the folder gets `/etc/hosts`, `/etc/resolv.conf` and
//! `/proc`, and nothing else.

mod name_server;
mod servers;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::eventually;
use crate::netns::{Namespace, run_command};
use crate::scratch::Scratch;
use name_server::NameServer;
use servers::{Asked, Server};

/// How long Tandem may take from its start to its first question.
const PATIENCE: Duration = Duration::from_secs(15);

/// What was tried, and what came of it.
#[derive(Debug)]
pub struct Answer {
    /// What was tried.
    pub what: &'static str,
    /// Whether it was as it has to be.
    pub came: Result<()>,
}

/// A way to the API server.
struct Way {
    what: &'static str,
    /// The server in the kubeconfig.
    url: &'static str,
    /// The `Host` that it has to be asked for.
    host: &'static str,
}

const WAYS: [Way; 6] = [
    Way {
        what: "an IPv4 address of the hosts file",
        url: "http://four.hosts.test:8080",
        host: "four.hosts.test:8080",
    },
    Way {
        what: "an IPv6 address of the hosts file",
        url: "http://six.hosts.test:8080",
        host: "six.hosts.test:8080",
    },
    Way {
        what: "an A record",
        url: "http://four.names.test:8080",
        host: "four.names.test:8080",
    },
    Way {
        what: "an AAAA record",
        url: "http://six.names.test:8080",
        host: "six.names.test:8080",
    },
    Way {
        what: "a short name and a search domain",
        url: "http://four:8080",
        host: "four:8080",
    },
    Way {
        what: "TLS with an authority of the image",
        url: "https://four.names.test:8443",
        host: "four.names.test:8443",
    },
];

/// The names that only the hosts file has.
const HOSTS: &str = "127.0.0.1 localhost\n127.0.0.2 four.hosts.test\nfd00::2 six.hosts.test\n";
/// `elsewhere.test` comes first, and no name is there.
const RESOLV: &str = "nameserver 127.0.0.1\nsearch elsewhere.test names.test\noptions ndots:5 timeout:1\n";

/// Tries everything with the image of this layout for this machine's processor. There must be one image in it.
pub fn check(layout: &Path) -> Result<Vec<Answer>> {
    let root = Root::unpack(layout)?;
    let namespace = Namespace::new("empty-root")?;
    namespace.address("lo", &["127.0.0.2/8", "fd00::2/128"])?;
    let names = [
        ("four.names.test", "127.0.0.3".parse()?),
        ("six.names.test", "fd00::2".parse()?),
    ];
    let _names = NameServer::start(&namespace, &names)?;
    let (server, certificate) = Server::start(&namespace, "four.names.test")?;
    root.trust(&certificate)?;

    let mut answers = vec![
        Answer {
            what: "tandem says its version",
            came: root.version(&namespace, "tandem"),
        },
        Answer {
            what: "kube-proxy is tandem",
            came: root.version(&namespace, "kube-proxy"),
        },
    ];
    for way in &WAYS {
        answers.push(Answer {
            what: way.what,
            came: root.ask(&namespace, &server, way),
        });
    }
    Ok(answers)
}

/// The files of an image in a folder.
struct Root {
    scratch: Scratch,
}

impl Root {
    fn unpack(layout: &Path) -> Result<Self> {
        let scratch = Scratch::new("empty-root")?;
        fs::create_dir(scratch.path().join("root")).context("make the root")?;
        let root = Self { scratch };
        let manifest = manifest(layout)?;
        for layer in manifest["layers"].as_array().context("no layers")? {
            let blob = blob(layout, layer)?;
            run_command(Command::new("tar").arg("-xf").arg(blob).arg("-C").arg(root.path("")))?;
        }
        for folder in ["proc", "etc", "run/tandem", "tmp"] {
            fs::create_dir_all(root.path(folder)).with_context(|| format!("make {folder}"))?;
        }
        root.write("etc/hosts", HOSTS)?;
        root.write("etc/resolv.conf", RESOLV)?;
        Ok(root)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join("root").join(name)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        fs::write(self.path(name), text).with_context(|| format!("write {name}"))
    }

    /// Adds a certificate to the authorities of the image.
    fn trust(&self, certificate: &str) -> Result<()> {
        let path = self.path("etc/ssl/certs/ca-certificates.crt");
        let file = fs::OpenOptions::new().append(true).open(&path);
        let mut file = file.with_context(|| format!("the image has no {}", path.display()))?;
        file.write_all(certificate.as_bytes()).context("add a certificate")
    }

    /// A program of the image, in its root. The mount of `/proc` ends with the program.
    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let script = "mount -t proc proc \"$1/proc\" && exec chroot \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
        command
            .arg(self.path(""))
            .arg(format!("/usr/local/bin/{program}"))
            .args(arguments);
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.stdin(Stdio::null());
        command
    }

    fn version(&self, namespace: &Namespace, program: &str) -> Result<()> {
        let mut command = self.command(program, &["--version"]);
        let Output { status, stdout, stderr } = namespace.run(|| command.output())?.context("run it")?;
        let said = String::from_utf8_lossy(&stdout);
        ensure!(
            status.success() && said.starts_with("tandem "),
            "{status}: {said}{}",
            String::from_utf8_lossy(&stderr)
        );
        Ok(())
    }

    /// Starts Tandem with this way to the API server, and waits until it has asked there.
    fn ask(&self, namespace: &Namespace, server: &Server, way: &Way) -> Result<()> {
        let kubeconfig = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{"name": "it", "cluster": {"server": way.url}}],
            "users": [{"name": "it", "user": {"token": "secret"}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        });
        self.write("kubeconfig", &kubeconfig.to_string())?;
        let log = self.scratch.path().join("log");
        let out = fs::File::create(&log).context("make a log")?;
        let mut command = self.command(
            "tandem",
            &["run", "--kubeconfig", "/kubeconfig", "--hostname-override", "node"],
        );
        command
            .stdout(out.try_clone().context("open the log twice")?)
            .stderr(out);
        let mut tandem = Killed(namespace.spawn(&mut command)?);
        server.forget();
        let asked = eventually(PATIENCE, || {
            server.asked().or_else(|| tandem.ended().then_some(Asked::Nobody))
        });
        match asked {
            Some(Asked::For(host)) if host == way.host => Ok(()),
            other => bail!(
                "the API server was asked for {other:?}; the log:\n{}",
                fs::read_to_string(&log).unwrap_or_default()
            ),
        }
    }
}

/// A program that is killed when this is dropped.
struct Killed(Child);

impl Killed {
    fn ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended
        let _ = self.0.wait();
    }
}

/// The manifest for this machine's processor.
fn manifest(layout: &Path) -> Result<Value> {
    let top = read(&layout.join("index.json"))?;
    let names = top["manifests"].as_array().context("no manifests")?;
    let [name] = names.as_slice() else {
        bail!("{} has {} images, and not one", layout.display(), names.len());
    };
    let index = read(&blob(layout, name)?)?;
    let here = tandem_image::Architecture::HERE.name();
    let platforms = index["manifests"].as_array().context("no manifests")?;
    let ours = platforms.iter().find(|one| one["platform"]["architecture"] == here);
    read(&blob(layout, ours.with_context(|| format!("no image for {here}"))?)?)
}

fn blob(layout: &Path, descriptor: &Value) -> Result<PathBuf> {
    let digest = descriptor["digest"].as_str().context("no digest")?;
    Ok(layout.join("blobs").join(digest.replace(':', "/")))
}

fn read(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("read {}", path.display()))
}
