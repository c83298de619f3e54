//! How Tandem is started: as kube-proxy's own DaemonSet does it, and in ways that end at once.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tandem_tests::cluster::{self, Cluster};
use tandem_tests::eventually;
use tandem_tests::netns::{Namespace, run_command};
use tandem_tests::scratch::Scratch;
use tandem_tests::stage::{Ip, Stage, service, slices};
use tandem_tests::tandem::binary;
use tandem_tests::traffic::Protocol;

const PATIENCE: Duration = Duration::from_secs(30);

/// The ConfigMap's `config.conf` as kubeadm 1.36 writes it, with two of its fields filled in.
const KUBEADM: &str = include_str!("../data/chart/kubeadm-config.conf");

#[test]
fn kubeadms_daemon_set_for_kube_proxy_starts_it_with_nothing_but_another_program_of_that_name() -> Result<()> {
    let cluster = Cluster::start(1)?;
    let scratch = Scratch::new("kubeadm")?;
    let (program, config) = (scratch.path().join("kube-proxy"), scratch.path().join("config.conf"));
    symlink(binary()?, &program)?;
    let kubeconfig = cluster.tandem_kubeconfig().display().to_string();
    let text = KUBEADM.replace("/var/lib/kube-proxy/kubeconfig.conf", &kubeconfig);
    fs::write(
        &config,
        text.replace(
            "10.244.0.0/16,fd00:10:244::/48",
            &tandem_tests::topology::POD_RANGES.join(","),
        ),
    )?;
    // The default path belongs to the machine on which the test runs.
    let socket = scratch.path().join("tandem.sock");
    let own = format!(
        "apiVersion: tandem.config/v1alpha1\nkind: TandemConfiguration\nsocket: {}\n",
        socket.display()
    );
    fs::write(scratch.path().join("tandem.conf"), own)?;

    let node = cluster.node(1)?;
    let log = scratch.path().join("log");
    let mut command = Command::new(&program);
    command
        .arg(format!("--config={}", config.display()))
        .arg(format!("--hostname-override={}", node.name))
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log)?);
    let mut process = node.namespace.spawn(&mut command)?;
    let status = || {
        let mut command = Command::new(binary().ok()?);
        command.args(["status", "-o", "json", "--socket"]).arg(&socket);
        let text = node.namespace.run(|| run_command(&mut command)).ok()?.ok()?;
        let status: Value = serde_json::from_str(&text).ok()?;
        (status["complete"] == json!(true)).then_some(status)
    };
    let status = eventually(PATIENCE, status);
    process.kill()?;
    process.wait()?;
    let log = fs::read_to_string(log)?;
    let status = status.with_context(|| format!("not complete:\n{log}"))?;
    assert_eq!(status["node"], json!(node.name));
    let services = status["services"].as_u64().context("no count of Services")?;
    assert!(services >= 1, "the API server's own Service: {status:#}");
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("ignored")).collect();
    assert!(warnings.is_empty(), "{warnings:#?}");
    Ok(())
}

fn tandem(namespace: &Namespace, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(binary()?);
    namespace.run(|| run_command(command.args(arguments)))?
}

#[test]
fn cleanup_takes_everything_away_but_not_from_a_running_one() -> Result<()> {
    let mut objects = vec![service("web", 10).build()];
    objects.extend(slices("web", &["web-1"]));
    let mut stage = Stage::new(&objects)?;
    let node = stage.node().clone();
    let tables = || node.exec(&["nft", "list", "tables"]);
    let all_routes = || -> Result<String> {
        let v4 = node.exec(&["ip", "route", "show", "table", "all"])?;
        let rules = node.exec(&["ip", "rule"])? + &node.exec(&["ip", "-6", "rule"])?;
        Ok(v4 + &node.exec(&["ip", "-6", "route", "show", "table", "all"])? + &rules)
    };
    let ask = |stage: &Stage, family: Ip| stage.send(stage.pod("web-2"), Protocol::Tcp, (family.cluster_ip(10), 80));
    let socket = stage.tandem.socket().display().to_string();
    let cleanup = ["run", "--cleanup", "--hostname-override", "node1", "--socket", &socket];
    eventually(PATIENCE, || all_routes().ok()?.contains("10.96.").then_some(())).context("no routes")?;

    let refused = tandem(&node, &cleanup).err().context("it ran")?;
    assert!(
        format!("{refused:#}").contains("another tandem runs on this node"),
        "{refused:#}"
    );
    for family in Ip::BOTH {
        assert!(ask(&stage, family)?.answer().is_some(), "{family:?}");
    }

    stage.tandem.kill()?;
    for family in Ip::BOTH {
        assert!(
            ask(&stage, family)?.answer().is_some(),
            "{family:?}: tables stay without it"
        );
    }
    let broken = stage.tandem.configuration().with_file_name("broken.conf");
    fs::write(&broken, "mode: [")?;
    let broken = format!("--config={}", broken.display());
    tandem(&node, &[&cleanup[..], &[broken.as_str()]].concat()).context("a file that cannot be read")?;
    assert_eq!(tables()?.trim(), "");
    assert!(
        !all_routes()?.contains("10.96.") && !all_routes()?.contains("fd00:10:96:"),
        "{}",
        all_routes()?
    );
    assert!(!stage.tandem.socket().exists());
    for family in Ip::BOTH {
        assert!(ask(&stage, family)?.answer().is_none(), "{family:?}");
        let direct = (stage.pod_address("web-1", family), 8080);
        assert!(
            stage
                .send(stage.pod("web-2"), Protocol::Tcp, direct)?
                .answer()
                .is_some(),
            "{family:?}"
        );
    }
    tandem(&node, &cleanup).context("with nothing there")?;
    stage.tandem.restart()?;
    stage.tandem.wait_ready()
}

#[test]
fn what_it_writes_out_is_read_by_the_real_kube_proxy_as_the_same() -> Result<()> {
    let scratch = Scratch::new("written")?;
    let file = |name: &str| scratch.path().join(name).display().to_string();
    let (ours, theirs) = (file("ours.yaml"), file("theirs.yaml"));
    let flags = [
        "--proxy-mode=nftables",
        "--cluster-cidr=10.0.0.0/8,fd00::/48",
        "--conntrack-tcp-timeout-established=90m",
        "--masquerade-all",
        "--hostname-override=Node-A",
        "--nodeport-addresses=192.0.2.0/24,2001:db8::/64",
        "--feature-gates=WatchListClient=false",
        "--oom-score-adj=-5",
        "-v=3",
    ];
    let namespace = Namespace::new("written")?;
    tandem(&namespace, &[&["--write-config-to", &ours], &flags[..]].concat())?;
    let mut command = Command::new(cluster::binary()?);
    run_command(command.args(["kube-proxy", "--config", &ours, "--write-config-to", &theirs]))?;
    let read = |file: &str| -> Result<Value> { Ok(serde_saphyr::from_str(&fs::read_to_string(file)?)?) };
    let (mut ours, mut theirs) = (read(&ours)?, read(&theirs)?);
    for section in ["iptables", "ipvs"] {
        // kube-proxy writes no periods of other modes, and null for an empty list.
        for field in ["syncPeriod", "minSyncPeriod", "excludeCIDRs"] {
            ours[section][field] = Value::Null;
            theirs[section][field] = Value::Null;
        }
    }
    assert_eq!(ours, theirs);
    Ok(())
}

#[test]
fn init_only_writes_kernel_settings_and_leaves_no_tables() -> Result<()> {
    let namespace = Namespace::new("init")?;
    tandem(
        &namespace,
        &["--init-only", "--conntrack-udp-timeout=45s", "--hostname-override=a"],
    )?;
    let timeout = namespace.run(|| fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_udp_timeout"))??;
    assert_eq!(timeout.trim(), "45");
    assert_eq!(namespace.exec(&["nft", "list", "tables"])?, "");
    Ok(())
}

#[test]
fn a_command_line_that_means_nothing_is_refused_by_name() -> Result<()> {
    let namespace = Namespace::new("refused")?;
    for (arguments, words) in [
        (
            &["--conntrack-min=many"][..],
            "--conntrack-min: \"many\": not an integer",
        ),
        (
            &["--oom-score-adj=5000"],
            "--oom-score-adj: \"5000\": not between -1000 and 1000",
        ),
        (
            &["--masquerade-all=perhaps"],
            "--masquerade-all: \"perhaps\": not true or false",
        ),
        (&["--conntrack-min=many"], "Usage: tandem run [OPTIONS]"),
        (&["--cluster-cird=10.0.0.0/8"], "--cluster-cidr"),
        (
            &["--config=/does/not/exist"],
            "configuration file /does/not/exist: No such file or directory",
        ),
        (
            &["--healthz-bind-address=here"],
            "--healthz-bind-address: \"here\": not an address",
        ),
    ] {
        let error = tandem(&namespace, arguments)
            .err()
            .with_context(|| format!("{arguments:?} ran"))?;
        let error = format!("{error:#}");
        ensure!(error.contains(words), "{arguments:?}: {error}");
    }
    Ok(())
}

#[test]
fn a_wrong_socket_path_costs_nobody_a_file() -> Result<()> {
    let (namespace, scratch) = (Namespace::new("socket")?, Scratch::new("socket")?);
    let path = |name: &str| scratch.path().join(name).display().to_string();
    let manifests = format!("--source=directory:{}", path("manifests"));
    fs::create_dir(path("manifests"))?;
    fs::write(path("file"), "precious")?;
    symlink(path("file"), path("link"))?;
    let living = std::os::unix::net::UnixListener::bind(path("living"))?;
    for (name, words) in [
        ("file", "a file is there, not a socket"),
        ("link", "a symbolic link is there, not a socket"),
        ("manifests", "a folder is there, not a socket"),
        ("living", "another program answers on this socket"),
    ] {
        let socket = format!("--socket={}", path(name));
        for way in [manifests.as_str(), "--cleanup"] {
            // If it accepted the path, it would run for ever.
            let mut command = Command::new("timeout");
            command.arg("20").arg(binary()?);
            let error = namespace.run(|| run_command(command.args(["run", way, "--hostname-override=a", &socket])))?;
            let error = format!("{:#}", error.err().with_context(|| format!("{way} {socket} ran"))?);
            ensure!(
                error.contains(&path(name)) && error.contains(words),
                "{way} {socket}: {error}"
            );
        }
    }
    assert_eq!(fs::read_to_string(path("file"))?, "precious");
    assert_eq!(fs::read_link(path("link"))?.display().to_string(), path("file"));
    std::os::unix::net::UnixStream::connect(path("living")).context("the other program's socket")?;
    drop(living);
    // Nobody answers on the socket now.
    tandem(
        &namespace,
        &[
            "run",
            "--cleanup",
            "--hostname-override=a",
            &format!("--socket={}", path("living")),
        ],
    )?;
    assert!(!fs::exists(path("living"))?);
    Ok(())
}
