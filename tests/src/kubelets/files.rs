//! What containerd, the CNI plugins and kubelet read on one node. The paths are those inside the node.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::cluster::{API_SERVER, AUTHORITY, kubelet_kubeconfig};
use crate::fabric::GATEWAYS;
use crate::kubelets::images;
use crate::node::Node;

/// containerd's socket.
pub(super) const SOCKET: &str = "/run/containerd/containerd.sock";

/// Kernel settings that kubelet demands. They are the whole machine's, so the node gets files in their place.
pub(super) const KERNEL: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// Writes all files of a node. `cluster` is the folder of the control plane's files.
pub(super) fn write(folder: &Path, cluster: &Path, node: &Node, cgroup: &str) -> Result<()> {
    let place = |name: &str| folder.join(name);
    for name in ["cni", "certs.d", "var/lib", "var/log", "var/tmp", "kernel"] {
        fs::create_dir_all(place(name)).with_context(|| format!("make folder {}", place(name).display()))?;
    }
    std::os::unix::fs::symlink("/run", place("var/run")).context("link var/run")?;
    for (setting, value) in KERNEL {
        write_file(&place("kernel").join(setting.replace('/', "_")), &format!("{value}\n"))?;
    }
    let hosts = format!(
        "127.0.0.1 localhost\n::1 localhost\n{} {API_SERVER}\n{} {}\n",
        GATEWAYS.0, node.v4, node.name
    );
    write_file(&place("hosts"), &hosts)?;
    write_file(&place("cni/10-pods.conflist"), &network(node).to_string())?;
    write_file(&place("containerd.toml"), &containerd(folder))?;
    write_file(&place("kubelet.kubeconfig"), &kubelet_kubeconfig(cluster, &node.name)?)?;
    write_file(
        &place("kubelet.json"),
        &kubelet(&cluster.join(AUTHORITY), cgroup).to_string(),
    )
}

/// Says how nodes reach a registry over plain HTTP. A later call replaces it.
pub(super) fn registry(folder: &Path, registry: &str, address: &str) -> Result<()> {
    let place = folder.join("certs.d").join(registry);
    fs::create_dir_all(&place).with_context(|| format!("make folder {}", place.display()))?;
    let hosts = format!(
        "server = \"http://{address}\"\n\n[host.\"http://{address}\"]\n  capabilities = [\"pull\", \"resolve\"]\n"
    );
    write_file(&place.join("hosts.toml"), &hosts)
}

/// The Pods' network: a cable for each Pod, and addresses of both families. There is no bridge, because packets between
/// two Pods of one node must pass through the node's rules in both directions.
fn network(node: &Node) -> Value {
    let pods = node.pod_ranges();
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [{
            "type": "ptp",
            "ipMasq": false,
            "ipam": {
                "type": "host-local",
                "dataDir": "/run/cni",
                "ranges": [
                    [{ "subnet": format!("{}/24", pods.v4) }],
                    [{ "subnet": format!("{}/64", pods.v6) }],
                ],
                "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
            },
        }],
    })
}

/// Without AppArmor, which namespaces share; and without OOM scores below one's own, which not every root may set.
fn containerd(folder: &Path) -> String {
    let folder = folder.display();
    let pause = images::PAUSE;
    format!(
        r#"version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.nri.v1.nri"]

[grpc]
  address = "{SOCKET}"

[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{pause}"
  [plugins."io.containerd.cri.v1.images".registry]
    config_path = "{folder}/certs.d"

[plugins."io.containerd.cri.v1.runtime"]
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
        SystemdCgroup = false
"#
    )
}

fn kubelet(authority: &Path, cgroup: &str) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": false },
            "x509": { "clientCAFile": authority },
        },
        "authorization": { "mode": "AlwaysAllow" },
        "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup,
        "failCgroupV1": false,
        "failSwapOn": false,
        "enforceNodeAllocatable": ["pods"],
        "oomScoreAdj": 0,
        "protectKernelDefaults": true,
        "podLogsDir": "/var/log/pods",
        "volumePluginDir": "/var/lib/kubelet/plugins",
        "resolvConf": "",
        "clusterDNS": ["10.96.0.10"],
        "clusterDomain": "cluster.local",
        // A machine that is nearly full must not evict the test's Pods.
        "evictionHard": { "memory.available": "1Mi", "nodefs.available": "0%", "imagefs.available": "0%" },
        "imageGCHighThresholdPercent": 100,
        "localStorageCapacityIsolation": false,
        "registryPullQPS": 0,
        "serializeImagePulls": false,
        "kubeAPIQPS": 100,
        "kubeAPIBurst": 200,
        "shutdownGracePeriod": "0s",
    })
}

fn write_file(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
