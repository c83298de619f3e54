//! How little a change writes: the kernel reports the elements that were written into both tables, for each single
//! change.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Result, ensure};
use serde_json::Value;
use tandem_tests::manifests::{Policy, Service, Slice};
use tandem_tests::nft::{Changes, Counts};
use tandem_tests::node::PodRanges;
use tandem_tests::stage::{Ip, Stage, bare_service};
use tandem_tests::traffic::Protocol;

/// The endpoint that is written at the end of each change; see [`Stage::last_element`].
const MARKER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 254));

fn web() -> Service {
    bare_service("web", 10).port("http", Protocol::Tcp, 80, 8080)
}

/// Slices of both families. Pods 1 and 2 are on `node1`, the others on `node2`.
fn endpoints(pods: &[u8]) -> Vec<Value> {
    Ip::BOTH
        .map(|family| {
            let name = format!("web-{}", family.of(["v4", "v6"]));
            let slice = Slice::new("shop", &name, "web").family(family == Ip::V6);
            let add = |slice: Slice, pod: &u8| {
                let node = if *pod <= 2 { 1 } else { 2 };
                let ranges = PodRanges::of_node(node);
                let address = family.of([ranges.v4(9 + pod).into(), ranges.v6(9 + pod).into()]);
                slice.ready(address, &format!("node{node}"))
            };
            pods.iter().fold(slice.port("http", Protocol::Tcp, 8080), add).build()
        })
        .into()
}

fn objects(service: Option<Service>, pods: &[u8]) -> Vec<Value> {
    let mut objects: Vec<Value> = service.into_iter().map(Service::build).collect();
    objects.extend(endpoints(pods));
    objects
}

/// What one change may write: the number of elements in each set, the same in each family. A changed element of a map
/// counts as two, one that goes and one that comes.
struct Change {
    title: &'static str,
    before: Vec<Value>,
    after: Vec<Value>,
    least: &'static [(&'static str, usize)],
}

fn change(
    title: &'static str,
    before: (Service, &[u8]),
    after: (Service, &[u8]),
    least: &'static [(&'static str, usize)],
) -> Change {
    Change {
        title,
        before: objects(Some(before.0), before.1),
        after: objects(Some(after.0), after.1),
        least,
    }
}

fn endpoint_changes() -> Vec<Change> {
    vec![
        change(
            "an endpoint on another node comes",
            (web(), &[3, 4]),
            (web(), &[3, 4, 5]),
            &[("endpoints", 1), ("services", 2)],
        ),
        change(
            "an endpoint on this node comes",
            (web(), &[1, 3]),
            (web(), &[1, 2, 3]),
            // It sorts before the last one, and takes the next free slot nevertheless.
            &[("endpoints", 1), ("hairpin", 1), ("services", 2)],
        ),
        change(
            "the last endpoint goes",
            (web(), &[3, 4, 5]),
            (web(), &[3, 4]),
            &[("endpoints", 1), ("services", 2)],
        ),
        change(
            "an endpoint goes from the middle",
            (web(), &[3, 4, 5]),
            (web(), &[3, 5]),
            // The last endpoint takes its slot.
            &[("endpoints", 3), ("services", 2)],
        ),
        change(
            "an endpoint is replaced by another",
            (web(), &[3, 4, 5]),
            (web(), &[3, 5, 6]),
            &[("endpoints", 2)],
        ),
        change(
            "a Service is scaled to zero",
            (web(), &[3]),
            (web(), &[]),
            &[("endpoints", 1), ("services", 2)],
        ),
        change(
            "a Service gets its first endpoint",
            (web(), &[]),
            (web(), &[3]),
            &[("endpoints", 1), ("services", 2)],
        ),
        change(
            "nothing that counts changes",
            (web(), &[3, 4]),
            (web().spec("selector", serde_json::json!({"app": "other"})), &[4, 3]),
            &[],
        ),
    ]
}

fn service_changes() -> Vec<Change> {
    let external = Ip::external_ips;
    let with_external = |number| web().external_ips(&external(number).each_ref().map(String::as_str));
    let balanced = |ranges: &[&str]| {
        web()
            .load_balancer(&external(7).each_ref().map(String::as_str))
            .source_ranges(ranges)
    };
    let node_port = |port| bare_service("web", 10).node_port("http", Protocol::Tcp, 80, 8080, port);
    vec![
        change(
            "an externalIP is added",
            (web(), &[3]),
            (with_external(7), &[3]),
            &[("external-frontends", 1)],
        ),
        change(
            "an externalIP becomes another",
            (with_external(7), &[3]),
            (with_external(8), &[3]),
            &[("external-frontends", 2)],
        ),
        change(
            "a nodePort is added",
            (web(), &[3]),
            (node_port(30080), &[3]),
            &[("node-ports", 1)],
        ),
        change(
            "a nodePort becomes another",
            (node_port(30080), &[3]),
            (node_port(30081), &[3]),
            &[("node-ports", 2)],
        ),
        change(
            "a source range is added",
            (balanced(&["198.51.100.0/24", "2001:db8:99::/64"]), &[3]),
            (
                balanced(&[
                    "198.51.100.0/24",
                    "2001:db8:99::/64",
                    "100.64.0.0/10",
                    "2001:db8:64::/48",
                ]),
                &[3],
            ),
            // A range is two elements, its two ends.
            &[("allowed-sources", 1)],
        ),
        change(
            "externalTrafficPolicy becomes Local",
            (node_port(30080), &[1, 3]),
            (node_port(30080).external_policy(Policy::Local), &[1, 3]),
            &[("endpoints", 1), ("node-ports", 2), ("services", 1)],
        ),
        Change {
            title: "a Service with two endpoints is deleted",
            before: objects(Some(web()), &[3, 4]),
            after: objects(None, &[3, 4]),
            least: &[
                ("cluster-frontends", 1),
                ("cluster-ips", 1),
                ("endpoints", 2),
                ("services", 1),
            ],
        },
        Change {
            title: "a Service with two endpoints is made",
            before: objects(None, &[3, 4]),
            after: objects(Some(web()), &[3, 4]),
            least: &[
                ("cluster-frontends", 1),
                ("cluster-ips", 1),
                ("endpoints", 2),
                ("services", 1),
            ],
        },
    ]
}

fn each_writes_the_least(wanted: Vec<Change>) -> Result<()> {
    // A second Service keeps every way to pick in use, so that changes of the first need no chain.
    let keeper = |count: u8| {
        let name = format!("keeper-{count}");
        let slice = (0..count).fold(
            Slice::new("shop", &name, &name).port("", Protocol::Tcp, 1),
            |slice, n| slice.ready([10, 1, count, n].into(), "elsewhere"),
        );
        let v6 = (0..count).fold(
            Slice::new("shop", &format!("{name}-v6"), &name)
                .family(true)
                .port("", Protocol::Tcp, 1),
            |slice, n| {
                slice.ready(
                    std::net::Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, count.into(), n.into()).into(),
                    "elsewhere",
                )
            },
        );
        [
            bare_service(&name, 100 + count).port("", Protocol::Tcp, 1, 1).build(),
            slice.build(),
            v6.build(),
        ]
    };
    let keepers: Vec<Value> = (1..=3).flat_map(keeper).collect();
    let mut stage = Stage::new(&[])?;
    stage.apply("keepers.yaml", &keepers)?;
    let mut changes = Changes::listen(stage.node())?;
    let mut wrong = Vec::new();
    for change in wanted {
        stage.apply("web.yaml", &change.before)?;
        // The families are two transactions. The last element of the next change comes after both.
        stage.settle()?;
        changes.until(&stage.last_element(), MARKER)?;
        stage.apply("web.yaml", &change.after)?;
        stage.settle()?;
        let written = changes.until(&stage.last_element(), MARKER)?;
        for family in Ip::BOTH {
            let least = change
                .least
                .iter()
                .map(|(set, count)| ((family, (*set).to_owned()), *count));
            let least: Counts = least.collect();
            // A new way to pick has rules of its own, with anonymous sets.
            let found: Counts = written
                .clone()
                .into_iter()
                .filter(|((of, set), _)| *of == family && !set.starts_with("__"))
                .collect();
            if found != least {
                wrong.push(format!("{}: {found:?} instead of {least:?}", change.title));
            }
        }
    }
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

#[test]
fn each_change_of_endpoints_writes_the_least_elements_that_it_can() -> Result<()> {
    each_writes_the_least(endpoint_changes())
}

#[test]
fn each_change_of_a_service_writes_the_least_elements_that_it_can() -> Result<()> {
    each_writes_the_least(service_changes())
}

#[test]
fn slices_that_move_to_other_names_write_nothing() -> Result<()> {
    let mut renamed = objects(Some(web()), &[1, 3]);
    for slice in &mut renamed[1..] {
        slice["metadata"]["name"] = format!("moved-{}", slice["addressType"])
            .to_lowercase()
            .replace('"', "")
            .into();
    }
    each_writes_the_least(vec![Change {
        title: "slices move to other names",
        before: objects(Some(web()), &[1, 3]),
        after: renamed,
        least: &[],
    }])
}

#[test]
fn another_affinity_timeout_writes_the_least_elements_that_it_can() -> Result<()> {
    // This change is made alone, because unused chains are removed seconds later.
    each_writes_the_least(vec![change(
        "another affinity timeout",
        (web().affinity(100), &[3, 4]),
        (web().affinity(200), &[3, 4]),
        &[("picks", 1), ("services", 2)],
    )])
}
