//! Health checks: they answer byte for byte as the real kube-proxy does, and listeners follow the Services. The first
//! test needs the helper program that `make test` builds.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};
use serde_json::{Value, json};
use tandem_tests::cluster::{Cluster, path};
use tandem_tests::eventually;
use tandem_tests::manifests::{Policy, Service};
use tandem_tests::netns::Namespace;
use tandem_tests::stage::{Ip, Stage, service, slice, slices};
use tandem_tests::tandem::Tandem;
use tandem_tests::traffic::Protocol;

const PATIENCE: Duration = Duration::from_secs(30);
const GET: &str = "GET /any/path HTTP/1.1\r\nHost: lb.example\r\nConnection: close\r\n\r\n";

/// An answer without its date.
#[derive(Clone, Debug, PartialEq)]
struct Answer {
    status: String,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Answer {
    /// The number of endpoints in the answer.
    fn count(&self) -> Option<&str> {
        self.headers.get("x-load-balancing-endpoint-weight").map(String::as_str)
    }

    /// The same without times, because they differ from request to request.
    fn timeless(mut self) -> Self {
        if let Ok(mut body) = serde_json::from_str::<Value>(&self.body) {
            let mut replace = |pointer: &str| {
                if let Some(value) = body.pointer_mut(pointer) {
                    *value = json!(value.as_str().is_some_and(|time| time.ends_with('Z')));
                }
            };
            for pointer in [
                "/lastUpdated",
                "/currentTime",
                "/status/IPv4/lastUpdated",
                "/status/IPv6/lastUpdated",
            ] {
                replace(pointer);
            }
            self.body = body.to_string();
            // It depends on the number of digits of the times.
            self.headers.remove("content-length");
        }
        self
    }
}

fn ask(from: &Namespace, to: SocketAddr, request: &str) -> Result<Answer> {
    let text = from.run(|| {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(request.as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok::<_, std::io::Error>(text)
    })?;
    let text = text.with_context(|| format!("{request:?} to {to}"))?;
    let (head, body) = text.split_once("\r\n\r\n").context("no end of the headers")?;
    let mut lines = head.lines();
    let status = lines.next().context("no status line")?.to_owned();
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    Ok(Answer {
        status,
        headers: headers.filter(|(name, _)| name != "date").collect(),
        body: body.to_owned(),
    })
}

fn get(path: &str) -> String {
    GET.replace("/any/path", path)
}

fn is_refused(from: &Namespace, to: SocketAddr) -> bool {
    ask(from, to, GET).is_err_and(|error| {
        let error = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        error == Some(std::io::ErrorKind::ConnectionRefused)
    })
}

/// A LoadBalancer that leads only to endpoints on the node.
fn local(name: &str) -> Service {
    Service::new("default", name)
        .port("http", Protocol::Tcp, 80, 8080)
        .port("other", Protocol::Tcp, 81, 9090)
        .load_balancer(&[])
        .external_policy(Policy::Local)
        .spec("ipFamilyPolicy", "RequireDualStack")
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "one control plane and one kube-proxy for every question"
)]
fn every_answer_is_the_one_of_the_real_kube_proxy() -> Result<()> {
    let mut cluster = Cluster::start(2)?;
    let proxy = cluster.start_kube_proxy(1)?;
    let mut tandem = Tandem::on(cluster.node(2)?)
        .kubeconfig(&cluster.tandem_kubeconfig())
        .start()?;
    tandem.wait_ready()?;
    let mut ports = BTreeMap::new();
    for name in ["none", "one", "two", "ending"] {
        let service = cluster.api().create(&local(name).build())?;
        let port = service["spec"]["healthCheckNodePort"].as_u64().context("no port")?;
        ports.insert(name, u16::try_from(port)?);
    }
    // The same pods on both nodes.
    for node in [1, 2] {
        for (app, pods) in [("one", 1), ("two", 2), ("ending", 1)] {
            for pod in 1..=pods {
                cluster.add_pod(&format!("{app}-{node}-{pod}"), node, app)?;
            }
        }
    }
    let both = |family: Ip, port: u16| -> Result<[SocketAddr; 2]> {
        let node = |number| -> Result<_> { Ok(SocketAddr::new(family.of(cluster.node(number)?.addresses()), port)) };
        Ok([node(1)?, node(2)?])
    };
    let expect_same = |name: &str, count: &str| -> Result<Answer> {
        let mut last = None;
        for family in Ip::BOTH {
            let sockets = both(family, ports[name])?;
            let [theirs, ours] = sockets.map(|to| {
                let asked = || ask(&cluster.client, to, GET);
                eventually(PATIENCE, || asked().ok().filter(|answer| answer.count() == Some(count)))
                    .with_context(|| format!("{name} {to}: never {count}: {:?}", asked()))
            });
            let (theirs, ours) = (theirs?, ours?);
            assert_eq!(ours, theirs, "{name} {family:?}");
            last = Some(ours);
        }
        last.context("no family")
    };
    for (name, count) in [("none", "0"), ("one", "1"), ("two", "2"), ("ending", "1")] {
        let answer = expect_same(name, count)?;
        println!("{name}: {answer:#?}");
        assert_eq!(answer.status.contains("200 OK"), count != "0", "{answer:?}");
    }
    for node in [1, 2] {
        cluster.delete_pod(&format!("ending-{node}-1"))?;
    }
    let answer = expect_same("ending", "0")?;
    assert_eq!(answer.status, "HTTP/1.1 503 Service Unavailable");

    // Requests that few clients send.
    let odd = [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
        "HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "BREW / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
    ];
    for request in odd {
        for port in [ports["one"], 10_256] {
            let [theirs, ours] = both(Ip::V4, port)?.map(|to| ask(&cluster.client, to, request));
            let (theirs, mut ours) = (theirs?, ours?);
            if theirs.status.contains("400") {
                // In Go's answers, the end of the connection ends these bodies.
                ours.headers.remove("content-length");
            }
            assert_eq!(ours, theirs, "{request:?} to port {port}");
        }
    }

    let expect_same_pages = |status: [&str; 2]| -> Result<()> {
        for (page, status) in ["/healthz", "/livez"].into_iter().zip(status) {
            for family in Ip::BOTH {
                let [theirs, ours] = both(family, 10_256)?.map(|to| {
                    let answer = || Some(ask(&cluster.client, to, &get(page)).ok()?.timeless());
                    eventually(PATIENCE, || answer().filter(|answer| answer.status.contains(status)))
                        .with_context(|| format!("{page} of {to} is never {status}: {:?}", answer()))
                });
                let (theirs, ours) = (theirs?, ours?);
                println!("{page}: {ours:#?}");
                assert_eq!(ours, theirs, "{page} {family:?}");
            }
        }
        Ok(())
    };
    expect_same_pages(["200", "200"])?;
    let taint = |taints: Value| -> Result<()> {
        for node in ["node1", "node2"] {
            let change = json!({ "spec": { "taints": taints } });
            cluster.api().patch(&path("Node", "", node)?, &change)?;
        }
        Ok(())
    };
    taint(json!([{ "key": "ToBeDeletedByClusterAutoscaler", "value": "1", "effect": "NoSchedule" }]))?;
    expect_same_pages(["503", "200"])?;
    taint(json!([]))?;
    expect_same_pages(["200", "200"])?;

    for (port, pages) in [
        (10_256, &["/", "/metrics", "/healthz/"][..]),
        (
            10_249,
            &[
                "/healthz",
                "/healthz?verbose",
                "/healthz/ping",
                "/proxyMode",
                "/livez",
                "/",
            ],
        ),
    ] {
        for page in pages {
            let here = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
            let theirs = ask(&cluster.node(1)?.namespace, here, &get(page))?;
            let ours = ask(&cluster.node(2)?.namespace, here, &get(page))?;
            assert_eq!(ours, theirs, "port {port}, {page}");
        }
    }
    drop(proxy);
    tandem.finish()
}

/// A health-checked Service in the topology's namespace.
fn checked(name: &str, number: u8, port: u16) -> Service {
    service(name, number)
        .load_balancer(&[])
        .external_policy(Policy::Local)
        .spec("healthCheckNodePort", port)
}

fn expect_count(stage: &Stage, from: &Namespace, to: SocketAddr, count: &str) -> Result<()> {
    let asked = || ask(from, to, GET);
    eventually(PATIENCE, || asked().ok().filter(|answer| answer.count() == Some(count)))
        .with_context(|| format!("{to}: never {count}: {:?}; {:?}", asked(), stage.tandem.log()))
        .map(drop)
}

fn expect_refused(from: &Namespace, to: SocketAddr) -> Result<()> {
    eventually(PATIENCE, || is_refused(from, to).then_some(()))
        .with_context(|| format!("{to}: never refused: {:?}", ask(from, to, GET)))
}

#[test]
fn listeners_come_move_and_go_with_their_services_and_count_their_family_alone() -> Result<()> {
    let mut objects = vec![checked("web", 10, 31_000).build()];
    objects.extend(slices("web", &["web-1", "web-2", "web-3"]));
    let mut stage = Stage::new(&objects)?;
    let at = |stage: &Stage, family, port| SocketAddr::new(stage.node_address(1, family), port);
    for family in Ip::BOTH {
        // There are three endpoints, two of them here. Each is in three ports of its slice.
        expect_count(&stage, stage.client(), at(&stage, family, 31_000), "2")?;
        // They listen on the addresses of nodePorts, and on no other.
        let ranges = stage.world.nodes[0].pod_ranges();
        let gateway: IpAddr = family.of([ranges.v4(1).into(), ranges.v6(1).into()]);
        let local: IpAddr = family.of(["127.0.0.1", "::1"]).parse()?;
        for other in [gateway, local] {
            assert!(is_refused(stage.node(), SocketAddr::new(other, 31_000)), "{other}");
        }
    }
    // The Service gets another port, and IPv6 has no ready endpoints.
    objects[0] = checked("web", 10, 31_001).build();
    let ranges = stage.world.nodes[0].pod_ranges();
    let ending = slice("web-v6", "web", Ip::V6).terminating(ranges.v6(10).into(), "node1");
    objects[2] = ending.unready(ranges.v6(11).into(), "node1").build();
    stage.apply("objects.yaml", &objects)?;
    expect_count(&stage, stage.client(), at(&stage, Ip::V4, 31_001), "2")?;
    expect_count(&stage, stage.client(), at(&stage, Ip::V6, 31_001), "0")?;
    expect_refused(stage.client(), at(&stage, Ip::V4, 31_000))?;

    // The port passes to another Service in one change. The first Service keeps none.
    objects[0]["spec"]["externalTrafficPolicy"] = json!("Cluster");
    objects.push(checked("next", 11, 31_001).build());
    stage.apply("objects.yaml", &objects)?;
    expect_count(&stage, stage.client(), at(&stage, Ip::V4, 31_001), "0")?;
    let answer = ask(stage.client(), at(&stage, Ip::V4, 31_001), GET)?;
    assert!(answer.body.contains("\"name\": \"next\""), "{answer:?}");

    // A Service of one family has no listener in the other.
    objects.pop();
    objects.push(checked("next", 11, 31_001).cluster_ips(&["10.96.0.11"]).build());
    stage.apply("objects.yaml", &objects)?;
    expect_refused(stage.client(), at(&stage, Ip::V6, 31_001))?;
    expect_count(&stage, stage.client(), at(&stage, Ip::V4, 31_001), "0")?;
    stage.remove("objects.yaml")?;
    expect_refused(stage.client(), at(&stage, Ip::V4, 31_001))?;

    // The node's address changes.
    stage.apply("objects.yaml", &[checked("web", 10, 31_002).build()])?;
    expect_count(&stage, stage.client(), at(&stage, Ip::V4, 31_002), "0")?;
    let mut nodes: Vec<Value> = stage.world.nodes.iter().map(tandem_tests::manifests::node).collect();
    let gateway = IpAddr::from(ranges.v4(1));
    nodes[0]["status"]["addresses"][0]["address"] = json!(gateway);
    nodes.push(tandem_tests::manifests::service_cidr());
    stage.apply("cluster.yaml", &nodes)?;
    expect_count(&stage, stage.node(), SocketAddr::new(gateway, 31_002), "0")?;
    expect_refused(stage.client(), at(&stage, Ip::V4, 31_002))?;
    stage.tandem.finish()
}

#[test]
fn all_addresses_are_listened_on_where_node_ports_are_on_all() -> Result<()> {
    let all = json!(["0.0.0.0/0", "::/0"]);
    let stage = Stage::with(&[checked("web", 10, 31_000).build()], |plan| {
        plan.setting("nodePortAddresses", all)
    })?;
    for family in Ip::BOTH {
        let ranges = stage.world.nodes[0].pod_ranges();
        let gateway: IpAddr = family.of([ranges.v4(1).into(), ranges.v6(1).into()]);
        for address in [gateway, stage.node_address(1, family)] {
            expect_count(&stage, stage.client(), SocketAddr::new(address, 31_000), "0")?;
        }
    }
    stage.tandem.finish()
}

#[test]
fn a_port_that_somebody_else_has_is_told_once_and_taken_when_it_is_free() -> Result<()> {
    let mut stage = Stage::new(&[])?;
    stage.tandem.expect_error("failed to start healthcheck");
    let taken = SocketAddr::new(stage.node_address(1, Ip::V4), 31_000);
    let holder = stage.node().run(|| TcpListener::bind(taken))??;
    let both = [checked("web", 10, 31_000).build(), checked("other", 11, 31_001).build()];
    stage.apply("objects.yaml", &both)?;
    let line = stage.tandem.wait_log("failed to start healthcheck", PATIENCE)?;
    for part in ["ERROR", "node1", "shop/web", &taken.to_string(), "in use"] {
        assert!(line.contains(part), "no {part} in {line}");
    }
    // No other Service is affected, and neither is the Service's other family.
    for (family, port) in [(Ip::V4, 31_001), (Ip::V6, 31_001), (Ip::V6, 31_000)] {
        let to = SocketAddr::new(stage.node_address(1, family), port);
        expect_count(&stage, stage.client(), to, "0")?;
    }
    drop(holder);
    expect_count(&stage, stage.client(), taken, "0")?;
    let said = stage.tandem.log();
    assert_eq!(
        said.iter().filter(|line| line.contains("failed to start")).count(),
        1,
        "{said:#?}"
    );
    stage.tandem.finish()
}

#[test]
fn an_address_of_its_own_that_cannot_be_had_is_tried_again_or_ends_it() -> Result<()> {
    for hard in [false, true] {
        let namespace = Namespace::new("alone")?;
        let taken = SocketAddr::from(([127, 0, 0, 1], 10_249));
        let holder = namespace.run(|| TcpListener::bind(taken))??;
        let scratch = tandem_tests::scratch::Scratch::new("alone")?;
        let folder = tandem_tests::manifests::Folder::new(scratch.path().join("manifests"))?;
        let plan = Tandem::in_namespace(&namespace, "node1").directory(&folder);
        let mut tandem = plan.setting("bindAddressHardFail", hard).start()?;
        tandem.expect_error("metricsBindAddress");
        tandem.expect_error("127.0.0.1:10249");
        let said = if hard {
            "bindAddressHardFail is true"
        } else {
            "metricsBindAddress: cannot listen"
        };
        let line = tandem.wait_log(said, PATIENCE)?;
        ensure!(line.contains("10249") && line.contains("in use"), "{line}");
        if hard {
            let ended = eventually(PATIENCE, || (tandem.status().is_err()).then_some(()));
            ended.context("it goes on")?;
            assert!(!tandem.terminate()?.success());
        } else {
            drop(holder);
            eventually(PATIENCE, || ask(&namespace, taken, &get("/healthz")).ok()).context("never served")?;
        }
        tandem.finish()?;
    }
    Ok(())
}

/// What clients send that hold a connection open.
const SILENT: [&str; 4] = [
    "",
    "GET /hea",
    "GET /healthz HTTP/1.1\r\nHost: a\r\nX: ",
    "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
];

/// Raises the limit of open files as far as allowed, because a test needs hundreds of connections.
fn allow_many_files() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current, ..limit })?)
}

#[test]
fn probes_are_answered_beside_six_hundred_silent_connections_also_where_no_file_is_left() -> Result<()> {
    allow_many_files()?;
    let mut objects = vec![checked("web", 10, 31_000).build()];
    objects.extend(slices("web", &["web-1"]));
    let stage = Stage::new(&objects)?;
    let to = [10_256, 31_000].map(|port| SocketAddr::new(stage.node_address(1, Ip::V4), port));
    let here = SocketAddr::from(([127, 0, 0, 1], 10_249));
    expect_count(&stage, stage.client(), to[1], "1")?;
    let probe = || -> Result<()> {
        for (from, to) in [(stage.client(), to[0]), (stage.client(), to[1]), (stage.node(), here)] {
            let answer = ask(from, to, &get("/healthz"))?;
            ensure!(answer.status == "HTTP/1.1 200 OK", "{to}: {answer:?}");
        }
        Ok(())
    };
    let mut held = Vec::new();
    let mut besiege = |from: &Namespace, to: SocketAddr, number: usize| -> Result<()> {
        let stream = from.run(|| {
            let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
            stream.write_all(SILENT[number % SILENT.len()].as_bytes())?;
            Ok::<_, std::io::Error>(stream)
        })?;
        held.push(stream.with_context(|| format!("connection {number} to {to}"))?);
        Ok(())
    };
    for number in 0..600 {
        besiege(stage.client(), to[0], number)?;
        besiege(stage.client(), to[1], number)?;
        besiege(stage.node(), here, number)?;
        if number % 50 == 0 {
            probe().with_context(|| format!("after {number} of each"))?;
        }
    }
    probe().context("after all")?;

    // The limit leaves no file more than it has open. So each further connection needs the place of another.
    let pid = stage.tandem.pid().context("it has ended")?;
    let open = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let few = Rlimit {
        current: Some(u64::try_from(open)?),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    let before = prlimit(pid, Resource::Nofile, few)?;
    for round in 0..10 {
        probe().with_context(|| format!("without a file left, round {round}"))?;
    }
    prlimit(pid, Resource::Nofile, before)?;
    drop(held);
    stage.tandem.finish()
}
