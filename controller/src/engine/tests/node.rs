//! What happens to the node's own rows if its object says less than before, or does not exist; and which Service has
//! what several Services want.

use tandem_core::plan::PortKey;
use tandem_core::plane::{DetectLocal, ForwardDrop};

use super::*;
use crate::event::NodeFact;

const OWN: [u8; 4] = [192, 0, 2, 11];

fn whole() -> Node {
    Node {
        name: "node1".into(),
        addresses: vec![OWN.into(), "2001:db8:2::11".parse().unwrap()],
        pod_cidrs: ["10.244.1.0/24", "fd00:10:244:1::/64"]
            .map(|net| net.parse().unwrap())
            .to_vec(),
        zone: Some("a".into()),
        leaving: false,
    }
}

fn applied(node: Node) -> Event {
    Event::Applied(Object::Node(node), Vec::new())
}

fn interfaces() -> Event {
    Event::Interfaces(whole().addresses)
}

/// A complete list of everything, with this node and these objects.
fn listed(node: Option<Node>, objects: impl IntoIterator<Item = Event>) -> Vec<Event> {
    let mut events: Vec<Event> = [interfaces()]
        .into_iter()
        .chain(ObjectKind::ALL.map(Event::Listing))
        .collect();
    events.extend(node.map(applied));
    events.extend(objects);
    events.extend(ObjectKind::ALL.map(Event::Listed));
    events
}

fn run(host: &Host, events: Vec<Event>) -> Engine {
    let mut engine = host.start();
    engine.step(events, at(Instant::now()));
    engine
}

fn step(engine: &mut Engine, event: Event) {
    engine.step([event], at(Instant::now()));
}

fn own_rows<F: Family>(kernel: &Memory<F>) -> Vec<String> {
    let rows = &kernel.rows();
    let own = rows.iter().filter_map(|row| match row {
        Row::NodeAddress { addr } => Some(format!("address {addr}")),
        Row::LocalPods { net } => Some(format!("pods {net}")),
        _ => None,
    });
    let mut own: Vec<String> = own.collect();
    own.sort();
    own
}

fn all_rows(host: &Host) -> [Vec<String>; 2] {
    [own_rows(&host.v4), own_rows(&host.v6)]
}

fn detect(host: &Host) -> Vec<DetectLocal> {
    let rules = [host.v4.rules(), host.v6.rules()];
    rules.into_iter().flatten().map(|rules| rules.detect_local).collect()
}

fn problems(engine: &Engine) -> Vec<NodeProblem> {
    engine.published().load().problems.to_vec()
}

const WHOLE: [[&str; 2]; 2] = [
    ["address 192.0.2.11", "pods 10.244.1.0/24"],
    ["address 2001:db8:2::11", "pods fd00:10:244:1::/64"],
];

#[test]
fn whatever_field_of_the_node_goes_empty_its_rows_stay_and_it_is_said() {
    type Emptied = (fn(&mut Node), usize);
    let emptied: [Emptied; 6] = [
        (|node| node.addresses.clear(), 2),
        (|node| node.addresses.truncate(1), 1),
        (|node| node.pod_cidrs.clear(), 2),
        (|node| node.pod_cidrs.retain(|net| net.addr().is_ipv6()), 1),
        (|node| node.zone = None, 0),
        (
            |node| {
                *node = Node {
                    name: node.name.clone(),
                    ..Node::default()
                }
            },
            4,
        ),
    ];
    for (number, (empty, said)) in emptied.into_iter().enumerate() {
        let host = Host::default();
        let mut engine = run(&host, listed(Some(whole()), [service("web", 1)]));
        assert_eq!(problems(&engine), []);
        let mut node = whole();
        empty(&mut node);
        let (opened, published) = (host.v4.opened(), engine.published());
        step(&mut engine, applied(node.clone()));
        assert_eq!(all_rows(&host), WHOLE, "case {number}");
        assert_eq!(problems(&engine).len(), said, "case {number}");
        assert_eq!(
            published.load().node.as_ref().unwrap().addresses.len(),
            2,
            "routes still have their source"
        );
        assert_eq!(
            published.load().node.as_ref().unwrap().zone,
            node.zone,
            "a label may go"
        );
        assert_eq!(host.v4.opened(), opened, "no rule changed");

        // The same after a restart, which knows the earlier values only from the tables.
        drop(engine);
        let mut engine = run(&host, listed(Some(node), [service("web", 1)]));
        assert_eq!(all_rows(&host), WHOLE, "case {number}");
        assert_eq!(problems(&engine).len(), said, "case {number}");
        assert_eq!(detect(&host), [DetectLocal::Sources(()); 2]);
        step(&mut engine, applied(whole()));
        assert_eq!(problems(&engine), [], "case {number}");
    }
}

#[test]
fn an_address_that_the_object_does_not_list_goes_with_its_interface() {
    let host = Host::default();
    let mut engine = run(&host, listed(Some(whole()), []));
    let silent = Node {
        addresses: Vec::new(),
        ..whole()
    };
    step(&mut engine, applied(silent));
    step(&mut engine, Event::Interfaces(vec![OWN.into()]));
    assert_eq!(all_rows(&host)[1], [WHOLE[1][1]]);
    step(&mut engine, Event::Interfaces(Vec::new()));
    assert_eq!(all_rows(&host)[0], [WHOLE[0][1]]);
    assert_eq!(problems(&engine), [NodeProblem::NoAddresses]);
    step(&mut engine, interfaces());
    assert_eq!(all_rows(&host), WHOLE);
}

#[test]
fn a_restart_without_a_node_object_changes_no_row_and_fails_the_status() {
    let host = Host::default();
    drop(run(
        &host,
        listed(Some(whole()), [service("web", 1), slice("web", &[1])]),
    ));
    host.v4.forget_transactions();
    host.v6.forget_transactions();
    let mut engine = run(&host, listed(None, [service("web", 1), slice("web", &[1])]));
    assert_eq!(host.v4.transactions(), [0; 0]);
    assert_eq!(host.v6.transactions(), [0; 0]);
    assert_eq!(all_rows(&host), WHOLE);
    assert_eq!(detect(&host), [DetectLocal::Sources(()); 2]);
    let name = "node1".to_owned();
    assert_eq!(problems(&engine), [NodeProblem::NoNode { name }]);
    assert!(problems(&engine)[0].is_fatal());

    // The object comes, with other addresses. Those count.
    let mut other = whole();
    other.addresses = vec![[192, 0, 2, 99].into()];
    other.pod_cidrs.clear();
    step(&mut engine, applied(other));
    assert_eq!(all_rows(&host)[0], ["address 192.0.2.99", WHOLE[0][1]]);
    assert!(problems(&engine).iter().all(|problem| !problem.is_fatal()));
}

#[test]
fn a_first_start_without_a_node_object_opens_the_tables_with_the_rules_that_fit_them() {
    let host = Host::default();
    let engine = run(&host, listed(None, [service("web", 1)]));
    assert_eq!(all_rows(&host), [[""; 0]; 2]);
    assert_eq!(detect(&host), [DetectLocal::Nothing; 2]);
    assert_eq!(problems(&engine).len(), 1);
    assert_eq!(
        host.services().0,
        names(&["shop/web"]),
        "ClusterIPs work without a node"
    );
}

#[test]
fn a_node_object_that_goes_leaves_its_rows_and_is_missed_until_it_is_back() {
    let gone: [fn() -> Vec<Event>; 2] = [
        || {
            vec![Event::Deleted(
                ObjectKind::Node,
                ObjectKey::new("", "node1"),
                Vec::new(),
            )]
        },
        || vec![Event::Listing(ObjectKind::Node), Event::Listed(ObjectKind::Node)],
    ];
    for events in gone {
        let host = Host::default();
        let mut engine = run(&host, listed(Some(whole()), []));
        let other = Event::Deleted(ObjectKind::Node, ObjectKey::new("", "node2"), Vec::new());
        step(&mut engine, other);
        assert_eq!(problems(&engine), [], "another node");
        engine.step(events(), at(Instant::now()));
        assert_eq!(all_rows(&host), WHOLE);
        let name = "node1".to_owned();
        assert_eq!(problems(&engine), [NodeProblem::NodeGone { name }]);
        step(&mut engine, applied(whole()));
        assert_eq!(problems(&engine), []);
    }
}

#[test]
fn what_is_found_around_changes_no_row_and_no_service() {
    let host = Host::default();
    let mut engine = run(&host, listed(Some(whole()), [service("web", 1)]));
    host.v4.forget_transactions();
    let drops = |list: &[&str]| {
        let one = |chain: &&str| ForwardDrop {
            family: "ip",
            table: "filter".into(),
            chain: (*chain).into(),
        };
        Event::NodeFact(NodeFact::ForwardDrops(list.iter().map(one).collect()))
    };
    step(&mut engine, drops(&["FORWARD", "DOCKER"]));
    assert_eq!(problems(&engine).len(), 2);
    step(&mut engine, drops(&[]));
    assert_eq!(problems(&engine), []);
    assert_eq!(host.v4.transactions(), [0; 0]);
}

/// A Service of this age with an externalIP that others have, too.
fn claimant(name: &str, n: u8, created: i64) -> Event {
    let Event::Applied(Object::Service(mut service), notices) = service(name, n) else {
        panic!("not a Service")
    };
    service.created = created;
    service.external_ips = vec![[203, 0, 113, 1].into()];
    Event::Applied(Object::Service(service), notices)
}

#[test]
fn readers_find_who_has_what_several_services_want() {
    fn waiting(engine: &Engine) -> Vec<String> {
        let status = engine.published().load().v4.clone();
        let waiting = status.disputes.waiting();
        let line = |(waits, has, place): &(&PortKey, &PortKey, Place)| format!("{waits} waits for {has}: {place}");
        waiting.iter().map(line).collect()
    }
    let host = Host::default();
    let mut engine = run(
        &host,
        listed(Some(whole()), [claimant("old", 1, 1), claimant("new", 2, 2)]),
    );
    let both = ["shop/new waits for shop/old: 203.0.113.1:80/TCP"];
    assert_eq!(waiting(&engine), both);
    step(&mut engine, slice("new", &[1]));
    assert_eq!(waiting(&engine), both);

    // If a change is refused, nothing of the Service changes.
    host.v4.refuse("shop/older");
    step(&mut engine, claimant("older", 3, 0));
    assert_eq!(waiting(&engine), both);
    assert!(
        engine
            .published()
            .load()
            .v4
            .kept
            .contains(&ObjectKey::new("shop", "older"))
    );
    host.v4.mend();
    engine.step([], at(Instant::now() + Duration::from_mins(1)));
    assert_eq!(
        waiting(&engine),
        [
            "shop/new waits for shop/older: 203.0.113.1:80/TCP",
            "shop/old waits for shop/older: 203.0.113.1:80/TCP",
        ]
    );

    // A restart finds the same.
    drop(engine);
    let mut engine = run(
        &host,
        listed(Some(whole()), [claimant("old", 1, 1), claimant("new", 2, 2)]),
    );
    assert_eq!(waiting(&engine), both);
    step(
        &mut engine,
        Event::Deleted(ObjectKind::Service, ObjectKey::new("shop", "old"), Vec::new()),
    );
    assert_eq!(waiting(&engine), [""; 0]);
}
