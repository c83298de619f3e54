//! Reads the files and the flags, and combines them.

use std::path::{Path, PathBuf};

use super::document::Document;
use super::flags::Flags;
use super::schema::{kube_proxy, tandem};
use super::settings::{Effective, Settings};
use super::{ConfigError, data_plane, effective, resolve, validate, ways};

/// The places that the configuration comes from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The `KubeProxyConfiguration`.
    pub config: Option<PathBuf>,
    /// The `TandemConfiguration`; none means a file beside the other one, if it exists.
    pub tandem_config: Option<PathBuf>,
    /// The command line.
    pub flags: Flags,
}

/// Settings, and what people should know about them.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// One line for each setting that has no effect, or another effect than one may expect.
    pub warnings: Vec<String>,
    /// The files that were read.
    pub files: Vec<PathBuf>,
}

impl Sources {
    /// Makes the sources from a command line.
    pub fn new(flags: Flags) -> Self {
        let path = |name| flags.text(name).filter(|path| !path.is_empty()).map(PathBuf::from);
        Self {
            config: path("config"),
            tandem_config: path("tandem-config"),
            flags,
        }
    }

    /// The path of the `TandemConfiguration`. The file need not exist.
    pub(super) fn tandem_path(&self) -> Option<PathBuf> {
        let beside = || self.config.as_ref().map(|path| path.with_file_name("tandem.conf"));
        self.tandem_config.clone().or_else(beside)
    }

    /// Reads the files and applies the flags.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let kube_proxy = match &self.config {
            Some(path) => Some((path.clone(), read(path)?)),
            None => None,
        };
        let tandem = match (self.tandem_path(), &self.tandem_config) {
            (Some(path), Some(_)) => Some((path.clone(), read(&path)?)),
            // A file that nobody named need not exist.
            (Some(path), None) if path.exists() => Some((path.clone(), read(&path)?)),
            _ => None,
        };
        self.load_texts(kube_proxy, tandem)
    }

    /// The path of the local API's socket, taken only from the flags and the `TandemConfiguration`, whatever else is
    /// wrong. If that file cannot be read, it is the default path.
    pub fn socket(&self) -> PathBuf {
        let document = self.readable();
        PathBuf::from(self.flags.text("socket").unwrap_or(document.text("socket")))
    }

    /// The folder of programs and maps, in the same way.
    pub fn pins(&self) -> PathBuf {
        PathBuf::from(self.readable().text("bpfFolder"))
    }

    /// The `TandemConfiguration`; if it cannot be read, its defaults.
    fn readable(&self) -> Document {
        let file = self.tandem_path().and_then(|path| Some((read(&path).ok()?, path)));
        let document = file.and_then(|(text, path)| Document::parse(&tandem::SCHEMA, &path, &text).ok());
        document.unwrap_or_else(|| Document::empty(&tandem::SCHEMA))
    }

    /// The same with paths and texts that were read already.
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
            ways: ways::resolve(kube_proxy, tandem, warnings)?,
            healthz_bind_address: healthz,
            metrics_bind_address: metrics,
            bind_address_hard_fail: kube_proxy.on("bindAddressHardFail"),
            events: tandem.on("events"),
            node_port_loopback,
            service_routes: tandem.on("serviceRoutes"),
            drop_invalid: tandem.on("dropInvalid"),
            xdp: data_plane::resolve(tandem)?,
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

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })
}
