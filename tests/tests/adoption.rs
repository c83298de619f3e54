//! Restarts. Tandem is killed in the middle of changes, started again, refused as a second one, and stopped. Traffic
//! notices nothing.

use std::io::Read as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tandem_tests::eventually;
use tandem_tests::manifests::Folder;
use tandem_tests::netns::Namespace;
use tandem_tests::nft;
use tandem_tests::stage::{Ip, Stage, bare_service, node_port_service, service, slices};
use tandem_tests::tandem::Tandem;
use tandem_tests::traffic::{Protocol, Request};

const CHANGES: usize = 500;
const PODS: [&str; 3] = ["web-1", "web-2", "web-3"];

/// Services that no change touches. Requests to them must notice nothing.
fn untouched() -> Vec<Value> {
    let mut objects = vec![
        node_port_service("calm", 10, 30_080).build(),
        service("sticky", 11).affinity(600).build(),
    ];
    objects.extend(slices("calm", &PODS));
    objects.extend(slices("sticky", &PODS));
    objects
}

/// The `n`th change: one of forty Services gets other endpoints or another port, or goes.
fn change(folder: &Folder, n: usize) -> Result<()> {
    let number = u8::try_from(100 + n % 40)?;
    let (name, file) = (format!("busy-{number}"), format!("busy-{number}.yaml"));
    if n % 7 == 6 {
        // It may be gone already.
        return folder.remove(&file).or(Ok(()));
    }
    let port = u16::try_from(80 + n % 3)?;
    let mut objects = vec![
        bare_service(&name, number)
            .port("tcp", Protocol::Tcp, port, 8080)
            .build(),
    ];
    objects.extend(slices(&name, &PODS[..n % 4]));
    folder.write(&file, &objects)
}

/// The frontends of Services that no change touches, with their ids.
fn frontends(namespace: &Namespace, family: Ip) -> Result<Vec<String>> {
    let picture = nft::picture(&nft::text(namespace, family.table())?);
    let calm = |line: &&str| line.contains("\"shop/calm:") || line.contains("\"shop/sticky:");
    Ok(picture.lines().filter(calm).map(str::to_owned).collect())
}

/// The tables that a Tandem makes from the same folder if it starts without tables.
fn from_nothing(stage: &Stage) -> Result<[nft::Meaning; 2]> {
    let namespace = Namespace::new("afresh")?;
    let mut tandem = Tandem::in_namespace(&namespace, "node1")
        .directory(&stage.folder)
        .start()?;
    tandem.wait_ready()?;
    let [v4, v6] = Ip::BOTH.map(|family| nft::meaning(&namespace, family.table()));
    tandem.finish()?;
    Ok([v4?, v6?])
}

#[test]
fn killed_in_the_middle_of_500_changes_it_takes_over_and_traffic_notices_nothing() -> Result<()> {
    let mut stage = Stage::new(&untouched())?;
    let address = |family: Ip, number: u8| SocketAddr::new(family.cluster_ip(number), 80);
    let loops = Ip::BOTH.map(|family| {
        Request::tcp(address(family, 10))
            .interval(Duration::ZERO)
            .repeat(stage.client())
    });
    let streams = Ip::BOTH.map(|family| Request::tcp(address(family, 11)).stream(stage.client()));
    let before = Ip::BOTH.map(|family| frontends(stage.node(), family));

    let folder = stage.folder.clone();
    let done = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&done);
    let back = Arc::new(AtomicBool::new(false));
    let is_back = Arc::clone(&back);
    let changes = thread::spawn(move || {
        // If a start takes long, there are more changes: they go on until it is back for good.
        let goes_on = |n: &usize| *n < CHANGES || (!is_back.load(Ordering::Relaxed) && *n < 20 * CHANGES);
        (0..).take_while(goes_on).try_for_each(|n| {
            thread::sleep(Duration::from_millis(4));
            count.fetch_add(1, Ordering::Relaxed);
            change(&folder, n)
        })
    });
    let wait_for = |number: usize| {
        let reached = || (done.load(Ordering::Relaxed) >= number).then_some(());
        eventually(Duration::from_mins(1), reached).context("the changes do not get on")
    };
    // This happens twice. Tandem is killed while changes come, is away while more come, and is back while more come.
    for killed_at in [150, 300] {
        wait_for(killed_at)?;
        stage.tandem.kill()?;
        wait_for(killed_at + 40)?;
        stage.tandem.restart()?;
        stage.tandem.wait_ready()?;
        for family in 0..2 {
            let status = &stage.tandem.status()?["families"][family];
            assert!(status["rowsAdopted"].as_u64().unwrap_or_default() > 30, "{status:#}");
        }
    }
    assert!(
        done.load(Ordering::Relaxed) < 20 * CHANGES,
        "the changes were over too soon"
    );
    back.store(true, Ordering::Relaxed);
    changes
        .join()
        .map_err(|_| anyhow::anyhow!("the thread that changes panicked"))??;
    stage.settle()?;

    for (requests, stream) in loops.into_iter().zip(streams) {
        let (tally, report) = (requests?.stop()?, stream?.stop()?);
        println!("{tally}\n{report}");
        assert!(tally.lost() == 0 && tally.sent() > 1000, "{tally}");
        assert!(report.is_whole() && report.sent > 100, "{report}");
    }
    let fresh = from_nothing(&stage)?;
    for (family, (before, fresh)) in Ip::BOTH.into_iter().zip(before.into_iter().zip(fresh)) {
        assert_eq!(
            frontends(stage.node(), family)?,
            before?,
            "ids of untouched Services changed, {family:?}"
        );
        assert_eq!(nft::meaning(stage.node(), family.table())?, fresh, "{family:?}");
    }
    stage.tandem.finish()
}

#[test]
fn a_restart_with_nothing_changed_writes_nothing() -> Result<()> {
    let mut stage = Stage::new(&untouched())?;
    for family in Ip::BOTH {
        stage.ask(stage.client(), 7, Protocol::Tcp, (family.cluster_ip(10), 80))?;
    }
    for gently in [false, true] {
        if gently {
            ensure!(stage.tandem.terminate()?.success(), "it did not end well");
        } else {
            stage.tandem.kill()?;
        }
        let mut monitor = Command::new("nft");
        monitor.args(["monitor"]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut monitor = stage.node().spawn(&mut monitor)?;
        thread::sleep(Duration::from_millis(200));
        stage.tandem.restart()?;
        stage.tandem.wait_ready()?;
        thread::sleep(Duration::from_millis(200));
        monitor.kill()?;
        monitor.wait()?;
        let mut seen = String::new();
        monitor
            .stdout
            .take()
            .context("nft monitor without output")?
            .read_to_string(&mut seen)?;
        let elements: Vec<&str> = seen.lines().filter(|line| line.contains("element")).collect();
        assert_eq!(elements, Vec::<&str>::new(), "{seen}");
        for family in Ip::BOTH {
            // If its element had been replaced, the counter would be zero again.
            stage.expect_counted(family, "calm", Protocol::Tcp, 7)?;
        }
    }
    Ok(())
}

#[test]
fn a_restart_after_one_change_writes_that_change_alone() -> Result<()> {
    let mut stage = Stage::new(&untouched())?;
    stage.tandem.kill()?;
    let mut objects = vec![service("new", 12).build()];
    objects.extend(slices("new", &["web-1"]));
    stage.folder.write("new.yaml", &objects)?;
    stage.tandem.restart()?;
    stage.tandem.wait_ready()?;
    let status = stage.tandem.status()?;
    for family in 0..2 {
        let family = &status["families"][family];
        // The rows are a frontend, a service and an endpoint for each of three ports, and the ClusterIP. The pods'
        // hairpin rows exist already.
        assert_eq!(family["lastChangeRows"], 10, "{family:#}");
        assert_eq!(family["changes"], 1, "{family:#}");
    }
    for family in Ip::BOTH {
        let answers = stage.ask(stage.client(), 3, Protocol::Tcp, (family.cluster_ip(12), 80))?;
        assert_eq!(answers.names(), ["web-1"], "{family:?}");
    }
    Ok(())
}

#[test]
fn what_was_deleted_while_it_was_away_is_removed_at_the_start() -> Result<()> {
    let mut stage = Stage::new(&untouched())?;
    let mut objects = vec![service("old", 12).build()];
    objects.extend(slices("old", &["web-1"]));
    stage.apply("old.yaml", &objects)?;
    stage.tandem.kill()?;
    stage.folder.remove("old.yaml")?;
    for family in Ip::BOTH {
        // No Tandem runs that could remove it, so it still works.
        let answers = stage.ask(stage.client(), 3, Protocol::Tcp, (family.cluster_ip(12), 80))?;
        assert_eq!(answers.names(), ["web-1"], "{family:?}");
    }
    stage.tandem.restart()?;
    stage.tandem.wait_ready()?;
    for family in Ip::BOTH {
        let outcome = stage.send(stage.client(), Protocol::Tcp, (family.cluster_ip(12), 80))?;
        assert!(outcome.timed_out(), "{family:?}: {outcome}");
        let text = nft::text(stage.node(), family.table())?;
        assert!(!text.contains("shop/old"), "{text}");
    }
    Ok(())
}

#[test]
fn clients_keep_their_endpoints_over_a_restart() -> Result<()> {
    let mut stage = Stage::new(&untouched())?;
    let who = |stage: &Stage| -> Result<Vec<String>> {
        let places = [stage.client(), stage.node(), stage.pod("web-2")];
        let pairs = Ip::BOTH
            .into_iter()
            .flat_map(|family| places.map(|from| (family, from)));
        pairs
            .map(|(family, from)| {
                let answers = stage.ask(from, 3, Protocol::Tcp, (family.cluster_ip(11), 80))?;
                Ok(answers.names().join(" "))
            })
            .collect()
    };
    let before = who(&stage)?;
    for _ in 0..3 {
        stage.tandem.kill()?;
        stage.tandem.restart()?;
        stage.tandem.wait_ready()?;
        assert_eq!(who(&stage)?, before);
    }
    Ok(())
}

#[test]
fn a_second_tandem_on_the_node_is_refused_and_told_who_runs() -> Result<()> {
    let stage = Stage::new(&untouched())?;
    let pid = stage.tandem.pid().context("tandem does not run")?;
    let mut second = Tandem::on(stage.world.node(1)?).directory(&stage.folder).start()?;
    second.expect_error(&pid.to_string());
    let line = second.wait_log(&pid.to_string(), Duration::from_secs(5))?;
    println!("{line}");
    let refused = second.wait_ready();
    ensure!(refused.is_err(), "two Tandems run on one node");
    let told = second.log().into_iter().filter(|line| !line.contains(" INFO "));
    assert_eq!(told.count(), 1, "one line says it: {:?}", second.log());
    second.finish()?;
    // The first one goes on. On another node, nothing prevents a start.
    let mut elsewhere = Tandem::on(stage.world.node(2)?).directory(&stage.folder).start()?;
    elsewhere.wait_ready()?;
    elsewhere.finish()?;
    stage.ask(stage.client(), 3, Protocol::Tcp, (Ip::V4.cluster_ip(10), 80))?;
    Ok(())
}

#[test]
fn stopping_leaves_the_data_plane_at_work() -> Result<()> {
    let mut stage = Stage::new(&untouched())?;
    let stream = Request::tcp((Ip::V6.cluster_ip(10), 80).into()).stream(stage.client())?;
    ensure!(stage.tandem.terminate()?.success(), "it did not end well");
    for family in Ip::BOTH {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let answers = stage.ask(stage.client(), 30, protocol, (family.cluster_ip(10), 80))?;
            assert_eq!(answers.names(), PODS, "{protocol} {family:?}");
            let answers = stage.ask(stage.client(), 8, protocol, (family.cluster_ip(11), 80))?;
            assert_eq!(answers.names().len(), 1, "{protocol} {family:?}");
            stage.ask(stage.client(), 3, protocol, (stage.node_address(1, family), 30_080))?;
        }
    }
    let report = stream.stop()?;
    assert!(report.is_whole(), "{report}");
    stage.tandem.restart()?;
    stage.tandem.wait_ready()?;
    stage.settle()
}

#[test]
fn other_settings_change_the_rules_and_keep_the_rows() -> Result<()> {
    let mut stage = Stage::new(&untouched())?;
    let before = Ip::BOTH.map(|family| frontends(stage.node(), family));
    stage.tandem.terminate()?;
    let mut other = Tandem::on(stage.world.node(1)?)
        .directory(&stage.folder)
        .setting("nftables", json!({ "masqueradeAll": true }))
        .start()?;
    other.wait_ready()?;
    for (family, before) in Ip::BOTH.into_iter().zip(before) {
        assert_eq!(frontends(stage.node(), family)?, before?, "{family:?}");
        let answers = stage.ask(stage.pod("web-2"), 10, Protocol::Tcp, (family.cluster_ip(10), 80))?;
        assert!(answers.only_from(&stage.masqueraded(family)), "{:?}", answers.sources());
    }
    other.finish()
}
