//! The fields of the second data plane.

use std::path::{Component, Path, PathBuf};

use tandem_core::object::Choice;

use super::ConfigError;
use super::document::Document;
use crate::xdp::{DataPlane, DeviceMode, DevicePattern, MOST_FLOWS, PAGE, SocketsOf, XdpSettings};

pub(super) fn resolve(tandem: &Document) -> Result<XdpSettings, ConfigError> {
    let data_plane = match tandem.text("dataPlane") {
        "nft" => DataPlane::Nft,
        "xdp" => DataPlane::Xdp,
        _ => return Err(tandem.wrong("dataPlane", "not a data plane (nft, xdp)")),
    };
    let sockets = match tandem.text("socketLoadBalancing") {
        "all" => SocketsOf::All,
        "node" => SocketsOf::Node,
        "off" => SocketsOf::Off,
        _ => return Err(tandem.wrong("socketLoadBalancing", "must be all, node or off")),
    };
    Ok(XdpSettings {
        data_plane,
        sockets,
        node_cgroup: absolute(tandem, "nodeCgroup")?,
        pod_cgroup: below(tandem, "podCgroup")?,
        pins: pins(tandem)?,
        pick: Choice::named(tandem.text("xdp.pick"))
            .ok_or_else(|| tandem.wrong("xdp.pick", "must be random or maglev"))?,
        devices: devices(tandem)?,
        mode: match tandem.text("xdp.mode") {
            "native" => DeviceMode::Native,
            "generic" => DeviceMode::Generic,
            _ => return Err(tandem.wrong("xdp.mode", "must be native or generic")),
        },
        max_flows: max_flows(tandem)?,
    })
}

fn devices(tandem: &Document) -> Result<Vec<DevicePattern>, ConfigError> {
    const FIELD: &str = "xdp.devices";
    let pattern = |text: &&str| {
        let parsed = text.parse::<DevicePattern>();
        parsed.map_err(|error| tandem.wrong_value(FIELD, text, error.why))
    };
    tandem.texts(FIELD).iter().map(pattern).collect()
}

/// Flows are kept in pages, and the number of pages is a power of two.
fn max_flows(tandem: &Document) -> Result<u32, ConfigError> {
    const FIELD: &str = "xdp.maxFlows";
    let wanted = u32::try_from(tandem.integer(FIELD)).ok();
    let allowed = wanted.filter(|flows| (PAGE..=MOST_FLOWS).contains(flows));
    let pages = allowed.map(|flows| flows.div_ceil(PAGE).next_power_of_two());
    pages
        .map(|pages| pages * PAGE)
        .ok_or_else(|| tandem.wrong(FIELD, &format!("must be between {PAGE} and {MOST_FLOWS}")))
}

fn absolute(tandem: &Document, field: &str) -> Result<Option<PathBuf>, ConfigError> {
    let path = Path::new(tandem.text(field));
    match path {
        path if path.as_os_str().is_empty() => Ok(None),
        path if path.is_absolute() && !goes_up(path) => Ok(Some(path.to_owned())),
        _ => Err(tandem.wrong(field, "not an absolute path of a folder")),
    }
}

/// A folder below the node's. As in kubelet's `cgroupRoot`, it may begin with a slash.
fn below(tandem: &Document, field: &str) -> Result<Option<PathBuf>, ConfigError> {
    let text = tandem.text(field);
    let path = Path::new(text.trim_start_matches('/'));
    match path {
        _ if text.is_empty() => Ok(None),
        path if path.starts_with("sys/fs/cgroup") => {
            Err(tandem.wrong(field, "must be below the topmost cgroup folder, as /kubepods"))
        }
        path if !path.as_os_str().is_empty() && !goes_up(path) => Ok(Some(path.to_owned())),
        _ => Err(tandem.wrong(field, "not a folder below the topmost cgroup folder, as /kubepods")),
    }
}

fn pins(tandem: &Document) -> Result<PathBuf, ConfigError> {
    const FIELD: &str = "bpfFolder";
    let path = absolute(tandem, FIELD)?.filter(|path| path.parent().is_some());
    let path = path.ok_or_else(|| tandem.wrong(FIELD, "not an absolute path of a folder"))?;
    // The file system refuses such names, and says only "operation not permitted".
    let dotted = path.file_name().is_none_or(|name| name.to_string_lossy().contains('.'));
    if dotted {
        return Err(tandem.wrong(FIELD, "a BPF file system has no names with dots"));
    }
    Ok(path)
}

fn goes_up(path: &Path) -> bool {
    path.components().any(|part| part == Component::ParentDir)
}
