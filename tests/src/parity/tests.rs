//! Checks the scenarios' files and the list of differences. No root, no network.

use anyhow::{Context as _, Result, ensure};

use super::scenario::Scenario;
use super::{Options, choose, differences, scenario};

#[test]
fn there_are_at_least_three_hundred_flows() -> Result<()> {
    let all: usize = choose(&Options::default())?.iter().map(Scenario::size).sum();
    ensure!(all >= 300, "only {all} flows");
    Ok(())
}

#[test]
fn every_scenario_can_be_read_and_every_intended_difference_has_its_reason() -> Result<()> {
    let scenarios = scenario::load(&scenario::folder())?;
    let entries = differences::load()?;
    differences::check_keys(&scenarios, &entries)?;
    differences::check_entries(&scenarios, &entries)
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn a_scenario_that_says_nonsense_is_refused_by_the_field() -> Result<()> {
    let flow = "{from: client, to: node 1, port: 80, expect: refused}";
    let with = |head: &str, flow: &str| format!("title: t\nsource: s\n{head}\nsteps: [{{flows: [{flow}]}}]\n");
    scenario::parse("good", &with("", flow))?;
    for (text, complaint) in [
        (with("colour: red", flow), "unknown field `colour`"),
        (
            with("configurations: [fast]", flow),
            "configurations[0]: unknown variant `fast`",
        ),
        (with("families: [ipx]", flow), "families: \"ipx\" is not a family"),
        (
            with("pods: [{name: a, node: 1, colour: red}]", flow),
            "pods[0].colour: unknown field",
        ),
        (
            with("", "{from: client, to: node 1, port: 80}"),
            "steps[0].flows[0]: missing field `expect`",
        ),
        (
            with("", "{from: nobody, to: node 1, port: 80, expect: any}"),
            "steps[0].flows[0].from: \"nobody\" is nobody",
        ),
        (
            with("", "{from: client, to: node 4, port: 80, expect: any}"),
            "steps[0].flows[0].to: there is no node \"4\"",
        ),
        (
            with("", "{from: client, to: somewhere, port: 80, expect: any}"),
            "to: \"somewhere\" is no target",
        ),
        (
            with("", "{from: client, to: node 1, port: 70000, expect: any}"),
            "steps[0].flows[0].port: invalid value",
        ),
        (
            with("", "{from: client, to: node 1, port: 80, protocol: ICMP, expect: any}"),
            "not a protocol: \"ICMP\"",
        ),
        (
            with("", "{from: client, to: node 1, port: 80, expect: lost}"),
            "expect: \"lost\" is no outcome",
        ),
        (
            with("", "{from: client, to: node 1, port: 80, expect: []}"),
            "expect: [] is not a list of servers",
        ),
        (
            with("", "{from: client, to: node 1, port: 80, expect: [web-1]}"),
            "there is no server web-1",
        ),
        (
            with("", "{from: pod web-1, to: node 1, port: 80, expect: any}"),
            "there is no pod web-1",
        ),
        (
            with(
                "",
                "{from: client, to: 192.0.2.11, families: [ipv6], port: 80, expect: any}",
            ),
            "no address of V6",
        ),
        (
            with("", "{from: client, to: node 1, port: 80, expect: any, intended: why}"),
            "intended and tandem go together",
        ),
        (
            with(
                "",
                "{from: client, to: node 1, port: 80, expect: any, protocol: UDP, size: 9001}",
            ),
            "size: 9001 is more than 9000",
        ),
        (
            with("", "{from: client, to: node 1, port: 80, expect: refused, rest: 5}"),
            "rest: only where somebody answers",
        ),
        (
            with("", "{from: node 1, to: node 1, port: 80, expect: any, sources: kept}"),
            "sources: of a node",
        ),
        ("title: t\nsource: s\nsteps: []\n".to_owned(), "no flow at all"),
        (
            "title: t\nsource: s\nsteps: [{do: [{patch: Service/a}], flows: []}]\n".to_owned(),
            "steps[0].do[0]: patch: needs `with`",
        ),
        (
            "title: t\nsource: s\nsteps: [{do: [{delete: a}], flows: []}]\n".to_owned(),
            "\"a\" is not Kind/name",
        ),
    ] {
        let error = scenario::parse("bad", &text)
            .err()
            .with_context(|| format!("taken: {text}"))?;
        let error = format!("{error:#}");
        ensure!(error.contains(complaint), "{error:?} does not say {complaint:?}");
    }
    Ok(())
}
