//! `make demo`: a dual-stack Service proxy at work on real packets.
//!
//! Makes namespaces of its own (an outside client, two nodes, three pods), starts one Tandem per node from a folder of
//! manifests, sends requests and says for each who answered and which source the endpoint saw. Ends with an error where
//! any of them did not come out as it must. What it made is gone when it ends, however it ends.

mod flow;
mod paper;
mod ruleset;
mod script;
mod services;
mod setting;

use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use tandem_tests::tandem;
use tokio::signal::unix::{SignalKind, signal};

use flow::Score;
use paper::Paper;
use setting::Setting;

/// Signals that came so far.
static SIGNALS: AtomicU8 = AtomicU8::new(0);
/// What a shell says of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let result = watch_signals().and_then(|()| run());
    match result {
        _ if interrupted() => {
            eprintln!("\ninterrupted; everything that was made is removed");
            ExitCode::from(INTERRUPTED)
        }
        Ok(Score { failed: 0, .. }) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<Score> {
    let start = Instant::now();
    ready()?;
    let paper = Paper::new();
    let setting = Setting::new()?;
    paper.title("Tandem: Services on two nodes, both address families, real packets");
    paper.text(&setting.picture(start.elapsed()));
    let played = play(&setting, &paper);
    // Also where it was interrupted: the agents are asked to end, and their tables are looked at.
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

/// One line for each thing without which nothing can work.
fn ready() -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "needs root, to make network namespaces: run it with sudo"
    );
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

/// Notes SIGINT and SIGTERM; the second one ends the program at once, and what it made is removed from outside.
fn watch_signals() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let count = move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if SIGNALS.fetch_add(1, Ordering::Relaxed) > 0 {
                    std::process::exit(INTERRUPTED.into());
                }
            }
        });
    };
    thread::Builder::new().name("signals".into()).spawn(count)?;
    Ok(())
}

fn interrupted() -> bool {
    SIGNALS.load(Ordering::Relaxed) > 0
}

/// An error where the demo shall stop.
fn go_on() -> Result<()> {
    if interrupted() {
        bail!("interrupted");
    }
    Ok(())
}
