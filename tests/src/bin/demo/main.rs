//! `make demo`: a dual-stack Service proxy at work on real packets.
//!
//! The demo makes its own namespaces (an outside client, two nodes, three pods), starts one Tandem per node with a
//! folder of manifests, sends requests, and prints for each who answered and which source the endpoint saw. It ends
//! with an error if a result is not as expected. Everything that it made is removed when it ends, however it ends.

mod flow;
mod paper;
mod ruleset;
mod script;
mod services;
mod setting;

use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use tandem_tests::{interrupt, program, tandem};

use flow::Score;
use paper::Paper;
use setting::Setting;

fn main() -> ExitCode {
    program::main("demo", || {
        interrupt::watch()?;
        Ok(run()?.failed == 0)
    })
}

fn run() -> Result<Score> {
    let start = Instant::now();
    ready()?;
    let paper = Paper::new();
    let setting = Setting::new()?;
    paper.title("Tandem: Services on two nodes, both address families, real packets");
    paper.text(&setting.picture(start.elapsed()));
    let played = play(&setting, &paper);
    // This is also done after an interrupt: the agents are asked to end, and their tables are checked.
    let ended = setting.end();
    let score = played?;
    ended?;
    paper.result(&score, start.elapsed());
    Ok(score)
}

fn play(setting: &Setting, paper: &Paper) -> Result<Score> {
    let score = script::play(setting, paper)?;
    paper.heading("What the agent on node1 says: tandem services -n shop");
    paper.text(&setting.ask(&["services", "-n", "shop"])?);
    ruleset::excerpt(setting, paper)?;
    Ok(score)
}

/// Prints one line for each thing that is missing and needed.
fn ready() -> Result<()> {
    program::need_root()?;
    for (program, argument, package) in [("nft", "--version", "nftables"), ("ip", "-Version", "iproute2")] {
        let found = Command::new(program)
            .arg(argument)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        ensure!(found.is_ok(), "{program} is not installed: apt-get install {package}");
    }
    let listed = Command::new("nft")
        .args(["list", "tables"])
        .output()
        .context("run nft")?;
    let complaint = String::from_utf8_lossy(&listed.stderr);
    let complaint = complaint.lines().next().unwrap_or_default();
    ensure!(
        listed.status.success(),
        "this kernel has no nf_tables, or does not let us use it: {complaint}"
    );
    tandem::binary()?;
    Ok(())
}

/// An error if the demo should stop.
fn go_on() -> Result<()> {
    if interrupt::came() {
        bail!("interrupted");
    }
    Ok(())
}
