//! Packets from outside in `tandem status`.

use crate::api::{DeviceView, OutsideView, PacketsView};

use super::format::{age, counted};
use super::planes::{state, whole};

pub(super) fn lines(view: &OutsideView, line: &mut dyn FnMut(&str, &str)) {
    line("", " ");
    line(
        "Packets from outside:",
        &state(&view.state, view.since_seconds_ago, view.reason.as_deref()),
    );
    for (at, device) in view.devices.iter().enumerate() {
        line(if at == 0 { "  Devices:" } else { "" }, &self::device(device));
    }
    for family in &view.families {
        line(&format!("  {}:", family.family), &flows(family));
        line(
            "",
            &format!(
                "{} sent on, {} answered",
                counted(family.sent, "packet"),
                family.answered
            ),
        );
        let passed: Vec<String> = family
            .passed
            .iter()
            .map(|left| format!("{} {}", left.count, left.reason))
            .collect();
        if !passed.is_empty() {
            line("", &format!("not translated: {}", passed.join(", ")));
        }
    }
}

fn device(view: &DeviceView) -> String {
    let name = &view.name;
    match view.role.as_str() {
        "attached" => {
            let mode = view.mode.as_deref().unwrap_or_default();
            let since = age(whole(view.since_seconds_ago.unwrap_or_default()));
            format!("{name}: {mode} for {since}")
        }
        "wayOut" => {
            let (carrier, vlan) = (
                view.carrier.as_deref().unwrap_or_default(),
                view.vlan.unwrap_or_default(),
            );
            format!("{name}: VLAN {vlan} on {carrier}: packets leave by it")
        }
        _ => format!(
            "{name}: nftables serves it: {}",
            view.reason.as_deref().unwrap_or_default()
        ),
    }
}

fn flows(view: &PacketsView) -> String {
    let mut text = format!(
        "{} of {} (fullest page: {} of 16384)",
        counted(u64::from(view.flows), "flow"),
        view.most_flows,
        view.fullest_page
    );
    if view.held_ports > 0 {
        text = format!(
            "{text}, {} kept for others",
            counted(u64::from(view.held_ports), "port")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn packets_from_outside_are_shown_with_their_devices_flows_and_reasons() {
        let view: OutsideView = serde_json::from_value(json!({
            "state": "on", "sinceSecondsAgo": 7200.0, "verifiedInstructions": 453_672,
            "devices": [
                { "name": "eth0", "index": 2, "role": "attached", "mode": "native", "sinceSecondsAgo": 7200.0 },
                { "name": "eth0.7", "index": 3, "role": "wayOut", "vlan": 7, "carrier": "eth0" },
                { "name": "eth1", "index": 4, "role": "refused", "reason": "it is down" },
            ],
            "families": [
                { "family": "IPv4", "sent": 1000, "answered": 1, "passed": [{ "reason": "ClusterIP", "count": 3 }], "flows": 1,
                  "mostFlows": 262_144, "over": 5, "heldPorts": 2, "pages": 16, "fullestPage": 6 },
                { "family": "IPv6", "sent": 0, "answered": 0, "passed": [], "flows": 0, "mostFlows": 262_144, "over": 0,
                  "heldPorts": 0, "pages": 16, "fullestPage": 0 },
            ],
        }))
        .unwrap();
        let mut out = String::new();
        lines(&view, &mut |name, value| {
            out.push_str(format!("{name:<22} {value}").trim_end());
            out.push('\n');
        });
        insta::assert_snapshot!(out, @r"

        Packets from outside:  on for 2h
          Devices:             eth0: native for 2h
                               eth0.7: VLAN 7 on eth0: packets leave by it
                               eth1: nftables serves it: it is down
          IPv4:                1 flow of 262144 (fullest page: 6 of 16384), 2 ports kept for others
                               1000 packets sent on, 1 answered
                               not translated: 3 ClusterIP
          IPv6:                0 flows of 262144 (fullest page: 0 of 16384)
                               0 packets sent on, 0 answered
        ");
    }
}
