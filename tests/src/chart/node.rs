//! What the pods get of the node beside its network: folders and capabilities. It depends on `dataPlane` and `xdp.devices` alone.

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::{Value, json};

use super::objects::{self, list, texts};

/// What programs in the kernel need beside `NET_ADMIN`.
pub(super) const CAPABILITIES: [&str; 2] = ["BPF", "PERFMON"];
/// The volume with the BPF file system, and that with the cgroup hierarchy.
const FOLDERS: [(&str, &str); 2] = [("bpf", "/sys/fs/bpf"), ("cgroup", "/sys/fs/cgroup")];
/// The volume in which an init container remembers what the reserved ports were, and its folder.
const RUN: (&str, &str) = ("node-run", "/run/tandem");
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
    let host = |(name, path): (&str, &str), kind| json!({ "name": name, "hostPath": { "path": path, "type": kind } });
    let mut wanted: Vec<Value> = folders.iter().map(|folder| host(*folder, "Directory")).collect();
    let ports = Ports::of(&own, pod, cleanup);
    wanted.extend(ports.map(|_| host(RUN, "DirectoryOrCreate")));
    ensure!(
        volumes.iter().copied().eq(&wanted),
        "{plane:?}: folders of the node: {volumes:?}"
    );

    let [container] = &list(&pod["containers"]).collect::<Vec<_>>()[..] else {
        return Err(anyhow!("not one container"));
    };
    let mounts: Vec<&Value> = list(&container["volumeMounts"])
        .filter(|mount| FOLDERS.iter().chain([&RUN]).any(|(name, _)| mount["name"] == *name))
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
    init_container(pod, ports)?;

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

/// What is done about the ports of `xdp.devices`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ports {
    Reserve,
    Release,
    Clean,
}

impl Ports {
    /// What the configuration asks for. Cleaning needs only few fields of it, and then the pod itself says it.
    fn of(own: &Value, pod: &Value, cleanup: bool) -> Option<Self> {
        if cleanup {
            return list(&pod["initContainers"]).next().map(|_| Self::Clean);
        }
        let devices = own["xdp"]["devices"].as_array()?;
        match own["dataPlane"].as_str()? {
            "xdp" if !devices.is_empty() => Some(Self::Reserve),
            _ => Some(Self::Release),
        }
    }
}

/// Fails if the init container is not there where ports are reserved or given back, or if it does more than it must.
fn init_container(pod: &Value, ports: Option<Ports>) -> Result<()> {
    let inits: Vec<&Value> = list(&pod["initContainers"]).collect();
    ensure!(inits.len() <= 1, "several init containers: {inits:#?}");
    let Some(init) = inits.first() else {
        ensure!(ports.is_none(), "{ports:?}, and there is no init container");
        return Ok(());
    };
    let name = match ports {
        None => "kernel-settings",
        Some(Ports::Reserve) => "reserve-ports",
        Some(Ports::Release) => "release-ports",
        Some(Ports::Clean) => "clean",
    };
    ensure!(
        init["name"] == name && init["securityContext"]["privileged"] == true && pod["hostNetwork"] == true,
        "{ports:?}: {init:#}"
    );
    let mounts: Vec<Value> = list(&init["volumeMounts"])
        .filter(|mount| FOLDERS.iter().chain([&RUN]).any(|(name, _)| mount["name"] == *name))
        .cloned()
        .collect();
    let (run, pins) = (
        json!({ "name": RUN.0, "mountPath": RUN.1 }),
        format!("{HOST}/sys/fs/bpf"),
    );
    let wanted = match ports {
        None => Vec::new(),
        // It looks whether programs are attached.
        Some(Ports::Reserve | Ports::Release) => {
            vec![run, json!({ "name": "bpf", "mountPath": pins, "readOnly": true })]
        }
        Some(Ports::Clean) => vec![run, json!({ "name": "bpf", "mountPath": pins })],
    };
    ensure!(mounts == wanted, "{ports:?}: mounts of the init container: {mounts:?}");
    let arguments = texts(&init["args"]);
    let does = if ports == Some(Ports::Clean) {
        "--cleanup"
    } else {
        "--init-only"
    };
    ensure!(
        arguments.iter().take(2).eq(["run", does]) && !arguments.iter().any(|argument| argument == "--stay"),
        "{ports:?}: {arguments:?}"
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
