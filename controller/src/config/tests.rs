//! Configurations as people write them, and the settings that come from them.

mod bad;
mod fields;
mod kubeadm;
mod live;
mod sources;

use std::path::{Path, PathBuf};

use super::*;

const HEAD: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
const TANDEM_HEAD: &str = "apiVersion: tandem.config/v1alpha1\nkind: TandemConfiguration\n";

/// A folder for configuration files, gone when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tandem-config-{}-{count}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self) -> PathBuf {
        self.0.join("config.conf")
    }

    fn write(&self, text: &str) {
        std::fs::write(self.path(), text).unwrap();
    }

    fn write_tandem(&self, text: &str) {
        std::fs::write(self.0.join("tandem.conf"), format!("{TANDEM_HEAD}{text}")).unwrap();
    }

    fn sources(&self, flags: &[(&str, &str)]) -> Result<Sources, String> {
        let flags = flags.iter().map(|(name, value)| (*name, vec![(*value).to_owned()]));
        let mut sources = Sources::new(Flags::new(flags).map_err(|error| error.to_string())?);
        sources.config = Some(self.path());
        Ok(sources)
    }

    /// Loads with these flags. In the result, the file is called FILE and the folder FOLDER.
    fn load(&self, flags: &[(&str, &str)]) -> Result<Loaded, String> {
        let plain = |text: &str| {
            let text = text.replace(&self.path().display().to_string(), "FILE");
            text.replace(&self.0.display().to_string(), "FOLDER")
        };
        let mut loaded = self.sources(flags)?.load().map_err(|error| plain(&error.to_string()))?;
        for warning in &mut loaded.warnings {
            *warning = plain(warning);
        }
        Ok(loaded)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The result for a file with these fields.
fn load(text: &str) -> Result<Loaded, String> {
    let scratch = Scratch::new();
    scratch.write(&format!("{HEAD}{text}"));
    scratch.load(&[])
}

fn settings(text: &str) -> (Settings, Vec<String>) {
    let loaded = load(text).unwrap();
    (loaded.settings, loaded.warnings)
}

/// The result for flags without a file.
fn by_flags(flags: &[(&str, &str)]) -> Result<Loaded, String> {
    let flags = flags.iter().map(|(name, value)| (*name, vec![(*value).to_owned()]));
    let flags = Flags::new(flags).map_err(|error| error.to_string())?;
    Sources::new(flags).load().map_err(|error| error.to_string())
}
