//! Paths inside an image.

use std::fmt;

use crate::error::Error;

/// The absolute path of one place in an image, below its root. No part of it is empty, `.` or `..`.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ImagePath(Vec<String>);

impl ImagePath {
    /// Reads a path, for example `/usr/local/bin/tandem`.
    pub fn parse(path: &str) -> Result<Self, Error> {
        let wrong = |reason| Error::Path {
            path: path.to_owned(),
            reason,
        };
        let below = path.strip_prefix('/').ok_or(wrong("it does not begin with /"))?;
        if below.is_empty() {
            return Err(wrong("the root itself is no entry"));
        }
        if below.contains('\0') {
            return Err(wrong("it has a zero byte"));
        }
        let parts: Vec<String> = below.split('/').map(str::to_owned).collect();
        match parts.iter().find(|part| matches!(part.as_str(), "" | "." | "..")) {
            Some(part) if part.is_empty() => Err(wrong("it has an empty part")),
            Some(_) => Err(wrong("it has a part . or ..")),
            None => Ok(Self(parts)),
        }
    }

    /// The folder that it lies in, if that is not the root.
    pub fn parent(&self) -> Option<Self> {
        let (_, above) = self.0.split_last()?;
        (!above.is_empty()).then(|| Self(above.to_vec()))
    }

    /// The folders that it lies in, the highest first.
    pub fn parents(&self) -> impl Iterator<Item = Self> + '_ {
        (1..self.0.len()).map(|length| Self(self.0[..length].to_vec()))
    }

    /// The name in a tar file, which is relative to the root.
    pub fn in_tar(&self) -> String {
        self.0.join("/")
    }
}

impl fmt::Display for ImagePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "/{}", self.0.join("/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_absolute_and_names_one_place() {
        for wrong in [
            "", "/", "bin/sh", "./bin", "/a//b", "/a/", "/a/../b", "/./a", "/..", "/a\0b",
        ] {
            let error = ImagePath::parse(wrong).unwrap_err().to_string();
            assert!(error.starts_with(&format!("path {wrong:?} in the image: ")), "{error}");
        }
        let path = ImagePath::parse("/usr/local/bin/..tandem").unwrap();
        assert_eq!(path.to_string(), "/usr/local/bin/..tandem");
        assert_eq!(path.in_tar(), "usr/local/bin/..tandem");
        let parents: Vec<String> = path.parents().map(|path| path.to_string()).collect();
        assert_eq!(parents, ["/usr", "/usr/local", "/usr/local/bin"]);
    }

    #[test]
    fn a_folder_comes_before_what_lies_in_it_and_nothing_comes_between() {
        let mut paths = ["/a/b", "/a.b", "/a", "/a-b", "/a/b/c"].map(|path| ImagePath::parse(path).unwrap());
        paths.sort();
        assert_eq!(
            paths.map(|path| path.to_string()),
            ["/a", "/a/b", "/a/b/c", "/a-b", "/a.b"]
        );
    }
}
