//! Lists in pages, and what happens if the pages do not make one list.

use super::*;

/// A page of this version with one object. It says that another page follows.
fn page(version: &str, name: &str, after: &str) -> String {
    let list = list(version, &[object(name, "3")]);
    let version = format!(r#""resourceVersion":"{version}"}},"#);
    list.replace(&version, &version.replace('}', &format!(r#","continue":"{after}"}}"#)))
}

fn ok(body: String) -> Reply {
    Reply::Answer("200 OK", "", body)
}

/// How the lists were asked for: in pages, which page, or all at once.
fn asked(server: &Server) -> Vec<&'static str> {
    let lists = server.lists.lock().unwrap();
    let how = |target: &String| match (target.contains("limit="), target.contains("continue=")) {
        _ if target.contains("resourceVersion=") => "cached",
        (true, false) => "first page",
        (true, true) => "next page",
        (false, false) => "all",
        (false, true) => "the rest of all",
    };
    lists.iter().map(how).collect()
}

/// The list that begins anew. The objects of the page before, which does not belong to the list, may have been told of.
async fn listed_anew(events: &mut Receiver<Event>) {
    let mut first = next(events).await;
    if first == "applied shop/b" {
        first = next(events).await;
    }
    assert_eq!(first, "listing");
    expect(events, &["applied shop/c", "listed"]).await;
}

#[tokio::test]
async fn pages_are_one_list() {
    let (_, address) = Server::start(|what, before| match (what, before) {
        ("list", 0) => Some(ok(page("5", "a", "more"))),
        ("list", _) => Some(ok(list("5", &[object("b", "4")]))),
        _ => None,
    })
    .await;
    let mut events = watch_by(Lists::Pages, &address, timing()).await;
    expect(
        &mut events,
        &["listing", "applied shop/a", "applied shop/b", "listed", "watching"],
    )
    .await;
}

#[tokio::test]
async fn pages_that_do_not_make_one_list_are_asked_for_all_at_once_and_later_lists_in_pages_again() {
    let expired = || status(410, "The provided continue parameter is too old");
    let second: [fn(String) -> Reply; 4] = [
        |expired| Reply::Answer("410 Gone", "", expired),
        ok,
        |_| ok(list("6", &[object("b", "4")])),
        |_| ok(page("5", "b", "more")),
    ];
    for second in second {
        let (server, address) = Server::start(move |what, before| match (what, before) {
            ("list", 0) => Some(ok(page("5", "a", "more"))),
            ("list", 1) => Some(second(expired())),
            ("list", _) => Some(ok(list("7", &[object("c", "7")]))),
            // The next list.
            ("watch", 0) => Some(Reply::Answer("410 Gone", "", status(410, "too old"))),
            _ => None,
        })
        .await;
        let mut events = watch_by(Lists::Pages, &address, timing()).await;
        expect(&mut events, &["listing", "applied shop/a"]).await;
        listed_anew(&mut events).await;
        expect(&mut events, &["listing", "applied shop/c", "listed", "watching"]).await;
        assert_eq!(asked(&server), ["first page", "next page", "all", "first page"]);
    }
}

#[tokio::test]
async fn a_list_that_cannot_be_had_all_at_once_is_asked_for_in_pages_again() {
    let (server, address) = Server::start(|what, before| match (what, before) {
        ("list", 0) => Some(ok(page("5", "a", "more"))),
        ("list", 1) => Some(Reply::Answer("410 Gone", "", status(410, "too old"))),
        ("list", 2) => Some(Reply::Answer("504 Gateway Timeout", "", String::new())),
        ("list", _) => Some(ok(list("7", &[]))),
        _ => None,
    })
    .await;
    let mut events = watch_by(Lists::Pages, &address, timing()).await;
    expect(
        &mut events,
        &[
            "listing",
            "applied shop/a",
            "lost: cannot list services: the server answers 504",
            "listing",
            "listed",
        ],
    )
    .await;
    assert_eq!(asked(&server), ["first page", "next page", "all", "first page"]);
}

#[tokio::test]
async fn a_cached_list_that_does_not_hold_together_is_asked_for_in_pages_and_later_lists_are_cached_again() {
    let (server, address) = Server::start(|what, before| match (what, before) {
        ("list", 0) => Some(ok(page("5", "a", "more"))),
        ("list", 1) => Some(ok(list("6", &[object("b", "4")]))),
        ("list", _) => Some(ok(list("7", &[object("c", "7")]))),
        // The next list.
        ("watch", 0) => Some(Reply::Answer("410 Gone", "", status(410, "too old"))),
        _ => None,
    })
    .await;
    let mut events = watch_by(Lists::Cache, &address, timing()).await;
    expect(&mut events, &["listing", "applied shop/a"]).await;
    listed_anew(&mut events).await;
    expect(&mut events, &["listing", "applied shop/c", "listed", "watching"]).await;
    assert_eq!(asked(&server), ["cached", "the rest of all", "first page", "cached"]);
}
