//! `tandem status`

use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;

use crate::api::{Document, FamilyStatusView, StatusView, UdpFlowsView, get};

use super::format::{age, counted, print, structured};
use super::outside;
use super::planes;
use super::{Agent, AskError, Output, block_on};

/// Show the state of the running agent: what it reads, what is in the kernel, what went wrong.
///
/// Exits with 0 if everything known is programmed, or if the agent stands by and reads everything. Exits with 1 if changes
/// wait, if lists are not complete, if this node's object was not found, or if a kube-proxy runs on this node too. Exits with
/// 3 if no agent answers.
#[derive(Args)]
#[command(after_help = "Examples:\n  tandem status\n  tandem status -o json")]
pub(super) struct Status {
    /// Another form than text.
    #[arg(short, long, value_enum)]
    output: Option<Output>,
    #[command(flatten)]
    agent: Agent,
}

impl Status {
    pub(super) fn run(self) -> Result<(), AskError> {
        let document: Document<StatusView> = block_on(get(&self.agent.socket, "/v1/status"))??;
        if !structured(&document, self.output)? {
            print(&text(&document.body))?;
        }
        match wrong(&document.body) {
            Some(why) => Err(AskError::No(why)),
            None => Ok(()),
        }
    }
}

/// Why the answer is no.
fn wrong(status: &StatusView) -> Option<String> {
    if status.stands_by {
        return match status.sources.iter().find(|(_, state)| state != "watching") {
            Some((kind, state)) => Some(format!("stands by, and {kind} cannot be read: {state}")),
            None if !status.listed => Some("stands by, and not every list is complete yet".into()),
            None => None,
        };
    }
    if !status.complete {
        return Some("not every list is complete yet: the kernel is left as it was found".into());
    }
    if let Some(family) = status.families.iter().find(|family| family.last_error.is_some()) {
        return Some(format!("changes of {} wait", family.family));
    }
    if let Some(problem) = status.problems.iter().find(|problem| problem.fatal) {
        return Some(format!("{}: {}", problem.object, problem.problem));
    }
    let family = status.families.iter().find(|family| family.set_aside > 0)?;
    let count = counted(family.set_aside as u64, "Service");
    Some(format!("{}: {count} set aside, see Problems", family.family))
}

fn text(status: &StatusView) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        let value = if value.is_empty() { "<none>" } else { value };
        let line = format!("{name:<22} {value}");
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{}", line.trim_end());
    };
    line("Node:", &node(status));
    line(
        "Agent:",
        &format!("tandem {}, up {}", status.version, age(status.uptime_seconds)),
    );
    line(
        "Objects:",
        &format!(
            "{} Services, {} EndpointSlices",
            status.services, status.endpoint_slices
        ),
    );
    let sources: Vec<String> = status
        .sources
        .iter()
        .map(|(kind, state)| format!("{kind}: {state}"))
        .collect();
    line("Sources:", &sources.join(", "));
    let complete = match (status.listed, status.stands_by) {
        (true, false) => "yes",
        (true, true) => "yes; stands by: another tandem serves this node, and this one leaves the kernel alone",
        (false, _) => "no: the kernel is left as it was found",
    };
    line("Lists complete:", complete);
    if let Some(sockets) = &status.sockets {
        planes::sockets(sockets, &mut line);
    }
    if let Some(outside) = &status.outside {
        outside::lines(outside, &mut line);
    }
    for family in &status.families {
        line("", " ");
        line(&format!("{}:", family.family), &format!("table {}", family.table));
        family_lines(family, &mut line);
    }
    line("", " ");
    let count = status.problems.len();
    line(
        "Problems:",
        &if count == 0 { "<none>".into() } else { count.to_string() },
    );
    for problem in &status.problems {
        line("", &format!("{}: {}", problem.object, problem.problem));
    }
    for (index, change) in status.configuration.waiting.iter().enumerate() {
        line(if index == 0 { "At the next start:" } else { "" }, change);
    }
    out
}

fn node(status: &StatusView) -> String {
    if !status.node.is_empty() {
        return format!("{} ({})", status.node, status.node_addresses.join(", "));
    }
    let yet = if status.complete { "" } else { " yet" };
    format!("{} (no such Node object{yet})", status.node_looked_for)
}

fn family_lines(family: &FamilyStatusView, line: &mut impl FnMut(&str, &str)) {
    line("  Ownership:", family.ownership.as_deref().unwrap_or("not open"));
    line(
        "  Rows:",
        &format!("{} ({} found at the start)", family.rows, family.rows_adopted),
    );
    line("  Service ranges:", &family.service_ranges.join(", "));
    line("  Pod ranges:", &family.pod_ranges.join(", "));
    line("  NodePort addresses:", &family.node_port_addresses.join(", "));
    let last = family.last_change_seconds_ago.map(|seconds| {
        let (rows, took) = (family.last_change_rows, family.last_change_microseconds);
        format!(
            "{seconds:.1}s ago: {rows} rows in {took} µs ({} changes so far)",
            family.changes
        )
    });
    line("  Last change:", last.as_deref().unwrap_or(""));
    line(
        "  Flows:",
        &family.udp_flows.as_ref().map(udp_flows).unwrap_or_default(),
    );
    if family.unremembered > 0 {
        let count = family.unremembered;
        line(
            "  Affinity:",
            &format!("{count} connections of clients that could not be remembered"),
        );
    }
    if let Some(follower) = &family.follower {
        planes::follower(follower, line);
    }
    let error = family
        .last_error
        .as_ref()
        .map(|error| format!("{error} ({} failures so far)", family.failures));
    line("  Last error:", error.as_deref().unwrap_or(""));
}

fn udp_flows(flows: &UdpFlowsView) -> String {
    let mut text = format!("{} cut", flows.cut);
    let kinds = [
        (flows.cut_turned, "begun by an answer"),
        (flows.cut_connecting, "connecting too early"),
    ];
    let kinds: Vec<String> = kinds
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, kind)| format!("{count} {kind}"))
        .collect();
    if !kinds.is_empty() {
        let _ = write!(text, " ({})", kinds.join(", "));
    }
    let _ = write!(text, " in {} reconciliations", flows.reconciliations);
    if let Some(seconds) = flows.last_seconds_ago {
        let (took, read) = (Duration::from_micros(flows.last_microseconds), flows.last_read);
        // Writing to a String cannot fail.
        let _ = write!(text, "; the last {seconds:.1}s ago: {read} read in {took:.1?}");
    }
    if let Some(error) = &flows.last_error {
        let _ = write!(text, "; {error} ({} failures so far)", flows.failures);
    }
    text
}
