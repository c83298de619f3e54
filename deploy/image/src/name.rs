//! Names of images.

use std::fmt;

use crate::error::Error;

/// The name by which a registry and containerd know an image: `host/name:tag`, with the host and the tag given. Both are
/// needed, because programs complete a short name in different ways.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Name(String);

impl Name {
    /// Reads a name, for example `registry.k8s.io/kube-proxy:v1.36.3`.
    pub fn parse(name: &str) -> Result<Self, Error> {
        let wrong = |reason| Error::Name {
            name: name.to_owned(),
            reason,
        };
        let (host, rest) = name
            .split_once('/')
            .ok_or(wrong("it has no host, as in example.com/name:tag"))?;
        if !(host.contains(['.', ':']) || host == "localhost") {
            return Err(wrong("its first part is no host: that has a dot or a port"));
        }
        let host_letter = |letter: char| letter.is_ascii_alphanumeric() || ".-:[]".contains(letter);
        if !host.chars().all(host_letter) {
            return Err(wrong("its host has a letter that no host has"));
        }
        let (path, tag) = rest
            .split_once(':')
            .ok_or(wrong("it has no tag, as in example.com/name:tag"))?;
        if !path.split('/').all(is_component) {
            return Err(wrong(
                "its name has small letters, digits, and single . _ - between them",
            ));
        }
        let tag_letter = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
        if tag.is_empty() || tag.len() > 128 || tag.starts_with(['.', '-']) || !tag.chars().all(tag_letter) {
            return Err(wrong(
                "its tag has 1 to 128 letters, digits and . _ -, and begins with none of . and -",
            ));
        }
        Ok(Self(name.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether it can be one part of a repository's name.
fn is_component(part: &str) -> bool {
    let edge = |letter: Option<char>| letter.is_some_and(|letter| letter.is_ascii_alphanumeric());
    let known = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "._-".contains(letter);
    edge(part.chars().next()) && edge(part.chars().next_back()) && part.chars().all(known) && !part.contains("..")
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_host_and_tag() {
        for right in [
            "registry.k8s.io/kube-proxy:v1.36.3",
            "localhost/tandem:0.1.0",
            "127.0.0.1:5000/a/b_c/d-e:x",
            "[::1]:5000/tandem:latest",
        ] {
            assert_eq!(Name::parse(right).unwrap().as_str(), right);
        }
        for (wrong, reason) in [
            ("", "no host"),
            ("tandem:1", "no host"),
            ("library/tandem:1", "first part is no host"),
            ("example.com/tandem", "no tag"),
            ("example.com/tandem:", "its tag"),
            ("example.com/tandem:.x", "its tag"),
            ("example.com/Tandem:1", "small letters"),
            ("example.com/a//b:1", "small letters"),
            ("example.com/-a:1", "small letters"),
            ("example.com/a b:1", "small letters"),
            ("exa mple.com/a:1", "no host has"),
            ("example.com/a@sha256:0", "small letters"),
        ] {
            let error = Name::parse(wrong).unwrap_err().to_string();
            assert!(error.contains(reason), "{wrong}: {error}");
        }
    }
}
