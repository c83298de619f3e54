//! Bad input for the real agent. It says what is wrong and where, keeps what it had, and goes on with the rest.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tandem_tests::manifests::{Service, Slice};
use tandem_tests::stage::{Ip, Stage, bare_service, service, slices};
use tandem_tests::traffic::{Protocol, Repeat, Request};

const SOON: Duration = Duration::from_secs(5);

/// A good Service beside the bad ones, with requests that run all the time in both families.
struct Bystander {
    stage: Stage,
    requests: Vec<Repeat>,
}

impl Bystander {
    fn new() -> Result<Self> {
        let mut objects = vec![service("good", 10).build()];
        objects.extend(slices("good", &["web-1", "web-3"]));
        let stage = Stage::new(&objects)?;
        let repeat = |family: Ip| Request::tcp((family.cluster_ip(10), 80).into()).repeat(stage.client());
        let requests = Ip::BOTH.map(repeat).into_iter().collect::<Result<_>>()?;
        Ok(Self { stage, requests })
    }

    /// Fails if the good Service lost a request, or if the agent ended.
    fn finish_unharmed(mut self) -> Result<()> {
        let pid = self.stage.tandem.pid();
        self.stage.settle()?;
        assert_eq!(self.stage.tandem.pid(), pid);
        for requests in self.requests {
            requests.wait_for(20, SOON)?;
            let tally = requests.stop()?;
            assert!(tally.lost() == 0 && tally.answered.len() == 2, "{tally}");
        }
        self.stage.tandem.finish()
    }

    /// The problems in `tandem status` of objects whose name ends like this.
    fn problems(&self, object: &str) -> Result<Vec<String>> {
        let status = self.stage.tandem.status()?;
        let problems = status["problems"].as_array().cloned().unwrap_or_default();
        let of_object = problems
            .iter()
            .filter(|problem| problem["object"].as_str() == Some(object));
        Ok(of_object
            .map(|problem| problem["problem"].as_str().unwrap_or_default().to_owned())
            .collect())
    }

    fn answers(&self, family: Ip, number: u8, port: u16) -> Result<Option<String>> {
        let to = (family.cluster_ip(number), port);
        let outcome = self.stage.send(self.stage.client(), Protocol::Tcp, to)?;
        Ok(outcome.answered_by().map(str::to_owned))
    }
}

fn victim() -> Vec<Value> {
    let mut objects = vec![service("victim", 20).build()];
    objects.extend(slices("victim", &["web-1"]));
    objects
}

#[test]
fn a_manifest_that_does_not_parse_keeps_its_last_good_content() -> Result<()> {
    let mut world = Bystander::new()?;
    world.stage.tandem.expect_error("victim.yaml: ");
    world.stage.apply("victim.yaml", &victim())?;
    let broken = [
        // The faulty text, and what the error must contain besides the file and the line.
        ("apiVersion: v1\nkind: Service\nmetadata: { name: [\n", "line "),
        (
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: victim\n  namespace: shop\nspec:\n  ports:\n    - port: eighty\n",
            "spec.ports[0].port",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: { name: victim, namespace: shop }\nspec:\n  clusterIPs: { a: b }\n",
            "spec.clusterIPs",
        ),
        ("apiVersion: v1\nkind: Service\nspec: {}\n", "name"),
        (
            "kind: Service\nmetadata: { name: victim, namespace: shop }\n",
            "apiVersion: is missing",
        ),
        ("just some words\n", "line 1"),
        ("\u{0}\u{1}\u{2}", "victim.yaml"),
    ];
    for (text, said) in broken {
        let before = world.stage.tandem.log().len();
        world.stage.folder.write_text("victim.yaml", text)?;
        let line = tandem_tests::eventually(SOON, || {
            let lines = world.stage.tandem.log();
            lines
                .into_iter()
                .skip(before)
                .find(|line| line.contains("ERROR") && line.contains("victim.yaml"))
        });
        let line = line.with_context(|| format!("no error for {text:?}"))?;
        assert!(
            line.contains(said) && line.contains("last good content stays"),
            "{text:?}: {line}"
        );
        for family in Ip::BOTH {
            assert_eq!(
                world.answers(family, 20, 80)?.as_deref(),
                Some("web-1"),
                "{family:?} after {text:?}"
            );
        }
    }
    // Other files are followed nevertheless, and this file is followed again once it is right.
    world.stage.apply("other.yaml", &[service("other", 21).build()])?;
    let mut right = victim();
    right[1..].clone_from_slice(&slices("victim", &["web-3"]));
    world.stage.apply("victim.yaml", &right)?;
    for family in Ip::BOTH {
        assert_eq!(world.answers(family, 20, 80)?.as_deref(), Some("web-3"));
        world.stage.expect_refused(Protocol::Tcp, (family.cluster_ip(21), 80))?;
    }
    world.finish_unharmed()
}

#[test]
fn the_error_names_the_line_of_the_field() -> Result<()> {
    let mut world = Bystander::new()?;
    world.stage.tandem.expect_error("two.yaml: ");
    let text = "apiVersion: v1\nkind: Service\nmetadata: { name: first, namespace: shop }\n---\napiVersion: v1\nkind: Service\nmetadata:\n  name: second\n  \
                namespace: shop\nspec:\n  ports:\n    - name: http\n      port: eighty\n";
    world.stage.folder.write_text("two.yaml", text)?;
    let line = world.stage.tandem.wait_log("two.yaml", SOON)?;
    for part in ["line 13", "document 2", "Service shop/second", "spec.ports[0].port"] {
        assert!(line.contains(part), "no {part:?} in {line}");
    }
    world.finish_unharmed()
}

#[test]
fn numbers_with_leading_zeros_are_decimal_and_said() -> Result<()> {
    let mut world = Bystander::new()?;
    let zeros = Service::new("shop", "zeros").cluster_ips(&["010.096.000.020"]);
    let mut slice = Slice::new("shop", "zeros", "zeros")
        .port("", Protocol::Tcp, 8080)
        .build();
    slice["endpoints"] = json!([{ "addresses": ["010.244.001.010"], "nodeName": "node1" }]);
    world
        .stage
        .apply("zeros.yaml", &[zeros.port("", Protocol::Tcp, 80, 8080).build(), slice])?;
    assert_eq!(world.answers(Ip::V4, 20, 80)?.as_deref(), Some("web-1"));
    for object in ["Service shop/zeros", "EndpointSlice shop/zeros"] {
        let problems = world.problems(object)?;
        assert!(
            problems.len() == 1 && problems[0].contains("010."),
            "{object}: {problems:?}"
        );
        world.stage.tandem.wait_log(object, SOON)?;
    }
    world.finish_unharmed()
}

#[test]
fn endpoints_that_must_never_be_sent_to_are_left_out_and_said_once() -> Result<()> {
    let mut world = Bystander::new()?;
    let mut objects = vec![service("evil", 20).build()];
    objects.extend(slices("evil", &["web-1"]));
    let forbidden = [
        [
            "127.0.0.1",
            "127.8.8.8",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "0.0.0.0",
        ],
        ["::1", "fe80::1", "ff02::1", "::", "::ffff:127.0.0.1", "::ffff:10.0.0.1"],
    ];
    for (slice, addresses) in objects[1..].iter_mut().zip(forbidden) {
        let endpoints = slice["endpoints"].as_array_mut().context("a slice without endpoints")?;
        endpoints.extend(addresses.map(|address| json!({ "addresses": [address], "nodeName": "node1" })));
    }
    world.stage.apply("evil.yaml", &objects)?;
    for family in Ip::BOTH {
        let answers = world
            .stage
            .ask(world.stage.client(), 40, Protocol::Tcp, (family.cluster_ip(20), 80))?;
        assert_eq!(answers.names(), ["web-1"], "{family:?}");
    }
    let text = Ip::BOTH.map(|family| tandem_tests::nft::text(world.stage.node(), family.table()));
    for (text, addresses) in text.into_iter().zip(forbidden) {
        let text = text?;
        let found: Vec<_> = addresses
            .into_iter()
            .filter(|address| text.contains(&format!(": {address} . 8080")))
            .collect();
        assert_eq!(found, Vec::<&str>::new(), "{text}");
    }
    let said = || {
        world
            .stage
            .tandem
            .log()
            .iter()
            .filter(|line| line.contains("EndpointSlice shop/evil-v"))
            .count()
    };
    for slice in ["EndpointSlice shop/evil-v4", "EndpointSlice shop/evil-v6"] {
        assert!(!world.problems(slice)?.is_empty(), "{slice}");
    }
    let before = said();
    assert!((2..=6).contains(&before), "said {before} times");
    // A change of another object does not repeat the message.
    objects.push(service("beside", 21).build());
    world.stage.apply("evil.yaml", &objects)?;
    assert_eq!(
        world
            .stage
            .tandem
            .log()
            .iter()
            .filter(|line| line.contains("EndpointSlice shop/evil-v"))
            .count(),
        before
    );
    world.finish_unharmed()
}

#[test]
fn ports_out_of_range_cost_that_port_alone() -> Result<()> {
    let mut world = Bystander::new()?;
    let mut ports = bare_service("ports", 20).port("tcp", Protocol::Tcp, 80, 8080).build();
    let list = ports["spec"]["ports"]
        .as_array_mut()
        .context("a Service without ports")?;
    for (index, number) in [0, -1, 65_536, 4_294_967_376_i64].into_iter().enumerate() {
        list.push(json!({ "name": format!("bad{index}"), "port": number }));
    }
    list.push(json!({ "name": "far", "port": 81, "nodePort": 70_000 }));
    list.push(json!({ "name": "odd", "port": 82, "protocol": "DCCP" }));
    list.push(json!({ "name": "missing" }));
    list.push(json!({ "name": "again", "port": 80 }));
    ports["spec"]["type"] = json!("NodePort");
    let mut objects = vec![ports];
    objects.extend(slices("ports", &["web-1"]));
    for slice in &mut objects[1..] {
        slice["ports"][0]["port"] = json!(8080);
        slice["ports"][1]["port"] = json!(99_999);
        slice["ports"][2]["port"] = json!(null);
    }
    world.stage.apply("ports.yaml", &objects)?;
    for family in Ip::BOTH {
        assert_eq!(world.answers(family, 20, 80)?.as_deref(), Some("web-1"), "{family:?}");
        world.stage.expect_refused(Protocol::Tcp, (family.cluster_ip(20), 81))?;
        world.stage.expect_refused(Protocol::Tcp, (family.cluster_ip(20), 82))?;
    }
    let problems = world.problems("Service shop/ports")?;
    for index in 1..=8 {
        let said = problems
            .iter()
            .filter(|problem| problem.contains(&format!("spec.ports[{index}]")))
            .count();
        assert_eq!(said, 1, "port {index}: {problems:#?}");
    }
    world.finish_unharmed()
}

#[test]
fn missing_names_are_told_and_cost_that_object_alone() -> Result<()> {
    let mut world = Bystander::new()?;
    world.stage.tandem.expect_error("nameless.yaml: ");
    let mut nameless = service("nameless", 20).build();
    nameless["metadata"] = json!({ "namespace": "shop" });
    let mut slice = slices("named", &["web-1"]).remove(0);
    slice["metadata"]["name"] = json!("");
    let mut objects = vec![nameless, slice, service("named", 21).build()];
    objects.extend(slices("named", &["web-3"]));
    world.stage.apply("nameless.yaml", &objects)?;
    let line = world.stage.tandem.wait_log("nameless.yaml", SOON)?;
    assert!(line.contains("name"), "{line}");
    for family in Ip::BOTH {
        assert_eq!(world.answers(family, 21, 80)?.as_deref(), Some("web-3"), "{family:?}");
        assert_eq!(world.answers(family, 20, 80)?, None, "{family:?}");
    }
    world.finish_unharmed()
}

#[test]
fn slices_without_a_service_wait_for_it_and_services_without_slices_refuse() -> Result<()> {
    let mut world = Bystander::new()?;
    world.stage.apply("slices.yaml", &slices("late", &["web-1"]))?;
    world.stage.apply("alone.yaml", &[service("alone", 21).build()])?;
    for family in Ip::BOTH {
        assert_eq!(world.answers(family, 20, 80)?, None, "{family:?}");
        world.stage.expect_refused(Protocol::Tcp, (family.cluster_ip(21), 80))?;
    }
    world.stage.apply("service.yaml", &[service("late", 20).build()])?;
    for family in Ip::BOTH {
        assert_eq!(world.answers(family, 20, 80)?.as_deref(), Some("web-1"), "{family:?}");
    }
    world.stage.remove("service.yaml")?;
    for family in Ip::BOTH {
        assert_eq!(world.answers(family, 20, 80)?, None, "{family:?}");
    }
    world.finish_unharmed()
}

#[test]
fn an_object_in_two_files_is_used_once_and_the_other_takes_over() -> Result<()> {
    let mut world = Bystander::new()?;
    let with = |pod: &str| {
        let mut objects = vec![service("twice", 20).build()];
        objects.extend(slices("twice", &[pod]));
        objects
    };
    world.stage.apply("a.yaml", &with("web-1"))?;
    world.stage.apply("b.yaml", &with("web-3"))?;
    let line = world
        .stage
        .tandem
        .wait_log("Service shop/twice is in a.yaml and again in b.yaml", SOON)?;
    ensure!(line.contains("WARN"), "{line}");
    for family in Ip::BOTH {
        assert_eq!(world.answers(family, 20, 80)?.as_deref(), Some("web-1"), "{family:?}");
    }
    world.stage.remove("a.yaml")?;
    for family in Ip::BOTH {
        assert_eq!(world.answers(family, 20, 80)?.as_deref(), Some("web-3"), "{family:?}");
    }
    world.finish_unharmed()
}

#[test]
fn names_that_no_cluster_has_are_refused_before_they_reach_a_listing() -> Result<()> {
    // Names become comments of elements. After the test, the tables must still be listed and loaded.
    let mut world = Bystander::new()?;
    world.stage.tandem.expect_error("is not a name");
    let names = ["a\" : drop", "new\nline", "back\\slash", "ünï-cödé", "; flush ruleset"];
    for (number, name) in (20..).zip(names) {
        let mut objects = vec![service(name, number).build()];
        objects.extend(slices(name, &["web-1"]));
        world.stage.apply(&format!("bad-{number}.yaml"), &objects)?;
        for family in Ip::BOTH {
            assert_eq!(world.answers(family, number, 80)?, None, "{name:?} {family:?}");
        }
    }
    let port = bare_service("ports", 30).port("tcp", Protocol::Tcp, 80, 8080);
    let port = port.port("b\" : drop", Protocol::Tcp, 81, 8080).build();
    let long = "long".repeat(60);
    let mut objects = vec![port, service(&long, 31).build()];
    objects.extend(slices("ports", &["web-1"]));
    objects.extend(slices(&long, &["web-1"]));
    world.stage.apply("long.yaml", &objects)?;
    for family in Ip::BOTH {
        assert_eq!(world.answers(family, 30, 80)?.as_deref(), Some("web-1"), "{family:?}");
        assert_eq!(world.answers(family, 31, 80)?.as_deref(), Some("web-1"), "{family:?}");
        world.stage.expect_refused(Protocol::Tcp, (family.cluster_ip(30), 81))?;
    }
    let problems = world.problems("Service shop/ports")?;
    assert!(
        problems.len() == 1 && problems[0].contains("spec.ports[1].name"),
        "{problems:?}"
    );
    world.finish_unharmed()
}

#[test]
fn a_folder_that_goes_away_and_comes_back_changes_nothing() -> Result<()> {
    let world = Bystander::new()?;
    let path = world.stage.folder.path().to_path_buf();
    let aside = path.with_extension("aside");
    std::fs::rename(&path, &aside)?;
    let lost = tandem_tests::eventually(SOON, || {
        let status = world.stage.tandem.status().ok()?;
        status["sources"].to_string().contains("manifests in").then_some(())
    });
    assert!(lost.is_some(), "{:#}", world.stage.tandem.status()?);
    for family in Ip::BOTH {
        assert!(world.answers(family, 10, 80)?.is_some(), "{family:?}");
    }
    std::fs::rename(&aside, &path)?;
    world.finish_unharmed()
}
