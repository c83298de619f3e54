//! `tandem run`

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use tandem_nft::NodeLock;

use crate::agent::{self, Source};
use crate::api::SOCKET;
use crate::config::{Overrides, Settings};

use super::CommandError;

/// Run the agent: make Services work on this node until it is told to stop.
///
/// Reads Services, EndpointSlices and this node's object from the cluster (or from a folder of manifests), and keeps the
/// nftables tables `ip tandem` and `ip6 tandem` equal to them. When it stops, the tables stay: connections and new
/// requests go on working, and the next start takes the tables over as they are.
#[derive(Args)]
#[command(after_help = "Examples:\n  tandem run --config /var/lib/kube-proxy/config.conf\n  \
    tandem run --source directory:./manifests --hostname-override node1 --cluster-cidr 10.244.0.0/16,fd00:10:244::/48")]
pub(super) struct Run {
    /// A KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1), YAML or JSON. Flags win over it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where objects come from: `kubernetes`, or `directory:PATH` for a folder of YAML or JSON manifests (Service,
    /// EndpointSlice, Node, ServiceCIDR), watched for changes.
    #[arg(long, value_name = "SOURCE", default_value = "kubernetes")]
    source: Source,
    /// How to reach the API server; without it, the service account of the pod it runs in.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The API server's address; wins over the kubeconfig's.
    #[arg(long, value_name = "URL")]
    master: Option<String>,
    /// The name of this node's object, where it is not the host name.
    #[arg(long, value_name = "NAME")]
    hostname_override: Option<String>,
    /// The pods' ranges, one or more a family, separated by commas: other sources are masqueraded towards ClusterIPs.
    #[arg(long, value_name = "CIDRS")]
    cluster_cidr: Option<String>,
    /// How pods are told from other sources: `ClusterCIDR` or `NodeCIDR`.
    #[arg(long, value_name = "MODE")]
    detect_local_mode: Option<String>,
    /// Masquerade everything that is sent to ClusterIPs.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    masquerade_all: Option<bool>,
    /// Which bit of the packet mark asks for masquerading, 0 to 31.
    #[arg(long, value_name = "BIT")]
    nftables_masquerade_bit: Option<i32>,
    /// Which of the node's addresses take nodePort traffic: CIDRs separated by commas, or `primary` (the default).
    #[arg(long, value_name = "CIDRS", value_delimiter = ',')]
    nodeport_addresses: Option<Vec<String>>,
    /// Where `tandem services` and `tandem status` find this agent.
    #[arg(long, value_name = "PATH", default_value = SOCKET)]
    socket: PathBuf,
    /// What to log: error, warn, info, debug or trace, also per module (`info,tandem::engine=debug`).
    #[arg(long, value_name = "LEVEL", default_value = "info", env = "TANDEM_LOG")]
    log: String,
    /// How to write the log.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "kubernetes" => Ok(Self::Kubernetes),
            Some(("directory", path)) if !path.is_empty() => Ok(Self::Directory(path.into())),
            _ => Err("must be `kubernetes` or `directory:PATH`".into()),
        }
    }
}

impl Run {
    pub(super) fn run(self) -> Result<(), CommandError> {
        start_log(&self.log, self.log_format)?;
        let overrides = Overrides {
            hostname_override: self.hostname_override,
            cluster_cidr: self.cluster_cidr,
            detect_local_mode: self.detect_local_mode,
            masquerade_all: self.masquerade_all,
            nodeport_addresses: self.nodeport_addresses,
            kubeconfig: self.kubeconfig,
            master: self.master,
            masquerade_bit: self.nftables_masquerade_bit,
        };
        let (settings, warnings) = Settings::load(self.config.as_deref(), overrides)?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let _lock = NodeLock::acquire()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let result = runtime.block_on(agent::run(settings, self.source, &self.socket));
        // A source may be in the middle of a read that nobody waits for any more.
        runtime.shutdown_background();
        result
    }
}

fn start_log(filter: &str, format: LogFormat) -> Result<(), CommandError> {
    use std::io::IsTerminal;
    let filter =
        tracing_subscriber::EnvFilter::try_new(filter).map_err(|error| format!("--log {filter:?}: {error}"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}
