//! `make deploy-test`: the whole life of an installation on real kubelets, under traffic. Fails if a step was wrong, a
//! connection was lost or something was left.
//!
//! `DEPLOY_INTERVAL_MS` (80, between two requests of one way), `DEPLOY_SHORT` (install, upgrade, uninstall),
//! `DEPLOY_BAD_INPUT` (only what a user can get wrong), `DEPLOY_KUBE_PROXY_ALONE` (what kube-proxy loses without Tandem).
//! `DEPLOY_STARTS` takes only what is measured about starts.
//! `DEPLOY_BAD_INPUT=second` takes only those of these steps that have `second` in their names.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use tandem_tests::{cluster, deploy, interrupt, program, setting, tandem, tools};

/// There are at least so many connections, if no setting makes them fewer.
const LEAST: u64 = 100_000;

fn main() -> ExitCode {
    program::main("deploy-test", run)
}

fn run() -> Result<bool> {
    program::need_root()?;
    tandem::binary()?;
    cluster::binary()?;
    tools::tool("helm")?;
    interrupt::watch()?;
    let parts = [
        ("DEPLOY_SHORT", deploy::short as fn() -> _),
        ("DEPLOY_BAD_INPUT", deploy::bad_inputs),
        ("DEPLOY_STARTS", deploy::starts),
        ("DEPLOY_KUBE_PROXY_ALONE", deploy::kube_proxy_alone),
    ];
    let part = parts.iter().find(|(name, _)| std::env::var_os(name).is_some());
    let mut steps = part.map_or_else(deploy::all, |(_, steps)| steps());
    if let Some(only) = std::env::var("DEPLOY_BAD_INPUT").ok().filter(|only| only != "yes") {
        let (first, last) = (steps[0].name, steps[steps.len() - 1].name);
        steps.retain(|step| step.name.contains(&only) || step.name == first || step.name == last);
    }
    let interval = Duration::from_millis(setting("DEPLOY_INTERVAL_MS", 80)?);
    let figures = deploy::run(&steps, interval, |name, took, wrong| match wrong {
        None => println!("# {name}: right, {:.0} s", took.as_secs_f64()),
        Some(wrong) => println!("# {name}: WRONG, {:.0} s: {wrong}", took.as_secs_f64()),
    })?;
    for (name, wrong) in &figures.wrong {
        println!("# wrong: {name}: {wrong}");
    }
    let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
    println!("deploy_steps: {}", figures.steps);
    if let Some(lost) = figures.lost_without_steps {
        println!("lost_without_steps: {lost}");
    }
    println!("lost_connections: {}", figures.lost);
    println!("connections: {}", figures.connections);
    println!("messages_on_kept_connections: {}", figures.messages);
    let mut installs = figures.installs.clone();
    installs.sort_unstable_by_key(|install| install.answered);
    if let (Some(middle), Some(slowest)) = (installs.get(installs.len() / 2), installs.last()) {
        println!("install_to_answer_ms: {:.0}", milliseconds(middle.answered));
        println!("install_to_answer_ms_max: {:.0}", milliseconds(slowest.answered));
        println!(
            "# of {} installations, that one: kubectl ended after {:.0} ms, the agent started after {:.0} ms",
            installs.len(),
            milliseconds(middle.applied),
            milliseconds(middle.started)
        );
    }
    if let Some(install) = figures.install_everywhere {
        println!("install_to_answer_all_nodes_ms: {:.0}", milliseconds(install.answered));
    }
    let mut starts = figures.start_to_answer.clone();
    starts.sort_unstable();
    if let (Some(middle), Some(last)) = (starts.get(starts.len() / 2), starts.last()) {
        println!("start_to_answer_ms_p50: {:.0}", milliseconds(*middle));
        // Of 20 starts, the slowest one.
        println!("start_to_answer_ms: {:.0}", milliseconds(*last));
    }
    for (name, gap) in &figures.update_gaps {
        println!("{name}: {:.0}", milliseconds(*gap));
    }
    if let Some(resident) = figures.resident {
        println!("pod_rss_mb: {resident:.1}");
    }
    if let Some(left) = &figures.leftovers {
        println!("leftovers: {}", left.len());
    }
    let enough = part.is_some() || figures.connections >= LEAST;
    Ok(figures.wrong.is_empty()
        && figures.steps == steps.len()
        && figures.leftovers.as_ref().is_none_or(Vec::is_empty)
        && enough)
}
