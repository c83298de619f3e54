//! The configuration while the agent runs. It is read again whenever its files change. The agent gets it only if it is
//! different and valid. If files cannot be read, they are named once, and the settings in use stay.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::effective::Changes;
use super::load::{Loaded, Sources};
use super::settings::Settings;
use super::watch::Watch;

/// After this time, an editor has written the whole file, and two files that belong together are both written.
const SETTLED: Duration = Duration::from_millis(50);

/// The settings in use, and the files that they come from.
pub struct Live {
    sources: Sources,
    started: Settings,
    running: Arc<Settings>,
    /// The settings of the last valid files, with the changes that wait for the next start.
    last: Settings,
    warnings: Vec<String>,
    complaint: Option<String>,
    state: Arc<ArcSwap<FileState>>,
}

/// The parts of the files that are not in effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileState {
    /// Why the files as they are now are not used; none if they are used.
    pub rejected: Option<String>,
    /// Changes since the start that wait for the next one, each as `field: old becomes new`.
    pub waiting: Vec<String>,
}

/// The result of reading the files again.
#[derive(Debug, PartialEq)]
pub enum Reread {
    /// No change that matters, or nothing new.
    Same,
    /// The files cannot be used, for a reason that was not reported before.
    Broken(String),
    /// Other settings are in use now.
    Changed {
        /// What changed.
        changes: Changes,
        /// Lines about the new configuration that were not there before.
        warnings: Vec<String>,
    },
}

impl Live {
    /// Starts with the configuration that was loaded at the start.
    pub fn new(sources: Sources, loaded: Loaded) -> Self {
        Self {
            sources,
            started: loaded.settings.clone(),
            running: Arc::new(loaded.settings.clone()),
            last: loaded.settings,
            warnings: loaded.warnings,
            complaint: None,
            state: Arc::default(),
        }
    }

    /// The parts of the files that are not in effect. The value is always the newest, also while another thread follows
    /// the files.
    pub fn state(&self) -> Arc<ArcSwap<FileState>> {
        self.state.clone()
    }

    /// The settings in use.
    pub fn settings(&self) -> Arc<Settings> {
        self.running.clone()
    }

    /// Reads the files again, and returns what changed.
    pub fn reread(&mut self) -> Reread {
        let reread = self.read();
        if reread != Reread::Same {
            self.state.store(Arc::new(FileState {
                rejected: self.complaint.clone(),
                waiting: Settings::changes(&self.started, &self.last).needs_restart,
            }));
        }
        reread
    }

    fn read(&mut self) -> Reread {
        let loaded = match self.sources.load() {
            Ok(loaded) => loaded,
            Err(error) => {
                let complaint = error.to_string();
                return match self.complaint.replace(complaint.clone()) {
                    Some(before) if before == complaint => Reread::Same,
                    _ => Reread::Broken(complaint),
                };
            }
        };
        let mended = self.complaint.take().is_some();
        let changes = Settings::changes(&self.last, &loaded.settings);
        let warnings: Vec<String> = loaded
            .warnings
            .iter()
            .filter(|warning| !self.warnings.contains(warning))
            .cloned()
            .collect();
        if changes == Changes::default() && warnings.is_empty() && !mended {
            return Reread::Same;
        }
        self.running = Arc::new(loaded.settings.clone().live(&self.running));
        (self.last, self.warnings) = (loaded.settings, loaded.warnings);
        Reread::Changed { changes, warnings }
    }

    /// Follows the files on a thread of its own until the process ends or `changed` returns false. It calls `changed`
    /// with each new settings.
    pub fn follow(mut self, mut changed: impl FnMut(Arc<Settings>) -> bool + Send + 'static) -> std::io::Result<()> {
        let files: Vec<_> = self
            .sources
            .config
            .clone()
            .into_iter()
            .chain(self.sources.tandem_path())
            .collect();
        if files.is_empty() {
            return Ok(());
        }
        let watch = match Watch::new(files) {
            Ok(watch) => watch,
            Err(error) => {
                tracing::warn!("the configuration is not watched: {error}: changes take effect at the next start");
                return Ok(());
            }
        };
        thread::Builder::new().name("configuration".into()).spawn(move || {
            // This also finds what changed between the first reading and the watch.
            loop {
                if self.tell() && !changed(self.settings()) {
                    return;
                }
                if let Err(error) = watch.wait() {
                    tracing::warn!("the configuration is not watched any more: {error}");
                    return;
                }
                thread::sleep(SETTLED);
            }
        })?;
        Ok(())
    }

    /// Reads the files again and logs what is new. Returns whether other settings are in use now.
    fn tell(&mut self) -> bool {
        match self.reread() {
            Reread::Same => false,
            Reread::Broken(problem) => {
                tracing::warn!("{problem}: the configuration in use stays");
                false
            }
            Reread::Changed { changes, warnings } => {
                for line in &changes.live {
                    tracing::info!("configuration changed: {line}");
                }
                for line in &changes.needs_restart {
                    tracing::warn!("configuration changed: {line}: takes effect at the next start");
                }
                for line in warnings {
                    tracing::warn!("{line}");
                }
                if changes == Changes::default() {
                    tracing::info!("the configuration can be read again; nothing in it is different");
                }
                !changes.live.is_empty()
            }
        }
    }
}
