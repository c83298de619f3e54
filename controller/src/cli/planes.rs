//! The second data plane in `tandem status`.

use crate::api::{FolderView, FollowerView, SocketsView};

use super::format::age;

/// How many Service ports that are left are named. `-o json` has all of them.
const NAMED: usize = 5;

pub(super) fn sockets(view: &SocketsView, line: &mut impl FnMut(&str, &str)) {
    let whose = match view.of.as_str() {
        "all" => "of the node and its pods",
        "node" => "of the node alone",
        _ => "of nobody",
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
    for map in view.maps.iter().filter(|map| map.used.is_some()) {
        let used = map.used.unwrap_or_default();
        line(
            "",
            &format!("{}: {used} of {} ({:.1} MB)", map.name, map.size, mega(map.bytes)),
        );
    }
}

pub(super) fn follower(view: &FollowerView, line: &mut impl FnMut(&str, &str)) {
    let left = match view.left.len() {
        0 => String::new(),
        count => format!(", {count} left to the table"),
    };
    line(
        "  Sockets:",
        &format!(
            "{}: {} Service ports{left}",
            state(&view.state, view.since_seconds_ago, view.reason.as_deref()),
            view.taken
        ),
    );
    if let Some(seconds) = view.last_change_seconds_ago {
        let failed = match view.failures {
            0 => String::new(),
            count => format!(", {count} failures"),
        };
        line(
            "",
            &format!(
                "last change {seconds:.1}s ago: {} µs ({} changes, {} renewals{failed})",
                view.last_change_microseconds, view.changes, view.renewals
            ),
        );
    }
    for port in view.left.iter().take(NAMED) {
        line("", &format!("left {}: {}", port.service_port, port.reason));
    }
    if view.left.len() > NAMED {
        line("", &format!("and {} more", view.left.len() - NAMED));
    }
    let counts = view.left_connections.iter().filter(|left| left.count > 0);
    let counts: Vec<String> = counts.map(|left| format!("{} {}", left.count, left.reason)).collect();
    if !counts.is_empty() {
        line("", &format!("connections left to the table: {}", counts.join(", ")));
    }
}

fn state(name: &str, since: Option<f64>, reason: Option<&str>) -> String {
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
        (true, 1) => "1 pod, ".to_owned(),
        (true, count) => format!("{count} pods, "),
    };
    format!("{folder} for {since}: {below}{} processes", view.processes)
}

/// Seconds are never negative, and an age has no fractions.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an age in whole seconds"
)]
fn whole(seconds: f64) -> u64 {
    seconds as u64
}

#[expect(clippy::cast_precision_loss, reason = "megabytes for people")]
fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
