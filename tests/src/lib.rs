//! The surroundings in which Tandem is tested: namespaces, traffic, a real control plane, and Tandem itself.
//!
//! | module | what it has |
//! |---|---|
//! | [`topology`] | two nodes, three pods, an outside client: for tests without a control plane |
//! | [`cluster`] | a real API server and controller manager, nodes and pods as namespaces |
//! | [`kubelets`] | the same control plane with real kubelets, containerd and runc |
//! | [`fleet`] | a cluster whose nodes run Tandem, with servers in its pods: for tests against the control plane |
//! | [`tandem`] | the program under test on a node |
//! | [`way`] | the ways in which Tandem can read from the API server, for `make cluster-ways` |
//! | [`stage`] | a topology with servers, Tandem and a folder of manifests: for flow tests and the demo |
//! | [`traffic`] | real clients and servers: who answered, which source was seen, what was refused or lost |
//! | [`manifests`] | Services, EndpointSlices and Nodes as values and as files |
//! | [`nft`] | what the installed nft lists for a node's tables |
//! | [`parity`] | the same flows through the real kube-proxy and through Tandem |
//! | [`deploy`] | an installation's whole life under load, on real kubelets, for `make deploy-test` |
//! | [`field`] | the cases of docs/field.md and their tests, for `make field` |
//! | [`race`] | floods of connections against lists that shrink, for `make race` |
//! | [`api_faults`] | a proxy with faults between Tandem and the real API server, for `make api-faults` |
//! | [`chart`] | the chart of `deploy/chart`: what it makes and refuses, and what a real API server says, for `make chart` |
//! | [`differential`] | the same clients with nftables alone and with XDP, for `make differential` |
//! | [`orders`] | Tandem and the real kube-proxy start and end on one node in every order, for `make orders` |
//! | [`rights`] | every feature with the chart's rights, and without each of them, for `make rights` |
//! | [`hostile`] | what others may do to stop a node's Services, for `make hostile` |
//! | [`empty_root`] | the program of an image with the files of the image alone, for `make image-test` |
//! | [`generations`] | when the kernel's ruleset changes |
//! | [`tools`] | the programs of `make tools` |
//! | [`program`] | how programs begin and end |
//! | [`interrupt`] | Ctrl-C for programs that clean up after themselves |
//! | [`conntrack`] | the UDP entries of a namespace's connection tracking |
//! | [`data_plane`] | which data plane `DATA_PLANE` asks for |
//! | [`cgroup`], [`bpffs`] | cgroup folders of nodes and pods, which threads enter with their namespaces, and BPF file systems |
//! | [`sockets`] | who answers a socket, what it is told, and which plane took it, for `make sockets` |
//! | [`switch`] | what programs notice when the agent or a data plane is exchanged or fails, for `make xdp-switch` |
//! | [`netns`], [`node`], [`scratch`] | the parts that these are made from |
//!
//! Everything here needs root, and touches nothing outside the namespaces that it makes.

mod addresses;
pub mod api_faults;
pub mod bpffs;
pub mod cgroup;
pub mod chart;
pub mod cluster;
pub mod code;
pub mod conntrack;
pub mod data_plane;
pub mod deploy;
pub mod differential;
pub mod empty_root;
mod fabric;
pub mod field;
pub mod fleet;
pub mod generations;
pub mod group;
pub mod hostile;
pub mod interrupt;
pub mod kubelets;
pub mod manifests;
pub mod netns;
pub mod nft;
pub mod node;
mod notices;
pub mod orders;
pub mod parity;
pub mod program;
pub mod race;
pub mod rights;
pub mod scratch;
pub mod sockets;
pub mod stage;
pub mod switch;
pub mod tandem;
pub mod tools;
pub mod topology;
pub mod traffic;
pub mod way;

use std::str::FromStr;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A time to wait on this machine. `SLOW=8` says that it is so many times slower than a usual one, as an emulated machine is.
pub fn patience(usual: Duration) -> Duration {
    static SLOW: OnceLock<u32> = OnceLock::new();
    // What is no number counts as 1: times are for a usual machine then.
    usual * *SLOW.get_or_init(|| setting("SLOW", 1).unwrap_or(1).max(1))
}

/// Calls `ask` every few milliseconds until it returns a value; none if it does not in time. The time is for a usual machine
/// ([`patience`]).
pub fn eventually<T>(timeout: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience(timeout);
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() > deadline {
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// A number that the environment may set, such as `RACE_SECONDS=60`.
pub fn setting<T: FromStr>(name: &str, usual: T) -> Result<T> {
    match std::env::var(name) {
        Err(_) => Ok(usual),
        Ok(text) => match text.parse() {
            Ok(value) => Ok(value),
            Err(_) => bail!("{name}={text:?} is not a number that this can use"),
        },
    }
}

/// Raises this process's limit of open files as far as allowed, because each waiting connection is a file.
pub(crate) fn allow_open_files() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, all).context("allow more open files")
}
