//! Other parts of the agent watch objects of their own, beside the engine's kinds.

use super::*;
use crate::cluster::everything::All;

const NODES: All = All {
    kind: "Node",
    path: "/api/v1/nodes",
};
const SERVICES: All = All {
    kind: "Service",
    path: "/api/v1/services",
};

fn start(client: &Client, watched: All) -> Receiver<String> {
    let (sender, receiver) = channel(10);
    let admitted = Arc::new(AtomicBool::new(false));
    let client = client.clone();
    tokio::spawn(
        async move { super::super::watch(client, watched, &Ways::default(), timing(), sender, admitted).await },
    );
    receiver
}

async fn said(events: &mut Receiver<String>) -> String {
    timeout(Duration::from_secs(5), events.recv()).await.unwrap().unwrap()
}

#[tokio::test]
async fn what_is_refused_to_one_part_holds_no_other_back() {
    let (_, address) =
        Server::start(|what, _| (what == "list").then(|| Reply::Answer("403 Forbidden", "", status(403, "not you"))))
            .await;
    let (client, _) = connect(None, Some(&address), Http::Newest).await.unwrap();
    let (mut refused, mut other) = (start(&client, SERVICES), start(&client, NODES));
    let lost = said(&mut refused).await;
    assert!(lost.starts_with("lost: may not list services"), "{lost}");
    for expected in ["Listing", "Listed", "Reach(Watching)"] {
        assert_eq!(said(&mut other).await, expected);
    }
}

#[tokio::test]
async fn a_part_whose_channel_is_full_holds_no_other_back_and_gets_its_own_events() {
    let (_, address) = Server::start(|what, before| match (what, before) {
        ("list", _) => Some(Reply::Answer("200 OK", "", list("5", &[object("a", "3")]))),
        (_, 0) => Some(Reply::Silence(
            (0..50).map(|_| event("MODIFIED", &object("a", "6"))).collect(),
        )),
        _ => None,
    })
    .await;
    let (client, _) = connect(None, Some(&address), Http::Newest).await.unwrap();
    let (mut slow, mut other) = (start(&client, SERVICES), start(&client, NODES));
    for expected in ["Listing", "Listed", "Reach(Watching)"] {
        assert_eq!(said(&mut other).await, expected);
    }
    assert_eq!(said(&mut slow).await, "Listing");
    assert_eq!(said(&mut slow).await, format!("Listed {}", object("a", "3")));
    assert_eq!(said(&mut slow).await, "Listed");
    assert_eq!(said(&mut slow).await, "Reach(Watching)");
    for _ in 0..50 {
        assert_eq!(said(&mut slow).await, format!("Applied {}", object("a", "6")));
    }
}
