//! The files that the control plane's programs read: keys, tokens, kubeconfigs; and the rights of Tandem's user.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::fabric::GATEWAYS;
use crate::manifests::to_yaml;
use crate::netns::run_command;

/// The administrator's kubeconfig.
pub(super) const ADMIN: &str = "admin.kubeconfig";
/// Tandem's kubeconfig.
pub(super) const TANDEM: &str = "tandem.kubeconfig";

/// The authority that signed the certificates.
pub(crate) const AUTHORITY: &str = "ca.crt";
/// The name of the certificate and key with which the API server asks kubelets.
pub(super) const KUBELETS_CLIENT: &str = "kubelets-client";

/// The name by which a node's hosts file knows the API server.
pub(crate) const API_SERVER: &str = "api.tandem.test";
/// The names of the API server, beside its addresses.
const NAMES: [&str; 3] = ["kubernetes.default.svc", API_SERVER, "localhost"];
/// The address of the Service `kubernetes`, in the first of the Service ranges.
pub(crate) const KUBERNETES_CLUSTER_IP: &str = "10.96.0.1";
/// How many nodes have a token for their kubelet.
const KUBELETS: u8 = 9;

/// The port of the API server.
pub(crate) const PORT: u16 = 6443;

/// Tokens for a control plane that exists for one test in a namespace of its own.
const TOKENS: [(&str, &str, &str); 2] = [("admin-token", "admin", "system:masters"), (TANDEM_TOKEN, "tandem", "")];
/// The token of Tandem's user.
pub(crate) const TANDEM_TOKEN: &str = "tandem-token";

/// Writes everything into the folder.
pub(super) fn write(folder: &Path) -> Result<()> {
    let key = folder.join("sa.key");
    run_command(Command::new("openssl").args(["genrsa", "-out"]).arg(&key).arg("2048"))?;
    certificates(folder)?;
    let tokens = TOKENS.map(|(token, user, groups)| format!("{token},{user},{user},\"{groups}\"\n"));
    let kubelets = (1..=KUBELETS).map(|number| {
        let user = format!("system:node:node{number}");
        format!(
            "{},{user},{user},\"system:nodes\"\n",
            kubelet_token(&format!("node{number}"))
        )
    });
    let tokens: String = tokens.into_iter().chain(kubelets).collect();
    write_file(&folder.join("tokens.csv"), &tokens)?;
    write_file(&folder.join(ADMIN), &to_yaml(&kubeconfig(folder, "admin-token"))?)?;
    write_file(&folder.join(TANDEM), &to_yaml(&kubeconfig(folder, TANDEM_TOKEN))?)
}

/// The authority, the API server's certificate, and the one with which it asks kubelets.
fn certificates(folder: &Path) -> Result<()> {
    let mut authority = Command::new("openssl");
    authority.current_dir(folder).args([
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test",
    ]);
    run_command(authority.args(["-keyout", "ca.key", "-out", AUTHORITY]))?;
    let addresses = [
        GATEWAYS.0.to_string(),
        GATEWAYS.1.to_string(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
        KUBERNETES_CLUSTER_IP.to_owned(),
    ];
    let addresses = addresses.map(|address| format!("IP:{address}"));
    let names: Vec<String> = addresses
        .into_iter()
        .chain(NAMES.map(|name| format!("DNS:{name}")))
        .collect();
    let names = format!("subjectAltName={}", names.join(","));
    certificate(folder, "server", "/CN=kube-apiserver", Some(&names))?;
    certificate(folder, KUBELETS_CLIENT, "/O=system:masters/CN=kube-apiserver", None)
}

/// A certificate `NAME.crt` with its key `NAME.key`, signed by the authority.
fn certificate(folder: &Path, name: &str, subject: &str, extension: Option<&str>) -> Result<()> {
    let mut command = Command::new("openssl");
    command.current_dir(folder).args([
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", subject,
    ]);
    command.args([
        "-CA",
        AUTHORITY,
        "-CAkey",
        "ca.key",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    ]);
    if let Some(extension) = extension {
        command.args(["-addext", extension]);
    }
    command.args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.crt")]);
    run_command(&mut command)?;
    Ok(())
}

fn kubelet_token(node: &str) -> String {
    format!("{node}-token")
}

/// The kubeconfig of a node's kubelet.
pub(crate) fn kubelet_kubeconfig(folder: &Path, node: &str) -> Result<String> {
    to_yaml(&kubeconfig(folder, &kubelet_token(node)))
}

fn kubeconfig(folder: &Path, token: &str) -> Value {
    let server = format!("https://{}:{PORT}", GATEWAYS.0);
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{
            "name": "test",
            "cluster": { "server": server, "certificate-authority": folder.join(AUTHORITY) },
        }],
        "users": [{ "name": "user", "user": { "token": token } }],
        "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "user" } }],
    })
}

/// The rights of Tandem's user: only the role that every API server has for kube-proxy.
pub(super) fn permission() -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": { "name": "tandem" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:node-proxier" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "tandem" }],
    })
}

/// Completes a configuration of the real kube-proxy for one node. kube-proxy may not change the limits of connection
/// tracking there.
pub(super) fn kube_proxy(folder: &Path, node: &str, configuration: &Value) -> Result<PathBuf> {
    let mut configuration = configuration.clone();
    configuration["hostnameOverride"] = json!(node);
    configuration["clientConnection"] = json!({ "kubeconfig": folder.join(ADMIN) });
    configuration["conntrack"] =
        json!({ "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s" });
    let file = folder.join(format!("kube-proxy-{node}.yaml"));
    write_file(&file, &to_yaml(&configuration)?)?;
    Ok(file)
}

fn write_file(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .with_context(|| format!("keep {} from others", path.display()))
}
