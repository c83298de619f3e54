//! What an image is, before it is written.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use jiff::Timestamp;

use crate::error::Error;
use crate::name::Name;
use crate::path::ImagePath;
use crate::tree::Tree;

/// How programs of an image are started, and what is said of it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Config {
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// The arguments that follow if nobody gives others.
    pub cmd: Vec<String>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// What is said of the image, by keys as `org.opencontainers.image.title`.
    pub labels: BTreeMap<String, String>,
    /// The user, as a name or number, with a group after a colon if there is one. Root if it is not given.
    pub user: Option<String>,
    /// The folder in which programs start. The root if it is not given.
    pub working_dir: Option<ImagePath>,
}

/// The processor that an image is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Architecture {
    /// x86-64.
    Amd64,
    /// aarch64.
    Arm64,
}

impl Architecture {
    /// The processor that this program was built for.
    pub const HERE: Self = if cfg!(target_arch = "aarch64") {
        Self::Arm64
    } else {
        Self::Amd64
    };

    /// Its name in images.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }
}

impl FromStr for Architecture {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "amd64" => Ok(Self::Amd64),
            "arm64" => Ok(Self::Arm64),
            _ => Err(Error::Architecture(name.to_owned())),
        }
    }
}

/// The time that an image gives itself and all its files, in whole seconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Created(Timestamp);

impl Created {
    /// Seconds since 1970, as in `SOURCE_DATE_EPOCH`.
    pub fn from_seconds(seconds: i64) -> Result<Self, Error> {
        match Timestamp::from_second(seconds) {
            Ok(time) if seconds >= 0 => Ok(Self(time)),
            _ => Err(Error::Created(seconds)),
        }
    }

    /// Seconds since 1970.
    pub fn seconds(self) -> u64 {
        self.0.as_second().unsigned_abs()
    }

    /// As in labels: `2026-11-29T19:04:00Z`.
    pub fn text(self) -> String {
        self.0.to_string()
    }
}

/// How the files of an image are stored.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Compression {
    /// As small as gzip can.
    #[default]
    Gzip,
    /// Not at all. It is quick, for images that stay on this machine.
    Off,
}

/// An image for one processor.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Image {
    pub(crate) tree: Tree,
    pub(crate) config: Config,
    pub(crate) architecture: Architecture,
    pub(crate) created: Created,
    pub(crate) compression: Compression,
}

impl Image {
    /// Puts files and configuration together.
    pub const fn new(tree: Tree, config: Config, architecture: Architecture, created: Created) -> Self {
        Self {
            tree,
            config,
            architecture,
            created,
            compression: Compression::Gzip,
        }
    }

    /// The same image, stored in this way.
    #[must_use]
    pub fn compressed(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }
}

/// The images of one name, each for another processor.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Named {
    pub(crate) name: Name,
    pub(crate) images: Vec<Image>,
}

impl Named {
    /// Gives images a name, for example `registry.k8s.io/pause:3.10`.
    pub fn new(name: &str, images: Vec<Image>) -> Result<Self, Error> {
        let name = Name::parse(name)?;
        if images.is_empty() {
            return Err(Error::NoPlatform(name.to_string()));
        }
        let mut seen = BTreeSet::new();
        match images
            .iter()
            .map(|image| image.architecture.name())
            .find(|platform| !seen.insert(*platform))
        {
            Some(platform) => Err(Error::TwiceNamed {
                name: name.to_string(),
                what: platform.to_owned(),
            }),
            None => Ok(Self { name, images }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(architecture: Architecture) -> Image {
        let created = Created::from_seconds(0).unwrap();
        Image::new(Tree::default(), Config::default(), architecture, created)
    }

    #[test]
    fn a_name_has_an_image_for_each_processor_once() {
        let said = |images| Named::new("example.test/a:1", images).unwrap_err().to_string();
        assert_eq!(said(vec![]), "image example.test/a:1: no platform is given");
        let twice = vec![image(Architecture::Arm64), image(Architecture::Arm64)];
        assert_eq!(said(twice), "image example.test/a:1: arm64 is given twice");
        let error = "x86_64".parse::<Architecture>().unwrap_err().to_string();
        assert_eq!(error, "architecture \"x86_64\" is not known: use amd64 or arm64");
    }

    #[test]
    fn a_time_is_one_of_the_calendar() {
        assert_eq!(
            Created::from_seconds(1_700_000_000).unwrap().text(),
            "2023-11-14T22:13:20Z"
        );
        assert!(Created::from_seconds(-1).is_err());
        assert!(Created::from_seconds(i64::MAX).is_err());
    }
}
