//! What the agent uses of the configuration.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tandem_core::node::NodePortAddresses;

use crate::node_settings::DetectLocal;

use super::document::Document;
use super::flags::Flags;
use super::schema::{kube_proxy, tandem};
use super::{ConfigError, effective, resolve, validate};

/// The agent's settings.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in the files")]
pub struct Settings {
    /// The Node object's name.
    pub node_name: String,
    /// How a pod's traffic is told from outside traffic.
    pub detect_local: DetectLocal,
    /// Whether all traffic to ClusterIPs is masqueraded.
    pub masquerade_all: bool,
    /// Which bit of the packet mark asks for masquerading.
    pub masquerade_bit: u8,
    /// Which of the node's addresses accept nodePort traffic.
    pub node_port_addresses: NodePortAddresses,
    /// The kubeconfig; none means the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// The API server's address, in place of the kubeconfig's.
    pub master: Option<String>,
    /// Where `/healthz` and `/livez` are served; none where it is turned off. An unspecified address of either family means
    /// all addresses of both, as in kube-proxy.
    pub healthz_bind_address: Option<SocketAddr>,
    /// Where `/proxyMode` and a plain `/healthz` are served, and `/metrics` will be; none where it is turned off. As above.
    pub metrics_bind_address: Option<SocketAddr>,
    /// Whether an address that cannot be bound ends the agent.
    pub bind_address_hard_fail: bool,
    /// Whether Kubernetes Events tell of unusable objects.
    pub events: bool,
    /// Whether nodePorts are also served on loopback addresses.
    pub node_port_loopback: bool,
    /// Whether the Service ranges get a route to `lo`.
    pub service_routes: bool,
    /// Whether forwarded packets that conntrack calls invalid are dropped.
    pub drop_invalid: bool,
    /// Whether the nftables tables that kube-proxy left are removed once everything is programmed.
    pub remove_kube_proxy_rules: bool,
    /// Kernel settings of connection tracking.
    pub conntrack: Conntrack,
    /// How unwilling the kernel shall be to kill this process.
    pub oom_score_adj: i32,
    /// Where the local API is served.
    pub socket: PathBuf,
    /// What to log.
    pub log_filter: String,
    /// How to write the log.
    pub log_format: LogFormat,
    /// Both configurations with their defaults: what changes are told by.
    pub(super) effective: Effective,
}

/// The `conntrack` section. None leaves a setting as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conntrack {
    /// Connections per processor, and the least of all together.
    pub max: Option<ConntrackMax>,
    /// `nf_conntrack_tcp_timeout_established`
    pub tcp_established: Option<Duration>,
    /// `nf_conntrack_tcp_timeout_close_wait`
    pub tcp_close_wait: Option<Duration>,
    /// `nf_conntrack_tcp_be_liberal`
    pub tcp_be_liberal: bool,
    /// `nf_conntrack_udp_timeout`
    pub udp: Option<Duration>,
    /// `nf_conntrack_udp_timeout_stream`
    pub udp_stream: Option<Duration>,
}

/// How many connections may be tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConntrackMax {
    /// For each processor.
    pub per_core: u32,
    /// All together at least.
    pub min: u32,
}

/// How to write the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Both configurations with their defaults.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Effective {
    pub(super) kube_proxy: Value,
    pub(super) tandem: Value,
}

/// Where the configuration comes from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The `KubeProxyConfiguration`.
    pub config: Option<PathBuf>,
    /// The `TandemConfiguration`; none means a file beside the other, if it is there.
    pub tandem_config: Option<PathBuf>,
    /// The command line.
    pub flags: Flags,
}

/// Settings, and what people should know about them.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// What has no effect, or another than one may think: a line each.
    pub warnings: Vec<String>,
    /// The files that were read.
    pub files: Vec<PathBuf>,
}

impl Sources {
    /// Out of a command line.
    pub fn new(flags: Flags) -> Self {
        let path = |name| flags.text(name).filter(|path| !path.is_empty()).map(PathBuf::from);
        Self {
            config: path("config"),
            tandem_config: path("tandem-config"),
            flags,
        }
    }

    /// Where a `TandemConfiguration` is read from, if it is there.
    pub(super) fn tandem_path(&self) -> Option<PathBuf> {
        let beside = || self.config.as_ref().map(|path| path.with_file_name("tandem.conf"));
        self.tandem_config.clone().or_else(beside)
    }

    /// Reads the files and puts the flags over them.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let kube_proxy = match &self.config {
            Some(path) => Some((path.clone(), read(path)?)),
            None => None,
        };
        let tandem = match (self.tandem_path(), &self.tandem_config) {
            (Some(path), Some(_)) => Some((path.clone(), read(&path)?)),
            // One that nobody named need not be there.
            (Some(path), None) if path.exists() => Some((path.clone(), read(&path)?)),
            _ => None,
        };
        self.load_texts(kube_proxy, tandem)
    }

    /// Where the local API is by flags and the `TandemConfiguration` alone, whatever else is wrong; by default where that
    /// file cannot be read.
    pub fn socket(&self) -> PathBuf {
        let file = self.tandem_path().and_then(|path| Some((read(&path).ok()?, path)));
        let document = file.and_then(|(text, path)| Document::parse(&tandem::SCHEMA, &path, &text).ok());
        let document = document.unwrap_or_else(|| Document::empty(&tandem::SCHEMA));
        PathBuf::from(self.flags.text("socket").unwrap_or(document.text("socket")))
    }

    /// The same with the files' paths and texts at hand.
    pub(crate) fn load_texts(
        &self,
        kube_proxy: Option<(PathBuf, String)>,
        tandem: Option<(PathBuf, String)>,
    ) -> Result<Loaded, ConfigError> {
        let mut files = Vec::new();
        let mut document = |schema, file: Option<(PathBuf, String)>| match file {
            Some((path, text)) => {
                let document = Document::parse(schema, &path, &text)?;
                files.push(path);
                Ok::<_, ConfigError>(document)
            }
            None => Ok(Document::empty(schema)),
        };
        let mut kube_proxy = document(&kube_proxy::SCHEMA, kube_proxy)?;
        let mut tandem = document(&tandem::SCHEMA, tandem)?;
        let mut warnings = self.flags.over(&mut kube_proxy, self.config.is_some())?;
        self.flags.over_tandem(&mut tandem)?;
        warnings.extend(kube_proxy.ignored());
        warnings.extend(tandem.ignored());
        let settings = self.resolve(&kube_proxy, &tandem, &mut warnings)?;
        Ok(Loaded {
            settings,
            warnings,
            files,
        })
    }

    fn resolve(
        &self,
        kube_proxy: &Document,
        tandem: &Document,
        warnings: &mut Vec<String>,
    ) -> Result<Settings, ConfigError> {
        validate::unused(kube_proxy, warnings)?;
        resolve::mode(kube_proxy, warnings)?;
        let healthz = resolve::bind_address(kube_proxy, &self.flags, &resolve::HEALTHZ)?;
        let metrics = resolve::bind_address(kube_proxy, &self.flags, &resolve::METRICS)?;
        let kubeconfig = kube_proxy.text("clientConnection.kubeconfig");
        let master = self.flags.text("master").filter(|master| !master.is_empty());
        let node_port_loopback = tandem.on("nodePortLoopback");
        let mut settings = Settings {
            node_name: resolve::node_name(kube_proxy)?,
            detect_local: resolve::detect_local(kube_proxy, warnings)?,
            masquerade_all: resolve::masquerade_all(kube_proxy),
            masquerade_bit: resolve::masquerade_bit(kube_proxy, warnings)?,
            node_port_addresses: resolve::node_port_addresses(kube_proxy, node_port_loopback, warnings)?,
            kubeconfig: Some(kubeconfig).filter(|path| !path.is_empty()).map(PathBuf::from),
            master: master.map(str::to_owned),
            healthz_bind_address: healthz,
            metrics_bind_address: metrics,
            bind_address_hard_fail: kube_proxy.on("bindAddressHardFail"),
            events: tandem.on("events"),
            node_port_loopback,
            service_routes: tandem.on("serviceRoutes"),
            drop_invalid: tandem.on("dropInvalid"),
            remove_kube_proxy_rules: tandem.on("removeKubeProxyRules"),
            conntrack: resolve::conntrack(kube_proxy)?,
            oom_score_adj: resolve::oom_score_adj(kube_proxy)?,
            socket: PathBuf::from(tandem.text("socket")),
            log_filter: resolve::log_filter(tandem, kube_proxy)?,
            log_format: resolve::log_format(tandem, kube_proxy)?,
            effective: Effective {
                kube_proxy: kube_proxy.values.clone(),
                tandem: tandem.values.clone(),
            },
        };
        effective::fill(&mut settings);
        Ok(settings)
    }
}

impl Settings {
    /// The `KubeProxyConfiguration` that is in effect, with all its defaults: what `--write-config-to` writes.
    pub fn kube_proxy_configuration(&self) -> &Value {
        &self.effective.kube_proxy
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })
}
