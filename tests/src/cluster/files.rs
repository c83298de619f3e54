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
    write_file(&folder.join("tokens.csv"), &tokens.concat())?;
    write_file(&folder.join(ADMIN), &to_yaml(&kubeconfig(folder, "admin-token"))?)?;
    write_file(&folder.join(TANDEM), &to_yaml(&kubeconfig(folder, TANDEM_TOKEN))?)
}

/// The API server's certificate and the authority that signed it.
fn certificates(folder: &Path) -> Result<()> {
    let mut authority = Command::new("openssl");
    authority.current_dir(folder).args([
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test",
    ]);
    run_command(authority.args(["-keyout", "ca.key", "-out", "ca.crt"]))?;
    let names = format!(
        "subjectAltName=IP:{},IP:{},DNS:kubernetes.default.svc",
        GATEWAYS.0, GATEWAYS.1
    );
    let mut server = Command::new("openssl");
    server.current_dir(folder).args([
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=kube-apiserver",
    ]);
    server.args(["-CA", "ca.crt", "-CAkey", "ca.key", "-addext", &names]);
    server.args([
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-keyout",
        "server.key",
        "-out",
        "server.crt",
    ]);
    run_command(&mut server)?;
    Ok(())
}

fn kubeconfig(folder: &Path, token: &str) -> Value {
    let server = format!("https://{}:{PORT}", GATEWAYS.0);
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{
            "name": "test",
            "cluster": { "server": server, "certificate-authority": folder.join("ca.crt") },
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
