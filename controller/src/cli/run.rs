//! `tandem run`

use std::io::IsTerminal;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::agent::{self, Source};
use crate::config::{Flags, Loaded, LogFormat, Settings, Sources};
use crate::standing::Standing;
use crate::sysctl;
use crate::xdp::{Reserved, has_packets};

use super::CommandError;
use super::cleanup::{self, Afterwards};
use super::flags::Given;

/// Run the agent: make Services work on this node until it is told to stop.
///
/// Reads Services, EndpointSlices and this node's object from the cluster (or from a folder of manifests), and keeps
/// the nftables tables `ip tandem` and `ip6 tandem` equal to them. When it stops, the tables stay. So connections and
/// new requests go on working, and the next start takes the tables over.
///
/// It accepts all flags of kube-proxy. With --config, most are ignored, as in kube-proxy. docs/configuration.md lists
/// all.
#[derive(Args)]
#[command(
    args_override_self = true,
    after_help = "Examples:\n  tandem run --config /var/lib/kube-proxy/config.conf\n  \
    tandem run --source directory:./manifests --hostname-override node1 --cluster-cidr 10.244.0.0/16,fd00:10:244::/48"
)]
pub(super) struct Run {
    #[command(flatten)]
    flags: Given,
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
        crate::memory::share_one_heap();
        let flags = with_environment(self.flags.0)?;
        let sources = Sources::new(flags.clone());
        if flags.on("cleanup") {
            return clean_up(&sources, flags.on("stay"));
        }
        if flags.on("stay") {
            return Err("--stay: true: it only goes with --cleanup".into());
        }
        let source = flags.text("source").unwrap_or("kubernetes");
        let source: Source = source
            .parse()
            .map_err(|problem| format!("--source: {source:?}: {problem}"))?;
        let loaded = sources.load()?;
        let settings = &loaded.settings;
        if let Some(path) = flags.text("write-config-to").filter(|path| !path.is_empty()) {
            return write(settings, Path::new(path));
        }
        let log = start_log(&settings.log_filter, settings.log_format)?;
        for file in &loaded.files {
            tracing::info!("configuration: {}", file.display());
        }
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        if flags.on("init-only") {
            sysctl::apply(Path::new("/"), settings);
            reserve_ports(settings);
            return Ok(());
        }
        tandem_nft::check_kernel().map_err(|error| {
            let release = rustix::system::uname();
            let release = release.release().to_string_lossy();
            format!("this kernel ({release}) cannot hold the rules: {error}. {NEEDS}; nothing was changed")
        })?;
        let standing = Standing::take(flags.on("stand-by"))?;
        let _lock = standing.lock();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let result = runtime.block_on(agent::run(sources, loaded, source, standing, log));
        // The listeners are closed before the lock is freed, because the next agent may wait for both. A source may still be
        // reading, but nobody waits long for the result.
        runtime.shutdown_timeout(LEAVES);
        result
    }
}

/// Reserves the ports of XDP's flows if XDP is to have flows, and gives them back if it is not. The agent may not be allowed to.
/// While flows may go on, their ports stay reserved.
fn reserve_ports(settings: &Settings) {
    let reserved = Reserved::new(Path::new("/"), &settings.socket);
    let pins = &settings.xdp.pins;
    let (done, what) = if settings.xdp.wants_devices() {
        (reserved.add(), "are reserved")
    } else if reserved.were_added() && has_packets(pins) {
        tracing::info!(
            "xdp: the ports 49152-65535 stay reserved: flows may use them until the programs in {} are detached from devices",
            pins.display()
        );
        return;
    } else {
        (reserved.remove(), "are not reserved any more")
    };
    match done {
        Ok(true) => tracing::info!("xdp: the ports 49152-65535 {what} (net.ipv4.ip_local_reserved_ports)"),
        Ok(false) => {}
        Err(why) => tracing::warn!("xdp: {why}"),
    }
}

/// What the kernel must have.
const NEEDS: &str = "Tandem needs Linux 5.13 or newer with nf_tables and its modules nft_chain_nat, nft_ct, nft_fib_ipv4, \
    nft_fib_ipv6, nft_hash, nft_masq, nft_nat, nft_numgen, nft_reject_ipv4 and nft_reject_ipv6";

/// How long the parts of the agent may take to leave.
const LEAVES: Duration = Duration::from_millis(100);

/// `TANDEM_LOG` has the effect of `--log`. If both are given, `--log` wins.
fn with_environment(flags: Flags) -> Result<Flags, CommandError> {
    match std::env::var("TANDEM_LOG") {
        Ok(level) if flags.text("log").is_none() && !level.is_empty() => Ok(flags.and("log", level)?),
        _ => Ok(flags),
    }
}

/// Cleans the node, whatever the files say. They only say how to log, and where the socket is.
fn clean_up(sources: &Sources, stay: bool) -> Result<(), CommandError> {
    let (socket, pins, loaded) = (sources.socket(), sources.pins(), sources.load());
    let (filter, format) = match &loaded {
        Ok(Loaded { settings, .. }) => (settings.log_filter.as_str(), settings.log_format),
        Err(_) => ("info", LogFormat::Text),
    };
    // The filter stays the same until the end.
    let _set_filter = start_log(filter, format)?;
    if let Err(error) = loaded {
        tracing::warn!(
            "{error}: what Tandem left is removed all the same, with the socket {}",
            socket.display()
        );
    }
    let afterwards = if stay { Afterwards::Stay } else { Afterwards::End };
    cleanup::run(&socket, &pins, afterwards)
}

fn write(settings: &Settings, path: &Path) -> Result<(), CommandError> {
    std::fs::write(path, settings.to_yaml()?).map_err(|error| format!("writing {}: {error}", path.display()))?;
    if let Some(refused) = settings.refused_by_kube_proxy() {
        eprintln!("warning: {}: {refused}", path.display());
    }
    Ok(())
}

/// Starts the log. The returned function sets another filter.
fn start_log(filter: &str, format: LogFormat) -> Result<agent::SetLogFilter, CommandError> {
    let filter = EnvFilter::try_new(filter)?;
    let (filter, handle) = reload::Layer::<EnvFilter, Registry>::new(filter);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Text => registry
            .with(lines.with_ansi(std::io::stderr().is_terminal()))
            .try_init()?,
        LogFormat::Json => registry.with(lines.json()).try_init()?,
    }
    Ok(Box::new(move |filter| {
        let set = EnvFilter::try_new(filter).map_err(|error| error.to_string());
        if let Err(error) = set.and_then(|filter| handle.reload(filter).map_err(|error| error.to_string())) {
            tracing::warn!("log.level: {filter:?}: {error}: the log stays as it is");
        }
    }))
}
