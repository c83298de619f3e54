//! The second data plane in `tandem status`.

use crate::api::{FolderView, FollowerView, SocketsView};

use super::format::{age, counted};

pub(super) fn sockets(view: &SocketsView, line: &mut dyn FnMut(&str, &str)) {
    let whose = match view.of.as_str() {
        "all" => "of the node and its pods",
        "node" => "of the node alone",
        _ => "switched off",
    };
    line("", " ");
    line(
        "Sockets:",
        &format!(
            "{whose}: {}",
            state(&view.state, view.since_seconds_ago, view.reason.as_deref())
        ),
    );
    line("  Node's programs:", &folder(&view.node, false));
    if let Some(pods) = &view.pods {
        line("  Pods' programs:", &folder(pods, true));
    }
    if view.maps.is_empty() {
        return;
    }
    let bytes: u64 = view.maps.iter().map(|map| map.bytes).sum();
    line("  Maps:", &format!("{:.1} MB in {}", mega(bytes), view.pins));
    // Arrays whose size is their meaning are never fuller or emptier.
    for map in &view.maps {
        if let (Some(used), Some(size)) = (map.used, map.size) {
            line(
                "",
                &format!("{}: {used} of {size} ({:.1} MB)", map.name, mega(map.bytes)),
            );
        }
    }
}

pub(super) fn follower(view: &FollowerView, line: &mut dyn FnMut(&str, &str)) {
    let left = match view.left.len() {
        0 => String::new(),
        count => format!(", {count} left to nftables (see Problems)"),
    };
    let serves = if view.state == "on" || view.taken > 0 {
        format!("{}{left}", counted(view.taken as u64, "Service port"))
    } else {
        "nftables serves alone".to_owned()
    };
    let state = state(&view.state, view.since_seconds_ago, view.reason.as_deref());
    line("  Sockets:", &format!("{state}: {serves}"));
    if let Some(seconds) = view.last_change_seconds_ago {
        let mut counts = vec![counted(view.changes, "change"), counted(view.renewals, "renewal")];
        if view.failures > 0 {
            counts.push(counted(view.failures, "failure"));
        }
        line(
            "",
            &format!(
                "last change {seconds:.1}s ago: {} µs ({})",
                view.last_change_microseconds,
                counts.join(", ")
            ),
        );
    }
    let counts = view.left_connections.iter().filter(|left| left.count > 0);
    let counts: Vec<String> = counts.map(|left| format!("{} {}", left.count, left.reason)).collect();
    if !counts.is_empty() {
        line("", &format!("connections left to nftables: {}", counts.join(", ")));
    }
}

pub(super) fn state(name: &str, since: Option<f64>, reason: Option<&str>) -> String {
    let mut text = name.to_owned();
    if let Some(seconds) = since {
        text = format!("{text} for {}", age(whole(seconds)));
    }
    match reason {
        Some(reason) => format!("{text} ({reason})"),
        None => text,
    }
}

fn folder(view: &FolderView, pods: bool) -> String {
    let Some(folder) = &view.folder else {
        let why = view.reason.as_deref().unwrap_or("not loaded");
        return format!("not attached: {why}");
    };
    let since = age(whole(view.since_seconds_ago.unwrap_or_default()));
    let below = match (pods, view.pods) {
        (false, _) => String::new(),
        (true, 0) => "no pods, ".to_owned(),
        (true, count) => format!("{}, ", counted(count as u64, "pod")),
    };
    format!("{folder} for {since}: {below}{}", processes(view.processes))
}

fn processes(count: usize) -> String {
    match count {
        1 => "1 process".to_owned(),
        count => format!("{count} processes"),
    }
}

/// Seconds are never negative, and an age has no fractions.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an age in whole seconds"
)]
pub(super) fn whole(seconds: f64) -> u64 {
    seconds as u64
}

#[expect(clippy::cast_precision_loss, reason = "megabytes for people")]
fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(print: impl FnOnce(&mut dyn FnMut(&str, &str))) -> String {
        let mut out = String::new();
        print(&mut |name, value| {
            out.push_str(format!("{name:<22} {value}").trim_end());
            out.push('\n');
        });
        out
    }

    #[test]
    fn sockets_that_are_on_are_shown_with_folders_and_maps() {
        let view: SocketsView = serde_json::from_value(json!({
            "of": "all", "state": "on", "sinceSecondsAgo": 61.7, "pins": "/sys/fs/bpf/tandem", "verifiedInstructions": 80_000,
            "node": { "folder": "/sys/fs/cgroup", "sinceSecondsAgo": 61.7, "processes": 214, "pods": 12 },
            "pods": { "folder": "/sys/fs/cgroup/kubepods.slice", "sinceSecondsAgo": 5.0, "processes": 40, "pods": 12 },
            "maps": [
                { "name": "NODE", "size": 4, "used": null, "bytes": 4096 },
                { "name": "FRONTENDS4", "size": 16_384, "used": 12, "bytes": 1_310_720 },
                { "name": "PEERS4", "size": null, "used": null, "bytes": 0 },
            ],
        }))
        .unwrap();
        insta::assert_snapshot!(text(|line| sockets(&view, line)), @r"

        Sockets:               of the node and its pods: on for 61s
          Node's programs:     /sys/fs/cgroup for 61s: 214 processes
          Pods' programs:      /sys/fs/cgroup/kubepods.slice for 5s: 12 pods, 40 processes
          Maps:                1.3 MB in /sys/fs/bpf/tandem
                               FRONTENDS4: 12 of 16384 (1.3 MB)
        ");
        let view: SocketsView = serde_json::from_value(json!({
            "of": "node", "state": "failed", "sinceSecondsAgo": 3.0, "reason": "kernel 5.10 is too old: 5.15 is needed",
            "pins": "/sys/fs/bpf/tandem", "verifiedInstructions": 0,
            "node": { "folder": null, "sinceSecondsAgo": null, "processes": 0, "pods": 0 }, "pods": null, "maps": [],
        }))
        .unwrap();
        insta::assert_snapshot!(text(|line| sockets(&view, line)), @r"

        Sockets:               of the node alone: failed for 3s (kernel 5.10 is too old: 5.15 is needed)
          Node's programs:     not attached: not loaded
        ");
    }

    fn follower_of(view: &serde_json::Value) -> String {
        let view: FollowerView = serde_json::from_value(view.clone()).unwrap();
        text(|line| follower(&view, line))
    }

    #[test]
    fn a_follower_is_shown_with_what_it_leaves() {
        let left = |number| json!({ "servicePort": format!("shop/web-{number}:http"), "reason": "there is no room for its endpoints" });
        let mut view = json!({
            "state": "on", "sinceSecondsAgo": 7200.0, "taken": 10_000, "left": [left(1), left(2)],
            "leftConnections": [
                { "reason": "connected UDP", "count": 12 }, { "reason": "source ranges", "count": 0 }, { "reason": "no memory", "count": 1 },
            ],
            "changes": 7, "renewals": 2, "lastChangeSecondsAgo": 0.5, "lastChangeMicroseconds": 4, "failures": 0,
        });
        insta::assert_snapshot!(follower_of(&view), @r"
        Sockets:             on for 2h: 10000 Service ports, 2 left to nftables (see Problems)
                             last change 0.5s ago: 4 µs (7 changes, 2 renewals)
                             connections left to nftables: 12 connected UDP, 1 no memory
        ");
        (view["state"], view["taken"]) = (json!("behind"), json!(0));
        view["reason"] = json!("the map LISTS4 is full");
        view["failures"] = json!(3);
        insta::assert_snapshot!(follower_of(&view), @r"
        Sockets:             behind for 2h (the map LISTS4 is full): nftables serves alone
                             last change 0.5s ago: 4 µs (7 changes, 2 renewals, 3 failures)
                             connections left to nftables: 12 connected UDP, 1 no memory
        ");
    }

    #[test]
    fn one_of_anything_is_said_in_the_singular() {
        let view = json!({
            "state": "on", "sinceSecondsAgo": 5.0, "taken": 1, "left": [], "leftConnections": [],
            "changes": 1, "renewals": 1, "lastChangeSecondsAgo": 0.5, "lastChangeMicroseconds": 4, "failures": 1,
        });
        insta::assert_snapshot!(follower_of(&view), @r"
        Sockets:             on for 5s: 1 Service port
                             last change 0.5s ago: 4 µs (1 change, 1 renewal, 1 failure)
        ");
        let one = FolderView {
            folder: Some("/c".to_owned()),
            processes: 1,
            pods: 1,
            ..FolderView::default()
        };
        assert_eq!(folder(&one, true), "/c for 0s: 1 pod, 1 process");
    }
}
