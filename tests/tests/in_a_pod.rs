//! What a pod shows of Tandem, and what it does beside another agent, at the end, and without a right. No cluster.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tandem_tests::eventually;
use tandem_tests::manifests::to_yaml;
use tandem_tests::netns::Namespace;
use tandem_tests::nft;
use tandem_tests::scratch::Scratch;
use tandem_tests::stage::{Ip, Stage, service, slices};
use tandem_tests::tandem::{Tandem, binary};
use tandem_tests::traffic::{Protocol, Request};

const PATIENCE: Duration = Duration::from_secs(10);

fn web(pods: &[&str]) -> Vec<Value> {
    let mut objects = vec![service("web", 10).build()];
    objects.extend(slices("web", pods));
    objects
}

/// A second agent for the same node, in a pod of its own: it shares the network, and no folder.
fn second(stage: &Stage) -> Result<Tandem> {
    Tandem::on(stage.world.node(1)?)
        .directory(&stage.folder)
        .arguments(&["--stand-by"])
        // If it kept routes while it stands by, it would remove those of the other agent.
        .own_setting("serviceRoutes", false)
        .start()
}

/// Everything that an agent may change on a node: tables, routes and listening sockets.
fn seen(node: &Namespace) -> Result<String> {
    let mut all = String::new();
    for family in nft::FAMILIES {
        all += &nft::text(node, family)?;
    }
    for family in ["-4", "-6"] {
        all += &node.exec(&["ip", family, "route", "show", "table", "all"])?;
        all += &node.exec(&["ip", family, "rule", "show"])?;
    }
    for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let sockets = node.exec(&["cat", file])?;
        let mut listening: Vec<&str> = sockets
            .lines()
            .filter_map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
                [_, local, _, "0A", ..] => Some(local),
                _ => None,
            })
            .collect();
        listening.sort_unstable();
        all += &listening.join("\n");
    }
    Ok(all)
}

fn said(tandem: &Tandem, wanted: &str) -> Result<()> {
    let mut last = String::new();
    let found = eventually(PATIENCE, || {
        last = tandem.ready().unwrap_or_else(|error| format!("{error:#}"));
        last.contains(wanted).then_some(())
    });
    ensure!(found.is_some(), "tandem ready says {last:?}, and not {wanted:?}");
    Ok(())
}

fn run(namespace: &Namespace, command: &mut Command) -> Result<Output> {
    namespace.run(|| command.output())?.context("run a command")
}

/// Takes over from the first agent, which ends in this way, while endpoints change and clients connect.
fn takes_over(end: impl FnOnce(&mut Tandem) -> Result<()>) -> Result<()> {
    let mut stage = Stage::new(&web(&["web-1"]))?;
    said(&stage.tandem, "ready: serves this node")?;
    let before = seen(stage.node())?;
    let by = second(&stage)?;
    said(&by, "ready: stands by: another tandem serves this node")?;
    let status = by.status()?;
    ensure!(status["standsBy"] == true && status["complete"] == false, "{status}");
    let after = seen(stage.node())?;
    ensure!(
        before.contains("dev lo") && after == before,
        "it touched the node:\n{before}\n{after}"
    );
    stage.apply("objects.yaml", &web(&["web-3"]))?;

    let requests = Ip::BOTH.map(|family| {
        let request = Request::tcp((family.cluster_ip(10), 80).into());
        request.repeat(stage.client())
    });
    end(&mut stage.tandem)?;
    stage.folder.write("objects.yaml", &web(&["web-1"]))?;
    said(&by, "ready: serves this node")?;
    for family in Ip::BOTH {
        let followed = eventually(PATIENCE, || {
            let answers = stage
                .ask(stage.client(), 5, Protocol::Tcp, (family.cluster_ip(10), 80))
                .ok()?;
            (answers.names() == ["web-1"]).then_some(())
        });
        ensure!(followed.is_some(), "{family:?}: the second agent follows no change");
    }
    for requests in requests {
        let tally = requests?.stop()?;
        ensure!(tally.lost() == 0 && tally.sent() > 20, "{tally}");
    }
    by.finish()
}

#[test]
fn an_agent_that_stands_by_touches_nothing_and_takes_over_when_the_other_one_ends() -> Result<()> {
    takes_over(|first| first.terminate().map(drop))
}

#[test]
fn an_agent_that_stands_by_takes_over_when_the_other_one_is_killed() -> Result<()> {
    takes_over(Tandem::kill)
}

#[test]
fn ready_says_why_not_and_its_exit_code_tells_no_from_cannot_say() -> Result<()> {
    let scratch = Scratch::new("ready")?;
    let namespace = Namespace::new("ready")?;
    let ready = |socket: &str| -> Result<(Option<i32>, String)> {
        let mut command = Command::new(binary()?);
        let output = run(&namespace, command.args(["ready", "--socket", socket]))?;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8(text)?))
    };
    let (code, words) = ready("/nowhere/tandem.sock")?;
    ensure!(
        code == Some(3) && words.contains("no tandem is running here"),
        "{code:?} {words}"
    );

    // In a pod, kubelet sets this address. Only a service proxy makes it work.
    let kubeconfig = scratch.path().join("kubeconfig");
    let text = to_yaml(&serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{ "name": "c", "cluster": { "server": "https://10.96.0.1:443" } }],
        "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
        "users": [{ "name": "u", "user": { "token": "t" } }],
    }))?;
    std::fs::write(&kubeconfig, text)?;
    let socket = scratch.path().join("tandem.sock");
    let mut agent = Command::new(binary()?);
    agent
        .args(["run", "--hostname-override", "node1", "--kubeconfig"])
        .arg(&kubeconfig);
    agent
        .arg("--socket")
        .arg(&socket)
        .env("KUBERNETES_SERVICE_HOST", "10.96.0.1");
    let mut agent = namespace.spawn(agent.stdout(Stdio::null()).stderr(Stdio::null()))?;
    let socket = socket.display().to_string();
    let mut last = String::new();
    let named = eventually(PATIENCE, || {
        let (code, words) = ready(&socket).ok()?;
        last = format!("{code:?} {words}");
        let right = code == Some(1)
            && words.lines().count() == 1
            && words.contains("10.96.0.1:443 (this is KUBERNETES_SERVICE_HOST")
            && words.contains("--master");
        right.then_some(())
    });
    let mut command = Command::new(binary()?);
    let status = run(&namespace, command.args(["status", "--socket", &socket]));
    agent.kill()?;
    agent.wait()?;
    ensure!(named.is_some(), "{last}");
    let status = String::from_utf8(status?.stdout)?;
    let problems = status.split("Problems:").nth(1).unwrap_or_default();
    ensure!(problems.contains("10.96.0.1:443"), "{status}");
    Ok(())
}

#[test]
fn a_cleanup_that_stays_is_ready_once_nothing_is_left_and_ends_when_it_is_told_to() -> Result<()> {
    let mut stage = Stage::new(&web(&["web-1"]))?;
    let scratch = Scratch::new("stays")?;
    let socket = scratch.path().join("tandem.sock");
    let mut command = Command::new(binary()?);
    command.args(["run", "--cleanup", "--stay", "--socket"]).arg(&socket);
    let mut cleanup = stage
        .node()
        .spawn(command.stdout(Stdio::null()).stderr(Stdio::null()))?;
    let node = stage.node().clone();
    let ready = || -> Result<(Option<i32>, String)> {
        let mut command = Command::new(binary()?);
        let output = run(&node, command.arg("ready").arg("--socket").arg(&socket))?;
        Ok((output.status.code(), String::from_utf8(output.stdout)?))
    };
    let mut early = None;
    let waits = eventually(PATIENCE, || {
        early = ready().ok();
        let (code, words) = early.as_ref()?;
        let right = words == "not ready: the node is not clean: another tandem still serves it\n";
        (*code == Some(1) && right).then_some(())
    });
    let served = nft::text(stage.node(), "ip").is_ok();
    stage.tandem.terminate()?;
    let done = eventually(PATIENCE, || (ready().ok()?.0 == Some(0)).then_some(()));
    let left = stage.node().exec(&["nft", "list", "tables"])?;
    let pid = rustix::process::Pid::from_child(&cleanup);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    let ended = eventually(PATIENCE, || cleanup.try_wait().ok().flatten());
    let _ = cleanup.kill();
    ensure!(
        waits.is_some() && served,
        "beside a running agent it says {early:?}; the tables are there: {served}"
    );
    ensure!(done.is_some(), "it is not ready");
    ensure!(!left.contains("ip tandem\n") && !left.contains("ip6 tandem"), "{left}");
    ensure!(ended.is_some_and(|status| status.success()), "it ended with {ended:?}");
    let after = stage.node().exec(&["nft", "list", "tables"])?;
    ensure!(after.trim().is_empty() && !socket.exists(), "left: {after}");
    stage.tandem.restart()?;
    stage.tandem.wait_ready()
}

#[test]
fn without_the_right_to_change_nftables_it_ends_with_one_line_that_names_the_right() -> Result<()> {
    let mut stage = Stage::new(&web(&["web-1"]))?;
    stage.tandem.terminate()?;
    let before = stage.node().exec(&["nft", "list", "ruleset"])?;
    let source = format!("--source=directory:{}", stage.folder.path().display());
    for arguments in [
        &["--hostname-override", "node1", "--stand-by", &source][..],
        &["--cleanup"],
        &["--cleanup", "--stay"],
    ] {
        let mut command = Command::new("timeout");
        command.args([
            "10",
            "setpriv",
            "--bounding-set",
            "-net_admin",
            "--inh-caps",
            "-net_admin",
        ]);
        command.arg("--no-new-privs").arg(binary()?).arg("run").args(arguments);
        let output = run(stage.node(), &mut command)?;
        let words = String::from_utf8(output.stderr)?;
        let errors: Vec<&str> = words.lines().filter(|line| line.starts_with("error: ")).collect();
        ensure!(
            output.status.code() == Some(1) && errors.len() == 1 && errors[0].contains("CAP_NET_ADMIN is missing"),
            "{arguments:?}: {words}"
        );
    }
    ensure!(
        stage.node().exec(&["nft", "list", "ruleset"])? == before,
        "the tables changed"
    );
    stage.tandem.restart()?;
    stage.tandem.wait_ready()
}
