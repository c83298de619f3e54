//! Where the address and the credentials come from.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use http::Uri;
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};

use super::ConnectError;

/// A file, and what it was when it was looked at.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    path: PathBuf,
    stamp: Option<Stamp>,
}

/// What differs if a file was written or replaced: its time, its length, its inode.
type Stamp = (SystemTime, u64, u64);

impl Seen {
    fn now(path: PathBuf) -> Self {
        let stamp = stamp(&path);
        Self { path, stamp }
    }

    /// Whether the file was written, replaced or removed since.
    pub(super) fn changed(&self) -> bool {
        stamp(&self.path) != self.stamp
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let data = fs::metadata(path).ok()?;
    Some((data.modified().ok()?, data.len(), data.ino()))
}

/// A kubeconfig or the pod's service account, and an address that replaces the one in it.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    kubeconfig: Option<PathBuf>,
    server: Option<Uri>,
}

impl Origin {
    pub(super) fn new(kubeconfig: Option<&Path>, server: Option<&str>) -> Result<Self, ConnectError> {
        Ok(Self {
            kubeconfig: kubeconfig.map(Path::to_owned),
            server: server.map(parse_server).transpose()?,
        })
    }

    /// Reads it. Beside the configuration, returns the files that it was read from, as they were before. A service
    /// account has none: its address does not change, and its token and certificates are read again anyway.
    pub(super) async fn read(&self) -> Result<(Config, Vec<Seen>), ConnectError> {
        let (mut config, files) = match (&self.kubeconfig, &self.server) {
            (Some(path), _) => from_kubeconfig(path).await?,
            (None, Some(server)) => {
                let config = Config::incluster().unwrap_or_else(|_| Config::new(server.clone()));
                (config, Vec::new())
            }
            (None, None) => (Config::incluster().map_err(ConnectError::InCluster)?, Vec::new()),
        };
        if let Some(server) = &self.server {
            config.cluster_url = server.clone();
        }
        Ok((config, files))
    }
}

fn parse_server(text: &str) -> Result<Uri, ConnectError> {
    let uri: Uri = text
        .parse()
        .map_err(|error| ConnectError::Server(text.to_owned(), error))?;
    if uri.scheme().is_none() || uri.host().is_none() {
        return Err(ConnectError::ServerParts(text.to_owned()));
    }
    Ok(uri)
}

async fn from_kubeconfig(path: &Path) -> Result<(Config, Vec<Seen>), ConnectError> {
    let failed = |source| ConnectError::Kubeconfig {
        path: path.to_owned(),
        source: Box::new(source),
    };
    // Each file is looked at before it is read. If it changes meanwhile, it is read once more.
    let mut files = vec![Seen::now(path.to_owned())];
    let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
    files.extend(named_in(&kubeconfig).into_iter().map(Seen::now));
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(failed)?;
    Ok((config, files))
}

/// The files of certificates and keys that a kubeconfig names. The token's file is not among them, because it is read
/// for each request.
fn named_in(kubeconfig: &Kubeconfig) -> Vec<PathBuf> {
    let clusters = kubeconfig.clusters.iter().filter_map(|named| named.cluster.as_ref());
    let authorities = clusters.filter_map(|cluster| cluster.certificate_authority.as_ref());
    let users = kubeconfig
        .auth_infos
        .iter()
        .filter_map(|named| named.auth_info.as_ref());
    let own = users.flat_map(|user| [&user.client_certificate, &user.client_key].into_iter().flatten());
    authorities.chain(own).map(PathBuf::from).collect()
}
