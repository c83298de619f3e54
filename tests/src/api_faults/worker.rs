//! A namespace with a Tandem and its proxy. It runs one case after the other.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::case::{Case, Kind, Naming, Phase, Way};
use super::fault::Fault;
use super::judge;
use super::losses::{Kept, Losses};
use super::proxy::{Proxy, Upstream};
use super::session::{Figures, Session};
use crate::fleet::lost_sources;
use crate::manifests::to_yaml;
use crate::netns::Namespace;
use crate::nft::{FAMILIES, Meaning, TABLE, has_table, meaning};
use crate::node::Node;
use crate::scratch::Scratch;
use crate::tandem::{Tandem, is_ready};

/// How long a start without a fault may take. All Tandems start at once.
const START: Duration = Duration::from_secs(40);
/// The time between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// After this time, Tandem has noticed a fault that it can notice at once.
const NOTICED: Duration = Duration::from_secs(1);
/// How long a file is empty or old, or a server speaks the wrong HTTP.
const WRONG_FOR: Duration = Duration::from_secs(2);

/// The meaning of both tables.
pub(super) type Tables = [Meaning; 2];

/// One of the Tandems.
pub(super) struct Worker {
    namespace: Namespace,
    proxy: Proxy,
    folder: Scratch,
    token: String,
    tandem: Tandem,
    losses: Losses,
    session: Arc<Session>,
    /// The lines of the log before the case.
    logged: usize,
    /// Whether the tables may be wrong, because a case was.
    dirty: bool,
}

/// The meaning of the tables in a namespace.
pub(super) fn tables(namespace: &Namespace) -> Result<Tables> {
    let [v4, v6] = FAMILIES.map(|family| meaning(namespace, family));
    Ok([v4?, v6?])
}

/// Removes the tables of a Tandem that does not run.
pub(super) fn remove_tables(namespace: &Namespace) -> Result<()> {
    for family in FAMILIES {
        if has_table(namespace, family)? {
            namespace.exec(&["nft", "delete", "table", family, TABLE])?;
        }
    }
    Ok(())
}

/// Waits until a Tandem has programmed everything and watches everything.
pub(super) fn wait_watching(tandem: &Tandem) -> Result<()> {
    let deadline = Instant::now() + START;
    loop {
        let Err(problem) = watching(&tandem.socket()) else {
            return Ok(());
        };
        if Instant::now() > deadline {
            let log = tandem.log();
            let tail = log[log.len().saturating_sub(20)..].join("\n");
            bail!("not ready after {START:?}: {problem:#}; its log:\n{tail}");
        }
        thread::sleep(LOOK);
    }
}

/// Fails unless a Tandem has programmed everything and watches everything.
fn watching(socket: &Path) -> Result<()> {
    let mut stream = UnixStream::connect(socket).context("connect to tandem")?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /v1/status HTTP/1.1\r\nHost: tandem\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("read the status")?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no status")?;
    let status: Value = serde_json::from_str(body).context("parse the status")?;
    let lost = lost_sources(&status);
    ensure!(lost.is_empty(), "lost: {lost:?}");
    ensure!(
        status["sources"].as_array().map(Vec::len) == Some(Kind::ALL.len()),
        "sources: {}",
        status["sources"]
    );
    ensure!(is_ready(&status), "not ready: {}", status["families"]);
    Ok(())
}

impl Worker {
    /// Makes a node like this one, and starts its Tandem without a fault. `kept` is what no change may take away.
    pub(super) fn start(node: &Node, token: &str, upstream: &Upstream, kept: &Kept) -> Result<Self> {
        let namespace = Namespace::new("faults")?;
        let addresses = [format!("{}/24", node.v4), format!("{}/64", node.v6)];
        namespace.cable(
            "eth0",
            &addresses.each_ref().map(String::as_str),
            &namespace,
            "peer",
            &[],
        )?;
        let proxy = Proxy::start(&namespace, upstream)?;
        let folder = Scratch::new("faults")?;
        let quiet = Case {
            way: Way::USUAL,
            phase: Phase::Watch,
            kind: Kind::Service,
            fault: Fault::Nothing,
            at: 0,
        };
        let session = Arc::new(Session::new(quiet));
        let kubeconfig = write_kubeconfig(folder.path(), &proxy)?;
        fs::write(folder.path().join("token"), token)?;
        fs::write(folder.path().join("ca.crt"), proxy.certificate(false))?;
        proxy.begin(Arc::clone(&session));
        let losses = Losses::watch(&namespace, kept)?;
        let tandem = Tandem::in_namespace(&namespace, &node.name)
            .kubeconfig(&kubeconfig)
            .start()?;
        let worker = Self {
            namespace,
            proxy,
            folder,
            token: token.to_owned(),
            tandem,
            losses,
            session,
            logged: 0,
            dirty: false,
        };
        wait_watching(&worker.tandem)?;
        worker.losses.ensure_all_seen()?;
        Ok(worker)
    }

    /// Brings the Tandem to the beginning of the case: it watches everything, or it does not run.
    pub(super) fn prepare(&mut self, case: Case) -> Result<()> {
        let _ = self.tandem.kill(); // it may have ended
        fs::write(self.folder.path().join("token"), &self.token)?;
        fs::write(self.folder.path().join("ca.crt"), self.proxy.certificate(false))?;
        self.losses.take();
        if std::mem::take(&mut self.dirty) {
            remove_tables(&self.namespace)?;
            self.begin(Case {
                fault: Fault::Nothing,
                ..case
            });
            self.tandem.restart()?;
            wait_watching(&self.tandem)?;
            self.tandem.kill()?;
            self.losses.take();
        }
        self.begin(case);
        if case.phase == Phase::Watch {
            self.tandem.restart()?;
            wait_watching(&self.tandem)?;
        }
        self.logged = self.tandem.log().len();
        if case.phase == Phase::Watch {
            self.arm()?;
        }
        Ok(())
    }

    fn begin(&mut self, case: Case) {
        self.session = Arc::new(Session::new(case));
        self.proxy.begin(Arc::clone(&self.session));
    }

    /// Lets the fault come.
    fn arm(&self) -> Result<()> {
        match self.session.case.fault {
            Fault::EmptyToken => fs::write(self.folder.path().join("token"), "")?,
            Fault::EmptyAuthority => fs::write(self.folder.path().join("ca.crt"), "")?,
            _ => {}
        }
        self.session.arm();
        Ok(())
    }

    /// Waits until Tandem has got over the fault and its tables mean what they must mean. Returns what was wrong.
    pub(super) fn judge(&mut self, goal: &Tables, patience: Duration) -> Result<Vec<String>> {
        if self.session.case.phase == Phase::List {
            self.arm()?;
            self.tandem.restart()?;
        }
        let began = Instant::now();
        let mut over = None;
        let mut complaints = Vec::new();
        loop {
            thread::sleep(LOOK);
            let waited = began.elapsed();
            if waited > WRONG_FOR && !self.session.is_over() {
                self.mend()?;
            }
            if self.session.is_over() {
                over.get_or_insert_with(Instant::now);
            }
            let problem = match over {
                None => Some("the fault did not come".to_owned()),
                Some(at) if at.elapsed() < NOTICED => Some("the fault is too young".to_owned()),
                Some(_) => self.recovered(goal).err().map(|error| format!("{error:#}")),
            };
            let Some(problem) = problem else { break };
            if waited > patience {
                complaints.push(format!("after {patience:?}: {problem}"));
                break;
            }
        }
        complaints.extend(self.losses());
        let log = self.tandem.log().split_off(self.logged);
        complaints.extend(judge::log(&self.session.case, &log));
        complaints.extend(judge::figures(&self.session.figures()));
        self.dirty |= !complaints.is_empty();
        if self.dirty {
            complaints.extend(log.into_iter().map(|line| format!("  {line}")));
        }
        Ok(complaints)
    }

    /// What was lost since the case began, or since the last call.
    pub(super) fn losses(&mut self) -> Vec<String> {
        let lost = self.losses.take();
        self.dirty |= !lost.is_empty();
        lost.into_iter().map(|lost| format!("lost {lost}")).collect()
    }

    /// Ends a fault that lasts: gives the files back what they must hold.
    fn mend(&self) -> Result<()> {
        let (name, content) = match self.session.case.fault {
            Fault::NoHttp2 => {
                self.session.over();
                return Ok(());
            }
            Fault::EmptyToken => ("token", self.token.as_str()),
            Fault::EmptyAuthority => ("ca.crt", self.proxy.certificate(false)),
            Fault::NewCertificate => ("ca.crt", self.proxy.certificate(true)),
            _ => return Ok(()),
        };
        fs::write(self.folder.path().join(name), content)?;
        self.session.over();
        Ok(())
    }

    /// Fails unless Tandem is well, has named the fault, and has the right tables.
    fn recovered(&self, wanted: &Tables) -> Result<()> {
        watching(&self.tandem.socket())?;
        if self.session.case.naming() == Naming::Must {
            let log = self.tandem.log().split_off(self.logged);
            ensure!(
                !judge::named(self.session.case.kind, &log).is_empty(),
                "the fault is not named"
            );
        }
        for ((family, found), wanted) in FAMILIES.into_iter().zip(tables(&self.namespace)?).zip(wanted) {
            let differs = |(key, value): &(&String, &_)| found.get(*key) != Some(*value);
            let missing = wanted
                .iter()
                .find(differs)
                .map(|(key, value)| format!("{key} is not {value:?}"));
            let foreign = found.iter().find(|(key, _)| !wanted.contains_key(*key));
            let wrong = missing.or(foreign.map(|(key, value)| format!("{key} is {value:?}, and must not be")));
            ensure!(wrong.is_none(), "{family}: {}", wrong.unwrap_or_default());
        }
        Ok(())
    }

    /// What the proxy has seen.
    pub(super) fn figures(&self) -> Figures {
        self.session.figures()
    }

    /// Ends the Tandem.
    pub(super) fn end(mut self) -> Result<()> {
        self.tandem.expect_error(""); // each case was judged by its own lines
        self.tandem.finish()
    }
}

/// Writes a kubeconfig whose server is the proxy.
fn write_kubeconfig(folder: &Path, proxy: &Proxy) -> Result<std::path::PathBuf> {
    let path = folder.join("kubeconfig");
    let content = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{ "name": "test", "cluster": {
            "server": format!("https://{}", proxy.address()), "certificate-authority": folder.join("ca.crt"),
        }}],
        "users": [{ "name": "user", "user": { "tokenFile": folder.join("token") } }],
        "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "user" } }],
    });
    fs::write(&path, to_yaml(&content)?).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}
