//! `make race`: floods of new connections to Services whose lists shrink and grow, through Tandem and through the real
//! kube-proxy. Fails if a connection through Tandem left untranslated, got no answer, or reached another Service's
//! endpoint, or if there were too few connections.
//!
//! `RACE_CONNECTIONS` (1000000), `RACE_SECONDS` (600, for all of them), `RACE_KUBE_PROXY_SECONDS` (40; 0 for none).

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use tandem_tests::race::{self, Figures, Options};
use tandem_tests::{cluster, interrupt, program, setting, tandem};

fn main() -> ExitCode {
    program::main("race", run)
}

fn run() -> Result<bool> {
    program::need_root()?;
    let proxy_seconds = setting("RACE_KUBE_PROXY_SECONDS", 40)?;
    let options = Options {
        connections: setting("RACE_CONNECTIONS", 1_000_000)?,
        shrinks: 0,
        lasting: Duration::from_secs(setting("RACE_SECONDS", 600)?),
    };
    tandem::binary()?;
    if proxy_seconds > 0 {
        cluster::binary()?;
    }
    interrupt::watch()?;
    let tell = |title: &str, figures: &Figures| println!("# {title}: {figures}");
    let ours = race::run(&options, tell)?;
    if proxy_seconds > 0 {
        let theirs = Options {
            lasting: Duration::from_secs(proxy_seconds),
            ..options
        };
        let theirs = race::run_kube_proxy(&theirs, tell)?;
        print!("{}", theirs.lines("race_kube_proxy"));
    }
    print!("{}", ours.lines("race"));
    let (made, asked) = (ours.connections(), options.connections);
    if made < asked {
        eprintln!("race: {made} connections were made in RACE_SECONDS, not {asked}");
    }
    Ok(ours.is_good() && made >= asked)
}
