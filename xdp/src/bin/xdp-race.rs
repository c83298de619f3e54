//! `make xdp-race`: packets of the same records from several processors at once. Fails if one became what it may not become.
//!
//! `RACE_SECONDS` (60) is how long packets are sent, `RACE_SEED` (0) where the random numbers begin.

use std::process::ExitCode;
use std::time::Duration;

use tandem_xdp::packets::race;

fn main() -> ExitCode {
    let settings = setting("RACE_SECONDS", 60).and_then(|seconds| Ok((seconds, setting("RACE_SEED", 0)?)));
    let report = settings
        .and_then(|(seconds, seed)| race::run(Duration::from_secs(seconds), seed).map_err(|error| error.to_string()));
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            eprintln!("xdp-race: {error}");
            return ExitCode::FAILURE;
        }
    };
    for wrong in &report.examples {
        println!("# {wrong}");
    }
    println!("race_packets: {}", report.packets);
    println!("race_sent: {}", report.sent);
    println!("race_claims: {}", report.claims);
    println!("race_certain: {}", report.certain);
    println!("race_wrong: {}", report.wrong);
    if report.wrong == 0 && report.sent > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn setting(name: &str, usual: u64) -> Result<u64, String> {
    match std::env::var(name) {
        Err(_) => Ok(usual),
        // `make` hands over what is not set as nothing.
        Ok(text) if text.is_empty() => Ok(usual),
        Ok(text) => text
            .parse()
            .map_err(|_| format!("{name}={text:?} is not a number that this can use")),
    }
}
