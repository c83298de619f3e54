//! What the pods get of the node beside its network: folders and capabilities. It depends on `dataPlane` alone.

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::{Value, json};

use super::objects::{self, list, texts};

/// What programs in the kernel need beside `NET_ADMIN`.
pub(super) const CAPABILITIES: [&str; 2] = ["BPF", "PERFMON"];
/// The volume with the BPF file system, and that with the cgroup hierarchy.
const FOLDERS: [(&str, &str); 2] = [("bpf", "/sys/fs/bpf"), ("cgroup", "/sys/fs/cgroup")];
/// Where the agent sees the node's folders.
const HOST: &str = "/host";

/// Fails if a rendering gets more of the node than its `dataPlane` needs, or less.
pub(super) fn check(objects: &[Value], cleanup: bool) -> Result<()> {
    let own = own(objects)?;
    let plane = own["dataPlane"].as_str();
    let folders = match plane {
        Some("xdp") => &FOLDERS[..],
        Some(_) => &FOLDERS[..1],
        None if cleanup => &FOLDERS[..1],
        None => &[],
    };
    let pod = &objects::pod(objects)?["spec"];
    let volumes: Vec<&Value> = list(&pod["volumes"])
        .filter(|volume| !volume["hostPath"].is_null())
        .collect();
    let wanted: Vec<Value> = folders
        .iter()
        .map(|(name, path)| json!({ "name": name, "hostPath": { "path": path, "type": "Directory" } }))
        .collect();
    ensure!(
        volumes.iter().copied().eq(&wanted),
        "{plane:?}: folders of the node: {volumes:?}"
    );

    let [container] = &list(&pod["containers"]).collect::<Vec<_>>()[..] else {
        return Err(anyhow!("not one container"));
    };
    let mounts: Vec<&Value> = list(&container["volumeMounts"])
        .filter(|mount| FOLDERS.iter().any(|(name, _)| mount["name"] == *name))
        .collect();
    let wanted = folders.iter().map(|(name, path)| {
        let inside = format!("{HOST}{path}");
        match *name {
            // Pins are made and removed there; in the hierarchy nothing is written.
            "bpf" => json!({ "name": name, "mountPath": inside }),
            _ => json!({ "name": name, "mountPath": inside, "readOnly": true }),
        }
    });
    ensure!(
        mounts.iter().copied().cloned().eq(wanted),
        "{plane:?}: mounts: {mounts:?}"
    );
    let pins = (!folders.is_empty()).then(|| json!(format!("{HOST}/sys/fs/bpf/tandem")));
    ensure!(
        own["bpfFolder"] == pins.clone().unwrap_or_default(),
        "bpfFolder is {}, and the mount needs {pins:?}",
        own["bpfFolder"]
    );
    for init in list(&pod["initContainers"]) {
        ensure!(
            list(&init["volumeMounts"]).all(|mount| FOLDERS.iter().all(|(name, _)| mount["name"] != *name)),
            "the init container needs no folder of the node: {init:#}"
        );
    }

    let context = &container["securityContext"];
    let added = texts(&context["capabilities"]["add"]);
    for name in CAPABILITIES {
        let has = added.iter().any(|added| added == name);
        ensure!(has == (plane == Some("xdp")), "{plane:?}: capabilities {added:?}");
    }
    ensure!(
        context["seLinuxOptions"].is_null() == folders.is_empty(),
        "{plane:?}: seLinuxOptions: {}",
        context["seLinuxOptions"]
    );
    Ok(())
}

/// The `TandemConfiguration`; null if the chart makes none.
fn own(objects: &[Value]) -> Result<Value> {
    let Ok(map) = objects::of(objects, "ConfigMap") else {
        return Ok(Value::Null);
    };
    let text = map["data"]["tandem.conf"].as_str().context("no tandem.conf")?;
    serde_saphyr::from_str(text).map_err(|error| anyhow!("tandem.conf: {error}"))
}
