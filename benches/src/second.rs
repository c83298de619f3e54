//! The second data plane in this process: Tandem's programs in the kernel, and the maps that they answer by.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use tandem::engine::{Engine, Follow, FollowState};
use tandem_core::family::{V4, V6};
use tandem_tests::bpffs::BpfFolder;
use tandem_tests::cgroup::NodeGroups;
use tandem_tests::netns::Namespace;
use tandem_xdp::kernel::{Folder, KernelMaps, Pins, Sizes, Sockets, Who, able, network};
use tandem_xdp::{Address4, Address6, Rows};

use crate::kernel::NOW;
use crate::synthetic::Shape;

/// One family's rows in maps of the kernel.
pub type Rows4 = Rows<V4, KernelMaps<Address4>>;
/// The same for IPv6.
pub type Rows6 = Rows<V6, KernelMaps<Address6>>;

/// The name of kubelet's folder in [`tandem_tests::cgroup`].
const PODS: &str = "kubepods";

/// The second data plane beside an engine of this cluster, if the environment asks for it.
pub fn asked_beside(engine: &mut Engine, shape: Shape) -> Result<Option<Second>> {
    wanted()?.then(|| Second::beside(engine, shape)).transpose()
}

/// Whether the environment asks for it: `DATA_PLANE=xdp`.
pub fn wanted() -> Result<bool> {
    match std::env::var("DATA_PLANE").as_deref() {
        Ok("xdp") => Ok(true),
        Err(_) | Ok("" | "nft") => Ok(false),
        Ok(other) => bail!("DATA_PLANE={other:?}: it is nft or xdp"),
    }
}

/// Loads the programs. Maps that are pinned in this folder are taken, and others are made in these sizes.
pub fn open(pins: &Path, sizes: &Sizes) -> Result<(Sockets, Rows4, Rows6)> {
    able(pins).context("this kernel cannot have the second data plane")?;
    let (sockets, v4, v6) = Sockets::open(sizes, Pins::open(pins)?).context("load the programs")?;
    Ok((sockets, Rows::new(v4, false), Rows::new(v6, false)))
}

/// The second data plane beside an engine's tables, as in the agent. Its maps go with this value.
pub struct Second {
    sockets: Sockets,
    _pins: BpfFolder,
}

impl Second {
    /// Gives an engine a second data plane. Its maps are made for this cluster, and filled when the tables are. Other observers
    /// of the engine come after this call.
    pub fn beside(engine: &mut Engine, shape: Shape) -> Result<Self> {
        // Each Service has a row for each endpoint, and three.
        let rows = [(shape.services * (shape.endpoints + 3)) as usize; 2];
        let pins = BpfFolder::new("second")?;
        let (sockets, v4, v6) = open(pins.path(), &Sizes::of_rows(rows))?;
        let ((follow_v4, seat_v4), (follow_v6, seat_v6)) = (Follow::new(*NOW), Follow::new(*NOW));
        engine.observe(follow_v4, follow_v6);
        seat_v4.put(v4);
        seat_v6.put(v6);
        Ok(Self { sockets, _pins: pins })
    }

    /// The programs.
    pub fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    /// Tells the programs which network namespace is the node's.
    pub fn set_node(&self, node: &Namespace) -> Result<()> {
        let cookie = node.run(network)?.context("read the cookie of the node's network")?;
        self.sockets.set_node(cookie);
        Ok(())
    }

    /// Attaches the programs to a node's folders.
    pub fn attach(&self, groups: &NodeGroups) -> Result<()> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").context("read the mounts")?;
        let node = Folder::given(groups.path(), &mounts)?;
        let pods = node
            .pods(Some(Path::new(PODS)))?
            .context("there is no folder of pods")?;
        self.sockets.set_pods(&pods);
        self.sockets.attach(Who::Pods, &pods.path)?;
        self.sockets.attach(Who::Node, &node.path)?;
        Ok(())
    }

    /// Detaches what translates calls.
    pub fn detach(&self) -> Result<()> {
        self.sockets.detach(Who::Pods)?;
        self.sockets.detach(Who::Node)?;
        Ok(())
    }

    /// Fails unless both families are on and leave nothing to nftables.
    pub fn check(&self, engine: &Engine) -> Result<()> {
        for status in [engine.v4().status(), engine.v6().status()] {
            let followed = &status.followed;
            ensure!(
                matches!(followed.state, FollowState::On { .. }) && followed.left.is_empty(),
                "the second data plane is not on for everything: {followed:?}"
            );
        }
        Ok(())
    }
}
