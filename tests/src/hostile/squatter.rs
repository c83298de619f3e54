//! A neighbour in the node's network namespace without CAP_NET_ADMIN, like an ordinary pod with `hostNetwork`. Whatever
//! it takes, Tandem must start and work. Only another Tandem may keep it from starting, and is named then.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set, set_capabilities,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::Outcome;
use crate::manifests::Folder;
use crate::netns::Namespace;
use crate::nft;
use crate::scratch::Scratch;
use crate::stage::{self, Ip, service, slices};
use crate::tandem::Tandem;
use crate::topology::World;

/// Names of abstract sockets that it takes.
const NAMES: [&str; 3] = ["tandem-node-agent", "tandem-node-lock", "tandem"];
/// Tables that it tries to make.
const TABLES: [[&str; 2]; 4] = [
    ["inet", "tandem-node-lock"],
    ["ip", "tandem-node-lock"],
    ["ip", "tandem"],
    ["ip6", "tandem"],
];
const NOBODY: u32 = 65_534;

/// The kinds of neighbours.
#[derive(Clone, Copy, Debug)]
enum Who {
    /// An ordinary user without any capability.
    Nobody,
    /// uid 0 of a pod: every capability except CAP_NET_ADMIN.
    Root,
}

/// Lets neighbours take what they can. Then starts Tandem, a second Tandem, and one after a crash.
pub fn lock_squatted() -> Result<Outcome> {
    let world = World::new()?;
    let node = &world.node(1)?.namespace;
    let scratch = Scratch::new("squatted")?;
    let folder = Folder::new(scratch.path().join("manifests"))?;
    stage::write_world(&folder, &world)?;
    let mut objects = vec![service("web", 10).build()];
    objects.extend(slices("web", &["web-1"]));
    folder.write("objects.yaml", &objects)?;
    let start = || Tandem::on(world.node(1)?).directory(&folder).start();
    for who in [Who::Nobody, Who::Root] {
        let squatter = Squatter::start(node, who)?;
        let mut tandem = start()?;
        tandem.expect_error("another tandem runs on this node");
        if let Err(error) = tandem.wait_ready() {
            tandem.finish()?;
            return Ok(Outcome::Bad(format!("taken by {who:?}: {error:#}")));
        }
        for family in Ip::BOTH {
            let rules = nft::text(node, family.table())?;
            let address = family.cluster_ip(10).to_string();
            ensure!(rules.contains(&address), "{address} is not programmed");
        }
        if let Some(what) = second_is_refused(&tandem, start()?)? {
            return Ok(Outcome::Bad(what));
        }
        // After a crash, its lock is free for the next Tandem, but not for the neighbour.
        tandem.kill()?;
        tandem.restart()?;
        if let Err(error) = tandem.wait_ready() {
            return Ok(Outcome::Bad(format!("taken by {who:?} after a crash: {error:#}")));
        }
        tandem.finish()?;
        squatter.end()?;
    }
    Ok(Outcome::Good)
}

/// What is wrong with the end of the second one, if anything is.
fn second_is_refused(first: &Tandem, mut second: Tandem) -> Result<Option<String>> {
    let pid = first.pid().context("tandem does not run")?.to_string();
    second.expect_error(&pid);
    let named = second.wait_log(&pid, Duration::from_secs(10));
    let runs = second.wait_ready().is_ok();
    if runs {
        second.kill()?;
        return Ok(Some("two Tandems run on one node".to_owned()));
    }
    if let Err(error) = named {
        second.expect_error("");
        second.finish()?;
        return Ok(Some(format!("the holder {pid} is not named: {error:#}")));
    }
    second.finish()?;
    Ok(None)
}

/// A thread that has given up its rights.
struct Squatter {
    stop: Sender<()>,
    thread: JoinHandle<Result<Result<()>>>,
}

impl Squatter {
    /// Starts it. Returns when it has taken what it can.
    fn start(node: &Namespace, who: Who) -> Result<Self> {
        let ((stop, is_stopped), (ready, is_ready)) = (channel(), channel());
        let thread = node.entrance().thread("squatter", move || -> Result<()> {
            let taken = who.become_it().and_then(|()| take_all());
            let _ = ready.send(());
            let _sockets = taken?;
            let _ = is_stopped.recv(); // also if the other end is gone
            Ok(())
        })?;
        is_ready.recv().context("the squatter did not start")?;
        Ok(Self { stop, thread })
    }

    fn end(self) -> Result<()> {
        let _ = self.stop.send(());
        self.thread.join().map_err(|_| anyhow!("the squatter panicked"))??
    }
}

impl Who {
    /// Gives up the rights of this thread and of the programs that it starts.
    fn become_it(self) -> Result<()> {
        let own = capabilities(None).context("ask for capabilities")?;
        let dropped = match self {
            Self::Nobody => own.permitted,
            Self::Root => CapabilitySet::NET_ADMIN,
        };
        for capability in dropped.iter() {
            remove_capability_from_bounding_set(capability).context("drop a capability for good")?;
        }
        if let Self::Nobody = self {
            let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
            set_thread_groups(&[]).context("leave all groups")?;
            set_thread_res_gid(group, group, group).context("change the group")?;
            set_thread_res_uid(user, user, user).context("change the user")?;
        }
        let now = capabilities(None).context("ask for capabilities")?;
        let without = |set: CapabilitySet| set - dropped;
        let less = CapabilitySets {
            effective: without(now.effective),
            permitted: without(now.permitted),
            inheritable: without(now.inheritable),
        };
        set_capabilities(None, less).context("drop capabilities")
    }
}

/// Takes the names, and tries to make the tables. The latter must fail, or this test proves nothing.
fn take_all() -> Result<Vec<UnixListener>> {
    for [family, table] in TABLES {
        let mut command = Command::new("nft");
        command.args(["add", "table", family, table]).stdin(Stdio::null());
        let output = command.stderr(Stdio::piped()).output().context("run nft")?;
        ensure!(
            !output.status.success(),
            "whoever has no CAP_NET_ADMIN made table {family} {table}"
        );
    }
    let take = |name: &str| {
        let address = SocketAddr::from_abstract_name(name)?;
        UnixListener::bind_addr(&address).with_context(|| format!("take @{name}"))
    };
    NAMES.into_iter().map(take).collect()
}
