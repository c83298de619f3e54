//! `make hostile`: what other programs and objects may do to stop a node's Services. Prints one line for each figure,
//! and fails if one is too high.
//!
//! There are `HOSTILE_SERVICES` (10000) other Services beside the hostile objects. Each hostile object stays for
//! `HOSTILE_STEP_MS` (3000).

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use tandem_tests::hostile::{self, Load, Siege};
use tandem_tests::{interrupt, program, setting, tandem};

/// The longest acceptable pause.
const LIMIT: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    program::main("hostile", run)
}

fn run() -> Result<bool> {
    program::need_root()?;
    tandem::binary()?;
    let load = Load {
        services: setting("HOSTILE_SERVICES", 10_000)?,
        step: Duration::from_millis(setting("HOSTILE_STEP_MS", 3000)?),
        patience: Duration::from_secs(20),
    };
    interrupt::watch()?;
    let locked = hostile::lock_squatted()?;
    println!("lock_squatted: {}", locked.or_say("refused"));

    let sieges = [256, 1000, 2000].map(|connections| Siege {
        connections,
        probes: 10,
    });
    let healthz = hostile::healthz_under_flood(&sieges, |siege, slowest, failed| {
        println!(
            "# {} connections to each port: slowest probe {} ms, {failed} not answered",
            siege.connections,
            slowest.as_millis()
        );
    })?;
    println!("healthz_under_flood: {}", healthz.or_say("ok"));

    let pauses = hostile::pauses(&load, |what, longest| {
        println!("# {what}: at most {} ms", longest.as_millis());
    })?;
    println!("hostile_change_ms_p50: {}", pauses.usual().as_millis());
    println!("hostile_pause_ms_max: {}", pauses.longest().as_millis());
    Ok(locked.is_good() && healthz.is_good() && pauses.longest() <= LIMIT && !pauses.given_up)
}
