//! Tandem with the real control plane: with kube-proxy's role, with fewer rights, and with wrong credentials. Needs
//! root and the helper program that `make test` builds.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::Method;
use serde_json::{Value, json};
use tandem_tests::cluster::path;
use tandem_tests::eventually;
use tandem_tests::fleet::{Fleet, changes, cluster_ips, lost_sources, rows, shared, tables};
use tandem_tests::netns::run_command;
use tandem_tests::scratch::Scratch;
use tandem_tests::tandem::Tandem;
use tandem_tests::traffic::Request;

const PATIENCE: Duration = Duration::from_secs(30);
const RESOURCES: [&str; 4] = ["endpointslices", "nodes", "services", "servicecidrs"];

/// Tandem's kubeconfig with one text replaced by another.
fn kubeconfig(fleet: &Fleet, folder: &Path, name: &str, from: &str, to: &str) -> Result<PathBuf> {
    let text = fs::read_to_string(fleet.cluster.tandem_kubeconfig())?;
    ensure!(text.contains(from), "no {from} in {text}");
    let file = folder.join(name);
    fs::write(&file, text.replace(from, to))?;
    Ok(file)
}

/// Makes a ServiceAccount and returns a token of it.
fn account(fleet: &Fleet, name: &str) -> Result<String> {
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let api = fleet.cluster.api();
    api.call(Method::POST, accounts, Some(&json!({ "metadata": { "name": name } })))?;
    let request = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {} });
    let answer = api.call(Method::POST, &format!("{accounts}/{name}/token"), Some(&request))?;
    Ok(answer["status"]["token"].as_str().context("no token")?.to_owned())
}

/// Gives a ServiceAccount kube-proxy's role, which Tandem's user has too.
fn bind(fleet: &Fleet, account: &str) -> Result<()> {
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": { "name": account },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:node-proxier" },
        "subjects": [{ "kind": "ServiceAccount", "namespace": "default", "name": account }],
    });
    fleet.cluster.api().create(&binding).map(drop)
}

/// Waits until a Tandem says that it cannot read these resources, and why.
fn lost(tandem: &Tandem, reasons: &[String]) -> Result<Value> {
    let says_all = |status: &Value| {
        let lost = lost_sources(status);
        reasons
            .iter()
            .all(|reason| lost.values().any(|said| said.contains(reason)))
    };
    let status = eventually(PATIENCE, || tandem.status().ok().filter(&says_all));
    status.with_context(|| {
        format!(
            "never {reasons:?}: {:#?}",
            tandem.status().map(|status| lost_sources(&status))
        )
    })
}

/// Stops the Tandem of `node3`, runs another one there with this kubeconfig, and then starts the first one again.
fn instead(
    fleet: &mut Fleet,
    kubeconfig: &Path,
    test: impl FnOnce(&mut Fleet, &mut Tandem) -> Result<()>,
) -> Result<()> {
    fleet.tandems[2].terminate()?;
    let mut other = Tandem::on(fleet.cluster.node(3)?).kubeconfig(kubeconfig).start()?;
    test(fleet, &mut other)?;
    other.finish()?;
    fleet.tandems[2].restart()?;
    fleet.tandems[2].wait_ready()
}

#[test]
fn a_token_without_rights_leaves_the_tables_and_works_once_it_has_tandems_role() -> Result<()> {
    shared(|fleet| {
        fleet.add_fixed("rights", &[1])?;
        let scratch = Scratch::new("rights")?;
        let token = account(fleet, "agent")?;
        let file = kubeconfig(fleet, scratch.path(), "agent", "tandem-token", &token)?;
        let before = fleet.tandems[2].status()?;
        instead(fleet, &file, |fleet, tandem| {
            let node = &fleet.cluster.node(3)?.namespace;
            let standing = tables(node)?;
            let reasons = RESOURCES
                .map(|resource| format!("may not list {resource}: RBAC lacks verb list on resource {resource} (403)"));
            let status = lost(tandem, &reasons)?;
            assert_eq!(status["complete"], false, "{status:#}");
            for reason in &reasons {
                let line = tandem.wait_log(reason, PATIENCE)?;
                ensure!(
                    line.contains("WARN") && line.contains("what is known stays in the kernel"),
                    "{line}"
                );
            }
            assert_eq!(tables(node)?, standing);

            bind(fleet, "agent")?;
            tandem.wait_ready()?;
            let status = eventually(PATIENCE, || {
                tandem.status().ok().filter(|status| lost_sources(status).is_empty())
            });
            let status = status.with_context(|| format!("something is still lost: {:#?}", tandem.status()))?;
            assert_eq!(
                (changes(&status), rows(&status)),
                ([Some(0); 2], rows(&before)),
                "{status:#}"
            );
            assert_eq!(tables(node)?, standing);
            Ok(())
        })
    })
}

#[test]
fn wrong_credentials_and_wrong_authorities_are_named_and_leave_the_tables() -> Result<()> {
    shared(|fleet| {
        fleet.add_fixed("wrong", &[1])?;
        let scratch = Scratch::new("wrong")?;
        let folder = scratch.path();
        let mut authority = Command::new("openssl");
        authority.current_dir(folder).args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=stranger",
        ]);
        run_command(authority.args(["-keyout", "stranger.key", "-out", "ca.crt"]))?;
        let home = fleet.cluster.tandem_kubeconfig();
        let home = home.parent().context("no folder")?.join("ca.crt").display().to_string();
        let stranger = folder.join("ca.crt").display().to_string();
        let cases = [
            ("token", "tandem-token", "no-such-token", "credentials refused (401)"),
            (
                "authority",
                home.as_str(),
                stranger.as_str(),
                "TLS: 192.0.2.1:6443: invalid peer certificate: ",
            ),
            ("server", ":6443", ":6444", "192.0.2.1:6444: Connection refused"),
        ];
        for (name, from, to, reason) in cases {
            let file = kubeconfig(fleet, folder, name, from, to)?;
            instead(fleet, &file, |fleet, tandem| {
                let node = &fleet.cluster.node(3)?.namespace;
                let standing = tables(node)?;
                let reasons = RESOURCES.map(|resource| format!("cannot list {resource}: {reason}"));
                let status = lost(tandem, &reasons)?;
                assert_eq!(status["complete"], false, "{name}: {status:#}");
                println!("{name}: {:#?}", lost_sources(&status));
                assert_eq!(tables(node)?, standing, "{name}");
                Ok(())
            })?;
        }
        Ok(())
    })
}

#[test]
fn a_token_that_ends_stops_nothing_is_named_and_a_new_one_in_the_file_is_used() -> Result<()> {
    shared(|fleet| {
        fleet.add_fixed("ends", &[1])?;
        let scratch = Scratch::new("ends")?;
        let token = account(fleet, "ends")?;
        bind(fleet, "ends")?;
        let file = kubeconfig(fleet, scratch.path(), "ends", "tandem-token", &token)?;
        instead(fleet, &file, |fleet, tandem| {
            tandem.wait_ready()?;
            let (before, standing) = (tandem.status()?, tables(&fleet.cluster.node(3)?.namespace)?);

            // The API server refuses the tokens of a ServiceAccount that is gone. A watch goes on until it ends.
            let address = "/api/v1/namespaces/default/serviceaccounts/ends";
            fleet.cluster.api().delete(address, &json!({}))?;
            fleet.cluster.kill_api_server();
            fleet.cluster.start_api_server()?;
            let reasons = RESOURCES.map(|resource| format!("cannot watch {resource}: credentials refused (401)"));
            let after = lost(tandem, &reasons)?;
            assert_eq!(
                (changes(&before), rows(&before)),
                (changes(&after), rows(&after)),
                "{after:#}"
            );
            assert_eq!(tables(&fleet.cluster.node(3)?.namespace)?, standing);

            let token = account(fleet, "ends")?;
            kubeconfig(fleet, scratch.path(), "ends", "tandem-token", &token)?;
            let works = eventually(PATIENCE, || {
                tandem.status().ok().filter(|status| lost_sources(status).is_empty())
            });
            works.with_context(|| format!("something is still lost: {:#?}", tandem.status()))?;
            Ok(())
        })
    })
}

#[test]
fn rights_that_are_taken_away_stop_no_request_and_are_named_until_they_are_back() -> Result<()> {
    shared(|fleet| {
        let service = fleet.add_fixed("taken", &[1, 3])?;
        let from = &fleet.cluster.node(3)?.namespace;
        let ask = |address: IpAddr| Request::tcp((address, 80).into()).repeat(from);
        let background = cluster_ips(&service)?.map(ask);
        let before = fleet.statuses()?;

        let binding = path("ClusterRoleBinding", "", "tandem")?;
        let bound = fleet.cluster.api().get(&binding)?;
        fleet.cluster.api().delete(&binding, &json!({}))?;
        fleet.cluster.kill_api_server(); // a watch goes on until it ends
        fleet.cluster.start_api_server()?;
        let reasons = RESOURCES
            .map(|resource| format!("may not watch {resource}: RBAC lacks verb watch on resource {resource} (403)"));
        for tandem in &fleet.tandems {
            lost(tandem, &reasons)?;
        }
        for (before, after) in before.iter().zip(fleet.statuses()?) {
            assert_eq!(
                (changes(before), rows(before)),
                (changes(&after), rows(&after)),
                "{after:#}"
            );
        }

        let mut again = bound.clone();
        again["metadata"] = json!({ "name": "tandem" });
        fleet.cluster.api().create(&again)?;
        fleet.wait_status("watched everything again", |status| lost_sources(status).is_empty())?;
        fleet.settle()?;
        for requests in background {
            let tally = requests?.stop()?;
            ensure!(tally.lost() == 0 && tally.sent() > 100, "{tally}");
        }
        Ok(())
    })
}
