//! A rendered configuration as Tandem reads it: the containers' arguments, with the folders that the pod mounts.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, anyhow, ensure};
use http::Uri;
use serde_json::{Value, json};

use super::objects::{self, list, texts};
use crate::netns::run_command;
use crate::scratch::Scratch;
use crate::tandem;

/// The configuration that kubeadm writes for kube-proxy.
const KUBEADM: &str = include_str!("../../data/chart/kubeadm-config.conf");
const NODE: &str = "node-1";

/// Fails if Tandem cannot read a rendering of mode `agent`, or understands it in another way than the chart does.
pub(super) fn check(rendered: &str) -> Result<()> {
    let objects = objects::parse(rendered)?;
    let pod = &objects::pod(&objects)?["spec"];
    for container in list(&pod["initContainers"]).chain(list(&pod["containers"])) {
        let read = read(&objects, container)?;
        ensure!(
            read["hostnameOverride"] == NODE,
            "the node's name is not used: {read:#}"
        );
        understood(&objects, pod, container, &read)?;
    }
    Ok(())
}

/// What Tandem makes of a container's arguments and files.
fn read(objects: &[Value], container: &Value) -> Result<Value> {
    let scratch = Scratch::new("chart")?;
    let mut arguments = texts(&container["args"]);
    for argument in &mut arguments {
        *argument = argument.replace("$(NODE_NAME)", NODE);
    }
    for mount in list(&container["volumeMounts"]) {
        let (volume, place) = (mount["name"].as_str(), mount["mountPath"].as_str());
        let (volume, place) = (volume.context("no volume")?, place.context("no path")?);
        let folder = scratch.path().join(volume);
        fs::create_dir(&folder)?;
        for (file, text) in files(objects, volume, &arguments, place)? {
            fs::write(folder.join(file), text)?;
        }
        for argument in &mut arguments {
            *argument = argument.replace(&format!("={place}/"), &format!("={}/", folder.display()));
        }
    }
    let written = scratch.path().join("written.yaml");
    let mut command = Command::new(tandem::binary()?);
    command.args(&arguments).arg("--write-config-to").arg(&written);
    run_command(&mut command)?;
    let written = fs::read_to_string(&written)?;
    serde_saphyr::from_str(&written).map_err(|error| anyhow!("{error} in {written}"))
}

/// The files of a mounted volume by name.
fn files(objects: &[Value], volume: &str, arguments: &[String], place: &str) -> Result<BTreeMap<String, String>> {
    let prefix = format!("--config={place}/");
    match volume {
        "configuration" => {
            let data = objects::of(objects, "ConfigMap")?["data"].as_object().cloned();
            let texts = data.into_iter().flatten().filter_map(|(file, text)| {
                let text = text.as_str()?.to_owned();
                Some((file, text))
            });
            Ok(texts.collect())
        }
        // The user's ConfigMap has the key that the arguments name.
        "existing" => {
            let key = arguments.iter().find_map(|argument| argument.strip_prefix(&prefix));
            let key = key.with_context(|| format!("no argument names a file in {place}"))?;
            Ok([(key.to_owned(), KUBEADM.to_owned())].into())
        }
        // It is not opened before the agent connects.
        _ => Ok(BTreeMap::new()),
    }
}

/// Fails if what Tandem read differs from what the chart meant.
fn understood(objects: &[Value], pod: &Value, container: &Value, read: &Value) -> Result<()> {
    let arguments = texts(&container["args"]);
    // Without kernelSettings, an init container that reserves ports leaves everything else as it is, and asks no API server.
    if container["securityContext"]["privileged"] == true
        && !arguments.iter().any(|argument| argument.starts_with("--config="))
    {
        for field in ["maxPerCore", "min"] {
            ensure!(read["conntrack"][field] == 0, "{:#}", read["conntrack"]);
        }
        for field in ["tcpEstablishedTimeout", "tcpCloseWaitTimeout"] {
            ensure!(read["conntrack"][field] == "0s", "{:#}", read["conntrack"]);
        }
        return Ok(());
    }
    let is_own = arguments
        .iter()
        .any(|argument| argument == "--config=/etc/tandem/config.conf");
    if is_own {
        let config = objects::of(objects, "ConfigMap")?["data"]["config.conf"].as_str();
        let given: Value =
            serde_saphyr::from_str(config.context("no config.conf")?).map_err(|error| anyhow!("{error}"))?;
        for field in ["oomScoreAdj", "clusterCIDR", "bindAddressHardFail"] {
            ensure!(
                given[field].is_null() || given[field] == read[field],
                "{field}: {} is given, {} is read",
                given[field],
                read[field]
            );
        }
        for (field, value) in given["conntrack"].as_object().into_iter().flatten() {
            let read = &read["conntrack"][field];
            ensure!(
                value.is_null() || value == read,
                "conntrack.{field}: {value} is given, {read} is read"
            );
        }
    }
    let kubeconfig = read["clientConnection"]["kubeconfig"].as_str().unwrap_or_default();
    if let Some(server) = arguments.iter().find_map(|argument| argument.strip_prefix("--master=")) {
        let server: Uri = server.parse().with_context(|| format!("--master={server}"))?;
        ensure!(
            server.scheme_str() == Some("https") && server.host().is_some() && server.port_u16().is_some(),
            "--master={server} is no address"
        );
        ensure!(kubeconfig.is_empty(), "an address and a kubeconfig are given");
    } else {
        let mounted = list(&container["volumeMounts"]).filter_map(|mount| mount["mountPath"].as_str());
        let above = Path::new(kubeconfig).parent().unwrap_or(Path::new(""));
        ensure!(
            mounted.into_iter().any(|place| Path::new(place) == above),
            "the kubeconfig {kubeconfig:?} is in no folder that is mounted"
        );
    }
    probed(container, read, pod)
}

/// Fails if the liveness probe asks elsewhere than Tandem answers.
fn probed(container: &Value, read: &Value, pod: &Value) -> Result<()> {
    if container["name"] != "tandem" {
        return Ok(());
    }
    ensure!(pod["hostNetwork"] == true, "{pod:#}");
    let address = read["healthzBindAddress"].as_str().unwrap_or_default();
    let (ip, port) = address.rsplit_once(':').context("no healthzBindAddress")?;
    let wanted = if ["0.0.0.0", "[::]"].contains(&ip) {
        json!(port.parse::<u16>()?)
    } else {
        Value::Null
    };
    let probe = &container["livenessProbe"]["httpGet"];
    // Of a ConfigMap of the user's own, the user says the port, or that nothing is to be asked.
    let is_users = list(&pod["volumes"]).any(|volume| volume["name"] == "existing");
    ensure!(
        probe["port"] == wanted || (probe.is_null() && is_users),
        "the liveness probe asks {probe}, and Tandem answers at {address}"
    );
    ensure!(
        probe["host"].is_null(),
        "Pod Security forbids probes that name a host: {probe}"
    );
    Ok(())
}
