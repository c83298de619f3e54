//! The list of intended differences, `docs/differences.md`. Each is a heading `## key`, followed by the reason.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::flow::{Expect, Flow, Place, Sources, Target};
use super::scenario::Scenario;

/// The entry that no flow names: Tandem refuses at once what kube-proxy refuses after a second. Whether kube-proxy's
/// refusal is lost depends on the path, so no scenario can predict it. The opposite is wrong.
pub(super) const REFUSED_SOONER: &str = "refused-sooner";

/// Another one: a pod keeps its own source if its socket translated. Which flows sockets take is measured, so no flow
/// names it.
pub(super) const KEPT_SOURCE: &str = "pods-keep-their-source";

/// The beginning of a line that says with which data plane an entry holds. Flows do not name such an entry, because
/// they are sent with each data plane.
const DATA_PLANE: &str = "Data plane:";

/// The beginning of a line that says why no flow can show an entry.
const NO_FLOW: &str = "No flow:";

/// The entries: their keys and texts.
pub fn load() -> Result<BTreeMap<String, String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/differences.md");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    Ok(parse(&text))
}

fn parse(text: &str) -> BTreeMap<String, String> {
    let entries = text.split("\n## ").skip(1);
    let entries = entries.map(|entry| entry.split_once('\n').unwrap_or((entry, "")));
    entries
        .map(|(key, reason)| (key.trim().to_owned(), reason.trim().to_owned()))
        .collect()
}

/// Fails if a flow names an entry that does not exist.
pub fn check_keys(scenarios: &[Scenario], entries: &BTreeMap<String, String>) -> Result<()> {
    for key in [REFUSED_SOONER, KEPT_SOURCE] {
        ensure!(entries.contains_key(key), "docs/differences.md has no entry `{key}`");
    }
    let is_bound = |key: &str| {
        let reason = entries.get(key).map(String::as_str).unwrap_or_default();
        reason.lines().any(|line| line.starts_with(DATA_PLANE))
    };
    ensure!(
        is_bound(KEPT_SOURCE) && !is_bound(REFUSED_SOONER),
        "docs/differences.md: a line of `{KEPT_SOURCE}`, and none of `{REFUSED_SOONER}`, begins with `{DATA_PLANE}`"
    );
    for scenario in scenarios {
        for (_, flow) in scenario.flows() {
            if let Some(key) = &flow.intended {
                let (name, known) = (&scenario.name, entries.contains_key(key));
                ensure!(
                    known,
                    "{name}: flow `{flow}`: intended: docs/differences.md has no entry `{key}`"
                );
                ensure!(
                    !is_bound(key),
                    "{name}: flow `{flow}`: intended: `{key}` is of one data plane, and the flow of all"
                );
            }
        }
    }
    Ok(())
}

/// Fails if an entry has no reason, or if no flow shows it and it does not say why.
pub fn check_entries(scenarios: &[Scenario], entries: &BTreeMap<String, String>) -> Result<()> {
    for (key, reason) in entries {
        ensure!(!reason.is_empty(), "docs/differences.md: {key} has no reason");
        let mut flows = scenarios
            .iter()
            .flat_map(|scenario| scenario.flows().map(|(_, flow)| flow));
        let is_shown = flows.any(|flow| {
            flow.intended.as_ref() == Some(key)
                || (key == REFUSED_SOONER && flow.expect == Expect::Refused)
                || (key == KEPT_SOURCE && may_keep_its_source(flow))
        });
        let says_why_not = reason.lines().any(|line| line.starts_with(NO_FLOW));
        ensure!(
            is_shown != says_why_not,
            "docs/differences.md: {key}: either a flow shows it, or a line begins with `{NO_FLOW}` and says why not"
        );
    }
    Ok(())
}

fn may_keep_its_source(flow: &Flow) -> bool {
    matches!(flow.from, Place::Pod(_))
        && flow.sources == Sources::Masqueraded
        && !matches!(flow.to, Target::ClusterIp(_) | Target::OldClusterIp(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parity::scenario;

    fn one(flow: &str) -> Vec<Scenario> {
        let text = format!("title: t\nsource: s\nsteps:\n  - flows:\n      - {flow}\n");
        vec![scenario::parse("one", &text).unwrap()]
    }

    #[test]
    fn an_entry_is_shown_by_a_flow_or_says_why_not_and_a_flow_names_only_entries() {
        let with = one("{from: client, to: node 1, port: 1, expect: refused, intended: why, tandem: dropped}");
        let without = one("{from: client, to: node 1, port: 1, expect: dropped}");
        let shown = parse("# Differences\n\n## why\n\nBecause.\n");
        let unshown = parse("# Differences\n\n## why\n\nBecause.\n\nNo flow: it cannot be seen.\n");
        let bound = format!("\n## {KEPT_SOURCE}\n\n{DATA_PLANE} xdp\n");
        let sooner = format!("\n## {REFUSED_SOONER}\n\nBecause.\n{bound}");
        let all_of = |others: &str| format!("{others}\n## why\n\nBecause.\n");
        let all = parse(&all_of(&sooner));
        assert!(check_keys(&with, &all).is_ok() && check_keys(&with, &parse(&sooner)).is_err());
        let unbound = parse(&all_of(&sooner.replace(DATA_PLANE, "Only")));
        assert!(check_keys(&without, &unbound).is_err());
        let named = one(&format!(
            "{{from: client, to: node 1, port: 1, expect: refused, intended: {KEPT_SOURCE}, tandem: dropped}}"
        ));
        assert!(check_keys(&named, &all).is_err());
        assert!(check_entries(&with, &shown).is_ok() && check_entries(&without, &shown).is_err());
        assert!(check_entries(&without, &unshown).is_ok() && check_entries(&with, &unshown).is_err());
        assert!(check_entries(&with, &parse("\n## why\n")).is_err());
    }
}
