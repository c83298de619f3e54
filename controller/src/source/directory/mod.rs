//! Objects from a folder of manifests, watched with inotify. It needs no cluster, and sends the same events as a
//! cluster's API server. Folders inside the folder are not read.
//!
//! If a file cannot be read as a whole, its last good content stays. If the folder goes away, everything stays. If the
//! files of the folder go one by one, the folder is emptied, and that is a change like any other. But a folder without
//! any manifest may also mean that a mount is missing. So at the start, and if it replaces the folder that was read,
//! such a folder changes nothing. An empty `FILE.yaml` says there that there are no objects.

mod documents;
mod files;
pub(crate) mod fuzzing;
mod heads;
mod list;
mod manifest;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tandem_core::object::ObjectKey;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::SendError;
use tokio::time::timeout;

use crate::event::{Event, Notice, Object, ObjectKind, Reach};
use crate::source::decode::{Decoded, Decoder};
use files::Files;
use watch::{Changes, Watch};

/// Why a folder cannot be a source.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The folder does not exist or cannot be read.
    #[error("manifests in {path}: {source}")]
    Read {
        /// The folder.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// inotify has no room left or is forbidden.
    #[error("watching {path}: {source}")]
    Watch {
        /// The folder.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
}

/// How often Tandem checks whether a missing folder is back.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// How often Tandem checks whether the path still leads to the watched folder. A mount causes no event.
const LOOK_WHERE: Duration = Duration::from_secs(2);
/// The message if a folder without manifests does not count as an empty cluster at the start.
const NOTHING: &str = "no manifest can be read there; nothing is changed before one can (an empty FILE.yaml, if there is to \
                       be nothing)";

/// The last events that were sent about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    /// None if Tandem does not use the object, but it has notices.
    object: Option<Object>,
    notices: Vec<Notice>,
}

/// Reads the folder, sends all of it, and then sends changes, until nobody receives events any more. An error can occur
/// only at the start: later the folder may come and go.
pub async fn run(path: &Path, node_name: &str, events: Sender<Event>) -> Result<(), DirectoryError> {
    let mut watch = Watch::new(path).map_err(|source| DirectoryError::Watch {
        path: path.to_owned(),
        source,
    })?;
    let mut files = Files::new(path, Decoder::new(node_name));
    let read = files.read_all().and_then(|()| watch.renew());
    read.map_err(|source| DirectoryError::Read {
        path: path.to_owned(),
        source,
    })?;
    // This reads what was written between the first reading and the watch. From here on, nothing can be missed.
    drop(files.read_all());

    let closed = events.clone();
    let mut folder = Folder {
        files,
        said: BTreeMap::new(),
        lost: None,
        listed: false,
        events,
    };
    tokio::select! {
        () = closed.closed() => {}
        _ = folder.follow(&mut watch) => {}
    }
    Ok(())
}

struct Folder {
    files: Files,
    said: BTreeMap<(ObjectKind, ObjectKey), Said>,
    lost: Option<String>,
    /// Whether the first list was sent.
    listed: bool,
    events: Sender<Event>,
}

impl Folder {
    async fn follow(&mut self, watch: &mut Watch) -> Result<(), SendError<Event>> {
        let mut read = Ok(());
        loop {
            let away = read.is_err();
            self.tell(read.err()).await?;
            let changes = if away {
                tokio::time::sleep(LOOK_AGAIN).await;
                Changes::All
            } else {
                self.changes(watch).await
            };
            read = match &changes {
                Changes::Files(names) => {
                    for name in names {
                        self.files.read_one(name);
                    }
                    Ok(())
                }
                Changes::All => watch.renew().and_then(|()| self.files.read_all()),
            };
        }
    }

    /// Waits until something changes in the folder, or until the path leads to another folder.
    async fn changes(&self, watch: &mut Watch) -> Changes {
        loop {
            let changes = timeout(LOOK_WHERE, watch.changes()).await;
            match (changes, self.files.is_home()) {
                (Err(_), true) => {}
                (Ok(Ok(changes)), true) => return changes,
                _ => return Changes::All,
            }
        }
    }

    /// Sends the result of reading: a list the first time, and then changes.
    async fn tell(&mut self, error: Option<io::Error>) -> Result<(), SendError<Event>> {
        match error {
            None if !self.listed && self.files.any() => {
                self.listed = true;
                self.list().await
            }
            None if !self.listed => {
                self.reach(Some(io::Error::other(NOTHING))).await?;
                self.tell_faults().await
            }
            error => {
                self.reach(error).await?;
                if self.listed { self.tell_changes().await } else { Ok(()) }
            }
        }
    }

    /// Sends the first list of every kind.
    async fn list(&mut self) -> Result<(), SendError<Event>> {
        for kind in ObjectKind::ALL {
            self.events.send(Event::Listing(kind)).await?;
        }
        self.tell_changes().await?;
        for kind in ObjectKind::ALL {
            self.events.send(Event::Listed(kind)).await?;
            self.events.send(Event::Reach(kind, Reach::Watching)).await?;
        }
        self.lost = None;
        Ok(())
    }

    async fn reach(&mut self, error: Option<io::Error>) -> Result<(), SendError<Event>> {
        let lost = error.map(|error| format!("manifests in {}: {error}", self.files.path().display()));
        if lost != self.lost {
            for kind in ObjectKind::ALL {
                let reach = lost.clone().map_or(Reach::Watching, Reach::Lost);
                self.events.send(Event::Reach(kind, reach)).await?;
            }
            self.lost = lost;
        }
        Ok(())
    }

    async fn tell_faults(&mut self) -> Result<(), SendError<Event>> {
        for (file, faults) in self.files.take_faults() {
            self.events.send(Event::Faulty(file, faults)).await?;
        }
        Ok(())
    }

    /// Sends the differences from what was sent before.
    async fn tell_changes(&mut self) -> Result<(), SendError<Event>> {
        self.tell_faults().await?;
        if !self.files.take_changed() {
            return Ok(());
        }
        let now = self.files.objects();
        let gone: Vec<_> = self
            .said
            .keys()
            .filter(|key| !now.contains_key(*key))
            .cloned()
            .collect();
        for ((kind, key), outcome) in now {
            let said = match &outcome.decoded {
                Decoded::Apply(object) => Said {
                    object: Some(object.clone()),
                    notices: outcome.notices.clone(),
                },
                Decoded::Ignore(_, _, why) => {
                    tracing::debug!("{kind} {key} is not programmed: {why}");
                    Said {
                        object: None,
                        notices: outcome.notices.clone(),
                    }
                }
            };
            let id = (kind, key);
            let before = self.said.get(&id);
            if before == Some(&said) || (before.is_none() && said.object.is_none() && said.notices.is_empty()) {
                continue;
            }
            let event = match said.object.clone() {
                Some(object) => Event::Applied(object, said.notices.clone()),
                None => Event::Deleted(id.0, id.1.clone(), said.notices.clone()),
            };
            self.said.insert(id, said);
            self.events.send(event).await?;
        }
        // These come last. If an object replaces another one (a slice under another name), there is no moment without
        // both.
        for id in gone {
            self.said.remove(&id);
            self.events.send(Event::Deleted(id.0, id.1, Vec::new())).await?;
        }
        Ok(())
    }
}
