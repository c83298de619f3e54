//! The chart of `deploy/chart`, as `make chart` judges it. Needs root, and the programs that `make test` builds.

use std::cell::RefCell;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tandem_tests::chart::{self, Audited, Cases};
use tandem_tests::eventually;
use tandem_tests::netns::Namespace;
use tandem_tests::scratch::Scratch;
use tandem_tests::tandem::binary;

const PATIENCE: Duration = Duration::from_secs(10);

/// Runs cases and fails if one is wrong.
fn right(least: usize, run: impl FnOnce(&mut Cases) -> Result<()>) -> Result<()> {
    let wrong = RefCell::new(Vec::new());
    let tell = |case: &str, why: Option<&str>| {
        if let Some(why) = why {
            wrong.borrow_mut().push(format!("{case}: {why}"));
        }
    };
    let mut cases = Cases::new(&tell);
    run(&mut cases)?;
    ensure!(cases.wrong == 0, "{}", wrong.borrow().join("\n"));
    ensure!(cases.count >= least, "only {} cases were judged", cases.count);
    Ok(())
}

#[test]
fn the_chart_renders_what_is_kept_tandem_reads_it_and_each_wrong_value_is_refused_by_its_path() -> Result<()> {
    right(100, chart::without_a_cluster)
}

#[test]
fn a_real_api_server_takes_the_chart_and_pod_security_forbids_three_things_of_it() -> Result<()> {
    let site = Audited::start()?;
    right(25, |cases| {
        let said = chart::with_a_cluster(cases, &site)?;
        ensure!(
            said == ["hostNetwork", "NET_ADMIN", "runAsNonRoot"],
            "restricted says {said:?}"
        );
        Ok(())
    })
}

#[test]
fn the_charts_role_is_enough_and_each_right_that_is_taken_away_is_missed() -> Result<()> {
    let site = Audited::start()?;
    right(10, |cases| chart::rights(cases, &site))
}

/// An agent without objects that has only these capabilities and answers health checks at port 80.
fn agent(namespace: &Namespace, scratch: &Scratch, capabilities: &str) -> Result<Child> {
    let objects = scratch.path().join("objects");
    std::fs::create_dir_all(&objects)?;
    std::fs::write(objects.join("none.yaml"), "")?;
    let mut command = Command::new("setpriv");
    command.args([
        "--bounding-set",
        capabilities,
        "--inh-caps",
        capabilities,
        "--no-new-privs",
    ]);
    command
        .arg(binary()?)
        .args(["run", "--hostname-override=node1", "--healthz-bind-address=0.0.0.0:80"]);
    command.arg(format!("--source=directory:{}", objects.display()));
    command.arg("--socket").arg(scratch.path().join("tandem.sock"));
    let log = std::fs::File::create(scratch.path().join("log"))?;
    namespace.spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log))
}

#[test]
fn a_health_check_port_below_1024_needs_the_right_that_low_ports_adds() -> Result<()> {
    let (scratch, namespace) = (Scratch::new("low-ports")?, Namespace::new("low-ports")?);
    for (capabilities, says) in [
        (
            "-all,+net_admin",
            "nobody can listen at 0.0.0.0:80 (healthzBindAddress)",
        ),
        ("-all,+net_admin,+net_bind_service", "ready: serves this node"),
    ] {
        let mut agent = agent(&namespace, &scratch, capabilities)?;
        let mut last = String::new();
        let said = eventually(PATIENCE, || {
            let mut command = Command::new(binary().ok()?);
            command
                .arg("ready")
                .arg("--socket")
                .arg(scratch.path().join("tandem.sock"));
            let output = namespace.run(|| command.output()).ok()?.ok()?;
            last = String::from_utf8_lossy(&output.stdout).into_owned();
            last.contains(says).then_some(())
        });
        let _ = agent.kill();
        agent.wait()?;
        let log = std::fs::read_to_string(scratch.path().join("log"))?;
        said.with_context(|| {
            format!("with {capabilities}, tandem ready says {last:?}, and not {says:?}; its log:\n{log}")
        })?;
    }
    Ok(())
}
