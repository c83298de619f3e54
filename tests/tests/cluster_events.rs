//! Kubernetes Events with the real control plane: there is one for each fault, however many nodes see it, and traffic
//! does not depend on them. Needs root and the helper program that `make test` builds.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tandem_tests::cluster::{Cluster, path};
use tandem_tests::eventually;
use tandem_tests::fleet::TARGET;
use tandem_tests::manifests::{Policy, Service, Slice};
use tandem_tests::tandem::Tandem;
use tandem_tests::traffic::{Protocol, Request, Server};

const PATIENCE: Duration = Duration::from_mins(1);
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/default/events";

/// Three nodes with a Tandem each, and a Service with a hand-made slice, which has a good endpoint and a bad one.
struct World {
    cluster: Cluster,
    tandems: Vec<Tandem>,
    slice: Value,
    address: IpAddr,
    _server: Server,
}

impl World {
    fn new(prepare: impl FnOnce(&Cluster) -> Result<()>) -> Result<Self> {
        let mut cluster = Cluster::start(3)?;
        prepare(&cluster)?;
        let start = |node| {
            let plan = Tandem::on(node).kubeconfig(&cluster.tandem_kubeconfig());
            plan.arguments(&["--log", "info,tandem::recorder=debug"]).start()
        };
        let mut tandems = cluster.nodes.iter().map(start).collect::<Result<Vec<_>>>()?;
        for tandem in &mut tandems {
            tandem.wait_ready()?;
        }
        let pod = cluster.add_pod("web-1", 1, "web")?;
        let endpoint = IpAddr::from(pod.v4);
        let server = Server::start(&pod.namespace, "web-1", Protocol::Tcp, (endpoint, TARGET).into())?;
        let mut service = Service::new("default", "web")
            .port("http", Protocol::Tcp, 80, TARGET)
            .build();
        service["spec"]["selector"] = Value::Null;
        let service = cluster.api().create(&service)?;
        let address = service["spec"]["clusterIP"].as_str().context("no ClusterIP")?;
        let slice = Slice::new("default", "web-hand", "web").port("http", Protocol::Tcp, TARGET);
        // The API server accepts the second address, but no node may ever send to it. The unready endpoints make all
        // three nodes near to the Service. They get no traffic as long as one endpoint is ready.
        let slice = slice.ready(endpoint, "node1").ready("239.1.2.3".parse()?, "node1");
        let slice = slice
            .unready("10.244.2.9".parse()?, "node2")
            .unready("10.244.3.9".parse()?, "node3");
        let slice = cluster.api().create(&slice.build())?;
        Ok(Self {
            address: address.parse()?,
            cluster,
            tandems,
            slice,
            _server: server,
        })
    }

    /// The Events with this reason.
    fn events(&self, reason: &str) -> Result<Vec<Value>> {
        let list = self.cluster.api().get(EVENTS)?;
        let all = list["items"].as_array().cloned().unwrap_or_default();
        Ok(all.into_iter().filter(|event| event["reason"] == reason).collect())
    }

    /// Fails unless the good endpoint answers on every node, and each node's log names the bad one once.
    fn expect_unharmed(&self) -> Result<()> {
        for (tandem, node) in self.tandems.iter().zip(&self.cluster.nodes) {
            tandem.wait_log("EndpointSlice default/web-hand", PATIENCE)?;
            let request = Request::tcp((self.address, 80).into());
            // It is logged when it is read, and programmed a moment later.
            let answered = || request.send(&node.namespace).ok()?.answered_by().map(drop);
            eventually(PATIENCE, answered).with_context(|| format!("{}: never answered", node.name))?;
            for _ in 0..10 {
                let outcome = request.send(&node.namespace)?;
                assert_eq!(outcome.answered_by(), Some("web-1"), "{}: {outcome}", node.name);
            }
            let log = tandem.log();
            let named = log
                .iter()
                .filter(|line| line.contains("WARN") && line.contains("web-hand"));
            assert_eq!(named.count(), 1, "{log:#?}");
        }
        Ok(())
    }
}

#[test]
fn a_fault_that_three_nodes_see_is_one_event_and_each_node_tells_of_its_start() -> Result<()> {
    let world = World::new(|_| Ok(()))?;
    world.expect_unharmed()?;
    // Each node is done: it found the Event, or made it.
    for tandem in &world.tandems {
        let done = || {
            let log = tandem.log();
            let line = log
                .iter()
                .find(|line| line.contains("web-hand") && line.contains("the Event is there"));
            line.cloned()
        };
        eventually(PATIENCE, done).with_context(|| format!("it never wrote an Event: {:#?}", tandem.log()))?;
    }
    let events = world.events("UnusableField")?;
    println!("{events:#?}");
    assert_eq!(events.len(), 1, "{events:#?}");
    let event = &events[0];
    assert_eq!(event["type"], "Warning");
    assert_eq!(event["reportingController"], "tandem");
    let regarding = &event["regarding"];
    assert_eq!(
        (
            &regarding["kind"],
            &regarding["namespace"],
            &regarding["name"],
            &regarding["uid"]
        ),
        (
            &json!("EndpointSlice"),
            &json!("default"),
            &json!("web-hand"),
            &world.slice["metadata"]["uid"]
        )
    );
    let note = event["note"].as_str().context("no note")?;
    assert!(
        note.contains("endpoints[1].addresses[0]") && note.contains("239.1.2.3") && note.contains("multicast"),
        "{note}"
    );
    // An owner of the object would look here.
    let described = world.cluster.kubectl(&["describe", "endpointslice", "web-hand"])?;
    assert!(described.contains("UnusableField"), "{described}");

    let births = || world.events("Starting").ok().filter(|births| births.len() == 3);
    let births = eventually(PATIENCE, births).with_context(|| format!("{:?}", world.events("Starting")))?;
    for birth in births {
        assert_eq!(
            (&birth["type"], &birth["regarding"]["kind"]),
            (&json!("Normal"), &json!("Node"))
        );
    }
    let described = world.cluster.kubectl(&["describe", "node", "node1"])?;
    assert!(described.contains("Starting"), "{described}");

    // The same fault is the same Event; another fault is another Event.
    let slice = path("EndpointSlice", "default", "web-hand")?;
    let mut endpoints = world.slice["endpoints"].clone();
    endpoints[1]["addresses"] = json!(["239.4.5.6"]);
    world.cluster.api().patch(&slice, &json!({ "endpoints": endpoints }))?;
    let two = || world.events("UnusableField").ok().filter(|events| events.len() == 2);
    eventually(PATIENCE, two).with_context(|| format!("{:#?}", world.events("UnusableField")))?;
    world.tandems.into_iter().try_for_each(Tandem::finish)
}

#[test]
fn a_health_check_that_one_node_cannot_serve_is_an_event_of_that_node_alone() -> Result<()> {
    let mut world = World::new(|_| Ok(()))?;
    let taken = SocketAddr::new(world.cluster.node(2)?.v4.into(), 31_234);
    let _holder = world.cluster.node(2)?.namespace.run(|| TcpListener::bind(taken))??;
    world.tandems[1].expect_error("failed to start healthcheck");
    let service = Service::new("default", "checked").port("http", Protocol::Tcp, 80, TARGET);
    let service = service.load_balancer(&[]).external_policy(Policy::Local);
    world
        .cluster
        .api()
        .create(&service.spec("healthCheckNodePort", 31_234).build())?;
    let reason = "FailedToStartServiceHealthcheck";
    let written = || world.events(reason).ok().filter(|events| !events.is_empty());
    let events = eventually(PATIENCE, written).context("no Event")?;
    assert_eq!(events.len(), 1, "{events:#?}");
    let note = events[0]["note"].as_str().context("no note")?;
    assert!(
        note.contains("node2") && note.contains("31234") && note.contains("in use"),
        "{note}"
    );
    assert_eq!(events[0]["regarding"]["name"], "checked");
    let described = world.cluster.kubectl(&["describe", "service", "checked"])?;
    assert!(described.contains(reason), "{described}");
    assert_eq!(events[0]["reportingInstance"], "tandem-node2");
    world.tandems.into_iter().try_for_each(Tandem::finish)
}

#[test]
fn without_the_right_to_write_events_it_is_said_once_and_everything_else_works() -> Result<()> {
    let world = World::new(|cluster| {
        let role = path("ClusterRole", "", "system:node-proxier")?;
        let rules = cluster.api().get(&role)?["rules"].clone();
        let rules = rules.as_array().context("no rules")?.iter();
        let rules: Vec<&Value> = rules.filter(|rule| !rule.to_string().contains("\"events\"")).collect();
        cluster.api().patch(&role, &json!({ "rules": rules }))?;
        Ok(())
    })?;
    world.expect_unharmed()?;
    for tandem in &world.tandems {
        let line = tandem.wait_log("Events cannot be written", PATIENCE)?;
        for part in ["WARN", "403", "events.events.k8s.io", "tandem status"] {
            assert!(line.contains(part), "no {part} in {line}");
        }
    }
    // Another fault, and another Service.
    let mut slice = world.slice.clone();
    slice["metadata"] = json!({
        "namespace": "default", "name": "web-second", "labels": { "kubernetes.io/service-name": "web" },
    });
    slice["endpoints"] = json!([{ "addresses": ["239.4.5.6"] }]);
    world.cluster.api().create(&slice)?;
    for tandem in &world.tandems {
        tandem.wait_log("EndpointSlice default/web-second", PATIENCE)?;
    }
    world.expect_unharmed()?;
    for tandem in &world.tandems {
        let log = tandem.log();
        let said = log.iter().filter(|line| line.contains("Events cannot be written"));
        assert_eq!(said.count(), 1, "{log:#?}");
    }
    assert_eq!(world.events("UnusableField")?, Vec::<Value>::new());
    world.tandems.into_iter().try_for_each(Tandem::finish)
}

#[test]
fn no_event_is_written_where_the_settings_say_so() -> Result<()> {
    let cluster = Cluster::start(1)?;
    let plan = Tandem::on(cluster.node(1)?).kubeconfig(&cluster.tandem_kubeconfig());
    let mut tandem = plan.own_setting("events", false).start()?;
    tandem.wait_ready()?;
    let slice = Slice::new("default", "bad", "web").port("http", Protocol::Tcp, TARGET);
    // The good endpoint makes this node near, so that it would write soon.
    let slice = slice
        .ready("239.1.2.3".parse()?, "node1")
        .ready("10.244.1.9".parse()?, "node1")
        .build();
    cluster.api().create(&slice)?;
    tandem.wait_log("EndpointSlice default/bad", PATIENCE)?;
    // This is longer than a near node waits before it writes.
    std::thread::sleep(Duration::from_secs(11));
    let list = cluster.api().get(EVENTS)?;
    let ours = list["items"].as_array().context("no list")?.iter();
    let ours: Vec<_> = ours.filter(|event| event["reportingController"] == "tandem").collect();
    assert!(ours.is_empty(), "{ours:#?}");
    tandem.finish()
}
