//! Tandem's rules beside those of other programs: whose rules are asked first, and which parts of a packet belong to
//! whom. Real packets.

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use socket2::SockRef;
use tandem_tests::netns::{Namespace, feed_command};
use tandem_tests::stage::{Ip, Stage, service, slices};
use tandem_tests::traffic::Protocol;
use tandem_tests::{eventually, nft};

fn web() -> Vec<serde_json::Value> {
    let mut objects = vec![service("web", 10).build()];
    objects.extend(slices("web", &["web-1"]));
    objects
}

fn feed(namespace: &Namespace, rules: &str) -> Result<()> {
    namespace
        .run(|| feed_command(Command::new("nft").args(["-f", "-"]), rules))?
        .map(drop)
}

/// `ip` or `ip6`: nft's name of the header.
fn header(family: Ip) -> &'static str {
    family.of(["ip", "ip6"])
}

#[test]
fn a_nat_table_made_while_tandem_runs_does_not_come_before_it() -> Result<()> {
    let stage = Stage::new(&web())?;
    for family in Ip::BOTH {
        let (name, word, service) = (family.table(), header(family), family.cluster_ip(10));
        let ask = || stage.ask(stage.client(), 3, Protocol::Tcp, (service, 80));
        let before = ask()?;
        ensure!(before.names() == ["web-1"], "{before:?}");
        // It redirects as a hostPort would, and then masquerades.
        let other = stage.pod_address("web-2", family);
        let pod = stage.pod_address("web-1", family);
        feed(
            stage.node(),
            &format!(
                "table {name} rival {{\n chain in {{\n  type nat hook prerouting priority -100\n  {word} daddr {service} dnat {word} to {other}\n }}\n \
                 chain post {{\n  type nat hook postrouting priority 100\n  {word} daddr {pod} masquerade\n }}\n}}\n"
            ),
        )?;
        let first_again = || {
            let answers = ask().ok()?;
            let done = nft::text(stage.node(), name).is_ok_and(|text| !text.contains("stand-in"));
            (answers.names() == ["web-1"] && done).then_some(())
        };
        eventually(Duration::from_secs(20), first_again).context("the rival is asked first")?;
        nft::check(stage.node())?;
    }
    Ok(())
}

/// How many packets the node's last chain saw with the priority that the program gave them, and how many with an id.
fn priorities(stage: &Stage) -> Result<[u64; 2]> {
    let listing = stage.node().exec(&["nft", "list", "table", "inet", "seen"])?;
    let count = |name: &str| {
        let line = listing.lines().find(|line| line.contains(name));
        let packets = line.and_then(|line| line.split("packets ").nth(1)?.split(' ').next()?.parse().ok());
        packets.with_context(|| format!("no {name} in {listing}"))
    };
    Ok([count("kept")?, count("ours")?])
}

#[test]
fn the_first_packet_of_a_flow_to_a_service_keeps_its_priority_and_no_id_leaves_the_host() -> Result<()> {
    const PACKETS: u64 = 5;
    let stage = Stage::new(&web())?;
    // Another program's masquerade is asked before all others, and its verdict keeps the kernel from asking Tandem's
    // chain.
    feed(
        stage.node(),
        "table inet seen {\n chain nat {\n  type nat hook postrouting priority 99\n  masquerade\n }\n chain last {\n  \
         type filter hook postrouting priority 300\n  udp dport 8080 meta priority 0:6 counter comment \"kept\"\n  \
         udp dport 8080 meta priority & f000:0000 == f000:0000 counter comment \"ours\"\n }\n}\n",
    )?;
    let mut expected = 0;
    for family in Ip::BOTH {
        for _ in 0..PACKETS {
            stage.node().run(|| -> std::io::Result<()> {
                let any = SocketAddr::new(family.of(["0.0.0.0", "::"]).parse().map_err(std::io::Error::other)?, 0);
                let socket = UdpSocket::bind(any)?;
                SockRef::from(&socket).set_priority(6)?;
                socket
                    .send_to(b"?", SocketAddr::new(family.cluster_ip(10), 80))
                    .map(drop)
            })??;
        }
        // These come from a pod and pass through the node. No program gave them a priority.
        stage.ask(stage.pod("web-2"), 3, Protocol::Udp, (family.cluster_ip(10), 80))?;
        expected += PACKETS;
        ensure!(
            priorities(&stage)? == [expected, 0],
            "{family:?}: {:?}",
            priorities(&stage)?
        );
    }
    Ok(())
}

#[test]
fn a_saved_ruleset_with_remembered_clients_loads_again_and_the_admins_tables_with_it() -> Result<()> {
    let mut objects = vec![service("web", 10).affinity(10_800).build()];
    objects.extend(slices("web", &["web-1", "web-3"]));
    let mut stage = Stage::new(&objects)?;
    for family in Ip::BOTH {
        stage.ask(stage.client(), 3, Protocol::Tcp, (family.cluster_ip(10), 80))?;
    }
    feed(
        stage.node(),
        "table inet admin {\n chain in {\n  type filter hook input priority 0\n  tcp dport 23 drop\n }\n}\n",
    )?;
    let loads = |saved: &str| -> Result<()> {
        let boot = Namespace::new("boot")?;
        feed(&boot, saved)?;
        let admin = boot.exec(&["nft", "list", "table", "inet", "admin"])?;
        ensure!(admin.contains("dport 23 drop"), "{admin}");
        Ok(())
    };
    let running = stage.node().exec(&["nft", "list", "ruleset"])?;
    ensure!(running.contains("update @affinity"), "{running}");
    loads(&running).context("saved while tandem runs")?;
    stage.tandem.terminate()?;
    let stopped = stage.node().exec(&["nft", "list", "ruleset"])?;
    if nft::version()? == "1.0.6" {
        ensure!(
            loads(&stopped).is_err(),
            "this nft reads it: README and docs/field.md say otherwise"
        );
    }
    // nft before 1.1 has no name for the flag of a persistent table, and prints none. README says how to save a
    // ruleset.
    loads(&stopped.replace("\tflags \n", "")).context("saved while it does not run")
}
