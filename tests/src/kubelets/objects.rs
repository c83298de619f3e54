//! What the tests put into a cluster with real nodes.

use std::fs;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::Kubelets;
use super::images::{KUBERNETES, REGISTRY, WHOAMI};
use crate::cluster::{PORT, path};
use crate::fabric::GATEWAYS;
use crate::manifests::to_yaml;
use crate::topology::{POD_RANGES, SERVICE_RANGES};

/// How long a server serves after it was asked to end, in seconds. It ignores the signal.
const GRACE: u8 = 3;

impl Kubelets {
    /// A DaemonSet of servers with label `app: NAME`, and a dual-stack Service NAME: port 80 and a nodePort, over TCP and
    /// UDP.
    pub fn whoami(&self, name: &str) -> [Value; 2] {
        let labels = json!({ "app": name });
        let container = json!({
            "name": "whoami",
            "image": WHOAMI,
            "args": ["$(NAME)", "0.0.0.0:8080", "[::]:8080"],
            "env": [{ "name": "NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }],
            "readinessProbe": { "tcpSocket": { "port": 8080 }, "periodSeconds": 1 },
        });
        let pods = json!({
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": { "namespace": "default", "name": name },
            "spec": { "selector": { "matchLabels": labels }, "template": {
                "metadata": { "labels": labels },
                "spec": {
                    "terminationGracePeriodSeconds": GRACE,
                    "automountServiceAccountToken": false,
                    "containers": [container],
                },
            }},
        });
        let port = |protocol: &str| json!({ "name": protocol.to_lowercase(), "protocol": protocol, "port": 80, "targetPort": 8080 });
        let service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "namespace": "default", "name": name },
            "spec": { "type": "NodePort", "selector": labels, "ipFamilyPolicy": "RequireDualStack", "ports": [port("TCP"), port("UDP")] },
        });
        [pods, service]
    }

    /// A Service's ClusterIPs in namespace `default`.
    pub fn cluster_ips(&self, service: &str) -> Result<Vec<IpAddr>> {
        let object = self.api().get(&path("Service", "default", service)?)?;
        let addresses = object["spec"]["clusterIPs"].as_array().cloned().unwrap_or_default();
        addresses
            .iter()
            .map(|address| {
                address
                    .as_str()
                    .unwrap_or_default()
                    .parse()
                    .with_context(|| format!("ClusterIP {address}"))
            })
            .collect()
    }

    /// Installs kube-proxy as kubeadm does: its DaemonSet, ConfigMap and rights. `settings` are fields of its
    /// configuration.
    pub fn kubeadm_kube_proxy(&self, settings: &Value) -> Result<()> {
        let file = self.cluster.folder().join("kubeadm.yaml");
        let mut proxy = json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            // The limits of connection tracking are the machine's, and a node may not change them.
            "conntrack": { "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s" },
        });
        if let (Some(proxy), Some(settings)) = (proxy.as_object_mut(), settings.as_object()) {
            proxy.extend(settings.clone());
        }
        let cluster = json!({
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "ClusterConfiguration",
            "kubernetesVersion": KUBERNETES,
            "imageRepository": REGISTRY,
            "controlPlaneEndpoint": format!("{}:{PORT}", GATEWAYS.0),
            "networking": { "podSubnet": POD_RANGES.join(","), "serviceSubnet": SERVICE_RANGES.join(",") },
        });
        let init = json!({
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "InitConfiguration",
            "localAPIEndpoint": { "advertiseAddress": GATEWAYS.0, "bindPort": PORT },
        });
        let texts = [init, cluster, proxy].iter().map(to_yaml).collect::<Result<Vec<_>>>()?;
        let text = texts.join("---\n");
        fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
        let kubeconfig = self.cluster.admin_kubeconfig();
        let (file, kubeconfig) = (file.display().to_string(), kubeconfig.display().to_string());
        let arguments = [
            "init",
            "phase",
            "addon",
            "kube-proxy",
            "--config",
            &file,
            "--kubeconfig",
            &kubeconfig,
        ];
        self.administer("kubeadm", &arguments).map(drop)
    }
}
