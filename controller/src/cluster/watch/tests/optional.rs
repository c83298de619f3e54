//! ServiceCIDRs: some servers do not have this kind, and some roles may not read it.

use super::*;

/// A server that gives this answer to the first requests for ServiceCIDRs. If `all` is set, it gives it to all other
/// requests too.
async fn refuse(answer: &'static str, count: usize, all: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut refused = 0;
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let length = stream.read(&mut head).await.unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..length]);
            let optional = head.contains("/servicecidrs?");
            let refuse = (optional && refused < count) || (!optional && all);
            refused += usize::from(optional);
            let (answer, body) = if refuse {
                (answer, String::new())
            } else {
                ("200 OK", empty(head.split(' ').nth(1).unwrap_or_default()))
            };
            let head = format!(
                "HTTP/1.1 {answer}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
        }
    });
    address
}

/// The first events of ServiceCIDRs.
async fn cidr_events(address: &str, count: usize) -> Vec<String> {
    let mut events = watch(address, timing()).await;
    let mut seen = Vec::new();
    while seen.len() < count {
        match timeout(Duration::from_secs(5), events.recv()).await {
            Ok(Some(Event::Listing(ObjectKind::ServiceCidr))) => seen.push("listing".to_owned()),
            Ok(Some(Event::Listed(ObjectKind::ServiceCidr))) => seen.push("listed".to_owned()),
            Ok(Some(Event::Reach(ObjectKind::ServiceCidr, reach))) => seen.push(format!("{reach:?}")),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break,
        }
    }
    seen
}

#[tokio::test]
async fn a_kind_that_the_server_does_not_have_is_empty() {
    let seen = cidr_events(&refuse("404 Not Found", usize::MAX, true).await, 3).await;
    assert_eq!(seen, ["listing", "listed", "Watching"]);
}

#[tokio::test]
async fn a_kind_that_alone_is_forbidden_is_empty() {
    let mut seen = cidr_events(&refuse("403 Forbidden", usize::MAX, false).await, 3).await;
    seen.retain(|event| !event.contains("may not list servicecidrs"));
    assert_eq!(seen, ["listing", "listed"]);
}

#[tokio::test]
async fn a_kind_that_is_forbidden_like_all_others_is_waited_for() {
    // Here, lists of all other kinds never succeed.
    let seen = cidr_events(&refuse("403 Forbidden", 3, true).await, 3).await;
    assert!(seen[0].contains("may not list servicecidrs"), "{seen:?}");
    assert_eq!(seen[1..], ["listing", "listed"]);
}
