//! Tandem beside the real kube-proxy: `make parity` as a test. Needs root and the helper program that `make test`
//! builds. Other tests, beside the code that reads the scenarios' files, check these files.

use anyhow::{Result, ensure};
use tandem_tests::data_plane::DataPlane;
use tandem_tests::parity::{self, Options};

/// Scenarios of each kind of address, of policies, affinity and datagrams, in the usual configuration.
const SOME: [&str; 8] = [
    "100-cluster-ip-from-everywhere",
    "130-cluster-ip-hairpin",
    "190-udp-cluster-ip",
    "210-internal-policy-changes",
    "310-node-port-policy-local",
    "410-external-ip-policy-local",
    "740-affinity-cluster-ip",
    "903-udp-one-of-two-servers-goes",
];

#[test]
fn tandem_answers_every_flow_of_every_scenario_as_kube_proxy_does() -> Result<()> {
    let report = parity::run(&Options::default(), |lines| print!("{lines}"))?;
    ensure!(report.is_good(), "not as it should be:\n{}\n{report}", report.wrong());
    Ok(())
}

#[test]
fn sockets_answer_as_kube_proxy_does_but_for_the_sources_of_pods() -> Result<()> {
    let options = Options {
        scenarios: SOME.map(str::to_owned).to_vec(),
        data_plane: DataPlane::Xdp,
    };
    let report = parity::run(&options, |lines| print!("{lines}"))?;
    ensure!(report.is_good(), "not as it should be:\n{}\n{report}", report.wrong());
    Ok(())
}
