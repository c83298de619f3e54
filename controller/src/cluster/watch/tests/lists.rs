//! Lists from the watch cache, and lists that arrive slowly.

use super::*;

const AHEAD: &str = "Timeout: Too large resource version: 900, current: 5";

fn ok(body: String) -> Reply {
    Reply::Answer("200 OK", "", body)
}

/// What each request for a list asked for, without the selectors.
fn asked(server: &Server) -> Vec<String> {
    let lists = server.lists.lock().unwrap();
    let what = |target: &String| {
        let parts = target.split(['?', '&']).skip(1);
        let parts = parts.filter(|part| !part.is_empty() && !part.contains("Selector="));
        parts.collect::<Vec<_>>().join("&")
    };
    lists.iter().map(what).collect()
}

#[tokio::test]
async fn objects_are_told_before_the_list_ends_and_one_that_falls_silent_ends_none() {
    for lists in [Lists::Cache, Lists::Pages] {
        let (server, address) = Server::start(|what, before| {
            let whole = list("5", &[object("a", "3"), object("b", "4")]);
            match (what, before) {
                // The second object lacks its end.
                ("list", 0) => Some(Reply::Silence(vec![whole[..whole.len() - 4].to_owned()])),
                ("list", _) => Some(ok(whole)),
                _ => None,
            }
        })
        .await;
        let mut events = watch_by(lists, &address, timing()).await;
        let silence = "lost: cannot list services: no answer for 500 ms";
        expect(&mut events, &["listing", "applied shop/a", silence]).await;
        expect(
            &mut events,
            &["listing", "applied shop/a", "applied shop/b", "listed", "watching"],
        )
        .await;
        assert_eq!(server.count("list"), 2);
    }
}

#[tokio::test]
async fn a_later_list_is_asked_for_with_the_last_version() {
    let (server, address) = Server::start(|what, before| match (what, before) {
        ("watch", 0) => Some(Reply::Silence(vec![
            bookmark("7"),
            event("ERROR", &status(410, "too old resource version: 7 (9)")),
        ])),
        ("list", 1) => Some(ok(list("9", &[]))),
        _ => None,
    })
    .await;
    let mut events = watch_by(Lists::Cache, &address, timing()).await;
    expect(&mut events, &["listing", "listed", "watching", "listing", "listed"]).await;
    assert_eq!(
        asked(&server),
        [
            "resourceVersion=0",
            "resourceVersion=7&resourceVersionMatch=NotOlderThan"
        ]
    );
}

#[tokio::test]
async fn a_store_that_was_restored_from_a_backup_is_followed_again() {
    // The server says it to the watch, or it says that the version is too old, and then refuses the list.
    for said in [504, 410] {
        let (server, address) = Server::start(move |what, before| match (what, before) {
            ("list", 0) => Some(ok(list("900", &[object("a", "899")]))),
            ("list", 1) if said == 410 => Some(Reply::Answer("504 Gateway Timeout", "", status(504, AHEAD))),
            ("list", _) => Some(ok(list("5", &[object("b", "4")]))),
            ("watch", 0) if said == 410 => Some(Reply::Answer("410 Gone", "", status(410, "too old"))),
            ("watch", 0) => Some(Reply::Answer("504 Gateway Timeout", "", status(504, AHEAD))),
            ("watch", 1) => Some(Reply::Silence(vec![event("MODIFIED", &object("b", "6"))])),
            _ => None,
        })
        .await;
        let mut events = watch_by(Lists::Cache, &address, timing()).await;
        expect(&mut events, &["listing", "applied shop/a", "listed"]).await;
        expect(&mut events, &["listing", "applied shop/b", "listed"]).await;
        expect(&mut events, &["watching", "applied shop/b"]).await;
        let mut wanted = vec!["resourceVersion=0", "limit=500"];
        if said == 410 {
            wanted.insert(1, "resourceVersion=900&resourceVersionMatch=NotOlderThan");
        }
        assert_eq!(asked(&server), wanted);
    }
}
