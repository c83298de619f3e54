//! The kernel reports changes that others make.

use std::time::Duration;

use tandem::net::{Group, Monitor, News, Object};

use crate::support::{in_namespace, ip};

/// Reads news of all kinds until this one comes.
async fn until(monitor: &mut Monitor, what: impl Fn(&News) -> bool) -> News {
    let heard = async {
        loop {
            let news = monitor.next().await.expect("news");
            if let Some(found) = news.into_iter().find(|news| what(news)) {
                return found;
            }
        }
    };
    let heard = tokio::time::timeout(Duration::from_secs(5), heard).await;
    heard.expect("the kernel told nothing")
}

fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(test);
}

/// A kind of object: how `ip` adds and deletes one, and how to recognise it.
type Case = (Group, &'static str, &'static str, fn(&Object) -> bool);

#[test]
fn every_kind_of_object_is_told_when_it_comes_and_when_it_goes() {
    let kinds: [Case; 9] = [
        (
            Group::Links,
            "link add d1 type bridge",
            "link delete d1",
            |it| matches!(it, Object::Link(link) if link.name.is_some_and(|name| name.as_str() == "d1")),
        ),
        (
            Group::Addresses,
            "addr add 192.0.2.11/24 dev d0",
            "addr delete 192.0.2.11/24 dev d0",
            |it| matches!(it, Object::Address(_)),
        ),
        (
            Group::Addresses,
            "addr add 2001:db8::1/64 dev d0 nodad",
            "addr delete 2001:db8::1/64 dev d0",
            |it| matches!(it, Object::Address(_)),
        ),
        (
            Group::Routes,
            "route add 10.0.0.0/8 dev d0 table 100",
            "route delete 10.0.0.0/8 table 100",
            |it| matches!(it, Object::Route(route) if route.table == 100),
        ),
        (
            Group::Routes,
            "-6 route add fd00::/8 dev d0 table 100",
            "-6 route delete fd00::/8 table 100",
            |it| matches!(it, Object::Route(route) if route.table == 100),
        ),
        (
            Group::Rules,
            "rule add priority 7 lookup 100",
            "rule delete priority 7",
            |it| matches!(it, Object::Rule(rule) if rule.priority == 7),
        ),
        (
            Group::Rules,
            "-6 rule add priority 7 lookup 100",
            "-6 rule delete priority 7",
            |it| matches!(it, Object::Rule(rule) if rule.priority == 7),
        ),
        (
            Group::Neighbours,
            "neigh add 192.0.2.12 lladdr 02:00:00:00:00:07 dev d0",
            "neigh delete 192.0.2.12 dev d0",
            |it| matches!(it, Object::Neighbour(_)),
        ),
        (
            Group::Neighbours,
            "neigh add 2001:db8::12 lladdr 02:00:00:00:00:07 dev d0",
            "neigh delete 2001:db8::12 dev d0",
            |it| matches!(it, Object::Neighbour(_)),
        ),
    ];
    in_namespace(|| {
        block_on(async {
            for (group, add, delete, is_it) in kinds {
                let mut monitor = Monitor::open(&[group]).expect("a monitor");
                ip(add);
                until(&mut monitor, |news| matches!(news, News::Come(it) if is_it(it))).await;
                ip(delete);
                until(&mut monitor, |news| matches!(news, News::Gone(it) if is_it(it))).await;
            }
        });
    });
}

#[test]
fn a_loss_is_told() {
    in_namespace(|| {
        block_on(async {
            let mut monitor = Monitor::open(&[Group::Neighbours]).expect("a monitor");
            // More than the socket can hold: 20,000 changes.
            let mut lines = String::new();
            for (high, low) in (0..80).flat_map(|high| (0..250).map(move |low| (high, low))) {
                let entry = format!("192.0.{high}.{low} lladdr 02:00:00:00:00:07");
                lines.extend(["neigh replace ", &entry, " dev d0\n"]);
            }
            let file = std::env::temp_dir().join(format!("tandem-neighbours-{}", std::process::id()));
            std::fs::write(&file, lines).expect("a file");
            let result = std::panic::catch_unwind(|| ip(&format!("-batch {}", file.display())));
            std::fs::remove_file(&file).expect("the file");
            result.expect("neighbours");
            until(&mut monitor, |news| *news == News::Lost).await;
            // After the loss, the subscription still works.
            ip("neigh delete 192.0.1.1 dev d0");
            until(&mut monitor, |news| matches!(news, News::Gone(Object::Neighbour(_)))).await;
        });
    });
}
