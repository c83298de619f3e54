//! What an earlier run left in the folder of the pins, before this run has loaded anything: the switches, the links, and
//! the folders of other layouts.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use aya::maps::MapData;
use tandem_xdp_layout::{SWITCH_SINCE, Switch, VERSION};

use super::link;
use super::memory::Words;
use super::object::{NODE, PODS};
use super::packets::attach;
use super::pin::{self, Lock, PinError};
use super::switches::{Switches, is_on};

/// The switches of both families that are pinned. In every layout they are the first words of these maps, and 0 is off.
const SWITCHES: [&str; 2] = ["SWITCH4", "SWITCH6"];

/// What is pinned in a folder.
#[derive(Clone, Debug)]
pub struct Found {
    folder: PathBuf,
    /// Their numbers.
    layouts: Vec<u32>,
    /// Nobody else uses what is there meanwhile; none if nothing is there.
    lock: Option<Arc<Lock>>,
}

/// Whether programs for packets are pinned in this folder, of any layout. It may be asked while another process uses the folder.
pub fn has_packets(folder: &Path) -> bool {
    let layouts = fs::read_dir(folder).into_iter().flatten().flatten();
    layouts
        .map(|layout| layout.path().join("links"))
        .any(|links| !attach::pinned(&links).is_empty())
}

impl Found {
    /// Looks into the folder. If it is not there, nothing was left. What another process uses is left alone.
    pub fn look(folder: &Path) -> Result<Self, PinError> {
        let failed = |error| PinError::Folder(folder.to_owned(), error);
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self {
                    folder: folder.to_owned(),
                    layouts: Vec::new(),
                    lock: None,
                });
            }
            Err(error) => return Err(failed(error)),
        };
        let mut layouts = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            layouts.extend(
                name.to_str()
                    .and_then(|name| name.strip_prefix('v')?.parse::<u32>().ok()),
            );
        }
        layouts.sort_unstable();
        Ok(Self {
            folder: folder.to_owned(),
            layouts,
            lock: Some(pin::lock(folder)?),
        })
    }

    /// Whether nothing was left.
    pub fn is_nothing(&self) -> bool {
        self.layouts.is_empty()
    }

    /// Whether programs that translate are attached by a link that is pinned.
    pub fn translates(&self) -> bool {
        self.layouts.iter().any(|layout| {
            let links = self.links(*layout);
            NODE.iter().chain(&PODS).any(|name| links.join(name).exists())
        })
    }

    /// Whether programs for packets of this layout are attached to devices by links that are pinned.
    pub fn has_devices(&self) -> bool {
        !attach::pinned(&self.links(VERSION)).is_empty()
    }

    /// The same of other layouts.
    pub fn has_devices_of_others(&self) -> bool {
        let mut others = self.layouts.iter().filter(|layout| **layout != VERSION);
        others.any(|layout| !attach::pinned(&self.links(*layout)).is_empty())
    }

    /// The same of newer layouts.
    pub fn has_devices_of_newer(&self) -> bool {
        let mut newer = self.newer_layouts();
        newer.any(|layout| !attach::pinned(&self.links(layout)).is_empty())
    }

    /// Takes devices from the programs of newer layouts. What those know stays.
    pub fn detach_newer_devices(&self) -> Result<(), PinError> {
        all(self.newer_layouts(), |layout| {
            let links = self.links(layout);
            all(attach::pinned(&links).into_iter(), |(pin, _)| {
                let path = links.join(pin.to_string());
                link::detach(&path);
                remove(&path)
            })
        })
    }

    /// The switches of IPv4 and IPv6, of this layout and of older ones. If what the settings of a switch mean is not known, or if it
    /// cannot be reached, the layout is switched off here.
    pub fn switches(&self, loopback: bool) -> Result<[Switches; 2], PinError> {
        let mut switches = [(); 2].map(|()| Switches::new(loopback, self.lock.clone()));
        for layout in &self.layouts {
            let words = SWITCHES.map(|name| self.word(*layout, name));
            match words {
                [Some(v4), Some(v6)] if (SWITCH_SINCE..=VERSION).contains(layout) => {
                    switches[0].add(v4);
                    switches[1].add(v6);
                }
                _ => self.switch_off_layout(*layout)?,
            }
        }
        Ok(switches)
    }

    /// The same of older layouts alone. Their programs go on until the rows of this layout are on ([`Switches::before`]).
    pub fn older(&self, loopback: bool) -> Result<[Switches; 2], PinError> {
        let older = Self {
            layouts: self.older_layouts().collect(),
            ..self.clone()
        };
        older.switches(loopback)
    }

    /// Detaches the pods' programs of older layouts, because nobody wants them any more.
    pub fn detach_older_pods(&self) -> Result<(), PinError> {
        all(self.older_layouts(), |layout| self.detach_these(layout, &PODS))
    }

    fn older_layouts(&self) -> impl Iterator<Item = u32> {
        self.layouts.iter().copied().filter(|layout| *layout < VERSION)
    }

    fn newer_layouts(&self) -> impl Iterator<Item = u32> {
        self.layouts.iter().copied().filter(|layout| *layout > VERSION)
    }

    /// Has all programs leave everything to nftables.
    pub fn switch_off(&self) -> Result<(), PinError> {
        all(self.layouts.iter(), |layout| self.switch_off_layout(*layout))
    }

    /// Detaches what translates, and leaves what shows frontends to sockets that were translated.
    pub fn stop(&self) -> Result<(), PinError> {
        self.switch_off()?;
        all(self.layouts.iter(), |layout| self.detach(*layout))
    }

    /// Removes everything, of all layouts.
    pub fn remove(&self) -> Result<(), PinError> {
        self.stop()?;
        for layout in &self.layouts {
            self.remove_layout(*layout)?;
        }
        match fs::remove_dir(&self.folder) {
            // Somebody else pinned something there.
            Err(error)
                if error.kind() != io::ErrorKind::NotFound && error.kind() != io::ErrorKind::DirectoryNotEmpty =>
            {
                Err(PinError::Folder(self.folder.clone(), error))
            }
            _ => Ok(()),
        }
    }

    /// What becomes of the layouts that are older than this one. As long as the programs of one are on in a family, all stay. Then
    /// what translates is removed, and the maps are. What shows frontends stays, for the sockets that were translated: answers to
    /// them may be under way.
    ///
    /// `carry` says that flows of packets are to be carried over first, if there are any.
    pub fn retire_older(&self, carry: bool) -> Result<Older, PinError> {
        let mut older = Older::None;
        for layout in self.older_layouts() {
            if carry && !attach::pinned(&self.links(layout)).is_empty() {
                return Ok(Older::On);
            }
            let words = SWITCHES.map(|name| self.word(layout, name));
            if words.iter().flatten().any(is_on) {
                return Ok(Older::On);
            }
        }
        all(self.older_layouts(), |layout| {
            older = Older::Shows;
            self.detach(layout)?;
            remove_all(&self.folder(layout).join("maps"))
        })?;
        Ok(older)
    }

    /// Removes the layouts that are older than this one. Sockets that their programs translated are shown their endpoints from then
    /// on.
    pub fn remove_older(&self) -> Result<(), PinError> {
        all(self.older_layouts(), |layout| self.remove_layout(layout))
    }

    fn remove_layout(&self, layout: u32) -> Result<(), PinError> {
        for name in names(&self.links(layout)) {
            // The kernel frees a link that has no name any more in its own time. Until then, its program answers.
            link::detach(&name);
        }
        for folder in [self.links(layout), self.folder(layout).join("maps")] {
            remove_all(&folder)?;
        }
        let folder = self.folder(layout);
        fs::remove_dir(&folder).map_err(|error| PinError::Folder(folder, error))
    }

    fn switch_off_layout(&self, layout: u32) -> Result<(), PinError> {
        let words = SWITCHES.map(|name| self.word(layout, name));
        for word in words.iter().flatten() {
            word.publish(0, Switch::OFF.0);
        }
        // A switch may be gone, or the process may not open maps: CAP_BPF may have been taken from it. Who owns the files may always
        // remove them, and with the last name of a link its program is detached.
        if words.iter().any(Option::is_none) {
            self.detach(layout)?;
        }
        Ok(())
    }

    /// Detaches what translates.
    fn detach(&self, layout: u32) -> Result<(), PinError> {
        self.detach_these(layout, &[NODE, PODS].concat())
    }

    fn detach_these(&self, layout: u32, names: &[&str]) -> Result<(), PinError> {
        let links = self.links(layout);
        all(names.iter(), |name| {
            link::detach(&links.join(name));
            remove(&links.join(name))
        })
    }

    fn word(&self, layout: u32, name: &str) -> Option<Words> {
        let map = MapData::from_pin(self.folder(layout).join("maps").join(name)).ok()?;
        Words::map(map.fd(), 1).ok()
    }

    fn folder(&self, layout: u32) -> PathBuf {
        self.folder.join(format!("v{layout}"))
    }

    fn links(&self, layout: u32) -> PathBuf {
        self.folder(layout).join("links")
    }
}

/// Does it with each one, also after a failure. Returns the first failure.
fn all<T>(each: impl Iterator<Item = T>, does: impl FnMut(T) -> Result<(), PinError>) -> Result<(), PinError> {
    each.map(does).fold(Ok(()), Result::and)
}

/// What is pinned in a folder.
fn names(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// Removes a folder and what is pinned in it, if it is there.
fn remove_all(folder: &Path) -> Result<(), PinError> {
    let failed = |error| PinError::Folder(folder.to_owned(), error);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    for entry in entries {
        remove(&entry.map_err(failed)?.path())?;
    }
    fs::remove_dir(folder).map_err(failed)
}

fn remove(path: &Path) -> Result<(), PinError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(PinError::Folder(path.to_owned(), error)),
        _ => Ok(()),
    }
}

/// What there is of layouts that are older than this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Older {
    /// Nothing.
    None,
    /// Programs that answer.
    On,
    /// Programs that only show frontends.
    Shows,
}
